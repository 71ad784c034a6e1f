/* Who is idle, and which of them a job wakes. */
#include "sched/pool_private.h"

bool pyn_worker_serves(const struct pyn_worker *w, const struct pyn_job *job)
{
    if (job->only)
        return w == job->only;
    if (job->group >= 0)
        return w->group == job->group && (!w->host || job->helps);
    return w->lane == job->lane && !w->spare && !w->bound && !w->host;
}

/* How bad a choice w is where others would do as well. */
static unsigned cost(const struct pyn_pool *p, const struct pyn_worker *w, const struct pyn_job *job)
{
    if (job && job->binds && p->ops.burden)
        return p->ops.burden(p->ops.ctx, w);
    return w->bound;
}

/* Where in the list the idle worker is that suits best; NULL: none does. */
static struct pyn_worker **find_idle(struct pyn_pool *p, const struct pyn_job *job)
{
    struct pyn_worker **best = NULL;
    unsigned least = 0;

    for (struct pyn_worker **at = &p->idle; *at && !(best && least == 0); at = &(*at)->next_idle) {
        unsigned c;
        if (job ? !pyn_worker_serves(*at, job) : !pyn_pool_may_lead(*at))
            continue;
        c = cost(p, *at, job);
        if (best && c >= least)
            continue;
        best = at;
        least = c;
    }
    return best;
}

static void take_idle(struct pyn_pool *p, struct pyn_worker **at)
{
    struct pyn_worker *w = *at;

    *at = w->next_idle;
    w->next_idle = NULL;
    w->idle = false;
    atomic_fetch_sub_explicit(&p->idle_count, 1, memory_order_relaxed);
}

struct pyn_worker *pyn_pool_pop_idle(struct pyn_pool *p, const struct pyn_job *job)
{
    struct pyn_worker **at = find_idle(p, job);
    struct pyn_worker *w = at ? *at : NULL;

    if (w)
        take_idle(p, at);
    return w;
}

void pyn_pool_rouse(struct pyn_pool *p, struct pyn_worker *w, enum pyn_errand errand)
{
    w->errand = errand;
    if (errand == PYN_ERRAND_LANE)
        p->waking[w->lane]++;
    pthread_cond_signal(&w->cond);
}

bool pyn_pool_wake_idle(struct pyn_pool *p, const struct pyn_job *job)
{
    struct pyn_worker *w = pyn_pool_pop_idle(p, job);

    if (!w)
        return false;
    if (!job->only && job->group < 0)
        pyn_pool_rouse(p, w, PYN_ERRAND_LANE);
    else
        pyn_pool_rouse(p, w, job->helps ? PYN_ERRAND_HELP : PYN_ERRAND_NONE);
    return true;
}

bool pyn_pool_unbound_idles(const struct pyn_pool *p)
{
    for (const struct pyn_worker *w = p->idle; w; w = w->next_idle)
        if (!w->bound && pyn_pool_may_lead(w))
            return true;
    return false;
}

/* pool->lock held. It does nothing that a job would have to wait for, and takes the lane's. */
static bool is_free(struct pyn_worker *w)
{
    bool idle;

    if (w->lane != PYN_LANE_WORK || w->host || w->spare || w->stuck || w->bound || !w->ready)
        return false;
    pthread_mutex_lock(&w->lock);
    idle = !w->job;
    pthread_mutex_unlock(&w->lock);
    return idle;
}

bool pyn_pool_has_free(struct pyn_pool *p)
{
    bool has = false;

    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < p->worker_count && !has; i++)
        has = is_free(p->workers[i]);
    pthread_mutex_unlock(&p->lock);
    return has;
}

void pyn_pool_unidle(struct pyn_pool *p, struct pyn_worker *w)
{
    struct pyn_worker **at = &p->idle;

    while (*at != w)
        at = &(*at)->next_idle;
    take_idle(p, at);
}

void pyn_pool_bind(struct pyn_pool *p, struct pyn_worker *w, bool bound)
{
    pthread_mutex_lock(&p->lock);
    w->bound = bound;
    pthread_mutex_unlock(&p->lock);
}
