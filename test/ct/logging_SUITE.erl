%% Python's logging in Erlang's logger: what arrives, from where, that nothing in it harms user code, and that nobody
%% waits for it.
-module(logging_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [bad_options, bad_setup, odd_records, chatty_record, odd_attributes, odd_messages, metadata, levels, thresholds,
     idempotent, format, exceptions, threads, coroutines, third_party, own_handler, every_interpreter,
     shown_by_default, flood, blocked_handler, process_restarts, restarted_node, slow_coordinator, no_coordinator, quiet_end].

init_per_suite(Config) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, debug),
    ok = app_ct:start(app_ct:workers(2)),
    [{level, Level} | Config].

end_per_suite(Config) ->
    app_ct:stop(),
    pyn_ct:stop_all(),
    ok = logger:set_primary_config(level, ?config(level, Config)).

%% This module is a handler of `logger` for the case's process.
init_per_testcase(_, Config) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    ok = py:configure_logging(),
    Config.

end_per_testcase(_, _Config) ->
    _ = logger:remove_handler(?MODULE),
    ?assertEqual({ok, 4.0}, py:call(math, sqrt, [16])).

%% asyncio has something to say, too.
log(#{meta := #{py_logger := <<"asyncio">>}}, _) -> ok;
log(#{meta := #{py_logger := _}} = Event, #{config := Pid}) -> Pid ! {event, Event};
log(_, _) -> ok.

%% The next record's level, text and metadata.
next() ->
    receive
        {event, #{level := Level, msg := {string, Text}, meta := Meta}} -> {Level, Text, Meta}
    after 10000 -> error(no_record)
    end.

text() ->
    {_, Text, _} = next(),
    Text.

%% Everything that was logged so far has come.
nothing_more() ->
    {ok, _} = py:call(t_logging, say, [50, <<"the last one">>]),
    ?assertMatch({critical, <<"the last one">>, _}, next()).

%%% Bad input

bad_options(_) ->
    [?assertEqual({error, {bad_option, Bad}}, py:configure_logging(Options))
     || {Options, Bad} <- [{#{level => loud}, {level, loud}}, {#{level => notice}, {level, notice}},
                           {#{level => 10}, {level, 10}}, {#{level => <<"info">>}, {level, <<"info">>}},
                           {#{format => 7}, {format, 7}}, {#{format => [-1]}, {format, [-1]}},
                           {#{colour => red}, {colour, red}}, {info, info}, {[], []}]],
    ?assertMatch({error, {'ValueError', _}}, py:configure_logging(#{format => <<"no field in it %">>})),
    ?assertMatch({error, {'ValueError', _}}, py:configure_logging(#{level => error, format => <<"%(name">>})),
    %% All is as before.
    {ok, _} = py:call(t_logging, say, [10, <<"debug">>]),
    ?assertMatch({debug, <<"debug">>, _}, next()).

bad_setup(_) ->
    [?assertEqual({ok, Type}, py:call(t_logging, setup, Args))
     || {Args, Type} <- [{[<<"loud">>], <<"ValueError">>}, {[none], <<"TypeError">>}, {[true], <<"TypeError">>},
                         {[1.5], <<"TypeError">>}, {[10, <<"%(">>], <<"ValueError">>}, {[10, 7], <<"TypeError">>},
                         {[10, none, 1], <<"TypeError">>}]],
    [?assertEqual({ok, <<"nothing">>}, py:call(t_logging, setup, Args))
     || Args <- [[<<"Warning">>], [30], [10, none], [10, <<"%(message)s">>], []]].

odd_records(_) ->
    {ok, Count} = py:call(t_logging, odd_records, []),
    Records = [next() || _ <- lists:seq(1, Count)],
    ?assertEqual([warning], lists:usort([Level || {Level, _, _} <- Records])),
    [Number, _, _, _, _, Surrogate, Bytes, Nul, None, Empty, Long, _, _, Made] = [Text || {_, Text, _} <- Records],
    ?assertMatch({match, _}, re:run(Number, "^%d \\('not a number',\\) \\(not formatted: TypeError: ")),
    ?assertEqual(<<"surrogate \\udc80">>, Surrogate),
    ?assertEqual(<<"bytes b'\\xff\\xfe'">>, Bytes),
    ?assertEqual(<<"nul ", 0, " end">>, Nul),
    ?assertEqual({<<"None">>, <<>>}, {None, Empty}),
    ?assertEqual(<<"made">>, Made),
    ?assert(byte_size(Long) > 100000 andalso byte_size(Long) < 1000000),
    [?assert(is_binary(unicode:characters_to_binary(Text))) || {_, Text, _} <- Records],
    [?assert(is_binary(unicode:characters_to_binary(Name))) || {_, _, #{py_logger := Name}} <- Records],
    nothing_more().

%% Its text logs itself, which would never end.
chatty_record(_) ->
    {ok, none} = py:call(t_logging, chatty, []),
    {ok, none} = py:call(t_logging, say, [50, <<"end">>]),
    Records = fun Loop() -> case next() of {critical, _, _} = Last -> [Last]; Other -> [Other | Loop()] end end(),
    ?assert(length(Records) > 1 andalso length(Records) < 100).

odd_attributes(_) ->
    ?assertEqual({ok, [1, 2, 3, 4]}, py:call(t_logging, extras, [])),
    {warning, <<"extra">>, #{py_meta := Meta}} = next(),
    ?assertMatch(#{<<"request_id">> := 7, <<"surrogate">> := <<"\\udc80">>, <<"funcName">> := <<"extras">>,
                   <<"user">> := #{<<"name">> := <<"ö"/utf8>>, <<"tags">> := {1, 2.5, none, true}},
                   <<"unprintable">> := <<"<unprintable Unprintable object: RuntimeError>">>,
                   <<"numbers">> := <<"<list_iterator", _/binary>>, <<"both">> := #{1 := <<"a">>, 1.5 := <<"b">>},
                   <<"inner">> := #{<<"rows">> := [<<"<list_iterator", _/binary>>]}}, Meta),
    ?assert(byte_size(maps:get(<<"large">>, Meta)) < 10000),
    ?assert(byte_size(maps:get(<<"deep">>, Meta)) < 10000).

%% What no pynode would send.
odd_messages(_) ->
    Pid = whereis(py_logger),
    [Pid ! Message || Message <- [hello, {py_log}, {py_log, 1, 2, 3, 4, 5, 6, 7}, {py_log, <<"n">>, 0, 20, <<"l">>, <<"t">>, 1, []}]],
    Pid ! {py_log, <<"no node of this name">>, 3, 20, <<"l">>, <<"t">>, 1, #{}},
    ?assertMatch({info, <<"t">>, #{py_node := <<"no node of this name">>, dropped := 3}}, next()),
    ?assertEqual(Pid, whereis(py_logger)).

%%% What arrives

metadata(_) ->
    Before = erlang:system_time(microsecond),
    {ok, Line} = py:call(t_logging, say_from_here, [<<"grüße"/utf8>>]),
    {Level, Text, Meta} = next(),
    ?assertEqual({warning, <<"grüße"/utf8>>}, {Level, Text}),
    ?assertMatch(#{domain := [python], py_logger := <<"t.app">>}, Meta),
    ?assertEqual(app_ct:pynode(), maps:get(py_node, Meta)),
    ?assertEqual(#{<<"module">> => <<"t_logging">>, <<"lineno">> => Line, <<"funcName">> => <<"say_from_here">>},
                 maps:get(py_meta, Meta)),
    ?assertNot(is_map_key(dropped, Meta)),
    #{time := Time} = Meta,
    ?assert(Time >= Before - 1000000 andalso Time =< erlang:system_time(microsecond) + 1000000),
    %% The arguments are Python's to format.
    {ok, none} = py:call(t_logging, say, [20, <<"%s and %d">>, <<"one">>, 2]),
    ?assertEqual(<<"one and 2">>, text()).

levels(_) ->
    {ok, none} = py:call(t_logging, setup_and_levels, []),
    Expected = [debug, debug, debug, info, info, warning, warning, error, error, critical, critical],
    ?assertEqual(Expected, [element(1, next()) || _ <- Expected]).

thresholds(_) ->
    lists:foreach(fun({Level, From}) ->
        ok = py:configure_logging(#{level => Level}),
        {ok, none} = py:call(t_logging, levels, []),
        [?assertEqual(iolist_to_binary(io_lib:format("level ~b", [N])), text())
         || N <- [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60], N >= From]
    end, [{debug, 10}, {info, 20}, {warning, 30}, {error, 40}, {critical, 50}]),
    nothing_more().

idempotent(_) ->
    [ok = py:configure_logging(#{level => info}) || _ <- lists:seq(1, 5)],
    {ok, <<"nothing">>} = py:call(t_logging, setup, []),
    {ok, none} = py:call(t_logging, say, [20, <<"once">>]),
    ?assertEqual(<<"once">>, text()),
    ?assertEqual({ok, [<<"ErlangHandler">>]}, py:call(t_logging, handlers, [])),
    nothing_more().

format(_) ->
    ok = py:configure_logging(#{level => info, format => <<"%(name)s|%(levelname)s|ä|%(message)s"/utf8>>}),
    {ok, none} = py:call(t_logging, say, [20, <<"m">>]),
    ?assertEqual(<<"t.app|INFO|ä|m"/utf8>>, text()),
    ok = py:configure_logging(#{format => "[%(message)s]"}),
    {ok, none} = py:call(t_logging, say, [10, <<"m">>]),
    ?assertEqual(<<"[m]">>, text()),
    %% A field that no record has is found out when there is one.
    ok = py:configure_logging(#{format => <<"%(nonsense)s">>}),
    {ok, none} = py:call(t_logging, say, [10, <<"m">>]),
    ?assertMatch(<<"m (not formatted: ", _/binary>>, text()),
    ok = py:configure_logging(),
    {ok, none} = py:call(t_logging, say, [10, <<"m">>]),
    ?assertEqual(<<"m">>, text()).

exceptions(_) ->
    {ok, none} = py:call(t_logging, fail, []),
    {error, First, _} = next(),
    {match, _} = re:run(First, <<"^it failed for someone\nTraceback \\(most recent call last\\):\n.* in inner\n.*KeyError: 'näme'$"/utf8>>,
                        [dotall, unicode]),
    {warning, Second, _} = next(),
    {match, _} = re:run(Second, "^later\nTraceback .*KeyError", [dotall]),
    {info, Third, _} = next(),
    {match, _} = re:run(Third, "^here\nStack .*in fail", [dotall]).

threads(_) ->
    {ok, none} = py:call(t_logging, threads, [8, 50]),
    Records = [next() || _ <- lists:seq(1, 400)],
    Expected = [{iolist_to_binary(["t.thread.", integer_to_list(N)]), iolist_to_binary(io_lib:format("~b-~b", [N, I]))}
                || N <- lists:seq(0, 7), I <- lists:seq(0, 49)],
    ?assertEqual(lists:sort(Expected), lists:sort([{Name, Text} || {_, Text, #{py_logger := Name}} <- Records])),
    nothing_more().

coroutines(_) ->
    {ok, none} = py:call(t_logging, coroutines, [50]),
    Texts = [text() || _ <- lists:seq(1, 100)],
    ?assertEqual(100, length(lists:usort(Texts))),
    nothing_more().

%% Whatever comes first: such a configuration or ours; and when the root logger is configured anew.
third_party(_) ->
    Says = fun(Text) ->
        {ok, none} = py:call(t_logging, uvicorn_says, [Text]),
        ?assertMatch({info, <<Text:1/binary, " error">>, #{py_logger := <<"uvicorn.error">>}}, next()),
        ?assertMatch({info, <<Text:1/binary, " access">>, #{py_logger := <<"uvicorn.access">>}}, next())
    end,
    {ok, none} = everywhere(uvicorn_like, []),
    Says(<<"a">>),
    ok = py:configure_logging(),
    Says(<<"b">>),
    {ok, none} = everywhere(uvicorn_like, [true]),
    Says(<<"c">>),
    nothing_more(),
    ok = py:configure_logging(),
    ?assertMatch({ok, [_, <<"ErlangHandler">>]}, py:call(t_logging, handlers, [])),
    Says(<<"d">>),
    nothing_more(),
    {ok, none} = everywhere(reset, []).

own_handler(_) ->
    {ok, none} = py:call(t_logging, own_handler, []),
    ?assertMatch({info, <<"by its own handler">>, #{py_logger := <<"t.own">>}}, next()),
    ok = py:configure_logging(),
    nothing_more().

%% A call in each interpreter; all give the same.
everywhere(F, Args) ->
    {ok, Results} = py_everywhere:call(t_logging, F, Args, #{}, #{}),
    [Result] = lists:usort([Result || {_, _, Result} <- Results]),
    Result.

every_interpreter(_) ->
    {ok, Results} = py_everywhere:call(t_logging, say, [20, <<"from everywhere">>], #{}, #{}),
    [?assertEqual(<<"from everywhere">>, text()) || _ <- Results],
    nothing_more().

%% The handler `default` would drop a domain of its own; while the application runs it does not.
shown_by_default(_) ->
    HasFilter = fun() ->
        {ok, #{filters := Filters}} = logger:get_handler_config(default),
        lists:keymember(erlang_python, 1, Filters)
    end,
    Had = logger:get_handler_config(default),
    ok = logger:remove_handler(default),
    ok = logger:add_handler(default, ?MODULE, #{config => self(), filter_default => stop, filters => []}),
    ok = app_ct:start(app_ct:workers(2)),
    ?assert(HasFilter()),
    ok = logger:remove_handler(?MODULE),
    ok = py:configure_logging(),
    {ok, none} = py:call(t_logging, say, [20, <<"seen">>]),
    ?assertEqual(<<"seen">>, text()),
    app_ct:stop(),
    ?assertNot(HasFilter()),
    ok = logger:remove_handler(default),
    _ = case Had of {ok, #{module := Module} = Config} -> logger:add_handler(default, Module, Config); _ -> none end,
    ok = app_ct:start(app_ct:workers(2)).

%%% Nobody waits

%% Each record arrives or is counted.
flood(_) ->
    Count = 20000,
    {ok, Seconds} = py:call(t_logging, flood, [Count], #{}, 60000),
    ct:log("~b records in ~p s", [Count, Seconds]),
    {Arrived, Dropped} = all_of_it(fun(Request) -> py:call(t_logging, say, Request) end),
    %% 5000 in a second go out, if this machine makes more.
    ?assert(Dropped > 0 orelse Count =< 5000 * (ceil(Seconds) + 1)),
    ?assertEqual(Count, Arrived + Dropped).

%% Those that have come and those that were left out. A record after them tells the last ones that were; it may be left
%% out itself, and then it counts as well, or take its time, so each has a number: what was before one that came is known.
all_of_it(Say) ->
    all_of_it(Say, 1, {0, 0, 0}).

all_of_it(Say, Said, Counts) when Said =< 100 ->
    Text = <<"end ", (integer_to_binary(Said))/binary>>,
    {ok, none} = Say([50, Text]),
    case count(Text, Counts) of
        {has_come, {Arrived, Dropped, Ends}} -> {Arrived, Dropped - (Said - Ends)};
        {not_yet, Now} -> all_of_it(Say, Said + 1, Now)
    end.

count(Last, {Arrived, Dropped, Ends}) ->
    receive
        {event, #{level := critical, msg := {string, Last}, meta := Meta}} ->
            {has_come, {Arrived, Dropped + maps:get(dropped, Meta, 0), Ends + 1}};
        {event, #{level := critical, meta := Meta}} ->
            count(Last, {Arrived, Dropped + maps:get(dropped, Meta, 0), Ends + 1});
        {event, #{meta := Meta}} ->
            count(Last, {Arrived + 1, Dropped + maps:get(dropped, Meta, 0), Ends})
    after 300 -> {not_yet, {Arrived, Dropped, Ends}}
    end.

%% A handler of logger that hangs: records pile up nowhere, and are counted.
blocked_handler(_) ->
    Gate = logging_gate:closed(),
    ok = logger:remove_handler(?MODULE),
    ok = logger:add_handler(?MODULE, logging_gate, #{config => {Gate, self()}}),
    {ok, _} = py:call(t_logging, flood, [4000]),
    Logger = whereis(py_logger),
    ok = pyn_ct:wait_until(fun() -> process_info(Logger, message_queue_len) =:= {message_queue_len, 0} andalso ok end),
    ?assertEqual({ok, none}, py:call(t_logging, say, [20, <<"one more">>])),
    ok = logging_gate:open(Gate),
    {Arrived, Dropped} = all_of_it(fun(Request) -> py:call(t_logging, say, Request) end),
    ?assert(Dropped > 0),
    ?assertEqual(4001, Arrived + Dropped),
    unlink(Gate),
    exit(Gate, kill).

process_restarts(_) ->
    callback_SUITE:restart(py_logger),
    {ok, none} = py:call(t_logging, say, [20, <<"still">>]),
    ?assertEqual(<<"still">>, text()).

%% One that starts later is configured too.
restarted_node(_) ->
    ok = py:configure_logging(#{level => error, format => <<"again %(message)s">>}),
    OsPid = os_pid(),
    _ = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    ok = pyn_ct:wait_until(fun() -> py:call(t_logging, say, [40, <<"m">>]) =:= {ok, none} andalso ok end),
    ?assertEqual(<<"again m">>, text()),
    ?assertNotEqual(OsPid, os_pid()),
    {ok, none} = py:call(t_logging, say, [30, <<"not this">>]),
    {ok, none} = py:call(t_logging, say, [40, <<"this">>]),
    ?assertEqual(<<"again this">>, text()).

os_pid() ->
    #{os_pid := OsPid} = maps:get(app_ct:pynode(), py:info()),
    OsPid.

%% A coordinator that is stopped takes nothing: far more than fits in between is logged, and nobody waits.
slow_coordinator(_) ->
    {_, Node} = Peer = app_ct:start_peer([{nodes, []}]),
    P = pyn_ct:start(["--workers", "2", "--coordinator", atom_to_list(Node)]),
    Self = self(),
    ok = app_ct:on(Peer, fun() ->
        ok = logger:set_primary_config(level, all),
        logger:add_handler(?MODULE, ?MODULE, #{config => Self})
    end),
    {ok, _} = pyn_ct:call(P, {call_all, '_pynode_logging', setup_logging, [], #{}, 30000}),
    Say = fun(Request) -> pyn_ct:call(P, {call, t_logging, say, Request}) end,
    {0, _} = all_of_it(Say),
    OsPid = app_ct:on(Peer, fun os:getpid/0),
    ok = pyn_ct:freeze(list_to_integer(OsPid)),
    Text = iolist_to_binary(["%d ", lists:duplicate(190000, $x)]),
    {ok, Seconds} = pyn_ct:call(P, {call, t_logging, flood, [400, Text]}, 60000),
    ct:log("76 MB for a stopped coordinator: ~p s", [Seconds]),
    {ok, 4.0} = pyn_ct:call(P, {call, math, sqrt, [16]}),
    ok = pyn_ct:thaw(list_to_integer(OsPid)),
    {Arrived, Dropped} = all_of_it(Say),
    ?assert(Dropped > 100),
    ?assertEqual(400, Arrived + Dropped),
    app_ct:stop_peer(Peer),
    ?assertEqual(0, pyn_ct:stop(P)).

%% Without a coordinator, records go to the node's own log.
no_coordinator(_) ->
    P = pyn_ct:start(["--workers", "1", "--log-level", "debug"]),
    {ok, _} = pyn_ct:call(P, {call_all, '_pynode_logging', setup_logging, [], #{}, 30000}),
    [begin
         {ok, none} = pyn_ct:call(P, {call, t_logging, say, [Number, <<"two\nlines of %s">>, list_to_binary(Level)]}),
         pyn_ct:wait_log(P, "Z " ++ Level ++ " python logger=t.app two\\\\nlines of " ++ Level ++ "$")
     end || {Number, Level} <- [{10, "debug"}, {20, "info"}, {30, "warning"}, {40, "error"}]],
    {ok, none} = pyn_ct:call(P, {call, t_logging, say, [50, <<"nul ", 0>>]}),
    pyn_ct:wait_log(P, "Z error python logger=t.app nul \\\\x00$"),
    {ok, Count} = pyn_ct:call(P, {call, t_logging, odd_records, []}),
    ?assert(Count > 10),
    ?assertEqual(0, pyn_ct:stop(P)).

%% Interpreters that have logged end without a word.
quiet_end(_) ->
    P = pyn_ct:start(["--workers", "2"]),
    {ok, _} = pyn_ct:call(P, {call_all, '_pynode_logging', setup_logging, [], #{}, 30000}),
    {ok, _} = pyn_ct:call(P, {call_all, t_logging, say, [30, <<"here">>], #{}, 30000}),
    pyn_ct:signal(P, "TERM"),
    0 = pyn_ct:wait_exit(P),
    ?assertEqual([], [Line || Line <- pyn_ct:log(P), re:run(Line, "stream=stderr") =/= nomatch]).
