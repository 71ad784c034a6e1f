%% A handler of `logger` that hangs until a gate is open. Events go to a process then; config = {Gate, Process}.
-module(logging_gate).
-export([closed/0, open/1]).
-export([log/2]).

closed() ->
    spawn_link(fun() -> receive open -> let_through() end end).

open(Gate) ->
    Gate ! open,
    ok.

let_through() ->
    receive {through, Pid} -> Pid ! go end,
    let_through().

log(#{meta := #{py_logger := _}} = Event, #{config := {Gate, Pid}}) ->
    Gate ! {through, self()},
    receive go -> Pid ! {event, Event} end;
log(_, _) ->
    ok.
