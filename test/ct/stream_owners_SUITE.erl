%% What it costs an owner to have many streams, which have to know how much of each it has read.
-module(stream_owners_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([many_of_one_owner/1, idle_owner_is_looked_at_once/1, looks_begin_again/1]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [many_of_one_owner, idle_owner_is_looked_at_once, looks_begin_again].

init_per_suite(Config) ->
    ok = app_ct:start(app_ct:workers(4)),
    Config.

end_per_suite(_Config) ->
    app_ct:stop().

%% To read what one stream has sent makes no work for all the others: the mailbox is gone through a few times for each
%% window of items.
many_of_one_owner(_Config) ->
    Refs = [start(200) || _ <- lists:seq(1, 50)],
    lists:foreach(fun app_ct:full/1, Refs),
    Calls = counters:new(1, []),
    traced([self(), messages], Calls, fun() ->
        [?assertEqual({lists:seq(0, 199), done}, items(Ref)) || Ref <- Refs]
    end),
    ct:log("~b times for ~b items", [counters:get(Calls, 1), 50 * 200]),
    ?assert(counters:get(Calls, 1) =< 50 * (200 div 64 + 1) * 4, counters:get(Calls, 1)),
    nothing_left().

%% An owner that does not read is not looked at more often for having more streams. When all have come, and the waits
%% between two looks have grown, more than 20 of the looks are 50 ms apart.
idle_owner_is_looked_at_once(_Config) ->
    Refs = [start(1000) || _ <- lists:seq(1, 10)],
    lists:foreach(fun app_ct:full/1, Refs),
    Looks = counters:new(1, []),
    Start = erlang:monotonic_time(millisecond),
    traced([self(), message_queue_len], Looks, fun() -> pyn_ct:wait_until(fun() -> counters:get(Looks, 1) >= 40 end) end),
    Took = erlang:monotonic_time(millisecond) - Start,
    ct:log("40 looks in ~b ms", [Took]),
    ?assert(Took >= 800, Took),
    [ok = py:stream_cancel(Ref) || Ref <- Refs],
    nothing_left().

%% The process that looks is started again, and the streams that waited for it go on.
looks_begin_again(_Config) ->
    Refs = [start(300) || _ <- lists:seq(1, 5)],
    lists:foreach(fun app_ct:full/1, Refs),
    Killed = whereis(py_stream_owners),
    exit(Killed, kill),
    pyn_ct:wait_until(fun() -> not lists:member(whereis(py_stream_owners), [Killed, undefined]) end),
    [?assertEqual({lists:seq(0, 299), done}, items(Ref)) || Ref <- Refs],
    nothing_left().

%%% Helpers

%% Counts, while the fun runs, how often process_info is called with these arguments, by whomever.
traced(Arguments, Calls, Fun) ->
    Tracer = spawn_link(fun() -> count_calls(Calls) end),
    _ = erlang:trace(all, true, [call, {tracer, Tracer}]),
    1 = erlang:trace_pattern({erlang, process_info, 2}, [{Arguments, [], []}], []),
    Fun(),
    1 = erlang:trace_pattern({erlang, process_info, 2}, false, []),
    Delivered = erlang:trace_delivered(all),
    receive {trace_delivered, all, Delivered} -> ok end,
    _ = erlang:trace(all, false, [call]),
    Tracer ! {stop, self()},
    receive {stopped, Tracer} -> ok end.

count_calls(Calls) ->
    receive
        {trace, _, call, _} -> counters:add(Calls, 1, 1), count_calls(Calls);
        {stop, To} -> To ! {stopped, self()}
    end.

start(N) ->
    {ok, Ref} = py:stream_start(t_streams, count, [N]),
    Ref.

%% {Items, the last message}
items(Ref) ->
    receive
        {py_stream, Ref, {data, Item}} ->
            {Items, Last} = items(Ref),
            {[Item | Items], Last};
        {py_stream, Ref, Last} ->
            {[], Last}
    after 20000 -> error(no_end)
    end.

nothing_left() ->
    pyn_ct:wait_until(fun() -> ets:tab2list(py_stream) =:= [] end),
    receive {py_stream, _, _} = Left -> error({left, Left}) after 0 -> ok end.
