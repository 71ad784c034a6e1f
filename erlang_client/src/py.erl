%% Python for Erlang: the module that users name.
%%
%% Results are {ok, Value} or {error, Reason}; what each reason means is in docs/. Module and function names are atoms,
%% binaries or strings, code is a binary or a string, times are in milliseconds.
-module(py).

%% Calls.
-export([call/3]).
-export([call/4]).
-export([call/5]).
-export([eval/1]).
-export([eval/2]).
-export([eval/3]).
-export([exec/1]).
-export([exec/2]).
-export([cast/3]).
-export([cast/4]).

%% In every interpreter of every node.
-export([exec_all/1]).
-export([reload/1]).

%% Memory of Python.
-export([memory_stats/0]).
-export([gc/0]).
-export([gc/1]).
-export([tracemalloc_start/0]).
-export([tracemalloc_start/1]).
-export([tracemalloc_stop/0]).

%% Calls that are awaited later.
-export([call_async/3]).
-export([call_async/4]).
-export([await/1]).
-export([await/2]).

%% Coroutines.
-export([async_call/3]).
-export([async_call/4]).
-export([async_await/1]).
-export([async_await/2]).
-export([async_gather/1]).
-export([async_stream/3]).
-export([async_stream/4]).

%% Many calls at once.
-export([parallel/1]).
-export([parallel/2]).

%% A worker of one's own.
-export([bind/0]).
-export([bind/1]).
-export([unbind/0]).
-export([unbind/1]).
-export([is_bound/0]).
-export([with_context/1]).
-export([ctx_call/4]).
-export([ctx_call/5]).
-export([ctx_call/6]).
-export([ctx_eval/2]).
-export([ctx_eval/3]).
-export([ctx_eval/4]).
-export([ctx_exec/2]).
-export([ctx_exec/3]).

%% Streams.
-export([stream/3]).
-export([stream/4]).
-export([stream/5]).
-export([stream_eval/1]).
-export([stream_eval/2]).
-export([stream_eval/3]).
-export([stream_start/3]).
-export([stream_start/4]).
-export([stream_start/5]).
-export([stream_cancel/1]).

%% What is under way.
-export([interrupt/1]).

%% Erlang functions for Python.
-export([register_function/2]).
-export([register_function/3]).
-export([unregister_function/1]).

%% The state that all nodes and all Python workers share.
-export([state_fetch/1]).
-export([state_store/2]).
-export([state_remove/1]).
-export([state_clear/0]).
-export([state_keys/0]).
-export([state_incr/1]).
-export([state_incr/2]).
-export([state_decr/1]).
-export([state_decr/2]).

%% Virtual environments.
-export([activate_venv/1]).
-export([deactivate_venv/0]).
-export([venv_info/0]).
-export([ensure_venv/2]).
-export([ensure_venv/3]).

%% Logging and tracing of Python code.
-export([configure_logging/0]).
-export([configure_logging/1]).
-export([enable_tracing/0]).
-export([disable_tracing/0]).
-export([get_traces/0]).
-export([clear_traces/0]).

%% Information.
-export([version/0]).
-export([execution_mode/0]).
-export([num_executors/0]).
-export([subinterp_supported/0]).
-export([info/0]).

-include("py_call.hrl").

-export_type([name/0, code/0, options/0, result/0, mode/0]).

-type name() :: atom() | binary() | string().
-type code() :: binary() | string().
-type options() :: py_call:options().
-type result() :: {ok, term()} | {error, term()}.
-type counted() :: integer() | {error, not_a_counter | state_full | {bad_option, term()} | coordinator_down | timeout}.
-type mode() :: free_threaded | subinterp | multi_executor.

-define(DEFAULT_TIMEOUT, 30000).
-define(INFO_TIMEOUT, 5000).

%% Calls.

-spec call(name(), name(), list()) -> result().
call(Module, Function, Args) ->
    call(Module, Function, Args, #{}, ?DEFAULT_TIMEOUT).

-spec call(name(), name(), list(), map()) -> result().
call(Module, Function, Args, Kwargs) ->
    call(Module, Function, Args, Kwargs, ?DEFAULT_TIMEOUT).

-spec call(name(), name(), list(), map(), options()) -> result().
call(Module, Function, Args, Kwargs, Options) ->
    with_call(Module, Function, Args, Kwargs, Options, fun py_call:run/3).

-spec eval(code()) -> result().
eval(Code) ->
    eval(Code, #{}, ?DEFAULT_TIMEOUT).

-spec eval(code(), map()) -> result().
eval(Code, Locals) ->
    eval(Code, Locals, ?DEFAULT_TIMEOUT).

-spec eval(code(), map(), options()) -> result().
eval(Code, Locals, Options) ->
    with_eval(Code, Locals, Options, fun py_call:run/3).

-spec exec(code()) -> ok | {error, term()}.
exec(Code) ->
    exec(Code, ?DEFAULT_TIMEOUT).

-spec exec(code(), options()) -> ok | {error, term()}.
exec(Code, Options) ->
    case {py_args:code(Code), py_call:how(Options)} of
        {{error, _} = Error, _} -> Error;
        {_, {error, _} = Error} -> Error;
        {Text, How} ->
            py_call:run(exec, How, py_proto:exec(Text, py_call:request_options(How)))
    end.

%% Nobody hears what became of it; only arguments that could not be sent at all are refused.
-spec cast(name(), name(), list()) -> ok | {error, term()}.
cast(Module, Function, Args) ->
    cast(Module, Function, Args, #{}).

-spec cast(name(), name(), list(), map()) -> ok | {error, term()}.
cast(Module, Function, Args, Kwargs) ->
    with_call(Module, Function, Args, Kwargs, ?DEFAULT_TIMEOUT, fun py_call:cast/3).

%% In every interpreter of every node, those included that start later.
-spec exec_all(code()) -> ok | {error, term()}.
exec_all(Code) ->
    py_everywhere:exec_all(Code).

%% In every interpreter that has the module.
-spec reload(name()) -> ok | {error, [{{node(), non_neg_integer()}, term()}] | term()}.
reload(Module) ->
    py_everywhere:reload(Module).

%% Memory of Python.

-spec memory_stats() -> {ok, py_memory:stats()} | {error, term()}.
memory_stats() ->
    py_memory:stats().

-spec gc() -> {ok, non_neg_integer()} | {error, term()}.
gc() ->
    py_memory:collect(2).

-spec gc(0..2) -> {ok, non_neg_integer()} | {error, term()}.
gc(Generation) ->
    py_memory:collect(Generation).

-spec tracemalloc_start() -> ok | {error, term()}.
tracemalloc_start() ->
    py_memory:trace_start(1).

%% The number of frames that tracemalloc keeps of where memory was allocated.
-spec tracemalloc_start(pos_integer()) -> ok | {error, term()}.
tracemalloc_start(Frames) ->
    py_memory:trace_start(Frames).

-spec tracemalloc_stop() -> ok | {error, term()}.
tracemalloc_stop() ->
    py_memory:trace_stop().

%% Calls that are awaited later.

-spec call_async(name(), name(), list()) -> reference().
call_async(Module, Function, Args) ->
    call_async(Module, Function, Args, #{}).

%% The reference is always given; arguments that cannot be sent are the error that it is answered with.
-spec call_async(name(), name(), list(), map()) -> reference().
call_async(Module, Function, Args, Kwargs) ->
    case with_call(Module, Function, Args, Kwargs, ?DEFAULT_TIMEOUT, fun py_async:call/3) of
        {error, Error} -> refused(Error);
        Ref -> Ref
    end.

refused(Error) ->
    Ref = make_ref(),
    self() ! {py_error, Ref, Error},
    Ref.

-spec await(reference()) -> result().
await(Ref) ->
    await(Ref, ?DEFAULT_TIMEOUT).

%% When the time is over the call is interrupted, and nothing of it arrives later.
-spec await(reference(), timeout()) -> result().
await(Ref, Timeout) ->
    py_async:await(Ref, Timeout).

%% Coroutines.

-spec async_call(name(), name(), list()) -> reference().
async_call(Module, Function, Args) ->
    py_aio:call(Module, Function, Args, #{}).

%% The event loop of a worker runs the coroutine that the function returns. The reference is for the calling process.
-spec async_call(name(), name(), list(), map()) -> reference().
async_call(Module, Function, Args, Kwargs) ->
    py_aio:call(Module, Function, Args, Kwargs).

-spec async_await(reference()) -> result().
async_await(Ref) ->
    py_aio:await(Ref, ?DEFAULT_TIMEOUT).

%% When the time is over the task is cancelled, and nothing of it arrives later.
-spec async_await(reference(), timeout()) -> result().
async_await(Ref, Timeout) ->
    py_aio:await(Ref, Timeout).

%% All at the same time; their values in the order of the list.
-spec async_gather([py_aio:item()]) -> {ok, [term()]} | {error, term()}.
async_gather(Calls) ->
    py_aio:gather(Calls).

-spec async_stream(name(), name(), list()) -> {ok, [term()]} | {error, term()}.
async_stream(Module, Function, Args) ->
    py_aio:stream(Module, Function, Args, #{}).

%% Everything that the async generator gives.
-spec async_stream(name(), name(), list(), map()) -> {ok, [term()]} | {error, term()}.
async_stream(Module, Function, Args, Kwargs) ->
    py_aio:stream(Module, Function, Args, Kwargs).

%% Many calls at once.

-spec parallel([{name(), name(), list()} | {name(), name(), list(), map()}]) -> {ok, [result()]} | {error, term()}.
parallel(Calls) ->
    parallel(Calls, ?DEFAULT_TIMEOUT).

%% The time is one for all of them.
-spec parallel([{name(), name(), list()} | {name(), name(), list(), map()}], options()) ->
    {ok, [result()]} | {error, term()}.
parallel(Calls, Options) ->
    py_parallel:run(Calls, Options).

%% A worker of one's own.

%% From now on this process's calls go to a worker that nobody else's go to, and see a `__main__` of its own.
-spec bind() -> ok | {error, term()}.
bind() ->
    py_context:bind().

%% A context that is used by ctx_call, ctx_eval and ctx_exec, from any process; it ends with the calling one.
-spec bind(new) -> {ok, py_context:ctx()} | {error, term()}.
bind(Which) ->
    py_context:bind(Which).

-spec unbind() -> ok | {error, term()}.
unbind() ->
    py_context:unbind().

-spec unbind(py_context:ctx()) -> ok | {error, term()}.
unbind(Ctx) ->
    py_context:unbind(Ctx).

-spec is_bound() -> boolean().
is_bound() ->
    py_context:is_bound().

%% Gives what the function gives. One without arguments runs with this process bound, one with an argument gets the
%% context.
-spec with_context(fun(() -> T) | fun((py_context:ctx()) -> T)) -> T | {error, term()}.
with_context(Fun) ->
    py_context:with_context(Fun).

-spec ctx_call(py_context:ctx(), name(), name(), list()) -> result().
ctx_call(Ctx, Module, Function, Args) ->
    ctx_call(Ctx, Module, Function, Args, #{}).

-spec ctx_call(py_context:ctx(), name(), name(), list(), map()) -> result().
ctx_call(Ctx, Module, Function, Args, Kwargs) ->
    ctx_call(Ctx, Module, Function, Args, Kwargs, ?DEFAULT_TIMEOUT).

-spec ctx_call(py_context:ctx(), name(), name(), list(), map(), options()) -> result().
ctx_call(Ctx, Module, Function, Args, Kwargs, Options) ->
    py_context:within(Ctx, fun() -> call(Module, Function, Args, Kwargs, Options) end).

-spec ctx_eval(py_context:ctx(), code()) -> result().
ctx_eval(Ctx, Code) ->
    ctx_eval(Ctx, Code, #{}).

-spec ctx_eval(py_context:ctx(), code(), map()) -> result().
ctx_eval(Ctx, Code, Locals) ->
    ctx_eval(Ctx, Code, Locals, ?DEFAULT_TIMEOUT).

-spec ctx_eval(py_context:ctx(), code(), map(), options()) -> result().
ctx_eval(Ctx, Code, Locals, Options) ->
    py_context:within(Ctx, fun() -> eval(Code, Locals, Options) end).

-spec ctx_exec(py_context:ctx(), code()) -> ok | {error, term()}.
ctx_exec(Ctx, Code) ->
    ctx_exec(Ctx, Code, ?DEFAULT_TIMEOUT).

-spec ctx_exec(py_context:ctx(), code(), options()) -> ok | {error, term()}.
ctx_exec(Ctx, Code, Options) ->
    py_context:within(Ctx, fun() -> exec(Code, Options) end).

%% Streams.

%% All items of the iterator that the function returns, in one list; of another value a list of that.
-spec stream(name(), name(), list()) -> result().
stream(Module, Function, Args) ->
    stream(Module, Function, Args, #{}, ?DEFAULT_TIMEOUT).

-spec stream(name(), name(), list(), map()) -> result().
stream(Module, Function, Args, Kwargs) ->
    stream(Module, Function, Args, Kwargs, ?DEFAULT_TIMEOUT).

-spec stream(name(), name(), list(), map(), options()) -> result().
stream(Module, Function, Args, Kwargs, Options) ->
    with_call(Module, Function, Args, Kwargs, Options, fun py_stream:collect/3).

-spec stream_eval(code()) -> result().
stream_eval(Code) ->
    stream_eval(Code, #{}, ?DEFAULT_TIMEOUT).

-spec stream_eval(code(), map()) -> result().
stream_eval(Code, Locals) ->
    stream_eval(Code, Locals, ?DEFAULT_TIMEOUT).

-spec stream_eval(code(), map(), options()) -> result().
stream_eval(Code, Locals, Options) ->
    with_eval(Code, Locals, Options, fun py_stream:collect/3).

%% Items as they come: {py_stream, Ref, {data, Value} | done | {error, Reason}} to the owner.
-spec stream_start(name(), name(), list()) -> {ok, reference()} | {error, term()}.
stream_start(Module, Function, Args) ->
    stream_start(Module, Function, Args, #{}, #{}).

%% Keyword arguments. But a map with the key `owner` alone, and a pid as its value, is options.
-spec stream_start(name(), name(), list(), map()) -> {ok, reference()} | {error, term()}.
stream_start(Module, Function, Args, #{owner := Owner} = Options) when is_pid(Owner), map_size(Options) =:= 1 ->
    stream_start(Module, Function, Args, #{}, Options);
stream_start(Module, Function, Args, Kwargs) ->
    stream_start(Module, Function, Args, Kwargs, #{}).

-spec stream_start(name(), name(), list(), map(), py_stream:options()) -> {ok, reference()} | {error, term()}.
stream_start(Module, Function, Args, Kwargs, Options) ->
    case py_stream:split(Options) of
        {error, _} = Error -> Error;
        {Own, Rest} ->
            Start = fun(Kind, How, Request) -> py_stream:start(Kind, How, Request, Own) end,
            with_call(Module, Function, Args, Kwargs, Rest, Start)
    end.

%% Nothing of the stream comes after this, if the owner calls it.
-spec stream_cancel(reference()) -> ok.
stream_cancel(Ref) ->
    py_stream:cancel(Ref).

%% What is under way.

%% What runs for a reference of call_async or stream_start, or in a context, ends with {error, interrupted}.
-spec interrupt(reference() | py_context:ctx()) -> ok | {error, term()}.
interrupt(What) ->
    py_interrupt:interrupt(What).

%% Erlang functions for Python.

%% The function gets one argument, the list of the arguments that Python gave. It runs on this node, in a process of
%% its own. All of Python can call it when this returns. Of two functions by one name the later one counts.
-spec register_function(name(), fun(([term()]) -> term())) ->
    ok | {error, coordinator_down | {not_text, term()} | {bad_function, term()}}.
register_function(Name, Fun) when is_function(Fun, 1) ->
    with_name(Name, fun(Text) -> py_functions:register(Text, Fun) end);
register_function(_, Other) ->
    {error, {bad_function, Other}}.

-spec register_function(name(), module(), atom()) ->
    ok | {error, coordinator_down | {not_text, term()} | {bad_function, term()}}.
register_function(Name, Module, Function) when is_atom(Module), is_atom(Function) ->
    with_name(Name, fun(Text) -> py_functions:register(Text, {Module, Function}) end);
register_function(_, Module, Function) ->
    {error, {bad_function, {Module, Function}}}.

%% From whatever node it was registered. A name that has no function is no error.
-spec unregister_function(name()) -> ok | {error, coordinator_down | {not_text, term()}}.
unregister_function(Name) ->
    with_name(Name, fun py_functions:unregister/1).

with_name(Name, Next) when is_atom(Name) ->
    Next(atom_to_binary(Name));
with_name(Name, Next) ->
    case py_args:text(Name) of
        {error, _} = Error -> Error;
        Text -> Next(Text)
    end.

%% Shared state. Keys are exact terms; a string of Python is a binary.

-spec state_fetch(term()) -> {ok, term()} | {error, not_found | coordinator_down | timeout}.
state_fetch(Key) ->
    py_state:fetch(Key).

-spec state_store(term(), term()) -> ok | {error, state_full | coordinator_down | timeout}.
state_store(Key, Value) ->
    py_state:store(Key, Value).

-spec state_remove(term()) -> ok | {error, coordinator_down | timeout}.
state_remove(Key) ->
    py_state:remove(Key).

-spec state_clear() -> ok | {error, coordinator_down | timeout}.
state_clear() ->
    py_state:clear().

-spec state_keys() -> [term()] | {error, coordinator_down | timeout}.
state_keys() ->
    py_state:keys().

-spec state_incr(term()) -> counted().
state_incr(Key) ->
    py_state:incr(Key, 1).

-spec state_incr(term(), integer()) -> counted().
state_incr(Key, By) ->
    py_state:incr(Key, By).

-spec state_decr(term()) -> counted().
state_decr(Key) ->
    py_state:decr(Key, 1).

-spec state_decr(term(), integer()) -> counted().
state_decr(Key, By) ->
    py_state:decr(Key, By).

%% Virtual environments, on the hosts of the C-nodes.

-spec activate_venv(py_venv:text()) -> ok | {error, py_venv:error()}.
activate_venv(Path) ->
    py_venv:activate(Path).

-spec deactivate_venv() -> ok | {error, term()}.
deactivate_venv() ->
    py_venv:deactivate().

-spec venv_info() -> {ok, #{binary() => term()}} | {error, term()}.
venv_info() ->
    py_venv:info().

-spec ensure_venv(py_venv:text(), py_venv:text() | [py_venv:text()]) -> ok | {error, py_venv:error()}.
ensure_venv(Path, Requirements) ->
    py_venv:ensure(Path, Requirements, #{}).

%% Made where it is missing, with these packages, and activated.
-spec ensure_venv(py_venv:text(), py_venv:text() | [py_venv:text()], py_venv:ensure_options()) ->
    ok | {error, py_venv:error()}.
ensure_venv(Path, Requirements, Options) ->
    py_venv:ensure(Path, Requirements, Options).

%% Logging and tracing of Python code.

%% Python's logging goes to `logger`, from `debug` on.
-spec configure_logging() -> ok | {error, term()}.
configure_logging() ->
    py_logger:configure(#{}).

-spec configure_logging(py_logger:options()) -> ok | {error, term()}.
configure_logging(Options) ->
    py_logger:configure(Options).

-spec enable_tracing() -> ok | {error, term()}.
enable_tracing() ->
    py_tracer:enable().

-spec disable_tracing() -> ok | {error, term()}.
disable_tracing() ->
    py_tracer:disable().

%% The spans that have ended since the last clear_traces, in the order of their ends.
-spec get_traces() -> {ok, [py_tracer:span()]} | {error, coordinator_down | timeout}.
get_traces() ->
    py_tracer:spans().

-spec clear_traces() -> ok | {error, coordinator_down | timeout}.
clear_traces() ->
    py_tracer:clear().

%% Information.

%% The version of Python.
-spec version() -> {ok, binary()} | {error, term()}.
version() ->
    case first_info() of
        #{python := Version} -> {ok, Version};
        #{} -> {error, unknown};
        {error, _} = Error -> Error
    end.

-spec execution_mode() -> mode() | {error, term()}.
execution_mode() ->
    case first_info() of
        #{mode := Mode} -> Mode;
        #{} -> {error, unknown};
        {error, _} = Error -> Error
    end.

%% Workers of all nodes together, but for those that only serve modules which sub-interpreters refuse.
-spec num_executors() -> non_neg_integer().
num_executors() ->
    lists:sum([maps:get(executors, Info, 0) || #target{info = Info} <- py_router:up_nodes()]).

%% Whether that Python has sub-interpreters with a lock of their own, whichever mode is in use.
-spec subinterp_supported() -> boolean().
subinterp_supported() ->
    case first_info() of
        #{subinterp_supported := Supported} -> Supported;
        #{mode := subinterp} -> true;
        #{python := Version} -> has_own_gil(Version);
        _ -> false
    end.

%% By C-node what it says of itself; of one that is down or does not answer in 5 seconds, only that.
-spec info() -> #{node() => map()}.
info() ->
    Deadline = erlang:monotonic_time(millisecond) + ?INFO_TIMEOUT,
    Asked = [{Node, py_proto:send_async(Node, Link, info)} || #target{node = Node, link = Link} <- py_router:up_nodes()],
    Down = maps:from_list([{Node, #{status => down}} || Node <- py_router:known_nodes()]),
    maps:merge(Down, maps:from_list([{Node, told(Ref, Deadline)} || {Node, {Ref, _}} <- Asked])).

told(Ref, Deadline) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    case py_proto:await_answer(Ref, Left) of
        {result, {ok, #{} = Info}} -> Info#{status => up};
        {down, _} -> #{status => down};
        _ -> #{status => no_answer}
    end.

first_info() ->
    case py_router:pick(any, any) of
        #target{info = Info} -> Info;
        {error, _} = Error -> Error
    end.

%% 3.12.1 corrupts its heap with them.
has_own_gil(<<"3.12.1">>) ->
    false;
has_own_gil(Version) ->
    case re:run(Version, "^3\\.([0-9]+)", [{capture, all_but_first, list}]) of
        {match, [Minor]} -> list_to_integer(Minor) >= 12;
        nomatch -> false
    end.

%% Arguments.

with_call(Module, Function, Args, Kwargs, Options, Next) ->
    case py_call:how(Options) of
        {error, _} = Error -> Error;
        How -> with_request(py_args:call(Module, Function, Args, Kwargs, How), How, Next)
    end.

with_request({error, _} = Error, _, _) -> Error;
with_request({Kind, Request}, How, Next) -> Next(Kind, How, Request).

with_eval(Code, Locals, Options, Next) when is_map(Locals) ->
    case {py_args:code(Code), py_call:how(Options)} of
        {{error, _} = Error, _} -> Error;
        {_, {error, _} = Error} -> Error;
        {Text, How} -> Next(eval, How, py_proto:eval(Text, Locals, py_call:request_options(How)))
    end;
with_eval(_, _, _, _) ->
    {error, invalid_args}.
