%% The registry of functions that Python can call, and the start and end of each callback. Every node runs it; C-nodes
%% use the one of their coordinator.
%%
%% From C-nodes (the other side is cnode/svc/rpc.h):
%%
%%     {py_rpc, Id, Pid, Chain, Timeout, {Name, Args}}   answered {py_reply, Id, {ok, Value} | {error, Reason}} to Pid,
%%                                                       by the process of the callback itself (py_callee)
%%     {py_rpc_cancel, Id, Pid}                          nobody waits any more: that process is killed
%%     {py_send, To, Term}                               a message for somebody whom the C-node has no link to
%%
%% From nodes that register functions (py_functions): {py_register, Node, Pid, Entries} and {py_unregister, Name}, by
%% gen_server:call; the first is answered ok, or {newer, Stamp} when a name is registered with a later stamp. From
%% py_coordinators: {py_hello, Pid, Ref}, answered {py_here, Node, Ref}.
%%
%% A callback ends by its answer, when its time is over, when the C-node cancels it, or when the C-node is gone. It is
%% linked to nothing here.
%%
%% At most `max_callbacks` run at once; the others wait for their turn in the order of their arrival. That alone could
%% be a deadlock: all that run may wait for Python, which waits for callbacks that wait for their turn. So callbacks of
%% calls that a callback made do not count (their number is bounded by the depth of nesting), and if nothing begins or
%% ends for a second while somebody waits, the first one begins anyway.
%%
%% The registry is a table of the supervisor's, a crash of this process loses nothing of it. Of a node that is gone it
%% keeps the names, to say so.
-module(py_callback).
-behaviour(gen_server).

-export([create/0]).
-export([start_link/1]).
-export([functions/0]).

%% The process that sends messages.
-export([sender/0]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-type key() :: {pid(), integer()}.

%% A row of the registry.
-record(function, {
    name :: binary() | '_' | '$1',
    stamp :: py_functions:stamp() | '_',
    where :: py_callee:where() | gone | '_' | '$2',
    node :: node() | '_',
    owner :: pid() | '_'
}).

-record(run, {
    pid :: pid(),
    where :: py_callee:where(),
    timer :: none | reference(),
    counted :: boolean()
}).

-record(state, {
    max :: pos_integer(),
    running = #{} :: #{key() => #run{}},
    %% Of those that run, how many count.
    counted = 0 :: non_neg_integer(),
    waiting = queue:new() :: queue:queue(key()),
    %% A key in the queue that is not here was cancelled.
    calls = #{} :: #{key() => py_callee:call()},
    %% While somebody waits: whether nothing began or ended since the last tick.
    tick :: undefined | reference(),
    quiet = false :: boolean(),
    owners = #{} :: #{pid() => reference()},
    senders = #{} :: #{node() => pid()}
}).

-define(TABLE, ?MODULE).
-define(TICK_MS, 1000).
-define(IDLE_MS, 100).
-define(LATE_MS, 200).
-define(GRACE_MS, 500).
-define(GONE_MAX, 10000).

%% The table belongs to the supervisor.
-spec create() -> ok.
create() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, set, {keypos, #function.name}, {read_concurrency, true}]),
    ok.

-spec start_link(py_config:config()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Config) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Config, []).

%% The names that are registered with this node, and the nodes that run them.
-spec functions() -> #{binary() => node()}.
functions() ->
    maps:from_list([{Name, Node} || #function{name = Name, where = Where, node = Node} <- ets:tab2list(?TABLE),
        Where =/= gone]).

%% gen_server.

-spec init(py_config:config()) -> {ok, #state{}}.
init(#{max_callbacks := Max}) ->
    ok = net_kernel:monitor_nodes(true, [{node_type, hidden}]),
    Owners = lists:usort([Owner || #function{owner = Owner, where = Where} <- ets:tab2list(?TABLE), Where =/= gone]),
    {ok, lists:foldl(fun watch/2, #state{max = Max}, Owners)}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, ok | {newer, py_functions:stamp()}, #state{}}.
handle_call({py_register, Node, Owner, Entries}, _From, State) ->
    ok = forget_gone(Node),
    Results = [enter(Node, Owner, Entry) || Entry <- Entries],
    {reply, newest([Stamp || {newer, Stamp} <- Results]), watch(Owner, State)};
handle_call({py_unregister, Name}, _From, State) ->
    ok = lists:foreach(fun tell_owner/1, ets:take(?TABLE, Name)),
    {reply, ok, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({py_rpc, Id, To, Chain, Timeout, {Name, Args}}, State) when is_pid(To), is_binary(Name), is_list(Args) ->
    Call = #{id => Id, to => To, chain => Chain, timeout => Timeout, name => Name, args => Args},
    {noreply, arrived({To, Id}, Call, State)};
handle_info({{ended, Key}, _, process, _, Reason}, State) ->
    {noreply, next(ended(Key, Reason, State))};
handle_info({timeout, Timer, {too_late, Key}}, State) ->
    {noreply, next(too_late(Key, Timer, State))};
handle_info({py_rpc_cancel, Id, To}, State) ->
    {noreply, next(stopped({To, Id}, State))};
handle_info({py_send, To, Term}, State) ->
    {noreply, send(To, Term, State)};
handle_info({timeout, Tick, tick}, #state{tick = Tick} = State) ->
    {noreply, tick(State#state{tick = undefined})};
handle_info({nodedown, Node, _}, State) ->
    {noreply, next(node_gone(Node, State))};
handle_info({'DOWN', _, process, Pid, Reason}, State) ->
    {noreply, down(Pid, Reason, State)};
handle_info({owner_gone, Owner}, State) ->
    ok = mark_gone(Owner),
    {noreply, State};
handle_info({py_hello, Pid, Ref}, State) ->
    ok = send_reply(Pid, {py_here, node(), Ref}),
    {noreply, State};
handle_info({py_rpc, Id, To, _, _, Other}, State) when is_pid(To) ->
    ok = py_callee:answer(To, Id, {error, py_callee:failure({bad_request, Other})}),
    {noreply, State};
handle_info(_, State) ->
    {noreply, State}.

%% The life of a callback.

arrived(Key, Call, #state{max = Max, counted = Counted} = State) ->
    case is_nested(Call) orelse (Counted < Max andalso queue:is_empty(State#state.waiting)) of
        true -> begin_call(Key, Call, State);
        false -> wait(Key, Call, State)
    end.

is_nested(#{chain := Chain}) when tuple_size(Chain) >= 3, is_integer(element(3, Chain)) -> element(3, Chain) > 0;
is_nested(_) -> false.

begin_call(Key, #{name := Name} = Call, State) ->
    case where(Name) of
        {error, Why} -> refuse(Call, Why), State;
        Where -> start(Key, Where, Call, State)
    end.

where(Name) ->
    case ets:lookup(?TABLE, Name) of
        [#function{where = gone, node = Node}] -> {error, {gone, Name, Node}};
        [#function{where = Where}] -> Where;
        [] -> {error, {not_registered, Name}}
    end.

start(Key, Where, #{timeout := Timeout} = Call, #state{running = Running, counted = Counted} = State) ->
    Pid = py_callee:start(Where, Call, {ended, Key}),
    Run = #run{pid = Pid, where = Where, timer = timer(Timeout, Key), counted = not is_nested(Call)},
    State#state{running = Running#{Key => Run}, counted = Counted + count(Run), quiet = false}.

%% The C-node ends the call by itself and cancels its callbacks; this is for a C-node that cannot.
timer(infinity, _) -> none;
timer(Timeout, Key) -> erlang:start_timer(max(0, Timeout) + ?LATE_MS, self(), {too_late, Key}).

count(#run{counted = true}) -> 1;
count(#run{counted = false}) -> 0.

%% What has not answered is answered here, unless nobody waits.
ended(Key, Reason, State0) ->
    case take(Key, State0) of
        {_, State} when Reason =:= normal -> State;
        {_, State} -> answer_for(Key, Reason), State;
        none -> State0
    end.

answer_for({To, _}, {py_answer, Reply}) ->
    send_reply(To, Reply);
answer_for({To, Id}, Reason) ->
    send_reply(To, {py_reply, Id, {error, py_callee:failure(Reason)}}).

refuse(#{id := Id, to := To}, Why) ->
    send_reply(To, {py_reply, Id, {error, py_callee:failure(Why)}}).

%% A node that does not read must not hold up the others.
send_reply(To, Reply) ->
    _ = py_proto:send_or_spawn(To, Reply),
    ok.

take(Key, #state{running = Running, counted = Counted} = State) ->
    case maps:take(Key, Running) of
        {#run{timer = Timer} = Run, Rest} ->
            _ = Timer =/= none andalso erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
            {Run, State#state{running = Rest, counted = Counted - count(Run), quiet = false}};
        error ->
            none
    end.

too_late(Key, Timer, #state{running = Running} = State) ->
    case Running of
        #{Key := #run{timer = Timer}} -> answer_for(Key, timeout), stopped(Key, State);
        _ -> State
    end.

stopped(Key, #state{calls = Calls} = State0) ->
    case take(Key, State0) of
        {#run{where = Where, pid = Pid}, State} -> py_callee:stop(Where, Pid), State;
        none -> State0#state{calls = maps:remove(Key, Calls)}
    end.

%% A C-node is gone, and with it all who waited for an answer.
node_gone(Node, #state{running = Running, calls = Calls} = State) ->
    Keys = [Key || {To, _} = Key <- maps:keys(Running) ++ maps:keys(Calls), node(To) =:= Node],
    lists:foldl(fun stopped/2, State, Keys).

%% Those that wait for their turn. Their time runs meanwhile.

wait(Key, Call, #state{waiting = Waiting, calls = Calls} = State) ->
    Since = erlang:monotonic_time(millisecond),
    tick_later(State#state{waiting = queue:in(Key, Waiting), calls = Calls#{Key => Call#{since => Since}}}).

next(#state{counted = Counted, max = Max} = State) when Counted >= Max -> State;
next(State) -> next_one(State).

next_one(#state{waiting = Waiting, calls = Calls} = State) ->
    case queue:out(Waiting) of
        {empty, _} -> State;
        {{value, Key}, Rest} ->
            case maps:take(Key, Calls) of
                {Call, Others} -> next(begin_late(Key, Call, State#state{waiting = Rest, calls = Others}));
                error -> next(State#state{waiting = Rest})
            end
    end.

begin_late(Key, #{timeout := infinity} = Call, State) ->
    begin_call(Key, Call, State);
begin_late(Key, #{timeout := Timeout, since := Since} = Call, State) ->
    case Timeout - (erlang:monotonic_time(millisecond) - Since) of
        Left when Left > 0 -> begin_call(Key, Call#{timeout := Left}, State);
        _ -> refuse(Call, timeout), State
    end.

tick_later(#state{tick = undefined} = State) ->
    State#state{tick = erlang:start_timer(?TICK_MS, self(), tick), quiet = true};
tick_later(State) ->
    State.

tick(#state{calls = Calls} = State) when map_size(Calls) =:= 0 -> State#state{waiting = queue:new()};
tick(#state{quiet = true} = State) -> tick_later(next_one(State));
tick(State) -> tick_later(State).

%% The registry.

%% An entry that is older than what is registered comes from a node whose function was replaced.
enter(Node, Owner, {Name, Stamp, Where}) ->
    Row = #function{name = Name, stamp = Stamp, where = Where, node = Node, owner = Owner},
    case ets:lookup(?TABLE, Name) of
        [#function{where = Other, stamp = Newer}] when Other =/= gone, Newer > Stamp ->
            ok = tell_owner(Row),
            {newer, Newer};
        Before ->
            true = ets:insert(?TABLE, Row),
            lists:foreach(fun tell_owner/1, [Old || #function{node = N} = Old <- Before, N =/= Node])
    end.

newest([]) -> ok;
newest(Stamps) -> {newer, lists:max(Stamps)}.

%% It need not keep a function that nobody calls any more.
tell_owner(#function{where = gone}) ->
    ok;
tell_owner(#function{name = Name, stamp = Stamp, owner = Owner}) ->
    send_reply(Owner, {'$gen_cast', {forget, Name, Stamp}}).

watch(Owner, #state{owners = Owners} = State) ->
    case Owners of
        #{Owner := _} -> State;
        _ -> State#state{owners = Owners#{Owner => erlang:monitor(process, Owner)}}
    end.

%% An owner that crashed is back in a moment, and then its functions have a new owner.
down(Owner, Reason, #state{owners = Owners, senders = Senders} = State) ->
    case Owners of
        #{Owner := _} when Reason =:= noconnection -> ok = mark_gone(Owner);
        #{Owner := _} -> _ = erlang:send_after(?GRACE_MS, self(), {owner_gone, Owner}), ok;
        _ -> ok
    end,
    Left = maps:filter(fun(_, Sender) -> Sender =/= Owner end, Senders),
    State#state{owners = maps:remove(Owner, Owners), senders = Left}.

mark_gone(Owner) ->
    Rows = ets:match_object(?TABLE, #function{owner = Owner, _ = '_'}),
    Room = ets:info(?TABLE, size) =< ?GONE_MAX,
    lists:foreach(fun(#function{name = Name} = Row) ->
        case Room of
            true -> ets:insert(?TABLE, Row#function{where = gone});
            false -> ets:delete(?TABLE, Name)
        end
    end, Rows).

forget_gone(Node) ->
    true = ets:match_delete(?TABLE, #function{node = Node, where = gone, _ = '_'}),
    ok.

%% Messages. One process for each other node, so that one that is slow or hard to reach delays nobody else.

send(To, Term, State) when is_pid(To), node(To) =:= node() ->
    To ! Term,
    State;
send({Name, Node}, Term, State) when is_atom(Name), Node =:= node() ->
    send(Name, Term, State);
send(Name, Term, State) when is_atom(Name) ->
    _ = try Name ! Term catch error:badarg -> nobody end,
    State;
send(To, Term, State) when is_pid(To) ->
    send_there(node(To), To, Term, State);
send({Name, Node} = To, Term, State) when is_atom(Name), is_atom(Node) ->
    send_there(Node, To, Term, State);
send(_, _, State) ->
    State.

send_there(Node, To, Term, #state{senders = Senders} = State) ->
    case Senders of
        #{Node := Sender} ->
            Sender ! {send, To, Term},
            State;
        _ ->
            {Sender, _} = spawn_monitor(?MODULE, sender, []),
            Sender ! {send, To, Term},
            State#state{senders = Senders#{Node => Sender}}
    end.

%% It hibernates when there is nothing to do: as in py_link.
-spec sender() -> no_return().
sender() ->
    receive
        {send, To, Term} ->
            To ! Term,
            ?MODULE:sender()
    after ?IDLE_MS ->
        erlang:hibernate(?MODULE, sender, [])
    end.
