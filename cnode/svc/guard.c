/* The watchdog: deadlines, interrupts, stuck workers, ticks.
 *
 * Its thread never touches Python and never waits for more than a short mutex. What must wait for an interpreter is
 * done by threads of their own that live for one interrupt ("pyn-intr"), one per running request at most.
 *
 * It sleeps until the next second while nothing runs ("parked"); the first job wakes it. */
#include <stdlib.h>

#include "base/log.h"
#include "base/thread.h"
#include "svc/bind.h"
#include "svc/service_private.h"

#define TICK_BUSY (2 * PYN_MS)
#define TICK_PARKED PYN_SECOND
/* So many quiet ticks before it parks. */
enum { QUIET_TICKS = 20, MAX_PICKED = 128 };
/* A caller is watched once its request is this old. */
#define WATCH_AFTER (20 * PYN_MS)
/* Closing a context runs destructors; it may take so long. */
#define CLOSE_LIMIT (5 * PYN_SECOND)
/* A request that was interrupted is interrupted again after this long, and its worker is given up after that: counted
 * from when the interrupt reached it, as on a busy machine that may take its time. */
#define INTERRUPT_AGAIN (150 * PYN_MS)
#define GIVE_UP (250 * PYN_MS)
/* One that no interrupt reaches (C code keeps the interpreter) is given up so long after it was called off. */
#define GIVE_UP_UNREACHED PYN_SECOND
/* The two limits are longer by this for each worker in a job and each event loop in a step, and the time to the second
 * interrupt by half of it, so that there is as much left for that one. They may share the cores and the
 * interpreter's lock, which Python gives away after 5 ms, to anybody: among N that want it one waits N times 5 ms on
 * average, and ten times as long once in 20000 times. Those that wait for something else are not told from these, so
 * there is a maximum: less than the time that there is at the end of the node. */
#define SHARE (50 * PYN_MS)
#define MAX_PATIENCE (3 * PYN_SECOND)
/* More than this between two ticks is not the workers' fault: the machine stood still, for them too. They are measured
 * by a clock that does not count it. */
#define MAX_TICK (5 * TICK_BUSY)
/* A generator that was called off has this long to come to its next item, where it is closed without an interrupt. */
#define GRACE (20 * PYN_MS)

/* ---- interrupts ---- */

struct interrupt {
    struct pyn_service *service;
    struct pyn_desk *desk;
    struct pyn_request *request; /* owned reference */
};

static void *interrupt_main(void *arg)
{
    struct interrupt *i = arg;
    struct pyn_desk *d = i->desk;

    pyn_thread_name("pyn-intr");
    if (pyn_seat_interrupt(d->seat, i->request->id)) {
        if (atomic_load(&i->request->interrupts) == 0)
            atomic_store(&i->request->reached_at, atomic_load(&i->service->guard_clock));
        atomic_fetch_add(&i->request->interrupts, 1);
    }
    pyn_request_unref(i->request);
    free(i);
    atomic_fetch_sub(&d->interrupters, 1); /* last: the worker waits for it before all of this goes */
    return NULL;
}

/* The desk has at most one interrupter at a time: when there is one, perhaps still that of another call, the next look
 * tries again. Called under the worker's lock, while it runs the request: so the desk outlives the count. */
static void start_interrupt(struct pyn_service *s, struct pyn_desk *d, struct pyn_request *r)
{
    struct interrupt *i;

    if (atomic_load(&d->interrupters) > 0 || !(i = malloc(sizeof(*i))))
        return;
    *i = (struct interrupt){s, d, pyn_request_ref(r)};
    atomic_fetch_add(&d->interrupters, 1);
    if (pyn_thread_start(NULL, PYN_INTERRUPTER_STACK, interrupt_main, i) != 0) {
        atomic_fetch_sub(&d->interrupters, 1);
        pyn_request_unref(r);
        free(i);
    }
}

/* ---- looking over what runs ---- */

/* What a look over the workers and queues picked out, to be acted on when no lock is held. Each entry holds a
 * reference. */
struct picked {
    struct pyn_service *service;
    uint64_t now;
    uint64_t clock;    /* guard_clock */
    uint64_t patience; /* that limits are longer by */
    bool (*match)(void *ctx, const struct pyn_request *r);
    void *ctx;
    struct pyn_request *late[MAX_PICKED]; /* to be answered: their time is up, or they match */
    struct pyn_worker *busy[MAX_PICKED];  /* who runs them */
    unsigned late_count;
    struct pyn_request *watch[MAX_PICKED]; /* their callers are to be watched */
    unsigned watch_count;
    struct pyn_worker *stuck[MAX_PICKED];
    unsigned stuck_count;
    struct pyn_worker *sending[MAX_PICKED]; /* what they have sent is to go out */
    unsigned sending_count;
};

static void pick_for_watch(struct picked *p, struct pyn_request *r)
{
    if (atomic_load_explicit(&r->watched, memory_order_relaxed) || r->to.pid.len == 0 ||
        p->now - r->arrived < WATCH_AFTER || p->watch_count == MAX_PICKED)
        return;
    atomic_store_explicit(&r->watched, true, memory_order_relaxed);
    p->watch[p->watch_count++] = pyn_request_ref(r);
}

static uint64_t passed(uint64_t since, uint64_t now)
{
    return now > since ? now - since : 0;
}

uint64_t pyn_guard_patience(struct pyn_service *s)
{
    uint64_t patience = (pyn_pool_running(s->pool) + pyn_deferred_working(s->deferred)) * SHARE;

    return patience < MAX_PATIENCE ? patience : MAX_PATIENCE;
}

static uint64_t unreached_limit(const struct pyn_desk *d)
{
    return GIVE_UP_UNREACHED + (pyn_seat_imports(d->seat) ? PYN_IMPORT_PATIENCE : 0);
}

/* Under the worker's lock. The request has been called off: see to it that its worker comes back. */
static void press(struct picked *p, struct pyn_worker *w, struct pyn_request *r)
{
    unsigned interrupts = atomic_load(&r->interrupts);
    uint64_t off, reached;
    bool in_vain;

    if (r->called_off_at == 0)
        r->called_off_at = p->clock;
    off = passed(r->called_off_at, p->clock);
    reached = interrupts > 0 ? passed(atomic_load(&r->reached_at), p->clock) : 0;
    if (pyn_streaming_sends(r) && r->deadline > p->now && off < GRACE)
        return;
    if (interrupts == 0 || (interrupts == 1 && reached > INTERRUPT_AGAIN + p->patience / 2))
        start_interrupt(p->service, w->seat, r);
    in_vain = interrupts > 0 ? reached > GIVE_UP + p->patience : off > unreached_limit(w->seat) + p->patience;
    if (!r->given_up && in_vain && p->stuck_count < MAX_PICKED) {
        r->given_up = true;
        p->stuck[p->stuck_count++] = w;
    }
}

/* Its context is over: it is called off. */
static bool has_lost_context(const struct pyn_request *r)
{
    return r->context && r->op != PYN_OP_CLOSE && pyn_context_is_over(r->context);
}

static bool is_off(const struct picked *p, const struct pyn_request *r)
{
    return r->deadline <= p->now || has_lost_context(r) || (p->match && p->match(p->ctx, r));
}

static bool match_lost_context(void *ctx, const struct pyn_request *r)
{
    (void)ctx;
    return has_lost_context(r);
}

/* What the caller is told; NULL: nothing. */
static const char *why(const struct pyn_request *r, uint64_t now, const char *reason)
{
    if (r->deadline <= now)
        return "timeout";
    return has_lost_context(r) ? "context_lost" : reason;
}

/* Under the worker's lock. */
static void look_at_running(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    struct picked *p = ctx;
    struct pyn_request *r = pyn_request_of(job);
    bool off = is_off(p, r) || (r->op == PYN_OP_CLOSE && p->now > job->began && p->now - job->began > CLOSE_LIMIT);

    if (pyn_streaming_sends(r) && p->sending_count < MAX_PICKED)
        p->sending[p->sending_count++] = w;
    if (off && !pyn_request_is_answered(r)) {
        if (p->late_count == MAX_PICKED)
            return;
        p->busy[p->late_count] = w;
        p->late[p->late_count++] = pyn_request_ref(r);
        press(p, w, r);
    } else if (r->called_off_at > 0) {
        press(p, w, r);
    } else {
        pick_for_watch(p, r);
    }
}

/* Under the pool's locks. true: the request leaves its queue. */
static bool look_at_waiting(void *ctx, struct pyn_job *job)
{
    struct picked *p = ctx;
    struct pyn_request *r = pyn_request_of(job);

    if (is_off(p, r) || pyn_request_is_answered(r))
        return true;
    pick_for_watch(p, r);
    return false;
}

/* ---- acting ---- */

/* reason NULL: nobody is to be answered. */
static void call_off(struct pyn_service *s, struct pyn_request *r, const char *reason)
{
    atomic_store(&r->off, true);
    if (reason)
        pyn_run_answer(s, r, reason);
    else
        (void)pyn_request_claim(r);
}

void pyn_guard_end_node(struct pyn_service *s, const char *of_what)
{
    pyn_log(PYN_ERROR, "guard", "more than %u %s are stuck: the node ends", s->config.max_stuck, of_what);
    pyn_wake_raise(s->fatal_fd);
}

static void replace(struct pyn_service *s, struct pyn_worker *w)
{
    pyn_log(PYN_WARNING, "guard",
            "worker=%u is stuck in a call that does not end when interrupted; another one takes its place", w->id);
    switch (pyn_pool_replace(s->pool, w)) {
    case PYN_REPLACED:
        pyn_bind_worker_lost(s, w);
        (void)pyn_deferred_cancel(s->deferred, match_lost_context, NULL, "context_lost");
        break;
    case PYN_CAME_BACK:
        break;
    case PYN_NO_MORE_ROOM:
        pyn_guard_end_node(s, "workers");
        break;
    }
}

static void act(struct picked *p, const char *reason)
{
    struct pyn_service *s = p->service;

    for (unsigned i = 0; i < p->late_count; i++) {
        call_off(s, p->late[i], why(p->late[i], p->now, reason));
        pyn_pool_poke(s->pool, p->busy[i]); /* it may wait for Erlang, in vain now */
        pyn_rpc_run_ended(s->rpc, p->late[i]);
        pyn_request_unref(p->late[i]);
    }
    for (unsigned i = 0; i < p->watch_count; i++) {
        struct pyn_request *r = p->watch[i];
        pyn_watch_add(s->watch, s->node, pyn_service_pid(s), r->link, r->to.pid);
        pyn_request_unref(r);
    }
    for (unsigned i = 0; i < p->sending_count; i++)
        pyn_run_flush(s, p->sending[i]);
    for (unsigned i = 0; i < p->stuck_count; i++)
        replace(s, p->stuck[i]);
}

/* Returns how many were ended. full: there may be more. */
static unsigned look_once(struct pyn_service *s, uint64_t now, bool (*match)(void *ctx, const struct pyn_request *r),
                          void *ctx, const char *reason, bool *full)
{
    struct picked p = {
        .service = s,
        .now = now,
        .clock = atomic_load(&s->guard_clock),
        .patience = pyn_guard_patience(s),
        .match = match,
        .ctx = ctx,
    };
    struct pyn_queue gone = {0};
    struct pyn_job *job;
    unsigned count;

    pyn_pool_look(s->pool, look_at_waiting, look_at_running, &p, &gone);
    act(&p, reason);
    *full = p.late_count == MAX_PICKED;
    count = p.late_count + gone.count;
    while ((job = pyn_queue_pop(&gone))) {
        struct pyn_request *r = pyn_request_of(job);
        call_off(s, r, why(r, now, reason));
        pyn_run_dispose(s, r);
    }
    return count;
}

/* Those that were ended are not picked again. */
static unsigned look(struct pyn_service *s, uint64_t now, bool (*match)(void *ctx, const struct pyn_request *r),
                     void *ctx, const char *reason)
{
    unsigned count = 0;
    bool more = true;

    while (more)
        count += look_once(s, now, match, ctx, reason, &more);
    return count;
}

bool pyn_guard_cancel(struct pyn_service *s, bool (*match)(void *ctx, const struct pyn_request *r), void *ctx,
                      const char *reason)
{
    bool found;

    if (atomic_load_explicit(&s->admitted, memory_order_relaxed) == 0)
        return false;
    found = look(s, pyn_now(), match, ctx, reason) > 0;
    /* After it: a request may be deferred meanwhile. */
    if (match)
        return pyn_deferred_cancel(s->deferred, match, ctx, reason) || found;
    return pyn_deferred_cancel(s->deferred, match_lost_context, NULL, "context_lost") || found;
}

/* ---- the thread ---- */

void pyn_guard_wake(struct pyn_service *s)
{
    /* After the job was counted: either this sees that it is parked, or it sees the job (nap). */
    if (PYN_LIKELY(!atomic_load(&s->guard_parked)))
        return;
    pthread_mutex_lock(&s->guard_lock);
    atomic_store(&s->guard_parked, false);
    pthread_cond_signal(&s->guard_cond);
    pthread_mutex_unlock(&s->guard_lock);
}

/* guard_lock held. Sleeps for a tick, or, parked, for a second, until a coroutine is due, or a job
 * begins. */
static void nap(struct pyn_service *s, uint64_t now)
{
    /* A job that began before it could see that it has to wake us is seen here. */
    bool parked = atomic_load(&s->guard_parked) && !pyn_pool_active(s->pool);
    uint64_t until = now + (parked ? TICK_PARKED : TICK_BUSY);
    uint64_t due = pyn_deferred_next(s->deferred);
    struct timespec ts;

    if (due < until)
        until = due;
    ts = (struct timespec){(time_t)(until / PYN_SECOND), (long)(until % PYN_SECOND)};
    pthread_cond_timedwait(&s->guard_cond, &s->guard_lock, &ts);
}

/* The clock goes on by a tick. */
static void count_tick(struct pyn_service *s, uint64_t took)
{
    atomic_fetch_add(&s->guard_clock, took < MAX_TICK ? took : MAX_TICK);
}

static void *guard_main(void *service)
{
    struct pyn_service *s = service;
    uint64_t last_calls = 0, last_second = 0, last_tick = pyn_now();
    unsigned quiet = 0, ticks = 0;

    pyn_thread_name("pyn-guard");
    pthread_mutex_lock(&s->guard_lock);
    while (!s->guard_stop) {
        uint64_t now = pyn_now();
        uint64_t calls = atomic_load_explicit(&s->calls, memory_order_relaxed);
        bool active = pyn_pool_active(s->pool) || calls != last_calls || pyn_deferred_busy(s->deferred);

        count_tick(s, now - last_tick);
        last_tick = now;
        last_calls = calls;
        if (active || (quiet > QUIET_TICKS && !atomic_load(&s->guard_parked))) /* somebody woke us */
            quiet = 0;
        else
            quiet++;
        atomic_store(&s->guard_parked, quiet > QUIET_TICKS);
        pthread_mutex_unlock(&s->guard_lock);
        pyn_pool_watch(s->pool, now);
        pyn_tell_flush(s->rpc);
        if (pyn_pool_active(s->pool) && ++ticks % 2 == 0)
            (void)look(s, now, NULL, NULL, NULL);
        pyn_deferred_tick(s->deferred, now);
        if (now - last_second >= PYN_SECOND) {
            pyn_links_tick(s->links, now);
            last_second = now;
        }
        pthread_mutex_lock(&s->guard_lock);
        if (!s->guard_stop)
            nap(s, now);
    }
    pthread_mutex_unlock(&s->guard_lock);
    return NULL;
}

int pyn_guard_start(struct pyn_service *s)
{
    pthread_mutex_init(&s->guard_lock, NULL);
    pyn_cond_init(&s->guard_cond);
    atomic_store(&s->guard_clock, 1); /* 0 is never a time in a request */
    /* With this thread's signal mask: it starts workers, whose Python code may start processes, which inherit it. */
    s->guard_started = pthread_create(&s->guard, NULL, guard_main, s) == 0;
    return s->guard_started ? 0 : -1;
}

void pyn_guard_stop(struct pyn_service *s)
{
    if (!s->guard_started)
        return;
    pthread_mutex_lock(&s->guard_lock);
    s->guard_stop = true;
    pthread_cond_signal(&s->guard_cond);
    pthread_mutex_unlock(&s->guard_lock);
    pthread_join(s->guard, NULL);
    s->guard_started = false;
}
