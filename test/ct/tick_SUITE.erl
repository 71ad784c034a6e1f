%% Ticks: silent peers are dropped, slow ones are not, whatever is on its way to them.
-module(tick_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [silent_peer_is_dropped, ticking_peer_stays, large_message_to_slow_reader, peer_that_takes_nothing].

init_per_suite(Config) -> Config.

end_per_suite(_Config) ->
    pyn_ct:stop_all().

%% A tick time of 4 s: silent peers go after 5, ticks come every second.
silent_peer_is_dropped(_Config) ->
    P = pyn_ct:start(["--tick", "4", "--log-level", "info"]),
    {ok, C} = connect(P, 1),
    Before = erlang:monotonic_time(millisecond),
    ?assertMatch({ok, _}, dist_client:call(C, version)),
    After = erlang:monotonic_time(millisecond),
    Ticks = count_ticks(C, 0),
    Closed = erlang:monotonic_time(millisecond),
    ?assert(Closed - Before >= 4500 andalso Closed - After < 9000, {Before, After, Closed}),
    ?assert(Ticks >= 2, Ticks),
    _ = pyn_ct:wait_log(P, "silent for longer than the tick time"),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    ?assertEqual(0, pyn_ct:stop(P)).

count_ticks(C, N) ->
    case dist_client:recv(C) of
        tick -> count_ticks(C, N + 1);
        {error, closed} -> N
    end.

ticking_peer_stays(_Config) ->
    P = pyn_ct:start(["--tick", "4"]),
    {ok, C} = connect(P, 1),
    [begin
         tick = dist_client:recv(C),
         ok = dist_client:tick(C)
     end || _ <- lists:seq(1, 8)],
    ?assertMatch({ok, _}, dist_client:call(C, version)),
    dist_client:close(C),
    ?assertEqual(0, pyn_ct:stop(P)).

%% 64 MiB that take longer than the tick time to read: both sides stay alive to each other, other peers are served,
%% and the message comes whole.
large_message_to_slow_reader(_Config) ->
    P = pyn_ct:start(["--tick", "4"]),
    {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => dist_client:name(1), socket => [{recbuf, 65536}]}),
    Size = 64 * 1024 * 1024,
    _ = dist_client:request(C, {eval, <<"b'\\xff' * (64 * 1024 * 1024)">>}),
    {Got, Waited} = read_slowly(P, C, 0, Size, erlang:monotonic_time(millisecond)),
    ?assert(Got >= Size, Got),
    ?assert(Waited >= 6000, Waited),
    ?assertMatch({ok, _}, dist_client:call(C, version)),
    dist_client:close(C),
    ?assertEqual(0, pyn_ct:stop(P)).

%% Reads 1 MiB every 100 ms, ticks about once a second, and calls from here meanwhile. The frame is read to its end.
read_slowly(P, C, Got, Size, T0) when Got < Size ->
    {ok, Bytes} = gen_tcp:recv(dist_client:socket(C), 1024 * 1024, 10000),
    Step = Got div (1024 * 1024),
    Step rem 10 =:= 0 andalso dist_client:tick(C),
    {ok, Step} = pyn_ct:call(P, {call, copy, copy, [Step]}),
    receive after 100 -> ok end,
    read_slowly(P, C, Got + byte_size(Bytes), Size, T0);
read_slowly(_P, C, Got, _Size, T0) ->
    %% The rest: what was not a multiple of 1 MiB, then perhaps ticks. A pong marks the end.
    Ref = dist_client:ref(C, 99),
    ok = dist_client:control(C, {6, dist_client:pid(C, 1), '', py},
                             {'$gen_call', {dist_client:pid(C, 1), [alias | Ref]}, {call, copy, copy, [<<"the end">>]}}),
    More = read_to(C, <<"the end">>, <<>>),
    {Got + More, erlang:monotonic_time(millisecond) - T0}.

read_to(C, Mark, Seen) ->
    case binary:match(Seen, Mark) of
        nomatch ->
            {ok, Bytes} = gen_tcp:recv(dist_client:socket(C), 0, 10000),
            read_to(C, Mark, <<Seen/binary, Bytes/binary>>);
        _ ->
            byte_size(Seen)
    end.

%% It sends on and on and never reads: its answers pile up to the maximum (and what was admitted before), then it is not
%% read any more, and as it takes nothing either it is given up. Others are served, or told that the queue is full.
peer_that_takes_nothing(_Config) ->
    P = pyn_ct:start(["--tick", "4", "--max-output", "4M", "--max-queue", "200", "--log-level", "info"]),
    {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => dist_client:name(1),
                                    socket => [{recbuf, 65536}, {sndbuf, 65536}, {send_timeout, 200}]}),
    Ask = dist_client:control_bytes({6, dist_client:pid(C, 1), '', py},
                                    {dist_client:pid(C, 1), tag, {eval, <<"b'\\xff' * 200000">>}}),
    Before = pyn_ct:info(P, memory),
    Pusher = spawn_link(fun() -> receive go -> push(C, Ask) end end),
    ok = gen_tcp:controlling_process(dist_client:socket(C), Pusher),
    Pusher ! go,
    Ref = erlang:monitor(process, Pusher),
    Peak = until_down(P, Ref, 0),
    ?assert(Peak - Before < 256 * 1024 * 1024, {Before, Peak}),
    _ = pyn_ct:wait_log(P, "silent for longer than the tick time"),
    pyn_ct:wait_until(fun() -> maps:with([links, in_flight], pyn_ct:info(P)) =:= #{links => 1, in_flight => 0} end),
    ?assertEqual(0, pyn_ct:stop(P)).

push(C, Ask) ->
    case dist_client:raw(C, Ask) of
        ok -> push(C, Ask);
        {error, timeout} -> push(C, Ask);
        {error, _} -> ok
    end.

until_down(P, Ref, Peak) ->
    %% Everybody shares the queue, which the flood may have filled: then others are told so, at once.
    case pyn_ct:call(P, {call, copy, copy, [7]}, 5000) of
        {ok, 7} -> ok;
        {error, {overloaded, _, 200}} -> ok
    end,
    Now = pyn_ct:info(P, memory),
    receive {'DOWN', Ref, _, _, _} -> max(Peak, Now) after 20 -> until_down(P, Ref, max(Peak, Now)) end.

%% --- Small things ---

connect(P, N) ->
    dist_client:connect(#{port => pyn_ct:port(P), name => dist_client:name(N)}).
