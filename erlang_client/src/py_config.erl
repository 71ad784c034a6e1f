%% The application environment, read once at start and checked: every key by one line of a table. A value that is
%% wrong gives a sentence that names the key, the value and what it should be.
%%
%% How many workers a pynode starts depends on its mode: num_executors counts in multi_executor mode,
%% num_subinterp_workers in subinterp mode, and num_workers in free_threaded mode and wherever the mode's own key is not
%% given. When none of them is given, pynode decides. num_async_workers says how many of them have event loops for
%% coroutines, whatever the mode.
-module(py_config).

-export([load/0]).
-export([check/1]).
-export([workers/2]).
-export([worker_counts/1]).
-export([coordinators/1]).
-export([is_replica/1]).
-export([known_keys/0]).

-export_type([config/0]).

-type config() :: #{atom() => term()}.

-spec load() -> {ok, config()} | {error, string()}.
load() ->
    check(application:get_all_env(erlang_python)).

%% For the check that the documentation has them all.
-spec known_keys() -> [atom()].
known_keys() ->
    [Key || {Key, _} <- keys()].

%% Keys that were not given are not in the result, except where there is a default. `undefined` is as if the key was
%% not given: the usual way to unset what another configuration file sets.
-spec check([{atom(), term()}]) -> {ok, config()} | {error, string()}.
check(Env) ->
    Given = [Pair || {_, Value} = Pair <- Env, Value =/= undefined],
    {Known, Unknown} = lists:partition(fun({Key, _}) -> lists:keymember(Key, 1, keys()) end, Given),
    ok = warn_unknown([Key || {Key, _} <- Unknown, Key =/= included_applications]),
    case check_each(Known, defaults()) of
        {ok, Config} -> check_coordinators(Config);
        {error, _} = Error -> Error
    end.

%% The number of workers in that mode; `default` leaves it to pynode.
-spec workers(py:mode(), config()) -> pos_integer() | default.
workers(Mode, Config) ->
    Own = case Mode of
        multi_executor -> num_executors;
        subinterp -> num_subinterp_workers;
        free_threaded -> num_workers
    end,
    maps:get(Own, Config, maps:get(num_workers, Config, default)).

%% What the number could be while the mode is not known.
-spec worker_counts(config()) -> [pos_integer() | default, ...].
worker_counts(#{execution_mode := Mode} = Config) ->
    [workers(Mode, Config)];
worker_counts(Config) ->
    lists:usort([workers(Mode, Config) || Mode <- modes()]).

%% The coordinators of this node, the one to be preferred first. Known only when the node has its name.
-spec coordinators(config()) -> [node(), ...].
coordinators(#{coordinators := Nodes}) -> Nodes;
coordinators(#{coordinator := Node}) -> [Node];
coordinators(_) -> [node()].

%% Whether this node holds a copy of the replicated state.
-spec is_replica(config()) -> boolean().
is_replica(#{state_replication := true} = Config) -> lists:member(node(), coordinators(Config));
is_replica(_) -> false.

modes() ->
    [free_threaded, subinterp, multi_executor].

defaults() ->
    #{
        max_callbacks => 10000,
        max_concurrent => erlang:system_info(schedulers) * 2 + 1,
        nodes => [local],
        imports => [],
        pynode_args => [],
        start_timeout => 30000,
        stop_timeout => 5000
    }.

keys() ->
    [
        {max_concurrent, fun positive/1},
        {num_executors, fun workers_number/1},
        {num_workers, fun workers_number/1},
        {num_async_workers, fun workers_number/1},
        {num_subinterp_workers, fun workers_number/1},
        {coordinator, fun node_name/1},
        {coordinators, fun node_names/1},
        {state_replication, fun boolean/1},
        {max_callbacks, fun positive/1},
        {state_max, fun positive/1},
        {nodes, fun nodes/1},
        {pools, fun pools/1},
        {execution_mode, fun mode/1},
        {python, fun python/1},
        {venv, fun venv/1},
        {imports, fun imports/1},
        {preload, fun code/1},
        {pynode, fun program/1},
        {pynode_args, fun arguments/1},
        {log_level, fun log_level/1},
        {start_timeout, fun positive/1},
        {stop_timeout, fun positive/1}
    ].

check_each([], Config) ->
    {ok, Config};
check_each([{Key, Value} | Rest], Config) ->
    {Key, Check} = lists:keyfind(Key, 1, keys()),
    case Check(Value) of
        {ok, Checked} -> check_each(Rest, Config#{Key => Checked});
        {error, Why} -> {error, sentence(Key, Value, Why)}
    end.

sentence(Key, Value, Why) ->
    lists:flatten(io_lib:format("erlang_python: ~s is ~tp, but it ~ts", [Key, Value, Why])).

%% Not in the domain [python]: the handler `default` shows that one only when py_logger runs, and it does not yet.
warn_unknown([]) ->
    ok;
warn_unknown(Keys) ->
    logger:warning("erlang_python: unknown configuration: ~tp", [Keys]).

%% One function for each kind of value.

positive(N) when is_integer(N), N > 0, N =< 16#ffffffff -> {ok, N};
positive(_) -> {error, "must be a positive integer"}.

%% As many as pynode takes.
workers_number(N) when is_integer(N), N > 0, N =< 256 -> {ok, N};
workers_number(_) -> {error, "must be an integer from 1 to 256"}.

node_name(Node) when is_atom(Node) ->
    case string:split(atom_to_list(Node), "@", all) of
        [[_ | _], [_ | _]] -> {ok, Node};
        _ -> {error, "must be a node name such as 'name@host'"}
    end;
node_name(_) ->
    {error, "must be a node name such as 'name@host'"}.

%% As many as pynode takes (PYN_COORDINATORS_MAX).
node_names([_ | _] = Nodes) when length(Nodes) =< 16 ->
    case [Node || Node <- Nodes, node_name(Node) =/= {ok, Node}] of
        [] ->
            case length(Nodes) =:= length(lists:usort(Nodes)) of
                true -> {ok, Nodes};
                false -> {error, "names a node twice"}
            end;
        [Bad | _] -> {error, io_lib:format("must be a list of node names, not ~tp", [Bad])}
    end;
node_names(_) ->
    {error, "must be a list of 1 to 16 node names such as 'name@host'"}.

boolean(Value) when is_boolean(Value) -> {ok, Value};
boolean(_) -> {error, "must be true or false"}.

nodes(Nodes) when is_list(Nodes), length(Nodes) >= 0 ->
    Names = [Node || Node <- Nodes, Node =/= local],
    case [Node || Node <- Names, node_name(Node) =/= {ok, Node}] of
        [] ->
            case length(Names) =:= length(lists:usort(Names)) of
                true -> {ok, Nodes};
                false -> {error, "names a node twice"}
            end;
        [Bad | _] -> {error, io_lib:format("must be a list of node names and `local`, not ~tp", [Bad])}
    end;
nodes(_) ->
    {error, "must be a list of node names and `local`"}.

pools(Pools) when is_list(Pools), length(Pools) >= 0 ->
    try maps:from_list(Pools) of
        Map when map_size(Map) =:= length(Pools) -> pools(Map);
        _ -> {error, "names a pool twice"}
    catch
        error:badarg -> {error, "must be a map from names of pools to lists of nodes"}
    end;
pools(#{} = Pools) ->
    case [Pair || Pair <- maps:to_list(Pools), not is_pool(Pair)] of
        [] -> filled(Pools);
        [Bad | _] -> {error, io_lib:format("must be a map from names of pools to lists of nodes, but has ~tp", [Bad])}
    end;
pools(_) ->
    {error, "must be a map from names of pools to lists of nodes"}.

%% One without a node could not be called.
filled(Pools) ->
    case [Name || {Name, []} <- maps:to_list(Pools)] of
        [] -> {ok, Pools};
        [Name | _] -> {error, io_lib:format("must have a node in each pool, but has none in ~tp", [Name])}
    end.

is_pool({Name, Members}) when is_atom(Name), is_list(Members), length(Members) >= 0 ->
    lists:all(fun(Node) -> Node =:= local orelse node_name(Node) =:= {ok, Node} end, Members);
is_pool(_) ->
    false.

mode(Mode) ->
    case lists:member(Mode, modes()) of
        true -> {ok, Mode};
        false -> {error, "must be one of free_threaded, subinterp, multi_executor"}
    end.

log_level(Level) ->
    case lists:member(Level, [debug, info, notice, warning, error, off]) of
        true -> {ok, Level};
        false -> {error, "must be one of debug, info, notice, warning, error, off"}
    end.

venv(Value) ->
    case path(Value) of
        {ok, Dir} -> venv_dir(Dir, "must be the directory of a virtual environment: there is no pyvenv.cfg in it");
        Error -> Error
    end.

%% pynode is linked to one Python, so only the environment of an interpreter can be chosen.
python(Value) ->
    case path(Value) of
        {ok, Program} ->
            venv_dir(
                filename:dirname(filename:dirname(Program)),
                "must be the bin/python of a virtual environment. The Python itself is chosen when pynode is "
                "built: PYTHON_CONFIG=/path/to/python3-config make"
            );
        Error ->
            Error
    end.

venv_dir(Dir, Why) ->
    case filelib:is_regular(filename:join(Dir, "pyvenv.cfg")) of
        true -> {ok, filename:absname(Dir)};
        false -> {error, Why}
    end.

program(Value) ->
    case path(Value) of
        {ok, Path} ->
            case filelib:is_regular(Path) of
                true -> {ok, filename:absname(Path)};
                false -> {error, "must be the path of the program: there is no such file"}
            end;
        Error ->
            Error
    end.

path(Value) ->
    case text(Value) of
        {ok, Text} when Text =/= "" -> {ok, Text};
        _ -> {error, "must be a path, as a string or binary"}
    end.

code(Value) ->
    case text(Value) of
        {ok, Text} ->
            case lists:member(0, Text) of
                false -> {ok, unicode:characters_to_binary(Text)};
                true -> {error, "must be Python code, which has no null characters"}
            end;
        error ->
            {error, "must be Python code, as a string or binary"}
    end.

arguments(Values) when is_list(Values), length(Values) >= 0 ->
    Texts = [text(Value) || Value <- Values],
    case lists:member(error, Texts) of
        false -> {ok, [Text || {ok, Text} <- Texts]};
        true -> {error, "must be a list of strings or binaries"}
    end;
arguments(_) ->
    {error, "must be a list of strings or binaries"}.

%% They become code, so nothing but a dotted name passes.
imports(Values) when is_list(Values), length(Values) >= 0 ->
    case [Value || Value <- Values, not is_module(Value)] of
        [] -> {ok, [element(2, text(Value)) || Value <- Values]};
        [Bad | _] -> {error, io_lib:format("must be a list of module names, not ~tp", [Bad])}
    end;
imports(_) ->
    {error, "must be a list of module names"}.

is_module(Value) ->
    case text(Value) of
        {ok, Text} ->
            Name = "[\\p{L}_][\\p{L}\\p{N}_]*",
            match =:= re:run(Text, ["^", Name, "(\\.", Name, ")*\\z"], [unicode, {capture, none}]);
        error ->
            false
    end.

text(Value) when is_atom(Value) ->
    {ok, atom_to_list(Value)};
text(Value) when is_binary(Value); is_list(Value) ->
    try unicode:characters_to_list(Value) of
        Text when is_list(Text) -> {ok, Text};
        _ -> error
    catch
        error:badarg -> error
    end;
text(_) ->
    error.

%% What contradicts itself.
check_coordinators(#{coordinator := Node, coordinators := Nodes}) when [Node] =/= Nodes ->
    {error, lists:flatten(io_lib:format("erlang_python: coordinator is ~tp, but coordinators is ~tp", [Node, Nodes]))};
check_coordinators(#{state_replication := true} = Config) when not is_map_key(coordinators, Config) ->
    {error, "erlang_python: state_replication is true, but coordinators does not name the nodes to replicate to"};
check_coordinators(Config) ->
    check_pools(Config).

%% Nodes that nobody connects to could not be called.
check_pools(#{nodes := Nodes, pools := Pools} = Config) ->
    case [{Pool, Node} || {Pool, Members} <- maps:to_list(Pools), Node <- Members, not lists:member(Node, Nodes)] of
        [] -> merge_python(Config);
        [{Pool, Node} | _] -> {error, lists:flatten(io_lib:format(
            "erlang_python: pools has ~tp in ~tp, which is not in nodes", [Node, Pool]))}
    end;
check_pools(Config) ->
    merge_python(Config).

%% `python` is another way to say `venv`.
merge_python(#{python := Dir, venv := Venv}) when Dir =/= Venv ->
    {error, lists:flatten(io_lib:format(
        "erlang_python: python belongs to the environment ~ts, but venv is ~ts", [Dir, Venv]))};
merge_python(#{python := Dir} = Config) ->
    {ok, (maps:remove(python, Config))#{venv => Dir}};
merge_python(Config) ->
    {ok, Config}.
