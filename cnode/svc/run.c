/* A request on its worker. */
#include "base/log.h"
#include "etf/writer.h"
#include "py/space.h"
#include "svc/bind.h"
#include "svc/service_private.h"

#include <stdio.h>
#include <stdlib.h>

/* What a worker keeps of the buffer that a large answer was made in. */
enum { KEEP_BYTES = 256 * 1024 };

/* ---- the worker's life ---- */

/* Which worker this thread is: Python code that calls back finds its place by it. */
static _Thread_local struct pyn_worker *this_worker;

struct pyn_worker *pyn_run_worker(void)
{
    return this_worker;
}

struct pyn_request *pyn_run_current(void)
{
    /* Only this thread changes its worker's job. */
    return this_worker && this_worker->job ? pyn_request_of(this_worker->job) : NULL;
}

struct search {
    uint64_t id;
    struct pyn_request *found;
};

/* Under the worker's lock. */
static void find_by_id(void *ctx, struct pyn_worker *w, struct pyn_job *job)
{
    struct search *s = ctx;

    (void)w;
    if (pyn_request_of(job)->id == s->id && !s->found)
        s->found = pyn_request_ref(pyn_request_of(job));
}

struct pyn_request *pyn_run_find(struct pyn_service *s, uint64_t id)
{
    struct search search = {id, NULL};

    pyn_pool_each_running(s->pool, find_by_id, &search);
    return search.found;
}

bool pyn_run_start(void *service, struct pyn_worker *w)
{
    struct pyn_service *s = service;
    struct pyn_desk *d = calloc(1, sizeof(*d));
    char error[1024];

    if (!d)
        return false;
    pyn_touched_init(&d->touched);
    pyn_out_init(&d->out, s->config.max_frame);
    d->seat = w->host ? pyn_seat_open_beside(((struct pyn_desk *)w->host->seat)->seat, error, sizeof(error))
                      : pyn_seat_open(w->lane == PYN_LANE_MAIN, error, sizeof(error));
    if (!d->seat) {
        pyn_log(PYN_ERROR, "worker", "worker=%u does not start: %s", w->id, error);
        pyn_touched_fini(&d->touched);
        free(d);
        return false;
    }
    w->seat = d;
    w->group = (int)pyn_seat_interp(d->seat);
    if (!w->host)
        pyn_everywhere_start(s, w);
    this_worker = w;
    pyn_deferred_join(s->deferred, w);
    return true;
}

void pyn_run_stop(void *service, struct pyn_worker *w)
{
    struct pyn_desk *d = w->seat;

    pyn_run_flush(service, w);
    pyn_bind_worker_ends(d);
    while (atomic_load(&d->interrupters) > 0) /* they wait for our interpreter, which nobody holds now */
        sched_yield();
    pyn_seat_close(d->seat);
    pyn_out_free(&d->out);
}

/* When the watchdog, which may just send what the worker has left, has ended as well. */
void pyn_run_free_desk(void *unused, struct pyn_worker *w)
{
    struct pyn_desk *d = w->seat;

    (void)unused;
    if (!d) /* it did not start */
        return;
    pyn_touched_fini(&d->touched);
    free(d);
}

void pyn_run_attach(void *service, struct pyn_worker *w)
{
    (void)service;
    pyn_seat_attach(((struct pyn_desk *)w->seat)->seat);
}

void pyn_run_detach(void *service, struct pyn_worker *w)
{
    (void)service;
    pyn_seat_detach(((struct pyn_desk *)w->seat)->seat);
}

/* ---- sending ---- */

void pyn_run_flush(void *service, struct pyn_worker *w)
{
    struct pyn_desk *d = w->seat;

    (void)service;
    pyn_touched_flush(&d->touched);
}

bool pyn_run_queue_result(struct pyn_service *s, struct pyn_request *r, struct pyn_out *o, size_t frame)
{
    if (o->buf.failed || pyn_out_size(o) > s->config.max_frame) {
        pyn_out_truncate(o, frame);
        frame = pyn_proto_begin_reply(&o->buf, &r->to, pyn_service_pid(s));
        pyn_proto_write_exception(&o->buf, "ValueError", "the result is larger than the node's maximum for a message");
    }
    pyn_frame_end(&o->buf, frame, o->ext_bytes);
    return pyn_link_send(r->link, o, true);
}

void pyn_run_touch(struct pyn_desk *d, struct pyn_link *l)
{
    pyn_touched_add(&d->touched, l);
}

static void deliver(struct pyn_service *s, struct pyn_desk *d, struct pyn_request *r, struct pyn_out *o, size_t frame)
{
    if (pyn_run_queue_result(s, r, o, frame))
        pyn_run_touch(d, r->link);
}

/* The answer is ours to give. */
static void send_now(struct pyn_service *s, struct pyn_request *r, void (*write)(struct pyn_buf *b, const void *arg),
                     const void *arg)
{
    struct pyn_out o;
    size_t frame;

    if (r->to.pid.len == 0)
        return;
    pyn_out_init(&o, s->config.max_frame);
    frame = pyn_proto_begin_reply(&o.buf, &r->to, pyn_service_pid(s));
    write(&o.buf, arg);
    pyn_frame_end(&o.buf, frame, 0);
    pyn_dispatch_send_now(r->link, &o);
}

bool pyn_run_answer_with(struct pyn_service *s, struct pyn_request *r,
                         void (*write)(struct pyn_buf *b, const void *arg), const void *arg)
{
    if (!pyn_request_claim(r))
        return false;
    send_now(s, r, write, arg);
    return true;
}

static void write_error(struct pyn_buf *b, const void *reason)
{
    pyn_proto_write_error(b, reason);
}

void pyn_run_send_error(struct pyn_service *s, struct pyn_request *r, const char *error_reason)
{
    if (strcmp(error_reason, "timeout") == 0) /* here, as several may find it late, but one answers */
        atomic_fetch_add_explicit(&s->timeouts, 1, memory_order_relaxed);
    if (r->gather)
        pyn_gather_put_error(r, error_reason);
    else
        send_now(s, r, write_error, error_reason);
}

bool pyn_run_answer(struct pyn_service *s, struct pyn_request *r, const char *error_reason)
{
    if (!pyn_request_claim(r))
        return false;
    pyn_run_send_error(s, r, error_reason);
    return true;
}

static void write_word(struct pyn_buf *b, const void *word)
{
    pyn_write_atom(b, word);
}

bool pyn_run_answer_ok(struct pyn_service *s, struct pyn_request *r)
{
    return pyn_run_answer_with(s, r, write_word, "ok");
}

void pyn_run_dispose(struct pyn_service *s, struct pyn_request *r)
{
    pyn_deferred_leave(s->deferred, r);
    if (r->op != PYN_OP_RUN)
        pyn_bind_disposed(s, r);
    if (r->gather)
        pyn_gather_leave(r);
    else
        atomic_fetch_sub_explicit(&s->admitted, 1, memory_order_release);
    pyn_request_unref(r);
}

/* ---- durations ---- */

uint64_t pyn_run_estimate(void *service, struct pyn_job *job)
{
    struct pyn_service *s = service;
    return atomic_load_explicit(&s->estimates[pyn_request_of(job)->estimate], memory_order_relaxed);
}

/* Follows a rise at once by half, a fall slowly: a function that was long once in a while is better queued. */
static void learn(struct pyn_service *s, const struct pyn_request *r, uint64_t took)
{
    atomic_uint_fast32_t *at = &s->estimates[r->estimate];
    uint64_t old = atomic_load_explicit(at, memory_order_relaxed);
    uint64_t now = took > UINT32_MAX / 2 ? UINT32_MAX / 2 : took;

    now = now > old ? (old + now) / 2 + 1 : (old * 7 + now) / 8;
    if (now != old)
        atomic_store_explicit(at, (uint_fast32_t)now, memory_order_relaxed);
}

/* ---- pins ---- */

struct pinning {
    struct pyn_service *service;
    int group;
};

static void pin_name(void *ctx, struct pyn_span name)
{
    const struct pinning *p = ctx;
    pyn_pins_set_name(p->service->pins, name, p->group);
}

/* The interpreter that runs an exec is the caller's from now on, however the exec ends: the caller may hear of a
 * timeout before it does. */
static void pin_caller(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    if (r->to.pid.len > 0 && pyn_watch_add(s->watch, s->node, pyn_service_pid(s), r->link, r->to.pid))
        pyn_pins_set_caller(s->pins, r->to.pid, w->group);
}

/* The names that the exec bound are looked for here from now on. Attached. */
static void pin_names(struct pyn_service *s, struct pyn_worker *w)
{
    struct pinning p = {s, w->group};

    pyn_call_new_names(((struct pyn_desk *)w->seat)->seat, pin_name, &p);
}

/* ---- running ---- */

/* A module that sub-interpreters refuse: the request goes on in the main interpreter. */
static void move_to_main(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    if (pyn_refused_add(&s->refused, r->call.module))
        pyn_log(PYN_NOTICE, "worker", "module %.*s does not load in sub-interpreters: it runs in the main interpreter",
                (int)r->call.module.len, (const char *)r->call.module.ptr);
    r->job.lane = PYN_LANE_MAIN;
    r->job.group = r->job.helps ? PYN_MAIN_GROUP : PYN_ANY_GROUP;
    r->job.only = NULL;
    pyn_worker_pass_on(w, &r->job);
}

/* What is for every interpreter does not move. */
static void write_refused(struct pyn_out *o, const struct pyn_request *r)
{
    char message[512];

    snprintf(message, sizeof(message), "module %.*s does not support loading in subinterpreters",
             (int)(r->call.module.len < 255 ? r->call.module.len : 255), (const char *)r->call.module.ptr);
    pyn_proto_write_exception(&o->buf, "ImportError", message);
}

void pyn_run_count(struct pyn_service *s, enum pyn_call_outcome outcome, bool interrupted)
{
    atomic_fetch_add_explicit(&s->calls, 1, memory_order_relaxed);
    if (outcome == PYN_CALL_ERROR)
        atomic_fetch_add_explicit(&s->errors, 1, memory_order_relaxed);
    if (interrupted)
        atomic_fetch_add_explicit(&s->interrupted, 1, memory_order_relaxed);
}

/* Calls Python and sends the answer, unless somebody has answered meanwhile. */
static void run_request(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r, struct pyn_out *o)
{
    struct pyn_desk *d = w->seat;
    enum pyn_call_outcome outcome;
    struct pyn_mark outer;
    size_t frame = 0;
    bool pins = r->pins && s->pins && !r->context;
    bool interrupted, delivered, outer_space;

    r->begun = true;
    if (r->to.pid.len > 0 && !r->gather)
        frame = pyn_proto_begin_reply(&o->buf, &r->to, pyn_service_pid(s));
    if (pins)
        pin_caller(s, w, r);
    outer = pyn_seat_begin(d->seat, r->id);
    outer_space = pyn_space_use(d->seat, r->context != NULL && r->context == d->context);
    outcome = pyn_call_run(d->seat, &r->call, o);
    (void)pyn_space_use(d->seat, outer_space);
    interrupted = pyn_seat_end(d->seat, outer);
    if (outcome == PYN_CALL_REFUSED && r->gather) {
        write_refused(o, r);
        outcome = PYN_CALL_ERROR;
    } else if (outcome == PYN_CALL_REFUSED) {
        pyn_out_truncate(o, 0);
        pyn_streaming_end(s, w, r, outcome, false);
        move_to_main(s, w, r);
        return;
    }
    if (outcome == PYN_CALL_DEFERRED) { /* the worker's part is done, and so is its reference */
        learn(s, r, pyn_worker_done(w));
        pyn_request_release_block(r);
        pyn_request_unref(r);
        return;
    }
    if (pins)
        pin_names(s, w);
    learn(s, r, pyn_worker_done(w));
    pyn_run_count(s, outcome, interrupted);
    /* What was interrupted is answered by who had it interrupted, perhaps only after this. */
    delivered = !interrupted && pyn_request_claim(r);
    pyn_streaming_end(s, w, r, outcome, delivered);
    if (delivered && r->gather)
        pyn_gather_put(r, o, outcome == PYN_CALL_OK);
    else if (delivered && r->to.pid.len > 0)
        deliver(s, d, r, o, frame);
    pyn_run_dispose(s, r);
}

/* The worker's own buffer is in use by the call that this one is nested in. */
static void run_nested(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    struct pyn_out out;

    pyn_out_init(&out, s->config.max_frame);
    run_request(s, w, r, &out);
    pyn_out_free(&out);
}

static void run_outermost(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    struct pyn_out *o = &((struct pyn_desk *)w->seat)->out;

    run_request(s, w, r, o);
    pyn_out_truncate(o, 0);
    if (o->buf.cap > KEEP_BYTES)
        pyn_buf_reset(&o->buf, KEEP_BYTES);
}

/* What came too late, or was called off, is never begun: then true, with what its caller is told, or NULL: nothing. */
static bool is_off(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r, const char **reason)
{
    *reason = NULL;
    if (r->deadline <= w->now)
        *reason = "timeout";
    else if (pyn_request_is_answered(r) || (r->link && !pyn_link_is_up(r->link)))
        return true;
    else if (r->context && pyn_context_is_over(r->context))
        *reason = "context_lost";
    return *reason || (r->op != PYN_OP_BIND && !pyn_streaming_begin(s, w, r));
}

void pyn_run_job(void *service, struct pyn_worker *w, struct pyn_job *job)
{
    const char *reason;
    struct pyn_service *s = service;
    struct pyn_request *r = pyn_request_of(job);

    pyn_guard_wake(s);
    if (r->gather && job->outer) /* the pool chose what it is nested in */
        r->depth = pyn_request_of(job->outer)->depth + 1;
    if (r->op != PYN_OP_CLOSE && r->deadline > w->now)
        pyn_everywhere_catch_up(s, w, r);
    if (r->op == PYN_OP_CLOSE) {
        pyn_bind_close(s, w, r);
    } else if (is_off(s, w, r, &reason)) {
        pyn_worker_done(w);
        if (reason)
            pyn_run_answer(s, r, reason);
        pyn_run_dispose(s, r);
    } else if (r->op == PYN_OP_BIND) {
        pyn_bind_open(s, w, r);
    } else if (r->job.outer) {
        run_nested(s, w, r);
    } else {
        run_outermost(s, w, r);
    }
}
