%% The specification, docs/spec/scalability.md: every code block of it is run here as it is printed, in the mode of the pynode
%% that is tested.
%%
%% Erlang blocks run in order in one process (test/docs/doctest.erl evaluates them), Python blocks by py:exec; a value that is
%% shown is what has to come. Blocks for a shell of the system are those of another build system; the table shell_lines/0
%% says what here does the same, and the cases try that. A block or a line that is not known here fails the suite.
-module(spec_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 2}}].

%% The last one is waited for while the others run.
all() ->
    [every_block_is_known, every_line_is_known, pages_that_are_linked, examples, parallel_sub_interpreters, configuration,
     verify_mode, verify_build, python_without_gil, verify_free_threading, build_by_rebar3, build_for_a_python,
     performance_build, demo_in_a_shell, python_names, overload_protection].

%%% What there is in the page, and what is done with it

%% {Language, First line, What is done}.
blocks() ->
    [{"erlang", "%% Check current execution mode", examples},
     {"erlang", "%% Check semaphore status", examples},
     {"", "┌─────────────────────────────────────────────────────────────┐", figure},
     {"erlang", "{error, {overloaded, Current, Max}} = py:call(module, func, []).", overload_protection},
     {"erlang", "%% sys.config", configuration},
     {"erlang", "%% Check if supported", parallel_sub_interpreters},
     {"bash", "# macOS with Homebrew", shell},
     {"bash", "python3 -c \"import sys; print('GIL disabled:', hasattr(sys, '_is_gil_enabled') and not sys._is_gil_enabled())\"",
      shell},
     {"bash", "# Clean and rebuild with free-threaded Python", shell},
     {"erlang", "1> application:ensure_all_started(erlang_python).", verify_mode},
     {"erlang", "%% Current load", examples},
     {"python", "from erlang import state_set, state_get, state_incr, state_decr", examples},
     {"erlang", "%% Set config that all workers can read", examples},
     {"erlang", "%% Register an Erlang function that calls Python", examples},
     {"", "┌─────────────────────────────────────────────────────────────────┐", figure},
     {"erlang", "%% Each level alternates between Erlang and Python", examples},
     {"bash", "# Run the demo", shell},
     {"bash", "rebar3 compile", shell},
     {"bash", "# Clean and rebuild with aggressive optimizations", shell},
     {"erlang", "%% Check that the NIF loaded successfully", verify_build}].

%% {A line of a block for the shell, what does it here, why it is not the same, the case that tries it}.
shell_lines() ->
    PythonBuild = "scripts/python-build 3.13 --free-threaded",
    [{"brew install python@3.13 --with-freethreading", PythonBuild, "another system's packages", python_without_gil},
     {"./configure --disable-gil", PythonBuild, "it configures so", python_without_gil},
     {"make && make install", PythonBuild, "it makes and installs, into a place of its own", python_without_gil},
     {"PYTHON_CONFIGURE_OPTS=\"--disable-gil\" pyenv install 3.13.0", PythonBuild, "it needs no pyenv", python_without_gil},
     {"python3 -c \"import sys; print('GIL disabled:', hasattr(sys, '_is_gil_enabled') and not sys._is_gil_enabled())\"", same,
      "", verify_free_threading},
     {"rebar3 clean", same, "", build_by_rebar3},
     {"PYTHON_CONFIG=/path/to/python3.13-config rebar3 compile", same, "the path is that of a Python that is there",
      build_for_a_python},
     {"rebar3 shell", same, "", demo_in_a_shell},
     {"1> reentrant_demo:start().", same, "", demo_in_a_shell},
     {"2> reentrant_demo:demo_all().", same, "", demo_in_a_shell},
     {"rebar3 compile", same, "", build_by_rebar3},
     {"rm -rf _build/cmake", "make PERF_BUILD=1", "a folder of its own for each kind of build", performance_build},
     {"mkdir -p _build/cmake && cd _build/cmake", "make PERF_BUILD=1", "the same", performance_build},
     {"cmake ../../c_src -DPERF_BUILD=ON", "make PERF_BUILD=1", "make needs no cmake", performance_build},
     {"cmake --build . -j$(nproc)", "make PERF_BUILD=1", "make takes all processors by itself", performance_build}].

init_per_suite(Config) ->
    ok = load_doctest(),
    Overloaded = overloaded_node(),
    Node = start_node("spec", ["+S", "14:14"]),
    {ok, _} = peer_call(Node, application, ensure_all_started, [erlang_python]),
    Mode = peer_call(Node, py, execution_mode, []),
    [{node, Node}, {overloaded, Overloaded}, {mode, Mode} | Config].

end_per_suite(Config) ->
    [end_node(N) || N <- [?config(node, Config), element(1, ?config(overloaded, Config))]],
    ok.

%%% The page

every_block_is_known(_Config) ->
    ?assertEqual([{Language, First} || {Language, First, _} <- blocks()],
                 [{Language, First} || {Language, First, _} <- page_blocks()]),
    ?assertEqual([], lists:usort([What || {_, _, What} <- blocks()]) -- [figure, shell | all()]).

every_line_is_known(_Config) ->
    Lines = [string:trim(Line) || {"bash", _, Text} <- page_blocks(), Line <- string:split(Text, "\n", all)],
    ?assertEqual([Line || {Line, _, _, _} <- shell_lines()], [L || L <- Lines, L =/= "", hd(L) =/= $#]),
    ?assertEqual([], lists:usort([Case || {_, _, _, Case} <- shell_lines()]) -- all()).

%% They are beside the page where it comes from; here they are in docs.
pages_that_are_linked(_Config) ->
    {ok, Text} = file:read_file(page()),
    {match, Links} = re:run(Text, "\\]\\(([a-z-]+\\.md)?(#[a-z-]+)?\\)", [global, {capture, all_but_first, list}]),
    ?assert(length(Links) >= 6),
    [begin
         File = case Page of "" -> page(); _ -> filename:join([pyn_ct:root(), "docs", Page]) end,
         ?assertEqual({Page, true}, {Page, filelib:is_regular(File)}),
         case Anchor of
             [] -> ok;
             ["#" ++ Heading] -> ?assertEqual({Page, Heading, true}, {Page, Heading, lists:member(Heading, headings(File))})
         end
     end || [Page | Anchor] <- Links].

headings(File) ->
    {ok, Text} = file:read_file(File),
    {match, Found} = re:run(Text, "^#+ (.*)$", [global, multiline, {capture, [1], list}]),
    [lists:flatten(string:replace(string:lowercase(H), " ", "-", all)) || [H] <- Found].

%%% Blocks that run in one process, one after the other

%% On a node with 14 schedulers, as the page has it (29 slots), and with default configuration (4 executors).
examples(Config) ->
    Node = ?config(node, Config),
    ok = before(Node),
    [?assertEqual({First, ok}, {First, run(Node, Language, Text)})
     || {{Language, First, examples}, {_, _, Text}} <- lists:zip(blocks(), page_blocks())],
    behind(Node).

%% What the page takes for granted: data to count, a function for the callback to call.
before(Node) ->
    ok = run(Node, "python", "data = b'12345'"),
    ok = run(Node, "python", "def complex_compute(x):\n    return x + 1\n").

%% What it does not show: that all of it works.
behind(Node) ->
    ok = run(Node, "erlang", "
        50 = py_semaphore:max_concurrent().
        {ok, 1} = py:state_fetch(<<\"requests_total\">>).
        {ok, 5} = py:state_fetch(<<\"bytes_processed\">>).
        {ok, 30000} = py:eval(<<\"__import__('erlang').state_get('app_config')['timeout']\">>).
        {ok, 13} = py:call('__main__', process, [5]).
        {ok, 100} = py:call('__main__', start, [100]).
    ").

%% For Python 3.12 and later. Before that the first line is what says so; the calls themselves work everywhere.
parallel_sub_interpreters(Config) ->
    Node = ?config(node, Config),
    Text = text_of(parallel_sub_interpreters),
    case ?config(mode, Config) of
        multi_executor ->
            ?assertMatch({failed, _}, run(Node, "erlang", Text)),
            ?assertEqual(false, peer_call(Node, py, subinterp_supported, [])),
            [Supported, _] = string:split(Text, "true = py:subinterp_supported()."),
            ?assertEqual("%% Check if supported\n", Supported),
            ?assertEqual(ok, run(Node, "erlang", lists:flatten(string:replace(Text, "true = py:subinterp", "false = py:subinterp"))));
        _ ->
            ?assertEqual(ok, run(Node, "erlang", Text))
    end.

%%% A node of its own

%% Its file is the block.
configuration(Config) ->
    File = filename:join(?config(priv_dir, Config), "sys.config"),
    ok = file:write_file(File, unicode:characters_to_binary(text_of(configuration))),
    Node = start_node("configured", ["-config", File]),
    try
        {ok, _} = peer_call(Node, application, ensure_all_started, [erlang_python]),
        ?assertEqual(50, peer_call(Node, py_semaphore, max_concurrent, [])),
        Expected = case ?config(mode, Config) of multi_executor -> 8; _ -> 4 end,
        ?assertEqual(Expected, peer_call(Node, py, num_executors, [])),
        ?assertEqual([2, 4, 4], [peer_call(Node, application, get_env, [erlang_python, K, none])
                                 || K <- [num_async_workers, num_workers, num_subinterp_workers]]),
        %% The number of slots is the limit that is configured.
        ?assertMatch({ok, 4.0}, peer_call(Node, py, call, [math, sqrt, [16]]))
    after
        end_node(Node)
    end,
    ?assertMatch({error, _}, py_config:check([{num_async_workers, 0}])),
    ?assertMatch({ok, #{num_async_workers := 2}}, py_config:check([{num_async_workers, 2}])).

%% The mode that is shown is the one of the guide; another one is told as it is.
verify_mode(Config) ->
    Node = start_node("mode", []),
    try
        Result = run(Node, "erlang", text_of(verify_mode)),
        case ?config(mode, Config) of
            free_threaded -> ?assertEqual(ok, Result);
            Mode ->
                {failed, Why} = Result,
                ?assertMatch({match, _}, re:run(Why, ["gives ", atom_to_list(Mode)]))
        end
    after
        end_node(Node)
    end.

verify_build(_Config) ->
    Node = start_node("build", []),
    try ?assertEqual(ok, run(Node, "erlang", text_of(verify_build)))
    after end_node(Node)
    end.

%% All slots are taken, by others; the call waits for its own time, which is 30 seconds.
overload_protection(Config) ->
    {_, Pid} = ?config(overloaded, Config),
    Ref = monitor(process, Pid),
    receive
        {'DOWN', Ref, process, Pid, {bindings, Bindings, Max}} ->
            ?assertEqual([{'Current', Max}, {'Max', Max}], lists:sort(Bindings));
        {'DOWN', Ref, process, Pid, Reason} ->
            error(Reason)
    end.

overloaded_node() ->
    Node = start_node("overloaded", []),
    Text = text_of(overload_protection),
    {Node, spawn(fun() -> exit(overload(Node, Text)) end)}.

%% Kept for the one who asks later.
overload(Node, Text) ->
    {ok, _} = peer_call(Node, application, ensure_all_started, [erlang_python]),
    Max = peer_call(Node, py_semaphore, max_concurrent, []),
    [peer_call(Node, ?MODULE, hold_slot, []) || _ <- lists:seq(1, Max)],
    Result = peer_call(Node, ?MODULE, evaluate, [Text]),
    receive never -> ok after 0 -> ok end,
    case Result of
        {ok, Bindings} -> wait_for_monitor({bindings, Bindings, Max});
        Other -> wait_for_monitor(Other)
    end.

wait_for_monitor(Result) ->
    case process_info(self(), monitored_by) of
        {monitored_by, []} -> receive after 50 -> wait_for_monitor(Result) end;
        _ -> Result
    end.

%% In the peer.
hold_slot() ->
    Self = self(),
    Pid = spawn(fun() -> ok = py_semaphore:acquire(5000), Self ! {held, self()}, receive never -> ok end end),
    receive {held, Pid} -> ok end.

evaluate(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Exprs} = erl_parse:parse_exprs(Tokens),
    try erl_eval:exprs(Exprs, []) of
        {value, _, Bindings} -> {ok, Bindings}
    catch
        Class:Reason -> {Class, Reason}
    end.

%%% Blocks for a shell

%% Built before, it is only said where; else that would take minutes.
python_without_gil(_Config) ->
    Cache = filename:join([os:getenv("XDG_CACHE_HOME", filename:join(os:getenv("HOME"), ".cache")), "pynode", "python-3.13t"]),
    case filelib:is_regular(filename:join([Cache, "bin", "python3.13t-config"])) of
        false ->
            {skip, "scripts/python-build 3.13 --free-threaded has not been run yet (.ci/run does)"};
        true ->
            {0, Output} = sh("scripts/python-build 3.13 --free-threaded"),
            PythonConfig = lists:last(string:lexemes(Output, "\n")),
            ?assert(filelib:is_regular(PythonConfig)),
            Python = lists:flatten(string:replace(PythonConfig, "-config", "")),
            ?assertEqual({0, "1\n"}, sh(Python ++ " -c \"import sysconfig as s; print(s.get_config_var('Py_GIL_DISABLED'))\"")),
            {0, Args} = sh(Python ++ " -c \"import sysconfig as s; print(s.get_config_var('CONFIG_ARGS'))\""),
            ?assertNotEqual(nomatch, string:find(Args, "--disable-gil"))
    end.

%% With the Python that pynode was built for.
verify_free_threading(Config) ->
    Dir = filename:join(?config(priv_dir, Config), "bin"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:make_symlink(python(Config), filename:join(Dir, "python3")),
    Expected = case ?config(mode, Config) of free_threaded -> "True"; _ -> "False" end,
    ?assertEqual({0, "GIL disabled: " ++ Expected ++ "\n"},
                 sh("PATH=" ++ Dir ++ ":$PATH; " ++ line(verify_free_threading))).

%% The repository is a project of rebar3. That it builds pynode as well is what scripts/test-rebar tries; here PYNODE names
%% the one to use.
build_by_rebar3(Config) ->
    case rebar_project(Config) of
        {skip, _} = Skip ->
            Skip;
        Project ->
            Beam = filename:join(Project, "_build/default/lib/erlang_python/ebin/py.beam"),
            {0, _} = in_project(Project, "rebar3 compile"),
            ?assert(filelib:is_regular(Beam)),
            {0, _} = in_project(Project, "rebar3 clean"),
            ?assertNot(filelib:is_regular(Beam))
    end.

%% A copy: what is built here stays as it is.
rebar_project(Config) ->
    Project = filename:join(?config(priv_dir, Config), "project"),
    case os:find_executable("rebar3") of
        false -> {skip, "rebar3 is not installed"};
        _ ->
            {0, ""} = sh("mkdir -p " ++ Project ++ "/scripts " ++ Project ++ "/erlang_client/priv && cp -a rebar.config src priv examples "
                         ++ Project ++ " && cp scripts/rebar-hook " ++ Project ++ "/scripts && cp -a erlang_client/src "
                         ++ Project ++ "/erlang_client"),
            Project
    end.

in_project(Project, Line) ->
    sh("cd " ++ Project ++ " && HOME=" ++ Project ++ " REBAR_OFFLINE=1 " ++ Line).

%% What it would do: a hook of rebar3 calls make, which heeds PYTHON_CONFIG. The matrix of .ci/run does it, for every Python.
build_for_a_python(Config) ->
    PythonConfig = python(Config) ++ "-config",
    true = filelib:is_regular(PythonConfig),
    {0, Commands} = sh("env -u MAKEFLAGS -u MAKELEVEL -u SANITIZER PYTHON_CONFIG=" ++ PythonConfig ++ " make -n"),
    {0, Version} = sh(python(Config) ++ " -c 'import sysconfig as s; print(s.get_config_var(\"LDVERSION\"))'"),
    Library = "-lpython" ++ string:trim(Version),
    [?assertNotEqual({Part, nomatch}, {Part, string:find(Commands, Part)}) || Part <- [Library, "cnode/main.c"]],
    {ok, Hook} = file:read_file(filename:join(pyn_ct:root(), "scripts/rebar-hook")),
    ?assertNotEqual(nomatch, string:find(Hook, "make --no-print-directory pynode")).

%% Every flag of the page's table is one of the commands'. The one that breaks nan and inf has to be asked for by its name.
performance_build(_Config) ->
    {ok, Text} = file:read_file(page()),
    {match, Flags} = re:run(Text, "^\\| `(-[a-zA-Z0-9=-]+)` \\|", [global, multiline, {capture, [1], list}]),
    ?assertEqual(5, length(Flags)),
    {0, Commands} = sh("env -u MAKEFLAGS -u MAKELEVEL -u SANITIZER make -n PERF_BUILD=1 FAST_MATH=1 pynode"),
    [?assertNotEqual({Flag, nomatch}, {Flag, string:find(Commands, " " ++ Flag)}) || [Flag] <- Flags],
    {0, Plain} = sh("env -u MAKEFLAGS -u MAKELEVEL -u SANITIZER make -n PERF_BUILD=1 pynode"),
    ?assertEqual(nomatch, string:find(Plain, "-ffast-math")),
    ?assertNotEqual(nomatch, string:find(Plain, "-O3")).

%% The lines of the page are typed into the shell that the page starts. A terminal is what rebar3 wants for that.
demo_in_a_shell(Config) ->
    case {rebar_project(Config), os:find_executable("script")} of
        {{skip, _} = Skip, _} -> Skip;
        {_, false} -> {skip, "there is no `script` to make a terminal"};
        {Project, Script} ->
            [Start | Typed] = [Line || {Line, same, _, demo_in_a_shell} <- shell_lines()],
            Output = in_terminal(Project, Script, Start ++ " --sname " ++ pyn_ct:unique("shell"), Typed),
            ct:log("~ts", [Output]),
            [?assertNotEqual({Line, nomatch}, {Line, string:find(Output, Line)})
             || Line <- ["Arithmetic:", "Fibonacci:", "Nesting: 10 levels", "Objects:", "All demos done."]],
            ?assertEqual(nomatch, string:find(Output, "exception"))
    end.

%% Each line is typed at its prompt.
in_terminal(Project, Script, Command, Lines) ->
    Port = open_port({spawn_executable, Script},
                     [{args, ["-qec", Command, "/dev/null"]}, {cd, Project}, exit_status, binary,
                      {env, [{"HOME", Project}, {"REBAR_OFFLINE", "1"}, {"TERM", "dumb"}]}]),
    typed(Port, [string:split(Line, "> ") || Line <- Lines] ++ [["3", "application:stop(erlang_python)."], ["4", "q()."]], <<>>).

typed(Port, [], Output) ->
    receive
        {Port, {data, Data}} -> typed(Port, [], <<Output/binary, Data/binary>>);
        {Port, {exit_status, _}} -> unicode:characters_to_list(Output)
    after 30000 -> error({no_end, Output})
    end;
typed(Port, [[Number, Line] | Rest] = Lines, Output) ->
    case re:run(Output, [$\\, $), Number, "> "], [{capture, none}]) of
        match ->
            true = port_command(Port, [Line, "\n"]),
            typed(Port, Rest, Output);
        nomatch ->
            receive
                {Port, {data, Data}} -> typed(Port, Lines, <<Output/binary, Data/binary>>);
                {Port, {exit_status, Status}} -> error({ended, Status, Output})
            after 60000 -> error({no_prompt, Number, Output})
            end
    end.

%%% Names of the module `erlang` that no other suite uses

python_names(Config) ->
    Node = ?config(node, Config),
    ok = run(Node, "python", "
import erlang

def names(fun, pid, ref):
    assert type(fun) is erlang.Function and type(pid) is erlang.Pid and type(ref) is erlang.Reference
    assert type(erlang.self()) is erlang.Pid, erlang.self()
    assert issubclass(erlang.CoordinatorDown, ConnectionError) and issubclass(erlang.CallbackError, RuntimeError)
    return (fun, pid, ref)
"),
    ok = run(Node, "erlang", "
        Terms = {fun lists:map/2, self(), make_ref()}.
        {ok, Terms} = py:call('__main__', names, tuple_to_list(Terms)).
    ").

%%% Helpers

page() ->
    filename:join([pyn_ct:root(), "docs", "spec", "scalability.md"]).

%% [{Language, First line, Text}].
page_blocks() ->
    {ok, Bytes} = file:read_file(page()),
    cut(string:split(unicode:characters_to_list(Bytes), "\n", all)).

cut([]) -> [];
cut(["```" ++ Language | Rest]) ->
    {Inside, [_ | Behind]} = lists:splitwith(fun(L) -> L =/= "```" end, Rest),
    [{Language, hd(Inside), lists:append([L ++ "\n" || L <- Inside])} | cut(Behind)];
cut([_ | Rest]) -> cut(Rest).

text_of(What) ->
    [Text] = [Text || {{_, _, W}, {_, _, Text}} <- lists:zip(blocks(), page_blocks()), W =:= What],
    Text.

line(Case) ->
    [Line] = [Line || {Line, same, _, C} <- shell_lines(), C =:= Case],
    Line.

%% The interpreter that belongs to the pynode that is tested.
python(Config) ->
    {ok, Path} = peer_call(?config(node, Config), py, eval, [<<"__import__('sys').executable">>]),
    binary_to_list(Path).

load_doctest() ->
    {ok, doctest, Beam} = compile:file(filename:join([pyn_ct:root(), "test", "docs", "doctest"]), [binary, report]),
    {module, doctest} = code:load_binary(doctest, "doctest.erl", Beam),
    persistent_term:put({?MODULE, doctest}, Beam).

%% A node of its own, with a copy of what evaluates blocks.
start_node(Name, Args) ->
    {ok, Peer, _} = peer:start(#{
        name => pyn_ct:unique(Name), connection => standard_io, wait_boot => 60000,
        args => ["-setcookie", pyn_ct:unique("cookie"), "-kernel", "logger_level", "error",
                 "-pa", filename:dirname(code:which(py)), filename:dirname(code:which(?MODULE)) | Args]}),
    {module, doctest} = peer:call(Peer, code, load_binary, [doctest, "doctest.erl", persistent_term:get({?MODULE, doctest})]),
    Peer.

end_node(Peer) ->
    _ = (catch peer:call(Peer, application, stop, [erlang_python], 20000)),
    _ = (catch peer:stop(Peer)),
    ok.

peer_call(Peer, M, F, Args) ->
    peer:call(Peer, M, F, Args, 60000).

run(Peer, Language, Text) ->
    case peer_call(Peer, doctest, run_in_node, [list_to_atom(Language), 1, Text, "/tmp"]) of
        {failed, Why} -> {failed, lists:flatten(Why)};
        Result -> Result
    end.

%% In the top folder: {Exit code, Output}.
sh(Command) ->
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Command]}, {cd, pyn_ct:root()}, exit_status, stderr_to_stdout, binary]),
    output(Port, []).

output(Port, Parts) ->
    receive
        {Port, {data, Part}} -> output(Port, [Parts, Part]);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(iolist_to_binary(Parts))}
    end.
