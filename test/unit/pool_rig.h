/* The pool with an "interpreter" and "links" of its own: jobs are functions, poll takes them from a list. */
#ifndef PYN_TEST_POOL_RIG_H
#define PYN_TEST_POOL_RIG_H

#include <semaphore.h>

#include "sched/pool_private.h"

enum { HELPERS = 3 };

struct task {
    struct pyn_job job; /* first */
    uint64_t estimate;
    sem_t *wait;       /* the job waits for it, where there is one */
    sem_t *began;      /* the job posts it at its start */
    atomic_int ran_by; /* worker id, 0: not yet */
    atomic_int group_ran;
    atomic_int order;          /* the how-manieth it was */
    int bind;                  /* 1: binds its worker, -1: frees it */
    struct pyn_worker *worker; /* that ran it; read when ran_by is set */
};

struct fake {
    struct pyn_pool *pool;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct pyn_queue inbox; /* what peers "sent" */
    bool woken;
    atomic_int ran, dropped, flushed, next_group;
    bool own_groups;        /* every worker its own interpreter */
    atomic_int fail_starts; /* this many starts fail */
    int polling;            /* threads inside poll: never more than one */
    bool two_polled;
};

/* 4 replacements, HELPERS helpers. false: a worker did not start. */
bool pool_rig_start(struct fake *f, unsigned workers, unsigned main_workers, bool parallel);
void pool_rig_stop(struct fake *f);
struct pyn_pool_stats pool_rig_stats(struct fake *f);
/* A peer sends them. */
void pool_rig_deliver(struct fake *f, struct task *tasks, int count);
void pool_rig_wait_ran(struct fake *f, int count);
void pool_rig_init_tasks(struct task *tasks, int count);
/* The task says when it begins, and then waits. Both start at 0. */
void pool_rig_hold(struct task *t, sem_t *hold, sem_t *began);

#endif
