%% What Python asks of Erlang, functions and shared state, and what it tells, records of its logging and spans. Each
%% process can be started again without the others, since the tables belong to this supervisor's parent and everything
%% else is found again.
-module(py_shared_sup).
-behaviour(supervisor).

-export([create/1]).
-export([start_link/1]).

%% supervisor.
-export([init/1]).

%% How long a start waits for a coordinator elsewhere. It may come later, too.
-define(COORDINATOR_MS, 2000).

-spec create(py_config:config()) -> ok.
create(Config) ->
    ok = py_functions:create(),
    ok = py_callback:create(),
    ok = py_tracer:create(),
    py_state:create(Config).

-spec start_link(py_config:config()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Config) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, Config).

%% supervisor.

-spec init(py_config:config()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Config) ->
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10}, [
        #{id => py_tracer, start => {py_tracer, start_link, []}},
        #{id => py_logger, start => {py_logger, start_link, []}},
        #{id => py_replica, start => {py_replica, start_link, [Config]}},
        #{id => py_state, start => {py_state, start_link, []}},
        #{id => py_callback, start => {py_callback, start_link, [Config]}},
        #{id => py_coordinators, start => {py_coordinators, start_link, [Config]}},
        #{id => py_functions, start => {py_functions, start_link, []}},
        #{id => ready, start => {py_coordinators, await, [?COORDINATOR_MS]}, restart => temporary}
    ]}}.
