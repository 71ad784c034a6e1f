%% Knows when owners of streams have read: for all streams of this node that have no room for more items.
%%
%% An owner gives no sign when it has taken a message. How many of a stream it has not taken can only be known by going
%% through a copy of its mailbox, and that holds the owner up, the more streams it has the longer. So one process asks
%% for all streams of an owner at once, and only when it has reason to.
%%
%% It *looks* at the length of the mailbox: when a stream comes that has no room, and then again and again, less and
%% less often, down to every 50 ms, while nothing changes. It knows what the length would be if nothing was read: what it
%% was when the mailbox was gone through, and what the streams have sent since. When it differs by so much that one of
%% the streams may have room, the mailbox is gone through again. Other senders may hide that something was read, so this
%% is done now and then in any case. A mailbox of more than 10000 messages is not gone through: its owner gets nothing
%% more before it has read some.
%%
%% An owner may be on another node, where there is no code of ours, and may itself be busy with something that cannot be
%% interrupted. So another process asks it, and this one waits for nobody.
-module(py_stream_owners).
-behaviour(gen_server).

-export([start_link/0]).
-export([wait/5]).
-export([expressions/1]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

%% A stream that waits: who to tell, the messages that it had unread when that was last known, and how many of them may
%% be left when it has room.
-record(stream, {
    from :: gen_server:from(),
    unread :: pos_integer(),
    room :: non_neg_integer()
}).

-record(owner, {
    waiting = #{} :: #{reference() => #stream{}},
    %% Those that came since the owner was asked: the answer may be older than their messages.
    coming = #{} :: #{reference() => #stream{}},
    %% The length of the mailbox if nothing was read, and how much of it has come since the owner was asked.
    expected = 0 :: non_neg_integer(),
    came = 0 :: non_neg_integer(),
    %% As it was seen last.
    length = none :: none | non_neg_integer(),
    %% Since the mailbox was gone through.
    looks = 0 :: non_neg_integer(),
    wait = 1 :: pos_integer(),
    %% The owner was asked, or will be when the timer says so.
    next = none :: none | asked | {timer, reference()}
}).

-record(state, {
    owners = #{} :: #{pid() => #owner{}},
    asked = #{} :: #{reference() => pid()}
}).

-define(MAX_WAIT_MS, 50).
-define(MAX_COUNTED, 10000).
%% Looks after which the mailbox is gone through in any case.
-define(COUNT_EACH, 20).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% The stream Ref, which has sent the owner so many messages since the last time that it asked, and of which so many may
%% be unread. It is answered the number of those that may be left, when that is Room at most.
-spec wait(pid(), reference(), non_neg_integer(), pos_integer(), non_neg_integer()) -> gen_server:request_id().
wait(Owner, Ref, Sent, Unread, Room) ->
    gen_server:send_request(?MODULE, {wait, Owner, Ref, Sent, Unread, Room}).

%% What other nodes can evaluate.
-spec expressions(string()) -> erl_parse:abstract_expr() | [erl_parse:abstract_expr()].
expressions(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    Expressions.

%% gen_server.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, #state{}}.

-spec handle_call({wait, pid(), reference(), non_neg_integer(), pos_integer(), non_neg_integer()}, From, #state{}) ->
    {noreply, #state{}} when From :: gen_server:from().
handle_call({wait, Pid, Ref, Sent, Unread, Room}, From, #state{owners = Owners} = State) ->
    #owner{coming = Coming, expected = Expected, came = Came} = Owner = maps:get(Pid, Owners, #owner{}),
    Stream = #stream{from = From, unread = Unread, room = Room},
    {noreply, hasten(Pid, Owner#owner{
        coming = Coming#{Ref => Stream}, expected = Expected + Sent, came = Came + Sent, wait = 1
    }, State)}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', Ref, process, _, Reason}, #state{owners = Owners, asked = Asked} = State) when
    is_map_key(Ref, Asked)
->
    {Pid, Rest} = maps:take(Ref, Asked),
    {noreply, told(Reason, Pid, (maps:get(Pid, Owners))#owner{next = none}, State#state{asked = Rest})};
handle_info({timeout, Timer, Pid}, #state{owners = Owners} = State) ->
    case Owners of
        #{Pid := #owner{next = {timer, Timer}} = Owner} -> {noreply, look(Pid, Owner, State)};
        _ -> {noreply, State}
    end;
handle_info(_, State) ->
    {noreply, State}.

%% Looking.

hasten(Pid, #owner{next = asked} = Owner, State) ->
    keep(Pid, Owner, State);
hasten(Pid, #owner{next = {timer, Timer}} = Owner, State) ->
    _ = erlang:cancel_timer(Timer),
    look(Pid, Owner, State);
hasten(Pid, Owner, State) ->
    look(Pid, Owner, State).

keep(Pid, Owner, #state{owners = Owners} = State) ->
    State#state{owners = Owners#{Pid => Owner}}.

look(Pid, #owner{looks = Looks} = Owner, State) ->
    ask(Pid, fun() -> {length, mailbox_length(Pid)} end, Owner#owner{looks = Looks + 1}, State).

count(Pid, #owner{waiting = Waiting, coming = Coming} = Owner, State) ->
    None = maps:map(fun(_, _) -> 0 end, maps:merge(Waiting, Coming)),
    ask(Pid, fun() -> {counted, counted(Pid, None)} end, Owner#owner{looks = 0}, State).

%% The answer is the reason of the asking process's end.
-dialyzer({no_return, ask/4}).
ask(Pid, Question, #owner{waiting = Waiting, coming = Coming} = Owner, #state{asked = Asked} = State) ->
    {_, Ref} = spawn_monitor(fun() -> answer(Question) end),
    All = maps:merge(Waiting, Coming),
    keep(Pid, Owner#owner{waiting = All, coming = #{}, came = 0, next = asked}, State#state{asked = Asked#{Ref => Pid}}).

-spec answer(fun(() -> term())) -> no_return().
answer(Question) ->
    exit({?MODULE, try Question() catch _:_ -> unknown end}).

told({?MODULE, {length, Length}}, Pid, #owner{waiting = Waiting, length = Before} = Owner0, State) ->
    Owner = paced(Length =/= Before, Owner0#owner{waiting = with_room(fun(_) -> Length end, Waiting), length = Length}),
    case is_worth_counting(Length, Owner) of
        true -> count(Pid, Owner, State);
        false -> rest(Pid, Owner, State)
    end;
told({?MODULE, {counted, {Length, Numbers}}}, Pid, #owner{waiting = Waiting, came = Came} = Owner, State) ->
    Counted = maps:map(fun(Ref, Stream) -> Stream#stream{unread = maps:get(Ref, Numbers)} end, Waiting),
    Left = with_room(fun(Ref) -> maps:get(Ref, Numbers) end, Counted),
    Paced = case map_size(Left) < map_size(Counted) of true -> Owner#owner{wait = 1}; false -> Owner end,
    rest(Pid, Paced#owner{waiting = Left, expected = Length + Came, length = Length}, State);
%% The owner is gone, as its streams hear too, or could not be asked.
told(_, Pid, #owner{waiting = Waiting} = Owner, State) ->
    rest(Pid, paced(false, Owner#owner{waiting = with_room(fun(_) -> infinity end, Waiting)}), State).

%% Tells those that have room. Gives those that have not, and are still there.
with_room(Unread, Waiting) ->
    maps:filter(fun(Ref, #stream{from = {Proxy, _} = From, room = Room}) ->
        case Unread(Ref) of
            N when N =< Room -> ok = gen_server:reply(From, N), false;
            _ -> is_process_alive(Proxy)
        end
    end, Waiting).

%% An owner that reads is looked at more often.
paced(true, #owner{wait = Wait} = Owner) -> Owner#owner{wait = max(1, Wait div 4)};
paced(false, #owner{wait = Wait} = Owner) -> Owner#owner{wait = min(?MAX_WAIT_MS, Wait * 2)}.

is_worth_counting(Length, #owner{waiting = Waiting}) when Length > ?MAX_COUNTED; map_size(Waiting) =:= 0 -> false;
is_worth_counting(_, #owner{looks = Looks}) when Looks >= ?COUNT_EACH -> true;
is_worth_counting(Length, #owner{waiting = Waiting, expected = Expected}) ->
    abs(Length - Expected) >= lists:min([Unread - Room || #stream{unread = Unread, room = Room} <- maps:values(Waiting)]).

rest(Pid, #owner{waiting = Waiting, coming = Coming}, #state{owners = Owners} = State) when
    map_size(Waiting) + map_size(Coming) =:= 0
->
    State#state{owners = maps:remove(Pid, Owners)};
rest(Pid, #owner{coming = Coming} = Owner, State) when map_size(Coming) > 0 ->
    look(Pid, Owner, State);
rest(Pid, #owner{wait = Wait} = Owner, State) ->
    keep(Pid, Owner#owner{next = {timer, erlang:start_timer(Wait, self(), Pid)}}, State).

%% Asking the owner.

mailbox_length(Owner) ->
    {message_queue_len, Length} = erpc:call(node(Owner), erlang, process_info, [Owner, message_queue_len]),
    Length.

%% The length of the mailbox, and how many messages of each of the streams are in it.
counted(Owner, None) when node(Owner) =:= node() ->
    {messages, Messages} = erlang:process_info(Owner, messages),
    {length(Messages), lists:foldl(fun count_one/2, None, Messages)};
counted(Owner, None) ->
    Expressions = expressions(
        "Messages = element(2, erlang:process_info(Owner, messages)),"
        "{length(Messages), lists:foldl(fun"
        "    ({py_stream, Ref, _}, Numbers) when is_map_key(Ref, Numbers) -> Numbers#{Ref := map_get(Ref, Numbers) + 1};"
        "    (_, Numbers) -> Numbers "
        "end, None, Messages)}."
    ),
    {value, Counted, _} = erpc:call(node(Owner), erl_eval, exprs, [Expressions, [{'Owner', Owner}, {'None', None}]]),
    Counted.

count_one({py_stream, Ref, _}, Numbers) when is_map_key(Ref, Numbers) -> Numbers#{Ref := map_get(Ref, Numbers) + 1};
count_one(_, Numbers) -> Numbers.
