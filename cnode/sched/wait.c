/* A worker that waits inside its job: for an answer of a peer, or for a job that is nested in its own. */
#include "sched/pool_private.h"

/* pool->lock held. Nothing but this worker's job is under way: it may as well do the reading. */
static bool alone(struct pyn_pool *p)
{
    return pyn_pool_running(p) == 1 && atomic_load_explicit(&p->queued, memory_order_relaxed) == 0;
}

/* pool->lock held. Asks the leader, when it is an idle one, to give the turn to w. */
static void claim_turn(struct pyn_pool *p, struct pyn_worker *w)
{
    if (!p->leader || p->leader == w || p->leader == &p->io || !pyn_pool_may_lead(w) || !alone(p))
        return;
    if (atomic_load(&p->claimant) == w)
        return;
    atomic_store(&p->claimant, w);
    p->ops.wake(p->ops.ctx);
}

/* pool->lock held, dropped meanwhile. One turn of reading; what came in goes to the queues, as this worker is busy. */
static void read_once(struct pyn_pool *p, struct pyn_worker *w)
{
    bool eager;

    pthread_mutex_lock(&w->lock);
    w->leading = true;
    w->away_since = 0;
    pthread_mutex_unlock(&w->lock);
    eager = alone(p);
    pthread_mutex_unlock(&p->lock);
    p->ops.poll(p->ops.ctx, eager);
    pyn_pool_settle(p);
    w->now = pyn_now();
    pthread_mutex_lock(&p->lock);
    pthread_mutex_lock(&w->lock);
    w->away_since = w->now;
    pthread_mutex_unlock(&w->lock);
    pyn_pool_push_batch(p, w);
}

/* pool->lock held, dropped meanwhile. */
static void run_nested(struct pyn_pool *p, struct pyn_worker *w, struct pyn_job *job)
{
    w->now = pyn_now();
    pthread_mutex_lock(&w->lock);
    pyn_worker_begin(w, job);    /* under pool->lock: whoever looks for it must not miss it in between */
    w->leading = p->leader == w; /* a leader that runs a job can be deposed */
    pthread_mutex_unlock(&w->lock);
    if (atomic_load(&p->claimant) == w) /* it asks again when it waits again */
        atomic_store(&p->claimant, NULL);
    pthread_mutex_unlock(&p->lock);
    p->ops.attach(p->ops.ctx, w);
    p->ops.run(p->ops.ctx, w, job);
    p->ops.detach(p->ops.ctx, w);
    p->ops.flush(p->ops.ctx, w);
    pthread_mutex_lock(&p->lock);
}

/* pool->lock held. After the wait: the turn is kept only by one who is alone and so will soon wait again. */
static void settle_turn(struct pyn_pool *p, struct pyn_worker *w)
{
    struct pyn_worker *self = w;
    bool keep = alone(p); /* asked once: who runs meanwhile may end without this lock */

    atomic_compare_exchange_strong(&p->claimant, &self, NULL);
    if (p->leader != w)
        return;
    pyn_worker_set_leading(w, keep);
    if (!keep)
        pyn_pool_pass_turn(p);
}

void pyn_pool_enter_loop(struct pyn_pool *p, struct pyn_worker *w, struct pyn_pool_loop *l)
{
    pthread_mutex_lock(&p->lock);
    if (!l->entered) {
        l->entered = true;
        l->next = atomic_load(&w->loops);
        atomic_store(&w->loops, l);
    }
    if (pyn_pool_group_waits(p, w))
        pyn_wake_raise(l->fd);
    pthread_mutex_unlock(&p->lock);
}

void pyn_pool_leave_loop(struct pyn_pool *p, struct pyn_worker *w, struct pyn_pool_loop *l)
{
    struct pyn_pool_loop *before;

    pthread_mutex_lock(&p->lock);
    before = atomic_load(&w->loops);
    if (before == l) {
        atomic_store(&w->loops, l->next);
    } else if (l->entered) {
        while (before->next != l)
            before = before->next;
        before->next = l->next;
    }
    l->entered = false;
    pthread_mutex_unlock(&p->lock);
}

/* pool->lock held. All of them: the one that the thread is in right now is not always the innermost, as one that has
 * ended may not have left yet. */
static void tell_loops(struct pyn_worker *w)
{
    for (const struct pyn_pool_loop *l = atomic_load(&w->loops); l; l = l->next)
        pyn_wake_raise(l->fd);
}

void pyn_pool_tell_waiting(struct pyn_pool *p, const struct pyn_job *job)
{
    for (unsigned i = 0; i < p->worker_count; i++) {
        struct pyn_worker *w = p->workers[i];
        if (!w->ready || w->group != job->group)
            continue;
        if (w->waiting && p->leader == w)
            p->ops.wake(p->ops.ctx);
        else if (w->waiting)
            pthread_cond_signal(&w->cond);
        else
            tell_loops(w);
    }
}

void pyn_pool_leave_job(struct pyn_pool *p, struct pyn_worker *w)
{
    struct pyn_pool_loop *l;
    struct pyn_job *job;

    pthread_mutex_lock(&p->lock);
    while ((l = atomic_load(&w->loops))) {
        atomic_store(&w->loops, l->next);
        l->entered = false;
    }
    while ((job = pyn_queue_pop(&w->inbox))) { /* too late to be nested: in the same interpreter at least */
        job->group = w->group;
        pyn_pool_push_locked(p, job, w);
    }
    atomic_store(&w->has_inbox, false);
    pthread_mutex_unlock(&p->lock);
}

void pyn_pool_serve_inbox(struct pyn_pool *p, struct pyn_worker *w)
{
    struct pyn_job *job;

    pthread_mutex_lock(&p->lock);
    while ((job = pyn_queue_pop(&w->inbox)) || (job = pyn_pool_next_nesting(p, w)))
        run_nested(p, w, job);
    pthread_mutex_unlock(&p->lock);
}

void pyn_pool_wait(struct pyn_pool *p, struct pyn_worker *w, bool (*ready)(void *ctx), void *ctx)
{
    struct pyn_job *job;

    p->ops.flush(p->ops.ctx, w); /* answers of the same batch are not to wait for this */
    pthread_mutex_lock(&p->lock);
    w->waiting = true;
    if (p->leader == w)
        pyn_pool_push_batch(p, w); /* what came together with this job is not to wait for it */
    while (!ready(ctx)) {
        if ((job = pyn_queue_pop(&w->inbox)) || (job = pyn_pool_next_nesting(p, w))) {
            w->waiting = false;
            run_nested(p, w, job);
            w->waiting = true;
        } else if (p->leader == w) {
            read_once(p, w);
        } else {
            claim_turn(p, w);
            pthread_cond_wait(&w->cond, &p->lock);
        }
    }
    w->waiting = false;
    settle_turn(p, w);
    pthread_mutex_unlock(&p->lock);
}

void pyn_pool_poke(struct pyn_pool *p, struct pyn_worker *w)
{
    bool leads;

    pthread_mutex_lock(&p->lock);
    leads = p->leader == w;
    if (leads)
        p->ops.wake(p->ops.ctx);
    pthread_mutex_unlock(&p->lock);
    /* Without the lock, as it may run at once, in this thread's place. It has seen the reason, or waits by now. */
    if (!leads)
        pthread_cond_signal(&w->cond);
}

/* pool->lock held. Says so in has_inbox before the worker can end its job, which looks there without pool->lock. */
static bool expect_nested(struct pyn_worker *w, const struct pyn_job *outer)
{
    const struct pyn_job *job;

    pthread_mutex_lock(&w->lock);
    for (job = w->job; job && job != outer; job = job->outer)
        ;
    if (job)
        atomic_store(&w->has_inbox, true);
    pthread_mutex_unlock(&w->lock);
    return job != NULL;
}

bool pyn_pool_nest(struct pyn_pool *p, struct pyn_worker *w, const struct pyn_job *outer, struct pyn_job *job)
{
    bool taken;

    pthread_mutex_lock(&p->lock);
    taken = expect_nested(w, outer);
    if (taken) {
        pyn_queue_push(&w->inbox, job);
        /* A leader that waits is the caller itself: it looks at its inbox when this poll is over. */
        if (!w->waiting)
            tell_loops(w);
        else if (p->leader != w)
            pthread_cond_signal(&w->cond);
    }
    pthread_mutex_unlock(&p->lock);
    return taken;
}
