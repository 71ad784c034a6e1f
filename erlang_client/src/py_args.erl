%% What callers give: checked, and made into what goes on the wire.
%%
%% Names are atoms, binaries or strings; code is a binary or a string.
-module(py_args).

-export([call/5]).
-export([name/1]).
-export([code/1]).
-export([text/1]).

-type refusal() :: {error, invalid_args | {not_text, term()}}.

%% A call of a function: its kind, for py_router, and the request. A list that is improper has no length.
-spec call(term(), term(), term(), term(), py_call:how()) -> {py_router:kind(), py_proto:request()} | refusal().
call(Module, Function, Args, Kwargs, How) when is_list(Args), length(Args) >= 0, is_map(Kwargs) ->
    case {name(Module), name(Function)} of
        {{error, _} = Error, _} -> Error;
        {_, {error, _} = Error} -> Error;
        {M, F} -> {kind(M), py_proto:call(M, F, Args, Kwargs, py_call:request_options(How))}
    end;
call(_, _, _, _, _) ->
    {error, invalid_args}.

kind('__main__') -> main;
kind(<<"__main__">>) -> main;
kind(_) -> any.

-spec name(term()) -> atom() | binary() | refusal().
name(Name) when is_atom(Name); is_binary(Name) -> Name;
name(Name) -> text(Name).

-spec code(term()) -> binary() | refusal().
code(Code) when is_binary(Code) -> Code;
code(Code) -> text(Code).

-spec text(term()) -> binary() | refusal().
text(Text) when is_list(Text); is_binary(Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> {error, {not_text, Text}}
    catch
        error:badarg -> {error, {not_text, Text}}
    end;
text(Other) ->
    {error, {not_text, Other}}.
