/* Workers that take turns at reading: leader and followers.
 *
 * DESIGN. Handing a message from a reading thread to a working one costs more than a short call does, so the worker
 * that is the leader waits for messages, runs the short jobs among them itself and sends all their answers together.
 * What is known to be long (ops.estimate) goes to another worker through a queue. A job that turns out to be long while
 * the leader runs it is noticed by the watchdog (pyn_pool_watch), which deposes the leader: a follower gets the turn to
 * read, and the rest of the batch goes to the queues. When every worker is busy the turn goes to the io thread, which
 * only reads and queues; it gives the turn back as soon as a worker is idle. So messages are read, and pings, overloads
 * and cancellations answered, whatever Python does.
 *
 * A job runs on the very worker that it names, or on a worker of its group (interpreter) when it names one, else on any
 * worker of its lane. A worker that is bound takes no job of the lane; it still takes its turn at reading, where nobody
 * else is there to take it: so messages are read also when every worker is bound.
 *
 * Locks: `pool->lock` guards queues, the idle list, who leads, and counts. Each worker's `lock` guards its batch, its
 * current job and whether it leads; order: pool->lock before worker->lock. ops are called with neither held, but for
 * those whose comment says so. The pool knows nothing of Python, sockets or messages. */
#ifndef PYN_SCHED_POOL_H
#define PYN_SCHED_POOL_H

#include <pthread.h>
#include <stdatomic.h>

#include "sched/queue.h"

struct pyn_pool;

/* An event loop that a job runs, told of jobs by its eventfd. Whoever makes it keeps it until it has left. */
struct pyn_pool_loop {
    int fd;
    /* guarded by pool->lock */
    bool entered;
    struct pyn_pool_loop *next;
};

/* What an idle worker was woken for. */
enum pyn_errand { PYN_ERRAND_NONE, PYN_ERRAND_LANE, PYN_ERRAND_HELP };

/* One thread. Members are the pool's, but for those that say otherwise. */
struct pyn_worker {
    struct pyn_pool *pool;
    unsigned id;
    enum pyn_lane lane;
    void *seat; /* set by ops.start: what the worker needs to run jobs; NULL for the io thread */
    int group;  /* set by ops.start */

    pthread_t thread;
    pthread_cond_t cond; /* with pool->lock: there is something to do */

    /* guarded by pool->lock */
    bool idle;
    enum pyn_errand errand; /* and has not come yet */
    bool bound; /* takes no jobs of the lane; changed by the worker's own thread only, which needs no lock to read it */
    struct pyn_queue own;    /* jobs that name this worker */
    bool group_next;         /* jobs of its group and its own ones take turns */
    bool stuck;              /* its job did not end when interrupted; a replacement runs */
    bool spare;              /* it came back after it had been replaced: serves its own group only */
    bool starting;           /* its start has not returned */
    bool ready;              /* its start has returned, and well: group is set */
    struct pyn_worker *host; /* a helper's: the worker whose interpreter it is in; NULL: it is no helper */
    unsigned helpers;        /* so many have this one as their host: it ends after them */
    struct pyn_worker *next_idle;
    struct pyn_queue inbox;                /* nested jobs for this very worker, which waits inside a job */
    bool waiting;                          /* inside pyn_pool_wait */
    atomic_bool has_inbox;                 /* something is in the inbox; set under pool->lock, read without */
    _Atomic(struct pyn_pool_loop *) loops; /* of its jobs, the innermost first; set under pool->lock, read without */

    pthread_mutex_t lock;
    /* guarded by lock */
    bool leading;
    struct pyn_queue batch;
    struct pyn_job *job; /* running now; those that it is nested in hang on it */
    uint64_t away_since; /* since when the worker has been in its job without looking at messages; 0: it looks */

    /* the worker's own */
    struct pyn_queue incoming; /* what the poll under way delivered */
    uint64_t now;              /* when its last job ended, to save a clock call */
};

struct pyn_pool_ops {
    void *ctx;
    /* On the new thread: opens the seat, sets group, where it is a helper those of its host. false: the worker cannot
     * work (logged by start). */
    bool (*start)(void *ctx, struct pyn_worker *w);
    /* On the worker's thread, at its end. */
    void (*stop)(void *ctx, struct pyn_worker *w);
    /* Around jobs: take and give back the interpreter. */
    void (*attach)(void *ctx, struct pyn_worker *w);
    void (*detach)(void *ctx, struct pyn_worker *w);
    /* Runs the job and disposes of it; attached. Calls pyn_worker_done before the job's memory goes. */
    void (*run)(void *ctx, struct pyn_worker *w, struct pyn_job *job);
    /* Sends the answers that the worker made. Detached. */
    void (*flush)(void *ctx, struct pyn_worker *w);
    /* The same for answers that a deposed leader has not sent; on the watchdog. */
    void (*flush_for)(void *ctx, struct pyn_worker *w);
    /* Waits for messages and calls pyn_pool_deliver for each job. Detached; only the leader calls it. eager: nothing
     * else is under way, so it may take processor time to wait. */
    void (*poll)(void *ctx, bool eager);
    /* Makes poll return. May be called under pool->lock: takes no lock of its own. */
    void (*wake)(void *ctx);
    /* How long the job will take, in ns, as far as is known (0: no idea). No lock, no Python. */
    uint64_t (*estimate)(void *ctx, struct pyn_job *job);
    /* How much would be lost to others with the worker, for the choice of one that is to be bound. Under pool->lock:
     * takes only innermost ones. May be NULL. */
    unsigned (*burden)(void *ctx, const struct pyn_worker *w);
    /* The pool, whose threads have all ended, goes: frees what start has put into the worker. May be NULL. */
    void (*gone)(void *ctx, struct pyn_worker *w);
};

struct pyn_pool_config {
    unsigned workers;      /* of PYN_LANE_WORK */
    unsigned main_workers; /* of PYN_LANE_MAIN; 0: there is no such lane, its jobs go to PYN_LANE_WORK */
    unsigned max_stuck;    /* so many replacements at most */
    unsigned max_helpers;  /* for jobs that help */
    bool parallel;         /* workers run Python at the same time: surplus short jobs go to idle workers */
    size_t stack_size;     /* bytes for each worker */
};

/* Starts all threads and waits until every worker's start returned. NULL when one failed (all others are stopped). */
struct pyn_pool *pyn_pool_new(const struct pyn_pool_config *config, const struct pyn_pool_ops *ops);
/* Tells all threads to end when their queues are empty, and waits until `deadline` (ns of pyn_now). Jobs that still
 * wait go to drop. true: every thread ended and was joined; false: some are stuck, and the pool must not be freed. */
bool pyn_pool_stop(struct pyn_pool *p, uint64_t deadline, void (*drop)(void *ctx, struct pyn_job *job));
void pyn_pool_free(struct pyn_pool *p);

/* The leader's poll got a job. Only from within ops.poll. */
void pyn_pool_deliver(struct pyn_pool *p, struct pyn_job *job);
/* Makes what was delivered in this poll visible to pyn_pool_look. Only from within ops.poll. */
void pyn_pool_settle(struct pyn_pool *p);
/* Queues a job from any thread (a job that must run elsewhere). */
void pyn_pool_push(struct pyn_pool *p, struct pyn_job *job);
/* The group has a worker that may come for its jobs: one that is there and not stuck. or_stuck: one that is there. */
bool pyn_pool_has_group(struct pyn_pool *p, int group, bool or_stuck);
/* A worker has nothing to do, or only reads, and would take a job of the lane. */
bool pyn_pool_has_free(struct pyn_pool *p);
/* Calls fn for each job that runs, those included that wait for a nested one, under the worker's lock (the job stays
 * alive for that long). */
void pyn_pool_each_running(struct pyn_pool *p, void (*fn)(void *ctx, struct pyn_worker *w, struct pyn_job *job),
                           void *ctx);

/* Moves every waiting job (queues and batches) that matches to `out`, and then calls fn as each_running does: at once,
 * so that a job that moves meanwhile is not missed. match runs under locks. */
void pyn_pool_look(struct pyn_pool *p, bool (*match)(void *ctx, struct pyn_job *job),
                   void (*fn)(void *ctx, struct pyn_worker *w, struct pyn_job *job), void *ctx, struct pyn_queue *out);

/* Calls fn for each worker, under its lock and the pool's. */
void pyn_pool_each_worker(struct pyn_pool *p, void (*fn)(void *ctx, const struct pyn_worker *w), void *ctx);

/* The job that run was given has its answer: the watchdog will not see it any more. On the worker's thread. Returns the
 * nanoseconds that it ran. */
uint64_t pyn_worker_done(struct pyn_worker *w);
/* The same, for a job that goes back to the queues, as it says now. No look misses it in between. */
void pyn_worker_pass_on(struct pyn_worker *w, struct pyn_job *job);
/* The worker's job waits, detached, until ready(ctx) says true. Meanwhile the worker runs the jobs of its inbox, nested
 * in this one, and takes its turn at reading where it leads: with one worker alone, what it waits for is read by
 * itself, without a hand-over. ready is called under pool->lock, often: it takes no lock but innermost ones. On the
 * worker's thread. */
void pyn_pool_wait(struct pyn_pool *p, struct pyn_worker *w, bool (*ready)(void *ctx), void *ctx);
/* Has a worker that may be in pyn_pool_wait look at its ready again. Any thread; no lock of the pool held. */
void pyn_pool_poke(struct pyn_pool *p, struct pyn_worker *w);
/* The worker's job waits in an event loop of its own: nested jobs are told to it by its eventfd, until the loop leaves
 * or the outermost job ends. To enter again does no harm. On the worker's thread. */
void pyn_pool_enter_loop(struct pyn_pool *p, struct pyn_worker *w, struct pyn_pool_loop *l);
/* Before the eventfd is closed, whether it has entered or not. Any thread. */
void pyn_pool_leave_loop(struct pyn_pool *p, struct pyn_worker *w, struct pyn_pool_loop *l);
/* The event loop was told: runs what is in the inbox. Detached, on the worker's thread. */
void pyn_pool_serve_inbox(struct pyn_pool *p, struct pyn_worker *w);
/* Gives a job to the worker w, which runs it nested in `outer` when that one waits (now, or in a moment: the caller
 * knows that it will). false: w does not run `outer` any more. `outer` is only compared. */
bool pyn_pool_nest(struct pyn_pool *p, struct pyn_worker *w, const struct pyn_job *outer, struct pyn_job *job);

/* For the watchdog, about every millisecond while pyn_pool_active: deposes a leader whose job takes long. */
void pyn_pool_watch(struct pyn_pool *p, uint64_t now);
/* Something runs or waits. */
bool pyn_pool_active(struct pyn_pool *p);
/* Workers inside a job. No lock. */
unsigned pyn_pool_running(struct pyn_pool *p);
/* From inside a job, on the worker's thread: from now on it takes no jobs of the lane, or takes them again. */
void pyn_pool_bind(struct pyn_pool *p, struct pyn_worker *w, bool bound);

enum pyn_replaced {
    PYN_REPLACED,    /* counted as stuck; another one has its place */
    PYN_CAME_BACK,   /* its job has ended meanwhile: nothing was done */
    PYN_NO_MORE_ROOM /* max_stuck is reached */
};
/* The worker's job did not end when interrupted: count it and start (or re-use) another one in its place. */
enum pyn_replaced pyn_pool_replace(struct pyn_pool *p, struct pyn_worker *w);

struct pyn_pool_stats {
    unsigned workers; /* alive, stuck and spare ones included, io thread and helpers not */
    unsigned helpers;
    unsigned busy;
    unsigned queued;
    unsigned stuck;       /* now */
    uint64_t stuck_total; /* ever */
    uint64_t deposed;     /* leaders that the watchdog deposed */
    bool io_reads;        /* it is the io thread's turn: no worker leads */
};
void pyn_pool_stats(struct pyn_pool *p, struct pyn_pool_stats *s);

#endif
