%% The state that all nodes and all workers share: the guide's example, every operation from both languages, exactness.
-module(state_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [example, from_erlang, from_python, exact_keys, not_a_counter, bad_arguments, answered_together, large_values, large_counters,
     deep_values, many_keys, seen_everywhere, counters_exact, store_and_count, from_another_node, server_crash,
     bounded, bounded_exactly, without_application, stops_meanwhile].

init_per_suite(Config) -> Config.
end_per_suite(_Config) -> app_ct:stop().

init_per_testcase(Case, Config) when Case =:= bounded; Case =:= bounded_exactly ->
    ok = app_ct:start([{state_max, 10} | app_ct:workers(4)]),
    Config;
init_per_testcase(Case, Config) when Case =:= without_application; Case =:= stops_meanwhile ->
    app_ct:stop(),
    Config;
init_per_testcase(_, Config) ->
    _ = whereis(py_sup) =:= undefined andalso app_ct:start(app_ct:workers(8)),
    ok = py:state_clear(),
    Config.

end_per_testcase(Case, _Config) when Case =:= bounded; Case =:= bounded_exactly ->
    app_ct:stop();
end_per_testcase(_, _Config) ->
    ok.

%%% The guide's example

example(_) ->
%% Set config that all workers can read
py:state_store(<<"app_config">>, #{model => <<"gpt-4">>, timeout => 30000}),
    ok = py:exec("data = b'12345'"),
ok = py:exec(<<"
from erlang import state_set, state_get, state_incr, state_decr

# Share configuration across workers
config = state_get('app_config')

# Thread-safe metrics
state_incr('requests_total')
state_incr('bytes_processed', len(data))
">>),
%% Read metrics
{ok, Total} = py:state_fetch(<<"requests_total">>),
    ?assertEqual(1, Total),
    ?assertEqual({ok, 5}, py:state_fetch(<<"bytes_processed">>)),
    ?assertEqual({ok, #{<<"model">> => <<"gpt-4">>, <<"timeout">> => 30000}}, py:eval("config")).

%%% Operations

from_erlang(_) ->
    ?assertEqual({error, not_found}, py:state_fetch(k)),
    ?assertEqual(ok, py:state_store(k, #{a => [1, {2.0}]})),
    ?assertEqual({ok, #{a => [1, {2.0}]}}, py:state_fetch(k)),
    ?assertEqual(ok, py:state_store(k, other)),
    ?assertEqual({ok, other}, py:state_fetch(k)),
    ?assertEqual(1, py:state_incr(n)),
    ?assertEqual(11, py:state_incr(n, 10)),
    ?assertEqual(10, py:state_decr(n)),
    ?assertEqual(5, py:state_decr(n, 5)),
    ?assertEqual(8, py:state_decr(n, -3)),
    ?assertEqual(-1, py:state_decr(m)),
    ?assertEqual([k, m, n], lists:sort(py:state_keys())),
    ?assertEqual(ok, py:state_remove(k)),
    ?assertEqual(ok, py:state_remove(k)),
    ?assertEqual({error, not_found}, py:state_fetch(k)),
    ?assertEqual(ok, py:state_clear()),
    ?assertEqual([], py:state_keys()).

from_python(_) ->
    ?assertEqual({ok, [none, <<"default">>, #{<<"a">> => [1, 2.5, none, true, <<255>>]},
                       2, 12, (1 bsl 70) + 12, 12, 7, 6, 1, -1,
                       [<<"down">>, <<"fresh">>, <<"k">>, <<"n">>], none, []]},
                 py:call(t_callbacks, state_api, [])).

exact_keys(_) ->
    Keys = [1, 1.0, <<"1">>, '1', "1", {1}, [1.0], #{1 => 1}, #{1.0 => 1}, true, <<"true">>, none, [], {}, self(), 1 bsl 100],
    [ok = py:state_store(Key, {value, Key}) || Key <- Keys],
    ?assertEqual(length(Keys), length(py:state_keys())),
    [?assertEqual({ok, {value, Key}}, py:state_fetch(Key)) || Key <- Keys],
    %% Python's keys.
    ok = py:exec("
import erlang
erlang.state_clear()
for key in (1, 1.0, '1', True, None, (1, 2), (1.0, 2), 'gr\\u00fcn'):
    erlang.state_set(key, repr(key))
"),
    ?assertEqual({ok, <<"1">>}, py:state_fetch(1)),
    ?assertEqual({ok, <<"1.0">>}, py:state_fetch(1.0)),
    ?assertEqual({ok, <<"'1'">>}, py:state_fetch(<<"1">>)),
    ?assertEqual({ok, <<"True">>}, py:state_fetch(true)),
    ?assertEqual({ok, <<"(1, 2)">>}, py:state_fetch({1, 2})),
    ?assertEqual({ok, <<"(1.0, 2)">>}, py:state_fetch({1.0, 2})),
    ?assertMatch({ok, _}, py:state_fetch(<<"grün"/utf8>>)),
    ?assertEqual(8, length(py:state_keys())).

not_a_counter(_) ->
    lists:foreach(fun(Value) ->
        ok = py:state_store(k, Value),
        ?assertEqual({error, not_a_counter}, py:state_incr(k)),
        ?assertEqual({error, not_a_counter}, py:state_decr(k, 3)),
        ?assertEqual({ok, Value}, py:state_fetch(k)),
        ok = py:state_store(<<"k">>, Value),
        ?assertMatch({ok, {<<"TypeError">>, _}}, py:call(t_callbacks, state_error, [incr, <<"k">>])),
        ?assertEqual({ok, Value}, py:state_fetch(<<"k">>))
    end, [1.0, <<"1">>, none, [], #{}, {1}]).

bad_arguments(_) ->
    [?assertEqual({error, {bad_option, {by, Bad}}}, py:Count(k, Bad))
     || Count <- [state_incr, state_decr], Bad <- [1.5, one, <<"1">>, none]],
    ?assertEqual({error, not_found}, py:state_fetch(k)),
    ?assertMatch({ok, {<<"TypeError">>, _}}, py:call(t_callbacks, state_error, [incr, k, 1.5])),
    ?assertMatch({ok, {<<"TypeError">>, _}}, py:call(t_callbacks, state_error, [incr])),
    ?assertEqual({ok, {<<"ok">>, 1}}, py:call(t_callbacks, state_error, [incr, bool, true])),
    ?assertEqual({ok, {<<"ok">>, 1}}, py:call(t_callbacks, state_error, [decr, bool, false])),
    ?assertMatch({ok, {<<"TypeError">>, _}}, py:call(t_callbacks, state_error, [set, k])),
    ?assertMatch({ok, {<<"TypeError">>, _}}, py:call(t_callbacks, state_error, [get])),
    %% What no pynode would send.
    {py_state, node()} ! {py_rpc, 1, self(), none, infinity, {drop, all}},
    receive {py_reply, 1, Reply} -> ?assertEqual({error, bad_operation}, Reply) end,
    {py_state, node()} ! {py_rpc, 2, self(), none, infinity, {incr, k, a}},
    receive {py_reply, 2, Reply2} -> ?assertEqual({error, bad_operation}, Reply2) end,
    py_state ! anything,
    ?assertEqual(1, py:state_incr(k)).

%% What has come meanwhile is answered by one message for each asker, in its order; what may be large by itself.
answered_together(_) ->
    Self = self(),
    {Other, Ref} = spawn_monitor(fun() -> receive Message -> exit(Message) end end),
    ok = sys:suspend(py_state),
    Ask = fun(Id, Pid, Operation) -> py_state ! {py_rpc, Id, Pid, none, infinity, Operation} end,
    Ask(1, Self, {incr, k, 1}),
    Ask(2, Other, {incr, k, 10}),
    Ask(3, Self, {fetch, k}),
    Ask(4, Self, {store, l, v}),
    Ask(5, Self, {incr, l, 1}),
    Ask(6, Self, nonsense),
    ok = sys:resume(py_state),
    receive {py_replies, Replies} ->
        ?assertEqual([{py_reply, 1, {ok, 1}}, {py_reply, 4, {ok, ok}}, {py_reply, 5, {error, not_a_counter}}], Replies)
    end,
    receive {'DOWN', Ref, process, Other, Reply} -> ?assertEqual({py_reply, 2, {ok, 11}}, Reply) end,
    receive {py_reply, 3, Fetched} -> ?assertEqual({ok, 11}, Fetched) end,
    receive {py_reply, 6, Refused} -> ?assertEqual({error, bad_operation}, Refused) end,
    %% More than go into one message.
    ok = sys:suspend(py_state),
    [Ask(I, Self, {incr, many, 1}) || I <- lists:seq(1, 150)],
    ok = sys:resume(py_state),
    ?assertEqual([{py_reply, I, {ok, I}} || I <- lists:seq(1, 150)], collect(150)).

collect(N) when N =< 0 ->
    [];
collect(N) ->
    receive
        {py_replies, Replies} -> Replies ++ collect(N - length(Replies));
        {py_reply, _, _} = Reply -> [Reply | collect(N - 1)]
    end.

large_values(_) ->
    Large = binary:copy(<<"0123456789abcdef">>, 4 * 1024 * 1024),
    ok = py:state_store(<<"large">>, Large),
    ?assertEqual({ok, byte_size(Large)}, py:eval("len(__import__('erlang').state_get('large'))")),
    ?assertEqual({ok, none}, py:eval("__import__('erlang').state_set('larger', b'x' * (65 << 20))")),
    {ok, Larger} = py:state_fetch(<<"larger">>),
    ?assertEqual(65 bsl 20, byte_size(Larger)),
    %% Others are served meanwhile.
    Ref = py:call_async(builtins, len, [[]]),
    ?assertEqual({ok, 0}, py:await(Ref)),
    ok = py:state_clear().

large_counters(_) ->
    ?assertEqual(1 bsl 200, py:state_incr(k, 1 bsl 200)),
    ?assertEqual((1 bsl 200) - 1, py:state_decr(k)),
    ok = py:state_store(<<"e">>, (1 bsl 63) - 1),
    ?assertEqual({ok, {<<"ok">>, 1 bsl 63}}, py:call(t_callbacks, state_error, [incr, <<"e">>])).

deep_values(_) ->
    Deep = lists:foldl(fun(_, Acc) -> [Acc] end, [], lists:seq(1, 100)),
    ok = py:state_store(<<"deep">>, Deep),
    ?assertEqual({ok, Deep}, py:eval("__import__('erlang').state_get('deep')")),
    %% Too deep for Python: an exception there, no harm here.
    TooDeep = lists:foldl(fun(_, Acc) -> [Acc] end, [], lists:seq(1, 100000)),
    ok = py:state_store(<<"deep">>, TooDeep),
    ?assertMatch({error, {_, _}}, py:eval("__import__('erlang').state_get('deep')")),
    ?assertMatch({error, {_, _}}, py:eval("__import__('erlang').state_keys() and __import__('erlang').state_get('deep')")).

many_keys(_) ->
    [ok = py:state_store({key, N}, N) || N <- lists:seq(1, 20000)],
    ?assertEqual({ok, 20000}, py:eval("len(__import__('erlang').state_keys())")),
    ?assertEqual(20000, length(py:state_keys())).

seen_everywhere(_) ->
    Refs = [py:call_async(t_callbacks, state_error, [set, N, N * N]) || N <- lists:seq(1, 50)],
    [?assertMatch({ok, _}, py:await(Ref)) || Ref <- Refs],
    [?assertEqual({ok, N * N}, py:state_fetch(N)) || N <- lists:seq(1, 50)].

%%% Exactness

%% 10 000 increments each from 8 workers on 2 C-nodes, from Python's own threads, and from 4 Erlang processes, two of
%% which are on another node.
counters_exact(_) ->
    Second = pyn_ct:start(["--workers", "8", "--main-workers", "1", "--coordinator", atom_to_list(node())]),
    Peer = app_ct:start_peer([{coordinator, node()}, {nodes, []}]),
    ok = app_ct:on(Peer, fun app_ct:await_all/0),
    ok = pyn_ct:wait_until(fun() ->
        case pyn_ct:call(Second, {call, t_callbacks, time_of, [state_get, <<"x">>], #{}, 1000}) of
            {ok, {<<"ok">>, none, _}} -> ok;
            _ -> false
        end
    end),
    Key = <<"exact">>,
    Self = self(),
    Jobs = [fun() -> {ok, 10000} = py:call(t_callbacks, count, [Key, 10000], #{}, 150000) end || _ <- lists:seq(1, 4)]
        ++ [fun() -> {ok, 10000} = pyn_ct:call(Second, {call, t_callbacks, count, [Key, 10000], #{}, 150000}, 160000) end
            || _ <- lists:seq(1, 4)]
        ++ [fun() -> [py:state_incr(Key) || _ <- lists:seq(1, 10000)] end || _ <- [1, 2]]
        ++ [fun() -> app_ct:on(Peer, fun() -> [py:state_incr(Key) || _ <- lists:seq(1, 10000)], ok end) end || _ <- [1, 2]]
        ++ [fun() -> {ok, none} = py:call(t_callbacks, count_in_threads, [Key, 4, 1000], #{}, 150000) end],
    Pids = [spawn_link(fun() -> Job(), Self ! {done, self()} end) || Job <- Jobs],
    [receive {done, Pid} -> ok end || Pid <- Pids],
    ?assertEqual({ok, 12 * 10000 + 4000}, py:state_fetch(Key)),
    app_ct:stop_peer(Peer),
    ?assertEqual(0, pyn_ct:stop(Second)).

%% A store beside increments: what comes after it counts from it, and nothing else is ever seen.
store_and_count(_) ->
    Counter = spawn_link(fun() -> count_until(stop) end),
    [begin
         ok = py:state_store(c, N * 1000000),
         {ok, Value} = py:state_fetch(c),
         ?assert(Value >= N * 1000000 andalso Value < (N + 1) * 1000000)
     end || N <- lists:seq(1, 5000)],
    Ended = erlang:monitor(process, Counter),
    Counter ! stop,
    %% Its last increment is not to come into the next case.
    receive {'DOWN', Ended, process, Counter, _} -> ok end.

count_until(Stop) ->
    N = py:state_incr(c),
    true = is_integer(N),
    receive Stop -> ok after 0 -> count_until(Stop) end.

%%% Elsewhere

from_another_node(_) ->
    Peer = app_ct:start_peer([{coordinator, node()}, {nodes, []}]),
    ok = app_ct:on(Peer, fun app_ct:await_all/0),
    app_ct:on(Peer, fun() ->
        ok = py:state_store({a, 1.0}, #{b => c}),
        {ok, #{b := c}} = py:state_fetch({a, 1.0}),
        {error, not_found} = py:state_fetch(nothing),
        [1, 2, 3] = [py:state_incr(n) || _ <- [1, 2, 3]],
        {error, not_a_counter} = py:state_incr({a, 1.0}),
        [n, {a, 1.0}] = lists:sort(py:state_keys()),
        ok = py:state_remove(n),
        ok
    end),
    ?assertEqual([{a, 1.0}], py:state_keys()),
    app_ct:on(Peer, fun() -> ok = py:state_clear() end),
    ?assertEqual([], py:state_keys()),
    app_ct:stop_peer(Peer).

server_crash(_) ->
    ok = py:state_store(<<"k">>, 1),
    callback_SUITE:restart(py_state),
    ?assertEqual({ok, 1}, py:state_fetch(<<"k">>)),
    ?assertEqual({ok, {<<"ok">>, 2}}, py:call(t_callbacks, state_error, [incr, <<"k">>])).

%%% A bounded number of keys

bounded(_) ->
    [ok = py:state_store(N, N) || N <- lists:seq(1, 10)],
    ?assertEqual({error, state_full}, py:state_store(11, 11)),
    ?assertEqual({error, state_full}, py:state_incr(n)),
    ?assertMatch({ok, {<<"CallbackError">>, <<"state_full">>}}, py:call(t_callbacks, state_error, [set, 11, 11])),
    %% Those that are there can change.
    ?assertEqual(ok, py:state_store(1, <<"new">>)),
    ?assertEqual({ok, <<"new">>}, py:state_fetch(1)),
    ?assertEqual(3, py:state_incr(2)),
    ?assertEqual({error, not_a_counter}, py:state_incr(1)),
    ?assertEqual({ok, {<<"ok">>, 4}}, py:call(t_callbacks, state_error, [incr, 2])),
    ok = py:state_remove(1),
    ?assertEqual(1, py:state_incr(n)),
    ?assertEqual({error, state_full}, py:state_store(1, 1)).

bounded_exactly(_) ->
    Self = self(),
    Pids = [spawn_link(fun() ->
        Results = [case N rem 2 of 0 -> py:state_store({P, N}, N); 1 -> py:state_incr({P, N}) end || N <- lists:seq(1, 500)],
        Self ! {self(), length([R || R <- Results, R =:= ok orelse R =:= 1])}
    end) || P <- lists:seq(1, 8)],
    Made = lists:sum([receive {Pid, N} -> N end || Pid <- Pids]),
    ?assertEqual(10, Made),
    ?assertEqual(10, length(py:state_keys())).

without_application(_) ->
    ?assertEqual({error, coordinator_down}, py:state_fetch(k)),
    ?assertEqual({error, coordinator_down}, py:state_store(k, 1)),
    ?assertEqual({error, coordinator_down}, py:state_incr(k)),
    ?assertEqual({error, coordinator_down}, py:state_keys()),
    ?assertEqual({error, coordinator_down}, py:register_function(f, fun(_) -> 1 end)).

%% Who counts while the application stops finds a coordinator, and no table: that is no counter that holds something else.
stops_meanwhile(_) ->
    Terms = [{py_coordinators, [node()]}, {{py_state, limit}, infinity}],
    [ok = persistent_term:put(Key, Value) || {Key, Value} <- Terms],
    Result = py:state_incr(k),
    [true = persistent_term:erase(Key) || {Key, _} <- Terms],
    ?assertEqual({error, coordinator_down}, Result).
