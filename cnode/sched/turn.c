/* What a worker does next, and whose turn it is to read. See the head of sched/pool.h for the design. */
#include <stdio.h>

#include "sched/pool_private.h"

bool pyn_pool_may_lead(const struct pyn_worker *w)
{
    return w->lane == PYN_LANE_WORK && !w->spare && !w->host;
}

/* The io thread leads and a worker asked for the turn: it gets it, if it is still idle. pool->lock held. */
static void grant_to_idle(struct pyn_pool *p)
{
    struct pyn_worker *next;

    if (!p->turn_wanted)
        return;
    p->turn_wanted = false;
    next = pyn_pool_pop_idle(p, NULL);
    if (next) {
        p->leader = next;
        pthread_cond_signal(&next->cond);
    }
}

/* Gives the turn to an idle worker, or to the io thread. pool->lock held; the caller leads no more. */
void pyn_pool_pass_turn(struct pyn_pool *p)
{
    struct pyn_worker *w = atomic_load(&p->claimant);

    atomic_store(&p->claimant, NULL);
    if (!w)
        w = pyn_pool_pop_idle(p, NULL);
    p->leader = w ? w : &p->io;
    pthread_cond_signal(&p->leader->cond);
}

void pyn_worker_set_leading(struct pyn_worker *w, bool leading)
{
    pthread_mutex_lock(&w->lock);
    w->leading = leading;
    pthread_mutex_unlock(&w->lock);
}

/* ---- one job ---- */

/* w->lock held. */
void pyn_worker_begin(struct pyn_worker *w, struct pyn_job *job)
{
    job->outer = w->job;
    job->began = w->now;
    w->job = job;
    w->away_since = w->now;
    if (!job->outer)
        atomic_fetch_add(&w->pool->running, 1); /* before a look at whether the watchdog sleeps (pyn_pool_active) */
}

/* Runs one job from a queue, which was begun, and sends its answer. No lock held. */
static void run_queued(struct pyn_worker *w, struct pyn_job *job)
{
    const struct pyn_pool_ops *ops = &w->pool->ops;

    ops->attach(ops->ctx, w);
    ops->run(ops->ctx, w, job);
    ops->detach(ops->ctx, w);
    ops->flush(ops->ctx, w);
}

/* pool->lock held. The next job from the queues for w, begun: whoever looks for a job, first among those that wait and
 * then among those that run, must not miss it in between. */
static struct pyn_job *begin_queued(struct pyn_worker *w)
{
    struct pyn_job *job = pyn_pool_next_locked(w->pool, w);

    if (!job)
        return NULL;
    w->now = pyn_now();
    pthread_mutex_lock(&w->lock);
    pyn_worker_begin(w, job);
    pthread_mutex_unlock(&w->lock);
    return job;
}

/* ---- the leader's batch ---- */

/* Why a job of the batch is not run by the leader itself. */
static bool goes_elsewhere(struct pyn_worker *w, struct pyn_job *job, uint64_t batch_start)
{
    struct pyn_pool *p = w->pool;

    if (job->only)
        return job->only != w;
    if (job->group >= 0)
        return job->group != w->group;
    if (w->bound)
        return true;
    if (job->binds && atomic_load_explicit(&p->idle_count, memory_order_relaxed) > 0)
        return true; /* the leader's caches are warm and its interpreter is in use: rather another one */
    if (job->lane != w->lane && p->config.main_workers > 0)
        return true;
    if (p->config.parallel && w->now - batch_start > PYN_SLICE &&
        atomic_load_explicit(&p->idle_count, memory_order_relaxed) > 0)
        return true;
    return p->ops.estimate(p->ops.ctx, job) > PYN_LONG_JOB;
}

/* Queues the jobs at the head of the batch that go elsewhere. Under pool->lock, so that nobody misses one that is
 * neither here nor there. */
static void send_elsewhere(struct pyn_worker *w, uint64_t batch_start)
{
    struct pyn_job *job;

    pthread_mutex_lock(&w->pool->lock);
    for (;;) {
        pthread_mutex_lock(&w->lock);
        job = w->batch.head;
        if (job && goes_elsewhere(w, job, batch_start))
            pyn_queue_pop(&w->batch);
        else
            job = NULL;
        pthread_mutex_unlock(&w->lock);
        if (!job)
            break;
        pyn_pool_push_locked(w->pool, job, w);
    }
    pthread_mutex_unlock(&w->pool->lock);
}

/* The next job that the leader runs itself; the others on the way there are queued. NULL: the batch is empty (done, or
 * taken away by the watchdog). */
static struct pyn_job *batch_next(struct pyn_worker *w, uint64_t batch_start)
{
    struct pyn_job *job;
    bool elsewhere;

    for (;;) {
        pthread_mutex_lock(&w->lock);
        job = w->batch.head;
        elsewhere = job && goes_elsewhere(w, job, batch_start);
        if (job && !elsewhere) {
            pyn_queue_pop(&w->batch);
            pyn_worker_begin(w, job);
        }
        pthread_mutex_unlock(&w->lock);
        if (!elsewhere)
            return job;
        send_elsewhere(w, batch_start);
    }
}

static void run_batch(struct pyn_worker *w)
{
    const struct pyn_pool_ops *ops = &w->pool->ops;
    uint64_t start, slice;
    struct pyn_job *job;
    bool attached = false;

    w->now = start = slice = pyn_now();
    pthread_mutex_lock(&w->lock);
    pyn_queue_append(&w->batch, &w->incoming);
    pthread_mutex_unlock(&w->lock);
    while ((job = batch_next(w, start))) {
        if (!attached)
            ops->attach(ops->ctx, w);
        attached = true;
        ops->run(ops->ctx, w, job);
        if (w->now - slice > PYN_SLICE) {
            /* Send what there is, and let others have the interpreter. */
            ops->detach(ops->ctx, w);
            attached = false;
            ops->flush(ops->ctx, w);
            slice = w->now;
        }
    }
    if (attached)
        ops->detach(ops->ctx, w);
    ops->flush(ops->ctx, w);
}

/* ---- leading ---- */

/* pool->lock held. There is a job that nobody but this leader can or will run. */
static bool must_work(struct pyn_pool *p, struct pyn_worker *w)
{
    if (w->own.count > 0 || pyn_pool_group_waits(p, w))
        return true;
    return !w->bound && p->lanes[w->lane].count > p->waking[w->lane];
}

/* After a batch: does w lead on? */
static bool leads_on(struct pyn_worker *w)
{
    struct pyn_pool *p = w->pool;
    bool on;

    pthread_mutex_lock(&w->lock);
    on = w->leading;
    pthread_mutex_unlock(&w->lock);
    if (!on)
        return false;
    if (atomic_load_explicit(&p->queued, memory_order_relaxed) == 0 && !p->stopping && !w->bound &&
        !atomic_load_explicit(&p->claimant, memory_order_relaxed))
        return true;
    pthread_mutex_lock(&p->lock);
    /* Who is bound could run least of what it reads. */
    if (p->stopping || must_work(p, w) || atomic_load(&p->claimant) || (w->bound && pyn_pool_unbound_idles(p))) {
        on = false;
        pyn_worker_set_leading(w, false);
        if (p->stopping)
            p->leader = NULL;
        else
            pyn_pool_pass_turn(p);
    }
    pthread_mutex_unlock(&p->lock);
    return on;
}

static void lead(struct pyn_worker *w)
{
    const struct pyn_pool_ops *ops = &w->pool->ops;

    do {
        ops->poll(ops->ctx, !pyn_pool_active(w->pool));
        run_batch(w);
    } while (leads_on(w));
}

/* ---- thread mains ---- */

/* pool->lock held. Waits until there is something to do. */
static void be_idle(struct pyn_worker *w)
{
    struct pyn_pool *p = w->pool;

    if (pyn_pool_may_lead(w) && p->leader == &p->io && !p->turn_wanted) {
        p->turn_wanted = true;
        p->ops.wake(p->ops.ctx);
    }
    w->idle = true;
    w->next_idle = p->idle;
    p->idle = w;
    atomic_fetch_add_explicit(&p->idle_count, 1, memory_order_relaxed);
    while (w->idle && !p->stopping)
        pthread_cond_wait(&w->cond, &p->lock);
    if (w->idle) /* woken by the stop */
        pyn_pool_unidle(p, w);
}

/* pool->lock held. A worker that was given up has returned: before it looks for work, as from now on it takes none of
 * the lane's. */
static void come_back(struct pyn_worker *w)
{
    if (!w->stuck)
        return;
    w->stuck = false;
    w->spare = !w->host;
    w->pool->stuck--;
}

/* pool->lock held. w came. */
static enum pyn_errand come(struct pyn_worker *w)
{
    enum pyn_errand errand = w->errand;

    w->errand = PYN_ERRAND_NONE;
    if (errand == PYN_ERRAND_LANE)
        w->pool->waking[w->lane]--;
    return errand;
}

/* pool->lock held. w has taken a job, perhaps another one than it was woken for: then somebody else has to come. */
static void hand_on(struct pyn_worker *w, enum pyn_errand errand)
{
    struct pyn_pool *p = w->pool;
    const struct pyn_job *first = p->lanes[w->lane].head;

    if (errand == PYN_ERRAND_HELP && !w->host)
        pyn_pool_help_group(p, w->group);
    if (errand != PYN_ERRAND_LANE || p->lanes[w->lane].count <= p->waking[w->lane] || pyn_pool_wake_idle(p, first))
        return;
    if (p->leader && p->leader != &p->io && pyn_worker_serves(p->leader, first))
        p->ops.wake(p->ops.ctx);
}

/* pool->lock held; dropped while the worker works. */
static void serve(struct pyn_worker *w)
{
    enum pyn_errand errand = PYN_ERRAND_NONE;
    struct pyn_pool *p = w->pool;

    for (;;) {
        struct pyn_job *job;

        come_back(w);
        if (p->leader == w && p->stopping) {
            p->leader = NULL; /* the wake-up of the stop was for the one who had the turn before */
        } else if (p->leader == w && must_work(p, w)) {
            pyn_pool_pass_turn(p); /* it got the turn in the middle of a job, and its own queue has filled since */
        } else if (p->leader == w) {
            pyn_worker_set_leading(w, true);
            pthread_mutex_unlock(&p->lock);
            lead(w);
            pthread_mutex_lock(&p->lock);
            continue;
        }
        job = begin_queued(w);
        if (job) {
            hand_on(w, errand);
            errand = PYN_ERRAND_NONE;
            pthread_mutex_unlock(&p->lock);
            run_queued(w, job);
            pthread_mutex_lock(&p->lock);
        } else if (p->stopping) {
            return;
        } else if (!p->leader && pyn_pool_may_lead(w)) {
            p->leader = w;
        } else {
            be_idle(w);
            errand = come(w);
        }
    }
}

void *pyn_worker_main(void *worker)
{
    struct pyn_worker *w = worker;
    struct pyn_pool *p = w->pool;
    char name[16];
    bool ok;

    snprintf(name, sizeof(name), "pyn-work-%u", w->id % 10000);
    pyn_thread_name(name);
    ok = p->ops.start(p->ops.ctx, w);
    pthread_mutex_lock(&p->lock);
    p->starting--;
    w->starting = false;
    w->ready = ok;
    if (!ok)
        p->start_failed = true;
    pthread_cond_broadcast(&p->changed);
    if (ok)
        serve(w);
    pyn_pool_end_helpers(p, w);
    pthread_mutex_unlock(&p->lock);
    if (ok)
        p->ops.stop(p->ops.ctx, w);
    pthread_mutex_lock(&p->lock);
    if (w->host)
        w->host->helpers--;
    p->ended++;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* The io thread reads when every worker is busy, and queues what it reads. */
void *pyn_io_main(void *io)
{
    struct pyn_worker *w = io;
    struct pyn_pool *p = w->pool;

    pyn_thread_name("pyn-io");
    pthread_mutex_lock(&p->lock);
    while (!p->stopping) {
        if (p->leader != w) {
            pthread_cond_wait(&w->cond, &p->lock);
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        p->ops.poll(p->ops.ctx, false); /* the workers have better use for the processor */
        pyn_pool_settle(p);
        pthread_mutex_lock(&p->lock);
        pyn_pool_push_batch(p, w);
        grant_to_idle(p);
    }
    if (p->leader == w)
        p->leader = NULL;
    p->ended++;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- the watchdog's part ---- */

void pyn_pool_watch(struct pyn_pool *p, uint64_t now)
{
    struct pyn_worker *w;
    struct pyn_queue rest = {0};
    struct pyn_job *job;
    bool deposed = false;

    pthread_mutex_lock(&p->lock);
    w = p->leader;
    if (w && w != &p->io) {
        pthread_mutex_lock(&w->lock);
        if (w->leading && w->away_since && now > w->away_since && now - w->away_since > PYN_DEPOSE_AFTER) {
            w->leading = false;
            pyn_queue_append(&rest, &w->batch);
            deposed = true;
        }
        pthread_mutex_unlock(&w->lock);
    }
    if (deposed) {
        p->deposed++;
        pyn_pool_pass_turn(p);
        while ((job = pyn_queue_pop(&rest)))
            pyn_pool_push_locked(p, job, NULL);
    }
    pthread_mutex_unlock(&p->lock);
    if (deposed)
        p->ops.flush_for(p->ops.ctx, w);
}
