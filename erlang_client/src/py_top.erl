%% A view of the C-nodes for a terminal, in the manner of etop: every few seconds a table with one line for each.
%%
%%     py_top:start().                                     to the shell that it is called in
%%     py_top:start(#{interval => 1000, sort => memory}).
%%     py_top:stop().
%%
%% It writes lines and nothing else, so any shell and any io device will do. Rates are those since the table before; of a
%% C-node that was not in it, those since its start.
%%
%% One at a time, a temporary child of py_sup: it ends with the application. It ends also with its output device.
-module(py_top).
-behaviour(gen_server).

-export([start/0]).
-export([start/1]).
-export([stop/0]).

%% Used by the supervision tree.
-export([start_link/1]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-export_type([options/0]).

-type sort() :: calls | busy | queued | errors | memory | node.
-type settings() :: #{
    interval => pos_integer(),
    lines => pos_integer(),
    sort => sort(),
    output => io:device()
}.
-type options() :: settings() | [{atom(), term()}].

-record(state, {
    settings :: settings(),
    %% What was seen last, and when.
    seen = #{} :: #{node() => map()},
    at :: undefined | integer()
}).

-define(MIB, (1024 * 1024)).
-define(MAX_INTERVAL, 86400000).
-define(NAME_MAX, 40).

-spec start() -> {ok, pid()} | {error, term()}.
start() ->
    start(#{}).

%% interval: milliseconds between two tables (5000). lines: how many C-nodes are shown (20). sort: what comes first (calls).
%% output: the io device (the caller's).
-spec start(options()) -> {ok, pid()} | {error, already_started | not_running | {bad_option, term()}}.
start(Options) ->
    case settings(Options) of
        {ok, Settings} -> start_child(Settings);
        {error, _} = Error -> Error
    end.

-spec stop() -> ok.
stop() ->
    case whereis(py_sup) of
        undefined -> ok;
        _ -> _ = supervisor:terminate_child(py_sup, ?MODULE), ok
    end.

start_child(Settings) ->
    Spec = #{id => ?MODULE, start => {?MODULE, start_link, [Settings]}, restart => temporary, shutdown => brutal_kill},
    case whereis(py_sup) =/= undefined andalso supervisor:start_child(py_sup, Spec) of
        false -> {error, not_running};
        {ok, Pid} -> {ok, Pid};
        {error, {already_started, Pid}} ->
            %% One that has ended just now is in the supervisor's books until it has read of that.
            case is_process_alive(Pid) of
                true -> {error, already_started};
                false -> start_child(Settings)
            end;
        {error, Reason} -> {error, Reason}
    end.

-spec start_link(settings()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Settings) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Settings, []).

settings(#{} = Options) ->
    maps:fold(fun setting/3, {ok, defaults()}, Options);
settings(Options) ->
    try maps:from_list(Options) of
        Map -> settings(Map)
    catch
        error:_ -> {error, {bad_option, Options}}
    end.

defaults() ->
    #{interval => 5000, lines => 20, sort => calls, output => group_leader()}.

setting(Key, Value, {ok, Settings}) ->
    case is_setting(Key, Value) of
        true -> {ok, Settings#{Key => Value}};
        false -> {error, {bad_option, {Key, Value}}}
    end;
setting(_, _, Error) ->
    Error.

is_setting(interval, T) -> is_integer(T) andalso T > 0 andalso T =< ?MAX_INTERVAL;
is_setting(lines, N) -> is_integer(N) andalso N > 0;
is_setting(sort, By) -> lists:member(By, [calls, busy, queued, errors, memory, node]);
is_setting(output, Device) -> is_pid(Device) orelse is_atom(Device);
is_setting(_, _) -> false.

%% gen_server.

-spec init(settings()) -> {ok, #state{}}.
init(#{output := Output} = Settings) ->
    _ = is_pid(Output) andalso erlang:monitor(process, Output),
    self() ! show,
    {ok, #state{settings = Settings}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, {error, bad_request}, #state{}}.
handle_call(_, _, State) ->
    {reply, {error, bad_request}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info(show, #state{settings = #{interval := Interval}} = State) ->
    _ = erlang:send_after(Interval, self(), show),
    show(State);
handle_info({'DOWN', _, process, _, _}, State) ->
    {stop, normal, State};
handle_info(_, State) ->
    {noreply, State}.

show(#state{settings = #{output := Output} = Settings, seen = Before, at = At} = State) ->
    Now = erlang:monotonic_time(millisecond),
    Info = py:info(),
    Rows = [row(Node, About, maps:get(Node, Before, #{}), Now - since(At, Now)) || {Node, About} <- maps:to_list(Info)],
    Table = table(Rows, Settings),
    try io:put_chars(Output, Table) of
        ok -> {noreply, State#state{seen = Info, at = Now}}
    catch
        error:_ -> {stop, normal, State}
    end.

since(undefined, Now) -> Now;
since(At, _) -> At.

%% A row: numbers by their names. A C-node that was started anew counts from zero.

row(Node, #{status := up, calls := Calls, os_pid := OsPid} = Info, #{calls := Old, os_pid := OsPid} = Before, Passed) when
    Passed > 0, Calls >= Old
->
    rates(Node, Info, Before, Passed);
row(Node, #{status := up, uptime := Uptime} = Info, _, _) ->
    rates(Node, Info, #{calls => 0, errors => 0, timeouts => 0}, max(1, Uptime));
row(Node, #{status := Status}, _, _) ->
    #{node => Node, status => Status}.

rates(Node, Info, Before, Passed) ->
    Rate = fun(Key) -> (maps:get(Key, Info) - maps:get(Key, Before)) * 1000 / Passed end,
    Info#{node => Node, call_rate => Rate(calls), error_rate => Rate(errors), timeout_rate => Rate(timeouts)}.

%% The table.

table(Rows, #{lines := Lines, sort := Sort}) ->
    Sorted = [Row || {_, Row} <- lists:sort([{order(Sort, Row), Row} || Row <- Rows])],
    Width = lists:max([5 | [min(?NAME_MAX, string:length(name(Row))) || Row <- Rows]]),
    Shown = lists:sublist(Sorted, Lines),
    [head(Rows, Sort), columns(Width), [line(Row, Width) || Row <- Shown], more(length(Sorted) - length(Shown)), "\n"].

%% The most first, those that are not up last.
order(node, #{node := Node}) -> Node;
order(Sort, #{node := Node, status := up} = Row) -> {0, -maps:get(key(Sort), Row), Node};
order(_, #{node := Node}) -> {1, 0, Node}.

key(calls) -> call_rate;
key(errors) -> error_rate;
key(Key) -> Key.

name(#{node := Node}) -> atom_to_list(Node).

head(Rows, Sort) ->
    {{Y, Mo, D}, {H, Mi, S}} = calendar:local_time(),
    Up = length([up || #{status := up} <- Rows]),
    io_lib:format("~4..0b-~2..0b-~2..0b ~2..0b:~2..0b:~2..0b  ~ts  slots ~b of ~b in use  C-nodes ~b of ~b up  by ~s~n",
                  [Y, Mo, D, H, Mi, S, node(), py_semaphore:current(), slots(), Up, length(Rows), Sort]).

%% It may be looked at while the application does not run.
slots() ->
    case py_semaphore:max_concurrent() of
        {error, no_nodes} -> 0;
        Max -> Max
    end.

columns(Width) ->
    io_lib:format("~*ts ~9s ~7s ~6s ~6s ~7s ~7s ~5s ~7s~n",
                  [-Width, "node", "calls/s", "busy", "queued", "flight", "err/s", "late/s", "stuck", "MiB"]).

line(#{status := up, call_rate := Calls, error_rate := Errors, timeout_rate := Late, busy := Busy, workers := Workers,
       queued := Queued, in_flight := Flight, stuck := Stuck, memory := Memory} = Row, Width) ->
    io_lib:format("~*ts ~9.1f ~7s ~6b ~6b ~7.1f ~7.1f ~5b ~7.1f~n",
                  [-Width, short(name(Row)), Calls, io_lib:format("~b/~b", [Busy, Workers]), Queued, Flight, Errors, Late,
                   Stuck, Memory / ?MIB]);
line(#{status := Status} = Row, Width) ->
    io_lib:format("~*ts ~s~n", [-Width, short(name(Row)), Status]).

short(Name) ->
    case string:length(Name) > ?NAME_MAX of
        true -> [string:slice(Name, 0, ?NAME_MAX - 1), $~];
        false -> Name
    end.

more(0) -> "";
more(N) -> io_lib:format("and ~b more~n", [N]).
