%% The process of one callback: it runs the registered function and sends the result straight to the C-node.
%%
%% The function runs on the node that registered it. When that is not the coordinator there are two processes: the
%% function's, and one on the coordinator that waits for it. The second is what py_callback knows, so that nothing
%% py_callback does ever depends on another node; the two are linked.
%%
%% A process that ends with reason `normal` has answered. With any other reason it has not: it was killed, or something
%% that it had linked to itself ended. Then py_callback answers.
-module(py_callee).

-export([start/3]).
-export([stop/1]).
-export([answer/3]).
-export([failure/1]).

%% On the node of the function.
-export([run_there/1]).

-export_type([call/0, target/0]).

-type target() :: fun(([term()]) -> term()) | {module(), atom()}.
-type call() :: #{
    id := integer(),
    to := pid(),
    chain := term(),
    timeout := timeout(),
    name := binary(),
    args := [term()]
}.
-type failure() :: {callback, error | exit | throw, term(), binary(), [binary()]}.

-define(TEXT_CHARS, 1000).
-define(FRAMES, 50).
%% A reason that is larger is given as its text only.
-define(REASON_BYTES, 100000).

%% Starts it; {Tag, Ref, process, Pid, Reason} tells the caller of its end.
-spec start({here, target()} | {there, node()}, call(), term()) -> pid().
start({here, Target}, Call, Tag) ->
    {Pid, _} = erlang:spawn_opt(fun() -> run(Target, Call) end, [{monitor, [{tag, Tag}]}]),
    Pid;
start({there, Node}, Call, Tag) ->
    {Pid, _} = erlang:spawn_opt(fun() -> relay(Node, Call) end, [{monitor, [{tag, Tag}]}]),
    Pid.

%% Whoever traps exits is killed as well: this is not a signal that can be trapped, and a relay passes it on.
-spec stop(pid()) -> ok.
stop(Pid) ->
    Pid ! {py_callee, stop},
    ok.

%% The function.

run(Target, #{chain := Chain, timeout := Timeout, to := To, id := Id, args := Args}) ->
    ok = py_call:enter_chain(node(To), Chain, Timeout),
    Result = try apply_target(Target, Args) of
        Value -> {ok, Value}
    catch
        Class:Reason:Stack -> {error, failure(Class, Reason, Stack)}
    end,
    answer(To, Id, Result).

apply_target({M, F}, Args) -> M:F(Args);
apply_target(Fun, Args) -> Fun(Args).

%% The answer goes to the C-node from where the function ran. Should that node have no way to the C-node, the
%% coordinator has.
-spec answer(pid(), integer(), {ok, term()} | {error, term()}) -> ok.
answer(To, Id, Result) ->
    Reply = {py_reply, Id, Result},
    case erlang:send(To, Reply, [noconnect]) of
        ok -> ok;
        noconnect ->
            case net_kernel:hidden_connect_node(node(To)) of
                true -> To ! Reply, ok;
                _ -> exit({py_answer, Reply})
            end
    end.
