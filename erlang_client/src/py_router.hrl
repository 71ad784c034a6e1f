%% A usable C-node, as callers get it from py_router.
-record(target, {
    node :: node(),
    link :: pid(),
    slot :: pos_integer(),
    %% Where to count calls in flight, or `none` when this is the only node.
    load = none :: none | atomics:atomics_ref(),
    info = #{} :: py_proto:info()
}).
