/* Messages of peers. Runs on the thread whose turn it is to read: nothing here waits for Python. */
#include "base/log.h"
#include "etf/reader.h"
#include "etf/writer.h"
#include "svc/bind.h"
#include "svc/service_private.h"

void pyn_dispatch_send_now(struct pyn_link *l, struct pyn_out *o)
{
    if (!o->buf.failed && pyn_link_send(l, o, true))
        pyn_link_flush(l);
    pyn_out_free(o);
}

/* ---- answers that need no Python ---- */

static void answer_ping(struct pyn_service *s, struct pyn_link *l, const struct pyn_control *c)
{
    struct pyn_reply_to to;
    struct pyn_out o;
    size_t frame;

    if (!pyn_proto_parse_ping(c->payload, &to)) {
        pyn_log(PYN_INFO, "dispatch", "peer=%s a message to net_kernel that is no ping is skipped", pyn_link_peer(l));
        return;
    }
    pyn_out_init(&o, s->config.max_frame);
    frame = pyn_proto_begin_reply(&o.buf, &to, pyn_service_pid(s));
    pyn_write_atom(&o.buf, "yes");
    pyn_frame_end(&o.buf, frame, 0);
    pyn_dispatch_send_now(l, &o);
}

static void write_version(struct pyn_buf *b)
{
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "ok");
    pyn_write_binary(b, pyn_host_version(), strlen(pyn_host_version()));
}

static void write_refusal(struct pyn_service *s, struct pyn_buf *b, const struct pyn_parsed *p)
{
    if (p->op == PYN_OP_BAD)
        pyn_proto_write_bad_request(b, p->complaint);
    else if (p->op == PYN_OP_BAD_ARGS)
        pyn_proto_write_error(b, "invalid_args");
    else if (atomic_load(&s->draining))
        pyn_proto_write_error(b, "stopping");
    else
        pyn_proto_write_overloaded(b, atomic_load(&s->admitted), s->config.max_queue);
}

static void write_interrupted(struct pyn_service *s, struct pyn_buf *b, const struct pyn_parsed *p)
{
    if (pyn_bind_interrupt(s, p->context))
        pyn_write_atom(b, "ok");
    else
        pyn_proto_write_error(b, "context_lost");
}

/* Answers on the spot: info, version, sync, and every refusal. */
static void answer_now(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p)
{
    struct pyn_out o;
    size_t frame;

    if (p->op == PYN_OP_BAD)
        pyn_log(PYN_NOTICE, "dispatch", "peer=%s bad request: %s", pyn_link_peer(l), p->complaint);
    if (p->to.pid.len == 0)
        return;
    pyn_out_init(&o, s->config.max_frame);
    frame = pyn_proto_begin_reply(&o.buf, &p->to, pyn_service_pid(s));
    if (p->op == PYN_OP_INFO)
        pyn_admin_write_info(s, &o.buf);
    else if (p->op == PYN_OP_VERSION)
        write_version(&o.buf);
    else if (p->op == PYN_OP_CANCEL && p->report)
        pyn_proto_write_error(&o.buf, "not_found");
    else if (p->op == PYN_OP_CANCEL || p->op == PYN_OP_FORGET || p->op == PYN_OP_SYNC || p->op == PYN_OP_STREAM_CLOSE)
        pyn_write_atom(&o.buf, "ok");
    else if (p->op == PYN_OP_INTERRUPT)
        write_interrupted(s, &o.buf, p);
    else
        write_refusal(s, &o.buf, p);
    pyn_frame_end(&o.buf, frame, 0);
    pyn_dispatch_send_now(l, &o);
}

/* ---- cancelling ---- */

static bool has_tag(void *ctx, const struct pyn_request *r)
{
    struct pyn_span tag = *(const struct pyn_span *)ctx;

    if (r->to.pid.len == 0)
        return false;
    return pyn_span_eq(r->to.tag, tag) || (r->to.alias.len > 0 && pyn_span_eq(r->to.alias, tag));
}

static void cancel(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p)
{
    struct pyn_span tag = p->cancelled;
    struct pyn_parsed told = *p;
    bool found;

    pyn_pool_settle(s->pool); /* the call may have come in the same turn of reading */
    found = pyn_deferred_cancel_tag(s->deferred, tag, "interrupted") ||
            pyn_guard_cancel(s, has_tag, &tag, "interrupted");
    told.report = p->report && !found;
    answer_now(s, l, &told);
}

static void forget(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p)
{
    pyn_remembered_forget(s->remembered, p->remember);
    answer_now(s, l, p);
}

static void close_stream(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p)
{
    pyn_pool_settle(s->pool);
    pyn_streaming_close(s, p->call.stream);
    answer_now(s, l, p);
}

/* ---- admission and routing ---- */

/* One of the calls that see `__main__`. */
static bool in_main(const struct pyn_call *c)
{
    if (c->kind == PYN_CALL_FUNCTION)
        return pyn_span_is(c->module, "__main__");
    return c->kind == PYN_CALL_EVAL || c->kind == PYN_CALL_EXEC;
}

uint32_t pyn_dispatch_estimate(const struct pyn_call *call)
{
    if (call->kind != PYN_CALL_FUNCTION)
        return (uint32_t)(pyn_span_hash(call->code, 1) % PYN_ESTIMATES);
    return (uint32_t)(pyn_span_hash(call->function, pyn_span_hash(call->module, 0)) % PYN_ESTIMATES);
}

static void route(struct pyn_service *s, struct pyn_request *r)
{
    struct pyn_span caller = r->home.len > 0 ? r->home : r->to.pid;

    if (r->call.kind == PYN_CALL_STREAM_NEXT) {
        pyn_streaming_route(s, r);
        return;
    }
    if (s->pins && in_main(&r->call)) {
        r->job.group = caller.len > 0 ? pyn_pins_caller(s->pins, caller) : PYN_ANY_GROUP;
        if (r->job.group < 0 && r->call.kind == PYN_CALL_FUNCTION)
            r->job.group = pyn_pins_name(s->pins, r->call.function);
    } else if (s->pins && pyn_refused_has(&s->refused, r->call.module)) {
        r->job.lane = PYN_LANE_MAIN;
    }
    r->estimate = pyn_dispatch_estimate(&r->call);
}

/* A call that the callback of a thread of Python's own makes, or of a coroutine that such a thread may wait for: all
 * workers may be waiting for that thread. */
static void help(struct pyn_service *s, struct pyn_request *r, int interp)
{
    int group = r->job.lane == PYN_LANE_MAIN ? PYN_MAIN_GROUP : interp;

    if (r->call.kind == PYN_CALL_STREAM_NEXT && r->job.group >= 0)
        group = r->job.group; /* the stream is where it is */
    if (!pyn_pool_has_group(s->pool, group, true))
        return;
    r->job.group = group;
    r->job.helps = true;
}

static void refuse(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p)
{
    atomic_fetch_sub(&s->admitted, 1);
    if (!atomic_load(&s->draining))
        atomic_fetch_add_explicit(&s->overloaded, 1, memory_order_relaxed);
    answer_now(s, l, p);
}

bool pyn_dispatch_admit(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p)
{
    /* Counted before the look at `draining`: either this sees that the node drains, or who drains sees the count. */
    unsigned before = atomic_fetch_add(&s->admitted, 1);

    if (!atomic_load(&s->draining) && before < s->config.max_queue)
        return true;
    refuse(s, l, p);
    return false;
}

static void admit(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p, struct pyn_block *block)
{
    struct pyn_request *r;

    if (!pyn_dispatch_admit(s, l, p))
        return;
    r = pyn_request_new(l, block, p, pyn_now());
    if (!r) {
        refuse(s, l, p);
        return;
    }
    if (r->op == PYN_OP_RUN)
        route(s, r);
    if (pyn_bind_admit(s, r, p))
        return;
    pyn_guard_wake(s); /* where every worker is bound it may wait until its time is over */
    if (r->op != PYN_OP_RUN || !pyn_chain_nest(s, r)) {
        if (p->chain_interp >= 0 && (r->outer_run == 0 || r->job.helps) && r->op == PYN_OP_RUN && !r->context)
            help(s, r, p->chain_interp);
        else if (p->chain_interp >= 0 && s->pins && !r->context && in_main(&r->call) &&
                 pyn_pool_has_group(s->pool, p->chain_interp, true))
            r->job.group = p->chain_interp; /* its __main__ at least */
        if (p->call.async != PYN_CALL_PLAIN && s->pins && !r->job.only && r->job.group < 0 &&
            r->job.lane == PYN_LANE_WORK)
            pyn_deferred_route(s->deferred, r);
        pyn_pool_deliver(s->pool, &r->job);
    }
}

static void to_py(struct pyn_service *s, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block)
{
    struct pyn_parsed p;

    if (!pyn_proto_parse(c->payload, &p)) {
        if (pyn_rpc_reply(s->rpc, c->payload, block))
            return;
        pyn_log(PYN_NOTICE, "dispatch", "peer=%s a message to py in no known form is skipped", pyn_link_peer(l));
        return;
    }
    if (p.op == PYN_OP_RUN || p.op == PYN_OP_BIND || p.op == PYN_OP_UNBIND)
        admit(s, l, &p, block);
    else if (p.op == PYN_OP_ALL)
        pyn_everywhere_run(s, l, &p, block);
    else if (p.op == PYN_OP_CANCEL)
        cancel(s, l, &p);
    else if (p.op == PYN_OP_FORGET)
        forget(s, l, &p);
    else if (p.op == PYN_OP_STREAM_CLOSE)
        close_stream(s, l, &p);
    else
        answer_now(s, l, &p);
}

/* ---- signals between processes ---- */

static bool names_us(struct pyn_service *s, const struct pyn_control *c)
{
    return pyn_span_is(c->to_name, "py") || pyn_span_is(c->to_name, "net_kernel") ||
           pyn_span_eq(c->to, pyn_service_pid(s));
}

static const uint8_t noproc[] = {119, 6, 'n', 'o', 'p', 'r', 'o', 'c'};

/* A monitor of `py` needs no state: it fires when the connection goes, which the watcher's node notices by itself.
 * One of a process that is not here fires at once. */
static void monitor(struct pyn_service *s, struct pyn_link *l, const struct pyn_control *c)
{
    struct pyn_out o;

    if (names_us(s, c))
        return;
    pyn_out_init(&o, s->config.max_frame);
    pyn_frame_monitor_exit(&o.buf, c->to, c->from, c->ref, (struct pyn_span){noproc, sizeof(noproc)});
    pyn_dispatch_send_now(l, &o);
}

static void link_request(struct pyn_service *s, struct pyn_link *l, const struct pyn_control *c)
{
    struct pyn_out o;

    if (pyn_span_eq(c->to, pyn_service_pid(s)))
        return;
    pyn_out_init(&o, s->config.max_frame);
    pyn_frame_exit(&o.buf, c->to, c->from, (struct pyn_span){noproc, sizeof(noproc)});
    pyn_dispatch_send_now(l, &o);
}

static void unlink_request(struct pyn_service *s, struct pyn_link *l, const struct pyn_control *c)
{
    struct pyn_out o;

    if (c->op != PYN_CTL_UNLINK_ID)
        return;
    pyn_out_init(&o, s->config.max_frame);
    pyn_frame_unlink_ack(&o.buf, c->id, c->to, c->from);
    pyn_dispatch_send_now(l, &o);
}

static bool has_caller(void *ctx, const struct pyn_request *r)
{
    return pyn_span_eq(r->to.pid, *(const struct pyn_span *)ctx);
}

static void caller_died(struct pyn_service *s, const struct pyn_control *c)
{
    struct pyn_buf pid;
    struct pyn_span span;

    if (!pyn_watch_exit(s->watch, c->ref, &pid))
        return;
    span = (struct pyn_span){pid.data, pid.len};
    if (s->pins)
        pyn_pins_forget_caller(s->pins, span);
    /* In this order: a request to bind, or to open a stream, is called off, or has made what is looked for next. */
    pyn_pool_settle(s->pool);
    pyn_guard_cancel(s, has_caller, &span, NULL);
    pyn_streaming_shut(s, &(struct pyn_streams_match){.pid = span});
    pyn_bind_owner_died(s, span);
    pyn_buf_free(&pid);
}

/* ---- events of the links ---- */

/* py_coordinator ! {py_member, 1, Node, Info}, whenever the coordinator is there (again). */
static void announce(struct pyn_service *s, struct pyn_link *l)
{
    struct pyn_out o;
    size_t frame;

    pyn_out_init(&o, s->config.max_frame);
    frame = pyn_frame_reg_send(&o.buf, pyn_service_pid(s), "py_coordinator");
    pyn_write_tuple(&o.buf, 4);
    pyn_write_atom(&o.buf, "py_member");
    pyn_write_int(&o.buf, 1);
    pyn_write_atom(&o.buf, pyn_node_name(s->node));
    pyn_admin_write_facts(s, &o.buf);
    pyn_frame_end(&o.buf, frame, 0);
    pyn_dispatch_send_now(l, &o);
}

void pyn_dispatch_message(void *service, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block)
{
    struct pyn_service *s = service;

    switch (c->op) {
    case PYN_CTL_REG_SEND:
        if (pyn_span_is(c->to_name, "py"))
            to_py(s, l, c, block);
        else if (pyn_span_is(c->to_name, "net_kernel"))
            answer_ping(s, l, c);
        else
            pyn_log(PYN_DEBUG, "dispatch", "peer=%s a message to the unknown name %.*s is dropped", pyn_link_peer(l),
                    (int)c->to_name.len, (const char *)c->to_name.ptr);
        break;
    case PYN_CTL_SEND:
    case PYN_CTL_SEND_SENDER:
        if (pyn_span_eq(c->to, pyn_service_pid(s)))
            to_py(s, l, c, block);
        break;
    case PYN_CTL_MONITOR_P:
        monitor(s, l, c);
        break;
    case PYN_CTL_MONITOR_P_EXIT:
        caller_died(s, c);
        break;
    case PYN_CTL_LINK:
        link_request(s, l, c);
        break;
    case PYN_CTL_UNLINK_ID:
        unlink_request(s, l, c);
        break;
    default: /* nothing here has links, exits on signals, or keeps a group leader */
        break;
    }
}

/* Registered a moment ago: waits for the thread that starts us to say who we are. */
static void await_ready(struct pyn_service *s)
{
    if (atomic_load_explicit(&s->ready, memory_order_acquire))
        return;
    pthread_mutex_lock(&s->ready_lock);
    while (!atomic_load(&s->ready))
        pthread_cond_wait(&s->ready_cond, &s->ready_lock);
    pthread_mutex_unlock(&s->ready_lock);
}

void pyn_dispatch_up(void *service, struct pyn_link *l)
{
    struct pyn_service *s = service;

    await_ready(s);
    if (pyn_node_is_coordinator(s->node, pyn_link_peer(l)))
        announce(s, l);
}

static bool has_link(void *ctx, const struct pyn_request *r)
{
    return r->link == ctx;
}

void pyn_dispatch_down(void *service, struct pyn_link *l, const char *reason)
{
    struct pyn_service *s = service;

    pyn_log(PYN_INFO, "link", "peer=%s down: %s", pyn_link_peer(l), reason);
    pyn_watch_forget_link(s->watch, pyn_link_id(l));
    pyn_rpc_link_down(s->rpc, l);
    pyn_pool_settle(s->pool);
    pyn_guard_cancel(s, has_link, l, NULL);
    pyn_streaming_shut(s, &(struct pyn_streams_match){.link_id = pyn_link_id(l)});
    pyn_bind_link_down(s, pyn_link_id(l)); /* after the cancel, as for a single owner */
    await_ready(s);
    pyn_node_coordinator_lost(s->node);
}
