%% Spans of Python code that have ended. Every node runs it; C-nodes use the one of their coordinator:
%%
%%     py_tracer ! {py_span, Node, Dropped, Id, Parent, Name, Start, End, Duration, Status, Attributes, EndAttributes, Events}
%%
%% Times are in microseconds, Events = [{Name, Attributes, Time}], Dropped is how many spans the C-node has left out since
%% the last one.
%%
%% Who reads the spans has seen a reply, and expects those that ended before it. The reply came on another connection
%% than the spans, but the spans were on their way before it was. So this process asks each C-node of this coordinator
%% for a sign of life first, and those that the caller's node uses: its answer comes on the connection of the spans,
%% behind them. A C-node that is lost, or silent for a few seconds, is not waited for.
%%
%% A limited number of spans, and of their bytes, is kept; the oldest make room. The table is the supervisor's.
-module(py_tracer).
-behaviour(gen_server).

-export([create/0]).
-export([start_link/0]).
-export([enable/0]).
-export([disable/0]).
-export([spans/0]).
-export([clear/0]).
-export([dropped/0]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-include("py_router.hrl").

-export_type([span/0]).

-type span() :: #{
    name := binary(),
    span_id := pos_integer(),
    parent_id := pos_integer() | undefined,
    start_time := integer(),
    end_time := integer(),
    duration_us := non_neg_integer(),
    status := ok | error,
    attributes := map(),
    end_attrs := map(),
    events := [#{name := binary(), attrs := map(), time := integer()}]
}.
-type question() :: spans | dropped | clear.
-type failure() :: {error, coordinator_down | timeout}.

%% Somebody's question, and the C-nodes that have not answered for it.
-record(asked, {
    from :: gen_server:from(),
    what :: question(),
    nodes :: #{node() => reference()}
}).

-record(state, {
    %% Of the table: the number of the last span, and what all hold.
    last = 0 :: non_neg_integer(),
    bytes = 0 :: non_neg_integer(),
    dropped = 0 :: non_neg_integer(),
    %% By the timer that ends the waiting.
    asked = #{} :: #{reference() => #asked{}}
}).

-define(TABLE, ?MODULE).
-define(SPANS_MAX, 10000).
-define(BYTES_MAX, 64 * 1024 * 1024).
%% More messages than this waiting: spans come faster than they can be kept.
-define(FLOOD, 50000).
-define(SILENT_MS, 3000).
-define(CALL_MS, 10000).
-define(KEY, <<"py_tracer">>).
-define(TIMEOUT, 30000).

%% The table belongs to the supervisor.
-spec create() -> ok.
create() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set]),
    ok.

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec enable() -> ok | {error, term()}.
enable() ->
    switch(true).

-spec disable() -> ok | {error, term()}.
disable() ->
    switch(false).

switch(On) ->
    How = #{timeout => ?TIMEOUT, remember => ?KEY},
    py_everywhere:checked_call('_pynode_tracing', switch, [On], #{}, How).

%% In the order of their ends.
-spec spans() -> {ok, [span()]} | failure().
spans() ->
    ask(spans).

%% Those, too, that ended before a reply that the caller has, and are on their way.
-spec clear() -> ok | failure().
clear() ->
    ask(clear).

%% How many spans were thrown away since the last clear/0, here or on their way.
-spec dropped() -> {ok, non_neg_integer()} | failure().
dropped() ->
    ask(dropped).

ask(Question) ->
    case py_coordinators:acting() of
        {ok, Node} ->
            Used = [Used || #target{node = Used} <- py_router:up_nodes()],
            try gen_server:call({?MODULE, Node}, {Question, Used}, ?CALL_MS)
            catch
                exit:{timeout, _} -> {error, timeout};
                exit:_ -> {error, coordinator_down}
            end;
        {error, _} = Error ->
            Error
    end.

%% gen_server.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    ok = net_kernel:monitor_nodes(true, [{node_type, hidden}]),
    Last = case ets:last(?TABLE) of '$end_of_table' -> 0; N -> N end,
    {ok, #state{last = Last, bytes = ets:foldl(fun({_, Size, _}, Sum) -> Sum + Size end, 0, ?TABLE)}}.

-spec handle_call({question(), [node()]}, gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call({Question, Used}, From, #state{asked = Asked} = State) ->
    Timer = erlang:start_timer(?SILENT_MS, self(), silent),
    Nodes = lists:usort(maps:keys(py_coordinator:members()) ++ Used),
    Signs = maps:from_list([{Node, Ref} || Node <- Nodes, Ref <- sign_of_life(Node)]),
    {noreply, settle(Timer, State#state{asked = Asked#{Timer => #asked{from = From, what = Question, nodes = Signs}}})}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({py_span, _, Dropped, Id, _, Name, Start, End, Duration, _, Attributes, EndAttributes, Events} = Message, State) when
    is_integer(Dropped), is_integer(Id), is_binary(Name), is_integer(Start), is_integer(End), is_integer(Duration),
    is_map(Attributes), is_map(EndAttributes), length(Events) >= 0
->
    {noreply, arrived(Message, Dropped, State)};
handle_info({timeout, Timer, silent}, State) ->
    {noreply, answer(Timer, State)};
handle_info({nodedown, Node, _}, State) ->
    {noreply, without(fun(Other, _) -> Other =/= Node end, State)};
handle_info({Ref, _}, State) when is_reference(Ref) ->
    {noreply, without(fun(_, Other) -> Other =/= Ref end, State)};
handle_info(_, State) ->
    {noreply, State}.

%% A C-node that is not connected has nobody left to wait for.
sign_of_life(Node) ->
    case py_proto:send_sync(Node) of
        {ok, Ref} -> [Ref];
        not_sent -> []
    end.

without(Keep, #state{asked = Asked} = State) ->
    Left = maps:map(fun(_, #asked{nodes = Nodes} = A) -> A#asked{nodes = maps:filter(Keep, Nodes)} end, Asked),
    lists:foldl(fun settle/2, State#state{asked = Left}, maps:keys(Left)).

settle(Timer, #state{asked = Asked} = State) ->
    case Asked of
        #{Timer := #asked{nodes = Nodes}} when map_size(Nodes) =:= 0 -> answer(Timer, State);
        _ -> State
    end.

answer(Timer, #state{asked = Asked} = State) ->
    case maps:take(Timer, Asked) of
        {#asked{from = From, what = What}, Left} ->
            _ = erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
            {Answer, State1} = done(What, State#state{asked = Left}),
            ok = gen_server:reply(From, Answer),
            State1;
        error ->
            State
    end.

done(spans, State) ->
    {{ok, ets:select(?TABLE, [{{'_', '_', '$1'}, [], ['$1']}])}, State};
done(dropped, #state{dropped = Dropped} = State) ->
    {{ok, Dropped}, State};
done(clear, State) ->
    true = ets:delete_all_objects(?TABLE),
    {ok, State#state{bytes = 0, dropped = 0}}.

%% Spans.

arrived(Message, New, #state{dropped = Old} = State) ->
    {message_queue_len, Length} = process_info(self(), message_queue_len),
    case Length > ?FLOOD of
        true -> State#state{dropped = Old + New + 1};
        false -> keep(span(Message), State#state{dropped = Old + New})
    end.

span({py_span, _, _, Id, Parent, Name, Start, End, Duration, Status, Attributes, EndAttributes, Events}) ->
    #{
        name => Name,
        span_id => Id,
        parent_id => Parent,
        start_time => Start,
        end_time => End,
        duration_us => Duration,
        status => Status,
        attributes => Attributes,
        end_attrs => EndAttributes,
        events => [#{name => N, attrs => A, time => T} || {N, A, T} <- Events]
    }.

keep(Span, #state{last = Last, bytes = Bytes} = State) ->
    Size = erlang:external_size(Span),
    true = ets:insert(?TABLE, {Last + 1, Size, Span}),
    make_room(State#state{last = Last + 1, bytes = Bytes + Size}).

make_room(#state{bytes = Bytes, dropped = Dropped} = State) ->
    case Bytes > ?BYTES_MAX orelse ets:info(?TABLE, size) > ?SPANS_MAX of
        true ->
            [{_, Size, _}] = ets:take(?TABLE, ets:first(?TABLE)),
            make_room(State#state{bytes = Bytes - Size, dropped = Dropped + 1});
        false ->
            State
    end.
