%% numpy, a package with compiled code from PyPI, in an environment that scripts/numpy-venv makes.
-module(numpy_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([by_name/1, by_module/1, values/1, too_large/1, binaries/1, callbacks/1, many_callers/1, beside_others/1, past_its_time/1,
         from_exec/1, imported_late/1, wrapped_error/1, lock_stays_off/1, activated_later/1]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [by_name, by_module, values, too_large, binaries, callbacks, many_callers, beside_others, past_its_time, from_exec,
     imported_late, wrapped_error, lock_stays_off, activated_later].

init_per_suite(Config) ->
    ok = app_ct:start(app_ct:workers(2)),
    {ok, Python} = py:eval(<<"__import__('sys')._base_executable">>),
    app_ct:stop(),
    Script = filename:join([pyn_ct:root(), "scripts", "numpy-venv"]),
    case string:lexemes(os:cmd(Script ++ " " ++ binary_to_list(Python)), "\n") of
        [] ->
            {skip, "there is no numpy"};
        Lines ->
            Venv = lists:last(Lines),
            case filelib:is_dir(Venv) of
                true -> [{venv, Venv} | Config];
                false -> {skip, {"there is no numpy", Lines}}
            end
    end.

end_per_suite(_Config) ->
    app_ct:stop().

init_per_testcase(activated_later, Config) ->
    ok = app_ct:start(app_ct:workers(2)),
    Config;
init_per_testcase(_Case, Config) ->
    case whereis(py_sup) of
        undefined -> ok = app_ct:start([{venv, proplists:get_value(venv, Config)} | app_ct:workers(2)]);
        _ -> ok
    end,
    Config.

%% The C-node has survived it.
end_per_testcase(_Case, _Config) ->
    case py:call(numpy, sum, [[1, 2]]) of
        {ok, 3} -> ok;
        Other -> {fail, {numpy_does_not_work, Other}}
    end.

by_name(_Config) ->
    {ok, 6} = py:call(numpy, sum, [[1, 2, 3]]),
    {ok, [[1.0, 0.0], [0.0, 1.0]]} = py:call(numpy, eye, [2]),
    {ok, [2.0, 3.0]} = py:call(<<"numpy.linalg">>, solve, [[[2, 0], [0, 1]], [4, 3]]),
    {ok, [3, 2, 1]} = py:call("numpy", "flip", [[1, 2, 3]]),
    {ok, [1, 4, 9]} = py:call(numpy, square, [[1, 2, 3]], #{dtype => int32}),
    {error, {'ValueError', _}} = py:call(numpy, reshape, [[1, 2, 3], {2, 2}]),
    {error, {'AttributeError', _}} = py:call(numpy, no_such_function, []),
    [{ok, 6} = py:await(R) || R <- [py:call_async(numpy, sum, [[1, 2, 3]]) || _ <- lists:seq(1, 20)]].

%% It is one module for all callers: in sub-interpreters' mode it lives in the main interpreter.
by_module(_Config) ->
    {ok, <<"ndarray int64">>} = py:call(t_numpy, kind, [[1, 2]]),
    {ok, <<"ndarray float64">>} = py:call(t_numpy, kind, [[1, 2.5]]),
    {ok, N} = py:call(t_numpy, count, []),
    ?assertEqual([{ok, N + I} || I <- lists:seq(1, 20)], [py:call(t_numpy, count, []) || _ <- lists:seq(1, 20)]).

values(_Config) ->
    [?assertEqual({Name, {ok, Value}}, {Name, py:call(t_numpy, value, [Name])})
     || {Name, Value} <-
            [{sum, 10}, {mean, 1.5}, {float32, 0.5}, {uint64, (1 bsl 64) - 1}, {bool, true}, {nan, nan},
             {matrix, [[0, 1, 2], [3, 4, 5]]}, {transposed, [[0, 3], [1, 4], [2, 5]]}, {reversed, [9, 6, 3, 0]},
             {big_endian, [1, -2]}, {half, [1.5, infinity]}, {bools, [true, false]}, {zero_d, 7}, {empty, [[], []]},
             {dates, [<<"2026-01-02">>, <<"NaT">>]}, {nanoseconds, [<<"2026-01-02T00:00:00.000000000">>]},
             {durations, [<<"5 seconds">>]}, {structures, [{1, 2.5, <<"x">>}]}, {objects, [1, none, <<"x">>, [2]]},
             {strings, [<<"a">>, <<"bc">>]}, {masked, [1, none]}, {complex, [<<"(1+2j)">>]}, {view, [0, 1, 2]},
             {bytes_of_view, <<0, 0, 1, 0, 2, 0>>}, {tobytes, <<0, 1, 2>>},
             {in_a_dict, #{<<"a">> => [0, 1], 1 => {2.0}}}]].

%% Arrays that show one element many times have no memory of their own; their lists would.
too_large(_Config) ->
    [begin
         {error, {'ValueError', Why}} = py:call(t_numpy, value, [Name]),
         ?assertMatch({match, _}, re:run(Why, "cannot convert numpy\\.ndarray of 1000000000000 elements"))
     end || Name <- [huge, huge_objects]].

binaries(_Config) ->
    In = << <<F/little-float>> || F <- [1.5, -2.0, 1.0e300] >>,
    {ok, Out} = py:call(t_numpy, doubled, [{bytes, In}]),
    ?assertEqual([3.0, -4.0, 2.0e300], [F || <<F/little-float>> <= Out]),
    {ok, [97, 98]} = py:call(numpy, frombuffer, [{bytes, <<"ab">>}], #{dtype => uint8}),
    Large = binary:copy(<<1.0/little-float>>, 1 bsl 20),
    {ok, Twice} = py:call(t_numpy, doubled, [{bytes, Large}]),
    ?assertEqual(binary:copy(<<2.0/little-float>>, 1 bsl 20), Twice),
    {ok, List} = py:call(numpy, arange, [200000.0]),
    ?assertEqual([float(I) || I <- lists:seq(0, 199999)], List).

callbacks(_Config) ->
    ok = py:register_function(numpy_suite_add, fun([Values]) ->
        %% And into Python again, from within.
        {ok, Sum} = py:call(numpy, sum, [Values]),
        [V + Sum || V <- Values]
    end),
    {ok, [9, 11]} = py:call(t_numpy, ask_erlang, [numpy_suite_add, [1, 2]]),
    ok = py:unregister_function(numpy_suite_add).

many_callers(_Config) ->
    Callers = [spawn_monitor(fun() ->
                   [begin
                        {ok, S} = py:call(numpy, sum, [lists:seq(1, I)]),
                        S = I * (I + 1) div 2
                    end || I <- lists:seq(N, N + 20)]
               end) || N <- lists:seq(1, 30)],
    [receive {'DOWN', M, process, P, Why} -> ?assertEqual(normal, Why) end || {P, M} <- Callers].

%% What runs in the main interpreter does not hold up the others.
beside_others(_Config) ->
    Ref = py:call_async(t_numpy, sort_many, [5000000]),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {ok, <<"x">>} = py:eval(<<"'x'">>),
    {ok, true} = py:await(Ref, 60000).

%% Compiled code cannot be interrupted; the caller is told in time all the same.
past_its_time(_Config) ->
    %% The best of some: others use the machine, too.
    Times = [begin
                 {Took, {error, timeout}} = timer:tc(fun() -> py:call(t_numpy, sort_many, [20000000], #{}, 300) end),
                 pyn_ct:wait_until(fun() -> maps:get(busy, maps:get(app_ct:pynode(), py:info())) =:= 0 end),
                 Took
             end || _ <- [1, 2, 3]],
    ?assert(lists:min(Times) < 2000000).

from_exec(_Config) ->
    Tried = [fun() -> py:exec(<<"import numpy">>) end, fun() -> py:eval(<<"__import__('numpy').sum([1, 2])">>) end],
    case app_ct:mode() of
        subinterp -> [says_what_to_do(F()) || F <- Tried];
        _ -> [ok, {ok, 3}] = [F() || F <- Tried]
    end.

imported_late(_Config) ->
    case {app_ct:mode(), py:call(t_numpy_lazy, total, [[1, 2]])} of
        {subinterp, Refused} -> says_what_to_do(Refused);
        {_, Result} -> {ok, 3} = Result
    end.

says_what_to_do({error, {'ImportError', Why}}) ->
    ?assertMatch({match, _}, re:run(Why, "does not support loading in subinterpreters")),
    ?assertMatch({match, _}, re:run(Why, "into a module that imports it at its top")),
    ?assertMatch({match, _}, re:run(Why, "py:call\\(Module, Function, Args\\)")).

wrapped_error(_Config) ->
    {ok, 3} = py:call(t_numpy_wrapped, total, [[1, 2]]).

lock_stays_off(_Config) ->
    case app_ct:mode() of
        free_threaded -> {ok, false} = py:eval(<<"__import__('sys')._is_gil_enabled()">>);
        _ -> ok
    end.

%% Missing before, there at once when the environment is entered.
activated_later(Config) ->
    Venv = proplists:get_value(venv, Config),
    {ok, Found} = py:call('importlib.util', find_spec, [numpy]),
    _ = Found =:= none andalso begin
        [{error, {'ModuleNotFoundError', _}} = py:call(numpy, sum, [[1]]) || _ <- lists:seq(1, 5)],
        [{error, {'ModuleNotFoundError', _}} = py:call(t_numpy, count, []) || _ <- lists:seq(1, 5)]
    end,
    ok = py:activate_venv(Venv),
    [{ok, 1} = py:call(numpy, sum, [[1]]) || _ <- lists:seq(1, 5)],
    {ok, File} = py:call(numpy, '__file__.lower', []),
    ?assertEqual(1, string:str(binary_to_list(File), string:lowercase(Venv))),
    {ok, 1} = py:call(t_numpy, count, []).
