%% The life of a call in this node: a slot of the semaphore, a C-node, the request and its answer.
%%
%% No message is sent here but the request. Time that was spent waiting for the slot counts.
-module(py_call).

-export([how/1]).
-export([request_options/1]).
-export([run/3]).
-export([run/4]).
-export([cast/2]).

-export_type([how/0, options/0, exchange/0]).

-include("py_call.hrl").

-type options() :: timeout() | #{
    timeout => timeout(),
    node => node(),
    traceback => boolean()
}.
-type how() :: #how{}.
%% What sends a request to a node and waits for its result.
-type exchange() :: fun((node(), pid(), py_proto:request(), timeout()) -> py_proto:result()).

-define(CHAIN, '$py_chain').
%% The longest time that `receive` takes.
-define(MAX_TIMEOUT, 16#ffffffff).
-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< ?MAX_TIMEOUT))).

%% What the options of the caller say, and where in a chain of callbacks it is.
-spec how(term()) -> how() | {error, {bad_option, term()}}.
how(Timeout) when ?IS_TIMEOUT(Timeout) ->
    #how{timeout = Timeout, chain = get(?CHAIN)};
how(#{} = Options) ->
    maps:fold(fun option/3, #how{chain = get(?CHAIN)}, Options);
how(Other) ->
    {error, {bad_option, Other}}.

option(timeout, T, #how{} = How) when ?IS_TIMEOUT(T) -> How#how{timeout = T};
option(node, Node, #how{} = How) when is_atom(Node) -> How#how{node = Node};
option(traceback, On, #how{} = How) when is_boolean(On) -> How#how{traceback = On};
option(Key, Value, #how{}) -> {error, {bad_option, {Key, Value}}};
option(_, _, Error) -> Error.

%% What the C-node has to know of it.
-spec request_options(how()) -> py_proto:options().
request_options(#how{timeout = Timeout, traceback = Traceback, chain = Chain}) ->
    py_proto:options(Timeout, Traceback, Chain).

%% A call that is made in a callback has its slot already: the one of the call that waits for the callback. To take
%% another would be a deadlock as soon as all slots wait for callbacks.
-spec run(py_router:kind(), how(), py_proto:request()) -> py_proto:result().
run(Kind, How, Request) ->
    run(Kind, How, Request, fun py_proto:request/4).

-spec run(py_router:kind(), how(), py_proto:request(), exchange()) -> py_proto:result().
run(Kind, #how{chain = undefined, timeout = Timeout} = How, Request, Exchange) ->
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
run(Kind, How, Request, Exchange) ->
    send(Kind, How, Request, Exchange).

%% A process that is killed leaves its call on the counter; py_router sets that right.
send(Kind, #how{node = Wanted, timeout = Timeout}, Request, Exchange) ->
    case py_router:pick(Kind, Wanted) of
        #target{node = Node, link = Link, load = none} ->
            Exchange(Node, Link, Request, Timeout);
        #target{node = Node, link = Link, load = Load, slot = Slot} ->
            ok = atomics:add(Load, Slot, 1),
            try Exchange(Node, Link, Request, Timeout) after atomics:sub(Load, Slot, 1) end;
        {error, _} = Error ->
            Error
    end.

%% Nobody waits for a cast, so it holds no slot; when there is no node it is lost, as any cast to a node that is down.
-spec cast(py_router:kind(), py_proto:request()) -> ok.
cast(Kind, Request) ->
    case py_router:pick(Kind, any) of
        #target{node = Node} -> py_proto:send_cast(Node, Request);
        {error, _} -> ok
    end.
