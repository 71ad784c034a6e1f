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
busy_and_queued(Config) ->
    Go = file(Config),
    Refs = [py:call_async(t_slow, until_there, [Go]) || _ <- lists:seq(1, 5)],
    pyn_ct:wait_until(fun() ->
        #{busy := Busy, queued := Queued, in_flight := InFlight} = info(),
        {Busy, Queued, InFlight} =:= {2, 3, 5}
    end),
    ok = file:write_file(Go, ""),
    [{ok, _} = py:await(Ref) || Ref <- Refs],
    pyn_ct:wait_until(fun() ->
        #{busy := Busy, queued := Queued, in_flight := InFlight} = info(),
        {Busy, Queued, InFlight} =:= {0, 0, 0}
    end).

counters(Config) ->
    [Marks, Never] = [file(Config), file(Config)],
    Before = info(),
    [{ok, _} = py:call(math, sqrt, [N]) || N <- lists:seq(1, 100)],
    [{error, {'ValueError', _}} = py:call(math, sqrt, [-1]) || _ <- lists:seq(1, 10)],
    %% Long enough to have begun before they are late: one that has not is no call, and has left no mark. Their callers stay:
    %% the C-node counts the time from the arrival, and a call whose caller is gone before it is over is no timeout there.
    Self = self(),
    Late = [spawn_link(fun() ->
                Self ! {self(), py:call(t_slow, marked_until, [Marks, Never], #{}, 1000)},
                receive leave -> ok end
            end) || _ <- [1, 2]],
    [receive {Caller, Result} -> {error, timeout} = Result end || Caller <- Late],
    %% A call that was late is counted as a call when it has ended, soon after its answer.
    pyn_ct:wait_until(fun() -> {grown(timeouts, Before), maps:get(in_flight, info())} =:= {2, 0} end),
    [Caller ! leave || Caller <- Late],
    ?assert(in_range(110 + filelib:file_size(Marks), 112, grown(calls, Before))),
    %% Python code that is interrupted ends by an exception.
    Errors = grown(errors, Before),
    ?assert(Errors >= 10 andalso Errors =< 12).

%% While it cannot be interrupted; then it is a spare one.
stuck(_Config) ->
    #{stuck := 0, stuck_total := Total} = info(),
    Free = app_ct:stick(),
    pyn_ct:wait_until(fun() -> maps:get(stuck, info()) =:= 1 end),
    Free(),
    pyn_ct:wait_until(fun() -> maps:get(stuck, info()) =:= 0 end),
    ?assertEqual(Total + 1, maps:get(stuck_total, info())).

%% What comes in and goes out is what is counted, give or take the frames around it.
bytes(_Config) ->
    Before = info(),
    {ok, 1000000} = py:call(builtins, len, [binary:copy(<<"x">>, 1000000)]),
    Between = info(),
    {ok, Text} = py:eval(<<"'x' * 2000000">>),
    2000000 = byte_size(Text),
    %% What has been written is counted a moment later, but before anything else is written to the same node.
    _ = info(),
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
    ok = app_ct:start([{nodes, ['py_nowhere@-nohost', local]} | app_ct:workers(1)]),
    ?assertMatch([#{status := down}, #{status := up}], lists:sort(maps:values(py:info()))),
    ?assertEqual(#{status => down}, maps:get('py_nowhere@-nohost', py:info())),
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
    {error, {nodedown, 'no@-where'}} = py:call(math, sqrt, [16], #{}, #{node => 'no@-where'}),
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

%% 300 calls, of which 100 are errors, and some that are late, between two tables. The second one does not begin before all
%% of them are counted, so that the time between the two is known within bounds, whatever was late.
top_rates(Config) ->
    Go = file(Config),
    Device = holding_device(),
    Began = erlang:monotonic_time(millisecond),
    {ok, _} = py_top:start(#{output => Device, interval => 1}),
    _ = table(Device),
    Shown = erlang:monotonic_time(millisecond),
    Before = info(),
    Ref = py:call_async(t_slow, until_there, [Go]),
    pyn_ct:wait_until(fun() -> maps:get(busy, info()) =:= 1 end),
    [_ = py:call(math, sqrt, [N]) || N <- lists:seq(-100, 199)],
    [{error, timeout} = py:call(t_slow, spin, [], #{}, 20) || _ <- [1, 2]],
    pyn_ct:wait_until(fun() ->
        #{busy := Busy, in_flight := InFlight} = info(),
        {grown(timeouts, Before), InFlight, Busy} =:= {2, 1, 1}
    end),
    Counted = [grown(Key, Before) || Key <- [calls, errors, timeouts]],
    Least = erlang:monotonic_time(millisecond) - Shown - 1,
    Device ! go,
    [_, _, Line | _] = string:split(table(Device), "\n", all),
    Most = erlang:monotonic_time(millisecond) - Began + 1,
    [_, Calls, "1/" ++ _, "0", "1", Errors, Late | _] = string:lexemes(Line, " "),
    ct:log("~p in ~b to ~b ms: ~s", [Counted, Least, Most, Line]),
    ?assert(hd(Counted) >= 300),
    [?assert(in_range(list_to_float(Rate) * Least / 1000 - 1, list_to_float(Rate) * Most / 1000 + 1, N))
     || {Rate, N} <- lists:zip([Calls, Errors, Late], Counted)],
    ok = file:write_file(Go, ""),
    {ok, _} = py:await(Ref).

%% Three C-nodes; the one that has what is sorted by comes first.
top_sorts(Config) ->
    {Ps, [A, B, C]} = three(),
    Go = file(Config),
    ok = py:exec(<<"held = bytearray(64 << 20)\nfor i in range(0, len(held), 4096): held[i] = 1\n">>, #{node => C}),
    [spawn_link(fun() -> py:call(t_slow, until_there, [Go], #{}, #{node => A}) end) || _ <- lists:seq(1, 6)],
    Caller = spawn_link(fun() -> calls(B) end),
    pyn_ct:wait_until(fun() -> maps:with([busy, queued], maps:get(A, py:info())) =:= #{busy => 2, queued => 4} end),
    [begin
         Device = device(),
         {ok, _} = py_top:start(#{output => Device, interval => 100, sort => Sort}),
         _ = table(Device),
         Table = moving_table(Device, Sort),
         ok = py_top:stop(),
         ?assertEqual({Sort, First}, {Sort, list_to_atom(hd(nodes_in(Table)))})
     end || {Sort, First} <- [{queued, A}, {busy, A}, {calls, B}, {errors, B}, {memory, C}, {node, lists:min([A, B, C])}]],
    unlink(Caller),
    exit(Caller, kill),
    ok = file:write_file(Go, ""),
    two_again(Ps).

calls(Node) ->
    _ = py:call(math, sqrt, [-1], #{}, #{node => Node}),
    calls(Node).

%% The next one in whose time calls have ended: on a busy machine there may be none.
moving_table(Device, Sort) ->
    Column = maps:get(Sort, #{calls => 2, errors => 6}, none),
    pyn_ct:wait_until(fun() ->
        Table = table(Device),
        (Column =:= none orelse lists:any(fun(Row) -> lists:nth(Column, Row) =/= "0.0" end, rows_of(Table))) andalso Table
    end).

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
top_plain_shell(Config) ->
    Enough = file(Config),
    Ebin = filename:dirname(code:which(py)),
    Command = lists:concat([
        "erl -noshell -noinput -sname ", pyn_ct:unique("top"), " -setcookie c -kernel logger_level error -pa ", Ebin, " -eval '",
        "Wait = fun Wait() -> filelib:is_file(<<\"", binary_to_list(Enough), "\">>) orelse timer:sleep(10) =/= ok orelse Wait() end,",
        "{ok, _} = application:ensure_all_started(erlang_python), {ok, _} = py_top:start([{interval, 100}]),",
        "Wait(), ok = py_top:stop(), ok = application:stop(erlang_python), halt().' 2>&1"]),
    Output = two_tables(open_port({spawn, Command}, [exit_status]), Enough, ""),
    ?assertEqual([], [C || C <- Output, C < $\s, C =/= $\n]).

%% All that it writes; it is told to end when there are two tables.
two_tables(Port, Enough, Seen) ->
    receive
        {Port, {data, Data}} ->
            All = Seen ++ Data,
            _ = length(string:split(All, "calls/s", all)) > 2 andalso file:write_file(Enough, ""),
            two_tables(Port, Enough, All);
        {Port, {exit_status, 0}} -> Seen
    after 30000 -> error({no_tables, Seen})
    end.

top_ends_with_device(_Config) ->
    Device = device(),
    {ok, Pid} = py_top:start(#{output => Device, interval => 20}),
    _ = table(Device),
    Ref = monitor(process, Pid),
    exit(Device, kill),
    receive {'DOWN', Ref, process, Pid, Why} -> ?assertEqual(normal, Why) after 5000 -> error(still_there) end,
    %% It is not in the way of the next one, though its supervisor may not know yet.
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
    [hd(Row) || Row <- rows_of(Table)].

rows_of(Table) ->
    [_, _ | Lines] = string:split(Table, "\n", all),
    [string:lexemes(Line, " ") || Line <- Lines, Line =/= "", string:prefix(Line, "and ") =:= nomatch].

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

%% One that takes the first table only when it is told to.
holding_device() ->
    Self = self(),
    spawn_link(fun() ->
        unlink(Self),
        receive
            {io_request, From, Ref, {put_chars, unicode, Chars}} ->
                Self ! {table, self(), unicode:characters_to_list(Chars)},
                receive go -> From ! {io_reply, Ref, ok} end,
                device(Self)
        end
    end).

table(Device) ->
    receive {table, Device, Table} -> Table after 10000 -> error(no_table) end.

file(Config) ->
    list_to_binary(filename:join(?config(priv_dir, Config), pyn_ct:unique("file"))).
