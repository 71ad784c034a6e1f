/* Where an event loop hears that what its coroutines asked Erlang for is there. */
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "svc/rpc_private.h"

/* The notifier of a loop on a worker's thread: jobs that are nested in the worker's call are told to it as well. */
struct pyn_notify *pyn_notify_open(void *ctx)
{
    struct pyn_notify *n = calloc(1, sizeof(*n));

    (void)ctx;
    if (!n)
        return NULL;
    n->done_end = &n->done;
    n->worker = pyn_run_worker();
    n->loop.fd = pyn_wake_new();
    if (n->loop.fd < 0) {
        free(n);
        return NULL;
    }
    return n;
}

int pyn_notify_fd(void *ctx, struct pyn_notify *n)
{
    (void)ctx;
    return n->loop.fd;
}

/* The table's lock held. */
static struct pyn_rpc *next_locked(struct pyn_notify *n, void **cookie)
{
    struct pyn_rpc *r = n->done;

    if (!r)
        return NULL;
    n->done = r->next_done;
    if (!n->done)
        n->done_end = &n->done;
    *cookie = r->cookie;
    return r;
}

/* The next request that is settled, in the order in which they were; NULL when there is none. The eventfd is read
 * first, so that what is settled later makes it readable again. */
struct pyn_rpc *pyn_notify_next(void *ctx, struct pyn_notify *n, void **cookie)
{
    struct pyn_rpc_table *t = ctx;
    struct pyn_rpc *r;

    pthread_mutex_lock(&t->lock);
    r = next_locked(n, cookie);
    pthread_mutex_unlock(&t->lock);
    return r;
}

void pyn_notify_enter(void *ctx, struct pyn_notify *n)
{
    struct pyn_rpc_table *t = ctx;

    if (n->worker && n->worker == pyn_run_worker())
        pyn_pool_enter_loop(t->service->pool, n->worker, &n->loop);
}

void pyn_notify_serve(void *ctx, struct pyn_notify *n)
{
    struct pyn_rpc_table *t = ctx;

    if (n->worker && n->worker == pyn_run_worker())
        pyn_pool_serve_inbox(t->service->pool, n->worker);
}

/* With the lock held: the request is nobody's to settle any more. */
static struct pyn_rpc *detach(struct pyn_rpc *r, void **cookie)
{
    *cookie = r->cookie;
    r->notify = NULL;
    return r;
}

struct pyn_rpc *pyn_notify_cancel(void *ctx, struct pyn_notify *n, uint64_t id, void **cookie)
{
    struct pyn_rpc_table *t = ctx;
    struct pyn_rpc *r;

    pthread_mutex_lock(&t->lock);
    for (r = t->buckets[id % PYN_RPC_BUCKETS]; r && r->id != id; r = r->next)
        ;
    if (r && (r->notify != n || r->state != PYN_RPC_ASKED))
        r = NULL; /* settled: the loop will see it on its list */
    if (r)
        detach(r, cookie);
    pthread_mutex_unlock(&t->lock);
    return r;
}

/* The table's lock held. */
static struct pyn_rpc *any_of(struct pyn_rpc_table *t, const struct pyn_notify *n)
{
    struct pyn_rpc *r = NULL;

    for (unsigned i = 0; i < PYN_RPC_BUCKETS && !r && t->count > 0; i++)
        for (r = t->buckets[i]; r && r->notify != n; r = r->next)
            ;
    return r;
}

struct pyn_rpc *pyn_notify_abandon(void *ctx, struct pyn_notify *n, void **cookie)
{
    struct pyn_rpc_table *t = ctx;
    struct pyn_rpc *r;

    pthread_mutex_lock(&t->lock);
    r = next_locked(n, cookie);
    if (!r) { /* under the same lock: whatever is left has not been settled, and will not be */
        r = any_of(t, n);
        if (r)
            detach(r, cookie);
    }
    pthread_mutex_unlock(&t->lock);
    return r;
}

/* Requests that are under way are settled on a list that nobody reads: they must be closed first. */
void pyn_notify_close(void *ctx, struct pyn_notify *n)
{
    struct pyn_rpc_table *t = ctx;

    if (n->worker)
        pyn_pool_leave_loop(t->service->pool, n->worker, &n->loop);
    close(n->loop.fd);
    free(n);
}
