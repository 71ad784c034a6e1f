%% One process per connected C-node, which does nothing but live as long as the connection. Callers monitor it
%% instead of the name `py` on the C-node: a local monitor costs two local signals, a monitor of the name costs two
%% messages on the wire per call, and its reason could not say more than `noconnection`.
%%
%% It is linked to the py_node that started it. That one ends it with the reason that its callers are to get.
-module(py_link).

-export([start_link/0]).
-export([stop/2]).
-export([reason/2]).

%% The process.
-export([loop/0]).

-export_type([reason/0]).

-type reason() ::
    {nodedown, node()}
    | {node_exited, node(), {signal, 1..127} | {exit_status, 0..127}}.

-spec start_link() -> pid().
start_link() ->
    proc_lib:spawn_link(?MODULE, loop, []).

%% All who monitor the link get Reason. The caller is no longer linked to it afterwards and gets nothing.
-spec stop(pid(), reason()) -> ok.
stop(Link, Reason) ->
    unlink(Link),
    receive {'EXIT', Link, _} -> ok after 0 -> ok end,
    exit(Link, Reason),
    ok.

%% What a caller reports. `noproc` is the link of a connection that was already lost when the caller looked; another
%% reason means that py_node crashed. In both cases nothing more is known.
-spec reason(node(), term()) -> reason().
reason(Node, {nodedown, Node} = Reason) -> Reason;
reason(Node, {node_exited, Node, _} = Reason) -> Reason;
reason(Node, _) -> {nodedown, Node}.

%% Nobody sends anything here; what comes by mistake must not pile up. It hibernates, because a process that waits in the
%% code of a module is killed when that is loaded for the second time, and every call that is under way with it.
-spec loop() -> no_return().
loop() ->
    receive _ -> ok after 0 -> ok end,
    erlang:hibernate(?MODULE, loop, []).
