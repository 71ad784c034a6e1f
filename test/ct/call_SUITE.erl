%% Requests and their answers, as a stock node sends and gets them: forms, names, arguments, every row of the table of
%% errors that needs no deadline, eval, exec, and what Python code may do meanwhile.
-module(call_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([gen_call/1, cast/1, plain_message/1, plain_message_by_alias/1, late_answer/1, unknown_messages/1, bad_requests/1,
         version_and_info/1, ping/1, monitors/1,
         names/1, dotted_names/1, odd_names/1, arguments/1, keyword_arguments/1, doubled_keywords/1, many_arguments/1,
         arguments_not_a_list/1,
         exceptions/1, exception_messages/1, odd_exceptions/1, tracebacks/1, missing/1, broken_modules/1, import_fails_elsewhere/1,
         system_exit/1,
         recursion/1, not_convertible/1, too_large/1,
         eval/1, eval_locals/1, eval_errors/1, builtins_of_a_scope/1, exec/1, exec_errors/1, code_forms/1,
         threads/1, subprocesses/1, asyncio/1, refused_modules/1, numpy/1, refused_in_exec/1, static_types/1, many_callers/1,
         counters/1, many_distinct_names/1]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [gen_call, cast, plain_message, plain_message_by_alias, late_answer, unknown_messages, bad_requests,
     version_and_info, ping, monitors,
     names, dotted_names, odd_names, arguments, keyword_arguments, doubled_keywords, many_arguments,
     arguments_not_a_list,
     exceptions, exception_messages, odd_exceptions, tracebacks, missing, broken_modules, import_fails_elsewhere,
     system_exit,
     recursion, not_convertible, too_large,
     eval, eval_locals, eval_errors, builtins_of_a_scope, exec, exec_errors, code_forms,
     threads, subprocesses, asyncio, refused_modules, numpy, refused_in_exec, static_types, many_callers,
     counters, many_distinct_names].

init_per_suite(Config) ->
    [{pynode, pyn_ct:start(["--workers", "3"])} | Config].

end_per_suite(Config) ->
    ok = pyn_ct:end_clean(pynode(Config)),
    pyn_ct:stop_all().

%% Whatever a case did, the node works on.
end_per_testcase(_Case, Config) ->
    case catch pyn_ct:call(pynode(Config), {call, math, sqrt, [16]}) of
        {ok, 4.0} -> ok;
        Other -> {fail, {node_does_not_work, Other}}
    end.

pynode(Config) ->
    proplists:get_value(pynode, Config).

call(Config, M, F, Args) -> pyn_ct:call(pynode(Config), {call, M, F, Args}).
call(Config, M, F, Args, Kwargs) -> pyn_ct:call(pynode(Config), {call, M, F, Args, Kwargs}).
call(Config, M, F, Args, Kwargs, Opts) -> pyn_ct:call(pynode(Config), {call, M, F, Args, Kwargs, Opts}).
eval(Config, Code, Locals) -> pyn_ct:call(pynode(Config), {eval, Code, Locals}).

server(Config) ->
    {py, pyn_ct:node_of(pynode(Config))}.

%%% Forms

gen_call(Config) ->
    {ok, 4.0} = gen_server:call(server(Config), {call, math, sqrt, [16]}),
    {ok, 4.0} = gen_server:call(server(Config), {call, math, sqrt, [16], #{}}),
    {ok, 4.0} = gen_server:call(server(Config), {call, math, sqrt, [16], #{}, 5000}),
    {ok, 4.0} = gen_server:call(server(Config), {call, math, sqrt, [16], #{}, infinity}),
    {ok, 4.0} = gen_server:call(server(Config), {call, math, sqrt, [16], #{}, #{timeout => 5000}}),
    {ok, 4.0} = gen_server:call(server(Config), {call, math, sqrt, [16], #{}, #{timeout => infinity, later => {1, "x"}}}),
    {ok, 3} = gen_server:call(server(Config), {eval, <<"1 + 2">>}),
    {ok, 3} = gen_server:call(server(Config), {eval, <<"a + 2">>, #{a => 1}}),
    {ok, 3} = gen_server:call(server(Config), {eval, <<"a + 2">>, #{a => 1}, 5000}),
    ok = gen_server:call(server(Config), {exec, <<"pass">>}),
    ok = gen_server:call(server(Config), {exec, <<"pass">>, 5000}),
    ok = gen_server:call(server(Config), {exec, <<"pass">>, #{timeout => 5000}}),
    {reply, {ok, 4.0}} = gen_server:receive_response(gen_server:send_request(server(Config), {call, math, sqrt, [16]}), 5000),
    {[{_, {ok, 4.0}}], []} = gen_server:multi_call([pyn_ct:node_of(pynode(Config))], py, {call, math, sqrt, [16]}).

cast(Config) ->
    File = file(Config, "cast"),
    ok = gen_server:cast(server(Config), {call, t_slow, mark, [File, <<"cast">>]}),
    content(File, <<"cast">>),
    ok = gen_server:cast(server(Config), {exec, <<"import t_slow; t_slow.mark('", File/binary, "', 'exec')">>}),
    content(File, <<"castexec">>),
    ok = gen_server:cast(server(Config), {call, no_such_module, f, []}),
    ok = gen_server:cast(server(Config), {no, such, request}),
    ok = gen_server:cast(server(Config), info),
    nothing_received().

plain_message(Config) ->
    Tag = {my, [<<"tag">>, 1.5]},
    server(Config) ! {self(), Tag, {call, math, sqrt, [16]}},
    receive {Tag, Answer} -> {ok, 4.0} = Answer after 5000 -> error(no_answer) end,
    server(Config) ! {self(), Tag, {bad, request}},
    receive {Tag, Bad} -> {error, {bad_request, _}} = Bad after 5000 -> error(no_answer) end,
    server(Config) ! {self(), 1, version},
    receive {1, Version} -> {ok, _} = Version after 5000 -> error(no_answer) end.

plain_message_by_alias(Config) ->
    Alias = erlang:alias([explicit_unalias]),
    server(Config) ! {self(), [alias | Alias], {call, math, sqrt, [16]}},
    receive {[alias | Alias], Answer} -> {ok, 4.0} = Answer after 5000 -> error(no_answer) end,
    %% An alias that is no more: the answer is dropped by this node.
    true = erlang:unalias(Alias),
    server(Config) ! {self(), [alias | Alias], {call, math, sqrt, [16]}},
    {ok, 4.0} = call(Config, math, sqrt, [16]),
    nothing_received().

%% The answer of a call that gen_server:call gave up does not come to the mailbox later.
late_answer(Config) ->
    [File, Go] = [file(Config, Name) || Name <- ["late", "late_go"]],
    {'EXIT', {timeout, _}} =
        (catch gen_server:call(server(Config), {call, t_slow, marked_until, [File, Go]}, 100)),
    content(File, <<"x">>),
    ok = file:write_file(Go, <<>>),
    pyn_ct:wait_until(fun() -> pyn_ct:info(pynode(Config), in_flight) =:= 0 end),
    {ok, 4.0} = call(Config, math, sqrt, [16]),
    nothing_received().

unknown_messages(Config) ->
    Server = {_, Node} = server(Config),
    [Server ! M || M <- [hello, {}, {1, 2}, {self(), make_ref()}, "text", <<1:3>>, #{a => 1}, {'$gen_call', x, y},
                         {'$gen_call', {self(), make_ref()}}, {'$gen_cast'}, {'$gen_cast', 1, 2},
                         {'$gen_call', {1, 2}, info}, {'EXIT', self(), boom}, {system, {self(), make_ref()}, get_state}]],
    {no_such_name, Node} ! hello,
    {net_kernel, Node} ! hello,
    {rex, Node} ! {self(), hello},
    {ok, 4.0} = call(Config, math, sqrt, [16]),
    nothing_received().

bad_requests(Config) ->
    Bad = [{call}, {call, math}, {call, math, sqrt}, {call, math, sqrt, [], #{}, 1000, more}, {call, 1, sqrt, []},
           {call, math, 1, []}, {call, '', sqrt, []}, {call, math, <<>>, []}, {call, math, sqrt, [16], [{a, 1}]},
           {call, math, sqrt, [16], #{}, -1}, {call, math, sqrt, [16], #{}, soon}, {call, math, sqrt, [16], #{}, 1.5},
           {call, math, sqrt, [16], #{}, #{timeout => -5}}, {call, math, sqrt, [16], #{}, #{traceback => 1}},
           {call, math, sqrt, [16], #{}, #{<<"timeout">> => 5}}, {call, math, sqrt, [16], #{}, 1 bsl 70},
           {call, [$m, $a], sqrt, []}, {call, {math}, sqrt, []},
           {eval}, {eval, 1}, {eval, <<"1">>, []}, {eval, <<"1">>, #{}, 1, 2}, {eval, <<"1">>, #{}, x}, {eval, {code}},
           {eval, ["1", 2, a]},
           {exec}, {exec, 7}, {exec, <<"1">>, 1, 2}, {exec, <<"1">>, later}, {cancel}, {cancel, 1, 2},
           {unknown, 1}, unknown, 1, "text", <<"call">>, {}, {{call}}, [], #{}],
    lists:foreach(fun(Request) ->
        {Request, {error, {bad_request, Sentence}}} = {Request, pyn_ct:call(pynode(Config), Request)},
        ?assert(is_binary(Sentence) andalso byte_size(Sentence) > 5)
    end, Bad).

version_and_info(Config) ->
    {ok, Version} = pyn_ct:call(pynode(Config), version),
    {match, _} = re:run(Version, "^3\\.[0-9]+\\.[0-9]+"),
    {ok, Version} = eval(Config, <<"__import__('platform').python_version()">>, #{}),
    Info = pyn_ct:info(pynode(Config)),
    #{mode := Mode, python := Version, executors := 3, workers := _, busy := _, queued := 0, max_queue := 10000,
      stuck := 0, calls := Calls, bytes_in := In, bytes_out := Out, memory := Memory, uptime := _, os_pid := OsPid} = Info,
    ?assert(lists:member(Mode, [free_threaded, subinterp, multi_executor])),
    ?assert(Calls > 0 andalso In > 0 andalso Out > 0 andalso Memory > 1000000),
    OsPid = pyn_ct:os_pid(pynode(Config)),
    {ok, OsPid} = call(Config, os, getpid, []).

ping(Config) ->
    Node = pyn_ct:node_of(pynode(Config)),
    pong = net_adm:ping(Node),
    ?assert(lists:member(Node, nodes(hidden))),
    ?assertNot(lists:member(Node, nodes())).

monitors(Config) ->
    Node = pyn_ct:node_of(pynode(Config)),
    Ref = erlang:monitor(process, {no_such_name, Node}),
    receive {'DOWN', Ref, process, {no_such_name, Node}, noproc} -> ok after 5000 -> error(no_down) end,
    Own = erlang:monitor(process, {py, Node}),
    {ok, 4.0} = call(Config, math, sqrt, [16]),
    true = erlang:demonitor(Own),
    nothing_received().

%%% Names and arguments

names(Config) ->
    [{ok, 4.0} = call(Config, M, F, [16]) || M <- [math, <<"math">>], F <- [sqrt, <<"sqrt">>]],
    {ok, 3} = call(Config, t_calls, 'größe', ["abc"]),
    {ok, 3} = call(Config, t_calls, <<"größe"/utf8>>, [<<"abc">>]),
    {ok, {<<"called">>, 1}} = call(Config, t_calls, instance, [1]),
    {ok, 12} = call(Config, t_calls, add_ten, [2]),
    {ok, <<"Counter at 5">>} = call(Config, t_calls, 'Counter', [5]),
    {ok, 5} = call(Config, builtins, len, [[1, 2, 3, 4, 5]]),
    {error, {'TypeError', _}} = call(Config, t_calls, not_callable, []).

dotted_names(Config) ->
    {ok, <<"a/b">>} = call(Config, 'os.path', join, [a, b]),
    {ok, <<"a/b">>} = call(Config, os, 'path.join', [a, b]),
    {ok, <<"a/b">>} = call(Config, <<"os.path">>, <<"join">>, [a, b]),
    {ok, <<"2024-02-29">>} = call(Config, datetime, 'date.fromisoformat', [<<"2024-02-29">>]),
    {ok, <<"made 3">>} = call(Config, t_calls, 'Counter.make', [3]),
    {ok, 4} = call(Config, t_calls, 'Counter.plain', [3]),
    {ok, {<<"deep">>, 3}} = call(Config, t_calls, 'Counter.Inner.deep', [3]),
    {ok, {<<"deep">>, 3}} = call(Config, t_calls, 'Counter.Inner.deep.__call__', [3]),
    {ok, <<"a">>} = call(Config, 'xml.sax.saxutils', escape, [a]).

odd_names(Config) ->
    [{_, {error, {'AttributeError', _}}} = {F, call(Config, math, F, [])}
     || F <- ['.', 'sqrt.', '.sqrt', 'a..b', 'sqrt.nope', ' ', <<"sq\0rt">>]],
    {error, {_, _}} = call(Config, '.', f, []),
    {error, {_, _}} = call(Config, 'math.', f, []),
    {error, {_, _}} = call(Config, <<"ma\0th">>, sqrt, [1]),
    {error, {_, _}} = call(Config, <<"a/b">>, f, []),
    {error, {_, _}} = call(Config, <<255, 254>>, f, []),
    {error, {_, _}} = call(Config, math, <<255, 254>>, []),
    {error, {'ModuleNotFoundError', _}} = call(Config, binary:copy(<<"x">>, 5000), f, []),
    {error, {'AttributeError', _}} = call(Config, math, binary:copy(<<"x">>, 100000), []).

arguments(Config) ->
    {ok, {[], []}} = call(Config, t_calls, shape, []),
    {ok, {[1], []}} = call(Config, t_calls, shape, [1]),
    %% A list of small integers is a string on the wire.
    {ok, {[1, 2, 3], []}} = call(Config, t_calls, shape, [1, 2, 3]),
    {ok, {"hello", []}} = call(Config, t_calls, shape, "hello"),
    {ok, {[[1, 2], <<"x">>, 1.5], []}} = call(Config, t_calls, shape, [[1, 2], <<"x">>, 1.5]),
    {ok, {1, 2, 3}} = call(Config, t_calls, defaults, [1]),
    {error, {'TypeError', _}} = call(Config, t_calls, defaults, []),
    {error, {'TypeError', _}} = call(Config, t_calls, defaults, [1, 2, 3]).

keyword_arguments(Config) ->
    {ok, {[], [[<<"a">>, 1]]}} = call(Config, t_calls, shape, [], #{a => 1}),
    {ok, {[], [[<<"a">>, 1]]}} = call(Config, t_calls, shape, [], #{<<"a">> => 1}),
    {ok, {[1, [2]], [[<<"größe"/utf8>>, #{}]]}} = call(Config, t_calls, shape, [1, [2]], #{<<"größe"/utf8>> => #{}}),
    {ok, {1, 5, 7}} = call(Config, t_calls, defaults, [1], #{b => 5, c => 7}),
    {ok, {1, 5, 7}} = call(Config, t_calls, defaults, [], #{a => 1, b => 5, c => 7}),
    {ok, {"abcdefghij", Kwargs}} =
        call(Config, t_calls, shape, "abcdefghij", maps:from_list([{<<"k", (integer_to_binary(I))/binary>>, I} || I <- lists:seq(1, 40)])),
    40 = length(Kwargs),
    [[_, 17]] = [P || P = [<<"k17">>, _] <- Kwargs],
    {error, {'TypeError', _}} = call(Config, t_calls, defaults, [1], #{a => 1}),
    {error, {'TypeError', _}} = call(Config, t_calls, defaults, [1], #{d => 1}),
    [{_, {error, {'TypeError', _}}} = {K, call(Config, t_calls, shape, [], #{K => 1})} || K <- [1, 1.5, {a}, <<255>>]],
    {error, {'TypeError', _}} = call(Config, math, sqrt, [16], #{x => 1}).

%% a and <<"a">> are two keys for Erlang and one name for Python: nothing is silently lost.
doubled_keywords(Config) ->
    {error, {'TypeError', _}} = call(Config, t_calls, shape, [], #{a => 1, <<"a">> => 2}),
    {error, {'TypeError', _}} = call(Config, t_calls, defaults, [], #{a => 1, <<"a">> => 2}),
    {error, {'TypeError', _}} = eval(Config, <<"a">>, #{a => 1, <<"a">> => 2}).

many_arguments(Config) ->
    [begin
         Args = lists:seq(1000, 1000 + N - 1),
         {ok, {Args, []}} = call(Config, t_calls, shape, Args)
     end || N <- [7, 8, 9, 10, 255, 256, 1000, 20000]],
    Bytes = [I rem 256 || I <- lists:seq(1, 20000)],
    {ok, {Bytes, []}} = call(Config, t_calls, shape, Bytes),
    {error, {'TypeError', _}} = call(Config, t_calls, shape, lists:seq(1, 70000)).

arguments_not_a_list(Config) ->
    [{error, invalid_args} = call(Config, math, sqrt, Args)
     || Args <- [16, sqrt, <<"16">>, {16}, #{}, [16 | 17], 1.5, self(), <<1:3>>]],
    {error, invalid_args} = call(Config, math, sqrt, 16, #{}, 5000).

%%% Errors

exceptions(Config) ->
    [{error, {Type, "it is so"}} = call(Config, t_calls, raise_named, [atom_to_binary(Type), <<"it is so">>])
     || Type <- ['ValueError', 'TypeError', 'RuntimeError', 'OSError', 'MemoryError', 'NotImplementedError',
                 'AssertionError', 'ArithmeticError', 'StopIteration', 'GeneratorExit', 'KeyboardInterrupt',
                 'BaseException', 'Exception', 'EOFError', 'ConnectionError', 'TimeoutError', 'BufferError',
                 'StopAsyncIteration', 'SystemError', 'Warning', 'ImportError']],
    {error, {'KeyError', "'it is so'"}} = call(Config, t_calls, raise_named, ['KeyError', <<"it is so">>]),
    {error, {'ZeroDivisionError', "float division by zero"}} = eval(Config, <<"1.0 / 0.0">>, #{}),
    {error, {'FileNotFoundError', "[Errno 2] No such file or directory: '/no/such/file'"}} =
        call(Config, builtins, open, [<<"/no/such/file">>]),
    {error, {'ZeroDivisionError', []}} = call(Config, t_calls, raise_bare_class, []),
    {error, {'Inner', _}} = call(Config, t_calls, raise_here, ['Outer.Inner', 1]),
    {error, {'Größe', "ä"}} = call(Config, t_calls, raise_here, ['Größe', <<"ä"/utf8>>]),
    {error, {'LookupError', "the second"}} = call(Config, t_calls, raise_from, []),
    %% As from code that does it itself, not as what the node does.
    {error, {'KeyboardInterrupt', []}} = call(Config, t_calls, raise_named, ['KeyboardInterrupt']).

exception_messages(Config) ->
    Text = "grüße " ++ [16#1F600, 16#4E2D, 0, 10] ++ "end",
    {error, {'ValueError', Text}} = call(Config, t_calls, raise_named, ['ValueError', unicode:characters_to_binary(Text)]),
    {error, {'ValueError', []}} = call(Config, t_calls, raise_named, ['ValueError']),
    {error, {'ValueError', "(1, 2)"}} = call(Config, t_calls, raise_named, ['ValueError', 1, 2]),
    {error, {'ValueError', "None"}} = call(Config, t_calls, raise_named, ['ValueError', none]),
    {error, {'ValueError', Surrogates}} = call(Config, t_calls, raise_surrogates, []),
    "lone \\udc80 surrogate" = Surrogates,
    {error, {'ValueError', Long}} = call(Config, t_calls, raise_long, [1000000]),
    ?assert(length(Long) > 1000 andalso length(Long) < 100000),
    true = lists:all(fun(C) -> C =:= $é end, Long).

odd_exceptions(Config) ->
    {error, {'Odd', M1}} = call(Config, t_calls, raise_here, ['Odd']),
    {error, {'OddText', M2}} = call(Config, t_calls, raise_here, ['OddText']),
    [{match, _} = re:run(M, "unprintable") || M <- [M1, M2]],
    {error, {'Odd', M1, Traceback}} = call(Config, t_calls, raise_here, ['Odd'], #{}, #{traceback => true}),
    true = is_binary(Traceback),
    {ok, [<<"in a thread">>]} = call(Config, t_calls, raise_in_thread, []),
    {error, {'ArithmeticError', "after some"}} = call(Config, t_calls, generator_that_fails, [3]).

tracebacks(Config) ->
    {error, {'LookupError', "the second", Traceback}} =
        call(Config, t_calls, raise_from, [], #{}, #{traceback => true}),
    [{match, _} = re:run(Traceback, Part)
     || Part <- ["^Traceback \\(most recent call last\\)", "t_calls\\.py", "in raise_from", "KeyError: 'missing'",
                 "direct cause", "LookupError: the second\n$"]],
    {error, {'LookupError', "the second"}} = call(Config, t_calls, raise_from, [], #{}, #{traceback => false}),
    {error, {'SyntaxError', _, T2}} = pyn_ct:call(pynode(Config), {eval, <<"1 +">>, #{}, #{traceback => true}}),
    {match, _} = re:run(T2, "1 \\+"),
    {error, {'NameError', _, T3}} = pyn_ct:call(pynode(Config), {exec, <<"def f():\n  nope\nf()">>, #{traceback => true}}),
    {match, _} = re:run(T3, "line 2, in f"),
    {error, {'ModuleNotFoundError', _, _}} = call(Config, no_such_module, f, [], #{}, #{traceback => true}),
    {error, {'RecursionError', _, T4}} = call(Config, t_calls, recurse, [], #{}, #{traceback => true}),
    ?assert(byte_size(T4) < 300000).

missing(Config) ->
    {error, {'ModuleNotFoundError', "No module named 'no_such_module'"}} = call(Config, no_such_module, f, []),
    {error, {'ModuleNotFoundError', _}} = call(Config, 'os.no_such_part', f, []),
    {error, {'ModuleNotFoundError', _}} = call(Config, 'no.such.module', f, []),
    {error, {'AttributeError', Message}} = call(Config, math, no_such_function, []),
    {match, _} = re:run(Message, "no_such_function"),
    {error, {'AttributeError', _}} = call(Config, os, 'path.no_such', []),
    {error, {'NameError', "name 'no_such_name' is not defined"}} = call(Config, '__main__', no_such_name, []),
    {error, {'NameError', "name 'no_such_name' is not defined"}} = call(Config, '__main__', 'no_such_name.x', []),
    {error, {'NameError', "name 'no_such_name' is not defined"}} = eval(Config, <<"no_such_name">>, #{}).

broken_modules(Config) ->
    %% Each time anew, as in Python.
    [{error, {'RuntimeError', "this module does not load"}} = call(Config, t_broken, f, []) || _ <- [1, 2]],
    [{error, {'SyntaxError', _}} = call(Config, t_syntax, f, []) || _ <- [1, 2]].

system_exit(Config) ->
    {error, {'SystemExit', "3"}} = call(Config, t_calls, leave, [3]),
    {error, {'SystemExit', "0"}} = call(Config, sys, exit, [0]),
    {error, {'SystemExit', []}} = call(Config, t_calls, leave, []),
    {error, {'SystemExit', "bye"}} = call(Config, t_calls, leave, [<<"bye">>]),
    {error, {'SystemExit', "1"}} = eval(Config, <<"exit(1)">>, #{}),
    {error, {'SystemExit', "1"}} = pyn_ct:call(pynode(Config), {exec, <<"raise SystemExit(1)">>}).

recursion(Config) ->
    [begin
         {error, {'RecursionError', _}} = call(Config, t_calls, recurse, []),
         {error, {'RecursionError', _}} = call(Config, t_calls, recurse_builtins, []),
         {ok, 800} = call(Config, t_calls, recurse_to, [800])
     end || _ <- lists:seq(1, 6)].

not_convertible(Config) ->
    {error, {'ValueError', M1}} = call(Config, t_types, value, [surrogate_deep]),
    {match, _} = re:run(M1, "str.*surrogate.* at \\[1\\]\\['k'\\]\\[1\\]"),
    {error, {'RuntimeError', "no text today (converting Unprintable at ['a'][0])"}} =
        call(Config, t_types, value, [unprintable_deep]),
    {error, {'ValueError', M2}} = call(Config, t_types, value, [cycle]),
    {match, _} = re:run(M2, "list nested deeper than"),
    {error, {'KeyError', _}} = call(Config, t_types, value, [fails_inside]).

too_large(_Config) ->
    P = pyn_ct:start(["--workers", "1", "--max-frame", "1M"]),
    {ok, B} = pyn_ct:call(P, {eval, <<"'x' * 1000000">>}),
    1000000 = byte_size(B),
    [{_, {error, {'ValueError', _}}} = {Code, pyn_ct:call(P, {eval, Code})}
     || Code <- [<<"'x' * 1048577">>, <<"'x' * (1 << 28)">>, <<"[1] * 10000000">>, <<"b'x' * 2000000">>,
                 <<"[b'x' * 600000, b'y' * 600000]">>, <<"'é' * 600000"/utf8>>, <<"1 << 16000000">>]],
    {error, {'ValueError', _}} = pyn_ct:call(P, {call, t_types, value, [endless]}),
    %% What just does not fit because of what is around it.
    [case pyn_ct:call(P, {eval, <<"'x' * ", (integer_to_binary(1048576 - N))/binary>>}) of
         {ok, X} -> true = byte_size(X) =:= 1048576 - N;
         {error, {'ValueError', _}} -> ok
     end || N <- lists:seq(0, 200, 5)],
    {ok, 4.0} = pyn_ct:call(P, {call, math, sqrt, [16]}),
    0 = pyn_ct:stop(P).

%%% eval and exec

eval(Config) ->
    {ok, 3} = eval(Config, <<"1 + 2">>, #{}),
    {ok, [0, 1, 4]} = eval(Config, <<"[x * x for x in range(3)]">>, #{}),
    {ok, <<"grün"/utf8>>} = eval(Config, <<"'grün'"/utf8>>, #{}),
    {ok, none} = eval(Config, <<"None">>, #{}),
    {ok, <<"a\nb">>} = eval(Config, <<"\"\"\"a\nb\"\"\"">>, #{}),
    %% As Python's own eval does.
    {ok, 3} = eval(Config, <<"  \t1 + 2">>, #{}),
    {ok, 3} = eval(Config, <<"1 + 2\n">>, #{}),
    {ok, 3} = eval(Config, <<"(1 +\n 2)">>, #{}).

eval_locals(Config) ->
    {ok, 30} = eval(Config, <<"x * y">>, #{x => 5, <<"y">> => 6}),
    {ok, [5, 6]} = eval(Config, <<"[x + i for i in range(2)]">>, #{x => 5}),
    {ok, 7} = eval(Config, <<"(lambda a: a + x)(2)">>, #{x => 5}),
    {ok, 5} = eval(Config, <<"(y := x)">>, #{x => 5}),
    {ok, 2} = eval(Config, <<"len(x)">>, #{x => [1, 2]}),
    %% This call's alone.
    [{error, {'NameError', _}} = eval(Config, V, #{}) || V <- [<<"x">>, <<"y">>]],
    {ok, <<"mine">>} = eval(Config, <<"len">>, #{len => mine}),
    {ok, 0} = eval(Config, <<"len([])">>, #{}),
    {error, {'NameError', _}} = eval(Config, <<"nope">>, #{x => 1}).

eval_errors(Config) ->
    [{Code, {error, {'SyntaxError', _}}} = {Code, eval(Config, Code, #{})}
     || Code <- [<<"1 +">>, <<"x = 1">>, <<"import os">>, <<>>, <<"(">>, <<"return 1">>, <<"1;2">>]],
    {error, {_, _}} = eval(Config, <<"1\0 + 2">>, #{}),
    {error, {_, _}} = eval(Config, <<"'", 255, "'">>, #{}),
    {error, {_, _}} = eval(Config, binary:copy(<<"(">>, 10000), #{}),
    {error, {_, _}} = eval(Config, iolist_to_binary([binary:copy(<<"-">>, 200000), "1"]), #{}).

%% Python's own functions that look at the code that calls them find __main__ there.
builtins_of_a_scope(Config) ->
    {ok, 2} = call(Config, builtins, eval, [<<"1 + 1">>]),
    {ok, 3} = call(Config, builtins, eval, [<<"x + 1">>, #{<<"x">> => 2}]),
    {error, {'SyntaxError', _}} = call(Config, builtins, eval, [<<"1 +">>]),
    {error, {'TypeError', _}} = call(Config, builtins, eval, []),
    ok = pyn_ct:call(pynode(Config), {exec, <<"of_the_scope = 7">>}),
    Self = {call, builtins, eval, [<<"of_the_scope">>]},
    case pyn_ct:mode(pynode(Config)) of
        subinterp -> ok; %% each interpreter has its own
        _ ->
            {ok, 7} = pyn_ct:call(pynode(Config), Self),
            {ok, none} = call(Config, builtins, exec, [<<"of_the_scope += 1">>]),
            {ok, 8} = pyn_ct:call(pynode(Config), Self),
            [{ok, #{<<"of_the_scope">> := 8}} = call(Config, builtins, F, []) || F <- [globals, locals, vars]],
            {ok, Names} = call(Config, builtins, dir, []),
            true = lists:member(<<"of_the_scope">>, Names)
    end,
    {ok, Bits} = call(Config, builtins, dir, [1]),
    true = lists:member(<<"bit_length">>, Bits).

exec(Config) ->
    P = pynode(Config),
    ok = pyn_ct:call(P, {exec, <<>>}),
    ok = pyn_ct:call(P, {exec, <<"x = 1\ny = x + 1\n\ndef twice(n):\n    return n * 2\n\nclass C:\n    z = 5\n">>}),
    {ok, 2} = eval(Config, <<"y">>, #{}),
    {ok, 8} = call(Config, '__main__', twice, [4]),
    {ok, 5} = eval(Config, <<"C.z">>, #{}),
    {ok, 5} = eval(Config, <<"C().z">>, #{}),
    ok = pyn_ct:call(P, {exec, <<"import json as j">>}),
    {ok, <<"[1]">>} = call(Config, '__main__', 'j.dumps', [[1]]),
    ok = pyn_ct:call(P, {exec, <<"del x">>}),
    {error, {'NameError', _}} = eval(Config, <<"x">>, #{}),
    ok = pyn_ct:call(P, {exec, <<"from t_calls import *">>}),
    {ok, <<"__main__">>} = eval(Config, <<"__name__">>, #{}).

exec_errors(Config) ->
    P = pynode(Config),
    {error, {'SyntaxError', _}} = pyn_ct:call(P, {exec, <<"def f(:">>}),
    {error, {'IndentationError', _}} = pyn_ct:call(P, {exec, <<"if 1:\npass">>}),
    {error, {'TabError', _}} = pyn_ct:call(P, {exec, <<"if 1:\n\tpass\n        pass">>}),
    {error, {'SyntaxError', _}} = pyn_ct:call(P, {exec, <<"return">>}),
    {error, {'ZeroDivisionError', _}} = pyn_ct:call(P, {exec, <<"before = 1\n1 / 0\nafter = 2">>}),
    {error, {'AssertionError', []}} = pyn_ct:call(P, {exec, <<"assert False">>}),
    {error, {'ModuleNotFoundError', _}} = pyn_ct:call(P, {exec, <<"import no_such_module">>}).

code_forms(Config) ->
    {ok, 3} = eval(Config, "1 + 2", #{}),
    {ok, 4.5} = eval(Config, '4.5', #{}),
    ok = pyn_ct:call(pynode(Config), {exec, "code_forms = 1"}),
    ok = pyn_ct:call(pynode(Config), {exec, ""}),
    Long = iolist_to_binary([["v", integer_to_list(I), " = ", integer_to_list(I), "\n"] || I <- lists:seq(1, 3000)]),
    ok = pyn_ct:call(pynode(Config), {exec, Long}),
    {ok, 2999} = eval(Config, <<"v2999">>, #{}),
    %% As many different ones as no cache holds.
    [{ok, I} = eval(Config, integer_to_binary(I), #{}) || I <- lists:seq(1, 500)].

%%% What Python code may do

threads(Config) ->
    {ok, [0, 1000, 2000, 3000]} = call(Config, t_calls, in_threads, [4]).

subprocesses(Config) ->
    [{ok, <<"grün"/utf8>>} = call(Config, t_calls, in_subprocess, [<<"grün"/utf8>>]) || _ <- [1, 2, 3]].

asyncio(Config) ->
    [{ok, [0, 1, 4, 9]} = call(Config, t_calls, in_asyncio, [4]) || _ <- [1, 2, 3]].

%% One caller's import fails while another one waits for it: that one has its module all the same.
import_fails_elsewhere(Config) ->
    P = pynode(Config),
    case pyn_ct:mode(P) of
        subinterp -> ok; %% each has its own modules
        _ ->
            ok = pyn_ct:call(P, {exec, <<"import sys\nsys.t_half = {'tries': 0, 'go': False}">>}),
            Ask = fun() -> gen_server:send_request(server(Config), {call, t_half, whole, []}) end,
            First = Ask(),
            pyn_ct:wait_until(fun() -> eval(Config, <<"sys.t_half['tries']">>, #{}) =:= {ok, 1} end),
            Second = Ask(),
            pyn_ct:wait_until(fun() -> pyn_ct:info(P, busy) =:= 2 end),
            ok = pyn_ct:call(P, {exec, <<"sys.t_half['go'] = True">>}),
            {reply, {error, {'RuntimeError', "half way"}}} = gen_server:wait_response(First, 10000),
            {reply, {ok, <<"whole">>}} = gen_server:wait_response(Second, 10000)
    end.

%% Extension modules that a sub-interpreter refuses run in the main one, without the caller noticing.
refused_modules(Config) ->
    case optional(Config, readline) of
        ok ->
            {ok, N} = call(Config, readline, get_current_history_length, []),
            {ok, none} = call(Config, readline, add_history, [<<"line">>]),
            [{ok, _} = call(Config, readline, get_current_history_length, []) || _ <- lists:seq(1, 20)],
            {ok, M} = call(Config, readline, get_current_history_length, []),
            1 = M - N,
            {error, {'AttributeError', _}} = call(Config, readline, no_such, []),
            %% So does a module that needs one: always in the same interpreter.
            {ok, M} = call(Config, t_refused, history_length, []),
            [{ok, _} = call(Config, t_refused, push, [I]) || I <- lists:seq(1, 20)],
            {ok, Pushed} = call(Config, t_refused, push, [21]),
            Pushed = lists:seq(1, 21);
        Skip ->
            Skip
    end.

numpy(Config) ->
    case optional(Config, numpy) of
        ok ->
            {ok, 6.0} = call(Config, numpy, sum, [[1.5, 2.5, 2.0]]),
            {ok, [0, 1, 2]} = call(Config, numpy, arange, [3]),
            {ok, [[1, 3], [2, 4]]} = call(Config, numpy, transpose, [[[1, 2], [3, 4]]]);
        Skip ->
            Skip
    end.

%% ok, or why the case is skipped.
optional(Config, Module) ->
    case call(Config, importlib, import_module, [Module]) of
        {error, {'ModuleNotFoundError', _}} -> {skip, "this Python has no " ++ atom_to_list(Module)};
        {error, {'ImportError', _}} -> ok;
        {ok, _} -> ok
    end.

%% From exec and eval the sub-interpreter's ImportError says what to do.
refused_in_exec(Config) ->
    case {pyn_ct:mode(pynode(Config)), optional(Config, readline)} of
        {subinterp, ok} ->
            {error, {'ImportError', M1}} = pyn_ct:call(pynode(Config), {exec, <<"import readline">>}),
            {error, {'ImportError', M2}} = eval(Config, <<"__import__('readline')">>, #{}),
            [{match, _} = re:run(M, "readline does not support loading in subinterpreters.*py:call.*multi_executor")
             || M <- [M1, M2]],
            {ok, _} = call(Config, readline, get_current_history_length, []);
        {_, ok} ->
            ok = pyn_ct:call(pynode(Config), {exec, <<"import readline">>}),
            {ok, _} = eval(Config, <<"readline.get_current_history_length()">>, #{});
        {_, Skip} ->
            Skip
    end.

%% Modules whose C types all interpreters share: none of them leaves the others with memory that is not theirs, not even
%% at the end.
static_types(_Config) ->
    [begin
         P = pyn_ct:start(["--workers", "3"]),
         Callers = [spawn_monitor(fun() ->
                        ok = pyn_ct:call(P, {exec, <<"import time; time.sleep(0.05)\n"
                                                     "import datetime, decimal, array, asyncio, hashlib, json, uuid">>}),
                        {ok, <<"2024-02-29">>} = pyn_ct:call(P, {eval, <<"datetime.date(2024, 2, 29)">>})
                    end) || _ <- lists:seq(1, 6)],
         [receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason end || {Pid, Monitor} <- Callers],
         ok = pyn_ct:end_clean(P)
     end || _ <- [1, 2, 3]],
    ok.

%% Every caller gets its own answer.
many_callers(Config) ->
    P = pynode(Config),
    Callers = [spawn_monitor(fun() ->
                   [{ok, {C, I, B}} = pyn_ct:call(P, {call, t_calls, identity, [{C, I, B}]})
                    || I <- lists:seq(1, 50), B <- [binary:copy(<<C, I>>, (C * 7 + I * 13) rem 900)]]
               end) || C <- lists:seq(1, 64)],
    [receive {'DOWN', Monitor, process, Pid, Reason} -> normal = Reason end || {Pid, Monitor} <- Callers].

counters(Config) ->
    P = pynode(Config),
    Idle = fun() -> I = pyn_ct:info(P), maps:get(in_flight, I) =:= 0 andalso I end,
    #{calls := C0, errors := E0} = pyn_ct:wait_until(Idle),
    [{ok, 4.0} = call(Config, math, sqrt, [16]) || _ <- lists:seq(1, 10)],
    [{error, _} = call(Config, math, sqrt, [-1]) || _ <- lists:seq(1, 5)],
    #{calls := C1, errors := E1} = pyn_ct:wait_until(Idle),
    {15, 5} = {C1 - C0, E1 - E0}.

%% More names than any cache has places for.
many_distinct_names(Config) ->
    Names = [iolist_to_binary(io_lib:format("f_~b", [I])) || I <- lists:seq(1, 1500)],
    Code = iolist_to_binary([["def ", N, "(): return '", N, "'\n"] || N <- Names]),
    ok = pyn_ct:call(pynode(Config), {exec, Code}),
    [{ok, N} = call(Config, '__main__', N, []) || N <- Names ++ lists:reverse(Names)].

%%% Helpers

file(Config, Name) ->
    list_to_binary(filename:join(proplists:get_value(priv_dir, Config), Name)).

content(File, Expected) ->
    pyn_ct:wait_until(fun() -> file:read_file(File) =:= {ok, Expected} end).

nothing_received() ->
    receive M -> error({unexpected, M}) after 0 -> ok end.
