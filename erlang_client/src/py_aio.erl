%% Coroutines: calls of async functions, which an event loop of a C-node runs, ten thousand of them at a time if need be.
%%
%% There is no process per call. The request is sent by the owner, and its answer comes to the owner's mailbox, where
%% await takes it: the reference is that of a monitor on the process that stands for the connection, and an alias, as
%% in any call. What await has to know besides (which C-node) is in the owner's process dictionary. So only the owner
%% can await.
%%
%% A coroutine occupies no worker while it waits, and it takes no slot of py_semaphore: those are for what runs. The
%% C-node's own limit (--max-queue) bounds them.
%%
%% A coroutine has no time limit of its own, but ends with its await at the latest: when that gives up, or when the
%% owner dies (which the C-node notices), its task is cancelled. In a callback it has the time of the callback.
-module(py_aio).

-export([call/4]).
-export([await/2]).
-export([gather/1]).
-export([stream/4]).
-export([cancel/1]).

-include("py_call.hrl").

-type result() :: {ok, term()} | {error, term()}.
-type item() :: {py:name(), py:name(), list()} | {py:name(), py:name(), list(), map()}.

-export_type([item/0]).

%% Of a call that was sent and not awaited yet.
-record(sent, {
    node :: node(),
    %% Sends it in the owner's place while the connection is busy.
    sender :: py_proto:sender(),
    %% Where it is counted as a load.
    target :: none | py_router:target(),
    %% The context that it runs in.
    ctx :: undefined | py_context:ctx(),
    event :: py_events:begun()
}).

%% A gather under way.
-record(gather, {
    deadline :: integer(),
    pending = #{} :: #{reference() => {pos_integer(), item()}},
    rest = [] :: [{pos_integer(), item()}],
    done = [] :: [{pos_integer(), result()}]
}).

-define(SENT, '$py_aio').
%% As many as a C-node takes by default.
-define(MAX_PENDING, 10000).
-define(TIMEOUT, 30000).
-define(CANCEL_MS, 5000).

%% The reference is always given; what could not be sent is answered with the reason.
-spec call(py:name(), py:name(), list(), map()) -> reference().
call(Module, Function, Args, Kwargs) ->
    case start(Module, Function, Args, Kwargs, infinity) of
        {error, _} = Error -> py_proto:answer_self(Error);
        Ref -> Ref
    end.

-spec start(py:name(), py:name(), list(), map(), timeout()) -> reference() | {error, term()}.
start(Module, Function, Args, Kwargs, Timeout) ->
    How = py_call:how(Timeout),
    case py_args:call(Module, Function, Args, Kwargs, How) of
        {error, _} = Error -> Error;
        {Kind, Request} -> send(py_call:place(Kind, How, py_proto:with_option(Request, async, true)), How)
    end.

send({error, _} = Error, _) ->
    Error;
send({Node, Link, Target, Request}, #how{ctx = Ctx}) ->
    Event = py_events:start(Request),
    {Ref, Sender} = py_proto:send_async(Node, Link, Request),
    ok = py_call:count(Target, 1),
    ok = remember(Ref, #sent{node = Node, sender = Sender, target = Target, ctx = Ctx, event = Event}),
    Ref.

%% When the time is over the task is cancelled, and nothing of it arrives later. After a time that is none it can be
%% awaited still.
-spec await(reference(), timeout()) -> result().
await(Ref, Timeout) when ?IS_TIMEOUT(Timeout) ->
    case recall(Ref) of
        none -> await_unsent(Ref, Timeout);
        Sent -> await_sent(Ref, Timeout, Sent)
    end;
await(_, Other) ->
    {error, {bad_option, Other}}.

await_sent(Ref, Timeout, #sent{node = Node, sender = Sender} = Sent) ->
    case py_proto:await_answer(Ref, Timeout) of
        timeout ->
            ok = py_proto:call_off(Node, Ref, Sender),
            ended({error, timeout}, Sent);
        Answer ->
            ended(outcome(Answer, Sent), Sent)
    end.

ended(Result, #sent{node = Node, target = Target, ctx = Ctx, event = Event}) ->
    ok = py_call:count(Target, -1),
    ok = py_events:stop(Event, Node, Result),
    _ = Ctx =/= undefined andalso py_context:heard(Ctx, Result),
    Result.

%% What was refused at once has its answer in the mailbox. Of what was awaited before, or belongs to another process,
%% nothing comes.
await_unsent(Ref, Timeout) ->
    case py_proto:await_any(#{Ref => none}, Timeout) of
        {Ref, {result, Result}} -> Result;
        timeout -> {error, timeout}
    end.

outcome({result, Result}, _) -> Result;
outcome({down, Reason}, #sent{node = Node}) -> {error, py_link:reason(Node, Reason)}.

%% What the owner has sent.

remember(Ref, Sent) ->
    _ = put(?SENT, (all_sent())#{Ref => Sent}),
    ok.

recall(Ref) ->
    case maps:take(Ref, all_sent()) of
        {Sent, Rest} -> forget_but(Rest), Sent;
        error -> none
    end.

forget_but(Rest) when map_size(Rest) =:= 0 -> erase(?SENT);
forget_but(Rest) -> put(?SENT, Rest).

all_sent() ->
    case get(?SENT) of undefined -> #{}; Sent -> Sent end.

%% Many at once.

%% All end, whatever becomes of the others. The time is one for all. When the list cannot be used as it is nothing is
%% begun.
-spec gather([item()]) -> {ok, [term()]} | {error, invalid_args | {gather_failed, [{pos_integer(), term()}]}}.
gather(Items) when is_list(Items), length(Items) >= 0 ->
    Numbered = lists:zip(lists:seq(1, length(Items)), Items),
    case [{Index, invalid_args} || {Index, Item} <- Numbered, not is_item(Item)] of
        [] -> gather_all(Numbered);
        Bad -> {error, {gather_failed, Bad}}
    end;
gather(_) ->
    {error, invalid_args}.

is_item({_, _, Args}) -> is_list(Args);
is_item({_, _, Args, Kwargs}) -> is_list(Args) andalso is_map(Kwargs);
is_item(_) -> false.

gather_all(Numbered) ->
    Deadline = erlang:monotonic_time(millisecond) + ?TIMEOUT,
    gathered(lists:sort(collect(fill(Numbered, #gather{deadline = Deadline})))).

%% Begins as many as may be under way.
fill([{Index, Item} = Numbered | Rest], #gather{pending = Pending, done = Done} = G) when
    map_size(Pending) < ?MAX_PENDING
->
    case start_item(Item) of
        {error, _} = Error -> fill(Rest, G#gather{done = [{Index, Error} | Done]});
        Ref -> fill(Rest, G#gather{pending = Pending#{Ref => Numbered}})
    end;
fill(Rest, G) ->
    G#gather{rest = Rest}.

start_item({M, F, Args}) -> start(M, F, Args, #{}, ?TIMEOUT);
start_item({M, F, Args, Kwargs}) -> start(M, F, Args, Kwargs, ?TIMEOUT).

collect(#gather{pending = Pending, rest = [], done = Done}) when map_size(Pending) =:= 0 ->
    Done;
collect(#gather{pending = Pending, deadline = Deadline} = G) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    case py_proto:await_any(Pending, Left) of
        timeout ->
            given_up(G);
        {Ref, Answer} ->
            {Numbered, Others} = maps:take(Ref, Pending),
            Sent = recall(Ref),
            collect(result(Numbered, ended(outcome(Answer, Sent), Sent), G#gather{pending = Others}))
    end.

%% One that the C-node has no room for is begun again when another one has ended.
result(Numbered, {error, {overloaded, _, _}}, #gather{pending = Pending, rest = Rest} = G) when map_size(Pending) > 0 ->
    G#gather{rest = [Numbered | Rest]};
result({Index, _}, Result, #gather{rest = Rest, done = Done} = G) ->
    fill(Rest, G#gather{done = [{Index, Result} | Done]}).

given_up(#gather{pending = Pending, rest = Rest, done = Done}) ->
    [{Index, await(Ref, 0)} || {Ref, {Index, _}} <- maps:to_list(Pending)] ++
        [{Index, {error, timeout}} || {Index, _} <- Rest] ++ Done.

gathered(Results) ->
    case [{Index, Error} || {Index, {error, Error}} <- Results] of
        [] -> {ok, [Value || {_, {ok, Value}} <- Results]};
        Failed -> {error, {gather_failed, Failed}}
    end.

%% Everything that an async generator gives.
-spec stream(py:name(), py:name(), list(), map()) -> result().
stream(Module, Function, Args, Kwargs) ->
    How = py_call:how(?TIMEOUT),
    case py_args:call(Module, Function, Args, Kwargs, How) of
        {error, _} = Error -> Error;
        {Kind, Request} -> py_call:without_slot(Kind, How, py_proto:with_option(Request, async, stream))
    end.

%% The coroutine of that reference, of whichever process of this node, ends with {error, interrupted}. The C-nodes know
%% who runs it, if the caller does not.
-spec cancel(reference()) -> ok | {error, not_found}.
cancel(Ref) ->
    Wanted = case all_sent() of
        #{Ref := #sent{node = Sent}} -> Sent;
        #{} -> any
    end,
    Deadline = erlang:monotonic_time(millisecond) + ?CANCEL_MS,
    Asked = [
        py_proto:send_cancel_report(Node, Link, Ref)
     || #target{node = Node, link = Link} <- py_router:up_nodes(), py_router:is_wanted(Node, Wanted)
    ],
    case lists:member({result, ok}, [told(Asking, Deadline) || Asking <- Asked]) of
        true -> ok;
        false -> {error, not_found}
    end.

told(Asking, Deadline) ->
    py_proto:await_answer(Asking, max(0, Deadline - erlang:monotonic_time(millisecond))).
