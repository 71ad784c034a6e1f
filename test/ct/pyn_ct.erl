%% pynode processes for the suites, and what goes with them: other Erlang nodes, logs, conditions to wait for.
%%
%%     P = pyn_ct:start(["--workers", "2"]),
%%     {ok, 4.0} = pyn_ct:call(P, {call, math, sqrt, [16]}),
%%     Line = pyn_ct:wait_log(P, "worker=[0-9]+ is stuck"),
%%     0 = pyn_ct:stop(P).
%%
%% Each pynode belongs to a process of its own, which keeps the port and the log, so that it may be started in
%% init_per_suite. Nothing is left behind: a pynode ends when its standard input does (--parent-pipe), and with it when
%% this node ends; stop_all/0, for end_per_suite and end_per_testcase, kills those that are left.
%%
%% PYNODE names the program; names of nodes are never used twice; the cookie is this node's.
-module(pyn_ct).
-export([start/0, start/1, try_start/1, stop/1, end_clean/1, signal/2, freeze/1, thaw/1, wait_exit/1, wait_exit/2, stop_all/0]).
-export([node_of/1, os_pid/1, port/1]).
-export([log/1, wait_log/2, wait_log/3]).
-export([call/2, call/3, cast/2, info/1, info/2, mode/1, executors/1]).
-export([wait_until/1, wait_until/2, gate/1, open_gate/1, unique/1, host/0, root/0, program/0]).
-export([start_peer/0, start_peer/1, stop_peer/1, on/2]).
-export_type([pynode/0]).

-define(PATIENCE, 30000).
-define(LINES_MAX, 200000).

-type pynode() :: #{node := node(), keeper := pid(), os_pid := integer()}.

%%% Starting and stopping

%% A pynode that is ready.
-spec start() -> pynode().
start() ->
    start([]).

%% Options: a list of command line options, or a map of
%%   args    more command line options ([])
%%   name    the part of its node name before the @ (a unique one)
%%   naming  the options that name it, instead of --sname with that name
%%   env     [{Name, Value | false}] besides PYNODE_COOKIE
%%   cookie  (this node's) | none
%%   parent_pipe  whether it ends when this node does (true)
%%   path    whether test/py is in sys.path (true)
%%   program (PYNODE's)
-spec start([string()] | map()) -> pynode().
start(Options) ->
    case try_start(Options) of
        {ok, P} -> P;
        {exited, Status, Log} -> error({pynode_did_not_start, Status, Log})
    end.

-spec try_start([string()] | map()) -> {ok, pynode()} | {exited, integer(), [binary()]}.
try_start(Args) when is_list(Args) ->
    try_start(#{args => Args});
try_start(Options) ->
    Caller = self(),
    Name = maps:get(name, Options, unique("pyn")),
    {Keeper, Monitor} = spawn_monitor(fun() -> keeper(Caller, Name, Options) end),
    receive
        {Keeper, OsPid} ->
            erlang:demonitor(Monitor, [flush]),
            remember(Keeper, OsPid),
            P = #{node => list_to_atom(Name ++ "@" ++ host()), keeper => Keeper, os_pid => OsPid},
            wait_ready(P);
        {'DOWN', Monitor, process, Keeper, Reason} ->
            error({pynode_did_not_start, Reason})
    end.

wait_ready(P) ->
    case ask(P, {wait_log, "node ready name=", ?PATIENCE * 2}) of
        {ok, _} ->
            {ok, P};
        {exited, Status} ->
            Log = log(P),
            forget(P),
            {exited, Status, Log};
        timeout ->
            Log = log(P),
            kill_now(P),
            error({pynode_not_ready, Log})
    end.

%% Asks it to stop, and gives its exit code ({signal, N} when it was killed).
-spec stop(pynode()) -> integer() | {signal, integer()}.
stop(P) ->
    signal(P, "TERM"),
    Status = wait_exit(P),
    forget(P),
    Status.

%% Stops it, and fails, with the end of its log, unless its exit code is 0.
-spec end_clean(pynode()) -> ok.
end_clean(P) ->
    case stop(P) of
        0 -> ok;
        Status -> error({exit_code, Status, last_lines(P, 30)})
    end.

-spec signal(pynode(), string()) -> ok.
signal(#{os_pid := OsPid}, Signal) ->
    _ = os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(OsPid) ++ " 2>&1"),
    ok.

%% The process of the operating system stands still, all of its threads, when this returns: `kill` comes back before.
-spec freeze(integer()) -> ok.
freeze(OsPid) ->
    "" = os:cmd("kill -STOP " ++ integer_to_list(OsPid)),
    wait_until(fun() -> stands_still(lists:concat(["/proc/", OsPid, "/task"])) andalso ok end).

stands_still(Tasks) ->
    {ok, Threads} = file:list_dir(Tasks),
    lists:all(fun(Thread) -> is_stopped(file:read_file(filename:join([Tasks, Thread, "stat"]))) end, Threads).

%% One that has just ended is none.
is_stopped({ok, Stat}) -> binary:first(lists:last(binary:split(Stat, <<") ">>, [global]))) =:= $T;
is_stopped({error, _}) -> true.

-spec thaw(integer()) -> ok.
thaw(OsPid) ->
    "" = os:cmd("kill -CONT " ++ integer_to_list(OsPid)),
    ok.

-spec wait_exit(pynode()) -> integer() | {signal, integer()}.
wait_exit(P) ->
    wait_exit(P, ?PATIENCE).

-spec wait_exit(pynode(), timeout()) -> integer() | {signal, integer()}.
wait_exit(P, Timeout) ->
    case ask(P, {wait_exit, Timeout}) of
        {exited, Status} when Status > 128 -> {signal, Status - 128};
        {exited, Status} -> Status;
        timeout -> error({still_running, P, last_lines(P, 20)})
    end.

%% Kills every pynode that this node started and that is still there.
-spec stop_all() -> ok.
stop_all() ->
    lists:foreach(fun kill_now/1, remembered()).

kill_now(P) ->
    signal(P, "KILL"),
    _ = (catch wait_exit(P)),
    forget(P).

-spec node_of(pynode()) -> node().
node_of(#{node := Node}) -> Node.

-spec os_pid(pynode()) -> integer().
os_pid(#{os_pid := OsPid}) -> OsPid.

%% Where it listens.
-spec port(pynode()) -> inet:port_number().
port(P) ->
    {match, [Port]} = re:run(wait_log(P, "node ready name="), "port=([0-9]+)", [{capture, all_but_first, list}]),
    list_to_integer(Port).

%%% What is left to be killed: in this node, whichever process started it

remember(Keeper, OsPid) ->
    persistent_term:put({?MODULE, Keeper}, OsPid).

remembered() ->
    [#{node => node(), keeper => Keeper, os_pid => OsPid} || {{?MODULE, Keeper}, OsPid} <- persistent_term:get()].

forget(#{keeper := Keeper}) ->
    Keeper ! forget,
    _ = persistent_term:erase({?MODULE, Keeper}),
    ok.

%%% The keeper of a pynode: owns the port, collects the log

keeper(Caller, Name, Options) ->
    Port = open_port({spawn_executable, maps:get(program, Options, program())},
                     [{args, arguments(Name, Options)}, {env, environment(Options)}, {line, 65536}, binary,
                      exit_status, stderr_to_stdout, use_stdio]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    Caller ! {self(), OsPid},
    keep(#{port => Port, lines => [], count => 0, half => [], status => running, waiting => []}).

arguments(Name, Options) ->
    maps:get(naming, Options, ["--sname", Name ++ "@" ++ host()])
        ++ ["--parent-pipe" || maps:get(parent_pipe, Options, true)]
        ++ lists:append([["--path", filename:join([root(), "test", "py"])] || maps:get(path, Options, true)])
        ++ maps:get(args, Options, []).

environment(Options) ->
    Cookie = case maps:get(cookie, Options, erlang:get_cookie()) of
                 none -> [{"PYNODE_COOKIE", false}];
                 Word -> [{"PYNODE_COOKIE", lists:flatten(io_lib:format("~s", [Word]))}]
             end,
    Cookie ++ maps:get(env, Options, []).

keep(S = #{port := Port}) ->
    receive
        {Port, {data, {noeol, Part}}} ->
            keep(S#{half := [maps:get(half, S), Part]});
        {Port, {data, {eol, Part}}} ->
            keep(add_line(iolist_to_binary([maps:get(half, S), Part]), S#{half := []}));
        {Port, {exit_status, Status}} ->
            keep(answer_waiting(S#{status := Status}));
        {From, Ref, log} ->
            From ! {Ref, lists:reverse(maps:get(lines, S))},
            keep(S);
        {From, Ref, Wait} ->
            keep(wait(From, Ref, Wait, S));
        {late, Ref} ->
            keep(too_late(Ref, S));
        forget ->
            forgotten(S)
    end.

%% Its log may still be asked for, but not for ever.
forgotten(S) ->
    receive
        {From, Ref, log} ->
            From ! {Ref, lists:reverse(maps:get(lines, S))},
            forgotten(S)
    after 60000 -> ok
    end.

add_line(Line, S = #{count := Count}) when Count >= ?LINES_MAX ->
    answer_line(Line, S);
add_line(Line, S = #{lines := Lines, count := Count}) ->
    answer_line(Line, S#{lines := [Line | Lines], count := Count + 1}).

answer_line(Line, S = #{waiting := Waiting}) ->
    S#{waiting := [W || W <- Waiting, not answer_by_line(Line, W)]}.

answer_by_line(Line, {From, Ref, {line, Pattern}}) ->
    case matches(Line, Pattern) of
        true -> From ! {Ref, {ok, Line}}, true;
        false -> false
    end;
answer_by_line(_Line, _Waiter) ->
    false.

matches(Line, Pattern) ->
    re:run(Line, Pattern, [{capture, none}]) =:= match.

%% It has ended: whoever waits for that, or for a line that will not come any more, is told.
answer_waiting(S = #{waiting := Waiting, status := Status}) ->
    lists:foreach(fun({From, Ref, _}) -> From ! {Ref, {exited, Status}} end, Waiting),
    S#{waiting := []}.

wait(From, Ref, {wait_log, Pattern, Timeout}, S) ->
    case [Line || Line <- lists:reverse(maps:get(lines, S)), matches(Line, Pattern)] of
        [Line | _] -> From ! {Ref, {ok, Line}}, S;
        [] -> wait_on(From, Ref, {line, Pattern}, Timeout, S)
    end;
wait(From, Ref, {wait_exit, Timeout}, S) ->
    wait_on(From, Ref, exit, Timeout, S).

wait_on(From, Ref, What, Timeout, S = #{status := running, waiting := Waiting}) ->
    erlang:send_after(Timeout, self(), {late, Ref}),
    S#{waiting := [{From, Ref, What} | Waiting]};
wait_on(From, Ref, _What, _Timeout, S = #{status := Status}) ->
    From ! {Ref, {exited, Status}},
    S.

too_late(Ref, S = #{waiting := Waiting}) ->
    {Late, Rest} = lists:partition(fun({_, R, _}) -> R =:= Ref end, Waiting),
    lists:foreach(fun({From, _, _}) -> From ! {Ref, timeout} end, Late),
    S#{waiting := Rest}.

ask(#{keeper := Keeper}, Question) ->
    Ref = erlang:monitor(process, Keeper),
    Keeper ! {self(), Ref, Question},
    receive
        {Ref, Answer} -> erlang:demonitor(Ref, [flush]), Answer;
        {'DOWN', Ref, process, Keeper, Reason} -> error({no_keeper, Reason})
    end.

%%% Its log

-spec log(pynode()) -> [binary()].
log(P) ->
    ask(P, log).

last_lines(P, N) ->
    Lines = log(P),
    lists:nthtail(max(0, length(Lines) - N), Lines).

%% The first line that matches the regular expression, of those that came and those that come.
-spec wait_log(pynode(), iodata()) -> binary().
wait_log(P, Pattern) ->
    wait_log(P, Pattern, ?PATIENCE).

-spec wait_log(pynode(), iodata(), timeout()) -> binary().
wait_log(P, Pattern, Timeout) ->
    case ask(P, {wait_log, Pattern, Timeout}) of
        {ok, Line} -> Line;
        Other -> error({no_such_line, Pattern, Other, last_lines(P, 50)})
    end.

%%% Calls, as from a node that has none of our code

-spec call(pynode(), term()) -> term().
call(P, Request) ->
    call(P, Request, ?PATIENCE * 2).

-spec call(pynode(), term(), timeout()) -> term().
call(#{node := Node}, Request, Timeout) ->
    gen_server:call({py, Node}, Request, Timeout).

-spec cast(pynode(), term()) -> ok.
cast(#{node := Node}, Request) ->
    gen_server:cast({py, Node}, Request).

-spec info(pynode()) -> map().
info(P) ->
    {ok, Info} = call(P, info),
    Info.

-spec info(pynode(), atom()) -> term().
info(P, Key) ->
    maps:get(Key, info(P)).

-spec mode(pynode()) -> free_threaded | subinterp | multi_executor.
mode(P) ->
    info(P, mode).

-spec executors(pynode()) -> pos_integer().
executors(P) ->
    info(P, executors).

%%% Conditions

%% Looks again and again until the fun gives something else than false.
-spec wait_until(fun(() -> false | Value)) -> Value.
wait_until(Condition) ->
    wait_until(Condition, ?PATIENCE).

-spec wait_until(fun(() -> false | Value), timeout()) -> Value.
wait_until(Condition, Timeout) ->
    look(Condition, erlang:monotonic_time(millisecond) + Timeout).

look(Condition, Deadline) ->
    case Condition() of
        false ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({condition_not_met, Condition}),
            receive after 5 -> look(Condition, Deadline) end;
        Value ->
            Value
    end.

%% A file that keeps who opens it, in C code that no interrupt ends, until the gate is opened.
-spec gate([{atom(), term()}]) -> binary().
gate(Config) ->
    Gate = filename:join(proplists:get_value(priv_dir, Config), unique("gate")),
    "" = os:cmd("mkfifo '" ++ Gate ++ "'"),
    unicode:characters_to_binary(Gate).

%% Lets those go who are there, if any, and keeps nobody who comes later.
-spec open_gate(binary()) -> ok.
open_gate(Gate) ->
    "" = os:cmd(unicode:characters_to_list(["exec 3<>'", Gate, "' && : >'", Gate, ".open' && mv '", Gate, ".open' '", Gate, "'"])),
    ok.

%%% Names

-spec unique(string()) -> string().
unique(Prefix) ->
    lists:concat([Prefix, "_", os:getpid(), "_", erlang:unique_integer([positive])]).

%% The part behind the @ of the names of the nodes here.
-spec host() -> string().
host() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Host.

-spec root() -> file:filename().
root() ->
    case os:getenv("PYN_ROOT") of
        false -> error("PYN_ROOT is not set: start the suites by scripts/run-ct");
        Root -> Root
    end.

-spec program() -> file:filename().
program() ->
    case os:getenv("PYNODE") of
        false -> filename:join([root(), "build", "pynode"]);
        Program -> Program
    end.

%%% Other Erlang nodes

%% A stock node that has this node's cookie and knows the test modules. Ends with stop_peer or with this process.
-spec start_peer() -> {pid(), node()}.
start_peer() ->
    start_peer([]).

-spec start_peer([string()]) -> {pid(), node()}.
start_peer(Args) ->
    {ok, Peer, Node} =
        peer:start_link(#{name => unique("peer"), connection => standard_io, wait_boot => 60000,
                          args => ["-setcookie", atom_to_list(erlang:get_cookie()),
                                   "-pa", filename:dirname(code:which(?MODULE)) | Args]}),
    {Peer, Node}.

-spec stop_peer({pid(), node()}) -> ok.
stop_peer({Peer, _Node}) ->
    _ = (catch peer:stop(Peer)),
    ok.

%% Runs the fun there.
-spec on({pid(), node()}, fun(() -> Value)) -> Value.
on({Peer, _Node}, Fun) ->
    peer:call(Peer, erlang, apply, [Fun, []], ?PATIENCE * 2).
