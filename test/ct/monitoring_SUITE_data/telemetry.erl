%% Stands for the library of this name where it is not installed: the part of it that calls handlers.
-module(telemetry).
-export([execute/3]).

execute(Event, Measurements, Metadata) ->
    case whereis(telemetry_handler) of
        undefined -> ok;
        Pid -> Pid ! {event, self(), Event, Measurements, Metadata}, ok
    end.
