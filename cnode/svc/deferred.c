#include "svc/deferred.h"

#include <poll.h>
#include <stdlib.h>

#include "svc/deferred_private.h"

/* A caller is watched once its request is this old. */
#define WATCH_AFTER (20 * PYN_MS)
/* So many are taken out at a time, to be acted on without the lock. */
enum { BATCH = 128 };

/* ---- the table ---- */

static uint64_t tag_hash(const struct pyn_reply_to *to)
{
    return pyn_span_hash(to->alias.len > 0 ? to->alias : to->tag, 0);
}

struct pyn_request *pyn_late_get(struct pyn_deferred *d, uint64_t id)
{
    struct pyn_request *r = d->by_id[id % PYN_LATE_BUCKETS];

    while (r && r->id != id)
        r = r->late.next;
    return r;
}

static void note_next(struct pyn_deferred *d)
{
    const struct pyn_request *first = pyn_due_first(&d->due);

    atomic_store(&d->next_due, first ? first->deadline : PYN_NEVER);
    atomic_store(&d->next_watch, d->oldest ? d->oldest->arrived + WATCH_AFTER : PYN_NEVER);
}

/* The caller of r is watched, or need not be. */
static void unlist(struct pyn_deferred *d, struct pyn_request *r)
{
    struct pyn_late *late = &r->late;

    if (!late->unwatched)
        return;
    late->unwatched = false;
    *(late->older ? &late->older->late.newer : &d->oldest) = late->newer;
    *(late->newer ? &late->newer->late.older : &d->newest) = late->older;
}

static void enlist(struct pyn_deferred *d, struct pyn_request *r)
{
    /* The watchdog may be about to watch the caller of a request that has run for long: twice does no harm. */
    if (r->to.pid.len == 0 || atomic_load_explicit(&r->watched, memory_order_relaxed))
        return;
    r->late.unwatched = true;
    r->late.newer = NULL;
    r->late.older = d->newest;
    *(d->newest ? &d->newest->late.newer : &d->oldest) = r;
    d->newest = r;
}

void pyn_late_insert(struct pyn_deferred *d, struct pyn_request *r)
{
    struct pyn_request **bucket = &d->by_id[r->id % PYN_LATE_BUCKETS];

    r->late.next = *bucket;
    *bucket = pyn_request_ref(r);
    r->late.tag_hash = tag_hash(&r->to);
    bucket = &d->by_tag[r->late.tag_hash % PYN_LATE_BUCKETS];
    r->late.next_tag = *bucket;
    *bucket = r;
    pyn_due_add(&d->due, r);
    enlist(d, r);
    atomic_fetch_add(&d->count, 1);
    note_next(d);
}

void pyn_late_remove(struct pyn_deferred *d, struct pyn_request *r)
{
    struct pyn_request **at = &d->by_id[r->id % PYN_LATE_BUCKETS];

    while (*at != r)
        at = &(*at)->late.next;
    *at = r->late.next;
    at = &d->by_tag[r->late.tag_hash % PYN_LATE_BUCKETS];
    while (*at != r)
        at = &(*at)->late.next_tag;
    *at = r->late.next_tag;
    pyn_due_remove(&d->due, r);
    unlist(d, r);
    pyn_loop_forget(r);
    if (r->late.off)
        atomic_fetch_sub(&d->off_count, 1);
    r->late.loop = NULL;
    atomic_fetch_sub(&d->count, 1);
    note_next(d);
}

unsigned pyn_deferred_count(struct pyn_deferred *d)
{
    return atomic_load_explicit(&d->count, memory_order_relaxed);
}

struct pyn_request *pyn_deferred_find(struct pyn_deferred *d, uint64_t id)
{
    struct pyn_request *r;

    pthread_mutex_lock(&d->lock);
    r = pyn_late_get(d, id);
    /* Once the task knows that it is cancelled, what it still asks for, to tidy up, is not for the request. */
    r = r && !r->late.told ? pyn_request_ref(r) : NULL;
    pthread_mutex_unlock(&d->lock);
    return r;
}

bool pyn_deferred_outer(struct pyn_deferred *d, uint64_t id, struct pyn_outer *outer)
{
    const struct pyn_request *r;

    pthread_mutex_lock(&d->lock);
    r = pyn_late_get(d, id);
    if (r)
        *outer = pyn_request_outer(r);
    pthread_mutex_unlock(&d->lock);
    return r != NULL;
}

/* ---- calling off ---- */

/* What was called off, to be answered without the lock; a reference each. */
struct gone {
    struct pyn_request *all[BATCH];
    bool answer[BATCH]; /* nobody has answered it */
    unsigned count;
};

/* lock held, room in g. The answer is claimed before the task is told: its own would be that it was cancelled. */
static void call_off(struct pyn_deferred *d, struct pyn_request *r, struct gone *g)
{
    atomic_store(&r->off, true);
    r->late.off = true;
    r->late.off_since = pyn_now();
    atomic_fetch_add(&d->off_count, 1);
    pyn_due_remove(&d->due, r);
    unlist(d, r);
    g->answer[g->count] = pyn_request_claim(r);
    g->all[g->count++] = pyn_request_ref(r);
    pyn_loop_call_off(r);
}

/* reason NULL: nobody is to be answered. */
static void act(struct pyn_deferred *d, struct gone *g, const char *reason)
{
    struct pyn_service *s = d->service;

    for (unsigned i = 0; i < g->count; i++) {
        struct pyn_request *r = g->all[i];
        if (reason && g->answer[i])
            pyn_run_send_error(s, r, reason);
        pyn_rpc_coroutine_ended(s->rpc, r);
        pyn_request_unref(r);
    }
    if (g->count > 0)
        pyn_guard_wake(s);
}

bool pyn_deferred_cancel(struct pyn_deferred *d, bool (*match)(void *ctx, const struct pyn_request *r), void *ctx,
                         const char *reason)
{
    struct gone g = {.count = BATCH};
    bool found = false;

    while (g.count == BATCH && pyn_deferred_count(d) > 0) {
        g.count = 0;
        pthread_mutex_lock(&d->lock);
        for (unsigned i = 0; i < PYN_LATE_BUCKETS && g.count < BATCH; i++)
            for (struct pyn_request *r = d->by_id[i]; r && g.count < BATCH; r = r->late.next)
                if (!r->late.off && match(ctx, r))
                    call_off(d, r, &g);
        note_next(d);
        pthread_mutex_unlock(&d->lock);
        act(d, &g, reason);
        found = found || g.count > 0;
    }
    return found;
}

bool pyn_deferred_cancel_tag(struct pyn_deferred *d, struct pyn_span tag, const char *reason)
{
    uint64_t hash = pyn_span_hash(tag, 0);
    struct gone g = {.count = 0};

    pthread_mutex_lock(&d->lock);
    for (struct pyn_request *r = d->by_tag[hash % PYN_LATE_BUCKETS]; r && g.count == 0; r = r->late.next_tag)
        if (r->late.tag_hash == hash && !r->late.off && r->to.pid.len > 0 &&
            pyn_span_eq(r->to.alias.len > 0 ? r->to.alias : r->to.tag, tag))
            call_off(d, r, &g);
    note_next(d);
    pthread_mutex_unlock(&d->lock);
    act(d, &g, reason);
    return g.count > 0;
}

/* ---- the watchdog's part ---- */

static void end_due(struct pyn_deferred *d, uint64_t now)
{
    while (atomic_load(&d->next_due) <= now) {
        struct gone g = {.count = 0};
        struct pyn_request *r;
        pthread_mutex_lock(&d->lock);
        while (g.count < BATCH && (r = pyn_due_first(&d->due)) && r->deadline <= now)
            call_off(d, r, &g);
        note_next(d);
        pthread_mutex_unlock(&d->lock);
        act(d, &g, "timeout");
    }
}

static void watch_callers(struct pyn_deferred *d, uint64_t now)
{
    struct pyn_service *s = d->service;

    while (atomic_load(&d->next_watch) <= now) {
        struct pyn_span own = pyn_service_pid(s); /* is there, since a request has come */
        struct pyn_request *old[BATCH], *r;
        unsigned count = 0;
        pthread_mutex_lock(&d->lock);
        while (count < BATCH && (r = d->oldest) && r->arrived + WATCH_AFTER <= now) {
            unlist(d, r);
            old[count++] = pyn_request_ref(r);
        }
        note_next(d);
        pthread_mutex_unlock(&d->lock);
        for (unsigned i = 0; i < count; i++) {
            (void)pyn_watch_add(s->watch, s->node, own, old[i]->link, old[i]->to.pid);
            pyn_request_unref(old[i]);
        }
    }
}

void pyn_deferred_tick(struct pyn_deferred *d, uint64_t now)
{
    end_due(d, now);
    watch_callers(d, now);
    if (atomic_load_explicit(&d->off_count, memory_order_relaxed) > 0)
        pyn_loops_press(d, now);
    if (atomic_load_explicit(&d->unsent, memory_order_relaxed) && atomic_exchange(&d->unsent, false))
        pyn_loops_flush(d, now);
}

uint64_t pyn_deferred_next(struct pyn_deferred *d)
{
    uint64_t due = atomic_load(&d->next_due), watch = atomic_load(&d->next_watch);
    return due < watch ? due : watch;
}

bool pyn_deferred_busy(struct pyn_deferred *d)
{
    return atomic_load_explicit(&d->off_count, memory_order_relaxed) > 0;
}

/* ---- lifetime ---- */

struct pyn_deferred *pyn_deferred_new(struct pyn_service *s, unsigned workers, unsigned preferred, unsigned max)
{
    struct pyn_deferred *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    d->service = s;
    d->spot_count = workers + 1;
    d->preferred = preferred > 0 ? preferred : workers;
    d->spots = calloc(d->spot_count, sizeof(*d->spots));
    pthread_mutex_init(&d->lock, NULL);
    if (!pyn_due_init(&d->due, max) || !d->spots) {
        pyn_deferred_free(d);
        return NULL;
    }
    note_next(d);
    d->functions = pyn_coroutines_of(d);
    pyn_coroutines_set(&d->functions);
    return d;
}

void pyn_deferred_free(struct pyn_deferred *d)
{
    if (!d)
        return;
    pyn_coroutines_set(NULL);
    pthread_mutex_destroy(&d->lock);
    pyn_due_free(&d->due);
    free(d->spots);
    free(d);
}

bool pyn_deferred_stop(struct pyn_deferred *d, uint64_t deadline)
{
    unsigned left;

    for (;;) {
        pthread_mutex_lock(&d->lock);
        d->stopping = true;
        for (struct pyn_loop *l = d->loops; l; l = l->next) {
            if (!l->stop)
                pyn_loop_tell(l);
            l->stop = true;
        }
        left = d->loop_count;
        pthread_mutex_unlock(&d->lock);
        if (left == 0 || pyn_now() >= deadline)
            return left == 0;
        poll(NULL, 0, 5);
    }
}
