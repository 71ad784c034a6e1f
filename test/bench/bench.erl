%% make bench: pynode against a BEAM echo gen_server, interleaved in one run.
%%
%% Every figure is a ratio to the echo of the same round; what is printed is the median over the rounds, so that a
%% machine that is shared and drifts does not decide. Clients:
%%
%%   send     erlang:send and receive, the lowest level there is; the same for the echo (its reference)
%%   call     gen_server:call for the echo; py:call for pynode, with semaphore, monitor and routing
%%
%% main(Words): "short" runs for correctness, not for figures; "rates", "sizes", "speedup", "callbacks": only these parts.
-module(bench).

-export([main/1]).

main(Args) ->
    Short = lists:member("short", Args),
    Parts = case Args -- ["short"] of [] -> ["rates", "sizes", "speedup", "callbacks"]; Some -> Some end,
    {ok, Nodes} = start_nodes(),
    try
        Results = [{Part, part(Part, Nodes, Short)} || Part <- Parts],
        write_results("build/bench.term", Results)
    after
        stop_nodes(Nodes)
    end.

part("rates", Nodes, Short) ->
    Rounds = case Short of true -> 1; false -> 7 end,
    Millis = case Short of true -> 200; false -> 1000 end,
    Rates = rates(Nodes, Rounds, Millis),
    report_rates(Rates),
    write_svg("build/bench.svg", Rates),
    io:format("plot: build/bench.svg~n"),
    Rates;
part("sizes", Nodes, Short) ->
    report_sizes(sizes(Nodes, Short));
part("speedup", Nodes, Short) ->
    report_speedup(speedup(Nodes, Short));
part("callbacks", Nodes, Short) ->
    report_callbacks(callbacks(Nodes, Short)).

%% ---- nodes ----

start_nodes() ->
    Here = filename:absname(filename:dirname(code:which(?MODULE))),
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, pynode_args, ["--path", filename:absname("test/bench/py")]),
    ok = application:set_env(erlang_python, max_concurrent, 1024),
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, Peer, Echo} = peer:start(#{name => peer:random_name(), connection => standard_io,
                                    args => ["-pa", Here, "-setcookie", atom_to_list(erlang:get_cookie())]}),
    {ok, _} = peer:call(Peer, gen_server, start, [{local, echo}, echo_server, [], []]),
    pong = net_adm:ping(Echo),
    [{Py, Info}] = maps:to_list(py:info()),
    io:format("BEAM echo: OTP ~s; pynode: Python ~s, mode ~s, ~b workers~n",
              [erlang:system_info(otp_release), maps:get(python, Info), maps:get(mode, Info), maps:get(workers, Info)]),
    {ok, #{peer => Peer, echo => Echo, py => Py, os_pid => maps:get(os_pid, Info)}}.

stop_nodes(#{peer := Peer}) ->
    application:stop(erlang_python),
    peer:stop(Peer).

%% ---- calls per second ----

rates(Nodes, Rounds, Millis) ->
    [{N, [rate_round(Nodes, N, Millis) || _ <- lists:seq(1, Rounds)]} || N <- [1, 8, 64, 256]].

rate_round(Nodes, N, Millis) ->
    [{Who, load(caller(Who, Nodes), N, Millis, Nodes)} || Who <- [echo_send, py_send, echo_call, py_call]].

caller(echo_send, #{echo := Node}) ->
    fun() -> send_call({echo, Node}, {call, math, sqrt, [16]}) end;
caller(py_send, #{py := Node}) ->
    fun() -> send_call({py, Node}, {call, math, sqrt, [16]}) end;
caller(echo_call, #{echo := Node}) ->
    fun() -> gen_server:call({echo, Node}, {call, math, sqrt, [16]}) end;
caller(py_call, _) ->
    fun() -> py:call(math, sqrt, [16]) end.

send_call(To, Request) ->
    Ref = make_ref(),
    To ! {'$gen_call', {self(), Ref}, Request},
    receive {Ref, Reply} -> Reply after 60000 -> exit(no_answer) end.

%% N processes call for Millis; {Calls per second, p50, p99 in us, CPU us of pynode per call}.
load(Fun, N, Millis, Nodes) ->
    Cpu0 = cpu(Nodes),
    Until = erlang:monotonic_time(microsecond) + Millis * 1000,
    Began = erlang:monotonic_time(microsecond),
    Pids = [spawn_monitor(fun() -> exit({times, loop(Fun, Until, [])}) end) || _ <- lists:seq(1, N)],
    Times = lists:append([receive {'DOWN', Ref, process, Pid, {times, T}} -> T end || {Pid, Ref} <- Pids]),
    Took = erlang:monotonic_time(microsecond) - Began,
    Calls = length(Times),
    Sorted = lists:sort(Times),
    #{rate => Calls * 1.0e6 / Took, p50 => nth(0.5, Sorted), p99 => nth(0.99, Sorted), cpu => (cpu(Nodes) - Cpu0) / Calls}.

loop(Fun, Until, Times) ->
    T0 = erlang:monotonic_time(nanosecond),
    {ok, 4.0} = Fun(),
    T1 = erlang:monotonic_time(nanosecond),
    case T1 div 1000 >= Until of
        true -> [(T1 - T0) / 1000 | Times];
        false -> loop(Fun, Until, [(T1 - T0) / 1000 | Times])
    end.

nth(Part, Sorted) ->
    lists:nth(max(1, min(length(Sorted), round(Part * length(Sorted)))), Sorted).

%% CPU time of pynode in us.
cpu(#{os_pid := Pid}) ->
    {ok, Bin} = file:read_file(["/proc/", integer_to_list(Pid), "/stat"]),
    [_, Rest] = binary:split(Bin, <<") ">>),
    Fields = binary:split(Rest, <<" ">>, [global]),
    (binary_to_integer(lists:nth(12, Fields)) + binary_to_integer(lists:nth(13, Fields))) * 10000.

%% ---- large values ----

sizes(Nodes, Short) ->
    Rounds = case Short of true -> 1; false -> 5 end,
    [{Name, [size_round(Nodes, Term, Count) || _ <- lists:seq(1, Rounds)]} || {Name, Term, Count} <- large(Short)].

large(Short) ->
    Binary = fun(Bytes) -> binary:copy(<<0:64, 255:8, 1:8, 2:16, 250:32>>, Bytes div 16) end,
    Few = fun(N) -> case Short of true -> 1; false -> N end end,
    [{"binary of 1 MiB", Binary(1 bsl 20), Few(60)},
     {"binary of 64 MiB", Binary(64 bsl 20), Few(3)},
     {"list of 100 000 integers", lists:seq(100001, 200000), Few(15)},
     {"map of 10 000 string keys", maps:from_list([{key(I), I} || I <- lists:seq(1, 10000)]), Few(30)}].

key(I) ->
    <<"key", (integer_to_binary(I))/binary>>.

size_round(#{echo := Echo, py := Py}, Term, Count) ->
    A = echo_time({echo, Echo}, Term, Count),
    B = echo_time({py, Py}, Term, Count),
    {A, B}.

echo_time(To, Term, Count) ->
    Parent = self(),
    {Pid, Ref} = spawn_monitor(fun() ->
        {Us, ok} = timer:tc(fun() -> echo_loop(To, Term, Count) end),
        Parent ! {took, self(), Us}
    end),
    receive {took, Pid, Us} -> erlang:demonitor(Ref, [flush]), Us / Count;
            {'DOWN', Ref, process, Pid, Reason} -> exit(Reason)
    end.

echo_loop(_To, _Term, 0) -> ok;
echo_loop(To, Term, N) ->
    {ok, Term} = send_call(To, {call, bench_work, identity, [Term]}),
    echo_loop(To, Term, N - 1).

%% ---- two CPU-bound calls on two workers ----

speedup(_Nodes, Short) ->
    N = case Short of true -> 20000; false -> 3000000 end,
    [spin_round(N) || _ <- lists:seq(1, case Short of true -> 1; false -> 5 end)].

spin_round(N) ->
    One = spins(1, N),
    Two = spins(2, N),
    {One, Two, processes(1, N), processes(2, N)}.

spins(Count, N) ->
    {Us, _} = timer:tc(fun() ->
        Refs = [py:call_async(bench_work, spin, [N]) || _ <- lists:seq(1, Count)],
        [{ok, _} = py:await(R, 120000) || R <- Refs]
    end),
    Us.

processes(Count, N) ->
    Code = "t = 0\nfor i in range(" ++ integer_to_list(N) ++ "):\n    t += i * i\n",
    {Us, _} = timer:tc(fun() ->
        Ports = [open_port({spawn_executable, "/usr/bin/python3"}, [exit_status, {args, ["-c", Code]}]) || _ <- lists:seq(1, Count)],
        [receive {P, {exit_status, 0}} -> ok end || P <- Ports]
    end),
    Us.

%% ---- Python calls Erlang ----

%% The reference: a process on the other BEAM node that does the same against a gen_server here.
callbacks(#{peer := Peer}, Short) ->
    N = case Short of true -> 20; false -> 2000 end,
    Rounds = case Short of true -> 1; false -> 5 end,
    {ok, Server} = echo_server:start_link(),
    ok = py:register_function(identity, fun([X]) -> X end),
    ok = py:register_function(through, fun([X]) -> {ok, Y} = py:call(bench_work, identity, [X]), Y end),
    Beam = fun(Requests, Processes, Count) ->
        peer:call(Peer, echo_server, loop, [node(), Requests, Processes, Count], 120000) / (Processes * Count)
    end,
    Python = fun(Name, Args, Count) ->
        {Us, {ok, none}} = timer:tc(fun() -> py:call(bench_work, Name, Args, #{}, 120000) end),
        Us / Count
    end,
    Small = #{<<"model">> => <<"m">>, <<"timeout">> => 30000},
    Cases = [
        {"erlang.call of identity", fun() -> Beam([{callback, identity, [1]}], 1, N) end, fun() -> Python(calls, [N], N) end},
        {"state_incr", fun() -> Beam([{incr, bench}], 1, N) end, fun() -> Python(increments, [N], N) end},
        {"state_incr by 8 threads", fun() -> Beam([{incr, bench}], 8, N div 4) end,
         fun() -> Python(increments_by_threads, [N div 4, 8], 8 * (N div 4)) end},
        {"the same to one process", fun() -> Beam([{incr, bench}], 1, N) end,
         fun() -> Python(increments_by_threads, [N div 4, 8], 8 * (N div 4)) end},
        {"state_set and state_get", fun() -> Beam([{store, config, Small}, {fetch, config}], 1, N) end,
         fun() -> Python(get_and_set, [N], N) end},
        {"Python -> Erlang -> Python", fun() -> Python(calls, [N], N) + one_way(N) end, fun() -> Python(nested, [N], N) end}
    ],
    Results = [{Name, [{A(), B()} || _ <- lists:seq(1, Rounds)]} || {Name, A, B} <- Cases],
    unlink(Server),
    gen_server:stop(Server),
    Results.

one_way(N) ->
    {Us, _} = timer:tc(fun() -> [{ok, 1} = py:call(bench_work, identity, [1]) || _ <- lists:seq(1, N)] end),
    Us / N.

report_callbacks(Results) ->
    io:format("~nPython calls Erlang, us each; ratio = BEAM / pynode (nested: sum of the parts / measured)~n"),
    [io:format("~-28s ~8.1f ~8.1f ~6.2f~n", [Name, med([A || {A, _} <- R]), med([B || {_, B} <- R]), med([A / B || {A, B} <- R])])
     || {Name, R} <- Results],
    Results.

%% ---- report ----

report_rates(Rates) ->
    io:format("~nmath.sqrt(16), median of the rounds; ratio = pynode / BEAM echo, a gen_server, by the same kind of client~n"),
    io:format("~8s ~10s ~10s ~7s ~7s ~10s ~10s ~7s ~17s ~17s ~9s~n",
              ["callers", "echo send", "py send", "ratio", "to call", "echo call", "py:call", "ratio", "p50 us send", "p50 us call",
               "cpu us"]),
    [report_rate(N, Rounds) || {N, Rounds} <- Rates].

report_sizes(Sizes) ->
    io:format("~necho of large values, ms; ratio = BEAM / pynode~n"),
    [io:format("~-28s ~8.2f ~8.2f ~6.2f~n", [Name, med([A || {A, _} <- R]) / 1000, med([B || {_, B} <- R]) / 1000,
                                             med([A / B || {A, B} <- R])]) || {Name, R} <- Sizes],
    Sizes.

report_speedup(Speedup) ->
    io:format("~ntwo CPU-bound calls, speed-up over one after the other: workers ~.2f, processes ~.2f~n",
              [med([2 * A / B || {A, B, _, _} <- Speedup]), med([2 * C / D || {_, _, C, D} <- Speedup])]),
    Speedup.

report_rate(N, Rounds) ->
    Get = fun(Who, Key) -> [maps:get(Key, proplists:get_value(Who, R)) || R <- Rounds] end,
    Ratio = fun(A, B, Key) -> med([X / Y || {X, Y} <- lists:zip(Get(A, Key), Get(B, Key))]) end,
    Rate = fun(Who) -> round(med(Get(Who, rate))) end,
    P = fun(Who) -> io_lib:format("~.1f/~.1f", [med(Get(Who, p50)), med(Get(Who, p99))]) end,
    io:format("~8b ~10b ~10b ~7.2f ~7.2f ~10b ~10b ~7.2f ~17s ~17s ~9.1f~n",
              [N, Rate(echo_send), Rate(py_send), Ratio(py_send, echo_send, rate), Ratio(py_send, echo_call, rate),
               Rate(echo_call), Rate(py_call), Ratio(py_call, echo_call, rate),
               P(py_send), P(py_call), med(Get(py_send, cpu))]),
    N =:= 1 andalso io:format("         p50 ratio: send ~.2f, call ~.2f~n",
                              [Ratio(py_send, echo_send, p50), Ratio(py_call, echo_call, p50)]).

med(List) ->
    Sorted = lists:sort(List),
    lists:nth((length(Sorted) + 1) div 2, Sorted).

write_results(File, Term) ->
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, io_lib:format("~p.~n", [Term])).

%% ---- plot ----

%% Bars of calls per second by number of callers; plain SVG.
write_svg(File, Rates) ->
    Series = [{echo_send, "#9aa5b1", "BEAM echo, send"}, {py_send, "#2f855a", "pynode, send"},
              {echo_call, "#cbd2d9", "BEAM echo, gen_server:call"}, {py_call, "#68d391", "pynode, py:call"}],
    Values = [{N, [{C, med([maps:get(rate, proplists:get_value(W, R)) || R <- Rounds])} || {W, C, _} <- Series]}
              || {N, Rounds} <- Rates],
    Max = lists:max([V || {_, Vs} <- Values, {_, V} <- Vs]),
    Bars = [bars(I, N, Vs, Max) || {I, {N, Vs}} <- lists:zip(lists:seq(0, length(Values) - 1), Values)],
    Legend = [io_lib:format("<rect x='~b' y='12' width='12' height='12' fill='~s'/><text x='~b' y='22'>~s</text>~n",
                            [60 + I * 175, C, 77 + I * 175, T])
              || {I, {_, C, T}} <- lists:zip(lists:seq(0, 3), Series)],
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, ["<svg xmlns='http://www.w3.org/2000/svg' width='780' height='340' ",
                                "font-family='sans-serif' font-size='12'>\n"
                                "<rect width='780' height='340' fill='white'/>\n", Legend, Bars,
                                "<text x='390' y='332' text-anchor='middle'>callers (bars: thousand calls per second)</text>\n</svg>\n"]).

bars(I, N, Values, Max) ->
    X0 = 50 + I * 180,
    [[begin
          H = round(240 * V / Max),
          X = X0 + J * 38,
          io_lib:format("<rect x='~b' y='~b' width='34' height='~b' fill='~s'/>"
                        "<text x='~b' y='~b' text-anchor='middle'>~.1f</text>~n",
                        [X, 290 - H, H, C, X + 17, 285 - H, V / 1000])
      end || {J, {C, V}} <- lists:zip(lists:seq(0, length(Values) - 1), Values)],
     io_lib:format("<text x='~b' y='308' text-anchor='middle'>~b</text>~n", [X0 + 76, N])].
