#include "unit/pool_rig.h"

#include "unit/suite.h"

enum { STACK = 256 * 1024 };

static bool fake_start(void *ctx, struct pyn_worker *w)
{
    struct fake *f = ctx;

    if (w->id > 1 && atomic_load(&f->fail_starts) > 0 && atomic_fetch_sub(&f->fail_starts, 1) > 0)
        return false;
    w->seat = f;
    w->group = w->host                                     ? w->host->group
               : f->own_groups && w->lane == PYN_LANE_WORK ? atomic_fetch_add(&f->next_group, 1) + 1
                                                           : 0;
    return true;
}

static void nothing(void *ctx, struct pyn_worker *w)
{
    (void)ctx;
    (void)w;
}

static void fake_flush(void *ctx, struct pyn_worker *w)
{
    struct fake *f = ctx;
    (void)w;
    atomic_fetch_add(&f->flushed, 1);
}

static void fake_run(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    struct fake *f = ctx;
    struct task *t = (struct task *)job;

    atomic_store(&t->group_ran, w->group);
    if (t->began)
        sem_post(t->began);
    if (t->wait)
        while (sem_wait(t->wait) != 0)
            ;
    if (t->bind)
        pyn_pool_bind(f->pool, w, t->bind > 0);
    t->worker = w;
    atomic_store(&t->order, atomic_load(&f->ran));
    pyn_worker_done(w);
    atomic_store(&t->ran_by, (int)w->id);
    atomic_fetch_add(&f->ran, 1);
}

static void fake_poll(void *ctx, bool eager)
{
    struct fake *f = ctx;
    struct pyn_job *job;

    (void)eager;
    pthread_mutex_lock(&f->lock);
    f->two_polled = f->two_polled || ++f->polling > 1;
    while (!f->inbox.head && !f->woken)
        pthread_cond_wait(&f->cond, &f->lock);
    f->woken = false;
    f->polling--;
    while ((job = pyn_queue_pop(&f->inbox)))
        pyn_pool_deliver(f->pool, job);
    pthread_mutex_unlock(&f->lock);
}

static void fake_wake(void *ctx)
{
    struct fake *f = ctx;

    pthread_mutex_lock(&f->lock);
    f->woken = true;
    pthread_cond_broadcast(&f->cond);
    pthread_mutex_unlock(&f->lock);
}

static uint64_t fake_estimate(void *ctx, struct pyn_job *job)
{
    (void)ctx;
    return ((struct task *)job)->estimate;
}

/* The first interpreters are the ones with callers. */
static unsigned fake_burden(void *ctx, const struct pyn_worker *w)
{
    (void)ctx;
    return w->group < 3 ? 5 : 0;
}

static void fake_drop(void *ctx, struct pyn_job *job)
{
    struct fake *f = ctx;
    (void)job;
    atomic_fetch_add(&f->dropped, 1);
}

bool pool_rig_start(struct fake *f, unsigned workers, unsigned main_workers, bool parallel)
{
    const struct pyn_pool_config config = {workers, main_workers, 4, HELPERS, parallel, STACK};
    const struct pyn_pool_ops ops = {f,          fake_start, nothing,   nothing,   nothing,       fake_run,
                                     fake_flush, fake_flush, fake_poll, fake_wake, fake_estimate, fake_burden,
                                     nothing};
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->cond, NULL);
    /* Nobody delivers before pool is set: the inbox is empty until the test sends. */
    f->pool = pyn_pool_new(&config, &ops);
    return f->pool != NULL;
}

void pool_rig_stop(struct fake *f)
{
    ck_assert(pyn_pool_stop(f->pool, PYN_NEVER, fake_drop));
    ck_assert(!f->two_polled);
    pyn_pool_free(f->pool);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->cond);
}

struct pyn_pool_stats pool_rig_stats(struct fake *f)
{
    struct pyn_pool_stats stats;

    pyn_pool_stats(f->pool, &stats);
    return stats;
}

void pool_rig_deliver(struct fake *f, struct task *tasks, int count)
{
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < count; i++)
        pyn_queue_push(&f->inbox, &tasks[i].job);
    pthread_cond_broadcast(&f->cond);
    pthread_mutex_unlock(&f->lock);
}

void pool_rig_wait_ran(struct fake *f, int count)
{
    wait_until(atomic_load(&f->ran) >= count);
}

void pool_rig_init_tasks(struct task *tasks, int count)
{
    for (int i = 0; i < count; i++)
        tasks[i] = (struct task){.job = {.group = PYN_ANY_GROUP}};
}

void pool_rig_hold(struct task *t, sem_t *hold, sem_t *began)
{
    sem_init(hold, 0, 0);
    sem_init(began, 0, 0);
    t->wait = hold;
    t->began = began;
}
