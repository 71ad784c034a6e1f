%% Virtual environments: entered and left by every interpreter, made and filled by ensure_venv. Packages are wheels that
%% the suite makes itself; nothing is downloaded.
-module(venv_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([bad_path/1, other_python/1, bad_ensure/1, everywhere/1, pth_files/1, one_after_the_other/1, system_site_packages/1,
         changes_meanwhile/1, given_at_start/1, later_interpreters/1, later_nodes/1, many_callers/1, from_callback/1, no_node/1]).
-export([ensure_installs/1, ensure_again/1, ensure_file/1, ensure_fails/1, ensure_unfinished/1, ensure_at_once/1,
         ensure_timeout/1, ensure_caller_dies/1, ensure_uv/1, ensure_from_elsewhere/1]).
%% A handler of logger.
-export([log/2]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [bad_path, other_python, bad_ensure, everywhere, pth_files, one_after_the_other, system_site_packages, changes_meanwhile,
     many_callers, from_callback, later_interpreters, later_nodes,
     ensure_installs, ensure_again, ensure_file, ensure_fails, ensure_unfinished, ensure_at_once, ensure_timeout,
     ensure_caller_dies, ensure_uv, ensure_from_elsewhere, given_at_start, no_node].

%% The one environment with pip is made by ensure_venv itself: it is what takes time.
init_per_suite(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    ok = app_ct:start(app_ct:workers(2)),
    {ok, Python} = py:eval(<<"__import__('sys')._base_executable">>),
    {ok, Before} = py:venv_info(),
    false = maps:get(<<"active">>, Before),
    Made = filename:join(Dir, "made"),
    ok = py:ensure_venv(Made, []),
    ok = py:deactivate_venv(),
    [wheel(Dir, Version) || Version <- ["1.0", "2.0"]],
    [{python, binary_to_list(Python)}, {sys_path, maps:get(<<"sys_path">>, Before)}, {made, Made}, {wheels, Dir} | Config].

end_per_suite(_Config) ->
    app_ct:stop().

init_per_testcase(_Case, Config) ->
    Config.

%% Each begins without an environment, with the sys.path that there was at the start.
end_per_testcase(Case, _) when Case =:= given_at_start; Case =:= no_node ->
    ok;
end_per_testcase(_Case, Config) ->
    _ = logger:remove_handler(?MODULE),
    _ = logger:set_primary_config(level, notice),
    ok = py:deactivate_venv(),
    Path = proplists:get_value(sys_path, Config),
    case [I || I <- infos(), I =/= #{<<"active">> => false, <<"venv_path">> => none, <<"site_packages">> => none,
                                     <<"sys_path">> => Path}] of
        [] -> ok;
        Left -> {fail, {not_left, Left}}
    end.

%%% What is asked for wrongly

bad_path(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Empty = folder(Config, "empty"),
    NoPackages = folder(Config, "no_packages"),
    ok = file:write_file(filename:join(NoPackages, "pyvenv.cfg"), "home = /usr/bin\n"),
    File = filename:join(Dir, "a_file"),
    ok = file:write_file(File, "text"),
    [?assertEqual({error, {invalid_venv, Path}}, py:activate_venv(Path))
     || Path <- [filename:join(Dir, "nothing_here"), Empty, list_to_binary(Empty), NoPackages, File, filename:join(File, "x"),
                 "", <<>>, 1, none, [none], [[]], {bytes, <<"x">>}, <<"a\0b">>, <<255, 254>>, "/", [16#110000]]],
    ?assertMatch({ok, #{<<"active">> := false}}, py:venv_info()).

other_python(Config) ->
    Venv = venv(Config, "of_another", []),
    Cfg = filename:join(Venv, "pyvenv.cfg"),
    {ok, Text} = file:read_file(Cfg),
    ok = file:write_file(Cfg, re:replace(Text, "version = .*", "version = 2.7.18")),
    {error, {incompatible_venv, Venv, Why}} = py:activate_venv(Venv),
    ?assertMatch({match, _}, re:run(Why, "was made by Python 2\\.7, but this node has Python 3\\.")),
    ok = file:write_file(Cfg, re:replace(Text, "version = .*", "version_info = 3.1.4.final.0")),
    {error, {incompatible_venv, Venv, _}} = py:activate_venv(Venv),
    %% The same version, but with or without a lock.
    ok = file:write_file(Cfg, "home = /usr/bin\n"),
    [Lib] = filelib:wildcard(filename:join(Venv, "lib/python3*")),
    Other = case lists:last(Lib) of $t -> lists:droplast(Lib); _ -> Lib ++ "t" end,
    ok = file:rename(Lib, Other),
    {error, {incompatible_venv, Venv, How}} = py:activate_venv(Venv),
    ?assertMatch({match, _}, re:run(How, ["was made for ", filename:basename(Other), ", but this node has ",
                                         filename:basename(Lib), "$"])),
    {error, {incompatible_venv, Venv, How}} = py:ensure_venv(Venv, []).

bad_ensure(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    New = filename:join(Dir, "never_made"),
    File = filename:join(Dir, "b_file"),
    ok = file:write_file(File, "text"),
    Foreign = folder(Config, "foreign"),
    ok = file:write_file(filename:join(Foreign, "precious"), "text"),
    [?assertEqual({error, {invalid_venv, Path}}, py:ensure_venv(Path, [])) || Path <- ["", 7, File, Foreign]],
    [?assertEqual({error, {not_text, Bad}}, py:ensure_venv(New, What))
     || {What, Bad} <- [{[<<"six">>, 1], 1}, {[six], six}, {[<<"six">> | <<"x">>], <<"x">>}, {six, six}, {<<>>, <<>>},
                        {[<<>>], <<>>}, {[""], ""}, {{list, []}, {list, []}}]],
    [?assertEqual({error, {bad_requirement, Bad}}, py:ensure_venv(New, [<<"six">>, Bad]))
     || Bad <- [<<"-r x">>, "--index-url=http://x", "-"]],
    [?assertEqual({error, {bad_option, Bad}}, py:ensure_venv(New, [], Options))
     || {Options, Bad} <- [{fast, fast}, {[], []}, {#{speed => 1}, {speed, 1}}, {#{timeout => -1}, {timeout, -1}},
                           {#{timeout => soon}, {timeout, soon}}, {#{installer => conda}, {installer, conda}},
                           {#{force => 1}, {force, 1}}, {#{args => <<"x">>}, {args, <<"x">>}}]],
    {error, {not_text, x}} = py:ensure_venv(New, [], #{args => ["--no-index", x]}),
    {error, {ensure_venv_failed, NoFile}} = py:ensure_venv(New, filename:join(Dir, "no_requirements.txt")),
    ?assertMatch({match, _}, re:run(NoFile, "No such file.*no_requirements.txt")),
    {error, {ensure_venv_failed, Below}} = py:ensure_venv(filename:join(File, "venv"), []),
    ?assertMatch({match, _}, re:run(Below, "Not a directory|File exists")),
    {error, {ensure_venv_failed, _}} = py:ensure_venv("/proc/venv", []),
    ?assertNot(filelib:is_file(New)),
    ?assertEqual({ok, <<"text">>}, file:read_file(filename:join(Foreign, "precious"))).

%%% Entering and leaving

everywhere(Config) ->
    Venv = venv(Config, "plain", [{"plain_package.py", "where = 'plain'\n"}]),
    {error, {'ModuleNotFoundError', _}} = py:call(plain_package, upper, []),
    ok = py:activate_venv(Venv),
    Infos = infos(),
    [Info] = lists:usort(Infos),
    {ok, Info} = py:venv_info(),
    Packages = list_to_binary(packages(Venv)),
    #{<<"active">> := true, <<"site_packages">> := Packages, <<"sys_path">> := Path} = Info,
    ?assertEqual(list_to_binary(Venv), maps:get(<<"venv_path">>, Info)),
    ?assert(lists:member(Packages, Path)),
    %% Behind the standard library, which it cannot hide.
    [Std] = [I || {I, P} <- indexed(Path), filename:basename(P) =:= <<"lib-dynload">>],
    [At] = [I || {I, P} <- indexed(Path), P =:= Packages],
    ?assert(At > Std),
    [{ok, <<"PLAIN">>} = py:call(plain_package, 'where.upper', []) || _ <- lists:seq(1, 20)],
    [ok = py:exec(<<"import plain_package; assert plain_package.where == 'plain'">>) || _ <- lists:seq(1, 5)],
    Sys = [<<"prefix">>, <<"exec_prefix">>, <<"executable">>],
    Bin = list_to_binary(filename:join(Venv, "bin/python")),
    ?assertEqual({ok, [list_to_binary(Venv), list_to_binary(Venv), Bin]},
                 py:eval(<<"[getattr(__import__('sys'), n) for n in names]">>, #{names => Sys})),
    %% A program that Python code starts is in it, too.
    ?assertEqual({ok, <<"plain\n">>},
                 py:eval(<<"__import__('subprocess').run([__import__('sys').executable, '-c', "
                           "'import plain_package; print(plain_package.where)'], capture_output=True).stdout">>)),
    ok = py:activate_venv(Venv),
    [Info] = lists:usort(infos()),
    ok = py:deactivate_venv(),
    ok = py:deactivate_venv().

pth_files(Config) ->
    Extra = folder(Config, "extra"),
    ok = file:write_file(filename:join(Extra, "from_pth.py"), "value = 41\n"),
    Venv = venv(Config, "with_pth", [
        {"a.pth", ["# a comment\n", Extra, "\n/no/such/folder\n"]},
        {"b.pth", "import _with_pth; _with_pth.install()\n"},
        {"c.pth", "import sys; this is no Python\n"},
        {"_with_pth.py", "import sys, importlib.util\n"
                         "class Finder:\n"
                         "    def find_spec(name, path=None, target=None):\n"
                         "        if name == 'from_finder':\n"
                         "            return importlib.util.spec_from_loader(name, Finder)\n"
                         "    def create_module(spec): return None\n"
                         "    def exec_module(module): module.value = 42\n"
                         "def install():\n"
                         "    sys.meta_path.append(Finder)\n"}]),
    Finders = fun() -> py_everywhere:call(sys, 'meta_path.__len__', [], #{}, #{}) end,
    {ok, [_ | _] = Before} = Finders(),
    ok = py:activate_venv(Venv),
    ?assertEqual({ok, [{N, I, {ok, Count + 1}} || {N, I, {ok, Count}} <- Before]}, Finders()),
    [{ok, 41} = py:eval(<<"__import__('from_pth').value">>) || _ <- lists:seq(1, 5)],
    {ok, 42} = py:eval(<<"__import__('from_finder').value">>),
    {ok, #{<<"sys_path">> := Path}} = py:venv_info(),
    ?assert(lists:member(list_to_binary(Extra), Path)),
    ?assertNot(lists:member(<<"/no/such/folder">>, Path)),
    ok = py:deactivate_venv(),
    ?assertEqual({ok, Before}, Finders()).

one_after_the_other(Config) ->
    A = venv(Config, "first", [{"only_in_first.py", ""}]),
    B = venv(Config, "second", [{"only_in_second.py", ""}]),
    ok = py:activate_venv(A),
    ok = py:activate_venv(list_to_binary(B)),
    [{ok, _} = py:call(builtins, '__import__', [only_in_second]) || _ <- lists:seq(1, 5)],
    {error, {'ModuleNotFoundError', _}} = py:call(builtins, '__import__', [only_in_first]),
    %% What fails changes nothing.
    {error, {invalid_venv, "/nowhere"}} = py:activate_venv("/nowhere"),
    BPath = list_to_binary(B),
    [?assertMatch(#{<<"venv_path">> := BPath}, Info) || Info <- infos()],
    ok = py:deactivate_venv(),
    {error, {'ModuleNotFoundError', _}} = py:call(builtins, '__import__', [only_in_third]).

%% Packages of the Python itself are hidden, unless the environment says otherwise.
system_site_packages(Config) ->
    Before = proplists:get_value(sys_path, Config),
    {ok, Sites} = py:eval(<<"[p for p in __import__('site').getsitepackages() if p in __import__('sys').path]">>),
    Venv = venv(Config, "closed", []),
    ok = py:activate_venv(Venv),
    {ok, #{<<"sys_path">> := Closed}} = py:venv_info(),
    ?assertEqual([P || P <- Before, not lists:member(P, Sites)], Closed -- [list_to_binary(packages(Venv))]),
    ok = file:write_file(filename:join(Venv, "pyvenv.cfg"), "home = /usr/bin\ninclude-system-site-packages = True\n"),
    ok = py:activate_venv(Venv),
    {ok, #{<<"sys_path">> := Open}} = py:venv_info(),
    ?assertEqual(Before, Open -- [list_to_binary(packages(Venv))]),
    [First | _] = [P || P <- Open, lists:member(P, [list_to_binary(packages(Venv)) | Sites])],
    ?assertEqual(list_to_binary(packages(Venv)), First).

%% What Python code has done to sys.path meanwhile stays.
changes_meanwhile(Config) ->
    Venv = venv(Config, "changed", []),
    ok = py:activate_venv(Venv),
    Run = fun(Code) -> {ok, Results} = py_everywhere:exec(Code, #{}), ok = py_everywhere:first_error(Results) end,
    Run(<<"import sys; sys.path.insert(0, '/added/first'); sys.path.append('/added/last')">>),
    ok = py:deactivate_venv(),
    Path = proplists:get_value(sys_path, Config),
    [?assertEqual([<<"/added/first">>] ++ Path ++ [<<"/added/last">>], maps:get(<<"sys_path">>, I)) || I <- infos()],
    ok = py:activate_venv(Venv),
    Run(<<"import sys; sys.path.remove('/added/first'); sys.path.remove('/added/last')">>).

%% Whatever the order in which they come, all interpreters have the same one in the end.
many_callers(Config) ->
    Venvs = [venv(Config, "of_many_" ++ [C], []) || C <- "abc"],
    Callers = [spawn_monitor(fun() ->
                   [ok = py:activate_venv(V) || V <- Venvs],
                   ok = py:deactivate_venv(),
                   ok = py:activate_venv(lists:nth(1 + N rem 3, Venvs))
               end) || N <- lists:seq(1, 6)],
    [receive {'DOWN', M, process, P, Why} -> ?assertEqual(normal, Why) end || {P, M} <- Callers],
    [#{<<"active">> := true}] = lists:usort(infos()).

%% By an Erlang function that Python waits for, on the only worker there may be.
from_callback(Config) ->
    Venv = venv(Config, "of_callback", [{"callback_package.py", "value = 5\n"}]),
    ok = py:register_function(venv_suite, fun([Path]) -> py:activate_venv(Path) end),
    {ok, <<"ok">>} = py:eval(<<"__import__('erlang').call('venv_suite', path)">>, #{path => list_to_binary(Venv)}),
    ok = py:unregister_function(venv_suite),
    [#{<<"active">> := true}] = lists:usort(infos()),
    {ok, 5} = py:eval(<<"__import__('callback_package').value">>).

later_interpreters(Config) ->
    Venv = venv(Config, "for_later", [{"later_package.py", "value = 1\n"}]),
    ok = py:activate_venv(Venv),
    %% In the place of a stuck worker there comes another one.
    Free = app_ct:stick(),
    Node = app_ct:pynode(),
    pyn_ct:wait_until(fun() -> maps:get(stuck_total, maps:get(Node, py:info())) > 0 end),
    [#{<<"active">> := true}] = lists:usort(infos()),
    [{ok, 1} = py:eval(<<"__import__('later_package').value">>) || _ <- lists:seq(1, 10)],
    Free(),
    pyn_ct:wait_until(fun() -> maps:get(stuck, maps:get(Node, py:info())) =:= 0 end).

%% A C-node that has died and comes back, and one that had it active when it was left.
later_nodes(Config) ->
    Venv = venv(Config, "for_later_nodes", []),
    ok = py:activate_venv(Venv),
    kill_node(),
    pyn_ct:wait_until(fun() -> case py:venv_info() of {ok, I} -> {true, I}; _ -> false end end),
    [#{<<"active">> := true}] = lists:usort(infos()),
    ok = py:deactivate_venv(),
    kill_node(),
    {true, #{<<"active">> := Active}} =
        pyn_ct:wait_until(fun() -> case py:venv_info() of {ok, I} -> {true, I}; _ -> false end end),
    ?assertNot(Active).

kill_node() ->
    Node = app_ct:pynode(),
    #{Node := #{os_pid := OsPid}} = py:info(),
    _ = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    pyn_ct:wait_until(fun() ->
        case py:info() of #{Node := #{os_pid := Other}} when Other =/= OsPid -> true; _ -> false end
    end).

%% The environment of the configuration is where leaving leads back to.
given_at_start(Config) ->
    A = venv(Config, "at_start", [{"only_at_start.py", ""}]),
    B = venv(Config, "instead", [{"only_instead.py", ""}]),
    Start = list_to_binary(A),
    ok = app_ct:start([{venv, A} | app_ct:workers(2)]),
    [#{<<"active">> := true, <<"venv_path">> := Start, <<"sys_path">> := Path} = Before] = lists:usort(infos()),
    Packages = list_to_binary(packages(A)),
    ?assertEqual(Packages, maps:get(<<"site_packages">>, Before)),
    {ok, _} = py:call(builtins, '__import__', [only_at_start]),
    ok = py:deactivate_venv(),
    [Before] = lists:usort(infos()),
    ok = py:activate_venv(B),
    [#{<<"sys_path">> := Other}] = lists:usort(infos()),
    ?assertNot(lists:member(Packages, Other)),
    ?assertEqual(length(Path), length(Other)),
    [{ok, _} = py:call(builtins, '__import__', [only_instead]) || _ <- lists:seq(1, 5)],
    ok = py:deactivate_venv(),
    [Before] = lists:usort(infos()),
    app_ct:stop().

no_node(_Config) ->
    ok = app_ct:start([{nodes, []}]),
    {error, no_nodes} = py:activate_venv("/tmp"),
    {error, no_nodes} = py:deactivate_venv(),
    {error, no_nodes} = py:venv_info(),
    {error, no_nodes} = py:ensure_venv("/tmp/x", []),
    app_ct:stop().

%%% Making one

ensure_installs(Config) ->
    Made = made(Config),
    listen(),
    ok = py:ensure_venv(Made, [wheel_of(Config, "1.0")], offline()),
    [{ok, <<"1.0">>} = py:eval(<<"__import__('pyn_wheel').version">>) || _ <- lists:seq(1, 5)],
    [#{<<"active">> := true}] = lists:usort(infos()),
    Lines = said(),
    ?assertMatch([_ | _], [L || {info, L} <- Lines, re:run(L, "Successfully installed pyn-wheel-1.0") =/= nomatch]),
    ?assertMatch([_ | _], [L || {info, L} <- Lines, re:run(L, "^" ++ Made ++ ": \\$ .*bin/python .*pip install") =/= nomatch]),
    %% The tool in it works as well, by itself.
    ?assertMatch({match, _}, re:run(os:cmd(filename:join(Made, "bin/python") ++ " -m pip list 2>/dev/null"), "pyn.wheel +1.0")).

%% Nothing is started when nothing has to be done.
ensure_again(Config) ->
    Made = made(Config),
    ok = py:ensure_venv(Made, [wheel_of(Config, "1.0")], offline()),
    listen(),
    ok = py:ensure_venv(list_to_binary(Made), [list_to_binary(wheel_of(Config, "1.0"))], offline()),
    ?assertEqual([], said()),
    [#{<<"active">> := true}] = lists:usort(infos()),
    %% Another version, and the earlier one again.
    [begin
         ok = py:ensure_venv(Made, [wheel_of(Config, V)], offline()),
         ?assertEqual(V, installed(Made))
     end || V <- ["2.0", "1.0"]],
    said(),
    ok = py:ensure_venv(Made, [wheel_of(Config, "1.0")], (offline())#{force => true}),
    ?assertMatch([_ | _], said()),
    %% A wheel of the same name that was made anew.
    {ok, _} = file:read_file_info(wheel_of(Config, "1.0")),
    ok = file:change_time(wheel_of(Config, "1.0"), {{2001, 2, 3}, {4, 5, 6}}),
    ok = py:ensure_venv(Made, [wheel_of(Config, "1.0")], offline()),
    ?assertMatch([_ | _], said()).

ensure_file(Config) ->
    Made = made(Config),
    Dir = folder(Config, "project"),
    [Top, Nested] = [filename:join(Dir, F) || F <- ["requirements.txt", "nested.txt"]],
    ok = file:write_file(Top, "# what is needed\n-r nested.txt\n"),
    ok = file:write_file(Nested, [wheel_of(Config, "1.0"), "\n"]),
    listen(),
    ok = py:ensure_venv(Made, Top, offline()),
    ?assertEqual("1.0", installed(Made)),
    _ = said(),
    ok = py:ensure_venv(Made, list_to_binary(Top), offline()),
    ?assertEqual([], said()),
    ok = file:write_file(Nested, [wheel_of(Config, "2.0"), "\n"]),
    ok = py:ensure_venv(Made, Top, offline()),
    ?assertEqual("2.0", installed(Made)),
    %% By paths that are relative to the file.
    ok = file:write_file(Top, ["../", filename:basename(wheel_of(Config, "1.0")), "\n"]),
    ok = py:ensure_venv(Made, Top, offline()),
    ?assertEqual("1.0", installed(Made)),
    %% Files that name each other.
    ok = file:write_file(Top, "-r nested.txt\n"),
    ok = file:write_file(Nested, "-r requirements.txt\n"),
    {error, {ensure_venv_failed, Why}} = py:ensure_venv(Made, Top, offline()),
    ?assertMatch({match, _}, re:run(Why, "nested deeper")).

ensure_fails(Config) ->
    Made = made(Config),
    {error, {ensure_venv_failed, Output}} = py:ensure_venv(Made, [<<"pyn-no-such-package">>], offline()),
    ?assertMatch({match, _}, re:run(Output, "No matching distribution found for pyn-no-such-package")),
    %% It is tried again, not taken for done.
    {error, {ensure_venv_failed, _}} = py:ensure_venv(Made, [<<"pyn-no-such-package">>], offline()),
    %% Nothing reaches a shell.
    Mark = filename:join(proplists:get_value(priv_dir, Config), "from_a_shell"),
    {error, {ensure_venv_failed, _}} = py:ensure_venv(Made, ["x; touch " ++ Mark, "$(touch " ++ Mark ++ ")"], offline()),
    ?assertNot(filelib:is_file(Mark)),
    {ok, #{<<"active">> := false}} = py:venv_info().

%% One whose making was cut off is made again; what is in it was not somebody's.
ensure_unfinished(Config) ->
    Dir = folder(Config, "unfinished"),
    ok = file:write_file(filename:join(Dir, ".pynode-unfinished"), ""),
    ok = file:write_file(filename:join(Dir, "pyvenv.cfg"), "half"),
    ok = filelib:ensure_dir(filename:join(Dir, "lib/x/y")),
    with_path(fake_uv(Config), fun() ->
        ok = py:ensure_venv(Dir, [])
    end),
    ?assertNot(filelib:is_file(filename:join(Dir, ".pynode-unfinished"))),
    ?assertNot(filelib:is_file(filename:join(Dir, "lib/x"))),
    [] = filelib:wildcard(Dir ++ ".lock").

%% Of several at once one works, the others wait and find it done.
ensure_at_once(Config) ->
    Made = made(Config),
    ok = py:ensure_venv(Made, [wheel_of(Config, "1.0")], offline()),
    listen(),
    Self = self(),
    Callers = [spawn_monitor(fun() ->
                   ok = py:ensure_venv(Made, [wheel_of(Config, "2.0")], offline()),
                   all_logged([Self])
               end) || _ <- [1, 2, 3]],
    [receive {'DOWN', M, process, P, Why} -> ?assertEqual(normal, Why) end || {P, M} <- Callers],
    ?assertMatch([_], [L || {_, L} <- said(), re:run(L, "Successfully installed") =/= nomatch]),
    ?assertEqual("2.0", installed(Made)),
    [] = filelib:wildcard(Made ++ ".lock").

ensure_timeout(Config) ->
    Made = made(Config),
    {Listen, Args} = silent_index(),
    {error, timeout} = py:ensure_venv(Made, [<<"pyn-anything">>], #{timeout => 3000, args => Args, installer => pip}),
    ended(Args),
    gen_tcp:close(Listen),
    %% The lock went with it.
    ok = py:ensure_venv(Made, [wheel_of(Config, "1.0")], offline()).

ensure_caller_dies(Config) ->
    Made = made(Config),
    {Listen, Args} = silent_index(),
    {Pid, Monitor} = spawn_monitor(fun() -> py:ensure_venv(Made, [<<"pyn-anything">>], #{args => Args, installer => pip}) end),
    {ok, Socket} = gen_tcp:accept(Listen, 60000),
    ?assertNotEqual([], running(Args)),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end,
    ended(Args),
    gen_tcp:close(Socket),
    gen_tcp:close(Listen).

%% uv is taken where it is in the path. This one only notes what it was asked for, and makes what is looked at.
ensure_uv(Config) ->
    Venv = filename:join(proplists:get_value(priv_dir, Config), "by_uv"),
    Python = proplists:get_value(python, Config),
    Uv = fake_uv(Config),
    with_path(Uv, fun() ->
        ok = py:ensure_venv(Venv, [<<"six==1.0">>, <<"a b">>], #{args => [<<"--offline">>]})
    end),
    {ok, Notes} = file:read_file(filename:join(Uv, "notes")),
    ?assertEqual(["venv|--allow-existing|--python|" ++ Python ++ "|" ++ Venv ++ "|",
                  "pip|install|--python|" ++ filename:join(Venv, "bin/python") ++ "|--offline|--|six==1.0|a b|"],
                 string:lexemes(binary_to_list(Notes), "\n")),
    Path = list_to_binary(Venv),
    {ok, #{<<"venv_path">> := Path}} = py:venv_info(),
    {error, {ensure_venv_failed, Why}} = py:ensure_venv(Venv, [<<"x">>], #{installer => uv}),
    ?assertMatch({match, _}, re:run(Why, "no uv in the path")).

%% By a node that has no pynode of its own: the work is done on the C-node's host, the lines come to the caller's node.
ensure_from_elsewhere(Config) ->
    Made = made(Config),
    Peer = app_ct:start_peer([{coordinator, node()}, {nodes, [app_ct:pynode()]}]),
    ok = app_ct:on(Peer, fun app_ct:await_all/0),
    Wheel = wheel_of(Config, "2.0"),
    {Result, Info, Lines} = app_ct:on(Peer, fun() ->
        listen(),
        R = py:ensure_venv(Made, [Wheel], (offline())#{force => true}),
        {R, py:venv_info(), said()}
    end),
    ?assertEqual(ok, Result),
    ?assertMatch({ok, #{<<"active">> := true}}, Info),
    ?assertEqual(Info, py:venv_info()),
    ?assertMatch([_ | _], [L || {info, L} <- Lines, re:run(L, "pip install") =/= nomatch]),
    ok = app_ct:on(Peer, fun() -> py:deactivate_venv() end),
    app_ct:stop_peer(Peer).

%%% Helpers

%% What each interpreter of each C-node says.
infos() ->
    {ok, Results} = py_everywhere:call('_pynode_venv', info, [], #{}, #{}),
    [Info || {_, _, {ok, Info}} <- Results].

indexed(List) ->
    lists:zip(lists:seq(1, length(List)), List).

folder(Config, Name) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    Dir.

made(Config) ->
    proplists:get_value(made, Config).

%% An environment without pip, which is quick to make.
venv(Config, Name, Files) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Name),
    "" = os:cmd(lists:join(" ", [proplists:get_value(python, Config), "-I -m venv --without-pip", Dir])),
    [ok = file:write_file(filename:join(packages(Dir), File), Text) || {File, Text} <- Files],
    Dir.

packages(Venv) ->
    [Dir] = filelib:wildcard(filename:join(Venv, "lib/python3*/site-packages")),
    Dir.

installed(Venv) ->
    [Info] = filelib:wildcard(filename:join(packages(Venv), "pyn_wheel-*.dist-info")),
    {match, [Version]} = re:run(Info, "pyn_wheel-([0-9.]+)\\.dist-info$", [{capture, all_but_first, list}]),
    Version.

%% A package with one module.
wheel(Dir, Version) ->
    Info = "pyn_wheel-" ++ Version ++ ".dist-info/",
    Files = [{"pyn_wheel.py", ["version = '", Version, "'\n"]},
             {Info ++ "METADATA", ["Metadata-Version: 2.1\nName: pyn-wheel\nVersion: ", Version, "\n"]},
             {Info ++ "WHEEL", "Wheel-Version: 1.0\nGenerator: venv_SUITE\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
             {Info ++ "RECORD", ["pyn_wheel.py,,\n", [[Info, F, ",,\n"] || F <- ["METADATA", "WHEEL", "RECORD"]]]}],
    {ok, _} = zip:create(filename:join(Dir, "pyn_wheel-" ++ Version ++ "-py3-none-any.whl"),
                         [{Name, iolist_to_binary(Text)} || {Name, Text} <- Files]),
    ok.

wheel_of(Config, Version) ->
    filename:join(proplists:get_value(wheels, Config), "pyn_wheel-" ++ Version ++ "-py3-none-any.whl").

offline() ->
    #{installer => pip, args => ["--no-index"]}.

%% An index that takes connections and says nothing.
silent_index() ->
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Listen),
    {Listen, ["--index-url", "http://127.0.0.1:" ++ integer_to_list(Port) ++ "/simple"]}.

%% The programs that run with these arguments.
running([_, Url]) ->
    [File || File <- filelib:wildcard("/proc/[0-9]*/cmdline"), {ok, Text} <- [file:read_file(File)],
             string:find(Text, Url) =/= nomatch].

ended(Args) ->
    pyn_ct:wait_until(fun() -> running(Args) =:= [] end).

fake_uv(Config) ->
    Dir = folder(Config, pyn_ct:unique("uv")),
    Script = filename:join(Dir, "uv"),
    ok = file:write_file(Script, ["#!/bin/sh\n"
                                  "printf '%s|' \"$@\" >>'", Dir, "/notes'; echo >>'", Dir, "/notes'\n"
                                  "[ \"$1\" != venv ] || exec \"$4\" -I -m venv --without-pip \"$5\"\n"]),
    ok = file:change_mode(Script, 8#755),
    Dir.

%% With the folder in the path of every interpreter of the C-node.
with_path(Dir, Fun) ->
    Set = fun(Value) ->
        Code = ["import os; os.environ['PATH'] = ", io_lib:format("~p", [Value])],
        {ok, Results} = py_everywhere:exec(unicode:characters_to_binary(Code), #{}),
        ok = py_everywhere:first_error(Results)
    end,
    {ok, Path} = py:eval(<<"__import__('os').environ['PATH']">>),
    Set(Dir ++ ":" ++ binary_to_list(Path)),
    try Fun() after Set(binary_to_list(Path)) end.

%%% What was logged of environments, on this node

listen() ->
    Self = self(),
    ok = logger:set_primary_config(level, info),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => Self}, level => info}).

log(#{level := Level, msg := {Format, Args}, meta := #{py_venv := _}}, #{config := #{to := To}}) when is_list(Format) ->
    To ! {line, Level, unicode:characters_to_binary(io_lib:format(Format, Args))},
    ok;
log(_, _) ->
    ok.

said() ->
    all_logged([]),
    lines().

lines() ->
    receive {line, Level, Line} -> [{Level, Line} | lines()] after 0 -> [] end.

%% The lines come before the result, to a process that watches the caller, as these others do. When it waits for more it
%% has logged what came.
all_logged(Others) ->
    {monitored_by, Watchers} = process_info(self(), monitored_by),
    pyn_ct:wait_until(fun() -> lists:all(fun waits/1, [P || P <- Watchers -- Others, is_pid(P), node(P) =:= node()]) end).

waits(Pid) ->
    case process_info(Pid, [status, message_queue_len, current_function]) of
        [{status, waiting}, {message_queue_len, 0}, {current_function, Function}] -> Function =/= {gen, do_call, 4};
        undefined -> true;
        _ -> false
    end.
