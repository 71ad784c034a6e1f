%% Streams: what Python's iterators give, item by item.
%%
%% collect/3 is a call whose result is the list of the items. start/4 gives a reference, and the owner gets messages
%% {py_stream, Ref, {data, Value} | done | {error, Reason}}; one process per stream (py_stream_proxy) sends them. A table
%% says which process works for which reference.
-module(py_stream).
-behaviour(supervisor).

-export([create/0]).
-export([start_link/0]).
-export([collect/3]).
-export([split/1]).
-export([start/4]).
-export([cancel/1]).
-export([interrupt/1]).

%% Used by the proxies, and from other nodes.
-export([where/1]).
-export([enlist/3]).
-export([delist/1]).
-export([clear_up/2]).

%% supervisor.
-export([init/1]).

-export_type([options/0, own/0]).

-include("py_call.hrl").

%% timeout: for opening it, and for each item then; without it 30000, and infinity.
-type options() :: timeout() | #{
    owner => pid(),
    window => pos_integer(),
    timeout => timeout(),
    node => node(),
    traceback => boolean()
}.
-type own() :: #{owner := pid(), window := pos_integer(), item_timeout := timeout()}.

-define(TABLE, ?MODULE).
-define(PIN, '$py_node').
-define(WINDOW, 64).
-define(MAX_WINDOW, 10000).
%% A proxy that is suspended, because the connection to the owner's node takes nothing, does not see a cancellation.
-define(PATIENCE_MS, 1000).
-define(REMOTE_MS, 5000).

%% The table belongs to the supervisor of the application.
-spec create() -> ok.
create() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, set, {write_concurrency, true}]),
    ok.

%% The supervisor of the proxies. None is started again: what its stream was is gone with it.
-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{strategy => simple_one_for_one, intensity => 1, period => 5}, [
        #{id => stream, start => {py_stream_proxy, start_link, []}, restart => temporary}
    ]}}.

-spec collect(py_router:kind(), py_call:how(), py_proto:request()) -> py_proto:result().
collect(Kind, How, Request) ->
    py_call:run(Kind, How, py_proto:with_option(Request, collect, true)).

%% The options that are the stream's own, and those that every call has.
-spec split(term()) -> {own(), term()} | {error, {bad_option, term()}}.
split(#{} = Options) ->
    Own = #{
        owner => maps:get(owner, Options, self()),
        window => maps:get(window, Options, ?WINDOW),
        item_timeout => maps:get(timeout, Options, infinity)
    },
    checked(Own, maps:without([owner, window], Options));
split(Timeout) ->
    {#{owner => self(), window => ?WINDOW, item_timeout => Timeout}, Timeout}.

checked(#{owner := Owner}, _) when not is_pid(Owner) ->
    {error, {bad_option, {owner, Owner}}};
checked(#{window := N}, _) when not is_integer(N); N < 1; N > ?MAX_WINDOW ->
    {error, {bad_option, {window, N}}};
checked(Own, Rest) ->
    {Own, Rest}.

%% What fails from here on is the stream's last message. The function runs where a call of the calling process would.
-spec start(py_router:kind(), py_call:how(), py_proto:request(), own()) -> {ok, reference()} | {error, no_nodes}.
start(Kind, How, Call, Own) ->
    Ref = make_ref(),
    Request = py_proto:with_option(py_proto:stream(Call), home, self()),
    Begin = #{ref => Ref, kind => Kind, how => How, request => Request, pin => get(?PIN)},
    try supervisor:start_child(?MODULE, [maps:merge(Own, Begin)]) of
        {ok, _} -> {ok, Ref};
        %% The application stops in this moment.
        {error, _} -> {error, no_nodes}
    catch
        exit:_ -> {error, no_nodes}
    end.

%% When this returns, the calling process gets nothing of that stream any more, and has nothing in its mailbox. An owner
%% that is another process gets {error, cancelled}. A stream that has ended, or never was, is no error.
%%
%% The monitor is on the proxy itself, wherever it is: so what it sent before its end is here before the 'DOWN' is.
-spec cancel(reference()) -> ok.
cancel(Ref) ->
    case where(Ref) of
        {ok, Pid} ->
            Monitor = erlang:monitor(process, Pid),
            Pid ! {cancel, self()},
            stopped(Ref, Pid, Monitor);
        error ->
            ok
    end,
    flush(Ref).

stopped(Ref, Pid, Monitor) ->
    receive
        {'DOWN', Monitor, process, _, _} -> ok
    after ?PATIENCE_MS ->
        exit(Pid, kill),
        receive {'DOWN', Monitor, process, _, _} -> clear_up(Ref) end
    end.

flush(Ref) ->
    receive {py_stream, Ref, _} -> flush(Ref) after 0 -> ok end.

clear_up(Ref) when node(Ref) =:= node() -> clear_up(Ref, self());
clear_up(Ref) -> erpc:cast(node(Ref), ?MODULE, clear_up, [Ref, self()]).

%% What a process that was killed could not do: its owner is told, unless he is who cancelled. That may wait for as long as
%% his node reads nothing.
-spec clear_up(reference(), pid()) -> ok.
clear_up(Ref, Canceller) ->
    case taken(Ref) of
        [{_, _, Owner}] when Owner =/= Canceller ->
            _ = spawn(fun() -> erlang:send(Owner, {py_stream, Ref, {error, cancelled}}, [noconnect]) end),
            ok;
        _ ->
            ok
    end.

%% The stream ends with {error, interrupted}.
-spec interrupt(reference()) -> ok | {error, not_found}.
interrupt(Ref) ->
    case where(Ref) of
        {ok, Pid} ->
            Pid ! interrupt,
            ok;
        error ->
            {error, not_found}
    end.

%% The process that works for the reference, on the node that made it.
-spec where(reference()) -> {ok, pid()} | error.
where(Ref) when node(Ref) =:= node() ->
    try ets:lookup(?TABLE, Ref) of
        [{Ref, Pid, _}] -> {ok, Pid};
        [] -> error
    catch
        error:badarg -> error
    end;
where(Ref) ->
    try erpc:call(node(Ref), ?MODULE, where, [Ref], ?REMOTE_MS) catch error:_ -> error end.

-spec enlist(reference(), pid(), pid()) -> ok.
enlist(Ref, Pid, Owner) ->
    true = ets:insert(?TABLE, {Ref, Pid, Owner}),
    ok.

-spec delist(reference()) -> ok.
delist(Ref) ->
    _ = taken(Ref),
    ok.

%% Without the application there is no table.
taken(Ref) ->
    try ets:take(?TABLE, Ref) catch error:badarg -> [] end.
