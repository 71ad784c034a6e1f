%% Counting semaphore for the Python calls of this Erlang node.
%%
%% There is no counter beside the records of the holders: the number of slots in use is the size of the ETS table
%% that has one record per slot. So a process that is killed at any point cannot leave the two in disagreement: its
%% record is there, then it counts and names a dead process, which is noticed; or it is not there, then it does not
%% count.
%%
%% To take a slot: insert the record, then read the size of the table; the slot is held if the size is not above the
%% limit, else the record is deleted again. Never more than the limit hold a slot: of any set of holders consider the
%% one that inserted last; when it read the size, the records of the others were there, so their number with its own
%% was not above the limit. Several processes at once may all find the table too full and step back; they queue at
%% the server, which looks again when they have come, so no slot stays unused for that.
%%
%% The fast path reads one number, the limit, and sends no message. While somebody waits that number is 0, so that
%% everybody queues at the server, which gives slots in order of arrival (it inserts for them, by the same rule),
%% and whoever releases a slot tells it. A release is not missed: the server writes 0 before it reads the size, the
%% releasing process deletes its record before it reads the limit, and both are full barriers; so either the server
%% sees the slot free or the other one sees that somebody waits.
%%
%% Death: while somebody waits, the server monitors all holders. What it cannot know of (a process that read the
%% limit before it became 0 and was killed after its insert, or after its delete and before it told the server) is
%% found by looking again every 100 ms, only while somebody waits. Finding the semaphore full means to wait, so a
%% dead holder never keeps anybody out; as long as it is not full, its record harms nobody.
%%
%% Lowering the limit lets the number sink; raising it wakes those who wait.
%%
%% The server's own death costs those who wait their places in the queue, and nothing else: they begin anew, within
%% their time, with the one that the supervisor starts.
-module(py_semaphore).
-behaviour(gen_server).

%% API.
-export([max_concurrent/0]).
-export([current/0]).
-export([set_max_concurrent/1]).
-export([acquire/1]).
-export([release/0]).

%% Used by the calls: one slot per process beside those it acquired itself.
-export([enter/1]).
-export([leave/0]).

%% Used by the supervision tree.
-export([create/1]).
-export([forget/0]).
-export([start_link/0]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-type key() :: pid() | {pid(), pos_integer()}.

-record(waiter, {
    pid :: pid(),
    ref :: reference(),
    key :: key()
}).

-record(state, {
    numbers :: atomics:atomics_ref(),
    queue = queue:new() :: queue:queue(#waiter{}),
    %% Holders and waiters, monitored while the queue is not empty.
    watched = #{} :: #{pid() => reference()},
    timer :: undefined | reference()
}).

-define(TABLE, ?MODULE).
%% What the fast path needs: the numbers, and the table by its identifier, because every use of its name would take
%% a lock that all schedulers share.
-define(FAST, ?MODULE).
-define(HELD, '$py_slots').
-define(LOOK_AGAIN_MS, 100).
%% What a supervisor needs to start the server again.
-define(RESTART_MS, 10).
%% As in the configuration.
-define(LIMIT_MAX, 16#ffffffff).
%% The longest time that `receive` takes.
-define(MAX_TIMEOUT, 16#ffffffff).
%% A record of a slot that was taken without waiting; one that the server gave has the reference of the request,
%% so that taking it back cannot hit another slot of that process.
-define(TAKEN, taken).

%% The numbers: the limit as the fast path sees it, the limit, and the most that current/0 shows.
-define(GATE, 1).
-define(MAX, 2).
-define(CEILING, 3).

%% API. Without the application there are no slots: none is in use, and none can be had.

-spec max_concurrent() -> pos_integer() | {error, no_nodes}.
max_concurrent() ->
    try limit() catch error:badarg -> {error, no_nodes} end.

%% The number of slots in use. A process that steps back is in the table for a moment without having a slot, so what
%% is above the limit is cut off, unless the limit was lowered below the number in use.
-spec current() -> non_neg_integer().
current() ->
    try in_use(numbers()) catch error:badarg -> 0 end.

in_use(Numbers) ->
    ok = forget_dead(Numbers),
    Max = atomics:get(Numbers, ?MAX),
    Size = ets:info(?TABLE, size),
    _ = Size =< Max andalso atomics:put(Numbers, ?CEILING, Max),
    min(Size, max(Max, atomics:get(Numbers, ?CEILING))).

-spec set_max_concurrent(pos_integer()) -> ok | {error, no_nodes}.
set_max_concurrent(Max) when is_integer(Max), Max > 0, Max =< ?LIMIT_MAX ->
    try gen_server:call(?MODULE, {set_max, Max}, infinity) catch exit:_ -> set_max_again(Max) end;
set_max_concurrent(Other) ->
    error(badarg, [Other]).

set_max_again(Max) ->
    case ets:info(?TABLE, size) of
        undefined ->
            {error, no_nodes};
        _ ->
            receive after ?RESTART_MS -> ok end,
            set_max_concurrent(Max)
    end.

%% A process may hold several slots. They are freed when it dies.
-spec acquire(timeout()) -> ok | {error, max_concurrent | no_nodes}.
acquire(Timeout) when Timeout =:= infinity; is_integer(Timeout), Timeout >= 0, Timeout =< ?MAX_TIMEOUT ->
    Held = held(),
    try take({self(), Held + 1}, Timeout) of
        full -> {error, max_concurrent};
        _ -> _ = put(?HELD, Held + 1), ok
    catch
        error:badarg -> {error, no_nodes}
    end;
acquire(Other) ->
    error(badarg, [Other]).

%% Gives back the slot acquired last; nothing happens when this process holds none.
-spec release() -> ok.
release() ->
    case held() of
        0 -> ok;
        Held -> _ = put(?HELD, Held - 1), give_back({self(), Held})
    end.

held() ->
    case get(?HELD) of undefined -> 0; Held -> Held end.

%% For calls.

%% The slot of a call. When it had to wait, the answer says how much of the time is left.
-spec enter(timeout()) ->
    ok | {waited, timeout()} | {error, no_nodes | {overloaded, non_neg_integer(), pos_integer()}}.
enter(Timeout) ->
    try
        case take(self(), Timeout) of
            full -> {error, {overloaded, current(), limit()}};
            Taken -> Taken
        end
    catch
        %% The application does not run, or stops in this moment.
        error:badarg -> {error, no_nodes}
    end.

-spec leave() -> ok.
leave() ->
    give_back(self()).

%% For the supervision tree.

%% The table belongs to the supervisor, so that a crash of the server loses no slot.
-spec create(pos_integer()) -> ok.
create(Max) ->
    ?TABLE = ets:new(?TABLE, [
        named_table, public, set, {write_concurrency, true}, {decentralized_counters, false}
    ]),
    Numbers = atomics:new(3, []),
    ok = atomics:put(Numbers, ?GATE, Max),
    ok = atomics:put(Numbers, ?MAX, Max),
    ok = atomics:put(Numbers, ?CEILING, Max),
    persistent_term:put(?FAST, {ets:whereis(?TABLE), Numbers}).

-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?FAST),
    ok.

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Taking and giving back. What reads the numbers or the table fails with `badarg` when there are none.

limit() ->
    atomics:get(numbers(), ?MAX).

numbers() ->
    {_, Numbers} = persistent_term:get(?FAST),
    Numbers.

-spec take(key(), timeout()) -> ok | {waited, timeout()} | full.
take(Key, Timeout) ->
    {Table, Numbers} = persistent_term:get(?FAST),
    case atomics:get(Numbers, ?GATE) of
        0 -> wait(Key, Timeout);
        Max ->
            true = ets:insert(Table, {Key, self(), ?TAKEN}),
            case ets:info(Table, size) =< Max of
                true -> ok;
                false -> step_back(Table, Key, Timeout)
            end
    end.

step_back(Table, Key, Timeout) ->
    true = ets:delete(Table, Key),
    wait(Key, Timeout).

give_back(Key) ->
    try
        {Table, Numbers} = persistent_term:get(?FAST),
        true = ets:delete(Table, Key),
        case atomics:get(Numbers, ?GATE) of
            0 -> gen_server:cast(?MODULE, released);
            _ -> ok
        end
    catch
        %% The application has stopped while the slot was held.
        error:badarg -> ok
    end.

%% Also with no time to wait the server is asked, because the slots may be held by the dead.
wait(Key, Timeout) ->
    Since = erlang:monotonic_time(millisecond),
    Ref = erlang:monitor(process, ?MODULE, [{alias, reply_demonitor}]),
    gen_server:cast(?MODULE, {wait, self(), Ref, Key, Timeout =/= 0}),
    receive
        {Ref, granted} -> {waited, time_left(Timeout, Since)};
        {Ref, full} -> full;
        {'DOWN', Ref, process, _, _} -> wait_on(Key, Timeout, Since, Ref)
    after real_time(Timeout) -> give_up(Key, Timeout, Since, Ref)
    end.

%% The server is gone. A slot that it gave without coming to say so is not held.
wait_on(Key, Timeout, Since, Ref) ->
    ok = take_back(Key, Ref),
    case time_left(Timeout, Since) of
        0 ->
            full;
        Left ->
            receive after min(Left, ?RESTART_MS) -> ok end,
            take_after_wait(Key, Timeout, Since)
    end.

take_after_wait(Key, Timeout, Since) ->
    case take(Key, time_left(Timeout, Since)) of
        ok -> {waited, time_left(Timeout, Since)};
        Other -> Other
    end.

take_back(Key, Ref) ->
    {Table, _} = persistent_term:get(?FAST),
    true = ets:delete_object(Table, {Key, self(), Ref}),
    ok.

%% The server answers a request that will not wait, so its time is not measured here.
real_time(0) -> infinity;
real_time(Timeout) -> Timeout.

%% The slot may have been given between the end of the time and the removal of the monitor. If the server gives it
%% after that, it takes it back when the cast arrives.
give_up(Key, Timeout, Since, Ref) ->
    _ = erlang:demonitor(Ref),
    receive
        {Ref, granted} -> {waited, time_left(Timeout, Since)};
        {'DOWN', Ref, process, _, _} -> ok = take_back(Key, Ref), full
    after 0 ->
        gen_server:cast(?MODULE, {give_up, self(), Ref, Key}),
        full
    end.

time_left(infinity, _) -> infinity;
time_left(Timeout, Since) -> max(0, Timeout - (erlang:monotonic_time(millisecond) - Since)).

%% Removes the records of dead holders.
forget_dead(Numbers) ->
    Dead = [Record || {_, Pid, _} = Record <- ets:tab2list(?TABLE), not is_process_alive(Pid)],
    lists:foreach(fun(Record) -> ets:delete_object(?TABLE, Record) end, Dead),
    case Dead =/= [] andalso atomics:get(Numbers, ?GATE) of
        0 -> gen_server:cast(?MODULE, released);
        _ -> ok
    end.

%% gen_server.

%% After a crash: those who waited got 'DOWN' and come again, so nobody waits yet.
-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, open(#state{numbers = numbers()})}.

-spec handle_call({set_max, pos_integer()}, gen_server:from(), #state{}) -> {reply, ok, #state{}}.
handle_call({set_max, Max}, _From, #state{numbers = Numbers} = State) ->
    ok = atomics:put(Numbers, ?CEILING, max(Max, ets:info(?TABLE, size))),
    ok = atomics:put(Numbers, ?MAX, Max),
    {reply, ok, serve(State)}.

-spec handle_cast(Message, #state{}) -> {noreply, #state{}} when
    Message ::
        released
        | {wait, pid(), reference(), key(), boolean()}
        | {give_up, pid(), reference(), key()}.
handle_cast(released, State) ->
    {noreply, serve(State)};
handle_cast({wait, Pid, Ref, Key, MayWait}, #state{queue = Queue} = State0) ->
    Waiter = #waiter{pid = Pid, ref = Ref, key = Key},
    State = serve(watch(Pid, close(State0#state{queue = queue:in(Waiter, Queue)}))),
    {noreply, maybe_refuse(MayWait, Waiter, State)};
handle_cast({give_up, Pid, Ref, Key}, State) ->
    true = ets:delete_object(?TABLE, {Key, Pid, Ref}),
    {noreply, serve(dequeue(Ref, State))}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _, process, Pid, _}, #state{watched = Watched, queue = Queue} = State) ->
    true = ets:match_delete(?TABLE, {'_', Pid, '_'}),
    Alive = queue:filter(fun(#waiter{pid = P}) -> P =/= Pid end, Queue),
    {noreply, serve(State#state{watched = maps:remove(Pid, Watched), queue = Alive})};
handle_info({timeout, Timer, look_again}, #state{timer = Timer} = State) ->
    {noreply, serve(watch_holders(start_timer(State)))};
handle_info(_, State) ->
    {noreply, State}.

%% Everybody queues from now on. The gate is closed before the table is read, see above.
close(#state{timer = undefined, numbers = Numbers} = State) ->
    ok = atomics:put(Numbers, ?GATE, 0),
    watch_holders(start_timer(State));
close(State) ->
    State.

open(#state{numbers = Numbers, timer = Timer, watched = Watched} = State) ->
    _ = Timer =/= undefined andalso erlang:cancel_timer(Timer),
    maps:foreach(fun(_, Monitor) -> erlang:demonitor(Monitor, [flush]) end, Watched),
    ok = atomics:put(Numbers, ?GATE, atomics:get(Numbers, ?MAX)),
    State#state{timer = undefined, watched = #{}}.

start_timer(State) ->
    State#state{timer = erlang:start_timer(?LOOK_AGAIN_MS, self(), look_again)}.

%% A monitor of a process that is dead already says so at once.
watch_holders(State) ->
    lists:foldl(fun({_, Pid, _}, S) -> watch(Pid, S) end, State, ets:tab2list(?TABLE)).

watch(Pid, #state{watched = Watched} = State) when is_map_key(Pid, Watched) ->
    State;
watch(Pid, #state{watched = Watched} = State) ->
    State#state{watched = Watched#{Pid => erlang:monitor(process, Pid)}}.

%% Gives slots to those who wait, in order, as long as there are any.
serve(#state{queue = Queue} = State) ->
    case queue:peek(Queue) of
        empty -> open(State);
        {value, Waiter} ->
            case grant(Waiter, State) of
                true -> serve(State#state{queue = queue:drop(Queue)});
                false -> State
            end
    end.

%% The size is read after the insert, as on the fast path: somebody may take the last slot there who read the limit
%% before the gate was closed.
%%
%% A waiter whose key is in the table has given up, as its cast behind this one says, and has taken a slot there since.
%% That record is its own, and must be neither replaced nor taken back: nothing is granted, and it waits no more.
grant(#waiter{pid = Pid, ref = Ref, key = Key}, #state{numbers = Numbers}) ->
    Max = atomics:get(Numbers, ?MAX),
    Record = {Key, Pid, Ref},
    ets:info(?TABLE, size) < Max andalso
        case ets:insert_new(?TABLE, Record) andalso ets:info(?TABLE, size) =< Max of
            true -> Ref ! {Ref, granted}, true;
            false -> ets:delete_object(?TABLE, Record), ets:member(?TABLE, Key)
        end.

%% One that will not wait and was not served: the slots may be held by the dead, of whom no 'DOWN' was read yet.
maybe_refuse(true, _, State) ->
    State;
maybe_refuse(false, Waiter, State) ->
    case queue:member(Waiter, State#state.queue) of
        true -> refuse(Waiter, look_again(State));
        false -> State
    end.

look_again(#state{numbers = Numbers} = State) ->
    ok = forget_dead(Numbers),
    serve(State).

refuse(#waiter{ref = Ref} = Waiter, #state{queue = Queue} = State) ->
    case queue:member(Waiter, Queue) of
        true ->
            Ref ! {Ref, full},
            serve(dequeue(Ref, State));
        false ->
            State
    end.

dequeue(Ref, #state{queue = Queue} = State) ->
    State#state{queue = queue:filter(fun(#waiter{ref = R}) -> R =/= Ref end, Queue)}.
