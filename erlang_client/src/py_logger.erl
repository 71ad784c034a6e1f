%% Records of Python's logging, for `logger`. Every node runs it; C-nodes use the one of their coordinator:
%%
%%     py_logger ! {py_log, Node, Dropped, Level, Logger, Text, Time, Meta}
%%
%% Dropped is how many records the C-node has left out since the last one, Level Python's number, Time in microseconds.
%%
%% A handler of `logger` may be slow, or block for ever, while records keep coming. So they are given to `logger` by a
%% process of their own. This one counts what that one has not done yet: beyond a limit it throws records away and
%% counts these too, so its own mailbox stays short.
%%
%% The handler `default` of `logger` shows, as it comes, no event that has a domain of its own. It is given a filter that
%% lets the domain [python] through, so that what pynode and Python code say is seen, unless it has one of that name.
-module(py_logger).
-behaviour(gen_server).

-export([start_link/0]).
-export([configure/1]).

%% The process that writes.
-export([writer/0]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-export_type([level/0, options/0]).

-type level() :: debug | info | warning | error | critical.
-type options() :: #{level => level(), format => unicode:chardata()}.

-record(state, {
    writer :: pid(),
    %% Records that the writer has got and not written yet.
    pending = atomics:new(1, []) :: atomics:atomics_ref(),
    dropped = 0 :: non_neg_integer()
}).

-define(PENDING_MAX, 2000).
-define(IDLE_MS, 100).
-define(FILTER, erlang_python).
-define(KEY, <<"py_logger">>).
-define(TIMEOUT, 30000).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Has every interpreter, of those that start later as well, send what it logs from that level on.
-spec configure(options()) -> ok | {error, term()}.
configure(#{} = Options) ->
    try maps:fold(fun option/3, #{level => 10}, Options) of
        Kwargs ->
            How = #{timeout => ?TIMEOUT, remember => ?KEY},
            py_everywhere:checked_call('_pynode_logging', setup_logging, [], Kwargs, How)
    catch
        throw:Bad -> {error, {bad_option, Bad}}
    end;
configure(Other) ->
    {error, {bad_option, Other}}.

option(level, Level, Kwargs) ->
    case lists:keyfind(Level, 2, levels()) of
        {Number, _} -> Kwargs#{level => Number};
        false -> throw({level, Level})
    end;
option(format, Format, Kwargs) ->
    case py_args:text(Format) of
        Text when is_binary(Text) -> Kwargs#{format => Text};
        {error, _} -> throw({format, Format})
    end;
option(Key, Value, _) ->
    throw({Key, Value}).

%% From Python's number on.
levels() ->
    [{50, critical}, {40, error}, {30, warning}, {20, info}, {10, debug}].

level(Number) ->
    case [Level || {From, Level} <- levels(), Number >= From] of
        [Level | _] -> Level;
        [] -> debug
    end.

%% gen_server.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    _ = process_flag(trap_exit, true),
    ok = show_domain(),
    {ok, #state{writer = spawn_link(?MODULE, writer, [])}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_, _, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({py_log, Node, Dropped, Level, Logger, Text, Time, #{} = Meta}, State) when
    is_binary(Node), is_integer(Level), is_binary(Logger), is_binary(Text), is_integer(Time), is_integer(Dropped)
->
    Metadata = #{
        domain => [python],
        py_logger => Logger,
        py_meta => Meta,
        py_node => node_name(Node),
        time => Time
    },
    {noreply, record(level(Level), Text, Metadata, Dropped, State)};
handle_info({'EXIT', Writer, Why}, #state{writer = Writer} = State) ->
    {stop, {writer, Why}, State};
handle_info(_, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_, _) ->
    _ = logger:remove_handler_filter(default, ?FILTER),
    ok.

%% It is connected, so its atom exists.
node_name(Name) ->
    try binary_to_existing_atom(Name) catch error:badarg -> Name end.

record(Level, Text, Metadata, New, #state{writer = Writer, pending = Pending, dropped = Old} = State) ->
    case atomics:get(Pending, 1) < ?PENDING_MAX of
        true ->
            ok = atomics:add(Pending, 1, 1),
            Writer ! {Level, Text, dropped(Old + New, Metadata), Pending},
            State#state{dropped = 0};
        false ->
            State#state{dropped = Old + New + 1}
    end.

dropped(0, Metadata) -> Metadata;
dropped(N, Metadata) -> Metadata#{dropped => N}.

%% It hibernates when there is nothing to do: as in py_link.
-spec writer() -> no_return().
writer() ->
    receive
        {Level, Text, Metadata, Pending} ->
            ok = logger:log(Level, Text, Metadata),
            ok = atomics:sub(Pending, 1, 1),
            ?MODULE:writer()
    after ?IDLE_MS ->
        erlang:hibernate(?MODULE, writer, [])
    end.

show_domain() ->
    Filter = {fun logger_filters:domain/2, {log, sub, [python]}},
    _ = case logger:get_handler_config(default) of
        {ok, #{filter_default := stop}} -> logger:add_handler_filter(default, ?FILTER, Filter);
        _ -> not_needed
    end,
    ok.
