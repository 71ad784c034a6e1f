/* Who reads and who runs what, where several things happen at once. */
#include "base/clock.h"
#include "unit/pool_rig.h"
#include "unit/suite.h"

static struct fake f;

/* The idle worker, while another one reads. */
static struct pyn_worker *calm_one(void)
{
    struct pyn_worker *idle;

    pthread_mutex_lock(&f.pool->lock);
    idle = f.pool->leader && f.pool->leader != &f.pool->io ? f.pool->idle : NULL;
    pthread_mutex_lock(&f.lock);
    if (f.polling != 1)
        idle = NULL;
    pthread_mutex_unlock(&f.lock);
    pthread_mutex_unlock(&f.pool->lock);
    return idle;
}

/* The idle worker gets a long job of its interpreter and one that anybody may run, in either order, in one batch. The
 * other one is run by the worker that reads. */
START_TEST(what_is_for_all_does_not_wait_for_one)
{
    struct task tasks[2];
    struct task *own = &tasks[_i], *any = &tasks[1 - _i];
    struct pyn_worker *idle;
    sem_t hold, began;

    f = (struct fake){.own_groups = true};
    ck_assert(pool_rig_start(&f, 2, 0, true));
    for (int round = 0; round < 50; round++) {
        atomic_store(&f.ran, 0);
        pool_rig_init_tasks(tasks, 2);
        pool_rig_hold(own, &hold, &began);
        wait_until((idle = calm_one()) != NULL);
        own->job.group = idle->group;
        any->estimate = PYN_SECOND; /* so that it goes through the queue */
        pool_rig_deliver(&f, tasks, 2);
        sem_wait(&began);
        pool_rig_wait_ran(&f, 1); /* hangs where it waits for `own` */
        ck_assert_int_ne(any->ran_by, 0);
        sem_post(&hold);
        pool_rig_wait_ran(&f, 2);
    }
    pool_rig_stop(&f);
}
END_TEST

/* ---- a worker that waits asks for the turn, and gets a nested job ---- */

static struct {
    struct pyn_pool *pool;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct pyn_queue inbox;
    bool woken;
    atomic_bool armed, answered;
    atomic_int polling;
    sem_t began, hold;
    struct pyn_job outer, inner;
    struct pyn_worker *asker;
} n;

static bool nest_start(void *ctx, struct pyn_worker *w)
{
    w->seat = ctx;
    w->group = 0;
    return true;
}

static void nothing(void *ctx, struct pyn_worker *w)
{
    (void)ctx;
    (void)w;
}

static uint64_t is_long(void *ctx, struct pyn_job *job)
{
    (void)ctx;
    (void)job;
    return PYN_SECOND;
}

static bool is_answered(void *ctx)
{
    (void)ctx;
    return atomic_load(&n.answered);
}

static void nest_run(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    (void)ctx;
    if (job == &n.outer) {
        n.asker = w;
        atomic_store(&n.armed, true);
        pyn_pool_wait(n.pool, w, is_answered, NULL);
    } else {
        sem_post(&n.began);
        while (sem_wait(&n.hold) != 0)
            ;
        atomic_store(&n.answered, true);
    }
    pyn_worker_done(w);
}

static void nest_wake(void *ctx)
{
    (void)ctx;
    pthread_mutex_lock(&n.lock);
    n.woken = true;
    pthread_cond_broadcast(&n.cond);
    pthread_mutex_unlock(&n.lock);
}

/* What wakes it first is the worker that waits and wants the turn: the nested job comes in the same moment. */
static void nest_poll(void *ctx, bool eager)
{
    struct pyn_job *job;
    bool woken;

    (void)ctx;
    (void)eager;
    atomic_fetch_add(&n.polling, 1);
    pthread_mutex_lock(&n.lock);
    while (!n.inbox.head && !n.woken)
        pthread_cond_wait(&n.cond, &n.lock);
    woken = n.woken;
    n.woken = false;
    while ((job = pyn_queue_pop(&n.inbox)))
        pyn_pool_deliver(n.pool, job);
    pthread_mutex_unlock(&n.lock);
    atomic_fetch_sub(&n.polling, 1);
    if (woken && atomic_exchange(&n.armed, false))
        ck_assert(pyn_pool_nest(n.pool, n.asker, &n.outer, &n.inner));
}

static int readers_after_a_look(void)
{
    pyn_pool_watch(n.pool, pyn_now());
    return atomic_load(&n.polling);
}

START_TEST(somebody_reads_while_a_nested_job_runs)
{
    const struct pyn_pool_config config = {2, 0, 1, 1, true, 256 * 1024};
    const struct pyn_pool_ops ops = {NULL,    nest_start, nothing,   nothing, nothing, nest_run, nothing,
                                     nothing, nest_poll,  nest_wake, is_long, NULL,    nothing};

    pthread_mutex_init(&n.lock, NULL);
    pthread_cond_init(&n.cond, NULL);
    sem_init(&n.began, 0, 0);
    sem_init(&n.hold, 0, 0);
    n.outer = n.inner = (struct pyn_job){.group = PYN_ANY_GROUP};
    n.pool = pyn_pool_new(&config, &ops);
    ck_assert_ptr_nonnull(n.pool);
    pthread_mutex_lock(&n.lock);
    pyn_queue_push(&n.inbox, &n.outer);
    pthread_cond_broadcast(&n.cond);
    pthread_mutex_unlock(&n.lock);
    while (sem_wait(&n.began) != 0)
        ;
    wait_until(readers_after_a_look() > 0); /* never, where the turn is with the one that runs the job */
    sem_post(&n.hold);
    ck_assert(pyn_pool_stop(n.pool, PYN_NEVER, NULL));
    pyn_pool_free(n.pool);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("turn");
    TCase *core = tcase_create("Core");

    tcase_set_timeout(core, 30);
    tcase_add_loop_test(core, what_is_for_all_does_not_wait_for_one, 0, 2);
    tcase_add_test(core, somebody_reads_while_a_nested_job_runs);
    suite_add_tcase(s, core);
    return suite_run(s);
}
