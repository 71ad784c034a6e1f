-include("py_router.hrl").

%% How a call is to be made.
-record(how, {
    timeout = 30000 :: timeout(),
    node = any :: node() | any,
    traceback = false :: boolean(),
    %% Set in a callback: the calls that wait for it.
    chain :: undefined | term()
}).
