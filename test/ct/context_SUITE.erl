%% Contexts: workers bound to an owner, with a `__main__` of their own. What they keep apart, who may use them, how they
%% end, and that nothing else suffers while all workers are bound.
-module(context_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

%% What the contract promises, from the owner's death on.
-define(FREED_MS, 50).

all() ->
    [{group, shared}, {group, own}].

%% `shared`: three workers, one application for all; `own`: each case starts its own.
groups() ->
    [{shared, [],
      [bad_input, bound_process, names_are_private, begins_with_preload, begins_with_exec_all, gone_after_unbind,
       destructors, all_bound, all_busy, owner_dies, owner_dies_in_a_call, owner_elsewhere, handed_over,
       handed_over_to_another_node, in_order, with_context, every_arity, errors, timeouts, interrupted, stuck, nested,
       nested_contexts, async_and_cast, coroutines, streams, what_was_before, own_worker, slots, refused_module, cycles]},
     {own, [], [one_worker, pinned_callers, node_dies, node_hangs, two_nodes, owners_node_killed, many_owners]}].

init_per_suite(Config) -> Config.

end_per_suite(_Config) ->
    app_ct:stop(),
    pyn_ct:stop_all().

init_per_group(shared, Config) ->
    ok = app_ct:start([{preload, <<"import math\npreloaded = [1]\ndef from_preload(x): return x + 1\n">>},
                       {max_concurrent, 100} | app_ct:workers(3)]),
    Config;
init_per_group(own, Config) ->
    Config.

end_per_group(_, _Config) -> app_ct:stop().

%% Nothing is bound, nothing waits, every slot is free.
end_per_testcase(_Case, Config) ->
    case proplists:get_value(name, proplists:get_value(tc_group_properties, Config, [])) of
        shared ->
            settled(),
            ?assertEqual({ok, 4.0}, py:call(math, sqrt, [16]));
        _ ->
            app_ct:stop(),
            pyn_ct:stop_all()
    end.

%%% Bad input

bad_input(_) ->
    Bad = [x, {py_context, node(), 0, self()}, {py_context, node(), 1, x}, {py_context, <<"n">>, 1, self()}, 17, make_ref()],
    [begin
         {error, {bad_context, B}} = py:ctx_call(B, math, sqrt, [16]),
         {error, {bad_context, B}} = py:ctx_eval(B, <<"1">>),
         {error, {bad_context, B}} = py:ctx_exec(B, <<"1">>),
         {error, {bad_context, B}} = py:unbind(B),
         {error, {bad_context, B}} = py_context:interrupt(B),
         false = py_context:is_context(B)
     end || B <- Bad],
    [{error, {bad_option, O}} = py:bind(O) || O <- [old, <<"new">>, 1]],
    [{error, {bad_function, F}} = py:with_context(F) || F <- [x, fun lists:map/2]],
    %% Of a pynode that is not there, and of one that has no such context.
    Nowhere = {py_context, 'nobody@-nowhere', 1, self()},
    {error, {nodedown, 'nobody@-nowhere'}} = py:ctx_eval(Nowhere, <<"1">>),
    Unknown = {py_context, app_ct:pynode(), 1, self()},
    {error, context_lost} = py:ctx_eval(Unknown, <<"1">>),
    {error, context_lost} = py_context:interrupt(Unknown),
    ok = py:unbind(Unknown),
    {ok, Ctx} = py:bind(new),
    {error, {bad_option, {node, other@host}}} = py:ctx_eval(Ctx, <<"1">>, #{}, #{node => other@host}),
    {error, {bad_option, _}} = py:ctx_eval(Ctx, <<"1">>, #{}, soon),
    {error, invalid_args} = py:ctx_call(Ctx, math, sqrt, 16),
    {error, {not_text, 1}} = py:ctx_exec(Ctx, 1),
    false = py:is_bound(),
    ok = py:unbind(Ctx),
    ok = py:unbind(Ctx),
    ok = py:unbind().

%%% What a context is

bound_process(_) ->
    false = py:is_bound(),
    ok = py:bind(),
    true = py:is_bound(),
    1 = bound(),
    ok = py:bind(),
    1 = bound(),
    ok = py:exec(<<"x = 1\ndef f(): return (x, __name__)">>),
    {ok, 1} = py:eval(<<"x">>),
    {ok, {1, <<"__main__">>}} = py:call('__main__', f, []),
    {ok, 11} = py:eval(<<"x + y">>, #{y => 10}),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    elsewhere(fun() ->
        false = py:is_bound(),
        {error, {'NameError', _}} = py:eval(<<"x">>),
        {error, {'NameError', _}} = py:call('__main__', f, [])
    end),
    ok = py:unbind(),
    false = py:is_bound(),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    ok = py:unbind(),
    %% The next one begins anew.
    ok = py:bind(),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    ok = py:unbind().

names_are_private(_) ->
    ok = py:exec(<<"common = 'plain'">>),
    {ok, A} = py:bind(new),
    {ok, B} = py:bind(new),
    ok = py:ctx_exec(A, <<"v = 'a'\nonly_a = 1\ndef get(): return v">>),
    ok = py:ctx_exec(B, <<"v = 'b'\ndef get(): return v">>),
    {ok, <<"a">>} = py:ctx_call(A, '__main__', get, []),
    {ok, <<"b">>} = py:ctx_call(B, '__main__', get, []),
    {error, {'NameError', _}} = py:ctx_eval(B, <<"only_a">>),
    [{error, {'NameError', _}} = py:ctx_eval(C, <<"common">>) || C <- [A, B]],
    ok = py:ctx_exec(A, <<"common = 'mine'">>),
    {ok, <<"plain">>} = py:eval(<<"common">>),
    {error, {'NameError', _}} = py:eval(<<"only_a">>),
    %% Nor does a name that a context bound lead anybody there.
    elsewhere(fun() -> {error, {'NameError', _}} = py:call('__main__', get, []) end),
    ok = py:unbind(A),
    {ok, <<"b">>} = py:ctx_call(B, '__main__', get, []),
    ok = py:unbind(B).

%% A context has its own copy of the names; what they are bound to is everybody's.
begins_with_preload(_) ->
    py:with_context(fun() ->
        {ok, [1]} = py:eval(<<"preloaded">>),
        {ok, 2} = py:call('__main__', from_preload, [1]),
        {ok, 4.0} = py:eval(<<"math.sqrt(16)">>),
        ok = py:exec(<<"preloaded = 'other'\ndel from_preload">>)
    end),
    {ok, [1]} = py:eval(<<"preloaded">>),
    py:with_context(fun() ->
        {ok, [1]} = py:eval(<<"preloaded">>),
        {ok, 2} = py:call('__main__', from_preload, [1])
    end).

%% Code for every interpreter reaches those of bound workers, and contexts begin with what it bound; those that there
%% are stay as they are.
begins_with_exec_all(_) ->
    Held = [begin {ok, C} = py:bind(new), C end || _ <- [1, 2, 3]],
    ok = py:exec_all(<<"for_all = 1\ndef all_f(): return for_all">>),
    [{error, {'NameError', _}} = py:ctx_eval(C, <<"for_all">>) || C <- Held],
    ok = py:exec_all(<<"for_all_too = 2">>),
    [ok = py:unbind(C) || C <- Held],
    Again = [begin {ok, C} = py:bind(new), C end || _ <- [1, 2, 3]],
    [{ok, {1, 2, 1}} = py:ctx_eval(C, <<"(for_all, for_all_too, all_f())">>) || C <- Again],
    [ok = py:ctx_exec(C, <<"for_all = 3">>) || C <- Again],
    [ok = py:unbind(C) || C <- Again],
    {ok, 1} = py:eval(<<"for_all">>),
    ok = py:exec_all(<<"del for_all\nfor_all_too = 4">>),
    ok = py:with_context(fun() ->
        {error, {'NameError', _}} = py:eval(<<"for_all">>),
        {ok, 4} = py:eval(<<"for_all_too">>),
        ok
    end).

%% Also what holds itself: a function has the names that it is one of.
gone_after_unbind(Config) ->
    File = file(Config),
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, [
        "class Big:\n    def __init__(self, file): self.file = file\n"
        "    def __del__(self):\n        with open(self.file, 'a') as f: f.write('x')\n"
        "def keeps(): return big\n"
        "big = Big('", File, "')\nothers = [Big('", File, "') for _ in range(9)]\n"]),
    {error, enoent} = file:read_file(File),
    ok = py:unbind(Ctx),
    {ok, <<"xxxxxxxxxx">>} = file:read_file(File).

%% One that fails harms nobody; one that does not end is given up.
destructors(_) ->
    {ok, A} = py:bind(new),
    ok = py:ctx_exec(A, <<"class Bad:\n    def __del__(self): raise RuntimeError('in __del__')\nbad = Bad()">>),
    ok = py:unbind(A),
    {ok, B} = py:bind(new),
    ok = py:ctx_exec(B, <<"class Late:\n    def __del__(self):\n        global late\n        late = Late()\nlate = Late()">>),
    ok = py:unbind(B),
    ok = py:with_context(fun() -> py:exec(<<"x = 1">>) end).

%% All calls of a context are made by one thread, which makes no others.
own_worker(_) ->
    Ident = <<"__import__('threading').get_ident()">>,
    ok = py:bind(),
    {ok, Mine} = py:eval(Ident),
    Refs = [py_async_from_other(Ident) || _ <- lists:seq(1, 100)],
    [{ok, Mine} = py:eval(Ident) || _ <- lists:seq(1, 100)],
    Others = [receive {Ref, {ok, I}} -> I end || Ref <- Refs],
    false = lists:member(Mine, Others),
    ok = py:unbind().

py_async_from_other(Code) ->
    Self = self(),
    Ref = make_ref(),
    spawn_link(fun() -> Self ! {Ref, py:eval(Code)} end),
    Ref.

every_arity(_) ->
    {ok, Ctx} = py:bind(new),
    {ok, 4.0} = py:ctx_call(Ctx, math, sqrt, [16]),
    {ok, 4.0} = py:ctx_call(Ctx, <<"math">>, "sqrt", [16], #{}),
    {ok, 255} = py:ctx_call(Ctx, builtins, int, [<<"ff">>], #{base => 16}, 5000),
    {ok, 4.0} = py:ctx_call(Ctx, math, sqrt, [16], #{}, #{timeout => infinity, traceback => true}),
    ok = py:ctx_exec(Ctx, "x = 5"),
    ok = py:ctx_exec(Ctx, <<"y = 6">>, 5000),
    {ok, 5} = py:ctx_eval(Ctx, "x"),
    {ok, 18} = py:ctx_eval(Ctx, <<"x + y + z">>, #{z => 7}),
    {ok, 18} = py:ctx_eval(Ctx, <<"x + y + z">>, #{z => 7}, 5000),
    ok = py:unbind(Ctx).

errors(_) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 1\ndef fails(): return x / 0">>),
    {error, {'ZeroDivisionError', _}} = py:call('__main__', fails, []),
    {error, {'ZeroDivisionError', _, Traceback}} = py:call('__main__', fails, [], #{}, #{traceback => true}),
    {match, _} = re:run(Traceback, "in fails"),
    {error, {'SyntaxError', _}} = py:exec(<<"x =">>),
    {error, {'SystemExit', _}} = py:exec(<<"raise SystemExit(3)">>),
    {error, {'ModuleNotFoundError', _}} = py:call(no_such_module, f, []),
    {error, {'NameError', _}} = py:call('__main__', no_such_name, []),
    {ok, 1} = py:eval(<<"x">>),
    true = py:is_bound(),
    ok = py:unbind().

timeouts(_) ->
    ok = py:bind(),
    ok = py:exec(<<"n = 0\ndef spin():\n    global n\n    while True: n += 1">>),
    {error, timeout} = py:call('__main__', spin, [], #{}, 2500), % it begins, should the machine stand still meanwhile
    {ok, true} = py:eval(<<"n > 0">>),
    true = py:is_bound(),
    ok = py:unbind().

%%% Who uses it

handed_over(_) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"total = 0\ndef add(n):\n    global total\n    total += n\n    return total">>),
    [elsewhere(fun() -> {ok, _} = py:ctx_call(Ctx, '__main__', add, [N]) end) || N <- lists:seq(1, 10)],
    {ok, 55} = py:ctx_eval(Ctx, <<"total">>),
    elsewhere(fun() -> ok = py:unbind(Ctx) end),
    {error, context_lost} = py:ctx_eval(Ctx, <<"total">>).

%% One that knows nothing of this C-node.
handed_over_to_another_node(_) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 7">>),
    Peer = app_ct:start_peer([{nodes, []}]),
    {ok, 7} = app_ct:on(Peer, fun() -> py:ctx_eval(Ctx, <<"x">>) end),
    {error, {'NameError', _}} = app_ct:on(Peer, fun() -> py:ctx_eval(Ctx, <<"y">>) end),
    app_ct:stop_peer(Peer),
    {ok, 7} = py:ctx_eval(Ctx, <<"x">>),
    ok = py:unbind(Ctx).

%% Many at once: one after the other, in the order in which they came.
in_order(_) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"import time\nseen = []\ndef slow(i):\n    a = len(seen)\n    seen.append(i)\n"
                            "    time.sleep(0.003)\n    assert len(seen) == a + 1\n    return a">>),
    Refs = [py_context_async(Ctx, I) || I <- lists:seq(0, 19)],
    [{ok, _} = py:await(Ref) || Ref <- Refs],
    {ok, Seen} = py:ctx_eval(Ctx, <<"seen">>),
    ?assertEqual(lists:seq(0, 19), lists:sort(Seen)),
    ok = py:unbind(Ctx).

py_context_async(Ctx, I) ->
    py_context:within(Ctx, fun() -> py:call_async('__main__', slow, [I]) end).

with_context(_) ->
    {result, {ok, 3}} = py:with_context(fun() ->
        true = py:is_bound(),
        ok = py:exec(<<"x = 3">>),
        {result, py:eval(<<"x">>)}
    end),
    false = py:is_bound(),
    {ok, 4} = py:with_context(fun(Ctx) ->
        false = py:is_bound(),
        ok = py:ctx_exec(Ctx, <<"x = 4">>),
        py:ctx_eval(Ctx, <<"x">>)
    end),
    ?assertError(oops, py:with_context(fun() -> error(oops) end)),
    ?assertThrow(oops, py:with_context(fun(_) -> throw(oops) end)),
    ?assertExit(oops, py:with_context(fun() -> exit(oops) end)),
    settled(),
    %% Inside of another one, which comes back.
    ok = py:bind(),
    ok = py:exec(<<"x = 'outer'">>),
    py:with_context(fun() -> {error, {'NameError', _}} = py:eval(<<"x">>) end),
    {ok, <<"outer">>} = py:eval(<<"x">>),
    ok = py:unbind(),
    %% Whatever the function does with it.
    ok = py:with_context(fun() -> ok = py:unbind(), ok = py:bind() end),
    false = py:is_bound(),
    ok = py:with_context(fun(Ctx) -> py:unbind(Ctx) end),
    settled(),
    Held = [begin {ok, C} = py:bind(new), C end || _ <- [1, 2, 3]],
    {error, no_workers_available} = py:with_context(fun() -> never end),
    {error, no_workers_available} = py:with_context(fun(_) -> never end),
    [ok = py:unbind(C) || C <- Held].

%% The answers go to who waits; the calls are made in the context.
async_and_cast(_) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 9\ncasts = 0\ndef get(): return x\ndef cast():\n    global casts\n    casts += 1">>),
    Ref = py:call_async('__main__', get, []),
    {ok, 9} = py:await(Ref),
    ok = py:cast('__main__', cast, []),
    pyn_ct:wait_until(fun() -> py:eval(<<"casts">>) =:= {ok, 1} end),
    {ok, [{ok, 9}, {ok, 9}]} = py:parallel([{'__main__', get, []}, {'__main__', get, []}]),
    ok = py:unbind().

%% They run beside the worker, see its names, and go with it.
coroutines(_) ->
    ok = py:bind(),
    ok = py:exec(<<"import asyncio\nname = 'mine'\nasync def get(): return name\n"
                   "async def wait():\n    await asyncio.sleep(60)\n">>),
    {ok, <<"mine">>} = py:async_await(py:async_call('__main__', get, [])),
    Ref = py:async_call('__main__', wait, []),
    pyn_ct:wait_until(fun() -> in_flight() =:= 1 end),
    {ok, <<"mine">>} = py:eval(<<"name">>),
    ok = py:unbind(),
    {error, context_lost} = py:async_await(Ref, 5000),
    {error, {'NameError', _}} = py:async_await(py:async_call('__main__', get, [])).

%% A stream is where its generator is, and goes with the context.
streams(Config) ->
    File = file(Config),
    ok = py:bind(),
    ok = py:exec(["limit = 3\ndef items():\n    for i in range(limit): yield i\n"
                  "def endless():\n    try:\n        while True: yield limit\n"
                  "    finally:\n        with open('", File, "', 'a') as f: f.write('closed')\n"]),
    {ok, [0, 1, 2]} = py:stream('__main__', items, []),
    {ok, [0, 2, 4]} = py:stream_eval(<<"(2 * i for i in range(limit))">>),
    {ok, Ref} = py:stream_start('__main__', endless, []),
    receive {py_stream, Ref, {data, 3}} -> ok end,
    ok = py:unbind(),
    pyn_ct:wait_until(fun() -> file:read_file(File) =:= {ok, <<"closed">>} end),
    ok = py:stream_cancel(Ref),
    {error, {'NameError', _}} = py:stream('__main__', items, []),
    flush().

flush() ->
    receive _ -> flush() after 0 -> ok end.

%% What the process had defined is there again.
what_was_before(_) ->
    ok = py:exec(<<"mine = 'before'">>),
    ok = py:bind(),
    {error, {'NameError', _}} = py:eval(<<"mine">>),
    ok = py:exec(<<"mine = 'bound'">>),
    ok = py:unbind(),
    {ok, <<"before">>} = py:eval(<<"mine">>),
    elsewhere(fun() -> {error, {'NameError', _}} = py:call('__main__', nothing_of_that_name, []) end).

%% A call in a context takes a slot, as any does; binding takes none.
slots(_) ->
    ok = py:bind(),
    0 = py_semaphore:current(),
    Ref = py:call_async(t_slow, spin, []),
    pyn_ct:wait_until(fun() -> py_semaphore:current() =:= 1 end),
    ok = py:interrupt(Ref),
    {error, interrupted} = py:await(Ref),
    ok = py:unbind().

%% Where sub-interpreters refuse a module, it is called in the main interpreter all the same.
refused_module(_) ->
    ok = py:bind(),
    {ok, false} = py:call(tracemalloc, is_tracing, []),
    {ok, false} = py:call(tracemalloc, is_tracing, []),
    ok = py:exec(<<"x = 1">>),
    {ok, 1} = py:eval(<<"x">>),
    ok = py:unbind().

%%% All workers are bound

all_bound(Config) ->
    Node = app_ct:pynode(),
    Held = [begin {ok, C} = py:bind(new), C end || _ <- [1, 2, 3]],
    {error, no_workers_available} = py:bind(),
    {error, no_workers_available} = py:bind(new),
    false = py:is_bound(),
    %% What is bound works; what is not waits until its time is over.
    [{ok, 2} = py:ctx_eval(C, <<"1 + 1">>) || C <- Held],
    [begin
         Took = [begin T0 = now_ms(), {error, timeout} = py:eval(<<"1">>, #{}, Ms), now_ms() - T0 end || _ <- lists:seq(1, 5)],
         {true, _} = {lists:min(Took) >= Ms - 1 andalso lists:min(Took) < Ms + 100, {Ms, Took}}
     end || Ms <- [0, 20, 100]],
    pong = net_adm:ping(Node),
    {ok, _} = gen_server:call({py, Node}, version),
    3 = bound(),
    %% Also while every one of them is busy.
    File = list_to_binary(file(Config)),
    Busy = [py_context:within(C, fun() -> py:call_async(t_slow, until_there, [File]) end) || C <- Held],
    pyn_ct:wait_until(fun() -> in_flight() =:= 3 end),
    pong = net_adm:ping(Node),
    {error, timeout} = py:eval(<<"1">>, #{}, 20),
    {error, no_workers_available} = py:bind(new),
    ok = file:write_file(File, <<>>),
    [{ok, _} = py:await(Ref) || Ref <- Busy],
    %% What waits goes on as soon as one is free.
    Waiting = [py:call_async(math, sqrt, [16]) || _ <- lists:seq(1, 20)],
    pyn_ct:wait_until(fun() -> queued() =:= 20 end),
    ok = py:unbind(hd(Held)),
    [{ok, 4.0} = py:await(Ref, 5000) || Ref <- Waiting],
    {ok, Again} = py:bind(new),
    {error, no_workers_available} = py:bind(new),
    [ok = py:unbind(C) || C <- [Again | tl(Held)]].

%% A worker that is busy is bound when it has done with that. Who does not live to see it has bound nothing.
all_busy(Config) ->
    File = list_to_binary(file(Config)),
    Busy = [py:call_async(t_slow, until_there, [File]) || _ <- [1, 2, 3]],
    pyn_ct:wait_until(fun() -> in_flight() =:= 3 end),
    Gone = [spawn_monitor(fun() -> exit(py:bind(new)) end) || _ <- [1, 2]],
    pyn_ct:wait_until(fun() -> in_flight() =:= 5 end),
    Comes = spawn_monitor(fun() -> ok = py:bind(), {ok, 2} = py:eval(<<"1 + 1">>) end),
    pyn_ct:wait_until(fun() -> in_flight() =:= 6 end),
    {error, no_workers_available} = py:bind(), % those that wait have a place, too
    [exit(Pid, kill) || {Pid, _} <- Gone],
    [receive {'DOWN', Ref, process, _, Reason} -> killed = Reason end || {_, Ref} <- Gone],
    ok = file:write_file(File, <<>>),
    ended([Comes]),
    [{ok, _} = py:await(Ref) || Ref <- Busy],
    settled(),
    Held = [begin {ok, C} = py:bind(new), C end || _ <- [1, 2, 3]],
    [ok = py:unbind(C) || C <- Held].

%% The smallest pynode.
one_worker(_) ->
    ok = app_ct:start(app_ct:workers(1)),
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    Self = self(),
    Other = spawn_monitor(fun() -> Self ! asked, {ok, 2} = py:eval(<<"1 + 1">>) end),
    receive asked -> ok end,
    [{ok, 1} = py:eval(<<"x">>) || _ <- lists:seq(1, 100)],
    elsewhere(fun() -> {error, no_workers_available} = py:bind() end),
    ok = py:unbind(),
    ended([Other]),
    elsewhere(fun() -> ok = py:bind() end),
    pyn_ct:wait_until(fun() -> py:bind() =:= ok end),
    {error, {'NameError', _}} = py:eval(<<"x">>).

%% Whose definitions are in the interpreter of a bound worker still has them, in mode subinterp, where they are nowhere
%% else; and a worker without such callers is bound first.
pinned_callers(_) ->
    ok = app_ct:start(app_ct:workers(2)),
    ok = py:exec(<<"mine = 'plain'">>),
    {ok, Home} = py:eval(<<"id(globals())">>),
    {ok, A} = py:bind(new),
    {ok, <<"plain">>} = py:eval(<<"mine">>),
    {ok, B} = py:bind(new),
    case app_ct:mode() of
        subinterp -> {ok, {<<"plain">>, Home}} = py:eval(<<"(mine, id(globals()))">>);
        _ -> {error, timeout} = py:eval(<<"mine">>, #{}, 500)
    end,
    [{error, {'NameError', _}} = py:ctx_eval(C, <<"mine">>) || C <- [A, B]],
    ok = py:unbind(A),
    {ok, <<"plain">>} = py:eval(<<"mine">>),
    ok = py:unbind(B).

%%% How it ends

owner_dies(_) ->
    Freed = [begin
                 {Pid, _} = owner(fun() -> ok = py:exec(<<"x = [0] * 100000">>) end),
                 1 = bound(),
                 freed_after(fun() -> exit(Pid, kill) end)
             end || _ <- lists:seq(1, 5)],
    ct:log("freed after ~p ms", [Freed]),
    ?assert(lists:min(Freed) =< ?FREED_MS, Freed).

%% What runs there is interrupted, and who else had called there is told.
owner_dies_in_a_call(Config) ->
    File = file(Config),
    {Pid, Ctx} = owner(fun() -> ok end),
    Caller = spawn_monitor(fun() ->
        {error, context_lost} = py:ctx_call(Ctx, t_slow, spin_counting, [list_to_binary(File)], #{}, infinity)
    end),
    pyn_ct:wait_until(fun() -> filelib:file_size(File) > 0 end),
    Waits = spawn_monitor(fun() -> {error, context_lost} = py:ctx_eval(Ctx, <<"1">>, #{}, infinity) end),
    pyn_ct:wait_until(fun() -> queued() =:= 1 end),
    Took = freed_after(fun() -> exit(Pid, kill) end),
    ct:log("freed after ~p ms", [Took]),
    ended([Caller, Waits]),
    Size = filelib:file_size(File),
    {ok, _} = py:call(time, sleep, [0.02]),
    ?assertEqual(Size, filelib:file_size(File)),
    {error, context_lost} = py:ctx_eval(Ctx, <<"1">>).

owner_elsewhere(_) ->
    Peer = app_ct:start_peer([{nodes, [app_ct:pynode()]}]),
    Freed = [begin
                 Pid = app_ct:on(Peer, fun() -> remote_owner() end),
                 1 = bound(),
                 freed_after(fun() -> exit(Pid, kill) end)
             end || _ <- lists:seq(1, 5)],
    ct:log("freed after ~p ms", [Freed]),
    ?assert(lists:min(Freed) =< ?FREED_MS, Freed),
    app_ct:stop_peer(Peer).

%% kill -9 of the owner's node, with Python running in its context.
owners_node_killed(Config) ->
    File = file(Config),
    ok = app_ct:start(app_ct:workers(2)),
    Peer = app_ct:start_peer([{nodes, [app_ct:pynode()]}]),
    _ = app_ct:on(Peer, fun() ->
        Owner = remote_owner(),
        Owner ! {run, fun() -> py:call(t_slow, spin_counting, [list_to_binary(File)], #{}, infinity) end},
        _ = remote_owner()
    end),
    2 = bound(),
    pyn_ct:wait_until(fun() -> filelib:file_size(File) > 0 end),
    Took = freed_after(fun() -> app_ct:kill_peer(Peer) end),
    ct:log("freed after ~p ms, the killing included", [Took]),
    {ok, A} = py:bind(new),
    {ok, B} = py:bind(new),
    [ok = py:unbind(C) || C <- [A, B]].

interrupted(_) ->
    {ok, Ctx} = py:bind(new),
    ok = py:ctx_exec(Ctx, <<"x = 1">>),
    ok = py_context:interrupt(Ctx),
    Caller = spawn_monitor(fun() -> {error, interrupted} = py:ctx_call(Ctx, t_slow, spin, [], #{}, infinity) end),
    pyn_ct:wait_until(fun() -> fact(busy) =:= 1 end), % one that is in flight may be what is queued
    Next = spawn_monitor(fun() -> {ok, 1} = py:ctx_eval(Ctx, <<"x">>, #{}, infinity) end),
    pyn_ct:wait_until(fun() -> queued() =:= 1 end),
    ok = py:interrupt(Ctx),
    ended([Caller, Next]), % what waited is not ended
    {ok, 1} = py:ctx_eval(Ctx, <<"x">>),
    ok = py:unbind(Ctx),
    {error, context_lost} = py_context:interrupt(Ctx).

%% In C code that cannot be interrupted: its worker is given up.
stuck(Config) ->
    Gates = [pyn_ct:gate(Config) || _ <- [1, 2]],
    try stuck(Config, Gates) after [pyn_ct:open_gate(Gate) || Gate <- Gates] end.

stuck(Config, [One, Two]) ->
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    Ref = in_c(Config, One),
    {error, timeout} = py:await(Ref, 0),
    {error, context_lost} = py:eval(<<"x">>),
    false = py:is_bound(),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    ok = py:bind(),
    ok = py:exec(<<"x = 2">>),
    {ok, 2} = py:eval(<<"x">>),
    %% All three can be bound while it is stuck.
    {ok, A} = py:bind(new),
    {ok, B} = py:bind(new),
    {error, no_workers_available} = py:bind(new),
    [ok = py:unbind(C) || C <- [A, B]],
    ok = py:unbind(),
    %% Unbinding does not wait for what cannot be interrupted.
    {ok, C} = py:bind(new),
    Call = py_context:within(C, fun() -> in_c(Config, Two) end),
    ok = py:unbind(C),
    2 = fact(stuck),
    {error, context_lost} = py:await(Call).

%% A call that has begun, and ends when its gate is opened.
in_c(Config, Gate) ->
    Begun = file(Config),
    Ref = py:call_async(t_slow, marked_wait, [list_to_binary(Begun), Gate]),
    pyn_ct:wait_until(fun() -> filelib:is_regular(Begun) andalso Ref end).

%% The C-node dies: a clear error, once; then the process is not bound, and may bind again.
node_dies(_) ->
    ok = app_ct:start(app_ct:workers(2)),
    ok = logger:set_module_level([py_node, py_os], error),
    Node = app_ct:pynode(),
    {ok, Ctx} = py:bind(new),
    ok = py:bind(),
    ok = py:exec(<<"x = 1">>),
    {ok, #{os_pid := OsPid}} = gen_server:call({py, Node}, info),
    _ = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    pyn_ct:wait_until(fun() -> not py:is_bound() end),
    {error, Reason} = py:eval(<<"x">>),
    ct:log("~p", [Reason]),
    true = lists:member(Reason, [context_lost, {nodedown, Node}, {node_exited, Node, {signal, 9}}]),
    pyn_ct:wait_until(fun() -> py:bind() =:= ok end),
    true = py:is_bound(),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    %% The number of the earlier one means nothing to the new pynode.
    {error, context_lost} = py:ctx_eval(Ctx, <<"1">>),
    ok = py:unbind(Ctx),
    true = py:is_bound(),
    ok = py:unbind(),
    ok = logger:unset_module_level([py_node, py_os]).

%% One that hangs is not waited for longer than its time; and when it goes on, nobody has its workers.
node_hangs(_) ->
    ok = app_ct:start(app_ct:workers(2)),
    {ok, OsPid} = py:call(os, getpid, []),
    ok = pyn_ct:freeze(OsPid),
    Self = self(),
    T0 = now_ms(),
    Owners = [spawn_link(fun() ->
        Self ! {self(), py:bind(new), process_info(self(), messages)},
        receive stop -> ok end
    end) || _ <- [1, 2]],
    [receive {Owner, Result, Messages} -> ?assertEqual({{error, timeout}, {messages, []}}, {Result, Messages}) end || Owner <- Owners],
    Took = now_ms() - T0,
    ?assert(Took >= 30000 andalso Took < 40000, Took),
    ok = pyn_ct:thaw(OsPid),
    pyn_ct:wait_until(fun() -> {bound(), in_flight()} =:= {0, 0} end),
    {ok, OsPid} = py:call(os, getpid, []),
    [{messages, []} = process_info(Owner, messages) || Owner <- Owners],
    [{ok, _} = py:bind(new) || _ <- Owners],
    [Owner ! stop || Owner <- Owners].

%% The one with more room; none is left when all of both are bound.
two_nodes(_) ->
    Ps = [pyn_ct:start(["--workers", "2"]) || _ <- [1, 2]],
    ok = app_ct:start([{nodes, [pyn_ct:node_of(P) || P <- Ps]}]),
    pyn_ct:wait_until(fun() -> py:num_executors() =:= 4 end),
    {ok, A} = py:bind(new),
    {ok, B} = py:bind(new),
    Pids = [begin {ok, Pid} = py:ctx_call(C, os, getpid, []), Pid end || C <- [A, B]],
    ?assertEqual(lists:sort([pyn_ct:os_pid(P) || P <- Ps]), lists:sort(Pids)),
    ok = py:bind(),
    {ok, D} = py:bind(new),
    {error, no_workers_available} = py:bind(new),
    %% A bound process that asks for another C-node by name is served there, unbound.
    {ok, Mine} = py:call(os, getpid, []),
    [Other] = [P || P <- Ps, pyn_ct:os_pid(P) =/= Mine],
    ok = py:unbind(B),
    ok = py:unbind(A),
    OtherPid = pyn_ct:os_pid(Other),
    {ok, OtherPid} = py:call(os, getpid, [], #{}, #{node => pyn_ct:node_of(Other)}),
    {ok, Mine} = py:call(os, getpid, []),
    %% One of them goes.
    [MineP] = [P || P <- Ps, pyn_ct:os_pid(P) =:= Mine],
    Node = pyn_ct:node_of(MineP),
    0 = pyn_ct:stop(MineP),
    pyn_ct:wait_until(fun() -> not py:is_bound() end),
    {error, {nodedown, Node}} = py:eval(<<"1">>),
    ok = py:bind(),
    {ok, OtherPid} = py:call(os, getpid, []),
    ok = py:unbind(),
    _ = py:unbind(D),
    ok.

%%% Callbacks

nested(_) ->
    ok = py:register_function(ctx_level, fun([N]) ->
        {ok, Value} = py:call('__main__', down, [N]),
        Value
    end),
    ok = py:register_function(ctx_define, fun([Name, Value]) ->
        ok = py:exec([Name, " = ", integer_to_list(Value)]),
        {ok, Seen} = py:eval(Name),
        Seen
    end),
    ok = py:bind(),
    ok = py:exec(<<"import erlang\nmark = 'context'\n"
                   "def down(n): return mark if n == 0 else erlang.call('ctx_level', n - 1)\n"
                   "def define(name, value): return erlang.call('ctx_define', name, value)\n">>),
    {ok, <<"context">>} = py:call('__main__', down, [0]),
    {ok, <<"context">>} = py:call('__main__', down, [30]),
    {ok, 8} = py:call('__main__', define, [<<"from_callback">>, 8]),
    {ok, 8} = py:eval(<<"from_callback">>),
    ok = py:unbind(),
    {error, {'NameError', _}} = py:eval(<<"from_callback">>),
    {error, {'NameError', _}} = py:call('__main__', down, [0]),
    ok = py:unregister_function(ctx_level),
    ok = py:unregister_function(ctx_define).

%% A callback that calls by a context: the one that waits for it serves it, however far out; another one is elsewhere.
nested_contexts(_) ->
    {ok, A} = py:bind(new),
    {ok, B} = py:bind(new),
    ok = py:register_function(ctx_same, fun([X]) -> {ok, V} = py:ctx_eval(A, <<"name + x">>, #{x => X}), V end),
    ok = py:register_function(ctx_other, fun([X]) -> {ok, V} = py:ctx_call(B, '__main__', back, [X]), V end),
    Code = <<"import erlang\ndef same(x): return erlang.call('ctx_same', x)\n"
             "def other(x): return erlang.call('ctx_other', x)\ndef back(x): return erlang.call('ctx_same', x) + name\n">>,
    [ok = py:ctx_exec(C, [Code, "name = '", Name, "'\n"]) || {C, Name} <- [{A, "a"}, {B, "b"}]],
    {ok, <<"ax">>} = py:ctx_call(A, '__main__', same, [<<"x">>], #{}, 5000),
    {ok, <<"axb">>} = py:ctx_call(A, '__main__', other, [<<"x">>], #{}, 5000),
    {ok, <<"ax">>} = py:ctx_call(B, '__main__', same, [<<"x">>], #{}, 5000),
    [ok = py:unbind(C) || C <- [A, B]],
    ok = py:unregister_function(ctx_same),
    ok = py:unregister_function(ctx_other).

%%% Many

%% 200 times, each with some memory: nothing is left of it.
cycles(_) ->
    Cycle = fun() ->
        ok = py:bind(),
        ok = py:exec(<<"import json\nblock = bytearray(1000000)\ndef f(): return len(block)">>),
        {ok, 1000000} = py:call('__main__', f, []),
        ok = py:unbind()
    end,
    [Cycle() || _ <- lists:seq(1, 20)],
    Before = memory(),
    Watched = fact(watched),
    [Cycle() || _ <- lists:seq(1, 200)],
    After = memory(),
    ct:log("~b KiB before, ~b KiB after", [Before div 1024, After div 1024]),
    %% The address sanitizer keeps what is freed.
    ?assert(After - Before < 10000000 orelse os:getenv("SANITIZER", "") =/= "", {Before, After}),
    ?assertEqual(Watched, fact(watched)),
    ?assertEqual([], [K || {K, _} <- get(), lists:prefix("$py_bound", atom_or_not(K))]).

atom_or_not(K) when is_atom(K) -> atom_to_list(K);
atom_or_not(_) -> "".

%% More owners than workers, who bind, work, are killed in the middle, all at once: every worker is free afterwards.
many_owners(_) ->
    ok = app_ct:start([{max_concurrent, 200} | app_ct:workers(3)]),
    Owners = [spawn_monitor(fun() -> an_owner(I, 10) end) || I <- lists:seq(1, 12)],
    Victims = [element(1, O) || {I, O} <- lists:zip(lists:seq(1, 12), Owners), I rem 3 =:= 0],
    [begin receive after 30 -> ok end, exit(Pid, kill) end || Pid <- Victims],
    Reasons = [receive {'DOWN', Ref, process, Pid, R} -> R end || {Pid, Ref} <- Owners],
    ?assertEqual([], [R || R <- Reasons, R =/= normal, R =/= killed]),
    settled(),
    Held = [begin {ok, C} = py:bind(new), C end || _ <- [1, 2, 3]],
    [ok = py:unbind(C) || C <- Held].

an_owner(_, 0) ->
    ok;
an_owner(I, N) ->
    case py:bind() of
        ok ->
            ok = py:exec(["who = ", integer_to_list(I)]),
            {ok, I} = py:eval(<<"(__import__('time').sleep(0.002), who)[1]">>),
            {ok, I} = py:eval(<<"who">>),
            ok = py:unbind(),
            an_owner(I, N - 1);
        {error, no_workers_available} ->
            {ok, 4.0} = py:call(math, sqrt, [16]),
            an_owner(I, N)
    end.

%%% Helpers

%% A process of this node that is bound, has run the fun, and lives on; and a context of it.
owner(Fun) ->
    Self = self(),
    Pid = spawn(fun() ->
        {ok, Ctx} = py:bind(new),
        Result = py_context:within(Ctx, Fun),
        Self ! {self(), Ctx, Result},
        receive stop -> ok end
    end),
    receive {Pid, Ctx, _} -> {Pid, Ctx} end.

%% On another node: a bound process, which runs what it is sent.
remote_owner() ->
    Self = self(),
    Pid = spawn(fun() ->
        pyn_ct:wait_until(fun() -> py:bind() =:= ok end),
        ok = py:exec(<<"x = 1">>),
        Self ! {self(), bound},
        receive {run, Fun} -> Fun() end
    end),
    receive {Pid, bound} -> Pid end.

%% Milliseconds until no worker is bound.
freed_after(Kill) ->
    T0 = now_ms(),
    Kill(),
    pyn_ct:wait_until(fun() -> bound() =:= 0 end, 5000),
    now_ms() - T0.

elsewhere(Fun) ->
    ended([spawn_monitor(fun() -> _ = Fun() end)]).

ended(Processes) ->
    [receive
         {'DOWN', Ref, process, Pid, normal} -> ok;
         {'DOWN', Ref, process, Pid, Reason} -> error(Reason)
     after 30000 -> error({process_hangs, erlang:process_info(Pid, current_stacktrace)})
     end || {Pid, Ref} <- Processes],
    ok.

settled() ->
    pyn_ct:wait_until(fun() -> bound() =:= 0 andalso in_flight() =:= 0 end),
    pyn_ct:wait_until(fun() -> fact(stuck) =:= 0 andalso py_semaphore:current() =:= 0 end),
    ok.

bound() -> fact(bound).
queued() -> fact(queued).
in_flight() -> fact(in_flight).
memory() -> fact(memory).

fact(Key) ->
    lists:sum([maps:get(Key, Info) || #{status := up} = Info <- maps:values(py:info())]).

now_ms() -> erlang:monotonic_time(millisecond).

file(Config) -> filename:join(proplists:get_value(priv_dir, Config), pyn_ct:unique("file")).
