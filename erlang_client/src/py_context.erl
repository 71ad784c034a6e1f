%% Contexts: workers that are bound, each to one owner, with a `__main__` of their own.
%%
%% A context is a term {py_context, Node, Id, Owner}, which may be handed to any process of the cluster. It lives in the
%% C-node alone, which ends it with its owner, or with the connection to the owner's node; here is only what a bound
%% process has in its dictionary: its context, and the process that stands for the connection to the C-node. When that
%% one has ended, the context has.
%%
%% A call in a context learns that the context is gone by an error. A process that is bound to it is not bound any more
%% from then on: what it calls next goes anywhere, and it may bind again.
-module(py_context).

%% The API, by way of `py`.
-export([bind/0]).
-export([bind/1]).
-export([unbind/0]).
-export([unbind/1]).
-export([is_bound/0]).
-export([with_context/1]).
-export([within/2]).
-export([interrupt/1]).
-export([is_context/1]).

%% Used by calls.
-export([place/1]).
-export([id/1]).
-export([target/1]).
-export([heard/2]).

-include("py_call.hrl").

-export_type([ctx/0]).

-opaque ctx() :: {py_context, node(), pos_integer(), pid()}.

%% In the dictionary of a process: how its calls get there. `own`: it is bound; `given`: it calls by a context, for the
%% length of that call.
-record(bound, {
    ctx :: ctx(),
    link :: pid(),
    how = own :: own | given
}).

-define(BOUND, '$py_bound').
%% How long the C-node may look for a worker, and what its answer may take beyond that.
-define(BIND_MS, 30000).
-define(SLACK_MS, 1000).
-define(INFO_MS, 1000).
-define(UNBIND_MS, 10000).
-define(IS_CTX(Node, Id, Owner), (is_atom(Node) andalso is_integer(Id) andalso Id > 0 andalso is_pid(Owner))).

%% The API.

%% Bound already: nothing changes.
-spec bind() -> ok | {error, term()}.
bind() ->
    case is_bound() of
        true -> ok;
        false -> enter(new())
    end.

enter(#bound{} = Bound) ->
    _ = put(?BOUND, Bound),
    ok;
enter({error, _} = Error) ->
    Error.

-spec bind(term()) -> {ok, ctx()} | {error, term()}.
bind(new) ->
    case new() of
        #bound{ctx = Ctx} -> {ok, Ctx};
        {error, _} = Error -> Error
    end;
bind(Other) ->
    {error, {bad_option, Other}}.

-spec unbind() -> ok | {error, term()}.
unbind() ->
    case erase(?BOUND) of
        undefined -> ok;
        #bound{ctx = Ctx} -> unbind(Ctx)
    end.

%% A context that is gone is no error. Whoever is not its owner cannot conclude from a lost connection that it is.
-spec unbind(term()) -> ok | {error, term()}.
unbind({py_context, Node, Id, Owner}) when ?IS_CTX(Node, Id, Owner) ->
    case command(Node, py_proto:unbind(Id), ?UNBIND_MS) of
        {error, {nodedown, _}} when Owner =:= self() -> ok;
        {error, {node_exited, _, _}} -> ok;
        {error, no_nodes} when Owner =:= self() -> ok;
        Result -> Result
    end;
unbind(Other) ->
    {error, {bad_context, Other}}.

-spec is_bound() -> boolean().
is_bound() ->
    case get(?BOUND) of
        #bound{link = Link} -> is_process_alive(Link);
        undefined -> false
    end.

-spec with_context(fun(() -> T) | fun((ctx()) -> T)) -> T | {error, term()}.
with_context(Fun) when is_function(Fun, 0) ->
    case new() of
        #bound{} = Bound -> run_bound(Bound, Fun);
        {error, _} = Error -> Error
    end;
with_context(Fun) when is_function(Fun, 1) ->
    case new() of
        #bound{ctx = Ctx} -> try Fun(Ctx) after unbind(Ctx) end;
        {error, _} = Error -> Error
    end;
with_context(Other) ->
    {error, {bad_function, Other}}.

%% Afterwards the process is bound as before; also to what the function has bound itself to it is not any more.
run_bound(#bound{ctx = Ctx} = Bound, Fun) ->
    Before = put(?BOUND, Bound),
    try
        Fun()
    after
        _ = unbind(),
        _ = unbind(Ctx),
        restore(Before)
    end.

restore(undefined) -> erase(?BOUND);
restore(Bound) -> put(?BOUND, Bound).

%% Runs the fun, in which this process's calls go to that context.
-spec within(term(), fun(() -> T)) -> T | {error, {bad_context, term()}}.
within({py_context, Node, Id, Owner} = Ctx, Fun) when ?IS_CTX(Node, Id, Owner) ->
    Before = put(?BOUND, #bound{ctx = Ctx, link = self(), how = given}),
    try Fun() after restore(Before) end;
within(Other, _) ->
    {error, {bad_context, Other}}.

%% What runs in the context ends with {error, interrupted}; the context stays.
-spec interrupt(term()) -> ok | {error, term()}.
interrupt({py_context, Node, Id, Owner}) when ?IS_CTX(Node, Id, Owner) ->
    command(Node, py_proto:interrupt(Id), ?UNBIND_MS);
interrupt(Other) ->
    {error, {bad_context, Other}}.

-spec is_context(term()) -> boolean().
is_context({py_context, Node, Id, Owner}) -> ?IS_CTX(Node, Id, Owner);
is_context(_) -> false.

%% For calls.

%% Where this process is bound, its calls go there; but for one that asks for another C-node.
-spec place(py_call:how() | {error, T}) -> py_call:how() | {error, T | {bad_option, term()}}.
place(#how{} = How) ->
    case get(?BOUND) of
        undefined -> How;
        #bound{} = Bound -> place(How, Bound)
    end;
place(Error) ->
    Error.

place(#how{node = Wanted} = How, #bound{ctx = {_, Node, _, _} = Ctx, how = Bound}) ->
    case py_router:is_wanted(Node, Wanted) of
        true -> How#how{node = Node, ctx = Ctx};
        false when Bound =:= own -> How;
        false -> {error, {bad_option, {node, Wanted}}}
    end.

-spec id(ctx()) -> pos_integer().
id({py_context, _, Id, _}) ->
    Id.

%% How to reach the C-node of a context: `elsewhere` when it is none of those that this node knows.
-spec target(node()) -> py_router:target() | elsewhere | {error, term()}.
target(Node) ->
    case py_router:pick(any, Node) of
        #target{} = Target -> Target;
        {error, _} = Error ->
            case lists:member(Node, py_router:known_nodes()) of
                true -> Error;
                false -> elsewhere
            end
    end.

%% The result of a call in the context: when it says that the context is gone, this process is not bound to it.
-spec heard(ctx(), py_proto:result()) -> ok.
heard(Ctx, {error, context_lost}) -> leave(Ctx);
heard({_, Node, _, _} = Ctx, {error, {nodedown, Node}}) -> leave(Ctx);
heard({_, Node, _, _} = Ctx, {error, {node_exited, Node, _}}) -> leave(Ctx);
heard(_, _) -> ok.

leave(Ctx) ->
    case get(?BOUND) of
        #bound{ctx = Ctx} -> _ = erase(?BOUND), ok;
        _ -> ok
    end.

%% Helpers.

%% A new context of this process, on the C-node that has most room.
new() ->
    case py_router:up_nodes() of
        [] -> first(py_router:pick(any, any));
        [Target] -> try_each([Target]);
        Targets -> try_each(by_room(Targets))
    end.

first({error, _} = Error) -> Error;
first(#target{} = Target) -> try_each([Target]).

try_each([]) ->
    {error, no_workers_available};
try_each([#target{node = Node, link = Link} = Target | Rest]) ->
    case ask_to_bind(Target) of
        {ok, Id} -> #bound{ctx = {py_context, Node, Id, self()}, link = Link};
        {error, no_workers_available} -> try_each(Rest);
        {error, {nodedown, _}} when Rest =/= [] -> try_each(Rest);
        {error, {node_exited, _, _}} when Rest =/= [] -> try_each(Rest);
        {error, stopping} when Rest =/= [] -> try_each(Rest);
        {error, _} = Error -> Error
    end.

%% The C-node answers in time, unless it hangs; an answer that comes later, and that nobody takes, would be a worker that
%% nobody uses. So a process asks in the name of this one, and stays when the time is over. It alone decides whether it
%% is: what this process waits for always comes.
ask_to_bind(#target{node = Node} = Target) ->
    Owner = self(),
    Tag = make_ref(),
    Request = py_proto:bind(?BIND_MS, py_call:chain_on(Node)),
    {_, Monitor} = spawn_monitor(fun() -> binder(Owner, Target, Request, fun(R) -> Owner ! {Tag, R} end) end),
    receive
        {Tag, Result} -> _ = erlang:demonitor(Monitor, [flush]), Result;
        {'DOWN', Monitor, process, _, Reason} -> {error, Reason}
    end.

%% A request of the dead is not answered. The C-node watches who asked: it drops the request, or ends what came of it,
%% whichever of the request, its answer and the death is first. So there is nothing to give back from here.
binder(Owner, #target{node = Node, link = Link}, Request, Tell) ->
    Watch = erlang:monitor(process, Owner),
    {Ref, Sender} = py_proto:send_as(Owner, Node, Link, Request),
    case py_proto:await_any(#{Ref => bind, Watch => owner}, ?BIND_MS + ?SLACK_MS) of
        {Ref, {result, Result}} ->
            Tell(Result);
        {Ref, {down, Reason}} ->
            Tell({error, py_link:reason(Node, Reason)});
        {Watch, _} ->
            py_proto:call_off(Node, Ref, Sender);
        timeout ->
            _ = Tell({error, timeout}),
            ok = py_proto:call_off(Node, Ref, none),
            unbind_late(Node, Link, Ref, Watch)
    end.

%% With the connection the context ends, too, and with its owner.
unbind_late(Node, Link, Ref, Watch) ->
    case py_proto:await_any(#{Ref => bind, Watch => owner}, infinity) of
        {Ref, {result, {ok, Id}}} -> py_proto:request(Node, Link, py_proto:unbind(Id), ?UNBIND_MS);
        _ -> ok
    end.

%% First those where a worker is idle, then those with the fewest bound ones, then the least loaded.
by_room(Targets) ->
    Deadline = erlang:monotonic_time(millisecond) + ?INFO_MS,
    Asked = [{Target, py_proto:send_async(Node, Link, info)} || #target{node = Node, link = Link} = Target <- Targets],
    Told = [{room(py_proto:await_answer(Ref, max(0, Deadline - erlang:monotonic_time(millisecond)))), Target}
            || {Target, {Ref, _}} <- Asked],
    [Target || {_, Target} <- lists:keysort(1, Told)].

room({result, {ok, #{executors := All, bound := Bound, in_flight := InFlight}}}) ->
    {Bound + InFlight >= All, Bound, InFlight};
room(_) ->
    {unknown, 0, 0}.

%% Short requests that take no slot, as they run no Python for the caller.
command(Node, Command, Timeout) ->
    case target(Node) of
        #target{link = Link} -> py_proto:request(Node, Link, Command, Timeout);
        elsewhere -> py_proto:request(Node, py_proto:server(Node), Command, Timeout);
        {error, _} = Error -> Error
    end.
