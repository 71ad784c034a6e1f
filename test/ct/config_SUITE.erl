%% The configuration, by real sys.config files and nodes that start with them: every key with values that do what the
%% manual says, and with values that stop the application with a sentence.
-module(config_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([manual_names_all/1, unknown_key/1, numbers/1, workers_by_mode/1, specification/1, modes/1, places/1, code_at_start/1,
         programs/1, coordinator/1, limits/1, bad_values/1, bad_for_pynode/1, bad_together/1, unset/1]).
%% A handler of logger.
-export([log/2]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [manual_names_all, unknown_key, numbers, workers_by_mode, specification, modes, places, code_at_start, programs, coordinator,
     limits, bad_values, bad_for_pynode, bad_together, unset].

%% A name of a node must not be taken for one of another run.
init_per_suite(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    {ok, Mode} = started([{nodes, [local]}], Dir, fun() -> {ok, py:execution_mode()} end),
    [{dir, Dir}, {mode, Mode} | Config].

end_per_suite(_Config) ->
    app_ct:stop().

%%% The manual

%% The table of docs/operations.md has exactly the keys that there are.
manual_names_all(_Config) ->
    {ok, Text} = file:read_file(filename:join([pyn_ct:root(), "docs", "operations.md"])),
    [_, Section] = string:split(Text, "\n## Configuration of the application\n"),
    [Part | _] = string:split(Section, "\n## "),
    Rows = [First || <<"| `", _/binary>> = Line <- binary:split(Part, <<"\n">>, [global]),
                     [_, First | _] <- [binary:split(Line, <<"|">>, [global])]],
    {match, Names} = re:run(Rows, "`([a-z_]+)`", [global, {capture, all_but_first, list}]),
    Documented = lists:sort([list_to_atom(Name) || [Name] <- Names]),
    ?assertEqual(lists:sort(py_config:known_keys()), Documented).

%% Every key is in some case of this suite with a bad value.
bad() ->
    NotPositive = [0, -1, 1.5, many, "5", 16#100000000],
    NotWorkers = [0, -1, 257, 2.0, many],
    NotNode = [nohost, 'a@', '@b', 'a@b@c', "a@b", 17],
    NotPath = ["", <<>>, 17, [x], "/no/such/place"],
    [{max_concurrent, NotPositive}, {num_executors, NotWorkers}, {num_workers, NotWorkers},
     {num_async_workers, NotWorkers}, {num_subinterp_workers, NotWorkers}, {coordinator, NotNode},
     {coordinators, [[], node@x, [nohost], ['a@b', 'a@b'], ['a@b' | x],
                     [list_to_atom(lists:concat([n, I, "@h"])) || I <- lists:seq(1, 17)]]},
     {state_replication, [yes, 1]}, {max_callbacks, NotPositive}, {state_max, NotPositive},
     {nodes, [local, [nohost], ["a@b"], ['a@b', 'a@b'], [local | x], #{}]},
     {pools, [gpu, [gpu], [{gpu, x}], #{gpu => nohost}, #{gpu => [nohost]}, #{"gpu" => [local]}, [{a, [local]}, {a, [local]}],
             [{a, [local]} | b], #{gpu => []}, [{all, [local]}, {gpu, []}]]},
     {execution_mode, [fast, "subinterp", 1, auto]}, {python, ["/usr/bin/python3" | NotPath]}, {venv, ["/usr" | NotPath]},
     {imports, [json, "json", [1], ["a b"], ["os; import sys"], ["a."], [""], ["1a"], [json | x], [[json]], ["a\n"]]},
     {preload, [1, [x], #{}, <<255>>, "a = 1\0"]}, {pynode, ["/usr" | NotPath]},
     {pynode_args, ["--workers", [1], ["--path" | "x"], #{}]}, {log_level, [loud, "info", 3]},
     {start_timeout, NotPositive}, {stop_timeout, [infinity | NotPositive]}].

%% By files, as everything here; one node tries all of them, one after the other.
bad_values(Config) ->
    ?assertEqual(lists:sort(py_config:known_keys()), lists:sort([Key || {Key, _} <- bad()])),
    Files = [{Key, Value, config_file(Config, [{Key, Value}])} || {Key, Values} <- bad(), Value <- Values],
    %% One for each key with a node that has the file from its start.
    Firsts = [lists:keyfind(Key, 1, Files) || {Key, _} <- bad()],
    in_parallel(fun({Key, Value, File}) -> refused(Key, Value, with_file(File, fun start/0)) end, Firsts),
    Rest = Files -- Firsts,
    Results = with_file(none, fun() -> [{Key, Value, start_with(File)} || {Key, Value, File} <- Rest] end),
    [refused(Key, Value, Result) || {Key, Value, Result} <- Results].

refused(Key, Value, Result) ->
    {Key, Value, {error, {erlang_python, {{bad_configuration, Sentence}, _}}}} = {Key, Value, Result},
    ?assertEqual({Key, Value, match}, {Key, Value, re:run(Sentence, ["^erlang_python: ", atom_to_list(Key), " is "], [{capture, none}])}),
    ?assertEqual({Key, Value, match},
                 {Key, Value, re:run(Sentence, " but (it (must|names)|there is)", [unicode, {capture, none}])}).

%% What only pynode can know stops the application as well, in its words.
bad_for_pynode(Config) ->
    Impossible = case proplists:get_value(mode, Config) of free_threaded -> subinterp; _ -> free_threaded end,
    Script = filename:join(proplists:get_value(dir, Config), "no_pynode"),
    ok = file:write_file(Script, "#!/bin/sh\necho sorry, not today >&2\nexit 9\n"),
    ok = file:change_mode(Script, 8#755),
    in_parallel(fun({Env, Pattern}) ->
        {Env, {error, {erlang_python, {Why, _}}}} = {Env, started(Env, proplists:get_value(dir, Config), fun() -> ok end)},
        Text = io_lib:format("~0tp", [Why]),
        ?assertEqual({Env, match}, {Env, re:run(Text, Pattern, [{capture, none}])})
    end, [
        {[{execution_mode, Impossible}], "mode " ++ atom_to_list(Impossible) ++ " is not possible with Python 3"},
        {[{preload, "def f(:\n"}], "SyntaxError"},
        {[{preload, "1 / 0\n"}], "ZeroDivisionError"},
        {[{imports, [json, no_such_module]}], "no_such_module, which `imports` names, cannot be imported: ModuleNotFoundError"},
        {[{pynode_args, ["--no-such-option"]}], "no-such-option"},
        {[{pynode_args, ["--workers", "many"]}], "workers: .*many.* is not a whole number"},
        {[{pynode, "/etc/passwd"}], "/etc/passwd cannot be started"},
        {[{pynode, Script}], "exited with code 9.*sorry, not today"},
        {[{start_timeout, 1}], "not ready in time"}
    ]).

bad_together(Config) ->
    Dir = proplists:get_value(dir, Config),
    Venvs = [begin
        Venv = filename:join(Dir, Name),
        ok = filelib:ensure_dir(filename:join(Venv, "bin/x")),
        ok = file:write_file(filename:join(Venv, "pyvenv.cfg"), ""),
        Venv
    end || Name <- ["venv_a", "venv_b"]],
    [{error, {erlang_python, {{bad_configuration, Sentence}, _}}} = started(Env, Dir, fun() -> ok end)
     || {Env, Sentence} <- [
         {[{venv, hd(Venvs)}, {python, filename:join(lists:last(Venvs), "bin/python")}],
          lists:concat(["erlang_python: python belongs to the environment ", lists:last(Venvs), ", but venv is ", hd(Venvs)])},
         {[{coordinator, 'a@b'}, {coordinators, ['a@b', 'c@d']}],
          "erlang_python: coordinator is a@b, but coordinators is [a@b,c@d]"},
         {[{state_replication, true}],
          "erlang_python: state_replication is true, but coordinators does not name the nodes to replicate to"},
         {[{pools, #{gpu => ['nowhere@x']}}], "erlang_python: pools has nowhere@x in gpu, which is not in nodes"}]].

%% A key that nobody knows is said, and the application starts.
unknown_key(Config) ->
    ok = started([{max_concurent, 5}, {nodes, []}], proplists:get_value(dir, Config), fun() ->
        Max = erlang:system_info(schedulers) * 2 + 1,
        Max = py_semaphore:max_concurrent(),
        ok
    end),
    with_file(config_file(Config, [{max_concurent, 5}, {nodes, []}]), fun() ->
        ok = in_place_of_default(),
        {ok, _} = start(),
        receive
            {logged, warning, Text} -> ?assertMatch({match, _}, re:run(Text, "unknown configuration.*max_concurent"))
        after 10000 -> error(not_shown)
        end
    end).

%% This module gets what the handler `default` of a node would show.
in_place_of_default() ->
    {ok, Default} = logger:get_handler_config(default),
    ok = logger:remove_handler(default),
    ok = logger:add_handler(default, ?MODULE, (maps:with([filters, filter_default], Default))#{config => #{to => self()}}),
    logger:set_primary_config(level, notice).

%% `undefined` is as if the key was not there.
unset(Config) ->
    ok = started([{Key, undefined} || Key <- py_config:known_keys()], proplists:get_value(dir, Config), fun() ->
        {ok, 4.0} = py:call(math, sqrt, [16]),
        4 = py:num_executors(),
        ok
    end).

%%% What the keys do

numbers(Config) ->
    ok = started([{max_concurrent, 7}, {nodes, []}, {start_timeout, 10000}], proplists:get_value(dir, Config), fun() ->
        7 = py_semaphore:max_concurrent(),
        {error, no_nodes} = py:call(math, sqrt, [16]),
        ok
    end),
    ok = started([{max_concurrent, 1}], proplists:get_value(dir, Config), fun() ->
        Self = self(),
        ok = py:register_function(config_suite, fun(_) -> Self ! {holds, self()}, receive go -> ok end end),
        Ref = py:call_async(erlang, call, [config_suite]),
        Holder = receive {holds, Pid} -> Pid end,
        {error, {overloaded, 1, 1}} = py:call(math, sqrt, [16], #{}, 100),
        Holder ! go,
        {ok, <<"ok">>} = py:await(Ref),
        ok
    end).

%% Each mode has a number of its own; num_workers is the one for all.
workers_by_mode(Config) ->
    Mode = proplists:get_value(mode, Config),
    Env = [{num_workers, 2}, {num_executors, 3}, {num_subinterp_workers, 5}, {num_async_workers, 7}],
    Expected = case Mode of multi_executor -> 3; subinterp -> 5; free_threaded -> 2 end,
    ok = started(Env, proplists:get_value(dir, Config), fun() -> Expected = py:num_executors(), ok end),
    ok = started([{num_workers, 2}], proplists:get_value(dir, Config), fun() -> 2 = py:num_executors(), ok end).

%% The file of the specification, as it stands there.
specification(Config) ->
    {ok, Page} = file:read_file(filename:join([pyn_ct:root(), "docs", "spec", "scalability.md"])),
    {match, [Text]} = re:run(Page, "%% sys\\.config\n(.*?)```", [dotall, {capture, all_but_first, binary}]),
    File = filename:join(proplists:get_value(dir, Config), "specification.config"),
    ok = file:write_file(File, Text),
    Expected = case proplists:get_value(mode, Config) of multi_executor -> 8; _ -> 4 end,
    ok = with_file(File, fun() ->
        {ok, _} = start(),
        50 = py_semaphore:max_concurrent(),
        Expected = py:num_executors(),
        {ok, 4.0} = py:call(math, sqrt, [16]),
        ok
    end).

modes(Config) ->
    ok = started([{execution_mode, multi_executor}, {num_executors, 2}], proplists:get_value(dir, Config), fun() ->
        multi_executor = py:execution_mode(),
        2 = py:num_executors(),
        {ok, 4.0} = py:call(math, sqrt, [16]),
        ok
    end),
    Mode = proplists:get_value(mode, Config),
    ok = started([{execution_mode, Mode}], proplists:get_value(dir, Config), fun() -> Mode = py:execution_mode(), ok end).

%% nodes, pools, log_level, pynode_args.
places(Config) ->
    Other = pyn_ct:start(["--workers", "1"]),
    Far = pyn_ct:node_of(Other),
    Env = [{nodes, [local, Far, local]}, {pools, #{far => [Far], near => [local]}}, {log_level, debug}, {num_workers, 1},
           {pynode_args, ["--path", <<"/a/path">>, "--max-queue", "77"]}],
    ok = started(Env, proplists:get_value(dir, Config), fun() ->
        ok = app_ct:await_all(),
        Infos = py:info(),
        3 = map_size(Infos),
        #{Far := #{status := up}} = Infos,
        [77, 77] = [maps:get(max_queue, I) || {Node, I} <- maps:to_list(Infos), Node =/= Far],
        FarName = atom_to_binary(Far),
        {ok, FarName} = py:call(erlang, node, [], #{}, #{pool => far}),
        {ok, Near} = py:call(erlang, node, [], #{}, #{pool => near}),
        true = Near =/= FarName,
        {ok, true} = py:eval(<<"'/a/path' in __import__('sys').path">>, #{}, #{node => binary_to_atom(Near)}),
        ok
    end),
    ok = pyn_ct:end_clean(Other).

%% imports, preload, venv, python: in every interpreter.
code_at_start(Config) ->
    Dir = proplists:get_value(dir, Config),
    Env = [{imports, [json, "xml.etree.ElementTree", <<"os.path">>]}, {num_workers, 2},
           {preload, <<"import collections\ndef twice(x):\n    return json.dumps([x, x])\nLIMIT = 10\n">>}],
    ok = started(Env, Dir, fun() ->
        Everywhere = fun(Module, Function, Args) ->
            {ok, Results} = py_everywhere:call(Module, Function, Args, #{}, #{}),
            lists:usort([R || {_, _, R} <- Results])
        end,
        [{ok, <<"[1, 1]">>}] = Everywhere('__main__', twice, [1]),
        [{ok, <<"{}">>}] = Everywhere('__main__', 'json.dumps', [#{}]),
        [{ok, <<"a">>}] = Everywhere('__main__', 'os.path.basename', [<<"/b/a">>]),
        [{ok, true}] = Everywhere(sys, 'modules.__contains__', [<<"xml.etree.ElementTree">>]),
        [{ok, 10} = py:eval(<<"LIMIT">>) || _ <- [1, 2, 3]],
        ok
    end),
    Venv = filename:join(Dir, "venv"),
    {ok, Python} = started([], Dir, fun() -> py:eval(<<"__import__('sys')._base_executable">>) end),
    "" = os:cmd(binary_to_list(Python) ++ " -I -m venv --without-pip " ++ Venv),
    Path = list_to_binary(Venv),
    [ok = started([Pair], Dir, fun() -> {ok, #{<<"venv_path">> := Path}} = py:venv_info(), ok end)
     || Pair <- [{venv, Path}, {python, filename:join(Venv, "bin/python")}]],
    %% One that sub-interpreters refuse is there in the main one, where calls to it go. readline is such a one.
    ok = started([{imports, [readline]}], Dir, fun() ->
        {ok, 0} = py:call(readline, get_current_history_length, []),
        ok
    end).

%% pynode, stop_timeout.
programs(Config) ->
    Dir = proplists:get_value(dir, Config),
    Script = filename:join(Dir, "my pynode"),
    ok = file:write_file(Script, ["#!/bin/sh\nPYN_CONFIG_SUITE=yes exec '", pyn_ct:program(), "' \"$@\"\n"]),
    ok = file:change_mode(Script, 8#755),
    ok = started([{pynode, Script}, {stop_timeout, 300}], Dir, fun() ->
        {ok, <<"yes">>} = py:eval(<<"__import__('os').environ['PYN_CONFIG_SUITE']">>),
        %% It does not end by itself in that time, and is not waited for.
        ok = py:cast(time, sleep, [20]),
        pyn_ct:wait_until(fun() -> [I] = maps:values(py:info()), maps:get(busy, I) =:= 1 end),
        {Took, ok} = timer:tc(fun() -> application:stop(erlang_python) end),
        {true, Took} = {Took < 15000000, Took},
        ok
    end).

%% The state is on the coordinator, whichever of the two is asked.
coordinator(Config) ->
    ok = app_ct:start([{nodes, []}]),
    Here = node(),
    ok = py:state_store(config_suite, here),
    ok = started([{coordinator, Here}, {num_workers, 1}], proplists:get_value(dir, Config), fun() ->
        ok = app_ct:await_all(),
        {ok, here} = py:state_fetch(config_suite),
        %% Its pynode connects to the coordinator by itself.
        pyn_ct:wait_until(fun() -> py:exec(<<"import erlang; erlang.state_set('from_python', 1)">>) =:= ok end),
        ok
    end),
    {ok, 1} = py:state_fetch(<<"from_python">>),
    app_ct:stop(),
    ok = started([{coordinators, [Here]}, {nodes, []}], proplists:get_value(dir, Config), fun() ->
        {error, coordinator_down} = py:state_fetch(config_suite),
        ok
    end).

%% max_callbacks, state_max, coordinators with state_replication.
limits(Config) ->
    ok = started([{max_callbacks, 1}, {state_max, 2}, {num_workers, 2}], proplists:get_value(dir, Config), fun() ->
        [ok, ok, {error, state_full}] = [py:state_store(K, 1) || K <- [a, b, c]],
        ok = py:state_store(a, 2),
        %% The second waits for the first.
        Running = counters:new(2, []),
        ok = py:register_function(config_suite, fun(_) ->
            ok = counters:add(Running, 1, 1),
            Now = counters:get(Running, 1),
            Now > counters:get(Running, 2) andalso counters:put(Running, 2, Now),
            timer:sleep(50),
            ok = counters:sub(Running, 1, 1),
            ok
        end),
        {Took, _} = timer:tc(fun() ->
            Refs = [py:call_async(erlang, call, [config_suite]) || _ <- [1, 2, 3, 4]],
            [{ok, <<"ok">>} = py:await(R) || R <- Refs]
        end),
        %% Where nothing moves for a second, the next one begins all the same.
        {true, _} = {counters:get(Running, 2) =:= 1 orelse Took >= 1000000, Took},
        ok
    end).

%%% Helpers

%% What the fun gives on a node of its own that was started with such a sys.config and the application, or why the
%% application did not start.
started(Env, Dir, Fun) ->
    with_file(config_file([{dir, Dir}], Env), fun() ->
        case start() of
            {ok, _} -> Fun();
            {error, _} = Error -> Error
        end
    end).

config_file(Config, Env) ->
    File = filename:join(proplists:get_value(dir, Config), pyn_ct:unique("sys") ++ ".config"),
    ok = file:write_file(File, io_lib:format("~tp.~n", [[{erlang_python, Env}]]), [{encoding, utf8}]),
    File.

with_file(File, Fun) ->
    {ok, Peer, _} = peer:start(#{
        name => pyn_ct:unique("config"), connection => standard_io, wait_boot => 60000,
        args => lists:append([
            ["-setcookie", atom_to_list(erlang:get_cookie()), "-connect_all", "false", "-kernel", "logger_level", "none",
             "-pa", filename:dirname(code:which(py)), filename:dirname(code:which(?MODULE))],
            [Arg || File =/= none, Arg <- ["-config", File]]])
    }),
    try peer:call(Peer, erlang, apply, [Fun, []], 60000)
    after
        _ = (catch peer:call(Peer, application, stop, [erlang_python], 10000)),
        peer:stop(Peer)
    end.

start() ->
    application:ensure_all_started(erlang_python).

%% As `erl -config` does it, on a node that runs.
start_with(File) ->
    {ok, [[{erlang_python, Env}]]} = file:consult(File),
    ok = application:set_env([{erlang_python, Env}]),
    try start()
    after
        _ = application:stop(erlang_python),
        _ = application:unload(erlang_python)
    end.

log(#{level := Level, msg := {Format, Args}}, #{config := #{to := To}}) when is_list(Format) ->
    To ! {logged, Level, unicode:characters_to_binary(io_lib:format(Format, Args))},
    ok;
log(_, _) ->
    ok.

%% A few at a time.
in_parallel(Fun, Items) ->
    Run = fun(Item) -> spawn_monitor(fun() -> Fun(Item) end) end,
    in_parallel(Run, lists:sublist(Items, 4), lists:nthtail(min(4, length(Items)), Items)).

in_parallel(_, [], []) ->
    ok;
in_parallel(Run, Begun, Rest) ->
    Pids = [Run(Item) || Item <- Begun],
    [receive
         {'DOWN', Monitor, process, Pid, normal} -> ok;
         {'DOWN', Monitor, process, Pid, Why} -> error(Why)
     end || {Pid, Monitor} <- Pids],
    in_parallel(Run, lists:sublist(Rest, 4), lists:nthtail(min(4, length(Rest)), Rest)).
