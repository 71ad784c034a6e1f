/* Messages of Python to the coordinator that may be lost: records of logging, spans. Who sends one must not notice that
 * the coordinator is slow or away, so there is no waiting here: what finds no room is counted, and the next message
 * that gets out tells the number. */
#include "base/clock.h"
#include "svc/rpc_private.h"

#define FLUSH_AFTER PYN_MS

/* How much may wait for the coordinator, of whatever kind, before a message is given up. Spans are kept longer: their
 * reader wants all of them, while a log with holes is a log. */
static const struct {
    const char *name;
    unsigned per_second;
    size_t backlog;
} targets[PYN_TELL_TARGETS] = {
    [PYN_TELL_LOG] = {"py_logger", 5000, (size_t)16 << 20},
    [PYN_TELL_SPAN] = {"py_tracer", UINT32_MAX, (size_t)64 << 20},
};

void pyn_tell_init(struct pyn_rpc_table *t)
{
    for (int i = 0; i < PYN_TELL_TARGETS; i++)
        pyn_loglimit_init(&t->tells[i], targets[i].per_second, PYN_SECOND);
}

void pyn_tell_destroy(struct pyn_rpc_table *t)
{
    for (int i = 0; i < PYN_TELL_TARGETS; i++)
        pyn_loglimit_destroy(&t->tells[i]);
}

bool pyn_tell_admit(void *ctx, enum pyn_tell_target target, unsigned *dropped)
{
    struct pyn_rpc_table *t = ctx;
    return pyn_loglimit_take(&t->tells[target], pyn_now(), dropped);
}

void pyn_tell_lost(void *ctx, enum pyn_tell_target target, unsigned count)
{
    struct pyn_rpc_table *t = ctx;
    pyn_loglimit_lost(&t->tells[target], count);
}

/* Preload code runs before the node has a name. Its messages have no head, and go nowhere. */
#define NO_HEAD SIZE_MAX

size_t pyn_tell_begin(void *ctx, enum pyn_tell_target target, struct pyn_out *out)
{
    struct pyn_rpc_table *t = ctx;

    if (!atomic_load_explicit(&t->service->ready, memory_order_acquire))
        return NO_HEAD;
    return pyn_frame_reg_send(&out->buf, pyn_service_pid(t->service), targets[target].name);
}

/* Waking the peer for each message costs more than the message. So the first one goes out at once, and those that
 * follow shortly after go together: when the watchdog looks, which is awake while a call runs. A thread of Python's own
 * may be alone, with nobody awake. */
static void flush_soon(struct pyn_rpc_table *t, struct pyn_link *l)
{
    uint64_t now = pyn_now(), last = atomic_load_explicit(&t->tell_flushed, memory_order_relaxed);

    if (pyn_run_worker() && now - last < FLUSH_AFTER) {
        atomic_store(&t->tell_unsent, true);
        return;
    }
    atomic_store_explicit(&t->tell_flushed, now, memory_order_relaxed);
    pyn_link_flush(l);
}

void pyn_tell_flush(struct pyn_rpc_table *t)
{
    struct pyn_link *l;

    if (PYN_LIKELY(!atomic_load_explicit(&t->tell_unsent, memory_order_relaxed)))
        return;
    atomic_store(&t->tell_unsent, false);
    l = pyn_node_coordinator(t->service->node);
    if (!l)
        return;
    pyn_link_flush(l);
    pyn_link_unref(l);
}

enum pyn_tell_result pyn_tell_end(void *ctx, enum pyn_tell_target target, size_t frame, struct pyn_out *out)
{
    struct pyn_rpc_table *t = ctx;
    struct pyn_link *l = frame == NO_HEAD ? NULL : pyn_node_coordinator(t->service->node);
    bool sent;

    if (!l)
        return PYN_TELL_DOWN;
    pyn_frame_end(&out->buf, frame, out->ext_bytes);
    sent = pyn_link_offer(l, out, targets[target].backlog);
    if (!sent) { /* perhaps only because nobody has flushed */
        pyn_link_flush(l);
        sent = pyn_link_offer(l, out, targets[target].backlog);
    }
    if (sent)
        flush_soon(t, l);
    pyn_link_unref(l);
    return sent ? PYN_TELL_SENT : PYN_TELL_FULL;
}
