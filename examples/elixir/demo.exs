# Python from Elixir: calls and values, definitions, errors, callbacks, shared state, many calls at once.
#
#     $ make
#     $ elixir -pa erlang_client/_build/default/lib/erlang_python/ebin examples/elixir/demo.exs
#
# Every line with a = is also a check: the script ends with an error when a value is another one.

defmodule Text do
  @moduledoc "What a module of an application that uses Python may look like."

  @python """
  import collections

  def words(text, *, least=1):
      counted = collections.Counter(text.lower().split())
      return {word: n for word, n in counted.items() if n >= least}
  """

  # exec_all: in every interpreter of every node, so that any process may call it.
  def start, do: :py.exec_all(@python)

  @doc "Options are keyword arguments of Python: a keyword list becomes the map that :py.call wants."
  def words(text, options \\ []) when is_binary(text) do
    with {:error, {class, message}} <- :py.call(:__main__, :words, [text], Map.new(options)) do
      {:error, "#{class}: #{message}"}
    end
  end
end

defmodule Point do
  defstruct [:x, :y]
end

{:ok, _} = Application.ensure_all_started(:erlang_python)

# Names are atoms, strings or charlists; functions may be dotted.
{:ok, 4.0} = :py.call(:math, :sqrt, [16])
{:ok, "a/b"} = :py.call("os.path", "join", ["a", "b"])
{:ok, 256} = :py.call('builtins', 'int.from_bytes', [{:bytes, <<1, 0>>}, "big"])

# Elixir's strings are Python's str, with all of Unicode; other binaries are bytes.
{:ok, "GRÜSSE, ŻÓŁW"} = :py.eval("text.upper()", %{text: "grüße, żółw"})
{:ok, "bytes"} = :py.eval("type(b).__name__", %{b: <<255, 254>>})

# nil, true and false; None comes back as :none.
{:ok, [true, false, :none]} = :py.eval("[yes is True, no is True, nothing]", %{yes: true, no: false, nothing: nil})
{:ok, true} = :py.eval("nothing is None", %{nothing: nil})

# Maps with atom keys are dicts with str keys, which come back as strings.
{:ok, %{"name" => "Ada", "langs" => ["ex", "py"], "born" => 1815}} =
  :py.call(:builtins, :dict, [%{name: "Ada", langs: ["ex", "py"]}], %{born: 1815})

# A charlist is a list of numbers, here as in Python.
{:ok, [104, 105]} = :py.call(:builtins, :list, ['hi'])
{:ok, "hi"} = :py.call(:builtins, :str, [to_string('hi')])

# A struct is a map: without its name it is what Python code wants.
{:ok, 7} = :py.eval("p['x'] + p['y']", %{p: Map.from_struct(struct!(Point, x: 3, y: 4))})
{:ok, "Elixir.Point"} = :py.eval("p['__struct__']", %{p: struct!(Point, x: 3, y: 4)})

# Tuples, large integers, keyword lists.
{:ok, {1, "two", 3.0}} = :py.eval("t", %{t: {1, "two", 3.0}})
{:ok, n} = :py.eval("2 ** 200")
^n = Integer.pow(2, 200)
{:ok, [3, 2, 1]} = :py.call(:builtins, :sorted, [[1, 3, 2]], Map.new(reverse: true))
{:ok, [{"a", 1}, {"b", 2}]} = :py.eval("options", %{options: [a: 1, b: 2]})
IO.puts("values: as expected")

# Pids and references go to Python and come back.
ref = make_ref()
{:ok, {^ref, pid}} = :py.eval("(r, p)", %{r: ref, p: self()})
true = pid == self()

# Definitions, and errors as they look in Elixir: the message of an exception is a charlist.
:ok = Text.start()
{:ok, %{"the" => 2, "cat" => 1}} = Text.words("The cat the")
{:ok, %{"the" => 2}} = Text.words("The cat the", least: 2)
{:error, "TypeError: " <> _} = Text.words("The cat the", most: 2)
{:error, {:ZeroDivisionError, 'division by zero'}} = :py.eval("1 / 0")
{:error, :timeout} = :py.call(:time, :sleep, [0.5], %{}, 50)
{:error, {:ZeroDivisionError, _, traceback}} = :py.eval("1 / 0", %{}, %{traceback: true})
true = String.starts_with?(traceback, "Traceback")
IO.puts("definitions and errors: as expected")

# Python calls Elixir: a function gets the list of its arguments.
:ok = :py.register_function(:titled, fn [name, titles] -> Enum.join(titles ++ [name], " ") end)
{:ok, "Dr. h. c. Ada"} = :py.eval("__import__('erlang').titled('Ada', ['Dr.', 'h. c.'])")
:ok = :py.register_function(:slug, String, :upcase)
{:error, {:CallbackError, _}} = :py.eval("__import__('erlang').slug('x')")
:ok = :py.register_function(:fails, fn _ -> raise ArgumentError, "not like this" end)
{:error, {:CallbackError, message}} = :py.eval("__import__('erlang').fails()")
true = String.contains?(to_string(message), "not like this")
IO.puts("callbacks: as expected")

# State that everybody shares.
:ok = :py.state_store("config", %{limit: 20})
{:ok, %{"limit" => 20}} = :py.eval("__import__('erlang').state_get('config')")
1 = :py.state_incr("requests")
{:ok, 2} = :py.eval("__import__('erlang').state_incr('requests')")
{:error, :not_found} = :py.state_fetch(:nothing)

# Calls that are awaited later, and many at once.
refs = for i <- 1..20, do: :py.call_async(:math, :sqrt, [i * i])
values = for r <- refs, {:ok, v} <- [:py.await(r)], do: v
^values = Enum.map(1..20, &(&1 * 1.0))
task = Task.async(fn -> :py.call(:builtins, :sum, [Enum.to_list(1..100)]) end)
{:ok, 5050} = Task.await(task)
{:ok, [{:ok, 2.0}, {:error, {:ValueError, _}}, {:ok, 3.0}]} =
  :py.parallel([{:math, :sqrt, [4]}, {:math, :sqrt, [-1]}, {:math, :sqrt, [9]}])
ref = :py.call_async(:builtins, :len, ["abc"])
receive do
  {:py_response, ^ref, {:ok, 3}} -> :ok
after
  5_000 -> raise "no answer"
end
IO.puts("many calls: as expected")

# From a node with none of our code: by GenServer.
[node] = Map.keys(:py.info())
{:ok, 4.0} = GenServer.call({:py, node}, {:call, :math, :sqrt, [16]})

:ok = Application.stop(:erlang_python)
IO.puts("All demos done.")
