%% Which coordinators there are and which of them answer.
%%
%% A node has one coordinator (the configuration's, or itself) or, where state is replicated, a list of them. The first
%% of the list that answers is the acting one; for a node that holds a copy of the state, it is the node itself. This
%% process finds out who answers: it connects to each, says hello to its py_callback and monitors that. What is lost is
%% tried again with growing delays, and at once when the node is connected anew by anybody.
%%
%% The result is a persistent term, read by every state operation. It changes only when a coordinator comes or goes; a
%% reader that acts on the one just replaced finds nobody there, which is what it would have found a moment later.
%%
%% py_functions is told of each coordinator that comes up, to register what this node has registered.
-module(py_coordinators).
-behaviour(gen_server).

-export([start_link/1]).
-export([forget/0]).
-export([await/1]).
-export([acting/0]).
-export([up/0]).
-export([all/0]).

%% The process that connects.
-export([connector/1]).

%% gen_server.
-export([init/1]).
-export([handle_continue/2]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-record(coordinator, {
    status = down :: down | asking | up,
    monitor :: undefined | reference(),
    connector :: undefined | pid(),
    failed = 0 :: non_neg_integer()
}).

-record(state, {
    order :: [node(), ...],
    by_node :: #{node() => #coordinator{}},
    %% Who waits for the first answer of one of them.
    waiting = [] :: [gen_server:from()]
}).

-define(TERM, ?MODULE).
-define(FIRST_DELAY_MS, 100).
-define(MAX_DELAY_MS, 5000).

-spec start_link(py_config:config()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Config) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Config, []).

%% After the application: there is no coordinator, as before its start.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?TERM),
    ok.

%% A child of the supervisor, no process but a wait, so that whoever has started the application can use the
%% coordinator. It may also come later.
-spec await(timeout()) -> ignore.
await(Timeout) ->
    _ = try gen_server:call(?MODULE, await, Timeout) catch exit:{timeout, _} -> late end,
    ignore.

-spec acting() -> {ok, node()} | {error, coordinator_down}.
acting() ->
    case persistent_term:get(?TERM, []) of
        [Node | _] -> {ok, Node};
        [] -> {error, coordinator_down}
    end.

%% Those that answer, the acting one first.
-spec up() -> [node()].
up() ->
    persistent_term:get(?TERM, []).

-spec all() -> [node()].
all() ->
    gen_server:call(?MODULE, all).

%% gen_server.

-spec init(py_config:config()) -> {ok, #state{}, {continue, connect}}.
init(Config) ->
    ok = net_kernel:monitor_nodes(true),
    Order = order(py_config:is_replica(Config), py_config:coordinators(Config)),
    ok = persistent_term:put(?TERM, []),
    {ok, #state{order = Order, by_node = maps:from_keys(Order, #coordinator{})}, {continue, connect}}.

-spec handle_continue(connect, #state{}) -> {noreply, #state{}}.
handle_continue(connect, #state{order = Order} = State) ->
    {noreply, lists:foldl(fun connect/2, State, Order)}.

-spec handle_call(await | all, gen_server:from(), #state{}) -> {reply, ok | [node()], #state{}} | {noreply, #state{}}.
handle_call(all, _, #state{order = Order} = State) ->
    {reply, Order, State};
handle_call(await, From, #state{waiting = Waiting} = State) ->
    case up() of
        [] -> {noreply, State#state{waiting = [From | Waiting]}};
        _ -> {reply, ok, State}
    end.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({nodeup, Node}, State) ->
    {noreply, connect(Node, State)};
handle_info({retry, Node}, State) ->
    {noreply, connect(Node, State)};
handle_info({py_here, Node, Monitor}, State) ->
    {noreply, here(Node, Monitor, State)};
handle_info({'DOWN', Monitor, process, {py_callback, Node}, _}, State) ->
    {noreply, lost(Node, Monitor, State)};
handle_info({'DOWN', _, process, Connector, Reason}, State) ->
    {noreply, connected(Connector, Reason =:= {connected, true}, State)};
handle_info(_, State) ->
    {noreply, State}.

order(true, Coordinators) -> [node() | lists:delete(node(), Coordinators)];
order(false, Coordinators) -> Coordinators.

%% One coordinator.

connect(Node, #state{by_node = All} = State) ->
    case All of
        #{Node := #coordinator{status = down, connector = undefined} = C} -> begin_connect(Node, C, State);
        _ -> State
    end.

%% To connect may take seconds, when the host does not answer: a helper does it. Its end says how it went.
begin_connect(Node, C, State) when Node =:= node() ->
    ask(Node, C, State);
begin_connect(Node, C, State) ->
    case lists:member(Node, nodes(connected)) of
        true ->
            ask(Node, C, State);
        false ->
            {Pid, _} = spawn_monitor(?MODULE, connector, [Node]),
            set(Node, C#coordinator{connector = Pid}, State)
    end.

-spec connector(node()) -> no_return().
connector(Node) ->
    exit({connected, net_kernel:connect_node(Node)}).

%% Its helper has ended, whatever it met.
connected(Connector, Connected, #state{by_node = All} = State) ->
    case [{Node, C#coordinator{connector = undefined}} || {Node, #coordinator{connector = Pid} = C} <- maps:to_list(All),
            Pid =:= Connector] of
        [{Node, #coordinator{status = down} = C}] when Connected -> ask(Node, C, State);
        [{Node, C}] -> later(Node, C, State);
        [] -> State
    end.

ask(Node, C, State) ->
    Monitor = erlang:monitor(process, {py_callback, Node}),
    _ = erlang:send({py_callback, Node}, {py_hello, self(), Monitor}, [noconnect]),
    set(Node, C#coordinator{status = asking, monitor = Monitor}, State).

here(Node, Monitor, #state{by_node = All} = State) ->
    case All of
        #{Node := #coordinator{status = asking, monitor = Monitor} = C} ->
            Up = published(set(Node, C#coordinator{status = up, failed = 0}, State)),
            _ = whereis(py_functions) =/= undefined andalso (py_functions ! {coordinator_up, Node}),
            _ = [gen_server:reply(From, ok) || From <- Up#state.waiting],
            Up#state{waiting = []};
        _ ->
            State
    end.

lost(Node, Monitor, #state{by_node = All} = State) ->
    case All of
        #{Node := #coordinator{monitor = Monitor} = C} ->
            published(later(Node, C#coordinator{status = down, monitor = undefined}, State));
        _ ->
            State
    end.

later(Node, #coordinator{failed = Failed} = C, State) ->
    Delay = min(?MAX_DELAY_MS, ?FIRST_DELAY_MS bsl min(Failed, 16)),
    _ = erlang:send_after(Delay * 3 div 4 + rand:uniform(Delay div 2), self(), {retry, Node}),
    set(Node, C#coordinator{failed = Failed + 1}, State).

set(Node, C, #state{by_node = All} = State) ->
    State#state{by_node = All#{Node => C}}.

published(#state{order = Order, by_node = All} = State) ->
    Up = [Node || Node <- Order, (maps:get(Node, All))#coordinator.status =:= up],
    _ = Up =/= up() andalso persistent_term:put(?TERM, Up),
    State.
