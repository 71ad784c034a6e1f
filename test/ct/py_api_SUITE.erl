%% The module `py` on a node with default configuration: everything a user's first program does, what its errors look
%% like, start and stop of the application, and C-nodes that run elsewhere.
-module(py_api_SUITE).
-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         end_per_testcase/2]).
-export([calls/1, names_and_strings/1, arguments/1, options/1, bad_options/1, errors/1, evals/1, execs/1, timeouts/1,
         nothing_arrives_late/1, async_calls/1, async_errors/1, async_in_parallel/1, async_timeouts/1, casts/1,
         callers_die/1, interpreters_of_callers/1, information/1, many_callers/1, output_goes_to_logger/1,
         start_and_stop/1, stop_leaves_nothing/1, stop_answers_callers/1, stop_answers_who_registers/1, code_is_loaded_again/1,
         not_started/1, bad_configuration/1,
         not_distributed/1, preload_and_imports/1, preload_cannot_be_written/1, preload_is_not_left/1, workers_of_the_mode/1,
         node_elsewhere/1, two_nodes/1, node_by_option/1, no_nodes/1, node_comes_later/1, died_and_back/1,
         ended_by_python/1]).
%% Called by logger and from another node.
-export([log/2, started_call/0]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, default}, {group, own}].

%% `default`: one application for all; `own`: each case starts its own.
groups() ->
    [{default, [], [calls, names_and_strings, arguments, options, bad_options, errors, evals, execs, timeouts,
                    nothing_arrives_late, async_calls, async_errors, async_in_parallel, async_timeouts, casts,
                    callers_die, interpreters_of_callers, information, many_callers, output_goes_to_logger]},
     {own, [], [start_and_stop, stop_leaves_nothing, stop_answers_callers, stop_answers_who_registers,
                code_is_loaded_again, not_started, bad_configuration,
                not_distributed, preload_and_imports, preload_cannot_be_written, preload_is_not_left, workers_of_the_mode,
                node_elsewhere, two_nodes, node_by_option, no_nodes, node_comes_later, died_and_back,
                ended_by_python]}].

init_per_suite(Config) -> Config.

end_per_suite(_Config) ->
    app_ct:stop(),
    pyn_ct:stop_all().

init_per_group(default, Config) ->
    ok = app_ct:start(),
    Config;
init_per_group(own, Config) ->
    Config.

end_per_group(default, _Config) -> app_ct:stop();
end_per_group(own, _Config) -> ok.

%% Nothing of a call is left in the mailbox of its caller, and every slot is free again.
end_per_testcase(_Case, Config) ->
    case proplists:get_value(name, proplists:get_value(tc_group_properties, Config, [])) of
        default ->
            pyn_ct:wait_until(fun() -> py_semaphore:current() =:= 0 end),
            {ok, 4.0} = py:call(math, sqrt, [16]),
            ok;
        _ ->
            app_ct:stop(),
            pyn_ct:stop_all()
    end.

%%% Calls

calls(_Config) ->
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {ok, {[1], [[<<"k">>, 2]]}} = py:call(t_calls, shape, [1], #{k => 2}),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 5000),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, infinity),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, #{timeout => 5000}),
    nothing_received().

names_and_strings(_Config) ->
    [{ok, 4.0} = py:call(M, F, [16]) || M <- [math, <<"math">>, "math"], F <- [sqrt, <<"sqrt">>, "sqrt"]],
    {ok, <<"a/b">>} = py:call("os.path", "join", [a, b]),
    {ok, <<"a/b">>} = py:call(os, "path.join", [a, b]),
    {ok, 3} = py:call(t_calls, "größe", ["abc"]),
    {ok, <<"ä"/utf8>>} = py:eval("'ä'"),
    {ok, <<"ä"/utf8>>} = py:eval(<<"'ä'"/utf8>>),
    ok = py:exec("ä = 1"),
    {ok, 1} = py:eval("ä").

arguments(_Config) ->
    [{error, invalid_args} = py:call(math, sqrt, Args) || Args <- [16, sqrt, {16}, #{}, <<"16">>, [16 | 17]]],
    {error, invalid_args} = py:call(math, sqrt, [16], [{a, 1}]),
    {error, invalid_args} = py:call(math, sqrt, [16], x, 1000),
    [{error, {not_text, _}} = py:call(M, f, []) || M <- [1, {math}, [1.5], [x], [16#110000]]],
    {error, {not_text, _}} = py:eval(17),
    {error, {not_text, _}} = py:exec({code}),
    Terms = [self(), make_ref(), fun lists:map/2, <<1:3>>, [a | b], 1 bsl 200, #{{1} => [2.5]}],
    {ok, Terms} = py:call(t_calls, identity, [Terms]).

options(_Config) ->
    {error, {'ZeroDivisionError', _}} = py:call(operator, truediv, [1, 0]),
    {error, {'ZeroDivisionError', Message, Traceback}} =
        py:call(t_calls, raise_named, ['ZeroDivisionError', <<"x">>], #{}, #{traceback => true}),
    "x" = Message,
    {match, _} = re:run(Traceback, "in raise_named"),
    {error, timeout} = py:call(t_slow, spin, [], #{}, #{timeout => 50, traceback => true}),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, #{node => app_ct:pynode()}).

bad_options(_Config) ->
    [{error, {bad_option, _}} = py:call(math, sqrt, [16], #{}, O)
     || O <- [-1, 1.5, soon, [{timeout, 5}], #{timeout => -1}, #{timeout => soon}, #{traceback => 1}, #{nonsense => 1},
              #{node => <<"x">>}, 1 bsl 70]],
    [{error, {bad_option, _}} = py:eval(<<"1">>, #{}, O) || O <- [-1, soon, #{timeout => x}]],
    {error, {bad_option, _}} = py:exec(<<"1">>, soon),
    {error, _} = py:call(math, sqrt, [16], #{}, #{node => 'no_such_node@-nowhere'}).

errors(_Config) ->
    {error, {'ModuleNotFoundError', _}} = py:call(no_such_module, f, []),
    {error, {'AttributeError', _}} = py:call(math, no_such_function, []),
    {error, {'NameError', _}} = py:call('__main__', no_such_name, []),
    {error, {'TimeoutError', "my own"}} = py:call(t_slow, timeout_error, []),
    {error, {'SyntaxError', _}} = py:eval(<<"1 +">>),
    {error, {'SyntaxError', _}} = py:exec(<<"def">>),
    {error, {'SystemExit', "3"}} = py:call(sys, exit, [3]),
    {error, {'ValueError', _}} = py:call(t_types, value, [surrogate]).

evals(_Config) ->
    {ok, 2} = py:eval(<<"1 + 1">>),
    {ok, 2} = py:eval("1 + 1"),
    {ok, 30} = py:eval(<<"x * y">>, #{x => 5, <<"y">> => 6}),
    {ok, 30} = py:eval(<<"x * y">>, #{x => 5, <<"y">> => 6}, 5000),
    {error, {'NameError', _}} = py:eval(<<"x">>),
    {error, invalid_args} = py:eval(<<"x">>, [{x, 1}]),
    {error, timeout} = py:eval(<<"[x for x in iter(int, 1)]">>, #{}, 50).

execs(_Config) ->
    ok = py:exec(<<"def twice(n): return n * 2">>),
    ok = py:exec(<<"api = twice(4)">>, 5000),
    {ok, 8} = py:eval(<<"api">>),
    {ok, 8} = py:call('__main__', twice, [4]),
    {ok, 8} = py:call(<<"__main__">>, <<"twice">>, [4]),
    {ok, 8} = py:call("__main__", "twice", [4]),
    {error, {'ZeroDivisionError', _}} = py:exec(<<"1 / 0">>),
    {error, timeout} = py:exec(<<"while True: pass">>, 50).

timeouts(_Config) ->
    [begin
         %% The best of three, as the machine may stand still meanwhile.
         true = lists:any(fun(_) ->
             Start = erlang:monotonic_time(millisecond),
             {error, timeout} = py:call(t_slow, F, Args, #{}, Ms),
             Took = erlang:monotonic_time(millisecond) - Start,
             {true, _} = {Took >= Ms - 1, {F, Ms, Took}},
             Took < Ms + 400
         end, [1, 2, 3])
     end || {F, Args} <- [{spin, []}, {sleep, [0.6]}], Ms <- [0, 1, 50, 200]],
    nothing_received().

%% Answers that come about when their time is over: whichever it is, there is one.
nothing_arrives_late(_Config) ->
    Ends = [py:call(t_slow, spin_for, [0.008 + rand:uniform() * 0.004], #{}, 10) || _ <- lists:seq(1, 100)],
    [] = lists:usort(Ends) -- [{error, timeout}, {ok, <<"done">>}],
    {ok, <<"done">>} = py:call(t_slow, spin_for, [0.05]),
    nothing_received().

%%% Calls that are awaited

async_calls(_Config) ->
    Ref = py:call_async(math, sqrt, [16]),
    true = is_reference(Ref),
    {ok, 4.0} = py:await(Ref),
    {ok, 4.0} = py:await(py:call_async(math, sqrt, [16]), 5000),
    {ok, {[1], [[<<"k">>, 2]]}} = py:await(py:call_async(t_calls, shape, [1], #{k => 2})),
    %% Or taken from the mailbox.
    Ref2 = py:call_async(math, sqrt, [25]),
    receive {py_response, Ref2, {ok, 5.0}} -> ok after 5000 -> error(no_response) end,
    Ref3 = py:call_async(math, sqrt, [-1]),
    receive {py_error, Ref3, {'ValueError', _}} -> ok after 5000 -> error(no_error) end,
    nothing_received().

async_errors(_Config) ->
    {error, {'ValueError', _}} = py:await(py:call_async(math, sqrt, [-1])),
    {error, {'ModuleNotFoundError', _}} = py:await(py:call_async(no_such_module, f, [])),
    {error, invalid_args} = py:await(py:call_async(math, sqrt, 16)),
    {error, {not_text, _}} = py:await(py:call_async({m}, f, [])),
    %% A time that is none: nothing has happened to the call.
    Ref = py:call_async(math, sqrt, [16]),
    [{error, {bad_option, T}} = py:await(Ref, T) || T <- bad_timeouts()],
    {ok, 4.0} = py:await(Ref),
    nothing_received().

bad_timeouts() ->
    [-1, 1.5, soon, <<"1">>, #{}, #{timeout => 5}, 16#100000000].

%% In whatever order they are awaited.
async_in_parallel(_Config) ->
    Refs = [{I, py:call_async(t_calls, identity, [I])} || I <- lists:seq(1, 200)],
    [{ok, I} = py:await(Ref) || {I, Ref} <- lists:reverse(Refs)],
    nothing_received().

async_timeouts(Config) ->
    File = file(Config),
    Ref = py:call_async(t_slow, spin_counting, [File]),
    {error, timeout} = py:await(Ref, 100),
    %% It is ended, and nothing of it comes later.
    pyn_ct:wait_until(fun() -> in_flight() =:= 0 end),
    Size = filelib:file_size(File),
    {ok, <<"done">>} = py:call(t_slow, spin_for, [0.05]),
    Size = filelib:file_size(File),
    Ref2 = py:call_async(t_slow, sleep, [0.2]),
    {error, timeout} = py:await(Ref2, 0),
    pyn_ct:wait_until(fun() -> in_flight() =:= 0 end),
    nothing_received().

casts(Config) ->
    File = file(Config),
    ok = py:cast(t_slow, mark, [File]),
    pyn_ct:wait_until(fun() -> file:read_file(File) =:= {ok, <<"x">>} end),
    ok = py:cast(t_slow, mark, [File], #{text => <<"y">>}),
    pyn_ct:wait_until(fun() -> file:read_file(File) =:= {ok, <<"xy">>} end),
    ok = py:cast(no_such_module, f, []),
    {error, invalid_args} = py:cast(math, sqrt, 16),
    nothing_received().

%%% Callers

callers_die(Config) ->
    [begin
         File = file(Config),
         {Pid, Monitor} = spawn_monitor(fun() -> Call(File), receive never -> ok end end),
         pyn_ct:wait_until(fun() -> filelib:file_size(File) > 0 end),
         exit(Pid, kill),
         receive {'DOWN', Monitor, _, _, killed} -> ok end,
         pyn_ct:wait_until(fun() -> in_flight() =:= 0 andalso py_semaphore:current() =:= 0 end)
     end || Call <- [fun(F) -> py:call(t_slow, spin_counting, [F], #{}, infinity) end,
                     fun(F) -> py:call_async(t_slow, spin_counting, [F]) end]].

%% Each process has its definitions, also in calls that it awaits.
interpreters_of_callers(_Config) ->
    Callers = [spawn_monitor(fun() ->
                   Name = "caller_" ++ integer_to_list(C),
                   ok = py:exec([Name, " = 0\ndef next_", Name, "():\n    global ", Name, "\n    ", Name,
                                 " += 1\n    return ", Name]),
                   [{ok, I} = py:call('__main__', "next_" ++ Name, []) || I <- lists:seq(1, 20)],
                   [{ok, I} = py:await(py:call_async('__main__', "next_" ++ Name, [])) || I <- lists:seq(21, 30)],
                   {ok, 30} = py:eval(Name)
               end) || C <- lists:seq(1, 10)],
    ended(Callers).

many_callers(_Config) ->
    Callers = [spawn_monitor(fun() ->
                   [{ok, {C, I}} = py:call(t_calls, identity, [{C, I}]) || I <- lists:seq(1, 50)]
               end) || C <- lists:seq(1, 64)],
    ended(Callers).

information(_Config) ->
    {ok, Version} = py:version(),
    {match, _} = re:run(Version, "^3\\.[0-9]+\\.[0-9]+"),
    {ok, Version} = py:eval("__import__('platform').python_version()"),
    Mode = py:execution_mode(),
    true = lists:member(Mode, [free_threaded, subinterp, multi_executor]),
    ?assert(py:num_executors() > 0),
    Supported = py:subinterp_supported(),
    true = is_boolean(Supported),
    ?assert(Supported orelse Mode =/= subinterp),
    Node = app_ct:pynode(),
    #{Node := #{status := up, mode := Mode, python := Version, calls := Calls, in_flight := 0}} = py:info(),
    ?assert(Calls > 0),
    Max = py_semaphore:max_concurrent(),
    Max = erlang:system_info(schedulers) * 2 + 1.

%% print comes to the logger of this node.
output_goes_to_logger(_Config) ->
    ok = logger:add_handler(py_api_test, ?MODULE, #{config => #{to => self(), what => <<"to the logger">>}}),
    try
        {ok, none} = py:call(t_calls, say, [<<"to the logger">>, <<"stderr">>]),
        receive
            {logged, Text} -> {match, _} = re:run(Text, "to the logger")
        after 10000 -> error(not_logged)
        end
    after
        ok = logger:remove_handler(py_api_test)
    end.

%% A handler of logger: what mentions the text goes to the test.
log(#{msg := Msg}, #{config := #{to := Pid, what := Part}}) ->
    Text = case Msg of
        {Format, Args} when is_list(Format) -> unicode:characters_to_binary(io_lib:format(Format, Args));
        _ -> unicode:characters_to_binary(io_lib:format("~tp", [Msg]))
    end,
    case binary:match(Text, Part) of
        nomatch -> ok;
        _ -> Pid ! {logged, Text}
    end.

%%% The application

start_and_stop(_Config) ->
    [begin
         ok = app_ct:start(),
         {ok, 4.0} = py:call(math, sqrt, [16]),
         ok = application:stop(erlang_python)
     end || _ <- [1, 2, 3]].

stop_leaves_nothing(Config) ->
    Before = {lists:sort(registered()), lists:sort(ets:all())},
    Ports = length(erlang:ports()),
    ok = app_ct:start(),
    Node = app_ct:pynode(),
    {ok, OsPid} = py:call(os, getpid, []),
    ok = py:exec(<<"x = 1">>),
    %% With a call under way.
    File = file(Config),
    {_, Monitor} = spawn_monitor(fun() -> exit(py:call(t_slow, marked_sleep, [File, 0.5], #{}, infinity)) end),
    pyn_ct:wait_until(fun() -> filelib:file_size(File) > 0 end),
    ok = application:stop(erlang_python),
    receive {'DOWN', Monitor, _, _, Answer} -> ct:log("the call under way: ~p", [Answer]) end,
    pyn_ct:wait_until(fun() -> not filelib:is_dir("/proc/" ++ integer_to_list(OsPid)) end),
    pyn_ct:wait_until(fun() -> not lists:member(Node, nodes(hidden)) end),
    pyn_ct:wait_until(fun() -> {lists:sort(registered()), lists:sort(ets:all())} =:= Before end),
    pyn_ct:wait_until(fun() -> length(erlang:ports()) =< Ports end),
    [] = own_persistent_terms(),
    pang = net_adm:ping(Node).

%% By the modules of the application: its keys are their names, or tuples that begin with one.
own_persistent_terms() ->
    {ok, Modules} = application:get_key(erlang_python, modules),
    [Key || {Key, _} <- persistent_term:get(), lists:member(case Key of {First, _} -> First; _ -> Key end, Modules)].

%% Whoever waits when the application stops has an answer.
stop_answers_callers(_Config) ->
    ok = app_ct:start(),
    Callers = [spawn_monitor(fun() -> exit({answer, py:call(t_slow, spin, [], #{}, infinity)}) end)
               || _ <- lists:seq(1, 4)],
    pyn_ct:wait_until(fun() -> in_flight() =:= 4 end),
    ok = application:stop(erlang_python),
    Answers = [receive {'DOWN', Monitor, _, _, Reason} -> Reason after 20000 -> error(no_answer) end
               || {_, Monitor} <- Callers],
    ct:log("~p", [Answers]),
    [{answer, {error, _}} = A || A <- Answers].

%% So has who is about to register a function.
stop_answers_who_registers(_Config) ->
    ok = app_ct:start([{nodes, []}]),
    ok = sys:suspend(py_functions),
    {_, Monitor} = spawn_monitor(fun() -> exit({answer, py:register_function(f, erlang, hd)}) end),
    pyn_ct:wait_until(fun() -> process_info(whereis(py_functions), message_queue_len) =:= {message_queue_len, 1} end),
    ok = application:stop(erlang_python),
    receive {'DOWN', Monitor, _, _, Reason} -> {answer, {error, coordinator_down}} = Reason end.

%% Twice, so that nothing is left of what ran. No process ends by that.
code_is_loaded_again(_Config) ->
    ok = app_ct:start(),
    Peer = {_, Other} = pyn_ct:start_peer(),
    py_callback ! {py_send, {nobody, Other}, hello},
    Under = py:call_async(time, sleep, [0.5]),
    [Target] = py_router:up_nodes(),
    [Link] = [Pid || Pid <- tuple_to_list(Target), is_pid(Pid)],
    {state, Writer, _, _} = sys:get_state(py_logger),
    #{Other := Sender} = lists:last(tuple_to_list(sys:get_state(py_callback))),
    Pids = [Link, Writer, Sender],
    pyn_ct:wait_until(fun() -> lists:all(fun is_idle/1, Pids) end),
    [begin _ = code:purge(M), {module, M} = code:load_file(M) end || M <- [py_link, py_logger, py_callback], _ <- [1, 2]],
    [true, true, true] = [is_process_alive(Pid) || Pid <- Pids],
    {ok, none} = py:await(Under),
    pyn_ct:stop_peer(Peer).

%% Waits for nothing but a message.
is_idle(Pid) ->
    process_info(Pid, [status, message_queue_len]) =:= [{status, waiting}, {message_queue_len, 0}]
        andalso process_info(Pid, current_function) =:= {current_function, {erlang, hibernate, 3}}.

not_started(_Config) ->
    app_ct:stop(),
    {error, _} = py:call(math, sqrt, [16]),
    {error, _} = py:eval(<<"1">>),
    {error, _} = py:exec(<<"1">>),
    {error, _} = py:await(py:call_async(math, sqrt, [16]), 5000).

bad_configuration(_Config) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, emergency), % the application controller reports each of them
    [begin
         {error, Reason} = start_with(Pair),
         Text = lists:flatten(io_lib:format("~tp", [Reason])),
         {match, _} = re:run(Text, atom_to_list(element(1, Pair)))
     end || Pair <- [{max_concurrent, 0}, {max_concurrent, many}, {num_workers, -1}, {num_executors, 1.5},
                     {num_subinterp_workers, 100000}, {execution_mode, fast}, {nodes, all}, {nodes, [<<"a@b">>]},
                     {coordinator, nobody}, {venv, "/no/such/venv"}, {imports, ["import os; os.abort()"]},
                     {preload, 17}, {log_level, loud}, {pynode, "/no/such/pynode"}]],
    ok = logger:set_primary_config(level, Level),
    %% And starts again when it is right.
    ok = app_ct:start(),
    {ok, 4.0} = py:call(math, sqrt, [16]).

start_with(Pair) ->
    app_ct:stop(),
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, element(1, Pair), element(2, Pair)),
    application:ensure_all_started(erlang_python).

%% A node without a name gets one.
not_distributed(_Config) ->
    Ebins = [filename:dirname(code:which(M)) || M <- [py, ?MODULE]],
    {ok, Peer, nonode@nohost} = start_nameless(Ebins),
    try
        {ok, 4.0} = peer:call(Peer, ?MODULE, started_call, [], 60000),
        true = peer:call(Peer, erlang, is_alive, [])
    after
        _ = (catch peer:call(Peer, application, stop, [erlang_python], 20000)),
        peer:stop(Peer)
    end.

start_nameless(Ebins) ->
    case peer:start(#{connection => standard_io, wait_boot => 60000, args => ["-pa" | Ebins]}) of
        {ok, Peer} -> {ok, Peer, peer:call(Peer, erlang, node, [])};
        {ok, Peer, Node} -> {ok, Peer, Node}
    end.

started_call() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    py:call(math, sqrt, [16]).

preload_and_imports(_Config) ->
    ok = app_ct:start([{preload, "preloaded = 'yes'\ndef from_preload(x): return (preloaded, x)\n"},
                       {imports, ["json", os]}]),
    Callers = [spawn_monitor(fun() ->
                   {ok, <<"yes">>} = py:eval("preloaded"),
                   {ok, {<<"yes">>, I}} = py:call('__main__', from_preload, [I]),
                   {ok, true} = py:eval("'json' in __import__('sys').modules")
               end) || I <- lists:seq(1, 20)],
    ended(Callers).

%% The start fails, and says why.
preload_cannot_be_written(Config) ->
    Reason = start_in([{"TMPDIR", filename:join(proplists:get_value(priv_dir, Config), "missing")}]),
    {match, _} = re:run(Reason, "`preload`.*no such file or directory").

%% Also when the program does not start at all.
preload_is_not_left(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "preload"),
    Program = filename:join(Dir, "pynode"),
    ok = filelib:ensure_dir(Program),
    ok = file:write_file(Program, "not executable"),
    {match, _} = re:run(start_in([{"TMPDIR", Dir}, {"PYNODE", Program}]), "cannot be started"),
    {ok, ["pynode"]} = file:list_dir(Dir).

%% Why it does not start with that in the environment.
start_in(Variables) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, emergency),
    Before = [{Name, os:getenv(Name)} || {Name, _} <- Variables],
    [true = os:putenv(Name, Value) || {Name, Value} <- Variables],
    {error, Reason} = start_with({preload, <<"x = 1">>}),
    ok = logger:set_primary_config(level, Level),
    [restore(Name, Old) || {Name, Old} <- Before],
    lists:flatten(io_lib:format("~tp", [Reason])).

restore(Name, false) -> os:unsetenv(Name);
restore(Name, Old) -> os:putenv(Name, Old).

workers_of_the_mode(_Config) ->
    ok = app_ct:start([{num_workers, 2}, {num_executors, 3}, {num_subinterp_workers, 5}]),
    Expected = case py:execution_mode() of
                   free_threaded -> 2;
                   multi_executor -> 3;
                   subinterp -> 5
               end,
    Expected = py:num_executors().

%%% C-nodes that run elsewhere

node_elsewhere(_Config) ->
    P = pyn_ct:start(["--workers", "2"]),
    Node = pyn_ct:node_of(P),
    ok = app_ct:start([{nodes, [Node]}]),
    pyn_ct:wait_until(fun() -> py:call(math, sqrt, [16]) =:= {ok, 4.0} end),
    OsPid = pyn_ct:os_pid(P),
    {ok, OsPid} = py:call(os, getpid, []),
    2 = py:num_executors(),
    #{Node := #{status := up}} = py:info(),
    %% It is not ours to stop.
    ok = application:stop(erlang_python),
    {ok, 4.0} = pyn_ct:call(P, {call, math, sqrt, [16]}),
    ok = pyn_ct:end_clean(P).

%% Calls go to both; what a process defined stays with it.
two_nodes(_Config) ->
    Ps = [pyn_ct:start(["--workers", "2"]) || _ <- [1, 2]],
    ok = app_ct:start([{nodes, [pyn_ct:node_of(P) || P <- Ps]}]),
    pyn_ct:wait_until(fun() -> py:num_executors() =:= 4 end),
    Refs = [py:call_async(t_slow, pid_after, [0.05]) || _ <- lists:seq(1, 40)],
    Pids = lists:usort([begin {ok, OsPid} = py:await(R), OsPid end || R <- Refs]),
    Pids = lists:sort([pyn_ct:os_pid(P) || P <- Ps]),
    Callers = [spawn_monitor(fun() ->
                   ok = py:exec(["two_", integer_to_list(C), " = ", integer_to_list(C)]),
                   [{ok, C} = py:eval(["two_", integer_to_list(C)]) || _ <- lists:seq(1, 10)]
               end) || C <- lists:seq(1, 10)],
    ended(Callers).

node_by_option(_Config) ->
    [A, B] = Ps = [pyn_ct:start(["--workers", "1"]) || _ <- [1, 2]],
    ok = app_ct:start([{nodes, [pyn_ct:node_of(P) || P <- Ps]}]),
    pyn_ct:wait_until(fun() -> py:num_executors() =:= 2 end),
    [begin
         OsPid = pyn_ct:os_pid(P),
         {ok, OsPid} = py:call(os, getpid, [], #{}, #{node => pyn_ct:node_of(P)})
     end || _ <- lists:seq(1, 10), P <- [A, B]].

no_nodes(_Config) ->
    ok = app_ct:start([{nodes, []}]),
    {error, no_nodes} = py:call(math, sqrt, [16]),
    {error, no_nodes} = py:eval(<<"1">>),
    {error, no_nodes} = py:exec(<<"1">>),
    {error, no_nodes} = py:await(py:call_async(math, sqrt, [16]), 5000),
    {error, no_nodes} = py:version(),
    0 = py:num_executors().

%% Calls work as soon as it is there.
node_comes_later(_Config) ->
    Name = pyn_ct:unique("later"),
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Node = list_to_atom(Name ++ "@" ++ Host),
    ok = app_ct:start([{nodes, [Node]}]),
    {error, {nodedown, Node}} = py:call(math, sqrt, [16]),
    P = pyn_ct:start(#{name => Name, args => ["--workers", "1"]}),
    Node = pyn_ct:node_of(P),
    pyn_ct:wait_until(fun() -> py:call(math, sqrt, [16]) =:= {ok, 4.0} end),
    ok = pyn_ct:end_clean(P),
    pyn_ct:wait_until(fun() -> py:call(math, sqrt, [16]) =:= {error, {nodedown, Node}} end).

%% The supervisor starts it again; who was waiting hears why at once.
died_and_back(_Config) ->
    ok = app_ct:start(),
    Node = app_ct:pynode(),
    {ok, OsPid} = py:call(os, getpid, []),
    Self = self(),
    Callers = [spawn_monitor(fun() ->
                   {error, _} = Answer = py:call(t_slow, spin, [], #{}, infinity),
                   Self ! {answered, Answer}
               end) || _ <- [1, 2, 3]],
    pyn_ct:wait_until(fun() -> in_flight() =:= 3 end),
    os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    %% How soon, kill_SUITE:nodedown_is_prompt measures.
    [receive
         {answered, {error, Reason}} -> true = lists:member(Reason, [{nodedown, Node}, {node_exited, Node, {signal, 9}}])
     after 20000 -> error(no_answer)
     end || _ <- Callers],
    ended(Callers),
    pyn_ct:wait_until(fun() -> py:call(math, sqrt, [16]) =:= {ok, 4.0} end),
    {ok, Other} = py:call(os, getpid, []),
    ?assert(Other =/= OsPid).

%% By a code that would say why a pynode does not start: this one had started.
ended_by_python(_Config) ->
    ok = app_ct:start(),
    Node = app_ct:pynode(),
    ok = logger:add_handler(py_api_test, ?MODULE, #{config => #{to => self(), what => <<"exited with code">>}}),
    try
        [begin
             {error, _} = py:call(os, '_exit', [Code]),
             Told = iolist_to_binary([atom_to_list(Node), " pynode exited with code ", integer_to_list(Code)]),
             receive {logged, Text} -> ?assertEqual(Told, Text) after 10000 -> error(not_logged) end,
             pyn_ct:wait_until(fun() -> py:call(math, sqrt, [16]) =:= {ok, 4.0} end)
         end || Code <- [3, 4, 5]]
    after
        ok = logger:remove_handler(py_api_test)
    end.

%%% Helpers

in_flight() ->
    lists:sum([maps:get(in_flight, Info, 0) || Info <- maps:values(py:info())]).

nothing_received() ->
    receive M -> error({unexpected, M}) after 0 -> ok end.

ended(Pids) ->
    [receive
         {'DOWN', Monitor, process, Pid, normal} -> ok;
         {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
     after 60000 -> error({process_hangs, process_info(Pid, current_stacktrace)})
     end || {Pid, Monitor} <- Pids],
    ok.

file(Config) ->
    list_to_binary(filename:join(proplists:get_value(priv_dir, Config), pyn_ct:unique("file"))).
