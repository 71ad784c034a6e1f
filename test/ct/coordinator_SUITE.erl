%% Several nodes: functions run where they were registered, nodes leave, the coordinator is lost and comes back.
-module(coordinator_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [{group, functions}, lost_and_back, lost_while_waiting, never_there, late_coordinator, connector_killed,
     stops_while_threads_ask].

groups() ->
    [{functions, [], [runs_where_registered, nested_from_there, prints_there, node_leaves, node_leaves_meanwhile,
                      cancelled_there, registered_on_two, unregistered_from_elsewhere, many_names]}].

init_per_suite(Config) -> Config.
end_per_suite(_Config) ->
    app_ct:stop(),
    pyn_ct:stop_all().

init_per_group(functions, Config) ->
    ok = app_ct:start(app_ct:workers(4)),
    Config.

end_per_group(functions, _Config) ->
    app_ct:stop().

%%% Functions of other nodes

%% A node that knows no C-node, only its coordinator.
member() ->
    Peer = app_ct:start_peer([{coordinator, node()}, {nodes, []}]),
    ok = app_ct:on(Peer, fun app_ct:await_all/0),
    Peer.

runs_where_registered(_) ->
    B = member(),
    Node = app_ct:node_of(B),
    app_ct:on(B, fun() -> ok = py:register_function(where, fun([X]) -> {node(), X} end) end),
    ?assertEqual({ok, {atom_to_binary(Node), 5}}, text(py:call(t_callbacks, round_trip, [where, 5]))),
    app_ct:on(B, fun() -> ok = py:register_function(fails, fun(_) -> error(badthing) end) end),
    ?assertMatch({ok, {<<"callback">>, <<"error: badthing">>, <<"error">>, <<"badthing">>, [_ | _], true}},
                 py:call(t_callbacks, attempt, [fails])),
    Large = binary:copy(<<"x">>, 10000000),
    ?assertMatch({ok, {_, Large}}, py:call(t_callbacks, round_trip, [where, Large])),
    app_ct:stop_peer(B).

text({ok, {Node, X}}) when is_atom(Node) -> {ok, {atom_to_binary(Node), X}};
text(Other) -> Other.

%% The function calls Python in its turn: on the C-node that waits, though its own node knows none.
nested_from_there(_) ->
    B = member(),
    app_ct:on(B, fun() ->
        ok = py:register_function(level, fun([N, Max]) ->
            case N >= Max of
                true -> N;
                false ->
                    {ok, Result} = py:call('__main__', next_level, [N + 1, Max]),
                    Result
            end
        end)
    end),
    ok = py:exec("
def next_level(n, max):
    from erlang import call
    return call('level', n, max)
"),
    ?assertEqual({ok, 20}, py:call('__main__', next_level, [1, 20])),
    ?assertEqual(0, app_ct:on(B, fun py_semaphore:current/0)),
    app_ct:stop_peer(B).

prints_there(_) ->
    B = member(),
    Leader = app_ct:on(B, fun() ->
        ok = py:register_function(leader, fun(_) -> group_leader() end),
        {group_leader, Pid} = process_info(whereis(py_functions), group_leader),
        Pid
    end),
    ?assertEqual({ok, Leader}, py:call(t_callbacks, round_trip, [leader, 0])),
    app_ct:stop_peer(B).

node_leaves(_) ->
    B = member(),
    Name = atom_to_binary(app_ct:node_of(B)),
    app_ct:on(B, fun() -> ok = py:register_function(remote, fun(_) -> here end) end),
    ?assertEqual({ok, <<"here">>}, py:call(t_callbacks, round_trip, [remote, 0])),
    app_ct:kill_peer(B),
    Text = <<"Function 'remote' was registered by ", Name/binary, ", which is gone">>,
    ok = pyn_ct:wait_until(fun() ->
        {ok, Got} = py:call(t_callbacks, attempt, [remote]),
        case Got of
            {<<"callback">>, Text, <<"error">>, {<<"nodedown">>, Name}, [], true} -> ok;
            {<<"callback">>, _, _, _, _, _} -> false
        end
    end),
    %% Anybody may register it anew.
    ok = py:register_function(remote, fun(_) -> there end),
    ?assertEqual({ok, <<"there">>}, py:call(t_callbacks, round_trip, [remote, 0])),
    ok = py:unregister_function(remote).

node_leaves_meanwhile(_) ->
    B = member(),
    Test = self(),
    app_ct:on(B, fun() -> ok = py:register_function(block, fun(_) -> Test ! here, receive never -> ok end end) end),
    Ref = py:call_async(t_callbacks, attempt, [block]),
    receive here -> ok end,
    app_ct:kill_peer(B),
    Name = atom_to_binary(app_ct:node_of(B)),
    {ok, {<<"callback">>, Text, <<"exit">>, {<<"nodedown">>, Name}, [], true}} = py:await(Ref),
    ?assertNotEqual(nomatch, string:find(Text, Name)).

cancelled_there(_) ->
    B = member(),
    Test = self(),
    app_ct:on(B, fun() ->
        ok = py:register_function(block, fun(_) ->
            process_flag(trap_exit, true), Test ! {callback, self()}, wait_for_ever()
        end)
    end),
    Ref = py:call_async(t_callbacks, wait_for, [block]),
    receive {callback, Pid} -> ok end,
    ok = py:interrupt(Ref),
    ?assertEqual({error, interrupted}, py:await(Ref)),
    ok = pyn_ct:wait_until(fun() -> not app_ct:on(B, fun() -> is_process_alive(Pid) end) andalso ok end),
    app_ct:stop_peer(B).

wait_for_ever() ->
    receive _ -> wait_for_ever() end.

registered_on_two(_) ->
    B = member(),
    ok = py:register_function(both, fun(_) -> a end),
    app_ct:on(B, fun() -> ok = py:register_function(both, fun(_) -> b end) end),
    ?assertEqual({ok, <<"b">>}, py:call(t_callbacks, round_trip, [both, 0])),
    %% The one that was replaced is not registered again by its node.
    ok = pyn_ct:wait_until(fun() -> py_functions:lookup(<<"both">>) =:= error andalso ok end),
    callback_SUITE:restart(py_callback),
    ?assertEqual({ok, <<"b">>}, py:call(t_callbacks, round_trip, [both, 0])),
    ok = pyn_ct:wait_until(fun() -> app_ct:on(B, fun() -> py:unregister_function(both) end) =:= ok andalso ok end),
    ?assertMatch({ok, {<<"callback">>, <<"Function 'both' not registered">>, _, _, _, _}}, py:call(t_callbacks, attempt, [both])),
    app_ct:stop_peer(B).

unregistered_from_elsewhere(_) ->
    B = member(),
    app_ct:on(B, fun() -> ok = py:register_function(theirs, fun(_) -> b end) end),
    ?assertEqual({ok, <<"b">>}, py:call(t_callbacks, round_trip, [theirs, 0])),
    ok = py:unregister_function(theirs),
    ?assertMatch({ok, {<<"callback">>, <<"Function 'theirs' not registered">>, _, _, _, _}},
                 py:call(t_callbacks, attempt, [theirs])),
    ok = pyn_ct:wait_until(fun() ->
        app_ct:on(B, fun() -> py_functions:lookup(<<"theirs">>) end) =:= error andalso ok
    end),
    app_ct:stop_peer(B).

many_names(_) ->
    B = member(),
    app_ct:on(B, fun() ->
        [ok = py:register_function("many_" ++ integer_to_list(N), fun(_) -> N end) || N <- lists:seq(1, 500)], ok
    end),
    ?assertEqual({ok, 500}, py:call(t_callbacks, round_trip, [<<"many_500">>, 0])),
    app_ct:stop_peer(B),
    ok = pyn_ct:wait_until(fun() ->
        [Name || <<"many_", _/binary>> = Name <- maps:keys(py_callback:functions())] =:= [] andalso ok
    end).

%%% The coordinator is lost

%% Client (this node), coordinator and C-node, each by itself.
lost_and_back(_) ->
    {Name, Node} = free_name(),
    A = app_ct:start_peer(Name, [{nodes, []}]),
    P = pyn_ct:start(["--workers", "2", "--coordinator", atom_to_list(Node)]),
    ok = app_ct:start([{coordinator, Node}, {nodes, [pyn_ct:node_of(P)]}]),
    ok = py:register_function(mine, fun([X]) -> {mine, X} end),
    ok = pyn_ct:wait_until(fun() ->
        py:call(t_callbacks, attempt, [mine, 1], #{}, 1000) =:= {ok, {<<"ok">>, {<<"mine">>, 1}}} andalso ok
    end),
    ok = py:state_store(k, 1),
    ?assertEqual({ok, 1}, app_ct:on(A, fun() -> py:state_fetch(k) end)),
    app_ct:kill_peer(A),
    ok = pyn_ct:wait_until(fun() -> py:state_fetch(k) =:= {error, coordinator_down} andalso ok end),
    %% At once, every time, on both sides.
    Times = [element(1, timer:tc(fun() ->
        [?assertEqual({error, coordinator_down}, F()) || F <- state_operations()]
    end)) || _ <- lists:seq(1, 100)],
    ?assert(lists:nth(50, lists:sort(Times)) < 10000),
    ?assertEqual({error, coordinator_down}, py:register_function(f, fun(_) -> 1 end)),
    ?assertEqual({error, coordinator_down}, py:unregister_function(f)),
    ok = pyn_ct:wait_until(fun() ->
        {ok, {Type, IsConnectionError, Took}} = py:call(t_callbacks, time_of, [call, mine, 1]),
        Type =:= <<"CoordinatorDown">> andalso IsConnectionError andalso Took < 0.1 andalso ok
    end),
    ?assertMatch({ok, {<<"CoordinatorDown">>, true, _}}, py:call(t_callbacks, time_of, [state_get, 1])),
    ?assertEqual({ok, 4.0}, py:call(math, sqrt, [16])),
    %% It is back, with another creation and nothing in its tables.
    B = app_ct:start_peer(Name, [{nodes, []}]),
    ok = pyn_ct:wait_until(fun() ->
        py:call(t_callbacks, attempt, [mine, 2], #{}, 1000) =:= {ok, {<<"ok">>, {<<"mine">>, 2}}} andalso ok
    end),
    ?assertEqual({error, not_found}, py:state_fetch(k)),
    ?assertEqual(1, py:state_incr(k)),
    app_ct:stop_peer(B),
    ?assertEqual(0, pyn_ct:stop(P)),
    app_ct:stop().

state_operations() ->
    [fun() -> py:state_fetch(k) end, fun() -> py:state_store(k, 1) end, fun() -> py:state_remove(k) end,
     fun() -> py:state_clear() end, fun() -> py:state_keys() end, fun() -> py:state_incr(k) end,
     fun() -> py:state_decr(k, 2) end].

%% Python that waits for a callback hears of it at once.
lost_while_waiting(_) ->
    {Name, Node} = free_name(),
    A = app_ct:start_peer(Name, [{nodes, []}]),
    P = pyn_ct:start(["--workers", "2", "--coordinator", atom_to_list(Node)]),
    Test = self(),
    app_ct:on(A, fun() -> ok = py:register_function(never, fun(_) -> Test ! waits, receive never -> ok end end) end),
    ok = pyn_ct:wait_until(fun() ->
        pyn_ct:call(P, {call, t_callbacks, state_error, [get, k], #{}, 1000}) =:= {ok, {<<"ok">>, none}} andalso ok
    end),
    {Pid, Ref} = spawn_monitor(fun() -> exit({result, pyn_ct:call(P, {call, t_callbacks, down_inside, []})}) end),
    receive waits -> ok end,
    app_ct:kill_peer(A),
    receive {'DOWN', Ref, process, Pid, Result} -> ?assertEqual({result, {ok, {<<"down">>, true}}}, Result)
    after 10000 -> ct:fail(still_waiting) end,
    ?assertEqual(0, pyn_ct:stop(P)).

never_there(_) ->
    {_, Node} = free_name(),
    {Micros, ok} = timer:tc(fun() -> app_ct:start([{coordinator, Node}, {nodes, []}]) end),
    ?assert(Micros < 10000000),
    [?assertEqual({error, coordinator_down}, F()) || F <- state_operations()],
    ?assertEqual({error, coordinator_down}, py:register_function(f, fun(_) -> 1 end)),
    app_ct:stop().

%% Whoever was there first: all find each other.
late_coordinator(_) ->
    {Name, Node} = free_name(),
    P = pyn_ct:start(["--workers", "2", "--coordinator", atom_to_list(Node)]),
    ok = app_ct:start([{coordinator, Node}, {nodes, [pyn_ct:node_of(P)]}]),
    A = app_ct:start_peer(Name, [{nodes, []}]),
    ok = pyn_ct:wait_until(fun() -> py:register_function(mine, fun([X]) -> X end) =:= ok andalso ok end),
    ok = pyn_ct:wait_until(fun() -> py:call(t_callbacks, attempt, [mine, 1], #{}, 1000) =:= {ok, {<<"ok">>, 1}} andalso ok end),
    app_ct:stop_peer(A),
    ?assertEqual(0, pyn_ct:stop(P)),
    app_ct:stop().

%% The process that connects to the coordinator dies at it: that is one more failure, and it is tried again.
connector_killed(_) ->
    A = app_ct:start_peer([{nodes, []}]),
    OsPid = app_ct:on(A, fun os:getpid/0),
    ok = pyn_ct:freeze(list_to_integer(OsPid)),
    ok = app_ct:start([{coordinator, app_ct:node_of(A)}, {nodes, []}]),
    Connector = pyn_ct:wait_until(fun connector/0),
    exit(Connector, kill),
    ok = pyn_ct:thaw(list_to_integer(OsPid)),
    ok = pyn_ct:wait_until(fun() -> py_coordinators:acting() =:= {ok, app_ct:node_of(A)} andalso ok end),
    app_ct:stop_peer(A),
    app_ct:stop().

connector() ->
    {state, _, Coordinators, _} = sys:get_state(py_coordinators),
    case maps:values(Coordinators) of
        [{coordinator, down, _, Pid, _}] when is_pid(Pid) -> Pid;
        _ -> false
    end.

%% Threads that Python code has started, and that nobody waits for, ask on and on while the node ends: they are told, and it
%% goes as it should.
stops_while_threads_ask(_) ->
    ok = app_ct:start([{nodes, []}]),
    ok = py:register_function(identity, fun([X]) -> X end),
    [begin
         P = pyn_ct:start(["--workers", "2", "--coordinator", atom_to_list(node())]),
         ok = pyn_ct:wait_until(fun() ->
             pyn_ct:call(P, {call, t_callbacks, attempt, [identity, 1], #{}, 1000}) =:= {ok, {<<"ok">>, 1}} andalso ok
         end),
         _ = py:state_remove(<<"asked">>),
         %% Sub-interpreters have no daemon threads.
         {ok, none} = pyn_ct:call(P, {call, t_callbacks, keep_asking, [8, Daemon andalso pyn_ct:mode(P) =/= subinterp]}),
         ok = pyn_ct:wait_until(fun() -> case py:state_fetch(<<"asked">>) of {ok, N} when N > 100 -> ok; _ -> false end end),
         pyn_ct:signal(P, "TERM"),
         ?assertEqual(0, pyn_ct:wait_exit(P)),
         ?assertEqual([], [L || L <- pyn_ct:log(P), re:run(L, " error |Fatal|Traceback") =/= nomatch])
     end || Daemon <- [false, true]],
    app_ct:stop().

free_name() ->
    Name = pyn_ct:unique("coord"),
    [_, Host] = string:split(atom_to_list(node()), "@"),
    {Name, list_to_atom(Name ++ "@" ++ Host)}.
