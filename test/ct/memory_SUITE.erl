%% Statistics of Python's memory, its garbage collectors, and tracing of what it allocates: summed over interpreters and
%% nodes, and each for itself.
-module(memory_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([bad_arguments/1, not_started/1, keys/1, sums/1, two_nodes/1, busy_interpreter/1, collects/1, generations/1,
         collectors_fail/1, traced/1, traced_by_python/1, traced_by_interpreter/1, trace_twice/1, traced_under_load/1, later_node_traces/1,
         from_another_node/1]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [bad_arguments, not_started, keys, sums, two_nodes, busy_interpreter, collects, generations, collectors_fail, traced,
     traced_by_python, traced_by_interpreter, trace_twice, traced_under_load, later_node_traces, from_another_node].

init_per_suite(Config) -> Config.

end_per_suite(_Config) ->
    app_ct:stop(),
    pyn_ct:stop_all().

init_per_testcase(Case, Config) when Case =:= not_started; Case =:= two_nodes; Case =:= busy_interpreter;
                                     Case =:= later_node_traces ->
    app_ct:stop(),
    Config;
init_per_testcase(_, Config) ->
    %% One application for those that leave nothing behind.
    case py_router:up_nodes() of
        [_] -> ok;
        _ -> app_ct:start([{max_concurrent, 20} | app_ct:workers(2)])
    end,
    Config.

end_per_testcase(Case, _Config) ->
    _ = [app_ct:stop() || lists:member(Case, [two_nodes, busy_interpreter, later_node_traces])],
    ok.

interps() ->
    case app_ct:mode() of subinterp -> [0, 1, 2]; _ -> [0] end.

stats() ->
    {ok, Stats} = py:memory_stats(),
    Stats.

bad_arguments(_Config) ->
    [{error, {bad_option, {generation, G}}} = py:gc(G) || G <- [-1, 3, 1.0, a, <<"0">>, [], 1 bsl 70]],
    [{error, {bad_option, {frames, N}}} = py:tracemalloc_start(N) || N <- [0, -1, 65536, 1.5, a, 1 bsl 70]],
    ?assertNot(maps:is_key(traced_memory_current, stats())),
    ok = py:tracemalloc_stop(). %% nothing to stop

not_started(_Config) ->
    [{error, no_nodes} = F() || F <- [fun py:memory_stats/0, fun py:gc/0, fun py:tracemalloc_start/0,
                                      fun py:tracemalloc_stop/0]].

keys(_Config) ->
    #{gc_stats := Generations, gc_count := {A, B, C}, gc_threshold := {T, _, _}, allocated_blocks := Blocks,
      nodes := Nodes} = Stats = stats(),
    [#{<<"collections">> := _, <<"collected">> := _, <<"uncollectable">> := _}, _, _] = Generations,
    [?assert(is_integer(N)) || N <- [A, B, C]], %% without a GIL, threads count ahead: below 0 for a while
    [?assert(is_integer(N) andalso N >= 0) || N <- [T, Blocks] ++ lists:append([maps:values(G) || G <- Generations])],
    ?assert(Blocks > 1000),
    5 = map_size(Stats),
    Node = app_ct:pynode(),
    #{Node := #{memory := Memory, interpreters := Interpreters}} = Nodes,
    ?assert(Memory > 1000000),
    ?assertEqual(interps(), lists:sort(maps:keys(Interpreters))),
    [begin
         #{gc_stats := [_, _, _], gc_count := {_, _, _}, gc_threshold := {_, _, _}, allocated_blocks := _,
           modules := Modules} = I,
         ?assert(Modules > 10),
         5 = map_size(I)
     end || I <- maps:values(Interpreters)],
    0 = py_semaphore:current().

sums(_Config) ->
    #{gc_stats := Generations, gc_count := Count, gc_threshold := Threshold, allocated_blocks := Blocks, nodes := Nodes} = stats(),
    [#{interpreters := Map}] = maps:values(Nodes),
    All = maps:values(Map),
    Blocks = lists:sum([B || #{allocated_blocks := B} <- All]),
    [begin
         Sum = maps:get(Key, lists:nth(N, Generations)),
         Sum = lists:sum([maps:get(Key, lists:nth(N, G)) || #{gc_stats := G} <- All])
     end || N <- [1, 2, 3], Key <- [<<"collections">>, <<"collected">>, <<"uncollectable">>]],
    Count = list_to_tuple([lists:sum([element(N, C) || #{gc_count := C} <- All]) || N <- [1, 2, 3]]),
    Threshold = maps:get(gc_threshold, maps:get(0, Map)).

two_nodes(_Config) ->
    P = pyn_ct:start(["--workers", "1"]),
    Other = pyn_ct:node_of(P),
    ok = app_ct:start([{nodes, [local, Other]} | app_ct:workers(1)]),
    #{nodes := Nodes, allocated_blocks := Blocks} = stats(),
    ?assertEqual(lists:sort(py_router:known_nodes()), lists:sort(maps:keys(Nodes))),
    Blocks = lists:sum([B || #{interpreters := Is} <- maps:values(Nodes), #{allocated_blocks := B} <- maps:values(Is)]),
    {ok, N} = py:gc(),
    ?assert(is_integer(N)),
    %% One that is gone is not in it.
    pyn_ct:signal(P, "KILL"),
    pyn_ct:wait_until(fun() -> length(py_router:up_nodes()) =:= 1 end),
    [Local] = maps:keys(maps:get(nodes, stats())),
    ?assert(Local =/= Other).

%% It says so in its place; the others are there.
busy_interpreter(Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    Go = filename:join(proplists:get_value(priv_dir, Config), pyn_ct:unique("go")),
    Ref = py:call_async(t_slow, until_there, [list_to_binary(Go)], #{}),
    Node = app_ct:pynode(),
    pyn_ct:wait_until(fun() -> #{Node := #{busy := Busy}} = py:info(), Busy =:= 1 end),
    case app_ct:mode() of
        subinterp ->
            #{nodes := #{Node := #{interpreters := Is, memory := _}}, allocated_blocks := Blocks} = stats(),
            #{0 := #{allocated_blocks := Blocks}, 1 := #{error := timeout}} = Is;
        _ ->
            {error, timeout} = py:memory_stats()
    end,
    ok = file:write_file(Go, <<>>),
    {ok, _} = py:await(Ref, 10000).

%% Cycles in every interpreter.
collects(_Config) ->
    Cycles = "import gc\ngc.disable()\nfor i in range(100):\n x = [i]\n x.append(x)\ndel x",
    {ok, _} = py:gc(),
    ok = py:exec_all(Cycles),
    {ok, Collected} = py:gc(),
    ok = py:exec_all("import gc\ngc.enable()"),
    {true, _} = {Collected >= 100 * length(interps()), Collected},
    ok = py:exec_all(Cycles),
    {ok, More} = py:gc(2),
    {true, _} = {More >= 100 * length(interps()), More},
    ok = py:exec_all("import gc\ngc.enable()").

generations(_Config) ->
    Collections = fun(N) -> maps:get(<<"collections">>, lists:nth(N + 1, maps:get(gc_stats, stats()))) end,
    [begin
         Before = Collections(G),
         {ok, _} = py:gc(G),
         ?assert(Collections(G) >= Before + length(interps()))
     end || G <- free_threaded_knows(app_ct:mode())].

%% Without a GIL there is one generation, whichever is asked for.
free_threaded_knows(free_threaded) -> [2];
free_threaded_knows(_) -> [0, 1, 2].

%% What a collector runs into is the result, not silence.
collectors_fail(_Config) ->
    ok = py:exec_all("import gc\nkeep = gc.collect\ndef fail(n): raise RuntimeError('no')\ngc.collect = fail"),
    {error, {'RuntimeError', "no"}} = py:gc(),
    ok = py:exec_all("import gc\ngc.collect = keep"),
    {ok, _} = py:gc().

traced(_Config) ->
    Traced = fun() -> maps:with([traced_memory_current, traced_memory_peak], stats()) end,
    #{} = None = Traced(),
    0 = map_size(None),
    ok = py:tracemalloc_start(),
    #{traced_memory_current := Start} = Traced(),
    Size = 1000000,
    ok = py:exec(["big = bytearray(", integer_to_list(Size), ")"]),
    #{traced_memory_current := With, traced_memory_peak := Peak} = Traced(),
    {true, _} = {With - Start >= Size andalso With - Start < Size + 300000, {Start, With}},
    ?assert(Peak >= With),
    ok = py:exec("del big"),
    %% A free-threaded Python leaves it to the thread that made it, or to a collection, to free what another one let go.
    pyn_ct:wait_until(fun() ->
        {ok, _} = py:gc(),
        #{traced_memory_current := Without} = Traced(),
        Without < With - Size + 300000
    end),
    #{traced_memory_peak := PeakStays} = Traced(),
    ?assert(PeakStays >= Peak),
    ok = py:tracemalloc_stop(),
    None = Traced(),
    %% From nothing again.
    ok = py:tracemalloc_start(10),
    #{traced_memory_peak := Again} = Traced(),
    ?assert(Again < Size),
    ok = py:tracemalloc_stop().

%% By Python code itself. Where it would crash the process it is refused, and the node counts on.
traced_by_python(_Config) ->
    {ok, false} = py:call(tracemalloc, is_tracing, []),
    Started = py:call(tracemalloc, start, [5]),
    case app_ct:mode() of
        subinterp -> {error, {'RuntimeError', "tracemalloc cannot run beside " ++ _}} = Started;
        _ -> {ok, none} = Started
    end,
    {ok, Tracing} = py:call(tracemalloc, is_tracing, []),
    Tracing = app_ct:mode() =/= subinterp,
    {ok, none} = py:call(tracemalloc, stop, []),
    ok = py:tracemalloc_start(),
    ?assertMatch(#{traced_memory_current := _}, stats()),
    ok = py:tracemalloc_stop().

%% What each one allocated is its own; the node's is the sum.
traced_by_interpreter(_Config) ->
    ok = py:tracemalloc_start(),
    ok = py:exec_all("big = bytearray(500000)"),
    #{traced_memory_current := All, traced_memory_peak := AllPeak, nodes := Nodes} = stats(),
    [#{traced_memory_current := OfNode, traced_memory_peak := Peak, interpreters := Is}] = maps:values(Nodes),
    All = OfNode,
    AllPeak = Peak,
    ?assertEqual(interps(), lists:sort(maps:keys(Is))),
    [{true, _} = {Own >= 500000 andalso Own < 900000 andalso OwnPeak >= Own, I}
     || #{traced_memory_current := Own, traced_memory_peak := OwnPeak} = I <- maps:values(Is)],
    ?assert(All >= 500000 * length(interps())),
    ok = py:exec_all("del big"),
    ok = py:tracemalloc_stop().

trace_twice(_Config) ->
    ok = py:tracemalloc_start(),
    ok = py:exec("big = bytearray(500000)"),
    ok = py:tracemalloc_start(),
    #{traced_memory_current := Current} = stats(),
    ?assert(Current >= 500000),
    ok = py:tracemalloc_stop(),
    ok = py:tracemalloc_stop(),
    ?assertNot(maps:is_key(traced_memory_current, stats())),
    ok = py:exec("del big").

%% Memory that was allocated before the start, or is freed after the stop, harms nothing; neither do calls meanwhile.
traced_under_load(_Config) ->
    Node = app_ct:pynode(),
    #{Node := #{os_pid := OsPid}} = py:info(),
    Self = self(),
    Callers = [spawn_link(fun() -> load(Self, 0) end) || _ <- lists:seq(1, 4)],
    [begin
         ok = py:tracemalloc_start(N),
         ?assert(is_integer(maps:get(traced_memory_current, stats()))),
         ok = py:tracemalloc_stop()
     end || N <- lists:seq(1, 15)],
    [C ! stop || C <- Callers],
    [receive {C, Calls} -> ?assert(Calls > 0) end || C <- Callers],
    #{Node := #{os_pid := OsPid, status := up}} = py:info(),
    ok.

load(Parent, N) ->
    {ok, 300} = py:eval("len({str(i): [i] * 20 for i in range(300)})"),
    ok = py:exec(["def f", integer_to_list(N rem 50), "(): return [object() for _ in range(100)]"]),
    receive stop -> Parent ! {self(), N + 1} after 0 -> load(Parent, N + 1) end.

%% A C-node that comes up while tracing is on traces too.
later_node_traces(_Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    ok = py:tracemalloc_start(),
    #{os_pid := OsPid} = maps:get(app_ct:pynode(), py:info()),
    _ = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    Stats = pyn_ct:wait_until(fun() -> case py:memory_stats() of {ok, S} -> S; {error, _} -> false end end),
    ?assert(maps:is_key(traced_memory_current, Stats)),
    ok = py:tracemalloc_stop(),
    ?assertNot(maps:is_key(traced_memory_current, stats())).

from_another_node(_Config) ->
    B = app_ct:start_peer([{coordinator, node()}, {nodes, [app_ct:pynode()]}]),
    {ok, #{gc_stats := [_, _, _]}} = app_ct:on(B, fun() -> py:memory_stats() end),
    {ok, _} = app_ct:on(B, fun() -> py:gc(1) end),
    app_ct:stop_peer(B).
