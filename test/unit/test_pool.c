#include <stdlib.h>

#include "base/clock.h"
#include "unit/pool_rig.h"
#include "unit/suite.h"

START_TEST(failed_start_stops_the_others)
{
    struct fake f = {.fail_starts = 1};

    ck_assert(!pool_rig_start(&f, 3, 0, true));
}
END_TEST

START_TEST(jobs_left_at_the_stop_are_dropped)
{
    struct fake f = {0};
    struct task tasks[3];
    sem_t hold, began;

    pool_rig_init_tasks(tasks, 3);
    ck_assert(pool_rig_start(&f, 1, 0, true));
    pool_rig_hold(tasks, &hold, &began);
    tasks[1].job.group = 3; /* a group that nobody serves */
    tasks[2].job.group = 3;
    tasks[2].job.nests = true;
    pool_rig_deliver(&f, tasks, 3);
    sem_wait(&began);
    sem_post(&hold);
    pool_rig_wait_ran(&f, 1);
    pool_rig_stop(&f);
    ck_assert_int_eq(f.dropped, 2);
}
END_TEST

struct search {
    struct pyn_job *job;
    struct pyn_worker *found;
};

static void find_running(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    struct search *s = ctx;
    if (s->job == job)
        s->found = w;
}

START_TEST(a_stuck_worker_is_replaced_and_comes_back)
{
    struct fake f = {0};
    struct task tasks[12];
    struct pyn_pool_stats stats;
    sem_t hold, began;

    sem_init(&hold, 0, 0);
    sem_init(&began, 0, 0);
    pool_rig_init_tasks(tasks, 12);
    ck_assert(pool_rig_start(&f, 1, 0, true));
    for (int i = 0; i < 6; i++) {
        tasks[i].wait = &hold;
        tasks[i].began = &began;
        tasks[i].estimate = PYN_SECOND;
    }
    /* One worker and four replacements: the sixth time there is none left. */
    for (int i = 0; i < 5; i++) {
        struct search search = {&tasks[i].job, NULL};
        pool_rig_deliver(&f, &tasks[i], 1);
        sem_wait(&began);
        pyn_pool_stats(f.pool, &stats);
        ck_assert_uint_eq(stats.stuck, (unsigned)i);
        pyn_pool_each_running(f.pool, find_running, &search);
        ck_assert_ptr_nonnull(search.found);
        ck_assert(pyn_pool_has_group(f.pool, 0, false));
        ck_assert_int_eq(pyn_pool_replace(f.pool, search.found), i < 4 ? PYN_REPLACED : PYN_NO_MORE_ROOM);
    }
    ck_assert(!pyn_pool_has_group(f.pool, 0, false)); /* all five are stuck */
    for (int i = 0; i < 5; i++)
        sem_post(&hold);
    pool_rig_wait_ran(&f, 5);
    wait_until(pool_rig_stats(&f).stuck == 0);
    ck_assert_uint_eq(pool_rig_stats(&f).stuck_total, 5);
    ck_assert(pyn_pool_has_group(f.pool, 0, false));
    pool_rig_stop(&f);
}
END_TEST

static void run_one(struct fake *f, struct task *t)
{
    pool_rig_deliver(f, t, 1);
    wait_until(atomic_load(&t->ran_by) != 0);
}

static void ignores(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    (void)ctx;
    (void)w;
    (void)job;
}

static bool matches_any(void *ctx, struct pyn_job *job)
{
    (void)ctx;
    (void)job;
    return true;
}

/* Every worker is bound: what is for them runs, what is not waits, and can be taken back; who is freed works again. */
START_TEST(all_workers_are_bound)
{
    struct fake f = {0};
    struct task binds[2], jobs[40], general[2], last[1];
    struct pyn_queue taken = {0};
    struct pyn_pool_stats stats;

    pool_rig_init_tasks(binds, 2);
    pool_rig_init_tasks(jobs, 40);
    pool_rig_init_tasks(general, 2);
    pool_rig_init_tasks(last, 1);
    ck_assert(pool_rig_start(&f, 2, 0, true));
    for (int i = 0; i < 2; i++) {
        binds[i].bind = 1;
        binds[i].job.binds = true;
        run_one(&f, &binds[i]);
    }
    ck_assert_ptr_ne(binds[0].worker, binds[1].worker);
    pool_rig_deliver(&f, general, 2);
    for (int i = 0; i < 40; i++) { /* read and run, whoever reads */
        jobs[i].job.only = binds[i % 2].worker;
        run_one(&f, &jobs[i]);
        ck_assert_ptr_eq(jobs[i].worker, binds[i % 2].worker);
    }
    pyn_pool_stats(f.pool, &stats);
    ck_assert_uint_eq(stats.queued, 2);
    ck_assert_int_eq(general[0].ran_by + general[1].ran_by, 0);
    pyn_pool_look(f.pool, matches_any, ignores, NULL, &taken);
    ck_assert_uint_eq(taken.count, 2);
    pool_rig_deliver(&f, general, 2);
    last[0].bind = -1;
    last[0].job.only = binds[1].worker;
    pool_rig_deliver(&f, last, 1);
    pool_rig_wait_ran(&f, 2 + 40 + 3);
    ck_assert_ptr_eq(general[0].worker, binds[1].worker);
    ck_assert_ptr_eq(general[1].worker, binds[1].worker);
    pool_rig_stop(&f);
}
END_TEST

START_TEST(every_job_runs_once)
{
    enum { COUNT = 2000 };
    struct fake f = {0};
    static struct task tasks[COUNT];

    pool_rig_init_tasks(tasks, COUNT);
    for (int i = 0; i < COUNT; i += 3)
        tasks[i].estimate = PYN_MS; /* goes through the queue */
    ck_assert(pool_rig_start(&f, 4, 0, true));
    for (int i = 0; i < COUNT; i += 50)
        pool_rig_deliver(&f, tasks + i, 50);
    pool_rig_wait_ran(&f, COUNT);
    pool_rig_stop(&f);
    ck_assert_int_eq(f.ran, COUNT);
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_ne(tasks[i].ran_by, 0);
}
END_TEST

START_TEST(a_group_runs_where_it_belongs)
{
    enum { COUNT = 300 };
    struct fake f = {.own_groups = true};
    static struct task tasks[COUNT];

    pool_rig_init_tasks(tasks, COUNT);
    for (int i = 0; i < COUNT; i++) {
        tasks[i].job.group = 1 + i % 3;
        tasks[i].job.nests = i % 2 == 0; /* nobody waits: they run as all others do */
    }
    ck_assert(pool_rig_start(&f, 3, 0, true));
    for (int g = -1; g < 6; g++)
        ck_assert_int_eq(pyn_pool_has_group(f.pool, g, false), g >= 1 && g <= 3);
    pool_rig_deliver(&f, tasks, COUNT);
    pool_rig_wait_ran(&f, COUNT);
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_eq(tasks[i].group_ran, 1 + i % 3);
    pool_rig_stop(&f);
}
END_TEST

/* One of three is bound: the others do all the work, long and short, but for what names its interpreter. */
START_TEST(a_bound_worker_is_left_alone)
{
    enum { JOBS = 300 };
    static struct task jobs[JOBS];
    struct fake f = {.own_groups = true};
    struct task bind[1], group[1];

    pool_rig_init_tasks(jobs, JOBS);
    pool_rig_init_tasks(bind, 1);
    pool_rig_init_tasks(group, 1);
    ck_assert(pool_rig_start(&f, 3, 0, true));
    bind[0].bind = 1;
    bind[0].job.binds = true;
    run_one(&f, bind);
    for (int i = 0; i < JOBS; i++)
        jobs[i].estimate = i % 3 == 0 ? PYN_SECOND : 0;
    for (int i = 0; i < JOBS; i += 10)
        pool_rig_deliver(&f, &jobs[i], 10);
    pool_rig_wait_ran(&f, 1 + JOBS);
    for (int i = 0; i < JOBS; i++)
        ck_assert_int_ne(jobs[i].ran_by, bind[0].ran_by);
    group[0].job.group = bind[0].group_ran;
    run_one(&f, group);
    ck_assert_int_eq(group[0].ran_by, bind[0].ran_by);
    pool_rig_stop(&f);
}
END_TEST

/* Of the idle ones, the one that is least needed by others. */
START_TEST(the_one_to_bind_is_chosen)
{
    struct fake f = {.own_groups = true};
    struct task bind[1], unbind[1];

    ck_assert(pool_rig_start(&f, 4, 0, true));
    for (int i = 0; i < 20; i++) {
        wait_until(atomic_load(&f.pool->idle_count) == 3); /* the fourth one reads */
        pool_rig_init_tasks(bind, 1);
        bind[0].bind = 1;
        bind[0].job.binds = true;
        run_one(&f, bind);
        ck_assert_int_ge(bind[0].group_ran, 3);
        pool_rig_init_tasks(unbind, 1);
        unbind[0].bind = -1;
        unbind[0].job.only = bind[0].worker;
        run_one(&f, unbind);
    }
    pool_rig_stop(&f);
}
END_TEST

/* Neither its own jobs nor those of its interpreter keep the others out. */
START_TEST(its_own_jobs_and_its_groups_take_turns)
{
    struct fake f = {.own_groups = true};
    struct task bind[1], hold_it[1], own[4], group[4];
    sem_t hold, began;

    sem_init(&hold, 0, 0);
    sem_init(&began, 0, 0);
    pool_rig_init_tasks(bind, 1);
    pool_rig_init_tasks(hold_it, 1);
    pool_rig_init_tasks(own, 4);
    pool_rig_init_tasks(group, 4);
    ck_assert(pool_rig_start(&f, 2, 0, true));
    bind[0].bind = 1;
    run_one(&f, bind);
    hold_it[0].wait = &hold;
    hold_it[0].began = &began;
    hold_it[0].job.only = bind[0].worker;
    pool_rig_deliver(&f, hold_it, 1);
    sem_wait(&began);
    for (int i = 0; i < 4; i++) {
        own[i].job.only = bind[0].worker;
        group[i].job.group = bind[0].group_ran;
        pyn_pool_push(f.pool, &own[i].job);
    }
    for (int i = 0; i < 4; i++)
        pyn_pool_push(f.pool, &group[i].job);
    sem_post(&hold);
    pool_rig_wait_ran(&f, 10);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_lt(own[i].order, group[i + 1].order);
        ck_assert_int_lt(group[i].order, own[i + 1].order);
    }
    pool_rig_stop(&f);
}
END_TEST

START_TEST(the_main_lane_has_its_own_workers)
{
    struct fake f = {.own_groups = true};
    struct task tasks[2];

    pool_rig_init_tasks(tasks, 2);
    tasks[0].job.lane = PYN_LANE_MAIN;
    ck_assert(pool_rig_start(&f, 2, 1, true));
    pool_rig_deliver(&f, tasks, 2);
    pool_rig_wait_ran(&f, 2);
    ck_assert_int_eq(tasks[0].group_ran, 0);
    ck_assert_int_ne(tasks[1].group_ran, 0);
    pool_rig_stop(&f);
}
END_TEST

static int ran_after_a_look(struct fake *f)
{
    pyn_pool_watch(f->pool, pyn_now());
    return atomic_load(&f->ran);
}

/* A long job on the leader: without the watchdog what came with it would wait. */
START_TEST(the_watchdog_deposes_a_busy_leader)
{
    struct fake f = {0};
    struct task tasks[40];
    struct pyn_pool_stats stats;
    sem_t hold, began;

    pool_rig_init_tasks(tasks, 40);
    pool_rig_hold(tasks, &hold, &began);
    ck_assert(pool_rig_start(&f, 2, 0, false));
    wait_until(!pool_rig_stats(&f).io_reads); /* a worker has taken the turn over */
    pool_rig_deliver(&f, tasks, 40);
    sem_wait(&began);
    wait_until(ran_after_a_look(&f) == 39);
    pyn_pool_stats(f.pool, &stats);
    ck_assert_uint_ge(stats.deposed, 1);
    ck_assert_uint_eq(stats.busy, 1);
    sem_post(&hold);
    pool_rig_wait_ran(&f, 40);
    pool_rig_stop(&f);
}
END_TEST

START_TEST(with_all_workers_busy_messages_are_still_read)
{
    struct fake f = {0};
    struct task tasks[4];
    sem_t hold, began;

    sem_init(&hold, 0, 0);
    sem_init(&began, 0, 0);
    pool_rig_init_tasks(tasks, 4);
    for (int i = 0; i < 2; i++) {
        tasks[i].wait = &hold;
        tasks[i].began = &began;
        tasks[i].estimate = PYN_SECOND;
    }
    ck_assert(pool_rig_start(&f, 2, 0, true));
    pool_rig_deliver(&f, tasks, 2);
    sem_wait(&began);
    sem_wait(&began);
    pool_rig_deliver(&f, tasks + 2, 2);
    for (;;) { /* the io thread reads and queues them */
        struct pyn_pool_stats stats;
        pyn_pool_stats(f.pool, &stats);
        if (stats.queued == 2)
            break;
    }
    sem_post(&hold);
    sem_post(&hold);
    pool_rig_wait_ran(&f, 4);
    pool_rig_stop(&f);
}
END_TEST

static Suite *pool_suite(void)
{
    Suite *suite = suite_create("pool");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, failed_start_stops_the_others);
    tcase_add_test(limits, jobs_left_at_the_stop_are_dropped);
    tcase_add_test(limits, a_stuck_worker_is_replaced_and_comes_back);
    tcase_add_test(limits, all_workers_are_bound);
    tcase_add_test(core, every_job_runs_once);
    tcase_add_test(core, a_group_runs_where_it_belongs);
    tcase_add_test(core, a_bound_worker_is_left_alone);
    tcase_add_test(core, the_one_to_bind_is_chosen);
    tcase_add_test(core, its_own_jobs_and_its_groups_take_turns);
    tcase_add_test(core, the_main_lane_has_its_own_workers);
    tcase_add_test(core, the_watchdog_deposes_a_busy_leader);
    tcase_add_test(core, with_all_workers_busy_messages_are_still_read);
    tcase_set_timeout(core, 60);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite;
}

int main(void)
{
    return suite_run(pool_suite());
}
