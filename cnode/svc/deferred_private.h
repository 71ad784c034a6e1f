/* Between svc/deferred.c (the table), svc/loops.c (the event loops) and svc/coroutines.c (what Python calls). */
#ifndef PYN_SVC_DEFERRED_PRIVATE_H
#define PYN_SVC_DEFERRED_PRIVATE_H

#include "py/coroutines.h"
#include "svc/deferred.h"
#include "svc/due.h"
#include "svc/service_private.h"
#include "svc/touched.h"

enum { PYN_LATE_BUCKETS = 4096 };

/* One event loop: a thread of Python's that runs coroutines. Made and freed by that thread. */
struct pyn_loop {
    struct pyn_loop *next;
    uint64_t number; /* never used twice */
    unsigned spot;
    int fd;                    /* an eventfd */
    struct pyn_runner *runner; /* borrowed: lives until the loop is closed */
    struct pyn_touched touched;
    atomic_uint_fast64_t unsent_since; /* answers wait to be flushed; 0: none */
    atomic_uint users; /* other threads that are about to interrupt it, or flush for it; freed after them */

    /* guarded by deferred->lock */
    uint64_t told_since; /* it has not read what it was told; 0: it has */
    bool stop;
    bool retired;                            /* another one has its spot; it ends when its coroutines have */
    bool stuck;                              /* retired because it did not come back when interrupted */
    unsigned blocking;                       /* it is inside erlang.call, that often */
    struct pyn_request *off_head, *off_tail; /* to be told to it; borrowed, they are in the table */
    uint64_t pressed;                        /* the step that was interrupted, by its beginning */
    uint64_t pressed_at;
    unsigned presses;
};

/* A worker's place for a loop. */
struct pyn_spot {
    bool used;
    int group;
    enum pyn_lane lane;
    atomic_uint count;     /* coroutines, and requests on their way to become one */
    struct pyn_loop *loop; /* NULL: none yet */
};

struct pyn_deferred {
    struct pyn_service *service;
    struct pyn_coroutines functions;
    pthread_mutex_t lock; /* guards all below, but for atomics */
    struct pyn_request *by_id[PYN_LATE_BUCKETS];
    struct pyn_request *by_tag[PYN_LATE_BUCKETS];
    struct pyn_due due;
    struct pyn_request *oldest, *newest; /* whose callers are not watched yet */
    atomic_uint count;
    atomic_bool unsent;    /* some loop may have answers that wait to be flushed */
    atomic_uint off_count; /* called off, and not ended yet */
    atomic_uint_fast64_t next_due, next_watch;

    struct pyn_spot *spots; /* by the worker's number */
    unsigned spot_count;
    unsigned preferred; /* the spots up to this number come before the others; not changed any more */
    struct pyn_loop *loops;
    uint64_t last_loop;
    unsigned loop_count, stuck;
    bool stopping;
};

/* lock held. */
struct pyn_request *pyn_late_get(struct pyn_deferred *d, uint64_t id);
/* Enters r, with a reference of its own. */
void pyn_late_insert(struct pyn_deferred *d, struct pyn_request *r);
/* Takes r out; its reference is the caller's. */
void pyn_late_remove(struct pyn_deferred *d, struct pyn_request *r);
/* Has the loop look at what it is told. */
void pyn_loop_tell(struct pyn_loop *l);
/* The loop that runs r's coroutine, if any, is to cancel its task. */
void pyn_loop_call_off(struct pyn_request *r);
/* r is not to be told to its loop any more. */
void pyn_loop_forget(struct pyn_request *r);

/* svc/loops.c. */
/* lock held. The best place in that interpreter: a loop that is not blocked, and has the fewest coroutines; `first` and
 * those behind it first where that is equal. What a callback asks for (nested) must not go to a loop that may wait for
 * that callback. 0: none. */
unsigned pyn_spot_choose(struct pyn_deferred *d, int group, unsigned first, bool nested);
/* The spot gets another loop when the next coroutine comes; this one ends when its coroutines have. lock held. */
void pyn_loop_retire(struct pyn_deferred *d, struct pyn_loop *l);
/* r is counted there, and nowhere else. */
void pyn_spot_take(struct pyn_deferred *d, struct pyn_request *r, unsigned spot);
/* On the watchdog. */
void pyn_loops_press(struct pyn_deferred *d, uint64_t now);
void pyn_loops_flush(struct pyn_deferred *d, uint64_t now);
/* svc/coroutines.c: the functions that Python calls, with d as their context. */
struct pyn_coroutines pyn_coroutines_of(struct pyn_deferred *d);

#endif
