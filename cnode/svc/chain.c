/* Calls that callbacks make: what they are nested in. */
#include "svc/service_private.h"

struct chain {
    uint64_t run;
    struct pyn_worker *worker;
    struct pyn_job *outer;
    struct pyn_context *context; /* of `outer`; a reference, or NULL */
    uint64_t outer_run;
    uint64_t deadline;
    unsigned depth;
};

/* Under the worker's lock. */
static void find_run(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    struct pyn_request *r = pyn_request_of(job);
    struct chain *c = ctx;

    if (r->id != c->run || atomic_load(&r->asking) == 0)
        return;
    c->worker = w;
    c->outer = job;
    c->context = r->context ? pyn_context_ref(r->context) : NULL;
    c->outer_run = r->outer_run;
    c->deadline = r->deadline;
    c->depth = r->depth;
}

/* r has no more time than what it is nested in, and is nested deeper. */
static void bound(struct pyn_request *r, const struct chain *c)
{
    if (c->deadline < r->deadline)
        r->deadline = c->deadline;
    if (r->depth <= c->depth)
        r->depth = c->depth + 1;
}

/* The run is a coroutine, which waits on no worker, and what it was begun for may. false: there is no such one. */
static bool find_coroutine(struct pyn_service *s, struct pyn_request *r, struct chain *c)
{
    if (!pyn_deferred_outer(s->deferred, c->run, &c->deadline, &c->depth, &c->outer_run, &c->context))
        return false;
    bound(r, c);
    if (c->context && !r->context) {
        r->context = pyn_context_ref(c->context);
        r->job.only = c->context->worker;
    }
    return true;
}

/* The run that the call is to be nested in: the one that its chain names; where it names a context, the next one
 * outwards that runs in that context. false: there is none. */
static bool find_outer(struct pyn_service *s, struct pyn_request *r, struct chain *c)
{
    uint64_t next = r->outer_run;

    for (unsigned level = 0; next != 0 && level <= PYN_MAX_NESTING; level++) {
        *c = (struct chain){.run = next};
        pyn_pool_each_running(s->pool, find_run, c);
        if (!c->worker && !find_coroutine(s, r, c))
            return false;
        if (c->worker && (!r->context || r->context == c->context))
            return true;
        next = c->outer_run;
        pyn_context_unref(c->context);
    }
    return false;
}

bool pyn_chain_nest(struct pyn_service *s, struct pyn_request *r)
{
    struct chain c;

    if (!find_outer(s, r, &c))
        return false;
    if (!pyn_streaming_at_home(s, r, c.worker)) {
        pyn_context_unref(c.context);
        return false;
    }
    bound(r, &c);
    if (c.context && !r->context) { /* should it come too late to be nested, it runs in the context all the same */
        r->context = c.context;
        r->job.only = c.worker;
    } else {
        pyn_context_unref(c.context);
    }
    return pyn_pool_nest(s->pool, c.worker, c.outer, &r->job);
}

uint64_t pyn_chain_deadline(struct pyn_service *s, const struct pyn_parsed *p)
{
    struct chain c = {.run = p->chain_run, .deadline = PYN_NEVER};

    if (c.run != 0)
        pyn_pool_each_running(s->pool, find_run, &c);
    if (c.run != 0 && !c.worker)
        (void)pyn_deferred_outer(s->deferred, c.run, &c.deadline, &c.depth, &c.outer_run, &c.context);
    pyn_context_unref(c.context);
    return c.deadline;
}
