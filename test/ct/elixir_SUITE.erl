%% Elixir: the example script as its head says it is run, and what callers get who give what only Elixir has.
-module(elixir_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 1}}].

all() -> [demo, no_pynode, input, code_and_names].

init_per_suite(Config) ->
    case os:find_executable("elixir") of
        false -> {skip, "Elixir is not installed"};
        Elixir -> [{elixir, Elixir} | Config]
    end.

end_per_suite(_Config) -> ok.

demo(Config) ->
    {Status, Output} = elixir(Config, [demo_script()], []),
    ?assertEqual({0, Output}, {Status, Output}),
    [?assertNotEqual({Line, nomatch}, {Line, string:find(Output, Line)})
     || Line <- ["values: as expected", "definitions and errors: as expected", "callbacks: as expected",
                 "many calls: as expected", "All demos done."]].

%% What goes wrong is an error of the script.
no_pynode(Config) ->
    {Status, Output} = elixir(Config, [demo_script()], [{"PYNODE", "/no/such/pynode"}]),
    ?assertEqual(1, Status),
    ?assertNotEqual(nomatch, string:find(Output, "PYNODE is /no/such/pynode")).

%% A keyword list is no map, a string no list of arguments, nil no code.
input(Config) ->
    run(Config, "
        {:error, :invalid_args} = :py.call(:builtins, :sorted, [[1, 2]], reverse: true)
        {:error, :invalid_args} = :py.call(:math, :sqrt, \"16\")
        {:error, :invalid_args} = :py.call(:math, :sqrt, nil)
        {:error, {:not_text, nil}} = :py.eval(nil)
        {:error, {:not_text, 1}} = :py.call(1, :sqrt, [])
        {:error, {:bad_option, {:timeout, \"5\"}}} = :py.call(:math, :sqrt, [16], %{}, %{timeout: \"5\"})
        {:error, {:bad_option, [timeout: 5]}} = :py.call(:math, :sqrt, [16], %{}, timeout: 5)
        {:error, {:ModuleNotFoundError, _}} = :py.call(nil, :sqrt, [])
        {:error, {:ModuleNotFoundError, _}} = :py.call(Math, :sqrt, [])
        {:ok, :none} = :py.eval(\"x\", %{x: nil})
        {:ok, []} = :py.eval(\"x\", %{x: []})
        {:ok, %{}} = :py.eval(\"x\", %{x: %{}})
        {:ok, [1, 2, 3]} = :py.eval(\"x\", %{x: 1..3 |> Enum.to_list()})
        {:ok, %{\"first\" => 1, \"last\" => 3}} = :py.eval(\"x\", %{x: Map.from_struct(1..3)})
        {:ok, [1, 2]} = :py.eval(\"sorted(x)\", %{x: MapSet.to_list(MapSet.new([2, 1]))})
        {:ok, \"2026-02-03\"} = :py.eval(\"x\", %{x: Date.to_iso8601(~D[2026-02-03])})
    ").

%% Code and names are strings, charlists or, names, atoms.
code_and_names(Config) ->
    run(Config, "
        for code <- [\"1 + 1\", '1 + 1', ~s(1 + 1)], do: {:ok, 2} = :py.eval(code)
        for f <- [:sqrt, \"sqrt\", 'sqrt'], m <- [:math, \"math\", 'math'], do: {:ok, 4.0} = :py.call(m, f, [16])
        :ok = :py.exec(\"\"\"
        def grüße(name):
            return f'grüße, {name}'
        \"\"\")
        {:ok, \"grüße, José\"} = :py.call(:__main__, :grüße, [\"José\"])
        {:ok, \"grüße, José\"} = :py.call(:__main__, 'grüße', [\"José\"])
        :ok = :py.register_function(\"größe\", fn [s] -> String.length(s) end)
        {:ok, 5} = :py.eval(\"__import__('erlang').größe('größe')\")
        {:ok, 5} = :py.eval(\"getattr(__import__('erlang'), name)(name)\", %{name: \"größe\"})
    ").

demo_script() ->
    filename:join([pyn_ct:root(), "examples", "elixir", "demo.exs"]).

%% The text is a script; it has to reach its end.
run(Config, Text) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "script.exs"),
    ok = file:write_file(File, unicode:characters_to_binary(
        ["{:ok, _} = Application.ensure_all_started(:erlang_python)\n", Text, "\nIO.puts(\"reached the end\")\n"])),
    {Status, Output} = elixir(Config, [File], []),
    ct:log("~ts", [Output]),
    ?assertEqual({0, Output}, {Status, Output}),
    ?assertNotEqual(nomatch, string:find(Output, "reached the end")).

elixir(Config, Args, Env) ->
    Ebin = filename:dirname(code:which(py)),
    Port = open_port({spawn_executable, proplists:get_value(elixir, Config)},
                     [{args, ["-pa", Ebin | Args]}, {env, Env ++ [{"LC_ALL", "C.UTF-8"}]}, exit_status, stderr_to_stdout, binary]),
    output(Port, []).

output(Port, Parts) ->
    receive
        {Port, {data, Part}} -> output(Port, [Parts, Part]);
        {Port, {exit_status, Status}} -> {Status, unicode:characters_to_list(iolist_to_binary(Parts))}
    end.
