/* Shared by pool.c (lifetime, queues), turn.c (who leads, what a worker does next), wait.c and help.c. */
#ifndef PYN_SCHED_POOL_PRIVATE_H
#define PYN_SCHED_POOL_PRIVATE_H

#include "base/clock.h"
#include "base/thread.h"
#include "sched/pool.h"

/* A job that takes longer than this is not run by the thread whose turn it is to read. */
#define PYN_LONG_JOB (100 * UINT64_C(1000))
/* A leader that is in one job for this long loses the turn. */
#define PYN_DEPOSE_AFTER PYN_MS
/* After so much work in one batch answers are sent, and surplus jobs go to idle workers. */
#define PYN_SLICE (150 * UINT64_C(1000))

struct pyn_pool {
    struct pyn_pool_config config;
    struct pyn_pool_ops ops;

    pthread_mutex_t lock;
    /* guarded by lock */
    struct pyn_queue lanes[PYN_LANES];
    struct pyn_queue *groups;  /* group_count of them */
    struct pyn_queue *nesting; /* so many again: those of the group's jobs that may be nested in any other */
    unsigned group_count;
    unsigned waking[PYN_LANES]; /* workers that were woken for a job of the lane and have not come for it yet */
    struct pyn_worker *idle;    /* last in, first out: its caches are warm */
    struct pyn_worker *leader;  /* NULL: nobody reads at the moment; &io: the io thread */
    bool turn_wanted;           /* an idle worker waits for the io thread to give the turn back */
    _Atomic(struct pyn_worker *) claimant; /* a worker that waits in its job would rather read itself; set under lock */
    unsigned starting;                     /* threads whose start has not returned */
    bool start_failed;
    unsigned ended;              /* threads that are about to return */
    pthread_cond_t changed;      /* starting or ended; on the monotonic clock */
    struct pyn_worker **workers; /* slots: room for all that can ever be */
    unsigned worker_count;
    unsigned helper_count; /* of these */
    unsigned stuck;
    uint64_t stuck_total;
    uint64_t deposed;

    struct pyn_worker io;
    atomic_bool stopping; /* set under lock, read without */
    bool has_io;          /* the io thread was started */
    atomic_uint queued;   /* jobs in lanes and groups; changed under lock, read without */
    atomic_uint idle_count;
    atomic_uint running; /* workers inside a job */
};

/* The group has queues. */
static inline bool pyn_pool_knows(const struct pyn_pool *p, int group)
{
    return group >= 0 && (unsigned)group < p->group_count;
}

/* All with pool->lock held. */
void pyn_pool_push_locked(struct pyn_pool *p, struct pyn_job *job, const struct pyn_worker *pusher);
bool pyn_worker_serves(const struct pyn_worker *w, const struct pyn_job *job);
/* Takes an idle worker off the list: the best one for the job, or (NULL) one to lead. NULL: none. */
struct pyn_worker *pyn_pool_pop_idle(struct pyn_pool *p, const struct pyn_job *job);
bool pyn_pool_wake_idle(struct pyn_pool *p, const struct pyn_job *job); /* the best one for the job; false: none */
void pyn_pool_rouse(struct pyn_pool *p, struct pyn_worker *w,
                    enum pyn_errand errand);                    /* w, which is not idle any more */
bool pyn_pool_unbound_idles(const struct pyn_pool *p);          /* a worker that takes jobs of the lane, and may lead */
void pyn_pool_unidle(struct pyn_pool *p, struct pyn_worker *w); /* takes w, which is idle, off the list */
struct pyn_job *pyn_pool_next_locked(struct pyn_pool *p, struct pyn_worker *w);
struct pyn_job *pyn_pool_next_nesting(struct pyn_pool *p, const struct pyn_worker *w);
bool pyn_pool_group_waits(const struct pyn_pool *p, const struct pyn_worker *w); /* for w's group something is queued */
void pyn_pool_tell_waiting(struct pyn_pool *p, const struct pyn_job *job);       /* job->nests: to who may run it */
struct pyn_worker *pyn_pool_spawn(struct pyn_pool *p, enum pyn_lane lane, struct pyn_worker *host);
void pyn_pool_help(struct pyn_pool *p, const struct pyn_job *job); /* job->helps, and nobody is idle: gets a helper */
bool pyn_pool_is_stuck(struct pyn_pool *p, int group);             /* it has workers, and all are stuck */
/* If it is so: what waits for them gets helpers. */
void pyn_pool_help_stuck(struct pyn_pool *p, int group);
/* The group's jobs that may get helpers, and for which nobody comes, get them. */
void pyn_pool_help_group(struct pyn_pool *p, int group);
struct pyn_job *pyn_pool_next_helped(struct pyn_pool *p, const struct pyn_worker *helper);
void pyn_pool_end_helpers(struct pyn_pool *p, struct pyn_worker *host); /* waits for their end */
void pyn_pool_pass_turn(struct pyn_pool *p);
bool pyn_pool_may_lead(const struct pyn_worker *w);

/* Queues what is left of w's batch. */
void pyn_pool_push_batch(struct pyn_pool *p, struct pyn_worker *w);

/* Takes w->lock. */
void pyn_worker_set_leading(struct pyn_worker *w, bool leading);
/* w->lock held: the job runs from now on (w->now). */
void pyn_worker_begin(struct pyn_worker *w, struct pyn_job *job);

/* w's outermost job has ended, and its event loop with it; nothing can be nested in it any more. Takes pool->lock. */
void pyn_pool_leave_job(struct pyn_pool *p, struct pyn_worker *w);

/* Thread mains. */
void *pyn_worker_main(void *worker);
void *pyn_io_main(void *io);

#endif
