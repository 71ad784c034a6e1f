%% A Common Test hook that prints a line for each case, with the reason when it failed, and writes the sums to a file:
%% ct_run's own summary has no reasons, and its exit code alone does not say how many.
%%
%% Option: the file that gets "Passed Failed Skipped" at the end.
-module(ct_report).
-export([init/2, id/1, post_end_per_testcase/5, on_tc_fail/4, on_tc_skip/4, pre_init_per_testcase/4, terminate/1]).

-record(state, {file :: file:filename(), started = 0 :: integer(), passed = 0 :: integer(), failed = 0 :: integer(),
                skipped = 0 :: integer(), groups = [] :: [term()]}).

id(File) ->
    {?MODULE, File}.

init({?MODULE, File}, File) ->
    {ok, #state{file = File}}.

pre_init_per_testcase(_Suite, _Case, Config, State) ->
    {Config, State#state{started = erlang:monotonic_time(millisecond)}}.

%% A failed case comes to on_tc_fail as well; here only those that ended well count.
post_end_per_testcase(Suite, Case, Config, Result, State) ->
    case failed(Result) orelse lists:keymember(tc_status, 1, Config) andalso
         proplists:get_value(tc_status, Config) =/= ok of
        true ->
            {Result, State};
        false ->
            Took = erlang:monotonic_time(millisecond) - State#state.started,
            say("  ok    ~ts~ts (~b ms)", [name(Suite, Case), group(Config), Took]),
            {Result, State#state{passed = State#state.passed + 1}}
    end.

on_tc_fail(Suite, Case, Reason, State) ->
    say("  FAIL  ~ts~n~ts", [name(Suite, Case), indent(io_lib:format("~tp", [Reason]))]),
    State#state{failed = State#state.failed + 1}.

%% A case that was skipped because its configuration failed has not been tested: that is a failure.
on_tc_skip(Suite, Case, {tc_auto_skip, Reason}, State) ->
    on_tc_fail(Suite, Case, {skipped, Reason}, State);
on_tc_skip(Suite, Case, {tc_user_skip, Reason}, State) ->
    say("  skip  ~ts: ~tp", [name(Suite, Case), Reason]),
    State#state{skipped = State#state.skipped + 1}.

terminate(#state{file = File, passed = Passed, failed = Failed, skipped = Skipped}) ->
    ok = file:write_file(File, io_lib:format("~b ~b ~b~n", [Passed, Failed, Skipped])).

failed({error, _}) -> true;
failed({skip, _}) -> true;
failed({fail, _}) -> true;
failed({failed, _}) -> true;
failed({timetrap_timeout, _}) -> true;
failed({'EXIT', _}) -> true;
failed(_) -> false.

name(Suite, {Case, Group}) -> io_lib:format("~ts:~ts [~tp]", [Suite, Case, Group]);
name(Suite, Case) -> io_lib:format("~ts:~ts", [Suite, Case]).

group(Config) ->
    case proplists:get_value(name, proplists:get_value(tc_group_properties, Config, [])) of
        undefined -> "";
        Name -> io_lib:format(" [~tp]", [Name])
    end.

indent(Text) ->
    ["        ", string:replace(Text, "\n", "\n        ", all)].

%% To where ct_run was started, not into the log of the case.
say(Format, Args) ->
    io:format(user, Format ++ "~n", Args).
