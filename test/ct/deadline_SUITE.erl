%% Deadlines, interrupts, cancelling, admission, and the death of callers. What ran and what did not is seen by files that
%% Python code writes to.
-module(deadline_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([timeout_while_sleeping/1, timeout_while_looping/1, timeout_in_eval_and_exec/1, timeout_while_converting/1,
         timeout_while_c_holds_the_lock/1, timeout_of_nothing/1, timeout_errors_of_python/1, many_timeouts/1, many_at_once/1,
         late_interrupts/1, late_interrupts_among_others/1, clean_up_code_runs/1, swallowed_interrupts/1, imports/1, imports_go_on/1,
         stuck_workers_are_replaced/1, too_many_stuck_workers/1, stuck_worker_comes_back/1,
         expired_in_queue/1, cancel_running/1, cancel_by_alias/1, cancel_queued/1, cancel_at_once/1, cancel_nothing/1,
         caller_dies_while_running/1, caller_dies_while_queued/1, node_of_callers_stops/1,
         peer_with_many_closes/1, node_of_callers_is_killed/1,
         overloaded/1, overloaded_by_many/1, reading_goes_on/1]).
-include_lib("stdlib/include/assert.hrl").

%% How much later than at its deadline an answer may come, on a busy machine, in ms.
-define(LATE, 300).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [timeout_while_sleeping, timeout_while_looping, timeout_in_eval_and_exec, timeout_while_converting,
     timeout_while_c_holds_the_lock, timeout_of_nothing, timeout_errors_of_python, many_timeouts, many_at_once,
     late_interrupts, late_interrupts_among_others, clean_up_code_runs, swallowed_interrupts, imports, imports_go_on,
     stuck_workers_are_replaced, too_many_stuck_workers, stuck_worker_comes_back,
     expired_in_queue, cancel_running, cancel_by_alias, cancel_queued, cancel_at_once, cancel_nothing,
     caller_dies_while_running, caller_dies_while_queued, node_of_callers_stops, node_of_callers_is_killed,
     peer_with_many_closes,
     overloaded, overloaded_by_many, reading_goes_on].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    pyn_ct:stop_all().

%% A pynode for each case, as they leave workers stuck; so many workers.
init_per_testcase(Case, Config) ->
    Args = case Case of
               too_many_stuck_workers -> ["--workers", "2", "--max-stuck", "2", "--drain-timeout", "500"];
               many_at_once -> ["--workers", "32"];
               peer_with_many_closes -> ["--workers", "150", "--mode", "multi_executor"];
               overloaded -> ["--workers", "1", "--max-queue", "4"];
               overloaded_by_many -> ["--workers", "2", "--max-queue", "4"];
               _ -> ["--workers", integer_to_list(workers(Case))]
           end,
    [{pynode, pyn_ct:start(Args)} | Config].

workers(timeout_while_looping) -> 2;
workers(many_timeouts) -> 2;
workers(late_interrupts_among_others) -> 4;
workers(node_of_callers_stops) -> 2;
workers(node_of_callers_is_killed) -> 2;
workers(_) -> 1.

end_per_testcase(too_many_stuck_workers, _Config) ->
    pyn_ct:stop_all();
end_per_testcase(_Case, Config) ->
    %% Where the case has failed its own reason is what counts, and a worker may still be kept.
    Works = case proplists:get_value(tc_status, Config) of
                ok -> catch pyn_ct:call(pynode(Config), {call, math, sqrt, [16]}, 10000);
                _ -> {ok, 4.0}
            end,
    Log = lists:sublist(lists:reverse(pyn_ct:log(pynode(Config))), 20),
    pyn_ct:stop_all(),
    case Works of
        {ok, 4.0} -> ok;
        Other -> {fail, {node_does_not_work, Other, Log}}
    end.

pynode(Config) -> proplists:get_value(pynode, Config).

call(Config, F, Args) -> call(Config, F, Args, 30000).
call(Config, F, Args, Timeout) -> pyn_ct:call(pynode(Config), {call, t_slow, F, Args, #{}, Timeout}).

info(Config, Key) -> pyn_ct:info(pynode(Config), Key).

%%% Timeouts

timeout_while_sleeping(Config) ->
    Late = counters:new(1, []),
    [on_time(Ms, fun() -> {error, timeout} = call(Config, sleep, [1.0], Ms), counters:add(Late, 1, 1) end) || Ms <- [200, 50]],
    {ok, <<"slept">>} = call(Config, sleep, [0.01], 5000),
    {ok, <<"slept">>} = call(Config, sleep, [0.01], infinity),
    ?assertEqual(counters:get(Late, 1), info(Config, timeouts)).

timeout_while_looping(Config) ->
    File = file(Config),
    %% Again where the time was over before it began.
    pyn_ct:wait_until(fun() ->
        on_time(200, fun() -> {error, timeout} = call(Config, spin_counting, [File], 200) end),
        idle(Config),
        filelib:file_size(File) > 0
    end),
    %% The loop is really ended.
    Size = filelib:file_size(File),
    [{ok, <<"done">>} = call(Config, spin_for, [0.05]) || _ <- [1, 2, 3, 4]],
    Size = filelib:file_size(File),
    not_stuck(Config).

timeout_in_eval_and_exec(Config) ->
    P = pynode(Config),
    on_time(100, fun() -> {error, timeout} = pyn_ct:call(P, {exec, <<"while True: pass">>, 100}) end),
    idle(Config),
    on_time(100, fun() ->
        {error, timeout} = pyn_ct:call(P, {eval, <<"[x for x in iter(int, 1)]">>, #{}, #{timeout => 100}})
    end),
    idle(Config),
    on_time(100, fun() ->
        {error, timeout} = pyn_ct:call(P, {exec, <<"while True: pass">>, #{timeout => 100, traceback => true}})
    end),
    idle(Config),
    not_stuck(Config).

%% The call has returned; what it returned takes for ever.
timeout_while_converting(Config) ->
    P = pynode(Config),
    on_time(100, fun() ->
        {error, timeout} = pyn_ct:call(P, {eval, <<"(x for x in iter(int, 1) if x)">>, #{}, 100})
    end),
    idle(Config),
    %% All of it in C. It does not go on until there is no more room.
    [on_time(100, 100 + ?LATE + 800, fun() ->
         on_time(100, fun() -> {error, timeout} = pyn_ct:call(P, Request) end),
         idle(Config)
     end) || Request <- [{eval, <<"__import__('itertools').count()">>, #{}, 100},
                         {call, itertools, count, [], #{}, #{async => stream, timeout => 100}}]],
    on_time(100, fun() ->
        {error, timeout} =
            pyn_ct:call(P, {eval, <<"type('Slow', (), {'__str__': lambda s: [x for x in iter(int, 1)]})()">>, #{}, 100})
    end),
    idle(Config),
    not_stuck(Config).

%% One long instruction of C code that lets nobody else run Python: the caller has its answer all the same, and so have
%% those who ask the node.
timeout_while_c_holds_the_lock(Config) ->
    P = pynode(Config),
    Code = <<"(lambda t: (t(), sum(range(3000000)), t()))(__import__('time').perf_counter)">>,
    Took = lists:min([begin {ok, {T0, _, T1}} = pyn_ct:call(P, {eval, Code}), T1 - T0 end || _ <- [1, 2, 3]]),
    N = integer_to_binary(trunc(3000000 / max(Took, 0.001))), % about a second of it
    %% Both in one go: a second look at the node alone would come when the lock is free again.
    on_time(150, fun() ->
        {error, timeout} = pyn_ct:call(P, {eval, <<"sum(range(", N/binary, "))">>, #{}, 150}),
        #{} = pyn_ct:info(P)
    end),
    idle(Config).

timeout_of_nothing(Config) ->
    File = file(Config),
    [on_time(0, fun() -> {error, timeout} = call(Config, mark, [File], 0) end) || _ <- lists:seq(1, 20)],
    {ok, 1} = call(Config, echo, [1]),
    {error, enoent} = file:read_file(File).

timeout_errors_of_python(Config) ->
    {error, {'TimeoutError', "my own"}} = call(Config, timeout_error, []),
    ok = pyn_ct:call(pynode(Config), {exec, <<"import asyncio\n"
                                              "async def f(): await asyncio.wait_for(asyncio.sleep(5), 0.01)\n"
                                              "def g(): asyncio.run(f())">>}),
    {error, {'TimeoutError', []}} = pyn_ct:call(pynode(Config), {call, '__main__', g, []}),
    0 = info(Config, timeouts).

%% More of them than workers: the queued ones are on time as well.
many_timeouts(Config) ->
    Late = counters:new(1, []),
    Callers = [spawn_monitor(fun() ->
                   Timeout = 100 + I * 10,
                   on_time(Timeout, fun() -> {error, timeout} = call(Config, spin, [], Timeout), counters:add(Late, 1, 1) end)
               end) || I <- lists:seq(1, 40)],
    ended(Callers),
    idle(Config),
    ?assertEqual(counters:get(Late, 1), info(Config, timeouts)).

%% So many that each is interrupted long before it has the interpreter, or a core: that is not to be stuck. The limits leave
%% one of some thousand; without regard to what else runs it were 30 of these.
many_at_once(Config) ->
    [begin
         Callers = [spawn_monitor(fun() -> {error, timeout} = call(Config, spin, [], 200) end) || _ <- lists:seq(1, 32)],
         ended(Callers)
     end || _ <- lists:seq(1, 10)],
    idle(Config),
    ?assert(info(Config, stuck_total) =< 8).

%%% Interrupts

%% Calls that end just about when their time does, each followed by one that must not notice.
late_interrupts(Config) ->
    Ends = [begin
                End = call(Config, spin_for, [0.010 + rand:uniform() * 0.004], 12),
                [{ok, <<"done">>} = call(Config, spin_for, [0.001], 5000) || _ <- [1, 2]],
                End
            end || _ <- lists:seq(1, 200)],
    [] = lists:usort(Ends) -- [{ok, <<"done">>}, {error, timeout}],
    ct:log("~p of 200 came too late", [length([E || E = {error, timeout} <- Ends])]),
    idle(Config),
    not_stuck(Config).

%% Interrupts of one call do not hit those that other workers run at the same time.
late_interrupts_among_others(Config) ->
    Others = [spawn_monitor(fun() ->
                  [{ok, <<"done">>} = call(Config, spin_for, [0.002], 20000) || _ <- lists:seq(1, 150)]
              end) || _ <- [1, 2]],
    [case call(Config, spin_for, [0.004 + rand:uniform() * 0.004], 8) of
         {ok, <<"done">>} -> ok;
         {error, timeout} -> ok
     end || _ <- lists:seq(1, 60)],
    ended(Others).

clean_up_code_runs(Config) ->
    Ends = [begin
                File = file(Config),
                {error, timeout} = call(Config, spin_with_cleanup, [File], 100),
                idle(Config),
                file:read_file(File)
            end || _ <- lists:seq(1, 5)],
    %% Most of them: the time of one may be over before it begins, or its worker stand still until the second interrupt is
    %% there, which then hits the clean-up.
    ?assert(length([clean || {ok, <<"clean">>} <- Ends]) >= 3, Ends).

%% Code that catches the interrupt is interrupted again; code that does so for ever costs its worker.
swallowed_interrupts(Config) ->
    Late = fun(Times) ->
        on_time(100, fun() -> File = file(Config), {error, timeout} = call(Config, swallow, [File, Times], 100), File end)
    end,
    %% Again where the time was over before it began, or its worker stood still until the second interrupt was there.
    pyn_ct:wait_until(fun() ->
        File = Late(1),
        idle(Config),
        file:read_file(File) =:= {ok, <<"sii">>}
    end),
    not_stuck(Config),
    Before = info(Config, stuck_total),
    pyn_ct:wait_until(fun() ->
        _ = Late(1000),
        pyn_ct:wait_until(fun() -> info(Config, stuck_total) > Before orelse info(Config, in_flight) =:= 0 end),
        info(Config, stuck_total) > Before
    end),
    {ok, 1} = call(Config, echo, [1]).

%% The import system itself is not interrupted, what it runs of a module is when it does not end for some seconds. Nobody
%% waits for its locks afterwards.
imports(Config) ->
    P = pynode(Config),
    pyn_ct:wait_until(fun() ->
        Marks = on_time(50, fun() ->
            File = file(Config),
            {error, timeout} = pyn_ct:call(P, {call, t_finder, look, [File, 0.4], #{}, 50}),
            File
        end),
        idle(Config),
        case file:read_file(Marks) of
            {ok, <<"begun ended">>} -> true;
            {error, enoent} -> false % its time was over before it began
        end
    end),
    {error, {'ModuleNotFoundError', _}} = pyn_ct:call(P, {call, t_finder, look, [file(Config), 0], #{}, 5000}),
    [begin
         on_time(100, fun() -> {error, timeout} = pyn_ct:call(P, {call, t_endless, f, [], #{}, 100}) end),
         idle(Config)
     end || _ <- [1, 2]],
    not_stuck(Config).

%% A package whose import was broken off could not be imported again: what of it is there already is not looked at.
%% Whoever comes later finds what the call that was late has imported.
imports_go_on(Config) ->
    P = pynode(Config),
    {error, timeout} = pyn_ct:call(P, {call, t_package, f, [], #{}, 100}),
    {ok, <<"there">>} = pyn_ct:call(P, {call, t_package, f, [], #{}, 30000}),
    {ok, 1} = pyn_ct:call(P, {call, t_package, times_imported, []}),
    %% The import ends, the call does not go on.
    pyn_ct:wait_until(fun() ->
        {error, timeout} = pyn_ct:call(P, {eval, <<"(__import__('t_package_too'), print('went on'))">>, #{}, 100}),
        idle(Config),
        {ok, true} =:= pyn_ct:call(P, {eval, <<"'t_package_too' in __import__('sys').modules">>}) % else it had not begun
    end),
    false = lists:any(fun(L) -> string:find(L, "went on") =/= nomatch end, pyn_ct:log(P)),
    not_stuck(Config).

stuck_workers_are_replaced(Config) ->
    Gates = [pyn_ct:gate(Config) || _ <- [1, 2, 3]],
    Took = [begin
                %% It stays; calls are served as soon as there is another worker.
                {Micros, {ok, I}} = timer:tc(fun() ->
                    stick(Config, {call, t_slow, wait_for_file, [Gate], #{}, 50}, I - 1),
                    call(Config, echo, [I])
                end),
                I = info(Config, stuck_total),
                Micros
            end || {I, Gate} <- lists:enumerate(Gates)],
    ?assert(lists:min(Took) =< 1850000, Took),
    3 = info(Config, stuck),
    pyn_ct:wait_until(fun() ->
        3 =:= length([L || L <- pyn_ct:log(pynode(Config)), re:run(L, "worker=[0-9]+ is stuck", [{capture, none}]) =:= match])
    end),
    %% When they are back they are no longer stuck.
    lists:foreach(fun pyn_ct:open_gate/1, Gates),
    pyn_ct:wait_until(fun() -> info(Config, stuck) =:= 0 end),
    idle(Config),
    3 = info(Config, stuck_total),
    [{ok, I} = call(Config, echo, [I]) || I <- lists:seq(1, 100)].

too_many_stuck_workers(Config) ->
    P = pynode(Config),
    %% Until the node says that it is enough.
    Last = pyn_ct:wait_until(fun() ->
        case catch call(Config, sleep, [30.0], 50) of
            {error, timeout} -> false;
            Other -> {ended, Other}
        end
    end),
    ct:log("the last answer: ~p", [Last]),
    _ = pyn_ct:wait_log(P, "more than 2 workers are stuck"),
    6 = pyn_ct:wait_exit(P).

%% The interpreter of a caller comes back with its worker, and what was defined there.
stuck_worker_comes_back(Config) ->
    P = pynode(Config),
    Gate = pyn_ct:gate(Config),
    ok = pyn_ct:call(P, {exec, <<"import time\nmine = 17\ndef nap(s): time.sleep(s)\ndef wait(path): open(path).close()">>}),
    stick(Config, {call, '__main__', nap, [1.0], #{}, 50}, 0),
    {ok, 17} = pyn_ct:call(P, {eval, <<"mine">>}),
    %% Meanwhile, too, also for callers of what was defined there.
    stick(Config, {call, '__main__', wait, [Gate], #{}, 50}, 0),
    {ok, 17} = pyn_ct:call(P, {eval, <<"mine">>, #{}, 20000}),
    ok = pyn_ct:call(P, {exec, <<"mine = 18">>, 20000}),
    {ok, none} = pyn_ct:call(P, {call, '__main__', nap, [0.01], #{}, 20000}),
    {ok, 18} = pyn_ct:call(P, {eval, <<"mine">>, #{}, 20000}),
    pyn_ct:open_gate(Gate),
    pyn_ct:wait_until(fun() -> info(Config, stuck) =:= 0 end),
    {ok, 18} = pyn_ct:call(P, {eval, <<"mine">>}),
    [{ok, I} = call(Config, echo, [I]) || I <- lists:seq(1, 20)],
    {ok, 18} = pyn_ct:call(P, {eval, <<"mine">>}).

%%% The queue

expired_in_queue(Config) ->
    {File, Late} = {file(Config), counters:new(1, [])},
    Block = block(Config),
    Callers = [spawn_monitor(fun() ->
                   on_time(100, fun() -> {error, timeout} = call(Config, mark, [File], 100), counters:add(Late, 1, 1) end)
               end) || _ <- lists:seq(1, 20)],
    ended(Callers),
    unblock(Block),
    idle(Config),
    {ok, 1} = call(Config, echo, [1]),
    {error, enoent} = file:read_file(File),
    ?assertEqual(counters:get(Late, 1), info(Config, timeouts)).

%% More than are looked at in one go.
peer_with_many_closes(Config) ->
    P = pynode(Config),
    {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => 'many@127.0.0.1'}),
    [dist_client:request(C, {exec, <<"import time\nwhile True: time.sleep(0.05)">>, infinity}) || _ <- lists:seq(1, 150)],
    pyn_ct:wait_until(fun() -> info(Config, busy) =:= 150 end),
    dist_client:close(C),
    idle(Config),
    pyn_ct:wait_until(fun() -> info(Config, busy) =:= 0 end).

overloaded(Config) ->
    P = pynode(Config),
    Refused = counters:new(1, []),
    Block = block(Config),
    Queued = [spawn_monitor(fun() -> {ok, I} = call(Config, echo, [I]) end) || I <- [1, 2, 3]],
    pyn_ct:wait_until(fun() -> info(Config, in_flight) =:= 4 end),
    [on_time(0, fun() ->
         {error, {overloaded, Current, 4}} = call(Config, echo, [x]),
         true = Current >= 4,
         counters:add(Refused, 1, 1)
     end) || _ <- lists:seq(1, 50)],
    {error, {overloaded, _, 4}} = pyn_ct:call(P, {eval, <<"1">>}),
    {error, {overloaded, _, 4}} = pyn_ct:call(P, {exec, <<"1">>}),
    %% Who asks the node is answered.
    {ok, _} = pyn_ct:call(P, version),
    pong = net_adm:ping(pyn_ct:node_of(P)),
    #{overloaded := Overloaded, in_flight := 4, max_queue := 4} = pyn_ct:info(P),
    ?assertEqual(counters:get(Refused, 1) + 2, Overloaded),
    unblock(Block),
    ended(Queued),
    idle(Config),
    [{ok, I} = call(Config, echo, [I]) || I <- lists:seq(1, 20)].

%% Each of many gets either its own answer or the refusal, and the count comes back to nothing.
overloaded_by_many(Config) ->
    Self = self(),
    Callers = [spawn_monitor(fun() ->
                   Self ! {answers, [case call(Config, echo, [{C, I}]) of
                                         {ok, {C, I}} -> 1;
                                         {error, {overloaded, _, 4}} -> 0
                                     end || I <- lists:seq(1, 100)]}
               end) || C <- lists:seq(1, 20)],
    ended(Callers),
    Answered = lists:sum(lists:append([receive {answers, A} -> A end || _ <- Callers])),
    ct:log("~p of 2000 calls were served", [Answered]),
    ?assert(Answered > 0),
    idle(Config).

%% All workers busy: messages are read all the same.
reading_goes_on(Config) ->
    Block = block(Config),
    [begin
         on_time(0, fun() -> pong = net_adm:ping(pyn_ct:node_of(pynode(Config))) end),
         on_time(0, fun() -> 1 = info(Config, busy) end),
         on_time(30, fun() -> {error, timeout} = call(Config, echo, [1], 30) end)
     end || _ <- lists:seq(1, 5)],
    unblock(Block).

%%% Cancelling

cancel_running(Config) ->
    {File, Tag} = {file(Config), {my, make_ref()}},
    server(Config) ! {self(), Tag, {call, t_slow, spin_counting, [File], #{}, infinity}},
    grows(File),
    ok = pyn_ct:call(pynode(Config), {cancel, Tag}),
    receive {Tag, Answer} -> {error, interrupted} = Answer after 5000 -> error(no_answer) end,
    stops_growing(Config, File),
    1 = info(Config, interrupted),
    0 = info(Config, timeouts),
    not_stuck(Config).

cancel_by_alias(Config) ->
    File = file(Config),
    Id = gen_server:send_request(server(Config), {call, t_slow, spin_counting, [File], #{}, infinity}),
    grows(File),
    ok = pyn_ct:cast(pynode(Config), {cancel, Id}),
    {reply, {error, interrupted}} = gen_server:wait_response(Id, 5000),
    stops_growing(Config, File),
    %% The whole tag does as well.
    Second = gen_server:send_request(server(Config), {call, t_slow, spin_counting, [File], #{}, infinity}),
    grows(File),
    ok = pyn_ct:call(pynode(Config), {cancel, [alias | Second]}),
    {reply, {error, interrupted}} = gen_server:wait_response(Second, 5000),
    stops_growing(Config, File).

cancel_queued(Config) ->
    {File, Tag} = {file(Config), {my, make_ref()}},
    Block = block(Config),
    server(Config) ! {self(), Tag, {call, t_slow, mark, [File], #{}, infinity}},
    pyn_ct:wait_until(fun() -> info(Config, in_flight) =:= 2 end),
    %% While the worker is busy.
    ok = pyn_ct:call(pynode(Config), {cancel, Tag}),
    receive {Tag, Answer} -> {error, interrupted} = Answer after 5000 -> error(no_answer) end,
    1 = info(Config, in_flight),
    unblock(Block),
    idle(Config),
    {ok, 1} = call(Config, echo, [1]),
    {error, enoent} = file:read_file(File).

%% The call and its end in one go: it ends either way, and the next one does not notice.
cancel_at_once(Config) ->
    Answers = [begin
                   Tag = {I, make_ref()},
                   server(Config) ! {self(), Tag, {call, t_slow, spin, [], #{}, 20000}},
                   server(Config) ! {'$gen_cast', {cancel, Tag}},
                   Answer = receive {Tag, A} -> A after 15000 -> no_answer end,
                   {ok, I} = call(Config, echo, [I]),
                   Answer
               end || I <- lists:seq(1, 50)],
    [{error, interrupted}] = lists:usort(Answers),
    idle(Config),
    not_stuck(Config).

cancel_nothing(Config) ->
    [ok = pyn_ct:call(pynode(Config), {cancel, Tag}) || Tag <- [make_ref(), {any, tag}, 1, [alias | make_ref()], <<"x">>]],
    %% A tag of an answered call, and one of another call.
    Tag = {my, tag},
    server(Config) ! {self(), Tag, {call, t_slow, echo, [1]}},
    receive {Tag, {ok, 1}} -> ok after 5000 -> error(no_answer) end,
    ok = pyn_ct:call(pynode(Config), {cancel, Tag}),
    server(Config) ! {self(), Tag, {call, t_slow, spin_for, [0.1]}},
    ok = pyn_ct:call(pynode(Config), {cancel, {my, other_tag}}),
    receive {Tag, {ok, <<"done">>}} -> ok after 5000 -> error(no_answer) end,
    receive Unexpected -> error({unexpected, Unexpected}) after 0 -> ok end.

%%% Death of callers

caller_dies_while_running(Config) ->
    File = file(Config),
    {Pid, Monitor} = spawn_monitor(fun() -> call(Config, spin_counting, [File], infinity) end),
    grows(File),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, killed} -> ok end,
    stops_growing(Config, File),
    not_stuck(Config).

caller_dies_while_queued(Config) ->
    File = file(Config),
    Block = block(Config),
    Callers = [spawn_monitor(fun() -> call(Config, mark, [File], infinity) end) || _ <- [1, 2, 3]],
    pyn_ct:wait_until(fun() -> info(Config, in_flight) =:= 4 end),
    [exit(Pid, kill) || {Pid, _} <- Callers],
    [receive {'DOWN', Monitor, _, _, killed} -> ok end || {_, Monitor} <- Callers],
    pyn_ct:wait_until(fun() -> info(Config, in_flight) =< 1 end),
    unblock(Block),
    {ok, 1} = call(Config, echo, [1]),
    {error, enoent} = file:read_file(File).

node_of_callers_stops(Config) ->
    node_goes(Config, fun pyn_ct:stop_peer/1).

node_of_callers_is_killed(Config) ->
    node_goes(Config, fun(Peer) ->
        OsPid = pyn_ct:on(Peer, fun os:getpid/0),
        os:cmd("kill -KILL " ++ OsPid)
    end).

%% What runs for the callers of the node ends, what waits is never begun; other callers do not notice.
node_goes(Config, Go) ->
    {Running, Waiting, Gate, P} = {file(Config, "running"), file(Config, "waiting"), pyn_ct:gate(Config), pynode(Config)},
    process_flag(trap_exit, true),
    Peer = pyn_ct:start_peer(),
    pyn_ct:on(Peer, fun() ->
        [spawn(fun() -> pyn_ct:call(P, R, infinity) end)
         || R <- [{call, t_slow, spin_counting, [Running], #{}, infinity}, {call, t_slow, wait_for_file, [Gate], #{}, infinity}]]
    end),
    grows(Running),
    pyn_ct:wait_until(fun() -> info(Config, busy) =:= 2 end),
    pyn_ct:on(Peer, fun() ->
        [spawn(fun() -> pyn_ct:call(P, {call, t_slow, mark, [Waiting], #{}, infinity}, infinity) end) || _ <- [1, 2, 3]]
    end),
    pyn_ct:wait_until(fun() -> info(Config, in_flight) =:= 5 end),
    Go(Peer),
    pyn_ct:wait_until(fun() -> info(Config, in_flight) =< 2 end),
    {ok, 1} = call(Config, echo, [1]),
    pyn_ct:open_gate(Gate),
    stops_growing(Config, Running),
    {error, enoent} = file:read_file(Waiting).

%%% Helpers

server(Config) -> {py, pyn_ct:node_of(pynode(Config))}.

on_time(Ms, Fun) ->
    on_time(Ms, Ms + ?LATE, Fun).

on_time(Earliest, Latest, Fun) ->
    on_time(Earliest, Latest, Fun, 5).

%% Never too early, and not too late at least once of so many times: the machine may stand still meanwhile.
on_time(Earliest, Latest, Fun, Times) ->
    Start = erlang:monotonic_time(microsecond),
    Result = Fun(),
    Took = (erlang:monotonic_time(microsecond) - Start) / 1000,
    {true, _, _} = {Took >= Earliest - 2 andalso (Took =< Latest orelse Times > 1), Took, {Earliest, Latest}},
    case Took =< Latest of
        true -> Result;
        false -> on_time(Earliest, Latest, Fun, Times - 1)
    end.

%% A worker is busy in C code that does not listen to interrupts.
block(Config) ->
    {Started, Gate} = {file(Config, "started"), pyn_ct:gate(Config)},
    Blocker = spawn_monitor(fun() -> {ok, <<"slept">>} = call(Config, marked_wait, [Started, Gate], infinity) end),
    content(Started, <<"x">>),
    {Blocker, Gate}.

unblock({Blocker, Gate}) ->
    pyn_ct:open_gate(Gate),
    ended([Blocker]).

%% A worker was given up for that call, while so many others are under way. One that was late before it began is made again.
stick(Config, Request, Others) ->
    pyn_ct:wait_until(fun() -> info(Config, in_flight) =:= Others end),
    Before = info(Config, stuck_total),
    pyn_ct:wait_until(fun() ->
        {error, timeout} = pyn_ct:call(pynode(Config), Request),
        pyn_ct:wait_until(fun() -> info(Config, stuck_total) > Before orelse info(Config, in_flight) =:= Others end),
        info(Config, stuck_total) > Before
    end).

ended(Callers) ->
    [receive
         {'DOWN', Monitor, process, Pid, normal} -> ok;
         {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
     after 60000 -> error({caller_hangs, process_info(Pid, current_stacktrace)})
     end || {Pid, Monitor} <- Callers],
    ok.

%% Nothing runs and nothing waits.
idle(Config) ->
    pyn_ct:wait_until(fun() -> info(Config, in_flight) =:= 0 end).

%% Every worker is back. On a machine that is busy with other things one may have been given up meanwhile.
not_stuck(Config) ->
    pyn_ct:wait_until(fun() -> info(Config, stuck) =:= 0 end),
    ct:log("~p workers were given up", [info(Config, stuck_total)]).

grows(File) ->
    Size = filelib:file_size(File),
    pyn_ct:wait_until(fun() -> filelib:file_size(File) > Size end).

stops_growing(Config, File) ->
    idle(Config),
    Size = filelib:file_size(File),
    [{ok, <<"done">>} = call(Config, spin_for, [0.05]) || _ <- [1, 2, 3]],
    Size = filelib:file_size(File).

content(File, Expected) ->
    pyn_ct:wait_until(fun() -> file:read_file(File) =:= {ok, Expected} end).

file(Config) ->
    file(Config, "file").

%% A name that no other case has.
file(Config, Name) ->
    list_to_binary(filename:join(proplists:get_value(priv_dir, Config), pyn_ct:unique(Name))).
