%% Ends what is under way, whatever it is: each kind has a table of its own, and references are never used twice.
-module(py_interrupt).

-export([interrupt/1]).

-define(REMOTE_MS, 5000).

%% A reference is known where it was made.
-spec interrupt(term()) -> ok | {error, term()}.
interrupt(Ref) when is_reference(Ref), node(Ref) =:= node() ->
    first(Ref, [fun py_async:cancel/1, fun py_stream:interrupt/1, fun py_aio:cancel/1]);
interrupt(Ref) when is_reference(Ref) ->
    try erpc:call(node(Ref), ?MODULE, interrupt, [Ref], ?REMOTE_MS) catch error:_ -> {error, not_found} end;
interrupt(What) ->
    case py_context:is_context(What) of
        true -> context(py_context:interrupt(What));
        false -> {error, not_found}
    end.

%% One that is gone is as good as none.
context({error, context_lost}) -> {error, not_found};
context(Result) -> Result.

first(_, []) ->
    {error, not_found};
first(Ref, [Try | More]) ->
    case Try(Ref) of
        ok -> ok;
        {error, not_found} -> first(Ref, More)
    end.
