%% Runs the fenced snippets of Markdown pages, and looks at their links.
%%
%%     doctest:main(["README.md", "docs/types.md"]) -> {Passed, Failed}
%%
%% A page has a node and a folder of its own, which its snippets share in the order of the page; variables live on from one
%% snippet to the next. `@host` in a snippet stands for this host. What the word behind the fence means:
%%
%%     erlang     expressions, in a node with the application running (unless the page starts it itself). Behind an expression
%%                `%% => Value` is what it must give: a term, a pattern (_, ...), or several with | between them. A
%%                snippet that begins with `1> ` is a transcript of the shell: what stands below an expression is its value
%%                (comments before a prompt are none of it). A remark in parentheses behind a value is none of it either.
%%                One that begins with -module is compiled and loaded; with `%% sys.config`, its values are checked.
%%     python     goes to py:exec; behind an expression `# => value` is what it must give. `python file=NAME` is put into
%%                a file, which can be imported.
%%     elixir     as erlang, with `# => value`, where Elixir is installed
%%     sh run     goes to a shell in the top folder of the repository and must end with 0; what it leaves in the
%%                background ends with the page. `sh run limit=600`: it has that many seconds (90)
%%     text       nothing; so do diff, ini, make, c
%%     LANG norun not run; its first line is a comment that says why
%%
%% Each snippet counts as one, and so do the links of a page.
-module(doctest).

-export([main/1]).

%% In the page's own node.
-export([run_in_node/4]).

-define(SNIPPET_MS, 30000).
-define(SHELL_SECONDS, "90").
-define(SILENT, ["text", "diff", "ini", "make", "c"]).

-record(snippet, {
    line :: pos_integer(),
    language :: string(),
    words = [] :: [string()],
    text :: string()
}).

-spec main([file:filename()]) -> {non_neg_integer(), non_neg_integer()}.
main(Pages) ->
    lists:foldl(fun(Page, {Passed, Failed}) ->
        Results = page(Page),
        Bad = [R || {_, {failed, _}} = R <- Results],
        Good = length([ok || {_, ok} <- Results]),
        Word = case Bad of [] -> "ok  "; _ -> "FAIL" end,
        io:format("  ~s  ~-28ts ~4b snippets~ts~n", [Word, Page, Good + length(Bad), skipped(Results)]),
        [io:format("        ~ts:~b ~ts~n", [Page, Line, indent(Why)]) || {Line, {failed, Why}} <- Bad],
        {Passed + Good, Failed + length(Bad)}
    end, {0, 0}, Pages).

skipped(Results) ->
    case length([s || {_, skipped} <- Results]) of
        0 -> "";
        N -> io_lib:format(", ~b not run", [N])
    end.

indent(Text) ->
    lists:join("\n            ", string:split(string:trim(Text), "\n", all)).

%%% A page

page(Page) ->
    {ok, Bytes} = file:read_file(Page),
    Lines = string:split(unicode:characters_to_list(Bytes), "\n", all),
    {Snippets, Prose} = cut(Lines, 1, [], []),
    [{1, links(Page, Prose)} | run(Page, [local(S) || S <- Snippets])].

%% The snippets, and the lines outside of them.
cut([], _, Snippets, Prose) ->
    {lists:reverse(Snippets), lists:reverse(Prose)};
cut(["```" ++ Info | Rest], N, Snippets, Prose) ->
    {Inside, Outside} = lists:splitwith(fun(L) -> L =/= "```" end, Rest),
    Words = string:lexemes(Info, " "),
    {Language, More} = case Words of [] -> {"", []}; [W | Ws] -> {W, Ws} end,
    Text = lists:append([L ++ "\n" || L <- Inside]),
    Snippet = #snippet{line = N, language = Language, words = More, text = Text},
    After = case Outside of [] -> []; [_ | A] -> A end,
    cut(After, N + length(Inside) + 2, [Snippet | Snippets], Prose);
cut([Line | Rest], N, Snippets, Prose) ->
    cut(Rest, N + 1, Snippets, [Line | Prose]).

local(#snippet{text = Text} = S) ->
    {ok, Host} = inet:gethostname(),
    [Short | _] = string:split(Host, "."),
    S#snippet{text = lists:flatten(string:replace(Text, "@host", "@" ++ Short, all))}.

%% Relative links lead to something that is there.
links(Page, Prose) ->
    {match, Found} = match_or_none(re:run(lists:join("\n", Prose), "\\]\\(([^)#: ]+)(#[^)]*)?\\)",
                                          [global, unicode, {capture, [1], list}])),
    Dir = filename:dirname(Page),
    case [L || [L] <- Found, not filelib:is_file(filename:join(Dir, L))] of
        [] -> ok;
        Dead -> {failed, io_lib:format("links that lead nowhere: ~ts", [lists:join(", ", Dead)])}
    end.

match_or_none(nomatch) -> {match, []};
match_or_none(Match) -> Match.

run(_, []) ->
    [];
run(Page, Snippets) ->
    Dir = make_folder(Page),
    Mark = "DOCTEST_PAGE=" ++ Dir,
    [ok = file:write_file(filename:join(Dir, Name), S#snippet.text)
     || #snippet{language = "python", words = ["file=" ++ Name]} = S <- Snippets],
    Peer = case lists:any(fun needs_node/1, Snippets) of
        true -> start_node(Dir);
        false -> none
    end,
    try
        start_application(Peer, Dir, Snippets),
        run_each(Snippets, Peer, Dir, Mark)
    catch
        error:{badmatch, Why} -> [{1, {failed, io_lib:format("the node does not start: ~0tp", [Why])}}]
    after
        _ = is_pid(Peer) andalso (catch stop_node(Peer)),
        end_marked(Mark),
        file:del_dir_r(Dir)
    end.

make_folder(Page) ->
    Name = lists:flatten(io_lib:format("doctest_~s_~s", [filename:basename(Page, ".md"), os:getpid()])),
    Dir = filename:join(case os:getenv("TMPDIR") of false -> "/tmp"; Tmp -> Tmp end, Name),
    ok = file:make_dir(Dir),
    Cookie = filename:join(Dir, ".erlang.cookie"),
    ok = file:write_file(Cookie, "doctest" ++ os:getpid()),
    ok = file:change_mode(Cookie, 8#400),
    ok = file:make_dir(filename:join(Dir, "bin")),
    ok = file:make_symlink(os:getenv("PYNODE"), filename:join([Dir, "bin", "pynode"])),
    Dir.

needs_node(#snippet{words = ["norun" | _]}) -> false;
needs_node(#snippet{language = L}) -> lists:member(L, ["erlang", "python", "elixir"]).

%% One after the other; behind one that took the node with it the others fail too.
run_each([], _, _, _) ->
    [];
run_each([S | Rest], Peer, Dir, Mark) ->
    Result = try snippet(S, Peer, Dir, Mark) catch C:R -> {failed, io_lib:format("~0tp: ~0tP", [C, R, 30])} end,
    [{S#snippet.line, Result} | run_each(Rest, Peer, Dir, Mark)].

snippet(#snippet{words = ["norun" | _], text = Text}, _, _, _) ->
    case re:run(Text, "^(#|%%|//)\\s*[Nn]ot run: \\S", [{capture, none}, unicode]) of
        match -> skipped;
        nomatch -> {failed, "the first line does not say why it is not run (`# Not run: ...`)"}
    end;
snippet(#snippet{language = "sh", words = ["run"], text = Text}, _, Dir, Mark) ->
    shell(Text, ?SHELL_SECONDS, Dir, Mark);
snippet(#snippet{language = "sh", words = ["run", "limit=" ++ Seconds], text = Text}, _, Dir, Mark) ->
    shell(Text, Seconds, Dir, Mark);
snippet(#snippet{language = "sh"}, _, _, _) ->
    {failed, "sh without `run` or `norun`"};
snippet(#snippet{language = "python", words = ["file=" ++ _]}, Peer, _, _) when is_pid(Peer) ->
    ok;
snippet(#snippet{language = "elixir"} = S, Peer, Dir, _) ->
    case os:getenv("ELIXIR_EBIN", "") of
        "" -> skipped;
        _ -> in_node(Peer, elixir, S, Dir)
    end;
snippet(#snippet{language = L, words = []} = S, Peer, Dir, _) when L =:= "erlang"; L =:= "python" ->
    in_node(Peer, list_to_atom(L), S, Dir);
snippet(#snippet{language = L}, _, _, _) ->
    case lists:member(L, ?SILENT) of
        true -> skipped;
        false -> {failed, io_lib:format("nobody knows how to run \"~ts\"", [L])}
    end.

%%% Shell

shell(Text, Seconds, Dir, Mark) ->
    File = filename:join(Dir, "snippet.sh"),
    ok = file:write_file(File, unicode:characters_to_binary(Text)),
    [Name, Value] = string:split(Mark, "="),
    Path = filename:join(Dir, "bin") ++ ":" ++ os:getenv("PATH"),
    Output = filename:join(Dir, "output"),
    %% By a file: a pipe would not end as long as something in the background has it.
    Port = open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", "exec timeout -k 5 \"$3\" /bin/sh -eu \"$1\" >\"$2\" 2>&1 </dev/null", "sh", File, Output, Seconds]},
        {env, [{Name, Value}, {"HOME", Dir}, {"PATH", Path}, {"PYNODE", false}]},
        exit_status
    ]),
    receive
        {Port, {exit_status, 0}} -> ok;
        {Port, {exit_status, Status}} ->
            {ok, Text2} = file:read_file(Output),
            {failed, ["exit code ", integer_to_list(Status), "\n", last_lines(Text2, 15)]}
    end.

last_lines(Text, N) ->
    Lines = binary:split(string:trim(Text), <<"\n">>, [global]),
    lists:join("\n", lists:nthtail(max(0, length(Lines) - N), Lines)).

%% Ends what shells of this page left in the background: nothing else has the mark in its environment.
end_marked(Mark) ->
    lists:foreach(fun(Environ) ->
        case file:read_file(Environ) of
            {ok, Bytes} ->
                Vars = binary:split(Bytes, <<0>>, [global]),
                lists:member(list_to_binary(Mark), Vars) andalso
                    os:cmd("kill " ++ filename:basename(filename:dirname(Environ)));
            {error, _} -> ok
        end
    end, filelib:wildcard("/proc/[0-9]*/environ")).

%%% The node

start_node(Dir) ->
    Elixir = [["-pa", E] || E <- string:lexemes(os:getenv("ELIXIR_EBIN", ""), ":")],
    {ok, Peer, _} = peer:start(#{
        name => peer:random_name("doc"),
        connection => standard_io,
        args => lists:append([
            ["-pa", absolute(?MODULE), "-pa", absolute(py),
             "-kernel", "logger_level", "none"] | Elixir]),
        env => [{"HOME", Dir}]
    }),
    %% What a page makes is in its own folder.
    ok = peer:call(Peer, file, set_cwd, [Dir]),
    Peer.

absolute(Module) ->
    filename:absname(filename:dirname(code:which(Module))).

start_application(none, _, _) ->
    ok;
start_application(Peer, Dir, Snippets) ->
    ok = peer:call(Peer, application, load, [erlang_python]),
    ok = peer:call(Peer, application, set_env, [erlang_python, pynode_args, ["--path", Dir]]),
    case starts_itself(Snippets) of
        true -> ok;
        false -> {ok, _} = peer:call(Peer, application, ensure_all_started, [erlang_python], 60000), ok
    end.

starts_itself(Snippets) ->
    lists:any(fun(#snippet{language = L, text = T, words = W}) ->
        L =/= "sh" andalso not lists:member("norun", W) andalso
            (string:find(T, "ensure_all_started(erlang_python)") =/= nomatch orelse
             string:find(T, "ensure_all_started(:erlang_python)") =/= nomatch)
    end, Snippets).

stop_node(Peer) ->
    _ = peer:call(Peer, application, stop, [erlang_python], 15000),
    peer:stop(Peer).

in_node(Peer, Language, #snippet{line = Line, text = Text}, Dir) ->
    try peer:call(Peer, ?MODULE, run_in_node, [Language, Line, Text, Dir], ?SNIPPET_MS + 5000)
    catch C:R -> {failed, io_lib:format("the node is gone: ~0tp ~0tP", [C, R, 20])}
    end.

%% A call of each snippet comes in a process of its own; one process evaluates them all, so that what they define stays.
-spec run_in_node(atom(), pos_integer(), string(), file:filename()) -> ok | {failed, iolist()}.
run_in_node(Language, Line, Text, _Dir) ->
    Evaluator = evaluator(),
    Ref = erlang:monitor(process, Evaluator),
    Evaluator ! {run, self(), Ref, Language, Line, Text},
    receive
        {Ref, Result} -> _ = erlang:demonitor(Ref, [flush]), Result;
        {'DOWN', Ref, process, _, Why} -> {failed, io_lib:format("~0tP", [Why, 30])}
    after ?SNIPPET_MS ->
        exit(Evaluator, kill),
        {failed, "no end within 30 s"}
    end.

evaluator() ->
    case whereis(doctest_evaluator) of
        undefined ->
            Pid = spawn(fun() -> group_leader(spawn_link(fun swallow/0), self()), evaluate([], []) end),
            true = register(doctest_evaluator, Pid),
            Pid;
        Pid -> Pid
    end.

%% What snippets print is not looked at.
swallow() ->
    receive {io_request, From, As, _} -> From ! {io_reply, As, ok}, swallow() end.

evaluate(Erlang, Elixir) ->
    receive
        {run, From, Ref, Language, Line, Text} ->
            {Result, Erlang2, Elixir2} =
                try do(Language, Line, Text, Erlang, Elixir)
                catch
                    throw:{failed, Why} -> {{failed, Why}, Erlang, Elixir};
                    C:R:S -> {{failed, io_lib:format("~0tp: ~0tP at ~0tP", [C, R, 40, S, 12])}, Erlang, Elixir}
                end,
            From ! {Ref, Result},
            evaluate(Erlang2, Elixir2)
    end.

do(erlang, Line, Text, Bindings, Ex) -> {ok, erlang(Line, Text, Bindings), Ex};
do(python, _, Text, Bindings, Ex) -> {python(Text), Bindings, Ex};
do(elixir, Line, Text, Bindings, Ex) -> {ok, Bindings, elixir(Line, Text, Ex)}.

fail(Format, Args) ->
    throw({failed, io_lib:format(Format, Args)}).

%%% Erlang

erlang(_, "-module" ++ _ = Text, Bindings) ->
    module(Text),
    Bindings;
erlang(Line, "%% sys.config" ++ _ = Text, Bindings) ->
    config(Line, Text),
    Bindings;
erlang(Line, Text, Bindings) ->
    case re:run(Text, "^(%%[^\n]*\n)*1> ", [{capture, none}, unicode]) of
        match -> steps(transcript(string:split(string:trim(Text, trailing), "\n", all), Line + 1), Bindings);
        nomatch -> steps(expressions(scan(Text, Line + 1, [return_comments])), Bindings)
    end.

module(Text) ->
    Tokens = scan(Text, 1, []),
    Forms = [begin {ok, Form} = erl_parse:parse_form(F), Form end || F <- sentences(Tokens, [])],
    case compile:forms(Forms, [return_errors, export_all, nowarn_export_all]) of
        {ok, Module, Beam} -> {module, _} = code:load_binary(Module, "", Beam);
        {error, Errors, _} -> fail("does not compile: ~0tp", [Errors])
    end.

%% The configuration of the application is what it would take at its start.
config(Line, Text) ->
    {ok, [Tree]} = erl_parse:parse_exprs(scan(Text, Line, [])),
    Env = proplists:get_value(erlang_python, erl_parse:normalise(Tree), []),
    case py_config:check(Env) of
        {ok, _} -> ok;
        {error, Sentence} -> fail("~ts", [Sentence])
    end.

scan(Text, Line, Options) ->
    case erl_scan:string(Text, {Line, 1}, Options) of
        {ok, Tokens, _} -> Tokens;
        {error, {{At, _}, Module, Why}, _} -> fail("line ~b: ~ts", [At, Module:format_error(Why)])
    end.

sentences([], []) -> [];
sentences([], Open) -> fail("no full stop behind ~0tP", [lists:reverse(Open), 12]);
sentences([{dot, _} = Dot | Rest], Open) -> [lists:reverse([Dot | Open]) | sentences(Rest, [])];
sentences([Token | Rest], Open) -> sentences(Rest, [Token | Open]).

%% [{Tokens, Expected}]; Expected is text or `any`. The lines of a longer value follow with an indented comment each.
expressions(Tokens) ->
    expressions(Tokens, [], []).

expressions([], [], Done) ->
    lists:reverse(Done);
expressions([], Open, _) ->
    fail("no full stop behind ~0tP", [lists:reverse(Open), 12]);
expressions([{comment, _, "%% => " ++ Value} | Rest], [], [{Expr, any} | Done]) ->
    expressions(Rest, [], [{Expr, Value} | Done]);
expressions([{comment, _, "%%    " ++ More} | Rest], [], [{Expr, Value} | Done]) when is_list(Value) ->
    expressions(Rest, [], [{Expr, Value ++ "\n" ++ More} | Done]);
expressions([{comment, _, _} | Rest], Open, Done) ->
    expressions(Rest, Open, Done);
expressions([{dot, _} = Dot | Rest], Open, Done) ->
    expressions(Rest, [], [{lists:reverse([Dot | Open]), any} | Done]);
expressions([Token | Rest], Open, Done) ->
    expressions(Rest, [Token | Open], Done).

%% An expression begins behind a prompt and ends where it can be read; up to the next prompt stands its value.
transcript([], _) ->
    [];
transcript(["%%" ++ _ | Rest], N) ->
    transcript(Rest, N + 1);
transcript([Line | Rest], N) ->
    {match, [Begin]} = re:run(Line, "^[0-9]+> (.*)$", [{capture, all_but_first, list}, unicode]),
    {Tokens, Count} = whole(Begin, Rest, N, 0),
    {Value, Next} = lists:splitwith(fun(L) -> re:run(L, "^([0-9]+> |%%)", [{capture, none}]) =:= nomatch end,
                                    lists:nthtail(Count, Rest)),
    Expected = case string:trim(lists:join("\n", Value)) of "" -> any; Text -> lists:flatten(Text) end,
    [{Tokens, Expected} | transcript(Next, N + 1 + Count + length(Value))].

whole(Text, Rest, N, Count) ->
    case {string:find(string:trim(Text, trailing), ".", trailing), Rest} of
        {".", _} -> {scan(Text, N, []), Count};
        {_, [More | Others]} -> whole(Text ++ "\n" ++ More, Others, N, Count + 1);
        {_, []} -> fail("no full stop behind ~ts", [Text])
    end.

steps(Steps, Bindings0) ->
    Parsed = [{parse(Tokens), Expected, line_of(Tokens)} || {Tokens, Expected} <- Steps],
    Fresh = bound_first([E || {Exprs, _, _} <- Parsed, E <- Exprs]),
    Bindings = lists:foldl(fun erl_eval:del_binding/2, Bindings0, Fresh),
    lists:foldl(fun({Exprs, Expected, At}, B) -> step(Exprs, Expected, At, B) end, Bindings, Parsed).

line_of([Token | _]) -> erl_scan:line(Token).

parse(Tokens) ->
    case erl_parse:parse_exprs(Tokens) of
        {ok, Exprs} -> Exprs;
        {error, {{At, _}, Module, Why}} -> fail("line ~b: ~ts", [At, Module:format_error(Why)])
    end.

step(Exprs, Expected, At, Bindings) ->
    try erl_eval:exprs(Exprs, Bindings) of
        {value, Value, New} ->
            _ = matches(Expected, Value) orelse
                fail("line ~b gives ~0tP~nand not ~ts", [At, Value, 60, Expected]),
            New
    catch
        error:{badmatch, V} -> fail("line ~b: the right side is ~0tP", [At, V, 60]);
        error:undef:S -> fail("line ~b: ~0tP", [At, hd(S), 20])
    end.

%% Variables that a match of this snippet binds: it may use a name again.
bound_first(Exprs) ->
    lists:usort(lists:append([vars(P) || {match, _, P, _} <- Exprs])).

vars({var, _, '_'}) -> [];
vars({var, _, Name}) -> [Name];
vars(T) when is_tuple(T) -> vars(tuple_to_list(T));
vars([H | T]) -> vars(H) ++ vars(T);
vars(_) -> [].

matches(any, _) ->
    true;
matches(Text, Value) ->
    lists:any(fun(Tokens) -> matches_one(Tokens, Value) end,
              alternatives(scan(without_remark(Text), 1, []), 0, [], [])).

without_remark(Text) ->
    re:replace(Text, "(?<=\\S) +\\([^()]*\\)\\s*$", "", [unicode, {return, list}]).

alternatives([], _, Open, Done) -> [lists:reverse(Open) | Done];
alternatives([{'|', _} | Rest], 0, Open, Done) -> alternatives(Rest, 0, [], [lists:reverse(Open) | Done]);
alternatives([T | Rest], Depth, Open, Done) ->
    Change = case element(1, T) of
        B when B =:= '{'; B =:= '['; B =:= '('; B =:= '<<' -> 1;
        B when B =:= '}'; B =:= ']'; B =:= ')'; B =:= '>>' -> -1;
        _ -> 0
    end,
    alternatives(Rest, Depth + Change, [T | Open], Done).

%% `...` is the rest of a map. Where there is `_` or a variable it is a pattern, else a term that has to be the same.
matches_one(Tokens, Value) ->
    {Partial, Kept} = without_dots(Tokens),
    End = [{dot, {1, 1}}],
    {ok, [Tree]} = erl_parse:parse_exprs(Kept ++ End),
    case Partial orelse has_variable(Tree) of
        false ->
            {value, Term, _} = erl_eval:expr(Tree, []),
            Term =:= Value;
        true ->
            {ok, [Pattern]} = erl_parse:parse_exprs([exact(T) || T <- Kept] ++ End),
            Clauses = [{clause, 1, [Pattern], [], [{atom, 1, true}]}, {clause, 1, [{var, 1, '_'}], [], [{atom, 1, false}]}],
            {value, Matches, _} = erl_eval:expr({'case', 1, {var, 1, 'DoctestValue'}, Clauses}, [{'DoctestValue', Value}]),
            Matches
    end.

without_dots(Tokens) -> without_dots(Tokens, false, []).

without_dots([], Partial, Done) -> {Partial, lists:reverse(Done)};
without_dots([{',', _}, {'...', _} | Rest], _, Done) -> without_dots(Rest, true, Done);
without_dots([{'...', _} | Rest], _, Done) -> without_dots(Rest, true, Done);
without_dots([T | Rest], Partial, Done) -> without_dots(Rest, Partial, [T | Done]).

has_variable({var, _, _}) -> true;
has_variable(T) when is_tuple(T) -> has_variable(tuple_to_list(T));
has_variable([H | T]) -> has_variable(H) orelse has_variable(T);
has_variable(_) -> false.

exact({'=>', At}) -> {':=', At};
exact(T) -> T.

%%% Python

python(Text) ->
    Code = unicode:characters_to_binary(Text),
    Result = case string:find(Text, "# => ") of
        nomatch -> py:exec(Code);
        _ ->
            ok = py:exec(checker()),
            py:call('__main__', '_check_snippet', [Code])
    end,
    case Result of
        {error, {Class, Message}} -> fail("~ts: ~ts", [Class, Message]);
        {error, Why} -> fail("~0tP", [Why, 30]);
        _ -> ok
    end.

checker() ->
    <<"def _check_snippet(source):
    import ast
    space, lines = globals(), source.splitlines()
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Expr):
            exec(compile(ast.Module([node], []), 'snippet', 'exec'), space)
            continue
        value = eval(compile(ast.Expression(node.value), 'snippet', 'eval'), space)
        _, mark, text = lines[node.end_lineno - 1].partition('# => ')
        if mark and not value == eval(text, space):
            raise AssertionError(f'line {node.lineno} gives {value!r}')
">>.

%%% Elixir

elixir(Line, Text, Bindings) ->
    {ok, _} = application:ensure_all_started(elixir),
    Source = unicode:characters_to_binary(Text),
    Tree = 'Elixir.Code':'string_to_quoted!'(Source, [{line, Line + 1}, {columns, true}, {token_metadata, true}]),
    Exprs = case Tree of {'__block__', _, Many} -> Many; One -> [One] end,
    Lines = string:split(Text, "\n", all),
    ex_steps(Exprs, Line + 1, Lines, Bindings).

ex_steps([], _, _, Bindings) ->
    Bindings;
ex_steps([Expr | Rest], Line, Lines, Bindings) ->
    {Value, New} = 'Elixir.Code':eval_quoted(Expr, Bindings),
    End = case Rest of
        [] -> Line + length(Lines) - 1;
        [Next | _] -> ex_line(Next) - 1
    end,
    Begin = ex_line(Expr),
    Own = [L || {N, L} <- lists:enumerate(Line, Lines), N >= Begin, N =< End],
    case [string:trim(V) || L <- Own, [_, V] <- [string:split(L, "# => ")]] of
        [Expected] ->
            Check = unicode:characters_to_binary(["match?(", Expected, ", doctest_value)"]),
            case 'Elixir.Code':eval_string(Check, [{doctest_value, Value}]) of
                {true, _} -> ok;
                {false, _} -> fail("line ~b gives ~0tP~nand not ~ts", [Begin, Value, 60, Expected])
            end;
        [] -> ok
    end,
    ex_steps(Rest, Line, Lines, New).

ex_line({_, Meta, Args}) ->
    Own = proplists:get_value(line, Meta, infinity),
    lists:min([Own | [ex_line(A) || A <- ex_list(Args)]]);
ex_line({A, B}) -> min(ex_line(A), ex_line(B));
ex_line(L) when is_list(L) -> lists:min([infinity | [ex_line(A) || A <- L]]);
ex_line(_) -> infinity.

ex_list(L) when is_list(L) -> L;
ex_list(_) -> [].
