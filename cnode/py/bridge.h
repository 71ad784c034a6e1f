/* What Python code asks of the node: requests to Erlang and their answers. The functions are svc's; py only calls them,
 * so that Python stays out of svc and the network out of py. No Python type appears here.
 *
 * A request is made in steps: open writes the beginning of a message into `out`, the caller writes one term, post sends
 * it. Then either wait (a thread) or take (a coroutine's loop, told by its descriptor) gives the answer, and close ends
 * it. */
#ifndef PYN_PY_BRIDGE_H
#define PYN_PY_BRIDGE_H

#include "base/block.h"
#include "base/out.h"

struct pyn_notify; /* one event loop's collection of answers; owned by its maker */
struct pyn_rpc;    /* one request under way; owned by its maker from open to close */

enum pyn_rpc_target {
    PYN_RPC_CALL,  /* a registered function: the term is {Name, Args} */
    PYN_RPC_STATE, /* the shared state: the term is the operation */
};

enum pyn_rpc_result {
    PYN_RPC_ANSWER,      /* the reply is there */
    PYN_RPC_DOWN,        /* no coordinator, or it was lost while the request was under way */
    PYN_RPC_INTERRUPTED, /* the call that made the request has ended by timeout, cancel or death of its caller */
    PYN_RPC_TOO_DEEP,    /* open only: the call is nested too deeply */
    PYN_RPC_PENDING,     /* take only: not yet */
};

/* Whom messages that may be lost are for, on the coordinator. */
enum pyn_tell_target {
    PYN_TELL_LOG,  /* py_logger: a record of Python's logging */
    PYN_TELL_SPAN, /* py_tracer: a span that ended */
    PYN_TELL_TARGETS
};

enum pyn_tell_result {
    PYN_TELL_SENT,
    PYN_TELL_DOWN, /* no coordinator */
    PYN_TELL_FULL, /* it does not take what was sent before */
};

struct pyn_bridge {
    void *ctx;
    /* NULL with *result set: DOWN, INTERRUPTED or TOO_DEEP. Otherwise `out` (empty before) has the message's beginning.
     * notify: NULL, or the loop that is told when the request is settled. Attached. */
    struct pyn_rpc *(*open)(void *ctx, enum pyn_rpc_target target, struct pyn_notify *notify, struct pyn_out *out,
                            enum pyn_rpc_result *result);
    /* Sends the message (empties out). */
    void (*post)(void *ctx, struct pyn_rpc *rpc, struct pyn_out *out);
    /* Waits for the answer; on a worker's thread runs what is nested in the call meanwhile. Detached. The reply (a
     * term) lives until close. */
    enum pyn_rpc_result (*wait)(void *ctx, struct pyn_rpc *rpc, struct pyn_span *reply);
    /* The answer if it is there. Attached or not; never waits. */
    enum pyn_rpc_result (*take)(void *ctx, struct pyn_rpc *rpc, struct pyn_span *reply);
    /* Ends the request; one without an answer is called off on the other side too. Attached or not. */
    void (*close)(void *ctx, struct pyn_rpc *rpc);
    /* Begins a message to a process for erlang.send: `to` is a pid, or an atom (a name on the coordinator), or {Name,
     * Node}. false: nobody to send to (no coordinator). The payload is to be written behind, then send_end. */
    bool (*send_begin)(void *ctx, struct pyn_span to, struct pyn_out *out, size_t *frame, void **link);
    /* Steals the link. May wait until the peer has taken what was sent before: detached. false: interrupted meanwhile.
     */
    bool (*send_end)(void *ctx, void *link, size_t frame, struct pyn_out *out);
    /* Messages that may be lost, for senders that must never wait. admit says whether one may go out now, and then in
     * *dropped how many have not gone out since the last one; lost counts some more of these. begin writes the head of
     * the message, the caller one term behind it, end sends it (empties out). Attached or not. */
    bool (*tell_admit)(void *ctx, enum pyn_tell_target target, unsigned *dropped);
    void (*tell_lost)(void *ctx, enum pyn_tell_target target, unsigned count);
    size_t (*tell_begin)(void *ctx, enum pyn_tell_target target, struct pyn_out *out);
    enum pyn_tell_result (*tell_end)(void *ctx, enum pyn_tell_target target, size_t frame, struct pyn_out *out);
    /* Items of a stream, to who asked the request that this thread runs: begin writes the head of a message into `out`
     * (empty before), the caller writes the item, send empties it. What was sent goes out with flush (detached), or in
     * some milliseconds. */
    size_t (*item_begin)(void *ctx, struct pyn_out *out);
    void (*item_send)(void *ctx, size_t frame, struct pyn_out *out);
    void (*item_flush)(void *ctx);
    /* The id of the request on whose behalf this thread works; 0: none. Attached. */
    uint64_t (*request)(void *ctx);
    /* The node's own pid, a term. */
    struct pyn_span (*own_pid)(void *ctx);

    /* Event loops. One notifier for each loop, used by the loop's thread only. */
    struct pyn_notify *(*loop_open)(void *ctx);
    int (*loop_fd)(void *ctx, struct pyn_notify *n); /* an eventfd: readable when something is settled */
    /* The next settled request, to be given to take and close; NULL: none. */
    struct pyn_rpc *(*loop_next)(void *ctx, struct pyn_notify *n, void **cookie);
    /* The loop is going to wait: calls that are nested in its worker's call may be brought by its eventfd from now on
     * ... */
    void (*loop_enter)(void *ctx, struct pyn_notify *n);
    /* ... and are run by this. Detached. */
    void (*loop_serve)(void *ctx, struct pyn_notify *n);
    /* Takes a request that is not settled yet off the loop, to be closed; by its id, or (abandon) any, settled or not.
     * NULL: none. */
    struct pyn_rpc *(*loop_cancel)(void *ctx, struct pyn_notify *n, uint64_t id, void **cookie);
    struct pyn_rpc *(*loop_abandon)(void *ctx, struct pyn_notify *n, void **cookie);
    void (*loop_close)(void *ctx, struct pyn_notify *n); /* every request closed before */
    void (*set_cookie)(void *ctx, struct pyn_rpc *rpc, void *cookie);
    uint64_t (*id)(void *ctx, const struct pyn_rpc *rpc);
};

/* Set before the first call, by svc; lives as long as Python. */
void pyn_bridge_set(const struct pyn_bridge *bridge);
/* NULL before, and in a process that was forked. */
const struct pyn_bridge *pyn_bridge_get(void);

#endif
