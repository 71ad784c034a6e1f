#include <stdlib.h>

#include "base/clock.h"
#include "unit/pool_rig.h"
#include "unit/suite.h"

/* Every worker is busy, and every helper gets a job that keeps it. */
START_TEST(a_job_that_helps_waits_for_nobody)
{
    struct fake f = {.own_groups = true};
    struct task tasks[8];
    struct pyn_pool_stats stats;
    sem_t hold, began;

    sem_init(&hold, 0, 0);
    sem_init(&began, 0, 0);
    pool_rig_init_tasks(tasks, 8);
    for (int i = 0; i < 5; i++) {
        tasks[i].wait = &hold;
        tasks[i].began = &began;
        tasks[i].estimate = PYN_SECOND;
        tasks[i].job.group = i < 2 ? i + 1 : 2;
        tasks[i].job.helps = i >= 2;
    }
    tasks[5].job.group = 2; /* no helper takes this one, */
    tasks[6].job.group = 5; /* nobody ever this, */
    tasks[6].job.helps = true;
    tasks[7].job.group = 1; /* and this waits, as there are no more helpers */
    tasks[7].job.helps = true;
    ck_assert(pool_rig_start(&f, 2, 0, true));
    for (int i = 0; i < 5; i++) {
        pool_rig_deliver(&f, tasks + i, 1);
        sem_wait(&began);
        pyn_pool_watch(f.pool, pyn_now() + PYN_SECOND); /* when a leader has it, it is deposed */
        pyn_pool_stats(f.pool, &stats);
        ck_assert_uint_eq(stats.helpers, (unsigned)(i < 2 ? 0 : i - 1));
        ck_assert_uint_eq(stats.workers, 2);
    }
    pool_rig_deliver(&f, tasks + 5, 3);
    wait_until(pool_rig_stats(&f).queued == 3);
    ck_assert_int_eq(f.ran, 0);
    for (int i = 0; i < 5; i++)
        sem_post(&hold);
    pool_rig_wait_ran(&f, 7);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(tasks[i].group_ran, i < 2 ? i + 1 : 2);
    ck_assert_int_le(tasks[5].ran_by, 2);
    ck_assert_int_le(tasks[7].ran_by, 2);
    pyn_pool_stats(f.pool, &stats);
    ck_assert_uint_eq(stats.helpers, HELPERS);
    /* Those that are idle are used again. */
    for (int i = 0; i < 2; i++) {
        tasks[i].job.next = NULL;
        pool_rig_deliver(&f, tasks + i, 1);
        sem_wait(&began);
        pyn_pool_watch(f.pool, pyn_now() + PYN_SECOND);
    }
    tasks[2] = (struct task){.job = {.group = 2, .helps = true}};
    pool_rig_deliver(&f, tasks + 2, 1);
    pool_rig_wait_ran(&f, 8);
    ck_assert_int_gt(tasks[2].ran_by, 2);
    sem_post(&hold);
    sem_post(&hold);
    pool_rig_wait_ran(&f, 10);
    pool_rig_stop(&f);
    ck_assert_int_eq(f.dropped, 1);
}
END_TEST

/* The last helper that was started has nothing to do. */
static bool is_idle(struct fake *f)
{
    const struct pyn_worker *w = f->pool->workers[f->pool->worker_count - 1];
    bool idle;

    pthread_mutex_lock(&f->pool->lock);
    idle = w->idle;
    pthread_mutex_unlock(&f->pool->lock);
    return idle;
}

/* A reader whose job takes long loses the turn: somebody reads what is there. */
static unsigned queued_after_a_look(struct fake *f)
{
    pyn_pool_watch(f->pool, pyn_now() + PYN_SECOND);
    return pool_rig_stats(f).queued;
}

/* Its interpreter's only worker is stuck: what waits for it, and what comes later, has helpers; as any job of that
 * interpreter has when the worker is back. */
START_TEST(a_stuck_interpreter_is_served)
{
    struct fake f = {.own_groups = true};
    struct task tasks[4];
    struct pyn_pool_stats stats;
    sem_t hold, began;

    pool_rig_init_tasks(tasks, 4);
    for (int i = 0; i < 4; i++)
        tasks[i].job.group = 1;
    pool_rig_hold(tasks, &hold, &began);
    tasks[0].estimate = PYN_SECOND;
    ck_assert(pool_rig_start(&f, 2, 0, true));
    pool_rig_deliver(&f, tasks, 1);
    sem_wait(&began);
    pool_rig_deliver(&f, tasks + 1, 1); /* waits: the worker is only busy */
    wait_until(queued_after_a_look(&f) == 1);
    ck_assert_uint_eq(pool_rig_stats(&f).helpers, 0);
    ck_assert_int_eq(pyn_pool_replace(f.pool, f.pool->workers[0]), PYN_REPLACED);
    pool_rig_wait_ran(&f, 1);
    /* Again and again by the same one. */
    for (int i = 0; i < 20; i++) {
        wait_until(is_idle(&f));
        tasks[2] = (struct task){.job = {.group = 1}};
        pool_rig_deliver(&f, tasks + 2, 1);
        pool_rig_wait_ran(&f, 2 + i);
    }
    for (int i = 1; i < 3; i++) {
        ck_assert_int_eq(tasks[i].group_ran, 1);
        ck_assert_int_gt(tasks[i].ran_by, 2);
    }
    pyn_pool_stats(f.pool, &stats);
    ck_assert_uint_eq(stats.helpers, 1);
    ck_assert_uint_eq(stats.stuck, 1);
    sem_post(&hold);
    pool_rig_wait_ran(&f, 22);
    pool_rig_deliver(&f, tasks + 3, 1);
    pool_rig_wait_ran(&f, 23);
    ck_assert_int_eq(tasks[3].group_ran, 1);
    pool_rig_stop(&f);
}
END_TEST

/* All but the one that reads are idle: each has a job then. */
static bool pushed_to_idle_ones(struct fake *f, struct task *tasks, unsigned count)
{
    bool idle;

    pthread_mutex_lock(&f->pool->lock);
    idle = f->pool->idle_count == count;
    for (unsigned i = 0; i < count && idle; i++)
        pyn_pool_push_locked(f->pool, &tasks[i].job, NULL);
    pthread_mutex_unlock(&f->pool->lock);
    return idle;
}

/* Idle workers of the interpreter are on their way: when the first takes its job, the others' need no helpers. */
START_TEST(workers_that_come_are_enough)
{
    struct fake f = {0};
    struct task tasks[3];
    struct pyn_pool_stats stats;

    ck_assert(pool_rig_start(&f, 4, 0, true));
    for (int round = 1; round <= 50; round++) {
        pool_rig_init_tasks(tasks, 3);
        for (int i = 0; i < 3; i++) {
            tasks[i].job.group = 0;
            tasks[i].job.helps = true;
        }
        wait_until(pushed_to_idle_ones(&f, tasks, 3));
        pool_rig_wait_ran(&f, 3 * round);
    }
    pyn_pool_stats(f.pool, &stats);
    ck_assert_uint_eq(stats.helpers, 0);
    pool_rig_stop(&f);
}
END_TEST

/* One that only reads is free, one in a job is not, and one that is bound is somebody's. */
START_TEST(a_free_worker)
{
    struct fake f = {0};
    struct task tasks[2];
    sem_t hold, began;

    pool_rig_init_tasks(tasks, 2);
    pool_rig_hold(tasks, &hold, &began);
    tasks[1].bind = 1;
    ck_assert(pool_rig_start(&f, 1, 0, true));
    ck_assert(pyn_pool_has_free(f.pool));
    pool_rig_deliver(&f, tasks, 1);
    sem_wait(&began);
    ck_assert(!pyn_pool_has_free(f.pool));
    sem_post(&hold);
    pool_rig_wait_ran(&f, 1);
    ck_assert(pyn_pool_has_free(f.pool));
    pool_rig_deliver(&f, tasks + 1, 1);
    pool_rig_wait_ran(&f, 2);
    ck_assert(!pyn_pool_has_free(f.pool));
    pool_rig_stop(&f);
}
END_TEST

START_TEST(a_helper_that_does_not_start)
{
    struct fake f = {0};
    struct task tasks[3];
    sem_t hold, began;

    pool_rig_init_tasks(tasks, 3);
    pool_rig_hold(tasks, &hold, &began);
    tasks[0].estimate = PYN_SECOND;
    for (int i = 1; i < 3; i++) {
        tasks[i].job.group = 0;
        tasks[i].job.helps = true;
    }
    ck_assert(pool_rig_start(&f, 1, 0, true));
    f.fail_starts = 1;
    pool_rig_deliver(&f, tasks, 1);
    sem_wait(&began);
    pool_rig_deliver(&f, tasks + 1, 1);
    for (;;) {
        struct pyn_pool_stats stats;
        pyn_pool_stats(f.pool, &stats);
        if (stats.helpers == 1)
            break;
    }
    /* The next one gets a helper of its own, which serves both. */
    pool_rig_deliver(&f, tasks + 2, 1);
    pool_rig_wait_ran(&f, 2);
    sem_post(&hold);
    pool_rig_wait_ran(&f, 3);
    pool_rig_stop(&f);
}
END_TEST

static Suite *help_suite(void)
{
    Suite *suite = suite_create("help");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, a_helper_that_does_not_start);
    tcase_add_test(core, a_job_that_helps_waits_for_nobody);
    tcase_add_test(core, a_stuck_interpreter_is_served);
    tcase_add_test(core, workers_that_come_are_enough);
    tcase_add_test(core, a_free_worker);
    tcase_set_timeout(core, 60);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite;
}

int main(void)
{
    return suite_run(help_suite());
}
