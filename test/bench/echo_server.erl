%% The yardstick of `make bench`: what a BEAM node answers by a plain gen_server.
-module(echo_server).
-behaviour(gen_server).

-export([start_link/0, loop/4]).
-export([init/1, handle_call/3, handle_cast/2]).

-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, _} = gen_server:start_link({local, echo}, ?MODULE, [], []).

%% Processes processes make N calls each to the server on Node; microseconds.
-spec loop(node(), term(), pos_integer(), pos_integer()) -> integer().
loop(Node, Requests, Processes, N) ->
    Work = fun() -> [gen_server:call({echo, Node}, R) || _ <- lists:seq(1, N), R <- Requests] end,
    {Us, _} = timer:tc(fun() ->
        Pids = [spawn_monitor(Work) || _ <- lists:seq(1, Processes)],
        [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Pids]
    end),
    Us.

init([]) ->
    echo_table = ets:new(echo_table, [named_table, public, {write_concurrency, true}]),
    true = ets:insert(echo_table, {identity, fun([X]) -> X end}),
    {ok, none}.

%% The same work as a call has on the C-node: the request is taken apart, a small answer is made.
handle_call({call, math, sqrt, [N]}, _From, State) ->
    {reply, {ok, math:sqrt(N)}, State};
handle_call({call, _Module, identity, [Term]}, _From, State) ->
    {reply, {ok, Term}, State};
%% What a callback costs between two BEAM nodes: a lookup and a process.
handle_call({callback, Name, Args}, From, State) ->
    [{Name, Fun}] = ets:lookup(echo_table, Name),
    spawn(fun() -> gen_server:reply(From, {ok, Fun(Args)}) end),
    {noreply, State};
%% And what shared state does: an owner of a table.
handle_call({incr, Key}, _From, State) ->
    {reply, ets:update_counter(echo_table, Key, {2, 1}, {Key, 0}), State};
handle_call({store, Key, Value}, _From, State) ->
    true = ets:insert(echo_table, {Key, Value}),
    {reply, ok, State};
handle_call({fetch, Key}, _From, State) ->
    {reply, ets:lookup(echo_table, Key), State}.

handle_cast(_Msg, State) ->
    {noreply, State}.
