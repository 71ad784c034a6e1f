%% Python calls Erlang calls Python: arithmetic, Fibonacci with a memo, deep nesting, methods of objects.
%%
%%     $ make shell
%%     1> reentrant_demo:start().
%%     2> reentrant_demo:demo_all().
%%
%% Nothing has to be configured for it, and it works with a single worker: the Python thread that waits for an Erlang
%% function runs what that function calls.
-module(reentrant_demo).

-export([start/0]).
-export([stop/0]).
-export([demo_all/0]).
-export([demo_basic/0]).
-export([demo_fibonacci/0]).
-export([demo_nested/0]).
-export([demo_objects/0]).

-define(MEMO, reentrant_demo_memo).

%% Registers the Erlang functions and lets Python find reentrant_demo.py, which lies beside this file.
-spec start() -> ok.
start() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = new_memo(),
    ok = py:register_function(demo_evaluate, fun([Expression]) -> evaluate(Expression) end),
    ok = py:register_function(demo_fibonacci, fun([N]) -> fibonacci(N) end),
    ok = py:register_function(demo_descend, fun([Level, Deepest]) -> python(descend, [Level, Deepest]) end),
    ok = py:register_function(demo_checked_sum, fun checked_sum/1),
    ok = py:register_function(demo_transfer, fun transfer/1),
    %% The definitions go to the interpreter that runs the calls of this process from now on.
    ok = py:exec(["import sys\nif '", directory(), "' not in sys.path: sys.path.insert(0, '", directory(), "')\n",
                  "from reentrant_demo import *\n"]),
    ok.

-spec stop() -> ok.
stop() ->
    _ = [ok = py:unregister_function(Name)
         || Name <- [demo_evaluate, demo_fibonacci, demo_descend, demo_checked_sum, demo_transfer]],
    ok.

-spec demo_all() -> ok.
demo_all() ->
    ok = demo_basic(),
    ok = demo_fibonacci(),
    ok = demo_nested(),
    ok = demo_objects(),
    io:format("All demos done.~n").

%% (1 + 2) * (10 - 4) / 3: Erlang walks the tree, Python adds and multiplies.
-spec demo_basic() -> ok.
demo_basic() ->
    Expression = {<<"/">>, {<<"*">>, {<<"+">>, 1, 2}, {<<"-">>, 10, 4}}, 3},
    {ok, 6.0} = py:call('__main__', evaluate, [Expression]),
    io:format("Arithmetic: (1 + 2) * (10 - 4) / 3 = 6.0~n").

%% Without the memo this would take 2^90 calls.
-spec demo_fibonacci() -> ok.
demo_fibonacci() ->
    true = ets:delete_all_objects(?MEMO),
    {ok, Number} = py:call('__main__', fibonacci, [90]),
    2880067194370816120 = Number,
    io:format("Fibonacci: the 90th number is ~b, with ~b numbers in Erlang's memo~n", [Number, ets:info(?MEMO, size)]).

-spec demo_nested() -> ok.
demo_nested() ->
    lists:foreach(fun(Depth) ->
        {ok, Levels} = py:call('__main__', descend, [1, Depth]),
        Levels = lists:seq(1, Depth),
        io:format("Nesting: ~b levels of Python and Erlang in turn~n", [Depth])
    end, [1, 10, 25, 50]).

-spec demo_objects() -> ok.
demo_objects() ->
    {ok, #{<<"alice">> := Alice, <<"bob">> := Bob, <<"refused">> := Refused}} = py:call('__main__', bank, []),
    {-50, 200} = {Alice, Bob},
    io:format("Objects: alice has ~b, bob has ~b; refused: ~ts~n", [Alice, Bob, Refused]).

%% What Python calls.

evaluate({Operator, Left, Right}) ->
    python(arithmetic, [Operator, evaluate(Left), evaluate(Right)]);
evaluate(Number) ->
    Number.

fibonacci(N) ->
    case ets:lookup(?MEMO, N) of
        [{N, Number}] ->
            Number;
        [] ->
            Number = python(fibonacci, [N]),
            true = ets:insert(?MEMO, {N, Number}),
            Number
    end.

checked_sum([Owner, _Balance, Amount]) when Amount =< 0 ->
    error({bad_deposit, Owner, Amount});
checked_sum([_Owner, Balance, Amount]) ->
    Balance + Amount.

%% Asks the object for its limit, and then tells it to move the money: both while it waits for this function.
transfer([From, To, Amount]) ->
    [Balance, Limit] = python(balance_and_limit, [From]),
    case Balance - Amount >= Limit of
        true -> python(move, [From, To, Amount]);
        false -> throw(over_the_limit)
    end.

python(Function, Args) ->
    {ok, Result} = py:call('__main__', Function, Args),
    Result.

%% Help.

%% The table must outlive the shell's process, which every error replaces.
new_memo() ->
    case ets:whereis(?MEMO) of
        undefined ->
            Caller = self(),
            {_, Ref} = spawn_monitor(fun() ->
                ?MEMO = ets:new(?MEMO, [named_table, public]),
                Caller ! {?MEMO, ready},
                receive after infinity -> ok end
            end),
            receive
                {?MEMO, ready} -> _ = erlang:demonitor(Ref, [flush]), ok;
                {'DOWN', Ref, process, _, Why} -> error(Why)
            end;
        _ ->
            ok
    end.

%% Where this file is, or where its beam is.
directory() ->
    Source = proplists:get_value(source, ?MODULE:module_info(compile), ""),
    Places = [filename:dirname(Source), filename:dirname(code:which(?MODULE)), "examples", "."],
    [Found | _] = [Dir || Dir <- Places, filelib:is_regular(filename:join(Dir, "reentrant_demo.py"))],
    filename:absname(Found).
