%% Virtual environments: entered by every interpreter of every C-node (_pynode_venv), made on their hosts
%% (_pynode_ensure).
%%
%% What is entered is remembered by the C-nodes, for interpreters that start later. One process of this node at a time
%% changes it, so that all interpreters see the changes in one order.
-module(py_venv).

-export([activate/1]).
-export([deactivate/0]).
-export([info/0]).
-export([ensure/3]).

-include("py_router.hrl").

-export_type([text/0, ensure_options/0, error/0]).

-type text() :: binary() | string().
-type ensure_options() :: #{
    timeout => timeout(),
    installer => auto | uv | pip,
    force => boolean(),
    args => [text()]
}.
-type error() ::
    {invalid_venv, term()}
    | {incompatible_venv, term(), binary()}
    | {ensure_venv_failed, binary()}
    | term().

-define(KEY, <<"venv">>).
-define(TIMEOUT_MS, 30000).
-define(ENSURE_MS, 600000).
%% How long the last lines of output may take after the result.
-define(LINGER_MS, 1000).

-spec activate(text()) -> ok | {error, error()}.
activate(Path) ->
    case path(Path) of
        {ok, Text} -> in_turn(fun() -> activate(Path, filename:absname(Text)) end);
        error -> {error, {invalid_venv, Path}}
    end.

%% Looked at on every host before anything is changed anywhere.
activate(Given, Path) ->
    Checks = [py:call('_pynode_venv', check, [Path], #{}, #{node => Node}) || Node <- one_per_host()],
    case [Error || {error, _} = Error <- Checks] of
        [] when Checks =:= [] -> {error, no_nodes};
        [] -> result(everywhere(activate, [Path], #{remember => ?KEY}), Given);
        [Error | _] -> result(Error, Given)
    end.

%% Remembered, too: a C-node that is away comes back with what it had before.
-spec deactivate() -> ok | {error, term()}.
deactivate() ->
    in_turn(fun() -> everywhere(deactivate, [], #{remember => ?KEY}) end).

-spec info() -> {ok, #{binary() => term()}} | {error, term()}.
info() ->
    py:call('_pynode_venv', info, []).

everywhere(Function, Args, Options) ->
    py_everywhere:checked_call('_pynode_venv', Function, Args, #{}, Options#{timeout => ?TIMEOUT_MS}).

in_turn(Fun) ->
    global:trans({?MODULE, self()}, Fun, [node()]).

%% Making one.

-spec ensure(text(), text() | [text()], ensure_options()) -> ok | {error, error()}.
ensure(Path, Requirements, Options) ->
    case {path(Path), requirements(Requirements), options(Options)} of
        {error, _, _} -> {error, {invalid_venv, Path}};
        {_, {error, _} = Error, _} -> Error;
        {_, _, {error, _} = Error} -> Error;
        {{ok, Text}, {ok, What}, {ok, Checked}} -> ensure(Path, filename:absname(Text), What, Checked)
    end.

ensure(Given, Path, What, #{timeout := Timeout} = Options) ->
    Deadline = deadline(Timeout),
    Listener = start_listener(Path),
    Args = [Path, What, maps:remove(timeout, Options), Listener],
    Asked = [ask(Node, Args, Timeout) || Node <- one_per_host()],
    Results = [py:await(Ref, left(Deadline)) || Ref <- Asked],
    Listener ! {last, self()},
    case [Error || {error, _} = Error <- Results] of
        [] when Results =:= [] -> {error, no_nodes};
        [] -> activate(Given);
        [Error | _] -> result(Error, Given)
    end.

ask(Node, Args, Timeout) ->
    How = py_call:how(#{node => Node, timeout => Timeout}),
    Request = py_proto:call('_pynode_ensure', ensure, Args, #{}, py_call:request_options(How)),
    py_async:call(any, How, Request).

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%% Logs the output. Ends with the caller, or a moment after the result: lines may be behind it, as they may come another
%% way.
start_listener(Path) ->
    Caller = self(),
    spawn(fun() ->
        Monitor = erlang:monitor(process, Caller),
        listen(Caller, Monitor, Path, infinity)
    end).

listen(Caller, Monitor, Path, Timeout) ->
    receive
        {py_venv, Line} ->
            logger:info("~ts: ~ts", [Path, Line], #{domain => [python], py_venv => Path}),
            listen(Caller, Monitor, Path, Timeout);
        {last, Caller} ->
            listen(Caller, Monitor, Path, ?LINGER_MS);
        {'DOWN', Monitor, process, _, _} ->
            listen(Caller, Monitor, Path, ?LINGER_MS)
    after Timeout -> ok
    end.

%% One C-node for each host: the ones of a host share its files.
one_per_host() ->
    Nodes = [Node || #target{node = Node} <- py_router:up_nodes()],
    maps:values(maps:from_list([{host(Node), Node} || Node <- lists:reverse(lists:sort(Nodes))])).

host(Node) ->
    [_, Host] = string:split(atom_to_list(Node), "@"),
    Host.

%% Arguments and results.

%% A string is a list, too: of characters, and then it is the name of a file.
requirements([]) ->
    {ok, {list, []}};
requirements([First | _] = List) when not is_integer(First) ->
    each_text(List, []);
requirements(File) ->
    case path(File) of
        {ok, Text} -> {ok, {file, filename:absname(Text)}};
        error -> {error, {not_text, File}}
    end.

%% Nothing that pip would take for an option: these have a place of their own.
each_text([], Texts) ->
    {ok, {list, lists:reverse(Texts)}};
each_text([Text | Rest], Texts) ->
    case path(Text) of
        {ok, <<"-", _/binary>>} -> {error, {bad_requirement, Text}};
        {ok, Binary} -> each_text(Rest, [Binary | Texts]);
        error -> {error, {not_text, Text}}
    end;
each_text(Improper, _) ->
    {error, {not_text, Improper}}.

%% Names of files need not be UTF-8.
path(<<>>) ->
    error;
path(Path) when is_binary(Path) ->
    {ok, Path};
path([_ | _] = Path) ->
    try unicode:characters_to_binary(Path) of
        Binary when is_binary(Binary) -> {ok, Binary};
        _ -> error
    catch
        error:badarg -> error
    end;
path(_) ->
    error.

options(#{} = Options) ->
    maps:fold(fun option/3, {ok, #{timeout => ?ENSURE_MS}}, Options);
options(Other) ->
    {error, {bad_option, Other}}.

option(timeout, infinity, {ok, Options}) ->
    {ok, Options#{timeout => infinity}};
option(timeout, Timeout, {ok, Options}) when is_integer(Timeout), Timeout >= 0, Timeout =< 16#ffffffff ->
    {ok, Options#{timeout => Timeout}};
option(installer, Tool, {ok, Options}) when Tool =:= auto; Tool =:= uv; Tool =:= pip ->
    {ok, Options#{installer => Tool}};
option(force, On, {ok, Options}) when is_boolean(On) ->
    {ok, Options#{force => On}};
option(args, Args, {ok, Options}) when is_list(Args), length(Args) >= 0 ->
    case [Arg || Arg <- Args, path(Arg) =:= error] of
        [] -> {ok, Options#{args => [element(2, path(Arg)) || Arg <- Args]}};
        [Bad | _] -> {error, {not_text, Bad}}
    end;
option(_, _, {error, _} = Error) ->
    Error;
option(Key, Value, _) ->
    {error, {bad_option, {Key, Value}}}.

%% Python's exceptions in the words of this module.
result(ok, _) -> ok;
result({error, {'InvalidVenv', _}}, Path) -> {error, {invalid_venv, Path}};
result({error, {'IncompatibleVenv', Why}}, Path) -> {error, {incompatible_venv, Path, unicode:characters_to_binary(Why)}};
result({error, {'EnsureFailed', Output}}, _) -> {error, {ensure_venv_failed, unicode:characters_to_binary(Output)}};
result({error, _} = Error, _) -> Error.
