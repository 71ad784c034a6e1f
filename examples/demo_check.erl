%% Does in Erlang what demo_work.py does in Python, so that the demonstration can compare.
-module(demo_check).

-export([look/2]).
-export([sha256/1]).

%% What Python found says only whether that is Python code; the rest is counted here.
look(Data, #{<<"python">> := Python}) ->
    Counts = case Python of
        true -> tokens(Data, #{});
        false -> #{<<"words">> => words(Data, false, 0)}
    end,
    Counts#{
        <<"sha256">> => sha256(Data),
        <<"bytes">> => byte_size(Data),
        <<"lines">> => length(binary:matches(Data, <<"\n">>))
    }.

words(<<C, Rest/binary>>, _, N) when C =:= $\s; C >= 9, C =< 13 -> words(Rest, false, N);
words(<<_, Rest/binary>>, true, N) -> words(Rest, true, N);
words(<<_, Rest/binary>>, false, N) -> words(Rest, true, N + 1);
words(<<>>, _, N) -> N.

%%% Tokens of Python code, as its module `tokenize` finds them

tokens(Code, Counts) ->
    tokens(Code, 0, kinds(), Counts).

tokens(Code, At, _, Counts) when At >= byte_size(Code) ->
    Counts;
tokens(Code, At, Kinds, Counts) ->
    case first_token(Code, At, Kinds) of
        {space, Length} -> tokens(Code, At + Length, Kinds, Counts);
        {Kind, Length} -> tokens(Code, At + Length, Kinds, maps:update_with(Kind, fun(N) -> N + 1 end, 1, Counts))
    end.

first_token(Code, At, [{Kind, Pattern} | Others]) ->
    case re:run(Code, Pattern, [anchored, {offset, At}, {capture, first}]) of
        {match, [{At, Length}]} -> {Kind, Length};
        nomatch -> first_token(Code, At, Others)
    end.

%% Compiled once in a process.
kinds() ->
    case get(?MODULE) of
        undefined ->
            Kinds = [{Kind, element(2, re:compile(Pattern))} || {Kind, Pattern} <- patterns()],
            put(?MODULE, Kinds),
            Kinds;
        Kinds ->
            Kinds
    end.

patterns() ->
    [
        {space, "[ \\t\\r\\n\\f]+|\\\\\\n"},
        {<<"comments">>, "#[^\\n]*"},
        {<<"strings">>, "(?i:br|rb|fr|rf|[rbuf])?(?:"
            "\"\"\"(?s:\\\\.|[^\\\\])*?\"\"\"|'''(?s:\\\\.|[^\\\\])*?'''|"
            "\"(?s:\\\\.|[^\\\\\"\\n])*\"|'(?s:\\\\.|[^\\\\'\\n])*')"},
        {<<"numbers">>, "\\.?[0-9](?:[eE][-+](?=[0-9])|[0-9a-zA-Z_.])*"},
        {<<"names">>, "[A-Za-z_\\x80-\\xff][A-Za-z0-9_\\x80-\\xff]*"},
        {<<"operators">>, "\\*\\*=|//=|>>=|<<=|\\.\\.\\.|->|:=|\\*\\*|//|<<|>>|"
            "[-+*/%&|^@=<>!]=|[-+*/%&|^@=<>~.,:;()\\[\\]{}]"}
    ].

%%% SHA-256 by FIPS 180-4: Erlang's own is in the application crypto, which not every installation has

-define(WORD(X), ((X) band 16#ffffffff)).
-define(TURN(X, N), (((X) bsr (N)) bor ?WORD((X) bsl (32 - (N))))).

sha256(Data) ->
    Size = bit_size(Data),
    Zeros = (1024 - 65 - Size rem 512) rem 512,
    Padded = <<Data/binary, 1:1, 0:Zeros, Size:64>>,
    Constants = [fraction(math:pow(P, 1 / 3)) || P <- primes(64)],
    Start = [fraction(math:sqrt(P)) || P <- primes(8)],
    << <<Word:32>> || Word <- blocks(Padded, Constants, Start) >>.

blocks(<<>>, _, State) ->
    State;
blocks(<<Block:64/binary, Rest/binary>>, Constants, State) ->
    Words = schedule(16, lists:reverse([W || <<W:32>> <= Block])),
    Done = rounds(Constants, Words, State),
    blocks(Rest, Constants, lists:zipwith(fun(A, B) -> ?WORD(A + B) end, State, Done)).

%% The newest word comes first.
schedule(64, Words) ->
    lists:reverse(Words);
schedule(N, [_, W2, _, _, _, _, W7, _, _, _, _, _, _, _, W15, W16 | _] = Words) ->
    S0 = ?TURN(W15, 7) bxor ?TURN(W15, 18) bxor (W15 bsr 3),
    S1 = ?TURN(W2, 17) bxor ?TURN(W2, 19) bxor (W2 bsr 10),
    schedule(N + 1, [?WORD(W16 + S0 + W7 + S1) | Words]).

rounds([], [], State) ->
    State;
rounds([K | Constants], [W | Words], [A, B, C, D, E, F, G, H]) ->
    S1 = ?TURN(E, 6) bxor ?TURN(E, 11) bxor ?TURN(E, 25),
    T1 = H + S1 + ((E band F) bxor (?WORD(bnot E) band G)) + K + W,
    S0 = ?TURN(A, 2) bxor ?TURN(A, 13) bxor ?TURN(A, 22),
    T2 = S0 + ((A band B) bxor (A band C) bxor (B band C)),
    rounds(Constants, Words, [?WORD(T1 + T2), A, B, C, ?WORD(D + T1), E, F, G]).

%% The first 32 bits behind the point.
fraction(X) ->
    trunc((X - trunc(X)) * 16#100000000).

primes(Count) ->
    lists:sublist([N || N <- lists:seq(2, 311), lists:all(fun(D) -> N rem D =/= 0 end, lists:seq(2, N - 1))], Count).
