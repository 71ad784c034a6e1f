%% Coroutines: py:async_call and its kin, the event loops of workers, and what goes wrong with both.
-module(asyncio_SUITE).
-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         end_per_testcase/2]).
-export([bad_arguments/1, bad_options/1, missing/1, values/1, plain_functions/1, exceptions/1, cancelled_by_itself/1,
         awaits/1, await_gives_up/1, await_of_others/1, gathers/1, gather_failures/1, streams/1, stream_failures/1,
         loops_are_made_when_needed/1, one_loop_per_worker/1, no_descriptors/1, loops_of_some/1,
         definitions/1, py_call_of_async/1, facade/1, tasks/1,
         contexts/1, spans/1, events/1]).
-export([asking/1, asking_fails/1, asking_many/1, nested_calls/1, nested_coroutines/1, blocking_ask/1,
         asked_by_worker/1, deadline_of_callbacks/1, tidying_up/1, endless_recursion/1, state/1]).
-export([timeouts/1, timeout_of_queued/1, cancel/1, owner_dies/1, node_of_owner_dies/1, stubborn/1, blocked_loop/1,
         spinning/1, importing/1, stuck_loop/1, interrupted_by_reference/1, time_of_plain_part/1]).
-export([ten_thousand/1, overload/1, no_slots/1, killed/1, drains/1, stops/1, stop_with_blocked_loop/1, no_nodes/1,
         from_a_stock_node/1, refused_modules/1]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, default}, {group, asking}, {group, ending}, {group, own}].

groups() ->
    [{default, [], [bad_arguments, bad_options, missing, values, plain_functions, exceptions, cancelled_by_itself, awaits,
                    await_gives_up, await_of_others, gathers, gather_failures, streams, stream_failures, definitions,
                    py_call_of_async, facade, tasks, contexts, spans, events]},
     {asking, [], [asking, asking_fails, asking_many, nested_calls, nested_coroutines, blocking_ask, asked_by_worker,
                   deadline_of_callbacks, tidying_up, endless_recursion, state]},
     {ending, [], [timeouts, timeout_of_queued, cancel, owner_dies, node_of_owner_dies, stubborn, blocked_loop, spinning,
                   importing, stuck_loop, interrupted_by_reference, time_of_plain_part]},
     {own, [], [loops_are_made_when_needed, one_loop_per_worker, loops_of_some, no_descriptors,
                ten_thousand, overload, no_slots, killed, drains, stops,
                stop_with_blocked_loop, no_nodes, from_a_stock_node, refused_modules]}].

init_per_suite(Config) -> Config.

end_per_suite(_Config) ->
    app_ct:stop(),
    pyn_ct:stop_all().

%% One worker where nothing may depend on there being another one.
init_per_group(default, Config) -> ok = app_ct:start(app_ct:workers(3)), Config;
init_per_group(asking, Config) -> ok = app_ct:start(app_ct:workers(1)), Config;
init_per_group(ending, Config) ->
    ok = app_ct:start(app_ct:workers(2)),
    %% An import that is interrupted is none of what is tested here.
    {ok, _} = py:async_gather([{t_aio, add, [1, 2], #{'after' => 0.1}} || _ <- lists:seq(1, 8)]),
    Config;
init_per_group(own, Config) -> Config.

end_per_group(_, _Config) -> app_ct:stop().

end_per_testcase(_Case, Config) ->
    case proplists:get_value(name, proplists:get_value(tc_group_properties, Config, [])) of
        own ->
            app_ct:stop(),
            pyn_ct:stop_all();
        _ ->
            none_left(),
            {ok, 4.0} = py:call(math, sqrt, [16]),
            ok
    end.

%% Nothing is under way any more.
none_left() ->
    pyn_ct:wait_until(fun() -> info(in_flight) =:= 0 end).

info(Key) ->
    {ok, Info} = gen_server:call({py, app_ct:pynode()}, info),
    maps:get(Key, Info).

nothing_received() ->
    receive Message -> error({unexpected, Message}) after 20 -> ok end.

%%% Calls and results

bad_arguments(_Config) ->
    [{error, invalid_args} = py:async_await(py:async_call(t_aio, add, Args)) || Args <- [1, {1}, [1 | 2], <<"x">>]],
    {error, invalid_args} = py:async_await(py:async_call(t_aio, add, [], [])),
    {error, {not_text, _}} = py:async_await(py:async_call({t_aio}, add, [1, 2])),
    {error, {not_text, _}} = py:async_await(py:async_call(t_aio, [x], [1, 2])),
    {error, invalid_args} = py:async_gather(not_a_list),
    {error, invalid_args} = py:async_gather([{math, sqrt, [1]} | tail]),
    {error, {gather_failed, [{1, invalid_args}, {3, invalid_args}]}} =
        py:async_gather([{t_aio, add}, {t_aio, add, [1, 2]}, {t_aio, add, [1, 2], x}]),
    {error, invalid_args} = py:async_stream(t_aio, numbers, 3),
    {error, {not_text, _}} = py:async_stream(1, numbers, [3]),
    %% A time that is none: nothing has happened to the coroutine, nor to what was refused.
    Refs = [py:async_call(t_aio, add, [1, 2]), py:async_call(t_aio, add, x)],
    [{error, {bad_option, T}} = py:async_await(Ref, T) || Ref <- Refs, T <- [-1, 1.5, soon, #{}, 16#100000000]],
    [{ok, 3}, {error, invalid_args}] = [py:async_await(Ref) || Ref <- Refs],
    nothing_received().

bad_options(_Config) ->
    Ask = fun(Request) -> gen_server:call({py, app_ct:pynode()}, Request) end,
    [{error, {bad_request, _}} = Ask({call, t_aio, at_once, [1], #{}, #{async => Bad}}) || Bad <- [1, 'maybe', <<"true">>, []]],
    {error, {bad_request, _}} = Ask({eval, <<"1">>, #{}, #{async => true}}),
    {error, {bad_request, _}} = Ask({exec, <<"1">>, #{async => true}}),
    {error, {bad_request, _}} = Ask({call_all, t_aio, at_once, [1], #{}, #{async => true}}),
    [{error, {bad_request, _}} = Ask(Bad) || Bad <- [{cancel, x, y}, {cancel, x, 1}, {cancel}, {cancel, x, report, z}]],
    {error, not_found} = Ask({cancel, make_ref(), report}),
    ok = Ask({cancel, make_ref()}),
    {ok, 1} = Ask({call, t_aio, at_once, [1], #{}, #{async => true}}),
    {ok, <<"<coroutine", _/binary>>} = Ask({call, t_aio, at_once, [1], #{}, #{async => false}}).

missing(_Config) ->
    {error, {'ModuleNotFoundError', _}} = await(no_such_module, f, []),
    {error, {'AttributeError', _}} = await(t_aio, no_such_function, []),
    {error, {'TypeError', _}} = await(t_aio, add, [1]),
    {error, {'NameError', _}} = await('__main__', no_such_name, []).

values(_Config) ->
    {ok, 3} = await(t_aio, add, [1, 2]),
    {ok, 3} = py:async_await(py:async_call("t_aio", <<"add">>, [1, 2])),
    {ok, 3} = py:async_await(py:async_call(t_aio, add, [1, 2], #{'after' => 0.01}), 5000),
    {ok, [[1], #{<<"k">> := 2}]} = py:async_await(py:async_call(t_aio, keywords, [1], #{k => 2})),
    {ok, none} = await(asyncio, sleep, [0.01]),
    {ok, <<0:24>>} = await(t_aio, big, [3]),
    {ok, Big} = await(t_aio, big, [5000000]),
    5000000 = byte_size(Big),
    {error, {'ValueError', _}} = await(t_aio, unconvertible, []),
    Terms = [self(), make_ref(), fun lists:map/2, [a | b], 1 bsl 200, #{{1} => [2.5]}],
    {ok, Terms} = await(t_aio, at_once, [Terms]),
    [{ok, [<<"none">>, V]} = await(t_aio, context, [V]) || V <- [1, 2]],
    nothing_received().

plain_functions(_Config) ->
    {ok, 7} = await(t_aio, plain, [7]),
    {ok, 4.0} = await(math, sqrt, [16]),
    {ok, 9} = await(t_aio, awaitable, [9]),
    {error, {'ValueError', _}} = await(math, sqrt, [-1]).

exceptions(_Config) ->
    {error, {'ValueError', "wrong"}} = await(t_aio, fail, ['ValueError', <<"wrong">>]),
    {error, {'TimeoutError', "mine"}} = await(t_aio, fail, ['TimeoutError', <<"mine">>]),
    {error, {'SystemExit', "3"}} = await(t_aio, fail, ['SystemExit', 3]),
    {error, {'KeyboardInterrupt', "me"}} = await(t_aio, fail, ['KeyboardInterrupt', <<"me">>]),
    {error, {'TimeoutError', _}} = await(t_aio, with_timeout, [0.01]),
    {error, {'ValueError', "tb", Trace}} =
        gen_server:call({py, app_ct:pynode()},
                        {call, t_aio, fail, ['ValueError', tb], #{}, #{async => true, traceback => true}}),
    {match, _} = re:run(Trace, "in fail"),
    {ok, <<"went on">>} = await(t_aio, stop_loop, []),
    {ok, 3} = await(t_aio, add, [1, 2]).

cancelled_by_itself(_Config) ->
    {error, {'CancelledError', _}} = await(t_aio, cancel_itself, []).

awaits(_Config) ->
    Refs = [py:async_call(t_aio, add, [I, I], #{'after' => 0.05 - I / 1000}) || I <- lists:seq(1, 50)],
    true = lists:all(fun is_reference/1, Refs),
    [{ok, Twice} = py:async_await(Ref) || {Ref, Twice} <- lists:zip(Refs, lists:seq(2, 100, 2))],
    Late = py:async_call(t_aio, at_once, [late]),
    none_left(),
    {ok, <<"late">>} = py:async_await(Late, 0),
    {error, timeout} = py:async_await(Late, 0), % it was taken
    nothing_received(),
    undefined = get('$py_aio').

await_gives_up(_Config) ->
    Ref = py:async_call(t_aio, tell_and_wait, [self(), 1]),
    receive {began, 1} -> ok end,
    {error, timeout} = py:async_await(Ref, 20),
    receive {cancelled, 1} -> ok end,
    receive {finally, 1} -> ok end,
    {error, timeout} = py:async_await(Ref, 0),
    %% About at the same time: whichever it is, there is one.
    Ends = [py:async_await(py:async_call(asyncio, sleep, [0.004, I]), 1 + I rem 8) || I <- lists:seq(1, 60)],
    [] = [End || {I, End} <- lists:zip(lists:seq(1, 60), Ends), End =/= {error, timeout}, End =/= {ok, I}],
    none_left(),
    nothing_received().

await_of_others(_Config) ->
    Ref = py:async_call(t_aio, add, [1, 2]),
    {_, Monitor} = spawn_monitor(fun() -> exit(py:async_await(Ref, 50)) end),
    receive {'DOWN', Monitor, process, _, Other} -> {error, timeout} = Other end,
    {ok, 3} = py:async_await(Ref),
    {error, timeout} = py:async_await(make_ref(), 10).

gathers(_Config) ->
    {ok, []} = py:async_gather([]),
    {ok, [3, <<"x">>, 30]} = py:async_gather([{t_aio, add, [1, 2]}, {t_aio, plain, [<<"x">>]},
                                              {t_aio, add, [10, 20], #{'after' => 0.01}}]),
    Start = erlang:monotonic_time(millisecond),
    Expected = {ok, lists:seq(2, 301)},
    Expected = py:async_gather([{t_aio, add, [I, 1], #{'after' => 0.2}} || I <- lists:seq(1, 300)]),
    true = erlang:monotonic_time(millisecond) - Start < 20000, % one after the other it were 60 s
    undefined = get('$py_aio'),
    nothing_received().

gather_failures(_Config) ->
    {error, {gather_failed, [{2, {'ValueError', "x"}}, {4, {'AttributeError', _}}]}} =
        py:async_gather([{t_aio, add, [1, 2]}, {t_aio, fail, ['ValueError', x]}, {t_aio, plain, [1]}, {t_aio, nothing, []}]),
    {error, {gather_failed, [{1, {not_text, _}}]}} = py:async_gather([{{a}, b, []}, {t_aio, plain, [1]}]),
    nothing_received().

streams(_Config) ->
    {ok, [0, 1, 2, 3]} = py:async_stream(t_aio, numbers, [4]),
    {ok, [0, 1]} = py:async_stream(t_aio, numbers, [2], #{'after' => 0.01}),
    {ok, []} = py:async_stream(t_aio, numbers, [0]),
    {ok, [0, 1, 2]} = py:async_stream(t_aio, plain_numbers, [3]),
    {ok, [7]} = py:async_stream(t_aio, plain, [7]),
    [{ok, [Tuple]} = py:async_stream(t_aio, a_tuple, [tuple_to_list(Tuple)]) || Tuple <- [{}, {7}, {1, 2}]],
    {ok, [[0, 1, 2]]} = py:async_stream(t_aio, list_of, [3]),
    {ok, [0, 1, 2]} = py:async_stream(t_aio, later_numbers, [3]),
    Expected = {ok, lists:seq(0, 4999)},
    Expected = py:async_stream(t_aio, numbers, [5000]).

stream_failures(_Config) ->
    {error, {'ValueError', "after all"}} = py:async_stream(t_aio, numbers_then, [3, 'ValueError']),
    {error, {'AttributeError', _}} = py:async_stream(t_aio, nothing, []),
    Tell = {call, t_aio, numbers_tell, [self(), 1, 0.01], #{}, #{async => stream, timeout => 100}},
    Began = [begin {error, timeout} = gen_server:call({py, app_ct:pynode()}, Tell), ended_if_begun(1) end || _ <- lists:seq(1, 5)],
    true = lists:member(true, Began).

%% Its time is over, perhaps before it began: a machine may stand still for that long. Tells whether it has begun.
ended_if_begun(What) ->
    none_left(),
    receive {began, What} -> receive {finally, What} -> true end after 0 -> false end.

definitions(_Config) ->
    ok = py:exec(<<"import asyncio\nasync def mine(x):\n    await asyncio.sleep(0)\n    return x * factor\nfactor = 3">>),
    [{ok, 12} = await('__main__', mine, [4]) || _ <- lists:seq(1, 10)],
    {ok, [3, 6]} = py:async_gather([{'__main__', mine, [1]}, {'__main__', mine, [2]}]),
    %% Of a process that defined nothing.
    {_, Ref} = spawn_monitor(fun() -> exit(await('__main__', mine, [5])) end),
    receive {'DOWN', Ref, process, _, Result} -> {ok, 15} = Result end.

%% A coroutine object is a value like any other there.
py_call_of_async(_Config) ->
    {ok, <<"<coroutine object add", _/binary>>} = py:call(t_aio, add, [1, 2]),
    {ok, 3} = py:eval(<<"__import__('asyncio').run(__import__('t_aio').add(1, 2))">>).

facade(_Config) ->
    {ok, [4, 9, 25, [<<"create_task">>, <<"gather">>, <<"run">>, <<"sleep">>, <<"wait_for">>]]} = py:call(t_aio, facade, []).

%% Tasks that a coroutine leaves behind go on; how a task looks from inside.
tasks(_Config) ->
    {ok, [<<"current">>, true, true, true]} = await(t_aio, current, [0]),
    ok = py:exec(<<"from t_aio import keep_task, await_kept">>),
    case app_ct:mode() of
        subinterp ->
            {ok, <<"a">>} = await('__main__', keep_task, [a]),
            {ok, <<"a">>} = await('__main__', await_kept, [a]);
        _ ->
            ok % several loops in one interpreter
    end.

%% A process that is bound has its coroutines in its context, as its calls; they end with it.
contexts(_Config) ->
    ok = py:bind(),
    ok = py:exec(<<"import asyncio\nasync def mine(x, t=0):\n    await asyncio.sleep(t)\n    return x + here\nhere = 40">>),
    {ok, 42} = await('__main__', mine, [2]),
    {ok, [41, 42]} = py:async_gather([{'__main__', mine, [1]}, {'__main__', mine, [2]}]),
    ok = py:register_function(from_context, fun([X]) -> {ok, R} = py:call('__main__', plain, [X]), R end),
    ok = py:exec(<<"def plain(x): return x + here\nasync def asks(x):\n"
                   "    import erlang\n    return await erlang.async_call('from_context', x)">>),
    {ok, 45} = await('__main__', asks, [5]),
    Ref = py:async_call('__main__', mine, [2, 60]),
    Told = py:async_call(t_aio, tell_and_wait, [self(), 1]),
    receive {began, 1} -> ok end,
    ok = py:unbind(),
    [{error, context_lost} = py:async_await(R) || R <- [Ref, Told]],
    receive {finally, 1} -> ok end,
    {error, {'NameError', _}} = await('__main__', asks, [5]),
    flush().

%% The span of the caller is the parent, over callbacks and in tasks.
spans(_Config) ->
    ok = py:clear_traces(),
    ok = py:enable_tracing(),
    ok = py:register_function(traced, fun([Name, Child]) -> {ok, none} = await(t_aio, traced, [Name, Child]) end),
    {ok, _} = py:call(t_aio, traced_plain, [outer, traced, inner, innermost]),
    {ok, none} = await(t_aio, traced, [apart]),
    ok = py:disable_tracing(),
    {ok, Spans} = py:get_traces(),
    Of = fun(Name) -> [S] = [S || #{name := N} = S <- Spans, N =:= Name], S end,
    undefined = maps:get(parent_id, Of(<<"outer">>)),
    undefined = maps:get(parent_id, Of(<<"apart">>)),
    true = maps:get(parent_id, Of(<<"inner">>)) =:= maps:get(span_id, Of(<<"outer">>)),
    true = maps:get(parent_id, Of(<<"innermost">>)) =:= maps:get(span_id, Of(<<"inner">>)).

%% One at the beginning, one when it is awaited.
events(_Config) ->
    Name = telemetry,
    Forms = [{attribute, 1, module, Name}, {attribute, 2, export, [{execute, 3}]},
             {function, 3, execute, 3, [{clause, 3, [{var, 3, 'E'}, {var, 3, '_M'}, {var, 3, 'A'}], [],
                [{op, 3, '!', {atom, 3, ?FUNCTION_NAME}, {tuple, 3, [{var, 3, 'E'}, {var, 3, 'A'}]}}]}]}],
    {ok, Name, Beam} = compile:forms(Forms),
    {module, Name} = code:load_binary(Name, "telemetry.erl", Beam),
    true = register(?FUNCTION_NAME, self()),
    ok = py_events:detect(),
    try
        Ref = py:async_call(t_aio, add, [1, 2]),
        Id = receive {[erlang_python, call, start], #{function := add, telemetry_span_context := I}} -> I end,
        {ok, 3} = py:async_await(Ref),
        Node = app_ct:pynode(),
        receive {[erlang_python, call, stop], #{result := ok, telemetry_span_context := Id, node := Node}} -> ok end,
        {error, timeout} = py:async_await(py:async_call(asyncio, sleep, [60]), 0),
        receive {[erlang_python, call, exception], #{error := timeout, function := sleep}} -> ok end,
        {ok, [0]} = py:async_stream(t_aio, numbers, [1]),
        receive {[erlang_python, call, stop], #{function := numbers}} -> ok end
    after
        py_events:forget(),
        code:delete(Name),
        code:purge(Name)
    end.

%%% Coroutines that ask Erlang

asking(_Config) ->
    ok = py:register_function(double, fun([X]) -> X * 2 end),
    {ok, 42} = await(t_aio, ask, [double, 21]),
    {ok, 42} = await(t_aio, ask_in_task, [double, 21]),
    {ok, 42} = await(t_aio, ask_in_thread, [double, 21]),
    {ok, 42} = await(t_aio, ask_blocking, [double, 21]),
    {ok, 42} = py:call(t_aio, ask_plain, [double, 21]).

asking_fails(_Config) ->
    ok = py:register_function(fails, fun([_]) -> error(badthing) end),
    {error, {'CallbackError', "error: badthing"}} = await(t_aio, ask, [fails, 1]),
    {ok, [<<"CallbackError">>, <<"error: badthing">>]} = await(t_aio, ask_catching, [fails, 1]),
    {ok, [<<"CallbackError">>, <<"Function 'nobody' not registered">>]} = await(t_aio, ask_catching, [nobody]).

%% They are under way at the same time.
asking_many(_Config) ->
    Self = self(),
    ok = py:register_function(wait_for_all, fun([I]) ->
        Self ! {here, self()},
        receive go -> I end
    end),
    Ref = py:async_call(t_aio, ask_many, [wait_for_all, 20]),
    [Pid ! go || Pid <- [receive {here, Pid} -> Pid end || _ <- lists:seq(1, 20)]],
    {ok, 190} = py:async_await(Ref).

%% With one worker, which has to be free for it.
nested_calls(_Config) ->
    ok = py:register_function(sqrt, fun([X]) -> {ok, R} = py:call(math, sqrt, [X]), R end),
    {ok, 3.0} = await(t_aio, ask, [sqrt, 9]),
    {ok, 3.0} = await(t_aio, ask_blocking, [sqrt, 9]),
    {ok, [3.0, 4.0]} = await(t_aio, ask_as_task, [sqrt, [9, 16]]),
    ok = py:exec(<<"async def nested_here(x):\n    import erlang\n    return await erlang.async_call('here', x)\n"
                   "def plus_one(x):\n    return x + 1">>),
    ok = py:register_function(here, fun([X]) -> {ok, R} = py:call('__main__', plus_one, [X]), R end),
    {ok, 8} = await('__main__', nested_here, [7]),
    %% On the stack of a worker that waits for what the coroutine was begun for.
    ok = py:register_function(coroutine, fun([X]) -> {ok, R} = await(t_aio, ask, [here, X]), R end),
    {ok, 8} = py:call(t_aio, ask_plain, [coroutine, 7]),
    ok = py:exec(<<"def outer(x):\n    import erlang\n    return erlang.call('coroutine', x)">>),
    {ok, 8} = py:call('__main__', outer, [7]),
    %% A loop that a plain function has made, on its worker; what is nested there makes one itself.
    ok = py:register_function(add_by_run, fun([A, B]) -> {ok, R} = py:call(t_aio, add_by_run, [A, B]), R end),
    {ok, [3, true]} = py:call(t_aio, ask_by_run, [add_by_run, 1, 2]).

nested_coroutines(_Config) ->
    ok = py:register_function(down, fun
        ([0]) -> 0;
        ([N]) -> {ok, R} = await(t_aio, ask, [down, N - 1]), R + 1
    end),
    {ok, 50} = await(t_aio, ask, [down, 50]),
    {ok, 3} = py:call(t_aio, ask_plain, [down, 3]).

%% The loop itself waits for a callback that needs a coroutine of the same worker.
blocking_ask(_Config) ->
    ok = py:register_function(add, fun([A, B]) -> {ok, R} = await(t_aio, add, [A, B]), R end),
    {ok, 3} = await(t_aio, ask_blocking, [add, 1, 2]),
    ok = py:register_function(deeper, fun([A, B]) -> {ok, R} = py:call(t_aio, ask_plain, [add, A, B]), R end),
    {ok, 3} = await(t_aio, ask_blocking, [deeper, 1, 2]).

asked_by_worker(_Config) ->
    ok = py:register_function(add, fun([A, B]) -> {ok, R} = await(t_aio, add, [A, B]), R end),
    {ok, 3} = py:call(t_aio, ask_plain, [add, 1, 2]),
    ok = py:register_function(gather, fun([N]) ->
        {ok, R} = py:async_gather([{t_aio, add, [I, 0]} || I <- lists:seq(1, N)]),
        lists:sum(R)
    end),
    {ok, 210} = py:call(t_aio, ask_plain, [gather, 20]),
    {ok, 210} = await(t_aio, ask, [gather, 20]).

%% What a coroutine asks for has no more time than the coroutine: also in a task or a thread of it.
deadline_of_callbacks(_Config) ->
    Self = self(),
    ok = py:register_function(never, fun([What]) ->
        _ = process_flag(trap_exit, true),
        Self ! {waits, What, self()},
        {error, timeout} = await(asyncio, sleep, [60]),
        Self ! {ended, What}
    end),
    %% The last one alone, as it blocks the loop. Their time is long enough to begin on a machine that stands still.
    [begin
         Asked = [request(app_ct:pynode(), F, [never, F], 2500) || F <- Fs],
         Pids = [receive {waits, Name, Pid} -> Pid end || F <- Fs, Name <- [atom_to_binary(F)]],
         [{reply, {error, timeout}} = gen_server:wait_response(R, 20000) || R <- Asked],
         pyn_ct:wait_until(fun() -> not lists:any(fun is_process_alive/1, Pids) end)
     end || Fs <- [[ask, ask_in_task, ask_in_thread], [ask_blocking]]],
    none_left().

tidying_up(_Config) ->
    ok = py:register_function(double, fun([X]) -> X * 2 end),
    ok = py:state_remove(<<"tidied">>),
    Ref = py:async_call(t_aio, tidy_up, [self(), <<"tidied">>]),
    receive {began, _} -> ok end,
    {error, timeout} = py:async_await(Ref, 0),
    pyn_ct:wait_until(fun() -> py:state_fetch(<<"tidied">>) =:= {ok, 42} end).

endless_recursion(_Config) ->
    ok = py:register_function(endless, fun([N]) ->
        case await(t_aio, ask, [endless, N + 1]) of
            {error, {'RecursionError', Text}} -> list_to_binary(["deep: ", Text]);
            {error, {'CallbackError', Text}} -> error({deep, list_to_binary(Text)});
            {ok, Text} -> Text
        end
    end),
    {ok, <<"deep: ", _/binary>>} = await(t_aio, ask, [endless, 0]).

state(_Config) ->
    {ok, [2, 3, 4]} = await(t_aio, state, [<<"aio_counter">>]).

%%% What ends before its time

timeouts(_Config) ->
    Node = app_ct:pynode(),
    Before = info(timeouts),
    [begin
         {Took, Began} = lists:unzip([timed_out(Node, T) || _ <- lists:seq(1, 5)]),
         {true, _} = {lists:min(Took) >= T - 1 andalso lists:min(Took) < T + 1000, {T, Took}},
         true = lists:member(true, Began)
     end || T <- [50, 200]],
    {error, timeout} = ask_async(Node, tell_and_wait, [self(), 0], 0),
    none_left(),
    Before = info(timeouts) - 11,
    flush(),
    {ok, 3} = await(t_aio, add, [1, 2]).

timed_out(Node, T) ->
    Start = erlang:monotonic_time(millisecond),
    {error, timeout} = ask_async(Node, tell_and_wait, [self(), T], T),
    Took = erlang:monotonic_time(millisecond) - Start,
    {Took, ended_if_begun(T)}.

%% Many at once, in any order, while nothing else goes on (the watchdog sleeps until the next one).
timeout_of_queued(_Config) ->
    Node = app_ct:pynode(),
    none_left(),
    Times = [T * 7 rem 400 + 20 || T <- lists:seq(1, 100)],
    Start = erlang:monotonic_time(millisecond),
    Asked = [{T, request(Node, tell_and_wait, [nobody_listens, T], T)} || T <- Times],
    [begin
         {reply, {error, timeout}} = gen_server:wait_response(R, 5000)
     end || {_, R} <- lists:sort(Asked)],
    Took = erlang:monotonic_time(millisecond) - Start,
    {true, _} = {Took < 3000, Took},
    none_left().

cancel(_Config) ->
    Node = app_ct:pynode(),
    Ref = py:async_call(t_aio, tell_and_wait, [self(), 1]),
    receive {began, 1} -> ok end,
    ok = gen_server:cast({py, Node}, {cancel, Ref}),
    {error, interrupted} = py:async_await(Ref),
    receive {cancelled, 1} -> ok end,
    receive {finally, 1} -> ok end,
    %% By its whole tag, with a report.
    Self = self(),
    Tag = [tag | Self],
    {py, Node} ! {'$gen_call', {Self, Tag}, {call, t_aio, tell_and_wait, [Self, 2], #{}, #{async => true}}},
    receive {began, 2} -> ok end,
    ok = gen_server:call({py, Node}, {cancel, Tag, report}),
    receive {Tag, Answer} -> {error, interrupted} = Answer end,
    receive {finally, 2} -> ok end,
    receive {cancelled, 2} -> ok end,
    {error, not_found} = gen_server:call({py, Node}, {cancel, Tag, report}),
    nothing_received().

interrupted_by_reference(_Config) ->
    Ref = py:async_call(t_aio, tell_and_wait, [self(), 1]),
    receive {began, 1} -> ok end,
    Self = self(),
    _ = spawn_link(fun() -> Self ! {told, py:interrupt(Ref), py:interrupt(make_ref())} end),
    receive {told, First, Second} -> {ok, {error, not_found}} = {First, Second} end,
    {error, interrupted} = py:async_await(Ref),
    receive {finally, 1} -> ok end,
    receive {cancelled, 1} -> ok end,
    {error, not_found} = py:interrupt(Ref),
    Own = py:async_call(t_aio, tell_and_wait, [self(), 2]),
    receive {began, 2} -> ok end,
    ok = py:interrupt(Own),
    {error, interrupted} = py:async_await(Own),
    none_left(),
    flush().

owner_dies(_Config) ->
    Self = self(),
    Owner = spawn(fun() -> [py:async_call(t_aio, tell_and_wait, [Self, I]) || I <- lists:seq(1, 20)], receive after infinity -> ok end end),
    [receive {began, I} -> ok end || I <- lists:seq(1, 20)],
    20 = info(in_flight),
    exit(Owner, kill),
    [receive {finally, I} -> ok end || I <- lists:seq(1, 20)],
    none_left(),
    flush(),
    %% One that dies before its coroutine is even begun.
    exit(spawn(fun() -> py:async_call(t_aio, tell_and_wait, [Self, 1]) end), kill),
    none_left(),
    flush().

node_of_owner_dies(_Config) ->
    Node = app_ct:pynode(),
    Self = self(),
    Peer = pyn_ct:start_peer(),
    _ = pyn_ct:on(Peer, fun() ->
        spawn(fun() -> gen_server:call({py, Node}, {call, t_aio, tell_and_wait, [Self, 1], #{}, #{async => true}}, infinity) end)
    end),
    receive {began, 1} -> ok end,
    pyn_ct:stop_peer(Peer),
    receive {finally, 1} -> ok end,
    none_left(),
    flush().

%% A task that does not end when it is cancelled stays, but its caller is answered, and it is not cancelled again.
stubborn(Config) ->
    File = file(Config),
    Ref = py:async_call(t_aio, stubborn, [self(), File]),
    receive {began, File} -> ok end,
    try
        {error, timeout} = py:async_await(Ref, 0),
        receive {cancelled, File} -> ok end,
        receive Message -> error({unexpected, Message}) after 600 -> ok end,
        true = info(in_flight) > 0
    after
        ok = file:write_file(File, <<>>)
    end,
    none_left(),
    nothing_received().

%% Blocking code stops its own loop, no other, and no plain call.
blocked_loop(Config) ->
    File = file(Config),
    Blocked = py:async_call(t_aio, block_until, [File]),
    try
        [{ok, 3} = await(t_aio, add, [1, 2]) || _ <- lists:seq(1, 20)],
        {ok, 4.0} = py:call(math, sqrt, [16])
    after
        ok = file:write_file(File, <<>>)
    end,
    {ok, <<"blocked">>} = py:async_await(Blocked).

%% Code that never gives the loop back is interrupted when its time is over, wherever it is.
spinning(_Config) ->
    Node = app_ct:pynode(),
    [begin
         {error, timeout} = ask_async(Node, F, [], 100),
         none_left(),
         [{ok, 3} = await(t_aio, add, [1, 2]) || _ <- [1, 2]]
     end || F <- [spin, spin_in_task, spin_after_cancel]].

%% The import system itself is not interrupted: its locks would be held for ever.
importing(Config) ->
    [File, Go] = [file(Config), file(Config)],
    Ref = py:async_call(t_finder, look_in_loop, [File, Go]),
    pyn_ct:wait_until(fun() -> file:read_file(File) =:= {ok, <<"begun ">>} end),
    {error, timeout} = py:async_await(Ref, 0),
    receive after 500 -> ok end, % more than it has before it is interrupted
    ok = file:write_file(Go, <<>>),
    pyn_ct:wait_until(fun() -> file:read_file(File) =:= {ok, <<"begun ended">>} end),
    none_left(),
    {error, {'ModuleNotFoundError', _}} = await(t_finder, look_in_loop, [<<File/binary, "_2">>, Go]).

%% What cannot be interrupted: another loop takes the place of that one.
stuck_loop(Config) ->
    Gates = [pyn_ct:gate(Config) || _ <- [1, 2]],
    try
        Refs = [begin
                    Begun = <<Gate/binary, ".begun">>,
                    Ref = py:async_call(t_aio, block_in_c, [Begun, Gate]),
                    pyn_ct:wait_until(fun() -> filelib:is_regular(Begun) andalso Ref end)
                end || Gate <- Gates],
        [{error, timeout} = py:async_await(Ref, 0) || Ref <- Refs],
        pyn_ct:wait_until(fun() -> info(stuck_loops) >= 1 end),
        [{ok, 3} = await(t_aio, add, [1, 2]) || _ <- [1, 2, 3, 4]]
    after
        [pyn_ct:open_gate(Gate) || Gate <- Gates]
    end,
    none_left(),
    pyn_ct:wait_until(fun() -> info(stuck_loops) =:= 0 end).

%% The function itself, before there is a coroutine, runs on a worker: it is interrupted as in any call.
time_of_plain_part(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "spun"),
    {error, timeout} = ask_async(app_ct:pynode(), spin_plain, [list_to_binary(File)], 100),
    none_left(),
    {ok, 3} = await(t_aio, add, [1, 2]).

%%% With an application of their own

loops_are_made_when_needed(_Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    {ok, []} = py:call(t_aio, loop_threads, []),
    0 = info(loops),
    {ok, 7} = await(t_aio, plain, [7]),
    0 = info(loops),
    {ok, Name} = await(t_aio, thread_name, []),
    1 = info(loops),
    {ok, Name} = await(t_aio, thread_name, []),
    {ok, [Name]} = py:call(t_aio, loop_threads, []).

%% As many loops as workers, each with its share; none more.
one_loop_per_worker(_Config) ->
    ok = app_ct:start(app_ct:workers(3)),
    {ok, _} = py:async_gather([{t_aio, thread_name, [0.3]} || _ <- lists:seq(1, 30)]), % the imports
    %% A loop, or a worker, that stands still meanwhile has a small share of one gather, but not of five.
    Gathered = [py:async_gather([{t_aio, thread_name, [0.3]} || _ <- lists:seq(1, 60)]) || _ <- lists:seq(1, 5)],
    Names = lists:append([N || {ok, N} <- Gathered]),
    Shares = [length([N || N <- Names, N =:= Name]) || Name <- lists:usort(Names)],
    {300, 3, true} = {length(Names), length(Shares), lists:min(Shares) >= 50},
    3 = info(loops).

%% Two of four workers have loops. What cannot run there has one where it can.
loops_of_some(_Config) ->
    ok = app_ct:start([{num_async_workers, 2} | app_ct:workers(4)]),
    {ok, Names} = py:async_gather([{t_aio, thread_name, [0.1]} || _ <- lists:seq(1, 60)]),
    true = length(lists:usort(Names)) =< 2,
    pyn_ct:wait_until(fun() ->
        {ok, _} = py:async_gather([{t_aio, thread_name, [0.01]} || _ <- lists:seq(1, 20)]),
        info(loops) =:= 2
    end),
    [in_another_process(fun() ->
        ok = py:exec("async def mine(x): return x"),
        {ok, [7, 8]} = py:async_gather([{'__main__', mine, [7]}, {'__main__', mine, [8]}])
    end) || _ <- lists:seq(1, 6)],
    Expected = case py:execution_mode() of subinterp -> [2, 3, 4]; _ -> [2] end,
    true = lists:member(info(loops), Expected).

%% The caller is told why there is no loop; there is one as soon as there can be.
no_descriptors(_Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    {ok, 1} = py:call(t_aio, plain, [1]),
    [begin
         {ok, none} = py:call(t_aio, take_descriptors, [Spare]),
         {error, {Error, _}} = await(t_aio, add, [1, 2]),
         true = lists:member(Error, ['OSError', 'RuntimeError']),
         0 = info(loops),
         {ok, none} = py:call(t_aio, give_descriptors, [])
     end || Spare <- [0, 1, 2]],
    {ok, 3} = await(t_aio, add, [1, 2]),
    1 = info(loops).

in_another_process(Fun) ->
    {_, Ref} = spawn_monitor(Fun),
    receive {'DOWN', Ref, process, _, Reason} -> ?assertEqual(normal, Reason) end.

ten_thousand(_Config) ->
    N = 9990,
    ok = app_ct:start(app_ct:workers(1)),
    Refs = [py:async_call(t_aio, at_gate, [I, 1]) || I <- lists:seq(1, N)],
    pyn_ct:wait_until(fun() -> info(coroutines) =:= N end),
    1 = info(loops),
    {ok, 4.0} = py:call(math, sqrt, [16]), % meanwhile
    {ok, none} = await(t_aio, open_gate, []),
    [{ok, J} = py:async_await(Ref) || {Ref, J} <- lists:zip(Refs, lists:seq(2, N + 1))],
    none_left(),
    nothing_received(),
    %% Cancelled by the thousand.
    Refs2 = [py:async_call(t_aio, tell_and_wait, [nobody_listens, I]) || I <- lists:seq(1, 3000)],
    pyn_ct:wait_until(fun() -> info(coroutines) =:= 3000 end),
    [{error, timeout} = py:async_await(Ref, 0) || Ref <- Refs2],
    none_left().

overload(Config) ->
    ok = app_ct:start([{pynode_args, pynode_args() ++ ["--max-queue", "50"]}]),
    File = file(Config),
    Refs = [py:async_call(t_aio, when_there, [File, I]) || I <- lists:seq(1, 60)],
    50 = info(in_flight), % asked behind them
    ok = file:write_file(File, <<>>),
    Results = [py:async_await(Ref) || Ref <- Refs],
    50 = length([ok || {ok, _} <- Results]),
    10 = length([ok || {error, {overloaded, _, 50}} <- Results]),
    %% A gather begins the others as soon as there is room again.
    none_left(),
    Expected = {ok, lists:seq(1, 200)},
    Expected = py:async_gather([{asyncio, sleep, [0.01, I]} || I <- lists:seq(1, 200)]),
    Blocking = [py:async_call(asyncio, sleep, [60]) || _ <- lists:seq(1, 50)],
    pyn_ct:wait_until(fun() -> info(coroutines) =:= 50 end),
    {error, {gather_failed, [{1, {overloaded, 50, 50}}, {2, {overloaded, 50, 50}}]}} =
        py:async_gather([{t_aio, add, [1, 2]}, {t_aio, add, [1, 2]}]),
    [{error, timeout} = py:async_await(Ref, 0) || Ref <- Blocking].

%% They take no slot of the semaphore; the plain calls do.
no_slots(Config) ->
    ok = app_ct:start([{max_concurrent, 2}]),
    File = file(Config),
    Refs = [py:async_call(t_aio, when_there, [File, I]) || I <- lists:seq(1, 10)],
    pyn_ct:wait_until(fun() -> info(coroutines) =:= 10 end),
    0 = py_semaphore:current(),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = file:write_file(File, <<>>),
    [{ok, _} = py:async_await(Ref) || Ref <- Refs].

killed(_Config) ->
    ok = app_ct:start(),
    Node = app_ct:pynode(),
    Refs = [py:async_call(asyncio, sleep, [60]) || _ <- lists:seq(1, 10)],
    pyn_ct:wait_until(fun() -> info(coroutines) =:= 10 end),
    app_ct:kill_pynode(),
    [{error, {node_exited, Node, {signal, 9}}} = py:async_await(Ref, 10000) || Ref <- Refs],
    pyn_ct:wait_until(fun() -> py:async_await(py:async_call(t_aio, add, [1, 2])) =:= {ok, 3} end),
    %% One that does not come back.
    Nobody = list_to_atom(pyn_ct:unique("nobody") ++ "@" ++ pyn_ct:host()),
    ok = app_ct:start([{nodes, [Nobody]}]),
    {error, {gather_failed, [{1, {nodedown, Nobody}}]}} = py:async_gather([{asyncio, sleep, [1]}]).

drains(_Config) ->
    P = pyn_ct:start(["--workers", "2"]),
    Self = self(),
    Asked = [pyn_request(P, tell_and_wait, [Self, I, 0.5]) || I <- lists:seq(1, 20)],
    [receive {began, I} -> ok end || I <- lists:seq(1, 20)],
    pyn_ct:signal(P, "TERM"),
    [{reply, {ok, I}} = gen_server:wait_response(R, 5000) || {R, I} <- lists:zip(Asked, lists:seq(1, 20))],
    0 = pyn_ct:wait_exit(P),
    flush().

%% What does not end by itself is cancelled, and its finally blocks run.
stops(_Config) ->
    P = pyn_ct:start(["--workers", "2", "--drain-timeout", "300"]),
    Self = self(),
    Asked = [pyn_request(P, tell_and_wait, [Self, I, 60]) || I <- lists:seq(1, 20)],
    [receive {began, I} -> ok end || I <- lists:seq(1, 20)],
    pyn_ct:signal(P, "TERM"),
    [{reply, {error, stopping}} = gen_server:wait_response(R, 5000) || R <- Asked],
    [receive {finally, I} -> ok after 5000 -> error(no_finally) end || I <- lists:seq(1, 20)],
    7 = pyn_ct:wait_exit(P),
    flush().

stop_with_blocked_loop(_Config) ->
    P = pyn_ct:start(["--workers", "2", "--drain-timeout", "200"]),
    R = pyn_request(P, block, [60]),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, coroutines) =:= 1 end),
    Start = erlang:monotonic_time(millisecond),
    pyn_ct:signal(P, "TERM"),
    {reply, {error, stopping}} = gen_server:wait_response(R, 5000),
    7 = pyn_ct:wait_exit(P),
    Took = erlang:monotonic_time(millisecond) - Start,
    {true, _} = {Took < 6000, Took}.

no_nodes(_Config) ->
    app_ct:stop(),
    {error, no_nodes} = await(t_aio, add, [1, 2]),
    {error, no_nodes} = py:async_stream(t_aio, numbers, [1]),
    {error, {gather_failed, [{1, no_nodes}, {2, no_nodes}]}} = py:async_gather([{t_aio, add, [1, 2]}, {t_aio, add, [1, 2]}]),
    {error, not_found} = py_aio:cancel(make_ref()).

%% One that has none of our code.
from_a_stock_node(_Config) ->
    P = pyn_ct:start(["--workers", "1"]),
    Peer = pyn_ct:start_peer(),
    Node = pyn_ct:node_of(P),
    Ask = fun(Request) -> pyn_ct:on(Peer, fun() -> gen_server:call({py, Node}, Request, 30000) end) end,
    {ok, 3} = Ask({call, t_aio, add, [1, 2], #{}, #{async => true}}),
    {ok, [0, 1]} = Ask({call, t_aio, numbers, [2], #{}, #{async => stream}}),
    %% Nobody waits for its end.
    ok = pyn_ct:cast(P, {call, t_aio, tell_and_wait, [self(), 1, 0.01], #{}, #{async => true}}),
    [receive {What, 1} -> ok end || What <- [began, finally]],
    pyn_ct:stop_peer(Peer),
    pyn_ct:end_clean(P).

%% Coroutines of a module that sub-interpreters refuse run in the main interpreter.
refused_modules(_Config) ->
    P = pyn_ct:start(["--workers", "2"]),
    [{ok, [0, true]} = pyn_ct:call(P, {call, t_refused_aio, where, [], #{}, #{async => true}}) || _ <- [1, 2, 3]],
    pyn_ct:end_clean(P).

%%% Helpers

await(Module, Function, Args) ->
    py:async_await(py:async_call(Module, Function, Args)).

request(Node, Function, Args, Timeout) ->
    gen_server:send_request({py, Node}, {call, t_aio, Function, Args, #{}, #{async => true, timeout => Timeout}}).

ask_async(Node, Function, Args, Timeout) ->
    {reply, Answer} = gen_server:wait_response(request(Node, Function, Args, Timeout), Timeout + 5000),
    Answer.

pyn_request(P, Function, Args) ->
    request(pyn_ct:node_of(P), Function, Args, 60000).

%% One that is not there.
file(Config) ->
    list_to_binary(filename:join(proplists:get_value(priv_dir, Config), pyn_ct:unique("file"))).

pynode_args() ->
    ["--path", filename:join([pyn_ct:root(), "test", "py"])].

flush() ->
    receive {_, _} -> flush() after 0 -> ok end.
