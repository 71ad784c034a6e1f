/* Helpers: workers that are started when a job is not to wait for one.
 *
 * Python code may start a thread and wait for it. What that thread asks of Erlang may ask Python in its turn, and for
 * that every worker of the interpreter may be waiting, in Python code, where nothing can be nested. Such a job
 * (`helps`) is run by whichever worker of its group is idle, or by a helper: one more thread in that interpreter, which
 * does nothing else, so that there is one for the next depth as well. Helpers are kept, and lead no turn. There are
 * `max_helpers` at most; then jobs wait after all.
 *
 * The same is done for an interpreter whose workers are all stuck: what is defined there lives on. Where they hold its
 * lock no helper gets in, and its jobs end by their deadlines; so it has a few helpers only. */
#include "sched/pool_private.h"

enum { STUCK_HELPERS = 8 };

/* pool->lock held. */
static struct pyn_worker *worker_of(struct pyn_pool *p, int group, bool or_stuck)
{
    for (unsigned i = 0; i < p->worker_count; i++) {
        struct pyn_worker *w = p->workers[i];
        if (w->ready && !w->host && w->group == group && (or_stuck || !w->stuck))
            return w;
    }
    return NULL;
}

bool pyn_pool_is_stuck(struct pyn_pool *p, int group)
{
    return pyn_pool_knows(p, group) && worker_of(p, group, true) && !worker_of(p, group, false);
}

bool pyn_pool_has_group(struct pyn_pool *p, int group, bool or_stuck)
{
    bool has;

    pthread_mutex_lock(&p->lock);
    has = worker_of(p, group, or_stuck) != NULL;
    pthread_mutex_unlock(&p->lock);
    return has;
}

/* Of a queue. */
static unsigned count_helping(const struct pyn_queue *q)
{
    unsigned count = 0;

    for (const struct pyn_job *job = q->head; job; job = job->next)
        count += job->helps;
    return count;
}

/* pool->lock held. As many workers of the group, or helpers of it, are about to come as jobs wait for one. */
static bool enough_come(struct pyn_pool *p, int group)
{
    unsigned coming = 0;

    for (unsigned i = 0; i < p->worker_count; i++) {
        const struct pyn_worker *w = p->workers[i];
        coming += (w->host && w->starting && w->host->group == group) ||
                  (w->errand == PYN_ERRAND_HELP && w->group == group);
    }
    return coming >= count_helping(&p->groups[group]) + count_helping(&p->nesting[group]);
}

void pyn_pool_help(struct pyn_pool *p, const struct pyn_job *job)
{
    struct pyn_worker *host = worker_of(p, job->group, true);

    if (!host || p->stopping || p->helper_count == p->config.max_helpers || enough_come(p, job->group))
        return;
    if (host->helpers >= STUCK_HELPERS && pyn_pool_is_stuck(p, job->group))
        return;
    if (pyn_pool_spawn(p, host->lane, host)) {
        p->helper_count++;
        host->helpers++;
    }
}

static bool is_first_helping(void *ctx, struct pyn_job *job)
{
    bool *found = ctx;
    bool is = job->helps && !*found;

    *found = *found || is;
    return is;
}

static void help_all(struct pyn_pool *p, struct pyn_job *first)
{
    for (struct pyn_job *job = first; job; job = job->next)
        if (job->helps && !pyn_pool_wake_idle(p, job))
            pyn_pool_help(p, job);
}

void pyn_pool_help_group(struct pyn_pool *p, int group)
{
    help_all(p, p->groups[group].head);
    help_all(p, p->nesting[group].head);
}

void pyn_pool_help_stuck(struct pyn_pool *p, int group)
{
    if (!pyn_pool_is_stuck(p, group))
        return;
    for (struct pyn_job *job = p->groups[group].head; job; job = job->next)
        job->helps = true;
    for (struct pyn_job *job = p->nesting[group].head; job; job = job->next)
        job->helps = true;
    pyn_pool_help_group(p, group);
}

struct pyn_job *pyn_pool_next_helped(struct pyn_pool *p, const struct pyn_worker *helper)
{
    struct pyn_queue taken = {0};
    bool found = false;

    if (pyn_pool_knows(p, helper->group)) {
        pyn_queue_take(&p->groups[helper->group], &taken, is_first_helping, &found);
        if (!found)
            pyn_queue_take(&p->nesting[helper->group], &taken, is_first_helping, &found);
    }
    if (taken.head)
        atomic_fetch_sub_explicit(&p->queued, 1, memory_order_relaxed);
    return pyn_queue_pop(&taken);
}

void pyn_pool_end_helpers(struct pyn_pool *p, struct pyn_worker *host)
{
    while (host->helpers > 0)
        pthread_cond_wait(&p->changed, &p->lock);
}
