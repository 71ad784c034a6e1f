%% Rate limiting, observed where it counts: in Python, by a counter that all interpreters share.
-module(rate_limit_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-define(CALLERS, 50).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [configured, fifty_callers, fair, every_kind_of_call, overloaded, changed_while_running, casts_are_not_counted].

%% More workers than slots: what keeps the number down is the semaphore.
init_per_suite(Config) ->
    ok = app_ct:start([{max_concurrent, 5} | app_ct:workers(8)]),
    Config.

end_per_suite(_Config) -> app_ct:stop().

init_per_testcase(_, Config) ->
    ok = py_semaphore:set_max_concurrent(5),
    ok = py:state_clear(),
    Config.

end_per_testcase(_, _Config) ->
    pyn_ct:wait_until(fun() -> py_semaphore:current() =:= 0 end),
    ok.

configured(_Config) ->
    ?assertEqual(5, py_semaphore:max_concurrent()).

%% Never more than five at once, and five at times.
fifty_callers(_Config) ->
    Results = lists:append(callers(fun(_) -> [inside(<<"n">>, 0.02) || _ <- lists:seq(1, 5)] end)),
    ?assertEqual(?CALLERS * 5, length([N || {ok, N} <- Results])),
    ?assertEqual(5, lists:max([N || {ok, N} <- Results])),
    ?assertEqual({ok, 0}, py:state_fetch(<<"n">>)).

%% In the order of arrival, as the semaphore sees it: a caller, or its worker in Python, may stand still in between.
fair(_Config) ->
    Semaphore = whereis(py_semaphore),
    1 = erlang:trace(Semaphore, true, [send, 'receive']),
    Results = lists:append(callers(fun(_) -> [inside(<<"n">>, 0.005) || _ <- lists:seq(1, 8)] end)),
    1 = erlang:trace(Semaphore, false, [send, 'receive']),
    Delivered = erlang:trace_delivered(Semaphore),
    receive {trace_delivered, Semaphore, Delivered} -> ok end,
    {Waited, Granted} = traced([], []),
    ?assertEqual(?CALLERS * 8, length([N || {ok, N} <- Results])),
    ?assertEqual(Waited, Granted),
    ?assert(length(Granted) > ?CALLERS).

%% The references of those who came to wait, and of those who got a slot.
traced(Waited, Granted) ->
    receive
        {trace, _, 'receive', {'$gen_cast', {wait, _, Ref, _, _}}} -> traced([Ref | Waited], Granted);
        {trace, _, send, {Ref, granted}, _} -> traced(Waited, [Ref | Granted]);
        {trace, _, _, _} -> traced(Waited, Granted);
        {trace, _, _, _, _} -> traced(Waited, Granted)
    after 0 -> {lists:reverse(Waited), lists:reverse(Granted)}
    end.

%% Whatever the call is made by.
every_kind_of_call(_Config) ->
    ok = py:exec(<<"from t_parallel import inside">>),
    Kinds = [fun() -> inside(<<"n">>, 0.01) end,
             fun() -> py:await(py:call_async(t_parallel, inside, [<<"n">>, 0.01])) end,
             fun() -> {ok, [R]} = py:parallel([{t_parallel, inside, [<<"n">>, 0.01]}]), R end,
             fun() -> py:eval(<<"__import__('t_parallel').inside('n', 0.01)">>) end],
    Results = callers(fun(N) -> (lists:nth(1 + N rem length(Kinds), Kinds))() end),
    ?assertEqual(?CALLERS, length([N || {ok, N} <- Results, N =< 5])).

%% Five have the slots until the others have had no time left.
overloaded(_Config) ->
    {ok, Pid} = py:call(os, getpid, []),
    First = [spawn_monitor(fun() -> exit({result, py:call(t_parallel, meet, [<<"met">>, 6, 60], #{}, infinity)}) end)
             || _ <- lists:seq(1, 5)],
    pyn_ct:wait_until(fun() -> py:state_fetch(<<"met">>) =:= {ok, 5} end),
    Others = callers(fun(_) -> timer:tc(fun() -> py:call(t_slow, sleep, [1], #{}, 200) end) end),
    ok = py:state_store(<<"met">>, 6),
    ?assertEqual([{ok, Pid} || _ <- First], results(First)),
    ?assertEqual([{error, {overloaded, 5, 5}}], lists:usort([R || {_, R} <- Others])),
    ?assert(lists:min([Micros || {Micros, _} <- Others]) >= 199000),
    %% At once where there is no time to wait.
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(1000),
    ?assertEqual({error, {overloaded, 1, 1}}, py:call(math, sqrt, [16], #{}, 0)),
    ok = py_semaphore:release().

%% Lower and higher while fifty callers go on; each limit is reached, and none is passed once what ran before has ended.
changed_while_running(_Config) ->
    Stop = counters:new(1, []),
    ok = py:state_store(<<"phase">>, <<"between">>),
    Self = self(),
    Seen = ets:new(seen, [public]),
    Changer = spawn_link(fun() -> Self ! {phases, [phase(Max, Seen) || Max <- [2, 8, 1, 6]]}, ok = counters:add(Stop, 1, 1) end),
    Results = lists:append(callers(fun(_) -> until(Stop, Seen, []) end)),
    Phases = receive {phases, P} -> P end,
    unlink(Changer),
    [begin
         Numbers = [N || {ok, {Ph, N}} <- Results, Ph =:= Phase],
         ?assertEqual({Max, Max}, {Max, lists:max(Numbers)})
     end || {Max, Phase} <- Phases],
    ?assertEqual([], [R || R <- Results, element(1, R) =/= ok]).

%% Only what begins while exactly this limit holds is counted for it.
phase(Max, Seen) ->
    ok = py_semaphore:set_max_concurrent(Max),
    pyn_ct:wait_until(fun() -> py_semaphore:current() =< Max end),
    Phase = <<"phase ", (integer_to_binary(Max))/binary>>,
    ok = py:state_store(<<"phase">>, Phase),
    %% So many were in there; and some time for more to come in.
    pyn_ct:wait_until(fun() -> ets:member(Seen, {ok, {Phase, Max}}) end),
    timer:sleep(300),
    ok = py:state_store(<<"phase">>, <<"between">>),
    {Max, Phase}.

until(Stop, Seen, Done) ->
    case counters:get(Stop, 1) of
        0 ->
            Result = py:call(t_parallel, inside_phase, [0.01], #{}, infinity),
            true = ets:insert(Seen, {Result}),
            until(Stop, Seen, [Result | Done]);
        _ ->
            Done
    end.

casts_are_not_counted(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(1000),
    ok = py:cast(erlang, state_set, [<<"cast">>, 1]),
    pyn_ct:wait_until(fun() -> py:state_fetch(<<"cast">>) =:= {ok, 1} end),
    ok = py_semaphore:release().

inside(Key, Seconds) ->
    py:call(t_parallel, inside, [Key, Seconds], #{}, infinity).

callers(Fun) ->
    results([spawn_monitor(fun() -> exit({result, Fun(N)}) end) || N <- lists:seq(1, ?CALLERS)]).

results(Started) ->
    [receive {'DOWN', Ref, process, Pid, Reason} -> {result, R} = Reason, R end || {Pid, Ref} <- Started].
