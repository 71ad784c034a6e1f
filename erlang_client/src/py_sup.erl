%% The top of the tree, in the order of the start. It owns the ETS tables, so that a crash below loses nothing of them.
%%
%% rest_for_one: py_router knows the C-nodes from the py_node processes only, so these start again when it does; and
%% what a C-node told a coordinator that crashed, it tells the next one when it connects anew. Nothing depends on the
%% server of the semaphore, so it comes after them.
-module(py_sup).
-behaviour(supervisor).

-export([start_link/1]).

%% supervisor.
-export([init/1]).

-spec start_link(py_config:config()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Config) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, Config).

%% supervisor.

-spec init(py_config:config()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(#{max_concurrent := Max} = Config) ->
    ok = py_semaphore:create(Max),
    ok = py_async:create(),
    ok = py_everywhere:create(),
    ok = py_stream:create(),
    ok = py_shared_sup:create(Config),
    {ok, {#{strategy => rest_for_one, intensity => 5, period => 10}, [
        #{id => py_dist, start => {py_dist, start_link, []}},
        #{id => py_router, start => {py_router, start_link, [Config]}},
        #{id => py_coordinator, start => {py_coordinator, start_link, []}},
        #{id => py_shared_sup, start => {py_shared_sup, start_link, [Config]}, type => supervisor},
        #{id => py_node_sup, start => {py_node_sup, start_link, [Config]}, type => supervisor},
        %% Behind the C-nodes: at the stop it has them forget, while they are connected.
        #{id => py_everywhere, start => {py_everywhere, start_link, []}},
        %% Streams end with the routes that they were opened by.
        #{id => py_stream, start => {py_stream, start_link, []}, type => supervisor},
        %% Streams outlive it, and wait for the next one.
        #{id => py_stream_owners, start => {py_stream_owners, start_link, []}},
        #{id => py_semaphore, start => {py_semaphore, start_link, []}},
        %% Waits at the start of the application only: a restart of others must not wait for anything.
        #{id => ready, start => {py_node_sup, await, [Config]}, restart => temporary}
    ]}}.
