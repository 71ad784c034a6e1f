%% The orderly end of a pynode: what it has begun it finishes, what it has answered arrives, and it goes in time.
-module(stop_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [drains, refuses_while_draining, drain_deadline, drain_deadline_in_c, second_signal, parent_pipe,
     answers_go_out_before_the_end, slow_reader_gets_its_answer, reader_that_never_reads,
     answers_before_requests_that_are_late, broken_pipe_of_a_peer, broken_log].

init_per_suite(Config) -> Config.

end_per_suite(_Config) ->
    pyn_ct:stop_all().

end_per_testcase(_Case, _Config) ->
    pyn_ct:stop_all().

%% What runs or waits ends as it would have; then it goes, with code 0.
drains(Config) ->
    P = pyn_ct:start(["--workers", "2"]),
    Go = file(Config),
    Tags = [ask(P, {call, t_slow, until_there, [Go]}) || _ <- lists:seq(1, 6)],
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 6 end),
    pyn_ct:signal(P, "TERM"),
    _ = pyn_ct:wait_log(P, "stopping"),
    ok = file:write_file(Go, <<>>),
    [?assertMatch({ok, _}, answer(Tag)) || Tag <- Tags],
    ?assertEqual(0, pyn_ct:wait_exit(P)),
    _ = pyn_ct:wait_log(P, "stopped").

refuses_while_draining(Config) ->
    P = pyn_ct:start(["--drain-timeout", "20000"]),
    Port = pyn_ct:port(P),
    Go = file(Config),
    Long = ask(P, {call, t_slow, until_there, [Go]}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, busy) =:= 1 end),
    pyn_ct:signal(P, "TERM"),
    _ = pyn_ct:wait_log(P, "stopping"),
    %% New work is refused, questions are answered, nobody else gets in.
    pyn_ct:wait_until(fun() -> pyn_ct:call(P, {call, copy, copy, [1]}) =:= {error, stopping} end),
    ?assertMatch({ok, #{in_flight := 1}}, pyn_ct:call(P, info)),
    pyn_ct:wait_until(fun() -> element(1, gen_tcp:connect({127, 0, 0, 1}, Port, [])) =:= error end),
    ok = file:write_file(Go, <<>>),
    ?assertMatch({ok, _}, answer(Long)),
    ?assertEqual(0, pyn_ct:wait_exit(P)).

%% Python code that would run on is interrupted, its caller told, the exit code says so.
drain_deadline(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "200", "--workers", "2"]),
    Tags = [ask(P, {exec, <<"while True: pass">>, infinity}) || _ <- lists:seq(1, 4)],
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 4 end),
    pyn_ct:signal(P, "TERM"),
    [?assertEqual({error, stopping}, answer(Tag)) || Tag <- Tags],
    ?assertEqual(7, pyn_ct:wait_exit(P)),
    %% This node hears of the end of the process and of the connection's separately.
    pyn_ct:wait_until(fun() -> not lists:member(pyn_ct:node_of(P), nodes(hidden)) end).

%% What sits in C code cannot be; it goes all the same.
drain_deadline_in_c(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "100"]),
    Tag = ask(P, {call, time, sleep, [600], #{}, infinity}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, busy) =:= 1 end),
    T0 = erlang:monotonic_time(millisecond),
    pyn_ct:signal(P, "TERM"),
    ?assertEqual({error, stopping}, answer(Tag)),
    ?assertEqual(7, pyn_ct:wait_exit(P)),
    Took = erlang:monotonic_time(millisecond) - T0,
    ?assert(Took < 10000, Took),
    %% It took its name off epmd's list before.
    {ok, Names} = erl_epmd:names(),
    [Alive, _] = string:split(atom_to_list(pyn_ct:node_of(P)), "@"),
    ?assertNot(lists:keymember(Alive, 1, Names)).

second_signal(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "60000"]),
    Tag = ask(P, {call, time, sleep, [600], #{}, infinity}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, busy) =:= 1 end),
    pyn_ct:signal(P, "TERM"),
    _ = pyn_ct:wait_log(P, "stopping"),
    pyn_ct:signal(P, "INT"),
    ?assertEqual(7, pyn_ct:wait_exit(P)),
    ?assertEqual(gone, answer(Tag)).

%% When whoever started it is gone, standard input ends. It drains, as by a signal.
parent_pipe(Config) ->
    File = filename:join(?config(priv_dir, Config), "exit_code"),
    Name = pyn_ct:unique("orphan"),
    Node = list_to_atom(Name ++ "@" ++ pyn_ct:host()),
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", "\"$0\" \"$@\" 2>/dev/null; echo $? >" ++ File, pyn_ct:program(),
                              "--sname", atom_to_list(Node), "--parent-pipe",
                              "--path", filename:join([pyn_ct:root(), "test", "py"])]},
                      {env, [{"PYNODE_COOKIE", atom_to_list(erlang:get_cookie())}]}]),
    pyn_ct:wait_until(fun() -> net_adm:ping(Node) =:= pong end),
    Go = file(Config),
    Tag = ask(#{node => Node}, {call, t_slow, until_there, [Go]}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(#{node => Node}, busy) =:= 1 end),
    port_close(Port),
    pyn_ct:wait_until(fun() -> pyn_ct:call(#{node => Node}, {call, copy, copy, [1]}) =:= {error, stopping} end),
    ok = file:write_file(Go, <<>>),
    ?assertMatch({ok, _}, answer(Tag)),
    ?assertEqual(<<"0\n">>, pyn_ct:wait_until(fun() ->
        case file:read_file(File) of
            {ok, <<_, _/binary>> = Text} -> Text;
            _ -> false
        end
    end)).

%% Large answers that the socket does not take at once are still sent.
answers_go_out_before_the_end(_Config) ->
    P = pyn_ct:start(),
    Large = [send_request(P, {eval, <<"b'\\xff' * (16 * 1024 * 1024)">>}) || _ <- lists:seq(1, 4)],
    Last = send_request(P, {call, time, sleep, [0.2]}),
    %% All have been read once what this process has asked after them is answered. Those that have not are not read any
    %% more when nothing is under way.
    _ = pyn_ct:info(P),
    pyn_ct:signal(P, "TERM"),
    [?assertMatch({reply, {ok, <<_:(16 * 1024 * 1024)/binary>>}}, gen_server:receive_response(Id, 60000)) || Id <- Large],
    ?assertEqual({reply, {ok, none}}, gen_server:receive_response(Last, 60000)),
    ?assertEqual(0, pyn_ct:wait_exit(P)).

send_request(P, Request) ->
    gen_server:send_request({py, pyn_ct:node_of(P)}, Request).

%% A peer that takes its time gets all of it; one that does not read at all holds the end up only so long.
slow_reader_gets_its_answer(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "20000"]),
    {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => 'slow@127.0.0.1', socket => [{recbuf, 65536}]}),
    Size = 32 * 1024 * 1024,
    _ = dist_client:request(C, {eval, <<"b'\\xff' * (32 * 1024 * 1024)">>}),
    {ok, Head} = gen_tcp:recv(dist_client:socket(C), 100),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
    pyn_ct:signal(P, "TERM"),
    _ = pyn_ct:wait_log(P, "stopping"),
    Got = read_slowly(C, byte_size(Head)),
    ?assert(Got > Size, {Got, Head}),
    ?assertEqual(0, pyn_ct:wait_exit(P)),
    dist_client:close(C).

%% To the end of the connection.
read_slowly(C, Got) ->
    case gen_tcp:recv(dist_client:socket(C), 0) of
        {ok, Bytes} ->
            Got rem 32 =:= 0 andalso receive after 1 -> ok end,
            read_slowly(C, Got + byte_size(Bytes));
        {error, _} ->
            Got
    end.

%% It goes while peers still ask: what it answered before reaches them although it closes with requests unread.
answers_before_requests_that_are_late(_Config) ->
    [begin
         P = pyn_ct:start(),
         {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => 'asks@127.0.0.1', socket => [{recbuf, 65536}]}),
         Size = 2 * 1024 * 1024,
         _ = dist_client:request(C, {eval, <<"b'\\xff' * (2 * 1024 * 1024)">>}),
         {ok, Head} = gen_tcp:recv(dist_client:socket(C), 100),
         pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
         Asker = spawn_link(fun() -> receive go -> ask_on(C) end end),
         Asker ! go,
         pyn_ct:signal(P, "TERM"),
         Got = read_slowly(C, byte_size(Head)),
         ?assert(Got > Size, {Got, Head}),
         ?assertEqual(0, pyn_ct:wait_exit(P)),
         dist_client:close(C)
     end || _ <- lists:seq(1, 10)].

ask_on(C) ->
    case dist_client:raw(C, dist_client:control_bytes({6, dist_client:pid(C, 1), '', py}, {dist_client:pid(C, 1), tag, version})) of
        ok -> ask_on(C);
        {error, _} -> ok
    end.

reader_that_never_reads(_Config) ->
    P = pyn_ct:start(["--drain-timeout", "500"]),
    {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => 'never@127.0.0.1', socket => [{recbuf, 65536}]}),
    _ = dist_client:request(C, {eval, <<"b'\\xff' * (32 * 1024 * 1024)">>}),
    {ok, _} = gen_tcp:recv(dist_client:socket(C), 100),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
    T0 = erlang:monotonic_time(millisecond),
    %% No call is left: that is a success.
    ?assertEqual(0, pyn_ct:stop(P)),
    Took = erlang:monotonic_time(millisecond) - T0,
    ?assert(Took >= 490 andalso Took < 10000, Took),
    dist_client:close(C).

%% Peers that break their connection with answers on the way to them.
broken_pipe_of_a_peer(_Config) ->
    P = pyn_ct:start(),
    [begin
         {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => 'breaks@127.0.0.1'}),
         _ = [dist_client:request(C, {eval, <<"b'\\xff' * 3000000">>}) || _ <- lists:seq(1, 8)],
         inet:setopts(dist_client:socket(C), [{linger, {true, 0}}]),
         receive after I rem 8 -> dist_client:close(C) end
     end || I <- lists:seq(1, 30)],
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    ?assertEqual(0, pyn_ct:stop(P)).

%% Nobody reads its log any more.
broken_log(Config) ->
    File = filename:join(?config(priv_dir, Config), "exit_code_2"),
    Node = list_to_atom(pyn_ct:unique("mute") ++ "@" ++ pyn_ct:host()),
    _ = open_port({spawn_executable, "/bin/sh"},
                  [{args, ["-c", "{ \"$0\" \"$@\"; echo $? >" ++ File ++ "; } 2>&1 | head -n 1 >/dev/null", pyn_ct:program(),
                           "--sname", atom_to_list(Node), "--parent-pipe", "--log-level", "debug"]},
                   {env, [{"PYNODE_COOKIE", atom_to_list(erlang:get_cookie())}]}]),
    pyn_ct:wait_until(fun() -> net_adm:ping(Node) =:= pong end),
    P = #{node => Node},
    [begin
         {py, Node} ! no_known_form,
         ?assertEqual({ok, none}, pyn_ct:call(P, {call, builtins, print, [<<"to nobody">>]}))
     end || _ <- lists:seq(1, 100)],
    kill("TERM", pyn_ct:info(P, os_pid)),
    ?assertEqual(<<"0\n">>, pyn_ct:wait_until(fun() ->
        case file:read_file(File) of
            {ok, <<_, _/binary>> = Text} -> Text;
            _ -> false
        end
    end)).

%% --- What the cases share ---

kill(Signal, OsPid) ->
    _ = os:cmd("kill -" ++ Signal ++ " " ++ integer_to_list(OsPid)),
    ok.

%% What a call waits for: a name that no other case has.
file(Config) ->
    list_to_binary(filename:join(?config(priv_dir, Config), pyn_ct:unique("go"))).

%% A request whose answer is taken later.
ask(#{node := Node}, Request) ->
    Self = self(),
    spawn_link(fun() ->
        Answer = try gen_server:call({py, Node}, Request, 60000) catch exit:{{nodedown, _}, _} -> gone end,
        Self ! {self(), Answer}
    end).

answer(Pid) ->
    receive {Pid, Answer} -> Answer after 60000 -> no_answer end.
