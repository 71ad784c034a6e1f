#include "sched/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "sched/pool_private.h"

/* ---- queues ---- */

static struct pyn_queue *queue_of(struct pyn_pool *p, struct pyn_job *job)
{
    if (job->only)
        return &job->only->own;
    if (pyn_pool_knows(p, job->group))
        return job->nests ? &p->nesting[job->group] : &p->groups[job->group];
    if (job->lane == PYN_LANE_MAIN && p->config.main_workers == 0)
        job->lane = PYN_LANE_WORK;
    return &p->lanes[job->lane];
}

void pyn_pool_push_locked(struct pyn_pool *p, struct pyn_job *job, const struct pyn_worker *pusher)
{
    if (p->stuck > 0 && !job->only && pyn_pool_is_stuck(p, job->group))
        job->helps = true;
    pyn_queue_push(queue_of(p, job), job);
    atomic_fetch_add_explicit(&p->queued, 1, memory_order_relaxed);
    if (pyn_pool_wake_idle(p, job))
        return;
    /* When nobody else can run it, and the leader may be waiting for messages, it has to look. */
    if (p->leader && p->leader != pusher && p->leader != &p->io && pyn_worker_serves(p->leader, job))
        p->ops.wake(p->ops.ctx);
    if (job->nests)
        pyn_pool_tell_waiting(p, job);
    if (job->helps)
        pyn_pool_help(p, job);
}

void pyn_pool_push_batch(struct pyn_pool *p, struct pyn_worker *w)
{
    struct pyn_queue batch;
    struct pyn_job *job;

    pthread_mutex_lock(&w->lock);
    batch = w->batch;
    w->batch = (struct pyn_queue){0};
    pthread_mutex_unlock(&w->lock);
    while ((job = pyn_queue_pop(&batch)))
        pyn_pool_push_locked(p, job, w);
}

struct pyn_job *pyn_pool_next_nesting(struct pyn_pool *p, const struct pyn_worker *w)
{
    struct pyn_job *job = NULL;

    if (pyn_pool_knows(p, w->group))
        job = pyn_queue_pop(&p->nesting[w->group]);
    if (job)
        atomic_fetch_sub_explicit(&p->queued, 1, memory_order_relaxed);
    return job;
}

bool pyn_pool_group_waits(const struct pyn_pool *p, const struct pyn_worker *w)
{
    return pyn_pool_knows(p, w->group) && (p->groups[w->group].count > 0 || p->nesting[w->group].count > 0);
}

struct pyn_job *pyn_pool_next_locked(struct pyn_pool *p, struct pyn_worker *w)
{
    struct pyn_job *job = w->host ? pyn_pool_next_helped(p, w) : pyn_pool_next_nesting(p, w);
    struct pyn_queue none = {0};
    struct pyn_queue *group = pyn_pool_knows(p, w->group) ? &p->groups[w->group] : &none;

    if (job || w->host)
        return job;
    if (!w->group_next || group->count == 0)
        job = pyn_queue_pop(&w->own);
    w->group_next = job != NULL;
    if (!job)
        job = pyn_queue_pop(group);
    if (!job && !w->spare && !w->bound)
        job = pyn_queue_pop(&p->lanes[w->lane]);
    if (job)
        atomic_fetch_sub_explicit(&p->queued, 1, memory_order_relaxed);
    return job;
}

void pyn_pool_deliver(struct pyn_pool *p, struct pyn_job *job)
{
    /* Only the leader polls, and it stays leader while it does: reading p->leader needs no lock here. */
    pyn_queue_push(&p->leader->incoming, job);
}

void pyn_pool_settle(struct pyn_pool *p)
{
    struct pyn_worker *w = p->leader;

    pthread_mutex_lock(&w->lock);
    pyn_queue_append(&w->batch, &w->incoming);
    pthread_mutex_unlock(&w->lock);
}

static unsigned take_batch(struct pyn_worker *w, bool (*match)(void *ctx, struct pyn_job *job), void *ctx,
                           struct pyn_queue *out)
{
    unsigned taken;

    pthread_mutex_lock(&w->lock);
    taken = pyn_queue_take(&w->batch, out, match, ctx);
    pthread_mutex_unlock(&w->lock);
    return taken;
}

void pyn_pool_push(struct pyn_pool *p, struct pyn_job *job)
{
    pthread_mutex_lock(&p->lock);
    pyn_pool_push_locked(p, job, NULL);
    pthread_mutex_unlock(&p->lock);
}

/* pool->lock held. */
static void take(struct pyn_pool *p, bool (*match)(void *ctx, struct pyn_job *job), void *ctx, struct pyn_queue *out)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < PYN_LANES; i++)
        taken += pyn_queue_take(&p->lanes[i], out, match, ctx);
    for (unsigned i = 0; i < p->group_count; i++) {
        taken += pyn_queue_take(&p->groups[i], out, match, ctx);
        taken += pyn_queue_take(&p->nesting[i], out, match, ctx);
    }
    for (unsigned i = 0; i < p->worker_count; i++)
        taken += pyn_queue_take(&p->workers[i]->own, out, match, ctx);
    atomic_fetch_sub_explicit(&p->queued, taken, memory_order_relaxed);
    for (unsigned i = 0; i < p->worker_count; i++) {
        take_batch(p->workers[i], match, ctx, out);
        pyn_queue_take(&p->workers[i]->inbox, out, match, ctx);
    }
    take_batch(&p->io, match, ctx, out);
}

/* ---- what runs ---- */

/* pool->lock held. */
static void each_running(struct pyn_pool *p, void (*fn)(void *ctx, struct pyn_worker *w, struct pyn_job *job),
                         void *ctx)
{
    for (unsigned i = 0; i < p->worker_count; i++) {
        struct pyn_worker *w = p->workers[i];
        pthread_mutex_lock(&w->lock);
        for (struct pyn_job *job = w->job; job; job = job->outer)
            fn(ctx, w, job);
        pthread_mutex_unlock(&w->lock);
    }
}

void pyn_pool_each_running(struct pyn_pool *p, void (*fn)(void *ctx, struct pyn_worker *w, struct pyn_job *job),
                           void *ctx)
{
    pthread_mutex_lock(&p->lock);
    each_running(p, fn, ctx);
    pthread_mutex_unlock(&p->lock);
}

void pyn_pool_look(struct pyn_pool *p, bool (*match)(void *ctx, struct pyn_job *job),
                   void (*fn)(void *ctx, struct pyn_worker *w, struct pyn_job *job), void *ctx, struct pyn_queue *out)
{
    pthread_mutex_lock(&p->lock);
    take(p, match, ctx, out);
    each_running(p, fn, ctx);
    pthread_mutex_unlock(&p->lock);
}

void pyn_pool_each_worker(struct pyn_pool *p, void (*fn)(void *ctx, const struct pyn_worker *w), void *ctx)
{
    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < p->worker_count; i++) {
        struct pyn_worker *w = p->workers[i];
        pthread_mutex_lock(&w->lock);
        fn(ctx, w);
        pthread_mutex_unlock(&w->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

/* Returns the nanoseconds that it ran. */
static uint64_t end_job(struct pyn_worker *w)
{
    uint64_t now = pyn_now();
    uint64_t took;

    pthread_mutex_lock(&w->lock);
    took = now - w->job->began;
    w->job = w->job->outer;
    w->away_since = w->job ? now : 0;
    pthread_mutex_unlock(&w->lock);
    w->now = now;
    return took;
}

/* w->job is this thread's to change, so no lock is needed to look at it. */
static void leave_last(struct pyn_worker *w)
{
    if (w->job)
        return;
    if (atomic_load(&w->loops) || atomic_load(&w->has_inbox))
        pyn_pool_leave_job(w->pool, w);
    atomic_fetch_sub_explicit(&w->pool->running, 1, memory_order_relaxed);
}

uint64_t pyn_worker_done(struct pyn_worker *w)
{
    uint64_t took = end_job(w);

    leave_last(w);
    return took;
}

void pyn_worker_pass_on(struct pyn_worker *w, struct pyn_job *job)
{
    pthread_mutex_lock(&w->pool->lock);
    (void)end_job(w);
    pyn_pool_push_locked(w->pool, job, w);
    pthread_mutex_unlock(&w->pool->lock);
    leave_last(w);
}

unsigned pyn_pool_running(struct pyn_pool *p)
{
    return atomic_load_explicit(&p->running, memory_order_relaxed);
}

bool pyn_pool_active(struct pyn_pool *p)
{
    return atomic_load(&p->running) > 0 || atomic_load_explicit(&p->queued, memory_order_relaxed) > 0;
}

void pyn_pool_stats(struct pyn_pool *p, struct pyn_pool_stats *s)
{
    pthread_mutex_lock(&p->lock);
    *s = (struct pyn_pool_stats){
        .workers = p->worker_count - p->helper_count,
        .helpers = p->helper_count,
        .busy = pyn_pool_running(p),
        .queued = atomic_load_explicit(&p->queued, memory_order_relaxed),
        .stuck = p->stuck,
        .stuck_total = p->stuck_total,
        .deposed = p->deposed,
        .io_reads = p->leader == &p->io,
    };
    pthread_mutex_unlock(&p->lock);
}

/* ---- lifetime ---- */

static void init_worker(struct pyn_pool *p, struct pyn_worker *w, unsigned id, enum pyn_lane lane)
{
    *w = (struct pyn_worker){.pool = p, .id = id, .lane = lane, .group = PYN_ANY_GROUP};
    pthread_cond_init(&w->cond, NULL);
    pthread_mutex_init(&w->lock, NULL);
}

static void fini_worker(struct pyn_worker *w)
{
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
}

/* Helpers not counted. */
static unsigned max_workers(const struct pyn_pool_config *c)
{
    return c->workers + c->main_workers + c->max_stuck;
}

/* Helpers are numbered behind all workers that there can be: other tables have a place for each of these. */
static unsigned next_number(const struct pyn_pool *p, bool helper)
{
    return 1 + (helper ? max_workers(&p->config) + p->helper_count : p->worker_count - p->helper_count);
}

struct pyn_worker *pyn_pool_spawn(struct pyn_pool *p, enum pyn_lane lane, struct pyn_worker *host)
{
    struct pyn_worker *w = malloc(sizeof(*w));
    pthread_attr_t attr;
    int error;

    if (!w)
        return NULL;
    init_worker(p, w, next_number(p, host != NULL), lane);
    w->host = host;
    w->starting = true;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, p->config.stack_size);
    error = pthread_create(&w->thread, &attr, pyn_worker_main, w);
    pthread_attr_destroy(&attr);
    if (error) {
        fini_worker(w);
        free(w);
        return NULL;
    }
    p->workers[p->worker_count++] = w;
    p->starting++;
    return w;
}

static struct pyn_pool *alloc_pool(const struct pyn_pool_config *config, const struct pyn_pool_ops *ops)
{
    struct pyn_pool *p = calloc(1, sizeof(*p));
    unsigned max = max_workers(config);

    if (!p)
        return NULL;
    p->config = *config;
    p->ops = *ops;
    p->group_count = max + 1;
    p->workers = calloc(max + config->max_helpers, sizeof(struct pyn_worker *));
    p->groups = calloc(p->group_count, sizeof(*p->groups));
    p->nesting = calloc(p->group_count, sizeof(*p->nesting));
    pthread_mutex_init(&p->lock, NULL);
    pyn_cond_init(&p->changed);
    init_worker(p, &p->io, 0, PYN_LANE_WORK);
    p->leader = &p->io; /* until the first worker is idle */
    if (!p->workers || !p->groups || !p->nesting) {
        pyn_pool_free(p);
        return NULL;
    }
    return p;
}

struct pyn_pool *pyn_pool_new(const struct pyn_pool_config *config, const struct pyn_pool_ops *ops)
{
    struct pyn_pool *p = alloc_pool(config, ops);
    bool ok = true;

    if (!p)
        return NULL;
    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; ok && i < config->workers + config->main_workers; i++) {
        ok = pyn_pool_spawn(p, i < config->workers ? PYN_LANE_WORK : PYN_LANE_MAIN, NULL) != NULL;
        /* One after the other: interpreters are made under the main interpreter's lock anyway, and what a preload
         * prints stays in order. */
        while (p->starting > 0)
            pthread_cond_wait(&p->changed, &p->lock);
        ok = ok && !p->start_failed;
    }
    ok = ok && pthread_create(&p->io.thread, NULL, pyn_io_main, &p->io) == 0;
    p->has_io = ok;
    pthread_mutex_unlock(&p->lock);
    if (!ok) {
        if (pyn_pool_stop(p, PYN_NEVER, NULL))
            pyn_pool_free(p);
        return NULL;
    }
    return p;
}

static void drop_all(struct pyn_pool *p, void (*drop)(void *ctx, struct pyn_job *job))
{
    struct pyn_queue rest = {0};
    struct pyn_job *job;

    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < PYN_LANES; i++)
        pyn_queue_append(&rest, &p->lanes[i]);
    for (unsigned i = 0; i < p->group_count; i++) {
        pyn_queue_append(&rest, &p->groups[i]);
        pyn_queue_append(&rest, &p->nesting[i]);
    }
    for (unsigned i = 0; i < p->worker_count; i++)
        pyn_queue_append(&rest, &p->workers[i]->own);
    atomic_store(&p->queued, 0);
    pthread_mutex_unlock(&p->lock);
    while ((job = pyn_queue_pop(&rest)))
        drop(p->ops.ctx, job);
}

/* Waits until every thread has said that it is at its end. */
static bool all_ended(struct pyn_pool *p, uint64_t deadline)
{
    struct timespec ts = {.tv_sec = (time_t)(deadline / PYN_SECOND), .tv_nsec = (long)(deadline % PYN_SECOND)};
    bool all, over = false;

    pthread_mutex_lock(&p->lock);
    /* The last one may have ended while the time did: so it is looked at once more. */
    while (!(all = p->ended == p->worker_count + (p->has_io ? 1 : 0)) && !over) {
        if (deadline == PYN_NEVER)
            pthread_cond_wait(&p->changed, &p->lock);
        else
            over = pthread_cond_timedwait(&p->changed, &p->lock, &ts) == ETIMEDOUT;
    }
    pthread_mutex_unlock(&p->lock);
    return all;
}

bool pyn_pool_stop(struct pyn_pool *p, uint64_t deadline, void (*drop)(void *ctx, struct pyn_job *job))
{
    bool all;

    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    for (unsigned i = 0; i < p->worker_count; i++)
        pthread_cond_signal(&p->workers[i]->cond);
    pthread_cond_signal(&p->io.cond);
    p->ops.wake(p->ops.ctx);
    pthread_mutex_unlock(&p->lock);

    all = all_ended(p, deadline);
    if (all && p->has_io)
        pthread_join(p->io.thread, NULL);
    for (unsigned i = 0; all && i < p->worker_count; i++)
        pthread_join(p->workers[i]->thread, NULL);
    if (drop)
        drop_all(p, drop);
    return all;
}

void pyn_pool_free(struct pyn_pool *p)
{
    if (!p)
        return;
    for (unsigned i = 0; p->workers && i < p->worker_count; i++) {
        if (p->ops.gone)
            p->ops.gone(p->ops.ctx, p->workers[i]);
        fini_worker(p->workers[i]);
        free(p->workers[i]);
    }
    fini_worker(&p->io);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p->groups);
    free(p->nesting);
    free(p);
}

enum pyn_replaced pyn_pool_replace(struct pyn_pool *p, struct pyn_worker *w)
{
    struct pyn_worker *other = NULL;

    pthread_mutex_lock(&p->lock);
    /* Its job may have ended since the watchdog looked; then it is idle or has a turn, and is needed as it is. */
    if (w->stuck || w->idle || p->leader == w) {
        pthread_mutex_unlock(&p->lock);
        return PYN_CAME_BACK;
    }
    w->stuck = true;
    p->stuck++;
    p->stuck_total++;
    if (w->host) { /* there may be more of them */
        pyn_pool_help_stuck(p, w->group);
        pthread_mutex_unlock(&p->lock);
        return PYN_REPLACED;
    }
    for (unsigned i = 0; i < p->worker_count && !other; i++) {
        struct pyn_worker *s = p->workers[i];
        if (s->spare && !s->stuck && s->lane == w->lane)
            other = s;
    }
    if (other) {
        other->spare = false;
        if (other->idle) { /* what waits in the lane is its work from now on */
            pyn_pool_unidle(p, other);
            pyn_pool_rouse(p, other, PYN_ERRAND_LANE);
        }
    } else if (p->worker_count - p->helper_count < max_workers(&p->config)) {
        other = pyn_pool_spawn(p, w->lane, NULL);
    }
    pyn_pool_help_stuck(p, w->group);
    pthread_mutex_unlock(&p->lock);
    return other ? PYN_REPLACED : PYN_NO_MORE_ROOM;
}
