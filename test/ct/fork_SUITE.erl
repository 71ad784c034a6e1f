%% Python code forks: the child is no node. It gives no answer, gets no message and keeps no connection.
-module(fork_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [ends_after_the_call, streams_nothing, asks_nothing, signals, node_dies_before_child, input, all_descriptors_closed].

init_per_suite(Config) -> Config.

end_per_suite(_Config) -> pyn_ct:stop_all().

init_per_testcase(Case, Config) when Case =:= input; Case =:= all_descriptors_closed ->
    [{pynode, pyn_ct:start(["--workers", "2"])} | Config];
init_per_testcase(_Case, Config) ->
    P = pyn_ct:start(["--workers", "2"]),
    case pyn_ct:mode(P) of
        subinterp ->
            %% Python refuses it, but for the main interpreter.
            {error, {'RuntimeError', _}} = pyn_ct:call(P, {call, os, fork, []}),
            {skip, "no fork in sub-interpreters"};
        _ ->
            [{pynode, P} | Config]
    end.

end_per_testcase(_Case, _Config) -> pyn_ct:stop_all().

pynode(Config) -> ?config(pynode, Config).

call(Config, F, Args) -> pyn_ct:call(pynode(Config), {call, t_fork, F, Args}).

%% As a script does, with its exit code; the caller has the parent's answer, and only that.
ends_after_the_call(Config) ->
    P = pynode(Config),
    [begin
         {ok, 0} = call(Config, returns, []),
         {ok, 1} = call(Config, raises, []),
         {ok, 4} = call(Config, exits, [4]),
         {ok, 0} = call(Config, exits, [none]),
         {ok, 1} = call(Config, exits, [<<"a sentence">>]),
         {ok, 1} = pyn_ct:call(P, {call, t_fork, in_coroutine, [], #{}, #{async => true}})
     end || _ <- [1, 2]],
    _ = pyn_ct:wait_log(P, "from the child"),
    _ = pyn_ct:wait_log(P, "ValueError: of the child"),
    _ = pyn_ct:wait_log(P, "a sentence"),
    ok = receive Late -> {late_answer, Late} after 0 -> ok end,
    ok = pyn_ct:end_clean(P).

%% Not even an item of a generator that forks; and what its code would give is not looked at.
streams_nothing(Config) ->
    P = pynode(Config),
    {ok, Stream} = pyn_ct:call(P, {stream, t_fork, yields, []}),
    ok = to_its_end(P, Stream),
    [<<"parent">>, 0] = [receive {py_item, Stream, Item} -> Item after 0 -> none end || _ <- [1, 2]],
    {ok, 0} = call(Config, returns_what_runs_code, []),
    ok = receive More -> {more, More} after 0 -> ok end,
    ok = pyn_ct:end_clean(P).

to_its_end(P, Stream) ->
    case pyn_ct:call(P, {stream_next, Stream, 10}) of
        {ok, {_, more}} -> to_its_end(P, Stream);
        {ok, {_, done}} -> ok
    end.

asks_nothing(Config) ->
    {ok, <<"CoordinatorDown">>} = call(Config, asks, []),
    ok = pyn_ct:end_clean(pynode(Config)).

%% What is sent to the child does not stop the node.
signals(Config) ->
    {ok, -15} = call(Config, terminated, []),
    {ok, [1, 2, 3]} = call(Config, pool, []),
    {ok, 4.0} = pyn_ct:call(pynode(Config), {call, math, sqrt, [16]}),
    ok = pyn_ct:end_clean(pynode(Config)).

%% The connections end with the node, not with its child, and its name is free.
node_dies_before_child(Config) ->
    P = pynode(Config),
    Node = pyn_ct:node_of(P),
    {ok, Child} = call(Config, lives_on, []),
    true = erlang:monitor_node(Node, true),
    pyn_ct:signal(P, "KILL"),
    receive {nodedown, Node} -> ok after 20000 -> ct:fail(still_connected) end,
    [Alive, _] = string:split(atom_to_list(Node), "@"),
    ok = pyn_ct:wait_until(fun() ->
        {ok, Names} = erl_epmd:names(),
        not lists:keymember(Alive, 1, Names) andalso ok
    end),
    _ = os:cmd("kill -9 " ++ integer_to_list(Child)),
    {signal, 9} = pyn_ct:wait_exit(P).

%% What reads standard input finds its end.
input(Config) ->
    P = pynode(Config),
    {error, {'EOFError', _}} = pyn_ct:call(P, {call, builtins, input, []}),
    {ok, 0} = pyn_ct:call(P, {eval, <<"__import__('subprocess').run(['cat'], timeout=60).returncode">>}),
    ok = pyn_ct:end_clean(P).

%% As code does that makes a daemon of its process: a node that nobody can reach ends.
all_descriptors_closed(Config) ->
    P = pynode(Config),
    _ = gen_server:send_request({py, pyn_ct:node_of(P)}, {call, os, closerange, [3, 1000]}),
    1 = pyn_ct:wait_exit(P),
    _ = pyn_ct:wait_log(P, "descriptors were closed").
