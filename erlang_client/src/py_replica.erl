%% Keeps this coordinator's copy of the shared state, where state is replicated over several.
%%
%% The copies are a Mnesia table in memory (py_replica_table). At the start this process connects to the other
%% coordinators; when one of them holds the table it takes a copy, else it makes the table. One does that at a time,
%% under a global lock, so that two who start at once do not make two tables.
%%
%% Coordinators that lost sight of each other hold two tables when they meet again, which Mnesia does not join by
%% itself. All compare the two in the same way: the one with the greater epoch wins (its holders went on writing while
%% one was lost, or with one that came back), then the one with more holders, then the one that is held by the first in
%% the list of coordinators. Each holder of the other one throws its copy away and takes a copy of the winner's. Where a
%% write needs a quorum, nothing that was acknowledged is lost by that: the side without one cannot write, its epoch
%% included.
%%
%% To throw a copy away is to restart Mnesia, with a schema in memory. So it is done only where this application has
%% started Mnesia; when somebody else has, an error is logged, and it is for the operator to choose.
%%
%% A restart of this process leaves Mnesia and the copy alone. They end with the application.
-module(py_replica).
-behaviour(gen_server).

-export([start_link/1]).
-export([forget/0]).
%% For other coordinators.
-export([standing/0]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-record(state, {coordinators :: [node(), ...]}).

%% What decides between two tables.
-type standing() :: none | {Epoch :: non_neg_integer(), Holders :: [node(), ...]}.

%% true: Mnesia was started here.
-define(OWNER, {?MODULE, owner}).
-define(STOPPER, py_replica_stopper).
-define(CONNECT_MS, 5000).
-define(ANSWER_MS, 5000).
-define(LOAD_MS, 60000).
-define(LOOK_MS, 500).
-define(CHECK_MS, 5000).
%% After a connection came up Mnesia has this long to do by itself what it can.
-define(SETTLE_MS, 300).

-spec start_link(py_config:config()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Config) ->
    case py_config:is_replica(Config) of
        true ->
            Coordinators = py_config:coordinators(Config),
            gen_server:start_link({local, ?MODULE}, ?MODULE, Coordinators, [{timeout, ?LOAD_MS * 2}]);
        false ->
            ignore
    end.

%% After the application. While it stops no other one can be stopped, so that is left to a process; the next start
%% waits for it.
-spec forget() -> ok.
forget() ->
    case persistent_term:erase(?OWNER) of
        true ->
            Caller = self(),
            Pid = spawn(fun() -> stopper(Caller) end),
            receive {Pid, registered} -> ok end;
        false ->
            ok
    end.

%% With a group leader that is not the application's, whose processes are killed at its end.
stopper(Caller) ->
    true = group_leader(whereis(init), self()),
    true = register(?STOPPER, self()),
    Caller ! {self(), registered},
    _ = mnesia:stop(),
    ok.

-spec standing() -> standing().
standing() ->
    case py_replica_table:holders() of
        [] -> none;
        Holders -> {py_replica_table:epoch(), Holders}
    end.

%% gen_server.

-spec init([node(), ...]) -> {ok, #state{}} | {stop, term()}.
init(Coordinators) ->
    _ = process_flag(trap_exit, true), % Mnesia links its subscribers to itself
    ok = net_kernel:monitor_nodes(true),
    ok = py_replica_table:set_quorum(length(Coordinators)),
    case start_and_join(Coordinators) of
        ok ->
            {ok, check_later(#state{coordinators = Coordinators})};
        {error, Why} ->
            _ = is_owner() andalso persistent_term:erase(?OWNER) andalso mnesia:stop(),
            {stop, {state_replication, Why}}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_, _, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info(check, State) ->
    checked(check(State), check_later(State));
handle_info(check_now, State) ->
    checked(check(State), State);
handle_info({nodeup, _}, State) ->
    _ = erlang:send_after(?SETTLE_MS, self(), check_now),
    {noreply, State};
handle_info({mnesia_system_event, {inconsistent_database, _, _}}, State) ->
    _ = erlang:send_after(?SETTLE_MS, self(), check_now),
    {noreply, State};
handle_info({mnesia_system_event, {mnesia_down, Node}}, #state{coordinators = Coordinators} = State) ->
    %% A process of its own: a transaction may have to wait for others.
    _ = lists:member(Node, Coordinators) andalso spawn(fun py_replica_table:next_epoch/0),
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

checked(ok, State) -> {noreply, State};
checked({error, Why}, State) -> {stop, Why, State}.

check_later(State) ->
    _ = erlang:send_after(?CHECK_MS, self(), check),
    State.

%% To begin with: Mnesia, and the table.

start_and_join(Coordinators) ->
    Others = Coordinators -- [node()],
    ok = connect(Others),
    case start_mnesia() of
        ok ->
            _ = mnesia:subscribe(system),
            Connected = connected(Others),
            global:trans({?MODULE, self()}, fun() -> join(Connected, Coordinators) end, [node() | Connected]);
        {error, _} = Error ->
            Error
    end.

%% All at once: a host that does not answer takes seconds.
connect(Nodes) ->
    Pids = [spawn_monitor(fun() -> net_kernel:connect_node(Node) end) || Node <- Nodes],
    Deadline = erlang:monotonic_time(millisecond) + ?CONNECT_MS,
    lists:foreach(fun({Pid, Monitor}) ->
        receive
            {'DOWN', Monitor, process, Pid, _} -> ok
        after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
            erlang:demonitor(Monitor, [flush])
        end
    end, Pids).

connected(Nodes) ->
    [Node || Node <- Nodes, lists:member(Node, nodes(connected))].

start_mnesia() ->
    ok = await_stopper(),
    case mnesia:system_info(is_running) of
        yes ->
            ok;
        _ ->
            persistent_term:put(?OWNER, true),
            start_own_mnesia()
    end.

await_stopper() ->
    Monitor = erlang:monitor(process, ?STOPPER),
    receive {'DOWN', Monitor, process, _, _} -> ok end.

%% In memory, unless the node's configuration says where on the disk.
start_own_mnesia() ->
    _ = application:load(mnesia),
    _ = case {application:get_env(mnesia, dir), application:get_env(mnesia, schema_location)} of
        {undefined, undefined} -> application:set_env(mnesia, schema_location, ram);
        _ -> configured
    end,
    case application:ensure_all_started(mnesia) of
        {ok, _} -> ok;
        {error, {_, Why}} -> {error, {mnesia, Why}}
    end.

is_owner() ->
    persistent_term:get(?OWNER, false).

%% Under the lock.
join(Connected, Coordinators) ->
    case {standing(), best(Connected, Coordinators)} of
        {none, none} -> make();
        {none, {_, {_, Holders}}} -> grown(copy(Holders));
        {_, _} -> ok
    end.

%% Who joins may make a quorum with others than those that had one before. What they acknowledge from now on must win
%% over the copy of one that was left alone meanwhile, with the epoch of the earlier quorum.
grown(ok) -> py_replica_table:next_epoch();
grown({error, _} = Error) -> Error.

make() ->
    case lists:member(py_replica_table:name(), mnesia:system_info(tables)) orelse py_replica_table:create() of
        true -> load([]);
        {atomic, ok} -> load([]);
        {aborted, Why} -> {error, Why}
    end.

copy(Holders) ->
    case mnesia:change_config(extra_db_nodes, Holders) of
        {ok, [_ | _]} -> add_copy(Holders);
        {ok, []} -> {error, {cannot_join, Holders}};
        {error, Why} -> {error, Why}
    end.

%% Where this node had a copy before, the schema says so, and Mnesia loads it by itself.
add_copy(Holders) ->
    ok = drop_dead(Holders),
    case mnesia:add_table_copy(py_replica_table:name(), node(), ram_copies) of
        {atomic, ok} -> load(Holders);
        {aborted, {already_exists, _, _}} -> load(Holders);
        {aborted, Why} -> {error, Why}
    end.

%% A copy can be added only while all that the schema knows of are there. Those that are not take a new one when they
%% are back.
drop_dead(Holders) ->
    Table = py_replica_table:name(),
    Known = mnesia:table_info(Table, ram_copies),
    lists:foreach(fun(Node) -> _ = mnesia:del_table_copy(Table, Node) end, Known -- [node() | Holders]).

%% Mnesia waits for those that may have a newer copy; when none of them is there any more, what they had is lost.
load(Holders) ->
    load(Holders, erlang:monotonic_time(millisecond) + ?LOAD_MS).

load(Holders, Deadline) ->
    Table = py_replica_table:name(),
    case mnesia:wait_for_tables([Table], ?LOOK_MS) of
        ok ->
            ok;
        {error, Why} ->
            {error, Why};
        {timeout, _} ->
            case [Node || Node <- Holders, lists:member(Node, mnesia:system_info(running_db_nodes))] of
                [] -> forced(mnesia:force_load_table(Table));
                [_ | _] -> load_on(Holders, Deadline)
            end
    end.

load_on(Holders, Deadline) ->
    case erlang:monotonic_time(millisecond) < Deadline of
        true -> load(Holders, Deadline);
        false -> {error, table_not_loaded}
    end.

forced(yes) -> ok;
forced(Why) -> {error, Why}.

%% Later: is there a table that is better than ours?

check(#state{coordinators = Coordinators}) ->
    case standing() of
        none ->
            {error, no_table};
        {_, Holders} = Ours ->
            Strangers = connected(Coordinators -- Holders),
            case best(Strangers, Coordinators) of
                none -> ok;
                {Rank, Theirs} -> choose(Rank > rank(Ours, Coordinators), Theirs, Coordinators)
            end
    end.

%% The best table that one of those nodes holds and this one does not.
best(Nodes, Coordinators) ->
    Standings = [Standing || Node <- Nodes, {_, Holders} = Standing <- [standing_of(Node)], not lists:member(node(), Holders)],
    case Standings of
        [] -> none;
        _ -> lists:max([{rank(Standing, Coordinators), Standing} || Standing <- Standings])
    end.

-spec standing_of(node()) -> standing().
standing_of(Node) ->
    try erpc:call(Node, ?MODULE, standing, [], ?ANSWER_MS)
    catch _:_ -> none
    end.

rank({Epoch, Holders}, Coordinators) ->
    Before = lists:takewhile(fun(Node) -> not lists:member(Node, Holders) end, Coordinators),
    {Epoch, length(Holders), -length(Before)}.

choose(false, _, _) ->
    ok; % that one's holders will come to us
choose(true, {_, Holders}, Coordinators) ->
    case is_owner() of
        true ->
            log(warning, "the state of ~tp replaces this node's: they could not reach each other", [Holders]),
            stopped = mnesia:stop(),
            start_and_join(Coordinators);
        false ->
            log(error, "this node and ~tp hold different states. Mnesia was not started by this application, so "
                       "nothing is done: restart it on one of them", [Holders])
    end.

log(Level, Format, Args) ->
    logger:log(Level, "state replication: " ++ Format, Args, #{domain => [python]}).
