%% Ends of a pynode, orderly and not, seen by those who call it: every call is answered, by its result or by a reason that
%% says that the node is gone, and calls work again as soon as it is back. And hosts that lose each other.
-module(kill_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-define(CALLERS, 24).
%% From the signal to the last answer of those who were waiting. The promise is 100 ms from the loss of the connection;
%% the test host is busy with the callers themselves, and a core dump may have to be written first.
-define(ANSWERED_MS, 2000).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [{group, killed}, {group, stopped}, {group, hosts}].

groups() ->
    [{killed, [], [killed_under_load, elsewhere_killed_under_load, nodedown_is_prompt]},
     {stopped, [], [drains, refuses_while_draining, drain_deadline, drain_deadline_in_c, second_signal, parent_pipe,
                    answers_go_out_before_the_end, slow_reader_gets_its_answer, reader_that_never_reads,
                    broken_pipe_of_a_peer, broken_log]},
     {hosts, [], [cut_off_and_back]}].

init_per_suite(Config) ->
    ok = logger:set_module_level([py_node, py_os], error),
    Config.

end_per_suite(_Config) ->
    pyn_ct:stop_all().

init_per_group(hosts, Config) ->
    case can_make_namespaces() of
        true -> Config;
        {false, Why} -> {skip, Why}
    end;
init_per_group(_, Config) ->
    Config.

end_per_group(_, _Config) ->
    ok.

end_per_testcase(_Case, _Config) ->
    _ = application:stop(erlang_python),
    [application:unset_env(erlang_python, Key) || {Key, _} <- application:get_all_env(erlang_python)],
    pyn_ct:stop_all().

%% --- Killed under load ---

%% Our own pynode, which its supervisor starts again.
killed_under_load(_Config) ->
    start_application([{nodes, [local]}]),
    Node = one_node(),
    Allowed = fun({error, {nodedown, N}}) -> N =:= Node;
                 ({error, {node_exited, N, {signal, S}}}) -> N =:= Node andalso lists:member(S, [9, 11]);
                 (_) -> false
              end,
    Kill = fun(Signal) ->
        {ok, #{os_pid := OsPid}} = gen_server:call({py, Node}, info),
        kill(Signal, OsPid),
        OsPid
    end,
    Back = fun() -> ok end,
    under_load(Allowed, Kill, Back).

%% One that runs elsewhere: only the connection tells, and somebody else starts it again.
elsewhere_killed_under_load(_Config) ->
    Name = pyn_ct:unique("far"),
    P0 = pyn_ct:start(#{name => Name}),
    Node = pyn_ct:node_of(P0),
    start_application([{nodes, [Node]}]),
    Self = self(),
    put(pynode, P0),
    Allowed = fun(Error) -> Error =:= {error, {nodedown, Node}} end,
    Kill = fun(Signal) ->
        pyn_ct:signal(get(pynode), Signal),
        {signal, _} = pyn_ct:wait_exit(get(pynode)),
        pyn_ct:os_pid(get(pynode))
    end,
    Back = fun() -> ?assertEqual(Self, self()), put(pynode, pyn_ct:start(#{name => Name})) end,
    under_load(Allowed, Kill, Back),
    ok = application:stop(erlang_python),
    ?assertEqual(0, pyn_ct:stop(get(pynode))).

%% Twenty times: callers call, it is killed in the middle of that, every caller is answered in time, and all of them get
%% results again.
under_load(Allowed, Kill, Back) ->
    Table = ets:new(load, [public, {write_concurrency, true}]),
    Callers = [spawn_link(fun() -> caller(Table, Id, Allowed) end) || Id <- lists:seq(1, ?CALLERS)],
    [begin
         all_succeed(Table, 5),
         T0 = erlang:monotonic_time(millisecond),
         _ = Kill(Signal),
         Back(),
         Took = all_answered(Table, T0),
         ct:log("round ~b, ~s: all were answered after ~b ms", [Round, Signal, Took])
     end || {Round, Signal} <- lists:enumerate(lists:append(lists:duplicate(10, ["KILL", "SEGV"])))],
    all_succeed(Table, 5),
    [begin
         Ref = erlang:monitor(process, Caller),
         Caller ! {stop, self()},
         receive {'DOWN', Ref, process, Caller, Reason} -> ?assertEqual(normal, Reason) end
     end || Caller <- Callers],
    Lost = lists:sum([N || {{lost, _}, N} <- ets:tab2list(Table)]),
    ct:log("~b calls were lost", [Lost]),
    ?assert(Lost > 0).

%% Each answer is the caller's own or an allowed error. A refused call (the node is not back yet) tries again.
caller(Table, Id, Allowed) ->
    ets:insert(Table, [{{ok, Id}, 0}, {{lost, Id}, 0}, {{longest, Id}, 0}]),
    caller(Table, Id, Allowed, 1).

caller(Table, Id, Allowed, N) ->
    T0 = erlang:monotonic_time(millisecond),
    ets:insert(Table, {{since, Id}, T0}),
    Mine = {Id, N, <<"mine">>},
    Result = case N rem 3 of
                 0 -> py:eval(<<"(a, b, 'mine')">>, #{a => Id, b => N});
                 1 -> py:call(copy, copy, [Mine]);
                 2 -> case py:call(time, sleep, [0.01]) of {ok, none} -> {ok, Mine}; Other -> Other end
             end,
    ets:insert(Table, {{since, Id}, idle}),
    case Result of
        {ok, Mine} ->
            ets:update_counter(Table, {ok, Id}, 1);
        {error, {overloaded, _, _}} ->
            ok;
        Error ->
            Allowed(Error) orelse exit({not_allowed, Id, Error}),
            ets:update_counter(Table, {lost, Id}, 1),
            receive after 5 -> ok end
    end,
    receive {stop, _} -> ok after 0 -> caller(Table, Id, Allowed, N + 1) end.

%% Every caller gets so many results more.
all_succeed(Table, More) ->
    Goals = [{Id, count(Table, {ok, Id}) + More} || Id <- lists:seq(1, ?CALLERS)],
    pyn_ct:wait_until(fun() -> lists:all(fun({Id, Goal}) -> count(Table, {ok, Id}) >= Goal end, Goals) end, 60000).

count(Table, Key) ->
    case ets:lookup(Table, Key) of
        [{_, N}] -> N;
        [] -> 0
    end.

%% Nobody waits any more in a call that was begun before T0. Returns how long that took.
all_answered(Table, T0) ->
    pyn_ct:wait_until(fun() ->
        lists:all(fun(Id) ->
            [{_, Since}] = ets:lookup(Table, {since, Id}),
            Since =:= idle orelse Since > T0
        end, lists:seq(1, ?CALLERS))
    end, ?ANSWERED_MS),
    erlang:monotonic_time(millisecond) - T0.

%% One caller in a long call, a host that is not busy: 100 ms from the loss of the connection, which this node notices at once.
nodedown_is_prompt(_Config) ->
    start_application([{nodes, [local]}]),
    Node = one_node(),
    Worst = lists:max([begin
        {ok, #{os_pid := OsPid}} = pyn_ct:wait_until(fun() ->
            try gen_server:call({py, Node}, info) catch exit:_ -> false end
        end),
        pyn_ct:wait_until(fun() -> py:call(copy, copy, [1]) =:= {ok, 1} end),
        ok = net_kernel:monitor_nodes(true, [{node_type, hidden}]),
        Self = self(),
        Caller = spawn_link(fun() ->
            R = py:call(time, sleep, [30]),
            Self ! {self(), R, erlang:monotonic_time(millisecond)}
        end),
        pyn_ct:wait_until(fun() ->
            {ok, #{busy := Busy}} = gen_server:call({py, Node}, info),
            Busy =:= 1
        end),
        kill("KILL", OsPid),
        Lost = receive {nodedown, Node, _} -> erlang:monotonic_time(millisecond) end,
        ok = net_kernel:monitor_nodes(false, [{node_type, hidden}]),
        receive
            {Caller, Result, At} ->
                ?assert(lists:member(Result, [{error, {nodedown, Node}}, {error, {node_exited, Node, {signal, 9}}}]), Result),
                At - Lost
        end
    end || _ <- lists:seq(1, 5)]),
    ct:log("answered at most ~b ms after the loss of the connection", [Worst]),
    ?assert(Worst =< 100, Worst).

%% --- Stopped ---

%% What runs or waits ends as it would have; then it goes, with code 0.
drains(_Config) ->
    P = pyn_ct:start(["--workers", "2"]),
    Tags = [ask(P, {call, time, sleep, [0.4]}) || _ <- lists:seq(1, 6)],
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 6 end),
    pyn_ct:signal(P, "TERM"),
    [?assertEqual({ok, none}, answer(Tag)) || Tag <- Tags],
    ?assertEqual(0, pyn_ct:wait_exit(P)),
    _ = pyn_ct:wait_log(P, "stopped").

refuses_while_draining(_Config) ->
    P = pyn_ct:start(),
    Port = pyn_ct:port(P),
    Long = ask(P, {call, time, sleep, [1.5]}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, busy) =:= 1 end),
    pyn_ct:signal(P, "TERM"),
    _ = pyn_ct:wait_log(P, "stopping"),
    %% New work is refused, questions are answered, nobody else gets in.
    pyn_ct:wait_until(fun() -> pyn_ct:call(P, {call, copy, copy, [1]}) =:= {error, stopping} end),
    ?assertMatch({ok, #{in_flight := 1}}, pyn_ct:call(P, info)),
    pyn_ct:wait_until(fun() -> element(1, gen_tcp:connect({127, 0, 0, 1}, Port, [])) =:= error end),
    ?assertEqual({ok, none}, answer(Long)),
    ?assertEqual(0, pyn_ct:wait_exit(P)).

%% Python code that would run on is interrupted, its caller told, the exit code says so.
drain_deadline(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "200", "--workers", "2"]),
    Tags = [ask(P, {exec, <<"while True: pass">>, infinity}) || _ <- lists:seq(1, 4)],
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 4 end),
    pyn_ct:signal(P, "TERM"),
    [?assertEqual({error, stopping}, answer(Tag)) || Tag <- Tags],
    ?assertEqual(7, pyn_ct:wait_exit(P)),
    ?assertNot(lists:member(pyn_ct:node_of(P), nodes(hidden))).

%% What sits in C code cannot be; it goes all the same.
drain_deadline_in_c(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "100"]),
    Tag = ask(P, {call, time, sleep, [600], #{}, infinity}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, busy) =:= 1 end),
    T0 = erlang:monotonic_time(millisecond),
    pyn_ct:signal(P, "TERM"),
    ?assertEqual({error, stopping}, answer(Tag)),
    ?assertEqual(7, pyn_ct:wait_exit(P)),
    Took = erlang:monotonic_time(millisecond) - T0,
    ?assert(Took < 10000, Took),
    %% It took its name off epmd's list before.
    {ok, Names} = erl_epmd:names(),
    [Alive, _] = string:split(atom_to_list(pyn_ct:node_of(P)), "@"),
    ?assertNot(lists:keymember(Alive, 1, Names)).

second_signal(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "60000"]),
    Tag = ask(P, {call, time, sleep, [600], #{}, infinity}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, busy) =:= 1 end),
    pyn_ct:signal(P, "TERM"),
    _ = pyn_ct:wait_log(P, "stopping"),
    pyn_ct:signal(P, "INT"),
    ?assertEqual(7, pyn_ct:wait_exit(P)),
    ?assertEqual(gone, answer(Tag)).

%% When whoever started it is gone, standard input ends. It drains, as by a signal.
parent_pipe(Config) ->
    File = filename:join(?config(priv_dir, Config), "exit_code"),
    Name = pyn_ct:unique("orphan"),
    Node = list_to_atom(Name ++ "@" ++ host()),
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", "\"$0\" \"$@\" 2>/dev/null; echo $? >" ++ File, pyn_ct:program(),
                              "--sname", atom_to_list(Node), "--parent-pipe"]},
                      {env, [{"PYNODE_COOKIE", atom_to_list(erlang:get_cookie())}]}]),
    pyn_ct:wait_until(fun() -> net_adm:ping(Node) =:= pong end),
    Tag = ask(#{node => Node}, {call, time, sleep, [0.5]}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(#{node => Node}, busy) =:= 1 end),
    port_close(Port),
    ?assertEqual({ok, none}, answer(Tag)),
    ?assertEqual(<<"0\n">>, pyn_ct:wait_until(fun() ->
        case file:read_file(File) of
            {ok, <<_, _/binary>> = Text} -> Text;
            _ -> false
        end
    end)).

%% Large answers that the socket does not take at once are still sent.
answers_go_out_before_the_end(_Config) ->
    P = pyn_ct:start(),
    Tags = [ask(P, {eval, <<"b'\\xff' * (16 * 1024 * 1024)">>}) || _ <- lists:seq(1, 4)],
    Last = ask(P, {call, time, sleep, [0.2]}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) >= 1 end),
    pyn_ct:signal(P, "TERM"),
    [?assertMatch({ok, <<_:(16 * 1024 * 1024)/binary>>}, answer(Tag)) || Tag <- Tags],
    ?assertEqual({ok, none}, answer(Last)),
    ?assertEqual(0, pyn_ct:wait_exit(P)).

%% A peer that takes its time gets all of it; one that does not read at all holds the end up only so long.
slow_reader_gets_its_answer(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "20000"]),
    {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => 'slow@127.0.0.1', socket => [{recbuf, 65536}]}),
    Size = 32 * 1024 * 1024,
    _ = dist_client:request(C, {eval, <<"b'\xff' * (32 * 1024 * 1024)">>}),
    {ok, Head} = gen_tcp:recv(dist_client:socket(C), 100),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
    pyn_ct:signal(P, "TERM"),
    _ = pyn_ct:wait_log(P, "stopping"),
    ?assert(read_slowly(C, byte_size(Head)) > Size),
    ?assertEqual(0, pyn_ct:wait_exit(P)),
    dist_client:close(C).

%% To the end of the connection.
read_slowly(C, Got) ->
    case gen_tcp:recv(dist_client:socket(C), 0) of
        {ok, Bytes} ->
            Got rem 32 =:= 0 andalso receive after 1 -> ok end,
            read_slowly(C, Got + byte_size(Bytes));
        {error, closed} ->
            Got
    end.

reader_that_never_reads(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "500"]),
    {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => 'never@127.0.0.1', socket => [{recbuf, 65536}]}),
    _ = dist_client:request(C, {eval, <<"b'\xff' * (32 * 1024 * 1024)">>}),
    {ok, _} = gen_tcp:recv(dist_client:socket(C), 100),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
    T0 = erlang:monotonic_time(millisecond),
    %% No call is left: that is a success.
    ?assertEqual(0, pyn_ct:stop(P)),
    Took = erlang:monotonic_time(millisecond) - T0,
    ?assert(Took >= 490 andalso Took < 10000, Took),
    dist_client:close(C).

%% Peers that break their connection with answers on the way to them.
broken_pipe_of_a_peer(_Config) ->
    P = pyn_ct:start(),
    [begin
         {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => 'breaks@127.0.0.1'}),
         _ = [dist_client:request(C, {eval, <<"b'\\xff' * 3000000">>}) || _ <- lists:seq(1, 8)],
         inet:setopts(dist_client:socket(C), [{linger, {true, 0}}]),
         receive after I rem 8 -> dist_client:close(C) end
     end || I <- lists:seq(1, 30)],
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    ?assertEqual(0, pyn_ct:stop(P)).

%% Nobody reads its log any more.
broken_log(Config) ->
    File = filename:join(?config(priv_dir, Config), "exit_code_2"),
    Node = list_to_atom(pyn_ct:unique("mute") ++ "@" ++ host()),
    _ = open_port({spawn_executable, "/bin/sh"},
                  [{args, ["-c", "{ \"$0\" \"$@\"; echo $? >" ++ File ++ "; } 2>&1 | head -n 1 >/dev/null", pyn_ct:program(),
                           "--sname", atom_to_list(Node), "--parent-pipe", "--log-level", "debug"]},
                   {env, [{"PYNODE_COOKIE", atom_to_list(erlang:get_cookie())}]}]),
    pyn_ct:wait_until(fun() -> net_adm:ping(Node) =:= pong end),
    P = #{node => Node},
    [begin
         {py, Node} ! no_known_form,
         ?assertEqual({ok, none}, pyn_ct:call(P, {call, builtins, print, [<<"to nobody">>]}))
     end || _ <- lists:seq(1, 100)],
    kill("TERM", pyn_ct:info(P, os_pid)),
    ?assertEqual(<<"0\n">>, pyn_ct:wait_until(fun() ->
        case file:read_file(File) of
            {ok, <<_, _/binary>> = Text} -> Text;
            _ -> false
        end
    end)).

%% --- Several hosts: network namespaces joined by a cable that can be pulled ---

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

%% --- What the cases share ---

start_application(Env) ->
    _ = application:load(erlang_python),
    [ok = application:set_env(erlang_python, Key, Value) || {Key, Value} <- [{pynode, pyn_ct:program()}, {max_concurrent, 1000} | Env]],
    {ok, _} = application:ensure_all_started(erlang_python),
    pyn_ct:wait_until(fun() -> py:call(copy, copy, [1]) =:= {ok, 1} end).

%% The only C-node that is connected.
one_node() ->
    pyn_ct:wait_until(fun() ->
        case [Node || Node <- nodes(hidden), lists:prefix("pynode_", atom_to_list(Node))] of
            [Node] -> Node;
            _ -> false
        end
    end).

kill(Signal, OsPid) ->
    _ = os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(OsPid)),
    ok.

%% A request whose answer is taken later.
ask(#{node := Node}, Request) ->
    Self = self(),
    spawn_link(fun() ->
        Answer = try gen_server:call({py, Node}, Request, 60000) catch exit:{{nodedown, _}, _} -> gone end,
        Self ! {self(), Answer}
    end).

answer(Pid) ->
    receive {Pid, Answer} -> Answer after 60000 -> no_answer end.

host() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Host.
