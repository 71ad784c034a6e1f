%% The semaphore alone: no C-node, no distribution.
-module(py_semaphore_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0]).
-export([init_per_testcase/2, end_per_testcase/2]).

-export([
    limit_is_checked/1,
    release_without_slot/1,
    numbers/1,
    several_slots_of_one_process/1,
    full_is_said_in_time/1,
    full_is_said_at_once/1,
    call_says_overloaded/1,
    call_counts_the_wait/1,
    timeout_is_checked/1,
    without_application/1,
    refused_while_it_stops/1
]).
-export([
    in_order_of_arrival/1,
    nobody_overtakes/1,
    waiting_costs_nothing/1,
    raising_wakes/1,
    lowering_sinks/1
]).
-export([
    dead_holder_frees_for_waiter/1,
    dead_holder_frees_at_once/1,
    dead_holder_is_not_counted/1,
    dead_waiter_gets_nothing/1,
    slot_given_too_late_comes_back/1,
    slot_of_the_next_call_stays/1,
    server_crash_loses_no_slot/1,
    server_crash_ends_no_wait/1
]).
-export([
    never_above_limit/1,
    random_kills/1,
    random_timeouts/1,
    limit_changes_under_load/1
]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, api}, {group, waiting}, {group, death}, {group, load}].

groups() ->
    [
        {api, [], [
            limit_is_checked,
            release_without_slot,
            numbers,
            several_slots_of_one_process,
            full_is_said_in_time,
            full_is_said_at_once,
            call_says_overloaded,
            call_counts_the_wait,
            timeout_is_checked,
            without_application,
            refused_while_it_stops
        ]},
        {waiting, [], [
            in_order_of_arrival,
            nobody_overtakes,
            waiting_costs_nothing,
            raising_wakes,
            lowering_sinks
        ]},
        {death, [], [
            dead_holder_frees_for_waiter,
            dead_holder_frees_at_once,
            dead_holder_is_not_counted,
            dead_waiter_gets_nothing,
            slot_given_too_late_comes_back,
            slot_of_the_next_call_stays,
            server_crash_loses_no_slot,
            server_crash_ends_no_wait
        ]},
        {load, [], [
            never_above_limit,
            random_kills,
            random_timeouts,
            limit_changes_under_load
        ]}
    ].

init_per_testcase(_, Config) ->
    ok = py_semaphore:create(2),
    _ = start_server(),
    Config.

end_per_testcase(_, _) ->
    _ = is_pid(whereis(py_semaphore)) andalso stop_server(),
    _ = ets:info(py_semaphore) =/= undefined andalso ets:delete(py_semaphore),
    py_semaphore:forget().

%% API.

limit_is_checked(_) ->
    Server = whereis(py_semaphore),
    [?assertError(badarg, py_semaphore:set_max_concurrent(Bad))
     || Bad <- [0, -1, 1.0, many, <<"1">>, infinity, 16#100000000, 1 bsl 70]],
    ?assertEqual({2, Server}, {py_semaphore:max_concurrent(), whereis(py_semaphore)}),
    ok = py_semaphore:set_max_concurrent(16#ffffffff),
    ?assertEqual(16#ffffffff, py_semaphore:max_concurrent()).

release_without_slot(_) ->
    ok = py_semaphore:release(),
    ?assertEqual(0, py_semaphore:current()).

numbers(_) ->
    ?assertEqual({0, 2}, {py_semaphore:current(), py_semaphore:max_concurrent()}),
    ok = py_semaphore:acquire(1000),
    ?assertEqual(1, py_semaphore:current()),
    ok = py_semaphore:release(),
    ?assertEqual(0, py_semaphore:current()),
    ok = py_semaphore:set_max_concurrent(7),
    ?assertEqual(7, py_semaphore:max_concurrent()).

several_slots_of_one_process(_) ->
    ok = py_semaphore:acquire(0),
    ok = py_semaphore:acquire(0),
    ?assertEqual(2, py_semaphore:current()),
    ?assertEqual({error, max_concurrent}, py_semaphore:acquire(0)),
    ok = py_semaphore:release(),
    ok = py_semaphore:enter(0),
    ok = py_semaphore:leave(),
    ?assertEqual(1, py_semaphore:current()),
    ok = py_semaphore:release(),
    ok = py_semaphore:release(),
    ?assertEqual(0, py_semaphore:current()).

full_is_said_in_time(_) ->
    fill(2),
    %% The best of three, as the machine may stand still.
    ?assert(lists:any(fun(_) ->
        {Micros, Result} = timer:tc(fun() -> py_semaphore:acquire(100) end),
        ?assertEqual({error, max_concurrent}, Result),
        ?assert(Micros >= 100000),
        Micros < 1000000
    end, [1, 2, 3])),
    ?assertEqual(2, py_semaphore:current()),
    no_messages().

full_is_said_at_once(_) ->
    fill(2),
    ?assertEqual({error, max_concurrent}, py_semaphore:acquire(0)),
    ?assertEqual(2, py_semaphore:current()),
    no_messages().

call_says_overloaded(_) ->
    fill(2),
    ?assertEqual({error, {overloaded, 2, 2}}, py_semaphore:enter(20)),
    ?assertEqual({error, {overloaded, 2, 2}}, py_semaphore:enter(0)).

call_counts_the_wait(_) ->
    [Holder, _] = fill(2),
    Waiter = client(fun() -> py_semaphore:enter(5000) end),
    wait_until(fun() -> waiting() =:= 1 end),
    timer:sleep(50),
    stop(Holder),
    {waited, Left} = result(Waiter),
    ?assert(Left =< 4950),
    ?assert(Left > 0),
    Endless = client(fun() -> py_semaphore:enter(infinity) end),
    wait_until(fun() -> waiting() =:= 1 end),
    kill(Waiter),
    ?assertEqual({waited, infinity}, result(Endless)).

timeout_is_checked(_) ->
    [?assertError(badarg, py_semaphore:acquire(Bad)) || Bad <- [foo, -1, 1.0, <<"1">>, 16#100000000]],
    ok = py_semaphore:acquire(16#ffffffff),
    ok = py_semaphore:release(),
    ?assertEqual(0, py_semaphore:current()).

without_application(_) ->
    ok = py_semaphore:acquire(0),
    stop_server(),
    true = ets:delete(py_semaphore),
    ?assertEqual({error, no_nodes}, py_semaphore:enter(100)),
    ?assertEqual({error, no_nodes}, py_semaphore:acquire(100)),
    ?assertEqual({error, no_nodes}, py_semaphore:set_max_concurrent(3)),
    ?assertEqual(0, py_semaphore:current()),
    ok = py_semaphore:release(),
    ok = py_semaphore:leave(),
    ok = py_semaphore:forget(),
    ?assertEqual({error, no_nodes}, py_semaphore:enter(100)),
    ?assertEqual({error, no_nodes}, py_semaphore:acquire(100)),
    ?assertEqual({error, no_nodes}, py_semaphore:set_max_concurrent(3)),
    ?assertEqual({error, no_nodes}, py_semaphore:max_concurrent()),
    ?assertEqual(0, py_semaphore:current()),
    ok = py_semaphore:leave().

%% The server says that all slots are taken, and has ended, its table too, before that is read.
refused_while_it_stops(_) ->
    fill(2),
    Server = whereis(py_semaphore),
    ok = sys:suspend(Server),
    Caller = client(fun() -> py_semaphore:enter(0) end),
    wait_until(fun() -> process_info(Server, message_queue_len) =:= {message_queue_len, 1} end),
    true = erlang:suspend_process(Caller),
    ok = sys:resume(Server),
    wait_until(fun() -> process_info(Caller, message_queue_len) =:= {message_queue_len, 1} end),
    stop_server(),
    true = ets:delete(py_semaphore),
    ok = py_semaphore:forget(),
    true = erlang:resume_process(Caller),
    ?assertEqual({error, no_nodes}, result(Caller)).

%% Waiting.

in_order_of_arrival(_) ->
    ok = py_semaphore:set_max_concurrent(1),
    [Holder] = fill(1),
    Self = self(),
    Waiters = [
        begin
            Pid = client(fun() -> ok = py_semaphore:acquire(infinity), Self ! {turn, N} end),
            wait_until(fun() -> waiting() =:= N end),
            Pid
        end
     || N <- lists:seq(1, 20)
    ],
    stop(Holder),
    Turns = [receive {turn, N} -> stop(Pid), N end || Pid <- Waiters],
    ?assertEqual(lists:seq(1, 20), Turns),
    wait_until(fun() -> py_semaphore:current() =:= 0 end).

%% The slot that becomes free is the waiter's, however fast somebody else is.
nobody_overtakes(_) ->
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(0),
    Waiter = client(fun() -> py_semaphore:acquire(infinity) end),
    wait_until(fun() -> waiting() =:= 1 end),
    ok = py_semaphore:release(),
    ?assertEqual({error, max_concurrent}, py_semaphore:acquire(0)),
    ?assertEqual(ok, result(Waiter)).

waiting_costs_nothing(_) ->
    fill(2),
    Waiter = client(fun() -> py_semaphore:acquire(infinity) end),
    %% The server may hear of it before it waits itself.
    wait_until(fun() -> waiting() =:= 1 andalso process_info(Waiter, status) =:= {status, waiting} end),
    Before = process_info(Waiter, reductions),
    timer:sleep(300),
    ?assertEqual(Before, process_info(Waiter, reductions)).

raising_wakes(_) ->
    fill(2),
    Waiters = [client(fun() -> py_semaphore:acquire(infinity) end) || _ <- lists:seq(1, 3)],
    wait_until(fun() -> waiting() =:= 3 end),
    ok = py_semaphore:set_max_concurrent(4),
    wait_until(fun() -> py_semaphore:current() =:= 4 end),
    ?assertEqual(1, waiting()),
    ok = py_semaphore:set_max_concurrent(5),
    ?assertEqual([ok, ok, ok], [result(W) || W <- Waiters]),
    ?assertEqual(5, py_semaphore:current()).

lowering_sinks(_) ->
    ok = py_semaphore:set_max_concurrent(5),
    Holders = fill(5),
    ok = py_semaphore:set_max_concurrent(2),
    ?assertEqual({5, 2}, {py_semaphore:current(), py_semaphore:max_concurrent()}),
    Waiter = client(fun() -> py_semaphore:acquire(infinity) end),
    wait_until(fun() -> waiting() =:= 1 end),
    {Three, [Fourth, _]} = lists:split(3, Holders),
    lists:foreach(fun stop/1, Three),
    ?assertEqual({error, max_concurrent}, py_semaphore:acquire(50)),
    ?assertEqual(2, py_semaphore:current()),
    stop(Fourth),
    ?assertEqual(ok, result(Waiter)),
    ?assertEqual(2, py_semaphore:current()).

%% Death.

%% Within 50 ms, if the machine does not stand still at that moment: the best of five.
dead_holder_frees_for_waiter(_) ->
    Holders = fill(2),
    {Took, Left} = lists:mapfoldl(fun(_, [Holder | Rest]) ->
        Waiter = client(fun() -> py_semaphore:acquire(infinity) end),
        wait_until(fun() -> waiting() =:= 1 end),
        {Micros, ok} = timer:tc(fun() -> kill(Holder), result(Waiter) end),
        ?assertEqual(2, py_semaphore:current()),
        {Micros, Rest ++ [Waiter]}
    end, Holders, lists:seq(1, 5)),
    ?assertEqual(2, length(Left)),
    ?assert(lists:min(Took) < 50000, Took).

dead_holder_frees_at_once(_) ->
    [kill(Holder) || Holder <- fill(2)],
    ?assertEqual(ok, py_semaphore:acquire(0)),
    ?assertEqual(ok, py_semaphore:acquire(0)),
    ?assertEqual({error, max_concurrent}, py_semaphore:acquire(0)).

dead_holder_is_not_counted(_) ->
    [Holder, _] = fill(2),
    kill(Holder),
    ?assertEqual(1, py_semaphore:current()).

dead_waiter_gets_nothing(_) ->
    [Holder, _] = fill(2),
    [First, Second] = [
        begin
            Pid = client(fun() -> py_semaphore:acquire(infinity) end),
            wait_until(fun() -> waiting() =:= N end),
            Pid
        end
     || N <- [1, 2]
    ],
    kill(First),
    wait_until(fun() -> waiting() =:= 1 end),
    stop(Holder),
    ?assertEqual(ok, result(Second)),
    ?assertEqual(2, py_semaphore:current()).

%% The waiter gives up while the server does not run, and takes a slot by itself. What the server reads then is over.
slot_of_the_next_call_stays(_) ->
    Holders = [First, Second] = fill(2),
    ok = sys:suspend(py_semaphore),
    Caller = client(fun() ->
        {error, {overloaded, 2, 2}} = py_semaphore:enter(1),
        lists:foreach(fun stop_other/1, Holders),
        py_semaphore:enter(1)
    end),
    ?assertEqual(ok, result(Caller)),
    [false, false] = [is_process_alive(Holder) || Holder <- [First, Second]],
    ok = sys:resume(py_semaphore),
    ?assertEqual(0, waiting()),
    ?assertEqual(1, py_semaphore:current()),
    ?assertEqual([ok, {error, max_concurrent}], [result(client(fun() -> py_semaphore:acquire(0) end)) || _ <- [1, 2]]).

stop_other(Pid) ->
    Monitor = monitor(process, Pid),
    Pid ! stop,
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%% The waiter gives up while the server does not run: the slot is given after that, and taken back.
slot_given_too_late_comes_back(_) ->
    [Holder, _] = fill(2),
    %% Before there is one: else that may have given up before it is seen to wait.
    ok = sys:suspend(py_semaphore),
    Waiter = client(fun() -> py_semaphore:acquire(100) end),
    wait_until(fun() -> process_info(whereis(py_semaphore), message_queue_len) > {message_queue_len, 0} end),
    stop(Holder),
    ?assertEqual({error, max_concurrent}, result(Waiter)),
    ok = sys:resume(py_semaphore),
    wait_until(fun() -> waiting() =:= 0 end),
    ?assertEqual(1, py_semaphore:current()),
    ?assertEqual(ok, py_semaphore:acquire(0)).

server_crash_loses_no_slot(_) ->
    fill(2),
    kill(whereis(py_semaphore)),
    _ = start_server(),
    ?assertEqual(2, py_semaphore:current()),
    ?assertEqual({error, max_concurrent}, py_semaphore:acquire(10)),
    ok = py_semaphore:set_max_concurrent(3),
    ?assertEqual(ok, py_semaphore:acquire(10)).

%% Those who wait go on waiting, each for its own time, whether the server is back soon or not.
server_crash_ends_no_wait(_) ->
    [Holder, _] = fill(2),
    Waiter = client(fun() -> py_semaphore:enter(20000) end),
    wait_until(fun() -> waiting() =:= 1 end),
    %% As if it ended between giving a slot and saying so: nobody has that one.
    [{waiter, Waiter, Ref, Key}] = queue:to_list(element(3, sys:get_state(py_semaphore))),
    true = ets:insert(py_semaphore, {Key, Waiter, Ref}),
    kill(whereis(py_semaphore)),
    wait_until(fun() -> ets:info(py_semaphore, size) =:= 2 end),
    {Micros, Full} = timer:tc(fun() -> py_semaphore:acquire(100) end),
    ?assertEqual({error, max_concurrent}, Full),
    ?assert(Micros >= 90000, Micros),
    ?assertEqual({error, max_concurrent}, py_semaphore:acquire(0)),
    _ = start_server(),
    wait_until(fun() -> waiting() =:= 1 end),
    stop(Holder),
    {waited, Left} = result(Waiter),
    ?assert(Left =< 19900, Left),
    ?assertEqual(2, py_semaphore:current()).

%% Load.

never_above_limit(_) ->
    Limit = 5,
    ok = py_semaphore:set_max_concurrent(Limit),
    Running = atomics:new(2, []),
    Watcher = spawn_link(fun() -> watch_current(Limit) end),
    run_all(50, fun() ->
        repeat(200, fun() -> with_slot(infinity, fun() -> note_running(Running) end) end)
    end),
    unlink(Watcher),
    kill(Watcher),
    ?assert(atomics:get(Running, 2) =< Limit),
    ?assert(atomics:get(Running, 2) > 1),
    ?assertEqual(0, py_semaphore:current()).

watch_current(Limit) ->
    true = py_semaphore:current() =< Limit,
    erlang:yield(),
    watch_current(Limit).

random_kills(_) ->
    ok = py_semaphore:set_max_concurrent(7),
    Running = atomics:new(2, []),
    Victims = [
        spawn(fun() -> forever(fun() -> with_slot(infinity, fun erlang:yield/0) end) end)
     || _ <- lists:seq(1, 200)
    ],
    %% The killer takes its time between some of the kills, so that they hit at many different points.
    lists:foreach(fun(Pid) ->
        _ = [erlang:yield() || _ <- lists:seq(1, rand:uniform(200))],
        exit(Pid, kill)
    end, shuffled(Victims)),
    wait_until(fun() -> py_semaphore:current() =:= 0 end),
    run_all(20, fun() -> with_slot(10000, fun() -> note_running(Running) end) end),
    ?assert(atomics:get(Running, 2) =< 7),
    ?assertEqual(0, py_semaphore:current()),
    ?assertEqual(0, ets:info(py_semaphore, size)).

random_timeouts(_) ->
    ok = py_semaphore:set_max_concurrent(3),
    Running = atomics:new(2, []),
    run_all(60, fun() ->
        repeat(100, fun() ->
            with_slot(rand:uniform(4) - 1, fun() -> note_running(Running), timer:sleep(1) end)
        end),
        no_messages()
    end),
    ?assert(atomics:get(Running, 2) =< 3),
    wait_until(fun() -> py_semaphore:current() =:= 0 end),
    ?assertEqual(0, waiting()).

limit_changes_under_load(_) ->
    Changer = spawn_link(fun() ->
        forever(fun() -> py_semaphore:set_max_concurrent(rand:uniform(10)), erlang:yield() end)
    end),
    run_all(50, fun() -> repeat(100, fun() -> with_slot(infinity, fun erlang:yield/0) end) end),
    unlink(Changer),
    kill(Changer),
    wait_until(fun() -> py_semaphore:current() =:= 0 end).

%% Helpers.

start_server() ->
    {ok, Pid} = py_semaphore:start_link(),
    true = unlink(Pid),
    Pid.

stop_server() ->
    gen_server:stop(py_semaphore).

%% A process that does something, keeps the result and lives until it is told to stop: it releases nothing itself.
client(Fun) ->
    spawn_link(fun() ->
        Result = Fun(),
        receive {result, From} -> From ! {result, self(), Result} end,
        receive stop -> ok end
    end).

result(Pid) ->
    Pid ! {result, self()},
    Monitor = monitor(process, Pid),
    receive
        {result, Pid, Result} -> demonitor(Monitor, [flush]), Result;
        {'DOWN', Monitor, process, Pid, Why} -> error({client, Why})
    end.

fill(N) ->
    Holders = [
        spawn_link(fun() ->
            ok = py_semaphore:acquire(1000),
            receive stop -> py_semaphore:release() end
        end)
     || _ <- lists:seq(1, N)
    ],
    wait_until(fun() -> py_semaphore:current() =:= N end),
    Holders.

stop(Pid) ->
    unlink(Pid),
    Monitor = monitor(process, Pid),
    Pid ! {result, self()},
    Pid ! stop,
    receive {'DOWN', Monitor, process, Pid, _} -> ok end,
    receive {result, Pid, _} -> ok after 0 -> ok end.

kill(Pid) ->
    unlink(Pid),
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%% How many wait: the queue is the third field of the server's state.
waiting() ->
    queue:len(element(3, sys:get_state(py_semaphore))).

with_slot(Timeout, Fun) ->
    case py_semaphore:acquire(Timeout) of
        ok -> Fun(), py_semaphore:release();
        {error, max_concurrent} -> refused
    end.

%% The first number is how many run, the second the most that ever did.
note_running(Running) ->
    Now = atomics:add_get(Running, 1, 1),
    raise(Running, Now),
    erlang:yield(),
    atomics:sub(Running, 1, 1).

raise(Running, Now) ->
    case atomics:get(Running, 2) of
        Most when Now > Most ->
            case atomics:compare_exchange(Running, 2, Most, Now) of
                ok -> ok;
                _ -> raise(Running, Now)
            end;
        _ ->
            ok
    end.

run_all(N, Fun) ->
    Started = [spawn_monitor(Fun) || _ <- lists:seq(1, N)],
    [receive {'DOWN', Monitor, process, _, Why} -> ?assertEqual(normal, Why) end || {_, Monitor} <- Started].

repeat(0, _) -> ok;
repeat(N, Fun) -> _ = Fun(), repeat(N - 1, Fun).

forever(Fun) -> _ = Fun(), forever(Fun).

shuffled(List) ->
    [X || {_, X} <- lists:sort([{rand:uniform(), X} || X <- List])].

no_messages() ->
    ?assertEqual({messages, []}, process_info(self(), messages)).

wait_until(Condition) ->
    wait_until(Condition, erlang:monotonic_time(millisecond) + 20000).

wait_until(Condition, Deadline) ->
    case Condition() of
        true -> ok;
        false ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline),
            timer:sleep(2),
            wait_until(Condition, Deadline)
    end.
