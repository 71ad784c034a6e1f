%% Connections that take nothing more, because nobody reads at the other side.
%%
%%     busy_ct:stop(Node, OsPid),              its operating system process stands still, and the connection is full
%%     ...
%%     busy_ct:continue(OsPid).                all that was sent arrives
-module(busy_ct).
-export([stop/2, continue/1]).

-define(LARGE, 10000000).

-spec stop(node(), integer()) -> ok.
stop(Node, OsPid) ->
    ok = pyn_ct:freeze(OsPid),
    _ = spawn(fun() -> [nobody(Node) ! binary:copy(<<0>>, ?LARGE) || _ <- [1, 2, 3]] end),
    pyn_ct:wait_until(fun() -> erlang:send(nobody(Node), probe, [noconnect, nosuspend]) =:= nosuspend andalso ok end).

-spec continue(integer()) -> ok.
continue(OsPid) ->
    ok = pyn_ct:thaw(OsPid),
    ok.

nobody(Node) -> {nobody_has_this_name, Node}.
