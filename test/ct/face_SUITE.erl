%% The Python module `erlang` as its users see it: help, dir, imports, and the type stubs that go with it.
-module(face_SUITE).
-compile([export_all, nowarn_export_all]).
-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [names, unknown_names, own_names_win, imports, help, docstrings, exceptions, terms, stub, asyncio_stub, stub_is_shipped].

init_per_suite(Config) ->
    ok = app_ct:start(app_ct:workers(2)),
    Config.

end_per_suite(_Config) ->
    app_ct:stop().

call(F, Args) -> py:call(t_face, F, Args).

names(_) ->
    {ok, Names} = call(public, [erlang]),
    [?assert(lists:member(Name, Names))
     || Name <- [<<"Atom">>, <<"CallbackError">>, <<"CoordinatorDown">>, <<"ErlangHandler">>, <<"Function">>, <<"Pid">>,
                 <<"Port">>, <<"Reference">>, <<"Span">>, <<"async_call">>, <<"call">>, <<"node">>, <<"self">>, <<"send">>,
                 <<"setup_logging">>, <<"state_clear">>, <<"state_decr">>, <<"state_delete">>, <<"state_get">>,
                 <<"state_incr">>, <<"state_keys">>, <<"state_set">>, <<"trace">>]],
    ?assertEqual({ok, Names}, py:eval("sorted(__import__('erlang').__all__)")),
    ?assertEqual({ok, true}, call(star, [])).

unknown_names(_) ->
    ?assertEqual({ok, <<"builtin_function_or_method">>}, call(unknown, [<<"anything">>])),
    ?assertMatch({ok, <<"module 'erlang' has no attribute", _/binary>>}, call(unknown, [<<"_private">>])),
    ?assertMatch({ok, <<"module 'erlang' has no attribute", _/binary>>}, call(unknown, [<<"__path__">>])).

%% A registered function by the name of something that the module has is called by call() only.
own_names_win(_) ->
    [ok = py:register_function(Name, fun(_) -> registered end) || Name <- ['Span', trace, setup_logging, 'ErlangHandler']],
    {ok, [<<"type erlang">>, <<"function erlang">>, <<"function erlang">>, <<"type erlang">>]} =
        call(imports, [<<"Span">>, <<"trace">>, <<"setup_logging">>, <<"ErlangHandler">>]),
    ?assertEqual({ok, <<"registered">>}, py:eval("__import__('erlang').call('trace')")),
    [ok = py:unregister_function(Name) || Name <- ['Span', trace, setup_logging, 'ErlangHandler']].

%% In whatever order, in every interpreter.
imports(_) ->
    {ok, Results} = py_everywhere:call(t_face, imports, [<<"trace">>, <<"call">>, <<"Span">>, <<"Pid">>], #{}, #{}),
    [?assertEqual({ok, [<<"function erlang">>, <<"builtin_function_or_method erlang">>, <<"type erlang">>, <<"type erlang">>]},
                  Result) || {_, _, Result} <- Results],
    [?assertEqual({ok, true}, call(same_object, [Name])) || Name <- [<<"Span">>, <<"trace">>, <<"ErlangHandler">>]].

help(_) ->
    {ok, Text} = call(help_text, []),
    [?assertNotEqual(nomatch, string:find(Text, Part))
     || Part <- ["NAME\n    erlang - The Erlang cluster", "from erlang import double", "class CallbackError(builtins.RuntimeError)",
                 "call(name, /, *args)", "state_get(key, default=None)", "class Span(builtins.object)", "trace(name=None)",
                 "setup_logging(level=10, format=None)", "class ErlangHandler(logging.Handler)", "event(self, name, /, **attributes)"]],
    ?assertEqual(nomatch, string:find(Text, "_pynode")).

docstrings(_) ->
    ?assertEqual({ok, []}, call(undocumented, [])).

exceptions(_) ->
    ?assertEqual({ok, [none, none, none, <<"text">>, true, true]}, call(exceptions, [])).

terms(_) ->
    Fun = fun() -> here end,
    {ok, [true, true, true, true, Same]} = call(terms, [Fun]),
    ?assertEqual(here, Same()).

stub(_) ->
    ?assertEqual({ok, []}, call(differences, [stub_path("erlang.pyi"), erlang])).

asyncio_stub(_) ->
    ?assertEqual({ok, []}, call(differences, [stub_path("erlang_asyncio.pyi"), erlang_asyncio])).

%% Where the guide says that editors find it.
stub_is_shipped(_) ->
    [?assert(filelib:is_regular(filename:join([code:priv_dir(erlang_python), "python", Name])))
     || Name <- ["erlang.pyi", "erlang_asyncio.pyi"]].

stub_path(Name) ->
    unicode:characters_to_binary(filename:join([pyn_ct:root(), "erlang_client", "priv", "python", Name])).
