#include "svc/bind.h"

#include "base/log.h"
#include "etf/writer.h"
#include "py/space.h"
#include "svc/service_private.h"

/* ---- the end of a context ---- */

/* Ends the context, unless that has been done: no call of it begins any more, and its worker will close it. What is
 * under way is called off by the watchdog's next look; who wants that at once calls pyn_guard_cancel. */
static void shut(struct pyn_service *s, struct pyn_context *c)
{
    if (!pyn_context_end(c))
        return;
    pyn_streaming_shut(s, &(struct pyn_streams_match){.context = c->id}); /* closed before what they may need goes */
    atomic_fetch_add(&s->admitted, 1);                                    /* pyn_run_dispose counts it down */
    pyn_pool_push(s->pool, c->closer);
    pyn_guard_wake(s);
}

/* Its place is free. */
static void finish(struct pyn_service *s, struct pyn_context *c)
{
    struct pyn_queue waiting = {0};
    struct pyn_job *job;

    pyn_contexts_remove(&s->contexts, c, &waiting);
    while ((job = pyn_queue_pop(&waiting))) {
        pyn_run_answer_ok(s, pyn_request_of(job));
        pyn_run_dispose(s, pyn_request_of(job));
    }
}

static void shut_all(struct pyn_service *s, bool (*match)(const struct pyn_context *c, const void *what),
                     const void *what)
{
    struct pyn_context *c;
    bool any = false;

    while ((c = pyn_contexts_search(&s->contexts, match, what))) {
        shut(s, c);
        pyn_context_unref(c);
        any = true;
    }
    if (any)
        pyn_guard_cancel(s, NULL, NULL, NULL);
}

static bool has_owner(const struct pyn_context *c, const void *pid)
{
    return pyn_span_eq((struct pyn_span){c->owner, c->owner_len}, *(const struct pyn_span *)pid);
}

void pyn_bind_owner_died(struct pyn_service *s, struct pyn_span pid)
{
    shut_all(s, has_owner, &pid);
}

static bool has_link(const struct pyn_context *c, const void *link_id)
{
    return c->link_id == *(const uint64_t *)link_id;
}

void pyn_bind_link_down(struct pyn_service *s, uint64_t link_id)
{
    shut_all(s, has_link, &link_id);
}

void pyn_bind_worker_lost(struct pyn_service *s, struct pyn_worker *w)
{
    struct pyn_context *c = pyn_contexts_of_worker(&s->contexts, w);

    if (!c)
        return;
    pyn_log(PYN_WARNING, "bind", "worker=%u was bound to a context, which is lost", w->id);
    shut(s, c); /* it is closed should the worker come back */
    finish(s, c);
    pyn_context_unref(c);
}

void pyn_bind_worker_ends(struct pyn_desk *d)
{
    struct pyn_context *c = d->context;

    d->context = NULL;
    if (c && pyn_context_end(c))
        pyn_request_unref(pyn_request_of(c->closer));
    pyn_context_unref(c);
}

/* ---- requests ---- */

static void refuse(struct pyn_service *s, struct pyn_request *r, const char *reason)
{
    pyn_run_answer(s, r, reason);
    pyn_run_dispose(s, r);
}

/* The owner is watched before the request goes its way: its death is noticed in whatever state that is. A callback does
 * not wait for a worker: all may be waiting for callbacks. */
static bool admit_bind(struct pyn_service *s, struct pyn_request *r, bool nested)
{
    if ((nested && !pyn_pool_has_free(s->pool)) || !pyn_contexts_reserve(&s->contexts)) {
        refuse(s, r, "no_workers_available");
        return true;
    }
    r->reserved = true;
    if (!pyn_watch_add(s->watch, s->node, pyn_service_pid(s), r->link, r->to.pid)) {
        refuse(s, r, "too_many_owners");
        return true;
    }
    r->job.binds = true;
    return false;
}

static void admit_unbind(struct pyn_service *s, struct pyn_request *r, uint64_t id)
{
    struct pyn_context *c = pyn_contexts_find(&s->contexts, id);

    if (c) {
        shut(s, c);
        pyn_guard_cancel(s, NULL, NULL, NULL);
        pyn_context_unref(c);
    }
    if (pyn_contexts_await(&s->contexts, id, &r->job))
        return;
    pyn_run_answer_ok(s, r);
    pyn_run_dispose(s, r);
}

bool pyn_bind_admit(struct pyn_service *s, struct pyn_request *r, const struct pyn_parsed *p)
{
    if (r->op == PYN_OP_BIND)
        return admit_bind(s, r, p->chain_interp >= 0);
    if (r->op == PYN_OP_UNBIND) {
        admit_unbind(s, r, p->context);
        return true;
    }
    if (p->context == 0)
        return false;
    r->context = pyn_contexts_find(&s->contexts, p->context);
    if (!r->context) {
        refuse(s, r, "context_lost");
        return true;
    }
    r->job.group = PYN_ANY_GROUP;
    if (r->job.lane == PYN_LANE_WORK) /* a module that sub-interpreters refuse is called in the main interpreter */
        r->job.only = r->context->worker;
    return false;
}

struct inside {
    const struct pyn_context *context;
    uint64_t ids[PYN_MAX_NESTING + 1];
    unsigned count;
};

/* Under the worker's lock. */
static void note_inside(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    struct inside *i = ctx;

    (void)w;
    if (pyn_request_of(job)->context == i->context && i->count <= PYN_MAX_NESTING)
        i->ids[i->count++] = pyn_request_of(job)->id;
}

static bool is_inside(void *ctx, const struct pyn_request *r)
{
    const struct inside *i = ctx;

    for (unsigned n = 0; n < i->count; n++)
        if (i->ids[n] == r->id)
            return true;
    return false;
}

bool pyn_bind_interrupt(struct pyn_service *s, uint64_t id)
{
    struct inside i = {.context = pyn_contexts_find(&s->contexts, id)};

    if (!i.context)
        return false;
    pyn_pool_each_running(s->pool, note_inside, &i);
    if (i.count > 0)
        pyn_guard_cancel(s, is_inside, &i, "interrupted");
    pyn_context_unref((struct pyn_context *)i.context);
    return true;
}

/* ---- on the worker ---- */

/* The context, open and with a namespace; NULL: out of memory. */
static struct pyn_context *open_context(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    struct pyn_desk *d = w->seat;
    struct pyn_request *closer = pyn_request_new_closer();
    struct pyn_context *c = NULL;

    if (closer && pyn_space_open(d->seat))
        c = pyn_context_new(w, pyn_link_id(r->link), r->to.pid, &closer->job);
    if (!c) {
        pyn_space_close(d->seat);
        if (closer)
            pyn_request_unref(closer);
        return NULL;
    }
    closer->job.only = w;
    closer->context = pyn_context_ref(c);
    pyn_contexts_add(&s->contexts, c);
    return c;
}

static void write_id(struct pyn_buf *b, const void *context)
{
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "ok");
    pyn_write_int(b, (int64_t)((const struct pyn_context *)context)->id);
}

void pyn_bind_open(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    struct pyn_desk *d = w->seat;
    struct pyn_context *c = open_context(s, w, r);

    if (!c) {
        pyn_worker_done(w);
        refuse(s, r, "no_memory");
        return;
    }
    r->reserved = false; /* the place is the context's now */
    d->context = c;
    pyn_pool_bind(s->pool, w, true);
    pyn_worker_done(w);
    /* The owner's death may have come first: then nobody will ever unbind it. */
    if (!pyn_run_answer_with(s, r, write_id, c))
        shut(s, c);
    pyn_run_dispose(s, r);
}

void pyn_bind_close(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    struct pyn_desk *d = w->seat;
    struct pyn_mark outer = pyn_seat_begin(d->seat, r->id);

    pyn_space_close(d->seat);
    (void)pyn_seat_end(d->seat, outer);
    d->context = NULL;
    pyn_pool_bind(s->pool, w, false);
    pyn_worker_done(w);
    pyn_context_unref(r->context); /* the desk's */
    pyn_run_dispose(s, r);
}

void pyn_bind_disposed(struct pyn_service *s, struct pyn_request *r)
{
    if (r->reserved)
        pyn_contexts_unreserve(&s->contexts);
    else if (r->op == PYN_OP_CLOSE)
        finish(s, r->context);
}
