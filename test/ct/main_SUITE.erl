%% Where definitions live: the interpreter that ran a process's exec serves its exec, eval and calls to __main__ from then
%% on, and a call by a process that defined nothing goes where an exec bound the name last. What differs between the modes,
%% whether interpreters share one __main__, is asked of the node.
-module(main_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([own_definitions/1, own_definitions_under_load/1, many_definers/1, definitions_of_others/1, last_definer/1,
         defined_while_stuck/1, same_name_by_two/1, dotted_names/1, rebound_while_called/1, failed_exec/1, exec_by_cast/1,
         redefinition/1, imports_stay/1, locals_do_not_stay/1, callers_are_forgotten/1, forgotten_with_their_node/1,
         preload/1, preload_fails/1, main_of_modules/1, interpreters_are_apart/1]).
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [own_definitions, own_definitions_under_load, many_definers, definitions_of_others, last_definer,
     defined_while_stuck, same_name_by_two, dotted_names, rebound_while_called, failed_exec, exec_by_cast, redefinition,
     imports_stay, locals_do_not_stay, callers_are_forgotten, forgotten_with_their_node, preload, preload_fails,
     main_of_modules, interpreters_are_apart].

init_per_suite(Config) ->
    [{pynode, pyn_ct:start(["--workers", "4"])} | Config].

end_per_suite(Config) ->
    ok = pyn_ct:end_clean(pynode(Config)),
    pyn_ct:stop_all().

pynode(Config) -> proplists:get_value(pynode, Config).

exec(Config, Code) -> pyn_ct:call(pynode(Config), {exec, iolist_to_binary(Code)}).
eval(Config, Code) -> pyn_ct:call(pynode(Config), {eval, iolist_to_binary(Code)}).
main(Config, F, Args) -> pyn_ct:call(pynode(Config), {call, '__main__', F, Args}).

%% Each worker has a __main__ of its own.
apart(Config) -> pyn_ct:mode(pynode(Config)) =:= subinterp.

%%% Of the process that defined

own_definitions(Config) ->
    ok = exec(Config, "def own(n):\n    global own_calls\n    own_calls = own_calls + 1\n    return n * n\nown_calls = 0"),
    [{ok, Square} = main(Config, own, [I]) || I <- lists:seq(1, 50), Square <- [I * I]],
    {ok, 50} = eval(Config, "own_calls"),
    ok = exec(Config, "own_calls += 1"),
    {ok, 51} = eval(Config, "own_calls"),
    {ok, 51} = main(Config, 'own_calls.__add__', [0]).

%% Others keep the workers busy, so that the least busy one is another one each time.
own_definitions_under_load(Config) ->
    Others = [spawn_monitor(fun() ->
                  [{ok, _} = pyn_ct:call(pynode(Config), {call, t_slow, spin_for, [0.002]}) || _ <- lists:seq(1, 100)]
              end) || _ <- [1, 2, 3]],
    ok = exec(Config, "loaded = 0"),
    [ok = exec(Config, "loaded += 1") || _ <- lists:seq(1, 60)],
    {ok, 60} = eval(Config, "loaded"),
    ended(Others).

many_definers(Config) ->
    Definers = [spawn_monitor(fun() ->
                    Name = ["definer_", integer_to_list(D)],
                    ok = exec(Config, [Name, " = []"]),
                    [ok = exec(Config, [Name, ".append(", integer_to_list(I), ")"]) || I <- lists:seq(1, 20)],
                    Expected = lists:seq(1, 20),
                    {ok, Expected} = eval(Config, Name)
                end) || D <- lists:seq(1, 20)],
    ended(Definers).

redefinition(Config) ->
    [begin
         ok = exec(Config, ["def again(): return ", integer_to_list(I)]),
         {ok, I} = main(Config, again, [])
     end || I <- lists:seq(1, 30)],
    ok = exec(Config, "del again"),
    {error, {'NameError', _}} = main(Config, again, []).

imports_stay(Config) ->
    ok = exec(Config, "import json, os.path as p\nfrom math import pi"),
    {ok, <<"[1, 2]">>} = eval(Config, "json.dumps([1, 2])"),
    {ok, <<"a/b">>} = main(Config, 'p.join', [a, b]),
    {ok, Pi} = eval(Config, "pi"),
    ?assert(abs(Pi - math:pi()) < 1.0e-12).

dotted_names(Config) ->
    ok = exec(Config, "class Box:\n"
                      "    def __init__(self): self.items = []\n"
                      "    def put(self, x): self.items.append(x); return len(self.items)\n"
                      "    @staticmethod\n"
                      "    def label(): return 'a box'\n"
                      "box = Box()"),
    {ok, <<"a box">>} = main(Config, 'Box.label', []),
    [{ok, I} = main(Config, 'box.put', [x]) || I <- lists:seq(1, 10)],
    %% Also for a process that defined nothing.
    in_other(fun() -> {ok, 11} = main(Config, 'box.put', [x]) end),
    {ok, 11} = eval(Config, "len(box.items)").

%% What it bound before it failed is bound, and it is the caller's interpreter from then on.
%% Without a GIL the object that is called may go while its name is looked up.
rebound_while_called(Config) ->
    ok = exec(Config, "class Rebound:\n"
                      "    def __init__(self, n): self.pad = [n] * 5\n"
                      "    def __call__(self): return len(self.pad)\n"
                      "rebound = Rebound(0)\n"
                      "def rebind(seconds):\n"
                      "    global rebound\n"
                      "    import time\n"
                      "    end = time.monotonic() + seconds\n"
                      "    while time.monotonic() < end: rebound = Rebound(1)\n"),
    Callers = [spawn_monitor(fun() -> [{ok, 5} = main(Config, rebound, []) || _ <- lists:seq(1, 2000)] end)
               || _ <- [1, 2, 3]],
    {ok, none} = main(Config, rebind, [1.5]),
    ended(Callers).

failed_exec(Config) ->
    in_other(fun() ->
        {error, {'ZeroDivisionError', _}} = exec(Config, "half = [1]\ndef half_way(): return half\n1 / 0\nnever = 2"),
        [{ok, [1]} = eval(Config, "half") || _ <- lists:seq(1, 20)],
        {ok, [1]} = main(Config, half_way, []),
        {error, {'NameError', _}} = eval(Config, "never")
    end),
    in_other(fun() -> {ok, [1]} = main(Config, half_way, []) end),
    Begun = filename:join(proplists:get_value(priv_dir, Config), "exec_begun"),
    in_other(fun() ->
        Tag = make_ref(),
        Code = iolist_to_binary(["before = 7\nopen('", Begun, "', 'x').close()\nwhile True: pass"]),
        {py, pyn_ct:node_of(pynode(Config))} ! {'$gen_call', {self(), Tag}, {exec, Code}},
        pyn_ct:wait_until(fun() -> filelib:is_regular(Begun) end),
        ok = pyn_ct:call(pynode(Config), {cancel, Tag, report}),
        receive {Tag, Result} -> {error, interrupted} = Result end,
        [{ok, 7} = eval(Config, "before") || _ <- lists:seq(1, 20)]
    end),
    in_other(fun() ->
        ok = exec(Config, "kept = 1"),
        {error, {'SyntaxError', _}} = exec(Config, "kept = = 2"),
        [{ok, 1} = eval(Config, "kept") || _ <- lists:seq(1, 20)]
    end).

locals_do_not_stay(Config) ->
    {ok, 5} = pyn_ct:call(pynode(Config), {eval, <<"(stays := local)">>, #{local => 5}}),
    {error, {'NameError', _}} = eval(Config, "local"),
    {error, {'NameError', _}} = eval(Config, "stays").

%% Nobody is there to be answered, but the names are found.
exec_by_cast(Config) ->
    ok = pyn_ct:cast(pynode(Config), {exec, <<"def by_cast(): return 'cast'">>}),
    pyn_ct:wait_until(fun() -> main(Config, by_cast, []) =:= {ok, <<"cast">>} end).

%%% Of other processes

definitions_of_others(Config) ->
    Names = [list_to_atom("of_other_" ++ integer_to_list(I)) || I <- lists:seq(1, 12)],
    [in_other(fun() ->
         ok = exec(Config, ["def ", atom_to_list(Name), "(): return '", atom_to_list(Name), "'"])
     end) || Name <- Names],
    in_other(fun() -> [{ok, Text} = main(Config, Name, []) || Name <- Names, Text <- [atom_to_binary(Name)]] end).

last_definer(Config) ->
    [in_other(fun() ->
         ok = exec(Config, ["def latest(): return ", integer_to_list(I)]),
         in_other(fun() -> {ok, I} = main(Config, latest, []) end)
     end) || I <- lists:seq(1, 12)].

%% While the worker of an interpreter is stuck others run in it what is asked of it, and others find what is defined there.
defined_while_stuck(Config) ->
    P = pyn_ct:start(["--workers", "2"]),
    Its = [{pynode, P} | Config],
    Begun = filename:join(proplists:get_value(priv_dir, Config), "begun"),
    ok = exec(Its, "import os\n"
                   "hold, let_go = os.pipe()\n"
                   "def stay(begun):\n"
                   "    open(begun, 'x').close()\n"
                   "    os.read(hold, 1)\n"
                   "def who(): return 'old'"),
    {Caller, Monitor} = spawn_monitor(fun() -> main(Its, stay, [unicode:characters_to_binary(Begun)]) end),
    pyn_ct:wait_until(fun() -> filelib:is_regular(Begun) end),
    exit(Caller, kill),
    receive {'DOWN', Monitor, process, Caller, _} -> ok end,
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, stuck) =:= 1 end),
    %% Somebody else's, which is an older one a moment later.
    in_other(fun() -> ok = exec(Its, "def who(): return 'of another'") end),
    ok = exec(Its, "def who(): return 'new'\ndef only_here(): return 'here'"),
    Found = fun() ->
                {ok, <<"new">>} = main(Its, who, []),
                {ok, <<"here">>} = main(Its, only_here, [])
            end,
    Found(),
    in_other(Found),
    {ok, 1} = eval(Its, "os.write(let_go, b'x')"),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, stuck) =:= 0 end),
    in_other(Found),
    ok = pyn_ct:end_clean(P).

%% Each of the two has its own, or, where they share an interpreter, both have the later one.
same_name_by_two(Config) ->
    Self = self(),
    Definers = [spawn_monitor(fun() ->
                    ok = exec(Config, ["def whose(): return ", integer_to_list(I)]),
                    Self ! {defined, self()},
                    receive go_on -> ok end,
                    Self ! {mine, I, main(Config, whose, [])}
                end) || I <- [1, 2]],
    [receive {defined, Pid} -> ok end || {Pid, _} <- Definers],
    {ok, Last} = in_other(fun() -> main(Config, whose, []) end),
    [Pid ! go_on || {Pid, _} <- Definers],
    Mine = [receive {mine, I, {ok, N}} -> N end || I <- [1, 2]],
    ?assert(lists:member(Mine, [[1, 2], [Last, Last]])),
    ?assert(apart(Config) orelse Mine =:= [Last, Last]),
    ended(Definers).

%%% Death

callers_are_forgotten(Config) ->
    Watched = fun() -> pyn_ct:info(pynode(Config), watched) end,
    Self = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        ok = exec(Config, "def left_behind(): return 'here'"),
        Self ! {watched, Watched()},
        receive never -> ok end
    end),
    Before = receive {watched, N} -> N end,
    ?assert(not apart(Config) orelse Before > 0),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    pyn_ct:wait_until(fun() -> Before =:= 0 orelse Watched() < Before end),
    %% What it defined stays.
    {ok, <<"here">>} = main(Config, left_behind, []).

forgotten_with_their_node(Config) ->
    Watched = fun() -> pyn_ct:info(pynode(Config), watched) end,
    Peer = pyn_ct:start_peer(),
    Before = Watched(),
    P = pynode(Config),
    pyn_ct:on(Peer, fun() ->
        Self = self(),
        Pids = [spawn(fun() -> ok = pyn_ct:call(P, {exec, <<"far = 1">>}), Self ! {self(), ready}, receive never -> ok end end)
                || _ <- lists:seq(1, 10)],
        [receive {Pid, ready} -> ok end || Pid <- Pids]
    end),
    ?assert(not apart(Config) orelse Watched() >= Before + 10),
    pyn_ct:stop_peer(Peer),
    pyn_ct:wait_until(fun() -> Watched() =< Before end).

%%% Preload

preload(Config) ->
    P = pyn_ct:start(["--workers", "3", "--preload", filename:join([pyn_ct:root(), "test", "py", "t_preload.py"])]),
    Callers = [spawn_monitor(fun() ->
                   {ok, <<"yes">>} = pyn_ct:call(P, {eval, <<"preloaded">>}),
                   {ok, {<<"preloaded">>, I}} = pyn_ct:call(P, {call, '__main__', from_preload, [I]}),
                   ok = pyn_ct:call(P, {exec, <<"import time; time.sleep(0.02); preloaded">>}),
                   {ok, <<"yes">>} = pyn_ct:call(P, {eval, <<"preloaded">>})
               end) || I <- lists:seq(1, 12)],
    ended(Callers),
    %% Also in those started later, in the place of a stuck one.
    Gate = pyn_ct:gate(Config),
    Begun = filename:join(proplists:get_value(priv_dir, Config), "stuck_begun"),
    {Stuck, Monitor} = spawn_monitor(fun() -> pyn_ct:call(P, {call, t_slow, marked_wait, [list_to_binary(Begun), Gate]}) end),
    pyn_ct:wait_until(fun() -> filelib:is_regular(Begun) end),
    exit(Stuck, kill),
    receive {'DOWN', Monitor, process, Stuck, _} -> ok end,
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, stuck_total) =:= 1 end),
    Again = [spawn_monitor(fun() ->
                 {ok, <<"yes">>} = pyn_ct:call(P, {eval, <<"(preloaded, __import__('time').sleep(0.02))[0]">>})
             end) || _ <- lists:seq(1, 12)],
    ended(Again),
    pyn_ct:open_gate(Gate),
    pyn_ct:wait_until(fun() -> pyn_ct:info(P, stuck) =:= 0 end),
    ok = pyn_ct:end_clean(P).

preload_fails(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "bad_preload.py"),
    ok = file:write_file(File, "import no_such_module_at_all\n"),
    {exited, 5, Log} = pyn_ct:try_start(["--preload", File]),
    [_ | _] = [L || L <- Log, re:run(L, "error.*no_such_module_at_all", [{capture, none}]) =:= match],
    %% Python names the file.
    ok = file:write_file(File, "x = 1\ndef f(:\n"),
    {exited, 5, Named} = pyn_ct:try_start(["--preload", File]),
    [_ | _] = [L || L <- Named, re:run(L, "error.*SyntaxError.*bad_preload.py, line 2", [{capture, none}]) =:= match],
    {exited, 2, _} = pyn_ct:try_start(["--preload", File ++ ".is_not_there"]).

%%% What is not __main__

%% A module is one per interpreter; calls to it go anywhere.
main_of_modules(Config) ->
    {ok, none} = pyn_ct:call(pynode(Config), {call, t_calls, keep, [<<"k">>, 1]}),
    {ok, <<"__main__">>} = eval(Config, "__name__"),
    {ok, <<"t_calls">>} = pyn_ct:call(pynode(Config), {call, t_calls, 'identity.__getattribute__', ['__module__']}).

%% Four processes define while they hold a worker each; then one after the other looks at its interpreter.
interpreters_are_apart(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "apart"),
    ok = file:make_dir(Dir),
    Definers = [spawn_monitor(fun() ->
                    ok = exec(Config, io_lib:format("import t_slow\nt_slow.meet('~s', '~b', 4)", [Dir, I])),
                    receive {mark, From} -> ok end,
                    ok = exec(Config, "import sys; sys.pyn_marks = getattr(sys, 'pyn_marks', 0) + 1"),
                    From ! {marks, eval(Config, "sys.pyn_marks")}
                end) || I <- [1, 2, 3, 4]],
    Marks = [begin
                 Pid ! {mark, self()},
                 receive
                     {marks, {ok, N}} -> N;
                     {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
                 end
             end || {Pid, Monitor} <- Definers],
    ended(Definers),
    ?assertEqual(case apart(Config) of true -> [1, 1, 1, 1]; false -> [1, 2, 3, 4] end, Marks).

%%% Helpers

%% In a process of its own, so that it has defined nothing.
in_other(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, Fun()}) end),
    receive
        {'DOWN', Monitor, process, Pid, {result, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

ended(Pids) ->
    [receive
         {'DOWN', Monitor, process, Pid, normal} -> ok;
         {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
     after 60000 -> error({process_hangs, process_info(Pid, current_stacktrace)})
     end || {Pid, Monitor} <- Pids],
    ok.
