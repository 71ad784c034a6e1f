%% The shared state of the cluster: a table on the coordinator, and the process there that answers those who are not.
%%
%% Processes on the coordinator work on the table directly. Others send their operation to this process: Erlang nodes by
%% gen_server:call, C-nodes by
%%
%%     {py_rpc, Id, Pid, Chain, Timeout, Operation}    answered {py_reply, Id, {ok, Value} | {error, Reason}} to Pid,
%%                                                     or, several at once, {py_replies, [{py_reply, Id, ...}, ...]}
%%
%% Operation is {fetch, Key} | {store, Key, Value} | {remove, Key} | {clear} | {keys} | {incr, Key, By}. Every one is
%% atomic. Keys are exact terms: 1 and 1.0 are two.
%%
%% Counters: ets:update_counter/4 is atomic in itself, for a missing key too, and what is stored by others comes before
%% or after it. So no increment is lost, whoever counts from wherever.
%%
%% With `state_max` the number of keys is bounded. Then only this process makes new keys, and it looks at the size before
%% each; everybody else updates keys that are there, by operations that fail when the key is not there (any more). So
%% the limit is never passed, and a key is refused only while the table is full.
%%
%% With `state_replication` the table is py_replica_table's, and every operation is done by a process of its own or by
%% the caller's: it takes a round trip to the other coordinators, during which others are to be served.
%%
%% Nothing here waits for a peer: an answer that cannot be written at once is left to a process of its own.
-module(py_state).
-behaviour(gen_server).

%% API.
-export([fetch/1]).
-export([store/2]).
-export([remove/1]).
-export([clear/0]).
-export([keys/0]).
-export([incr/2]).
-export([decr/2]).

%% Used by the supervision tree.
-export([create/1]).
-export([forget/0]).
-export([limit/0]).
-export([start_link/0]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-export_type([operation/0]).

-type operation() ::
    {fetch, term()}
    | {store, term(), term()}
    | {remove, term()}
    | {clear}
    | {keys}
    | {incr, term(), integer()}.
-type outcome() :: {ok, term()} | {error, not_found | not_a_counter | state_full | bad_operation}.
-type down() :: {error, coordinator_down | timeout}.

-define(TABLE, ?MODULE).
-define(LIMIT, {?MODULE, limit}).
-define(REPLICATED, {?MODULE, replicated}).
-define(ANSWER_MS, 30000).
%% So many answers go into one message at most; only those that are small whatever the state holds.
-define(MAX_TOGETHER, 64).
-define(IS_SMALL(Operation), (element(1, Operation) =:= incr orelse element(1, Operation) =:= store)).

%% API.

-spec fetch(term()) -> {ok, term()} | {error, not_found} | down().
fetch(Key) ->
    perform({fetch, Key}).

-spec store(term(), term()) -> ok | {error, state_full} | down().
store(Key, Value) ->
    done(perform({store, Key, Value})).

-spec remove(term()) -> ok | down().
remove(Key) ->
    done(perform({remove, Key})).

-spec clear() -> ok | down().
clear() ->
    done(perform({clear})).

-spec keys() -> [term()] | down().
keys() ->
    value(perform({keys})).

-spec incr(term(), integer()) -> integer() | {error, not_a_counter | state_full | {bad_option, term()}} | down().
incr(Key, By) when is_integer(By) ->
    value(perform({incr, Key, By}));
incr(_, By) ->
    {error, {bad_option, {by, By}}}.

-spec decr(term(), integer()) -> integer() | {error, not_a_counter | state_full | {bad_option, term()}} | down().
decr(Key, By) when is_integer(By) ->
    incr(Key, -By);
decr(Key, By) ->
    incr(Key, By).

done({ok, _}) -> ok;
done({error, _} = Error) -> Error.

value({ok, Value}) -> Value;
value({error, _} = Error) -> Error.

%% For the supervision tree.

%% The table belongs to the supervisor, so that a crash of the server loses nothing.
-spec create(py_config:config()) -> ok.
create(Config) ->
    ?TABLE = ets:new(?TABLE, [
        named_table, public, set, {write_concurrency, true}, {read_concurrency, true}, {decentralized_counters, false}
    ]),
    ok = persistent_term:put(?LIMIT, maps:get(state_max, Config, infinity)),
    persistent_term:put(?REPLICATED, maps:get(state_replication, Config, false)).

%% After the application, whose table has gone already.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?LIMIT),
    _ = persistent_term:erase(?REPLICATED),
    ok.

%% How many keys there may be.
-spec limit() -> pos_integer() | infinity.
limit() ->
    persistent_term:get(?LIMIT, infinity).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Where an operation is done.

-spec perform(operation()) -> outcome() | down().
perform(Operation) ->
    case py_coordinators:acting() of
        {ok, Node} when Node =:= node() -> here(Operation);
        {ok, Node} -> ask(Node, Operation);
        {error, coordinator_down} = Error -> Error
    end.

here(Operation) ->
    case persistent_term:get(?REPLICATED, false) of
        true -> py_replica_table:perform(Operation);
        false -> here_alone(Operation)
    end.

here_alone(Operation) ->
    try direct(Operation) of
        new_key -> ask(node(), Operation);
        Outcome -> Outcome
    catch
        error:badarg -> {error, coordinator_down}
    end.

ask(Node, Operation) ->
    try gen_server:call({?MODULE, Node}, Operation, ?ANSWER_MS)
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:_ -> {error, coordinator_down}
    end.

%% The operations, as everybody may do them. `new_key`: only the server may do this one.

direct({fetch, Key}) ->
    case ets:lookup(?TABLE, Key) of
        [{_, Value}] -> {ok, Value};
        [] -> {error, not_found}
    end;
direct({store, Key, Value}) ->
    case persistent_term:get(?LIMIT) of
        infinity -> true = ets:insert(?TABLE, {Key, Value}), {ok, ok};
        _ -> update(Key, Value)
    end;
direct({remove, Key}) ->
    true = ets:delete(?TABLE, Key),
    {ok, ok};
direct({clear}) ->
    true = ets:delete_all_objects(?TABLE),
    {ok, ok};
direct({keys}) ->
    {ok, ets:select(?TABLE, [{{'$1', '_'}, [], ['$1']}])};
direct({incr, Key, By}) when is_integer(By) ->
    case persistent_term:get(?LIMIT) of
        infinity -> count(Key, By);
        _ -> count_existing(Key, By)
    end;
direct(_) ->
    {error, bad_operation}.

update(Key, Value) ->
    case ets:update_element(?TABLE, Key, {2, Value}) of
        true -> {ok, ok};
        false -> new_key
    end.

%% Some moment ago the key held something else, whatever it holds by now. The same error stands for a table that is gone;
%% then so does what looks at it.
count(Key, By) ->
    try {ok, ets:update_counter(?TABLE, Key, {2, By}, {Key, 0})}
    catch
        error:badarg ->
            _ = ets:member(?TABLE, Key),
            {error, not_a_counter}
    end.

%% The same error stands for a key that is not there: should one have come meanwhile, the server will see it.
count_existing(Key, By) ->
    try {ok, ets:update_counter(?TABLE, Key, {2, By})}
    catch
        error:badarg ->
            case ets:member(?TABLE, Key) of
                true -> {error, not_a_counter};
                false -> new_key
            end
    end.

%% The same on the server, which is the only one that makes new keys when their number is bounded.
serve(Operation) ->
    case direct(Operation) of
        new_key -> make_key(Operation, ets:info(?TABLE, size) < persistent_term:get(?LIMIT));
        Outcome -> Outcome
    end.

make_key(_, false) -> {error, state_full};
make_key({store, Key, Value}, true) -> true = ets:insert(?TABLE, {Key, Value}), {ok, ok};
make_key({incr, Key, By}, true) -> count(Key, By).

%% gen_server.

-spec init([]) -> {ok, boolean()}.
init([]) ->
    {ok, persistent_term:get(?REPLICATED)}.

-spec handle_call(operation(), gen_server:from(), boolean()) -> {noreply, boolean()}.
handle_call(Operation, {Pid, Tag}, State) ->
    ok = serve(Operation, State, fun(Outcome) -> send(reply_to(Pid, Tag), {Tag, Outcome}) end),
    {noreply, State}.

-spec handle_cast(term(), boolean()) -> {noreply, boolean()}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), boolean()) -> {noreply, boolean()}.
handle_info({py_rpc, Id, To, _, _, Operation}, false) when is_pid(To), ?IS_SMALL(Operation) ->
    Reply = {py_reply, Id, serve(Operation)},
    {message_queue_len, Waiting} = erlang:process_info(self(), message_queue_len),
    maps:foreach(fun send_replies/2, more_replies(min(Waiting, ?MAX_TOGETHER), #{To => [Reply]})),
    {noreply, false};
handle_info({py_rpc, Id, To, _, _, Operation}, State) when is_pid(To) ->
    ok = serve(Operation, State, fun(Outcome) -> send(To, {py_reply, Id, Outcome}) end),
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

%% C-nodes send several at once when they have several. Who else waits is served after so many.
more_replies(0, Replies) ->
    Replies;
more_replies(N, Replies) ->
    receive
        {py_rpc, Id, To, _, _, Operation} when is_pid(To), ?IS_SMALL(Operation) ->
            Reply = {py_reply, Id, serve(Operation)},
            more_replies(N - 1, maps:update_with(To, fun(Others) -> [Reply | Others] end, [Reply], Replies))
    after 0 ->
        Replies
    end.

send_replies(To, [Reply]) -> send(To, Reply);
send_replies(To, Replies) -> send(To, {py_replies, lists:reverse(Replies)}).

%% What takes long is left to a process.
serve(Operation, Replicated, Answer) when Replicated; Operation =:= {keys} ->
    _ = spawn(fun() -> Answer(outcome(Operation, Replicated)) end),
    ok;
serve(Operation, false, Answer) ->
    Answer(outcome(Operation, false)).

outcome(Operation, true) -> py_replica_table:perform(Operation);
outcome(Operation, false) -> serve(Operation).

%% As gen:reply/2 does.
reply_to(_, [alias | Alias]) -> Alias;
reply_to(_, [[alias | Alias] | _]) -> Alias;
reply_to(Pid, _) -> Pid.

send(To, Message) ->
    _ = py_proto:send_or_spawn(To, Message),
    ok.
