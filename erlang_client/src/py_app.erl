%% Starts and stops the application. A start that fails says why in a sentence.
-module(py_app).
-behaviour(application).

%% application.
-export([start/2]).
-export([stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case py_config:load() of
        {ok, Config} -> start_tree(Config);
        {error, Sentence} -> {error, {bad_configuration, Sentence}}
    end.

start_tree(Config) ->
    ok = py_events:detect(),
    case py_sup:start_link(Config) of
        {ok, Pid} ->
            {ok, Pid};
        {error, {shutdown, {failed_to_start_child, _, Why}}} ->
            _ = stop([]),
            {error, why(Why)};
        {error, _} = Error ->
            _ = stop([]),
            Error
    end.

why({shutdown, {failed_to_start_child, _, Why}}) -> why(Why);
why({shutdown, Why}) -> why(Why);
why(Why) -> Why.

-spec stop(term()) -> ok.
stop(_) ->
    ok = py_router:forget(),
    ok = py_events:forget(),
    ok = py_coordinators:forget(),
    ok = py_replica:forget(),
    ok = py_replica_table:forget(),
    ok = py_state:forget(),
    py_semaphore:forget().
