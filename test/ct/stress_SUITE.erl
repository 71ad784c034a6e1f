%% Many callers on several nodes at once, with messages of all sizes: each answer belongs to the caller that gets it.
%% PYN_STRESS_SECONDS (20) and PYN_STRESS_CALLERS (64) make it shorter where everything is slow.
-module(stress_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-define(LARGEST, (8 * 1024 * 1024)).
-define(NODES, 3).
%% A call is an error when it takes longer: nothing here takes that long by itself.
-define(CALL_MS, 60000).
%% What a node counts.
-define(CALLS, 1).
-define(BYTES, 2).
-define(LOST, 3).

suite() -> [{timetrap, {minutes, 5}}].

all() ->
    [mixed_sizes, callers_die, connections_die].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    pyn_ct:stop_all().

init_per_testcase(_Case, Config) ->
    %% Where everything is slow (sanitizers), the conversion of a large term cannot be told from C code that is stuck.
    P = pyn_ct:start(["--max-queue", "20000", "--max-stuck", "1000"]),
    Peers = [pyn_ct:start_peer() || _ <- lists:seq(1, ?NODES)],
    [{pynode, P}, {peers, Peers} | Config].

end_per_testcase(_Case, Config) ->
    [pyn_ct:stop_peer(Peer) || Peer <- ?config(peers, Config)],
    P = ?config(pynode, Config),
    case pyn_ct:stop(P) of
        0 -> ok;
        Status -> {fail, {exit_code, Status, lists:sublist(lists:reverse(pyn_ct:log(P)), 40)}}
    end.

%% --- Cases ---

mixed_sizes(Config) ->
    Node = node_of(Config),
    Sums = on_all(Config, fun(First, Count) -> run_callers(Node, First, Count, seconds()) end),
    report(Config, Sums),
    idle_again(Config).

%% Callers are killed in the middle of whatever they do, and others take their place.
callers_die(Config) ->
    Node = node_of(Config),
    Sums = on_all(Config, fun(First, Count) -> run_mortals(Node, First, Count, seconds() div 2) end),
    report(Config, Sums),
    idle_again(Config).

%% A node drops its connection now and then: the calls of that moment fail, no others, and nothing is mixed up when it is
%% connected again.
connections_die(Config) ->
    Node = node_of(Config),
    Sums = on_all(Config, fun(First, Count) -> run_disconnected(Node, First, Count, seconds() div 2) end),
    report(Config, Sums),
    idle_again(Config).

%% --- On the nodes that call ---

%% Runs Fun(FirstNumber, CountOfCallers) on every node at once.
on_all(Config, Fun) ->
    Peers = ?config(peers, Config),
    Count = (callers() + ?NODES - 1) div ?NODES,
    Self = self(),
    Pids = [spawn_link(fun() ->
                Self ! {self(), peer:call(Peer, erlang, apply, [Fun, [I * 1000, Count]], infinity)}
            end) || {I, {Peer, _}} <- lists:enumerate(Peers)],
    [receive {Pid, Sum} -> Sum end || Pid <- Pids].

run_callers(Node, First, Count, Seconds) ->
    Deadline = deadline(Seconds),
    Sums = counters:new(3, []),
    Callers = [spawn_monitor(fun() -> caller(Node, First + N, Deadline, Sums) end) || N <- lists:seq(1, Count)],
    [receive {'DOWN', Ref, process, Pid, Reason} -> ended_well(Reason) end || {Pid, Ref} <- Callers],
    sums(Sums).

ended_well(normal) -> ok;
ended_well(Reason) -> error({caller_failed, Reason}).

run_mortals(Node, First, Count, Seconds) ->
    Deadline = deadline(Seconds),
    Sums = counters:new(3, []),
    Start = fun(N) -> spawn_monitor(fun() -> caller(Node, N, Deadline, Sums) end) end,
    kill_some([Start(First + N) || N <- lists:seq(1, Count)], Start, First + Count + 1, Deadline),
    sums(Sums).

%% Until the deadline: one of them at random every few milliseconds. After it: those that are left end by themselves.
kill_some([], _Start, _Next, _Deadline) ->
    ok;
kill_some(Callers, Start, Next, Deadline) ->
    receive
        {'DOWN', Ref, process, Pid, Reason} ->
            ended_well(Reason),
            kill_some(lists:delete({Pid, Ref}, Callers), Start, Next, Deadline)
    after rand:uniform(20) ->
        case late(Deadline) of
            true ->
                kill_some(Callers, Start, Next, Deadline);
            false ->
                {Pid, Ref} = Victim = lists:nth(rand:uniform(length(Callers)), Callers),
                exit(Pid, kill),
                receive {'DOWN', Ref, process, Pid, Reason} -> Reason =:= killed orelse ended_well(Reason) end,
                kill_some([Start(Next) | lists:delete(Victim, Callers)], Start, Next + 1, Deadline)
        end
    end.

run_disconnected(Node, First, Count, Seconds) ->
    Breaker = spawn_link(fun() -> break(Node) end),
    Sum = run_callers(Node, First, Count, Seconds),
    unlink(Breaker),
    exit(Breaker, kill),
    Sum.

break(Node) ->
    receive after 300 + rand:uniform(700) -> ok end,
    _ = erlang:disconnect_node(Node),
    break(Node).

%% --- One caller ---

caller(Node, Id, Deadline, Sums) ->
    _ = rand:seed(exsss, {Id, 2, 3}),
    caller(Node, Id, 1, Deadline, Sums).

caller(Node, Id, N, Deadline, Sums) ->
    case late(Deadline) of
        true ->
            %% Nothing came that was not waited for.
            receive Message -> error({unexpected, Id, short(Message)}) after 0 -> ok end;
        false ->
            {Request, Expected, Size} = request({Id, N}),
            try gen_server:call({py, Node}, Request, ?CALL_MS) of
                Answer ->
                    Expected(Answer) orelse error({not_mine, Id, N, short(Request), short(Answer)}),
                    counters:add(Sums, ?CALLS, 1),
                    counters:add(Sums, ?BYTES, Size)
            catch
                exit:{{nodedown, _}, _} -> counters:add(Sums, ?LOST, 1);
                exit:{noconnection, _} -> counters:add(Sums, ?LOST, 1)
            end,
            caller(Node, Id, N + 1, Deadline, Sums)
    end.

%% Something that only this caller asks for at this time, and whether an answer is the one to it.
request({Id, N} = Mine) ->
    case rand:uniform(20) of
        1 ->
            Text = lists:flatten(io_lib:format("not a number ~p", [Mine])),
            Wanted = "invalid literal for int() with base 10: '" ++ Text ++ "'",
            {{call, builtins, int, [list_to_binary(Text)]},
             fun(A) -> A =:= {error, {'ValueError', Wanted}} end, length(Text)};
        2 ->
            {{eval, <<"x * 1000003 + y">>, #{x => Id, y => N}}, fun(A) -> A =:= {ok, Id * 1000003 + N} end, 10};
        3 ->
            Term = [{Mine, I, #{<<"k">> => I, Id => [1.5 * I, N]}} || I <- lists:seq(1, rand:uniform(2000))],
            {{call, copy, copy, [Term]}, fun(A) -> A =:= {ok, Term} end, length(Term) * 20};
        4 ->
            Ints = lists:seq(N, N + rand:uniform(20000)),
            {{call, copy, copy, [Ints]}, fun(A) -> A =:= {ok, Ints} end, length(Ints)};
        5 ->
            %% It may not end in time; then it is a timeout and nothing else.
            {{call, time, sleep, [0.002], #{}, rand:uniform(4)},
             fun(A) -> A =:= {ok, none} orelse A =:= {error, timeout} end, 0};
        _ ->
            Bytes = bytes(Mine, size()),
            {{call, copy, copy, [Bytes]}, fun(A) -> A =:= {ok, Bytes} end, byte_size(Bytes)}
    end.

%% Of every order of magnitude about as many, but for the largest.
size() ->
    case rand:uniform(400) of
        1 -> ?LARGEST;
        N when N < 8 -> rand:uniform(?LARGEST);
        _ -> rand:uniform(1 bsl rand:uniform(17))
    end.

%% Bytes that say whose they are all along; half of them are no text.
bytes({Id, N}, Size) ->
    Word = <<(128 * rand:uniform(2) - 128):8, Id:32, N:32, (rand:uniform(1 bsl 32) - 1):32, "stress">>,
    binary:part(binary:copy(Word, Size div byte_size(Word) + 1), 0, Size).

short(Term) ->
    lists:flatten(io_lib:format("~0P", [Term, 30])).

sums(Sums) ->
    {counters:get(Sums, ?CALLS), counters:get(Sums, ?BYTES), counters:get(Sums, ?LOST)}.

sum(Sums) ->
    lists:foldl(fun({A, B, C}, {X, Y, Z}) -> {A + X, B + Y, C + Z} end, {0, 0, 0}, Sums).

deadline(Seconds) ->
    erlang:monotonic_time(millisecond) + Seconds * 1000.

late(Deadline) ->
    erlang:monotonic_time(millisecond) >= Deadline.

%% --- Here ---

report(Config, Sums) ->
    {Calls, Bytes, Lost} = sum(Sums),
    ct:log("~b calls, ~b MiB each way, ~b calls lost with their connection; ~p",
           [Calls, Bytes div (1024 * 1024), Lost, pyn_ct:info(?config(pynode, Config))]),
    io:format(user, "        ~b calls, ~b MiB each way, ~b lost~n", [Calls, Bytes div (1024 * 1024), Lost]),
    ?assert(Calls > 100, Sums).

%% What dead callers left is gone, too.
idle_again(Config) ->
    P = ?config(pynode, Config),
    pyn_ct:wait_until(fun() ->
        maps:with([in_flight, queued, busy, stuck], pyn_ct:info(P)) =:= #{in_flight => 0, queued => 0, busy => 0, stuck => 0}
    end),
    ?assertEqual({ok, 1}, pyn_ct:call(P, {eval, <<"1">>})),
    ok.

node_of(Config) -> pyn_ct:node_of(?config(pynode, Config)).

seconds() -> number("PYN_STRESS_SECONDS", 20).

callers() -> number("PYN_STRESS_CALLERS", 64).

number(Name, Default) ->
    case os:getenv(Name) of
        false -> Default;
        Text -> list_to_integer(Text)
    end.
