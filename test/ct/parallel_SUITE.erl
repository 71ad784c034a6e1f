%% py:parallel: many calls at once, their results in the order of the calls.
-module(parallel_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [bad_input, specification, kinds_of_elements, order, errors_do_not_spoil, truly_parallel, many, deadline, no_time,
     passes_the_semaphore, others_get_their_turn, limit_changes, overloaded, definitions, in_a_callback, in_callbacks_at_once,
     caller_dies, two_nodes, node_dies, not_started].

init_per_suite(Config) -> Config.
end_per_suite(_Config) -> app_ct:stop(), pyn_ct:stop_all().

init_per_testcase(Case, Config) when Case =:= two_nodes; Case =:= node_dies; Case =:= not_started ->
    app_ct:stop(),
    Config;
init_per_testcase(_, Config) ->
    _ = whereis(py_sup) =:= undefined andalso app_ct:start(app_ct:workers(4)),
    ok = py_semaphore:set_max_concurrent(16),
    ok = py:state_clear(),
    Config.

end_per_testcase(_, _Config) ->
    receive M -> error({unexpected, M}) after 0 -> ok end,
    whereis(py_sup) =:= undefined orelse begin
        pyn_ct:wait_until(fun() -> in_flight() =:= 0 end),
        ?assertEqual(0, py_semaphore:current())
    end,
    ok.

%%% What it gives

bad_input(_Config) ->
    [?assertEqual({error, invalid_args}, py:parallel(Bad)) || Bad <- [x, {math, sqrt, [1]}, #{}, <<>>, [{math, sqrt, [1]} | x]]],
    [?assertMatch({error, {bad_option, _}}, py:parallel([{math, sqrt, [1]}], Bad)) || Bad <- [-1, fast, 1.0, #{time => 1}]],
    ?assertEqual({ok, []}, py:parallel([])),
    %% An element that is none spoils nothing.
    Bad = [x, {}, {math, sqrt}, {math, sqrt, [1], #{}, 5}, {math, sqrt, 1}, {math, sqrt, [1 | 2]}, {math, sqrt, [1], []}],
    ?assertEqual({ok, [{ok, 2.0}] ++ [{error, invalid_args} || _ <- Bad] ++ [{ok, 3.0}]},
                 py:parallel([{math, sqrt, [4]}] ++ Bad ++ [{math, sqrt, [9]}])),
    ?assertMatch({ok, [{error, {not_text, {m}}}, {error, {not_text, 5}}]}, py:parallel([{{m}, f, []}, {m, 5, []}])),
    ?assertMatch({ok, [{error, {'ModuleNotFoundError', _}}, {error, {'AttributeError', _}}]},
                 py:parallel([{no_such_module, f, []}, {math, no_such_function, []}])),
    ?assertMatch({ok, [{error, {nodedown, 'no@-where'}}, {error, {nodedown, 'no@-where'}}]},
                 py:parallel([{math, sqrt, [1]}, {math, sqrt, [1]}], #{node => 'no@-where'})).

specification(_Config) ->
{ok, Results} = py:parallel([
    {math, sqrt, [16]},
    {math, sqrt, [25]},
    {math, sqrt, [36]}
]),
    ?assertEqual([{ok, 4.0}, {ok, 5.0}, {ok, 6.0}], Results).

kinds_of_elements(_Config) ->
    ?assertEqual({ok, [{ok, <<"a/b">>}, {ok, [3, 2, 1]}, {ok, 1}]},
                 py:parallel([{"os.path", <<"join">>, [<<"a">>, <<"b">>]},
                              {builtins, sorted, [[1, 3, 2]], #{reverse => true}},
                              {<<"builtins">>, "int.from_bytes", [{bytes, <<1>>}, <<"big">>]}])),
    ?assertMatch({ok, [{error, {'ZeroDivisionError', _, Traceback}}, {ok, 2.0}]} when is_binary(Traceback),
                 py:parallel([{operator, truediv, [1, 0]}, {operator, truediv, [2, 1]}], #{traceback => true})).

%% The later ones are ready first.
order(_Config) ->
    Calls = [{t_parallel, inside, [<<"n">>, (20 - N) / 200]} || N <- lists:seq(1, 20)],
    {ok, Numbers} = py:parallel(Calls),
    ?assertEqual(20, length([N || {ok, N} <- Numbers])),
    ?assertEqual({ok, [{ok, [N]} || N <- lists:seq(1, 500)]},
                 py:parallel([{builtins, list, [[N]]} || N <- lists:seq(1, 500)])).

errors_do_not_spoil(_Config) ->
    {ok, Results} = py:parallel([call_or_error(N) || N <- lists:seq(1, 300)]),
    [case N rem 3 of
         0 -> ?assertMatch({N, {error, {'ValueError', _}}}, {N, R});
         _ -> ?assertEqual({N, {ok, N}}, {N, R})
     end || {N, R} <- lists:enumerate(Results)].

call_or_error(N) when N rem 3 =:= 0 -> {builtins, int, [<<"x">>]};
call_or_error(N) -> {builtins, int, [N]}.

%% All workers at once: each waits for the others.
truly_parallel(_Config) ->
    {ok, Pids} = py:parallel([{t_parallel, meet, [<<"met">>, 4, 20]} || _ <- lists:seq(1, 4)]),
    {ok, Pid} = py:call(os, getpid, []),
    ?assertEqual([{ok, Pid} || _ <- Pids], Pids).

%% 100 000 calls, by few processes.
many(_Config) ->
    Before = erlang:system_info(process_count),
    Watcher = spawn_link(fun() -> most_processes(0) end),
    N = 100000,
    {ok, Results} = py:parallel([{builtins, abs, [-I]} || I <- lists:seq(1, N)], infinity),
    Watcher ! {most, self()},
    Most = receive {most, Count} -> Count end,
    ?assertEqual([{ok, I} || I <- lists:seq(1, N)], Results),
    ?assert(Most - Before < 100).

most_processes(Most) ->
    receive
        {most, To} -> To ! {most, Most}
    after 1 ->
        most_processes(max(Most, erlang:system_info(process_count)))
    end.

%%% Time

%% It covers all: what is not done by then, and what was not begun.
deadline(_Config) ->
    %% The best of three, as the machine may stand still meanwhile.
    ?assert(lists:any(fun(_) -> done_in_time() end, [1, 2, 3])).

%% Whether what can be was done, and the rest given up when the time was over.
done_in_time() ->
    Start = erlang:monotonic_time(millisecond),
    {ok, [First | Others]} = py:parallel([{math, sqrt, [16]} | [{time, sleep, [0.3]} || _ <- lists:seq(1, 40)]], 800),
    Took = erlang:monotonic_time(millisecond) - Start,
    ?assert(Took >= 799),
    ?assertEqual(40, length(Others)),
    ?assert(length([late || {error, timeout} <- Others]) >= 40 - 3 * 4),
    ?assertEqual([], Others -- [R || _ <- Others, R <- [{error, timeout}, {ok, none}]]),
    First =:= {ok, 4.0} andalso Took < 3000.

no_time(_Config) ->
    ?assertEqual({ok, [{error, timeout} || _ <- lists:seq(1, 100)]},
                 py:parallel([{math, sqrt, [16]} || _ <- lists:seq(1, 100)], 0)).

%%% The semaphore

passes_the_semaphore(_Config) ->
    ok = py_semaphore:set_max_concurrent(2),
    {ok, Results} = py:parallel([{t_parallel, inside, [<<"n">>, 0.01]} || _ <- lists:seq(1, 30)]),
    ?assert(lists:max([N || {ok, N} <- Results]) =< 2),
    ?assertEqual(30, length(Results)).

%% With one slot, taken anew by each call, somebody else's call waits for one of them and not for all.
others_get_their_turn(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    Self = self(),
    spawn_link(fun() -> Self ! {all, py:parallel([{time, sleep, [0.01]} || _ <- lists:seq(1, 200)], infinity)} end),
    pyn_ct:wait_until(fun() -> py_semaphore:current() =:= 1 end),
    [?assertEqual({ok, 4.0}, py:call(math, sqrt, [16])) || _ <- lists:seq(1, 10)],
    receive {all, _} -> error(they_waited_for_all) after 0 -> ok end,
    receive {all, {ok, Results}} -> ?assertEqual(200, length([R || {ok, none} = R <- Results])) end.

%% A limit that is raised while it runs is used; the calls meet only when it is.
limit_changes(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    Self = self(),
    spawn_link(fun() ->
        Self ! {all, py:parallel([{t_parallel, meet, [<<"met">>, 3, 1 / 4]} || _ <- lists:seq(1, 50)], infinity)}
    end),
    pyn_ct:wait_until(fun() -> py:state_fetch(<<"met">>) =/= {error, not_found} end),
    ok = py_semaphore:set_max_concurrent(4),
    receive {all, {ok, Results}} -> ?assert(length([P || {ok, P} <- Results, is_integer(P)]) > 10) end.

%% No slot for as long as there was time: as for any other call. What did not even come to ask is late.
overloaded(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(1000),
    ?assertEqual({ok, [{error, {overloaded, 1, 1}}, {error, timeout}, {error, timeout}]},
                 py:parallel([{math, sqrt, [1]} || _ <- [1, 2, 3]], 50)),
    ok = py_semaphore:release(),
    ?assertEqual({ok, [{ok, 1.0}]}, py:parallel([{math, sqrt, [1]}], 5000)).

%%% Whose calls they are

%% What the caller defined is what runs, whatever others defined by that name later.
definitions(_Config) ->
    ok = py:exec(<<"def where(n):\n    return ('mine', n)\n">>),
    Mode = py:execution_mode(),
    {_, Ref} = spawn_monitor(fun() -> ok = py:exec(<<"def elsewhere(n):\n    return n\n">>) end),
    receive {'DOWN', Ref, _, _, normal} -> ok end,
    {ok, Results} = py:parallel([{'__main__', where, [N]} || N <- lists:seq(1, 50)]),
    ?assertEqual({Mode, [{ok, {<<"mine">>, N}} || N <- lists:seq(1, 50)]}, {Mode, Results}).

%% All slots and all workers wait for callbacks that make calls: no deadlock, and no slot more.
in_a_callback(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    ok = py:register_function(in_parallel, fun([Numbers]) ->
        {ok, Results} = py:parallel([{math, sqrt, [N]} || N <- Numbers] ++ [{builtins, int, [<<"x">>]}]),
        1 = py_semaphore:current(),
        [R || {ok, R} <- Results]
    end),
    ?assertEqual({ok, [2.0, 3.0, 4.0]}, py:eval(<<"__import__('erlang').call('in_parallel', [4, 9, 16])">>)),
    %% Many, and each calls back in turn.
    ok = py:register_function(plus_one, fun([N]) -> N + 1 end),
    ok = py:exec(<<"
import erlang

def back(n):
    return erlang.call('plus_one', n)
">>),
    ok = py:register_function(many_back, fun([N]) ->
        {ok, Results} = py:parallel([{'__main__', back, [I]} || I <- lists:seq(1, N)]),
        lists:sum([R || {ok, R} <- Results])
    end),
    ?assertEqual({ok, 500 * 501 div 2 + 500}, py:eval(<<"__import__('erlang').call('many_back', 500)">>)).

in_callbacks_at_once(_Config) ->
    ok = py_semaphore:set_max_concurrent(4),
    ok = py:register_function(in_parallel, fun([Numbers]) ->
        {ok, Results} = py:parallel([{math, sqrt, [N]} || N <- Numbers]),
        [R || {ok, R} <- Results]
    end),
    {ok, Results} = py:parallel([{erlang, call, [<<"in_parallel">>, [4, N * N]]} || N <- lists:seq(1, 100)]),
    ?assertEqual([{ok, [2.0, float(N)]} || N <- lists:seq(1, 100)], Results).

caller_dies(_Config) ->
    Processes = erlang:system_info(process_count),
    Pid = spawn(fun() -> py:parallel([{t_slow, spin, []} || _ <- lists:seq(1, 100)], infinity) end),
    pyn_ct:wait_until(fun() -> in_flight() >= 4 end),
    exit(Pid, kill),
    pyn_ct:wait_until(fun() -> in_flight() =:= 0 andalso py_semaphore:current() =:= 0 end),
    pyn_ct:wait_until(fun() -> erlang:system_info(process_count) =< Processes end),
    ?assertEqual({ok, [{ok, 4.0}]}, py:parallel([{math, sqrt, [16]}])).

%%% Several C-nodes

%% Workers of both nodes meet. More calls than workers: two that choose a node in the same moment may choose the same one.
two_nodes(_Config) ->
    Ps = two(),
    {ok, Results} = py:parallel([{t_parallel, meet, [<<"met">>, 4, 20]} || _ <- lists:seq(1, 8)]),
    ?assertEqual(lists:sort([pyn_ct:os_pid(P) || P <- Ps]), lists:usort([Pid || {ok, Pid} <- Results])),
    ?assertEqual(8, length(Results)),
    app_ct:stop(),
    [ok = pyn_ct:end_clean(P) || P <- Ps].

%% What the node had is lost, with a reason; the others go on.
node_dies(_Config) ->
    [A, B] = two(),
    Self = self(),
    spawn_link(fun() -> Self ! {all, py:parallel([{t_parallel, inside, [<<"n">>, 0.05]} || _ <- lists:seq(1, 60)])} end),
    pyn_ct:wait_until(fun() -> py:state_fetch(<<"n">>) =/= {error, not_found} end),
    pyn_ct:signal(A, "KILL"),
    Gone = pyn_ct:node_of(A),
    Results = receive {all, {ok, All}} -> All end,
    ?assertEqual(60, length(Results)),
    ?assertEqual([], [R || R <- Results, element(1, R) =/= ok, R =/= {error, {nodedown, Gone}}]),
    ?assert(length([R || {error, _} = R <- Results]) =< 8),
    app_ct:stop(),
    {signal, 9} = pyn_ct:wait_exit(A),
    ok = pyn_ct:end_clean(B).

two() ->
    Ps = [pyn_ct:start(["--workers", "2", "--coordinator", atom_to_list(node())]) || _ <- [1, 2]],
    ok = app_ct:start([{nodes, [pyn_ct:node_of(P) || P <- Ps]}, {max_concurrent, 8}]),
    pyn_ct:wait_until(fun() -> py:num_executors() =:= 4 end),
    [pyn_ct:wait_until(fun() ->
         element(1, py:call(erlang, state_get, [<<"x">>], #{}, #{node => pyn_ct:node_of(P)})) =:= ok
     end) || P <- Ps],
    Ps.

not_started(_Config) ->
    ?assertEqual({ok, [{error, no_nodes}, {error, invalid_args}]}, py:parallel([{math, sqrt, [16]}, x])),
    ?assertEqual({ok, []}, py:parallel([])).

in_flight() ->
    lists:sum([maps:get(in_flight, Info, 0) || Info <- maps:values(py:info())]).
