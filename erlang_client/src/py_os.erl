%% Owns the operating system process of one pynode.
%%
%% Its standard input is a pipe that nobody writes to: when this Erlang node dies, in whatever way, the pipe is closed
%% and pynode ends. Its output comes as lines; those that pynode wrote, `TIME level area text`, go to logger with
%% their level, everything else (a library that writes to the descriptor itself, the last words of a crash) as a
%% notice.
%%
%% The VM tells of the end only when all of the output was read, which is as long as a process that pynode has started keeps
%% it open. So whoever has reason to think that pynode has gone asks for a look (check/1).
%%
%% The process that started it gets {py_os, Pid, ready} when pynode says so, and {py_os, Pid, {exited, How, Words}} with
%% its last lines when it ended; then this process ends as well.
-module(py_os).
-behaviour(gen_server).

-export([start_link/1]).
-export([check/1]).
-export([stop/1]).
-export([output/2]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-export_type([command/0, exit/0]).

-type command() :: #{
    program := file:filename(),
    arguments := [string()],
    environment := [{string(), string()}],
    node := node(),
    stop_timeout := timeout()
}.
%% `unknown`: it has gone, but a process that it started keeps its output open, so the VM does not say how.
-type exit() :: {signal, pos_integer()} | {exit_status, non_neg_integer()} | unknown.

-record(state, {
    owner :: pid(),
    port :: port(),
    os_pid :: undefined | non_neg_integer(),
    %% What tells it from a later process of that number.
    born = unknown :: unknown | binary(),
    node :: node(),
    stop_timeout :: timeout(),
    %% The beginning of a line that is longer than the port gives at once, newest part first.
    partial = [] :: [binary()],
    last = [] :: [binary()],
    dropped = 0 :: non_neg_integer()
}).

-define(LINE_BYTES, 8192).
-define(MAX_PARTS, 8).
-define(LAST_LINES, 3).
%% More waiting than this means that lines come faster than logger takes them.
-define(FLOOD, 1000).
-define(KILL_MS, 2000).
-define(POLL_MS, 100).
%% How long the VM may take to tell how a process ended that is seen to have gone.
-define(TOLD_MS, 200).
-define(LEVELS, [
    {<<"debug">>, debug},
    {<<"info">>, info},
    {<<"notice">>, notice},
    {<<"warning">>, warning},
    {<<"error">>, error}
]).

-spec start_link(command()) -> {ok, pid()} | {error, term()}.
start_link(Command) ->
    case gen_server:start_link(?MODULE, {self(), Command}, []) of
        {error, {shutdown, Why}} -> {error, Why};
        {error, Why} -> {error, Why};
        {ok, Pid} -> {ok, Pid}
    end.

%% Looks whether the process is still there, for when there is no connection and nothing was heard of its end. When it has
%% gone, that is told a moment later, unless the VM tells how it ended.
-spec check(pid()) -> ok.
check(Pid) ->
    gen_server:cast(Pid, check).

%% Asks pynode to drain and end, and kills it when it has not ended in stop_timeout. Returns when it is gone. The caller
%% is no longer linked afterwards and gets no message.
-spec stop(pid()) -> ok.
stop(Pid) ->
    unlink(Pid),
    try gen_server:stop(Pid, shutdown, infinity) catch exit:_ -> ok end,
    flush(Pid).

flush(Pid) ->
    receive
        {'EXIT', Pid, _} -> flush(Pid);
        {py_os, Pid, _} -> flush(Pid)
    after 0 -> ok
    end.

%% Runs the program to its end and gives what it wrote, for its `--version`.
-spec output(file:filename(), [string()]) -> {ok, binary()} | {error, term()}.
output(Program, Arguments) ->
    try erlang:open_port({spawn_executable, Program}, [
        {args, Arguments}, binary, exit_status, stderr_to_stdout, in, hide
    ]) of
        Port -> collect(Port, [], erlang:start_timer(10000, self(), Port))
    catch
        error:Why -> {error, Why}
    end.

collect(Port, Output, Timer) ->
    receive
        {Port, {data, Data}} ->
            collect(Port, [Output, Data], Timer);
        {Port, {exit_status, 0}} ->
            _ = erlang:cancel_timer(Timer),
            {ok, iolist_to_binary(Output)};
        {Port, {exit_status, Status}} ->
            _ = erlang:cancel_timer(Timer),
            {error, {exit_status, Status}};
        {timeout, Timer, Port} ->
            close(Port),
            {error, timeout}
    end.

%% gen_server.

-spec init({pid(), command()}) -> {ok, #state{}} | {stop, {shutdown, string()}}.
init({Owner, #{program := Program, node := Node, stop_timeout := StopTimeout} = Command}) ->
    _ = process_flag(trap_exit, true),
    try open(Command) of
        Port ->
            State = #state{owner = Owner, port = Port, node = Node, stop_timeout = StopTimeout},
            OsPid = os_pid(Port),
            {ok, State#state{os_pid = OsPid, born = born(OsPid)}}
    catch
        error:Why ->
            {stop, {shutdown, lists:flatten(io_lib:format("~ts cannot be started: ~tp", [Program, Why]))}}
    end.

open(#{program := Program, arguments := Arguments, environment := Environment}) ->
    erlang:open_port({spawn_executable, Program}, [
        {args, Arguments},
        {env, Environment},
        {line, ?LINE_BYTES},
        binary,
        exit_status,
        stderr_to_stdout,
        use_stdio,
        hide
    ]).

%% A process that has ended already has none.
os_pid(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, OsPid} -> OsPid;
        undefined -> undefined
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_, _, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_cast(check, State) ->
    _ = exists(State) orelse erlang:send_after(?TOLD_MS, self(), gone),
    {noreply, State};
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({Port, {data, {noeol, Part}}}, #state{port = Port} = State) ->
    {noreply, part(Part, State)};
handle_info({Port, {data, {eol, Part}}}, #state{port = Port, partial = Parts} = State) ->
    {noreply, line(iolist_to_binary(lists:reverse(Parts, [Part])), State#state{partial = []})};
handle_info({Port, {exit_status, Status}}, #state{port = Port} = State) ->
    exited(how(Status), State);
handle_info(gone, State) ->
    exited(last_status(State), State);
handle_info({'EXIT', Port, Why}, #state{port = Port} = State) ->
    {stop, {port_closed, Why}, State};
handle_info(_, State) ->
    {noreply, State}.

%% Also when py_node has crashed: a pynode is never left without one.
-spec terminate(term(), #state{}) -> ok.
terminate(normal, _) ->
    ok;
terminate(_, #state{port = Port, stop_timeout = Timeout} = State) ->
    _ = signal("TERM", State),
    case wait_exit(State, deadline(Timeout)) of
        ok -> ok;
        timeout ->
            log(error, <<"node">>, <<"has not ended in time and is killed">>, State),
            _ = signal("KILL", State),
            _ = wait_exit(State, deadline(?KILL_MS))
    end,
    close(Port).

deadline(Timeout) ->
    erlang:monotonic_time(millisecond) + Timeout.

%% The end of the process is looked for as well as waited for, because the VM does not report it as long as a
%% process that it has started keeps its output open.
wait_exit(#state{port = Port} = State, Deadline) ->
    receive
        {Port, {exit_status, _}} -> ok;
        {Port, {data, {eol, Line}}} -> wait_exit(line(Line, State), Deadline);
        {Port, {data, _}} -> wait_exit(State, Deadline);
        {'EXIT', Port, _} -> ok
    after ?POLL_MS ->
        case {exists(State), erlang:monotonic_time(millisecond) < Deadline} of
            {false, _} -> ok;
            {true, false} -> timeout;
            {true, true} -> wait_exit(State, Deadline)
        end
    end.

close(Port) ->
    try erlang:port_close(Port) of true -> ok catch error:badarg -> ok end.

%% One that has ended and that its parent has not heard of yet (a zombie) has gone, too.
exists(#state{born = unknown} = State) ->
    signal("0", State) =:= "";
exists(#state{os_pid = OsPid, born = Born}) ->
    case look(OsPid) of
        {ok, State, Born} -> not lists:member(State, [<<"Z">>, <<"X">>]);
        {ok, _, _} -> false;
        {error, Why} -> not lists:member(Why, [enoent, esrch])
    end.

born(OsPid) ->
    case look(OsPid) of
        {ok, _, Start} -> Start;
        {error, _} -> unknown
    end.

%% What Linux tells: the state of the process, and when it was started. The name, in parentheses, may be anything.
look(undefined) ->
    {error, enoent};
look(OsPid) ->
    case file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/stat") of
        {ok, Stat} ->
            [State | Numbers] = string:lexemes(lists:last(binary:split(Stat, <<")">>, [global])), " \n"),
            {ok, State, lists:nth(19, Numbers)};
        {error, _} = Error ->
            Error
    end.

%% `kill` is a part of every shell; it says something only when there is no such process.
signal(_, #state{os_pid = undefined}) -> "unknown";
signal(Name, #state{os_pid = OsPid}) -> os:cmd("kill -" ++ Name ++ " " ++ integer_to_list(OsPid)).

%% The end of the process.

%% The VM gives the end by a signal as 128 and its number, as shells do.
how(Status) when Status > 128 -> {signal, Status - 128};
how(Status) -> {exit_status, Status}.

last_status(#state{port = Port}) ->
    receive {Port, {exit_status, Status}} -> how(Status) after 0 -> unknown end.

exited(How, #state{owner = Owner, last = Last, port = Port} = State) ->
    Owner ! {py_os, self(), {exited, How, lists:reverse(Last)}},
    close(Port),
    {stop, normal, State}.

%% Lines.

%% The rest of an endless line is not kept.
part(Part, #state{partial = Parts} = State) when length(Parts) < ?MAX_PARTS ->
    State#state{partial = [Part | Parts]};
part(_, State) ->
    State.

%% The port does not wait for this process, so when it falls behind it must throw lines away rather than grow.
line(Line, #state{dropped = Dropped} = State) ->
    case {process_info(self(), message_queue_len), Dropped} of
        {{message_queue_len, Length}, _} when Length > ?FLOOD ->
            State#state{dropped = Dropped + 1};
        {_, 0} ->
            write(Line, State);
        _ ->
            Text = iolist_to_binary(io_lib:format("~b lines of output were dropped", [Dropped])),
            log(warning, <<"log">>, Text, State),
            write(Line, State#state{dropped = 0})
    end.

write(Line, State) ->
    {Level, Area, Text} = parse(Line),
    log(Level, Area, Text, State),
    ok = maybe_ready(Text, State),
    remember(Level, Area, Text, State).

parse(<<C, _/binary>> = Line) when C >= $0, C =< $9 ->
    case binary:split(Line, <<" ">>) of
        [_Time, Rest] -> parse_level(Rest, Line);
        _ -> {notice, <<"output">>, Line}
    end;
parse(Line) ->
    {notice, <<"output">>, Line}.

parse_level(Rest, Line) ->
    maybe_level(binary:split(Rest, <<" ">>), Line).

maybe_level([Word, Rest], Line) ->
    case {lists:keyfind(Word, 1, ?LEVELS), binary:split(Rest, <<" ">>)} of
        {{_, Level}, [Area, Text]} -> {Level, Area, Text};
        {{_, Level}, [Area]} -> {Level, Area, <<>>};
        {false, _} -> {notice, <<"output">>, Line}
    end;
maybe_level(_, Line) ->
    {notice, <<"output">>, Line}.

log(Level, Area, Text, #state{node = Node, os_pid = OsPid}) ->
    logger:log(Level, "~ts ~ts: ~ts", [Node, Area, printable(Text)], #{
        domain => [python], py_node => Node, py_os_pid => OsPid, py_area => Area
    }).

printable(Text) ->
    case unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> unicode:characters_to_binary(Text, latin1)
    end.

maybe_ready(<<"node ready ", _/binary>>, #state{owner = Owner}) ->
    Owner ! {py_os, self(), ready},
    ok;
maybe_ready(_, _) ->
    ok.

%% What explains an exit best: errors, what Python code printed, and what is no log line at all.
remember(Level, Area, Text, #state{last = Last} = State) when
    Level =:= error; Level =:= notice, (Area =:= <<"python">> orelse Area =:= <<"output">>)
->
    State#state{last = lists:sublist([Text | Last], ?LAST_LINES)};
remember(_, _, _, State) ->
    State.
