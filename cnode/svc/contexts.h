/* The contexts of this node: who is bound to which worker. Requests about them are svc/bind.c's.
 *
 * LIFE. A request to bind reserves a place (there are as many as workers, so what is reserved will find one). The
 * worker that runs it adds the context: it is open. It ends once, by whichever comes first: unbind, the owner's death,
 * the loss of the owner's connection, the worker's. From then on it is over: its calls are called off and no other
 * begins. It is removed, and its place is free, when the worker has dropped its namespace, or was given up as stuck.
 *
 * A context is counted: the table has a reference while it is listed, each request in it one, its worker's desk one.
 * Own mutex, innermost. Any thread. */
#ifndef PYN_SVC_CONTEXTS_H
#define PYN_SVC_CONTEXTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "sched/queue.h"

struct pyn_context {
    atomic_uint refs;
    atomic_bool over;
    uint64_t id; /* never 0; not used again, not even by the next pynode of this name */
    struct pyn_worker *worker;
    uint64_t link_id;       /* the owner's connection */
    struct pyn_job *closer; /* what drops the namespace, kept ready; taken by who ended the context */

    /* guarded by the table's lock */
    bool listed;
    struct pyn_queue waiting; /* requests that are answered when the context is removed */
    struct pyn_context *next;

    size_t owner_len;
    uint8_t owner[]; /* a pid's bytes */
};

struct pyn_contexts {
    pthread_mutex_t lock; /* guards all below */
    struct pyn_context *first;
    unsigned max, reserved, count;
    uint64_t last_id;
};

void pyn_contexts_init(struct pyn_contexts *t, unsigned max);
/* Gives back what is listed. */
void pyn_contexts_fini(struct pyn_contexts *t);

struct pyn_context *pyn_context_ref(struct pyn_context *c);
/* NULL is fine. */
void pyn_context_unref(struct pyn_context *c);
static inline bool pyn_context_is_over(const struct pyn_context *c)
{
    return atomic_load_explicit(&c->over, memory_order_acquire);
}
/* true for the one who ended it: that one has the closer run, and calls off what is under way. */
bool pyn_context_end(struct pyn_context *c);

/* A place for one more. false: all are taken. */
bool pyn_contexts_reserve(struct pyn_contexts *t);
void pyn_contexts_unreserve(struct pyn_contexts *t);
/* A context that is in no table yet: nobody else knows of it. New reference; NULL: out of memory. */
struct pyn_context *pyn_context_new(struct pyn_worker *w, uint64_t link_id, struct pyn_span owner,
                                    struct pyn_job *closer);
/* Gives it a number, and the place that was reserved. It is open, and may be ended by anybody from now on. */
void pyn_contexts_add(struct pyn_contexts *t, struct pyn_context *c);
/* New reference; NULL: there is no open context of that number. */
struct pyn_context *pyn_contexts_find(struct pyn_contexts *t, uint64_t id);
/* The first open context that match says true for; new reference, or NULL. match is called under the lock. */
struct pyn_context *pyn_contexts_search(struct pyn_contexts *t,
                                        bool (*match)(const struct pyn_context *c, const void *what), const void *what);
/* The context of that number, over or not, is still listed: the job waits for its removal. false: it is not. */
bool pyn_contexts_await(struct pyn_contexts *t, uint64_t id, struct pyn_job *job);
/* The one listed for the worker, over or not. New reference, or NULL. */
struct pyn_context *pyn_contexts_of_worker(struct pyn_contexts *t, const struct pyn_worker *w);
/* Takes it off the list, if it is there; those who waited for that go to `waiting`. */
void pyn_contexts_remove(struct pyn_contexts *t, struct pyn_context *c, struct pyn_queue *waiting);
unsigned pyn_contexts_count(struct pyn_contexts *t);

#endif
