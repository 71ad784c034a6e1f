%% The command that starts a pynode: where the program is, its arguments, its environment.
-module(py_command).

-export([find/1]).
-export([local_name/1]).
-export([arguments/4]).
-export([environment/0]).
-export([write_preload/1]).
-export([exit_reason/2]).

%% The configured one, else the one of the environment variable PYNODE, else the one that was built with this
%% application, else the one in the path.
-spec find(py_config:config()) -> {ok, file:filename()} | {error, string()}.
find(#{pynode := Path}) ->
    {ok, Path};
find(_) ->
    case os:getenv("PYNODE") of
        Path when is_list(Path), Path =/= "" -> regular(Path);
        _ -> built_or_installed()
    end.

regular(Path) ->
    case filelib:is_regular(Path) of
        true -> {ok, filename:absname(Path)};
        false -> {error, lists:flatten(io_lib:format("PYNODE is ~ts, but there is no such file", [Path]))}
    end.

built_or_installed() ->
    Built = filename:join(priv_dir(), "pynode"),
    case {filelib:is_regular(Built), os:find_executable("pynode")} of
        {true, _} -> {ok, Built};
        {false, Installed} when is_list(Installed) -> {ok, Installed};
        {false, false} ->
            {error, lists:flatten(io_lib:format(
                "there is no program `pynode`: not at ~ts, not in the path; "
                "build it with `make`, or say where it is by {pynode, Path} or the variable PYNODE", [Built]))}
    end.

priv_dir() ->
    case code:priv_dir(erlang_python) of
        Dir when is_list(Dir) -> Dir;
        {error, bad_name} -> filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv")
    end.

%% The name of the N-th pynode that this node starts. This node's own name is unique on the host, and a pynode of an
%% earlier node of that name may still be busy to end: so the process id, too.
-spec local_name(pos_integer()) -> node().
local_name(N) ->
    [Alive, Host] = string:split(atom_to_list(node()), "@"),
    Pid = os:getpid(),
    Own = case "py_" ++ Pid of
        Alive -> Pid;
        _ -> string:slice(Alive, 0, 100) ++ "_" ++ Pid
    end,
    list_to_atom(lists:append(["pynode_", Own, number(N), "@", Host])).

number(1) -> "";
number(N) -> "_" ++ integer_to_list(N).

%% Preload is a file of Python code, or `none`. The arguments of the configuration come last and win.
-spec arguments(node(), file:filename() | none, file:filename(), py_config:config()) -> [string()].
arguments(Node, Preload, Program, Config) ->
    lists:append([
        [name_option(), atom_to_list(Node)],
        ["--coordinator", lists:flatten(lists:join($,, [atom_to_list(C) || C <- py_config:coordinators(Config)]))],
        ["--parent-pipe"],
        option("--mode", maps:get(execution_mode, Config, none)),
        option("--workers", workers(Program, Config)),
        option("--async-workers", maps:get(num_async_workers, Config, none)),
        option("--venv", maps:get(venv, Config, none)),
        option("--preload", Preload),
        option("--log-level", maps:get(log_level, Config, none)),
        option("--epmd-port", epmd_port()),
        option("--bind", bind_address()),
        ["--drain-timeout", integer_to_list(drain_timeout(Config))],
        maps:get(pynode_args, Config)
    ]).

%% The mode has to be known only when the configuration gives the modes different numbers of workers. It is in what the
%% program says of its version; if it is not, the number for all modes is taken.
workers(Program, Config) ->
    case py_config:worker_counts(Config) of
        [Workers] -> Workers;
        _ -> probed_workers(py_os:output(Program, ["--version"]), Config)
    end.

probed_workers({ok, Output}, Config) ->
    case re:run(Output, "free_threaded|subinterp|multi_executor", [{capture, first, list}]) of
        {match, [Mode]} -> py_config:workers(list_to_existing_atom(Mode), Config);
        nomatch -> maps:get(num_workers, Config, default)
    end;
probed_workers({error, _}, Config) ->
    maps:get(num_workers, Config, default).

name_option() ->
    case net_kernel:longnames() of
        true -> "--name";
        _ -> "--sname"
    end.

option(_, none) -> [];
option(_, default) -> [];
option(Name, Value) when is_atom(Value) -> [Name, atom_to_list(Value)];
option(Name, Value) when is_integer(Value) -> [Name, integer_to_list(Value)];
option(Name, Value) -> [Name, Value].

epmd_port() ->
    case os:getenv("ERL_EPMD_PORT") of
        Port when is_list(Port), Port =/= "" -> Port;
        _ -> none
    end.

%% A node that listens on one interface only wants its C-node to do the same.
bind_address() ->
    case application:get_env(kernel, inet_dist_use_interface) of
        {ok, Address} when is_tuple(Address) -> inet:ntoa(Address);
        _ -> none
    end.

%% It is killed when stop_timeout is over, so it should be through before.
drain_timeout(#{stop_timeout := Timeout}) ->
    max(1, Timeout - Timeout div 5).

%% The cookie is not among the arguments, which every user of the host can read.
-spec environment() -> [{string(), string()}].
environment() ->
    [{"PYNODE_COOKIE", atom_to_list(erlang:get_cookie())}].

%% Writes the code that is to run in every interpreter, if there is any, to a file of this user. It has to stay as long
%% as the C-node may start interpreters.
-spec write_preload(py_config:config()) -> {ok, file:filename() | none} | {error, string()}.
write_preload(#{imports := Imports} = Config) ->
    case {imports(Imports), maps:get(preload, Config, <<>>)} of
        {[], <<>>} -> {ok, none};
        {Line, Code} -> write_private(preload_path(), unicode:characters_to_binary([Line, Code]))
    end.

imports([]) -> [];
imports(Modules) ->
    Names = lists:join(", ", [["'", Module, "'"] || Module <- Modules]),
    ["__import__('_pynode_imports').load(globals(), [", Names, "])\n"].

%% By chance: in a container process ids and numbers of the VM come again, and a file of one that was killed is left.
preload_path() ->
    Dir = case os:getenv("TMPDIR") of false -> "/tmp"; Tmp -> Tmp end,
    filename:join(Dir, lists:concat(["py_preload_", os:getpid(), "_", rand:uniform(1 bsl 64), ".py"])).

%% Nobody else may have put a file there, and nobody else may change it.
write_private(Path, Code) ->
    case file:open(Path, [write, exclusive, raw, binary]) of
        {ok, File} -> written(write_and_close(File, Path, Code), Path);
        {error, _} = Error -> written(Error, Path)
    end.

write_and_close(File, Path, Code) ->
    Results = [file:change_mode(Path, 8#600), file:write(File, Code), file:close(File)],
    case [Error || {error, _} = Error <- Results] of
        [] -> ok;
        [Error | _] -> _ = file:delete(Path), Error
    end.

written(ok, Path) ->
    {ok, Path};
written({error, Why}, Path) ->
    {error, lists:flatten(io_lib:format(
        "the file for `imports` and `preload`, ~ts, cannot be written: ~ts", [Path, file:format_error(Why)]))}.

%% What the exit codes mean. Python code may end the process by any code: of one that was ready, those that say why
%% a pynode does not start are such.
-spec exit_reason(py_os:exit(), WasReady :: boolean()) -> string().
exit_reason(unknown, _) -> "ended";
exit_reason({signal, N}, _) -> "was killed by signal " ++ integer_to_list(N);
exit_reason({exit_status, N}, true) when N =/= 0, N =/= 1, N =/= 6, N =/= 7 ->
    "exited with code " ++ integer_to_list(N);
exit_reason({exit_status, N}, _) ->
    lists:flatten(["exited with code ", integer_to_list(N), " (", meaning(N), ")"]).

meaning(0) -> "stopped as asked";
meaning(1) -> "failed";
meaning(2) -> "wrong option or configuration";
meaning(3) -> "the name is in use";
meaning(4) -> "epmd cannot be reached";
meaning(5) -> "Python would not start";
meaning(6) -> "too many stuck workers";
meaning(7) -> "calls were still running at the drain deadline";
meaning(126) -> "not executable";
meaning(127) -> "not found";
meaning(_) -> "unknown".
