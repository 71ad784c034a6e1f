%% What a peer may send after its handshake that no real node would: frames that are too long, malformed, cut off or
%% changed. The link is closed or the message is skipped, with a line in the log that says what and from whom; and all
%% the while a stock node calls and notices nothing.
-module(frames_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-define(MAX_FRAME, (1024 * 1024)).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [frame_too_long, longest_frame, result_too_long, malformed_control, unknown_operations, malformed_payload,
     lying_lengths, nested_too_deep, truncated_payloads, truncated_controls, mutated_requests, pieces, storm,
     early_close].

init_per_suite(Config) ->
    P = pyn_ct:start(["--max-frame", integer_to_list(?MAX_FRAME), "--log-level", "info"]),
    [{pynode, P} | Config].

end_per_suite(Config) ->
    ?assertEqual(0, pyn_ct:stop(?config(pynode, Config))),
    pyn_ct:stop_all().

init_per_testcase(_Case, Config) ->
    [{bystander, start_bystander(pyn_ct:node_of(?config(pynode, Config)))} | Config].

end_per_testcase(_Case, Config) ->
    {Calls, Longest} = stop_bystander(?config(bystander, Config)),
    ct:log("the bystander made ~b calls, the longest took ~b ms", [Calls, Longest]),
    %% It never lost its connection, got what it asked for, and waited no longer than other work may take, on a machine
    %% that may stand still for two seconds.
    case Calls > 0 andalso Longest < 6000 of
        true -> ok;
        false -> {fail, {bystander, Calls, Longest}}
    end.

%% --- Frames ---

frame_too_long(Config) ->
    P = ?config(pynode, Config),
    [begin
         C = connect(P, too_long),
         ok = dist_client:raw(C, <<Size:32, 112, 131>>),
         ?assertEqual(ok, dist_client:wait_closed(C)),
         dist_client:close(C),
         Line = pyn_ct:wait_log(P, io_lib:format("frame of ~b bytes is longer than the maximum", [Size])),
         ?assertMatch({match, _}, re:run(Line, "peer=client_too_long@"))
     end || Size <- [?MAX_FRAME + 1, 16#7fffffff, 16#80000000, 16#ffffffff]],
    alive(P).

longest_frame(Config) ->
    P = ?config(pynode, Config),
    C = connect(P, longest),
    Make = fun(Size) ->
        dist_client:control_bytes({6, dist_client:pid(C, 1), '', py},
                                  {dist_client:pid(C, 1), tag, {call, builtins, len, [binary:copy(<<255>>, Size)]}})
    end,
    Room = ?MAX_FRAME + 4 - byte_size(Make(0)),
    Frame = Make(Room),
    <<?MAX_FRAME:32, _/binary>> = Frame,
    ok = dist_client:raw(C, Frame),
    ?assertMatch({_, {ok, {tag, {ok, Room}}}}, answer(C)),
    ok = dist_client:raw(C, Make(Room + 1)),
    ?assertEqual(ok, dist_client:wait_closed(C)),
    dist_client:close(C),
    alive(P).

%% The answer is an exception, since a peer cannot be expected to take more than we do.
result_too_long(Config) ->
    P = ?config(pynode, Config),
    C = connect(P, result),
    [begin
         Result = dist_client:call(C, {eval, Code}),
         ?assertMatch({error, {'ValueError', _}}, Result, Code)
     end || Code <- [<<"b'\\xff' * (1024 * 1024)">>, <<"[b'\\xff' * 1000] * 1200">>, <<"b'\\xff' * (64 * 1024 * 1024)">>]],
    ?assertMatch({ok, <<_:1000000/binary>>}, dist_client:call(C, {eval, <<"b'\\xff' * 1000000">>})),
    dist_client:close(C),
    alive(P).

malformed_control(Config) ->
    P = ?config(pynode, Config),
    C0 = connect(P, me),
    Pid = dist_client:pid(C0, 1),
    Ref = dist_client:ref(C0, 1),
    dist_client:close(C0),
    Control = fun(Term) -> <<112, (term_to_binary(Term))/binary>> end,
    Frames =
        [<<0>>, <<1, 2, 3>>, <<112>>, <<112, 131>>, <<112, 130, 104, 1, 97, 1>>, <<131, 68, 0>>, <<131, 69, 0:128>>,
         <<113, 131, 104, 1, 97, 1>>, <<112, 131, 97, 1>>, <<112, 131, 106>>, <<112, 131, 104, 0>>,
         <<112, 131, 105, 255, 255, 255, 255>>, <<112, 131, 104, 3, 97, 2>>, <<112, 131, 104, 200, 97, 6>>,
         Control({a, b}), Control({-1, Pid}), Control({1.0, Pid, Pid}), Control({1 bsl 80, Pid}), Control([6, Pid]),
         %% Known operations of the wrong shape, without what they carry, or with something behind.
         Control({6, Pid, '', py}), Control({6, Pid, '', Pid}), Control({6, py, '', py}), Control({6, Pid}),
         Control({2, '', Pid}), Control({2, '', py}), Control({1, Pid}), Control({1, Pid, Pid, Pid}),
         Control({1, Pid, py}), Control({19, Pid, 1, Ref}), Control({19, Pid, py, no_ref}), Control({21, Pid, Pid, Ref}),
         Control({20, Pid, py}), Control({33, Pid, Pid}), Control({33, Pid, Ref}), Control({35, no_id, Pid, Pid}),
         Control({3, Pid, Pid}), Control({29, Ref, Pid, Pid, {m, f, 1}}),
         <<(Control({1, Pid, Pid}))/binary, 0>>, <<(Control({6, Pid, '', py}))/binary, 131>>,
         <<(Control({6, Pid, '', py}))/binary, 97, 1>>],
    [begin
         C = connect(P, {malformed, I}),
         ok = dist_client:frame(C, Bytes),
         ?assertEqual({ok, Bytes}, {dist_client:wait_closed(C), Bytes}),
         _ = pyn_ct:wait_log(P, io_lib:format("peer=~s control message in a frame of ~b bytes is malformed",
                                              [name({malformed, I}), byte_size(Bytes)])),
         dist_client:close(C)
     end || {I, Bytes} <- lists:enumerate(Frames)],
    alive(P).

%% Skipped, said once for each, and the link goes on.
unknown_operations(Config) ->
    P = ?config(pynode, Config),
    C = connect(P, unknown),
    [begin
         ok = dist_client:control(C, Tuple),
         ok = dist_client:control(C, Tuple, {some, payload})
     end || Tuple <- [{5}, {5, a, b}, {9}, {37, 1}, {38, x, y, z}, {63, 1}, {64, 2}, {99, #{a => b}}, {255, "x"},
                      {1000000, 1}, {16#7fffffff, 1}]],
    ?assertMatch({ok, _}, dist_client:call(C, version)),
    _ = pyn_ct:wait_log(P, "peer=client_unknown@.* unknown operation 5 skipped"),
    _ = pyn_ct:wait_log(P, "peer=client_unknown@.* unknown operation 63 skipped"),
    %% Said once for all from there on.
    ?assertEqual(5, length([L || L <- pyn_ct:log(P), re:run(L, "peer=client_unknown@.* unknown operation") =/= nomatch])),
    %% What is known but has no meaning here is skipped, too.
    Pid = dist_client:pid(C, 1),
    Ref = dist_client:ref(C, 1),
    [ok = dist_client:control(C, Tuple)
     || Tuple <- [{3, Pid, Pid, reason}, {8, Pid, Pid, kill}, {7, Pid, Pid}, {4, Pid, Pid}, {20, Pid, py, Ref},
                  {21, Pid, Pid, Ref, reason}, {36, 5, Pid, Pid}, {31, Ref, Pid, 0, noproc}]],
    ?assertMatch({ok, _}, dist_client:call(C, version)),
    dist_client:close(C),
    alive(P).

%% --- Payloads ---

%% The control message is in order, what it carries is not: the message is skipped or answered, the link goes on.
malformed_payload(Config) ->
    P = ?config(pynode, Config),
    C = connect(P, payload),
    Pid = dist_client:pid(C, 1),
    [begin
         ok = dist_client:control(C, {6, Pid, '', Name}, {raw, Bytes}),
         in_step(C)
     end || Name <- [py, net_kernel, nobody],
            Bytes <- [<<131, 0>>, <<131, 255, 255>>, <<131, 104, 2>>, <<131, 104, 3, 88>>, <<131, 98, 1>>,
                      <<131, 107, 255, 255, 1>>, <<131, 82, 1>>, <<131, 80, 0, 0, 0, 100, 1, 2, 3>>,
                      <<131, 116, 255, 255, 255, 255>>, term_to_binary(lists:seq(1, 1000), [compressed]),
                      term_to_binary(make_ref()), term_to_binary({a, {b, c}}),
                      <<(term_to_binary({Pid, tag, version}))/binary, 1, 2, 3>>]],
    ?assertMatch({ok, _}, dist_client:call(C, version)),
    dist_client:close(C),
    alive(P).

%% Counts and lengths that promise more than there is.
lying_lengths(Config) ->
    P = ?config(pynode, Config),
    C = connect(P, lying),
    Lies = [<<108, N:32, 97, 1>> || N <- [2, 65536, 16#7fffffff, 16#ffffffff]]
        ++ [<<109, N:32, 1>> || N <- [2, 65536, 16#7fffffff, 16#ffffffff]]
        ++ [<<116, N:32, 97, 1>> || N <- [1, 16#7fffffff, 16#80000000, 16#ffffffff]]
        ++ [<<105, N:32, 97, 1>> || N <- [2, 16#ffffffff]]
        ++ [<<107, N:16, 1>> || N <- [2, 65535]] ++ [<<110, N, 0, 1>> || N <- [2, 255]]
        ++ [<<111, N:32, 0, 1>> || N <- [2, 16#7fffffff, 16#ffffffff]]
        ++ [<<100, N:16, "a">> || N <- [2, 256, 65535]] ++ [<<119, N, "a">> || N <- [2, 255]]
        ++ [<<77, N:32, 3, 1>> || N <- [2, 16#ffffffff]] ++ [<<112, N:32, 1, 0:200>> || N <- [5, 16#ffffffff]]
        ++ [<<90, N:16, 119, 1, "a", 0:64>> || N <- [2, 65535]],
    [begin
         Args = <<108, 1:32, Lie/binary, 106>>,
         [ok = send_call(C, Place, Args, Lie) || Place <- [args, kwargs, locals, options, tag]],
         in_step(C)
     end || Lie <- Lies],
    dist_client:close(C),
    alive(P).

%% A call with raw bytes in one of its places.
send_call(C, Place, Args, Lie) ->
    Atom = fun(A) -> <<119, (byte_size(A)), A/binary>> end,
    <<131, Pid/binary>> = term_to_binary(dist_client:pid(C, 1)),
    Request =
        case Place of
            args -> [104, 4, Atom(<<"call">>), Atom(<<"copy">>), Atom(<<"copy">>), Args];
            kwargs -> [104, 5, Atom(<<"call">>), Atom(<<"copy">>), Atom(<<"copy">>), 106, Lie];
            locals -> [104, 3, Atom(<<"eval">>), <<109, 1:32, "1">>, Lie];
            options -> [104, 6, Atom(<<"call">>), Atom(<<"copy">>), Atom(<<"copy">>), 106, <<116, 0:32>>, Lie];
            tag -> [Atom(<<"version">>)]
        end,
    Tag = case Place of tag -> Lie; _ -> Atom(<<"lie">>) end,
    Payload = iolist_to_binary([131, 104, 3, Pid, Tag, Request]),
    dist_client:control(C, {6, dist_client:pid(C, 1), '', py}, {raw, Payload}).

nested_too_deep(Config) ->
    P = ?config(pynode, Config),
    C = connect(P, deep),
    [begin
         Deep = iolist_to_binary([[Open || _ <- lists:seq(1, Levels)], 106, [Close || _ <- lists:seq(1, Levels)]]),
         [ok = send_call(C, Place, <<108, 1:32, Deep/binary, 106>>, Deep)
          || Place <- [args, kwargs, locals, options, tag]],
         in_step(C)
     end || Levels <- [600, 5000, 100000], {Open, Close} <- [{<<108, 1:32>>, <<106>>}, {<<104, 1>>, <<>>},
                                                             {<<116, 1:32, 97, 1>>, <<>>}],
            Levels * (byte_size(Open) + byte_size(Close)) < ?MAX_FRAME - 1000],
    dist_client:close(C),
    alive(P).

%% Every request, its payload cut off at every byte.
truncated_payloads(Config) ->
    P = ?config(pynode, Config),
    C0 = connect(P, cut),
    Last = lists:foldl(fun({Name, Payload}, C) ->
        lists:foldl(fun(Length, Client) ->
            ok = dist_client:control(Client, {6, dist_client:pid(Client, 1), '', Name},
                                     {raw, binary:part(Payload, 0, Length)}),
            in_step_or_again(P, cut, Client, Length)
        end, C, lists:seq(0, byte_size(Payload) - 1))
    end, C0, requests(C0)),
    dist_client:close(Last),
    alive(P).

%% Less than a version and a first byte is a malformed frame, anything longer is not.
in_step_or_again(P, Who, C, Length) when Length < 2 ->
    ?assertEqual({ok, Length}, {dist_client:wait_closed(C), Length}),
    dist_client:close(C),
    connect(P, Who);
in_step_or_again(_P, _Who, C, _Length) ->
    in_step(C),
    C.

%% Every control message that is known, cut off at every byte.
truncated_controls(Config) ->
    P = ?config(pynode, Config),
    C0 = connect(P, cut_control),
    Pid = dist_client:pid(C0, 1),
    Ref = dist_client:ref(C0, 1),
    dist_client:close(C0),
    Controls = [{6, Pid, '', py}, {2, '', Pid}, {1, Pid, Pid}, {35, 12345678901234, Pid, Pid}, {19, Pid, py, Ref},
                {20, Pid, py, Ref}, {21, Pid, Pid, Ref, {some, reason}}, {3, Pid, Pid, normal}, {33, Pid, Ref},
                {29, Ref, Pid, Pid, {m, f, 1}, [monitor]}],
    [begin
         Bytes = term_to_binary(Control, [{minor_version, 2}]),
         [begin
              C = connect(P, cut_control),
              ok = dist_client:frame(C, [112, binary:part(Bytes, 0, Length)]),
              ?assertEqual({ok, Control, Length}, {dist_client:wait_closed(C), Control, Length}),
              dist_client:close(C)
          end || Length <- lists:seq(0, byte_size(Bytes) - 1, 5) ++ [byte_size(Bytes) - 1]]
     end || Control <- Controls],
    alive(P).

%% Requests with changed, inserted, removed and repeated bytes. What becomes of them is not known; that the node lives
%% and serves others is.
mutated_requests(Config) ->
    P = ?config(pynode, Config),
    _ = rand:seed(exsss, {7, 11, 13}),
    C0 = connect(P, mutated),
    Frames = [<<112, (term_to_binary({6, dist_client:pid(C0, 1), '', Name}, [{minor_version, 2}]))/binary, Payload/binary>>
              || {Name, Payload} <- requests(C0)],
    Last = lists:foldl(fun(N, C) ->
        Frame = mutate(lists:nth(rand:uniform(length(Frames)), Frames), rand:uniform(3)),
        Sent = dist_client:frame(C, Frame),
        case N rem 10 =:= 0 orelse Sent =/= ok of
            true -> again_if_closed(P, mutated, C);
            false -> C
        end
    end, C0, lists:seq(1, 4000)),
    dist_client:close(Last),
    alive(P).

mutate(Bytes, 0) ->
    Bytes;
mutate(Bytes, Times) ->
    At = rand:uniform(byte_size(Bytes)) - 1,
    <<Head:At/binary, Byte, Tail/binary>> = Bytes,
    Changed =
        case rand:uniform(6) of
            1 -> <<Head/binary, (rand:uniform(256) - 1), Tail/binary>>;
            2 -> <<Head/binary, (Byte bxor (1 bsl (rand:uniform(8) - 1))), Tail/binary>>;
            3 -> <<Head/binary, (rand:uniform(256) - 1), Byte, Tail/binary>>;
            4 -> <<Head/binary, Tail/binary, 0>>;
            5 -> <<Head/binary, Byte, Byte, Tail/binary>>;
            6 -> <<Head/binary, 255, Tail/binary>>
        end,
    mutate(Changed, Times - 1).

again_if_closed(P, Who, C) ->
    Ref = dist_client:ref(C, 77),
    _ = dist_client:control(C, {6, dist_client:pid(C, 1), '', py},
                            {'$gen_call', {dist_client:pid(C, 1), [alias | Ref]}, version}),
    case skip_to(C, Ref) of
        ok ->
            C;
        {error, Reason} when Reason =/= timeout ->
            dist_client:close(C),
            connect(P, Who)
    end.

skip_to(C, Ref) ->
    case dist_client:recv(C) of
        {{33, _, Ref}, _} -> ok;
        {error, _} = E -> E;
        _ -> skip_to(C, Ref)
    end.

%% --- How bytes arrive ---

%% Byte by byte, many frames in one piece, and pieces that end anywhere.
pieces(Config) ->
    P = ?config(pynode, Config),
    C = connect(P, pieces),
    One = numbered(C, 0),
    [ok = dist_client:raw(C, <<Byte>>) || <<Byte>> <= One],
    expect(C, [0]),
    All = iolist_to_binary([[numbered(C, N), <<0:32>>] || N <- lists:seq(1, 500)]),
    ok = dist_client:raw(C, All),
    expect(C, lists:seq(1, 500)),
    _ = rand:seed(exsss, {3, 5, 7}),
    [ok = dist_client:raw(C, Piece) || Piece <- cut(All)],
    expect(C, lists:seq(1, 500)),
    dist_client:close(C),
    alive(P).

cut(<<>>) -> [];
cut(Bytes) ->
    N = min(byte_size(Bytes), rand:uniform(700)),
    [binary:part(Bytes, 0, N) | cut(binary:part(Bytes, N, byte_size(Bytes) - N))].

%% Many requests are sent before one answer is read; each is answered once, with its own.
storm(Config) ->
    P = ?config(pynode, Config),
    C = connect(P, storm),
    All = [numbered(C, N) || N <- lists:seq(1, 5000)],
    ok = dist_client:raw(C, All),
    expect(C, lists:seq(1, 5000)),
    dist_client:close(C),
    alive(P).

%% A client that goes with requests under way and answers on the way to it.
early_close(Config) ->
    P = ?config(pynode, Config),
    [begin
         C = connect(P, {early, I}),
         ok = dist_client:raw(C, [numbered(C, N) || N <- lists:seq(1, 300)]),
         _ = [dist_client:request(C, {eval, <<"b'\\xff' * 900000">>}) || _ <- lists:seq(1, 20)],
         %% Half of them with what they have not read, which makes the connection break instead of end.
         I rem 2 =:= 0 andalso inet:setopts(dist_client:socket(C), [{linger, {true, 0}}]),
         dist_client:close(C)
     end || I <- lists:seq(1, 30)],
    pyn_ct:wait_until(fun() ->
        #{links := Links, in_flight := InFlight} = pyn_ct:info(P),
        Links =:= 1 andalso InFlight =< 1
    end),
    alive(P).

%% --- What the cases share ---

numbered(C, N) ->
    Pid = dist_client:pid(C, 1),
    dist_client:control_bytes({6, Pid, '', py}, {Pid, {number, N}, {call, copy, copy, [N]}}).

%% Each of these numbers comes once, in whatever order, and nothing else.
expect(_C, []) ->
    ok;
expect(C, Numbers) ->
    {{2, _, _}, {ok, {{number, N}, Result}}} = answer(C),
    ?assertEqual({ok, N}, Result),
    ?assert(lists:member(N, Numbers), N),
    expect(C, lists:delete(N, Numbers)).

%% It watches over callers that have waited for a while.
answer(C) ->
    case dist_client:recv(C) of
        {{19, _, _, _}, none} -> answer(C);
        Answer -> Answer
    end.

%% The requests whose bytes are damaged.
requests(C) ->
    Pid = dist_client:pid(C, 1),
    Tag = [alias | dist_client:ref(C, 5)],
    Bytes = fun(Term) -> term_to_binary(Term, [{minor_version, 2}]) end,
    Call = {call, math, <<"sqrt">>, [16, <<"text">>, 1.5, 1 bsl 70], #{key => [1, 2, 3]}, #{timeout => 1000, traceback => true}},
    [{py, Bytes({'$gen_call', {Pid, Tag}, Call})},
     {py, Bytes({'$gen_call', {Pid, Tag}, {eval, <<"x">>, #{x => {a, #{b => c}}}, 500}})},
     {py, Bytes({'$gen_cast', {exec, <<"1">>, infinity}})},
     {py, Bytes({Pid, Tag, {cancel, Tag}})},
     {py, Bytes({Pid, {some, tag}, info})},
     {net_kernel, Bytes({'$gen_call', {Pid, Tag}, {is_auth, node()}})}].

%% What was sent before got no result; the next request gets its own.
in_step(C) ->
    Ref = dist_client:ref(C, 1000000),
    ok = dist_client:control(C, {6, dist_client:pid(C, 1), '', py},
                             {'$gen_call', {dist_client:pid(C, 1), [alias | Ref]}, version}),
    in_step_until(C, Ref).

in_step_until(C, Ref) ->
    case dist_client:recv(C) of
        {{33, _, Ref}, {ok, {_, {ok, _Version}}}} -> ok;
        {_, {ok, {_Tag, {error, Reason}}}} ->
            ?assert(refusal(Reason), Reason),
            in_step_until(C, Ref);
        tick -> in_step_until(C, Ref);
        {{19, _, _, _}, none} -> in_step_until(C, Ref);
        Other -> error({not_in_step, Other})
    end.

%% A term that is found to be bad only by who converts it is an exception.
refusal({bad_request, Sentence}) -> is_binary(Sentence);
refusal(invalid_args) -> true;
refusal({Exception, Text}) -> is_atom(Exception) andalso is_list(Text);
refusal(_) -> false.

alive(P) ->
    ?assertEqual({ok, 3}, pyn_ct:call(P, {eval, <<"1 + 2">>})).

connect(P, Who) ->
    {ok, C} = dist_client:connect(#{port => pyn_ct:port(P), name => name(Who)}),
    C.

name({Who, N}) ->
    name(lists:concat([Who, "_", N]));
name(Who) ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    list_to_atom(lists:concat(["client_", Who, "@", Host])).

%% A stock caller that checks each answer.
start_bystander(Node) ->
    Pid = spawn_link(fun() ->
        ok = net_kernel:monitor_nodes(true, [{node_type, hidden}]),
        bystander(Node, 0, 0)
    end),
    Pid.

bystander(Node, N, Longest) ->
    receive
        {nodedown, Node, _} -> exit({bystander_lost_its_connection, N});
        {stop, From} when N > 0 -> From ! {self(), {N, Longest}} % a short case may be over before its first call
    after 0 ->
        T0 = erlang:monotonic_time(millisecond),
        {ok, {N, <<"mine">>}} = gen_server:call({py, Node}, {call, copy, copy, [{N, <<"mine">>}]}, 30000),
        bystander(Node, N + 1, max(Longest, erlang:monotonic_time(millisecond) - T0))
    end.

stop_bystander(Pid) ->
    Pid ! {stop, self()},
    receive {Pid, Result} -> Result end.
