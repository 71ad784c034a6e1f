%% The process that C-nodes talk to: every C-node whose coordinator this node is sends {py_member, ...} to this name
%% when its connection is up.
%%
%% A member is forgotten when its connection is lost; when it is back it says so again. The message and the
%% `nodedown` of an earlier connection cannot overtake each other: both are signals about the same node, in order.
-module(py_coordinator).
-behaviour(gen_server).

-export([start_link/0]).
-export([members/0]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-record(state, {
    members = #{} :: #{node() => py_proto:info()}
}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% The C-nodes that are connected and have named this node their coordinator, with what they said of themselves.
-spec members() -> #{node() => py_proto:info()}.
members() ->
    gen_server:call(?MODULE, members).

%% gen_server.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    ok = net_kernel:monitor_nodes(true, [{node_type, hidden}]),
    {ok, #state{}}.

-spec handle_call(members, gen_server:from(), #state{}) -> {reply, #{node() => py_proto:info()}, #state{}}.
handle_call(members, _From, #state{members = Members} = State) ->
    {reply, Members, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({nodedown, Node, _}, #state{members = Members} = State) ->
    {noreply, State#state{members = maps:remove(Node, Members)}};
handle_info({nodeup, _, _}, State) ->
    {noreply, State};
handle_info(Message, #state{members = Members} = State) ->
    case py_proto:member(Message) of
        {member, Node, Info} ->
            {noreply, State#state{members = Members#{Node => Info}}};
        {unknown_version, Node, Version} ->
            logger:warning("~ts speaks version ~tp of the protocol, which this node does not", [Node, Version], #{
                domain => [python], py_node => Node
            }),
            {noreply, State};
        other ->
            {noreply, State}
    end.
