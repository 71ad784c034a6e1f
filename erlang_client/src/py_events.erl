%% Events of calls, in the shape of the library `telemetry`, for whoever attaches handlers there.
%%
%%     [erlang_python, call, start]        #{system_time, monotonic_time}
%%     [erlang_python, call, stop]         #{duration, monotonic_time}    the call gave a value
%%     [erlang_python, call, exception]    #{duration, monotonic_time}    the call gave an error, whatever it was
%%
%% Times are in native units. Each start has one stop or exception, unless the calling process is killed.
%%
%% The library is looked for when the application starts. Where it is not there, a call reads one persistent term more.
%% The handlers run in the process that makes the call.
-module(py_events).

-export([detect/0]).
-export([forget/0]).
-export([sink/0]).
-export([span/4]).
-export([start/1]).
-export([stop/3]).

-export_type([begun/0]).

-type sink() :: none | module().
%% A call that has begun and not ended yet.
-opaque begun() :: none | {module(), integer(), map()}.

-define(SINK, ?MODULE).
-define(NODE, '$py_event_node').

%% For the application.

-spec detect() -> ok.
detect() ->
    case code:ensure_loaded(telemetry) of
        {module, Module} -> use(Module, erlang:function_exported(Module, execute, 3));
        {error, _} -> forget()
    end.

use(Module, true) -> persistent_term:put(?SINK, Module);
use(_, false) -> forget().

-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?SINK),
    ok.

%% For calls.

-spec sink() -> sink().
sink() ->
    persistent_term:get(?SINK, none).

%% Runs the call between its events. It gets an exchange that notes which C-node was used last.
-spec span(module(), py_proto:request(), py_call:exchange(), fun((py_call:exchange()) -> Result)) -> Result when
    Result :: py_proto:result().
span(Sink, Request, Exchange, Call) ->
    About = about(Request),
    Started = erlang:monotonic_time(),
    emit(Sink, start, #{system_time => erlang:system_time(), monotonic_time => Started}, About),
    try Call(noting(Exchange)) of
        Result ->
            ended(Sink, Started, About#{node => erase(?NODE)}, Result),
            Result
    catch
        Class:Reason:Stack ->
            failed(Sink, Started, About#{node => erase(?NODE)}, Class, Reason, Stack),
            erlang:raise(Class, Reason, Stack)
    end.

%% The same for a call that is awaited later: it ends when it is awaited.
-spec start(py_proto:request()) -> begun().
start(Request) ->
    case sink() of
        none -> none;
        Sink ->
            About = about(Request),
            Started = erlang:monotonic_time(),
            emit(Sink, start, #{system_time => erlang:system_time(), monotonic_time => Started}, About),
            {Sink, Started, About}
    end.

-spec stop(begun(), node(), py_proto:result()) -> ok.
stop(none, _, _) -> ok;
stop({Sink, Started, About}, Node, Result) -> ended(Sink, Started, About#{node => Node}, Result).

noting(Exchange) ->
    fun(Node, Link, Request, Timeout) ->
        _ = put(?NODE, Node),
        Exchange(Node, Link, Request, Timeout)
    end.

about({call, Module, Function, _, _, _}) -> about(call, Module, Function);
about(Request) -> about(element(1, Request), undefined, undefined).

about(Operation, Module, Function) ->
    #{operation => Operation, module => Module, function => Function, telemetry_span_context => make_ref()}.

ended(Sink, Started, About, {error, Reason}) ->
    failed(Sink, Started, About, error, Reason, []);
ended(Sink, Started, About, _) ->
    emit(Sink, stop, duration(Started), About#{result => ok}).

failed(Sink, Started, About, Class, Reason, Stack) ->
    Error = #{result => error, error => class(Reason), kind => Class, reason => Reason, stacktrace => Stack},
    emit(Sink, exception, duration(Started), maps:merge(About, Error)).

%% What is worth counting apart: the class of an exception, or what else it was.
class(Reason) when is_atom(Reason) -> Reason;
class(Reason) when is_tuple(Reason), tuple_size(Reason) > 0, is_atom(element(1, Reason)) -> element(1, Reason);
class(_) -> other.

duration(Started) ->
    Now = erlang:monotonic_time(),
    #{duration => Now - Started, monotonic_time => Now}.

emit(Sink, Event, Measurements, Metadata) ->
    _ = Sink:execute([erlang_python, call, Event], Measurements, Metadata),
    ok.
