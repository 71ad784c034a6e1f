%% Python calls Erlang functions: the examples of the guide as they are printed, errors, values, depth, threads, limits.
-module(callback_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [{group, one_worker}, {group, many_workers}, {group, limits}].

groups() ->
    Cases = [reentrant_example, nested_example, depth_100, endless_recursion, fibonacci_with_memo, class_methods,
             styles, errors, odd_functions, values, unregistered, registration, registered_twice, clocks_differ, names,
             deadline_ends_callback, cancel_ends_callback, cancel_ends_nested_call, cancelled_while_converting,
             interrupted_once, killed_callback, main_of_the_chain, defined_by_a_thread,
             nested_calls_take_no_slot, nested_async_calls, concurrent_callbacks, reentrant_100, own_threads,
             asked_for_threads, threads_end_with_their_call, threads_of_a_coroutine,
             threads_go_on, threads_of_exec_all, bind_in_callback, threads_nested, messages,
             message_not_converted,
             process_restarts],
    [{one_worker, [], Cases ++ [collector_in_lookup]},
     {many_workers, [], Cases ++ [threads_64, threads_too_deep]},
     {limits, [], [max_callbacks, max_callbacks_nested, max_callbacks_cancelled]}].

init_per_suite(Config) -> Config.

end_per_suite(_Config) ->
    app_ct:stop().

init_per_group(one_worker, Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    [{workers, 1}, {group, "one_worker"} | Config];
init_per_group(many_workers, Config) ->
    ok = app_ct:start(app_ct:workers(4)),
    [{workers, 4}, {group, "many_workers"} | Config];
init_per_group(limits, Config) ->
    ok = app_ct:start([{max_callbacks, 2} | app_ct:workers(8)]),
    Config.

end_per_group(_, _Config) ->
    app_ct:stop().

init_per_testcase(_, Config) ->
    ok = py:register_function(identity, fun([X]) -> X end),
    Config.

%% Whatever a case did, everything is as before: no callback is left, the workers are free.
end_per_testcase(_Case, _Config) ->
    flush(),
    ok = pyn_ct:wait_until(fun() -> running() =:= 0 andalso ok end),
    ok = pyn_ct:wait_until(fun() -> in_flight() =:= 0 andalso ok end),
    %% The process of a call that was called off gives its slot back when it has heard the answer.
    ok = pyn_ct:wait_until(fun() -> py_semaphore:current() =:= 0 andalso ok end),
    ?assertEqual({ok, 4.0}, py:call(math, sqrt, [16])),
    ok.

%%% The guide's examples

reentrant_example(_) ->
%% Register an Erlang function that calls Python
py:register_function(compute_via_python, fun([X]) ->
    {ok, Result} = py:call('__main__', complex_compute, [X]),
    Result * 2  %% Erlang post-processing
end),

%% Python code that uses the callback
py:exec(<<"
def process(x):
    from erlang import call
    # Calls Erlang, which calls Python's complex_compute
    result = call('compute_via_python', x)
    return result + 1
">>),
    ok = py:exec(<<"
def complex_compute(x):
    return x * x
">>),
    ?assertEqual({ok, 51}, py:call('__main__', process, [5])).

nested_example(_) ->
%% Each level alternates between Erlang and Python
py:register_function(level, fun([N, Max]) ->
    case N >= Max of
        true -> N;
        false ->
            {ok, Result} = py:call('__main__', next_level, [N + 1, Max]),
            Result
    end
end),

py:exec(<<"
def next_level(n, max):
    from erlang import call
    return call('level', n, max)

def start(max):
    from erlang import call
    return call('level', 1, max)
">>),

%% Test 10 levels of nesting
{ok, 10} = py:call('__main__', start, [10]).

depth_100(Config) ->
    nested_example(Config),
    [?assertEqual({ok, 100}, py:call('__main__', start, [100])) || _ <- lists:seq(1, 5)].

endless_recursion(Config) ->
    nested_example(Config),
    {error, {'CallbackError', Text}} = py:call('__main__', start, [1000000]),
    ?assertNotEqual(nomatch, string:find(Text, "RecursionError")),
    ?assert(length(Text) < 2000),
    ?assertEqual({ok, 10}, py:call('__main__', start, [10])),
    %% The same without an Erlang function that fails: what Python raised comes out as it is.
    ok = py:register_function(down, fun([N]) ->
        case py:call('__main__', down, [N + 1]) of
            {ok, Result} -> Result;
            {error, {Type, _}} -> Type
        end
    end),
    ok = py:exec("def down(n):\n    import erlang\n    return erlang.down(n)"),
    ?assertEqual({ok, <<"RecursionError">>}, py:call('__main__', down, [0])).

fibonacci_with_memo(_) ->
    Memo = ets:new(memo, [public]),
    ok = py:register_function(fib, fun([N]) ->
        case ets:lookup(Memo, N) of
            [{_, F}] -> F;
            [] ->
                {ok, F} = py:call('__main__', fib, [N]),
                true = ets:insert(Memo, {N, F}),
                F
        end
    end),
    ok = py:exec("
def fib(n):
    from erlang import call
    return n if n < 2 else call('fib', n - 1) + call('fib', n - 2)
"),
    ?assertEqual({ok, 12586269025}, py:call('__main__', fib, [50])).

class_methods(_) ->
    ok = py:register_function(add, fun([A, B]) -> A + B end),
    ok = py:register_function(describe, fun([Owner, Balance]) ->
        unicode:characters_to_binary(io_lib:format("~ts: ~b", [Owner, Balance]))
    end),
    ?assertEqual({ok, <<"Ann: 60">>}, py:call(t_callbacks, account, [<<"Ann">>, [10, 20, 30]])).

%%% Calling

styles(_) ->
    ?assertEqual({ok, 7}, py:call(t_callbacks, by_attribute, [7])),
    ?assertEqual({ok, 7}, py:call(t_callbacks, by_import, [7])),
    ?assertEqual({ok, 7}, py:call(t_callbacks, round_trip, [identity, 7])),
    ok = py:register_function(all, fun(Args) -> Args end),
    ?assertEqual({ok, []}, py:eval("__import__('erlang').all()")),
    ?assertEqual({ok, lists:seq(1, 40)}, py:eval("__import__('erlang').all(*range(1, 41))")),
    ?assertMatch({error, {'TypeError', _}}, py:eval("__import__('erlang').call()")),
    ?assertMatch({error, {'TypeError', _}}, py:eval("__import__('erlang').call(1)")),
    %% Code before the call runs once.
    ok = py:exec("
import erlang
ran = []
def once():
    ran.append(1)
    erlang.identity(1)
    return len(ran)
"),
    ?assertEqual({ok, 1}, py:call('__main__', once, [])).

errors(_) ->
    ok = py:register_function(raises, fun([_]) -> error(badthing) end),
    ok = py:register_function(throws, fun(_) -> throw(x) end),
    ok = py:register_function(exits, fun(_) -> exit({shutdown, <<"why">>}) end),
    ok = py:register_function(exits_normal, fun(_) -> exit(normal) end),
    ok = py:register_function(odd, fun(_) -> error(#{"list" => 1}) end),
    ok = py:register_function(large, fun(_) -> error(lists:seq(1, 100000)) end),
    {ok, Raised} = attempt([raises, 1]),
    ?assertMatch({<<"callback">>, <<"error: badthing">>, <<"error">>, <<"badthing">>, [_ | _], true}, Raised),
    ?assertMatch({match, _}, re:run(hd(element(5, Raised)), "^callback_SUITE:.*\\(.*callback_SUITE.erl, line [0-9]+\\)$")),
    ?assertMatch({ok, {<<"callback">>, <<"throw: x">>, <<"throw">>, <<"x">>, _, true}}, attempt([throws])),
    ?assertMatch({ok, {<<"callback">>, <<"exit: {shutdown,<<\"why\">>}">>, <<"exit">>, {<<"shutdown">>, <<"why">>}, _, _}},
                 attempt([exits])),
    ?assertMatch({ok, {<<"callback">>, <<"exit: normal">>, <<"exit">>, <<"normal">>, _, _}}, attempt([exits_normal])),
    ?assertMatch({ok, {<<"callback">>, <<"error: #{\"list\" => 1}">>, _, <<"#{\"list\" => 1}">>, _, _}}, attempt([odd])),
    {ok, {<<"callback">>, Text, _, Text2, _, _}} = attempt([large]),
    ?assert(byte_size(Text) < 3000 andalso byte_size(Text2) < 3000),
    %% Not caught in Python.
    ?assertEqual({error, {'CallbackError', "error: badthing"}}, py:call(t_callbacks, round_trip, [raises, 1])),
    {error, {'CallbackError', "error: badthing", Trace}} =
        py:call(t_callbacks, round_trip, [raises, 1], #{}, #{traceback => true}),
    ?assertNotEqual(nomatch, string:find(Trace, "t_callbacks.py")).

odd_functions(_) ->
    ok = py:register_function(mf, lists, sum),
    ?assertEqual({ok, 6}, py:eval("__import__('erlang').mf(1, 2, 3)")),
    ok = py:register_function(nowhere, no_such_module, f),
    ?assertMatch({ok, {<<"callback">>, <<"error: undef">>, <<"error">>, <<"undef">>, [<<"no_such_module:f(", _/binary>> | _], _}},
                 attempt([nowhere, 1])),
    ok = py:register_function(one, fun([_]) -> ok end),
    ?assertMatch({ok, {<<"callback">>, <<"error: function_clause">>, _, _, [_ | _], _}}, attempt([one, 1, 2])),
    ok = py:register_function(linked, fun(_) -> spawn_link(fun() -> exit(poison) end), receive never -> ok end end),
    ?assertMatch({ok, {<<"callback">>, <<"exit: poison">>, <<"exit">>, <<"poison">>, [], _}}, attempt([linked])),
    ?assertMatch({error, {bad_function, _}}, py:register_function(two, fun(_, _) -> ok end)),
    ?assertMatch({error, {bad_function, _}}, py:register_function(two, not_a_fun)),
    ?assertMatch({error, {bad_function, _}}, py:register_function(two, "m", f)),
    ?assertMatch({ok, {<<"callback">>, <<"Function 'two' not registered">>, _, _, _, _}}, attempt([two])).

values(_) ->
    Self = self(),
    Values = [Self, make_ref(), fun erlang:node/0, 1.0e300, -1.0e-300, 1 bsl 4000, -(1 bsl 64), [1 | 2], <<255, 0>>,
              <<5:3>>, <<"gr", 252/utf8, "n">>, [], {}, #{}, #{<<"a">> => [1, 2.0, {<<"b">>}]}, true, lists:seq(1, 1000)],
    lists:foreach(fun(Value) ->
        ok = py:register_function(give, fun(_) -> Value end),
        ?assertEqual({ok, Value}, py:call(t_callbacks, round_trip, [give, 0])),
        ?assertEqual({ok, Value}, py:call(t_callbacks, round_trip, [identity, Value]))
    end, Values),
    ok = py:register_function(give, fun(_) -> self() end),
    ?assertMatch({ok, Pid} when is_pid(Pid), py:call(t_callbacks, round_trip, [give, 0])),
    ?assertMatch({ok, {<<"Pid">>, Self}}, py:call(t_callbacks, type_and_value, [identity, Self])),
    ?assertEqual({ok, {<<"float">>, 1.0e300}}, py:call(t_callbacks, type_and_value, [identity, 1.0e300])),
    ?assertEqual({ok, {<<"bytes">>, <<255>>}}, py:call(t_callbacks, type_and_value, [identity, <<255>>])),
    ?assertEqual({ok, {<<"NoneType">>, none}}, py:call(t_callbacks, type_and_value, [identity, undefined])),
    Large = binary:copy(<<"0123456789abcdef">>, 4 * 1024 * 1024),
    ok = py:register_function(large, fun(_) -> Large end),
    ?assertEqual({ok, byte_size(Large)}, py:call(t_callbacks, size, [large])),
    ok = py:register_function(measure, fun([B]) -> byte_size(B) end),
    ?assertEqual({ok, 64 * 1024 * 1024}, py:eval("__import__('erlang').measure(b'x' * (64 << 20))")),
    %% What has no counterpart is an exception of the usual kind.
    ok = py:register_function(unhashable, fun(_) -> #{[1] => 2} end),
    ?assertMatch({ok, {<<"TypeError">>, _}}, attempt([unhashable])),
    ?assertMatch({error, {'ValueError', _}}, py:eval("__import__('erlang').identity('\\ud800')")),
    ok = py:exec("def deep():\n    import erlang\n    x = []\n    x.append(x)\n    return erlang.identity(x)"),
    {error, {_, Deep}} = py:call('__main__', deep, []),
    ?assertNotEqual(nomatch, string:find(Deep, "nested")).

unregistered(_) ->
    ?assertEqual({ok, {<<"callback">>, <<"Function 'no_such' not registered">>, <<"error">>,
                       {<<"undefined_function">>, <<"no_such">>}, [], true}}, attempt([no_such])),
    ?assertEqual({error, {'CallbackError', "Function 'no_such' not registered"}},
                 py:eval("__import__('erlang').no_such()")),
    ?assertMatch({ok, {<<"callback">>, <<"Function '", _/binary>>, _, _, _, _}}, attempt([<<"üé \t"/utf8>>])),
    ?assertMatch({ok, {<<"callback">>, _, _, _, _, _}}, attempt([binary:copy(<<"n">>, 100000)])).

%%% Registering

registration(_) ->
    ok = py:register_function(f, fun(_) -> 1 end),
    ?assertEqual({ok, {<<"ok">>, 1}}, attempt([f])),
    ok = py:unregister_function(f),
    ?assertMatch({ok, {<<"callback">>, <<"Function 'f' not registered">>, _, _, _, _}}, attempt([f])),
    ok = py:unregister_function(f),
    ok = py:unregister_function(never_was),
    %% As soon as it returns, every interpreter can call it.
    lists:foreach(fun(N) ->
        Name = "now_" ++ integer_to_list(N),
        ok = py:register_function(Name, fun(_) -> N end),
        [?assertEqual({ok, {<<"ok">>, N}}, attempt([list_to_binary(Name)])) || _ <- lists:seq(1, 5)],
        ok = py:unregister_function(Name)
    end, lists:seq(1, 20)).

registered_twice(_) ->
    ok = py:register_function(f, fun(_) -> 1 end),
    ok = py:register_function(f, fun(_) -> 2 end),
    ?assertEqual({ok, {<<"ok">>, 2}}, attempt([f])),
    ok = py:register_function(f, lists, sum),
    ?assertEqual({ok, {<<"ok">>, 5}}, attempt([f, 2, 3])).

clocks_differ(_) ->
    %% What a node registers whose clock is ahead.
    There = spawn_link(fun() -> receive stop -> ok end end),
    Stamp = {erlang:system_time() + erlang:convert_time_unit(3600, second, native), 1},
    ok = gen_server:call(py_callback, {py_register, 'ahead@there', There, [{<<"clocks">>, Stamp, {there, 'ahead@there'}}]}),
    %% Later, whatever the clocks say.
    ok = py:register_function(clocks, fun(_) -> 1 end),
    {ok, 1} = py:eval(<<"__import__('erlang').call('clocks')">>),
    ok = py:register_function(clocks, fun(_) -> 2 end),
    {ok, 2} = py:eval(<<"__import__('erlang').call('clocks')">>),
    %% An older one that comes late, as a coordinator hears it that was away, is refused.
    {newer, _} = gen_server:call(py_callback, {py_register, 'ahead@there', There, [{<<"clocks">>, Stamp, {there, 'ahead@there'}}]}),
    {ok, 2} = py:eval(<<"__import__('erlang').call('clocks')">>),
    There ! stop,
    ok = py:unregister_function(clocks).

names(_) ->
    ok = py:register_function("string", fun(_) -> string end),
    ok = py:register_function(<<"binary">>, fun(_) -> binary end),
    ok = py:register_function('größe', fun(_) -> umlaut end),
    ok = py:register_function("", fun(_) -> empty end),
    ?assertEqual({ok, {<<"ok">>, <<"string">>}}, attempt([string])),
    ?assertEqual({ok, {<<"ok">>, <<"binary">>}}, attempt([binary])),
    ?assertEqual({ok, <<"umlaut">>}, py:eval(<<"__import__('erlang').größe()"/utf8>>)),
    ?assertEqual({ok, {<<"ok">>, <<"empty">>}}, attempt([<<>>])),
    ?assertMatch({error, {not_text, _}}, py:register_function(<<255>>, fun(_) -> 1 end)),
    ?assertMatch({error, {not_text, _}}, py:register_function([a], fun(_) -> 1 end)),
    ?assertMatch({error, {not_text, _}}, py:register_function(17, lists, sum)),
    [ok = py:unregister_function(N) || N <- ["string", "binary", "größe", ""]].

%%% Ends

deadline_ends_callback(_) ->
    never(),
    late(fun() -> py:call(t_callbacks, wait_for, [never], #{}, 300) end),
    %% Even when it traps exits, or waits for Python.
    Test = self(),
    ok = py:register_function(traps, fun(_) ->
        process_flag(trap_exit, true), Test ! {callback, self()}, receive never -> ok end
    end),
    late(fun() -> py:call(t_callbacks, wait_for, [traps], #{}, 200) end),
    ok = py:register_function(waits, fun(_) -> Test ! {callback, self()}, py:call(t_callbacks, nap, [20]) end),
    late(fun() -> py:call(t_callbacks, wait_for, [waits], #{}, 200) end),
    %% A nested call has no more time than the outer one, whatever it asks for.
    ok = py:register_function(patient, fun(_) -> py:call(t_callbacks, wait_for, [never], #{}, infinity) end),
    late(fun() -> py:call(t_callbacks, wait_for, [patient], #{}, 300) end).

cancel_ends_callback(_) ->
    never(),
    {Caller, Ref} = spawn_monitor(fun() -> py:call(t_callbacks, wait_for, [never]) end),
    Pid = callback_pid(),
    ?assert(is_process_alive(Pid)),
    exit(Caller, kill),
    receive {'DOWN', Ref, process, Caller, _} -> ok end,
    dead(Pid),
    Async = py:call_async(t_callbacks, wait_for, [never]),
    Pid2 = callback_pid(),
    ?assertEqual({error, timeout}, py:await(Async, 50)),
    dead(Pid2).

%% The worker that waits for the callback is busy with the callback's own call meanwhile, which ends first.
cancel_ends_nested_call(_) ->
    Test = self(),
    ok = py:register_function(nests, fun(_) -> Test ! {callback, self()}, py:call(t_callbacks, spin, [Test]) end),
    #{stuck_total := Stuck} = info(),
    [begin
         {Caller, Ref} = spawn_monitor(fun() -> py:call(t_callbacks, wait_for, [nests]) end),
         Pid = callback_pid(),
         receive <<"spins">> -> ok end,
         exit(Caller, kill),
         receive {'DOWN', Ref, process, Caller, _} -> ok end,
         dead(Pid),
         ok = pyn_ct:wait_until(fun() -> in_flight() =:= 0 andalso ok end)
     end || _ <- [1, 2, 3]],
    ok = pyn_ct:wait_until(fun() -> maps:get(stuck, info()) =:= 0 andalso ok end),
    %% A worker that stands still when it is interrupted is given up: once at most.
    ?assert(maps:get(stuck_total, info()) - Stuck =< 1).

%% The callback that is asked for all the same does not stay: end_per_testcase looks.
cancelled_while_converting(_) ->
    never(),
    [begin
         {Caller, Ref} = spawn_monitor(fun() -> py:call(t_callbacks, F, [never, Go]) end),
         pyn_ct:wait_until(fun() -> py:state_fetch(Go) =:= {ok, <<"converts">>} end),
         exit(Caller, kill),
         receive {'DOWN', Ref, process, Caller, _} -> ok end,
         pyn_ct:wait_until(fun() -> in_flight() =:= 0 end)
     end || {F, Go} <- [{slow_argument, <<"slow_argument">>}, {slow_argument_in_loop, <<"slow_argument_in_loop">>}]],
    %% This is asked for after them.
    ?assertEqual({ok, {<<"ok">>, 1}}, attempt([identity, 1])),
    [ok = py:state_remove(Go) || Go <- [<<"slow_argument">>, <<"slow_argument_in_loop">>]].

%% Code that tidies up when its callback is called off is not hit by the interrupt that comes for the same reason.
interrupted_once(Config) ->
    never(),
    File = list_to_binary(filename:join(?config(priv_dir, Config), ?config(group, Config))),
    {ok, 1} = py:call(t_callbacks, tidies_up, [identity, File]),
    [?assertEqual({error, timeout}, py:call(t_callbacks, tidies_up, [never, File], #{}, 100)) || _ <- lists:seq(1, 20)],
    ok = pyn_ct:wait_until(fun() -> in_flight() =:= 0 andalso ok end),
    {ok, Marks} = file:read_file(File),
    {Entered, Left} = {length(binary:matches(Marks, <<"o">>)), length(binary:matches(Marks, <<"x">>))},
    %% On a machine that stands still meanwhile, it may be hit by the one that follows after 150 ms.
    ?assert(Entered > 1 andalso Left * 4 >= Entered * 3, Marks),
    flush().

killed_callback(_) ->
    ok = py:register_function(suicide, fun(_) -> exit(self(), kill), receive never -> ok end end),
    ?assertMatch({ok, {<<"callback">>, <<"exit: killed">>, <<"exit">>, <<"killed">>, [], true}}, attempt([suicide])).

%%% Chains

%% A nested call sees the definitions of the chain, not those of another interpreter, nor of another process.
main_of_the_chain(_) ->
    ok = py:register_function(whose, fun([]) -> {ok, W} = py:call('__main__', whose, []), W end),
    Me = self(),
    Work = fun(N) ->
        ok = py:exec(io_lib:format("mark = ~b~ndef whose(): return mark~n"
                                   "def ask():~n    import erlang~n    return [erlang.whose(), mark]", [N])),
        case py:execution_mode() of
            subinterp -> [{ok, [M, M]} = py:call('__main__', ask, []) || _ <- lists:seq(1, 20)];
            _ -> [{ok, [_, _]} = py:call('__main__', ask, []) || _ <- lists:seq(1, 20)]
        end,
        Me ! {done, N}
    end,
    Pids = [spawn_link(fun() -> Work(N) end) || N <- lists:seq(1, 8)],
    [receive {done, N} -> ok end || N <- lists:seq(1, length(Pids))].

%% What a callback defines that a thread of Python's asked for is found by processes that defined nothing, though no worker
%% runs that exec, but a helper.
defined_by_a_thread(_) ->
    ok = py:register_function(defines, fun([Name]) ->
        py:exec(<<"def ", Name/binary, "(): return '", Name/binary, "'">>)
    end),
    Found = fun(Name) -> py:call('__main__', Name, [], #{}, 20000) end,
    Self = self(),
    [begin
         ?assertEqual({ok, {<<"ok">>, <<"ok">>}}, py:call(t_callbacks, in_thread, [defines, Name])),
         spawn_link(fun() -> Self ! {found, Name, Found(Name)} end),
         receive {found, Name, Result} -> ?assertEqual({ok, Name}, Result) end
     end || N <- lists:seq(1, 5), Name <- [<<"of_thread_", (integer_to_binary(N))/binary>>]].

%% A collector that runs while the names of a call are looked up runs a destructor, whose callback makes so many other
%% calls on that worker that they take every place where names are kept.
collector_in_lookup(_) ->
    Names = [list_to_atom("name_" ++ integer_to_list(N)) || N <- lists:seq(1, 3000)],
    ok = py:register_function(look_up, fun([]) -> [py:call(t_names, Name, []) || Name <- Names], length(Names) end),
    {ok, <<"name_0">>} = py:call(t_names, name_0, []),
    {ok, none} = py:call(t_callbacks, collect_at_next_list, []),
    ?assertEqual({ok, <<"the right one">>}, py:call(t_callbacks, own_name, [])),
    ?assertEqual({ok, <<"the right one">>}, py:call(t_callbacks, own_name, [])),
    ?assertEqual({ok, [3000]}, py:call(t_callbacks, collected, [])).

nested_calls_take_no_slot(Config) ->
    Max = py_semaphore:max_concurrent(),
    nested_example(Config),
    ok = py_semaphore:set_max_concurrent(1),
    try
        ?assertEqual({ok, 20}, py:call('__main__', start, [20])),
        ok = py:register_function(slots, fun(_) -> {ok, N} = py:call(t_callbacks, by_attribute, [py_semaphore:current()]), N end),
        ?assertEqual({ok, 1}, py:call(t_callbacks, round_trip, [slots, 0]))
    after
        ok = py_semaphore:set_max_concurrent(Max)
    end.

nested_async_calls(_) ->
    ok = py:register_function(many, fun([N]) ->
        Refs = [py:call_async(math, sqrt, [I * I]) || I <- lists:seq(1, N)],
        [begin {ok, V} = py:await(R), V end || R <- Refs]
    end),
    ?assertEqual({ok, [float(I) || I <- lists:seq(1, 20)]}, py:call(t_callbacks, round_trip, [many, 20])),
    %% One that nobody awaits runs all the same.
    Test = self(),
    ok = py:register_function(tell, fun([X]) -> Test ! {told, X}, ok end),
    ok = py:register_function(leave, fun([N]) -> py:cast(t_callbacks, attempt, [tell, N]), ok end),
    lists:foreach(fun(N) ->
        ?assertEqual({ok, <<"ok">>}, py:call(t_callbacks, round_trip, [leave, N])),
        receive {told, N} -> ok after 10000 -> ct:fail({not_told, N}) end
    end, lists:seq(1, 500)).

concurrent_callbacks(Config) ->
    %% One that waits does not hold up others, from the same or from other workers.
    Test = self(),
    ok = py:register_function(block, fun(_) -> Test ! {callback, self()}, receive go -> gone end end),
    Async = py:call_async(t_callbacks, round_trip, [block, 0]),
    Pid = callback_pid(),
    [?assertEqual({ok, 5}, py:call(t_callbacks, round_trip, [identity, 5])) || ?config(workers, Config) > 1],
    Pid ! go,
    ?assertEqual({ok, <<"gone">>}, py:await(Async)).

reentrant_100(Config) ->
    nested_example(Config),
    Max = py_semaphore:max_concurrent(),
    ok = py_semaphore:set_max_concurrent(200),
    Refs = [py:call_async('__main__', start, [5]) || _ <- lists:seq(1, 100)],
    [?assertEqual({ok, 5}, py:await(Ref)) || Ref <- Refs],
    ok = py_semaphore:set_max_concurrent(Max).

%%% Threads

own_threads(_) ->
    ok = py:register_function(raises, fun([_]) -> error(badthing) end),
    ?assertEqual({ok, {<<"ok">>, 5}}, py:call(t_callbacks, in_thread, [identity, 5])),
    ?assertMatch({ok, {<<"callback">>, <<"error: badthing">>, _, _, _, _}}, py:call(t_callbacks, in_thread, [raises, 5])),
    %% A callback of a thread may call Python as well, though the worker waits for the thread.
    ok = py:register_function(root, fun([X]) -> {ok, R} = py:call(math, sqrt, [X]), R end),
    ?assertEqual({ok, {<<"ok">>, 3.0}}, py:call(t_callbacks, in_thread, [root, 9])).

%% What a thread asks for has no more time than the call that started it, and ends when that is called off; no worker is
%% stuck in waiting for such a thread.
threads_end_with_their_call(_) ->
    never(),
    Plain = [in_thread, in_executor, in_own_loop, in_thread_of_own_loop, in_copied_context],
    Coroutines = [in_other_thread, in_loops_executor, awaits],
    %% What they import is there before the time counts.
    [{ok, _} = py:call(t_callbacks, F, [identity, 1]) || F <- Plain],
    [{ok, 1} = py:async_await(py:async_call(t_callbacks, F, [identity, 1]), 10000) || F <- Coroutines],
    [late(fun() -> py:call(t_callbacks, F, [never, 1], #{}, 500) end) || F <- Plain],
    flush(),
    [begin
         Ref = py:async_call(t_callbacks, F, [never, 1]),
         Pid = callback_pid(),
         ?assertEqual({F, {error, timeout}}, {F, py:async_await(Ref, 100)}),
         dead(Pid)
     end || F <- Coroutines],
    [begin
         Ref = py:call_async(t_callbacks, F, [never, 1]),
         Pid = callback_pid(),
         ok = py:interrupt(Ref),
         ?assertEqual({F, {error, interrupted}}, {F, py:await(Ref)}),
         dead(Pid),
         flush()
     end || F <- Plain],
    [begin
         {Caller, Monitor} = spawn_monitor(fun() -> py:call(t_callbacks, F, [never, 1]) end),
         Pid = callback_pid(),
         exit(Caller, kill),
         receive {'DOWN', Monitor, process, Caller, _} -> ok end,
         dead(Pid),
         flush()
     end || F <- Plain],
    {ok, Stream} = py:stream_start(t_callbacks, items, [never, 1]),
    Item = callback_pid(),
    ok = py:stream_cancel(Stream),
    dead(Item),
    ok = pyn_ct:wait_until(fun() -> maps:get(stuck, maps:get(app_ct:pynode(), py:info())) =:= 0 andalso ok end).

%% The coroutine has not begun when its function starts the thread.
threads_of_a_coroutine(_) ->
    never(),
    Ref = py:async_call(t_callbacks, starts_and_waits, [never, 1]),
    Pid = callback_pid(),
    ?assertEqual({error, timeout}, py:async_await(Ref, 50)),
    dead(Pid).

%% They keep nothing of the call, which has its answer.
threads_of_exec_all(_) ->
    never(),
    %% Not remembered: a worker that is started later, for one that was given up, is not to have one too.
    {ok, [_ | Others] = Results} =
        py_everywhere:exec(<<"import threading, t_callbacks\n"
                             "threading.Thread(target=t_callbacks.attempt, args=('never', 1)).start()\n">>, #{}),
    ok = py_everywhere:first_error(Results),
    Pid = callback_pid(),
    ok = pyn_ct:wait_until(fun() -> in_flight() =:= 0 andalso ok end),
    true = is_process_alive(Pid),
    exit(Pid, kill),
    %% Each interpreter has one.
    [exit(callback_pid(), kill) || _ <- Others].

%% When the call has ended well, its threads go on by themselves; those of an executor work for who submits.
threads_go_on(_) ->
    _ = py:state_clear(),
    {ok, none} = py:call(t_callbacks, goes_on, [<<"went">>, <<"go">>]),
    {ok, none} = py:call(t_callbacks, goes_on, [<<"went">>, <<"go">>]),
    pyn_ct:wait_until(fun() -> in_flight() =:= 0 end),
    ok = py:state_store(<<"go">>, 1),
    pyn_ct:wait_until(fun() -> py:state_fetch(<<"went">>) =:= {ok, 4} end).

%% Whatever such a callback asks for: it does not wait for the worker that waits for the thread.
asked_for_threads(_) ->
    Ask = fun(Fun) ->
        ok = py:register_function(asked, fun([]) -> Fun() end),
        {ok, {<<"ok">>, Result}} = py:call(t_callbacks, in_thread, [asked], #{}, 20000),
        Result
    end,
    ?assertEqual(<<"ok">>, Ask(fun() -> py:exec_all(<<"asked_by_thread = 1">>) end)),
    ?assertEqual({ok, 1}, py:eval(<<"asked_by_thread">>)),
    ?assertMatch({<<"ok">>, _}, Ask(fun() -> py:gc() end)),
    ?assertEqual(<<"ok">>, Ask(fun() -> py:reload(json) end)),
    ?assertMatch({<<"ok">>, _}, Ask(fun() -> {ok, Stats} = py:memory_stats(), {ok, map_size(Stats)} end)),
    ok = py:exec_all(<<"import erlang\nasync def ask_again(*args): return await erlang.async_call(*args)">>),
    ok = py:register_function(evals, fun([]) -> py:eval(<<"1 + 1">>, #{}, 10000) end),
    ?assertEqual({<<"ok">>, [{<<"ok">>, 2}]}, Ask(fun() -> py:async_gather([{'__main__', ask_again, [evals]}]) end)).

%% A callback does not wait for a worker that is to be bound; one that is free is bound.
bind_in_callback(Config) ->
    Self = self(),
    ok = py:register_function(binds, fun([]) -> Self ! {bound, py:bind(new)}, ok end),
    {ok, <<"ok">>} = py:call(erlang, call, [binds], #{}, 20000),
    receive {bound, Result} ->
        case proplists:get_value(workers, Config) of
            1 -> ?assertEqual({error, no_workers_available}, Result);
            _ -> ?assertMatch({ok, _}, Result)
        end
    end.

%% Each level is a thread of its own, for which the level before waits. All of it is in one interpreter.
threads_nested(_) ->
    ok = py:register_function(thread_level, fun([N]) -> {ok, R} = py:call(t_threads, level, [N]), R end),
    ?assertEqual({ok, {30, lists:seq(30, 0, -1)}}, py:call(t_threads, depths_of, [30])),
    ?assertEqual({ok, {[2], 20}}, py:call(t_threads, many, [20])),
    %% All workers wait for their threads.
    Refs = [py:call_async(t_threads, many, [2]) || _ <- lists:seq(1, 8)],
    [?assertEqual({ok, {[2], 2}}, py:await(Ref)) || Ref <- Refs],
    %% One of them that does not come back is interrupted when its own time is over.
    ok = py:register_function(hang, fun([]) -> py:call(t_callbacks, nap, [60], #{}, 200) end),
    ?assertEqual({ok, {<<"ok">>, {<<"error">>, <<"timeout">>}}}, py:call(t_callbacks, in_thread, [hang])),
    %% An error is the callback's.
    ok = py:register_function(raises, fun([]) -> py:call(math, sqrt, [-1]) end),
    ?assertMatch({ok, {<<"ok">>, {<<"error">>, {<<"ValueError">>, _}}}}, py:call(t_callbacks, in_thread, [raises])).

%% More depths than there are threads for: the last one waits for its time, then all of it ends. The threads that pynode
%% started for it are no workers, and do not hold up its end.
threads_too_deep(_) ->
    P = pyn_ct:start(["--workers", "1", "--main-workers", "1", "--coordinator", atom_to_list(node())]),
    Workers = pyn_ct:info(P, workers),
    ok = pyn_ct:wait_until(fun() ->
        case pyn_ct:call(P, {call, t_callbacks, in_thread, [identity, 5]}) of
            {ok, {<<"ok">>, 5}} -> ok;
            _ -> false
        end
    end),
    ok = py:register_function(deeper, fun
        ([0]) -> bottom;
        ([N]) -> element(2, py:call(t_callbacks, in_thread, [deeper, N - 1], #{}, 5000))
    end),
    {ok, Shallow} = pyn_ct:call(P, {call, t_callbacks, in_thread, [deeper, 20]}),
    ?assertEqual(<<"bottom">>, innermost(Shallow)),
    ?assertEqual({error, timeout}, pyn_ct:call(P, {call, t_callbacks, in_thread, [deeper, 250], #{}, 2000})),
    ?assertEqual({ok, 4.0}, pyn_ct:call(P, {call, math, sqrt, [16]})),
    ok = pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 andalso ok end),
    ?assert(pyn_ct:info(P, workers) =< Workers + 16), % --max-stuck: for workers that did not come back in time
    ?assertEqual(0, pyn_ct:stop(P)).

innermost({<<"ok">>, Inner}) -> innermost(Inner);
innermost(Inner) -> Inner.

%% Every answer is its own call's. A million of them with STRESS=1.
threads_64() ->
    [{timetrap, {minutes, 8}}].

threads_64(_) ->
    ok = py:register_function(delayed, fun([X, Delay]) ->
        Delay > 0 andalso timer:sleep(Delay),
        X
    end),
    Calls = calls(os:getenv("STRESS", ""), os:getenv("SANITIZER", "")),
    ?assertEqual({ok, []}, py:call(t_callbacks, stress, [delayed, 64, Calls div 64, 17], #{}, 450000)).

calls("1", _) -> 1000000;
calls(_, "") -> 100000;
calls(_, _Sanitizer) -> 10000.

%%% Messages

messages(_) ->
    Self = self(),
    {ok, none} = py:call(t_callbacks, send, [Self, {hello, 1}]),
    receive {<<"hello">>, 1} -> ok after 5000 -> ct:fail(no_message) end,
    true = register(callback_SUITE_process, self()),
    {ok, none} = py:call(t_callbacks, send, [<<"callback_SUITE_process">>, 2]),
    receive 2 -> ok after 5000 -> ct:fail(no_message) end,
    %% A node that the C-node has no link to, by way of the coordinator, in order.
    Peer = pyn_ct:start_peer(),
    There = pyn_ct:on(Peer, fun() -> spawn(fun() -> collect(Self, 1000) end) end),
    {ok, none} = py:call(t_callbacks, send_many, [There, 1000]),
    receive {collected, List} -> ?assertEqual(lists:seq(0, 999), List) after 20000 -> ct:fail(no_messages) end,
    pyn_ct:stop_peer(Peer),
    ?assertEqual({ok, 5}, py:eval(<<"__import__('erlang').call(__import__('erlang').Atom('identity'), 5)">>)),
    {ok, none} = py:call(t_callbacks, send, [{callback_SUITE_process, node()}, 3]),
    receive 3 -> ok after 5000 -> ct:fail(no_message) end,
    [{error, {'TypeError', _}} = py:call(t_callbacks, send, [To, 1]) || To <- [5, none, [1], {1, 2, 3}, {a, 1}, <<255>>, #{}]],
    Long = binary:copy(<<"x">>, 300), % no atom
    [?assertEqual({error, {'ValueError', "an atom has at most 255 characters, not 300"}}, py:call(t_callbacks, send, [To, 1]))
     || To <- [Long, {Long, atom_to_binary(node())}, {<<"a">>, Long}]],
    %% Nobody there: no error.
    {ok, none} = py:call(t_callbacks, send, [<<"nobody_of_that_name">>, 1]),
    {ok, none} = py:call(t_callbacks, send, [There, 1]),
    true = unregister(callback_SUITE_process).

%% What cannot be converted is an error for who sends it, and nobody else is told.
message_not_converted(_) ->
    Self = self(),
    Text = "cannot convert str with lone surrogates at [1]",
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => Self}),
    try
        [?assertEqual({error, {'ValueError', Text}},
                      py:call(t_callbacks, send_evaluated, [To, <<"[[0] * 100000, '\\ud800']">>]))
         || To <- [<<"callback_SUITE_process">>, Self, {callback_SUITE_process, node()}]],
        {ok, none} = py:call(t_callbacks, send, [Self, after_them]),
        receive Message when not is_tuple(Message) -> ?assertEqual(<<"after_them">>, Message) after 5000 -> ct:fail(no_message) end,
        {ok, none} = py:eval(<<"print('the last line')">>),
        ?assertEqual([], lines_until(<<"the last line">>))
    after
        ok = logger:remove_handler(?MODULE)
    end.

%% As a handler of logger: lines of the C-node.
log(#{msg := {Format, Args}, meta := #{py_area := Area}}, #{config := Pid}) ->
    Pid ! {line, Area, unicode:characters_to_binary(io_lib:format(Format, Args))};
log(_, _) -> ok.

%% Lines of its links before the one that Python writes.
lines_until(Last) ->
    receive
        {line, <<"link">>, Line} -> [Line | lines_until(Last)];
        {line, _, Line} -> [X || nomatch <- [binary:match(Line, Last)], X <- lines_until(Last)]
    after 20000 -> ct:fail(no_line)
    end.

collect(To, N) ->
    List = [receive X -> X end || _ <- lists:seq(1, N)],
    To ! {collected, List}.

%%% Crashes here

process_restarts(_) ->
    ok = py:register_function(f, fun(_) -> alive end),
    [begin
        restart(Name),
        ?assertEqual({ok, {<<"ok">>, <<"alive">>}}, attempt([f])),
        %% What is registered and unregistered later has its effect too.
        ok = pyn_ct:wait_until(fun() -> py:register_function(g, fun(_) -> g end) =:= ok andalso ok end),
        ?assertEqual({ok, {<<"ok">>, <<"g">>}}, attempt([g])),
        ok = py:unregister_function(g),
        ?assertMatch({ok, {<<"callback">>, _, _, _, _, _}}, attempt([g]))
     end || Name <- [py_callback, py_functions, py_coordinators, py_state]],
    %% A callback that runs meanwhile is answered.
    Test = self(),
    ok = py:register_function(block, fun(_) -> Test ! {callback, self()}, receive go -> gone end end),
    Async = py:call_async(t_callbacks, round_trip, [block, 0]),
    Pid = callback_pid(),
    restart(py_callback),
    Pid ! go,
    ?assertEqual({ok, <<"gone">>}, py:await(Async)).

restart(Name) ->
    Old = whereis(Name),
    exit(Old, kill),
    ok = pyn_ct:wait_until(fun() -> is_pid(whereis(Name)) andalso whereis(Name) =/= Old andalso ok end),
    ok = pyn_ct:wait_until(fun() -> py_coordinators:up() =:= [node()] andalso is_pid(whereis(py_coordinators)) andalso ok end).

%%% Limits

max_callbacks(_) ->
    %% How many run, and whether there were ever one, two, three...
    {Gauge, Seen} = {atomics:new(1, []), atomics:new(40, [])},
    ok = py:register_function(gauge, fun([N]) ->
        ok = atomics:put(Seen, atomics:add_get(Gauge, 1, 1), 1),
        timer:sleep(20),
        ok = atomics:sub(Gauge, 1, 1),
        N
    end),
    Refs = [py:call_async(t_callbacks, round_trip, [gauge, N]) || N <- lists:seq(1, 40)],
    [?assertEqual({ok, N}, py:await(Ref)) || {N, Ref} <- lists:zip(lists:seq(1, 40), Refs)],
    ?assertEqual([1, 1, 0], [atomics:get(Seen, N) || N <- [1, 2, 3]]).

%% More levels than callbacks at once.
max_callbacks_nested(Config) ->
    nested_example(Config),
    Refs = [py:call_async('__main__', start, [20]) || _ <- lists:seq(1, 5)],
    [?assertEqual({ok, 20}, py:await(Ref)) || Ref <- Refs].

%% Who waits for its turn can be called off, and then does not take it.
max_callbacks_cancelled(_) ->
    never(),
    Blocked = [py:call_async(t_callbacks, wait_for, [never]) || _ <- [1, 2]],
    Pids = [callback_pid() || _ <- Blocked],
    ?assertEqual({error, timeout}, py:call(t_callbacks, round_trip, [identity, 1], #{}, 100)),
    Waiting = py:call_async(t_callbacks, round_trip, [identity, 1]),
    ?assertEqual({error, timeout}, py:await(hd(Blocked), 0)),
    ?assertEqual({ok, 1}, py:await(Waiting)),
    ?assertEqual({error, timeout}, py:await(lists:last(Blocked), 0)),
    [dead(Pid) || Pid <- Pids].

%%% Help

attempt(Args) ->
    py:call(t_callbacks, attempt, Args).

never() ->
    Test = self(),
    ok = py:register_function(never, fun(_) -> Test ! {callback, self()}, receive never -> ok end end).

callback_pid() ->
    receive {callback, Pid} -> Pid after 10000 -> ct:fail(no_callback) end.

%% Its time is over, and the callback that it waits for dead. One whose time was over before it came to that is made again.
late(Call) ->
    Called = pyn_ct:wait_until(fun() ->
        ?assertEqual({error, timeout}, Call()),
        ok = pyn_ct:wait_until(fun() -> in_flight() =:= 0 andalso ok end),
        receive {callback, Pid} -> Pid after 0 -> false end
    end),
    dead(Called).

dead(Pid) ->
    ok = pyn_ct:wait_until(fun() -> not is_process_alive(Pid) andalso ok end).

info() ->
    maps:get(app_ct:pynode(), py:info()).

running() ->
    map_size(element(3, sys:get_state(py_callback))).

in_flight() ->
    lists:sum([maps:get(in_flight, Info, 0) || Info <- maps:values(py:info())]).

flush() ->
    receive _ -> flush() after 0 -> ok end.
