%% The table of types, every row in both directions, and random terms through Python and back.
-module(types_SUITE).
-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, end_per_testcase/2]).
-export([integers/1, floats/1, special_floats/1, binaries/1, bytes_pairs/1, constants/1, atoms/1, lists/1, tuples/1,
         maps/1, map_keys/1, colliding_keys/1, opaque/1, opaque_of_other_nodes/1, opaque_in_python/1, improper_lists/1,
         iterables/1, subclasses/1, atoms_of_python/1, buffers/1, numpy_values/1, objects_as_text/1, dict_collisions/1,
         surrogates/1, nesting/1, large_binaries/1, large_containers/1, random_terms/1, random_terms_as_keys/1]).
-include_lib("stdlib/include/assert.hrl").

-define(RANDOM_TERMS, 4000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [integers, floats, special_floats, binaries, bytes_pairs, constants, atoms, lists, tuples,
     maps, map_keys, colliding_keys, opaque, opaque_of_other_nodes, opaque_in_python, improper_lists,
     iterables, subclasses, atoms_of_python, buffers, numpy_values, objects_as_text, dict_collisions,
     surrogates, nesting, large_binaries, large_containers, random_terms, random_terms_as_keys].

init_per_suite(Config) ->
    [{pynode, pyn_ct:start(["--workers", "2"])} | Config].

end_per_suite(Config) ->
    ok = pyn_ct:end_clean(pynode(Config)),
    pyn_ct:stop_all().

end_per_testcase(_Case, Config) ->
    case catch pyn_ct:call(pynode(Config), {call, math, sqrt, [16]}) of
        {ok, 4.0} -> ok;
        Other -> {fail, {node_does_not_work, Other}}
    end.

pynode(Config) ->
    proplists:get_value(pynode, Config).

call(Config, F, Args) ->
    pyn_ct:call(pynode(Config), {call, t_types, F, Args}).

%% Through Python and back, alone and inside something.
same(Config, Term) ->
    becomes(Config, Term, Term).

becomes(Config, Term, Result) ->
    {Term, {ok, Result}} = {Term, call(Config, identity, [Term])},
    {Term, {ok, [{Result}, #{<<"k">> := Result}]}} = {Term, call(Config, identity, [[{Term}, #{k => Term}]])}.

kind(Config, Term) ->
    {ok, Kind} = call(Config, kind, [Term]),
    Kind.

value(Config, Name) ->
    call(Config, value, [atom_to_binary(Name)]).

%%% Rows that go both ways

integers(Config) ->
    Edges = [1 bsl N || N <- [0, 7, 8, 15, 16, 27, 28, 29, 30, 31, 32, 47, 59, 60, 61, 62, 63, 64, 65, 90, 120, 127, 128,
                              255, 256, 1000, 2039, 2040, 2041, 2047, 2048, 4096, 16000, 100000]],
    lists:foreach(fun(N) -> same(Config, N) end,
                  lists:usort([S * (E + D) || E <- [0 | Edges], D <- [-1, 0, 1], S <- [1, -1]])),
    <<"int">> = kind(Config, 1 bsl 100),
    %% Computed on either side, not just carried.
    [{ok, N} = call(Config, power, [2, E, P]) || E <- [10, 31, 63, 64, 1000], P <- [-1, 0, 1],
                                                 N <- [pow(2, E) + P]],
    [{ok, true} = call(Config, is_power, [-pow(3, E) + P, -3, E, P]) || E <- [11, 41, 301, 3001], P <- [-1, 0, 1]],
    {ok, Max} = pyn_ct:call(pynode(Config), {eval, <<"(1 << 4194240) - 1">>}),
    true = Max =:= (1 bsl 4194240) - 1,
    {ok, NegMax} = pyn_ct:call(pynode(Config), {eval, <<"1 - (1 << 4194240)">>}),
    true = NegMax =:= -Max,
    {error, {'ValueError', _}} = pyn_ct:call(pynode(Config), {eval, <<"-(1 << 4194240)">>}),
    Huge = pow(7, 5000),
    {ok, Huge} = value(Config, many_digits).

pow(Base, Exponent) ->
    lists:foldl(fun(_, N) -> N * Base end, 1, lists:seq(1, Exponent)).

floats(Config) ->
    lists:foreach(fun(F) -> same(Config, F) end,
                  [0.0, 1.0, -1.0, 0.1, 1.0e300, -1.0e-300, 5.0e-324, 2.2250738585072014e-308, 1.7976931348623157e308,
                   3.141592653589793, 1.0e16, 123456789.125]),
    <<"float">> = kind(Config, 1.0),
    <<"int">> = kind(Config, 1),
    {ok, NegZero} = value(Config, neg_zero),
    <<1:1, 0:63>> = <<NegZero/float>>,
    {ok, Back} = call(Config, identity, [NegZero]),
    <<1:1, 0:63>> = <<Back/float>>.

special_floats(Config) ->
    {ok, nan} = value(Config, nan),
    {ok, infinity} = value(Config, inf),
    {ok, neg_infinity} = value(Config, neg_inf),
    {ok, [nan, 1.0]} = value(Config, nan_in_list).

binaries(Config) ->
    Text = [<<>>, <<"a">>, <<"hello">>, <<"grüße"/utf8>>, <<"中文"/utf8>>, <<16#1F600/utf8>>, <<0>>, <<"a\0b">>,
            <<"ÿ"/utf8>>, <<16#FFFF/utf8>>, <<16#10FFFF/utf8>>, <<16#D7FF/utf8, 16#E000/utf8>>,
            binary:copy(<<"é"/utf8>>, 10000)],
    Bytes = [<<255>>, <<"abc", 128>>, <<192, 128>>, <<237, 160, 128>>, <<244, 144, 128, 128>>, <<"ab", 195>>,
             <<16#1F600/utf8, 255>>, binary:copy(<<"a">>, 10000), <<254, 255, 0, 65>>],
    [begin same(Config, B), <<"str">> = kind(Config, B) end || B <- Text],
    [begin same(Config, B), <<"bytes">> = kind(Config, B) end || B <- Bytes, B =/= binary:copy(<<"a">>, 10000)],
    {ok, 5} = call(Config, length, [<<"grüße"/utf8>>]),
    {ok, [$a, 16#4E2D, 16#1F600]} = call(Config, chars, [<<$a, 16#4E2D/utf8, 16#1F600/utf8>>]),
    {ok, <<"aß€"/utf8, 16#1F600/utf8>>} = value(Config, wide_text),
    {ok, <<0, 255>>} = value(Config, bytes),
    {ok, <<0, 255>>} = value(Config, bytearray),
    {ok, <<>>} = value(Config, empty_bytes).

bytes_pairs(Config) ->
    [begin
         <<"bytes">> = kind(Config, {bytes, B}),
         becomes(Config, {bytes, B}, B)
     end || B <- [<<>>, <<"text">>, <<255>>, <<"grüße"/utf8>>, binary:copy(<<"x">>, 200000)]],
    %% Nothing else is meant.
    [<<"tuple">> = kind(Config, T) || T <- [{bytes}, {bytes, 1}, {bytes, <<"a">>, 1}, {<<"bytes">>, <<"a">>},
                                            {bytes, "abc"}, {bytes, <<1:3>>}]],
    {ok, {<<"bytes">>, 1}} = call(Config, identity, [{bytes, 1}]),
    {ok, [<<"bytes">>, <<"str">>]} = call(Config, kinds, [{bytes, <<"a">>}, <<"a">>]).

constants(Config) ->
    same(Config, true),
    same(Config, false),
    [<<"bool">> = kind(Config, B) || B <- [true, false]],
    [begin becomes(Config, N, none), {ok, true} = call(Config, is_none, [N]) end || N <- [undefined, nil, none]],
    {ok, none} = value(Config, none),
    {ok, [true, false]} = value(Config, bools),
    %% Their texts are texts.
    [begin same(Config, T), <<"str">> = kind(Config, T) end || T <- [<<"true">>, <<"false">>, <<"none">>, <<"undefined">>]],
    {ok, [[], {}, E, <<>>, <<>>]} = value(Config, empties),
    0 = map_size(E).

atoms(Config) ->
    Names = ["a", "hello_world", "", " ", "True", "None", "null", "nan", "größe", "привет", "中文", [16#1F600],
             lists:duplicate(255, $a), lists:duplicate(255, $ä), lists:duplicate(255, 16#4E2D),
             lists:duplicate(255, 16#1F600), "with space", "with'quote", [0], [1, 2, 255]],
    [begin
         Binary = unicode:characters_to_binary(Name),
         becomes(Config, list_to_atom(Name), Binary),
         <<"str">> = kind(Config, list_to_atom(Name)),
         {ok, Name} = call(Config, chars, [list_to_atom(Name)])
     end || Name <- Names].

lists(Config) ->
    [begin same(Config, L), <<"list">> = kind(Config, L) end
     || L <- [[], [1], "hello", [0, 255], [256], [-1], [1, 2.0, <<"x">>], [[]], [[[1]]], lists:seq(1, 300),
              lists:duplicate(65535, $a), lists:duplicate(65536, $a), lists:duplicate(70000, 7), [[1, 2], [3, 4]],
              lists:seq(-500, 500)]],
    {ok, 5} = call(Config, length, ["hello"]).

tuples(Config) ->
    [begin same(Config, T), <<"tuple">> = kind(Config, T) end
     || T <- [{}, {1}, {1, 2}, {1, {2, {3}}}, {[], {}}, list_to_tuple(lists:seq(1, 255)),
              list_to_tuple(lists:seq(1, 256)), list_to_tuple(lists:seq(1, 70000))]].

maps(Config) ->
    [begin same(Config, M), <<"dict">> = kind(Config, M) end
     || M <- [#{}, #{<<"a">> => 1}, #{1 => 2, 3 => [4]}, #{1.5 => 1}, #{{1, <<"x">>} => y(1)}, #{true => false},
              maps:from_list([{I, I * I} || I <- lists:seq(1, 1000)]),
              maps:from_list([{<<"key", (integer_to_binary(I))/binary>>, I} || I <- lists:seq(1, 100)])]],
    becomes(Config, #{a => b, c => undefined}, #{<<"a">> => <<"b">>, <<"c">> => none}),
    becomes(Config, #{undefined => 1}, #{none => 1}).

y(N) -> #{<<"y">> => N}.

map_keys(Config) ->
    %% A key that cannot be hashed says which it is.
    [begin
         {error, {'TypeError', Message}} = call(Config, identity, [#{Key => 1}]),
         {match, _} = re:run(Message, "map key .* cannot be a key in Python: .*unhashable"),
         {error, {'TypeError', _}} = call(Config, identity, [[{#{a => #{Key => 1}}}]])
     end || Key <- [[1], [], "text", #{}, #{a => 1}, {1, [2]}, {{#{}}}]],
    {ok, [[<<"tuple">>, {1, 2}]]} = call(Config, keys_of, [#{{1, 2} => x}]),
    {ok, [[<<"bytes">>, <<"a">>]]} = call(Config, keys_of, [#{{bytes, <<"a">>} => x}]),
    {ok, [[<<"NoneType">>, none]]} = call(Config, keys_of, [#{nil => x}]).

%% Two keys that become one are an error; nothing is silently lost.
colliding_keys(Config) ->
    [begin
         2 = map_size(Map),
         {Map, {error, {'TypeError', Message}}} = {Map, call(Config, identity, [Map])},
         {match, _} = re:run(Message, "two keys")
     end || Map <- [#{a => 1, <<"a">> => 2}, #{1 => a, 1.0 => b}, #{true => 1, 1 => 2}, #{false => 1, 0 => 2},
                    #{false => 1, 0.0 => 2}, #{undefined => 1, nil => 2}, #{none => 1, nil => 2},
                    #{{1, a} => 1, {1.0, <<"a">>} => 2}, #{true => 1, 1.0 => 2},
                    #{{bytes, <<255>>} => 1, <<255>> => 2}]],
    %% These do not.
    same(Config, #{1 => a1(), <<"1">> => a1(), 1.5 => a1(), {1} => a1()}),
    {ok, #{<<"a">> := 1}} = call(Config, identity, [#{a => 1}]).

a1() -> <<"a1">>.

%%% What Python only carries

opaques() ->
    Port = hd(erlang:ports()),
    X = 17,
    [self(), whereis(init), make_ref(), erlang:alias(), Port, fun lists:map/2, fun erlang:'+'/2, fun() -> X end,
     fun(Y) -> [X, Y, self()] end, fun ?MODULE:all/0, <<1:1>>, <<255, 3:7>>, <<"abc", 0:4>>].

opaque(Config) ->
    [begin same(Config, T), {ok, {<<"found">>, T}} = call(Config, roundtrip_key, [T]) end || T <- opaques()],
    same(Config, opaques()),
    [F] = [F || F <- opaques(), is_function(F, 0), F =/= fun ?MODULE:all/0],
    {ok, Back} = call(Config, identity, [F]),
    17 = Back().

opaque_of_other_nodes(Config) ->
    Peer = {_, Node} = pyn_ct:start_peer(),
    Terms = pyn_ct:on(Peer, fun() -> opaques() end),
    [Node] = lists:usort([node(P) || P <- Terms, is_pid(P)]),
    [same(Config, T) || T <- Terms],
    {ok, true} = {ok, Terms =:= element(2, call(Config, identity, [Terms]))},
    %% From that node, with ours.
    P = pynode(Config),
    Ours = opaques(),
    {ok, Ours} = pyn_ct:on(Peer, fun() -> pyn_ct:call(P, {call, t_types, identity, [Ours]}) end),
    %% Kept there while its node goes.
    Pid = hd(Terms),
    ok = pyn_ct:call(P, {exec, <<"held = None">>}),
    pyn_ct:stop_peer(Peer),
    pyn_ct:wait_until(fun() -> not lists:member(Node, nodes()) end),
    same(Config, Pid),
    Text = atom_to_binary(Node),
    {ok, Text} = call(Config, node_of, [Pid]).

opaque_in_python(Config) ->
    [<<"Pid">>, <<"Reference">>, <<"Port">>, <<"Function">>, <<"Bitstring">>, <<"ImproperList">>] =
        [kind(Config, T) || T <- [self(), make_ref(), hd(erlang:ports()), fun lists:map/2, <<1:3>>, [1 | 2]]],
    {ok, {true, true, false}} = call(Config, same, [self(), self()]),
    {ok, {false, _, true}} = call(Config, same, [self(), whereis(init)]),
    Ref = make_ref(),
    {ok, {true, true, false}} = call(Config, same, [Ref, Ref]),
    {ok, {false, _, true}} = call(Config, same, [Ref, make_ref()]),
    [begin
         {ok, Text} = call(Config, F, [T]),
         {match, _} = re:run(Text, Pattern)
     end || {T, Pattern} <- [{self(), "^<erlang\\.Pid .*@"}, {Ref, "^<erlang\\.Reference .*@"},
                             {hd(erlang:ports()), "^<erlang\\.Port .*@"}, {fun lists:map/2, "lists:map/2"},
                             {<<1:3>>, "3 bits"}, {[1 | 2], "^<erlang\\.ImproperList"}],
            F <- [text, representation]],
    Node = atom_to_binary(node()),
    [{ok, Node} = call(Config, node_of, [T]) || T <- [self(), Ref, hd(erlang:ports())]],
    {error, {'TypeError', _}} = call(Config, pickled, [self()]),
    Self = self(),
    {ok, [Self, [Self]]} = call(Config, copied, [Self]).

improper_lists(Config) ->
    [same(Config, L) || L <- [[1 | 2], [a | b], [[1] | <<"x">>], [1, 2, 3 | {4}], [alias | make_ref()],
                              [{x, [y | z]} | #{a => [b | c]}]]],
    %% Their atoms stay atoms: it is the same term.
    {ok, [<<"x">>, [a | b]]} = call(Config, identity, [[x, [a | b]]]).

%%% Rows from Python

iterables(Config) ->
    [{Name, {ok, Value}} = {Name, value(Config, Name)}
     || {Name, Value} <- [{range, [3, 5, 7]}, {empty_range, []}, {frozenset, [7]}, {empty_set, []},
                          {generator, [3, 2, 1]}, {empty_generator, []}, {iterator, [2, 1, 0]},
                          {map_object, [<<"1">>, <<"2">>]}, {zip, [{1, <<"a">>}, {2, <<"b">>}]},
                          {list_iterator, [1, [2]]}, {nested_generators, [[1], [2, 1]]}]],
    {ok, Set} = value(Config, set),
    [1, 2, 3] = lists:sort(Set),
    {error, {'KeyError', _}} = value(Config, fails_inside).

subclasses(Config) ->
    [{Name, {ok, Value}} = {Name, value(Config, Name)}
     || {Name, Value} <- [{namedtuple, {1, <<"two">>}}, {int_enum, 2}, {int_flag, 3}, {str_subclass, <<"text">>},
                          {list_subclass, [1, 2]}, {dict_subclass, #{<<"a">> => 1}}, {ordered_dict, #{<<"a">> => 1}},
                          {defaultdict, #{<<"a">> => 1}}, {float_subclass, 1.5}, {bytes_subclass, <<"abc">>}]].

atoms_of_python(Config) ->
    {ok, hello} = value(Config, atom),
    {ok, Long} = value(Config, atom_255),
    true = is_atom(Long),
    255 = length(atom_to_list(Long)),
    {ok, #{k := v}} = value(Config, atom_key),
    {ok, ''} = value(Config, atom_empty),
    {error, {'ValueError', _}} = value(Config, atom_too_long).

buffers(Config) ->
    [{Name, {ok, Value}} = {Name, value(Config, Name)}
     || {Name, Value} <- [{array_int, [1, -2, 3]}, {array_double, [1.5, 2.5]}, {array_bytes, [1, 2, 3]},
                          {ctypes_array, [4, 5, 6]}, {memoryview, <<"bcd">>}, {memoryview_strided, <<"ace">>},
                          {memoryview_of_ints, [1, 2]}, {memoryview_2d, [[0, 1, 2], [3, 4, 5]]},
                          {bytearray, <<0, 255>>}]].

numpy_values(Config) ->
    case call(Config, numpy_values, []) of
        {error, {'ModuleNotFoundError', _}} ->
            {skip, "this Python has no numpy"};
        {error, {'ImportError', _}} ->
            %% The module of the test itself loads; in it numpy is refused.
            subinterp = pyn_ct:mode(pynode(Config)),
            {skip, "numpy does not load in sub-interpreters"};
        {ok, Values} ->
            Expected =
                #{int8 => -5, uint64 => (1 bsl 64) - 1, float32 => 0.5, float64 => 1.25, bool => true, nan => nan,
                  inf => infinity, longdouble => 2.5, array => [1, 2, 3], matrix => [[0, 1, 2], [3, 4, 5]],
                  floats => [0.5, nan], bools => [true, false], transposed => [[0, 3], [1, 4], [2, 5]], zero_d => 7,
                  empty => [], uint8 => [1, 2, 3], strings => [<<"a">>, <<"b">>], str => <<"text">>,
                  complex => <<"(1+2j)">>},
            maps:foreach(fun(Name, Value) ->
                {Name, Value} = {Name, maps:get(atom_to_binary(Name), Values)}
            end, Expected),
            true = maps:size(Expected) =:= maps:size(Values)
    end.

objects_as_text(Config) ->
    [{Name, {ok, Value}} = {Name, value(Config, Name)}
     || {Name, Value} <- [{dataclass, <<"Data(a=1, b='x')">>}, {date, <<"2024-02-29">>},
                          {datetime, <<"2024-02-29 01:02:03">>}, {decimal, <<"1.10">>}, {fraction, <<"1/3">>},
                          {complex, <<"(1+2j)">>}, {path, <<"/a/b">>}, {ellipsis, <<"Ellipsis">>},
                          {uuid, <<"00000000-0000-0000-0000-000000000001">>}, {enum, <<"Plain.ONE">>},
                          {function, <<"<built-in function len>">>}, {class, <<"<class 't_types.Point'>">>}]],
    {error, {'RuntimeError', "no text today (converting Unprintable)"}} = value(Config, unprintable),
    {error, {'RuntimeError', "no text today (converting Unprintable at ['a'][0])"}} = value(Config, unprintable_deep),
    {error, {'RuntimeError', "no text today (converting Unprintable at ['a'][0])", Traceback}} =
        pyn_ct:call(pynode(Config), {call, t_types, value, [<<"unprintable_deep">>], #{}, #{traceback => true}}),
    {match, _} = re:run(Traceback, "no text today\nconverting Unprintable at \\['a'\\]\\[0\\]\n").

dict_collisions(Config) ->
    [begin
         {Name, {error, {'TypeError', Message}}} = {Name, value(Config, Name)},
         {match, _} = re:run(Message, "cannot convert dict with two keys that become equal in Erlang")
     end || Name <- [str_bytes_keys, atom_and_none, true_and_atom, tuple_keys, nan_keys]],
    [{Name, {ok, Value}} = {Name, value(Config, Name)}
     || {Name, Value} <- [{int_bool_keys, #{1 => <<"int">>, <<"1">> => <<"str">>}},
                          {none_and_str_none, #{none => 1, <<"none">> => 2}},
                          {float_and_str, #{1.5 => 1, <<"1.5">> => 2}},
                          {frozenset_keys, #{[1] => 1, {1} => 2}}]].

surrogates(Config) ->
    [begin
         {error, {'ValueError', Message}} = value(Config, Name),
         {match, _} = re:run(Message, "cannot convert str with lone surrogates" ++ Place)
     end || {Name, Place} <- [{surrogate, "$"}, {surrogate_deep, " at \\[1\\]\\['k'\\]\\[1\\]$"}, {surrogate_key, " at .*key"}]].

%%% Limits

nesting(Config) ->
    Deep = fun(F, N) -> lists:foldl(fun(_, T) -> F(T) end, F(leaf), lists:seq(2, N)) end,
    Wrappers = [fun(T) -> [T] end, fun(T) -> {T, 1} end, fun(T) -> #{<<"k">> => T} end, fun(T) -> #{T => 1} end],
    %% What fits, and what does not: an error that says so, never a crash.
    [begin
         {ok, _} = call(Config, kind, [Deep(F, 400)]),
         {error, Error} = call(Config, kind, [Deep(F, N)]),
         ?assertMatch({K, _} when K =:= 'ValueError'; K =:= bad_request, Error)
     end || F <- lists:droplast(Wrappers), N <- [600, 5000, 100000]],
    {error, _} = call(Config, kind, [Deep(lists:last(Wrappers), 5000)]),
    [begin
         {ok, _} = call(Config, F, [400]),
         {error, {'ValueError', M1}} = call(Config, F, [600]),
         {error, {'ValueError', M2}} = call(Config, F, [50000]),
         [{match, _} = re:run(M, "nested deeper than [0-9]+ levels") || M <- [M1, M2]]
     end || F <- [nested_list, nested_tuple, nested_dict]],
    {error, {'ValueError', _}} = value(Config, cycle),
    %% Whatever goes in comes out, up to the limit.
    {ok, Limit} = {ok, limit(Config, 400, 600)},
    T = Deep(hd(Wrappers), Limit),
    {ok, T0} = call(Config, identity, [lists:foldl(fun(_, X) -> [X] end, [7], lists:seq(2, Limit))]),
    true = is_list(T0) andalso is_list(T).

%% The deepest list that comes back.
limit(_Config, Low, High) when High - Low =< 1 ->
    Low;
limit(Config, Low, High) ->
    Middle = (Low + High) div 2,
    case call(Config, identity, [lists:foldl(fun(_, X) -> [X] end, [7], lists:seq(2, Middle))]) of
        {ok, _} -> limit(Config, Middle, High);
        {error, _} -> limit(Config, Low, Middle)
    end.

large_binaries(Config) ->
    [begin
         B = rand:bytes(Size),
         Sum = erlang:crc32(B),
         {ok, {Size, Sum}} = call(Config, checksum, [{bytes, B}]),
         {ok, B} = call(Config, identity, [{bytes, B}]),
         {ok, [B, B]} = call(Config, identity, [[{bytes, B}, {bytes, B}]]),
         Text = binary:copy(<<"grüße "/utf8>>, Size div 8),
         {ok, Text} = call(Config, identity, [Text])
     end || Size <- [1000, 16383, 16384, 16385, 65535, 65536, 65537, 131072, 1048576, 8388608]].

large_containers(Config) ->
    List = lists:seq(1, 100000),
    {ok, List} = call(Config, identity, [List]),
    Mixed = [{I, <<"element">>, [I / 2], #{I => I}} || I <- lists:seq(1, 20000)],
    {ok, Mixed} = call(Config, identity, [Mixed]),
    Map = maps:from_list([{<<"key", (integer_to_binary(I))/binary>>, I} || I <- lists:seq(1, 10000)]),
    {ok, Map} = call(Config, identity, [Map]).

%%% Random terms

%% Terms as term_to_binary really writes them, through a Python identity function; what comes back is what the table
%% makes of them.
random_terms(Config) ->
    Seed = seed(),
    Opaque = list_to_tuple(opaques()),
    {Sent, Errors} = lists:unzip([one_term(Config, random_term(Opaque, 5)) || _ <- lists:seq(1, ?RANDOM_TERMS)]),
    ct:log("seed ~p: ~p terms of ~p bytes, ~p of them refused as the table says",
           [Seed, length(Sent), lists:sum(Sent), lists:sum(Errors)]),
    %% The property says something only when most terms come back.
    ?assert(lists:sum(Errors) < ?RANDOM_TERMS div 3).

one_term(Config, Term) ->
    Size = byte_size(term_to_binary(Term)),
    case {expected(Term), call(Config, identity, [Term])} of
        {{ok, Value}, {ok, Value}} -> {Size, 0};
        {{error, Type}, {error, {Type, _}}} -> {Size, 1};
        {Expected, Answer} -> error({round_trip, #{term => Term, expected => Expected, answer => Answer}})
    end.

random_terms_as_keys(Config) ->
    _ = seed(),
    Opaque = list_to_tuple(opaques()),
    lists:foreach(fun(_) ->
        Key = random_term(Opaque, 2),
        Back = call(Config, roundtrip_key, [Key]),
        case {hashable(Key), expected(Key)} of
            {true, {ok, Value}} -> {Key, {ok, {<<"found">>, Value}}} = {Key, Back};
            _ -> {Key, {error, _}} = {Key, Back}
        end
    end, lists:seq(1, 500)).

seed() ->
    Seed = case os:getenv("PYN_SEED") of
               false -> erlang:phash2({os:timestamp(), self()});
               Text -> list_to_integer(Text)
           end,
    rand:seed(exsss, Seed),
    ct:log("seed ~p (PYN_SEED=~p makes the same terms again)", [Seed, Seed]),
    Seed.

%% A list of ways to make a term, of which one is taken; containers only while there is depth left.
random_term(Opaque, 0) ->
    random_leaf(Opaque);
random_term(Opaque, Depth) ->
    case rand:uniform(10) of
        N when N =< 5 -> random_leaf(Opaque);
        6 -> [random_term(Opaque, Depth - 1) || _ <- lists:seq(1, rand:uniform(6) - 1)];
        7 -> list_to_tuple([random_term(Opaque, Depth - 1) || _ <- lists:seq(1, rand:uniform(6) - 1)]);
        8 -> maps:from_list([{random_key(Opaque), random_term(Opaque, Depth - 1)} || _ <- lists:seq(1, rand:uniform(6) - 1)]);
        9 -> [random_leaf(Opaque) | random_tail(Opaque)];
        10 -> maps:from_list([{I, random_leaf(Opaque)} || I <- lists:seq(1, rand:uniform(60))])
    end.

random_tail(Opaque) ->
    case random_leaf(Opaque) of
        L when is_list(L) -> improper;
        Other -> Other
    end.

random_key(Opaque) ->
    case rand:uniform(8) of
        1 -> random_term(Opaque, 1);
        2 -> {random_leaf(Opaque), random_leaf(Opaque)};
        _ -> random_leaf(Opaque)
    end.

random_leaf(Opaque) ->
    case rand:uniform(13) of
        1 -> rand:uniform(300) - 20;
        2 -> random_sign() * (rand:uniform(1 bsl rand:uniform(40)) - 1);
        3 -> random_sign() * binary:decode_unsigned(rand:bytes(rand:uniform(300)));
        4 -> random_float();
        5 -> rand:bytes(rand:uniform(40) - 1);
        6 -> unicode:characters_to_binary(random_text(30));
        7 -> {bytes, rand:bytes(rand:uniform(10) - 1)};
        8 -> binary_to_atom(unicode:characters_to_binary(random_text(4)));
        9 -> element(rand:uniform(6), {true, false, undefined, nil, none, error});
        10 -> [rand:uniform(256) - 1 || _ <- lists:seq(1, rand:uniform(20) - 1)];
        11 -> element(rand:uniform(tuple_size(Opaque)), Opaque);
        12 -> element(rand:uniform(4), {[], {}, #{}, <<>>});
        13 -> Bits = rand:uniform(40), <<B:Bits/bits, _/bits>> = rand:bytes(5), B
    end.

random_sign() -> rand:uniform(2) * 2 - 3.

random_float() ->
    case rand:bytes(8) of
        <<F/float>> -> F;
        _ -> 0.5
    end.

%% A few letters, so that atoms do not fill the table of atoms.
random_text(Max) ->
    [lists:nth(rand:uniform(7), [$a, $b, $", 16#E4, 16#416, 16#4E2D, 16#1F600]) || _ <- lists:seq(1, rand:uniform(Max) - 1)].

%%% What the table of types says

%% {ok, What comes back} | {error, Type of the exception}
expected(Term) ->
    try {ok, carried(Term)}
    catch throw:Type -> {error, Type}
    end.

carried(A) when is_boolean(A) -> A;
carried(A) when A =:= undefined; A =:= nil; A =:= none -> none;
carried(A) when is_atom(A) -> atom_to_binary(A);
carried({bytes, B}) when is_binary(B) -> B;
carried(T) when is_tuple(T) -> list_to_tuple([carried(E) || E <- tuple_to_list(T)]);
carried(L) when is_list(L) ->
    case is_proper(L) of
        true -> [carried(E) || E <- L];
        false -> check_inside(L), L
    end;
carried(M) when is_map(M) -> carried_map(M);
carried(Other) -> Other.

%% An improper list comes back as it is; what cannot be decoded in it is an error all the same.
check_inside([H | T]) -> _ = carried(H), check_inside(T);
check_inside(T) -> carried(T).

is_proper([]) -> true;
is_proper([_ | T]) -> is_proper(T);
is_proper(_) -> false.

carried_map(M) ->
    Pairs = [{K, carried(K), carried(V)} || {K, V} <- maps:to_list(M)],
    lists:all(fun({K, _, _}) -> hashable(K) end, Pairs) orelse throw('TypeError'),
    Keys = [python_key(K) || {K, _, _} <- Pairs],
    length(lists:usort(Keys)) =:= length(Keys) orelse throw('TypeError'),
    Back = maps:from_list([{K, V} || {_, K, V} <- Pairs]),
    map_size(Back) =:= length(Pairs) orelse throw('TypeError'),
    Back.

hashable({bytes, B}) when is_binary(B) -> true;
hashable(T) when is_tuple(T) -> lists:all(fun hashable/1, tuple_to_list(T));
hashable(L) when is_list(L) -> not is_proper(L);
hashable(M) when is_map(M) -> false;
hashable(_) -> true.

%% Equal for keys that are equal in Python.
python_key(true) -> {number, 1};
python_key(false) -> {number, 0};
python_key(A) when A =:= undefined; A =:= nil; A =:= none -> none;
python_key(A) when is_atom(A) -> {str, atom_to_binary(A)};
python_key({bytes, B}) when is_binary(B) -> {bytes, B};
python_key(T) when is_tuple(T) -> {tuple, [python_key(E) || E <- tuple_to_list(T)]};
python_key(N) when is_number(N) -> {number, exact(N)};
python_key(B) when is_binary(B) ->
    case unicode:characters_to_binary(B) of
        B -> {str, B};
        _ -> {bytes, B}
    end;
python_key(Other) -> {opaque, Other}.

exact(F) when is_float(F), F =:= trunc(F) + 0.0 -> trunc(F);
exact(N) -> N.
