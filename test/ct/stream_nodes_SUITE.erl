%% Streams whose owner, whose starter and whose C-node are on three nodes.
-module(stream_nodes_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([starter_is_lost/1]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [starter_is_lost].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    pyn_ct:stop_all().

%% The node that started the stream is lost, or only the connection to it; the owner is here, and so is the end.
starter_is_lost(_Config) ->
    P = pyn_ct:start(["--workers", "1", "--path", filename:join([pyn_ct:root(), "test", "py"])]),
    [begin
         Peer = app_ct:start_peer([{nodes, [pyn_ct:node_of(P)]}]),
         Self = self(),
         {ok, Ref} = app_ct:on(Peer, fun() ->
             {ok, R} = py:stream_start(t_streams, count, [100], #{}, #{owner => Self, window => 10}),
             {ok, R}
         end),
         {[_ | _], {error, {nodedown, Node}}} = {[first(Ref)], last_after(Ref, fun() -> lose(How, Peer) end)},
         Node = app_ct:node_of(Peer),
         _ = How =:= disconnected andalso app_ct:kill_peer(Peer)
     end || How <- [killed, disconnected]],
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, streams) =:= 0 end).

lose(killed, Peer) -> app_ct:kill_peer(Peer);
lose(disconnected, Peer) -> true = erlang:disconnect_node(app_ct:node_of(Peer)).

first(Ref) ->
    receive {py_stream, Ref, {data, Item}} -> Item after 10000 -> ct:fail(no_item) end.

last_after(Ref, Do) ->
    _ = Do(),
    last(Ref).

last(Ref) ->
    receive
        {py_stream, Ref, {data, _}} -> last(Ref);
        {py_stream, Ref, Last} -> Last
    after 10000 -> ct:fail(no_end)
    end.
