/* Contexts at work: bind, unbind, what runs in a context, and the end of one (svc/contexts.h has the table).
 *
 * A bind is a job like others; the worker that runs it is bound from then on. A context that is over is closed by its
 * worker, by a job that was made with it, so that this cannot fail for want of memory; the watchdog watches over that
 * job as over any other, because it runs the destructors of whatever the context held. */
#ifndef PYN_SVC_BIND_H
#define PYN_SVC_BIND_H

#include "svc/contexts.h"
#include "svc/request.h"

struct pyn_desk;
struct pyn_service;

/* A request that was admitted, on the thread that read it. true: nothing more is to be done with it (refused, or it
 * waits for the end of its context). false: it goes to the pool. */
PYN_MUSTCHECK bool pyn_bind_admit(struct pyn_service *s, struct pyn_request *r, const struct pyn_parsed *p);
/* What runs in that context ends with {error, interrupted}. false: there is no such context. */
bool pyn_bind_interrupt(struct pyn_service *s, uint64_t id);

/* Runs a request to bind, or closes a context, and disposes of the request. On the worker's thread, attached. */
void pyn_bind_open(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r);
void pyn_bind_close(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r);
/* The request, which is no call, is about to be given back. */
void pyn_bind_disposed(struct pyn_service *s, struct pyn_request *r);

/* End contexts. No lock held. */
void pyn_bind_owner_died(struct pyn_service *s, struct pyn_span pid);
void pyn_bind_link_down(struct pyn_service *s, uint64_t link_id);
/* The worker was given up. */
void pyn_bind_worker_lost(struct pyn_service *s, struct pyn_worker *w);
/* The worker ends with its pool. */
void pyn_bind_worker_ends(struct pyn_desk *d);

#endif
