/* Calls that callbacks make: what they are nested in. */
#include "svc/service_private.h"

struct chain {
    uint64_t run;
    struct pyn_worker *worker; /* that runs it; NULL: it is a coroutine */
    struct pyn_job *job;
    struct pyn_outer of;
};

/* Under the worker's lock. */
static void find_run(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    struct pyn_request *r = pyn_request_of(job);
    struct chain *c = ctx;

    if (r->id != c->run || atomic_load(&r->asking) == 0)
        return;
    c->worker = w;
    c->job = job;
    c->of = pyn_request_outer(r);
}

/* r has no more time than what it is nested in, and is nested deeper. */
static void bound(struct pyn_request *r, const struct chain *c)
{
    if (c->of.deadline < r->deadline)
        r->deadline = c->of.deadline;
    if (r->depth <= c->of.depth)
        r->depth = c->of.depth + 1;
}

/* The run is a coroutine, which waits on no worker, and what it was begun for may. false: there is no such one. */
static bool find_coroutine(struct pyn_service *s, struct pyn_request *r, struct chain *c)
{
    if (!pyn_deferred_outer(s->deferred, c->run, &c->of))
        return false;
    bound(r, c);
    r->job.helps = r->job.helps || c->of.helps;
    if (c->of.context && !r->context && r->call.kind != PYN_CALL_STREAM_NEXT) { /* a stream is where it is */
        r->context = pyn_context_ref(c->of.context);
        r->job.only = c->of.context->worker;
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
        if (c->worker && (!r->context || r->context == c->of.context))
            return true;
        next = c->of.outer_run;
        pyn_context_unref(c->of.context);
    }
    return false;
}

bool pyn_chain_nest(struct pyn_service *s, struct pyn_request *r)
{
    struct chain c;

    if (!find_outer(s, r, &c))
        return false;
    if (!pyn_streaming_at_home(s, r, c.worker)) {
        pyn_context_unref(c.of.context);
        return false;
    }
    bound(r, &c);
    if (c.of.context && !r->context) { /* should it come too late to be nested, it runs in the context all the same */
        r->context = c.of.context;
        r->job.only = c.worker;
    } else {
        pyn_context_unref(c.of.context);
    }
    return pyn_pool_nest(s->pool, c.worker, c.job, &r->job);
}

uint64_t pyn_chain_deadline(struct pyn_service *s, const struct pyn_parsed *p, bool *helps)
{
    struct chain c = {.run = p->chain_run, .of = {.deadline = PYN_NEVER, .helps = p->chain_interp >= 0}};

    if (c.run != 0) {
        c.of.helps = false;
        pyn_pool_each_running(s->pool, find_run, &c);
        if (!c.worker)
            (void)pyn_deferred_outer(s->deferred, c.run, &c.of);
    }
    pyn_context_unref(c.of.context);
    *helps = c.of.helps;
    return c.of.deadline;
}
