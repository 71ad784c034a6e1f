%% The replicated table of the shared state, and the operations on it. py_replica keeps it; py_state.erl says what each
%% operation means.
%%
%% Writes are synchronous transactions: a write is acknowledged when every coordinator that holds the table has it, so
%% the death of any of them, the one that served the write included, loses nothing of what was acknowledged. Reads are
%% of the local copy.
%%
%% With three coordinators or more, a write needs more than half of them (a quorum). Mnesia has an option for that,
%% `majority`, but it comes with a protocol that answers before the others have stored the write. So the quorum is
%% counted here, before the write and again after it: who was lost in between may not have stored it.
%%
%% The keys of the users are wrapped, `{Key}`, so that the table has room for a row of our own: the epoch. It grows
%% whenever a coordinator is lost, in the copies that are left, and whenever one takes a copy. Of two copies that went
%% separate ways the one with the greater epoch has lived on; see py_replica.
-module(py_replica_table).

-export([name/0]).
-export([create/0]).
-export([set_quorum/1]).
-export([forget/0]).
-export([perform/1]).
-export([holders/0]).
-export([epoch/0]).
-export([next_epoch/0]).

-define(TABLE, py_state_replica).
-define(QUORUM, {?MODULE, quorum}).

-spec name() -> ?TABLE.
name() ->
    ?TABLE.

-spec create() -> {atomic, ok} | {aborted, term()}.
create() ->
    mnesia:create_table(?TABLE, [
        {ram_copies, [node()]},
        {attributes, [key, value]},
        {storage_properties, [{ets, [{read_concurrency, true}, {write_concurrency, true}]}]}
    ]).

%% How many holders a write needs, of that many coordinators. Two cannot have a majority when they lose each other, so
%% one of two may write.
-spec set_quorum(pos_integer()) -> ok.
set_quorum(Coordinators) when Coordinators > 2 -> persistent_term:put(?QUORUM, Coordinators div 2 + 1);
set_quorum(_) -> persistent_term:put(?QUORUM, 1).

%% After the application: no holders are enough, whoever is still at it.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?QUORUM),
    ok.

%% The coordinators that hold the table and are connected, this node one of them; none when the table is not here, or
%% is still being copied.
-spec holders() -> [node()].
holders() ->
    try {mnesia:table_info(?TABLE, where_to_read), mnesia:table_info(?TABLE, where_to_write)} of
        {Node, Holders} when Node =:= node() -> Holders;
        {_, _} -> []
    catch
        exit:_ -> []
    end.

-spec epoch() -> non_neg_integer().
epoch() ->
    try mnesia:dirty_read(?TABLE, epoch) of
        [{_, _, Epoch}] -> Epoch;
        [] -> 0
    catch
        exit:{aborted, _} -> 0
    end.

%% Nothing, where too few are left to write.
-spec next_epoch() -> ok.
next_epoch() ->
    _ = transaction(fun() ->
        _ = mnesia:lock({record, ?TABLE, epoch}, write),
        {mnesia:write({?TABLE, epoch, epoch() + 1}), ok}
    end),
    ok.

%% The operations. Whoever does one may be any process, also one that is in a transaction of its own.

-spec perform(py_state:operation()) -> {ok, term()} | {error, term()}.
perform({fetch, Key}) ->
    try mnesia:dirty_read(?TABLE, {Key}) of
        [{_, _, Value}] -> {ok, Value};
        [] -> {error, not_found}
    catch
        exit:{aborted, _} -> {error, coordinator_down}
    end;
perform({keys}) ->
    try {ok, [Key || {Key} <- mnesia:dirty_all_keys(?TABLE)]}
    catch exit:{aborted, _} -> {error, coordinator_down}
    end;
perform({store, Key, Value}) ->
    write(Key, fun(_) -> {Value, ok} end);
perform({incr, Key, By}) when is_integer(By) ->
    write(Key, fun(Before) -> count(Before, By) end);
perform({remove, Key}) ->
    transaction(fun() -> {mnesia:delete({?TABLE, {Key}}), ok} end);
perform({clear}) ->
    transaction(fun clear/0);
perform(_) ->
    {error, bad_operation}.

count([], By) -> {By, By};
count([{_, _, Value}], By) when is_integer(Value) -> {Value + By, Value + By};
count(_, _) -> mnesia:abort({error, not_a_counter}).

%% Next is given the row, if there is one, and gives the new value and the answer.
write(Key, Next) ->
    transaction(fun() ->
        Before = mnesia:wread({?TABLE, {Key}}),
        {Value, Answer} = Next(Before),
        ok = make_room(Before, py_state:limit()),
        {mnesia:write({?TABLE, {Key}, Value}), Answer}
    end).

%% Who makes a new key where their number is limited has a lock that everybody else has to wait for. The one who had it
%% before has stored its key everywhere by then.
make_room([_], _) -> ok;
make_room([], infinity) -> ok;
make_room([], Limit) ->
    _ = mnesia:lock({global, {?TABLE, new_key}, holders()}, write),
    case mnesia:table_info(?TABLE, size) - length(mnesia:dirty_read(?TABLE, epoch)) < Limit of
        true -> ok;
        false -> mnesia:abort({error, state_full})
    end.

clear() ->
    _ = mnesia:write_lock_table(?TABLE),
    {lists:foreach(fun(Key) -> ok = mnesia:delete({?TABLE, Key}) end, [{Key} || {Key} <- mnesia:all_keys(?TABLE)]), ok}.

%% A transaction within one of the user's own would be part of that: neither synchronous nor done when it returns.
transaction(Fun) ->
    case mnesia:is_transaction() of
        false -> transact(Fun);
        true -> transact_apart(Fun)
    end.

transact(Fun) ->
    case mnesia:sync_transaction(fun() -> ok = need_quorum(), Fun() end) of
        {atomic, {ok, Answer}} -> acknowledged({ok, Answer}, has_quorum());
        {aborted, {error, _} = Error} -> Error;
        {aborted, _} -> {error, coordinator_down}
    end.

acknowledged(Answer, true) -> Answer;
acknowledged(_, false) -> {error, coordinator_down}.

need_quorum() ->
    case has_quorum() of
        true -> ok;
        false -> mnesia:abort(no_quorum)
    end.

has_quorum() ->
    length(holders()) >= persistent_term:get(?QUORUM, none).

transact_apart(Fun) ->
    Caller = self(),
    {Pid, Monitor} = spawn_monitor(fun() -> Caller ! {self(), transact(Fun)}, ok end),
    receive
        {Pid, Answer} -> erlang:demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, process, Pid, _} -> {error, coordinator_down}
    end.
