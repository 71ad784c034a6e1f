%% The connection to another node is full, as that does not read for a while: nothing of what is said to it is lost, and
%% nobody waits longer than said. A C-node that is no pynode records what it gets.
-module(busy_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 1}}].

all() -> [hello, forget, sync].

init_per_suite(Config) -> Config.
end_per_suite(_Config) -> ok.

init_per_testcase(_, Config) ->
    Peer = pyn_ct:start_peer(["-hidden"]),
    OsPid = list_to_integer(pyn_ct:on(Peer, fun os:getpid/0)),
    ok = app_ct:start([{nodes, []}]),
    [{peer, Peer}, {os_pid, OsPid} | Config].

end_per_testcase(_, Config) ->
    ok = continue(Config),
    app_ct:stop(),
    pyn_ct:stop_peer(peer(Config)).

%%% A node that stands still

peer(Config) -> proplists:get_value(peer, Config).
node_of(Config) -> element(2, peer(Config)).
stop(Config) -> busy_ct:stop(node_of(Config), proplists:get_value(os_pid, Config)).
continue(Config) -> busy_ct:continue(proplists:get_value(os_pid, Config)).

%% A process there that tells what it gets, under that name.
recorder(Name, Config) ->
    Test = self(),
    pyn_ct:on(peer(Config), fun() ->
        Pid = spawn(fun() -> record(Test) end),
        true = register(Name, Pid),
        Pid
    end).

record(Test) ->
    receive Message -> Test ! {there, Message}, record(Test) end.

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
    _ = recorder(py, Config),
    ok = stop(Config),
    {ok, Ref} = py_proto:send_sync(node_of(Config)),
    ok = continue(Config),
    receive {there, Message} -> ?assertEqual({'$gen_call', {self(), Ref}, sync}, Message) end.
