-include("py_router.hrl").

%% The longest time that `receive` takes.
-define(MAX_TIMEOUT, 16#ffffffff).
-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< ?MAX_TIMEOUT))).

%% In a callback: the call that waits for it, on which C-node, and until when (monotonic time in milliseconds).
-record(chain, {
    node :: node(),
    id :: term(),
    deadline :: integer() | infinity
}).

%% How a call is to be made.
-record(how, {
    timeout = 30000 :: timeout(),
    node = any :: py_router:wanted(),
    retry = 0 :: non_neg_integer(),
    traceback = false :: boolean(),
    chain :: undefined | #chain{},
    %% The context that it runs in; `node` is the context's then.
    ctx :: undefined | py_context:ctx()
}).
