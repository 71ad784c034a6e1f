%% Who connects, and who tries to: many nodes at once, silent and hostile clients, wrong cookies and names, limits, and two
%% nodes that connect to each other at the same moment.
-module(handshake_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [handshake_flags, many_connections, silent_clients_delay_nobody, garbage_is_refused, wrong_cookie,
     wrong_cookie_of_a_node, handshake_time_limit, own_name_is_refused, unnamed_is_refused, same_name_again_replaces,
     too_many_links, simultaneous_lower, simultaneous_higher, simultaneous_real, coordinator_comes_back].

init_per_suite(Config) -> Config.

end_per_suite(_Config) ->
    pyn_ct:stop_all().

handshake_flags(_Config) ->
    P = pyn_ct:start(),
    {ok, C} = connect(P, 1),
    Flags = dist_client:peer_flags(C),
    ?assertEqual(atom_to_list(pyn_ct:node_of(P)), dist_client:peer(C)),
    %% Hidden; knows monitors of names; has neither spawn requests nor fragments nor compressed headers.
    ?assertEqual(0, Flags band (16#1 bor 16#800000 bor 16#2000 bor 16#100000000)),
    ?assertEqual(16#20, Flags band 16#20),
    ?assertEqual(pong, dist_client:ping(C)),
    dist_client:close(C),
    ?assertEqual(0, pyn_ct:stop(P)).

%% 300 nodes connect at once, all call at once, twice, and none disturbs another. Then as many that descriptors above
%% 1023 come into use, where the system allows.
many_connections(_Config) ->
    P = pyn_ct:start(),
    ok = crowd(P, 300),
    case list_to_integer(string:trim(os:cmd("ulimit -n"))) of
        Max when Max >= 2500 -> ok = crowd(P, 1100);
        _ -> ok
    end,
    ?assertEqual(0, pyn_ct:stop(P)).

crowd(P, Count) ->
    Port = pyn_ct:port(P),
    Self = self(),
    Pids = [spawn_link(fun() -> one_of_many(Self, Port, N) end) || N <- lists:seq(1, Count)],
    [receive {Pid, connected} -> ok end || Pid <- Pids],
    %% This node is one more. A client has its answer a moment before the link is in the table.
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, links) =:= Count + 1 end),
    [Pid ! call || Pid <- Pids],
    [receive {Pid, called} -> ok end || Pid <- Pids],
    ?assertEqual(pong, net_adm:ping(pyn_ct:node_of(P))),
    [Pid ! close || Pid <- Pids],
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, links) =:= 1 end),
    ok.

one_of_many(Parent, Port, N) ->
    C = connect_as_nodes_do(#{port => Port, name => dist_client:name(N), socket => [{recbuf, 8192}, {sndbuf, 8192}]}, 5),
    Parent ! {self(), connected},
    receive call -> ok end,
    [begin
         X = N * 1000 + I,
         {ok, X} = dist_client:call(C, {call, copy, copy, [X]}),
         pong = dist_client:ping(C)
     end || I <- lists:seq(1, 3)],
    Parent ! {self(), called},
    receive close -> dist_client:close(C) end.

%% On a busy machine one of so many may take a second for its handshake, while others wait: then it has to come again,
%% also when it was sent away behind the last word of its handshake, which only what it asks first shows.
connect_as_nodes_do(Options, Tries) ->
    case connect_and_ping(Options) of
        {ok, C} -> C;
        {error, closed} when Tries > 1 -> connect_as_nodes_do(Options, Tries - 1)
    end.

connect_and_ping(Options) ->
    case dist_client:connect(Options) of
        {ok, C} ->
            case dist_client:ping(C) of
                pong -> {ok, C};
                {error, _} = E -> dist_client:close(C), E
            end;
        {error, _} = E -> E
    end.

%% More than there are places for handshakes.
silent_clients_delay_nobody(_Config) ->
    P = pyn_ct:start(["--max-handshakes", "16"]),
    Port = pyn_ct:port(P),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    Silent = [begin {ok, C} = dist_client:open(#{port => Port}), C end || _ <- lists:seq(1, 64)],
    %% Who has a link is not delayed at all,
    Took = [begin
                T0 = erlang:monotonic_time(millisecond),
                {ok, 1} = pyn_ct:call(P, {call, copy, copy, [1]}),
                erlang:monotonic_time(millisecond) - T0
            end || _ <- lists:seq(1, 200)],
    ?assert(lists:nth(190, lists:sort(Took)) < 100, lists:sort(Took)),
    %% who comes new gets in within the time that a stock node allows for it.
    Peer = pyn_ct:start_peer(),
    Node = pyn_ct:node_of(P),
    ?assertEqual(pong, pyn_ct:on(Peer, fun() -> net_adm:ping(Node) end)),
    pyn_ct:stop_peer(Peer),
    [dist_client:close(C) || C <- Silent],
    ?assertEqual(0, pyn_ct:stop(P)).

garbage_is_refused(_Config) ->
    P = pyn_ct:start(["--log-level", "info"]),
    Port = pyn_ct:port(P),
    Flags = 16#407074fbc,
    Name = <<"x@127.0.0.1">>,
    First = fun(Body) -> <<(byte_size(Body)):16, Body/binary>> end,
    Garbage =
        [<<0, 0>>, <<255, 255, "x">>, <<"GET / HTTP/1.1\r\nHost: a\r\n\r\n">>, <<22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3>>,
         First(<<"n", 5:16, Flags:32, Name/binary>>), First(<<"N">>), First(<<"N", Flags:64, 1:32>>),
         First(<<"N", Flags:64, 1:32, 200:16, "x@y">>), First(<<"N", Flags:64, 1:32, 0:16>>),
         First(<<"N", Flags:64, 1:32, 3:16, "abc">>), First(<<"N", Flags:64, 1:32, 3:16, "a@", 0>>),
         First(<<"N", Flags:64, 1:32, 3:16, "@", 10, "b">>), First(<<"N", 0:64, 1:32, 11:16, Name/binary>>),
         First(<<"N", Flags:64, 1:32, 300:16, (binary:copy(<<"a">>, 298))/binary, "@b">>),
         First(<<"Q", 0:200>>), First(<<"r", 0:160>>), First(<<0:8000>>)],
    [begin
         {ok, C} = dist_client:open(#{port => Port}),
         ok = dist_client:raw(C, Bytes),
         ?assertEqual({ok, Bytes}, {dist_client:wait_closed(C), Bytes}),
         dist_client:close(C)
     end || Bytes <- Garbage],
    %% Each gets a line; who has a name is named.
    Refused = fun(L) -> re:run(L, "connection from .* refused: |no link to ") =/= nomatch end,
    pyn_ct:wait_until(fun() -> length(lists:filter(Refused, pyn_ct:log(P))) >= 15 end),
    %% Garbage after a good beginning.
    [begin
         {ok, C} = dist_client:open(#{port => Port, name => dist_client:name(N)}),
         ok = dist_client:send_name(C),
         {ok, "ok"} = dist_client:recv_status(C),
         {ok, _} = dist_client:recv_challenge(C),
         ok = dist_client:raw(C, Bytes),
         ?assertEqual(ok, dist_client:wait_closed(C)),
         dist_client:close(C)
     end || {N, Bytes} <- [{1, <<21:16, "r", 0:160>>}, {2, <<5:16, "r", 1:32>>}, {3, <<1:16, "x">>},
                           {4, <<21:16, "a", 0:160>>}, {5, <<200:16, 0:1600>>}]],
    ?assertEqual(pong, net_adm:ping(pyn_ct:node_of(P))),
    ?assertEqual(0, pyn_ct:stop(P)).

wrong_cookie(_Config) ->
    P = pyn_ct:start(),
    {ok, C} = dist_client:open(#{port => pyn_ct:port(P), name => dist_client:name(1)}),
    ok = dist_client:send_name(C),
    {ok, "ok"} = dist_client:recv_status(C),
    {ok, C1} = dist_client:recv_challenge(C),
    C2 = dist_client:send_reply(C1, {cookie, "not_the_cookie"}),
    ?assertEqual({error, closed}, dist_client:recv_ack(C2)),
    Line = pyn_ct:wait_log(P, "it has another cookie"),
    ?assertMatch({match, _}, re:run(Line, atom_to_list(dist_client:name(1)))),
    %% No request of it is heard.
    ?assertEqual(0, pyn_ct:info(P, calls)),
    ?assertEqual(0, pyn_ct:stop(P)).

wrong_cookie_of_a_node(_Config) ->
    P = pyn_ct:start(),
    Node = pyn_ct:node_of(P),
    Peer = pyn_ct:start_peer(),
    ?assertEqual(pang, pyn_ct:on(Peer, fun() ->
        true = erlang:set_cookie(Node, other_cookie),
        net_adm:ping(Node)
    end)),
    _ = pyn_ct:wait_log(P, "it has another cookie|may have another cookie|closed"),
    pyn_ct:stop_peer(Peer),
    ?assertEqual(0, pyn_ct:stop(P)).

%% Silent before the name, after it, and before the proof of the cookie; and one that comes byte by byte.
handshake_time_limit(_Config) ->
    time_limit(300, [fun(C) -> C end,
                     fun(C) -> ok = dist_client:raw(C, <<0>>), C end,
                     fun(C) -> ok = dist_client:raw(C, <<40:16, "N">>), C end]),
    %% These have to get so far before it is over.
    time_limit(3000, [fun(C) -> ok = dist_client:send_name(C), {ok, "ok"} = dist_client:recv_status(C), C end,
                      fun(C) ->
                          ok = dist_client:send_name(C),
                          {ok, "ok"} = dist_client:recv_status(C),
                          {ok, C1} = dist_client:recv_challenge(C),
                          C1
                      end]).

time_limit(Limit, Steps) ->
    P = pyn_ct:start(["--handshake-timeout", integer_to_list(Limit)]),
    Port = pyn_ct:port(P),
    [begin
         T0 = erlang:monotonic_time(millisecond), % before it: the other side may begin before this one goes on
         {ok, C} = dist_client:open(#{port => Port, name => dist_client:name(1)}),
         C1 = Step(C),
         ?assertEqual(ok, dist_client:wait_closed(C1)),
         Took = erlang:monotonic_time(millisecond) - T0,
         ?assert(Took >= Limit - 10 andalso Took < Limit + 5000, Took)
     end || Step <- Steps],
    _ = pyn_ct:wait_log(P, "timed out"),
    ?assertEqual(0, pyn_ct:stop(P)).

own_name_is_refused(_Config) ->
    P = pyn_ct:start(),
    ?assertEqual({error, {status, "not_allowed"}},
                 dist_client:connect(#{port => pyn_ct:port(P), name => pyn_ct:node_of(P)})),
    _ = pyn_ct:wait_log(P, "it has our own name"),
    ?assertEqual(0, pyn_ct:stop(P)).

unnamed_is_refused(_Config) ->
    P = pyn_ct:start(),
    {error, _} = dist_client:connect(#{port => pyn_ct:port(P), flags => 16#407074fbc bor 16#200000000}),
    _ = pyn_ct:wait_log(P, "asks for one; this node gives none"),
    ?assertEqual(0, pyn_ct:stop(P)).

%% The peer was restarted, or believes that its old connection is lost: the new one counts.
same_name_again_replaces(_Config) ->
    P = pyn_ct:start(["--log-level", "info"]),
    {ok, C0} = connect(P, 1),
    ?assertMatch({ok, _}, dist_client:call(C0, version)),
    Last = lists:foldl(fun(_, Old) ->
        {ok, New} = connect(P, 1),
        ?assertEqual(ok, dist_client:wait_closed(Old)),
        ?assertMatch({ok, _}, dist_client:call(New, version)),
        New
    end, C0, lists:seq(1, 20)),
    ?assertEqual(2, pyn_ct:info(P, links)),
    _ = pyn_ct:wait_log(P, "replaced by a new connection of the same peer"),
    dist_client:close(Last),
    ?assertEqual(0, pyn_ct:stop(P)).

too_many_links(_Config) ->
    P = pyn_ct:start(["--max-links", "3"]),
    {ok, A} = connect(P, 1),
    {ok, B} = connect(P, 2),
    {ok, C} = connect(P, 3),
    [?assertMatch({ok, _}, dist_client:call(X, version)) || X <- [A, B, C]],
    ?assertEqual({error, {status, "not_allowed"}}, connect(P, 4)),
    _ = pyn_ct:wait_log(P, "no more than 3 links are allowed"),
    %% Who has one may replace it.
    {ok, C2} = connect(P, 3),
    ?assertMatch({ok, _}, dist_client:call(C2, version)),
    dist_client:close(A),
    {ok, D} = pyn_ct:wait_until(fun() ->
        case connect(P, 4) of
            {ok, _} = Ok -> Ok;
            {error, _} -> false
        end
    end),
    ?assertMatch({ok, _}, dist_client:call(D, version)),
    [dist_client:close(X) || X <- [B, C2, D]],
    ?assertEqual(0, pyn_ct:stop(P)).

%% --- Both connect at once: pynode to its coordinator, which is played here ---

%% Its name is the lower one: its own attempt goes first, ours is told so.
simultaneous_lower(_Config) ->
    crossing("zz_coord", fun(P, In, Name, Coordinator) ->
        %% Ours is the higher name: ours is accepted while theirs is under way.
        {ok, Out} = dist_client:open(#{port => pyn_ct:port(P), name => Name}),
        ok = dist_client:send_name(Out),
        ?assertEqual({ok, "ok_simultaneous"}, dist_client:recv_status(Out)),
        {ok, Out1} = dist_client:recv_challenge(Out),
        Out2 = dist_client:send_reply(Out1, ok),
        ok = dist_client:recv_ack(Out2),
        %% It leaves the other one by itself.
        ?assertEqual(ok, dist_client:wait_closed(In)),
        ?assertMatch({ok, _}, dist_client:call(Out2, version)),
        no_further_attempt(P, Coordinator),
        dist_client:close(Out2)
    end).

simultaneous_higher(_Config) ->
    crossing("aa_coord", fun(P, In, Name, Coordinator) ->
        {ok, Out} = dist_client:open(#{port => pyn_ct:port(P), name => Name}),
        ok = dist_client:send_name(Out),
        ?assertEqual({ok, "nok"}, dist_client:recv_status(Out)),
        ?assertEqual(ok, dist_client:wait_closed(Out)),
        {ok, In1} = go_on(In),
        ?assertMatch({ok, _}, dist_client:call(In1, version)),
        no_further_attempt(P, Coordinator),
        dist_client:close(In1)
    end).

%% Calls Fun while pynode's attempt has said its name and waits for the answer.
crossing(Alive, Fun) ->
    {ok, L, Port} = dist_client:listen([]),
    Coordinator = pyn_ct:unique(Alive),
    {ok, Registered, _} = dist_client:epmd_register(dist_client:epmd_port(), Coordinator, Port),
    Name = list_to_atom(Coordinator ++ "@" ++ pyn_ct:host()),
    P = pyn_ct:start(#{name => pyn_ct:unique("mm"), args => ["--coordinator", atom_to_list(Name)]}),
    {ok, In} = dist_client:accept(L, #{name => Name}),
    {ok, In1} = dist_client:recv_name(In),
    ?assertEqual(atom_to_list(pyn_ct:node_of(P)), dist_client:peer(In1)),
    Fun(P, In1, Name, L),
    gen_tcp:close(L),
    gen_tcp:close(Registered),
    ?assertEqual(0, pyn_ct:stop(P)).

go_on(In) ->
    ok = dist_client:send_status(In, "ok"),
    In1 = dist_client:send_challenge(In),
    {ok, In2} = dist_client:recv_reply(In1),
    ok = dist_client:send_ack(In2),
    {ok, In2}.

%% With a link there is nothing more to connect for. Before it is there that may be tried again.
no_further_attempt(P, L) ->
    _ = pyn_ct:wait_log(P, "connected to coordinator"),
    take_early_attempts(L),
    ?assertEqual({error, timeout}, gen_tcp:accept(L, 500)).

take_early_attempts(L) ->
    case gen_tcp:accept(L, 0) of
        {ok, S} -> gen_tcp:close(S), take_early_attempts(L);
        {error, timeout} -> ok
    end.

%% Stock nodes, again and again: whatever crosses, there is one link in the end, and it works.
simultaneous_real(_Config) ->
    Peers = [pyn_ct:start_peer(), pyn_ct:start_peer()],
    [begin
         {_, Coordinator} = Peer,
         Prefix = case Round rem 2 of 0 -> "aa"; 1 -> "zz" end,
         Name = pyn_ct:unique(Prefix),
         Node = list_to_atom(Name ++ "@" ++ pyn_ct:host()),
         %% It hammers from the moment on that the name is known.
         ok = pyn_ct:on(Peer, fun() -> hammer(Node) end),
         P = pyn_ct:start(#{name => Name, args => ["--coordinator", atom_to_list(Coordinator), "--log-level", "debug"]}),
         _ = pyn_ct:wait_log(P, "connected to coordinator"),
         ok = pyn_ct:on(Peer, fun() -> hammer_stop() end),
         ?assertEqual(pong, pyn_ct:on(Peer, fun() -> net_adm:ping(Node) end)),
         %% This node and the coordinator.
         ?assertEqual(2, pyn_ct:info(P, links)),
         ?assertEqual({ok, 2.0}, pyn_ct:on(Peer, fun() -> gen_server:call({py, Node}, {call, math, sqrt, [4]}) end)),
         ?assertEqual(0, pyn_ct:stop(P))
     end || Round <- lists:seq(1, 6), Peer <- Peers],
    [pyn_ct:stop_peer(Peer) || Peer <- Peers].

hammer(Node) ->
    Pid = spawn(fun() -> register(hammer, self()), hammer_loop(Node) end),
    pyn_ct:wait_until(fun() -> whereis(hammer) =:= Pid end),
    ok.

hammer_loop(Node) ->
    _ = net_kernel:connect_node(Node),
    receive stop -> ok after 1 -> hammer_loop(Node) end.

hammer_stop() ->
    Ref = erlang:monitor(process, hammer),
    hammer ! stop,
    receive {'DOWN', Ref, _, _, _} -> ok end.

%% It reconnects to its coordinator, and outlives it.
coordinator_comes_back(_Config) ->
    Alive = pyn_ct:unique("coord"),
    Name = list_to_atom(Alive ++ "@" ++ pyn_ct:host()),
    %% Nobody there at first.
    P = pyn_ct:start(["--coordinator", atom_to_list(Name)]),
    _ = pyn_ct:wait_log(P, "cannot connect to coordinator"),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    {ok, L, Port} = dist_client:listen([]),
    {ok, Registered, _} = dist_client:epmd_register(dist_client:epmd_port(), Alive, Port),
    [begin
         {ok, C} = dist_client:accept(L, #{name => Name}),
         {ok, C1} = dist_client:answer(C),
         ?assertMatch({ok, _}, dist_client:call(C1, version)),
         dist_client:close(C1)
     end || _ <- lists:seq(1, 4)],
    _ = pyn_ct:wait_log(P, "connected to coordinator"),
    _ = pyn_ct:wait_log(P, "lost; connecting again"),
    gen_tcp:close(L),
    gen_tcp:close(Registered),
    ?assertEqual(0, pyn_ct:stop(P)).

%% --- Small things ---

connect(P, N) ->
    dist_client:connect(#{port => pyn_ct:port(P), name => dist_client:name(N)}).
