%% The functions that this node has registered for Python, and their registration with the coordinators.
%%
%% They live here, in a table of this node, and every coordinator knows of each that it is here. So a coordinator that
%% comes up is told of all of them, without anybody's help, and a callback finds the function itself on the node that
%% runs it.
%%
%% The time of the registration goes with it: when two nodes register the same name the later one counts, in whatever
%% order a coordinator hears of them. Clocks differ: who is told that there is a later one, and registers now, takes a
%% time after that. A coordinator tells the node whose function was replaced or unregistered, and
%% that one forgets it.
-module(py_functions).
-behaviour(gen_server).

-export([create/0]).
-export([start_link/0]).
-export([register/2]).
-export([unregister/1]).
-export([lookup/1]).

%% gen_server.
-export([init/1]).
-export([handle_continue/2]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-export_type([stamp/0]).

-type stamp() :: {integer(), integer()}.

-define(TABLE, ?MODULE).
-define(ANSWER_MS, 5000).

%% The table belongs to the supervisor.
-spec create() -> ok.
create() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, set, {read_concurrency, true}]),
    ok.

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Every coordinator that answers knows of it when this returns. When there is none, nothing is registered.
-spec register(binary(), py_callee:target()) -> ok | {error, coordinator_down}.
register(Name, Target) ->
    request({register, Name, Target}).

-spec unregister(binary()) -> ok | {error, coordinator_down}.
unregister(Name) ->
    request({unregister, Name}).

request(Request) ->
    try gen_server:call(?MODULE, Request, infinity)
    catch
        %% The application does not run, or stops in this moment.
        exit:_ -> {error, coordinator_down}
    end.

-spec lookup(binary()) -> {ok, py_callee:target()} | error.
lookup(Name) ->
    try ets:lookup(?TABLE, Name) of
        [{_, _, Target}] -> {ok, Target};
        [] -> error
    catch
        error:badarg -> error
    end.

%% gen_server. One request at a time, so that a registration that is repeated for a new coordinator cannot bring back
%% what was unregistered meanwhile.

-spec init([]) -> {ok, none, {continue, register_all}}.
init([]) ->
    {ok, none, {continue, register_all}}.

-spec handle_continue(register_all, none) -> {noreply, none}.
handle_continue(register_all, State) ->
    ok = lists:foreach(fun register_all/1, py_coordinators:up()),
    {noreply, State}.

-spec handle_call({register, binary(), py_callee:target()} | {unregister, binary()}, gen_server:from(), none) ->
    {reply, ok | {error, coordinator_down}, none}.
handle_call({register, Name, Target}, _From, State) ->
    Before = ets:lookup(?TABLE, Name),
    case register_from(erlang:system_time(), Name, Target) of
        ok ->
            {reply, ok, State};
        {error, _} = Error ->
            true = ets:delete(?TABLE, Name),
            true = ets:insert(?TABLE, Before),
            {reply, Error, State}
    end;
handle_call({unregister, Name}, _From, State) ->
    case tell_all(fun(_) -> {py_unregister, Name} end) of
        [] -> {reply, {error, coordinator_down}, State};
        _ -> true = ets:delete(?TABLE, Name), {reply, ok, State}
    end.

-spec handle_cast(term(), none) -> {noreply, none}.
handle_cast({forget, Name, Stamp}, State) ->
    true = ets:match_delete(?TABLE, {Name, Stamp, '_'}),
    {noreply, State};
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), none) -> {noreply, none}.
handle_info({coordinator_up, Node}, State) ->
    ok = register_all(Node),
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

%% A coordinator may know a later one, of a node whose clock is ahead.
register_from(Time, Name, Target) ->
    Row = {Name, {Time, erlang:unique_integer([monotonic])}, Target},
    true = ets:insert(?TABLE, Row),
    Answers = tell_all(fun(Node) -> {py_register, node(), self(), [entry(Node, Row)]} end),
    case [Newer || {newer, {Newer, _}} <- Answers] of
        [] when Answers =:= [] -> {error, coordinator_down};
        [] -> ok;
        Later -> register_from(lists:max(Later) + 1, Name, Target)
    end.

%% One that goes while it is told is no matter: it is told again when it is back.
register_all(Coordinator) ->
    Entries = [entry(Coordinator, Row) || Row <- ets:tab2list(?TABLE)],
    _ = tell(Coordinator, {py_register, node(), self(), Entries}),
    ok.

%% Functions do not travel: only a coordinator that runs them itself needs them.
entry(Coordinator, {Name, Stamp, Target}) when Coordinator =:= node() -> {Name, Stamp, {here, Target}};
entry(_, {Name, Stamp, _}) -> {Name, Stamp, {there, node()}}.

%% Request makes the request to a coordinator. The answers of those that answer.
tell_all(Request) ->
    [Answer || Node <- py_coordinators:up(), Answer <- [tell(Node, Request(Node))], Answer =/= {error, coordinator_down}].

tell(Node, Request) ->
    try gen_server:call({py_callback, Node}, Request, ?ANSWER_MS)
    catch exit:_ -> {error, coordinator_down}
    end.
