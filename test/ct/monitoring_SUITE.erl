%% What can be seen of a running system: the numbers of py:info, the events of calls, the view for a terminal.
-module(monitoring_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-define(MIB, (1024 * 1024)).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [{group, info}, {group, events}, {group, no_events}, {group, top}].

groups() ->
    [{info, [], [as_started, busy_and_queued, counters, stuck, bytes, memory, uptime, no_answer, down]},
     {events, [], [stops, exceptions, code, lost, overloaded, waited_for, of_parallel, in_a_callback]},
     {no_events, [], [without_library, library_without_function]},
     {top, [], [top_options, top_shows, top_rates, top_sorts, top_lines, top_down, top_plain_shell, top_ends_with_device,
                top_ends_with_application, top_not_running]}].

init_per_suite(Config) -> Config.
end_per_suite(_Config) -> app_ct:stop(), pyn_ct:stop_all().

init_per_group(events, Config) ->
    load_library(?config(data_dir, Config)),
    ok = app_ct:start(app_ct:workers(2)),
    Config;
init_per_group(no_events, Config) ->
    Config;
init_per_group(_, Config) ->
    ok = app_ct:start([{max_concurrent, 32} | app_ct:workers(2)]),
    Config.

end_per_group(events, _Config) ->
    app_ct:stop(),
    unload_library();
end_per_group(_, _Config) ->
    app_ct:stop().

init_per_testcase(_, Config) -> Config.

end_per_testcase(_, _Config) ->
    _ = whereis(py_sup) =/= undefined andalso py_top:stop(),
    _ = whereis(telemetry_handler) =:= self() andalso unregister(telemetry_handler),
    ok.

%%% py:info

as_started(_Config) ->
    #{status := up, mode := Mode, python := Python, executors := 2, workers := Workers, os_pid := OsPid, busy := 0, queued := 0,
      in_flight := 0, stuck := 0} = info(),
    ?assertEqual({Mode, {ok, Python}}, {py:execution_mode(), py:version()}),
    ?assertEqual({ok, OsPid}, py:call(os, getpid, [])),
    %% In mode subinterp there is one more, of the main interpreter.
    ?assertEqual(case Mode of subinterp -> 3; _ -> 2 end, Workers).

%% Two run, three wait; each of the five is in flight.
busy_and_queued(_Config) ->
    Refs = [py:call_async(t_slow, sleep, [1]) || _ <- lists:seq(1, 5)],
    pyn_ct:wait_until(fun() ->
        #{busy := Busy, queued := Queued, in_flight := InFlight} = info(),
        {Busy, Queued, InFlight} =:= {2, 3, 5}
    end),
    [{ok, <<"slept">>} = py:await(Ref) || Ref <- Refs],
    pyn_ct:wait_until(fun() ->
        #{busy := Busy, queued := Queued, in_flight := InFlight} = info(),
        {Busy, Queued, InFlight} =:= {0, 0, 0}
    end).

counters(_Config) ->
    Before = info(),
    [{ok, _} = py:call(math, sqrt, [N]) || N <- lists:seq(1, 100)],
    [{error, {'ValueError', _}} = py:call(math, sqrt, [-1]) || _ <- lists:seq(1, 10)],
    %% Long enough to have begun before they are late: else they would not begin, and be no calls. Their callers stay: the
    %% C-node counts the time from the arrival, and a call whose caller is gone before it is over is no timeout there.
    Self = self(),
    Late = [spawn_link(fun() ->
                Self ! {self(), py:call(t_slow, spin, [], #{}, 1000)},
                receive leave -> ok end
            end) || _ <- [1, 2]],
    [receive {Caller, Result} -> {error, timeout} = Result end || Caller <- Late],
    %% A call that was late is counted as a call when it has ended, soon after its answer.
    pyn_ct:wait_until(fun() -> {grown(calls, Before), grown(timeouts, Before)} =:= {112, 2} end),
    [Caller ! leave || Caller <- Late],
    %% Python code that is interrupted ends by an exception.
    Errors = grown(errors, Before),
    ?assert(Errors >= 10 andalso Errors =< 12).

%% While it cannot be interrupted; then it is a spare one.
stuck(_Config) ->
    #{stuck := 0, stuck_total := Total} = info(),
    {error, timeout} = py:call(t_slow, sleep, [1], #{}, 50),
    pyn_ct:wait_until(fun() -> maps:get(stuck, info()) =:= 1 end),
    pyn_ct:wait_until(fun() -> maps:get(stuck, info()) =:= 0 end),
    ?assertEqual(Total + 1, maps:get(stuck_total, info())).

%% What comes in and goes out is what is counted, give or take the frames around it.
bytes(_Config) ->
    Before = info(),
    {ok, 1000000} = py:call(builtins, len, [binary:copy(<<"x">>, 1000000)]),
    Between = info(),
    {ok, Text} = py:eval(<<"'x' * 2000000">>),
    2000000 = byte_size(Text),
    ?assert(in_range(1000000, 1020000, maps:get(bytes_in, Between) - maps:get(bytes_in, Before))),
    ?assert(maps:get(bytes_out, Between) - maps:get(bytes_out, Before) < 20000),
    ?assert(in_range(2000000, 2020000, grown(bytes_out, Between))),
    ?assert(grown(bytes_in, Between) < 20000).

in_range(From, To, N) -> N >= From andalso N =< To.

%% Resident, as the system sees it.
memory(_Config) ->
    Before = info(),
    ok = py:exec(<<"held = bytearray(64 << 20)\nfor i in range(0, len(held), 4096): held[i] = 1\n">>),
    ?assert(grown(memory, Before) > 60 * ?MIB),
    ?assert(abs(maps:get(memory, info()) - resident()) < 16 * ?MIB),
    ok = py:exec(<<"del held">>).

resident() ->
    {ok, Statm} = file:read_file(lists:concat(["/proc/", maps:get(os_pid, info()), "/statm"])),
    [_, Pages | _] = binary:split(Statm, <<" ">>, [global]),
    binary_to_integer(Pages) * 4096.

uptime(_Config) ->
    Before = info(),
    timer:sleep(100),
    ?assert(grown(uptime, Before) >= 99),
    ?assert(maps:get(uptime, info()) < 120000).

%% It is asked at the same time as the others, and waited for a while.
no_answer(_Config) ->
    Node = app_ct:pynode(),
    OsPid = maps:get(os_pid, info()),
    ok = pyn_ct:freeze(OsPid),
    try
        ?assertEqual(#{Node => #{status => no_answer}}, py:info())
    after
        pyn_ct:thaw(OsPid)
    end,
    ?assertMatch(#{Node := #{status := up}}, py:info()),
    receive M -> error({unexpected, M}) after 100 -> ok end.

down(_Config) ->
    ok = app_ct:start([{nodes, ['py_nowhere@nohost', local]} | app_ct:workers(1)]),
    ?assertMatch([#{status := down}, #{status := up}], lists:sort(maps:values(py:info()))),
    ?assertEqual(#{status => down}, maps:get('py_nowhere@nohost', py:info())),
    app_ct:stop(),
    ?assertEqual(#{}, py:info()),
    ok = app_ct:start([{max_concurrent, 32} | app_ct:workers(2)]).

info() ->
    maps:get(app_ct:pynode(), py:info()).

grown(Key, Before) ->
    maps:get(Key, info()) - maps:get(Key, Before).

%%% Events

load_library(Dir) ->
    {ok, telemetry, Beam} = compile:file(filename:join(Dir, "telemetry"), [binary, report]),
    {module, telemetry} = code:load_binary(telemetry, "telemetry.erl", Beam).

unload_library() ->
    _ = code:purge(telemetry),
    true = code:delete(telemetry),
    _ = code:purge(telemetry),
    ok.

stops(_Config) ->
    true = register(telemetry_handler, self()),
    Node = app_ct:pynode(),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {start, Self, Start, About} = event(),
    ?assertEqual(self(), Self),
    #{system_time := System, monotonic_time := From} = Start,
    ?assert(abs(System - erlang:system_time()) < erlang:convert_time_unit(10, second, native)),
    #{operation := call, module := math, function := sqrt, telemetry_span_context := Span} = About,
    {stop, Self, #{duration := Duration, monotonic_time := To}, Ended} = event(),
    ?assertEqual(To - From, Duration),
    ?assert(Duration > 0),
    ?assertMatch(#{operation := call, module := math, function := sqrt, telemetry_span_context := Span, node := Node,
                   result := ok}, Ended),
    {ok, <<"slept">>} = py:call(<<"t_slow">>, "sleep", [0.1]),
    {start, _, _, #{module := <<"t_slow">>, function := <<"sleep">>}} = event(),
    {stop, _, #{duration := Slept}, _} = event(),
    ?assert(erlang:convert_time_unit(Slept, native, millisecond) >= 100),
    no_event().

exceptions(_Config) ->
    true = register(telemetry_handler, self()),
    Node = app_ct:pynode(),
    [begin
         {error, Reason} = Call(),
         {start, _, _, _} = event(),
         {exception, _, #{duration := _}, About} = event(),
         ?assertMatch({Error, #{node := Node, result := error, error := Error, kind := error, reason := Reason,
                                stacktrace := []}}, {Error, About})
     end || {Error, Call} <- [{'ValueError', fun() -> py:call(math, sqrt, [-1]) end},
                              {'ValueError', fun() -> py:call(math, sqrt, [-1], #{}, #{traceback => true}) end},
                              {timeout, fun() -> py:call(t_slow, spin, [], #{}, 30) end},
                              {'NameError', fun() -> py:eval(<<"no_such_name">>) end}]],
    %% What was never a call is none.
    {error, invalid_args} = py:call(math, sqrt, 16),
    {error, {bad_option, _}} = py:call(math, sqrt, [16], #{}, soon),
    no_event().

code(_Config) ->
    true = register(telemetry_handler, self()),
    ok = py:exec(<<"x = 1">>),
    {ok, 1} = py:eval(<<"x">>),
    {start, _, _, #{operation := exec, module := undefined, function := undefined}} = event(),
    {stop, _, _, #{operation := exec, result := ok}} = event(),
    {start, _, _, #{operation := eval}} = event(),
    {stop, _, _, #{operation := eval, result := ok}} = event(),
    ok = py:cast(math, sqrt, [16]),
    no_event().

%% Without a node there is none to name.
lost(_Config) ->
    true = register(telemetry_handler, self()),
    {error, {nodedown, 'no@where'}} = py:call(math, sqrt, [16], #{}, #{node => 'no@where'}),
    {start, _, _, _} = event(),
    ?assertMatch({exception, _, _, #{error := nodedown, node := undefined}}, event()),
    no_event().

overloaded(_Config) ->
    Max = py_semaphore:max_concurrent(),
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(1000),
    true = register(telemetry_handler, self()),
    {error, {overloaded, 1, 1}} = py:call(math, sqrt, [16], #{}, 50),
    {start, _, _, _} = event(),
    {exception, _, #{duration := Waited}, #{error := overloaded, node := undefined}} = event(),
    ?assert(erlang:convert_time_unit(Waited, native, millisecond) >= 49),
    ok = py_semaphore:release(),
    ok = py_semaphore:set_max_concurrent(Max).

%% The events are those of the process that waits in the place of the caller.
waited_for(_Config) ->
    true = register(telemetry_handler, self()),
    Ref = py:call_async(math, sqrt, [16]),
    {ok, 4.0} = py:await(Ref),
    {start, Pid, _, #{function := sqrt}} = event(),
    {stop, Pid, _, #{function := sqrt, result := ok}} = event(),
    ?assertNotEqual(self(), Pid),
    no_event().

of_parallel(_Config) ->
    true = register(telemetry_handler, self()),
    {ok, Results} = py:parallel([{math, sqrt, [N]} || N <- lists:seq(-9, 10)]),
    Events = [event() || _ <- lists:seq(1, 40)],
    ?assertEqual(20, length([E || {start, _, _, _} = E <- Events])),
    ?assertEqual(length([R || {ok, _} = R <- Results]), length([E || {stop, _, _, _} = E <- Events])),
    ?assertEqual(9, length([E || {exception, _, _, #{error := 'ValueError'}} = E <- Events])),
    no_event().

in_a_callback(_Config) ->
    ok = py:register_function(root, fun([N]) -> {ok, R} = py:call(math, sqrt, [N]), R end),
    true = register(telemetry_handler, self()),
    {ok, 4.0} = py:eval(<<"__import__('erlang').call('root', 16)">>),
    [{start, Outer, _, #{operation := eval}}, {start, Inner, _, #{function := sqrt}}, {stop, Inner, _, #{node := Node}},
     {stop, Outer, _, #{node := Node}}] = [event() || _ <- [1, 2, 3, 4]],
    no_event().

event() ->
    receive
        {event, Pid, [erlang_python, call, Event], Measurements, Metadata} -> {Event, Pid, Measurements, Metadata}
    after 5000 -> error(no_event)
    end.

no_event() ->
    receive {event, _, Event, _, _} -> error({unexpected, Event}) after 0 -> ok end.

without_library(_Config) ->
    {error, nofile} = code:ensure_loaded(telemetry),
    ok = app_ct:start(app_ct:workers(1)),
    ?assertEqual(none, py_events:sink()),
    ?assertEqual({ok, 4.0}, py:call(math, sqrt, [16])).

%% Something else that has this name.
library_without_function(_Config) ->
    {ok, telemetry, Beam} = compile:forms([{attribute, 1, module, telemetry}], [binary]),
    {module, telemetry} = code:load_binary(telemetry, "", Beam),
    ok = app_ct:start(app_ct:workers(1)),
    ?assertEqual(none, py_events:sink()),
    ?assertEqual({ok, 4.0}, py:call(math, sqrt, [16])),
    unload_library().

%%% The view for a terminal

top_options(_Config) ->
    [?assertMatch({Bad, {error, {bad_option, _}}}, {Bad, py_top:start(Bad)})
     || Bad <- [x, [x], [{lines, 5} | x], #{interval => 0}, #{interval => soon}, #{lines => 0}, #{lines => -1}, #{sort => x},
                #{output => "file"}, #{nonsense => 1}, [{interval, 1.5}]]],
    ?assertEqual(ok, py_top:stop()),
    Device = device(),
    {ok, Pid} = py_top:start(#{output => Device}),
    ?assertEqual({error, already_started}, py_top:start()),
    ?assertEqual(Pid, whereis(py_top)),
    ?assertEqual(ok, py_top:stop()),
    ?assertEqual(undefined, whereis(py_top)),
    {ok, _} = py_top:start([{output, Device}, {lines, 1}]),
    ok = py_top:stop().

%% One table at once, and one every interval.
top_shows(_Config) ->
    Device = device(),
    {ok, _} = py_top:start(#{output => Device, interval => 50}),
    Tables = [table(Device) || _ <- [1, 2, 3]],
    [begin
         [Head, Columns, Line, "", ""] = string:split(Table, "\n", all),
         ?assertMatch({match, _}, re:run(Head, "^20..-..-.. ..:..:..  .*" ++ atom_to_list(node()) ++
                                               ".* slots 0 of 32 in use .* C-nodes 1 of 1 up")),
         ?assertEqual(["node", "calls/s", "busy", "queued", "flight", "err/s", "late/s", "stuck", "MiB"],
                      string:lexemes(Columns, " ")),
         [Node, _, _, "0", "0", _, _, "0", Mib] = string:lexemes(Line, " "),
         ?assertEqual(lists:sublist(atom_to_list(app_ct:pynode()), 39), lists:sublist(Node, 39)),
         ?assert(list_to_float(Mib) > 5.0)
     end || Table <- Tables].

%% 300 calls, of which 100 are errors and some late, are what the tables after them add up to.
top_rates(_Config) ->
    Device = device(),
    {ok, _} = py_top:start(#{output => Device, interval => 200}),
    _ = table(Device),
    Ref = py:call_async(t_slow, sleep, [1.5]),
    [_ = py:call(math, sqrt, [N]) || N <- lists:seq(-100, 199)],
    [{error, timeout} = py:call(t_slow, spin, [], #{}, 20) || _ <- [1, 2]],
    Rows = [begin
                [_, _, Line | _] = string:split(table(Device), "\n", all),
                [_, Calls, Busy, _, _, Errors, Late | _] = string:lexemes(Line, " "),
                {list_to_float(Calls), Busy, list_to_float(Errors), list_to_float(Late)}
            end || _ <- lists:seq(1, 5)],
    Sum = fun(N) -> lists:sum([element(N, Row) * 0.2 || Row <- Rows]) end,
    ct:log("~p", [Rows]),
    ?assert(in_range(240, 330, Sum(1))),
    ?assert(in_range(80, 115, Sum(3))),
    ?assert(in_range(1, 3, Sum(4))),
    ?assert(lists:any(fun({_, Busy, _, _}) -> hd(Busy) =/= $0 end, Rows)),
    {ok, _} = py:await(Ref).

%% Three C-nodes; the one that has what is sorted by comes first.
top_sorts(_Config) ->
    {Ps, [A, B, C]} = three(),
    Device = device(),
    ok = py:exec(<<"held = bytearray(64 << 20)\nfor i in range(0, len(held), 4096): held[i] = 1\n">>, #{node => C}),
    Refs = [spawn_link(fun() -> py:call(t_slow, sleep, [2], #{}, #{node => A}) end) || _ <- [1, 2, 3]],
    spawn_link(fun() -> calls(B, erlang:monotonic_time(millisecond) + 2000) end),
    pyn_ct:wait_until(fun() -> maps:get(in_flight, maps:get(A, py:info())) =:= 3 end),
    [begin
         {ok, _} = py_top:start(#{output => Device, interval => 100, sort => Sort}),
         _ = table(Device),
         Table = table(Device),
         ok = py_top:stop(),
         flush(),
         ?assertEqual({Sort, First}, {Sort, list_to_atom(hd(nodes_in(Table)))})
     end || {Sort, First} <- [{queued, A}, {busy, A}, {calls, B}, {errors, B}, {memory, C}, {node, lists:min([A, B, C])}]],
    _ = Refs,
    two_again(Ps).

calls(Node, Until) ->
    _ = py:call(math, sqrt, [-1], #{}, #{node => Node}),
    erlang:monotonic_time(millisecond) < Until andalso calls(Node, Until).

top_lines(_Config) ->
    {Ps, Nodes} = three(),
    Device = device(),
    {ok, _} = py_top:start(#{output => Device, lines => 2, sort => node}),
    Table = table(Device),
    ?assertEqual([atom_to_list(N) || N <- lists:sublist(lists:sort(Nodes), 2)], nodes_in(Table)),
    ?assertNotEqual(nomatch, string:find(Table, "\nand 1 more\n")),
    ok = py_top:stop(),
    two_again(Ps).

%% What is down comes last and says so.
top_down(_Config) ->
    {[P | Ps], [A | _]} = three(),
    Device = device(),
    pyn_ct:signal(P, "KILL"),
    pyn_ct:wait_until(fun() -> maps:get(A, py:info()) =:= #{status => down} end),
    {ok, _} = py_top:start(#{output => Device}),
    Table = table(Device),
    ?assertEqual(atom_to_list(A), lists:last(nodes_in(Table))),
    ?assertMatch({match, _}, re:run(Table, atom_to_list(A) ++ " +down\n")),
    ?assertNotEqual(nomatch, string:find(Table, "C-nodes 2 of 3 up")),
    ok = py_top:stop(),
    two_again(Ps).

%% A node without a terminal: lines, and no control characters.
top_plain_shell(_Config) ->
    Ebin = filename:dirname(code:which(py)),
    Command = lists:concat([
        "erl -noshell -noinput -sname ", pyn_ct:unique("top"), " -setcookie c -kernel logger_level error -pa ", Ebin, " -eval '",
        "{ok, _} = application:ensure_all_started(erlang_python), {ok, _} = py_top:start([{interval, 100}]),",
        "timer:sleep(500), ok = py_top:stop(), ok = application:stop(erlang_python), halt().' 2>&1"]),
    Output = os:cmd(Command),
    ?assertEqual([], [C || C <- Output, C < $\s, C =/= $\n]),
    ?assert(length(string:split(Output, "calls/s", all)) > 2).

top_ends_with_device(_Config) ->
    Device = device(),
    {ok, Pid} = py_top:start(#{output => Device, interval => 20}),
    _ = table(Device),
    Ref = monitor(process, Pid),
    exit(Device, kill),
    receive {'DOWN', Ref, process, Pid, Why} -> ?assertEqual(normal, Why) after 5000 -> error(still_there) end,
    %% A name that nobody has.
    {ok, Pid2} = py_top:start(#{output => no_such_device}),
    Ref2 = monitor(process, Pid2),
    receive {'DOWN', Ref2, process, Pid2, _} -> ok after 5000 -> error(still_there) end,
    ?assertMatch({ok, 4.0}, py:call(math, sqrt, [16])).

top_ends_with_application(_Config) ->
    {ok, Pid} = py_top:start(#{output => device()}),
    Ref = monitor(process, Pid),
    app_ct:stop(),
    receive {'DOWN', Ref, process, Pid, _} -> ok after 5000 -> error(still_there) end.

top_not_running(_Config) ->
    app_ct:stop(),
    ?assertEqual({error, not_running}, py_top:start()),
    ?assertEqual(ok, py_top:stop()).

three() ->
    app_ct:stop(),
    Ps = [pyn_ct:start(["--workers", "2", "--main-workers", "1"]) || _ <- [a, b, c]],
    Nodes = [pyn_ct:node_of(P) || P <- Ps],
    ok = app_ct:start([{nodes, Nodes}, {max_concurrent, 32}]),
    pyn_ct:wait_until(fun() -> py:num_executors() =:= 6 end),
    {Ps, Nodes}.

two_again(Ps) ->
    app_ct:stop(),
    [pyn_ct:signal(P, "KILL") || P <- Ps],
    ok = app_ct:start([{max_concurrent, 32} | app_ct:workers(2)]).

%% The first words of the lines below the head.
nodes_in(Table) ->
    [_, _ | Lines] = string:split(Table, "\n", all),
    [hd(string:lexemes(Line, " ")) || Line <- Lines, Line =/= "", string:prefix(Line, "and ") =:= nomatch].

%% An io device that gives what is written to it to this process.
device() ->
    Self = self(),
    spawn_link(fun() -> unlink(Self), device(Self) end).

device(To) ->
    receive
        {io_request, From, Ref, {put_chars, unicode, Chars}} ->
            From ! {io_reply, Ref, ok},
            To ! {table, self(), unicode:characters_to_list(Chars)},
            device(To)
    end.

table(Device) ->
    receive {table, Device, Table} -> Table after 10000 -> error(no_table) end.

flush() ->
    receive {table, _, _} -> flush() after 0 -> ok end.
