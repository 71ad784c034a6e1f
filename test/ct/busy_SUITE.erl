%% The connection to another node is full, as that does not read for a while: nothing of what is said to it is lost, and
%% nobody waits longer than said. Or it is lost. A C-node that is no pynode records what it gets.
-module(busy_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {seconds, 30}}].

all() ->
    [hello, forget, sync, interrupted, interrupted_unsent, await_gives_up, caller_dies, calls_are_called_off,
     not_waited_for, stream_for_it, lost_while_prepared].

init_per_suite(Config) -> Config.
end_per_suite(_Config) -> ok.

init_per_testcase(_, Config) ->
    Peer = pyn_ct:start_peer(["-hidden"]),
    OsPid = list_to_integer(pyn_ct:on(Peer, fun os:getpid/0)),
    Known = [{peer, Peer}, {os_pid, OsPid} | Config],
    _ = recorder(py, Known),
    ok = app_ct:start([{nodes, [node_of(Known)]}]),
    pyn_ct:wait_until(fun() -> py_router:up_nodes() =/= [] end),
    Known.

end_per_testcase(_, Config) ->
    ok = continue(Config),
    app_ct:stop(),
    pyn_ct:stop_peer(peer(Config)).

%%% A node that stands still

peer(Config) -> proplists:get_value(peer, Config).
node_of(Config) -> element(2, peer(Config)).
stop(Config) -> busy_ct:stop(node_of(Config), proplists:get_value(os_pid, Config)).
continue(Config) -> busy_ct:continue(proplists:get_value(os_pid, Config)).

%% A process there that tells what it gets, under that name. The one of the name `py` is taken for a C-node.
recorder(Name, Config) ->
    Test = self(),
    pyn_ct:on(peer(Config), fun() ->
        Pid = spawn(fun() -> record(Test) end),
        true = register(Name, Pid),
        Pid
    end).

record(Test) ->
    receive
        {'$gen_call', {_, [alias | Ref]}, info} -> Ref ! {[alias | Ref], {ok, #{}}};
        Message -> Test ! {there, Message}
    end,
    record(Test).

%% The next call that it gets, by its reference.
called() ->
    receive {there, {'$gen_call', {_, [alias | Ref]}, _}} -> Ref end.

%% That this is called off comes next, after the calls.
called_off(Ref) ->
    receive {there, {'$gen_cast', {cancel, Ref}}} -> ok end.

answer(Ref, Answer, Config) ->
    pyn_ct:on(peer(Config), fun() -> Ref ! {[alias | Ref], Answer}, ok end).

%%% What is said to it

%% A coordinator answers who looks for it.
hello(Config) ->
    Pid = recorder(asks, Config),
    ok = stop(Config),
    Ref = make_ref(),
    py_callback ! {py_hello, Pid, Ref},
    _ = sys:get_state(py_callback),
    ok = continue(Config),
    receive {there, Message} -> ?assertEqual({py_here, node(), Ref}, Message) end.

%% A node hears that its function was replaced.
forget(Config) ->
    Owner = recorder(owner, Config),
    Stamp = {erlang:system_time(), 1},
    Where = node_of(Config),
    Entries = [{<<"f">>, Stamp, {there, Where}}],
    _ = gen_server:call(py_callback, {py_register, Where, Owner, Entries}),
    ok = stop(Config),
    ok = py:register_function(f, fun(_) -> here end),
    ok = continue(Config),
    receive {there, Message} -> ?assertEqual({'$gen_cast', {forget, <<"f">>, Stamp}}, Message) end.

%% What is to follow all spans that were sent.
sync(Config) ->
    ok = stop(Config),
    {ok, Ref} = py_proto:send_sync(node_of(Config)),
    ok = continue(Config),
    receive {there, Message} -> ?assertEqual({'$gen_call', {self(), Ref}, sync}, Message) end.

%% An interrupt that is said to be under way gets there.
interrupted(Config) ->
    Ref = py:call_async(time, sleep, [10]),
    Call = called(),
    ok = stop(Config),
    ?assertEqual(ok, py:interrupt(Ref)),
    ok = continue(Config),
    ok = called_off(Call),
    ok = answer(Call, {error, interrupted}, Config),
    ?assertEqual({error, interrupted}, py:await(Ref)).

%% The call itself is still on its way.
interrupted_unsent(Config) ->
    ok = stop(Config),
    Ref = py:call_async(time, sleep, [10]),
    pyn_ct:wait_until(fun() -> waits_for_answer(Ref) end),
    ?assertEqual(ok, py:interrupt(Ref)),
    ?assertEqual({error, interrupted}, py:await(Ref)),
    ok = continue(Config),
    ok = called_off(called()).

waits_for_answer(Ref) ->
    [{Ref, Pid}] = ets:tab2list(py_async),
    process_info(Pid, current_function) =:= {current_function, {py_async, wait, 4}}.

await_gives_up(Config) ->
    Ref = py:call_async(time, sleep, [10]),
    Call = called(),
    ok = stop(Config),
    ?assertEqual({error, timeout}, py:await(Ref, 10)),
    ok = continue(Config),
    ok = called_off(Call).

caller_dies(Config) ->
    Caller = spawn(fun() -> _ = py:call_async(time, sleep, [10]), receive never -> ok end end),
    Call = called(),
    ok = stop(Config),
    exit(Caller, kill),
    ok = continue(Config),
    ok = called_off(Call).

%% What has come too late, behind all that was on its way, is not to run: its caller has gone.
calls_are_called_off(Config) ->
    ok = stop(Config),
    ?assertEqual({error, timeout}, py:call(math, sqrt, [1], #{}, 300)),
    ?assertEqual({ok, [{error, timeout}]}, py:parallel([{math, sqrt, [2]}], 300)),
    Ref = py:call_async(math, sqrt, [3]),
    pyn_ct:wait_until(fun() -> waits_for_answer(Ref) end),
    ?assertEqual({error, timeout}, py:await(Ref, 0)),
    {ok, Stream} = py:stream_start(itertools, count, [], #{}, #{timeout => 300}),
    receive {py_stream, Stream, Last} -> ?assertEqual({error, timeout}, Last) end,
    ?assertMatch({ok, [{_, 0, {error, timeout}}]}, py_everywhere:call(math, sqrt, [4], #{}, #{timeout => 300})),
    ok = continue(Config),
    Calls = [called() || _ <- lists:seq(1, 5)],
    [ok = called_off(Call) || Call <- Calls].

%% Who asks the C-node about itself, or for a call that nobody knows of, is answered in time.
not_waited_for(Config) ->
    Node = node_of(Config),
    ok = stop(Config),
    Self = self(),
    Questions = [fun py:info/0, fun() -> py:interrupt(make_ref()) end],
    Pids = [spawn_link(fun() -> Self ! {self(), Question()} end) || Question <- Questions],
    ?assertEqual([#{Node => #{status => no_answer}}, {error, not_found}], [receive {Pid, Answer} -> Answer end || Pid <- Pids]).

%% A stream whose owner is there keeps nobody else from starting one.
stream_for_it(Config) ->
    Owner = recorder(owner, Config),
    ok = stop(Config),
    Self = self(),
    spawn_link(fun() -> Self ! {started, py:stream_start(math, sqrt, [1], #{}, #{owner => Owner})} end),
    receive {started, {ok, _}} -> ok end,
    {ok, Ref} = py:stream_start(math, sqrt, [1]),
    ok = py:stream_cancel(Ref).

%% A C-node that is lost while it is prepared is prepared anew, from the beginning and by one process only.
lost_while_prepared(Config) ->
    Self = self(),
    [begin
         spawn_link(fun() -> Self ! {done, py:exec_all(Code)} end),
         ok = answer(prepared(Code), {ok, [{0, ok}]}, Config),
         receive {done, Result} -> ?assertEqual(ok, Result) end
     end || Code <- [<<"1">>, <<"2">>]],
    true = erlang:disconnect_node(node_of(Config)),
    _ = prepared(<<"1">>),
    true = erlang:disconnect_node(node_of(Config)),
    [ok = answer(prepared(Code), {ok, [{0, ok}]}, Config) || Code <- [<<"1">>, <<"2">>]],
    pyn_ct:wait_until(fun() -> py_router:up_nodes() =/= [] end),
    receive {there, Other} -> error({unexpected, Other}) after 0 -> ok end.

%% The next request that it gets is to run that.
prepared(Code) ->
    receive {there, {'$gen_call', {_, [alias | Ref]}, Request}} -> ?assertMatch({exec_all, Code, _}, Request), Ref end.
