%% Compares the contract (docs/spec/api.md) with what there is.
%%
%%     spec_coverage:main("docs/spec/api.md", Ebin) -> {Passed, Missing}
%%
%% What the contract promises is read from the page itself: the functions from the first column of the tables under
%% "## Erlang", the modules from the line that begins with "OTP application", the configuration from the paragraph
%% "Configuration", and Python's names from "## Python module `erlang`".
%%
%%     each function   is exported, has a -spec, is called in a fenced block of a page of docs/api that the index there links
%%                     to, and is called in a suite of test/ct, or in a snippet of docs that is run
%%     each module     is there
%%     each key        is checked by py_config, in the table of docs/operations.md, and in a suite
%%     each name       is in cnode/py/erlang.pyi, on a page of docs, and in a test
%%
%% A call counts only with the number of its arguments: erl_scan reads the sources, so that strings and comments are none.
%% A function that a facade of the same name delegates to (py_state:fetch) is none of the contract's.
-module(spec_coverage).

-export([main/2]).

-type mfarity() :: {module(), atom(), arity()}.

-spec main(file:filename(), file:filename()) -> {non_neg_integer(), non_neg_integer()}.
main(Page, Ebin) ->
    Lines = lines(Page),
    Functions = functions(section("## Erlang", Lines)),
    Checks = lists:append([
        [{"contract: functions were found", length(Functions) > 40}],
        function_checks(Functions, Ebin),
        [{io_lib:format("module ~s: is there", [M]), has_module(M, Ebin)} || M <- modules(Lines)],
        key_checks(keys(Lines)),
        name_checks(names(section("## Python module `erlang`", Lines)))
    ]),
    Missing = [What || {What, false} <- Checks],
    [io:format("  missing  ~ts~n", [What]) || What <- Missing],
    {length(Checks) - length(Missing), length(Missing)}.

lines(File) ->
    string:split(unicode:characters_to_list(read(File)), "\n", all).

read(File) ->
    {ok, Bytes} = file:read_file(File),
    Bytes.

%% The lines between that heading and the next of its level.
section(Heading, Lines) ->
    case lists:dropwhile(fun(L) -> L =/= Heading end, Lines) of
        [_ | Rest] -> lists:takewhile(fun(L) -> string:prefix(L, "## ") =:= nomatch end, Rest);
        [] -> []
    end.

%%% What the contract promises

%% `py:call/3,4,5` ..., `cast/3` and so on: where no module is named, it is the last one that was.
-spec functions([string()]) -> [mfarity()].
functions(Lines) ->
    Cells = [hd(string:split(Rest, " | ")) || "| " ++ Rest <- Lines],
    lists:usort(lists:append([in_cell(quoted(Cell), py, []) || Cell <- Cells])).

quoted(Text) ->
    case re:run(Text, "`([^`]*)`", [global, unicode, {capture, [1], list}]) of
        {match, Found} -> [Quoted || [Quoted] <- Found];
        nomatch -> []
    end.

in_cell([], _, Found) ->
    Found;
in_cell([Quoted | Rest], Module, Found) ->
    case re:run(Quoted, "^(?:([a-z_]+):)?([a-z_]+)/([0-9,]+)$", [{capture, all_but_first, list}]) of
        {match, [Named, Name, Arities]} ->
            M = case Named of "" -> Module; _ -> list_to_atom(Named) end,
            in_cell(Rest, M, [{M, list_to_atom(Name), list_to_integer(A)} || A <- string:lexemes(Arities, ",")] ++ Found);
        nomatch ->
            in_cell(Rest, Module, Found)
    end.

modules(Lines) ->
    [Line] = [L || "OTP application" ++ _ = L <- Lines],
    {match, [List]} = re:run(Line, "modules (.*?);", [{capture, all_but_first, list}]),
    [list_to_atom(M) || M <- quoted(List)].

%% Of the words in quotes, those that are no keys.
keys(Lines) ->
    Paragraph = lists:takewhile(fun(L) -> L =/= "" end,
                                lists:dropwhile(fun(L) -> string:prefix(L, "Configuration") =:= nomatch end, Lines)),
    [list_to_atom(K) || K <- lists:usort(quoted(lists:join(" ", Paragraph))),
                        not lists:member(K, ["sys.config", "erlang_python", "pynode"])].

%% `call(name, *args)`, `.event(...)`, `Atom Pid Reference`, `state_get/set/delete`.
names(Lines) ->
    lists:usort(lists:append([names_in(Q) || Q <- quoted(lists:join(" ", Lines))])).

names_in("from " ++ _) -> [];
names_in("erlang." ++ _) -> [];
names_in("state_" ++ Rest) ->
    case re:run(Rest, "^[a-z/]+$", [{capture, none}]) of
        match -> ["state_" ++ N || N <- string:lexemes(Rest, "/")];
        nomatch -> [identifier("state_" ++ Rest)]
    end;
names_in(Quoted) ->
    case re:run(Quoted, "^[A-Za-z ]+$", [{capture, none}]) of
        match -> string:lexemes(Quoted, " ");
        nomatch -> [identifier(Quoted)]
    end.

identifier(Text) ->
    {match, [Name]} = re:run(Text, "^\\.?([A-Za-z_]+)", [{capture, all_but_first, list}]),
    Name.

%%% Functions

function_checks(Functions, Ebin) ->
    Exports = maps:from_list([{M, exports_and_specs(M, Ebin)} || M <- lists:usort([M || {M, _, _} <- Functions])]),
    Documented = documented(),
    Tested = tested(),
    lists:append([
        begin
            {Exported, Specified} = maps:get(M, Exports),
            [{said(Function, "exported"), lists:member({F, A}, Exported)},
             {said(Function, "-spec"), lists:member({F, A}, Specified)},
             {said(Function, "a page in docs/api"), sets:is_element(Function, Documented)},
             {said(Function, "in a test"), sets:is_element(Function, Tested)}]
        end
     || {M, F, A} = Function <- Functions]).

said({M, F, A}, What) ->
    io_lib:format("~s:~s/~b: ~s", [M, F, A, What]).

has_module(Module, Ebin) ->
    filelib:is_regular(filename:join(Ebin, atom_to_list(Module) ++ ".beam")).

exports_and_specs(Module, Ebin) ->
    case beam_lib:chunks(filename:join(Ebin, atom_to_list(Module)), [exports, abstract_code]) of
        {ok, {_, [{exports, Exports}, {abstract_code, {_, Forms}}]}} ->
            {Exports, [FA || {attribute, _, spec, {FA, _}} <- Forms]};
        {error, beam_lib, _} ->
            {[], []}
    end.

%% Only pages that the index leads to.
documented() ->
    {match, Links} = re:run(read("docs/api/README.md"), "\\]\\(([a-z_-]+\\.md)\\)", [global, {capture, [1], list}]),
    Pages = [filename:join("docs/api", Link) || [Link] <- Links],
    sets:from_list(lists:append([calls(Text) || Page <- Pages, filelib:is_regular(Page), {_, Text} <- blocks(Page)])).

tested() ->
    Suites = [calls(unicode:characters_to_list(read(File))) || File <- filelib:wildcard("test/ct/*_SUITE.erl")],
    Run = [calls(Text) || Page <- pages(), {"erlang", Text} <- blocks(Page)],
    sets:from_list(lists:append(Suites ++ Run)).

pages() ->
    ["README.md" | filelib:wildcard("docs/*.md") ++ filelib:wildcard("docs/api/*.md")].

%% The fenced blocks of a page: what stands behind the fence, and the text.
blocks(Page) ->
    case file:read_file(Page) of
        {ok, Bytes} -> cut(string:split(unicode:characters_to_list(Bytes), "\n", all));
        {error, _} -> []
    end.

cut([]) -> [];
cut(["```" ++ Info | Rest]) ->
    {Inside, Outside} = lists:splitwith(fun(L) -> L =/= "```" end, Rest),
    [{Info, lists:flatten(lists:join("\n", Inside))} | cut(case Outside of [] -> []; [_ | More] -> More end)];
cut([_ | Rest]) -> cut(Rest).

%% Every M:F(...) and M:F/A of a text. Pages have signatures, which are no Erlang: what cannot be scanned as a whole is
%% scanned line by line.
-spec calls(string()) -> [mfarity()].
calls(Text) ->
    case erl_scan:string(Text) of
        {ok, Tokens, _} -> in_tokens(Tokens, []);
        {error, _, _} -> lists:append([in_tokens(Tokens, []) || Line <- string:split(Text, "\n", all),
                                                                {ok, Tokens, _} <- [erl_scan:string(Line)]])
    end.

in_tokens([{atom, _, M}, {':', _}, {atom, _, F}, {'(', _} | Rest], Found) ->
    in_tokens(Rest, [{M, F, A} || A <- arities(Rest)] ++ Found);
in_tokens([{atom, _, M}, {':', _}, {atom, _, F}, {'/', _}, {integer, _, A} | Rest], Found) ->
    in_tokens(Rest, [{M, F, A} | Found]);
in_tokens([_ | Rest], Found) ->
    in_tokens(Rest, Found);
in_tokens([], Found) ->
    Found.

%% How many arguments stand before the parenthesis closes; of f(A[, B]), which only signatures have, 1 and 2.
arities([{')', _} | _]) -> [0];
arities(Tokens) -> arities(Tokens, 0, 1, none).

arities([{')', _} | _], 0, N, none) -> [N];
arities([{')', _} | _], 0, N, Least) -> lists:seq(Least, N);
arities([{'[', _}, {',', _} | Rest], 0, N, none) -> arities(Rest, 0, N + 1, N);
arities([{'[', _}, {',', _} | Rest], 0, N, Least) -> arities(Rest, 0, N + 1, Least);
arities([{']', _} | Rest], 0, N, Least) when Least =/= none -> arities(Rest, 0, N, Least);
arities([{',', _} | Rest], 0, N, Least) -> arities(Rest, 0, N + 1, Least);
arities([{Token, _} | Rest], Depth, N, Least) -> arities(Rest, Depth + deeper(Token), N, Least);
arities([_ | Rest], Depth, N, Least) -> arities(Rest, Depth, N, Least);
arities([], _, _, _) -> [].

%% `fun` of a type or of a value without a body has no end of its own; F/A and M:F behind it are no blocks either.
deeper(Open) when Open =:= '('; Open =:= '['; Open =:= '{'; Open =:= '<<'; Open =:= 'begin'; Open =:= 'case'; Open =:= 'if';
                  Open =:= 'receive'; Open =:= 'try' -> 1;
deeper(Close) when Close =:= ')'; Close =:= ']'; Close =:= '}'; Close =:= '>>'; Close =:= 'end' -> -1;
deeper(_) -> 0.

%%% Configuration and Python

key_checks(Keys) ->
    Operations = read("docs/operations.md"),
    Suites = [read(File) || File <- filelib:wildcard("test/ct/*.erl")],
    lists:append([
        [{io_lib:format("configuration ~s: checked by py_config", [Key]), is_checked(Key)},
         {io_lib:format("configuration ~s: in docs/operations.md", [Key]), has(Operations, ["`", atom_to_list(Key), "`"])},
         {io_lib:format("configuration ~s: in a suite", [Key]),
          lists:any(fun(Suite) -> has(Suite, ["{", atom_to_list(Key), ","]) end, Suites)}]
     || Key <- Keys]).

%% A value that no key takes: a known key refuses it by its name.
is_checked(Key) ->
    case py_config:check([{Key, {no, value}}]) of
        {error, Sentence} -> string:find(Sentence, atom_to_list(Key)) =/= nomatch;
        {ok, _} -> false
    end.

name_checks(Names) ->
    Stub = read("cnode/py/erlang.pyi"),
    Pages = [Text || Page <- pages(), {_, Text} <- blocks(Page)] ++ [read(Page) || Page <- pages()],
    Tests = [read(F) || Pattern <- ["test/ct/*.erl", "test/py/*.py"], F <- filelib:wildcard(Pattern)],
    lists:append([
        [{io_lib:format("erlang.~s: in erlang.pyi", [Name]),
          has_word(Stub, ["(def|class) ", Name])},
         {io_lib:format("erlang.~s: on a page of docs", [Name]), lists:any(fun(Text) -> has_word(Text, Name) end, Pages)},
         {io_lib:format("erlang.~s: in a test", [Name]), lists:any(fun(Text) -> has_use(Text, Name) end, Tests)}]
     || Name <- Names]).

has(Text, Part) ->
    string:find(Text, unicode:characters_to_binary(Part)) =/= nomatch.

has_word(Text, Pattern) ->
    re:run(Text, ["\\b", Pattern, "\\b"], [unicode, {capture, none}]) =:= match.

%% erlang.name, a name that was imported, a method.
has_use(Text, Name) ->
    re:run(Text, ["(\\.", Name, "\\b)|(import[^\n]*\\b", Name, "\\b)"], [unicode, {capture, none}]) =:= match.
