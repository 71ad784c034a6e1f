/* The py service: joins links (dist), workers (sched) and Python (py).
 *
 *   dispatch.c  messages of peers: pings, monitors, requests; admission
 *   chain.c     what a call of a callback is nested in
 *   run.c       a request on its worker: deadlines, the call, the answer
 *   streaming.c streams: opened, asked for items, closed; streams.c is their table
 *   pins.c      which interpreter holds the __main__ of which caller
 *   watch.c     monitors of callers, so that a death is noticed
 *   deferred.c  requests that are answered later, with loops.c and coroutines.c: event loops
 *   guard.c     the watchdog: deadlines, interrupts, stuck workers, ticks
 *   admin.c     info and version
 */
#ifndef PYN_SVC_SERVICE_H
#define PYN_SVC_SERVICE_H

#include "dist/links.h"
#include "dist/node.h"
#include "py/host.h"
#include "sched/pool.h"

struct pyn_service;

struct pyn_service_config {
    unsigned workers;
    unsigned main_workers;  /* subinterp mode: for modules that refuse sub-interpreters */
    unsigned async_workers; /* so many have an event loop for coroutines that may run anywhere; 0: all */
    unsigned max_queue;     /* requests admitted at once; further ones are answered {overloaded, Current, Max} */
    unsigned max_stuck;     /* stuck workers at most; one more ends the node */
    size_t max_frame;       /* bytes of an answer at most */
    struct pyn_links_config links;
};

/* Starts workers and watchdog; Python runs already (pyn_host_start). NULL: error says why. */
struct pyn_service *pyn_service_start(const struct pyn_service_config *config, char *error, size_t size);
struct pyn_links *pyn_service_links(struct pyn_service *s);
/* The node is registered: messages are taken from now on. */
void pyn_service_ready(struct pyn_service *s, struct pyn_node *node);
/* A descriptor that becomes readable when the service wants the node to end (too many stuck workers). */
int pyn_service_fatal_fd(const struct pyn_service *s);
/* New requests are refused from now on; returns true as soon as none is under way, false at the deadline. */
bool pyn_service_drain(struct pyn_service *s, uint64_t deadline);
/* Interrupts what still runs, ends the threads, closes the links. false: some thread did not end by the deadline; then
 * nothing may be freed and the process must leave by _exit. */
bool pyn_service_stop(struct pyn_service *s, uint64_t deadline);
void pyn_service_free(struct pyn_service *s);

#endif
