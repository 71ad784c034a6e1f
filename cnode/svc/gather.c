#include "svc/gather.h"

#include <stdlib.h>

#include "etf/writer.h"
#include "svc/service_private.h"

struct slot {
    int group;
    struct pyn_buf result; /* a term; written by who claimed the child */
};

struct pyn_gather {
    struct pyn_service *service;
    atomic_uint refs;
    atomic_uint left;    /* children without a result */
    atomic_uint good;    /* results that are no error */
    atomic_uint present; /* children that have not left */
    atomic_size_t bytes; /* of all results */
    struct pyn_link *link;
    struct pyn_block *block;
    struct pyn_reply_to to;
    struct pyn_entry *entry; /* owned reference; NULL: nothing is remembered */
    bool settled;            /* by who fills the last slot, or else by who drops the last reference */
    unsigned count;
    struct slot slots[];
};

struct pyn_gather *pyn_gather_new(struct pyn_service *s, struct pyn_link *link, struct pyn_block *block,
                                  const struct pyn_reply_to *to, struct pyn_entry *entry, unsigned children)
{
    struct pyn_gather *g = calloc(1, sizeof(*g) + children * sizeof(struct slot));

    if (!g)
        return NULL;
    g->service = s;
    atomic_init(&g->refs, 1);
    atomic_init(&g->left, children);
    atomic_init(&g->present, children);
    g->link = pyn_link_ref(link);
    g->block = pyn_block_ref(block);
    g->to = *to;
    g->entry = entry;
    g->count = children;
    for (unsigned i = 0; i < children; i++)
        pyn_buf_init(&g->slots[i].result, s->config.max_frame);
    return g;
}

void pyn_gather_adopt(struct pyn_gather *g, struct pyn_request *r, unsigned slot)
{
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    r->gather = g;
    r->slot = slot;
    g->slots[slot].group = r->job.group;
}

/* What has worked nowhere is not remembered. */
static void settle(struct pyn_gather *g)
{
    if (g->entry && !g->settled)
        pyn_remembered_settle(g->service->remembered, g->entry, atomic_load(&g->good) > 0);
    g->settled = true;
}

void pyn_gather_unref(struct pyn_gather *g)
{
    if (atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
        return;
    settle(g);
    pyn_entry_unref(g->entry);
    for (unsigned i = 0; i < g->count; i++)
        pyn_buf_free(&g->slots[i].result);
    pyn_link_unref(g->link);
    pyn_block_unref(g->block);
    free(g);
}

void pyn_gather_discharge(struct pyn_gather *g)
{
    atomic_fetch_sub_explicit(&g->service->admitted, 1, memory_order_release);
}

/* ---- the answer ---- */

static void write_results(const struct pyn_gather *g, struct pyn_buf *b)
{
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "ok");
    if (g->count > 0)
        pyn_write_list(b, g->count);
    for (unsigned i = 0; i < g->count; i++) {
        pyn_write_tuple(b, 2);
        pyn_write_int(b, g->slots[i].group);
        pyn_write_raw(b, (struct pyn_span){g->slots[i].result.data, g->slots[i].result.len});
        b->failed = b->failed || g->slots[i].result.failed;
    }
    pyn_write_nil(b);
}

void pyn_gather_finish(struct pyn_gather *g)
{
    struct pyn_service *s = g->service;
    struct pyn_out o;
    size_t frame;

    /* Before the caller hears of it: what it asks next finds it so. All children have their result, so nobody else
     * comes here. */
    settle(g);
    if (g->to.pid.len == 0)
        return;
    pyn_out_init(&o, s->config.max_frame);
    frame = pyn_proto_begin_reply(&o.buf, &g->to, pyn_service_pid(s));
    write_results(g, &o.buf);
    if (o.buf.failed) {
        pyn_out_truncate(&o, 0);
        frame = pyn_proto_begin_reply(&o.buf, &g->to, pyn_service_pid(s));
        pyn_proto_write_exception(&o.buf, "ValueError", "the results are larger than the node's maximum for a message");
    }
    pyn_frame_end(&o.buf, frame, 0);
    pyn_dispatch_send_now(g->link, &o);
}

/* ---- results ---- */

/* Bytes and foreign stretches, as they stand. */
static void flatten(struct pyn_buf *b, const struct pyn_out *out)
{
    size_t from = 0;

    for (unsigned i = 0; i < out->ext_count; i++) {
        pyn_buf_bytes(b, out->buf.data + from, out->ext[i].at - from);
        pyn_buf_bytes(b, out->ext[i].ptr, out->ext[i].len);
        from = out->ext[i].at;
    }
    pyn_buf_bytes(b, out->buf.data + from, out->buf.len - from);
}

/* The slot is filled: the last one sends. */
static void filled(struct pyn_gather *g)
{
    if (atomic_fetch_sub_explicit(&g->left, 1, memory_order_acq_rel) == 1)
        pyn_gather_finish(g);
}

void pyn_gather_put(struct pyn_request *r, const struct pyn_out *out, bool ok)
{
    struct pyn_gather *g = r->gather;
    struct pyn_buf *b = &g->slots[r->slot].result;
    size_t size = pyn_out_size(out);

    if (!out->buf.failed && atomic_fetch_add(&g->bytes, size) + size <= g->service->config.max_frame)
        flatten(b, out);
    if (b->failed || b->len == 0) {
        pyn_buf_truncate(b, 0);
        pyn_proto_write_exception(b, "ValueError", "the result is larger than the node's maximum for a message");
    } else if (ok) {
        atomic_fetch_add(&g->good, 1);
    }
    filled(g);
}

void pyn_gather_put_error(struct pyn_request *r, const char *reason)
{
    pyn_proto_write_error(&r->gather->slots[r->slot].result, reason);
    filled(r->gather);
}

void pyn_gather_leave(struct pyn_request *r)
{
    struct pyn_gather *g = r->gather;

    if (!r->begun && g->entry)
        pyn_remembered_missed(g->service->remembered, g->entry, r->job.group);
    if (atomic_fetch_sub(&g->present, 1) == 1)
        pyn_gather_discharge(g);
}
