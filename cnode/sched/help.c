/* Helpers: workers that are started when a job is not to wait for one.
 *
 * Python code may start a thread and wait for it. What that thread asks of Erlang may ask Python in its turn, and for
 * that every worker of the interpreter may be waiting, in Python code, where nothing can be nested. Such a job
 * (`helps`) is run by whichever worker of its group is idle, or by a helper: one more thread in that interpreter, which
 * does nothing else, so that there is one for the next depth as well. Helpers are kept, and lead no turn. There are
 * `max_helpers` at most; then jobs wait after all. */
#include "sched/pool_private.h"

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

bool pyn_pool_has_group(struct pyn_pool *p, int group)
{
    bool has;

    pthread_mutex_lock(&p->lock);
    has = worker_of(p, group, false) != NULL;
    pthread_mutex_unlock(&p->lock);
    return has;
}

void pyn_pool_help(struct pyn_pool *p, const struct pyn_job *job)
{
    struct pyn_worker *host = worker_of(p, job->group, true);

    if (!host || p->stopping || p->helper_count == p->config.max_helpers)
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

struct pyn_job *pyn_pool_next_helped(struct pyn_pool *p, const struct pyn_worker *helper)
{
    struct pyn_queue taken = {0};
    bool found = false;

    if (helper->group >= 0 && (unsigned)helper->group < p->group_count)
        pyn_queue_take(&p->groups[helper->group], &taken, is_first_helping, &found);
    if (taken.head)
        atomic_fetch_sub_explicit(&p->queued, 1, memory_order_relaxed);
    return pyn_queue_pop(&taken);
}

void pyn_pool_end_helpers(struct pyn_pool *p, struct pyn_worker *host)
{
    while (host->helpers > 0)
        pthread_cond_wait(&p->changed, &p->lock);
}
