%% The examples of examples/, as their head comments say they are run, with one worker and with several.
-module(examples_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 1}}].

all() -> [{group, one_worker}, {group, many_workers}].

groups() ->
    Cases = [reentrant_demo, shared_state],
    [{one_worker, [], Cases}, {many_workers, [], Cases}].

init_per_suite(Config) -> Config.
end_per_suite(_Config) -> app_ct:stop().

init_per_group(one_worker, Config) -> ok = app_ct:start(app_ct:workers(1)), Config;
init_per_group(many_workers, Config) -> ok = app_ct:start(app_ct:workers(4)), Config.

end_per_group(_, _Config) -> app_ct:stop().

reentrant_demo(_) ->
    compiled(reentrant_demo),
    ?assertEqual(ok, reentrant_demo:start()),
    Output = ct_capture(fun() -> ?assertEqual(ok, reentrant_demo:demo_all()) end),
    ?assertNotEqual(nomatch, string:find(Output, "alice has -50, bob has 200; refused: throw: over_the_limit")),
    ?assertNotEqual(nomatch, string:find(Output, "All demos done.")),
    %% Again, also from another process.
    ?assertEqual(ok, reentrant_demo:start()),
    {Pid, Ref} = spawn_monitor(fun() -> ok = reentrant_demo:start(), exit(reentrant_demo:demo_all()) end),
    receive {'DOWN', Ref, process, Pid, Reason} -> ?assertEqual(ok, Reason) end,
    ?assertEqual(ok, reentrant_demo:stop()).

shared_state(_) ->
    compiled(shared_state),
    ?assertEqual(ok, shared_state:start()),
    Output = ct_capture(fun() -> ?assertEqual(ok, shared_state:demo_all()) end),
    ?assertNotEqual(nomatch, string:find(Output, "All demos done.")),
    ?assertEqual(ok, shared_state:demo_all()).

compiled(Module) ->
    {ok, Module, Beam} = compile:file(filename:join([pyn_ct:root(), "examples", Module]), [binary, debug_info, warnings_as_errors,
                                                                                          return_errors]),
    {module, Module} = code:load_binary(Module, filename:join([pyn_ct:root(), "examples", Module]), Beam).

ct_capture(Fun) ->
    ct:capture_start(),
    Fun(),
    ct:capture_stop(),
    lists:append(ct:capture_get()).
