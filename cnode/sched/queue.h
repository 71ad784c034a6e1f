/* A first-in first-out list of jobs, linked through the jobs themselves. No lock: the owner's guards it. */
#ifndef PYN_SCHED_QUEUE_H
#define PYN_SCHED_QUEUE_H

#include "base/defs.h"

/* Any worker of the lane may run the job. */
#define PYN_ANY_GROUP (-1)

/* Which workers may run a job that no group is named for. */
enum pyn_lane {
    PYN_LANE_WORK, /* the normal one */
    PYN_LANE_MAIN, /* workers in the main interpreter, for modules that sub-interpreters refuse */
    PYN_LANES
};

struct pyn_worker;

/* Embedded in whatever is to be run. The pool owns a job from deliver/push until it hands it to run or drop. */
struct pyn_job {
    struct pyn_job *next;
    enum pyn_lane lane;
    int group;  /* the interpreter that must run it, or PYN_ANY_GROUP */
    bool nests; /* with a group: who waits inside a job may run it meanwhile, nested, whatever it waits for */
    struct pyn_worker *only; /* the worker that must run it, whatever else it does; NULL: none in particular */
    bool binds;              /* it binds the worker that runs it (pyn_pool_bind): any but a busy or a needed one */
    bool helps;              /* with a group: it is not to wait for a worker, who may wait for it; see sched/help.c */

    /* The pool's own, while the job runs. */
    struct pyn_job *outer; /* the job that waits, on the same thread, for what this one is nested in */
    uint64_t began;
};

struct pyn_queue {
    struct pyn_job *head;
    struct pyn_job *tail;
    unsigned count;
};

void pyn_queue_push(struct pyn_queue *q, struct pyn_job *job);
/* The oldest job, or NULL. */
struct pyn_job *pyn_queue_pop(struct pyn_queue *q);
/* Moves all jobs of `from` behind those of `to`. */
void pyn_queue_append(struct pyn_queue *to, struct pyn_queue *from);
/* Moves the jobs for which match says true, in order, to `to`. match may be called under the owner's lock: it must not
 * call back. Returns how many. */
unsigned pyn_queue_take(struct pyn_queue *q, struct pyn_queue *to, bool (*match)(void *ctx, struct pyn_job *job),
                        void *ctx);

#endif
