/* Running one request of a caller in Python. No Python type appears here: svc includes this. */
#ifndef PYN_PY_CALL_H
#define PYN_PY_CALL_H

#include "base/out.h"
#include "py/interp.h"

enum pyn_call_kind {
    PYN_CALL_FUNCTION,
    PYN_CALL_EVAL,
    PYN_CALL_EXEC,
    PYN_CALL_STREAM_NEXT,  /* of a stream: its next items */
    PYN_CALL_STREAM_CLOSE, /* ends a stream; nothing happens when there is none */
};

/* What becomes of the value of a function or an expression. */
enum pyn_call_use {
    PYN_USE_VALUE,   /* {ok, Value} */
    PYN_USE_COLLECT, /* {ok, [Item]}, of an iterator; {ok, [Value]} of anything else */
    PYN_USE_KEEP,    /* {ok, Stream}: Python keeps it, as an iterator, by the number `stream` */
};

/* What becomes of a function's result that is to be awaited, or to be iterated over by `async for`. */
enum pyn_call_async {
    PYN_CALL_PLAIN,  /* it is a value like any other */
    PYN_CALL_AWAIT,  /* an event loop awaits it */
    PYN_CALL_GATHER, /* the same, and all that an iterator gives, of either kind, becomes a list */
};

/* Spans are terms of the request (no version byte) unless said otherwise; they live until the call has returned. */
struct pyn_call {
    enum pyn_call_kind kind;
    struct pyn_span module;    /* characters, UTF-8 */
    struct pyn_span function;  /* characters, UTF-8; dotted names go through attributes */
    struct pyn_span args;      /* a list */
    struct pyn_span kwargs;    /* a map, or empty */
    struct pyn_span code;      /* characters, UTF-8 */
    struct pyn_span locals;    /* a map, or empty */
    enum pyn_call_async async; /* PYN_CALL_FUNCTION only */
    bool traceback;            /* exceptions come with their traceback */
    int64_t span;              /* what the caller's own span is, for tracing (py/trace.h); 0: none */
    bool everywhere;           /* an exec in every interpreter: contexts begin with what it binds */
    enum pyn_call_use use;
    uint64_t stream;    /* PYN_CALL_STREAM_*, PYN_USE_KEEP: its number, which no other one of this process has or had */
    uint32_t max_items; /* PYN_CALL_STREAM_NEXT */
};

enum pyn_call_outcome {
    PYN_CALL_OK,
    PYN_CALL_ERROR,
    PYN_CALL_DEFERRED, /* nothing was written: an event loop has it now, see py/coroutines.h */
    PYN_CALL_REFUSED,  /* nothing was written or run: the module does not load in a sub-interpreter */
    PYN_CALL_ENDED, /* PYN_CALL_STREAM_NEXT: as OK, and Python has dropped the stream, as it is exhausted or failed */
};

/* Runs the call and appends its result to `out`, as the API contract has it: {ok, Value}, ok (exec) or {error, Reason}.
 * The result is whole whatever happens; only a full `out` sets out->buf.failed. Attached before and after. */
PYN_MUSTCHECK enum pyn_call_outcome pyn_call_run(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out);

/* After an exec: calls fn for each name of `__main__` that it bound anew (characters, UTF-8), whether it ended well or
 * not. Attached. */
void pyn_call_new_names(struct pyn_seat *s, void (*fn)(void *ctx, struct pyn_span name), void *ctx);

#endif
