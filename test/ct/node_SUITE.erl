%% pynode as a node of the distribution, to stock nodes: what they do with any node works or has the usual answer.
-module(node_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [ping, ping_from_peer, gen_server_call, gen_server_cast, plain_messages, messages_in_no_form, monitor_py,
     monitor_unknown, monitor_ends_with_node, links_to_its_pid, link_unknown, signals_to_its_pid, hidden_node,
     caller_that_left_is_forgotten, callers_that_leave_early, stuck_worker_comes_back].

init_per_suite(Config) ->
    [{pynode, pyn_ct:start(["--log-level", "debug"])} | Config].

end_per_suite(Config) ->
    ?assertEqual(0, pyn_ct:stop(pynode(Config))),
    pyn_ct:stop_all().

ping(Config) ->
    Node = node_of(Config),
    [?assertEqual(pong, net_adm:ping(Node)) || _ <- lists:seq(1, 100)].

ping_from_peer(Config) ->
    Node = node_of(Config),
    Peer = pyn_ct:start_peer(),
    ?assertEqual(pong, pyn_ct:on(Peer, fun() -> net_adm:ping(Node) end)),
    ?assertEqual({ok, 4.0}, pyn_ct:on(Peer, fun() -> gen_server:call({py, Node}, {call, math, sqrt, [16]}) end)),
    pyn_ct:stop_peer(Peer).

gen_server_call(Config) ->
    P = pynode(Config),
    ?assertEqual({ok, 4.0}, pyn_ct:call(P, {call, math, sqrt, [16]})),
    ?assertEqual({ok, 3}, pyn_ct:call(P, {eval, <<"1 + 2">>})),
    ?assertMatch({error, {bad_request, <<_/binary>>}}, pyn_ct:call(P, what_is_this)),
    ?assertEqual({error, timeout}, pyn_ct:call(P, {exec, <<"import time\nwhile True: time.sleep(0.01)">>, 20})),
    %% A caller that gives up: the answer comes to an alias that is no more, and to nobody's mailbox.
    File = filename:join(?config(priv_dir, Config), "given_up"),
    Wait = io_lib:format("import os, time\nwhile not os.path.exists('~ts'): time.sleep(0.01)", [File]),
    ?assertExit({timeout, _}, gen_server:call({py, node_of(Config)}, {exec, iolist_to_binary(Wait)}, 5)),
    ok = file:write_file(File, ""),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    nothing_came().

gen_server_cast(Config) ->
    File = filename:join(?config(priv_dir, Config), "cast"),
    ok = pyn_ct:cast(pynode(Config), {call, os, mkdir, [list_to_binary(File)]}),
    pyn_ct:wait_until(fun() -> filelib:is_dir(File) end),
    nothing_came().

plain_messages(Config) ->
    Node = node_of(Config),
    Tag = {any, [term, 1.5, #{a => <<1>>}]},
    {py, Node} ! {self(), Tag, {call, math, sqrt, [25]}},
    receive {Tag, Answer} -> ?assertEqual({ok, 5.0}, Answer) end,
    Alias = erlang:monitor(process, {py, Node}, [{alias, reply_demonitor}]),
    {py, Node} ! {self(), [alias | Alias], version},
    receive {[alias | Alias], Version} -> ?assertMatch({ok, <<"3.", _/binary>>}, Version) end,
    nothing_came().

messages_in_no_form(Config) ->
    P = pynode(Config),
    [{py, node_of(Config)} ! M || M <- [hello, 1, {}, {a}, {a, b}, {a, b, c}, {self()}, {'$gen_call', x, y}, [], <<>>,
                                        {'$gen_call', {self(), make_ref()}}, {'$gen_cast'}, #{}]],
    {nobody, node_of(Config)} ! hello,
    {net_kernel, node_of(Config)} ! hello,
    _ = pyn_ct:wait_log(P, "message to py in no known form is skipped"),
    _ = pyn_ct:wait_log(P, "message to the unknown name nobody"),
    _ = pyn_ct:wait_log(P, "message to net_kernel that is no ping is skipped"),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    nothing_came().

monitor_py(Config) ->
    Ref = erlang:monitor(process, {py, node_of(Config)}),
    ?assertEqual({ok, 1}, pyn_ct:call(pynode(Config), {eval, <<"1">>})),
    ?assert(erlang:demonitor(Ref, [info, flush])),
    nothing_came().

monitor_unknown(Config) ->
    Node = node_of(Config),
    Ref = erlang:monitor(process, {nobody, Node}),
    receive {'DOWN', Ref, process, {nobody, Node}, Reason} -> ?assertEqual(noproc, Reason) end,
    Pid = some_pid(Node),
    Ref2 = erlang:monitor(process, Pid),
    receive {'DOWN', Ref2, process, Pid, Reason2} -> ?assertEqual(noproc, Reason2) end,
    ?assertExit({noproc, _}, gen_server:call({nobody, Node}, hello)).

monitor_ends_with_node(_Config) ->
    P = pyn_ct:start(),
    Node = pyn_ct:node_of(P),
    Ref = erlang:monitor(process, {py, Node}),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    ?assertEqual(0, pyn_ct:stop(P)),
    receive {'DOWN', Ref, process, {py, Node}, Reason} -> ?assertEqual(noconnection, Reason) end.

links_to_its_pid(_Config) ->
    process_flag(trap_exit, true),
    P = pyn_ct:start(),
    Pid = own_pid(P),
    true = link(Pid),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    true = unlink(Pid),
    true = link(Pid),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    nothing_came(),
    ?assertEqual(0, pyn_ct:stop(P)),
    receive {'EXIT', Pid, Reason} -> ?assertEqual(noconnection, Reason) end,
    process_flag(trap_exit, false).

link_unknown(Config) ->
    process_flag(trap_exit, true),
    Pid = some_pid(node_of(Config)),
    true = link(Pid),
    receive {'EXIT', Pid, Reason} -> ?assertEqual(noproc, Reason) end,
    process_flag(trap_exit, false).

%% It has no process that could die of them.
signals_to_its_pid(Config) ->
    P = pynode(Config),
    Pid = own_pid(P),
    exit(Pid, kill),
    exit(Pid, normal),
    exit(some_pid(node_of(Config)), kill),
    group_leader(group_leader(), Pid),
    Pid ! {self(), tag, version},
    receive {tag, Version} -> ?assertMatch({ok, _}, Version) end,
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})).

hidden_node(_Config) ->
    ok = net_kernel:monitor_nodes(true, [{node_type, hidden}]),
    P = pyn_ct:start(),
    Node = pyn_ct:node_of(P),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    receive {nodeup, Node, _} -> ok end,
    ?assert(lists:member(Node, nodes(hidden))),
    ?assert(lists:member(Node, nodes(connected))),
    ?assertNot(lists:member(Node, nodes())),
    ?assertEqual(0, pyn_ct:stop(P)),
    receive {nodedown, Node, _} -> ok end,
    ok = net_kernel:monitor_nodes(false, [{node_type, hidden}]),
    flush_nodes().

%% The watch over a caller ends with its connection.
caller_that_left_is_forgotten(_Config) ->
    P = pyn_ct:start(),
    Clients = [begin
                   {ok, C} = connect(P, N),
                   _ = dist_client:request(C, {call, time, sleep, [1.5]}),
                   _ = dist_client:request(C, {call, time, sleep, [1.5]}),
                   C
               end || N <- lists:seq(1, 8)],
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, watched) >= 8 end),
    [dist_client:close(C) || C <- Clients],
    %% Those that wait are dropped at once; those that run sit in C code, which is left to end.
    pyn_ct:wait_until(fun() -> I = pyn_ct:info(P), maps:get(watched, I) =:= 0 andalso maps:get(queued, I) =:= 0 end),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
    ?assertEqual(0, pyn_ct:stop(P)).

%% A connection that goes at the very moment in which its caller comes under watch leaves nothing behind either.
callers_that_leave_early(_Config) ->
    P = pyn_ct:start(),
    [begin
         {ok, C} = connect(P, N),
         _ = [dist_client:request(C, {call, time, sleep, [0.025]}) || _ <- lists:seq(1, 6)],
         %% Callers come under watch after 20 ms.
         receive after 18 + N rem 8 -> dist_client:close(C) end
     end || N <- lists:seq(1, 60)],
    pyn_ct:wait_until(fun() ->
        #{watched := Watched, in_flight := InFlight, links := Links} = pyn_ct:info(P),
        {Watched, InFlight, Links} =:= {0, 0, 1}
    end),
    ?assertEqual(0, pyn_ct:stop(P)).

%% A worker that was given up comes back from its C code, and calls are served as before.
stuck_worker_comes_back(Config) ->
    P = pyn_ct:start(["--workers", "2"]),
    [begin
         Gate = pyn_ct:gate(Config),
         ?assertEqual({error, timeout}, pyn_ct:call(P, {call, t_slow, wait_for_file, [Gate], #{}, 20})),
         receive after 280 + N * 10 -> ok end, % just before it is given up, or just after that
         pyn_ct:open_gate(Gate),
         pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
         [begin
              T0 = erlang:monotonic_time(millisecond),
              ?assertEqual({ok, X}, pyn_ct:call(P, {call, copy, copy, [X]})),
              Took = erlang:monotonic_time(millisecond) - T0,
              ?assert(Took < 10000, Took)
          end || X <- lists:seq(1, 50)]
     end || N <- lists:seq(0, 9)],
    %% A worker is back a moment after its call has ended.
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, stuck) =:= 0 end),
    ?assertEqual(0, pyn_ct:stop(P)).

%% --- Small things ---

pynode(Config) -> ?config(pynode, Config).

node_of(Config) -> pyn_ct:node_of(pynode(Config)).

connect(P, N) ->
    dist_client:connect(#{port => pyn_ct:port(P), name => dist_client:name(N)}).

%% The pid that its answers come from.
own_pid(P) ->
    {ok, C} = connect(P, own_pid),
    Tag = dist_client:request(C, version),
    [alias | Ref] = Tag,
    {{33, Pid, Ref}, {ok, {Tag, {ok, _}}}} = dist_client:recv(C),
    dist_client:close(C),
    ?assertEqual(pyn_ct:node_of(P), node(Pid)),
    Pid.

%% One that it never had.
some_pid(Node) ->
    Name = atom_to_binary(Node),
    binary_to_term(<<131, 88, 119, (byte_size(Name)), Name/binary, 4711:32, 0:32, 1:32>>).

nothing_came() ->
    receive
        Message -> ?assertEqual(nothing, Message)
    after 0 -> ok
    end.

flush_nodes() ->
    receive
        {nodeup, _, _} -> flush_nodes();
        {nodedown, _, _} -> flush_nodes()
    after 0 -> ok
    end.
