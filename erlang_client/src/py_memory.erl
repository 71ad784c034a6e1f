%% What Python's interpreters use of memory, summed up and each for itself; their garbage collectors; tracing of what they
%% allocate. The part of the interpreters is in cnode/py/lib/_pynode_memory.py.
%%
%% Sums are over the interpreters of all C-nodes. An interpreter that is busy for longer than the statistics wait is not
%% in them, and says so in its place.
-module(py_memory).

-export([stats/0]).
-export([collect/1]).
-export([trace_start/1]).
-export([trace_stop/0]).

-export_type([stats/0, node_stats/0, interpreter_stats/0]).

-type generation() :: #{binary() => non_neg_integer()}.
%% Without a GIL threads count ahead, so that a count may be below 0 for a while.
-type counts() :: {integer(), integer(), integer()}.
-type stats() :: #{
    gc_stats := [generation()],
    gc_count := counts(),
    %% Of the first interpreter: a limit cannot be summed.
    gc_threshold := counts(),
    allocated_blocks := non_neg_integer(),
    %% While something is traced.
    traced_memory_current => non_neg_integer(),
    traced_memory_peak => non_neg_integer(),
    nodes := #{node() => node_stats()}
}.
-type node_stats() :: #{
    %% Resident bytes of the process.
    memory => non_neg_integer(),
    traced_memory_current => non_neg_integer(),
    traced_memory_peak => non_neg_integer(),
    interpreters := #{non_neg_integer() => interpreter_stats() | #{error := term()}}
}.
-type interpreter_stats() :: #{
    gc_stats := [generation()],
    gc_count := counts(),
    gc_threshold := counts(),
    allocated_blocks := non_neg_integer(),
    modules := non_neg_integer(),
    traced_memory_current => non_neg_integer(),
    traced_memory_peak => non_neg_integer()
}.

-define(MODULE_NAME, '_pynode_memory').
-define(STATS_MS, 5000).
-define(MAX_FRAMES, 65535).
%% Of what C-nodes that come up later do, too.
-define(TRACE_KEY, <<"tracemalloc">>).

-spec stats() -> {ok, stats()} | {error, term()}.
stats() ->
    case py_everywhere:call(?MODULE_NAME, stats, [], #{}, #{timeout => ?STATS_MS}) of
        {ok, Results} -> sum([R || {_, _, {ok, R}} <- Results], Results);
        {error, _} = Error -> Error
    end.

sum([], Results) ->
    case py_everywhere:first_error(Results) of
        ok -> {error, no_nodes};
        {error, _} = Error -> Error
    end;
sum([#{<<"gc_threshold">> := Threshold} | _] = Told, Results) ->
    Nodes = maps:from_list([
        {Node, node_stats([{I, R} || {N, I, R} <- Results, N =:= Node])}
     || Node <- lists:usort([N || {N, _, _} <- Results])
    ]),
    Stats = #{
        gc_stats => sum_generations([Gens || #{<<"gc_stats">> := Gens} <- Told]),
        gc_count => sum_counts([Counts || #{<<"gc_count">> := Counts} <- Told]),
        gc_threshold => Threshold,
        allocated_blocks => lists:sum([Blocks || #{<<"allocated_blocks">> := Blocks} <- Told]),
        nodes => Nodes
    },
    {ok, maps:merge(Stats, sum_traced(maps:values(Nodes)))}.

%% Of the process they all say the same.
node_stats(Results) ->
    Interpreters = maps:from_list([{Interp, interpreter(Result)} || {Interp, Result} <- Results]),
    maps:merge(#{interpreters => Interpreters}, of_process([R || {_, {ok, R}} <- Results])).

of_process([]) ->
    #{};
of_process([#{<<"resident">> := Resident, <<"node_traced">> := Traced} | _]) ->
    maps:merge(#{memory => Resident}, traced(Traced)).

interpreter({ok, Told}) ->
    #{
        <<"gc_stats">> := Generations,
        <<"gc_count">> := Counts,
        <<"gc_threshold">> := Threshold,
        <<"allocated_blocks">> := Blocks,
        <<"modules">> := Modules,
        <<"traced">> := Traced
    } = Told,
    Stats = #{
        gc_stats => Generations,
        gc_count => Counts,
        gc_threshold => Threshold,
        allocated_blocks => Blocks,
        modules => Modules
    },
    maps:merge(Stats, traced(Traced));
interpreter({error, Error}) ->
    #{error => Error}.

traced({Current, Peak}) -> #{traced_memory_current => Current, traced_memory_peak => Peak};
traced(none) -> #{}.

%% Not all have had their peak at the same time: the sum of the peaks is at least the peak of the sum.
sum_traced(Nodes) ->
    case [{C, P} || #{traced_memory_current := C, traced_memory_peak := P} <- Nodes] of
        [] -> #{};
        Traced -> traced({lists:sum([C || {C, _} <- Traced]), lists:sum([P || {_, P} <- Traced])})
    end.

sum_generations([First | Rest]) ->
    lists:foldl(fun(Generations, Sums) -> lists:zipwith(fun sum_maps/2, Generations, Sums) end, First, Rest).

sum_maps(A, B) ->
    maps:fold(fun(Key, Value, Sum) -> maps:update_with(Key, fun(Old) -> Old + Value end, Value, Sum) end, A, B).

sum_counts(Counts) ->
    list_to_tuple([lists:sum([element(N, C) || C <- Counts]) || N <- [1, 2, 3]]).

%% How many objects all of them found that nobody could reach any more.
-spec collect(0..2) -> {ok, non_neg_integer()} | {error, term()}.
collect(Generation) when Generation =:= 0; Generation =:= 1; Generation =:= 2 ->
    case py_everywhere:call(?MODULE_NAME, collect, [Generation], #{}, #{}) of
        {ok, Results} -> summed(py_everywhere:first_error(Results), Results);
        {error, _} = Error -> Error
    end;
collect(Generation) ->
    {error, {bad_option, {generation, Generation}}}.

summed(ok, Results) -> {ok, lists:sum([Collected || {_, _, {ok, Collected}} <- Results])};
summed({error, _} = Error, _) -> Error.

-spec trace_start(pos_integer()) -> ok | {error, term()}.
trace_start(Frames) when is_integer(Frames), Frames >= 1, Frames =< ?MAX_FRAMES ->
    traced_everywhere(trace_start, [Frames]);
trace_start(Frames) ->
    {error, {bad_option, {frames, Frames}}}.

-spec trace_stop() -> ok | {error, term()}.
trace_stop() ->
    traced_everywhere(trace_stop, []).

%% The one takes the place of the other, also in C-nodes that were away.
traced_everywhere(Function, Args) ->
    py_everywhere:checked_call(?MODULE_NAME, Function, Args, #{}, #{remember => ?TRACE_KEY}).
