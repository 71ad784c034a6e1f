%% Spans of Python code: what they say, who is whose parent, and that who has seen a reply finds the spans before it.
-module(tracing_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [misuse, odd_values, chatty, odd_messages, off, switched, shape, tree, failures, interrupted, decorated, generators,
     async_generators, threads, tasks, requests_are_apart, callback, depth, async_callbacks, callback_of_a_thread,
     later_call, streams, coroutines, other_c_node, other_erlang_node, barrier, barrier_elsewhere, bounded, bounded_bytes, clear,
     process_restarts, silent_c_node, restarted_node, no_coordinator, cost, without_application].

init_per_suite(Config) ->
    ok = app_ct:start(app_ct:workers(2)),
    Config.

end_per_suite(_Config) ->
    app_ct:stop(),
    pyn_ct:stop_all().

init_per_testcase(_, Config) ->
    ok = py:clear_traces(),
    ok = py:enable_tracing(),
    Config.

end_per_testcase(without_application, _Config) ->
    ok;
end_per_testcase(_, _Config) ->
    ok = py:disable_tracing(),
    ?assertEqual({ok, 4.0}, py:call(math, sqrt, [16])).

call(F, Args) -> py:call(t_tracing, F, Args).

spans() ->
    {ok, Spans} = py:get_traces(),
    Spans.

%% The span of that name, of which there is one.
span(Name) ->
    [Span] = [S || #{name := N} = S <- spans(), N =:= Name],
    Span.

id(Name) -> maps:get(span_id, span(Name)).

parent(Name) -> maps:get(parent_id, span(Name)).

names() -> [Name || #{name := Name} <- spans()].

%%% Bad input

misuse(_) ->
    TypeErrors = lists:duplicate(6, <<"TypeError">>),
    ?assertEqual({ok, TypeErrors ++ lists:duplicate(4, <<"nothing">>)}, call(misuse, [])),
    ?assertEqual([<<"a">>, <<"b">>, <<"other thread">>, <<"twice">>, <<"twice">>], lists:sort(names())),
    %% Nothing of it is left.
    {ok, none} = call(one, [<<"after">>]),
    ?assertEqual(undefined, parent(<<"after">>)),
    ok = py:disable_tracing(),
    ?assertEqual({ok, TypeErrors ++ lists:duplicate(4, <<"nothing">>)}, call(misuse, [])).

odd_values(_) ->
    ?assertEqual({ok, [1, 2, 3]}, call(odd_values, [])),
    #{attributes := Attributes, events := Events, end_attrs := EndAttrs} = span(<<"odd">>),
    ?assertMatch(#{<<"surrogate">> := <<"\\udc80">>, <<"numbers">> := <<"<list_iterator", _/binary>>,
                   <<"unprintable">> := <<"<unprintable Unprintable object: RuntimeError>">>,
                   <<"object">> := <<"<class 'object'>">>, <<"odd">> := #{}, <<"näme\\udc80"/utf8>> := 1}, Attributes),
    ?assert(byte_size(maps:get(<<"large">>, Attributes)) < 10000),
    ?assert(byte_size(maps:get(<<"deep">>, Attributes)) < 10000),
    ?assertMatch([#{name := <<"ev\\udc80">>, attrs := #{<<"numbers">> := <<"<list_it", _/binary>>}},
                  #{name := <<"7">>} | _], Events),
    ?assertEqual(1000, length(Events)),
    ?assertEqual(#{<<"events_dropped">> => 1002}, EndAttrs),
    ?assertMatch(#{status := ok}, span(<<"\\udc80">>)),
    ?assertEqual(100, map_size(maps:get(attributes, span(<<"None">>)))),
    [Long] = [Name || <<"nnn", _/binary>> = Name <- names()],
    ?assert(byte_size(Long) < 2000).

%% The text of an attribute is a span with that attribute, which would never end.
chatty(_) ->
    {ok, none} = call(chatty, []),
    Names = names(),
    ?assert(lists:member(<<"outer">>, Names)),
    ?assert(length(Names) < 100).

%% What no pynode would send.
odd_messages(_) ->
    Pid = whereis(py_tracer),
    Span = {py_span, <<"n">>, 0, 1, undefined, <<"s">>, 1, 2, 1, ok, #{}, #{}, []},
    [Pid ! Message || Message <- [hello, {py_span}, {make_ref(), ok}, setelement(3, Span, x), setelement(13, Span, x),
                                  setelement(13, Span, [x | y]), setelement(4, Span, x), setelement(6, Span, self())]],
    Pid ! Span,
    ?assertMatch(#{parent_id := undefined}, span(<<"s">>)),
    ?assertEqual(1, length(spans())),
    ?assertEqual(Pid, whereis(py_tracer)).

%%% One span

off(_) ->
    ok = py:disable_tracing(),
    {ok, none} = call(shape, []),
    {ok, none} = call(tree, []),
    {ok, [_, _, _, _, 3, <<"failed">>, 5]} = call(decorated, []),
    {ok, [0, 1, [<<"sent">>, <<"last">>], <<"thrown">>]} = call(generators, []),
    ?assertEqual([], spans()).

switched(_) ->
    {ok, _} = call(one, [<<"a">>]),
    ok = py:enable_tracing(),
    {ok, _} = call(one, [<<"b">>]),
    ok = py:disable_tracing(),
    ok = py:disable_tracing(),
    {ok, _} = call(one, [<<"c">>]),
    ok = py:enable_tracing(),
    {ok, _} = call(one, [<<"d">>]),
    ?assertEqual([<<"a">>, <<"b">>, <<"d">>], names()).

shape(_) ->
    Before = erlang:system_time(microsecond),
    {ok, Id} = call(shape, []),
    [Span] = spans(),
    #{start_time := Start, end_time := End, duration_us := Duration, events := [First, Second]} = Span,
    ?assertMatch(#{name := <<"shape">>, span_id := Id, parent_id := undefined, status := ok, end_attrs := End0}
                     when End0 =:= #{}, Span),
    ?assertEqual([attributes, duration_us, end_attrs, end_time, events, name, parent_id, span_id, start_time, status],
                 lists:sort(maps:keys(Span))),
    ?assertEqual(#{<<"text">> => <<"grün"/utf8>>, <<"number">> => 1 bsl 70, <<"data">> => <<255>>, <<"t">> => {1, <<"x">>},
                   <<"nested">> => #{<<"a">> => [1, 2.5, none, true]}}, maps:get(attributes, Span)),
    ?assertEqual(Duration, End - Start),
    ?assert(Duration >= 10000),
    ?assert(Start >= Before - 1000000 andalso End =< erlang:system_time(microsecond) + 1000000),
    #{name := <<"first">>, attrs := #{<<"at">> := 1}, time := T1} = First,
    #{name := <<"second">>, attrs := NoAttrs, time := T2} = Second,
    ?assertEqual(#{}, NoAttrs),
    ?assert(Start =< T1 andalso T1 =< T2).

tree(_) ->
    {ok, none} = call(tree, []),
    ?assertEqual([<<"leaf">>, <<"left">>, <<"right">>, <<"root">>, <<"other root">>], names()),
    ?assertEqual(undefined, parent(<<"root">>)),
    ?assertEqual(undefined, parent(<<"other root">>)),
    ?assertEqual([id(<<"root">>), id(<<"root">>), id(<<"left">>)], [parent(N) || N <- [<<"left">>, <<"right">>, <<"leaf">>]]),
    ?assertEqual(5, length(lists:usort([Id || #{span_id := Id} <- spans()]))).

failures(_) ->
    {ok, none} = call(failures, []),
    ?assertMatch(#{status := error, end_attrs := #{<<"exception">> := <<"grün"/utf8>>, <<"exception_type">> := <<"ValueError">>}},
                 span(<<"ValueError">>)),
    ?assertMatch(#{status := error, end_attrs := #{<<"exception">> := <<>>}}, span(<<"KeyError">>)),
    ?assertMatch(#{status := error}, span(<<"StopIteration">>)),
    ?assertMatch(#{status := error, end_attrs := #{<<"exception_type">> := <<"KeyboardInterrupt">>}},
                 span(<<"KeyboardInterrupt">>)),
    ?assertMatch(#{status := ok}, span(<<"GeneratorExit">>)),
    ?assertMatch(#{status := error, end_attrs := #{<<"exception">> := <<"<unprintable", _/binary>>}}, span(<<"unprintable">>)),
    ?assertMatch(#{status := error, end_attrs := #{<<"exception_type">> := <<"CancelledError">>}}, span(<<"cancelled">>)).

%% It ends when Python has stopped, after the answer.
interrupted(_) ->
    Ref = py:call_async(t_tracing, endless, [<<"endless">>, self()]),
    receive <<"within">> -> ok end,
    ok = py:interrupt(Ref),
    ?assertEqual({error, interrupted}, py:await(Ref)),
    ok = pyn_ct:wait_until(fun() -> length(spans()) =:= 1 andalso ok end),
    ?assertMatch(#{status := error, end_attrs := #{<<"exception_type">> := <<"KeyboardInterrupt">>}}, span(<<"endless">>)).

%%% The decorator

decorated(_) ->
    ?assertEqual({ok, [2, 2, 3, <<"Service">>, 3, <<"failed">>, 5]}, call(decorated, [])),
    ?assertEqual([<<"Service.method">>, <<"static one">>, <<"Service.inner_static">>, <<"Service.of_class">>, <<"plain">>,
                  <<"named">>, <<"in coroutine">>, <<"coroutine">>], names()),
    ?assertMatch(#{status := error, end_attrs := #{<<"exception">> := <<"named failed">>}}, span(<<"named">>)),
    ?assertEqual(id(<<"coroutine">>), parent(<<"in coroutine">>)),
    ?assertEqual({ok, [<<"plain">>, <<"Adds.">>, 3, <<"(a, b=2)">>, true, true, true]}, call(looks_the_same, [])).

generators(_) ->
    ?assertEqual({ok, [0, 1, [<<"sent">>, <<"last">>], <<"thrown">>]}, call(generators, [])),
    [Whole, Thrown, Closed] = [S || #{name := <<"generator">>} = S <- spans()],
    %% Its parent is who made its first step; what its consumer does between the steps is none of its children.
    ?assertEqual(id(<<"consumer">>), maps:get(parent_id, Whole)),
    ?assertEqual(id(<<"consumer">>), parent(<<"between">>)),
    ?assertMatch(#{status := error, end_attrs := #{<<"exception">> := <<"thrown">>}}, Thrown),
    ?assertMatch(#{status := ok}, Closed),
    Id = maps:get(span_id, Whole),
    ?assertEqual([0, 1], [I || #{name := <<"step">>, parent_id := P, attributes := #{<<"i">> := I}} <- spans(), P =:= Id]).

async_generators(_) ->
    ?assertEqual({ok, [0, 1]}, call(async_generators, [])),
    [Whole, Closed] = [S || #{name := <<"async_generator">>} = S <- spans()],
    Consumer = id(<<"async consumer">>),
    ?assertMatch(#{status := ok, parent_id := Consumer}, Whole),
    ?assertMatch(#{status := ok, parent_id := undefined}, Closed),
    ?assertEqual([Consumer, Consumer], [P || #{name := <<"async between">>, parent_id := P} <- spans()]),
    [#{span_id := Id}, _] = [Whole, Closed],
    ?assertEqual(2, length([S || #{name := <<"async step">>, parent_id := P} = S <- spans(), P =:= Id])).

%%% Parents

%% A thread begins with nothing open, as with any context variable; what takes its context along has its parent.
threads(_) ->
    {ok, none} = call(threads, []),
    [begin
         N = integer_to_binary(I),
         ?assertEqual(undefined, parent(<<"thread ", N/binary>>)),
         ?assertEqual(id(<<"thread ", N/binary>>), parent(<<"in thread ", N/binary>>))
     end || I <- [0, 1, 2]],
    ?assertEqual(id(<<"main">>), parent(<<"to thread">>)),
    {ok, none} = call(many_threads, [8, 100]),
    Many = [Id || #{name := <<"many">>, span_id := Id} <- spans()],
    ?assertEqual(800, length(lists:usort(Many))).

tasks(_) ->
    {ok, none} = call(tasks, [20]),
    [begin
         N = integer_to_binary(I),
         ?assertEqual(id(<<"tasks">>), parent(<<"task ", N/binary>>)),
         ?assertEqual(id(<<"task ", N/binary>>), parent(<<"in task ", N/binary>>))
     end || I <- lists:seq(0, 19)].

%% What a request left open is not the parent of the next one's.
requests_are_apart(_) ->
    [{ok, none} = call(leave_open, [<<"left">>]) || _ <- lists:seq(1, 10)],
    [{ok, none} = call(one, [<<"next">>]) || _ <- lists:seq(1, 10)],
    ?assertEqual(lists:duplicate(10, undefined), [P || #{parent_id := P} <- spans()]).

%%% Across calls

register_inner() ->
    ok = py:register_function(inner, fun
        ([Name]) -> {ok, none} = call(one, [Name]), done;
        ([Name, Node]) ->
            {ok, none} = py:call(t_tracing, one, [Name], #{}, #{node => binary_to_existing_atom(Node)}),
            done
    end).

callback(_) ->
    register_inner(),
    ?assertEqual({ok, <<"done">>}, call(call_in_span, [<<"outer">>, inner, <<"nested">>])),
    ?assertEqual(id(<<"outer">>), parent(<<"nested">>)),
    ?assertEqual(undefined, parent(<<"outer">>)),
    %% Without a span there is nothing to pass on, and so without tracing.
    ?assertEqual({ok, <<"done">>}, py:eval(<<"__import__('erlang').call('inner', 'alone')">>)),
    ?assertEqual(undefined, parent(<<"alone">>)),
    ok = py:disable_tracing(),
    ?assertEqual({ok, <<"done">>}, call(call_in_span, [<<"outer">>, inner, <<"nested">>])),
    ?assertEqual(3, length(spans())).

depth(_) ->
    ok = py:register_function(down, fun([N]) -> {ok, Result} = call(down, [N]), Result end),
    ?assertEqual({ok, <<"bottom">>}, call(down, [50])),
    Name = fun(N) -> <<"level ", (integer_to_binary(N))/binary>> end,
    ?assertEqual([Name(N) || N <- lists:seq(0, 50)], names()),
    [?assertEqual(id(Name(N + 1)), parent(Name(N))) || N <- lists:seq(0, 49)].

async_callbacks(_) ->
    register_inner(),
    {ok, Results} = call(async_calls_in_spans, [10, inner]),
    ?assertEqual(lists:duplicate(10, <<"done">>), Results),
    [begin
         N = integer_to_binary(I),
         ?assertEqual(id(<<"async ", N/binary>>), parent(<<"inner ", N/binary>>))
     end || I <- lists:seq(0, 9)].

callback_of_a_thread(_) ->
    register_inner(),
    {ok, none} = call(thread_call_in_span, [<<"in a thread">>, inner, <<"its child">>]),
    ?assertEqual(id(<<"in a thread">>), parent(<<"its child">>)).

%% A callback need not wait for its calls.
later_call(_) ->
    Self = self(),
    ok = py:register_function(later, fun([Name]) ->
        Ref = py:call_async(t_tracing, one, [Name]),
        Self ! {result, py:await(Ref)},
        done
    end),
    {ok, <<"done">>} = call(call_in_span, [<<"caller">>, later, <<"called later">>]),
    receive {result, Result} -> ?assertEqual({ok, none}, Result) end,
    ?assertEqual(id(<<"caller">>), parent(<<"called later">>)).

%% A generator goes on in many requests.
streams(_) ->
    ok = py:register_function(stream, fun([Name]) ->
        {ok, Ref} = py:stream_start(t_tracing, Name, [300]),
        items(Ref)
    end),
    [begin
         ok = py:clear_traces(),
         ?assertEqual({ok, lists:seq(0, 299)}, call(call_in_span, [<<"consumer">>, stream, Function])),
         ?assertEqual(id(<<"consumer">>), parent(<<"whole">>)),
         Whole = id(<<"whole">>),
         ?assertEqual([{I, Whole} || I <- lists:seq(0, 299)],
                      [{I, P} || #{name := <<"item">>, parent_id := P, attributes := #{<<"i">> := I}} <- spans()])
     end || Function <- [<<"steps">>, <<"async_steps">>]],
    ok = py:clear_traces(),
    ?assertEqual({ok, [0, 1]}, py:stream(t_tracing, steps, [2])),
    ?assertEqual(id(<<"whole">>), lists:last(lists:usort([P || #{name := <<"item">>, parent_id := P} <- spans()]))),
    ?assertEqual(undefined, parent(<<"whole">>)).

items(Ref) ->
    receive
        {py_stream, Ref, {data, Item}} -> [Item | items(Ref)];
        {py_stream, Ref, done} -> [];
        {py_stream, Ref, {error, Reason}} -> error(Reason)
    after 10000 -> error(no_item)
    end.

%% Coroutines of requests run on a loop of the worker's, many at a time.
coroutines(_) ->
    register_inner(),
    Names = [integer_to_binary(N) || N <- lists:seq(1, 20)],
    Refs = [py:async_call(t_tracing, async_one, [Name]) || Name <- Names],
    [?assertEqual({ok, <<"done">>}, py:async_await(Ref)) || Ref <- Refs],
    [begin
         ?assertEqual(undefined, parent(Name)),
         [?assertEqual(id(Name), parent(<<Name/binary, Child/binary>>)) || Child <- [<<".0">>, <<".1">>, <<".2">>, <<".inner">>]]
     end || Name <- Names],
    ok = py:clear_traces(),
    ok = py:register_function(async_inner, fun([Name]) ->
        {ok, Result} = py:async_await(py:async_call(t_tracing, async_one, [Name])),
        Result
    end),
    ?assertEqual({ok, <<"done">>}, py:async_await(py:async_call(t_tracing, async_outer, [<<"o">>]))),
    ?assertEqual(id(<<"o">>), parent(<<"o.">>)),
    ?assertEqual(id(<<"o.">>), parent(<<"o..inner">>)).

%% A second C-node, which this node uses as well.
with_second(Fun) ->
    P = pyn_ct:start(["--workers", "2", "--coordinator", atom_to_list(node())]),
    ok = app_ct:start([{nodes, [local, pyn_ct:node_of(P)]} | app_ct:workers(2)]),
    ok = pyn_ct:wait_until(fun() -> length(py_router:up_nodes()) =:= 2 andalso ok end),
    ok = py:enable_tracing(),
    register_inner(),
    try Fun(P) after
        _ = (catch pyn_ct:signal(P, "CONT")),
        _ = (catch pyn_ct:stop(P)),
        ok = app_ct:start(app_ct:workers(2)),
        ok = py:enable_tracing()
    end.

other_c_node(_) ->
    with_second(fun(P) ->
        Second = pyn_ct:node_of(P),
        [First] = py_router:known_nodes() -- [Second],
        On = fun(Node, F, Args) -> py:call(t_tracing, F, Args, #{}, #{node => Node}) end,
        {ok, <<"done">>} = On(First, call_in_span, [<<"first">>, inner, <<"second">>, atom_to_binary(Second)]),
        ?assertEqual(id(<<"first">>), parent(<<"second">>)),
        {ok, <<"done">>} = On(Second, call_in_span, [<<"third">>, inner, <<"fourth">>, atom_to_binary(First)]),
        ?assertEqual(id(<<"third">>), parent(<<"fourth">>)),
        %% The connections of both end here, and are waited for.
        [begin
             {ok, none} = On(Node, one, [integer_to_binary(N)]),
             ?assertMatch([_], [1 || Name <- names(), Name =:= integer_to_binary(N)])
         end || N <- lists:seq(1, 50), Node <- [lists:nth(1 + N rem 2, [First, Second])]]
    end).

%% The function runs on a node that is not the coordinator, and calls Python from there.
other_erlang_node(_) ->
    Peer = app_ct:start_peer([{coordinator, node()}, {nodes, [app_ct:pynode()]}]),
    ok = app_ct:on(Peer, fun app_ct:await_all/0),
    app_ct:on(Peer, fun() ->
        ok = py:register_function(elsewhere, fun([Name]) -> {ok, none} = py:call(t_tracing, one, [Name]), done end)
    end),
    {ok, <<"done">>} = call(call_in_span, [<<"here">>, elsewhere, <<"from there">>]),
    ?assertEqual(id(<<"here">>), parent(<<"from there">>)),
    app_ct:stop_peer(Peer).

%%% Reading

%% Whoever has the reply finds the span, every time.
barrier(_) ->
    Self = self(),
    Pids = [spawn_link(fun() -> Self ! {self(), [seen(I, N) || N <- lists:seq(1, 50)]} end) || I <- [1, 2, 3, 4]],
    [receive {Pid, Seen} -> ?assertEqual([true], lists:usort(Seen)) end || Pid <- Pids].

seen(I, N) ->
    Name = iolist_to_binary(io_lib:format("~b-~b", [I, N])),
    {ok, none} = py:call(t_tracing, one, [Name]),
    {ok, Spans} = py:get_traces(),
    lists:any(fun(#{name := Found}) -> Found =:= Name end, Spans).

%% Also from a node that is not the coordinator, which has a connection of its own to the C-node.
barrier_elsewhere(_) ->
    Peer = app_ct:start_peer([{coordinator, node()}, {nodes, [app_ct:pynode()]}]),
    ok = app_ct:on(Peer, fun app_ct:await_all/0),
    ?assertEqual([true], lists:usort(app_ct:on(Peer, fun() -> [seen(9, N) || N <- lists:seq(1, 100)] end))),
    ok = app_ct:on(Peer, fun() -> ok = py:clear_traces(), {ok, []} = py:get_traces(), py:disable_tracing() end),
    {ok, none} = call(one, [<<"off by another node">>]),
    ?assertEqual([], spans()),
    app_ct:stop_peer(Peer).

bounded(_) ->
    {ok, none} = py:call(t_tracing, many, [10100], #{}, 60000),
    Spans = spans(),
    ?assertEqual(10000, length(Spans)),
    ?assertEqual({ok, 100}, py_tracer:dropped()),
    ?assertEqual(lists:seq(100, 10099), [N || #{attributes := #{<<"n">> := N}} <- Spans]),
    ok = py:clear_traces(),
    ?assertEqual({ok, 0}, py_tracer:dropped()).

%% 100 spans of 1 MB make room for each other.
bounded_bytes(_) ->
    Large = maps:from_list([{<<"k", (integer_to_binary(N))/binary>>, binary:copy(<<"x">>, 60000)} || N <- lists:seq(1, 16)]),
    [{ok, none} = py:call(t_tracing, one, [integer_to_binary(N)], Large) || N <- lists:seq(1, 100)],
    Spans = spans(),
    ?assert(length(Spans) > 10 andalso length(Spans) < 90),
    ?assertMatch(#{name := <<"100">>}, lists:last(Spans)),
    ?assertEqual({ok, 100 - length(Spans)}, py_tracer:dropped()).

clear(_) ->
    [begin
         {ok, none} = call(one, [<<"x">>]),
         ok = py:clear_traces(),
         ?assertEqual([], spans())
     end || _ <- lists:seq(1, 50)].

process_restarts(_) ->
    {ok, none} = call(one, [<<"before">>]),
    ?assertEqual([<<"before">>], names()),
    callback_SUITE:restart(py_tracer),
    {ok, none} = call(one, [<<"after">>]),
    ?assertEqual([<<"before">>, <<"after">>], names()).

%% One that is stopped is waited for, but not for long; one that is killed is not.
silent_c_node(_) ->
    with_second(fun(P) ->
        {ok, none} = py:call(t_tracing, one, [<<"x">>], #{}, #{node => pyn_ct:node_of(P)}),
        ok = pyn_ct:freeze(pyn_ct:os_pid(P)),
        {Took, Spans} = timer:tc(fun spans/0),
        ?assertMatch([#{name := <<"x">>}], Spans),
        ?assert(Took >= 2900000 andalso Took < 9000000),
        Asker = spawn_link(fun() -> receive go -> {ok, _} = py:get_traces() end end),
        Monitor = monitor(process, Asker),
        Asker ! go,
        pyn_ct:signal(P, "KILL"),
        receive {'DOWN', Monitor, _, _, Reason} -> ?assertEqual(normal, Reason) after 3000 -> error(waits_for_the_dead) end,
        ?assertMatch([#{name := <<"x">>}], spans())
    end).

restarted_node(_) ->
    #{os_pid := OsPid} = maps:get(app_ct:pynode(), py:info()),
    _ = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    ok = pyn_ct:wait_until(fun() -> call(one, [<<"again">>]) =:= {ok, none} andalso ok end),
    ?assertEqual([<<"again">>], names()).

%% Spans are lost then, and nothing else.
no_coordinator(_) ->
    P = pyn_ct:start(["--workers", "1"]),
    {ok, none} = pyn_ct:call(P, {call, '_pynode_tracing', switch, [true]}),
    {ok, none} = pyn_ct:call(P, {call, t_tracing, many, [1000]}),
    {ok, none} = pyn_ct:call(P, {call, t_tracing, tree, []}),
    ?assertEqual(0, pyn_ct:stop(P)),
    ?assertEqual([], spans()).

%% Next to nothing while it is off.
cost(_) ->
    {ok, On} = call(cost, [200]),
    ok = py:disable_tracing(),
    {ok, Off} = call(cost, [2000]),
    ct:log("a span: ~b ns, off: ~b ns", [On, Off]),
    ?assert(Off < 20000).

without_application(_) ->
    app_ct:stop(),
    ?assertEqual({error, coordinator_down}, py:get_traces()),
    ?assertEqual({error, coordinator_down}, py:clear_traces()),
    ?assertMatch({error, _}, py:enable_tracing()).
