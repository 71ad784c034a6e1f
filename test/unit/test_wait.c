/* A worker that waits inside its job: for an answer that its own reading brings, for nested jobs, in an event loop. */
#include <semaphore.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "sched/pool.h"

#include "unit/suite.h"

enum { STACK = 512 * 1024, DEPTH = 100, MAX_WORKERS = 3 };

struct task {
    struct pyn_job job; /* first */
    int nested;         /* so many further levels, each asked for by a "callback" */
    bool in_loop;       /* waits in an event loop instead */
    atomic_int ran_by;  /* worker id */
};

/* Peers: whatever is in the inbox is delivered by poll; a job's "callback" is answered by poll too. */
struct fake {
    struct pyn_pool *pool;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct pyn_queue inbox;
    struct task *asked;       /* a callback that poll has to answer ... */
    struct pyn_worker *asker; /* ... to this worker: by a nested job first where there are levels left */
    _Atomic(struct pyn_worker *) asked_by[MAX_WORKERS + 1]; /* by number: who may wait for the last level's answer */
    atomic_int answers;                                     /* how many callbacks have their answer */
    bool woken;
    bool any; /* what is nested may be nested in anything of the group */
    atomic_int ran;
    struct pyn_pool_loop loop;
    struct task levels[DEPTH + 1];
};

static bool fake_start(void *ctx, struct pyn_worker *w)
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

static uint64_t no_idea(void *ctx, struct pyn_job *job)
{
    (void)ctx;
    (void)job;
    return 0;
}

static void fake_wake(void *ctx)
{
    struct fake *f = ctx;

    pthread_mutex_lock(&f->lock);
    f->woken = true;
    pthread_cond_broadcast(&f->cond);
    pthread_mutex_unlock(&f->lock);
}

/* What Erlang does with a callback: it calls back in as long as there are levels, then it answers. */
static void answer(struct fake *f, struct task *asked, struct pyn_worker *asker)
{
    struct task *next = &f->levels[asked->nested - 1];

    if (asked->nested > 0) {
        *next = (struct task){.job = {.group = f->any ? 0 : PYN_ANY_GROUP, .nests = f->any},
                              .nested = asked->nested - 1};
        if (f->any)
            pyn_pool_push(f->pool, &next->job);
        else
            ck_assert(pyn_pool_nest(f->pool, asker, &asked->job, &next->job));
    } else {
        atomic_fetch_add(&f->answers, 1);
        for (int i = 1; i <= MAX_WORKERS; i++) {
            struct pyn_worker *w = atomic_load(&f->asked_by[i]);
            if (w)
                pyn_pool_poke(f->pool, w);
        }
    }
}

static void fake_poll(void *ctx, bool eager)
{
    struct fake *f = ctx;
    struct pyn_worker *asker;
    struct task *asked;
    struct pyn_job *job;

    (void)eager;
    pthread_mutex_lock(&f->lock);
    while (!f->inbox.head && !f->asked && !f->woken)
        pthread_cond_wait(&f->cond, &f->lock);
    f->woken = false;
    asked = f->asked;
    asker = f->asker;
    f->asked = NULL;
    while ((job = pyn_queue_pop(&f->inbox)))
        pyn_pool_deliver(f->pool, job);
    pthread_mutex_unlock(&f->lock);
    if (asked)
        answer(f, asked, asker);
}

struct until {
    struct fake *f;
    int answers;
};

static bool enough(void *ctx)
{
    const struct until *u = ctx;
    return atomic_load(&u->f->answers) >= u->answers;
}

static void ask(struct fake *f, struct task *t, struct pyn_worker *w)
{
    atomic_store(&f->asked_by[w->id], w);
    pthread_mutex_lock(&f->lock);
    f->asked = t;
    f->asker = w;
    pthread_cond_broadcast(&f->cond);
    pthread_mutex_unlock(&f->lock);
}

static void fake_run(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    struct fake *f = ctx;
    struct task *t = (struct task *)job;
    uint64_t count;

    if (t->in_loop) {
        pyn_pool_enter_loop(f->pool, w, &f->loop);
        ask(f, t, w);
        ck_assert_int_eq(read(f->loop.fd, &count, sizeof(count)), sizeof(count));
        pyn_pool_serve_inbox(f->pool, w);
    } else if (t->nested >= 0) {
        struct until u = {f, 1};
        /* The deepest level's answer is everybody's, as each level's callback ends when the one below has. */
        ask(f, t, w);
        pyn_pool_wait(f->pool, w, enough, &u);
    }
    pyn_worker_done(w);
    atomic_store(&t->ran_by, (int)w->id);
    atomic_fetch_add(&f->ran, 1);
}

static void start(struct fake *f, unsigned workers)
{
    const struct pyn_pool_config config = {workers, 0, 2, 0, true, STACK};
    const struct pyn_pool_ops ops = {f,       fake_start, nothing,   nothing, nothing, fake_run, nothing,
                                     nothing, fake_poll,  fake_wake, no_idea, NULL,    nothing};

    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->cond, NULL);
    f->pool = pyn_pool_new(&config, &ops);
    ck_assert_ptr_nonnull(f->pool);
}

static int ran_after_a_look(struct fake *f)
{
    pyn_pool_watch(f->pool, pyn_now()); /* a leader that blocks in an event loop loses the turn */
    return atomic_load(&f->ran);
}

static void run(struct fake *f, struct task *t, int jobs)
{
    pthread_mutex_lock(&f->lock);
    pyn_queue_push(&f->inbox, &t->job);
    pthread_cond_broadcast(&f->cond);
    pthread_mutex_unlock(&f->lock);
    wait_until(ran_after_a_look(f) >= jobs);
    ck_assert(pyn_pool_stop(f->pool, PYN_NEVER, NULL));
    pyn_pool_free(f->pool);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->cond);
}

START_TEST(nobody_waits_no_nesting)
{
    struct fake f = {0};
    struct task t = {.job = {.group = PYN_ANY_GROUP}, .nested = -1};
    struct pyn_worker none = {0};

    pthread_mutex_init(&none.lock, NULL);
    start(&f, 2);
    ck_assert(!pyn_pool_nest(f.pool, &none, &t.job, &t.job));
    run(&f, &t, 1);
    pthread_mutex_destroy(&none.lock);
}
END_TEST

START_TEST(one_worker_reads_its_own_answer)
{
    struct fake f = {0};
    struct task t = {.job = {.group = PYN_ANY_GROUP}};

    start(&f, 1);
    run(&f, &t, 1);
    ck_assert_int_eq(f.answers, 1);
}
END_TEST

/* _i workers: with one there is nobody else who could run what is nested. */
START_TEST(nested_jobs_run_on_the_worker_that_waits)
{
    struct fake *f = calloc(1, sizeof(*f));
    struct task t = {.job = {.group = PYN_ANY_GROUP}, .nested = DEPTH};

    start(f, (unsigned)_i);
    run(f, &t, DEPTH + 1);
    for (int i = 0; i < DEPTH; i++)
        ck_assert_int_eq(f->levels[i].ran_by, t.ran_by);
    free(f);
}
END_TEST

/* They are for whoever waits; a worker that is idle takes them as well. */
START_TEST(jobs_that_may_nest_run_while_others_wait)
{
    struct fake *f = calloc(1, sizeof(*f));
    struct task t = {.job = {.group = PYN_ANY_GROUP}, .nested = DEPTH};

    f->any = true;
    start(f, (unsigned)_i);
    run(f, &t, DEPTH + 1);
    for (int i = 0; i < DEPTH; i++)
        ck_assert(f->levels[i].ran_by != 0 && (_i > 1 || f->levels[i].ran_by == t.ran_by));
    free(f);
}
END_TEST

START_TEST(an_event_loop_serves_jobs_that_may_nest)
{
    struct fake f = {.loop.fd = eventfd(0, EFD_CLOEXEC), .any = true};
    struct task t = {.job = {.group = PYN_ANY_GROUP}, .nested = 1, .in_loop = true};

    start(&f, 1);
    atomic_store(&f.answers, 1);
    run(&f, &t, 2);
    ck_assert_int_eq(f.levels[0].ran_by, t.ran_by);
    close(f.loop.fd);
}
END_TEST

START_TEST(an_event_loop_serves_nested_jobs)
{
    struct fake f = {.loop.fd = eventfd(0, EFD_CLOEXEC)};
    struct task t = {.job = {.group = PYN_ANY_GROUP}, .nested = 1, .in_loop = true};

    start(&f, (unsigned)_i);
    atomic_store(&f.answers, 1); /* for the nested job, which asks nothing that is left */
    run(&f, &t, 2);
    ck_assert_int_eq(f.levels[0].ran_by, t.ran_by);
    close(f.loop.fd);
}
END_TEST

/* Loops may be in one another; one that has left is told nothing any more: its number may be somebody else's. */
START_TEST(loops_come_and_go)
{
    struct pyn_pool_loop loops[3] = {
        {.fd = eventfd(0, EFD_NONBLOCK)}, {.fd = eventfd(0, EFD_NONBLOCK)}, {.fd = eventfd(0, EFD_NONBLOCK)}};
    struct fake f = {0};
    struct task t = {.job = {.group = PYN_ANY_GROUP}, .nested = -1};
    struct pyn_job outer = {.group = PYN_ANY_GROUP}, inner = outer;
    struct pyn_worker w = {.job = &outer, .group = 0};
    uint64_t count;

    pthread_mutex_init(&w.lock, NULL);
    start(&f, 1);
    w.pool = f.pool;
    pyn_pool_leave_loop(f.pool, &w, &loops[0]);
    for (int i = 0; i < 3; i++)
        pyn_pool_enter_loop(f.pool, &w, &loops[i]);
    pyn_pool_enter_loop(f.pool, &w, &loops[1]);
    pyn_pool_leave_loop(f.pool, &w, &loops[_i]);
    pyn_pool_leave_loop(f.pool, &w, &loops[_i]);
    ck_assert(pyn_pool_nest(f.pool, &w, &outer, &inner));
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(read(loops[i].fd, &count, sizeof(count)), i == _i ? -1 : (ssize_t)sizeof(count));
    for (int i = 0; i < 3; i++)
        pyn_pool_leave_loop(f.pool, &w, &loops[i]);
    ck_assert_ptr_null(atomic_load(&w.loops));
    run(&f, &t, 1);
    for (int i = 0; i < 3; i++)
        close(loops[i].fd);
    pthread_mutex_destroy(&w.lock);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wait");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, nobody_waits_no_nesting);
    tcase_add_test(core, one_worker_reads_its_own_answer);
    tcase_add_loop_test(core, nested_jobs_run_on_the_worker_that_waits, 1, MAX_WORKERS + 1);
    tcase_add_loop_test(core, an_event_loop_serves_nested_jobs, 1, MAX_WORKERS + 1);
    tcase_add_loop_test(core, jobs_that_may_nest_run_while_others_wait, 1, MAX_WORKERS + 1);
    tcase_add_test(core, an_event_loop_serves_jobs_that_may_nest);
    tcase_add_loop_test(core, loops_come_and_go, 0, 3);
    tcase_set_timeout(core, 30);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
