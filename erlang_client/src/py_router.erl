%% Knows the C-nodes of this Erlang node and chooses one for each call.
%%
%% The table of routes is a persistent term, because it is read by every call and changes only when a C-node comes
%% or goes. This process is its only writer. A reader may act on a table that has just been replaced: then it finds
%% the link process dead, and the caller gets the reason a moment later, as if the node had gone during the call.
%%
%% With exactly one usable node there is nothing to choose and nothing to count. With several, a call goes to the less
%% loaded of two, by the calls that this Erlang node has in flight there. A caller that is killed cannot take its
%% call off the counter; the truth, the number of monitors on the link process, which the VM keeps, is copied over the
%% counters now and then.
%%
%% A pool is a name for some of the C-nodes; a call that asks for it goes to one of them.
%%
%% Where definitions live: once a process did an exec, its exec, eval and calls of `__main__` go to the C-node that
%% ran it (the interpreter there is the C-node's matter). A call of `__main__` by a process that defined nothing goes
%% where the last exec of this Erlang node went.
-module(py_router).
-behaviour(gen_server).

%% Used by the supervision tree.
-export([start_link/1]).
-export([forget/0]).
-export([add/1]).
-export([up/4]).
-export([down/1]).

%% Used by callers.
-export([pick/2]).
-export([pick/3]).
-export([is_wanted/2]).
-export([up_nodes/0]).
-export([up_nodes_now/0]).
-export([known_nodes/0]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-include("py_router.hrl").

-export_type([kind/0, target/0, wanted/0]).

%% any: a module's function. exec, eval: code in `__main__`. main: a call of a function of `__main__`.
-type kind() :: any | exec | eval | main.
-type target() :: #target{}.
%% What the caller insists on.
-type wanted() :: any | node() | {pool, atom()}.

-record(routes, {
    %% The one node that there is, when it is up: nothing to choose.
    only = none :: none | target(),
    all = #{} :: #{node() => target() | down},
    up = {} :: tuple(),
    pools = #{} :: #{atom() => [node()]},
    load :: atomics:atomics_ref()
}).

-record(state, {
    routes :: #routes{},
    %% A node keeps its slot when it goes: there are as many as there were ever names in the configuration.
    slots = #{} :: #{node() => pos_integer()}
}).

-define(ROUTES, ?MODULE).
-define(RECOUNT_MS, 5000).
-define(PIN, '$py_node').
-define(CHAIN, '$py_chain').

%% The counters: one that goes up with each choice, the slot of the node of the last exec, then one per node.
-define(TICK, 1).
-define(LAST_EXEC, 2).
-define(FIRST_SLOT, 3).
-define(COUNTERS, 1024).

%% For the supervision tree.

-spec start_link(py_config:config()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Config) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Config, []).

%% After the application: no routes, as before its start.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?ROUTES),
    ok.

%% A node that is configured, but not connected yet.
-spec add(node()) -> ok.
add(Node) ->
    gen_server:call(?MODULE, {set, Node, down}, infinity).

%% IsReady is asked here: what it depends on, and up_nodes_now, come before or after, and not in between.
-spec up(node(), pid(), py_proto:info(), fun(() -> boolean())) -> ok | not_ready.
up(Node, Link, Info, IsReady) ->
    gen_server:call(?MODULE, {up, Node, {Link, Info}, IsReady}, infinity).

-spec down(node()) -> ok.
down(Node) ->
    gen_server:call(?MODULE, {set, Node, down}, infinity).

%% For callers.

%% The node for a call of that kind.
-spec pick(kind(), wanted()) -> target() | {error, no_nodes | {nodedown, node()} | {no_pool, atom()}}.
pick(Kind, Wanted) ->
    case persistent_term:get(?ROUTES, none) of
        #routes{only = #target{} = Target} = Routes when Wanted =:= any -> picked(Kind, Target, Routes);
        #routes{} = Routes -> picked(Kind, choose(Kind, Wanted, Routes), Routes);
        none -> {error, no_nodes}
    end.

%% One that is none of these.
-spec pick(kind(), wanted(), [node()]) -> target() | {error, no_nodes | {nodedown, node()} | {no_pool, atom()}}.
pick(Kind, Wanted, []) ->
    pick(Kind, Wanted);
pick(Kind, Wanted, Except) ->
    case persistent_term:get(?ROUTES, none) of
        #routes{} = Routes -> picked(Kind, choose(Kind, Wanted, without(Except, Routes)), Routes);
        none -> {error, no_nodes}
    end.

without(Except, #routes{all = All, up = Up} = Routes) ->
    Routes#routes{
        all = maps:map(fun(Node, Entry) -> case lists:member(Node, Except) of true -> down; false -> Entry end end, All),
        up = list_to_tuple([T || #target{node = Node} = T <- tuple_to_list(Up), not lists:member(Node, Except)])
    }.

%% Whether that node is one that the caller wants.
-spec is_wanted(node(), wanted()) -> boolean().
is_wanted(_, any) -> true;
is_wanted(Node, {pool, Pool}) -> lists:member(Node, pool(Pool, persistent_term:get(?ROUTES, none)));
is_wanted(Node, Wanted) -> Node =:= Wanted.

pool(Name, #routes{pools = Pools}) -> maps:get(Name, Pools, []);
pool(_, none) -> [].

-spec up_nodes() -> [target()].
up_nodes() ->
    case persistent_term:get(?ROUTES, none) of
        #routes{up = Up} -> tuple_to_list(Up);
        none -> []
    end.

%% For who has just said what nodes have to wait for: a node is among these, or its IsReady, asked later, sees that.
-spec up_nodes_now() -> [target()].
up_nodes_now() ->
    try gen_server:call(?MODULE, up_nodes, infinity) catch exit:_ -> [] end.

-spec known_nodes() -> [node()].
known_nodes() ->
    case persistent_term:get(?ROUTES, none) of
        #routes{all = All} -> maps:keys(All);
        none -> []
    end.

%% The pin is kept also while there is one node only: another may come.
picked(exec, #target{node = Node, slot = Slot} = Target, #routes{load = Load}) ->
    _ = put(?PIN, Node),
    ok = atomics:put(Load, ?LAST_EXEC, Slot),
    Target;
picked(_, Result, _) ->
    Result.

choose(Kind, {pool, Pool}, #routes{pools = Pools} = Routes) ->
    case Pools of
        #{Pool := Nodes} -> choose(Kind, any, only_these(Nodes, Routes));
        _ -> {error, {no_pool, Pool}}
    end;
choose(Kind, any, Routes) ->
    case pinned(Kind) of
        none -> least_loaded(Routes);
        last_exec -> last_exec(Routes);
        Node -> choose_pinned(Kind, Node, Routes)
    end;
choose(_, Node, Routes) ->
    usable(Node, Routes).

%% As if there were no others. A process that has its definitions elsewhere has none here.
only_these(Nodes, #routes{all = All, up = Up} = Routes) ->
    Routes#routes{
        all = maps:with(Nodes, All),
        up = list_to_tuple([T || #target{node = Node} = T <- tuple_to_list(Up), lists:member(Node, Nodes)])
    }.

%% What a callback calls goes to the node that waits for the callback, whatever it is.
pinned(Kind) ->
    case {get(?PIN), Kind} of
        {undefined, main} -> last_exec;
        {undefined, _} -> none;
        {Node, any} -> case get(?CHAIN) of undefined -> none; _ -> Node end;
        {Node, _} -> Node
    end.

%% The definitions of this process are lost with their node. An exec makes new ones, so it may go elsewhere; anything
%% else would get a NameError there that explains nothing.
choose_pinned(_, Node, #routes{all = All} = Routes) when not is_map_key(Node, All) ->
    least_loaded(Routes);
choose_pinned(exec, Node, Routes) ->
    case usable(Node, Routes) of
        #target{} = Target -> Target;
        _ -> least_loaded(Routes)
    end;
choose_pinned(_, Node, Routes) ->
    usable(Node, Routes).

usable(Node, #routes{all = All}) ->
    case All of
        #{Node := #target{} = Target} -> Target;
        _ -> {error, {nodedown, Node}}
    end.

%% When that node has gone, another may still have the function, from preload code.
last_exec(#routes{up = Up, load = Load} = Routes) ->
    case lists:keyfind(atomics:get(Load, ?LAST_EXEC), #target.slot, tuple_to_list(Up)) of
        #target{} = Target -> Target;
        false -> least_loaded(Routes)
    end.

%% Two different ones, spread by a hash of a number that every choice gets for its own: `rand` would leave its state
%% in the process dictionary of the caller. Where none of several is up, no name would say what is wrong.
least_loaded(#routes{up = {}, all = All}) ->
    case maps:keys(All) of
        [Node] -> {error, {nodedown, Node}};
        _ -> {error, no_nodes}
    end;
least_loaded(#routes{up = {Target}}) ->
    Target;
least_loaded(#routes{up = Up, load = Load}) ->
    N = tuple_size(Up),
    Tick = atomics:add_get(Load, ?TICK, 1),
    First = erlang:phash2(Tick, N),
    Second = (First + 1 + erlang:phash2({Tick}, N - 1)) rem N,
    less_loaded(element(First + 1, Up), element(Second + 1, Up), Load).

less_loaded(#target{slot = A} = TargetA, #target{slot = B} = TargetB, Load) ->
    case atomics:get(Load, A) =< atomics:get(Load, B) of
        true -> TargetA;
        false -> TargetB
    end.

%% gen_server.

-spec init(py_config:config()) -> {ok, #state{}}.
init(Config) ->
    Routes = #routes{load = atomics:new(?COUNTERS, []), pools = pools(Config)},
    ok = persistent_term:put(?ROUTES, Routes),
    _ = erlang:send_after(?RECOUNT_MS, self(), recount),
    {ok, #state{routes = Routes}}.

-type set() :: {set, node(), down} | {up, node(), {pid(), py_proto:info()}, fun(() -> boolean())}.

-spec handle_call(set() | up_nodes, gen_server:from(), #state{}) -> {reply, ok | not_ready | [target()], #state{}}.
handle_call({up, Node, What, IsReady}, _From, State) ->
    case IsReady() of
        true -> {reply, ok, set(Node, What, State)};
        false -> {reply, not_ready, State}
    end;
handle_call({set, Node, down}, _From, State) ->
    {reply, ok, set(Node, down, State)};
handle_call(up_nodes, _From, State) ->
    {reply, up_nodes(), State}.

set(Node, What, State0) ->
    {Slot, State} = slot(Node, State0),
    State#state{routes = publish(Node, entry(Node, Slot, What), State#state.routes)}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(recount, #state{routes = Routes} = State) ->
    ok = recount(Routes),
    _ = erlang:send_after(?RECOUNT_MS, self(), recount),
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

%% `local` in a pool is what this node starts itself.
pools(#{nodes := Nodes, pools := Pools}) ->
    Local = [py_command:local_name(N) || N <- lists:seq(1, length([local || local <- Nodes]))],
    maps:map(fun(_, Members) -> lists:append([members(Member, Local) || Member <- Members]) end, Pools);
pools(_) ->
    #{}.

members(local, Local) -> Local;
members(Node, _) -> [Node].

entry(_, _, down) -> down;
entry(Node, Slot, {Link, Info}) -> #target{node = Node, link = Link, slot = Slot, info = Info}.

%% Past the last counter, nodes share the last one: calls still work, only their balance suffers.
slot(Node, #state{slots = Slots} = State) ->
    case Slots of
        #{Node := Slot} -> {Slot, State};
        _ ->
            Slot = min(?FIRST_SLOT + map_size(Slots), ?COUNTERS),
            {Slot, State#state{slots = Slots#{Node => Slot}}}
    end.

publish(Node, Entry, #routes{all = Old, load = Load} = Before) ->
    Plain = Old#{Node => Entry},
    All = case length([T || #target{} = T <- maps:values(Plain)]) of
        1 -> maps:map(fun(_, E) -> counting(E, none) end, Plain);
        _ -> maps:map(fun(_, E) -> counting(E, Load) end, Plain)
    end,
    Up = list_to_tuple([T || #target{} = T <- maps:values(All)]),
    Routes = Before#routes{only = only(maps:values(All)), all = All, up = Up},
    ok = persistent_term:put(?ROUTES, Routes),
    Routes.

only([#target{} = Target]) -> Target;
only(_) -> none.

counting(down, _) -> down;
counting(Target, Load) -> Target#target{load = Load}.

%% Calls that begin or end while the monitors are counted make the counter wrong by a few until the next time.
recount(#routes{up = Up, load = Load}) when tuple_size(Up) > 1 ->
    lists:foreach(fun(#target{link = Link, slot = Slot}) ->
        case erlang:process_info(Link, monitored_by) of
            {monitored_by, Callers} -> atomics:put(Load, Slot, length(Callers));
            undefined -> ok
        end
    end, tuple_to_list(Up));
recount(_) ->
    ok.
