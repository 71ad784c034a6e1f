#include "svc/rpc.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/thread.h"
#include "svc/rpc_private.h"

void pyn_rpc_unref(struct pyn_rpc *r)
{
    if (atomic_fetch_sub(&r->refs, 1) > 1)
        return;
    if (r->link)
        pyn_link_unref(r->link);
    pyn_block_unref(r->block);
    if (r->run)
        pyn_request_unref(r->run);
    pthread_cond_destroy(&r->cond);
    free(r);
}

bool pyn_rpc_insert(struct pyn_rpc_table *t, struct pyn_rpc *r)
{
    bool room, full;

    pthread_mutex_lock(&t->lock);
    full = t->count >= t->max;
    room = !full && !t->closed;
    if (room) {
        struct pyn_rpc **bucket = &t->buckets[++t->last_id % PYN_RPC_BUCKETS];
        r->id = t->last_id;
        r->next = *bucket;
        *bucket = r;
        t->count++;
    }
    pthread_mutex_unlock(&t->lock);
    if (full)
        pyn_log(PYN_WARNING, "rpc", "more than %u requests to the coordinator at once", t->max);
    return room;
}

bool pyn_rpc_withdraw(struct pyn_rpc_table *t, struct pyn_rpc *r)
{
    struct pyn_rpc **at = &t->buckets[r->id % PYN_RPC_BUCKETS];
    bool unanswered;

    pthread_mutex_lock(&t->lock);
    while (*at && *at != r)
        at = &(*at)->next;
    if (*at) {
        *at = r->next;
        t->count--;
    }
    unanswered = r->state == PYN_RPC_ASKED;
    pthread_mutex_unlock(&t->lock);
    return unanswered;
}

/* lock held. What has to be told once the lock is free. */
struct wake {
    struct pyn_rpc *waiter; /* a reference; NULL: no thread waits for its condition */
    struct pyn_worker *worker;
    struct pyn_link *link; /* a reference: the other side is told, over this one; NULL: it is not */
    enum pyn_rpc_target target;
    uint64_t id;
};

/* lock held: as long as a request is its own the loop keeps its eventfd open. */
static void tell_loop(struct pyn_notify *n, struct pyn_rpc *r)
{
    *n->done_end = r;
    n->done_end = &r->next_done;
    pyn_wake_raise(n->loop.fd);
}

static struct wake settle(struct pyn_rpc *r, enum pyn_rpc_state state)
{
    struct wake w = {.worker = r->notify ? NULL : r->worker};

    r->state = state;
    if (r->notify) {
        tell_loop(r->notify, r);
    } else if (!r->worker) {
        atomic_fetch_add(&r->refs, 1);
        w.waiter = r;
    }
    return w;
}

static void tell(struct pyn_rpc_table *t, struct wake w)
{
    if (w.waiter) { /* who is woken may run at once, in this thread's place, and wants the lock */
        pthread_cond_signal(&w.waiter->cond);
        pyn_rpc_unref(w.waiter);
    }
    /* The worker is one of the pool's, which outlives the request, and looks at its ready again whatever it does now.
     * When it is this thread, which reads while it waits, it looks as soon as it has read. */
    if (w.worker && w.worker != pyn_run_worker())
        pyn_pool_poke(t->service->pool, w.worker);
    if (w.link) {
        pyn_rpc_call_off(t, w.link, w.target, w.id);
        pyn_link_unref(w.link);
    }
}

static void replied(struct pyn_rpc_table *t, uint64_t id, struct pyn_span value, struct pyn_block *block)
{
    struct wake w = {.waiter = NULL};
    struct pyn_rpc *r;

    pthread_mutex_lock(&t->lock);
    for (r = t->buckets[id % PYN_RPC_BUCKETS]; r && r->id != id; r = r->next)
        ;
    if (r && r->state == PYN_RPC_ASKED) { /* else the asker has given up: nobody misses it */
        r->block = pyn_block_ref(block);
        r->reply = value;
        w = settle(r, PYN_RPC_ANSWERED);
    }
    pthread_mutex_unlock(&t->lock);
    tell(t, w);
}

/* The id of a {py_reply, Id, Value}; the value is what follows. */
static bool read_head(struct pyn_reader *r, int64_t *id)
{
    struct pyn_span word;
    uint32_t arity;

    return pyn_read_tuple(r, &arity) && arity == 3 && pyn_read_atom(r, &word) && pyn_span_is(word, "py_reply") &&
           pyn_read_int(r, id);
}

/* Those up to the first that is none have their answers. */
static bool read_replies(struct pyn_rpc_table *t, struct pyn_reader *r, struct pyn_block *block)
{
    struct pyn_token list;
    struct pyn_span value;
    int64_t id;

    if (!pyn_read_kind(r, PYN_T_LIST, &list))
        return false;
    for (uint32_t i = 0; i < list.count; i++) {
        if (!read_head(r, &id) || pyn_read_skip(r, &value))
            return false;
        replied(t, (uint64_t)id, value, block);
    }
    return true;
}

bool pyn_rpc_reply(struct pyn_rpc_table *t, struct pyn_span payload, struct pyn_block *block)
{
    struct pyn_reader r = pyn_reader_of(payload), several = r;
    struct pyn_span word;
    uint32_t arity;
    int64_t id;

    if (pyn_read_tuple(&several, &arity) && arity == 2 && pyn_read_atom(&several, &word) &&
        pyn_span_is(word, "py_replies"))
        return read_replies(t, &several, block);
    if (!read_head(&r, &id))
        return false;
    /* A term, or its asker will say what is wrong with it. */
    replied(t, (uint64_t)id, (struct pyn_span){r.pos, pyn_reader_left(&r)}, block);
    return true;
}

static bool is_over(const struct pyn_rpc *r, const void *link)
{
    return !link || r->link == link;
}

static bool is_of_run(const struct pyn_rpc *r, const void *run)
{
    return r->run == run && !r->late;
}

static bool is_of_coroutine(const struct pyn_rpc *r, const void *run)
{
    return r->run == run && !r->notify && !r->worker;
}

/* Lock held. The next one that matches, from that bucket on, which is moved to where it was found; NULL: none. */
static struct pyn_rpc *find_asked(struct pyn_rpc_table *t, unsigned *bucket,
                                  bool (*match)(const struct pyn_rpc *r, const void *what), const void *what)
{
    for (; t->count > 0 && *bucket < PYN_RPC_BUCKETS; (*bucket)++)
        for (struct pyn_rpc *r = t->buckets[*bucket]; r; r = r->next)
            if (r->state == PYN_RPC_ASKED && match(r, what))
                return r;
    return NULL;
}

/* All that match have no answer any more. One at a time: telling is done without the lock. in_vain: Python has no use
 * for one, and so Erlang is told as well. */
static void lose(struct pyn_rpc_table *t, bool in_vain, bool (*match)(const struct pyn_rpc *r, const void *what),
                 const void *what)
{
    unsigned bucket = 0;
    struct pyn_rpc *r;

    do {
        struct wake w = {.waiter = NULL};
        pthread_mutex_lock(&t->lock);
        r = find_asked(t, &bucket, match, what);
        if (r)
            w = settle(r, PYN_RPC_LOST);
        if (r && in_vain) {
            w.link = pyn_link_ref(r->link);
            w.target = r->target;
            w.id = r->id;
        }
        pthread_mutex_unlock(&t->lock);
        tell(t, w);
    } while (r);
}

void pyn_rpc_link_down(struct pyn_rpc_table *t, const struct pyn_link *l)
{
    lose(t, false, is_over, l);
}

void pyn_rpc_run_ended(struct pyn_rpc_table *t, const struct pyn_request *run)
{
    lose(t, true, is_of_run, run);
}

/* What is awaited ends with the task. */
void pyn_rpc_coroutine_ended(struct pyn_rpc_table *t, const struct pyn_request *run)
{
    lose(t, true, is_of_coroutine, run);
}

static unsigned count_all(struct pyn_rpc_table *t)
{
    unsigned count;

    pthread_mutex_lock(&t->lock);
    count = t->count;
    pthread_mutex_unlock(&t->lock);
    return count;
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
    pyn_tell_init(t);
    t->bridge = pyn_bridge_of(t);
    pyn_bridge_set(&t->bridge);
    return t;
}

void pyn_rpc_table_close(struct pyn_rpc_table *t)
{
    pthread_mutex_lock(&t->lock);
    t->closed = true;
    pthread_mutex_unlock(&t->lock);
    pyn_rpc_link_down(t, NULL);
}

void pyn_rpc_table_free(struct pyn_rpc_table *t)
{
    if (!t)
        return;
    pyn_bridge_set(NULL);
    if (count_all(t) > 0)
        return; /* a thread of Python's own still waits: what it looks at must stay */
    pthread_mutex_destroy(&t->lock);
    pyn_tell_destroy(t);
    free(t);
}
