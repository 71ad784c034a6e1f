%% Calls that run in every interpreter of every C-node, in those that start later too when they are remembered.
%%
%% The C-node does the part of its interpreters (cnode/svc/everywhere.h): one answer says what each one gave. Here are the
%% nodes: all that are up are asked at the same time. What is remembered is kept here too, and run again in C-nodes that
%% come up later, before they are given to callers (py_node); a C-node that has it already skips it. What failed in every
%% interpreter of every node is not remembered.
%%
%% A key stands for one thing: something newer by the same key replaces what was remembered. To undo something everywhere,
%% remember the call that undoes it, by the key of what it undoes: so C-nodes that were away meanwhile undo it too.
%%
%% The table belongs to py_sup. This process is its only writer; when the application stops it has the C-nodes forget
%% what this node had them remember.
-module(py_everywhere).
-behaviour(gen_server).

%% Calls.
-export([call/5]).
-export([checked_call/5]).
-export([exec/2]).
-export([first_error/1]).
-export([exec_all/1]).
-export([reload/1]).

%% Used by the supervision tree and by py_node.
-export([create/0]).
-export([start_link/0]).
-export([newest/0]).
-export([replay/2]).

%% gen_server.
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).
-export([terminate/2]).

-include("py_call.hrl").

-export_type([options/0, key/0, results/0, sequence/0]).

-type key() :: binary().
-type options() :: #{
    timeout => timeout(),
    %% To be run in later interpreters and nodes.
    remember => key(),
    %% What was remembered by that key is forgotten first.
    forget => key()
}.
%% Interpreter 0 is the main one. A node that gave no results stands there once, as 0, with the reason.
-type results() :: [{node(), non_neg_integer(), py:result() | ok}].
%% When something was remembered, relative to other things.
-type sequence() :: non_neg_integer().
-type what() :: {call, py:name(), py:name(), list(), map()} | {exec, binary()}.

-record(todo, {
    timeout = 30000 :: timeout(),
    remember = none :: none | key(),
    forget = none :: none | key()
}).

-define(TABLE, ?MODULE).
-define(MAX_ENTRIES, 1024).
-define(MAX_BYTES, 16#1000000).
-define(MAX_KEY, 255).
%% C-nodes answer at the end of the time for those interpreters that did not; this is what the answer may take.
-define(SLACK_MS, 1000).
-define(REPLAY_MS, 30000).

%% Calls.

-spec call(py:name(), py:name(), list(), map(), options()) -> {ok, results()} | {error, term()}.
call(Module, Function, Args, Kwargs, Options) when is_list(Args), length(Args) >= 0, is_map(Kwargs) ->
    case {py_args:name(Module), py_args:name(Function), todo(Options)} of
        {{error, _} = Error, _, _} -> Error;
        {_, {error, _} = Error, _} -> Error;
        {_, _, {error, _} = Error} -> Error;
        {M, F, Todo} -> run({call, M, F, Args, Kwargs}, Todo)
    end;
call(_, _, _, _, _) ->
    {error, invalid_args}.

%% For those who want to know only whether it failed anywhere.
-spec checked_call(py:name(), py:name(), list(), map(), options()) -> ok | {error, term()}.
checked_call(Module, Function, Args, Kwargs, Options) ->
    checked(call(Module, Function, Args, Kwargs, Options)).

checked({ok, Results}) -> first_error(Results);
checked({error, _} = Error) -> Error.

-spec exec(py:code(), options()) -> {ok, results()} | {error, term()}.
exec(Code, Options) ->
    case {py_args:code(Code), todo(Options)} of
        {{error, _} = Error, _} -> Error;
        {_, {error, _} = Error} -> Error;
        {Text, Todo} -> run({exec, Text}, Todo)
    end.

-spec first_error(results()) -> ok | {error, term()}.
first_error(Results) ->
    case [Error || {_, _, {error, _} = Error} <- Results] of
        [] -> ok;
        [Error | _] -> Error
    end.

%% The same code again takes the place of the earlier one: it has run last, and so it does in later interpreters.
-spec exec_all(py:code()) -> ok | {error, term()}.
exec_all(Code) ->
    case py_args:code(Code) of
        {error, _} = Error -> Error;
        Text -> checked(exec(Text, #{remember => exec_key(Text)}))
    end.

%% Nodes have their keys each: one that stops takes back its own code only.
exec_key(Code) ->
    iolist_to_binary(["exec_all ", binary:encode_hex(erlang:md5([atom_to_binary(node()), 0, Code]))]).

-spec reload(py:name()) -> ok | {error, [{{node(), non_neg_integer()}, term()}] | term()}.
reload(Module) ->
    case py_args:name(Module) of
        {error, _} = Error -> Error;
        Name -> reloaded(call('_pynode_reload', reload, [Name], #{}, #{}))
    end.

reloaded({ok, Results}) ->
    case [{{Node, Interp}, Error} || {Node, Interp, {error, Error}} <- Results] of
        [] -> ok;
        Errors -> {error, Errors}
    end;
reloaded({error, _} = Error) ->
    Error.

%% One call. It takes one slot of the semaphore, as any other; a callback's has one already.

run(What, #todo{timeout = Timeout} = Todo) ->
    case py_call:how(Timeout) of
        #how{chain = undefined} -> with_slot(What, Todo);
        #how{chain = Chain, timeout = Left} -> forget_and_run(What, Todo#todo{timeout = Left}, Chain)
    end.

with_slot(What, #todo{timeout = Timeout} = Todo) ->
    case py_semaphore:enter(Timeout) of
        ok ->
            try forget_and_run(What, Todo, undefined) after py_semaphore:leave() end;
        {waited, Left} ->
            try forget_and_run(What, Todo#todo{timeout = Left}, undefined) after py_semaphore:leave() end;
        {error, _} = Error ->
            Error
    end.

forget_and_run(What, #todo{forget = Key} = Todo, Chain) ->
    case py_router:up_nodes() of
        [] ->
            no_nodes();
        Targets when Key =/= none ->
            _ = ask_server({forget, Key}),
            _ = [py_proto:send_cast(Node, py_proto:forget(Key)) || #target{node = Node} <- Targets],
            remember_and_ask(What, Todo, Chain);
        _ ->
            remember_and_ask(What, Todo, Chain)
    end.

%% With one node known, the reason is that it is down.
no_nodes() ->
    case py_router:pick(any, any) of
        #target{} -> {error, no_nodes};
        {error, _} = Error -> Error
    end.

remember_and_ask(What, #todo{remember = none} = Todo, Chain) ->
    {ok, ask_all(What, Todo, Chain, py_router:up_nodes())};
remember_and_ask(What, #todo{remember = Key} = Todo, Chain) ->
    %% Before the nodes are looked up: one that is not among them yet finds it in the table before it is (py_node).
    case ask_server({remember, Key, What, self()}) of
        {ok, Sequence} ->
            Results = ask_all(What, Todo, Chain, py_router:up_nodes_now()),
            Good = [good || {_, _, Result} <- Results, is_good(Result)],
            %% Whatever it says: the application may have stopped meanwhile, and there is nothing to settle any more.
            _ = ask_server({settle, Sequence, Good =/= []}),
            %% The last node may have gone since it was looked for.
            case Results of [] -> no_nodes(); _ -> {ok, Results} end;
        {error, _} = Error ->
            Error
    end.

%% Without the application there is no node either.
ask_server(Request) ->
    try gen_server:call(?MODULE, Request, infinity) catch exit:_ -> {error, no_nodes} end.

is_good(ok) -> true;
is_good({ok, _}) -> true;
is_good(_) -> false.

ask_all(What, #todo{timeout = Timeout, remember = Key}, Chain, Targets) ->
    Until = deadline(Timeout),
    Asked = [
        {Node, py_proto:send_async(Node, Link, request(What, options(Timeout, Key, Chain, Node)))}
     || #target{node = Node, link = Link} <- Targets
    ],
    lists:append([told(Node, Sent, Until) || {Node, Sent} <- Asked]).

options(Timeout, Key, #chain{node = Node, id = Id}, Node) ->
    py_proto:all_options(Timeout, Key, false, Id);
options(Timeout, Key, _, _) ->
    py_proto:all_options(Timeout, Key, false, undefined).

-spec request(what(), py_proto:all_options()) -> py_proto:request().
request({call, M, F, Args, Kwargs}, Options) -> py_proto:call_all(M, F, Args, Kwargs, Options);
request({exec, Code}, Options) -> py_proto:exec_all(Code, Options).

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout + ?SLACK_MS.

left(infinity) -> infinity;
left(Until) -> max(0, Until - erlang:monotonic_time(millisecond)).

told(Node, {Ref, Sender}, Until) ->
    case py_proto:await_answer(Ref, left(Until)) of
        {result, {ok, Results}} when is_list(Results) ->
            [{Node, Interp, Result} || {Interp, Result} <- Results];
        {result, {error, _} = Error} ->
            [{Node, 0, Error}];
        {down, Reason} ->
            [{Node, 0, {error, py_link:reason(Node, Reason)}}];
        timeout ->
            ok = py_proto:call_off(Node, Ref, Sender),
            [{Node, 0, {error, timeout}}]
    end.

%% Arguments.

todo(#{} = Options) -> maps:fold(fun option/3, #todo{}, Options);
todo(Other) -> {error, {bad_option, Other}}.

option(timeout, Timeout, #todo{} = Todo) ->
    case py_call:how(Timeout) of
        #how{} when is_integer(Timeout); Timeout =:= infinity -> Todo#todo{timeout = Timeout};
        _ -> {error, {bad_option, {timeout, Timeout}}}
    end;
option(remember, Key, #todo{} = Todo) when is_binary(Key), Key =/= <<>>, byte_size(Key) =< ?MAX_KEY ->
    Todo#todo{remember = Key};
option(forget, Key, #todo{} = Todo) when is_binary(Key), Key =/= <<>>, byte_size(Key) =< ?MAX_KEY ->
    Todo#todo{forget = Key};
option(Key, Value, #todo{}) ->
    {error, {bad_option, {Key, Value}}};
option(_, _, Error) ->
    Error.

%% For C-nodes that come up.

%% Of what is remembered; 0: nothing is.
-spec newest() -> sequence().
newest() ->
    case ets:last(?TABLE) of
        '$end_of_table' -> 0;
        Sequence -> Sequence
    end.

%% Runs what was remembered since then in that node, in order, and says what was the last. What fails is logged. When the
%% connection is lost the calling process ends: who finds the node again begins anew.
-spec replay(node(), sequence()) -> sequence().
replay(Node, Since) ->
    case ets:next(?TABLE, Since) of
        '$end_of_table' ->
            Since;
        Sequence ->
            _ = [replay_one(Node, Key, What) || {_, Key, What, _, _} <- ets:lookup(?TABLE, Sequence)],
            replay(Node, Sequence)
    end.

replay_one(Node, Key, What) ->
    Request = request(What, py_proto:all_options(?REPLAY_MS, Key, true, undefined)),
    Sent = py_proto:send_async(Node, py_proto:server(Node), Request),
    case first_error(told(Node, Sent, deadline(?REPLAY_MS))) of
        ok ->
            ok;
        {error, {nodedown, Node}} ->
            exit(lost);
        {error, Reason} ->
            logger:warning("~ts: what is to run in every interpreter (~ts) failed: ~0tP", [Node, Key, Reason, 30], #{
                domain => [python], py_node => Node
            })
    end.

%% The table: {Sequence, Key, What, Bytes, settled | pid()}, the process that is about to settle it.

-spec create() -> ok.
create() ->
    ?TABLE = ets:new(?TABLE, [ordered_set, public, named_table, {read_concurrency, true}]),
    ok.

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% gen_server.

-record(state, {
    %% Who settles what: its death settles it too.
    settlers = #{} :: #{reference() => sequence()}
}).

-spec init([]) -> {ok, #state{}}.
init([]) ->
    _ = process_flag(trap_exit, true),
    %% Nobody is left to settle what a crash of this process interrupted: it stays.
    _ = [settle(Sequence, true) || {Sequence, _, _, _, Settler} <- ets:tab2list(?TABLE), Settler =/= settled],
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({remember, Key, What, Pid}, _From, #state{settlers = Settlers} = State) ->
    case add(Key, What, Pid) of
        {ok, Sequence} = Ok ->
            {reply, Ok, State#state{settlers = Settlers#{erlang:monitor(process, Pid) => Sequence}}};
        {error, _} = Error ->
            {reply, Error, State}
    end;
handle_call({settle, Sequence, Keep}, _From, #state{settlers = Settlers} = State) ->
    ok = settle(Sequence, Keep),
    Refs = [Ref || {Ref, S} <- maps:to_list(Settlers), S =:= Sequence],
    _ = [erlang:demonitor(Ref, [flush]) || Ref <- Refs],
    {reply, ok, State#state{settlers = maps:without(Refs, Settlers)}};
handle_call({forget, Key}, _From, State) ->
    true = ets:match_delete(?TABLE, {'_', Key, '_', '_', '_'}),
    {reply, ok, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, State) ->
    {noreply, State}.

%% The caller died while nodes were at it: what it began is taken as if it had failed, as the C-nodes do.
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', Ref, process, _, _}, #state{settlers = Settlers} = State) ->
    case maps:take(Ref, Settlers) of
        {Sequence, Rest} ->
            ok = settle(Sequence, false),
            {noreply, State#state{settlers = Rest}};
        error ->
            {noreply, State}
    end;
handle_info(_, State) ->
    {noreply, State}.

%% The end of the application, or a restart of what C-nodes are connected by: then they are told all anew.
-spec terminate(term(), #state{}) -> ok.
terminate(shutdown, _) ->
    Keys = lists:usort([Key || {_, Key, _, _, _} <- ets:tab2list(?TABLE)]),
    _ = [
        py_proto:send_cast(Node, py_proto:forget(Key))
     || #target{node = Node} <- py_router:up_nodes(), Key <- Keys
    ],
    ok;
terminate(_, _) ->
    ok.

add(Key, What, Pid) ->
    Bytes = byte_size(Key) + erlang:external_size(What),
    Total = lists:sum(ets:select(?TABLE, [{{'_', '_', '_', '$1', '_'}, [], ['$1']}])),
    case ets:info(?TABLE, size) of
        Size when Size >= ?MAX_ENTRIES -> {error, {too_much_remembered, entries, ?MAX_ENTRIES}};
        _ when Total + Bytes > ?MAX_BYTES -> {error, {too_much_remembered, bytes, ?MAX_BYTES}};
        _ ->
            %% Never used again, also when the newest is forgotten: who has come so far has come no further.
            Sequence = erlang:unique_integer([positive, monotonic]),
            true = ets:insert(?TABLE, {Sequence, Key, What, Bytes, Pid}),
            {ok, Sequence}
    end.

%% What was seen to work takes the place of the older ones by its key.
settle(Sequence, Keep) ->
    case ets:lookup(?TABLE, Sequence) of
        [{_, Key, _, _, _}] when Keep ->
            true = ets:update_element(?TABLE, Sequence, {5, settled}),
            _ = ets:select_delete(?TABLE, [{{'$1', Key, '_', '_', '_'}, [{'<', '$1', Sequence}], [true]}]),
            ok;
        [_] ->
            true = ets:delete(?TABLE, Sequence),
            ok;
        [] ->
            ok
    end.
