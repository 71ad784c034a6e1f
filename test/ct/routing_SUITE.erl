%% Which C-node a call goes to: pools of C-nodes, and calls that are sent anew when their C-node was lost.
-module(routing_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [bad_options, bad_configuration, no_such_pool, local_pool, members_only, least_loaded, definitions, nested, pool_is_down,
     all_are_down, sent_anew, not_sent_anew, as_often_as_said, no_other, within_the_time, awaited, many_sent_anew].

init_per_suite(Config) -> Config.
end_per_suite(_Config) -> app_ct:stop(), pyn_ct:stop_all().

%% Three nodes with two workers each, A and B in the pool `pair`, C in `single`.
init_per_testcase(Case, Config) when Case =:= bad_options; Case =:= bad_configuration; Case =:= no_such_pool;
                                     Case =:= local_pool ->
    Config;
init_per_testcase(_, Config) ->
    Ps = [pyn_ct:start(["--workers", "2", "--coordinator", atom_to_list(node())]) || _ <- [a, b, c]],
    [A, B, C] = Nodes = [pyn_ct:node_of(P) || P <- Ps],
    ok = app_ct:start([{nodes, Nodes}, {pools, #{pair => [A, B], single => [C]}}, {max_concurrent, 32}]),
    pyn_ct:wait_until(fun() -> py:num_executors() =:= 6 end),
    [pyn_ct:wait_until(fun() ->
         element(1, py:call(erlang, state_get, [<<"x">>], #{}, #{node => Node})) =:= ok
     end) || Node <- Nodes],
    [{pynodes, Ps} | Config].

end_per_testcase(_, _Config) ->
    receive M -> error({unexpected, M}) after 0 -> ok end,
    app_ct:stop(),
    pyn_ct:stop_all().

%%% What is refused

bad_options(_Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    [?assertMatch({O, {error, {bad_option, _}}}, {O, py:call(math, sqrt, [16], #{}, O)})
     || O <- [#{pool => <<"x">>}, #{pool => [a]}, #{retry => -1}, #{retry => 1.0}, #{retry => infinity}, #{retry => 100000},
              #{pool => a, node => node()}]].

bad_configuration(_Config) ->
    [begin
         {error, Sentence} = py_config:check([{nodes, [local, 'a@b']}, {pools, Bad}]),
         ?assertMatch({match, _}, re:run(Sentence, "pools"))
     end || Bad <- [x, [x], #{"p" => ['a@b']}, #{p => 'a@b'}, #{p => [a]}, #{p => ['a@b' | x]}, [{p, [local]}, {p, ['a@b']}],
                    #{p => ['other@b']}, [{p, ['a@b']}, q], #{p => []}, #{p => [local], q => []}]],
    {ok, #{pools := #{p := ['a@b'], q := [local, 'a@b']}}} =
        py_config:check([{nodes, [local, 'a@b']}, {pools, [{p, ['a@b']}, {q, [local, 'a@b']}]}]).

no_such_pool(_Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    [?assertEqual({error, {no_pool, gpu}}, Result)
     || Result <- [py:call(math, sqrt, [16], #{}, #{pool => gpu}), py:eval(<<"1">>, #{}, #{pool => gpu}),
                   py:exec(<<"1">>, #{pool => gpu, retry => 2}), py:call('__main__', f, [], #{}, #{pool => gpu})]],
    ?assertEqual({ok, [{error, {no_pool, gpu}}]}, py:parallel([{math, sqrt, [1]}], #{pool => gpu})).

local_pool(_Config) ->
    ok = app_ct:start([{pools, [{here, [local]}]} | app_ct:workers(1)]),
    ?assertEqual({ok, 4.0}, py:call(math, sqrt, [16], #{}, #{pool => here})).

%%% Pools

members_only(Config) ->
    [A, B, C] = os_pids(Config),
    Pids = [os_pid(#{pool => pair}) || _ <- lists:seq(1, 60)],
    ?assertEqual([], lists:usort(Pids) -- [A, B]),
    %% Each of them gets some; where a recount met a call, the counters are right again after the next one.
    [pyn_ct:wait_until(fun() -> os_pid(#{pool => pair}) =:= Pid end) || Pid <- [A, B] -- Pids],
    ?assertEqual([C], lists:usort([os_pid(#{pool => single}) || _ <- lists:seq(1, 20)])),
    {ok, All} = py:parallel([{os, getpid, []} || _ <- lists:seq(1, 60)], #{pool => pair}),
    ?assertEqual([], lists:usort([Pid || {ok, Pid} <- All]) -- [A, B]).

%% While one has a call under way, the other gets the next.
least_loaded(Config) ->
    [A, B, _] = os_pids(Config),
    [Node | _] = nodes_of(Config),
    Go = file(Config),
    %% More than one: a recount may count one too many on the other.
    Held = [spawn_call(fun() -> py:call(t_slow, until_there, [Go], #{}, #{node => Node}) end) || _ <- [1, 2, 3]],
    pyn_ct:wait_until(fun() -> maps:get(in_flight, maps:get(Node, py:info())) =:= 3 end),
    ?assertEqual([B], lists:usort([os_pid(#{pool => pair}) || _ <- lists:seq(1, 20)])),
    ok = file:write_file(Go, ""),
    [?assertEqual({ok, A}, answer(Call)) || Call <- Held],
    pyn_ct:wait_until(fun() -> os_pid(#{pool => pair}) =:= A end).

%% What is defined in a pool is where it was defined; another pool does not know it.
definitions(Config) ->
    [_, _, C] = os_pids(Config),
    ok = py:exec(<<"import os\nwhere = os.getpid()\ndef f():\n    return where\n">>, #{pool => single}),
    ?assertEqual({ok, C}, py:eval(<<"where">>)),
    ?assertEqual({ok, C}, py:call('__main__', f, [])),
    ?assertEqual({ok, C}, py:call('__main__', f, [], #{}, #{pool => single})),
    ?assertMatch({error, {'NameError', _}}, py:eval(<<"where">>, #{}, #{pool => pair})),
    ok = py:exec(<<"where = os = None">>, #{pool => pair}),
    ?assertEqual({ok, none}, py:eval(<<"where">>)).

%% In a callback: the pool of the node that waits is no other place than that node's own thread.
nested(Config) ->
    [A, B, C] = os_pids(Config),
    ok = py:register_function(pid_in, fun([Pool]) -> os_pid(#{pool => binary_to_existing_atom(Pool)}) end),
    In = fun(Pool, Where) ->
        {ok, Pid} = py:call(erlang, call, [<<"pid_in">>, Pool], #{}, #{pool => Where}),
        Pid
    end,
    ?assertEqual(C, In(single, single)),
    ?assertEqual(C, In(single, pair)),
    ?assert(lists:member(In(pair, single), [A, B])),
    ?assertEqual(0, py_semaphore:current()).

pool_is_down(Config) ->
    [A, B, C] = ?config(pynodes, Config),
    Single = pyn_ct:node_of(C),
    end_node(C),
    pyn_ct:wait_until(fun() -> py:call(math, sqrt, [16], #{}, #{pool => single}) =:= {error, {nodedown, Single}} end),
    ?assertEqual({error, {nodedown, Single}}, py:exec(<<"1">>, #{pool => single, retry => 3})),
    [end_node(P) || P <- [A, B]],
    pyn_ct:wait_until(fun() -> py:call(math, sqrt, [16], #{}, #{pool => pair}) =:= {error, no_nodes} end).

%% Where a certain one is wanted it has a name, also when there are others that are down.
all_are_down(Config) ->
    Ps = [_, B, _] = ?config(pynodes, Config),
    NodeB = pyn_ct:node_of(B),
    ok = py:exec(<<"mine = 1">>, #{node => NodeB}),
    [end_node(P) || P <- Ps],
    pyn_ct:wait_until(fun() -> py:call(math, sqrt, [16]) =:= {error, no_nodes} end),
    ?assertEqual({error, no_nodes}, py:exec(<<"mine = 2">>)),
    [?assertEqual({error, {nodedown, Node}}, py:call(math, sqrt, [16], #{}, #{node => Node}))
     || Node <- [pyn_ct:node_of(P) || P <- Ps] ++ [unheard@of]],
    ?assertEqual({error, {nodedown, NodeB}}, py:eval(<<"mine">>)).

%%% Sent anew

%% To another one of the pool, and the Python code has begun twice.
sent_anew(Config) ->
    [Gone, Other] = killed_in_call(Config, fun(File, Go, Options) ->
        {ok, _} = py:call(t_slow, marked_until, [File, Go], #{}, Options#{retry => 1})
    end),
    ?assertNotEqual(Gone, Other),
    %% So does code.
    [Gone2, Other2] = killed_in_call(Config, fun(File, Go, Options) ->
        ok = py:exec([<<"import t_slow\nt_slow.marked_until('">>, File, <<"', '">>, Go, <<"')\n">>], Options#{retry => 1})
    end),
    ?assertNotEqual(Gone2, Other2).

%% What the caller insists on, what its definitions are lost for, what has an answer.
not_sent_anew(Config) ->
    [Node | _] = nodes_of(Config),
    File = file(Config),
    Call = spawn_call(fun() -> py:call(t_slow, marked_sleep, [File, 5], #{}, #{node => Node, retry => 5}) end),
    wait_marks(File, 1),
    end_node(hd(?config(pynodes, Config))),
    ?assertEqual({error, {nodedown, Node}}, answer(Call)),
    ?assertEqual(1, filelib:file_size(File)),
    [Marks, Never] = [file(Config), file(Config)],
    ?assertMatch({error, {'FileNotFoundError', _}},
                 py:call(t_slow, marked_sleep, [<<"/no/such/place">>, 0], #{}, #{retry => 5})),
    ?assertEqual({error, timeout}, py:call(t_slow, marked_until, [Marks, Never], #{}, #{retry => 5, timeout => 100})),
    %% Once, or not at all where the time was over before it could begin.
    pyn_ct:wait_until(fun() -> lists:sum([N || #{in_flight := N} <- maps:values(py:info())]) =:= 0 end),
    ?assert(filelib:file_size(Marks) =< 1).

as_often_as_said(Config) ->
    [_, _, C] = ?config(pynodes, Config),
    File = file(Config),
    Nodes = nodes_of(Config),
    Call = spawn_call(fun() -> py:call(t_slow, marked_sleep, [File, 5], #{}, #{retry => 1}) end),
    wait_marks(File, 1),
    First = busy(Nodes),
    end_node(pynode(First, Config)),
    wait_marks(File, 2),
    Second = busy(Nodes -- [First]),
    end_node(pynode(Second, Config)),
    ?assertEqual({error, {nodedown, Second}}, answer(Call)),
    ?assertEqual(2, filelib:file_size(File)),
    _ = C.

%% The caller hears of the loss itself.
no_other(Config) ->
    [_, _, C] = ?config(pynodes, Config),
    Node = pyn_ct:node_of(C),
    File = file(Config),
    Call = spawn_call(fun() -> py:call(t_slow, marked_sleep, [File, 5], #{}, #{pool => single, retry => 3}) end),
    wait_marks(File, 1),
    end_node(C),
    ?assertEqual({error, {nodedown, Node}}, answer(Call)).

%% It is one time for all attempts: the second one is given what is left of it.
within_the_time(Config) ->
    [File, Never] = [file(Config), file(Config)],
    Nodes = nodes_of(Config),
    {Pid, _} = Call = spawn_call(fun() ->
        receive go -> ok end,
        timer:tc(fun() -> py:call(t_slow, marked_until, [File, Never], #{}, #{retry => 2, timeout => 4000}) end)
    end),
    1 = erlang:trace(Pid, true, [send]),
    Pid ! go,
    wait_marks(File, 1),
    timer:sleep(500),
    end_node(pynode(busy(Nodes), Config)),
    {Micros, Result} = answer(Call),
    ?assertEqual({{error, timeout}, 2}, {Result, filelib:file_size(File)}),
    ?assert(Micros >= 3999000),
    Delivered = erlang:trace_delivered(Pid),
    receive {trace_delivered, Pid, Delivered} -> ok end,
    ?assertMatch([4000, Left] when Left > 0 andalso Left =< 3500, times_given(Pid)).

%% With the requests that the process has sent.
times_given(Pid) ->
    receive
        {trace, Pid, send, {'$gen_call', _, {call, t_slow, _, _, _, Time}}, _} -> [Time | times_given(Pid)];
        {trace, Pid, send, _, _} -> times_given(Pid)
    after 0 -> []
    end.

%% Calls that are awaited have no options; those that a process of theirs makes are sent anew in the name of the caller.
awaited(Config) ->
    File = file(Config),
    Nodes = nodes_of(Config),
    Ref = py:call_async(t_slow, marked_sleep, [File, 5]),
    wait_marks(File, 1),
    Gone = busy(Nodes),
    end_node(pynode(Gone, Config)),
    ?assertEqual({error, {nodedown, Gone}}, py:await(Ref)).

many_sent_anew(Config) ->
    Go = file(Config),
    [P | _] = ?config(pynodes, Config),
    [A | _] = nodes_of(Config),
    All = spawn_call(fun() -> py:parallel([{t_slow, until_there, [Go]} || _ <- lists:seq(1, 100)], #{retry => 2}) end),
    pyn_ct:wait_until(fun() -> py_semaphore:current() > 4 andalso maps:get(in_flight, maps:get(A, py:info())) > 0 end),
    end_node(P),
    ok = file:write_file(Go, ""),
    {ok, Results} = answer(All),
    ?assertEqual(100, length([Pid || {ok, Pid} <- Results])).

%%% Helpers

%% Kills the node of the pool `pair` that the call is on, and starts it again; gives the node killed and the one that
%% the call was on afterwards.
killed_in_call(Config, Fun) ->
    [File, Go] = [file(Config), file(Config)],
    Pair = lists:sublist(nodes_of(Config), 2),
    Call = spawn_call(fun() -> Fun(File, Go, #{pool => pair}) end),
    wait_marks(File, 1),
    Gone = busy(Pair),
    P = pynode(Gone, Config),
    end_node(P),
    wait_marks(File, 2),
    Other = busy(Pair -- [Gone]),
    ok = file:write_file(Go, ""),
    _ = answer(Call),
    [Name, _] = string:split(atom_to_list(Gone), "@"),
    _ = pyn_ct:start(#{name => Name, args => ["--workers", "2"]}),
    pyn_ct:wait_until(fun() -> py:num_executors() =:= 6 end),
    [Gone, Other].

%% The one node of these that has a call under way.
busy(Nodes) ->
    pyn_ct:wait_until(fun() ->
        Info = py:info(),
        case [Node || Node <- Nodes, #{in_flight := N} <- [maps:get(Node, Info)], N > 0] of
            [Node] -> Node;
            _ -> false
        end
    end).

end_node(P) ->
    #{os_pid := Known} = P,
    {ok, Now} = {ok, current_os_pid(pyn_ct:node_of(P), Known)},
    _ = os:cmd("kill -KILL " ++ integer_to_list(Now)),
    ok.

%% A node that was started again has another process.
current_os_pid(Node, Known) ->
    case py:info() of
        #{Node := #{os_pid := OsPid}} -> OsPid;
        _ -> Known
    end.

pynode(Node, Config) ->
    hd([P || P <- ?config(pynodes, Config), pyn_ct:node_of(P) =:= Node]).

spawn_call(Fun) ->
    spawn_monitor(fun() -> exit({answer, Fun()}) end).

answer({Pid, Ref}) ->
    receive
        {'DOWN', Ref, process, Pid, {answer, Answer}} -> Answer;
        {'DOWN', Ref, process, Pid, Reason} -> error(Reason)
    after 20000 -> error(no_answer)
    end.

wait_marks(File, N) ->
    pyn_ct:wait_until(fun() -> filelib:file_size(File) =:= N end).

os_pid(Options) ->
    {ok, Pid} = py:call(os, getpid, [], #{}, Options),
    Pid.

os_pids(Config) -> [pyn_ct:os_pid(P) || P <- ?config(pynodes, Config)].
nodes_of(Config) -> [pyn_ct:node_of(P) || P <- ?config(pynodes, Config)].

file(Config) ->
    list_to_binary(filename:join(?config(priv_dir, Config), pyn_ct:unique("file"))).
