%% The application for the suites, on this node and on others.
%%
%%     app_ct:start([{num_workers, 1}]),            a coordinator with a pynode of its own
%%     B = app_ct:start_peer([{coordinator, node()}, {nodes, []}]),
%%     app_ct:stop_peer(B), app_ct:stop().
-module(app_ct).
-export([start/0, start/1, stop/0, workers/1]).
-export([start_peer/1, start_peer/2, stop_peer/1, kill_peer/1, node_of/1, on/2]).
-export([pynode/0, mode/0, kill_pynode/0]).
-export([await_all/0, full/1, stick/0]).

-define(APP, erlang_python).

start() ->
    start([]).

start(Env) ->
    stop(),
    ok = application:load(?APP),
    [ok = application:set_env(?APP, Key, Value) || {Key, Value} <- defaults() ++ Env],
    {ok, _} = application:ensure_all_started(?APP),
    ok.

stop() ->
    _ = application:stop(?APP),
    _ = application:unload(?APP),
    ok.

%% The modules of test/py can be imported.
defaults() ->
    [{pynode_args, ["--path", filename:join([pyn_ct:root(), "test", "py"])]}, {start_timeout, 60000}].

%% That many workers in any mode.
workers(N) ->
    [{num_workers, N}, {num_executors, N}, {num_subinterp_workers, N}].

%% A node of its own with the application on it.
start_peer(Env) ->
    start_peer(pyn_ct:unique("app"), Env).

start_peer(Name, Env) ->
    Ebin = filename:dirname(code:which(py)),
    {ok, Peer, Node} =
        peer:start(#{name => Name, connection => standard_io, wait_boot => 60000,
                     args => ["-setcookie", atom_to_list(erlang:get_cookie()), "-connect_all", "false",
                              "-pa", Ebin, filename:dirname(code:which(?MODULE))]}),
    ok = on({Peer, Node}, fun() -> start(Env) end),
    {Peer, Node}.

stop_peer({Peer, _}) ->
    _ = (catch peer:stop(Peer)),
    ok.

%% At once, and without a word to anybody.
kill_peer({Peer, Node} = P) ->
    OsPid = on(P, fun os:getpid/0),
    Ref = erlang:monitor(process, Peer),
    _ = os:cmd("kill -9 " ++ OsPid),
    receive {'DOWN', Ref, process, Peer, _} -> ok end,
    %% Its standard output is closed. Its name may be used again when epmd knows of its end, too.
    [Name, _] = string:split(atom_to_list(Node), "@"),
    pyn_ct:wait_until(fun() ->
        case erl_epmd:names("localhost") of
            {ok, Names} -> not lists:keymember(Name, 1, Names) andalso ok;
            {error, _} -> false
        end
    end).

node_of({_, Node}) -> Node.

on({Peer, _}, Fun) ->
    peer:call(Peer, erlang, apply, [Fun, []], 120000).

%% The C-node of this node.
pynode() ->
    [Node] = py_router:known_nodes(),
    Node.

mode() ->
    py:execution_mode().

%% Waits until the stream has no room: its owner, who reads nothing, has between three quarters and the whole of a window
%% in the mailbox. Not always the whole: the C-node gives fewer items than it was asked for when they take it long.
full(Ref) ->
    true = pyn_ct:wait_until(fun() -> element(1, sys:get_state(ets:lookup_element(py_stream, Ref, 2))) =:= full end),
    ok.

%% A start waits for what is elsewhere only for a while.
await_all() ->
    pyn_ct:wait_until(fun() ->
        py_coordinators:up() =/= [] andalso length(py_router:up_nodes()) =:= length(py_router:known_nodes()) andalso ok
    end).

%% A worker is in C code that no interrupt ends, until the fun that this gives is called. What it was asked for is called off
%% when it has begun: a time that is over before would leave it undone.
stick() ->
    {ok, {From, To}} = py:call(os, pipe, []),
    Ref = py:call_async(os, read, [From, 1]),
    pyn_ct:wait_until(fun() -> maps:get(busy, maps:get(pynode(), py:info())) =:= 1 end),
    ok = py:interrupt(Ref),
    {error, interrupted} = py:await(Ref),
    fun() -> {ok, 1} = py:call(os, write, [To, {bytes, <<"x">>}]), ok end.

%% SIGKILL for it. Its py_node, which waits 50 ms for how it ended, hears of that together with the lost connection.
kill_pynode() ->
    Node = pynode(),
    {ok, #{os_pid := OsPid}} = gen_server:call({py, Node}, info),
    [{_, PyNode, _, _}] = supervisor:which_children(py_node_sup),
    IsNews = fun({nodedown, N, _}) -> N =:= Node; ({py_os, _, {exited, _, _}}) -> true; (_) -> false end,
    ok = sys:suspend(PyNode),
    "" = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    pyn_ct:wait_until(fun() ->
        {messages, Messages} = process_info(PyNode, messages),
        length(lists:filter(IsNews, Messages)) =:= 2
    end),
    ok = sys:resume(PyNode).
