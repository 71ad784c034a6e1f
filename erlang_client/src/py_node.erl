%% One process per C-node: connects to it, asks what it is, gives it to py_router while it is usable, and takes it back
%% when it is lost. For a C-node of this host it also keeps the operating system process alive (py_os).
%%
%% States:
%%
%%     down      no connection. Connects now and then; the C-node may also connect by itself. Meanwhile py_os looks whether
%%               there is a process at all.
%%     asking    connected, and asked for its `info`. Whatever else has that name is not taken for a C-node.
%%     preparing what is to run in every interpreter is run in its, before anybody calls it (py_everywhere).
%%     up        usable: there is a link process, and a route to it.
%%     losing    the connection is lost, callers are not told yet: for 50 ms the end of the operating system process
%%               may still be heard of, which makes the better reason. There is no route to it any more.
%%
%% Whether a node is connected is what net_kernel's `nodeup` and `nodedown` say; the VM sends the first before
%% anything of that node and the second after everything. Both may belong to an earlier connection than the one this
%% process thinks of, so in `down` and `asking` they only hasten what would be tried anyway.
%%
%% The operating system process is started again at once when it ends, and with growing delays when it ends again
%% within a second. So a crash loop costs little and never reaches the supervisors: the C-node is down as long as
%% it lasts, and callers are told so.
-module(py_node).
-behaviour(gen_statem).

-export([start_link/1]).
-export([await/2]).

%% gen_statem.
-export([callback_mode/0]).
-export([init/1]).
-export([terminate/3]).

%% States.
-export([down/3]).
-export([asking/3]).
-export([preparing/3]).
-export([up/3]).
-export([losing/3]).

-export_type([what/0]).

-type what() :: {remote, node()} | {local, pos_integer(), py_config:config()}.

-record(data, {
    node :: node(),
    command = none :: none | py_os:command(),
    os :: undefined | pid(),
    %% Whether this process of the operating system ever said that it is ready, and ever was usable.
    ready = false :: boolean(),
    served = false :: boolean(),
    preload = none :: none | file:filename(),
    %% How often in a row the process ended early, or the connection failed.
    ended = 0 :: non_neg_integer(),
    failed = 0 :: non_neg_integer(),
    connector :: undefined | pid(),
    asked :: undefined | reference(),
    %% What it said of itself, and who prepares it.
    info = #{} :: py_proto:info(),
    preparer :: undefined | pid(),
    link :: undefined | pid(),
    %% Who waits for the first success or failure.
    waiting = [] :: [gen_statem:from()]
}).

-type enter_result() :: gen_statem:state_enter_result(down | asking | preparing | up | losing).
-type event_result() :: gen_statem:event_handler_result(down | asking | preparing | up | losing).

-define(INFO_MS, 5000).
-define(EXIT_MS, 50).
-define(STABLE_MS, 1000).
-define(LOCAL_CONNECT_MS, 200).
-define(READY_MS, 50).
-define(FIRST_DELAY_MS, 100).
-define(MAX_DELAY_MS, 5000).

-spec start_link(what()) -> {ok, pid()} | ignore | {error, term()}.
start_link(What) ->
    gen_statem:start_link(?MODULE, What, []).

%% Returns when the C-node is usable, or when the first attempt has failed.
-spec await(pid(), timeout()) -> ok | {error, string()}.
await(Pid, Timeout) ->
    try gen_statem:call(Pid, await, Timeout)
    catch
        exit:{timeout, _} -> {error, "it is not ready in time"};
        exit:{Why, _} -> {error, lists:flatten(io_lib:format("it cannot be started: ~tp", [Why]))}
    end.

%% gen_statem.

-spec callback_mode() -> [state_functions | state_enter].
callback_mode() ->
    [state_functions, state_enter].

-spec init(what()) -> {ok, down, #data{}, [{state_timeout, non_neg_integer(), connect}]} | {stop, term()}.
init(What) ->
    _ = process_flag(trap_exit, true),
    ok = net_kernel:monitor_nodes(true, [{node_type, hidden}]),
    init_node(What).

init_node({remote, Node}) ->
    ok = py_router:add(Node),
    {ok, down, #data{node = Node}};
init_node({local, N, Config}) ->
    case prepare(py_command:local_name(N), Config) of
        {ok, Data} ->
            ok = py_router:add(Data#data.node),
            start_os(Data);
        {error, Why} ->
            {stop, {shutdown, Why}}
    end.

start_os(#data{command = Command} = Data) ->
    case py_os:start_link(Command) of
        {ok, Os} ->
            {ok, down, Data#data{os = Os}};
        {error, Why} ->
            ok = delete_preload(Data),
            {stop, {shutdown, Why}}
    end.

%% What is the same for each start of the program.
prepare(Node, Config) ->
    case py_command:find(Config) of
        {ok, Program} -> prepare(Node, Config, Program, py_command:write_preload(Config));
        {error, _} = Error -> Error
    end.

prepare(Node, Config, Program, {ok, Preload}) ->
    Command = #{
        program => Program,
        arguments => py_command:arguments(Node, Preload, Program, Config),
        environment => py_command:environment(),
        node => Node,
        stop_timeout => maps:get(stop_timeout, Config)
    },
    {ok, #data{node = Node, command = Command, preload = Preload}};
prepare(_, _, _, {error, _} = Error) ->
    Error.

delete_preload(#data{preload = none}) -> ok;
delete_preload(#data{preload = Preload}) -> _ = file:delete(Preload), ok.

%% Nothing of the C-node is left when this process ends in order.
-spec terminate(term(), atom(), #data{}) -> ok.
terminate(_, _, #data{os = Os, node = Node} = Data) ->
    ok = unroute({nodedown, Node}, Data),
    _ = is_pid(Os) andalso py_os:stop(Os),
    delete_preload(Data).

%% down

-spec down(enter, atom(), #data{}) -> enter_result();
    (gen_statem:event_type(), term(), #data{}) -> event_result().
down(enter, _, Data) ->
    {keep_state, Data, connect_later(Data)};
down(state_timeout, connect, #data{connector = undefined} = Data) ->
    {keep_state, Data#data{connector = connect(Data)}};
down(info, {nodeup, Node, _}, #data{node = Node} = Data) ->
    {next_state, asking, Data};
down(info, {connected, Pid, true}, #data{connector = Pid} = Data) ->
    {next_state, asking, Data#data{connector = undefined}};
down(info, {connected, Pid, _}, #data{connector = Pid} = Data) ->
    connect_failed("it cannot be connected to", Data#data{connector = undefined});
down(info, {'EXIT', Pid, _}, #data{connector = Pid} = Data) ->
    connect_failed("it cannot be connected to", Data#data{connector = undefined});
down(info, {py_os, Os, ready}, #data{os = Os} = Data) ->
    {keep_state, Data#data{ready = true}, [{state_timeout, ?READY_MS, connect}]};
down(Type, Event, Data) ->
    common(Type, Event, down, Data).

%% asking

-spec asking(enter, atom(), #data{}) -> enter_result();
    (gen_statem:event_type(), term(), #data{}) -> event_result().
asking(enter, _, #data{node = Node} = Data) ->
    {Asked, _} = py_proto:send_async(Node, py_proto:server(Node), info),
    {keep_state, Data#data{asked = Asked}, [{state_timeout, ?INFO_MS, silent}]};
asking(state_timeout, silent, #data{asked = Asked} = Data) ->
    _ = erlang:demonitor(Asked, [flush]),
    ask_failed("it does not answer", Data);
asking(info, {nodeup, Node, _}, #data{node = Node, asked = Asked} = Data) ->
    _ = erlang:demonitor(Asked, [flush]),
    {repeat_state, Data};
asking(info, {nodedown, Node, _}, #data{node = Node}) ->
    %% If it is this connection, the monitor says so too.
    keep_state_and_data;
asking(info, Message, #data{asked = Asked} = Data) ->
    case py_proto:answer(Asked, Message, other) of
        {result, {ok, #{} = Info}} -> answered(Data#data{asked = undefined, info = Info});
        {result, Other} -> ask_failed(io_lib:format("its answer is ~0tP", [Other, 20]), Data);
        {down, noproc} -> ask_failed("nothing is registered as `py` there", Data);
        {down, _} -> ask_failed("the connection was lost", Data);
        other -> common(info, Message, asking, Data)
    end;
asking(Type, Event, Data) ->
    common(Type, Event, asking, Data).

answered(Data0) ->
    case connected(0, Data0) of
        {ok, Data} -> {next_state, up, Data};
        not_ready -> {next_state, preparing, Data0}
    end.

%% preparing

-spec preparing(enter, atom(), #data{}) -> enter_result();
    (gen_statem:event_type(), term(), #data{}) -> event_result().
preparing(enter, _, Data) ->
    {keep_state, prepare_from(0, Data)};
preparing(info, {prepared, Pid, Last}, #data{preparer = Pid} = Data0) ->
    case connected(Last, Data0#data{preparer = undefined}) of
        {ok, Data} -> {next_state, up, Data};
        not_ready -> {keep_state, prepare_from(Last, Data0)}
    end;
preparing(info, {'EXIT', Pid, _}, #data{preparer = Pid} = Data) ->
    ask_failed("it could not be prepared", Data#data{preparer = undefined});
preparing(info, {nodedown, Node, _}, #data{node = Node} = Data) ->
    ask_failed("the connection was lost", stop_preparer(Data));
preparing(info, {nodeup, Node, _}, #data{node = Node} = Data) ->
    %% A connection that was lost and replaced.
    {next_state, asking, stop_preparer(Data)};
preparing(Type, Event, Data) ->
    common(Type, Event, preparing, Data).

%% There may be one of an operating system process that has ended meanwhile.
prepare_from(Sequence, #data{node = Node} = Data0) ->
    Data = stop_preparer(Data0),
    Self = self(),
    Data#data{preparer = spawn_link(fun() -> Self ! {prepared, self(), py_everywhere:replay(Node, Sequence)} end)}.

%% What it would go on with belongs behind what the next one begins with.
stop_preparer(#data{preparer = Preparer} = Data) ->
    _ = is_pid(Preparer) andalso exit(Preparer, kill),
    Data#data{preparer = undefined}.

%% up

-spec up(enter, atom(), #data{}) -> enter_result();
    (gen_statem:event_type(), term(), #data{}) -> event_result().
up(enter, _, #data{waiting = Waiting} = Data) ->
    Replies = [{reply, From, ok} || From <- Waiting],
    {keep_state, Data#data{waiting = []}, [{state_timeout, ?STABLE_MS, stable} | Replies]};
up(state_timeout, stable, Data) ->
    {keep_state, Data#data{ended = 0}};
up({call, From}, await, _) ->
    {keep_state_and_data, [{reply, From, ok}]};
up(info, {nodedown, Node, _}, #data{node = Node, os = undefined} = Data) ->
    {next_state, down, lost(Data)};
up(info, {nodedown, Node, _}, #data{node = Node} = Data) ->
    {next_state, losing, Data};
up(info, {nodeup, Node, _}, #data{node = Node} = Data) ->
    %% A connection that was lost and replaced.
    {next_state, asking, lost(Data)};
up(info, {'EXIT', Link, _}, #data{link = Link} = Data) ->
    {next_state, asking, lost(Data#data{link = undefined})};
up(Type, Event, Data) ->
    common(Type, Event, up, Data).

%% losing

-spec losing(enter, atom(), #data{}) -> enter_result();
    (gen_statem:event_type(), term(), #data{}) -> event_result().
losing(enter, _, #data{node = Node}) ->
    ok = py_router:down(Node),
    {keep_state_and_data, [{state_timeout, ?EXIT_MS, unknown}]};
losing(state_timeout, unknown, Data) ->
    {next_state, down, lost(Data)};
losing(info, {nodeup, Node, _}, #data{node = Node} = Data) ->
    {next_state, asking, lost(Data)};
losing(Type, Event, Data) ->
    common(Type, Event, losing, Data).

%% What is the same in all states.

common({call, From}, await, _, #data{waiting = Waiting} = Data) ->
    {keep_state, Data#data{waiting = [From | Waiting]}};
common(info, {py_os, Os, ready}, _, #data{os = Os} = Data) ->
    {keep_state, Data#data{ready = true}};
common(info, {py_os, Os, {exited, How, Words}}, _, #data{os = Os} = Data) ->
    exited(How, Words, Data);
common(info, {'EXIT', Os, Why}, _, #data{os = Os} = Data) when Why =/= normal ->
    exited(unknown, [list_to_binary(io_lib:format("~0p", [Why]))], Data);
common({timeout, respawn}, _, State, #data{os = undefined} = Data) ->
    respawn(State, Data);
common(info, {'EXIT', Pid, _}, _, #data{connector = Pid} = Data) ->
    {keep_state, Data#data{connector = undefined}};
common(_, _, _, _) ->
    %% Other nodes, processes that ended as they should, what was meant for a state that is over.
    keep_state_and_data.

%% The connection.

%% Unless something was remembered since, by those who saw this node down.
connected(Last, #data{node = Node, info = Info} = Data) ->
    Link = py_link:start_link(),
    case py_router:up(Node, Link, Info, fun() -> py_everywhere:newest() =< Last end) of
        ok ->
            log(info, "is up", Data),
            {ok, Data#data{link = Link, failed = 0, served = true}};
        not_ready ->
            ok = py_link:stop(Link, {nodedown, Node}),
            not_ready
    end.

%% Its callers are told, if it was up.
lost(#data{node = Node} = Data) ->
    lost({nodedown, Node}, Data).

lost(Reason, #data{link = Link} = Data) ->
    _ = Link =/= undefined andalso log(warning, io_lib:format("is lost: ~0tp", [Reason]), Data),
    ok = unroute(Reason, Data),
    Data#data{link = undefined}.

%% No new calls before those that wait are told. When py_router crashed there is no table to correct, and the
%% supervisor is about to stop this process too.
unroute(Reason, #data{link = Link, node = Node}) ->
    _ = try py_router:down(Node) catch exit:_ -> ok end,
    case Link of
        undefined -> ok;
        _ -> py_link:stop(Link, Reason)
    end.

%% Setting up a connection may take as long as the other host likes.
connect(#data{node = Node}) ->
    Self = self(),
    spawn_link(fun() -> Self ! {connected, self(), net_kernel:connect_node(Node)} end).

%% As long as there is no process on this host, there is nothing to connect to. Whether there is one is looked at each time:
%% it may have taken its time to end after its connection did, and its end is not always told.
connect_later(#data{command = #{}, os = undefined}) ->
    [];
connect_later(#data{command = #{}, os = Os}) ->
    ok = py_os:check(Os),
    [{state_timeout, ?LOCAL_CONNECT_MS, connect}];
connect_later(#data{failed = Failed}) ->
    [{state_timeout, delay(Failed), connect}].

%% A local one is expected to take its time; py_os tells when it ends.
connect_failed(_, #data{command = #{}} = Data) ->
    {keep_state, Data, connect_later(Data)};
connect_failed(Why, Data0) ->
    #data{waiting = Waiting} = Data = failed_once(Why, Data0),
    Replies = [{reply, From, {error, lists:flatten(Why)}} || From <- Waiting],
    {keep_state, Data#data{waiting = []}, connect_later(Data) ++ Replies}.

%% Said once; then it is tried in silence.
failed_once(Why, #data{failed = Failed} = Data) ->
    _ = Failed =:= 0 andalso log(warning, [Why, ", trying on"], Data),
    Data#data{failed = Failed + 1}.

ask_failed(Why, Data0) ->
    #data{waiting = Waiting} = Data = failed_once(Why, Data0#data{asked = undefined}),
    Replies = case Data#data.command of
        none -> [{reply, From, {error, lists:flatten(Why)}} || From <- Waiting];
        _ -> []
    end,
    Left = case Replies of [] -> Waiting; _ -> [] end,
    {next_state, down, Data#data{waiting = Left}, Replies}.

%% The operating system process.

%% Whoever waits for the first start is told why it failed.
exited(How, Words, #data{node = Node, ended = Ended, waiting = Waiting, ready = Ready, served = Served} = Data0) ->
    Reason = py_command:exit_reason(How, Ready orelse Served),
    Why = unicode:characters_to_list(["pynode ", Reason, [[": ", W] || W <- Words]]),
    Data = lost(reason(Node, How), Data0#data{os = undefined}),
    log(error, Why, Data),
    Replies = [{reply, From, {error, Why}} || From <- Waiting],
    Respawn = {{timeout, respawn}, respawn_delay(Data), respawn},
    {next_state, down, Data#data{ended = Ended + 1, ready = false, served = false, waiting = []}, [Respawn | Replies]}.

reason(Node, unknown) -> {nodedown, Node};
reason(Node, {exit_status, 0}) -> {nodedown, Node};
reason(Node, How) -> {node_exited, Node, How}.

%% One that served before it ended is missed more, and worth more tries, than one that never came up.
respawn_delay(#data{served = true, ended = Ended}) -> delay(min(Ended, 2));
respawn_delay(#data{served = false, ended = Ended}) -> delay(Ended).

respawn(State, #data{command = Command} = Data0) ->
    case py_os:start_link(Command) of
        {ok, Os} ->
            Data = Data0#data{os = Os},
            {keep_state, Data, [Action || State =:= down, Action <- connect_later(Data)]};
        {error, Why} ->
            exited(unknown, [unicode:characters_to_binary(io_lib:format("~ts", [Why]))], Data0)
    end.

%% Doubles up to the longest; a quarter of chance on either side keeps many nodes from coming at once.
delay(0) ->
    0;
delay(N) ->
    Delay = min(?MAX_DELAY_MS, ?FIRST_DELAY_MS bsl min(N - 1, 16)),
    Delay * 3 div 4 + rand:uniform(max(1, Delay div 2)).

log(Level, Text, #data{node = Node}) ->
    logger:log(Level, "~ts ~ts", [Node, Text], #{domain => [python], py_node => Node}).
