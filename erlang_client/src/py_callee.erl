%% The process of one callback: it runs the registered function and sends the result straight to the C-node.
%%
%% The function runs on the node that registered it. When that is not the coordinator there are two processes: the
%% function's, and on the coordinator a relay that waits for it. The relay is what py_callback knows, so that
%% py_callback never waits for another node; the two are linked.
%%
%% A process that ends with the reason `normal` has answered. With any other it has not: it was killed, or something
%% that it had linked to itself ended. Then py_callback answers, with what failure/1 makes of the reason.
-module(py_callee).

-export([start/3]).
-export([stop/2]).
-export([answer/3]).
-export([failure/1]).

%% On the node of the function.
-export([run_there/1]).

-export_type([call/0, target/0, where/0]).

-type target() :: fun(([term()]) -> term()) | {module(), atom()}.
-type where() :: {here, target()} | {there, node()}.
-type call() :: #{
    id := integer(),
    to := pid(),
    chain := term(),
    timeout := timeout(),
    name := binary(),
    args := [term()]
}.
-type failure() :: {callback, error | exit | throw, term(), binary(), [binary()]}.
-type result() :: {ok, term()} | {error, failure()}.

-define(TEXT_CHARS, 1000).
-define(FRAMES, 50).
%% A reason that is larger is given as its text only.
-define(REASON_WORDS, 20000).

%% {Tag, Ref, process, Pid, Reason} tells the caller of its end.
-spec start(where(), call(), term()) -> pid().
start({here, Target}, Call, Tag) ->
    {Pid, _} = erlang:spawn_opt(fun() -> run(Target, Call) end, [{monitor, [{tag, Tag}]}]),
    Pid;
start({there, Node}, Call, Tag) ->
    {Pid, _} = erlang:spawn_opt(fun() -> relay(Node, Call) end, [{monitor, [{tag, Tag}]}]),
    Pid.

%% A function that traps exits is killed as well.
-spec stop(where(), pid()) -> ok.
stop({here, _}, Pid) ->
    exit(Pid, kill),
    ok;
stop({there, _}, Pid) ->
    Pid ! stop,
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

%% Should this node have no way to the C-node, the coordinator has one.
-spec answer(pid(), integer(), result()) -> ok.
answer(To, Id, Result) ->
    Reply = {py_reply, Id, Result},
    case erlang:send(To, Reply, [noconnect]) of
        ok -> ok;
        noconnect -> answer_connected(net_kernel:connect_node(node(To)), To, Reply)
    end.

answer_connected(true, To, Reply) ->
    To ! Reply,
    ok;
answer_connected(_, _, Reply) ->
    exit({py_answer, Reply}).

%% On another node.

relay(Node, Call) ->
    _ = process_flag(trap_exit, true),
    Request = erlang:spawn_request(Node, ?MODULE, run_there, [Call], [link, monitor]),
    relay(Node, Request, none).

relay(Node, Request, Pid) ->
    receive
        {spawn_reply, Request, ok, Started} -> relay(Node, Request, Started);
        {spawn_reply, Request, error, noconnection} -> exit({node_gone, Node});
        {spawn_reply, Request, error, Reason} -> exit(Reason);
        {'DOWN', Request, process, _, noconnection} -> exit({node_gone, Node});
        {'DOWN', Request, process, _, Reason} -> exit(Reason);
        stop when is_pid(Pid) -> exit(Pid, kill);
        stop -> erlang:spawn_request_abandon(Request);
        _ -> relay(Node, Request, Pid)
    end.

%% What it prints belongs to this node, not to the one that asked.
-spec run_there(call()) -> ok.
run_there(#{name := Name, to := To, id := Id} = Call) ->
    ok = take_group_leader(whereis(py_functions)),
    case py_functions:lookup(Name) of
        {ok, Target} -> run(Target, Call);
        error -> answer(To, Id, {error, failure({not_registered, Name})})
    end.

take_group_leader(undefined) ->
    ok;
take_group_leader(Pid) ->
    _ = case erlang:process_info(Pid, group_leader) of
        {group_leader, Leader} -> group_leader(Leader, self());
        undefined -> none
    end,
    ok.

%% Failures, as Python's CallbackError shows them.

%% Of a process that did not answer, and of a name that has no function.
-spec failure(term()) -> failure().
failure({not_registered, Name}) ->
    {callback, error, {undefined_function, Name}, <<"Function '", Name/binary, "' not registered">>, []};
failure({gone, Name, Node}) ->
    {callback, error, {nodedown, Node}, text("Function '~ts' was registered by ~ts, which is gone", [Name, Node]), []};
failure({node_gone, Node}) ->
    {callback, exit, {nodedown, Node}, text("exit: the function was running on ~ts, which is gone", [Node]), []};
failure(Reason) ->
    {callback, exit, reason(Reason), text("exit: ~0tp", [Reason]), []}.

failure(Class, Reason, Stack) ->
    Text = case nested_text(Reason) of
        none -> text("~ts: ~0tp", [Class, Reason]);
        Nested -> Nested
    end,
    {callback, Class, reason(Reason), Text, frames(Stack)}.

%% A callback whose own call into Python failed because of a callback of that one: the text is the innermost one's, not
%% one that grows with every level.
nested_text({badmatch, Value}) -> nested_text(Value);
nested_text({case_clause, Value}) -> nested_text(Value);
nested_text({error, Error}) -> nested_text(Error);
nested_text({'CallbackError', Text}) when is_list(Text) -> text("~ts", [Text]);
nested_text({'CallbackError', Text, _}) when is_list(Text) -> text("~ts", [Text]);
nested_text(_) -> none.

%% The same limit of characters for all: who looks at it is a human.
text(Format, Values) ->
    unicode:characters_to_binary(io_lib:format(Format, Values, [{chars_limit, ?TEXT_CHARS}])).

%% Python could not hold a map with a list for a key, and then the error would hide behind another one.
reason(Reason) ->
    case erts_debug:flat_size(Reason) < ?REASON_WORDS andalso fits(Reason) of
        true -> Reason;
        false -> text("~0tp", [Reason])
    end.

fits(Map) when is_map(Map) ->
    lists:all(fun({K, V}) -> is_plain(K) andalso fits(V) end, maps:to_list(Map));
fits([Head | Tail]) ->
    fits(Head) andalso fits(Tail);
fits(Tuple) when is_tuple(Tuple) ->
    lists:all(fun fits/1, tuple_to_list(Tuple));
fits(_) ->
    true.

%% Atoms and binaries, too, can be the same key in Python.
is_plain(Key) -> is_atom(Key).

%% This module's own frames, below the function's, say nothing.
frames(Stack) ->
    Own = lists:takewhile(fun(Frame) -> element(1, Frame) =/= ?MODULE end, Stack),
    [frame(Frame) || Frame <- lists:sublist(Own, ?FRAMES)].

frame({M, F, Args, Place}) when is_list(Args) ->
    text("~ts:~ts~ts~ts", [M, F, arguments(Args), place(Place)]);
frame({M, F, Arity, Place}) ->
    text("~ts:~ts/~b~ts", [M, F, Arity, place(Place)]);
frame(Other) ->
    text("~0tp", [Other]).

arguments(Args) ->
    ["(", lists:join(", ", [io_lib:format("~0tP", [Arg, 20]) || Arg <- Args]), ")"].

place(Place) ->
    case {proplists:get_value(file, Place), proplists:get_value(line, Place)} of
        {undefined, _} -> "";
        {File, undefined} -> io_lib:format(" (~ts)", [File]);
        {File, Line} -> io_lib:format(" (~ts, line ~b)", [File, Line])
    end.
