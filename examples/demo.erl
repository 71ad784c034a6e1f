%% The demonstration behind `make demo`: a coordinator with a pynode of its own, and a second Erlang node that only calls.
%%
%% Both nodes send the files of a folder to Python, many at a time, which hashes each and counts its tokens (of Python code) or
%% its words. The sums are compared with the same done in Erlang.
%%
%%     demo:main(["/path/to/repository", "tty"]) -> halts with 0, or 1 when something differs
%%
%% What calls Python is work/3; all else is finding files, adding up, and printing. What Python does is in demo_work.py, the same
%% in Erlang in demo_check.erl.
-module(demo).

-export([main/1]).

%% On both nodes.
-export([work/3]).

-define(CALLERS, 8).
-define(PATIENCE, 60000).

main([Root | Options]) ->
    put(tty, lists:member("tty", Options)),
    Code = try run(Root) of
        true -> 0;
        false -> 1
    catch
        Class:Reason:Stack ->
            io:format("~ndemo: ~tp: ~tp~n~tp~n", [Class, Reason, Stack]),
            1
    end,
    _ = application:stop(erlang_python),
    halt(Code).

run(Root) ->
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, pynode_args, ["--path", filename:join(Root, "examples")]),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{PyNode, Info}] = maps:to_list(py:info()),
    {Peer, Second} = start_second(PyNode),
    say("coordinator   ~-26ts Erlang/OTP ~ts with erlang_python", [node(), erlang:system_info(otp_release)]),
    say("its pynode    ~-26ts Python ~ts, ~ts, ~b workers",
        [PyNode, maps:get(python, Info), maps:get(mode, Info), maps:get(workers, Info)]),
    say("second node   ~-26ts only calls~n", [Second]),
    try
        compare(files(Root), [node(), Second])
    after
        peer:stop(Peer)
    end.

%% It knows where Python is by its configuration, and reaches it without the coordinator.
start_second(PyNode) ->
    {ok, Peer, Node} = peer:start(#{
        name => "second_" ++ os:getpid(),
        connection => standard_io,
        args => ["-setcookie", atom_to_list(erlang:get_cookie()), "-kernel", "logger_level", "warning",
                 "-pa" | [filename:dirname(code:which(M)) || M <- [py, ?MODULE]]]
    }),
    ok = peer:call(Peer, application, load, [erlang_python]),
    ok = peer:call(Peer, application, set_env, [erlang_python, nodes, [PyNode]]),
    {ok, _} = peer:call(Peer, application, ensure_all_started, [erlang_python]),
    pong = net_adm:ping(Node),
    {Peer, Node}.

%%% The work

compare(Files, Nodes) ->
    Bytes = lists:sum([byte_size(Data) || {_, Data} <- Files]),
    say("~b files, ~.1f MB. Python gets each as a binary, hashes it, and counts its", [length(Files), Bytes / 1.0e6]),
    say("tokens if it is Python code, its words if it is not.~n", []),
    Began = now_ms(),
    Python = in_python(Files, Nodes),
    Took = now_ms() - Began,
    Erlang = parallel(fun({Name, Data}) -> {Name, demo_check:look(Data, maps:get(Name, Python))} end, Files),
    say("~n~b calls by ~b processes on ~b nodes: ~b ms in Python; the same in Erlang: ~b ms~n",
        [length(Files), ?CALLERS * length(Nodes), length(Nodes), Took, now_ms() - Began - Took]),
    table(totals(maps:to_list(Python)), totals(Erlang)).

%% The files are dealt out to the nodes; what they find is sent here as it comes.
in_python(Files, Nodes) ->
    Shares = deal(Files, [{Node, []} || Node <- Nodes]),
    Ref = make_ref(),
    Workers = [spawn_monitor(Node, ?MODULE, work, [self(), Ref, Share]) || {Node, Share} <- Shares],
    Progress = [{Node, {0, length(Share)}} || {Node, Share} <- Shares],
    show(none, Progress),
    collect(Ref, Workers, Progress, #{}).

deal([], Shares) -> Shares;
deal([File | Files], [{Node, Share} | Others]) -> deal(Files, Others ++ [{Node, [File | Share]}]).

collect(_, [], _, Found) ->
    Found;
collect(Ref, Workers, Progress, Found) ->
    receive
        {Ref, Node, Name, {ok, Result}} ->
            {Node, {Done, All}} = lists:keyfind(Node, 1, Progress),
            Next = lists:keyreplace(Node, 1, Progress, {Node, {Done + 1, All}}),
            show(Progress, Next),
            collect(Ref, Workers, Next, Found#{Name => Result});
        {Ref, Node, Name, Error} ->
            error({Node, Name, Error});
        {'DOWN', _, process, Pid, normal} ->
            collect(Ref, lists:keydelete(Pid, 1, Workers), Progress, Found);
        {'DOWN', _, process, Pid, Why} ->
            error({node(Pid), Why})
    after ?PATIENCE ->
        error(nothing_happens)
    end.

%% On each node: some processes, one call at a time each.
work(Parent, Ref, Files) ->
    parallel(fun({Name, Data}) ->
        Parent ! {Ref, node(), Name, py:call(demo_work, look, [Name, {bytes, Data}])}
    end, Files).

%% Maps over the list with CALLERS processes, each of which takes the next element when it is done with one.
parallel(Fun, List) ->
    Queue = spawn_link(fun() -> hand_out(List) end),
    Results = [receive {'DOWN', Mon, process, Pid, {results, R}} -> R;
                       {'DOWN', Mon, process, Pid, Why} -> error(Why) end
               || {Pid, Mon} <- [spawn_monitor(fun() -> exit({results, take(Queue, Fun, [])}) end)
                                 || _ <- lists:seq(1, ?CALLERS)]],
    unlink(Queue),
    exit(Queue, kill),
    lists:append(Results).

hand_out(List) ->
    receive {next, Pid} ->
        case List of
            [] -> Pid ! none, hand_out([]);
            [Head | Tail] -> Pid ! {some, Head}, hand_out(Tail)
        end
    end.

take(Queue, Fun, Results) ->
    Queue ! {next, self()},
    receive
        {some, Element} -> take(Queue, Fun, [Fun(Element) | Results]);
        none -> Results
    end.

%%% Files: everything but what was built and what is hidden

files(Root) ->
    Names = lists:sort(walk(Root, "")),
    [{unicode:characters_to_binary(Name), Data}
     || Name <- Names, {ok, Data} <- [file:read_file(filename:join(Root, Name))]].

walk(Root, Dir) ->
    {ok, Entries} = file:list_dir(filename:join(Root, Dir)),
    lists:append([entry(Root, join(Dir, E)) || E <- Entries, not leave_out(E)]).

entry(Root, Name) ->
    case file:read_link_info(filename:join(Root, Name), [raw]) of
        {ok, Info} when element(3, Info) =:= directory -> walk(Root, Name);
        {ok, Info} when element(3, Info) =:= regular, element(2, Info) < 4000000 -> [Name];
        _ -> []
    end.

join("", Name) -> Name;
join(Dir, Name) -> Dir ++ "/" ++ Name.

leave_out("." ++ _) -> true;
leave_out(Name) -> lists:member(Name, ["build", "_build", "priv", "__pycache__", "erl_crash.dump"]).

%%% Sums

%% Each number summed up, and one hash over all hashes in the order of the names.
totals(Results) ->
    Sums = lists:foldl(fun({_, Result}, Sum) ->
        Numbers = maps:filter(fun(_, V) -> is_integer(V) end, Result),
        maps:merge_with(fun(_, A, B) -> A + B end, Sum, Numbers)
    end, #{<<"files">> => length(Results)}, Results),
    Hashes = [maps:get(<<"sha256">>, Result) || {_, Result} <- lists:sort(Results)],
    Sums#{<<"sha256">> => binary:encode_hex(demo_check:sha256(iolist_to_binary(Hashes)))}.

%% true when both columns are the same.
table(Python, Erlang) ->
    say("  ~-11ts ~14ts ~14ts", ["", "Python", "Erlang"]),
    Rows = [<<"files">>, <<"bytes">>, <<"lines">>, <<"words">>, <<"names">>, <<"operators">>, <<"strings">>, <<"numbers">>,
            <<"comments">>],
    lists:foreach(fun(Row) ->
        {A, B} = {maps:get(Row, Python, 0), maps:get(Row, Erlang, 0)},
        say("  ~-11ts ~14b ~14b  ~ts", [Row, A, B, verdict(A =:= B)])
    end, Rows),
    [HashA, HashB] = [string:lowercase(maps:get(<<"sha256">>, Totals)) || Totals <- [Python, Erlang]],
    say("  ~-11ts ~14ts ~14ts  ~ts~n", ["sha256", short(HashA), short(HashB), verdict(HashA =:= HashB)]),
    Same = Python =:= Erlang,
    say("~ts", [case Same of true -> "Python and Erlang agree."; false -> "Python and Erlang do NOT agree." end]),
    Same.

short(Hash) -> [binary:part(Hash, 0, 10), ".."].

verdict(true) -> "same";
verdict(false) -> "DIFFERENT".

%%% Printing

say(Format, Args) ->
    io:format(Format ++ "~n", Args).

now_ms() ->
    erlang:monotonic_time(millisecond).

%% A bar per node in a terminal, which is drawn over; else a line per node and quarter.
show(Old, New) ->
    case get(tty) of
        true ->
            _ = Old =/= none andalso io:put_chars(["\e[", integer_to_list(length(New)), "A"]),
            lists:foreach(fun bar/1, New);
        false ->
            Before = case Old of none -> New; _ -> Old end,
            lists:foreach(fun({{_, {Was, _}}, {Node, {Done, All}}}) ->
                Done * 4 div max(1, All) > Was * 4 div max(1, All) andalso
                    say("  ~-26ts ~4b of ~b files", [Node, Done, All])
            end, lists:zip(Before, New))
    end.

bar({Node, {Done, All}}) ->
    Full = Done * 40 div max(1, All),
    say("  ~-26ts [~ts~ts] ~b/~b", [Node, lists:duplicate(Full, $#), lists:duplicate(40 - Full, $.), Done, All]).
