%% Binding for a process that dies while it waits for a worker: nothing of it is left, in the C-node and here.
-module(bind_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() -> [workers_are_busy, node_hangs, node_hangs_for_long].

init_per_suite(Config) -> Config.

end_per_suite(_Config) -> app_ct:stop().

init_per_testcase(_Case, Config) ->
    ok = app_ct:start(app_ct:workers(3)),
    Config.

end_per_testcase(_Case, _Config) -> app_ct:stop().

%% The processes that ask in the place of owners end with these, while the workers are busy still.
workers_are_busy(_) ->
    Busy = [py:call_async(t_slow, spin, []) || _ <- [1, 2, 3]],
    pyn_ct:wait_until(fun() -> in_flight() =:= 3 end),
    Owners = [spawn(Bind) || Bind <- [fun py:bind/0, fun() -> py:bind(new) end, fun() -> py:with_context(fun() -> ok end) end]],
    pyn_ct:wait_until(fun() -> in_flight() =:= 6 end),
    pyn_ct:wait_until(fun() -> length(binders()) =:= 3 end),
    [exit(Owner, kill) || Owner <- Owners],
    pyn_ct:wait_until(fun() -> in_flight() =:= 3 end),
    pyn_ct:wait_until(fun() -> binders() =:= [] end),
    [ok = py:interrupt(Ref) || Ref <- Busy],
    [{error, interrupted} = py:await(Ref) || Ref <- Busy],
    all_can_be_bound(3).

%% The C-node has not seen the request yet, or not the death, and then sees both.
node_hangs(_) ->
    {ok, OsPid} = py:call(os, getpid, []),
    ok = pyn_ct:freeze(OsPid),
    Owners = [spawn(fun() -> py:bind(new) end) || _ <- [1, 2]],
    pyn_ct:wait_until(fun() -> length(binders()) =:= 2 end),
    [exit(Owner, kill) || Owner <- Owners],
    pyn_ct:wait_until(fun() -> binders() =:= [] end, 20000),
    ok = pyn_ct:thaw(OsPid),
    pyn_ct:wait_until(fun() -> {bound(), in_flight()} =:= {0, 0} end),
    all_can_be_bound(3).

%% It has been told that the time is over, and dies then.
node_hangs_for_long(_) ->
    {ok, OsPid} = py:call(os, getpid, []),
    ok = pyn_ct:freeze(OsPid),
    Self = self(),
    Owner = spawn(fun() -> Self ! {self(), py:bind(new)}, receive stop -> ok end end),
    receive {Owner, Result} -> ?assertEqual({error, timeout}, Result) end,
    pyn_ct:wait_until(fun() -> length(binders()) =:= 1 end), % it stays, and may be about to say so
    exit(Owner, kill),
    pyn_ct:wait_until(fun() -> binders() =:= [] end),
    ok = pyn_ct:thaw(OsPid),
    pyn_ct:wait_until(fun() -> {bound(), in_flight()} =:= {0, 0} end),
    all_can_be_bound(3).

%%% Helpers

%% Those that ask for a worker in the place of another process.
binders() ->
    [Pid || Pid <- processes(), {current_function, {py_proto, _, _}} <- [process_info(Pid, current_function)]].

all_can_be_bound(N) ->
    Held = [begin {ok, C} = py:bind(new), C end || _ <- lists:seq(1, N)],
    [ok = py:unbind(C) || C <- Held].

bound() -> fact(bound).
in_flight() -> fact(in_flight).

fact(Key) ->
    lists:sum([maps:get(Key, Info) || #{status := up} = Info <- maps:values(py:info())]).
