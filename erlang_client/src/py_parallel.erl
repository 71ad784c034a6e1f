%% Many calls at once, their results in the order of the calls.
%%
%% One process collects: it gives the calls, one at a time each, to a few processes that make them as anybody would
%% (slot of the semaphore, C-node, request), and never more of these than the semaphore has slots or than keep all
%% workers of all C-nodes busy. So any number of calls needs only its own memory, and one that is long holds up nobody.
%% As each call takes its slot anew, other callers get theirs in between.
%%
%% The time is one for all. A call that was not begun when it is over is not begun any more.
%%
%% The requests are sent in the name of the calling process: its definitions are found, and its death ends them.
%%
%% In a callback there is one thread that can run what the callback calls: the one that waits for it. There the calls
%% are made one after the other. Others in other threads could wait for a worker that waits for this callback.
-module(py_parallel).

-export([run/2]).

-include("py_call.hrl").

-define(PIN, '$py_node').
%% For each worker in Python a call that it works on, and one that waits at its door.
-define(PER_EXECUTOR, 2).

-type item() :: term().
-type result() :: {ok, term()} | {error, term()}.

-record(all, {
    owner :: pid(),
    watch :: reference(),
    pin :: node() | undefined,
    how :: py_call:how(),
    deadline :: integer() | infinity,
    rest :: [{pos_integer(), item()}],
    callers = 0 :: non_neg_integer(),
    done = [] :: [{pos_integer(), result()}]
}).

-spec run(term(), term()) -> {ok, [result()]} | {error, term()}.
run(Calls, Options) when is_list(Calls), length(Calls) >= 0 ->
    case py_call:how(Options) of
        {error, _} = Error -> Error;
        _ when Calls =:= [] -> {ok, []};
        How -> collected(Calls, How)
    end;
run(_, _) ->
    {error, invalid_args}.

%% The results come as the reason of the process's end: no message that nobody waits for can be left.
-dialyzer({no_return, collected/2}).
collected(Calls, How) ->
    Owner = self(),
    Pin = get(?PIN),
    {_, Ref} = spawn_monitor(fun() -> collect(Owner, Pin, How, Calls) end),
    receive
        {'DOWN', Ref, process, _, {?MODULE, Results}} -> {ok, Results};
        {'DOWN', Ref, process, _, Reason} -> {error, Reason}
    end.

-spec collect(pid(), node() | undefined, py_call:how(), [item()]) -> no_return().
collect(Owner, Pin, #how{timeout = Timeout} = How, Calls) ->
    All = #all{
        owner = Owner,
        watch = erlang:monitor(process, Owner),
        pin = Pin,
        how = How,
        deadline = deadline(Timeout),
        rest = lists:zip(lists:seq(1, length(Calls)), Calls)
    },
    {_, Results} = lists:unzip(lists:keysort(1, wait(fill(All)))),
    exit({?MODULE, Results}).

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%% More callers, as long as there are calls for them. The number is looked at anew each time: the limit of the semaphore
%% may change, C-nodes come.
fill(#all{rest = []} = All) ->
    All;
fill(#all{callers = Callers, how = How} = All) ->
    case Callers < wanted(How) of
        true -> fill(next(start_caller(All), All#all{callers = Callers + 1}));
        false -> All
    end.

wanted(#how{chain = #chain{}}) ->
    1;
wanted(_) ->
    max(1, min(slots(), ?PER_EXECUTOR * py:num_executors())).

%% Without the application there are none; the calls themselves say so then.
slots() ->
    case py_semaphore:max_concurrent() of
        {error, no_nodes} -> 1;
        Max -> Max
    end.

next(Caller, #all{rest = [Call | Rest]} = All) ->
    Caller ! {call, Call},
    All#all{rest = Rest}.

wait(#all{callers = 0, rest = [], done = Done}) ->
    Done;
wait(#all{watch = Watch, done = Done} = All) ->
    receive
        {done, Caller, N, Result} -> wait(go_on(Caller, All#all{done = [{N, Result} | Done]}));
        {'DOWN', Watch, process, _, _} -> exit(kill_callers)
    end.

go_on(Caller, #all{deadline = Deadline} = All) ->
    case left(Deadline) of
        0 -> dismiss(Caller, too_late(All));
        _ -> go_on_in_time(Caller, All)
    end.

go_on_in_time(Caller, #all{rest = []} = All) -> dismiss(Caller, All);
go_on_in_time(Caller, All) -> fill(next(Caller, All)).

too_late(#all{rest = Rest, done = Done} = All) ->
    All#all{rest = [], done = [{N, {error, timeout}} || {N, _} <- Rest] ++ Done}.

dismiss(Caller, #all{callers = Callers} = All) ->
    unlink(Caller),
    Caller ! stop,
    All#all{callers = Callers - 1}.

%% A process that makes calls. It ends with the one that collects.

start_caller(#all{owner = Owner, pin = Pin, how = How, deadline = Deadline}) ->
    Collector = self(),
    spawn_link(fun() ->
        _ = put(?PIN, Pin),
        serve(Collector, Owner, How, Deadline)
    end).

serve(Collector, Owner, How, Deadline) ->
    receive
        {call, {N, Item}} ->
            Collector ! {done, self(), N, call(Item, Owner, How#how{timeout = left(Deadline)})},
            serve(Collector, Owner, How, Deadline);
        stop ->
            ok
    end.

call({M, F, Args}, Owner, How) -> call({M, F, Args, #{}}, Owner, How);
call({M, F, Args, Kwargs}, Owner, How) -> make(py_args:call(M, F, Args, Kwargs, How), Owner, How);
call(_, _, _) -> {error, invalid_args}.

make({error, _} = Error, _, _) ->
    Error;
make({Kind, Request}, Owner, How) ->
    py_call:run(Kind, How, Request, fun(Node, Link, Req, Timeout) -> exchange(Owner, Node, Link, Req, Timeout) end).

exchange(Owner, Node, Link, Request, Timeout) ->
    {Ref, Sender} = py_proto:send_as(Owner, Node, Link, Request),
    case py_proto:await_answer(Ref, Timeout) of
        {result, Result} -> Result;
        {down, Reason} -> {error, py_link:reason(Node, Reason)};
        timeout ->
            _ = is_pid(Sender) andalso py_proto:call_off(Node, Ref, Sender),
            {error, timeout}
    end.
