%% Several hosts: network namespaces joined by a cable that can be pulled. Needs root; skipped otherwise.
-module(hosts_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [cut_off_and_back].

init_per_suite(Config) ->
    case can_make_namespaces() of
        true -> Config;
        {false, Why} -> {skip, Why}
    end.

end_per_suite(_Config) ->
    pyn_ct:stop_all().

cut_off_and_back(Config) ->
    {A, B} = make_hosts(),
    try
        cut_off_and_back(Config, A, B)
    after
        remove_hosts(A, B)
    end.

cut_off_and_back(Config, {HostA, AddressA, _}, {_, AddressB, _} = B) ->
    NodeB = list_to_atom("far@" ++ AddressB),
    P = pyn_ct:start(#{program => program_on(Config, B), naming => ["--name", atom_to_list(NodeB)],
                       args => ["--tick", "4", "--log-level", "info", "--coordinator", "near@" ++ AddressA]}),
    Erl = os:find_executable("erl"),
    {ok, Peer, _} =
        peer:start_link(#{name => near, host => AddressA, longnames => true, connection => standard_io, wait_boot => 60000,
                          exec => {ip(), ["netns", "exec", HostA, Erl]},
                          args => ["-setcookie", atom_to_list(erlang:get_cookie()), "-kernel", "net_ticktime", "4",
                                   "-pa", filename:dirname(code:which(py)), filename:dirname(code:which(?MODULE))]}),
    On = fun(Fun) -> peer:call(Peer, erlang, apply, [Fun, []], 60000) end,
    {ok, _} = On(fun() ->
        ok = application:load(erlang_python),
        ok = application:set_env(erlang_python, nodes, [NodeB]),
        logger:set_primary_config(level, none),
        application:ensure_all_started(erlang_python)
    end),
    {ok, 4.0} = On(fun() -> wait_for({ok, 4.0}, fun() -> py:call(math, sqrt, [16]) end) end),
    _ = pyn_ct:wait_log(P, "connected to coordinator"),
    [begin
         %% A caller waits in a call, and its process on the other side waits, too.
         Waiting = On(fun() -> spawn_caller(time, sleep, [25]) end),
         true = On(fun() -> wait_for(1, fun() -> busy(NodeB) end) =:= 1 end),
         cable(B, "down"),
         %% It is answered when the node notices, by ticks; and so is whoever calls after it.
         {error, {nodedown, NodeB}} = On(fun() -> result_of(Waiting) end),
         {error, {nodedown, NodeB}} = On(fun() -> py:call(math, sqrt, [16], #{}, 1000) end),
         %% The other side notices, too.
         _ = pyn_ct:wait_log(P, "peer=near@" ++ AddressA ++ " link is down: "),
         cable(B, "up"),
         {ok, 4.0} = On(fun() -> wait_for({ok, 4.0}, fun() -> py:call(math, sqrt, [16]) end) end)
     end || _ <- [1, 2]],
    %% One link each, and a coordinator that is known again.
    true = On(fun() -> wait_for(1, fun() ->
        {ok, #{links := Links}} = gen_server:call({py, NodeB}, info),
        Links
    end) =:= 1 end),
    _ = On(fun() -> application:stop(erlang_python) end),
    peer:stop(Peer),
    %% The sleeping calls of the cut connections are stuck in C code until they end: the exit code may say so.
    Status = pyn_ct:stop(P),
    ?assert(lists:member(Status, [0, 7]), Status).

spawn_caller(M, F, A) ->
    spawn(fun() ->
        Result = py:call(M, F, A),
        receive {give, From} -> From ! {self(), Result} end
    end).

result_of(Pid) ->
    Pid ! {give, self()},
    receive {Pid, Result} -> Result after 50000 -> no_answer end.

busy(Node) ->
    try gen_server:call({py, Node}, info) of
        {ok, #{busy := Busy, stuck := Stuck}} -> Busy - Stuck
    catch
        exit:_ -> unknown
    end.

wait_for(Wanted, Fun) ->
    pyn_ct:wait_until(fun() -> Fun() =:= Wanted end, 50000),
    Wanted.

%% A script, since a program to start has no arguments in front of pynode's own.
program_on(Config, {Host, _, _}) ->
    File = filename:join(?config(priv_dir, Config), "pynode_on_" ++ Host),
    ok = file:write_file(File, ["#!/bin/sh\nexec ", ip(), " netns exec ", Host, " ", pyn_ct:program(), " \"$@\"\n"]),
    ok = file:change_mode(File, 8#755),
    File.

can_make_namespaces() ->
    case {ip(), string:trim(os:cmd("id -u"))} of
        {false, _} ->
            {false, "there is no `ip` to make network namespaces with"};
        {_, "0"} ->
            Name = unique_short("pynt"),
            case sh([ip(), " netns add ", Name]) of
                0 -> _ = sh([ip(), " netns del ", Name]), true;
                _ -> {false, "network namespaces cannot be made here"}
            end;
        _ ->
            {false, "only root may make network namespaces"}
    end.

%% Two of {Namespace, Address, Interface}.
make_hosts() ->
    A = {unique_short("pyna"), "10.213.77.1", unique_short("pyva")},
    B = {unique_short("pynb"), "10.213.77.2", unique_short("pyvb")},
    {HostA, _, CableA} = A,
    {HostB, _, CableB} = B,
    [0 = sh([ip(), " netns add ", Host]) || Host <- [HostA, HostB]],
    0 = sh([ip(), " link add ", CableA, " netns ", HostA, " type veth peer name ", CableB, " netns ", HostB]),
    [begin
         0 = sh([ip(), " -n ", Host, " link set lo up"]),
         0 = sh([ip(), " -n ", Host, " addr add ", Address, "/24 dev ", Cable]),
         0 = sh([ip(), " -n ", Host, " link set ", Cable, " up"])
     end || {Host, Address, Cable} <- [A, B]],
    {A, B}.

%% Their epmds are in them, known by that.
remove_hosts({HostA, _, _}, {HostB, _, _}) ->
    [begin
         _ = sh([ip(), " netns pids ", Host, " | xargs -r kill -KILL"]),
         _ = sh([ip(), " netns del ", Host])
     end || Host <- [HostA, HostB]],
    ok.

cable({Host, _, Cable}, State) ->
    0 = sh([ip(), " -n ", Host, " link set ", Cable, " ", State]).

ip() ->
    case os:find_executable("ip") of
        false -> os:find_executable("ip", "/sbin:/usr/sbin");
        Path -> Path
    end.

%% Names of interfaces have 15 characters at most.
unique_short(Prefix) ->
    Prefix ++ integer_to_list(erlang:unique_integer([positive]) rem 1000) ++ "p" ++ os:getpid().

%% The exit code.
sh(Command) ->
    Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", lists:flatten(Command)]}, exit_status, stderr_to_stdout]),
    sh_status(Port).

sh_status(Port) ->
    receive
        {Port, {exit_status, Status}} -> Status;
        {Port, {data, Data}} -> ct:log("~ts", [Data]), sh_status(Port)
    end.
