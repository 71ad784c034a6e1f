%% The life of a call in this node: a slot of the semaphore, a C-node, the request and its answer.
%%
%% No message is sent here but the request. Time that was spent waiting for the slot counts.
-module(py_call).

-export([how/1]).
-export([request_options/1]).
-export([run/3]).
-export([run/4]).
-export([without_slot/3]).
-export([place/3]).
-export([count/2]).
-export([cast/3]).
-export([enter_chain/3]).
-export([chain_on/1]).

-export_type([how/0, options/0, exchange/0]).

-include("py_call.hrl").

-type options() :: timeout() | #{
    timeout => timeout(),
    node => node(),
    pool => atom(),
    retry => non_neg_integer(),
    traceback => boolean()
}.
-type how() :: #how{}.
%% What sends a request to a node and waits for its result.
-type exchange() :: fun((node(), py_proto:link(), py_proto:request(), timeout()) -> py_proto:result()).

-define(CHAIN, '$py_chain').
-define(SLACK_MS, 100).
-define(MAX_RETRIES, 1000).

%% The calling process is a callback, which has that much time. A call of it gets a moment more: when the time is over,
%% the C-node ends the call that waits for the callback first, so that it cannot see how others ended for that.
-spec enter_chain(node(), term(), timeout()) -> ok.
enter_chain(Node, Id, infinity) ->
    _ = put(?CHAIN, #chain{node = Node, id = Id, deadline = infinity}),
    ok;
enter_chain(Node, Id, Timeout) ->
    Deadline = erlang:monotonic_time(millisecond) + Timeout + ?SLACK_MS,
    _ = put(?CHAIN, #chain{node = Node, id = Id, deadline = Deadline}),
    ok.

%% What the calling process, where it is a callback that this C-node waits for, tells it.
-spec chain_on(node()) -> undefined | term().
chain_on(Node) ->
    case get(?CHAIN) of
        #chain{node = Node, id = Id} -> Id;
        _ -> undefined
    end.

%% What the options of the caller say, and where in a chain of callbacks it is.
-spec how(term()) -> how() | {error, {bad_option, term()}}.
how(Timeout) when ?IS_TIMEOUT(Timeout) ->
    py_context:place(chained(#how{timeout = Timeout}, get(?CHAIN)));
how(#{} = Options) ->
    py_context:place(chained(maps:fold(fun option/3, #how{}, Options), get(?CHAIN)));
how(Other) ->
    {error, {bad_option, Other}}.

%% A callback's call has no more time than the callback.
chained(#how{timeout = Timeout} = How, #chain{deadline = Deadline} = Chain) when is_integer(Deadline) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    How#how{timeout = min(Timeout, Left), chain = Chain};
chained(#how{} = How, Chain) ->
    How#how{chain = Chain};
chained(Error, _) ->
    Error.

option(timeout, T, #how{} = How) when ?IS_TIMEOUT(T) -> How#how{timeout = T};
option(node, Node, #how{node = any} = How) when is_atom(Node) -> How#how{node = Node};
option(pool, Pool, #how{node = any} = How) when is_atom(Pool) -> How#how{node = {pool, Pool}};
option(retry, N, #how{} = How) when is_integer(N), N >= 0, N =< ?MAX_RETRIES -> How#how{retry = N};
option(traceback, On, #how{} = How) when is_boolean(On) -> How#how{traceback = On};
option(Key, Value, #how{}) -> {error, {bad_option, {Key, Value}}};
option(_, _, Error) -> Error.

%% What the C-node has to know of it.
-spec request_options(how()) -> py_proto:options().
request_options(#how{ctx = Ctx} = How) when Ctx =/= undefined ->
    py_proto:in_context(request_options(How#how{ctx = undefined}), py_context:id(Ctx));
request_options(#how{timeout = Timeout, traceback = Traceback, chain = undefined}) ->
    py_proto:options(Timeout, Traceback, undefined);
request_options(#how{timeout = Timeout, traceback = Traceback, chain = #chain{id = Id}}) ->
    py_proto:options(Timeout, Traceback, Id).

%% A call that is made in a callback has its slot already: the one of the call that waits for the callback. To take
%% another would be a deadlock as soon as all slots wait for callbacks. It goes to the C-node that waits, and runs there
%% on the thread that waits; what asks for another C-node by name is no part of the chain there.
-spec run(py_router:kind(), how(), py_proto:request()) -> py_proto:result().
run(Kind, How, Request) ->
    run(Kind, How, Request, fun py_proto:request/4).

-spec run(py_router:kind(), how(), py_proto:request(), exchange()) -> py_proto:result().
run(Kind, How, Request, Exchange) ->
    with_events(Request, Exchange, fun(Noting) -> make(Kind, How, Request, Noting) end).

with_events(Request, Exchange, Make) ->
    case py_events:sink() of
        none -> Make(Exchange);
        Sink -> py_events:span(Sink, Request, Exchange, Make)
    end.

make(Kind, #how{chain = undefined, timeout = Timeout} = How, Request, Exchange) ->
    case py_semaphore:enter(Timeout) of
        ok ->
            try send(Kind, How, Request, Exchange) after py_semaphore:leave() end;
        {waited, Left} ->
            try send(Kind, How#how{timeout = Left}, py_proto:set_timeout(Request, Left), Exchange)
            after py_semaphore:leave()
            end;
        {error, _} = Error ->
            Error
    end;
make(Kind, How, Request, Exchange) ->
    nested(Kind, How, Request, Exchange).

%% A call that is bounded by other means than the slots.
-spec without_slot(py_router:kind(), how(), py_proto:request()) -> py_proto:result().
without_slot(Kind, How, Request) ->
    with_events(Request, fun py_proto:request/4, fun(Exchange) -> unslotted(Kind, How, Request, Exchange) end).

unslotted(Kind, #how{chain = undefined} = How, Request, Exchange) ->
    send(Kind, How, Request, Exchange);
unslotted(Kind, How, Request, Exchange) ->
    nested(Kind, How, Request, Exchange).

%% Where such a call goes: the C-node, what stands for the connection, where it is to be counted while it is under way
%% (by count/2; what is never counted off is set right by py_router), and what is to be sent.
-spec place(py_router:kind(), how(), py_proto:request()) ->
    {node(), py_proto:link(), none | py_router:target(), py_proto:request()} | {error, term()}.
place(_, #how{node = Node, ctx = Ctx} = How, Request) when Ctx =/= undefined ->
    placed(Node, py_context:target(Node), in_chain(Node, How, Request));
place(Kind, #how{node = Wanted, chain = undefined}, Request) ->
    placed(Wanted, py_router:pick(Kind, Wanted), Request);
place(Kind, #how{chain = #chain{node = Node}}, Request) ->
    case py_router:pick(Kind, Node) of
        #target{} = Target -> placed(Node, Target, Request);
        {error, _} -> placed(Node, elsewhere, Request)
    end.

placed(_, #target{node = Node, link = Link} = Target, Request) -> {Node, Link, Target, Request};
placed(Node, elsewhere, Request) -> {Node, py_proto:server(Node), none, Request};
placed(_, {error, _} = Error, _) -> Error.

%% What goes to another C-node is no part of the chain there.
in_chain(Node, #how{chain = #chain{node = Other}}, Request) when Other =/= Node -> py_proto:without_chain(Request);
in_chain(_, _, Request) -> Request.

-spec count(none | py_router:target(), 1 | -1) -> ok.
count(#target{load = Load, slot = Slot}, By) when Load =/= none -> atomics:add(Load, Slot, By);
count(_, _) -> ok.

nested(Kind, #how{node = Wanted, chain = #chain{node = Node}} = How, Request, Exchange) ->
    case py_router:is_wanted(Node, Wanted) of
        true -> nest(Kind, How#how{node = Node}, Request, Exchange);
        false -> send(Kind, How, py_proto:without_chain(Request), Exchange)
    end.

nest(_, #how{ctx = Ctx} = How, Request, Exchange) when Ctx =/= undefined ->
    in_context(How, Request, Exchange);
%% The C-node that waits may be none of this node's, but only the coordinator's. Then there is no link process.
nest(Kind, #how{node = Node, timeout = Timeout} = How, Request, Exchange) ->
    case py_router:pick(Kind, Node) of
        #target{} = Target -> exchange(Target, How, Request, Exchange);
        {error, _} -> Exchange(Node, py_proto:server(Node), Request, Timeout)
    end.

%% A context is in one place: there is nowhere to try again.
send(_, #how{ctx = Ctx} = How, Request, Exchange) when Ctx =/= undefined ->
    in_context(How, Request, Exchange);
send(Kind, #how{retry = 0, node = Wanted} = How, Request, Exchange) ->
    case py_router:pick(Kind, Wanted) of
        #target{} = Target -> exchange(Target, How, Request, Exchange);
        {error, _} = Error -> Error
    end;
send(Kind, #how{timeout = Timeout} = How, Request, Exchange) ->
    attempt(Kind, How, Request, Exchange, deadline(Timeout), [], none).

%% Sends it anew when the C-node was lost, to one that it was not sent to before. When there is none, the caller gets
%% what became of the last attempt.
attempt(Kind, #how{node = Wanted} = How, Request, Exchange, Deadline, Tried, Before) ->
    case py_router:pick(Kind, Wanted, Tried) of
        #target{node = Node} = Target ->
            Result = exchange(Target, How, Request, Exchange),
            again(Kind, How, Request, Exchange, Deadline, [Node | Tried], Result);
        {error, _} = Error when Before =:= none ->
            Error;
        {error, _} ->
            Before
    end.

again(Kind, #how{retry = N} = How, Request, Exchange, Deadline, [Node | _] = Tried, Result) ->
    Left = left(Deadline),
    case N > 0 andalso Left =/= 0 andalso is_lost(Node, Result) of
        true ->
            Anew = py_proto:set_timeout(Request, Left),
            attempt(Kind, How#how{retry = N - 1, timeout = Left}, Anew, Exchange, Deadline, Tried, Result);
        false ->
            Result
    end.

is_lost(Node, {error, {nodedown, Node}}) -> true;
is_lost(Node, {error, {node_exited, Node, _}}) -> true;
is_lost(_, _) -> false.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%% A context that another process handed over may be on a C-node that is none of this node's.
in_context(#how{ctx = Ctx, node = Node, timeout = Timeout} = How, Request, Exchange) ->
    Result = case py_context:target(Node) of
        #target{} = Target -> exchange(Target, How, Request, Exchange);
        elsewhere -> Exchange(Node, py_proto:server(Node), Request, Timeout);
        {error, _} = Error -> Error
    end,
    ok = py_context:heard(Ctx, Result),
    Result.

%% A process that is killed leaves its call on the counter; py_router sets that right.
exchange(#target{node = Node, link = Link, load = none}, #how{timeout = Timeout}, Request, Exchange) ->
    Exchange(Node, Link, Request, Timeout);
exchange(#target{node = Node, link = Link, load = Load, slot = Slot}, #how{timeout = Timeout}, Request, Exchange) ->
    ok = atomics:add(Load, Slot, 1),
    try Exchange(Node, Link, Request, Timeout) after atomics:sub(Load, Slot, 1) end.

%% Nobody waits for a cast, so it holds no slot; when there is no node it is lost, as any cast to a node that is down.
-spec cast(py_router:kind(), how(), py_proto:request()) -> ok.
cast(_, #how{ctx = Ctx, node = Node}, Request) when Ctx =/= undefined ->
    py_proto:send_cast(Node, Request);
cast(_, #how{chain = #chain{node = Node}}, Request) ->
    py_proto:send_cast(Node, Request);
cast(Kind, _, Request) ->
    case py_router:pick(Kind, any) of
        #target{node = Node} -> py_proto:send_cast(Node, Request);
        {error, _} -> ok
    end.
