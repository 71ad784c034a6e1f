%% The wire protocol between this application and pynode, version 1. Every tuple of it is built or matched here and
%% in cnode/svc/proto.c, nowhere else.
%%
%% A C-node answers under the registered name `py`. Requests:
%%
%%     {call, M, F, Args} | {call, M, F, Args, Kwargs} | {call, M, F, Args, Kwargs, Opts}
%%     {eval, Code} | {eval, Code, Locals} | {eval, Code, Locals, Opts}
%%     {exec, Code} | {exec, Code, Opts}
%%     {call_all, M, F, Args, Kwargs, Opts} | {exec_all, Code, Opts}
%%                        the same in every interpreter, answered {ok, [{Interpreter, Result}]}
%%     {forget, Key}      what was remembered by that key
%%     {stream, M, F, Args, Kwargs, Opts}      answered {ok, Stream}
%%     {stream_next, Stream, Max, Opts}        answered {ok, {Count, more | done | {error, Reason}}}, and for each
%%                                             item, before that, the message {py_item, Stream, Item} to who asks
%%     {stream_close, Stream}                  answered ok; so does the death of who opened it
%%     info | version
%%     sync               answered `ok` at once, behind everything that was sent to the same node before
%%     {bind, Opts}       answered {ok, Context}, a number: a worker for calls with the option ctx => Context alone
%%     {unbind, Context} | {interrupt, Context}
%%     {cancel, Tag}      the call with that tag, or with that reference in its tag, ends with {error, interrupted}
%%     {cancel, Tag, report}    the same, answered {error, not_found} when there is no such call
%%
%% M and F are atoms or binaries (dotted names are fine), Args a list, Kwargs and Locals maps with keys that are atoms
%% or binaries, Code a binary. Opts is a timeout (milliseconds or `infinity`, counted from the arrival at the C-node)
%% or a map #{timeout, traceback, chain, span, ctx, home (a pid: its definitions in place of the caller's), collect
%% (boolean: the items of an iterator)}, for call_all and exec_all also remember (a key, a binary) and replay (boolean:
%% not when it is remembered already), for call also async (true: the function's coroutine runs on an event loop, and the
%% answer comes when it has ended; stream: what an async generator gives, as a list); it is sent as the plain timeout
%% when it says nothing else, so that the usual call is short.
%%
%% Forms:
%%
%%     {'$gen_call', {Pid, Tag}, Request}    answered {Tag, Result}; a tag [alias | Ref] by a send to the alias Ref
%%     {'$gen_cast', Request}                not answered
%%
%% Result is {ok, Value}, `ok` (exec) or {error, Reason}. `info` gives {ok, Map}.
%%
%% The Pid of a '$gen_call' stands for the caller: the C-node keeps its pinned interpreter by it, and interrupts
%% its calls when it dies. The answer goes where the alias points, which may be another process (py_async).
%%
%% To the coordinator, whenever the link to it comes up, the C-node sends {py_member, 1, Node, Info} to the
%% registered name `py_coordinator`.
%%
%% Order: answers and messages to the coordinator travel on different connections and are not ordered with each
%% other.
-module(py_proto).

%% Building requests.
-export([call/5]).
-export([eval/3]).
-export([exec/2]).
-export([stream/1]).
-export([stream_next/3]).
-export([options/3]).
-export([call_all/5]).
-export([exec_all/2]).
-export([all_options/4]).
-export([forget/1]).
-export([in_context/2]).
-export([bind/2]).
-export([unbind/1]).
-export([interrupt/1]).
-export([with_option/3]).
-export([set_timeout/2]).
-export([without_chain/1]).
-export([server/1]).

%% Sending them.
-export([request/4]).
-export([send_as/4]).
-export([send_async/3]).
-export([send_sync/1]).
-export([send_cast/2]).
-export([send_or_spawn/2]).
-export([send_cancel_report/3]).
-export([call_off/3]).
-export([answer_self/1]).

%% Matching what comes back.
-export([await_answer/2]).
-export([await_any/2]).
-export([answer/3]).
-export([member/1]).

-export_type([request/0, command/0, options/0, all_options/0, result/0, info/0, link/0, sender/0]).

-type name() :: atom() | binary().
-type options() :: timeout() | #{
    timeout := timeout(),
    traceback => boolean(),
    chain => term(),
    span => integer(),
    ctx => pos_integer(),
    home => pid(),
    collect => boolean(),
    async => true | stream
}.
-type request() ::
    {call, name(), name(), list(), map(), options()}
    | {eval, binary(), map(), options()}
    | {exec, binary(), options()}
    | {stream, name(), name(), list(), map(), options()}
    | {stream_next, pos_integer(), pos_integer(), options()}
    | all_request()
    | {forget, binary()}.
-type all_options() :: #{timeout := timeout(), chain => term(), remember => binary(), replay => boolean()}.
-type all_request() ::
    {call_all, name(), name(), list(), map(), all_options()}
    | {exec_all, binary(), all_options()}.
-type command() ::
    info
    | version
    | {bind, options()}
    | {unbind, pos_integer()}
    | {interrupt, pos_integer()}
    | {cancel, reference(), report}.
-type result() :: ok | {ok, term()} | {error, term()}.
-type info() :: map().
%% What sends a request in its caller's place, while the connection is busy.
-type sender() :: none | pid().
%% What stands for the connection to a C-node.
-type link() :: pid() | {py, node()}.

%% [alias | Ref] is how gen marks the tag of a request that is answered by an alias.
-dialyzer({no_improper_lists, [request/4, send_as/4, answer_self/1]}).

-define(SERVER, py).
-define(VERSION, 1).

%% Building requests. Options come last in each, set_timeout/2 relies on it.

-spec call(name(), name(), list(), map(), options()) -> request().
call(M, F, Args, Kwargs, Opts) ->
    {call, M, F, Args, Kwargs, Opts}.

-spec eval(binary(), map(), options()) -> request().
eval(Code, Locals, Opts) ->
    {eval, Code, Locals, Opts}.

-spec exec(binary(), options()) -> request().
exec(Code, Opts) ->
    {exec, Code, Opts}.

%% Of a call: its value is kept, and its items are asked for.
-spec stream(request()) -> request().
stream({call, M, F, Args, Kwargs, Opts}) ->
    {stream, M, F, Args, Kwargs, Opts}.

-spec stream_next(pos_integer(), pos_integer(), options()) -> request().
stream_next(Stream, Max, Opts) ->
    {stream_next, Stream, Max, Opts}.

-spec options(timeout(), boolean(), term()) -> options().
options(Timeout, false, undefined) -> Timeout;
options(Timeout, true, undefined) -> #{timeout => Timeout, traceback => true};
options(Timeout, false, Chain) -> #{timeout => Timeout, chain => Chain};
options(Timeout, true, Chain) -> #{timeout => Timeout, traceback => true, chain => Chain}.

-spec call_all(name(), name(), list(), map(), all_options()) -> request().
call_all(M, F, Args, Kwargs, Opts) ->
    {call_all, M, F, Args, Kwargs, Opts}.

-spec exec_all(binary(), all_options()) -> request().
exec_all(Code, Opts) ->
    {exec_all, Code, Opts}.

-spec all_options(timeout(), none | binary(), boolean(), term()) -> all_options().
all_options(Timeout, Key, Replay, Chain) ->
    maps:from_list(
        [{timeout, Timeout}] ++ [{chain, Chain} || Chain =/= undefined] ++
            [Option || Key =/= none, Option <- [{remember, Key}, {replay, Replay}]]
    ).

-spec forget(binary()) -> request().
forget(Key) ->
    {forget, Key}.

%% The same options for a call in that context.
-spec in_context(options(), pos_integer()) -> options().
in_context(#{} = Opts, Context) -> Opts#{ctx => Context};
in_context(Timeout, Context) -> #{timeout => Timeout, ctx => Context}.

-spec bind(timeout(), term()) -> command().
bind(Timeout, Chain) ->
    {bind, options(Timeout, false, Chain)}.

-spec unbind(pos_integer()) -> command().
unbind(Context) ->
    {unbind, Context}.

-spec interrupt(pos_integer()) -> command().
interrupt(Context) ->
    {interrupt, Context}.

-spec with_option(request(), atom(), term()) -> request().
with_option(Request, Key, Value) ->
    Last = tuple_size(Request),
    case element(Last, Request) of
        #{} = Opts -> setelement(Last, Request, Opts#{Key => Value});
        Timeout -> setelement(Last, Request, #{timeout => Timeout, Key => Value})
    end.

%% The same request with less time.
-spec set_timeout(request(), timeout()) -> request().
set_timeout(Request, Timeout) ->
    Last = tuple_size(Request),
    case element(Last, Request) of
        #{} = Opts -> setelement(Last, Request, Opts#{timeout := Timeout});
        _ -> setelement(Last, Request, Timeout)
    end.

%% The same request outside of any chain of callbacks. The span that is open there, which a chain tells while tracing is
%% on, stays the parent of those that this call opens.
-spec without_chain(request()) -> request().
without_chain(Request) ->
    Last = tuple_size(Request),
    case element(Last, Request) of
        #{chain := {_, _, _, Span}} = Opts -> setelement(Last, Request, (maps:remove(chain, Opts))#{span => Span});
        #{} = Opts -> setelement(Last, Request, shortest(maps:remove(chain, Opts)));
        _ -> Request
    end.

shortest(#{timeout := Timeout} = Opts) when map_size(Opts) =:= 1 -> Timeout;
shortest(Opts) -> Opts.

%% Stands for a C-node that this node has no link process for. To monitor it connects the nodes, which may take a while,
%% and so does the monitor itself while the connection is busy.
-spec server(node()) -> link().
server(Node) ->
    {?SERVER, Node}.

%% Sends the request and waits. Link is the local process that stands for the connection to Node (py_link): it ends
%% with the connection, and then its reason is ours. So only three things can end the waiting: the answer, the
%% link's end, the timeout. An answer after the timeout is dropped by the VM, since removing the monitor
%% deactivates the alias.
%%
%% No connection is set up from here (noconnect): that would block the caller for as long as the other host
%% takes. If there is none, the link process has ended or is about to.
%%
%% Sending and receiving are in one function because a receive finds its place in a long mailbox at once only when
%% the reference is made in the same function.
-spec request(node(), link(), request() | command(), timeout()) -> result().
request(Node, Link, Request, Timeout) ->
    Ref = erlang:monitor(process, Link, [{alias, reply_demonitor}]),
    Sender = send(Node, {'$gen_call', {self(), [alias | Ref]}, Request}),
    receive
        {[alias | Ref], Result} -> Result;
        {'DOWN', Ref, process, _, Reason} -> {error, py_link:reason(Node, Reason)}
    after Timeout -> timed_out(Node, Ref, Sender)
    end.

%% The answer may have come between the end of the time and the removal of the monitor: it is taken then, because
%% it must not stay in the mailbox. The C-node ends a call itself when its time is over, which it counts from the arrival.
%% One that arrives late, behind what kept the connection busy, is not to run at all.
timed_out(Node, Ref, Sender) ->
    _ = erlang:demonitor(Ref),
    _ = is_pid(Sender) andalso call_off(Node, Ref, Sender),
    receive
        {[alias | Ref], Result} -> Result;
        {'DOWN', Ref, process, _, Reason} -> {error, py_link:reason(Node, Reason)}
    after 0 -> {error, timeout}
    end.

send(Node, Message) ->
    send_or_spawn({?SERVER, Node}, Message).

%% When the VM has as much to write to that node as it keeps for one connection (a large message is on its way, or
%% nobody reads there), a send suspends the sender until that is written. So a helper sends in its place, and is
%% suspended. Nothing is lost by that: what is given to a busy connection waits in its queue.
-spec send_or_spawn(pid() | reference() | {atom(), node()}, term()) -> ok | noconnect | pid().
send_or_spawn(To, Message) ->
    case erlang:send(To, Message, [noconnect, nosuspend]) of
        nosuspend -> spawn(fun() -> erlang:send(To, Message, [noconnect]) end);
        Sent -> Sent
    end.

%% Sends the request in the name of another process and does not wait. The messages that answer/3 understands come
%% to the calling process.
-spec send_as(pid(), node(), link(), request() | command()) -> {reference(), sender()}.
send_as(Caller, Node, Link, Request) ->
    Ref = erlang:monitor(process, Link, [{alias, reply_demonitor}]),
    case send(Node, {'$gen_call', {Caller, [alias | Ref]}, Request}) of
        Sender when is_pid(Sender) -> {Ref, Sender};
        _ -> {Ref, none}
    end.

%% Sends the request in the caller's name and does not wait; what comes back is for await_answer/2 or await_any/2.
-spec send_async(node(), link(), request() | command()) -> {reference(), sender()}.
send_async(Node, Link, Request) ->
    send_as(self(), Node, Link, Request).

%% The answer to what could not be sent, as if it had come.
-spec answer_self(result()) -> reference().
answer_self(Result) ->
    Ref = make_ref(),
    self() ! {[alias | Ref], Result},
    Ref.

%% The C-node answers {Ref, ok} at once, behind everything that it has sent to this node before. Never blocks.
-spec send_sync(node()) -> {ok, reference()} | not_sent.
send_sync(Node) ->
    Ref = make_ref(),
    case send(Node, {'$gen_call', {self(), Ref}, sync}) of
        noconnect -> not_sent;
        _ -> {ok, Ref}
    end.

-spec send_cast(node(), request()) -> ok.
send_cast(Node, Request) ->
    _ = erlang:send({?SERVER, Node}, {'$gen_cast', Request}, [noconnect]),
    ok.

%% Ends the call that was sent with this reference, in the caller's place if Sender says so. Never blocks. It gets there,
%% however busy the connection is: behind a call that is on its way, which else would run when its caller has gone.
-spec call_off(node(), reference(), sender()) -> ok.
call_off(Node, Ref, Sender) ->
    _ = is_pid(Sender) andalso exit(Sender, kill),
    _ = send(Node, {'$gen_cast', {cancel, Ref}}),
    ok.

%% The same for a call of whatever process. The answer says whether there is one: ok or {error, not_found}.
-spec send_cancel_report(node(), link(), reference()) -> reference().
send_cancel_report(Node, Link, Ref) ->
    {Asked, _} = send_async(Node, Link, {cancel, Ref, report}),
    Asked.

-spec await_answer(reference(), timeout()) -> {result, result()} | {down, term()} | timeout.
await_answer(Ref, Timeout) ->
    receive
        {[alias | Ref], Result} -> {result, Result};
        {'DOWN', Ref, process, _, Reason} -> {down, Reason}
    after Timeout ->
        _ = erlang:demonitor(Ref, [flush]),
        receive {[alias | Ref], Result} -> {result, Result} after 0 -> timeout end
    end.

%% The first of the answers to these requests.
-spec await_any(#{reference() => term()}, timeout()) ->
    {reference(), {result, result()} | {down, term()}} | timeout.
await_any(Pending, Timeout) ->
    receive
        {[alias | Ref], Result} when is_map_key(Ref, Pending) -> {Ref, {result, Result}};
        {'DOWN', Ref, process, _, Reason} when is_map_key(Ref, Pending) -> {Ref, {down, Reason}}
    after Timeout -> timeout
    end.

%% What a message says about the request with that reference: its result, the end of what it was monitored by
%% (the reason is the monitor's), or nothing.
-spec answer(reference(), term(), T) -> {result, result()} | {down, term()} | T.
answer(Ref, {[alias | Ref], Result}, _) -> {result, Result};
answer(Ref, {'DOWN', Ref, process, _, Reason}, _) -> {down, Reason};
answer(_, _, Other) -> Other.

%% A C-node that tells its coordinator that it is there.
-spec member(term()) -> {member, node(), info()} | {unknown_version, node(), term()} | other.
member({py_member, ?VERSION, Node, #{} = Info}) when is_atom(Node) -> {member, Node, Info};
member({py_member, Version, Node, _}) when is_atom(Node) -> {unknown_version, Node, Version};
member(_) -> other.
