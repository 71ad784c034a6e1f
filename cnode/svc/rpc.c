#include "svc/rpc.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "etf/writer.h"
#include "py/bridge.h"
#include "svc/service_private.h"

enum { BUCKETS = 4096 };

enum state { ASKED, ANSWERED, LOST };

struct pyn_rpc {
    struct pyn_rpc *next; /* in the bucket */
    uint64_t id;
    enum pyn_rpc_target target;
    struct pyn_link *link;      /* owned reference */
    struct pyn_request *run;    /* owned reference: the call that asks; NULL: a thread of Python's own */
    struct pyn_worker *worker;  /* on whose thread the asker waits; NULL: any other thread */
    int notify_fd;
    size_t frame;
    pthread_cond_t cond; /* for waiters that are no workers; with table->lock */

    /* guarded by table->lock */
    enum state state;
    struct pyn_block *block; /* owned reference: holds the reply */
    struct pyn_span reply;
};

struct pyn_rpc_table {
    struct pyn_service *service;
    struct pyn_bridge bridge;
    pthread_mutex_t lock; /* guards all below; innermost but for links */
    struct pyn_rpc *buckets[BUCKETS];
    uint64_t last_id;
    unsigned count, max;
};

/* ---- the table ---- */

static bool insert(struct pyn_rpc_table *t, struct pyn_rpc *r)
{
    bool room;

    pthread_mutex_lock(&t->lock);
    room = t->count < t->max;
    if (room) {
        struct pyn_rpc **bucket = &t->buckets[++t->last_id % BUCKETS];
        r->id = t->last_id;
        r->next = *bucket;
        *bucket = r;
        t->count++;
    }
    pthread_mutex_unlock(&t->lock);
    return room;
}

/* true when it had no answer. */
static bool withdraw(struct pyn_rpc_table *t, struct pyn_rpc *r)
{
    struct pyn_rpc **at = &t->buckets[r->id % BUCKETS];
    bool unanswered;

    pthread_mutex_lock(&t->lock);
    while (*at && *at != r)
        at = &(*at)->next;
    if (*at) {
        *at = r->next;
        t->count--;
    }
    unanswered = r->state == ASKED;
    pthread_mutex_unlock(&t->lock);
    return unanswered;
}

/* lock held. What has to be told once the lock is free. */
struct wake {
    struct pyn_worker *worker;
    int fd;
};

static struct wake settle(struct pyn_rpc *r, enum state state)
{
    r->state = state;
    pthread_cond_signal(&r->cond);
    return (struct wake){r->worker, r->notify_fd};
}

static void tell(struct pyn_rpc_table *t, struct wake w)
{
    uint64_t one = 1;

    /* The worker is one of the pool's, which outlives the request, and looks at its ready again whatever it does now. */
    if (w.worker)
        pyn_pool_poke(t->service->pool, w.worker);
    if (w.fd >= 0 && write(w.fd, &one, sizeof(one)) < 0)
        pyn_log(PYN_DEBUG, "rpc", "an event loop went away with an answer on its way");
}

bool pyn_rpc_reply(struct pyn_rpc_table *t, struct pyn_span payload, struct pyn_block *block)
{
    struct pyn_reader r = pyn_reader_of(payload);
    struct wake w = {NULL, -1};
    struct pyn_span word, value;
    struct pyn_rpc *rpc;
    uint32_t arity;
    int64_t id;

    if (!pyn_read_tuple(&r, &arity) || arity != 3 || !pyn_read_atom(&r, &word) || !pyn_span_is(word, "py_reply") ||
        !pyn_read_int(&r, &id) || pyn_read_skip(&r, &value))
        return false;
    pthread_mutex_lock(&t->lock);
    for (rpc = t->buckets[(uint64_t)id % BUCKETS]; rpc && rpc->id != (uint64_t)id; rpc = rpc->next)
        ;
    if (rpc && rpc->state == ASKED) { /* else the asker has given up: nobody misses it */
        rpc->block = pyn_block_ref(block);
        rpc->reply = value;
        w = settle(rpc, ANSWERED);
    }
    pthread_mutex_unlock(&t->lock);
    tell(t, w);
    return true;
}

void pyn_rpc_link_down(struct pyn_rpc_table *t, const struct pyn_link *l)
{
    for (unsigned i = 0; i < BUCKETS && pyn_rpc_count(t) > 0; i++) {
        for (;;) { /* one at a time: telling is done without the lock */
            struct wake w = {NULL, -1};
            struct pyn_rpc *r;
            pthread_mutex_lock(&t->lock);
            for (r = t->buckets[i]; r && !((!l || r->link == l) && r->state == ASKED); r = r->next)
                ;
            if (r)
                w = settle(r, LOST);
            pthread_mutex_unlock(&t->lock);
            if (!r)
                break;
            tell(t, w);
        }
    }
}

unsigned pyn_rpc_count(struct pyn_rpc_table *t)
{
    unsigned count;

    pthread_mutex_lock(&t->lock);
    count = t->count;
    pthread_mutex_unlock(&t->lock);
    return count;
}

/* ---- the bridge ---- */

static void free_rpc(struct pyn_rpc *r)
{
    pyn_link_unref(r->link);
    pyn_block_unref(r->block);
    if (r->run)
        pyn_request_unref(r->run);
    pthread_cond_destroy(&r->cond);
    free(r);
}

static uint64_t time_left(const struct pyn_rpc *r)
{
    uint64_t now = pyn_now();

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
    struct pyn_span pid = {s->own_pid.data, s->own_pid.len};
    uint64_t left = time_left(r);

    r->frame = pyn_frame_reg_send(&out->buf, pid, target_name(r->target));
    pyn_write_tuple(&out->buf, 6);
    pyn_write_atom(&out->buf, "py_rpc");
    pyn_write_int(&out->buf, (int64_t)r->id);
    pyn_write_raw(&out->buf, pid);
    pyn_write_tuple(&out->buf, 2);
    pyn_write_int(&out->buf, pyn_host_current_interp());
    pyn_write_int(&out->buf, r->run ? (int64_t)r->run->id : 0);
    if (left == PYN_NO_TIMEOUT)
        pyn_write_atom(&out->buf, "infinity");
    else
        pyn_write_int(&out->buf, (int64_t)left);
}

static struct pyn_rpc *bridge_open(void *ctx, enum pyn_rpc_target target, int notify_fd, struct pyn_out *out,
                                   enum pyn_rpc_result *result)
{
    struct pyn_rpc_table *t = ctx;
    struct pyn_request *run = pyn_run_current();
    struct pyn_rpc *r;

    *result = PYN_RPC_INTERRUPTED;
    if (run && pyn_request_is_answered(run))
        return NULL;
    *result = PYN_RPC_TOO_DEEP;
    if (run && run->depth >= PYN_MAX_NESTING)
        return NULL;
    *result = PYN_RPC_DOWN;
    r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->target = target;
    r->notify_fd = notify_fd;
    r->worker = pyn_run_worker();
    r->run = run ? pyn_request_ref(run) : NULL;
    pthread_cond_init(&r->cond, NULL);
    r->link = t->service->node ? pyn_node_coordinator(t->service->node) : NULL;
    if (!r->link || !insert(t, r)) {
        if (r->link)
            pyn_log(PYN_WARNING, "rpc", "more than %u requests to the coordinator at once", t->max);
        if (!r->link) {
            pthread_cond_destroy(&r->cond);
            if (r->run)
                pyn_request_unref(r->run);
            free(r);
        } else {
            free_rpc(r);
        }
        return NULL;
    }
    write_head(t, r, out);
    return r;
}

static void bridge_post(void *ctx, struct pyn_rpc *r, struct pyn_out *out)
{
    (void)ctx;
    pyn_frame_end(&out->buf, r->frame, out->ext_bytes);
    if (pyn_link_send(r->link, out, true))
        pyn_link_flush(r->link);
    if (!pyn_link_is_up(r->link)) /* it went down before we were in its way */
        pyn_rpc_link_down(ctx, r->link);
}

struct waiting {
    struct pyn_rpc_table *table;
    struct pyn_rpc *rpc;
};

static bool is_settled(void *ctx)
{
    struct waiting *w = ctx;
    bool settled;

    pthread_mutex_lock(&w->table->lock);
    settled = w->rpc->state != ASKED;
    pthread_mutex_unlock(&w->table->lock);
    return settled || (w->rpc->run && pyn_request_is_answered(w->rpc->run));
}

static void wait_elsewhere(struct pyn_rpc_table *t, struct pyn_rpc *r)
{
    pthread_mutex_lock(&t->lock);
    while (r->state == ASKED)
        pthread_cond_wait(&r->cond, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static enum pyn_rpc_result bridge_take(void *ctx, struct pyn_rpc *r, struct pyn_span *reply)
{
    struct pyn_rpc_table *t = ctx;
    enum state state;

    pthread_mutex_lock(&t->lock);
    state = r->state;
    *reply = r->reply;
    pthread_mutex_unlock(&t->lock);
    if (state == ANSWERED)
        return PYN_RPC_ANSWER;
    if (r->run && pyn_request_is_answered(r->run))
        return PYN_RPC_INTERRUPTED;
    return state == LOST ? PYN_RPC_DOWN : PYN_RPC_PENDING;
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

static void call_off(struct pyn_rpc_table *t, struct pyn_rpc *r)
{
    struct pyn_span pid = {t->service->own_pid.data, t->service->own_pid.len};
    struct pyn_out o;
    size_t frame;

    pyn_out_init(&o, 65536);
    frame = pyn_frame_reg_send(&o.buf, pid, target_name(r->target));
    pyn_write_tuple(&o.buf, 3);
    pyn_write_atom(&o.buf, "py_rpc_cancel");
    pyn_write_int(&o.buf, (int64_t)r->id);
    pyn_write_raw(&o.buf, pid);
    pyn_frame_end(&o.buf, frame, 0);
    pyn_dispatch_send_now(r->link, &o);
}

static void bridge_close(void *ctx, struct pyn_rpc *r)
{
    if (withdraw(ctx, r) && pyn_link_is_up(r->link))
        call_off(ctx, r);
    free_rpc(r);
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
    struct pyn_span own = {t->service->own_pid.data, t->service->own_pid.len};
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
    return (struct pyn_span){t->service->own_pid.data, t->service->own_pid.len};
}

/* ---- lifetime ---- */

struct pyn_rpc_table *pyn_rpc_table_new(struct pyn_service *s, unsigned max)
{
    struct pyn_rpc_table *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->service = s;
    t->max = max;
    pthread_mutex_init(&t->lock, NULL);
    t->bridge = (struct pyn_bridge){
        .ctx = t,
        .open = bridge_open,
        .post = bridge_post,
        .wait = bridge_wait,
        .take = bridge_take,
        .close = bridge_close,
        .send_begin = bridge_send_begin,
        .send_end = bridge_send_end,
        .own_pid = bridge_own_pid,
    };
    pyn_bridge_set(&t->bridge);
    return t;
}

void pyn_rpc_table_free(struct pyn_rpc_table *t)
{
    if (!t)
        return;
    pyn_bridge_set(NULL);
    if (pyn_rpc_count(t) > 0)
        return; /* a thread of Python's own still waits: what it looks at must stay */
    pthread_mutex_destroy(&t->lock);
    free(t);
}
