%% What happens before a pynode is ready, and around its name: epmd (each case has one of its own, on a private port), short
%% and long names, the cookie file, the address and the port it listens on.
-module(epmd_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [{group, epmd}, {group, names}, {group, cookies}, {group, address}].

groups() ->
    [{epmd, [], [registers_and_unregisters, killed_node_is_unregistered, epmd_is_started, epmd_may_not_be_started,
                 epmd_cannot_be_started, registers_again, starts_epmd_again, epmd_away_for_long, strange_epmd,
                 silent_epmd, name_in_use, name_in_use_by_a_stock_node, name_free_again_at_once, environment_of_epmd]},
     {names, [], [short_name_without_host, long_name, names_that_are_refused]},
     {cookies, [], [cookie_file, cookie_file_open_to_others, cookie_file_is_made, cookie_sources, cookies_that_are_bad]},
     {address, [], [bound_to_an_address, given_port, port_in_use]}].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    pyn_ct:stop_all().

init_per_testcase(_Case, Config) ->
    [{epmd, free_port()} | Config].

end_per_testcase(_Case, Config) ->
    pyn_ct:stop_all(),
    kill_daemon(?config(epmd, Config)).

%% --- epmd ---

registers_and_unregisters(Config) ->
    Epmd = start_epmd(Config),
    P = start(Config, #{name => "reg", args => ["--no-epmd-start"]}),
    ?assertEqual({ok, pyn_ct:port(P)}, registered("reg", Config)),
    ?assertEqual(1, works(P)),
    ?assertEqual(0, pyn_ct:stop(P)),
    %% It is gone from the list when the process is: nobody finds a name that leads nowhere.
    ?assertEqual({error, unknown}, registered("reg", Config)),
    stop_epmd(Epmd).

killed_node_is_unregistered(Config) ->
    Epmd = start_epmd(Config),
    P = start(Config, #{name => "dies"}),
    pyn_ct:signal(P, "KILL"),
    ?assertEqual({signal, 9}, pyn_ct:wait_exit(P)),
    pyn_ct:wait_until(fun() -> registered("dies", Config) =:= {error, unknown} end),
    stop_epmd(Epmd).

epmd_is_started(Config) ->
    P = start(Config, #{name => "starter"}),
    ?assertEqual({ok, pyn_ct:port(P)}, registered("starter", Config)),
    ?assertEqual(1, works(P)),
    ?assertEqual(0, pyn_ct:stop(P)),
    %% epmd stays, as after any Erlang node, and nothing of the node is in it.
    ?assertEqual({ok, []}, dist_client:epmd_names(?config(epmd, Config))).

epmd_may_not_be_started(Config) ->
    {exited, Status, Log} = try_start(Config, #{args => ["--no-epmd-start"]}),
    ?assertEqual(4, Status),
    says(Log, "epmd cannot be reached on port [0-9]+ .and is not to be started."),
    ?assertMatch({error, econnrefused}, dist_client:epmd_names(?config(epmd, Config))).

%% No such program: neither in the path nor where Erlang keeps it is one that we may run.
epmd_cannot_be_started(Config) ->
    Dir = ?config(priv_dir, Config),
    Fake = filename:join(Dir, "epmd"),
    ok = file:write_file(Fake, "#!/bin/sh\nexit 1\n"),
    ok = file:change_mode(Fake, 8#755),
    {exited, Status, Log} = try_start(Config, #{env => [{"PATH", Dir ++ ":/usr/bin:/bin"}]}),
    ?assertEqual(4, Status),
    %% When the time ends while the program of the last attempt runs, that is what is said.
    says(Log, "epmd cannot be reached on port [0-9]+; starting it: (it still does not answer|epmd -daemon did not go into)").

registers_again(Config) ->
    Epmd = start_epmd(Config),
    P = start(Config, #{name => "again", args => ["--no-epmd-start"]}),
    ?assertMatch({ok, _}, registered("again", Config)),
    stop_epmd(Epmd),
    _ = pyn_ct:wait_log(P, "epmd closed the registration of again"),
    %% Who is connected or knows the port is not concerned.
    ?assertEqual(1, works(P)),
    Epmd2 = start_epmd(Config),
    Port = pyn_ct:port(P),
    pyn_ct:wait_until(fun() -> registered("again", Config) =:= {ok, Port} end),
    _ = pyn_ct:wait_log(P, "registered again again"),
    ?assertEqual(1, works(P)),
    ?assertEqual(0, pyn_ct:stop(P)),
    ?assertEqual({error, unknown}, registered("again", Config)),
    stop_epmd(Epmd2).

starts_epmd_again(Config) ->
    P = start(Config, #{name => "restarter"}),
    Port = pyn_ct:port(P),
    [begin
         kill_daemon(?config(epmd, Config)),
         pyn_ct:wait_until(fun() -> registered("restarter", Config) =:= {ok, Port} end)
     end || _ <- [1, 2]],
    ?assertEqual(1, works(P)),
    ?assertEqual(0, pyn_ct:stop(P)).

%% Stopping does not wait for an epmd that is away.
epmd_away_for_long(Config) ->
    Epmd = start_epmd(Config),
    P = start(Config, #{args => ["--no-epmd-start"]}),
    stop_epmd(Epmd),
    _ = pyn_ct:wait_log(P, "epmd closed the registration"),
    _ = pyn_ct:wait_log(P, "cannot register .* again yet"),
    T0 = erlang:monotonic_time(millisecond),
    ?assertEqual(0, pyn_ct:stop(P)),
    ?assert(erlang:monotonic_time(millisecond) - T0 < 10000).

%% Something else has that port.
strange_epmd(Config) ->
    Pid = listener(Config, fun(S) -> gen_tcp:send(S, <<"HTTP/1.1 400 Bad Request\r\n\r\n">>), gen_tcp:close(S) end),
    {exited, Status, Log} = try_start(Config, #{}),
    ?assertEqual(4, Status),
    says(Log, "what answers is not epmd"),
    stop_listener(Pid).

silent_epmd(Config) ->
    Pid = listener(Config, fun(_S) -> receive never -> ok end end),
    T0 = erlang:monotonic_time(millisecond),
    {exited, Status, Log} = try_start(Config, #{}),
    ?assert(erlang:monotonic_time(millisecond) - T0 < 30000),
    ?assertEqual(4, Status),
    says(Log, "no answer in time"),
    stop_listener(Pid).

name_in_use(Config) ->
    Epmd = start_epmd(Config),
    P = start(Config, #{name => "twin"}),
    {exited, Status, Log} = try_start(Config, #{name => "twin"}),
    ?assertEqual(3, Status),
    says(Log, "the name twin is in use on this host .*twin at port"),
    ?assertEqual(1, works(P)),
    ?assertEqual({ok, pyn_ct:port(P)}, registered("twin", Config)),
    ?assertEqual(0, pyn_ct:stop(P)),
    stop_epmd(Epmd).

%% On the epmd of this node.
name_in_use_by_a_stock_node(_Config) ->
    [Alive, _] = string:split(atom_to_list(node()), "@"),
    {exited, Status, Log} = pyn_ct:try_start(#{name => Alive}),
    ?assertEqual(3, Status),
    says(Log, "is in use on this host"),
    ?assertEqual(pong, net_adm:ping(node())).

%% A supervisor starts it again at once, while epmd may not have seen yet that the old one is gone.
name_free_again_at_once(Config) ->
    Epmd = start_epmd(Config),
    [begin
         P = start(Config, #{name => "phoenix"}),
         pyn_ct:signal(P, "KILL"),
         ?assertEqual({signal, 9}, pyn_ct:wait_exit(P))
     end || _ <- lists:seq(1, 8)],
    stop_epmd(Epmd).

%% ERL_EPMD_PORT, which --epmd-port overrides.
environment_of_epmd(Config) ->
    Port = ?config(epmd, Config),
    P = pyn_ct:start(#{name => "by_env", env => [{"ERL_EPMD_PORT", integer_to_list(Port)}]}),
    ?assertEqual({ok, pyn_ct:port(P)}, registered("by_env", Config)),
    ?assertEqual(0, pyn_ct:stop(P)),
    Q = pyn_ct:start(#{name => "by_option", env => [{"ERL_EPMD_PORT", "1"}],
                       args => ["--epmd-port", integer_to_list(Port)]}),
    ?assertEqual({ok, pyn_ct:port(Q)}, registered("by_option", Config)),
    ?assertEqual(0, pyn_ct:stop(Q)).

%% --- Names ---

short_name_without_host(Config) ->
    P = start(Config, #{naming => ["--sname", "bare"]}),
    Host = string:trim(os:cmd("hostname -s")),
    _ = pyn_ct:wait_log(P, "node ready name=bare@" ++ Host ++ " "),
    ?assertEqual(1, works(P)),
    ?assertEqual(0, pyn_ct:stop(P)).

%% A stock node with a long name calls one with a long name. Theirs is the usual epmd.
long_name(_Config) ->
    Alive = pyn_ct:unique("long"),
    Name = Alive ++ "@127.0.0.1",
    Node = list_to_atom(Name),
    P = pyn_ct:start(#{naming => ["--name", Name]}),
    _ = pyn_ct:wait_log(P, "node ready name=" ++ Name ++ " "),
    {ok, Peer, _} = peer:start_link(#{name => pyn_ct:unique("longpeer"), host => "127.0.0.1", longnames => true,
                                      connection => standard_io, wait_boot => 60000,
                                      args => ["-setcookie", atom_to_list(erlang:get_cookie())]}),
    ?assertEqual(pong, peer:call(Peer, net_adm, ping, [Node])),
    ?assertEqual({ok, 4.0}, peer:call(Peer, gen_server, call, [{py, Node}, {call, math, sqrt, [16]}])),
    peer:stop(Peer),
    ?assertEqual(0, pyn_ct:stop(P)).

names_that_are_refused(Config) ->
    Bad = [["--name", "x@nodots"], ["--sname", "x@with.dots"], ["--sname", "@host"], ["--sname", ""],
           ["--sname", "a b@host"], ["--sname", "x@y@z"], ["--name", lists:duplicate(300, $a) ++ "@127.0.0.1"], [],
           %% Whose host is added only when the node starts: what comes of it has no place in a name.
           ["--name", lists:duplicate(255, $a)], ["--sname", lists:duplicate(255, $a)]],
    [begin
         {exited, Status, Log} = try_start(Config, #{naming => Naming}),
         ?assertEqual({2, Naming}, {Status, Naming}),
         ?assertMatch([_ | _], Log)
     end || Naming <- Bad].

%% --- Cookies ---

cookie_file(Config) ->
    with_home(Config, fun(Home, File) ->
        ok = file:write_file(File, "from_the_file\n"),
        ok = file:change_mode(File, 8#400),
        P = start(Config, #{cookie => none, env => [{"HOME", Home}]}),
        ?assertEqual(1, works(P, from_the_file)),
        ?assertEqual(0, pyn_ct:stop(P))
    end).

cookie_file_open_to_others(Config) ->
    with_home(Config, fun(Home, File) ->
        ok = file:write_file(File, "from_the_file"),
        [begin
             ok = file:change_mode(File, Mode),
             {exited, Status, Log} = try_start(Config, #{cookie => none, env => [{"HOME", Home}]}),
             ?assertEqual({2, Mode}, {Status, Mode}),
             says(Log, "cookie file .*/.erlang.cookie must be accessible by its owner only")
         end || Mode <- [8#644, 8#440, 8#404, 8#420, 8#666, 8#401]]
    end).

%% As Erlang does: made of random letters, for the owner only; and the next one has the same.
cookie_file_is_made(Config) ->
    with_home(Config, fun(Home, File) ->
        P = start(Config, #{cookie => none, env => [{"HOME", Home}]}),
        {ok, Cookie} = file:read_file(File),
        ?assertMatch({match, _}, re:run(Cookie, "^[A-Z]{20}$")),
        ?assertEqual("400", string:trim(os:cmd("stat -c %a " ++ File))),
        ?assertEqual(1, works(P, binary_to_list(Cookie))),
        Q = start(Config, #{cookie => none, env => [{"HOME", Home}]}),
        ?assertEqual(1, works(Q, binary_to_list(Cookie))),
        ?assertEqual({ok, Cookie}, file:read_file(File)),
        ?assertEqual(0, pyn_ct:stop(P)),
        ?assertEqual(0, pyn_ct:stop(Q))
    end).

%% The option wins over the environment, the environment over the file.
cookie_sources(Config) ->
    with_home(Config, fun(Home, File) ->
        ok = file:write_file(File, "from_the_file"),
        ok = file:change_mode(File, 8#400),
        P = start(Config, #{cookie => from_the_environment, env => [{"HOME", Home}]}),
        ?assertEqual(1, works(P, from_the_environment)),
        ?assertMatch({error, _}, connect(P, from_the_file)),
        ?assertEqual(0, pyn_ct:stop(P)),
        Q = start(Config, #{cookie => from_the_environment, env => [{"HOME", Home}], args => ["--cookie", "from_option"]}),
        ?assertEqual(1, works(Q, from_option)),
        ?assertMatch({error, _}, connect(Q, from_the_environment)),
        ?assertEqual(0, pyn_ct:stop(Q))
    end).

cookies_that_are_bad(Config) ->
    with_home(Config, fun(Home, File) ->
        Env = [{"HOME", Home}],
        [begin
             _ = file:delete(File),
             ok = file:write_file(File, Content),
             ok = file:change_mode(File, 8#400),
             {exited, 2, Log} = try_start(Config, #{cookie => none, env => Env}),
             says(Log, "the cookie in .*/.erlang.cookie " ++ Why)
         end || {Content, Why} <- [{"", "is empty"}, {"\n", "is empty"}, {lists:duplicate(300, $x), "is longer"},
                                   {"two\nlines", "has a control character"}]],
        _ = file:delete(File),
        ok = file:make_dir(File),
        {exited, 2, Log2} = try_start(Config, #{cookie => none, env => Env}),
        says(Log2, "is not a regular file"),
        %% No cookie is ever printed.
        {exited, 2, Log3} = try_start(Config, #{cookie => none, env => Env, args => ["--cookie", lists:duplicate(300, $s)]}),
        ?assertEqual(nomatch, re:run(iolist_to_binary(Log3), "ssss"))
    end).

%% --- Address and port ---

bound_to_an_address(Config) ->
    P = start(Config, #{args => ["--bind", "127.0.0.1"]}),
    Port = pyn_ct:port(P),
    ?assertEqual(1, works(P)),
    ?assertEqual({error, econnrefused}, gen_tcp:connect({127, 0, 0, 2}, Port, [])),
    ?assertEqual(0, pyn_ct:stop(P)),
    %% Without it, all of them.
    Q = start(Config, #{}),
    {ok, S} = gen_tcp:connect({127, 0, 0, 2}, pyn_ct:port(Q), []),
    gen_tcp:close(S),
    ?assertEqual(0, pyn_ct:stop(Q)),
    {exited, 2, Log} = try_start(Config, #{args => ["--bind", "localhost"]}),
    says(Log, "is not a numeric address").

given_port(Config) ->
    Port = free_port(),
    P = start(Config, #{name => "given", args => ["--port", integer_to_list(Port)]}),
    ?assertEqual(Port, pyn_ct:port(P)),
    ?assertEqual({ok, Port}, registered("given", Config)),
    {ok, C} = connect(P, erlang:get_cookie()),
    ?assertEqual(0, pyn_ct:stop(P)),
    %% At once again, although connections of the old one linger.
    Q = start(Config, #{args => ["--port", integer_to_list(Port)]}),
    dist_client:close(C),
    ?assertEqual(0, pyn_ct:stop(Q)).

port_in_use(Config) ->
    {ok, L} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(L),
    {exited, Status, Log} = try_start(Config, #{args => ["--port", integer_to_list(Port)]}),
    ?assertEqual(1, Status),
    says(Log, "cannot listen on .*port " ++ integer_to_list(Port)),
    gen_tcp:close(L).

%% --- What the cases share ---

start(Config, Options) ->
    pyn_ct:start(with_epmd(Config, Options)).

try_start(Config, Options) ->
    pyn_ct:try_start(with_epmd(Config, Options)).

with_epmd(Config, Options) ->
    Options#{env => [{"ERL_EPMD_PORT", integer_to_list(?config(epmd, Config))} | maps:get(env, Options, [])]}.

%% A client, since this node asks another epmd: it gets in, and is answered.
works(P) ->
    works(P, erlang:get_cookie()).

works(P, Cookie) ->
    {ok, C} = connect(P, Cookie),
    {ok, Value} = dist_client:call(C, {eval, <<"1">>}),
    dist_client:close(C),
    Value.

connect(P, Cookie) ->
    dist_client:connect(#{port => pyn_ct:port(P), cookie => Cookie, name => 'client@127.0.0.1'}).

registered(Alive, Config) ->
    dist_client:epmd_port(?config(epmd, Config), Alive).

says(Log, Pattern) ->
    ?assertMatch({match, _}, re:run(iolist_to_binary(lists:join("\n", Log)), Pattern), Log).

with_home(Config, Fun) ->
    Home = filename:join(?config(priv_dir, Config), pyn_ct:unique("home")),
    ok = file:make_dir(Home),
    Fun(Home, filename:join(Home, ".erlang.cookie")).

%% None of those that the system gives out by itself: a node could get it before its epmd has started there.
free_port() ->
    Port = 10000 + rand:uniform(9999),
    case gen_tcp:listen(Port, []) of
        {ok, L} -> gen_tcp:close(L), Port;
        {error, eaddrinuse} -> free_port()
    end.

%% An epmd that belongs to this test. It does not go into the background, so that it can be killed while nodes are registered.
start_epmd(Config) ->
    Port = ?config(epmd, Config),
    P = open_port({spawn_executable, os:find_executable("epmd")},
                  [{args, ["-port", integer_to_list(Port)]}, exit_status, use_stdio, stderr_to_stdout, binary]),
    {os_pid, OsPid} = erlang:port_info(P, os_pid),
    pyn_ct:wait_until(fun() -> element(1, dist_client:epmd_names(Port)) =:= ok end),
    {P, OsPid}.

stop_epmd({P, OsPid}) ->
    _ = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    receive {P, {exit_status, _}} -> ok end.

%% One that pynode started, known by its port.
kill_daemon(Port) ->
    Daemon = lists:flatten(io_lib:format("pgrep -f '^[^ ]*epmd -daemon -port ~b$'", [Port])),
    case string:lexemes(os:cmd(Daemon), "\n") of
        [] ->
            ok;
        Pids ->
            _ = os:cmd("kill -KILL " ++ lists:join(" ", Pids)),
            pyn_ct:wait_until(fun() -> [] =:= [Pid || Pid <- Pids, filelib:is_dir("/proc/" ++ Pid)] end),
            ok
    end.

%% Accepts on the port where epmd would be.
listener(Config, Fun) ->
    {ok, L} = gen_tcp:listen(?config(epmd, Config), [{ip, {127, 0, 0, 1}}, {active, false}, {reuseaddr, true}]),
    {spawn_link(fun() -> serve(L, Fun) end), L}.

serve(L, Fun) ->
    case gen_tcp:accept(L) of
        {ok, S} ->
            Pid = spawn_link(fun() -> receive go -> Fun(S) end end),
            ok = gen_tcp:controlling_process(S, Pid),
            Pid ! go,
            serve(L, Fun);
        {error, closed} ->
            ok
    end.

stop_listener({_Pid, L}) ->
    gen_tcp:close(L).
