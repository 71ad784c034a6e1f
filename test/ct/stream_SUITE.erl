%% Streams: all items at once, items as they come, what holds a generator back and what closes it; interrupts.
-module(stream_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, shared}, {group, own}].

groups() ->
    [{shared, [], [bad_starts, bad_requests, collects, collects_until, closes_in_peace, items_in_order, what_is_iterated, ends, options,
                   items_are_prompt, cancels, cancelled_by_others,
                   cancelled_though_it_hangs, cancelled_while_it_works, cancelled_imports, owner_dies, closing_fails,
                   interrupts, interrupts_from_elsewhere, times_for_an_item, async_generators, nobody_reads,
                   large_items, slow_owner, other_messages, too_many_messages, hundred_at_once,
                   definitions_of_callers, slots, in_contexts, refused_modules, generators_that_ask, started_in_callbacks, protocol,
                   too_many_streams, owner_elsewhere, owner_elsewhere_does_not_read, owner_elsewhere_is_lost]},
     {own, [], [one_worker, node_killed, node_stops, application_stops, not_started]}].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    app_ct:stop().

init_per_group(shared, Config) ->
    ok = app_ct:start(app_ct:workers(4)),
    Config;
init_per_group(own, Config) ->
    app_ct:stop(),
    Config.

end_per_group(_, _Config) ->
    app_ct:stop().

end_per_testcase(_, _Config) ->
    flush().

%%% What is refused

bad_starts(_Config) ->
    [{error, invalid_args} = py:stream_start(t_streams, count, A) || A <- [x, 5, [1 | 2], <<"x">>]],
    [{error, invalid_args} = py:stream(t_streams, count, A) || A <- [x, 5, [1 | 2], <<"x">>]],
    {error, invalid_args} = py:stream_start(t_streams, count, [1], []),
    {error, invalid_args} = py:stream_eval(<<"x">>, [{x, 1}]),
    {error, {not_text, _}} = py:stream_eval({code}),
    {error, {not_text, _}} = py:stream_start(17, count, []),
    [{error, {bad_option, _}} = py:stream_start(t_streams, count, [1], #{}, O)
     || O <- [#{owner => me}, #{owner => undefined}, #{window => 0}, #{window => -1}, #{window => 1.5},
              #{window => 1 bsl 40}, #{timeout => -1}, #{timeout => soon}, #{nonsense => 1}, soon, -1]],
    [] = ets:tab2list(py_stream),
    ok = py:stream_cancel(make_ref()),
    [{error, not_found} = py:interrupt(W) || W <- [make_ref(), self(), undefined, {ctx, 1}, <<"x">>]],
    %% What only Python can know is the last message.
    {[], {error, {'ModuleNotFoundError', _}}} = items(start(no_such_module, f, [])),
    {[], {error, {'AttributeError', _}}} = items(start(t_streams, no_such_function, [])),
    {[], {error, {'NameError', _}}} = items(start('__main__', no_such_function_here, [])),
    {[], {error, {'TypeError', _}}} = items(start(t_streams, count, [])),
    {[], {error, {'TypeError', _}}} = items(start(t_streams, count, [1, 2, 3])),
    {[], {error, {nodedown, 'nowhere@-nowhere'}}} =
        items(start(t_streams, count, [1], #{}, #{node => 'nowhere@-nowhere'})),
    nothing_left().

%% From a node that has none of our code.
bad_requests(_Config) ->
    [{error, {bad_request, _}} = ask(R)
     || R <- [{stream}, {stream, math}, {stream, 1, f, []}, {stream, t_streams, count, [1], x},
              {stream, t_streams, count, [1], #{}, x}, {stream, t_streams, count, [1], #{}, #{home => x}},
              {stream, t_streams, count, [1], #{}, #{}, x},
              {stream_next}, {stream_next, 1}, {stream_next, x, 1}, {stream_next, 0, 1}, {stream_next, -1, 1},
              {stream_next, 1, 0}, {stream_next, 1, -1}, {stream_next, 1, x}, {stream_next, 1, 1 bsl 32},
              {stream_next, 1 bsl 70, 1}, {stream_next, 1, 1, x}, {stream_close}, {stream_close, x},
              {stream_close, 0}, {stream_close, 1, 1}, {call, math, sqrt, [1], #{}, #{collect => 1}}]],
    {error, invalid_args} = ask({stream, t_streams, count, x}),
    {error, no_such_stream} = ask({stream_next, 1 bsl 62, 1}),
    ok = ask({stream_close, 1 bsl 62}),
    {error, {'TypeError', _}} = ask({stream, t_streams, count, []}),
    %% A cast has nobody who could ask.
    ok = gen_server:cast({py, app_ct:pynode()}, {stream, t_streams, count, [1]}),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    nothing_left().

%%% All at once

collects(_Config) ->
    {ok, [0, 1, 2]} = py:stream(t_streams, count, [3]),
    {ok, [a, b]} = atoms(py:stream(t_streams, named, [a], #{last => b})),
    {ok, []} = py:stream(t_streams, count, [0]),
    Numbers = lists:seq(0, 99999),
    {ok, Numbers} = py:stream(t_streams, count, [100000]),
    {ok, [4.0]} = py:stream(math, sqrt, [16]),
    {ok, [none]} = py:stream(t_streams, identity, [none]),
    {ok, [[1, 2]]} = py:stream(t_streams, identity, [[1, 2]]),
    {ok, [[0, 1, 2]]} = py:stream(builtins, range, [3]),
    {ok, [0, 1, 4]} = py:stream_eval(<<"(x * x for x in range(3))">>),
    {ok, [{0, 0}, {0, 1}, {1, 0}, {1, 1}]} = py:stream_eval("((x, y) for x in range(2) for y in range(2))"),
    {ok, [[0], [0, 1]]} = py:stream_eval("((y for y in range(x)) for x in (1, 2))"),
    {ok, [5, 6]} = py:stream_eval(<<"iter(xs)">>, #{xs => [5, 6]}),
    {ok, [[5, 6]]} = py:stream_eval(<<"xs">>, #{xs => [5, 6]}),
    {ok, [{<<"a">>, 1}]} = py:stream_eval(<<"iter({'a': 1}.items())">>),
    {ok, [0, 1, 2]} = py:stream(t_streams, acount, [3]),
    {ok, [7]} = py:stream(t_streams, coroutine, [7]),
    {ok, [1, 0]} = py:stream(t_streams, 'Countdown', [2]),
    ok = py:exec(<<"def mine(n): yield from 'ab' * n">>),
    {ok, [<<"a">>, <<"b">>]} = py:stream('__main__', mine, [1]),
    nothing_left().

collects_until(_Config) ->
    {error, {'ValueError', "enough"}} = py:stream(t_streams, failing, [3]),
    {error, {'ValueError', "enough"}} = py:stream(t_streams, afailing, []),
    {error, {'ValueError', _}} = py:stream(t_streams, unconvertible, [collected]),
    {ok, <<"closed">>} = state(collected),
    {error, {'ValueError', "enough", Traceback}} = py:stream(t_streams, failing, [3], #{}, #{traceback => true}),
    {match, _} = re:run(Traceback, "in failing"),
    {error, {'SyntaxError', _}} = py:stream_eval(<<"1 +">>),
    {error, timeout} = py:stream(t_streams, spinning, [spun], #{}, 100),
    %% Iterators that are written in C never look up by themselves.
    {error, timeout} = py:stream(itertools, count, [], #{}, 200),
    {error, timeout} = py:stream_eval(<<"iter(int, 1)">>, #{}, 100),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    %% They come back; to let millions of items go may take a busy machine longer than a worker has.
    pyn_ct:wait_until(fun() -> info(stuck) =:= 0 end),
    nothing_left().

%% The generator's `finally` is not hit by the interrupt that ended the call; on a machine that stands still, by the next.
closes_in_peace(Config) ->
    File = list_to_binary(filename:join(proplists:get_value(priv_dir, Config), "closed")),
    [begin {error, timeout} = py:stream(t_streams, tidying, [File], #{}, 100), nothing_left() end || _ <- lists:seq(1, 10)],
    pyn_ct:wait_until(fun() -> info(busy) =:= 0 end), % the answer comes before
    {ok, Marks} = file:read_file(File),
    {Opened, Closed} = {length(binary:matches(Marks, <<"o">>)), length(binary:matches(Marks, <<"x">>))},
    ?assert(Opened > 0 andalso Closed * 4 >= Opened * 3, Marks).

%%% As they come

items_in_order(_Config) ->
    [begin
         Numbers = lists:seq(0, N - 1),
         ?assertEqual({Numbers, done}, items(start(t_streams, count, [N])))
     end || N <- [0, 1, 2, 47, 48, 49, 63, 64, 65, 128, 1000, 20000]],
    [?assertEqual({lists:seq(0, 299), done}, items(start(t_streams, count, [300], #{}, #{window => W})))
     || W <- [1, 2, 3, 4, 5, 10000]],
    {[<<"a">>, <<"b">>], done} = items(start(t_streams, named, [a], #{last => b})),
    nothing_left().

what_is_iterated(_Config) ->
    {[4.0], done} = items(start(math, sqrt, [16])),
    {[[1, 2]], done} = items(start(t_streams, identity, [[1, 2]])),
    {[2, 1, 0], done} = items(start(t_streams, 'Countdown', [3])),
    {[0, 1, 2], done} = items(start(t_streams, acount, [3])),
    {[9], done} = items(start(t_streams, coroutine, [9])),
    {[{1, <<"a">>}], done} = items(start(builtins, enumerate, [[a]], #{start => 1})),
    {[none, true, <<"x">>, [], #{}], done} = items(start(builtins, iter, [[none, true, x, [], #{}]])),
    nothing_left().

ends(_Config) ->
    {[0, 1, 2], {error, {'ValueError', "enough"}}} = items(start(t_streams, failing, [3])),
    {[], {error, {'ValueError', "enough"}}} = items(start(t_streams, failing, [0])),
    {[1], {error, {'ValueError', _}}} = items(start(t_streams, unconvertible, [unconvertible])),
    {ok, <<"closed">>} = state(unconvertible),
    {[1], {error, {'ValueError', "enough", Traceback}}} =
        items(start(t_streams, afailing, [], #{}, #{traceback => true})),
    {match, _} = re:run(Traceback, "in afailing"),
    nothing_left().

options(_Config) ->
    Self = self(),
    {Numbers, done} = items(start(t_streams, count, [100], #{}, #{node => app_ct:pynode()})),
    ?assertEqual(lists:seq(0, 99), Numbers),
    %% Another owner; also in the place of the keyword arguments.
    [begin
         Owner = spawn_link(?MODULE, forward, [Self]),
         {ok, Ref} = Start(Owner),
         {[0, 1, 2], done} = forwarded(Owner, Ref),
         unlink(Owner),
         exit(Owner, kill)
     end || Start <- [fun(O) -> py:stream_start(t_streams, count, [3], #{}, #{owner => O}) end,
                      fun(O) -> py:stream_start(t_streams, count, [3], #{owner => O}) end]],
    %% The one who starts it may go.
    Owner = spawn_link(?MODULE, forward, [Self]),
    {_, Monitor} = spawn_monitor(fun() -> exit(py:stream_start(t_streams, closing, [o, 3], #{}, #{owner => Owner})) end),
    Ref = receive {'DOWN', Monitor, process, _, {ok, R}} -> R end,
    {[1, 2, 3], done} = forwarded(Owner, Ref),
    {[], {error, {'TypeError', _}}} = items(start(t_streams, count, [3], #{owner => <<"name">>})),
    unlink(Owner),
    exit(Owner, kill),
    nothing_left().

%% No item waits for the next one, which comes when there is the file.
items_are_prompt(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "go_on"),
    Ref = start(t_streams, burst, [10, list_to_binary(File)]),
    [receive {py_stream, Ref, {data, N}} -> ok after 20000 -> error({missing, N}) end || N <- lists:seq(0, 9)],
    ok = file:write_file(File, <<>>),
    {[<<"late">>], done} = items(Ref),
    nothing_left().

%%% What ends a stream

cancels(_Config) ->
    [begin
         Ref = start(t_streams, closing, [Key]),
         receive {py_stream, Ref, {data, 1}} -> ok end,
         ok = Wait(Ref),
         ok = py:stream_cancel(Ref),
         {ok, Given} = state(Key),
         ?assert(is_integer(Given)),
         ok = py:stream_cancel(Ref),
         {error, not_found} = py:interrupt(Ref),
         receive {py_stream, Ref, What} -> error({after_cancel, What}) after 0 -> ok end
     end || {Key, Wait} <- [{cancel_now, fun(_) -> ok end},
                            {cancel_full, fun app_ct:full/1},
                            {cancel_later, fun(Ref) -> [receive {py_stream, Ref, _} -> ok end || _ <- lists:seq(1, 500)], ok end}]],
    %% Before it was opened.
    [ok = py:stream_cancel(start(t_streams, closing, [early])) || _ <- lists:seq(1, 50)],
    %% One that has ended is no error, and what nobody read is gone.
    Ended = start(t_streams, count, [3]),
    pyn_ct:wait_until(fun() -> length_of(self()) =:= 4 end),
    ok = py:stream_cancel(Ended),
    nothing_left().

cancelled_by_others(_Config) ->
    Ref = start(t_streams, closing, [cancelled_by_others]),
    receive {py_stream, Ref, {data, 1}} -> ok end,
    cancel_by_other(Ref),
    {ok, _} = state(cancelled_by_others),
    nothing_left().

cancel_by_other(Ref) ->
    {_, Monitor} = spawn_monitor(fun() -> ok = py:stream_cancel(Ref) end),
    receive {'DOWN', Monitor, process, _, normal} -> ok end,
    {_, {error, cancelled}} = items(Ref).

%% Of one whose process had to be killed nothing is left either.
cancelled_though_it_hangs(_Config) ->
    [begin
         Ref = start(itertools, count, []),
         {ok, Proxy} = py_stream:where(Ref),
         ok = sys:suspend(Proxy),
         _ = Cancel(Ref),
         false = is_process_alive(Proxy),
         {error, not_found} = py:interrupt(Ref)
     end || Cancel <- [fun py:stream_cancel/1, fun cancel_by_other/1]].

%% A generator that computes is interrupted.
cancelled_while_it_works(_Config) ->
    Ref = start(t_streams, spinning, [spinning]),
    receive {py_stream, Ref, {data, 1}} -> ok end,
    pyn_ct:wait_until(fun() -> info(busy) =:= 1 end),
    ok = py:stream_cancel(Ref),
    {ok, <<"closed">>} = state(spinning),
    pyn_ct:wait_until(fun() -> info(busy) =:= 0 end),
    pyn_ct:wait_until(fun() -> info(stuck) =:= 0 end),
    nothing_left().

%% An interrupt in the middle of an import leaves nothing behind that another import would wait for.
cancelled_imports(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Path = lists:flatten(io_lib:format("import sys~nsys.path.insert(0, ~p)~n", [Dir])),
    ok = py:exec_all(Path),
    Names = [list_to_atom("imported_" ++ integer_to_list(N)) || N <- lists:seq(1, 30)],
    [ok = file:write_file(filename:join(Dir, atom_to_list(Name) ++ ".py"),
                          ["import t_streams\n", "x = sum(range(20000))\n", "def items(): yield x\n"])
     || Name <- Names],
    Self = self(),
    [begin
         Pids = [spawn_link(fun() ->
             Ref = start(Name, items, []),
             receive after (7 * N + I) rem 20 -> ok end,
             ok = py:stream_cancel(Ref),
             Self ! {self(), cancelled}
         end) || N <- lists:seq(1, 6)],
         [receive {Pid, cancelled} -> ok end || Pid <- Pids],
         {[199990000], done} = items(start(Name, items, [], #{}, #{timeout => 20000}))
     end || {I, Name} <- lists:zip(lists:seq(1, 30), Names)],
    pyn_ct:wait_until(fun() -> info(stuck) =:= 0 end),
    nothing_left().

owner_dies(_Config) ->
    [begin
         {Owner, Monitor} = spawn_monitor(fun hoard/0),
         {ok, _} = py:stream_start(t_streams, F, [Key | Args], #{}, #{owner => Owner}),
         pyn_ct:wait_until(fun() -> length_of(Owner) > 0 end),
         exit(Owner, kill),
         receive {'DOWN', Monitor, process, _, killed} -> ok end,
         {ok, _} = state(Key)
     end || {F, Key, Args} <- [{closing, dies_full, []}, {spinning, dies_working, []}, {aclosing, dies_async, [30]}]],
    %% Dead before it begins.
    {Dead, M} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', M, process, _, _} -> ok end,
    {ok, _} = py:stream_start(t_streams, closing, [dead], #{}, #{owner => Dead}),
    nothing_left().

%% What goes wrong in `finally` is nobody's but the log's; what does not end there is interrupted.
closing_fails(_Config) ->
    Ref = start(t_streams, unclosable, [unclosable], #{}, #{window => 1}),
    receive {py_stream, Ref, {data, 1}} -> ok end,
    ok = py:stream_cancel(Ref),
    {ok, <<"closed">>} = state(unclosable),
    Stubborn = start(t_streams, stubborn, [stubborn], #{}, #{window => 1}),
    pyn_ct:wait_until(fun() -> length_of(self()) > 0 end),
    ok = py:stream_cancel(Stubborn),
    {ok, <<"closing">>} = state(stubborn),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    pyn_ct:wait_until(fun() -> info(busy) =:= 0 end),
    pyn_ct:wait_until(fun() -> info(stuck) =:= 0 end),
    nothing_left().

interrupts(_Config) ->
    Spinning = start(t_streams, spinning, [interrupted]),
    receive {py_stream, Spinning, {data, 1}} -> ok end,
    ok = py:interrupt(Spinning),
    {[], {error, interrupted}} = items(Spinning),
    {ok, <<"closed">>} = state(interrupted),
    {error, not_found} = py:interrupt(Spinning),
    %% One that nobody pulls at the moment.
    Full = start(t_streams, closing, [interrupted_full]),
    app_ct:full(Full),
    ok = py:interrupt(Full),
    {_, {error, interrupted}} = items(Full),
    {ok, _} = state(interrupted_full),
    %% A call.
    Call = py:call_async(t_slow, spin, []),
    pyn_ct:wait_until(fun() -> info(busy) =:= 1 end),
    ok = py:interrupt(Call),
    {error, interrupted} = py:await(Call),
    {error, not_found} = py:interrupt(Call),
    nothing_left().

%% References are known on the node that made them.
interrupts_from_elsewhere(_Config) ->
    Peer = app_ct:start_peer([{nodes, []}, {coordinator, node()}]),
    Spinning = start(t_streams, spinning, [from_elsewhere]),
    receive {py_stream, Spinning, {data, 1}} -> ok end,
    ok = app_ct:on(Peer, fun() -> true = net_kernel:connect_node(node(Spinning)), py:interrupt(Spinning) end),
    {[], {error, interrupted}} = items(Spinning),
    {error, not_found} = app_ct:on(Peer, fun() -> py:interrupt(Spinning) end),
    Other = start(t_streams, closing, [cancelled_from_elsewhere]),
    receive {py_stream, Other, {data, 1}} -> ok end,
    ok = app_ct:on(Peer, fun() -> py:stream_cancel(Other) end),
    {_, {error, cancelled}} = items(Other),
    app_ct:stop_peer(Peer),
    nothing_left().

%% Longer than a machine stands still: opening has the same time, and the item that is late must not be in time after all.
times_for_an_item(_Config) ->
    ok = py:exec_all(<<"import t_streams">>),
    {[0.0, 0.0], {error, timeout}} = items(start(t_streams, sleeping, [[0.0, 0.0, 5.0]], #{}, #{timeout => 2500})),
    {[1], {error, timeout}} = items(start(t_streams, spinning, [late_item], #{}, #{timeout => 2500})),
    {ok, <<"closed">>} = state(late_item),
    %% For each anew.
    Times = lists:duplicate(7, 0.4),
    Refs = [start(t_streams, sleeping, [Times], #{}, Time) || Time <- [#{timeout => 2500}, 2500]],
    [{Times, done} = items(Ref) || Ref <- Refs],
    {[1], {error, timeout}} = items(start(t_streams, aclosing, [late_async, 30], #{}, #{timeout => 2500})),
    {ok, 1} = state(late_async),
    nothing_left().

async_generators(_Config) ->
    {Numbers, done} = items(start(t_streams, acount, [500])),
    ?assertEqual(lists:seq(0, 499), Numbers),
    {Twenty, done} = items(start(t_streams, background, [20])),
    ?assertEqual(lists:seq(0, 19), Twenty),
    Ref = start(t_streams, aclosing, [acancel, 0]),
    receive {py_stream, Ref, {data, 1}} -> ok end,
    ok = py:stream_cancel(Ref),
    {ok, _} = state(acancel),
    %% While it waits in its loop.
    Waiting = start(t_streams, aclosing, [awaiting, 30]),
    receive {py_stream, Waiting, {data, 1}} -> ok end,
    ok = py:stream_cancel(Waiting),
    {ok, 1} = state(awaiting),
    pyn_ct:wait_until(fun() -> info(busy) =:= 0 end),
    pyn_ct:wait_until(fun() -> info(stuck) =:= 0 end),
    nothing_left().

%%% What holds a generator back

%% A million items, and an owner that takes none.
nobody_reads(_Config) ->
    {ok, _} = py:stream(t_streams, count, [1000]),
    Before = info(memory),
    Ref = start(t_streams, closing, [nobody_reads, 1000000]),
    Unread = filled(Ref, self(), 0),
    Idle = info(calls),
    ?assert(info(memory) - Before < 4 * 1024 * 1024),
    ?assertEqual(0, info(busy)),
    %% It was not pulled any further.
    [receive {py_stream, Ref, {data, N}} -> ok end || N <- lists:seq(1, Unread)],
    pyn_ct:wait_until(fun() -> info(calls) > Idle end),
    ok = py:stream_cancel(Ref),
    {ok, Given} = state(nobody_reads),
    ?assert(Given =< 192),
    nothing_left().

large_items(_Config) ->
    Ref = start(t_streams, big, [200, 1 bsl 20], #{}, #{window => 4}),
    app_ct:full(Ref),
    Memory = info(memory),
    {Items, done} = items(Ref),
    ?assertEqual([{N rem 256, 1 bsl 20} || N <- lists:seq(0, 199)], [{binary:first(I), byte_size(I)} || I <- Items]),
    ?assert(info(memory) - Memory < 64 * 1024 * 1024),
    nothing_left().

slow_owner(_Config) ->
    Ref = start(t_streams, count, [300], #{}, #{window => 8}),
    Lengths = [begin
                   receive {py_stream, Ref, {data, N}} -> ok end,
                   receive after 1 -> length_of(self()) end
               end || N <- lists:seq(0, 299)],
    ?assert(lists:max(Lengths) =< 8),
    receive {py_stream, Ref, done} -> ok end,
    nothing_left().

%% The window is of the stream's own messages: others that stay unread do not stop it.
other_messages(_Config) ->
    [self() ! {other, N} || N <- lists:seq(1, 500)],
    Ref = start(t_streams, count, [1000]),
    _ = filled(Ref, self(), 500),
    {Items, done} = items(Ref),
    ?assertEqual(lists:seq(0, 999), Items),
    ?assertEqual(500, length_of(self())),
    [receive {other, N} -> ok end || N <- lists:seq(1, 500)],
    nothing_left().

%% So many that they are not gone through: it goes on when some are read.
too_many_messages(_Config) ->
    [self() ! {other, N} || N <- lists:seq(1, 12000)],
    Ref = start(t_streams, count, [1000]),
    Unread = filled(Ref, self(), 12000),
    [receive {py_stream, Ref, {data, N}} -> ok end || N <- lists:seq(0, Unread - 1)],
    [receive {other, N} -> ok end || N <- lists:seq(1, 3000)],
    {Items, done} = items(Ref),
    ?assertEqual(lists:seq(Unread, 999), Items),
    nothing_left().

hundred_at_once(_Config) ->
    Streams = [{start(t_streams, F, [N]), N} || N <- lists:seq(1, 200, 4), F <- [count, acount]],
    [?assertEqual({lists:seq(0, N - 1), done}, items(Ref)) || {Ref, N} <- Streams],
    nothing_left().

%%% Where it runs

definitions_of_callers(_Config) ->
    Self = self(),
    Pids = [spawn_link(fun() ->
        Name = list_to_atom("gen_" ++ integer_to_list(N)),
        ok = py:exec(["def ", atom_to_list(Name), "(n):\n for i in range(n): yield ", integer_to_list(N), "\n"]),
        {Items, done} = items(start('__main__', Name, [100])),
        ?assertEqual(lists:duplicate(100, N), Items),
        {ok, [N]} = py:stream('__main__', Name, [1]),
        Self ! {self(), Name}
    end) || N <- lists:seq(1, 8)],
    Names = [receive {Pid, Name} -> Name end || Pid <- Pids],
    %% Others find them as well.
    [begin {[_], done} = items(start('__main__', Name, [1])) end || Name <- Names],
    nothing_left().

%% A stream takes a slot while it is opened only.
slots(_Config) ->
    Refs = [start(t_streams, closing, [{slots, N}]) || N <- lists:seq(1, 3 * py_semaphore:max_concurrent())],
    [receive {py_stream, Ref, {data, 1}} -> ok end || Ref <- Refs],
    ?assertEqual(0, py_semaphore:current()),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [ok = py:stream_cancel(Ref) || Ref <- Refs],
    nothing_left().

%% On the worker of the context, with its names, until it ends.
in_contexts(_Config) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"
import threading
def threads(key, n=1000000):
    import erlang
    try:
        for _ in range(n):
            yield threading.get_ident()
    finally:
        erlang.state_set(key, threading.get_ident())
">>),
    {ok, Thread} = py:ctx_eval(Ctx, <<"threading.get_ident()">>),
    Self = self(),
    ok = py:with_context(fun() ->
        ok = py:exec(<<"def bound(): yield from 'abc'">>),
        {[<<"a">>, <<"b">>, <<"c">>], done} = items(start('__main__', bound, [])),
        {ok, [<<"a">>, <<"b">>, <<"c">>]} = py:stream('__main__', bound, []),
        Ref = start(t_streams, closing, [context_ended]),
        receive {py_stream, Ref, {data, 1}} -> ok end,
        Self ! {outlives, Ref},
        ok
    end),
    {[], {error, {'NameError', _}}} = items(start('__main__', bound, [])),
    receive {outlives, Outlives} -> {_, {error, context_lost}} = items(Outlives) end,
    {ok, _} = state(context_ended),
    {Threads, done} = within(Ctx, fun() -> items(start('__main__', threads, [threads, 500])) end),
    ?assertEqual([Thread], lists:usort(Threads)),
    {ok, Thread} = state(threads),
    Full = within(Ctx, fun() -> start('__main__', threads, [threads]) end),
    app_ct:full(Full),
    ok = py:stream_cancel(Full),
    {ok, Thread} = state(threads),
    %% What runs in the context is what is pulled there.
    Spinning = within(Ctx, fun() -> start(t_streams, spinning, [spins]) end),
    receive {py_stream, Spinning, {data, 1}} -> ok end,
    pyn_ct:wait_until(fun() -> info(busy) =:= 1 end),
    ok = py:interrupt(Ctx),
    {[], {error, interrupted}} = items(Spinning),
    {ok, <<"closed">>} = state(spins),
    Last = within(Ctx, fun() -> start('__main__', threads, [threads]) end),
    app_ct:full(Last),
    ok = py:unbind(Ctx),
    {_, {error, context_lost}} = items(Last),
    {ok, Thread} = state(threads),
    {error, not_found} = py:interrupt(Ctx),
    nothing_left().

within(Ctx, Fun) ->
    py_context:within(Ctx, Fun).

%% In sub-interpreters they run in the main one, also for a caller that is bound.
refused_modules(_Config) ->
    Numbers = lists:seq(0, 199),
    {Numbers, done} = items(start(t_refused, pushes, [200])),
    {ok, Numbers} = py:stream(t_refused, pushes, [200]),
    ok = py:with_context(fun() -> {Numbers, done} = items(start(t_refused, pushes, [200])), ok end),
    Ref = start(t_refused, pushes, [100000]),
    app_ct:full(Ref),
    ok = py:stream_cancel(Ref),
    nothing_left().

generators_that_ask(_Config) ->
    ok = py:register_function(answer, fun([N]) -> {ok, Value} = py:call(math, sqrt, [N * N]), Value end),
    {Items, done} = items(start(t_streams, asking, [answer, 100])),
    ?assertEqual([float(N) || N <- lists:seq(0, 99)], Items),
    ok = py:unregister_function(answer),
    nothing_left().

%% The worker that has the interpreter waits for the callback meanwhile.
started_in_callbacks(_Config) ->
    ok = py:register_function(reads, fun([]) -> {Items, done} = items(start(t_streams, count, [1000])), lists:sum(Items) end),
    {ok, 499500} = py:call(t_streams, starts, [reads]),
    ok = py:exec(<<"def mine():\n    yield from range(500)\n">>),
    ok = py:register_function(reads_mine, fun([]) -> {Items, done} = items(start('__main__', mine, [])), lists:sum(Items) end),
    {ok, 124750} = py:eval(<<"__import__('t_streams').starts('reads_mine')">>),
    %% What a callback leaves behind ends with its process.
    ok = py:register_function(leaves, fun([]) -> _ = start(t_streams, closing, [left]), receive {py_stream, _, _} -> ok end end),
    {ok, _} = py:call(t_streams, starts, [leaves]),
    {ok, _} = state(left),
    [ok = py:unregister_function(F) || F <- [reads, reads_mine, leaves]],
    nothing_left().

%%% From a node that has none of our code

protocol(_Config) ->
    {ok, Stream} = ask({stream, t_streams, count, [10]}),
    {4, more} = pull(Stream, 4, []),
    [0, 1, 2, 3] = taken(Stream),
    {4, more} = pull(Stream, 4, [20000]),
    {2, done} = pull(Stream, 100, [#{timeout => infinity}]),
    [4, 5, 6, 7, 8, 9] = taken(Stream),
    {error, no_such_stream} = ask({stream_next, Stream, 1}),
    ok = ask({stream_close, Stream}),
    %% Closed while it is pulled, and by whoever.
    {ok, Spinning} = ask({stream, t_streams, spinning, [protocol, self()]}),
    {ok, {1, more}} = ask({stream_next, Spinning, 1}),
    [1] = taken(Spinning),
    Request = gen_server:send_request({py, app_ct:pynode()}, {stream_next, Spinning, 5}),
    receive <<"spins">> -> ok end,
    {error, stream_busy} = ask({stream_next, Spinning, 5}),
    ok = ask({stream_close, Spinning}),
    {reply, {error, interrupted}} = gen_server:receive_response(Request, 5000),
    {ok, <<"closed">>} = state(protocol),
    {error, no_such_stream} = ask({stream_next, Spinning, 5}),
    %% Closed when its owner dies.
    {_, Monitor} = spawn_monitor(fun() -> {ok, _} = ask({stream, t_streams, closing, [orphan, 5]}), ok end),
    receive {'DOWN', Monitor, process, _, normal} -> ok end,
    %% An answer after the timeout is none: the stream has ended.
    {ok, Slow} = ask({stream, t_streams, sleeping, [[3.0, 0.0]]}),
    {error, timeout} = ask({stream_next, Slow, 5, 50}),
    pyn_ct:wait_until(fun() -> ask({stream_next, Slow, 5}) =:= {error, no_such_stream} end),
    nothing_left().

too_many_streams(_Config) ->
    Self = self(),
    Opener = spawn_link(fun() ->
        Opened = open_all(0),
        Self ! {opened, Opened},
        receive stop -> ok end
    end),
    receive {opened, Opened} -> ?assertEqual(4096, Opened) end,
    {[], {error, too_many_streams}} = items(start(t_streams, count, [1])),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    Opener ! stop,
    pyn_ct:wait_until(fun() -> info(streams) =:= 0 end),
    {[0], done} = items(start(t_streams, count, [1])),
    nothing_left().

open_all(N) ->
    case ask({stream, t_streams, count, [1]}) of
        {ok, _} -> open_all(N + 1);
        {error, too_many_streams} -> N
    end.

%%% Owners on other nodes, which have none of our code

owner_elsewhere(_Config) ->
    Peer = {_, Node} = pyn_ct:start_peer(["-connect_all", "false"]),
    Owner = spawn(Node, ?MODULE, forward, [self()]),
    {ok, Ref} = py:stream_start(t_streams, count, [2000], #{}, #{owner => Owner}),
    {Items, done} = forwarded(Owner, Ref),
    ?assertEqual(lists:seq(0, 1999), Items),
    pyn_ct:stop_peer(Peer),
    nothing_left().

owner_elsewhere_does_not_read(_Config) ->
    Peer = {_, Node} = pyn_ct:start_peer(["-connect_all", "false"]),
    Owner = spawn(Node, ?MODULE, hoard, []),
    [Owner ! {other, N} || N <- lists:seq(1, 300)],
    {ok, Ref} = py:stream_start(t_streams, closing, [elsewhere], #{}, #{owner => Owner}),
    Unread = filled(Ref, Owner, 300),
    %% It reads some, but none of the others.
    Idle = info(calls),
    Owner ! {read, Unread},
    pyn_ct:wait_until(fun() -> info(calls) > Idle end),
    _ = filled(Ref, Owner, 300),
    exit(Owner, kill),
    {ok, Given} = state(elsewhere),
    ?assert(Given =< 64 * 4),
    pyn_ct:stop_peer(Peer),
    nothing_left().

owner_elsewhere_is_lost(_Config) ->
    Peer = {_, Node} = pyn_ct:start_peer(["-connect_all", "false"]),
    Owner = spawn(Node, ?MODULE, hoard, []),
    {ok, Ref} = py:stream_start(t_streams, closing, [lost], #{}, #{owner => Owner}),
    app_ct:full(Ref),
    pyn_ct:stop_peer(Peer),
    {ok, _} = state(lost),
    nothing_left().

%%% Nodes that go

one_worker(_Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    started_in_callbacks([]),
    generators_that_ask([]),
    Streams = [start(t_streams, count, [500]) || _ <- lists:seq(1, 20)],
    [{_, done} = items(Ref) || Ref <- Streams],
    app_ct:stop().

node_killed(_Config) ->
    ok = app_ct:start(app_ct:workers(2)),
    Node = app_ct:pynode(),
    Full = start(t_streams, closing, [killed]),
    receive {py_stream, Full, {data, 1}} -> ok end,
    Spinning = start(t_streams, spinning, [killed]),
    receive {py_stream, Spinning, {data, 1}} -> ok end,
    app_ct:kill_pynode(),
    {_, {error, {node_exited, Node, {signal, 9}}}} = items(Full),
    {[], {error, {node_exited, Node, {signal, 9}}}} = items(Spinning),
    pyn_ct:wait_until(fun() -> py:call(math, sqrt, [16]) =:= {ok, 4.0} end),
    {[0, 1], done} = items(start(t_streams, count, [2])),
    app_ct:stop().

%% TERM: the generators are closed before it ends.
node_stops(_Config) ->
    ok = app_ct:start(app_ct:workers(2)),
    Refs = [start(t_streams, closing, [{stops, N}]) || N <- lists:seq(1, 10)],
    [receive {py_stream, Ref, {data, 1}} -> ok end || Ref <- Refs],
    os:cmd("kill -TERM " ++ integer_to_list(info(os_pid))),
    [{_, {error, _}} = items(Ref) || Ref <- Refs],
    [{ok, _} = state({stops, N}) || N <- lists:seq(1, 10)],
    app_ct:stop().

application_stops(_Config) ->
    ok = app_ct:start(app_ct:workers(2)),
    Node = app_ct:pynode(),
    Ref = start(t_streams, closing, [application]),
    receive {py_stream, Ref, {data, 1}} -> ok end,
    app_ct:stop(),
    {_, {error, {nodedown, Node}}} = items(Ref).

not_started(_Config) ->
    app_ct:stop(),
    {error, no_nodes} = py:stream_start(t_streams, count, [1]),
    {error, no_nodes} = py:stream(t_streams, count, [1]),
    {error, not_found} = py:interrupt(make_ref()),
    ok = py:stream_cancel(make_ref()).

%%% Helpers

start(M, F, Args) ->
    {ok, Ref} = py:stream_start(M, F, Args),
    Ref.

start(M, F, Args, Kwargs) ->
    {ok, Ref} = py:stream_start(M, F, Args, Kwargs),
    Ref.

start(M, F, Args, Kwargs, Options) ->
    {ok, Ref} = py:stream_start(M, F, Args, Kwargs, Options),
    Ref.

%% {Items, the last message}
items(Ref) ->
    items(Ref, []).

items(Ref, Items) ->
    receive
        {py_stream, Ref, {data, Item}} -> items(Ref, [Item | Items]);
        {py_stream, Ref, Last} -> {lists:reverse(Items), Last}
    after 20000 -> error({no_end, length(Items)})
    end.

forward(To) ->
    receive
        {py_stream, Ref, What} -> To ! {self(), Ref, What}, forward(To)
    end.

forwarded(Owner, Ref) ->
    forwarded(Owner, Ref, []).

forwarded(Owner, Ref, Items) ->
    receive
        {Owner, Ref, {data, Item}} -> forwarded(Owner, Ref, [Item | Items]);
        {Owner, Ref, Last} -> {lists:reverse(Items), Last}
    after 20000 -> error({no_end, length(Items)})
    end.

%% Reads only what it is told to.
hoard() ->
    receive
        {read, N} -> [receive {py_stream, _, _} -> ok end || _ <- lists:seq(1, N)], hoard()
    end.

%% So many items, if there are; a time slice that is over ends a request before.
pull(Stream, Max, Options) ->
    case ask(list_to_tuple([stream_next, Stream, Max | Options])) of
        {ok, {N, more}} when N < Max -> {Rest, Last} = pull(Stream, Max - N, Options), {N + Rest, Last};
        {ok, Given} -> Given
    end.

taken(Stream) ->
    receive {py_item, Stream, Item} -> [Item | taken(Stream)] after 0 -> [] end.

ask(Request) ->
    gen_server:call({py, app_ct:pynode()}, Request, 20000).

info(Key) ->
    {ok, Info} = ask(info),
    maps:get(Key, Info).

%% What Python stored; each key is looked for once.
state(Key) ->
    Stored = pyn_ct:wait_until(fun() -> case py:state_fetch(key(Key)) of {ok, _} = Found -> Found; _ -> false end end),
    ok = py:state_remove(key(Key)),
    Stored.

%% As Python has it.
key(Key) when is_atom(Key) -> atom_to_binary(Key);
key({Name, N}) -> {atom_to_binary(Name), N}.

length_of(Pid) when node(Pid) =:= node() ->
    {message_queue_len, Length} = process_info(Pid, message_queue_len),
    Length;
length_of(Pid) ->
    {message_queue_len, Length} = erpc:call(node(Pid), erlang, process_info, [Pid, message_queue_len]),
    Length.

%% What the owner has not read of a stream with a window of 64 that is full and stays so; it has that many others.
filled(Ref, Owner, Others) ->
    app_ct:full(Ref),
    ok = steady(info(calls), 0),
    Unread = length_of(Owner) - Others,
    ?assert(Unread > 48 andalso Unread =< 64, Unread),
    Unread.

%% The C-node has no more calls: for a while that is long beside what would make some.
steady(_, 20) ->
    ok;
steady(Last, Times) ->
    receive after 10 -> ok end,
    case info(calls) of
        Last -> steady(Last, Times + 1);
        Other -> steady(Other, 0)
    end.

atoms({ok, List}) ->
    {ok, [binary_to_atom(B) || B <- List]}.

%% No stream is left over, here or there, and nothing in the mailbox of who tested.
nothing_left() ->
    pyn_ct:wait_until(fun() -> ets:tab2list(py_stream) =:= [] end),
    pyn_ct:wait_until(fun() -> info(streams) =:= 0 end),
    receive {py_stream, _, _} = Left -> error({left, Left}) after 0 -> ok end.

flush() ->
    receive _ -> flush() after 0 -> ok end.
