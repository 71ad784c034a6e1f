%% State that all Python workers and all Erlang nodes share: a configuration, counters, results.
%%
%%     $ make shell
%%     1> shared_state:start().
%%     2> shared_state:demo_all().
-module(shared_state).

-export([start/0]).
-export([demo_all/0]).
-export([demo_config/0]).
-export([demo_counters/0]).
-export([demo_results/0]).

-spec start() -> ok.
start() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    Here = directory(),
    ok = py:exec(["import sys\nif '", Here, "' not in sys.path: sys.path.insert(0, '", Here, "')\n",
                  "from shared_state import *\n"]),
    ok.

-spec demo_all() -> ok.
demo_all() ->
    ok = py:state_clear(),
    ok = demo_config(),
    ok = demo_counters(),
    ok = demo_results(),
    io:format("All demos done.~n").

%% What Erlang stores, Python reads.
-spec demo_config() -> ok.
demo_config() ->
    ok = py:state_store(<<"config">>, #{limit => 20}),
    {ok, 400} = py:call('__main__', handle, [20]),
    {ok, none} = py:call('__main__', handle, [21]),
    io:format("Configuration: 20 is within the limit, 21 is not~n").

%% Many requests at once; the counters are exact, because counting is one atomic step.
-spec demo_counters() -> ok.
demo_counters() ->
    Requests = [N rem 25 + 1 || N <- lists:seq(1, 250)],
    Refs = [py:call_async('__main__', handle, [N]) || N <- Requests],
    _ = [{ok, _} = py:await(Ref) || Ref <- Refs],
    {ok, Served} = py:state_fetch(<<"served">>),
    {ok, Refused} = py:state_fetch(<<"refused">>),
    {ok, 0} = py:state_fetch(<<"active">>),
    252 = Served + Refused,
    Calls = py:state_incr({demo, calls}, 252),
    io:format("Counters: ~b served and ~b refused of ~b~n", [Served, Refused, Calls]).

%% What Python stores, Erlang reads.
-spec demo_results() -> ok.
demo_results() ->
    {ok, Results} = py:call('__main__', results, []),
    20 = map_size(Results),
    {ok, 49} = py:state_fetch({<<"result">>, 7}),
    {ok, <<"forgotten">>} = py:call('__main__', forget, [7]),
    {error, not_found} = py:state_fetch({<<"result">>, 7}),
    io:format("Results: ~b squares, one of them forgotten~n", [map_size(Results)]).

%% Where this file is, or where its beam is.
directory() ->
    Source = proplists:get_value(source, ?MODULE:module_info(compile), ""),
    Places = [filename:dirname(Source), filename:dirname(code:which(?MODULE)), "examples", "."],
    [Found | _] = [Dir || Dir <- Places, filelib:is_regular(filename:join(Dir, "shared_state.py"))],
    filename:absname(Found).
