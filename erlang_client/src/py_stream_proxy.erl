%% The process of one stream: asks the C-node for items and sends them to the owner, so that the owner never has more
%% than a window of them unread.
%%
%% The owner gets plain messages and gives no sign when it has taken one. What is unread is at most what was sent since
%% the process last knew, and at most what is in the owner's mailbox. When there is no room by that, it waits until
%% py_stream_owners, which looks at the mailboxes of all owners, says what is unread.
%%
%% States:
%%
%%     opening   an owner on another node is about to be watched there; then another process, the opener, has a slot of
%%               the semaphore and waits for the C-node to open the stream, which belongs to this process there. So this
%%               one can be told to end meanwhile.
%%     pulling   the C-node was asked for as many items as there is room for.
%%     full      the owner has to read some.
%%     waiting   for some time, because the C-node was overloaded.
%%
%% It says nothing to the C-node when it ends: that watches it, interrupts what it asked for and closes the generator.
%%
%% An owner on another node hears of the end also when this node is lost, or the connection to it: from a process there.
-module(py_stream_proxy).
-behaviour(gen_statem).

-export([start_link/1]).

%% gen_statem.
-export([callback_mode/0]).
-export([init/1]).
-export([terminate/3]).

%% States.
-export([opening/3]).
-export([pulling/3]).
-export([full/3]).
-export([waiting/3]).

-include("py_call.hrl").

-record(data, {
    ref :: reference(),
    owner :: pid(),
    window :: pos_integer(),
    how :: py_call:how(),
    item_timeout :: timeout(),
    %% What the opener is to begin with, while the owner's node has not said that it watches.
    unwatched = none :: none | map(),
    opener :: undefined | pid(),
    node :: undefined | node(),
    link :: undefined | py_proto:link(),
    stream :: undefined | pos_integer(),
    %% The request, to the C-node or to py_stream_owners.
    asked :: undefined | reference() | gen_server:request_id(),
    %% Messages that may be in the owner's mailbox, and those that py_stream_owners was not told of yet.
    unread = 0 :: non_neg_integer(),
    sent = 0 :: non_neg_integer(),
    wait = 1 :: pos_integer()
}).

-type event_result() :: gen_statem:event_handler_result(atom(), #data{}).

-define(PIN, '$py_node').
-define(MAX_WAIT_MS, 50).

-spec start_link(map()) -> gen_statem:start_ret().
start_link(Begin) ->
    gen_statem:start_link(?MODULE, Begin, []).

-spec callback_mode() -> gen_statem:callback_mode_result().
callback_mode() ->
    state_functions.

%% The supervisor waits for this, and with it all who start streams. So nothing is said to the owner's node yet: that may
%% hang.
-spec init(map()) -> {ok, opening, #data{}, [{next_event, internal, {begin_with, map()}}]}.
init(#{ref := Ref, owner := Owner, window := Window, how := How, item_timeout := ItemTimeout} = Begin) ->
    _ = process_flag(trap_exit, true),
    ok = py_stream:enlist(Ref, self(), Owner),
    Data = #data{ref = Ref, owner = Owner, window = Window, how = How, item_timeout = ItemTimeout},
    {ok, opening, Data, [{next_event, internal, {begin_with, Begin}}]}.

%% An end that nobody wanted is told to the owner, too.
-spec terminate(term(), atom(), #data{}) -> ok.
terminate(Reason, _, #data{ref = Ref, opener = Opener} = Data) ->
    _ = is_pid(Opener) andalso exit(Opener, kill),
    _ = case Reason of
        normal -> ok;
        shutdown -> tell(gone(Data), Data);
        {shutdown, _} -> tell(gone(Data), Data);
        _ -> tell({error, {stream_failed, Reason}}, Data)
    end,
    py_stream:delist(Ref).

gone(#data{node = undefined}) -> {error, no_nodes};
gone(#data{node = Node}) -> {error, {nodedown, Node}}.

%% Where the owner lives there may be no code of ours. The stream is opened when that process says that it watches: who
%% has got an item hears of the end.
watch_from_there(Ref, Owner) ->
    Expressions = py_stream_owners:expressions(
        "Monitor = erlang:monitor(process, Proxy),"
        "_ = erlang:monitor(process, Owner),"
        "Proxy ! {watched, Ref},"
        "receive"
        "    {'DOWN', Monitor, process, _, noconnection} -> Owner ! {py_stream, Ref, {error, {nodedown, node(Proxy)}}};"
        "    {'DOWN', _, process, _, _} -> ended "
        "end."
    ),
    Arguments = [Expressions, [{'Owner', Owner}, {'Proxy', self()}, {'Ref', Ref}]],
    _ = spawn_request(node(Owner), erl_eval, exprs, Arguments, [{reply, no}]),
    ok.

%% The opener.

start_opener(Begin, Data) ->
    Self = self(),
    Data#data{opener = spawn_link(fun() -> Self ! {opened, self(), open(Self, Begin)} end)}.

open(Proxy, #{kind := Kind, how := How, request := Request, pin := Pin}) ->
    _ = put(?PIN, Pin),
    py_call:run(Kind, How, Request, fun(Node, Link, Req, Timeout) -> open_at(Proxy, Node, Link, Req, Timeout) end).

open_at(Proxy, Node, Link, Request, Timeout) ->
    {Ref, Sender} = py_proto:send_as(Proxy, Node, Link, Request),
    case py_proto:await_answer(Ref, Timeout) of
        {result, {ok, Stream}} -> {ok, {Node, Link, Stream}};
        {result, {error, _} = Error} -> Error;
        {down, Reason} -> {error, py_link:reason(Node, Reason)};
        timeout ->
            _ = is_pid(Sender) andalso py_proto:call_off(Node, Ref, Sender),
            {error, timeout}
    end.

%% opening

-spec opening(gen_statem:event_type(), term(), #data{}) -> event_result().
opening(internal, {begin_with, Begin}, #data{owner = Owner} = Data) when node(Owner) =:= node() ->
    _ = erlang:monitor(process, Owner),
    {keep_state, start_opener(Begin, Data)};
opening(internal, {begin_with, Begin}, #data{ref = Ref, owner = Owner} = Data) ->
    _ = erlang:monitor(process, Owner),
    ok = watch_from_there(Ref, Owner),
    {keep_state, Data#data{unwatched = Begin}};
opening(info, {watched, Ref}, #data{ref = Ref, unwatched = #{} = Begin} = Data) ->
    {keep_state, start_opener(Begin, Data#data{unwatched = none})};
opening(info, {opened, Opener, {ok, {Node, Link, Stream}}}, #data{opener = Opener} = Data) ->
    %% Also while nothing is asked the loss of the node is noticed.
    _ = erlang:monitor(process, Link),
    pull(Data#data{opener = undefined, node = Node, link = Link, stream = Stream});
opening(info, {opened, Opener, {error, Reason}}, #data{opener = Opener} = Data) ->
    ended({error, Reason}, Data#data{opener = undefined});
opening(info, {'EXIT', Opener, Reason}, #data{opener = Opener} = Data) ->
    {stop, Reason, Data#data{opener = undefined}};
opening(Type, Event, Data) ->
    common(Type, Event, Data).

%% pulling

pull(#data{node = Node, link = Link, stream = Stream, window = Window, unread = Unread} = Data) ->
    Request = py_proto:stream_next(Stream, Window - Unread, options(Data)),
    {Asked, _} = py_proto:send_async(Node, Link, Request),
    {next_state, pulling, Data#data{asked = Asked}}.

%% In a callback the worker that waits for it may be the only one that has the stream's interpreter. The C-node knows by
%% itself in which context the stream is.
options(#data{how = How, item_timeout = Timeout}) ->
    py_call:request_options(How#how{timeout = Timeout, ctx = undefined}).

-spec pulling(gen_statem:event_type(), term(), #data{}) -> event_result().
pulling(info, {py_item, Stream, Item}, #data{stream = Stream, unread = Unread, sent = Sent} = Data) ->
    ok = tell({data, Item}, Data),
    {keep_state, Data#data{unread = Unread + 1, sent = Sent + 1}};
pulling(info, Message, #data{asked = Ref, node = Node} = Data) ->
    case py_proto:answer(Ref, Message, other) of
        {result, Result} -> pulled(Result, Data#data{asked = undefined});
        {down, Reason} -> ended({error, py_link:reason(Node, Reason)}, Data);
        other -> common(info, Message, Data)
    end;
pulling(Type, Event, Data) ->
    common(Type, Event, Data).

pulled({ok, {_, more}}, Data) ->
    go_on(Data#data{wait = 1});
pulled({ok, {_, Last}}, Data) ->
    ended(Last, Data);
pulled({error, {overloaded, _, _}}, Data) ->
    wait(Data);
pulled({error, no_such_stream}, #data{how = How} = Data) ->
    ended({error, closed(How)}, Data);
pulled({error, _} = Error, Data) ->
    ended(Error, Data).

go_on(Data) ->
    case has_room(Data) of
        true -> pull(Data);
        false -> look(Data)
    end.

%% The C-node has closed the stream: with its context, or because somebody told it to.
closed(#how{ctx = undefined}) -> cancelled;
closed(_) -> context_lost.

%% So many may be unread when there is room: a quarter of the window has to be free, so that a quick owner is not sent
%% items one by one.
room(Window) ->
    Window - max(1, Window div 4).

has_room(#data{window = Window, unread = Unread}) ->
    Unread =< room(Window).

%% An owner that reads at once has an empty mailbox, which is seen at once where it is near.
look(#data{owner = Owner, unread = Unread} = Data0) when node(Owner) =:= node() ->
    Data = case erlang:process_info(Owner, message_queue_len) of
        {message_queue_len, Length} -> Data0#data{unread = min(Length, Unread)};
        undefined -> Data0
    end,
    case has_room(Data) of
        true -> pull(Data);
        false -> stop_until_read(Data)
    end;
look(Data) ->
    stop_until_read(Data).

%% full

stop_until_read(#data{owner = Owner, ref = Ref, window = Window, unread = Unread, sent = Sent} = Data) ->
    Asked = py_stream_owners:wait(Owner, Ref, Sent, Unread, room(Window)),
    {next_state, full, Data#data{asked = Asked, sent = 0}}.

-spec full(gen_statem:event_type(), term(), #data{}) -> event_result().
full(info, Message, #data{asked = Asked} = Data) ->
    case gen_server:check_response(Message, Asked) of
        {reply, Unread} -> pull(Data#data{asked = undefined, unread = Unread});
        %% It is started again.
        {error, _} -> wait(Data#data{asked = undefined});
        no_reply -> common(info, Message, Data)
    end;
full(Type, Event, Data) ->
    common(Type, Event, Data).

%% waiting

wait(#data{wait = Wait} = Data) ->
    {next_state, waiting, Data#data{wait = min(?MAX_WAIT_MS, Wait * 2)}, [{state_timeout, Wait, over}]}.

-spec waiting(gen_statem:event_type(), term(), #data{}) -> event_result().
waiting(state_timeout, over, Data) ->
    go_on(Data);
waiting(Type, Event, Data) ->
    common(Type, Event, Data).

%% What is the same in all states.

common(info, {cancel, Owner}, #data{owner = Owner}) ->
    {stop, normal};
common(info, {cancel, _}, Data) ->
    ended({error, cancelled}, Data);
common(info, interrupt, Data) ->
    ended({error, interrupted}, Data);
common(info, {'DOWN', _, process, Owner, _}, #data{owner = Owner}) ->
    {stop, normal};
common(info, {'DOWN', _, process, Link, Reason}, #data{link = Link, node = Node} = Data) ->
    ended({error, py_link:reason(Node, Reason)}, Data);
common(_, _, _) ->
    keep_state_and_data.

ended(Last, Data) ->
    tell(Last, Data),
    {stop, normal, Data}.

%% No connection is made for it: when there is none, the owner is as good as dead.
tell(What, #data{ref = Ref, owner = Owner}) ->
    _ = erlang:send(Owner, {py_stream, Ref, What}, [noconnect]),
    ok.
