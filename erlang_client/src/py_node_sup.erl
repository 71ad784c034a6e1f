%% The C-nodes of the configuration, one py_node each.
-module(py_node_sup).
-behaviour(supervisor).

-export([start_link/1]).
-export([await/1]).

%% supervisor.
-export([init/1]).

%% How long a start waits for the C-nodes that run elsewhere. They may come later, too.
-define(REMOTE_MS, 2000).

-spec start_link(py_config:config()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Config) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, Config).

%% The last child of py_sup: no process, but a wait. An application that has started can be used; a local C-node that
%% does not come up fails the start with the reason.
-spec await(py_config:config()) -> ignore | {error, term()}.
await(#{start_timeout := Timeout}) ->
    Children = [{Id, Pid} || {Id, Pid, _, _} <- supervisor:which_children(?MODULE), is_pid(Pid)],
    await_each(Children, Timeout, erlang:monotonic_time(millisecond)).

await_each([], _, _) ->
    ignore;
await_each([{{local, _}, Pid} | Rest], Timeout, Since) ->
    case py_node:await(Pid, left(Timeout, Since)) of
        ok -> await_each(Rest, Timeout, Since);
        {error, Why} -> {error, {pynode_not_started, Why}}
    end;
await_each([{{remote, _}, Pid} | Rest], Timeout, Since) ->
    _ = py_node:await(Pid, left(min(Timeout, ?REMOTE_MS), Since)),
    await_each(Rest, Timeout, Since).

left(Timeout, Since) ->
    max(1, Timeout - (erlang:monotonic_time(millisecond) - Since)).

%% supervisor.

-spec init(py_config:config()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(#{nodes := Nodes} = Config) ->
    Remote = [child({remote, Node}, {remote, Node}, Config) || Node <- Nodes, Node =/= local],
    Locals = length([local || local <- Nodes]),
    Local = [child({local, N}, {local, N, Config}, Config) || N <- lists:seq(1, Locals)],
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10}, Local ++ Remote}}.

%% A py_node stops its pynode when it ends, and that may take stop_timeout and a little more.
child(Id, What, #{stop_timeout := Timeout}) ->
    #{
        id => Id,
        start => {py_node, start_link, [What]},
        shutdown => Timeout + 5000
    }.
