%% Makes this node a distributed one when it is not, because a C-node can be reached in no other way, and undoes that
%% when the application stops. When the node is distributed already there is nothing to do and no process.
-module(py_dist).
-behaviour(gen_server).

-export([start_link/0]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-record(state, {
    node :: node()
}).

-define(EPMD_WAIT_MS, 5000).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    case is_alive() of
        true -> ignore;
        false -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], [])
    end.

%% gen_server.

-spec init([]) -> {ok, #state{}} | {stop, term()}.
init([]) ->
    _ = process_flag(trap_exit, true),
    case start_epmd() of
        ok -> start_distribution();
        {error, Why} -> {stop, {shutdown, {no_distribution, Why}}}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_, _, State) ->
    {noreply, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(_, State) ->
    {noreply, State}.

%% The C-nodes have gone before. Somebody else may have stopped the distribution, or started it by another name.
-spec terminate(term(), #state{}) -> ok.
terminate(_, #state{node = Node}) ->
    _ = node() =:= Node andalso net_kernel:stop(),
    ok.

%% The operating system's process id makes the name unique on this host.
start_distribution() ->
    Name = list_to_atom("py_" ++ os:getpid()),
    case net_kernel:start([Name, shortnames]) of
        {ok, _} -> {ok, #state{node = node()}};
        {error, Why} -> {stop, {shutdown, {no_distribution, sentence(Name, Why)}}}
    end.

sentence(Name, Why) ->
    lists:flatten(io_lib:format(
        "this node could not be made a distributed one by the name ~ts: ~0tp. "
        "Start erl with -sname or -name to see why", [Name, Why])).

%% As `erl -sname` does: not when the command line says that somebody else takes care of it.
start_epmd() ->
    case init:get_argument(start_epmd) of
        {ok, [["false"] | _]} -> ok;
        _ -> start_epmd(erl_epmd:names("localhost"))
    end.

start_epmd({ok, _}) ->
    ok;
start_epmd({error, _}) ->
    case find_epmd() of
        false ->
            {error, "epmd is not running, and there is no program `epmd` to start"};
        Epmd ->
            _ = os:cmd("\"" ++ Epmd ++ "\" -daemon"),
            wait_epmd(erlang:monotonic_time(millisecond) + ?EPMD_WAIT_MS)
    end.

%% `epmd -daemon` returns before it listens.
wait_epmd(Deadline) ->
    case {erl_epmd:names("localhost"), erlang:monotonic_time(millisecond) > Deadline} of
        {{ok, _}, _} -> ok;
        {_, true} -> {error, "epmd was started, but does not answer"};
        {_, false} -> timer:sleep(20), wait_epmd(Deadline)
    end.

%% Erlang's own before one in the path.
find_epmd() ->
    Bin = filename:join([code:root_dir(), "erts-" ++ erlang:system_info(version), "bin"]),
    case os:find_executable("epmd", Bin) of
        false -> os:find_executable("epmd");
        Epmd -> Epmd
    end.
