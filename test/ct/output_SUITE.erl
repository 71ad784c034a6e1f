%% What Python code prints goes to the node's log, line by line, with the number of its interpreter; what the node itself
%% says has a form and a level.
-module(output_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([stdout/1, stderr/1, whole_lines/1, text_of_any_kind/1, interpreters/1, several_threads/1, several_callers/1,
         flood/1, long_lines/1, stream_methods/1, stream_of_bytes/1, stream_as_value/1,
         uncaught_in_a_thread/1, warnings/1, logging/1, direct_writes/1, at_exit/1, form_of_lines/1,
         levels/1, quiet/1, bad_level/1, secrets/1]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [stdout, stderr, whole_lines, text_of_any_kind, interpreters, several_threads, several_callers,
     flood, long_lines, stream_methods, stream_of_bytes, stream_as_value,
     uncaught_in_a_thread, warnings, logging, direct_writes, at_exit,
     form_of_lines, levels, quiet, bad_level, secrets].

init_per_suite(Config) ->
    [{pynode, pyn_ct:start(["--workers", "3", "--log-level", "info"])} | Config].

end_per_suite(Config) ->
    ok = pyn_ct:end_clean(pynode(Config)),
    pyn_ct:stop_all().

pynode(Config) -> proplists:get_value(pynode, Config).

call(Config, F, Args) ->
    {ok, Result} = pyn_ct:call(pynode(Config), {call, t_calls, F, Args}),
    Result.

%%% Python's output

stdout(Config) ->
    call(Config, say, [<<"hello from stdout">>]),
    Line = pyn_ct:wait_log(pynode(Config), "hello from stdout"),
    {match, _} = re:run(Line, "Z notice python interp=[0-9]+ stream=stdout hello from stdout$"),
    ok = pyn_ct:call(pynode(Config), {exec, <<"print('hello from', 'exec')">>}),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stdout hello from exec$"),
    ok.

stderr(Config) ->
    call(Config, say, [<<"hello from stderr">>, <<"stderr">>]),
    Line = pyn_ct:wait_log(pynode(Config), "hello from stderr"),
    {match, _} = re:run(Line, "Z warning python interp=[0-9]+ stream=stderr hello from stderr$").

%% A line is one line of the log, in however many pieces it came.
whole_lines(Config) ->
    call(Config, say_pieces, [[<<"piece ">>, <<"by ">>, <<"piece\nand">>, <<" the next\n">>]]),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stdout piece by piece$"),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stdout and the next$"),
    %% Without a newline it comes when it is flushed.
    call(Config, say_pieces, [[<<"not ended">>], <<"stdout">>, true]),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stdout not ended$"),
    call(Config, say_pieces, [[<<"a\n\nb\n">>]]),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stdout b$"),
    ok.

text_of_any_kind(Config) ->
    [begin
         call(Config, say, [Text]),
         Expected = re:replace(Shown, "[\\\\.^$|()\\[\\]{}*+?]", "\\\\&", [global, {return, binary}]),
         _ = pyn_ct:wait_log(pynode(Config), <<"stream=stdout ", Expected/binary, "$">>)
     end || {Text, Shown} <- [{<<"grüße 中文 "/utf8, 16#1F600/utf8>>, <<"grüße 中文 "/utf8, 16#1F600/utf8>>},
                              {<<"tab\there">>, <<"tab\\x09here">>}, {<<"esc\e[31mred">>, <<"esc\\x1b[31mred">>},
                              {<<"percent %s %n %d">>, <<"percent %s %n %d">>}, {<<"cr\rhere">>, <<"cr\\x0dhere">>}]],
    %% What cannot be shown does not make print fail.
    {ok, _} = pyn_ct:call(pynode(Config), {eval, <<"print('surrogate \\udc80 end')">>}),
    {ok, _} = pyn_ct:call(pynode(Config), {eval, <<"print('nul \\0 end')">>}),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stdout surrogate .* end"),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stdout nul .* end"),
    ok.

%% Each interpreter has its number; where there is only one it is 0.
interpreters(Config) ->
    %% None ends before all have begun: so each has a worker of its own.
    Dir = filename:join(proplists:get_value(priv_dir, Config), pyn_ct:unique("interpreters")),
    ok = file:make_dir(Dir),
    Code = fun(N) ->
        iolist_to_binary(io_lib:format("import t_slow\nt_slow.meet('~s', '~b', 3)\nprint('number please')\n", [Dir, N]))
    end,
    Callers = [spawn_monitor(fun() -> ok = pyn_ct:call(pynode(Config), {exec, Code(N)}) end) || N <- [1, 2, 3]],
    [receive {'DOWN', M, _, _, normal} -> ok end || {_, M} <- Callers],
    Lines = pyn_ct:wait_until(fun() ->
        L = [Line || Line <- pyn_ct:log(pynode(Config)), matches(Line, "number please")],
        length(L) =:= 3 andalso L
    end),
    Numbers = lists:usort([N || Line <- Lines,
                                {match, [N]} <- [re:run(Line, "interp=([0-9]+)", [{capture, all_but_first, list}])]]),
    case pyn_ct:mode(pynode(Config)) of
        subinterp -> 3 = length(Numbers), false = lists:member("0", Numbers);
        _ -> ["0"] = Numbers
    end.

%% Lines of several threads do not mix.
several_threads(Config) ->
    call(Config, say_in_threads, [4, 100]),
    pyn_ct:wait_until(fun() -> length(thread_lines(Config)) =:= 400 end),
    400 = length(lists:usort(thread_lines(Config))).

thread_lines(Config) ->
    [Words || Line <- pyn_ct:log(pynode(Config)),
              {match, [Words]} <- [re:run(Line, "stream=stdout (thread [0-9] line [0-9]+-some-more-words)$",
                                          [{capture, all_but_first, binary}])]].

several_callers(Config) ->
    Say = fun(C, I) -> call(Config, say, [iolist_to_binary(io_lib:format("caller ~b says ~b ~s", [C, I, lists:duplicate(200, $.)]))]) end,
    {_, Log} = nothing_lost(Config, fun() ->
        Callers = [spawn_monitor(fun() -> [Say(C, I) || I <- lists:seq(1, 50)] end) || C <- lists:seq(1, 8)],
        [receive {'DOWN', M, _, _, normal} -> ok end || {_, M} <- Callers]
    end),
    ?assertEqual(400, length([L || L <- Log, matches(L, "caller [0-9] says [0-9]+ \\.{200}$")])).

%% What the fun gives, and what came to the log meanwhile. Where nobody reads the log for 200 ms lines are lost: then once
%% more, up to five times, as this node may stand still for that long.
nothing_lost(Config, Fun) -> nothing_lost(Config, Fun, 5).

nothing_lost(Config, Fun, Times) ->
    Before = length(log_so_far(Config)),
    Result = Fun(),
    Log = lists:nthtail(Before, log_so_far(Config)),
    case lost(Log) of
        0 -> {Result, Log};
        Lost -> ?assert(Times > 1, {lost, Lost}), nothing_lost(Config, Fun, Times - 1)
    end.

%% How many lines were lost is said before the next one that is not. So that one has to come: what was there before it.
log_so_far(Config) ->
    After = list_to_binary(pyn_ct:unique("after all that")),
    pyn_ct:wait_until(fun() ->
        call(Config, say, [After]),
        {Before, Rest} = lists:splitwith(fun(L) -> not matches(L, After) end, pyn_ct:log(pynode(Config))),
        Rest =/= [] andalso Before
    end).

lost(Log) ->
    lists:sum([binary_to_integer(N) || L <- Log, {match, [N]} <- [re:run(L, "Z warning log ([0-9]+) lines were lost",
                                                                         [{capture, all_but_first, binary}])]]).

%% A flood is slow, but nothing is lost unless nobody reads it, and the node serves others meanwhile.
flood(Config) ->
    {_, Log} = nothing_lost(Config, fun() ->
        {Pid, Monitor} = spawn_monitor(fun() -> 20000 = call(Config, flood, [20000, 50]) end),
        [{ok, 4.0} = pyn_ct:call(pynode(Config), {call, math, sqrt, [16]}) || _ <- lists:seq(1, 50)],
        receive {'DOWN', Monitor, process, Pid, normal} -> ok end
    end),
    ?assertEqual(20000, length([L || L <- Log, matches(L, "stream=stdout flood [0-9]{6} x{50}$")])).

%% What is too long for a line of the log comes in parts, and nothing of it is lost.
long_lines(Config) ->
    {Printed, Log} = nothing_lost(Config, fun() -> call(Config, say_long, [<<"printed">>, 20000]) end),
    ?assert(Printed =:= parts(<<"printed">>, Log)),
    %% Also what no newline ends, however it came.
    {Pieces, Log2} = nothing_lost(Config, fun() -> call(Config, say_long_in_pieces, [<<"in pieces">>, 2000, 100]) end),
    ?assert(Pieces =:= parts(<<"in pieces">>, Log2)).

%% The parts of the lines from the one on that says `begin Word` to the end.
parts(Word, Log) ->
    Lines = lists:dropwhile(fun(Line) -> not matches(Line, ["stream=stdout part=1/[0-9]+ begin ", Word]) end, Log),
    Texts = [Text || Line <- Lines,
                     {match, [Text]} <- [re:run(Line, "stream=stdout (?:part=[0-9]+/[0-9]+ )?(.*)$",
                                                [{capture, all_but_first, binary}])]],
    ?assert(length(Texts) > 20),
    ?assert(lists:all(fun(Line) -> byte_size(Line) < 4096 end, Lines)),
    iolist_to_binary(Texts).

%% What writes bytes finds where, between the text.
stream_of_bytes(Config) ->
    call(Config, say_bytes, []),
    [_ = pyn_ct:wait_log(pynode(Config), ["stream=stdout ", Line, "$"])
     || Line <- ["text bytes text", "of a memoryview", "gr\xc3\xbc\xc3\x9fe in pieces", "no utf-8: \\\\xff",
                 "begun \\\\xc3 text", "by a wrapper \xc3\xbc", "still open"]],
    #{<<"writable">> := true, <<"readable">> := false, <<"seekable">> := false, <<"isatty">> := false, <<"fileno">> := 1,
      <<"closed">> := false, <<"is_binary">> := true, <<"name">> := <<"<stdout>">>} = call(Config, bytes_facts, []),
    {ok, 6} = pyn_ct:call(pynode(Config), {eval, <<"__import__('sys').stderr.buffer.write(b'bytes\\n')">>}),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stderr bytes$"),
    {error, {'TypeError', _}} = pyn_ct:call(pynode(Config), {call, sys, 'stdout.buffer.write', [<<"text">>]}),
    {error, {'TypeError', _}} = pyn_ct:call(pynode(Config), {call, sys, 'stdout.buffer.write', [5]}),
    {error, {'UnsupportedOperation', _}} = pyn_ct:call(pynode(Config), {call, sys, 'stdout.buffer.read', []}).

%% They are no iterators, so that one as a result is its text.
stream_as_value(Config) ->
    {ok, {<<"<LogStream name='<stdout>' ", _/binary>>, <<"<LogStream name='<stderr>' ", _/binary>>,
          <<"<LogStream name='<stdout>' ", _/binary>>}} =
        pyn_ct:call(pynode(Config), {eval, <<"(lambda sys: (sys.stdout, sys.__stderr__, sys.stdout.buffer))(__import__('sys'))">>}),
    {ok, true} = pyn_ct:call(pynode(Config), {eval, <<"(lambda s, io: isinstance(s, io.TextIOBase))"
                                                      "(__import__('sys').stdout, __import__('io'))">>}).

stream_methods(Config) ->
    #{<<"writable">> := true, <<"isatty">> := false, <<"encoding">> := <<"utf-8">>, <<"fileno">> := 1,
      <<"errors">> := <<"backslashreplace">>} = call(Config, stream_facts, []),
    {error, {'TypeError', _}} = pyn_ct:call(pynode(Config), {call, t_calls, write_not_text, []}),
    {ok, 5} = pyn_ct:call(pynode(Config), {call, sys, 'stdout.write', [<<"four\n">>]}),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stdout four$"),
    {ok, _} = pyn_ct:call(pynode(Config), {eval, <<"print('to', file=__import__('sys').__stderr__)">>}),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stderr to$"),
    {ok, _} = pyn_ct:call(pynode(Config), {call, sys, 'stdout.writelines', [[<<"one ">>, <<"line\n">>]]}),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stdout one line$"),
    ok.

uncaught_in_a_thread(Config) ->
    call(Config, die_in_thread, []),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stderr OSError: nobody catches this"),
    ok.

warnings(Config) ->
    call(Config, warn, []),
    _ = pyn_ct:wait_log(pynode(Config), "stream=stderr .*UserWarning: a warning of Python's"),
    ok.

logging(Config) ->
    call(Config, log_by_logging, [<<"by the logging module">>]),
    _ = pyn_ct:wait_log(pynode(Config), "by the logging module"),
    ok.

%% What goes to the descriptors itself, as the output of a subprocess, comes to the same place.
direct_writes(Config) ->
    {ok, _} = pyn_ct:call(pynode(Config), {call, os, write, [2, {bytes, <<"straight to the descriptor\n">>}]}),
    _ = pyn_ct:wait_log(pynode(Config), "^straight to the descriptor$"),
    {ok, 0} = pyn_ct:call(pynode(Config), {call, os, system, [<<"echo from a shell >&2">>]}),
    _ = pyn_ct:wait_log(pynode(Config), "^from a shell$"),
    ok.

%% The last line, which no newline ended.
at_exit(_Config) ->
    P = pyn_ct:start(["--workers", "1", "--log-level", "info"]),
    ok = pyn_ct:call(P, {exec, <<"import atexit; atexit.register(print, 'said at the end')\nprint('unfinished', end='')">>}),
    ok = pyn_ct:end_clean(P),
    [_] = [L || L <- pyn_ct:log(P), matches(L, "stream=stdout unfinished")],
    [_] = [L || L <- pyn_ct:log(P), matches(L, "stream=stdout .*said at the end$")].

%%% The node's own lines

form_of_lines(Config) ->
    Bad = [L || L <- pyn_ct:log(pynode(Config)),
                not matches(L, "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z "
                               "(debug|info|notice|warning|error) [a-z]+ .*$")],
    [] = Bad -- [<<"straight to the descriptor">>, <<"from a shell">>],
    [Ready | _] = pyn_ct:log(pynode(Config)) -- infos(Config),
    {match, _} = re:run(Ready, ["notice main node ready name=", atom_to_list(pyn_ct:node_of(pynode(Config))),
                                " port=[0-9]+ mode=[a-z_]+ workers=3 python=3\\.[0-9.]+"]).

infos(Config) ->
    [L || L <- pyn_ct:log(pynode(Config)), matches(L, "Z (info|debug) ")].

%% What Python prints is seen by default: a line of stdout is a notice, one of stderr a warning.
levels(_Config) ->
    Shown = [begin
                 P = pyn_ct:start(["--workers", "1", "--log-level", Level]),
                 [{ok, _} = pyn_ct:call(P, {call, t_calls, say, [<<"on ", S/binary>>, S]}) || S <- [<<"stdout">>, <<"stderr">>]],
                 {error, _} = pyn_ct:call(P, nonsense),
                 ok = pyn_ct:end_clean(P),
                 Has = fun(What) -> lists:any(fun(L) -> matches(L, What) end, pyn_ct:log(P)) end,
                 {Level, [Has(W) || W <- ["stdout on stdout", "stderr on stderr", "bad request", "node ready", "link peer="]]}
             end || Level <- ["debug", "info", "notice"]],
    [{"debug", [true, true, true, true, true]}, {"info", [true, true, true, true, true]},
     {"notice", [true, true, true, true, false]}] = Shown.

%% Above notice there is no line that says that the node is ready.
quiet(_Config) ->
    [begin
         Name = pyn_ct:unique("quiet"),
         {ok, P, Node} = start_quiet(Name, Level),
         {ok, _} = gen_server:call({py, Node}, {call, t_calls, say, [<<"on stderr">>, <<"stderr">>]}),
         {ok, _} = gen_server:call({py, Node}, {call, t_calls, say, [<<"on stdout">>]}),
         {Level, Expected, 0} = {Level, length([L || {data, {eol, L}} <- end_quiet(P, Node)]), 0}
     end || {Level, Expected} <- [{"warning", 1}, {"error", 0}, {"off", 0}]].

start_quiet(Name, Level) ->
    Port = open_port({spawn_executable, pyn_ct:program()},
                     [{args, ["--sname", Name, "--workers", "1", "--parent-pipe", "--log-level", Level,
                              "--path", filename:join([pyn_ct:root(), "test", "py"])]},
                      {env, [{"PYNODE_COOKIE", atom_to_list(erlang:get_cookie())}]}, {line, 1000}, binary, exit_status,
                      stderr_to_stdout]),
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Node = list_to_atom(Name ++ "@" ++ Host),
    pyn_ct:wait_until(fun() -> net_adm:ping(Node) =:= pong end),
    {ok, Port, Node}.

end_quiet(Port, Node) ->
    {ok, #{os_pid := OsPid}} = gen_server:call({py, Node}, info),
    os:cmd("kill " ++ integer_to_list(OsPid)),
    until_exit(Port, []).

until_exit(Port, Data) ->
    receive
        {Port, {exit_status, 0}} -> lists:reverse(Data);
        {Port, {exit_status, Status}} -> error({exit_status, Status, Data});
        {Port, Line} -> until_exit(Port, [Line | Data])
    end.

bad_level(_Config) ->
    {exited, 2, [Line | _]} = pyn_ct:try_start(["--log-level", "loud"]),
    {match, _} = re:run(Line, "log-level.*loud").

%% The cookie is in no line, whatever the level.
secrets(_Config) ->
    P = pyn_ct:start(["--workers", "1", "--log-level", "debug"]),
    {ok, 4.0} = pyn_ct:call(P, {call, math, sqrt, [16]}),
    ok = pyn_ct:end_clean(P),
    Cookie = atom_to_list(erlang:get_cookie()),
    [] = [L || L <- pyn_ct:log(P), matches(L, Cookie)].

matches(Line, Pattern) ->
    re:run(Line, Pattern, [{capture, none}]) =:= match.
