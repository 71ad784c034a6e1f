%% Calls that run in every interpreter, and in those that start later: of a C-node by messages alone, and of the
%% application with several C-nodes.
-module(everywhere_SUITE).
-export([all/0, suite/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([bad_requests/1, in_each/1, found_by_anybody/1, others_keep_theirs/1, results_of_any_size/1, errors/1, casts/1,
         busy/1, missed_is_caught_up/1, cancelled/1, caller_dies/1, overloaded/1, replaced_worker/1,
         stuck_is_left_out/1, failed_everywhere/1, failed_somewhere/1, newest_of_a_key/1, forgotten/1, replayed_once/1,
         too_many/1, too_large/1, start_fails_in_part/1]).
-export([api_arguments/1, api_exec_all/1, api_results/1, in_callback/1, in_callback_of_loop/1, callbacks_at_once/1,
         new_node/1, killed_node/1, two_nodes/1, node_away/1, node_about_to_be_up/1, last_node_gone/1, stop_forgets/1,
         reload/1, stopped_meanwhile/1, not_started/1,
         caller_killed/1, preload_in_later_ones/1]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, cnode}, {group, own_cnode}, {group, api}, {group, own_api}].

%% cnode: one pynode for all; api: one application for all; own_*: each case starts its own.
groups() ->
    [{cnode, [], [bad_requests, in_each, found_by_anybody, others_keep_theirs, results_of_any_size, errors, casts,
                  cancelled, caller_dies, replayed_once, too_large, too_many]},
     {own_cnode, [], [busy, missed_is_caught_up, overloaded, replaced_worker, stuck_is_left_out, failed_everywhere,
                      failed_somewhere, newest_of_a_key, forgotten, start_fails_in_part]},
     {api, [], [api_arguments, api_exec_all, api_results, in_callback, in_callback_of_loop, caller_killed]},
     {own_api, [], [callbacks_at_once, new_node, killed_node, two_nodes, node_away, node_about_to_be_up, last_node_gone,
                    stop_forgets, reload, stopped_meanwhile, not_started,
                    preload_in_later_ones]}].

init_per_suite(Config) -> Config.

end_per_suite(_Config) ->
    app_ct:stop(),
    pyn_ct:stop_all().

init_per_group(cnode, Config) ->
    [{pynode, pyn_ct:start(["--workers", "3"])} | Config];
init_per_group(api, Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    Config;
init_per_group(_, Config) ->
    Config.

end_per_group(cnode, Config) -> pyn_ct:end_clean(pynode(Config));
end_per_group(api, _Config) -> app_ct:stop();
end_per_group(_, _Config) -> ok.

init_per_testcase(Case, Config) ->
    case group(Config) of
        own_cnode -> [{pynode, pyn_ct:start(args(Case))} | Config];
        _ -> Config
    end.

group(Config) ->
    proplists:get_value(name, proplists:get_value(tc_group_properties, Config)).

args(overloaded) -> ["--workers", "1", "--max-queue", "3"];
args(failed_somewhere) -> ["--workers", "2"];
args(_) -> ["--workers", "1"].

%% Nothing is left behind: what comes next would meet it.
end_per_testcase(_Case, Config) ->
    end_case(group(Config), Config).

end_case(cnode, Config) ->
    works(pynode(Config)),
    nothing_remembered(pynode(Config));
end_case(own_cnode, Config) ->
    works(pynode(Config)),
    pyn_ct:end_clean(pynode(Config));
end_case(api, _Config) ->
    pyn_ct:wait_until(fun() -> py_semaphore:current() =:= 0 end),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [{ok, _} = py_everywhere:call(math, sqrt, [1], #{}, #{forget => Key}) || {_, Key, _, _, _} <- ets:tab2list(py_everywhere)],
    ok;
end_case(own_api, _Config) ->
    app_ct:stop(),
    pyn_ct:stop_all().

%% What a call has left that was called off goes with the last that looks at it, a moment after it is under way no more.
nothing_remembered(P) ->
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, remembered) =:= 0 end),
    ok.

works(P) ->
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
    {ok, 4.0} = pyn_ct:call(P, {call, math, sqrt, [16]}).

pynode(Config) -> proplists:get_value(pynode, Config).

call(Config, Request) -> pyn_ct:call(pynode(Config), Request).

call_all(Config, F, Args, Options) -> call(Config, {call_all, t_everywhere, F, Args, #{}, Options}).

exec_all(Config, Code, Options) -> call(Config, {exec_all, Code, Options}).

subinterp(Config) -> pyn_ct:mode(pynode(Config)) =:= subinterp.

%% Of a node whose workers were never replaced.
interps(Config) ->
    case subinterp(Config) of
        true -> lists:seq(0, pyn_ct:executors(pynode(Config)));
        false -> [0]
    end.

all_of(Interps, Result) -> [{I, Result} || I <- Interps].

file(Config) -> file(Config, "marks").
file(Config, Name) -> filename:join(proplists:get_value(priv_dir, Config), pyn_ct:unique(Name)).

bin(Path) -> unicode:characters_to_binary(Path).

bytes_in(File) -> filelib:file_size(File).

%% A call that keeps the (only) worker, from when this returns until it is unblocked.
block(Config) ->
    {File, Gate} = {file(Config, "started"), pyn_ct:gate(Config)},
    Id = gen_server:send_request({py, pyn_ct:node_of(pynode(Config))},
                                 {call, t_slow, marked_wait, [bin(File), Gate], #{}, infinity}),
    pyn_ct:wait_until(fun() -> bytes_in(File) > 0 end),
    {Id, Gate}.

unblock({Id, Gate}) ->
    pyn_ct:open_gate(Gate),
    {reply, {ok, <<"slept">>}} = gen_server:wait_response(Id, 5000).

%% The only worker is stuck, and has been replaced; it comes back when the gate is opened.
stick(Config) ->
    Gate = pyn_ct:gate(Config),
    stick(Config, {call, t_slow, marked_wait, [bin(file(Config, "started")), Gate], #{}, 30}),
    Gate.

%% One whose time is over before it begins is made again.
stick(Config, Request) ->
    Is = fun(Key, Value) -> pyn_ct:info(pynode(Config), Key) =:= Value end,
    pyn_ct:wait_until(fun() ->
        {error, timeout} = call(Config, Request),
        pyn_ct:wait_until(fun() -> Is(stuck, 1) orelse Is(in_flight, 0) end),
        Is(stuck, 1)
    end),
    %% The replacement is there.
    {ok, 4.0} = call(Config, {call, math, sqrt, [16]}).

main(Config, F) -> call(Config, {call, '__main__', F, []}).

%%% A C-node

bad_requests(Config) ->
    [{error, {bad_request, _}} = call(Config, Request) ||
        Request <- [{call_all}, {call_all, math}, {call_all, math, sqrt}, {call_all, 1, sqrt, [16]},
                    {call_all, math, sqrt, [16], []}, {call_all, math, sqrt, [16], #{}, soon},
                    {call_all, math, sqrt, [16], #{}, #{}, 1}, {exec_all}, {exec_all, 1}, {exec_all, <<"1">>, #{}, 1},
                    {forget}, {forget, key}, {forget, <<>>}, {forget, <<0:(256 * 8)>>}, {forget, <<"a">>, <<"b">>}]],
    [{error, {bad_request, _}} = exec_all(Config, <<"1">>, Options) ||
        Options <- [#{remember => key}, #{remember => <<>>}, #{remember => <<0:(256 * 8)>>}, #{remember => "key"},
                    #{remember => <<"k">>, replay => 1}, #{replay => 'maybe'}, #{timeout => -1}, -1]],
    [{error, invalid_args} = call(Config, {call_all, math, sqrt, Args}) || Args <- [16, {16}, [16 | 17]]],
    ok = call(Config, {forget, <<"never heard of">>}),
    0 = pyn_ct:info(pynode(Config), remembered).

in_each(Config) ->
    Interps = interps(Config),
    Ones = all_of(Interps, {ok, 1}),
    {ok, Ones} = call_all(Config, count, [], 5000),
    Twos = all_of(Interps, {ok, 2}),
    {ok, Twos} = call_all(Config, count, [], #{timeout => infinity}),
    %% Without keywords and options, too; names may be dotted.
    Roots = all_of(Interps, {ok, 4.0}),
    {ok, Roots} = call(Config, {call_all, math, sqrt, [16]}),
    Joined = all_of(Interps, {ok, <<"a/b">>}),
    {ok, Joined} = call(Config, {call_all, <<"os.path">>, <<"join">>, [a, b], #{}}),
    Oks = all_of(Interps, ok),
    {ok, Oks} = call(Config, {exec_all, <<"x = 1">>}),
    {ok, Oks} = call(Config, {exec_all, "y = x"}),
    0 = pyn_ct:info(pynode(Config), remembered).

%% Whichever worker gets the call, by callers that have nothing of their own.
found_by_anybody(Config) ->
    {ok, _} = exec_all(Config, <<"import time\ndef everywhere(s):\n time.sleep(s)\n return 'here'">>, 5000),
    Ids = [gen_server:send_request({py, pyn_ct:node_of(pynode(Config))}, {call, '__main__', everywhere, [0.05]})
           || _ <- lists:seq(1, 12)],
    [{reply, {ok, <<"here">>}} = gen_server:wait_response(Id, 10000) || Id <- Ids],
    ok.

others_keep_theirs(Config) ->
    P = pynode(Config),
    Self = self(),
    Owner = spawn_link(fun() ->
        ok = pyn_ct:call(P, {exec, <<"mine = 'mine'\ndef get_mine(): return mine">>}),
        Self ! defined,
        receive go_on -> ok end,
        {ok, <<"mine">>} = pyn_ct:call(P, {eval, <<"mine">>}),
        {ok, <<"all">>} = pyn_ct:call(P, {call, '__main__', get_all, []}),
        Self ! done
    end),
    receive defined -> ok end,
    {ok, _} = exec_all(Config, <<"def get_all(): return 'all'">>, 5000),
    [{ok, <<"mine">>} = main(Config, get_mine) || _ <- lists:seq(1, 6)],
    Owner ! go_on,
    receive done -> ok end.

results_of_any_size(Config) ->
    Interps = interps(Config),
    [begin
         Want = all_of(Interps, {ok, binary:copy(<<"x">>, Size)}),
         {ok, Want} = call_all(Config, bulk, [Size], 20000)
     end || Size <- [0, 1, 65535, 65536, 3000000]].

errors(Config) ->
    Interps = interps(Config),
    Errors = fun({ok, Results}) -> {[I || {I, _} <- Results], lists:usort([element(1, E) || {_, {error, E}} <- Results])} end,
    {Interps, ['ModuleNotFoundError']} = Errors(call(Config, {call_all, no_such_module, f, []})),
    {Interps, ['AttributeError']} = Errors(call_all(Config, no_such_function, [], 5000)),
    {Interps, ['NameError']} = Errors(call(Config, {call_all, '__main__', nobody, []})),
    {Interps, ['SyntaxError']} = Errors(exec_all(Config, <<"def">>, 5000)),
    {Interps, ['ZeroDivisionError']} = Errors(exec_all(Config, <<"1/0">>, #{traceback => true})),
    {Interps, ['ValueError']} = Errors(call(Config, {call_all, builtins, chr, [-1]})).

casts(Config) ->
    ok = pyn_ct:cast(pynode(Config), {exec_all, <<"cast = 'seen'">>, #{remember => <<"cast">>}}),
    pyn_ct:wait_until(fun() -> pyn_ct:info(pynode(Config), in_flight) =:= 0 end),
    1 = pyn_ct:info(pynode(Config), remembered),
    {ok, <<"seen">>} = call(Config, {eval, <<"cast">>}),
    ok = pyn_ct:cast(pynode(Config), {forget, <<"cast">>}),
    0 = pyn_ct:info(pynode(Config), remembered).

%% The worker does not come to it in time; the main interpreter, where it is another one, does.
busy(Config) ->
    Block = block(Config),
    {Ran, File} = pyn_ct:wait_until(fun() ->
        Marks = file(Config),
        {ok, Results} = call_all(Config, mark, [bin(Marks)], 100),
        case {subinterp(Config), lists:sort(Results)} of
            {true, [{0, {ok, none}}, {1, {error, timeout}}]} -> {1, Marks};
            {true, [{0, {error, timeout}}, {1, {error, timeout}}]} -> false; % it stood still for so long: again
            {false, [{0, {error, timeout}}]} -> {0, Marks}
        end
    end),
    unblock(Block),
    {ok, _} = call(Config, {call, math, sqrt, [16]}),
    %% What was too late is never run.
    Ran = bytes_in(File).

%% Remembered, it is run as soon as the worker is back, before anything else.
missed_is_caught_up(Config) ->
    Block = block(Config),
    Results = pyn_ct:wait_until(fun() ->
        {ok, Rs} = exec_all(Config, <<"late = 'caught up'">>, #{timeout => 50, remember => <<"late">>}),
        {error, timeout} = proplists:get_value(length(Rs) - 1, Rs),
        (not subinterp(Config) orelse proplists:get_value(0, Rs) =:= ok) andalso Rs % else the main one stood still: again
    end),
    unblock(Block),
    case subinterp(Config) of
        true ->
            {ok, <<"caught up">>} = call(Config, {eval, <<"late">>});
        false -> %% it worked nowhere
            [_] = Results,
            0 = pyn_ct:info(pynode(Config), remembered),
            {error, {'NameError', _}} = call(Config, {eval, <<"late">>})
    end.

cancelled(Config) ->
    Tag = make_ref(),
    {py, pyn_ct:node_of(pynode(Config))} ! {self(), Tag, {exec_all, <<"while True: pass">>, infinity}},
    pyn_ct:wait_until(fun() -> pyn_ct:info(pynode(Config), busy) =:= length(interps(Config)) end),
    ok = call(Config, {cancel, Tag}),
    Interrupted = all_of(interps(Config), {error, interrupted}),
    receive {Tag, Answer} -> {ok, Interrupted} = Answer after 5000 -> error(no_answer) end.

caller_dies(Config) ->
    P = pynode(Config),
    {Pid, Monitor} = spawn_monitor(fun() ->
        pyn_ct:call(P, {exec_all, <<"while True: pass">>, #{timeout => infinity, remember => <<"loop">>}})
    end),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, busy) =:= length(interps(Config)) end),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, killed} -> ok end,
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, in_flight) =:= 0 end),
    nothing_remembered(P).

%% It counts as one request, in however many interpreters it runs.
overloaded(Config) ->
    Server = {py, pyn_ct:node_of(pynode(Config))},
    Block = block(Config),
    Ids = [gen_server:send_request(Server, {exec_all, <<"1">>}) || _ <- [1, 2]],
    pyn_ct:wait_until(fun() -> pyn_ct:info(pynode(Config), in_flight) =:= 3 end),
    {error, {overloaded, 3, 3}} = exec_all(Config, <<"1">>, 5000),
    unblock(Block),
    Oks = all_of(interps(Config), ok),
    [{reply, {ok, Oks}} = gen_server:wait_response(Id, 5000) || Id <- Ids],
    pyn_ct:wait_until(fun() -> pyn_ct:info(pynode(Config), in_flight) =:= 0 end).

%%% What is remembered

%% In order, also what came before: the second one needs the first.
replaced_worker(Config) ->
    {ok, _} = exec_all(Config, <<"first = 1">>, #{remember => <<"1">>}),
    {ok, _} = exec_all(Config, <<"second = first + 1">>, #{remember => <<"2">>}),
    {ok, _} = exec_all(Config, <<"passing = 1">>, 5000),
    2 = pyn_ct:info(pynode(Config), remembered),
    Gate = stick(Config),
    {ok, 2} = call(Config, {eval, <<"second">>}),
    case subinterp(Config) of
        true -> {error, {'NameError', _}} = call(Config, {eval, <<"passing">>});
        false -> {ok, 1} = call(Config, {eval, <<"passing">>})
    end,
    Results = [{I, ok} || I <- case subinterp(Config) of true -> [0, 2]; false -> [0] end],
    {ok, Results} = exec_all(Config, <<"third = second">>, 5000),
    pyn_ct:open_gate(Gate),
    pyn_ct:wait_until(fun() -> pyn_ct:info(pynode(Config), stuck) =:= 0 end).

%% A process whose definitions are in an interpreter that was stuck finds there what came meanwhile.
stuck_is_left_out(Config) ->
    ok = call(Config, {exec, <<"own = 'own'">>}),
    Gate = stick_pinned(Config),
    {ok, Results} = exec_all(Config, <<"meanwhile = 'seen'">>, #{remember => <<"m">>}),
    [] = [E || {_, {error, E}} <- Results],
    pyn_ct:open_gate(Gate),
    pyn_ct:wait_until(fun() -> pyn_ct:info(pynode(Config), stuck) =:= 0 end),
    {ok, <<"own">>} = call(Config, {eval, <<"own">>}),
    {ok, <<"seen">>} = call(Config, {eval, <<"meanwhile">>}),
    %% It is one of all again.
    {ok, Again} = exec_all(Config, <<"1">>, 5000),
    Count = case subinterp(Config) of true -> 3; false -> 1 end,
    Count = length(Again).

stick_pinned(Config) ->
    Gate = pyn_ct:gate(Config),
    Code = <<"__import__('t_slow').marked_wait('", (bin(file(Config, "started")))/binary, "', '", Gate/binary, "')">>,
    stick(Config, {eval, Code, #{}, 30}),
    Gate.

failed_everywhere(Config) ->
    {ok, _} = exec_all(Config, <<"good = 1">>, #{remember => <<"k">>}),
    {ok, Results} = exec_all(Config, <<"good = 2\n1/0">>, #{remember => <<"k">>}),
    [{'ZeroDivisionError', _}] = lists:usort([E || {_, {error, E}} <- Results]),
    %% What was there by that key is still there.
    1 = pyn_ct:info(pynode(Config), remembered),
    Gate = stick(Config),
    Good = case subinterp(Config) of true -> 1; false -> 2 end,
    {ok, Good} = call(Config, {eval, <<"good">>}),
    pyn_ct:open_gate(Gate).

failed_somewhere(Config) ->
    File = file(Config),
    {ok, Results} = call_all(Config, fail_where, [bin(File), no], #{remember => <<"k">>}),
    [{_, {ok, none}}] = [R || {_, {ok, _}} = R <- Results],
    1 = pyn_ct:info(pynode(Config), remembered).

newest_of_a_key(Config) ->
    File = file(Config),
    [{ok, _} = call_all(Config, mark, [bin(File), Text], #{remember => <<"k">>}) || Text <- [a, b, c]],
    1 = pyn_ct:info(pynode(Config), remembered),
    Before = bytes_in(File),
    Gate = stick(Config),
    pyn_ct:open_gate(Gate),
    More = case subinterp(Config) of true -> 1; false -> 0 end,
    {ok, All} = file:read_file(File),
    Expected = Before + More,
    Expected = byte_size(All),
    $c = binary:last(All).

forgotten(Config) ->
    {ok, _} = exec_all(Config, <<"gone = 1">>, #{remember => <<"k">>}),
    {ok, _} = exec_all(Config, <<"there = 1">>, #{remember => <<"other">>}),
    ok = call(Config, {forget, <<"k">>}),
    1 = pyn_ct:info(pynode(Config), remembered),
    Gate = stick(Config),
    {ok, 1} = call(Config, {eval, <<"there">>}),
    case subinterp(Config) of
        true -> {error, {'NameError', _}} = call(Config, {eval, <<"gone">>});
        false -> {ok, 1} = call(Config, {eval, <<"gone">>})
    end,
    pyn_ct:open_gate(Gate).

replayed_once(Config) ->
    Replay = #{remember => <<"k">>, replay => true},
    {ok, _} = exec_all(Config, <<"import t_everywhere\nt_everywhere.COUNT = 0">>, 5000),
    Ones = all_of(interps(Config), {ok, 1}),
    {ok, Ones} = call_all(Config, count, [], Replay),
    {ok, []} = call_all(Config, count, [], Replay),
    {ok, Ones} = call_all(Config, counted, [], Replay), %% something else by that key
    Twos = all_of(interps(Config), {ok, 2}),
    {ok, Twos} = call_all(Config, count, [], Replay),
    Threes = all_of(interps(Config), {ok, 3}),
    {ok, Threes} = call_all(Config, count, [], #{remember => <<"k">>}), %% said anew, it is run anew
    1 = pyn_ct:info(pynode(Config), remembered),
    ok = call(Config, {forget, <<"k">>}).

too_many(Config) ->
    Key = fun(N) -> integer_to_binary(N) end,
    Add = fun(N) -> exec_all(Config, <<"n = 1">>, #{remember => Key(N)}) end,
    [{ok, _} = Add(N) || N <- lists:seq(1, 1024)],
    1024 = pyn_ct:info(pynode(Config), remembered),
    {error, {too_much_remembered, entries, 1024}} = Add(1025),
    ok = call(Config, {forget, Key(7)}),
    {ok, _} = Add(1025),
    {error, {too_much_remembered, entries, 1024}} = Add(1026),
    [ok = call(Config, {forget, Key(N)}) || N <- lists:seq(1, 1025)],
    ok.

too_large(Config) ->
    Bulk = fun(Bytes) -> <<"#", (binary:copy(<<"x">>, Bytes))/binary>> end,
    {error, {too_much_remembered, bytes, Max}} = exec_all(Config, Bulk(17000000), #{remember => <<"a">>}),
    16777216 = Max,
    {ok, _} = exec_all(Config, Bulk(9000000), #{remember => <<"a">>}),
    {error, {too_much_remembered, bytes, Max}} = exec_all(Config, Bulk(9000000), #{remember => <<"b">>}),
    1 = pyn_ct:info(pynode(Config), remembered),
    {ok, _} = exec_all(Config, Bulk(9000000), 5000),
    ok = call(Config, {forget, <<"a">>}).

%% A worker that starts later works although something that is remembered fails in it.
start_fails_in_part(Config) ->
    File = file(Config),
    {ok, _} = call_all(Config, fail_where, [bin(File), <<"no more">>], #{remember => <<"k">>}),
    {ok, _} = exec_all(Config, <<"after = 1">>, #{remember => <<"l">>}),
    Gate = stick(Config),
    {ok, 1} = call(Config, {eval, <<"after">>}),
    case subinterp(Config) of
        true -> pyn_ct:wait_log(pynode(Config), "key=k failed in this interpreter: ValueError: no more");
        false -> ok
    end,
    pyn_ct:open_gate(Gate).

%%% The application

api_arguments(_Config) ->
    [{error, {bad_option, _}} = py_everywhere:exec(<<"1">>, O) ||
        O <- [1000, [], #{timeout => -1}, #{timeout => soon}, #{remember => key}, #{remember => <<>>},
              #{forget => "k"}, #{remember => <<0:(256 * 8)>>}, #{nonsense => 1}]],
    [{error, {not_text, _}} = py:exec_all(Code) || Code <- [17, {code}, [x]]],
    {error, {not_text, _}} = py_everywhere:call(17, f, [], #{}, #{}),
    [{error, invalid_args} = py_everywhere:call(math, sqrt, Args, #{}, #{}) || Args <- [16, [16 | 17], <<"16">>]],
    {error, invalid_args} = py_everywhere:call(math, sqrt, [16], [], #{}),
    {error, {not_text, _}} = py:reload(17),
    [] = ets:tab2list(py_everywhere),
    0 = py_semaphore:current().

api_exec_all(_Config) ->
    ok = py:exec_all(<<"def all_of_them(): return 'all'">>),
    ok = py:exec_all("größe = 1"),
    {ok, 1} = py:eval(<<"größe"/utf8>>),
    [{ok, <<"all">>} = py:call('__main__', all_of_them, []) || _ <- lists:seq(1, 10)],
    {error, {'ZeroDivisionError', _}} = py:exec_all(<<"1/0">>),
    {error, {'SyntaxError', _}} = py:exec_all(<<"def">>),
    %% Where this process has its definitions is not changed by it.
    ok = py:exec(<<"own = 1">>),
    ok = py:exec_all(<<"other = 2">>),
    {ok, 3} = py:eval(<<"own + other">>),
    3 = ets:info(py_everywhere, size),
    0 = py_semaphore:current(),
    receive Unexpected -> error({unexpected, Unexpected}) after 0 -> ok end.

api_results(_Config) ->
    Node = app_ct:pynode(),
    {ok, Results} = py_everywhere:call("math", sqrt, [16], #{}, #{timeout => 5000}),
    [{Node, 0, {ok, 4.0}} | _] = lists:sort(Results),
    ok = py_everywhere:first_error(Results),
    {ok, Failed} = py_everywhere:exec("1/0", #{}),
    {error, {'ZeroDivisionError', _}} = py_everywhere:first_error(Failed),
    {error, e} = py_everywhere:first_error([{Node, 0, ok}, {Node, 1, {ok, 1}}, {Node, 2, {error, e}}, {Node, 3, {error, f}}]),
    ok = py_everywhere:first_error([]),
    %% A key replaces, and is forgotten.
    {ok, _} = py_everywhere:exec("a = 1", #{remember => <<"k">>}),
    {ok, _} = py_everywhere:exec("a = 2", #{remember => <<"k">>}),
    [{_, <<"k">>, {exec, <<"a = 2">>}, _, settled}] = ets:tab2list(py_everywhere),
    {ok, _} = py_everywhere:exec("1/0", #{remember => <<"k">>}),
    [{_, <<"k">>, {exec, <<"a = 2">>}, _, settled}] = ets:tab2list(py_everywhere),
    {ok, _} = py_everywhere:exec("del a", #{forget => <<"k">>}),
    [] = ets:tab2list(py_everywhere),
    #{Node := #{remembered := 0}} = py:info().

%% The only worker waits for the callback: its part is run in the wait.
in_callback(_Config) ->
    ok = py:register_function(define, fun([Code]) -> py:exec_all(Code) =:= ok end),
    {ok, true} = py:call(t_everywhere, ask, [define, <<"defined = 'in a callback'">>], #{}, 5000),
    {ok, <<"in a callback">>} = py:eval(<<"defined">>),
    %% Code that calls back itself.
    ok = py:register_function(echo, fun([X]) -> X end),
    Code = <<"import erlang\nechoed = erlang.call('echo', 17)">>,
    {ok, true} = py:call(t_everywhere, ask, [define, Code], #{}, 5000),
    {ok, 17} = py:eval(<<"echoed">>),
    0 = py_semaphore:current().

in_callback_of_loop(_Config) ->
    ok = py:register_function(define, fun([Code]) -> py:exec_all(Code) =:= ok end),
    {ok, true} = py:call(t_everywhere, ask_in_loop, [define, <<"looped = 1">>], #{}, 5000),
    {ok, 1} = py:eval(<<"looped">>).

%% Two workers wait, each for a callback that wants something of both.
callbacks_at_once(_Config) ->
    ok = app_ct:start([{max_concurrent, 20} | app_ct:workers(2)]),
    Self = self(),
    ok = py:register_function(define, fun([N]) ->
        Self ! {there, self()},
        receive go_on -> ok end,
        py:exec_all(["n", integer_to_list(N), " = ", integer_to_list(N)]) =:= ok
    end),
    Refs = [py:call_async(t_everywhere, ask, [define, N]) || N <- [1, 2]],
    Pids = [receive {there, Pid} -> Pid after 10000 -> error(no_callback) end || _ <- Refs],
    [Pid ! go_on || Pid <- Pids],
    [{ok, true} = py:await(Ref, 10000) || Ref <- Refs],
    [{ok, 3} = py:eval(<<"n1 + n2">>) || _ <- lists:seq(1, 6)].

%% A C-node that comes up later has it before it gets calls.
new_node(_Config) ->
    Name = pyn_ct:unique("late"),
    Late = list_to_atom(Name ++ "@" ++ pyn_ct:host()),
    ok = app_ct:start([{nodes, [local, Late]} | app_ct:workers(1)]),
    ok = py:exec_all(<<"def late(): return 'late'">>),
    ok = py:exec_all(<<"later = late() + 'r'">>),
    P = pyn_ct:start(#{name => Name, args => ["--workers", "2"]}),
    pyn_ct:wait_until(fun() -> length(py_router:up_nodes()) =:= 2 end),
    [{ok, <<"later">>} = py:eval(<<"later">>, #{}, #{node => Late}) || _ <- [1, 2, 3, 4]],
    [{ok, <<"late">>} = py:call('__main__', late, []) || _ <- lists:seq(1, 10)],
    2 = pyn_ct:info(P, remembered).

killed_node(_Config) ->
    ok = app_ct:start(app_ct:workers(1)),
    ok = py:exec_all(<<"def again(): return 'again'">>),
    #{os_pid := OsPid} = maps:get(app_ct:pynode(), py:info()),
    _ = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    Answer = pyn_ct:wait_until(fun() ->
        case py:call('__main__', again, []) of {error, E} when element(1, E) =/= 'NameError' -> false; A -> A end
    end),
    {ok, <<"again">>} = Answer,
    #{os_pid := Other} = maps:get(app_ct:pynode(), py:info()),
    ?assert(Other =/= OsPid).

two_nodes(Config) ->
    P = pyn_ct:start(["--workers", "1"]),
    Node = pyn_ct:node_of(P),
    ok = app_ct:start([{nodes, [local, Node]} | app_ct:workers(1)]),
    {ok, Results} = py_everywhere:call(os, getpid, [], #{}, #{}),
    2 = length(lists:usort([Pid || {_, _, {ok, Pid}} <- Results])),
    2 = length(lists:usort([N || {N, _, _} <- Results])),
    ok = py:exec_all(<<"two = 2">>),
    [{ok, 2} = py:eval(<<"two">>, #{}, #{node => N}) || N <- py_router:known_nodes()],
    %% The end of one while it is at it.
    {Self, Go} = {self(), file(Config, "go")},
    spawn_link(fun() -> Self ! {answer, py_everywhere:call(t_slow, until_there, [bin(Go)], #{}, #{})} end),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, busy) > 0 end),
    pyn_ct:signal(P, "KILL"),
    {signal, 9} = pyn_ct:wait_exit(P),
    ok = file:write_file(Go, <<>>),
    {ok, Half} = receive {answer, A} -> A after 10000 -> error(no_answer) end,
    [{Node, 0, {error, {nodedown, Node}}}] = [R || {_, _, {error, _}} = R <- Half],
    [_ | _] = [R || {_, _, {ok, _}} = R <- Half].

%% What was remembered while a C-node was away reaches it when it is back; what it has is not run again.
node_away(Config) ->
    P = pyn_ct:start(["--workers", "1"]),
    Node = pyn_ct:node_of(P),
    File = file(Config),
    ok = app_ct:start([{nodes, [local, Node]} | app_ct:workers(1)]),
    {ok, Results} = py_everywhere:call(t_everywhere, mark, [bin(File)], #{}, #{remember => <<"mark">>}),
    Count = length(Results),
    Count = bytes_in(File),
    ok = pyn_ct:freeze(pyn_ct:os_pid(P)), % else it might be back before anybody has looked
    true = erlang:disconnect_node(Node),
    pyn_ct:wait_until(fun() -> length(py_router:up_nodes()) =:= 1 end),
    ok = py:exec_all(<<"meanwhile = 1">>),
    ok = pyn_ct:thaw(pyn_ct:os_pid(P)),
    pyn_ct:wait_until(fun() -> length(py_router:up_nodes()) =:= 2 end),
    {ok, 1} = py:eval(<<"meanwhile">>, #{}, #{node => Node}),
    Count = bytes_in(File).

%% The only C-node goes after it was looked whether there is one, and before it was asked.
last_node_gone(_Config) ->
    P = pyn_ct:start(["--workers", "1"]),
    Node = pyn_ct:node_of(P),
    ok = app_ct:start([{nodes, [Node]}]),
    app_ct:await_all(),
    waiting_at_router(1, fun() ->
        ok = pyn_ct:freeze(pyn_ct:os_pid(P)),
        true = erlang:disconnect_node(Node)
    end),
    {Pid, Monitor} = waiting_at_router(2, fun() -> spawn_monitor(fun() -> exit(py:exec_all(<<"nowhere = 1">>)) end) end),
    ok = sys:resume(py_router),
    receive {'DOWN', Monitor, process, Pid, Reason} -> {error, {nodedown, Node}} = Reason end,
    [] = ets:tab2list(py_everywhere),
    ok = pyn_ct:thaw(pyn_ct:os_pid(P)).

%% What the fun begins waits for py_router, which does nothing; so many wait there.
waiting_at_router(N, Fun) ->
    ok = sys:suspend(py_router),
    Result = Fun(),
    pyn_ct:wait_until(fun() -> process_info(whereis(py_router), message_queue_len) >= {message_queue_len, N} end),
    Result.

%% The C-node has been prepared and is about to be published when something else is remembered: it has that, too, when
%% it can be called.
node_about_to_be_up(_Config) ->
    P = pyn_ct:start(["--workers", "2"]),
    Node = pyn_ct:node_of(P),
    ok = app_ct:start([{nodes, [local, Node]} | app_ct:workers(1)]),
    app_ct:await_all(),
    [begin
         ok = py:exec_all(["about = ", integer_to_list(N)]),
         ok = pyn_ct:freeze(pyn_ct:os_pid(P)),
         true = erlang:disconnect_node(Node),
         pyn_ct:wait_until(fun() -> length(py_router:up_nodes()) =:= 1 end),
         waiting_at_router(1, fun() -> pyn_ct:thaw(pyn_ct:os_pid(P)) end),
         {_, Monitor} = spawn_monitor(fun() -> ok = py:exec_all(["import time\ntime.sleep(0.2)\nabout = ", integer_to_list(-N)]) end),
         pyn_ct:wait_until(fun() -> ets:info(py_everywhere, size) > 2 * N - 1 end),
         ok = sys:resume(py_router),
         Negative = -N,
         {ok, Negative} = pyn_ct:wait_until(fun() ->
             case py:eval(<<"about">>, #{}, #{node => Node}) of {error, {nodedown, Node}} -> false; Answer -> Answer end
         end),
         receive {'DOWN', Monitor, process, _, Reason} -> normal = Reason end
     end || N <- [1, 2, 3]].

stop_forgets(_Config) ->
    P = pyn_ct:start(["--workers", "1"]),
    ok = app_ct:start([{nodes, [pyn_ct:node_of(P)]}]),
    ok = py:exec_all(<<"mine = 1">>),
    %% Another node's, which stays.
    {ok, _} = pyn_ct:call(P, {exec_all, <<"theirs = 1">>, #{remember => <<"theirs">>}}),
    2 = pyn_ct:info(P, remembered),
    app_ct:stop(),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, remembered) =:= 1 end).

%% In all that have it, from a file that has changed; who does not have it does not load it.
reload(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Name = pyn_ct:unique("reloaded"),
    Write = fun(Text) -> ok = file:write_file(filename:join(Dir, Name ++ ".py"), Text) end,
    Module = list_to_binary(Name),
    Write("VALUE = 1\n"),
    ok = app_ct:start([{pynode_args, ["--path", Dir, "--path", filename:join([pyn_ct:root(), "test", "py"])]}
                       | app_ct:workers(2)]),
    ok = py:reload(Module),
    ok = py:reload("no_such_module_anywhere"),
    Loaded = fun() -> {ok, Rs} = py_everywhere:exec(["import sys; assert '", Name, "' not in sys.modules"], #{}),
                      py_everywhere:first_error(Rs) end,
    ok = Loaded(),
    ok = py:exec_all(["import ", Name]),
    Get = ["__import__('", Name, "').VALUE"],
    [{ok, 1} = py:eval(Get) || _ <- lists:seq(1, 4)],
    Write("VALUE = 'another'\n"),
    ok = py:reload(Module),
    [{ok, <<"another">>} = py:eval(Get) || _ <- lists:seq(1, 6)],
    Write("1/0\n"),
    {error, [{{Node, Interp}, {'ZeroDivisionError', _}} | _] = Errors} = py:reload(Module),
    Node = app_ct:pynode(),
    ?assert(is_integer(Interp)),
    Interps = case app_ct:mode() of subinterp -> 3; _ -> 1 end,
    Interps = length(Errors),
    {error, [_ | _]} = py:reload('__main__').

%% A caller whose application stops meanwhile has an error, as any call.
stopped_meanwhile(_Config) ->
    ok = app_ct:start(app_ct:workers(2)),
    {Pid, Ref} = spawn_monitor(fun() -> exit({result, py:exec_all(<<"while True: pass">>)}) end),
    pyn_ct:wait_until(fun() -> maps:get(busy, maps:get(app_ct:pynode(), py:info())) > 0 end),
    app_ct:stop(),
    receive {'DOWN', Ref, process, Pid, Reason} -> ?assertMatch({result, {error, _}}, Reason) end.

not_started(_Config) ->
    app_ct:stop(),
    {error, no_nodes} = py:exec_all(<<"1">>),
    {error, no_nodes} = py:reload(json),
    {error, no_nodes} = py_everywhere:call(math, sqrt, [16], #{}, #{remember => <<"k">>}).

%% Nothing of a call whose caller died is left behind.
caller_killed(_Config) ->
    {Pid, Monitor} = spawn_monitor(fun() -> py:exec_all(<<"while True: pass">>) end),
    pyn_ct:wait_until(fun() -> ets:info(py_everywhere, size) =:= 1 end),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, killed} -> ok end,
    pyn_ct:wait_until(fun() -> ets:info(py_everywhere, size) =:= 0 end),
    pyn_ct:wait_until(fun() -> maps:get(remembered, maps:get(app_ct:pynode(), py:info())) =:= 0 end),
    pyn_ct:wait_until(fun() -> py_semaphore:current() =:= 0 end),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% The configuration's preload and imports, in each interpreter that there is and in one that starts later.
preload_in_later_ones(Config) ->
    File = file(Config),
    Code = io_lib:format("open(~p, 'a').write('x')\nroot = math.sqrt(16)\ndef loaded(): return root", [File]),
    ok = app_ct:start([{imports, [math, <<"os.path">>]}, {preload, lists:flatten(Code)} | app_ct:workers(1)]),
    ok = py:exec_all(<<"after = root + 1">>),
    Count = case app_ct:mode() of subinterp -> 2; _ -> 1 end,
    Count = bytes_in(File),
    {ok, Results} = py_everywhere:call('__main__', loaded, [], #{}, #{}),
    [{ok, 4.0}] = lists:usort([R || {_, _, R} <- Results]),
    Count = length(Results),
    Free = app_ct:stick(),
    pyn_ct:wait_until(fun() -> maps:get(stuck, maps:get(app_ct:pynode(), py:info())) =:= 1 end),
    {ok, 4.0} = py:call('__main__', loaded, []),
    {ok, 5.0} = py:eval(<<"after">>),
    {ok, <<"a/b">>} = py:eval(<<"os.path.join('a', 'b')">>),
    Later = case app_ct:mode() of subinterp -> 3; _ -> 1 end,
    Later = bytes_in(File),
    Free().
