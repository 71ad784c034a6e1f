%% Several coordinators, each with a copy of the shared state: any of them may be killed.
%%
%% The coordinators and their copies are nodes of their own. This node is a client, with a C-node that knows the same
%% coordinators.
-module(replication_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [bad_configuration, {group, two}, {group, three}].

groups() ->
    [{two, [], [operations, bounded, killed_under_load, killed_in_turn, callbacks_go_on, down_for_those_who_wait,
                process_restarts, application_restarts, both_alone]},
     {three, [], [killed_under_load, no_quorum, late_third, minority, stale_minority, quorum_returns]}].

init_per_suite(Config) -> Config.
end_per_suite(_Config) ->
    app_ct:stop(),
    pyn_ct:stop_all().

init_per_group(two, Config) -> [{size, 2} | Config];
init_per_group(three, Config) -> [{size, 3} | Config].
end_per_group(_, _Config) -> ok.

end_per_testcase(_, _Config) ->
    app_ct:stop(),
    [app_ct:stop_peer(Peer) || Peer <- erase_peers()],
    pyn_ct:stop_all().

%%% The cluster of a case

names(Config) ->
    [coordinator_SUITE:free_name() || _ <- lists:seq(1, proplists:get_value(size, Config, 2))].

nodes_of(Names) -> [Node || {_, Node} <- Names].

env(Names) ->
    [{coordinators, nodes_of(Names)}, {state_replication, true}, {nodes, []}].

coordinator({Name, _}, Names) ->
    coordinator({Name, none}, Names, []).

coordinator({Name, _}, Names, Env) ->
    Peer = app_ct:start_peer(Name, Env ++ env(Names)),
    persistent_term:put({?MODULE, peer, Peer}, Peer),
    Peer.

%% All at once: none of them is the first.
start_all(Names) ->
    start_all(Names, []).

start_all(Names, Env) ->
    Self = self(),
    Pids = [spawn_link(fun() -> Self ! {self(), coordinator(Name, Names, Env)} end) || Name <- Names],
    Peers = [receive {Pid, Peer} -> Peer end || Pid <- Pids],
    await_holders(Peers),
    Peers.

%% Cases run in processes of their own, and so does their end.
erase_peers() ->
    [begin persistent_term:erase(Key), Peer end || {{?MODULE, peer, _} = Key, Peer} <- persistent_term:get()].

%% Client and C-node.
client(Names) ->
    Option = lists:flatten(lists:join(",", [atom_to_list(Node) || Node <- nodes_of(Names)])),
    P = pyn_ct:start(["--workers", "4", "--main-workers", "1", "--coordinator", Option]),
    ok = app_ct:start([{coordinators, nodes_of(Names)}, {nodes, [pyn_ct:node_of(P)]}]),
    ok = pyn_ct:wait_until(fun() -> python_sees_state() andalso ok end),
    P.

python_sees_state() ->
    py:call(t_callbacks, time_of, [state_get, <<"nothing">>], #{}, 2000) =/= error
        andalso case py:call(t_callbacks, state_error, [get, <<"nothing">>], #{}, 2000) of
            {ok, {<<"ok">>, none}} -> true;
            _ -> false
        end.

holders(Peer) ->
    lists:sort(app_ct:on(Peer, fun py_replica_table:holders/0)).

await_holders(Peers) ->
    Nodes = lists:sort([app_ct:node_of(Peer) || Peer <- Peers]),
    [ok = pyn_ct:wait_until(fun() -> holders(Peer) =:= Nodes andalso ok end) || Peer <- Peers],
    ok.

fetch(Peer, Key) ->
    app_ct:on(Peer, fun() -> py_state:fetch(Key) end).

%%% Writers that take a loss for what it is

%% Counts `total` and stores {Id, N} until told to stop. What it has of each: acknowledged and unknown.
writer(Id) ->
    spawn_link(fun() -> write(Id, 0, 0, []) end).

write(Id, Counted, Unknown, Stored) ->
    receive
        {count, From} -> From ! {self(), Counted}, write(Id, Counted, Unknown, Stored);
        {stop, From} -> From ! {self(), {Counted, Unknown, Stored}}
    after 0 ->
        case py:state_incr(<<"total">>) of
            N when is_integer(N) -> store(Id, Counted + 1, Unknown, Stored);
            {error, _} -> timer:sleep(5), write(Id, Counted, Unknown + 1, Stored)
        end
    end.

store(Id, Counted, Unknown, Stored) ->
    case py:state_store({Id, Counted}, Counted) of
        ok -> write(Id, Counted, Unknown, [{Id, Counted} | Stored]);
        {error, _} -> write(Id, Counted, Unknown, Stored)
    end.

count_of(Writer) ->
    Writer ! {count, self()},
    receive {Writer, N} -> N end.

stop_writer(Writer) ->
    Writer ! {stop, self()},
    receive {Writer, Result} -> Result end.

await_more(Writers, More) ->
    [ok = pyn_ct:wait_until(fun() -> count_of(W) >= Least andalso ok end)
     || {W, Least} <- [{W, count_of(W) + More} || W <- Writers]].

%% What was acknowledged is there, in every copy; increments that failed may have counted or not.
check_results(Results, Peers) ->
    Counted = lists:sum([C || {C, _, _} <- Results]),
    Unknown = lists:sum([U || {_, U, _} <- Results]),
    Keys = lists:append([K || {_, _, K} <- Results]),
    ct:pal("~b increments acknowledged, ~b failed, ~b keys stored", [Counted, Unknown, length(Keys)]),
    [begin
         {ok, Total} = fetch(Peer, <<"total">>),
         ?assert(Total >= Counted),
         ?assert(Total =< Counted + Unknown),
         Missing = app_ct:on(Peer, fun() -> [Key || {_, N} = Key <- Keys, py_state:fetch(Key) =/= {ok, N}] end),
         ?assertEqual([], Missing)
     end || Peer <- Peers].

%%% What a configuration must not say

bad_configuration(_) ->
    A = 'a@h', B = 'b@h',
    [?assertMatch({error, _}, py_config:check(Env)) || Env <- [
        [{coordinators, []}], [{coordinators, A}], [{coordinators, [A, A]}], [{coordinators, [A, "b@h"]}],
        [{coordinators, [A, b]}], [{coordinators, [list_to_atom(lists:concat([c, N, "@h"])) || N <- lists:seq(1, 17)]}],
        [{coordinator, A}, {coordinators, [A, B]}], [{state_replication, true}], [{state_replication, 1}, {coordinators, [A]}]]],
    {ok, Config} = py_config:check([{coordinators, [A, B]}, {state_replication, true}]),
    ?assertEqual([A, B], py_config:coordinators(Config)),
    ?assertNot(py_config:is_replica(Config)),
    {ok, Here} = py_config:check([{coordinators, [A, node()]}, {state_replication, true}]),
    ?assert(py_config:is_replica(Here)),
    {ok, One} = py_config:check([{coordinators, [A, node()]}]),
    ?assertNot(py_config:is_replica(One)),
    {exited, 2, Log} = pyn_ct:try_start(["--coordinator", "a@h,b"]),
    ?assertMatch({match, _}, re:run(lists:join("\n", Log), "\"b\" is not a node name")).

%%% Two

%% Everything that one coordinator does, from everywhere.
operations(Config) ->
    Names = names(Config),
    [A, B] = Peers = start_all(Names),
    P = client(Names),
    ok = py:state_store({a, 1.0}, #{b => c}),
    [?assertEqual({ok, #{b => c}}, fetch(Peer, {a, 1.0})) || Peer <- Peers],
    ?assertEqual({error, not_found}, py:state_fetch({a, 1})),
    ?assertEqual({error, not_a_counter}, py:state_incr({a, 1.0})),
    ?assertEqual([1, 3, 2], [py:state_incr(1), py:state_incr(1, 2), py:state_decr(1)]),
    ?assertEqual(1 bsl 100, py:state_incr(large, 1 bsl 100)),
    ?assertEqual([1, large, {a, 1.0}], lists:sort(py:state_keys())),
    %% Nothing of ours is among the keys.
    ?assertEqual({error, not_found}, py:state_fetch(epoch)),
    ok = py:state_store(epoch, mine),
    ?assertEqual({ok, mine}, fetch(B, epoch)),
    ok = py:state_remove(1),
    ok = py:state_remove(never_was),
    ?assertEqual({error, not_found}, fetch(B, 1)),
    Large = binary:copy(<<"x">>, 5000000),
    ok = py:state_store(large, Large),
    ?assertEqual({ok, Large}, fetch(B, large)),
    ok = py:state_clear(),
    ?assertEqual([], app_ct:on(B, fun py:state_keys/0)),
    ?assertEqual({ok, [none, <<"default">>, #{<<"a">> => [1, 2.5, none, true, <<255>>]}]},
                 first(3, py:call(t_callbacks, state_api, []))),
    %% Also from a process that is in a transaction of its own.
    ?assertEqual({atomic, {7, ok}}, app_ct:on(A, fun() ->
        mnesia:transaction(fun() -> {py:state_incr(inner, 7), py:state_store(other, 1)} end)
    end)),
    ?assertEqual({ok, 7}, fetch(B, inner)),
    ?assertEqual({error, bad_operation}, app_ct:on(A, fun() -> py_state:incr(x, 1), gen_server:call(py_state, {no, such}) end)),
    %% Whoever counts, and wherever.
    Jobs = [fun() -> {ok, 200} = py:call(t_callbacks, count, [<<"exact">>, 200]) end || _ <- [1, 2, 3]]
        ++ [fun() -> app_ct:on(Peer, fun() -> [py:state_incr(<<"exact">>) || _ <- lists:seq(1, 200)], ok end) end || Peer <- Peers],
    Self = self(),
    Pids = [spawn_link(fun() -> Job(), Self ! {done, self()} end) || Job <- Jobs],
    [receive {done, Pid} -> ok end || Pid <- Pids],
    [?assertEqual({ok, 1000}, fetch(Peer, <<"exact">>)) || Peer <- Peers],
    ?assertEqual(0, pyn_ct:stop(P)).

first(N, {ok, List}) -> {ok, lists:sublist(List, N)}.

bounded(Config) ->
    Names = names(Config),
    [A, B] = start_all(Names, [{state_max, 10}]),
    ok = app_ct:start([{coordinators, nodes_of(Names)}, {nodes, []}]),
    %% From both at once: never one key too many.
    Self = self(),
    Pids = [spawn_link(fun() ->
        Self ! {self(), app_ct:on(Peer, fun() ->
            Results = [case N rem 2 of 0 -> py:state_store({Id, N}, N); 1 -> py:state_incr({Id, N}) end || N <- lists:seq(1, 20)],
            ?assertEqual([], Results -- [R || R <- Results, R =:= ok orelse R =:= 1 orelse R =:= {error, state_full}]),
            length([R || R <- Results, R =/= {error, state_full}])
        end)}
    end) || {Id, Peer} <- [{1, A}, {2, B}, {3, A}, {4, B}]],
    ?assertEqual(10, lists:sum([receive {Pid, N} -> N end || Pid <- Pids])),
    [Key | _] = Keys = py:state_keys(),
    ?assertEqual(10, length(Keys)),
    ?assertEqual({error, state_full}, py:state_incr(fresh)),
    ?assertEqual(ok, py:state_store(Key, <<"may change">>)),
    %% It is no other when one is lost.
    app_ct:kill_peer(A),
    ok = pyn_ct:wait_until(fun() -> py:state_incr(fresh) =:= {error, state_full} andalso ok end),
    ok = py:state_remove(Key),
    ?assertEqual(1, py:state_incr(fresh)),
    ?assertEqual({error, state_full}, py:state_incr(Key)).

%% The acting coordinator is killed while everybody writes. Then it comes back, and takes a copy.
killed_under_load(Config) ->
    Names = names(Config),
    [A | Others] = start_all(Names),
    P = client(Names),
    Writers = [writer(Id) || Id <- [1, 2, 3]],
    Python = [py:call_async(t_replication, write, [Id, 50, <<"stop">>]) || Id <- [11, 12]],
    await_more(Writers, 50),
    app_ct:kill_peer(A),
    await_more(Writers, 50),
    A2 = coordinator(hd(Names), Names),
    await_holders([A2 | Others]),
    await_more(Writers, 20),
    Results = [stop_writer(W) || W <- Writers],
    ok = py:state_store(<<"stop">>, 1),
    PythonResults = [begin {ok, {C, U, K, Longest}} = py:await(Ref, 60000), ?assert(Longest < 5.0), {C, U, K} end || Ref <- Python],
    check_results(Results ++ PythonResults, [A2 | Others]),
    ?assertEqual(0, pyn_ct:stop(P)).

%% One after the other, and each has what all had.
killed_in_turn(Config) ->
    Names = [NameA, NameB] = names(Config),
    [A, B] = start_all(Names),
    P = client(Names),
    Writers = [writer(Id) || Id <- [1, 2]],
    await_more(Writers, 20),
    app_ct:kill_peer(A),
    await_more(Writers, 20),
    A2 = coordinator(NameA, Names),
    await_holders([A2, B]),
    await_more(Writers, 20),
    app_ct:kill_peer(B),
    await_more(Writers, 20),
    B2 = coordinator(NameB, Names),
    await_holders([A2, B2]),
    app_ct:kill_peer(A2),
    await_more(Writers, 20),
    check_results([stop_writer(W) || W <- Writers], [B2]),
    ?assertEqual(0, pyn_ct:stop(P)).

%% A function that this node registered is found through whichever coordinator there is.
callbacks_go_on(Config) ->
    Names = [NameA | _] = names(Config),
    [A, B] = start_all(Names),
    P = client(Names),
    ok = py:register_function(next, fun([X]) -> X + 1 end),
    await_function(B, <<"next">>),
    Ref = py:call_async(t_replication, call_until, [next, 2000]),
    Known = pyn_ct:node_of(P),
    ok = pyn_ct:wait_until(fun() -> maps:is_key(Known, app_ct:on(A, fun py_coordinator:members/0)) andalso ok end),
    app_ct:kill_peer(A),
    {ok, {Wrong, _}} = py:await(Ref, 60000),
    ?assertEqual([], Wrong),
    ok = pyn_ct:wait_until(fun() -> maps:is_key(Known, app_ct:on(B, fun py_coordinator:members/0)) andalso ok end),
    %% Registered while one is away: it hears of it when it is back.
    ok = py:register_function(later, fun([X]) -> X + 1 end),
    A2 = coordinator(NameA, Names),
    [await_function(A2, Name) || Name <- [<<"next">>, <<"later">>]],
    app_ct:kill_peer(B),
    ok = pyn_ct:wait_until(fun() ->
        maps:is_key(Known, app_ct:on(A2, fun py_coordinator:members/0)) andalso ok
    end),
    ?assertEqual({ok, {[], 0}}, py:call(t_replication, call_until, [later, 10])),
    ?assertEqual({ok, {[], 0}}, py:call(t_replication, call_until, [next, 10])),
    ?assertEqual(0, pyn_ct:stop(P)).

%% A coordinator that comes up is told of the functions after it is known to be up.
await_function(Peer, Name) ->
    ok = pyn_ct:wait_until(fun() -> maps:is_key(Name, app_ct:on(Peer, fun py_callback:functions/0)) andalso ok end).

%% Who waits for the coordinator that is lost hears of it at once; who asks after that is served by the other one.
down_for_those_who_wait(Config) ->
    Names = names(Config),
    [A, _] = start_all(Names),
    P = client(Names),
    Test = self(),
    ok = py:register_function(never, fun(_) -> Test ! {waits, self()}, receive never -> ok end end),
    Ref = py:call_async(t_callbacks, down_inside, []),
    receive {waits, Callback} -> ok end,
    Monitor = erlang:monitor(process, Callback),
    Killed = erlang:monotonic_time(millisecond),
    app_ct:kill_peer(A),
    ?assertEqual({ok, {<<"down">>, true}}, py:await(Ref, 5000)),
    ok = pyn_ct:wait_until(fun() -> python_sees_state() andalso ok end),
    Took = erlang:monotonic_time(millisecond) - Killed,
    ct:pal("python was served by the other one after ~b ms", [Took]),
    ?assert(Took < 5000),
    exit(Callback, kill),
    receive {'DOWN', Monitor, process, _, _} -> ok end,
    ?assertEqual(0, pyn_ct:stop(P)).

%% The processes that keep the state may crash; the copy stays.
process_restarts(Config) ->
    Names = names(Config),
    [A, B] = start_all(Names),
    ok = app_ct:on(A, fun() -> py:state_store(k, 1) end),
    app_ct:kill_peer(B),
    [app_ct:on(A, fun() ->
         Pid = whereis(Name),
         exit(Pid, kill),
         pyn_ct:wait_until(fun() -> whereis(Name) =/= undefined andalso whereis(Name) =/= Pid andalso ok end),
         %% It answers when those that start again with it have done so: until then there is who acted before.
         _ = supervisor:which_children(py_sup),
         pyn_ct:wait_until(fun() -> py_coordinators:acting() =:= {ok, node()} andalso ok end)
     end) || Name <- [py_replica, py_state, py_coordinator, py_router]],
    ?assertEqual({ok, 1}, fetch(A, k)),
    ?assertEqual(1, app_ct:on(A, fun() -> py:state_incr(n) end)).

%% Stopped and started again, it has what the other one has; Mnesia was not running meanwhile.
application_restarts(Config) ->
    Names = names(Config),
    [A, B] = Peers = start_all(Names),
    ok = app_ct:on(A, fun() -> py:state_store(k, 1) end),
    app_ct:on(A, fun() ->
        ok = application:stop(erlang_python),
        ok = pyn_ct:wait_until(fun() -> mnesia:system_info(is_running) =:= no andalso ok end),
        [] = [Key || {{Module, _} = Key, _} <- persistent_term:get(), lists:member(Module, [py_state, py_replica, py_replica_table])]
    end),
    await_holders([B]),
    ?assertEqual(2, app_ct:on(B, fun() -> py:state_incr(k) end)),
    ok = app_ct:on(A, fun() -> application:start(erlang_python) end),
    await_holders(Peers),
    ?assertEqual({ok, 2}, fetch(A, k)),
    %% At once, too.
    ok = app_ct:on(A, fun() -> ok = application:stop(erlang_python), application:start(erlang_python) end),
    await_holders(Peers),
    ?assertEqual({ok, 2}, fetch(A, k)).

%% Two cannot know who is left: both go on, and the second takes the state of the first.
both_alone(Config) ->
    Names = names(Config),
    [A, B] = Peers = start_all(Names),
    ok = app_ct:on(A, fun() -> py:state_store(common, 0) end),
    Before = epoch(A),
    split([A], [B]),
    %% Each counts the loss, soon after it has seen it: else the one that has not yet would be the older one.
    [ok = pyn_ct:wait_until(fun() -> epoch(Peer) =:= Before + 1 andalso ok end) || Peer <- Peers],
    ok = app_ct:on(A, fun() -> py:state_store(common, a) end),
    ok = app_ct:on(B, fun() -> py:state_store(common, b) end),
    1 = app_ct:on(B, fun() -> py:state_incr(of_b) end),
    heal(Peers),
    await_holders(Peers),
    [?assertEqual({ok, a}, fetch(Peer, common)) || Peer <- Peers],
    [?assertEqual({error, not_found}, fetch(Peer, of_b)) || Peer <- Peers],
    2 = app_ct:on(B, fun() -> py:state_incr(common2, 2) end),
    ?assertEqual({ok, 2}, fetch(A, common2)).

%%% Three

%% One that is left alone keeps what it has, but writes nothing.
no_quorum(Config) ->
    Names = [NameA, NameB | _] = names(Config),
    %% The first one alone: not enough either.
    A = coordinator(NameA, Names),
    ?assertEqual({error, coordinator_down}, app_ct:on(A, fun() -> py:state_store(k, 0) end)),
    [B, C] = [coordinator(Name, Names) || Name <- tl(Names)],
    await_holders([A, B, C]),
    P = client(Names),
    ok = py:state_store(k, 1),
    app_ct:kill_peer(A),
    ok = pyn_ct:wait_until(fun() -> py:state_store(k, 2) =:= ok andalso ok end),
    app_ct:kill_peer(B),
    ok = pyn_ct:wait_until(fun() -> py:state_fetch(k) =:= {ok, 2} andalso ok end),
    ok = pyn_ct:wait_until(fun() -> holders(C) =:= [app_ct:node_of(C)] andalso ok end),
    [?assertEqual({error, coordinator_down}, F()) || F <- [
        fun() -> py:state_store(k, 3) end, fun() -> py:state_incr(n) end, fun() -> py:state_remove(k) end,
        fun py:state_clear/0]],
    ok = pyn_ct:wait_until(fun() ->
        py:call(t_callbacks, state_error, [get, 'k']) =/= error
            andalso element(1, element(2, py:call(t_callbacks, state_error, [set, 'k', 3]))) =:= <<"CoordinatorDown">> andalso ok
    end),
    ?assertEqual({ok, 2}, py:state_fetch(k)),
    B2 = coordinator(NameB, Names),
    await_holders([B2, C]),
    ok = pyn_ct:wait_until(fun() -> py:state_incr(n) =:= 1 andalso ok end),
    ?assertEqual({ok, 2}, fetch(B2, k)),
    ?assertEqual({ok, 1}, fetch(C, n)),
    ?assertEqual(0, pyn_ct:stop(P)).

%% It comes for the first time while another one, whose copy it would have to agree with, is gone.
late_third(Config) ->
    Names = [NameA, NameB, NameC] = names(Config),
    [A, B] = [coordinator(Name, Names) || Name <- [NameA, NameB]],
    await_holders([A, B]),
    ok = app_ct:on(A, fun() -> py:state_store(k, 1) end),
    app_ct:kill_peer(A),
    C = coordinator(NameC, Names),
    await_holders([B, C]),
    ?assertEqual({ok, 1}, fetch(C, k)),
    ok = app_ct:on(C, fun() -> py:state_store(k, 2) end),
    A2 = coordinator(NameA, Names),
    await_holders([A2, B, C]),
    ?assertEqual({ok, 2}, fetch(A2, k)).

%% Those that are more than half go on, and the other one takes their state, though it is the first of the list.
minority(Config) ->
    Names = names(Config),
    [A, B, C] = Peers = start_all(Names),
    ok = app_ct:on(A, fun() -> py:state_store(k, 0) end),
    split([A], [B, C]),
    ?assertEqual({error, coordinator_down}, app_ct:on(A, fun() -> py:state_store(k, a) end)),
    ?assertEqual({ok, 0}, fetch(A, k)),
    ok = app_ct:on(B, fun() -> py:state_store(k, b) end),
    1 = app_ct:on(C, fun() -> py:state_incr(n) end),
    ?assertEqual({ok, b}, fetch(C, k)),
    heal(Peers),
    await_holders(Peers),
    [?assertEqual({ok, b}, fetch(Peer, k)) || Peer <- Peers],
    ?assertEqual(2, app_ct:on(A, fun() -> py:state_incr(n) end)).

%% The last that wrote is as alone as the first, which has an older state.
stale_minority(Config) ->
    Names = names(Config),
    [A, B, C] = start_all(Names),
    ok = app_ct:on(A, fun() -> py:state_store(k, 0) end),
    Before = epoch(C),
    split([A], [B, C]),
    ok = app_ct:on(B, fun() -> py:state_store(k, b) end),
    ok = pyn_ct:wait_until(fun() -> epoch(C) > Before andalso ok end),
    app_ct:kill_peer(B),
    ok = pyn_ct:wait_until(fun() -> holders(C) =:= [app_ct:node_of(C)] andalso ok end),
    heal([A, C]),
    await_holders([A, C]),
    [?assertEqual({ok, b}, fetch(Peer, k)) || Peer <- [A, C]],
    ok = app_ct:on(A, fun() -> py:state_store(k, a) end),
    ?assertEqual({ok, a}, fetch(C, k)).

%% One is lost, the other two lose each other, and the lost one is back for one of them. What these two acknowledge is
%% there when that one of them meets who was alone meanwhile, though it is the first of the list.
quorum_returns(Config) ->
    Names = [_, _, NameC] = names(Config),
    [A, B, C] = start_all(Names),
    ok = app_ct:on(A, fun() -> py:state_store(k, old) end),
    Before = epoch(A),
    app_ct:kill_peer(C),
    %% Each of them counts the loss.
    [ok = pyn_ct:wait_until(fun() -> epoch(Peer) =:= Before + 2 andalso ok end) || Peer <- [A, B]],
    await_holders([A, B]),
    split([A], [B]),
    set_cookies(A, [app_ct:node_of(C)], wrong_one),
    C2 = coordinator(NameC, Names),
    await_holders([B, C2]),
    ok = app_ct:on(B, fun() -> py:state_store(k, acknowledged) end),
    split([B], [C2]),
    heal([A, B]),
    await_holders([A, B]),
    [?assertEqual({ok, acknowledged}, fetch(Peer, k)) || Peer <- [A, B]].

epoch(Peer) ->
    app_ct:on(Peer, fun py_replica_table:epoch/0).

%%% Networks that fall apart

%% Nodes of different sides refuse each other: each has another cookie for the others.
split(Ones, Others) ->
    [begin
         set_cookies(One, [app_ct:node_of(Other)], wrong_one),
         set_cookies(Other, [app_ct:node_of(One)], wrong_other)
     end || One <- Ones, Other <- Others],
    [app_ct:on(One, fun() -> erlang:disconnect_node(Node) end) || One <- Ones, Other <- Others, Node <- [app_ct:node_of(Other)]],
    [ok = pyn_ct:wait_until(fun() -> holders(Peer) =:= lists:sort([app_ct:node_of(P) || P <- Side]) andalso ok end)
     || Side <- [Ones, Others], Peer <- Side].

heal(Peers) ->
    Nodes = [app_ct:node_of(Peer) || Peer <- Peers],
    [set_cookies(Peer, Nodes -- [app_ct:node_of(Peer)], erlang:get_cookie()) || Peer <- Peers].

set_cookies(Peer, Nodes, Cookie) ->
    app_ct:on(Peer, fun() -> [erlang:set_cookie(Node, Cookie) || Node <- Nodes], ok end).
