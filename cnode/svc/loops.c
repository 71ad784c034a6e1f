/* Event loops: which one gets a coroutine, what they are told, and those that do not come back. */
#include <stdlib.h>

#include "base/log.h"
#include "base/thread.h"
#include "svc/deferred_private.h"

/* A loop that is in one step for so long gets no further coroutines while there are others. */
#define BLOCKED_AFTER (20 * PYN_MS)
/* The same of a worker that is in one job for so long: the function itself would have to wait. */
#define BUSY_AFTER PYN_MS
/* The step of a request that was called off is interrupted after this long: the one that it is in then, and one that
 * began later, which tidies up. Interrupted again, and given up, after that: by the watchdog's clock, and later where
 * much runs (pyn_guard_patience). */
#define INTERRUPT_AFTER (200 * PYN_MS)
#define TIDY_FOR (1000 * PYN_MS)
#define INTERRUPT_AGAIN (100 * PYN_MS)
#define GIVE_UP (400 * PYN_MS)
/* Answers that wait for so long while their loop does other things are sent by the watchdog. */
#define FLUSH_AFTER (2 * PYN_MS)

/* ---- what a loop is told ---- */

void pyn_loop_tell(struct pyn_loop *l)
{
    if (l->told_since == 0)
        l->told_since = pyn_now();
    pyn_wake_raise(l->fd);
}

void pyn_loop_call_off(struct pyn_request *r)
{
    struct pyn_loop *l = r->late.loop;

    if (!l) /* not begun: it will not be */
        return;
    r->late.next_off = NULL;
    *(l->off_tail ? &l->off_tail->late.next_off : &l->off_head) = r;
    l->off_tail = r;
    pyn_loop_tell(l);
}

void pyn_loop_forget(struct pyn_request *r)
{
    struct pyn_loop *l = r->late.loop;
    struct pyn_request **at, *before = NULL;

    if (!l || !r->late.off || r->late.told)
        return;
    for (at = &l->off_head; *at && *at != r; at = &(*at)->late.next_off)
        before = *at;
    if (!*at)
        return;
    *at = r->late.next_off;
    if (l->off_tail == r)
        l->off_tail = before;
}

/* ---- choosing ---- */

/* lock held. */
static bool is_blocked(const struct pyn_loop *l, uint64_t now)
{
    uint64_t since;

    if (!l)
        return false;
    if (l->blocking > 0 || (l->told_since > 0 && l->told_since + BLOCKED_AFTER < now))
        return true;
    return pyn_runner_look(l->runner, &since) != 0 && since + BLOCKED_AFTER < now;
}

/* Lower is better. Any preferred one comes before the others, which are for where there is none: in other interpreters,
 * or when all of them wait for what the coroutine is nested in. Of each kind, those that are blocked come last. */
static unsigned rank_of(const struct pyn_deferred *d, unsigned spot, uint64_t now)
{
    return (spot > d->preferred ? 2 : 0) + (is_blocked(d->spots[spot].loop, now) ? 1 : 0);
}

unsigned pyn_spot_choose(struct pyn_deferred *d, int group, unsigned first, bool nested)
{
    uint64_t now = pyn_now();
    unsigned best = 0, best_count = 0, best_rank = 0;

    for (unsigned i = 0; i < d->spot_count; i++) {
        unsigned at = (first + i) % d->spot_count;
        const struct pyn_spot *spot = &d->spots[at];
        unsigned count = atomic_load_explicit(&spot->count, memory_order_relaxed);
        unsigned rank;
        if (!spot->used || spot->group != group || (nested && spot->loop && spot->loop->blocking > 0))
            continue;
        rank = rank_of(d, at, now);
        if (best == 0 || rank < best_rank || (rank == best_rank && count < best_count)) {
            best = at;
            best_count = count;
            best_rank = rank;
        }
    }
    return best;
}

void pyn_spot_take(struct pyn_deferred *d, struct pyn_request *r, unsigned spot)
{
    if (r->late.spot == spot)
        return;
    pyn_deferred_leave(d, r);
    r->late.spot = spot;
    atomic_fetch_add_explicit(&d->spots[spot].count, 1, memory_order_relaxed);
}

void pyn_deferred_leave(struct pyn_deferred *d, struct pyn_request *r)
{
    if (r->late.spot)
        atomic_fetch_sub_explicit(&d->spots[r->late.spot].count, 1, memory_order_relaxed);
    r->late.spot = 0;
}

void pyn_deferred_join(struct pyn_deferred *d, const struct pyn_worker *w)
{
    if (w->host || w->id >= d->spot_count)
        return;
    pthread_mutex_lock(&d->lock);
    d->spots[w->id].used = true;
    d->spots[w->id].group = w->group;
    d->spots[w->id].lane = w->lane;
    pthread_mutex_unlock(&d->lock);
}

struct best {
    struct pyn_deferred *d;
    uint64_t now;
    const struct pyn_worker *worker;
    bool busy;
    unsigned count;
};

/* Under the worker's lock. */
static void compare(void *ctx, const struct pyn_worker *w)
{
    struct best *b = ctx;
    bool busy = w->job && w->away_since > 0 && w->away_since + BUSY_AFTER < b->now;
    unsigned count;

    if (w->lane != PYN_LANE_WORK || w->host || w->spare || w->stuck || w->id >= b->d->spot_count ||
        w->id > b->d->preferred)
        return;
    count = atomic_load_explicit(&b->d->spots[w->id].count, memory_order_relaxed);
    if (!b->worker || busy < b->busy || (busy == b->busy && count < b->count) ||
        (busy == b->busy && count == b->count && w->leading)) {
        b->worker = w;
        b->busy = busy;
        b->count = count;
    }
}

void pyn_deferred_route(struct pyn_deferred *d, struct pyn_request *r)
{
    struct best b = {.d = d, .now = pyn_now()};

    pyn_pool_each_worker(d->service->pool, compare, &b);
    if (!b.worker)
        return;
    r->job.group = b.worker->group;
    pyn_spot_take(d, r, b.worker->id);
}

void pyn_deferred_blocking(struct pyn_deferred *d, struct pyn_loop *l, int change)
{
    pthread_mutex_lock(&d->lock);
    l->blocking += (unsigned)change;
    pthread_mutex_unlock(&d->lock);
}

unsigned pyn_deferred_loops(struct pyn_deferred *d, unsigned *stuck)
{
    unsigned count;

    pthread_mutex_lock(&d->lock);
    count = d->loop_count;
    *stuck = d->stuck;
    pthread_mutex_unlock(&d->lock);
    return count;
}

unsigned pyn_deferred_working(struct pyn_deferred *d)
{
    unsigned count = 0;
    uint64_t since;

    pthread_mutex_lock(&d->lock);
    for (const struct pyn_loop *l = d->loops; l; l = l->next)
        count += pyn_runner_look(l->runner, &since) != 0;
    pthread_mutex_unlock(&d->lock);
    return count;
}

/* ---- the watchdog's part ---- */

struct interrupt {
    struct pyn_loop *loop;
    uint64_t request;
};

static void *interrupt_main(void *arg)
{
    struct interrupt *i = arg;

    pyn_thread_name("pyn-intr");
    pyn_runner_interrupt(i->loop->runner, i->request);
    atomic_fetch_sub(&i->loop->users, 1);
    free(i);
    return NULL;
}

/* lock held. */
static void start_interrupt(struct pyn_loop *l, uint64_t request)
{
    struct interrupt *i = malloc(sizeof(*i));

    if (!i)
        return;
    *i = (struct interrupt){l, request};
    atomic_fetch_add(&l->users, 1);
    if (pyn_thread_start(NULL, PYN_INTERRUPTER_STACK, interrupt_main, i) != 0) {
        atomic_fetch_sub(&l->users, 1);
        free(i);
    }
}

/* lock held. The loop is in a step of a request that was called off: true when it was interrupted in vain. clock: the
 * watchdog's. patience: that limits are longer by. */
static bool press(struct pyn_loop *l, uint64_t request, uint64_t since, uint64_t clock, uint64_t patience)
{
    if (l->pressed != since)
        l->presses = 0;
    l->pressed = since;
    if (l->presses == 0 || (l->presses == 1 && clock - l->pressed_at > INTERRUPT_AGAIN + patience / 2)) {
        l->presses++;
        l->pressed_at = clock;
        start_interrupt(l, request);
        return false;
    }
    if (pyn_runner_imports(l->runner))
        patience += PYN_IMPORT_PATIENCE;
    return l->presses == 2 && clock - l->pressed_at > GIVE_UP + patience;
}

void pyn_loop_retire(struct pyn_deferred *d, struct pyn_loop *l)
{
    l->retired = true;
    if (d->spots[l->spot].loop == l)
        d->spots[l->spot].loop = NULL;
    pyn_loop_tell(l);
}

/* lock held. The loop is in a step of a request that was called off, and has had the time to leave it. */
static bool is_overdue(const struct pyn_request *r, uint64_t since, uint64_t now)
{
    if (since > r->late.off_since)
        return since + TIDY_FOR < now;
    return r->late.off_since + INTERRUPT_AFTER < now;
}

void pyn_loops_press(struct pyn_deferred *d, uint64_t now)
{
    uint64_t clock = atomic_load(&d->service->guard_clock), patience = pyn_guard_patience(d->service);
    unsigned given_up = 0, spot = 0, stuck;

    pthread_mutex_lock(&d->lock);
    for (struct pyn_loop *l = d->loops; l; l = l->next) {
        uint64_t since, request = pyn_runner_look(l->runner, &since);
        const struct pyn_request *r = request ? pyn_late_get(d, request) : NULL;
        if (l->stuck || !r || !r->late.off || !is_overdue(r, since, now) || !press(l, request, since, clock, patience))
            continue;
        l->stuck = true;
        d->stuck++;
        pyn_loop_retire(d, l);
        given_up++;
        spot = l->spot;
    }
    stuck = d->stuck;
    pthread_mutex_unlock(&d->lock);
    if (given_up == 0)
        return;
    pyn_log(PYN_WARNING, "guard",
            "the event loop of worker=%u is stuck in a coroutine that does not end when interrupted; another one takes "
            "its place",
            spot);
    if (stuck > d->service->config.max_stuck)
        pyn_guard_end_node(d->service, "event loops");
}

/* lock held. A loop whose answers wait for too long, pinned; NULL: none. */
static struct pyn_loop *next_unsent(struct pyn_deferred *d, uint64_t now)
{
    for (struct pyn_loop *l = d->loops; l; l = l->next) {
        uint64_t since = atomic_load(&l->unsent_since);
        if (since == 0)
            continue;
        if (since + FLUSH_AFTER <= now) {
            atomic_store(&l->unsent_since, 0);
            atomic_fetch_add(&l->users, 1);
            return l;
        }
        atomic_store(&d->unsent, true);
    }
    return NULL;
}

void pyn_loops_flush(struct pyn_deferred *d, uint64_t now)
{
    struct pyn_loop *l;

    do {
        pthread_mutex_lock(&d->lock);
        l = next_unsent(d, now);
        pthread_mutex_unlock(&d->lock);
        if (l) {
            pyn_touched_flush(&l->touched);
            atomic_fetch_sub(&l->users, 1);
        }
    } while (l);
}
