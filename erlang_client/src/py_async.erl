%% Calls that the caller does not wait for: a process each, which waits in its place, sends the owner
%% {py_response, Ref, {ok, Value}} or {py_error, Ref, Error}, and goes.
%%
%% Ref is the reference of the owner's monitor on that process, and an alias. So an await that gives up leaves nothing
%% that could arrive later, and should the process be killed, await hears of it.
%%
%% The request is sent in the name of the owner: the C-node runs it in the interpreter where the owner's definitions
%% live, and interrupts it when the owner dies. The process watches the owner as well: nobody is to work, or to queue,
%% for the dead.
%%
%% A table says which process works for which reference, for those who want to stop a call. The process learns its
%% reference only when its row is there, so it always finds it when it comes to remove it.
-module(py_async).

-export([create/0]).
-export([call/3]).
-export([await/2]).
-export([cancel/1]).

-include("py_call.hrl").

-define(TABLE, ?MODULE).
-define(PIN, '$py_node').

%% The table belongs to the supervisor.
-spec create() -> ok.
create() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, set, {write_concurrency, true}]),
    ok.

-spec call(py_router:kind(), py_call:how(), py_proto:request()) -> reference().
call(Kind, How, Request) ->
    Owner = self(),
    Pin = get(?PIN),
    {Pid, Ref} = erlang:spawn_opt(
        fun() -> start(Owner, Pin, Kind, How, Request) end,
        [{monitor, [{alias, reply_demonitor}]}]
    ),
    ok = enlist(Ref, Pid),
    Pid ! {ref, Ref},
    Ref.

%% A value that came in time is not thrown away: only an await that finds nothing ends the call. One that is refused has
%% not begun, the call can be awaited still.
-spec await(reference(), timeout()) -> {ok, term()} | {error, term()}.
await(Ref, Timeout) when ?IS_TIMEOUT(Timeout) ->
    receive
        {py_response, Ref, Response} -> Response;
        {py_error, Ref, Error} -> {error, Error};
        {'DOWN', Ref, process, _, Reason} -> {error, Reason}
    after Timeout ->
        _ = erlang:demonitor(Ref, [flush]),
        receive
            {py_response, Ref, Response} -> Response;
            {py_error, Ref, Error} -> {error, Error}
        after 0 ->
            _ = cancel(Ref),
            {error, timeout}
        end
    end;
await(_, Other) ->
    {error, {bad_option, Other}}.

%% The call ends with {error, interrupted}, if it has not ended yet.
-spec cancel(reference()) -> ok | {error, not_found}.
cancel(Ref) ->
    try ets:lookup(?TABLE, Ref) of
        [{Ref, Pid}] -> Pid ! cancel, ok;
        [] -> {error, not_found}
    catch
        error:badarg -> {error, not_found}
    end.

%% Without the application there is no table; the call itself says so then.
enlist(Ref, Pid) ->
    try ets:insert(?TABLE, {Ref, Pid}) of true -> ok catch error:badarg -> ok end.

delist(Ref) ->
    try ets:delete(?TABLE, Ref) of true -> ok catch error:badarg -> ok end.

%% The process.

start(Owner, Pin, Kind, How, Request) ->
    Watch = erlang:monitor(process, Owner),
    _ = put(?PIN, Pin),
    receive
        {ref, Ref} -> work(Owner, Watch, Ref, Kind, How, Request);
        {'DOWN', Watch, process, _, _} -> forget_self()
    end.

%% The owner died between the row and the reference.
forget_self() ->
    try ets:match_delete(?TABLE, {'_', self()}) of true -> ok catch error:badarg -> ok end.

work(Owner, Watch, Ref, Kind, How, Request) ->
    Exchange = fun(Node, Link, Req, Timeout) -> exchange(Owner, Watch, Node, Link, Req, Timeout) end,
    Result = py_call:run(Kind, How, Request, Exchange),
    ok = delist(Ref),
    _ = case Result of
        {error, Error} -> Ref ! {py_error, Ref, Error};
        _ -> Ref ! {py_response, Ref, Result}
    end,
    ok.

%% Whoever wanted to stop the call while it waited for its slot has it stopped here.
exchange(Owner, Watch, Node, Link, Request, Timeout) ->
    receive
        cancel -> {error, interrupted};
        {'DOWN', Watch, process, _, _} -> {error, interrupted}
    after 0 ->
        wait(Watch, Node, py_proto:send_as(Owner, Node, Link, Request), deadline(Timeout))
    end.

deadline(infinity) -> none;
deadline(Timeout) -> erlang:start_timer(Timeout, self(), deadline).

%% The owner's death leaves nobody to tell.
wait(Watch, Node, {Call, Sender} = Sent, Timer) ->
    receive
        cancel ->
            ok = py_proto:call_off(Node, Call, Sender),
            cancelled(Watch, Node, Sent, Timer);
        {'DOWN', Watch, process, _, _} ->
            ok = py_proto:call_off(Node, Call, Sender),
            {error, interrupted};
        {timeout, Timer, deadline} ->
            _ = is_pid(Sender) andalso py_proto:call_off(Node, Call, Sender),
            {error, timeout};
        Message ->
            case py_proto:answer(Call, Message, other) of
                {result, Result} -> Result;
                {down, Reason} -> {error, py_link:reason(Node, Reason)};
                other -> wait(Watch, Node, Sent, Timer)
            end
    end.

%% The C-node answers what was cancelled, unless the call never came to it.
cancelled(Watch, Node, {_, none} = Sent, Timer) -> wait(Watch, Node, Sent, Timer);
cancelled(_, _, _, _) -> {error, interrupted}.
