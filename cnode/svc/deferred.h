/* Requests whose answer comes later: a coroutine of theirs runs on an event loop while their worker does other things.
 *
 *   deferred.c  the table: who is in it, deadlines, what is called off
 *   loops.c     the event loops: which one gets a coroutine, what they are told, those that are blocked
 *   coroutines.c  what Python calls
 *
 * An entry has a reference on its request, which stays admitted, from its being deferred until its coroutine has ended.
 * What is called off before (deadline, cancel, death of the caller, the end of the node) is answered at once and its
 * task cancelled; as long as the task does not end, the request is there.
 *
 * Lock: deferred->lock guards the table, the loops and struct pyn_late; innermost but for a runner's mark. Under it
 * only eventfds are written to. */
#ifndef PYN_SVC_DEFERRED_H
#define PYN_SVC_DEFERRED_H

#include "sched/pool.h"
#include "svc/request.h"

struct pyn_service;
struct pyn_deferred;

/* Of a node with that many workers at most, stuck ones included, and so many requests admitted at once. preferred: the
 * first so many workers get the coroutines that others could get as well (0: all of them). Sets the functions that
 * Python calls (py/coroutines.h). NULL: out of memory. */
struct pyn_deferred *pyn_deferred_new(struct pyn_service *s, unsigned workers, unsigned preferred, unsigned max);
/* Every loop has ended. NULL is fine. */
void pyn_deferred_free(struct pyn_deferred *d);
unsigned pyn_deferred_count(struct pyn_deferred *d);
/* Of loops, and of those of them that were given up and have not come back. */
unsigned pyn_deferred_loops(struct pyn_deferred *d, unsigned *stuck);
/* Event loops that are in a step of a request. */
unsigned pyn_deferred_working(struct pyn_deferred *d);

/* A worker begins: it has a loop, once one is needed. */
void pyn_deferred_join(struct pyn_deferred *d, const struct pyn_worker *w);
/* Where each worker has an interpreter of its own: sets the group of a request that may run in any, to that of the
 * worker which is idle, or has the fewest coroutines. On the polling thread. */
void pyn_deferred_route(struct pyn_deferred *d, struct pyn_request *r);
/* The request is disposed of. */
void pyn_deferred_leave(struct pyn_deferred *d, struct pyn_request *r);

/* A new reference to the request of that number, while its coroutine runs and was not called off; NULL: none. */
struct pyn_request *pyn_deferred_find(struct pyn_deferred *d, uint64_t id);
/* What a call that is nested in it takes over from the one of that number, called off or not. false: there is none, and
 * nothing was written. */
bool pyn_deferred_outer(struct pyn_deferred *d, uint64_t id, struct pyn_outer *outer);

/* Ends all that match: answered with reason (NULL: not at all), their tasks cancelled. match runs under the lock. true:
 * there were some. */
bool pyn_deferred_cancel(struct pyn_deferred *d, bool (*match)(void *ctx, const struct pyn_request *r), void *ctx,
                         const char *reason);
/* The same for the one with that tag, or with that alias in its tag. false: there is none. Finds it without looking at
 * all the others where the alias is given. */
bool pyn_deferred_cancel_tag(struct pyn_deferred *d, struct pyn_span tag, const char *reason);

/* The watchdog's part. What is due by now: timeouts, callers to be watched, blocked loops, answers that wait. */
void pyn_deferred_tick(struct pyn_deferred *d, uint64_t now);
/* When something will be due; PYN_NEVER: nothing. */
uint64_t pyn_deferred_next(struct pyn_deferred *d);
/* The watchdog must not park. */
bool pyn_deferred_busy(struct pyn_deferred *d);

/* No coroutine is begun any more, and all loops end. false: some did not by the deadline. */
bool pyn_deferred_stop(struct pyn_deferred *d, uint64_t deadline);

/* Inside erlang.call on a loop's thread, which nothing can run on meanwhile: change is 1 or -1. */
void pyn_deferred_blocking(struct pyn_deferred *d, struct pyn_loop *l, int change);

#endif
