/* What Python code asks of the node (py/bridge.h). */
#include "py/bridge.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "etf/writer.h"
#include "py/coroutines.h"
#include "py/trace.h"
#include "svc/rpc_private.h"

/* The time of what a generator asks in its `finally`, when it was called off. */
enum { LATE_MS = 5000 };

static uint64_t time_left(const struct pyn_rpc *r)
{
    uint64_t now = pyn_now();

    if (r->late)
        return LATE_MS;
    if (!r->run || r->run->deadline == PYN_NEVER)
        return PYN_NO_TIMEOUT;
    return r->run->deadline > now ? (r->run->deadline - now) / PYN_MS : 0;
}

static const char *target_name(enum pyn_rpc_target target)
{
    return target == PYN_RPC_CALL ? "py_callback" : "py_state";
}

static void write_head(struct pyn_rpc_table *t, struct pyn_rpc *r, struct pyn_out *out)
{
    struct pyn_service *s = t->service;
    struct pyn_span pid = pyn_service_pid(s);
    uint64_t left = time_left(r);
    int64_t span = pyn_trace_on() ? pyn_trace_current() : 0;

    r->frame = pyn_frame_reg_send(&out->buf, pid, target_name(r->target));
    pyn_write_tuple(&out->buf, 6);
    pyn_write_atom(&out->buf, "py_rpc");
    pyn_write_int(&out->buf, (int64_t)r->id);
    pyn_write_raw(&out->buf, pid);
    pyn_write_tuple(&out->buf, span ? 4 : 3);
    pyn_write_int(&out->buf, pyn_host_current_interp());
    pyn_write_int(&out->buf, r->run && !r->beside ? (int64_t)r->run->id : 0);
    pyn_write_int(&out->buf, r->run ? (int64_t)r->run->depth : 0);
    if (span)
        pyn_write_int(&out->buf, span);
    if (left == PYN_NO_TIMEOUT)
        pyn_write_atom(&out->buf, "infinity");
    else
        pyn_write_int(&out->buf, (int64_t)left);
}

/* The request on whose behalf this thread asks, a new reference; NULL: none. beside: it runs on another thread, whose
 * code has started this one. */
static struct pyn_request *asking_run(struct pyn_rpc_table *t, bool *beside)
{
    struct pyn_request *run = pyn_run_current();
    uint64_t id;

    *beside = false;
    if (run)
        return pyn_request_ref(run);
    id = pyn_runner_request();
    if (id)
        run = pyn_deferred_find(t->service->deferred, id);
    if (id && !run) {
        run = pyn_run_find(t->service, id);
        *beside = run != NULL;
    }
    return run;
}

/* Nobody waits for the run's result any more. Who is beside it may go on when it has ended well. */
static bool is_in_vain(const struct pyn_request *run, bool beside)
{
    return run && (beside ? atomic_load(&run->off) : pyn_request_is_answered(run));
}

/* Whether that request may ask at all. */
static enum pyn_rpc_result may_ask(const struct pyn_request *run, bool beside)
{
    if (is_in_vain(run, beside) && (beside || !pyn_streaming_sends(run)))
        return PYN_RPC_INTERRUPTED;
    return run && run->depth >= PYN_MAX_NESTING ? PYN_RPC_TOO_DEEP : PYN_RPC_DOWN;
}

/* Enters it in the table, complete: the guard and the reader find it there. NULL: no coordinator, or the table is full.
 * Steals run. */
static struct pyn_rpc *new_rpc(struct pyn_rpc_table *t, struct pyn_request *run, bool beside,
                               enum pyn_rpc_target target, struct pyn_notify *notify)
{
    struct pyn_rpc *r = calloc(1, sizeof(*r));

    if (!r) {
        if (run)
            pyn_request_unref(run);
        return NULL;
    }
    atomic_init(&r->refs, 1);
    r->notify = notify;
    r->worker = notify ? NULL : pyn_run_worker();
    r->run = run;
    r->beside = beside;
    r->target = target;
    r->late = run && !beside && pyn_streaming_sends(run) && pyn_request_is_answered(run);
    pthread_cond_init(&r->cond, NULL);
    r->link = t->service->node ? pyn_node_coordinator(t->service->node) : NULL;
    if (r->link && pyn_rpc_insert(t, r))
        return r;
    pyn_rpc_unref(r);
    return NULL;
}

static struct pyn_rpc *bridge_open(void *ctx, enum pyn_rpc_target target, struct pyn_notify *notify,
                                   struct pyn_out *out, enum pyn_rpc_result *result)
{
    struct pyn_rpc_table *t = ctx;
    bool beside;
    struct pyn_request *run = asking_run(t, &beside);
    struct pyn_rpc *r;

    *result = may_ask(run, beside);
    if (*result != PYN_RPC_DOWN) {
        pyn_request_unref(run);
        return NULL;
    }
    r = new_rpc(t, run, beside, target, notify);
    if (!r)
        return NULL;
    if (run && !beside)
        atomic_fetch_add(&run->asking, 1);
    if (!notify && target == PYN_RPC_CALL && (r->loop = pyn_runner_loop())) /* before the callback can begin */
        pyn_deferred_blocking(t->service->deferred, r->loop, 1);
    write_head(t, r, out);
    return r;
}

static bool is_lost(struct pyn_rpc_table *t, const struct pyn_rpc *r)
{
    bool lost;

    pthread_mutex_lock(&t->lock);
    lost = r->state == PYN_RPC_LOST;
    pthread_mutex_unlock(&t->lock);
    return lost;
}

static void bridge_post(void *ctx, struct pyn_rpc *r, struct pyn_out *out)
{
    pyn_frame_end(&out->buf, r->frame, out->ext_bytes);
    if (pyn_link_send(r->link, out, true))
        pyn_link_flush(r->link);
    if (!pyn_link_is_up(r->link)) /* it went down before we were in its way */
        pyn_rpc_link_down(ctx, r->link);
    else if (is_lost(ctx, r)) /* called off while its arguments were written: what Erlang was told came before it */
        pyn_rpc_call_off(ctx, r->link, r->target, r->id);
}

struct waiting {
    struct pyn_rpc_table *table;
    struct pyn_rpc *rpc;
};

/* Nobody waits for the run's result any more; and it does not clean up yet. */
static bool is_called_off(const struct pyn_rpc *r)
{
    return !r->late && is_in_vain(r->run, r->beside);
}

static bool is_settled(void *ctx)
{
    struct waiting *w = ctx;
    bool settled;

    pthread_mutex_lock(&w->table->lock);
    settled = w->rpc->state != PYN_RPC_ASKED;
    pthread_mutex_unlock(&w->table->lock);
    return settled || is_called_off(w->rpc);
}

static void wait_elsewhere(struct pyn_rpc_table *t, struct pyn_rpc *r)
{
    pthread_mutex_lock(&t->lock);
    while (r->state == PYN_RPC_ASKED && !is_called_off(r)) /* who calls it off tells those who were entered before */
        pthread_cond_wait(&r->cond, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static enum pyn_rpc_result bridge_take(void *ctx, struct pyn_rpc *r, struct pyn_span *reply)
{
    struct pyn_rpc_table *t = ctx;
    enum pyn_rpc_state state;

    pthread_mutex_lock(&t->lock);
    state = r->state;
    *reply = r->reply;
    pthread_mutex_unlock(&t->lock);
    if (state == PYN_RPC_ANSWERED)
        return PYN_RPC_ANSWER;
    if (is_called_off(r))
        return PYN_RPC_INTERRUPTED;
    return state == PYN_RPC_LOST ? PYN_RPC_DOWN : PYN_RPC_PENDING;
}

static enum pyn_rpc_result bridge_wait(void *ctx, struct pyn_rpc *r, struct pyn_span *reply)
{
    struct pyn_rpc_table *t = ctx;
    struct waiting w = {t, r};

    if (r->worker)
        pyn_pool_wait(t->service->pool, r->worker, is_settled, &w);
    else
        wait_elsewhere(t, r);
    return bridge_take(ctx, r, reply);
}

void pyn_rpc_call_off(struct pyn_rpc_table *t, struct pyn_link *l, enum pyn_rpc_target target, uint64_t id)
{
    struct pyn_span pid = pyn_service_pid(t->service);
    struct pyn_out o;
    size_t frame;

    pyn_out_init(&o, 65536);
    frame = pyn_frame_reg_send(&o.buf, pid, target_name(target));
    pyn_write_tuple(&o.buf, 3);
    pyn_write_atom(&o.buf, "py_rpc_cancel");
    pyn_write_int(&o.buf, (int64_t)id);
    pyn_write_raw(&o.buf, pid);
    pyn_frame_end(&o.buf, frame, 0);
    pyn_dispatch_send_now(l, &o);
}

static void bridge_close(void *ctx, struct pyn_rpc *r)
{
    struct pyn_rpc_table *t = ctx;

    if (pyn_rpc_withdraw(ctx, r) && pyn_link_is_up(r->link))
        pyn_rpc_call_off(t, r->link, r->target, r->id);
    if (r->run && !r->beside)
        atomic_fetch_sub(&r->run->asking, 1);
    if (r->loop)
        pyn_deferred_blocking(t->service->deferred, r->loop, -1);
    pyn_rpc_unref(r);
}

/* ---- erlang.send ---- */

/* The node of a pid, or the given one of {Name, Node}; empty: the coordinator's. */
static bool split_target(struct pyn_span to, struct pyn_span *name, struct pyn_span *node)
{
    struct pyn_reader r = pyn_reader_of(to);
    struct pyn_token t;
    uint32_t arity;

    *name = *node = (struct pyn_span){NULL, 0};
    if (pyn_read_tuple(&r, &arity))
        return arity == 2 && pyn_read_atom(&r, name) && pyn_read_atom(&r, node);
    if (pyn_read_atom(&r, name))
        return true;
    if (!pyn_read_kind(&r, PYN_T_PID, &t))
        return false;
    r = (struct pyn_reader){t.bytes.ptr + 1, t.bytes.ptr + t.bytes.len}; /* behind the tag stands the node's name */
    return pyn_read_atom(&r, node);
}

static struct pyn_link *link_to(struct pyn_rpc_table *t, struct pyn_span node)
{
    char name[1024];

    if (node.len == 0)
        return pyn_node_coordinator(t->service->node);
    if (node.len >= sizeof(name))
        return NULL;
    memcpy(name, node.ptr, node.len);
    name[node.len] = 0;
    return pyn_links_find(t->service->links, name);
}

/* A process on a node that we have no link to is reached by the coordinator: py_callback ! {py_send, To, Term}. */
static bool bridge_send_begin(void *ctx, struct pyn_span to, struct pyn_out *out, size_t *frame, void **link)
{
    struct pyn_rpc_table *t = ctx;
    struct pyn_span own = pyn_service_pid(t->service);
    struct pyn_span name, node;
    struct pyn_link *l;
    char registered[256 * 4];

    if (!t->service->node || !split_target(to, &name, &node) || name.len >= sizeof(registered))
        return false;
    l = link_to(t, node);
    if (l && name.len == 0) {
        *frame = pyn_frame_send(&out->buf, to);
    } else if (l) {
        memcpy(registered, name.ptr, name.len);
        registered[name.len] = 0;
        *frame = pyn_frame_reg_send(&out->buf, own, registered);
    } else {
        l = pyn_node_coordinator(t->service->node);
        if (!l)
            return false;
        *frame = pyn_frame_reg_send(&out->buf, own, "py_callback");
        pyn_write_tuple(&out->buf, 3);
        pyn_write_atom(&out->buf, "py_send");
        pyn_write_raw(&out->buf, to);
    }
    *link = l;
    return true;
}

static bool bridge_send_end(void *ctx, void *link, size_t frame, struct pyn_out *out)
{
    struct pyn_request *run = pyn_run_current();
    bool sent;

    (void)ctx;
    pyn_frame_end(&out->buf, frame, out->ext_bytes);
    while (!(sent = pyn_link_send(link, out, false)) && !(run && pyn_request_is_answered(run))) {
        pyn_link_flush(link);
        usleep(1000); /* the peer is slow: so is this thread */
    }
    pyn_link_flush(link);
    pyn_link_unref(link);
    return sent;
}

static struct pyn_span bridge_own_pid(void *ctx)
{
    struct pyn_rpc_table *t = ctx;
    return pyn_service_pid(t->service);
}

/* ---- the table of functions ---- */

static uint64_t bridge_request(void *ctx)
{
    const struct pyn_request *run = pyn_run_current();

    (void)ctx;
    return run ? run->id : pyn_runner_request();
}

static void bridge_set_cookie(void *ctx, struct pyn_rpc *r, void *cookie)
{
    (void)ctx;
    r->cookie = cookie;
}

static uint64_t bridge_id(void *ctx, const struct pyn_rpc *r)
{
    (void)ctx;
    return r->id;
}

struct pyn_bridge pyn_bridge_of(struct pyn_rpc_table *t)
{
    return (struct pyn_bridge){
        .ctx = t,
        .open = bridge_open,
        .post = bridge_post,
        .wait = bridge_wait,
        .take = bridge_take,
        .close = bridge_close,
        .send_begin = bridge_send_begin,
        .send_end = bridge_send_end,
        .tell_admit = pyn_tell_admit,
        .tell_lost = pyn_tell_lost,
        .tell_begin = pyn_tell_begin,
        .tell_end = pyn_tell_end,
        .item_begin = pyn_streaming_item_begin,
        .item_send = pyn_streaming_item_send,
        .item_flush = pyn_streaming_item_flush,
        .own_pid = bridge_own_pid,
        .request = bridge_request,
        .loop_open = pyn_notify_open,
        .loop_fd = pyn_notify_fd,
        .loop_next = pyn_notify_next,
        .loop_enter = pyn_notify_enter,
        .loop_serve = pyn_notify_serve,
        .loop_cancel = pyn_notify_cancel,
        .loop_abandon = pyn_notify_abandon,
        .loop_close = pyn_notify_close,
        .set_cookie = bridge_set_cookie,
        .id = bridge_id,
    };
}
