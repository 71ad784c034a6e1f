/* One request of a caller, from its arrival until its answer.
 *
 * Counted: whoever runs it holds a reference (the pool passes it on with the job), the watchdog takes one while it
 * looks. It keeps the link and the block that it came in. Exactly one party answers: who wins pyn_request_claim. */
#ifndef PYN_SVC_REQUEST_H
#define PYN_SVC_REQUEST_H

#include <stdatomic.h>

#include "base/clock.h"
#include "dist/link.h"
#include "sched/queue.h"
#include "svc/proto.h"

struct pyn_context;

/* Of a request whose answer comes later (svc/deferred.h, whose lock guards all of it but `spot`). */
struct pyn_late {
    /* The worker whose loop is to run its coroutine; it is counted there until it is disposed of. 0: none. */
    unsigned spot;
    struct pyn_loop *loop;        /* the loop that runs it; NULL: not begun, or the loop has ended */
    struct pyn_request *next;     /* in the bucket of its number */
    struct pyn_request *next_tag; /* in the bucket of its tag */
    uint64_t tag_hash;
    struct pyn_request *older, *newer; /* among those whose callers are not watched yet */
    bool unwatched;
    bool off;  /* called off: its task is to end */
    bool told; /* and the loop knows that */
    uint64_t off_since;
    struct pyn_request *next_off; /* in the loop's list of those */
    unsigned due;                 /* its place among the deadlines; 0: none */
};

struct pyn_request {
    struct pyn_job job; /* first: a job is a request */
    atomic_uint refs;
    atomic_bool answered;
    atomic_bool off;    /* it was called off while it ran: threads that its code has started are told as well */
    enum pyn_op op;     /* RUN, ALL, BIND, UNBIND or CLOSE */
    atomic_uint asking; /* requests to Erlang that it has under way: calls of these callbacks are nested in it */
    uint64_t id;        /* never 0, never used twice */
    uint64_t arrived;
    uint64_t deadline;     /* PYN_NEVER: none */
    uint32_t estimate;     /* the slot of its name in the table of durations */
    bool pins;             /* an exec whose interpreter the caller keeps */
    bool begun;            /* Python has been called; of who has the job */
    bool reserved;         /* to bind: it has a place in the table of contexts; of whoever has it, not the watchdog's */
    atomic_bool watched;   /* the caller's death is looked for; set by the watchdog, also read by who defers it */
    unsigned depth;        /* how many calls it is nested in */
    struct pyn_link *link; /* NULL: the node asks itself */
    struct pyn_block *block; /* NULL where the call needs no bytes, or none any more, as it is answered later */
    struct pyn_reply_to to;
    struct pyn_span home;
    struct pyn_call call;
    struct pyn_gather *gather;   /* where the result goes instead, an owned reference; NULL: to the caller */
    unsigned slot;               /* as which of its children */
    struct pyn_context *context; /* that it runs in, or closes: a reference; NULL: none */
    uint64_t outer_run;          /* the id of the request that its chain names; 0: none */

    /* The watchdog's own, once it has called the request off. Times are by guard_clock. */
    uint64_t called_off_at;
    bool given_up;               /* its worker does not come back */
    atomic_uint interrupts;      /* how many have reached it */
    _Atomic uint64_t reached_at; /* when the first one did; before it is counted */

    void *kept; /* owned: what `to` points to, where the answer comes later */
    struct pyn_late late;
};

/* What a call that is nested in a request takes over from it. */
struct pyn_outer {
    uint64_t deadline;
    uint64_t outer_run;
    struct pyn_context *context; /* a reference, or NULL */
    unsigned depth;
    bool helps; /* a thread of Python's own may wait for it, see sched/help.c */
};

/* A request with one reference, which takes references of its own on link and block; a stream that it opens has its
 * id as number. NULL: out of memory. */
struct pyn_request *pyn_request_new(struct pyn_link *link, struct pyn_block *block, const struct pyn_parsed *p,
                                    uint64_t now);
/* One that closes a context; it has neither link nor block, and nobody to be answered. NULL: out of memory. */
struct pyn_request *pyn_request_new_closer(void);
struct pyn_request *pyn_request_ref(struct pyn_request *r);
void pyn_request_unref(struct pyn_request *r);
/* The arguments are needed no more: gives the bytes back that the request came in. By who runs it, after the call; only
 * where `to` is kept. */
void pyn_request_release_block(struct pyn_request *r);
/* true for the one who may answer. */
bool pyn_request_claim(struct pyn_request *r);

struct pyn_outer pyn_request_outer(const struct pyn_request *r);

static inline struct pyn_request *pyn_request_of(struct pyn_job *job)
{
    return (struct pyn_request *)job;
}

static inline bool pyn_request_is_answered(const struct pyn_request *r)
{
    return atomic_load_explicit(&r->answered, memory_order_acquire);
}

#endif
