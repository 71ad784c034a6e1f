/* What Python asks of the node for its coroutines (py/coroutines.h). */
#include "py/coroutines.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/thread.h"
#include "svc/deferred_private.h"

/* ---- on a worker's thread ---- */

static uint64_t functions_defer(void *ctx, struct pyn_place *place)
{
    struct pyn_deferred *d = ctx;
    struct pyn_request *r = pyn_run_current();
    const struct pyn_worker *w = pyn_run_worker();
    unsigned own = w->host ? w->host->id : w->id; /* a helper has no loop of its own */
    unsigned spot;

    pthread_mutex_lock(&d->lock);
    if (d->stopping || own >= d->spot_count) {
        pthread_mutex_unlock(&d->lock);
        return 0;
    }
    spot = pyn_spot_choose(d, w->group, own, r->outer_run != 0);
    if (spot == 0) { /* each waits for a callback, and this may be what the callback waits for */
        spot = own;
        pyn_loop_retire(d, d->spots[spot].loop);
    }
    pyn_spot_take(d, r, spot);
    place->number = spot;
    place->loop = d->spots[spot].loop ? d->spots[spot].loop->number : 0;
    pyn_late_insert(d, r);
    pthread_mutex_unlock(&d->lock);
    atomic_thread_fence(memory_order_seq_cst); /* the watchdog parks, and then looks when something is due */
    pyn_guard_wake(d->service);
    return r->id;
}

static bool functions_undo(void *ctx, uint64_t id)
{
    struct pyn_deferred *d = ctx;
    struct pyn_request *r;

    pthread_mutex_lock(&d->lock);
    r = pyn_late_get(d, id);
    if (r && !r->late.loop)
        pyn_late_remove(d, r);
    else
        r = NULL;
    pthread_mutex_unlock(&d->lock);
    if (r)
        pyn_request_unref(r); /* the worker has its own */
    return r != NULL;
}

static struct pyn_loop *functions_open(void *ctx, unsigned spot, struct pyn_runner *runner, uint64_t *number)
{
    struct pyn_deferred *d = ctx;
    struct pyn_loop *l = calloc(1, sizeof(*l));

    *number = 0;
    if (!l)
        return NULL;
    l->fd = pyn_wake_new();
    l->spot = spot;
    l->runner = runner;
    pyn_touched_init(&l->touched);
    pthread_mutex_lock(&d->lock);
    if (d->spots[spot].loop) {
        *number = d->spots[spot].loop->number;
    } else if (l->fd >= 0 && !d->stopping) {
        *number = l->number = ++d->last_loop;
        d->spots[spot].loop = l;
        l->next = d->loops;
        d->loops = l;
        d->loop_count++;
        pthread_mutex_unlock(&d->lock);
        return l;
    }
    pthread_mutex_unlock(&d->lock);
    if (l->fd >= 0)
        close(l->fd);
    pyn_touched_fini(&l->touched);
    free(l);
    return NULL;
}

static bool functions_wake(void *ctx, uint64_t loop)
{
    struct pyn_deferred *d = ctx;
    struct pyn_loop *l;

    pthread_mutex_lock(&d->lock);
    for (l = d->loops; l && l->number != loop; l = l->next)
        ;
    if (l)
        pyn_loop_tell(l);
    pthread_mutex_unlock(&d->lock);
    return l != NULL;
}

/* ---- on the loop's thread ---- */

static int functions_fd(void *ctx, struct pyn_loop *l)
{
    (void)ctx;
    return l->fd;
}

static unsigned functions_take(void *ctx, struct pyn_loop *l, uint64_t *requests, unsigned max, bool *stop,
                               bool *retire)
{
    struct pyn_deferred *d = ctx;
    unsigned count = 0;

    pyn_wake_clear(l->fd);
    pthread_mutex_lock(&d->lock);
    l->told_since = 0;
    *stop = l->stop;
    *retire = l->retired;
    while (count < max && l->off_head) {
        struct pyn_request *r = l->off_head;
        l->off_head = r->late.next_off;
        if (!l->off_head)
            l->off_tail = NULL;
        r->late.told = true;
        requests[count++] = r->id;
    }
    pthread_mutex_unlock(&d->lock);
    return count;
}

static bool functions_begin(void *ctx, struct pyn_loop *l, uint64_t id)
{
    struct pyn_deferred *d = ctx;
    struct pyn_request *r;
    bool ended;

    pthread_mutex_lock(&d->lock);
    r = pyn_late_get(d, id);
    /* Answered, but not called off: by who looked at it while it was the worker's. */
    ended = r && (r->late.off || pyn_request_is_answered(r) || !pyn_link_is_up(r->link));
    if (ended)
        pyn_late_remove(d, r);
    else if (r)
        r->late.loop = l;
    pthread_mutex_unlock(&d->lock);
    if (ended)
        pyn_run_dispose(d->service, r);
    return r && !ended;
}

static struct pyn_request *functions_answer(void *ctx, uint64_t id, struct pyn_out *out, size_t *frame)
{
    struct pyn_deferred *d = ctx;
    struct pyn_service *s = d->service;
    struct pyn_request *r;
    bool ended;

    pthread_mutex_lock(&d->lock);
    r = pyn_late_get(d, id);
    ended = r && (r->late.off || pyn_request_is_answered(r));
    if (ended)
        pyn_late_remove(d, r);
    pthread_mutex_unlock(&d->lock);
    if (ended)
        pyn_run_dispose(d->service, r);
    if (!r || ended)
        return NULL;
    out->buf.max = s->config.max_frame;
    if (r->to.pid.len > 0)
        *frame = pyn_proto_begin_reply(&out->buf, &r->to, pyn_service_pid(s));
    return r; /* in the table still: only the loop's own thread takes it out */
}

static void functions_end(void *ctx, struct pyn_loop *l, struct pyn_request *r, size_t frame, struct pyn_out *out,
                          enum pyn_call_outcome outcome)
{
    struct pyn_deferred *d = ctx;
    struct pyn_service *s = d->service;
    uint64_t none = 0;

    pthread_mutex_lock(&d->lock);
    pyn_late_remove(d, r);
    pthread_mutex_unlock(&d->lock);
    pyn_run_count(s, outcome, false);
    if (pyn_request_claim(r) && r->to.pid.len > 0 && pyn_run_queue_result(s, r, out, frame)) {
        if (l) {
            pyn_touched_add(&l->touched, r->link);
            atomic_compare_exchange_strong(&l->unsent_since, &none, pyn_now());
            atomic_store(&d->unsent, true);
            pyn_guard_wake(s);
        } else {
            pyn_link_flush(r->link);
        }
    }
    pyn_run_dispose(d->service, r);
}

static void functions_drop(void *ctx, uint64_t id)
{
    struct pyn_deferred *d = ctx;
    struct pyn_request *r;

    pthread_mutex_lock(&d->lock);
    r = pyn_late_get(d, id);
    if (r)
        pyn_late_remove(d, r);
    pthread_mutex_unlock(&d->lock);
    if (!r)
        return;
    pyn_run_answer(d->service, r, "stopping");
    pyn_run_dispose(d->service, r);
}

static void functions_flush(void *ctx, struct pyn_loop *l)
{
    (void)ctx;
    atomic_store(&l->unsent_since, 0);
    pyn_touched_flush(&l->touched);
}

static void functions_close(void *ctx, struct pyn_loop *l)
{
    struct pyn_deferred *d = ctx;
    struct pyn_loop **at = &d->loops;

    pthread_mutex_lock(&d->lock);
    if (d->spots[l->spot].loop == l)
        d->spots[l->spot].loop = NULL;
    for (unsigned i = 0; i < PYN_LATE_BUCKETS; i++)
        for (struct pyn_request *r = d->by_id[i]; r; r = r->late.next)
            if (r->late.loop == l)
                r->late.loop = NULL; /* lost: its step will drop it */
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    pthread_mutex_unlock(&d->lock);
    while (atomic_load(&l->users) > 0) /* they may wait for the interpreter, which this thread does not hold */
        sched_yield();
    functions_flush(ctx, l);
    pthread_mutex_lock(&d->lock);
    d->loop_count--; /* last: who waits for the end frees what is used here */
    d->stuck -= l->stuck;
    pthread_mutex_unlock(&d->lock);
    close(l->fd);
    pyn_touched_fini(&l->touched);
    free(l);
}

struct pyn_coroutines pyn_coroutines_of(struct pyn_deferred *d)
{
    return (struct pyn_coroutines){
        .ctx = d,
        .defer = functions_defer,
        .undo = functions_undo,
        .open = functions_open,
        .wake = functions_wake,
        .fd = functions_fd,
        .take = functions_take,
        .begin = functions_begin,
        .answer = functions_answer,
        .end = functions_end,
        .drop = functions_drop,
        .flush = functions_flush,
        .close = functions_close,
    };
}
