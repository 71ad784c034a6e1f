#include "svc/request.h"

#include <stdlib.h>
#include <string.h>

#include "svc/contexts.h"
#include "svc/gather.h"

/* What a request needs until its answer, in memory of its own: a block of received bytes, which may hold those of many,
 * is not kept for as long as a coroutine waits. */
static bool keep_reply_to(struct pyn_request *r)
{
    struct pyn_reply_to *to = &r->to;
    uint8_t *copy = malloc(to->pid.len + to->tag.len);

    if (!copy)
        return false;
    r->kept = copy;
    if (to->pid.len == 0)
        return true;
    memcpy(copy, to->pid.ptr, to->pid.len);
    memcpy(copy + to->pid.len, to->tag.ptr, to->tag.len);
    if (to->alias.len > 0) /* it stands in the tag */
        to->alias.ptr = copy + to->pid.len + (to->alias.ptr - to->tag.ptr);
    to->pid.ptr = copy;
    to->tag.ptr = copy + to->pid.len;
    return true;
}

static void begin_life(struct pyn_request *r)
{
    static atomic_uint_fast64_t last_id;

    r->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
    r->job.lane = PYN_LANE_WORK;
    r->job.group = PYN_ANY_GROUP;
    atomic_init(&r->refs, 1);
    atomic_init(&r->answered, false);
    atomic_init(&r->off, false);
    atomic_init(&r->asking, 0);
    atomic_init(&r->interrupts, 0);
    atomic_init(&r->reached_at, 0);
}

struct pyn_request *pyn_request_new(struct pyn_link *link, struct pyn_block *block, const struct pyn_parsed *p,
                                    uint64_t now)
{
    struct pyn_request *r = malloc(sizeof(*r));

    if (!r)
        return NULL;
    *r = (struct pyn_request){
        .op = p->op,
        .arrived = now,
        .deadline = p->timeout_ms == PYN_NO_TIMEOUT ? PYN_NEVER : pyn_deadline_in(now, p->timeout_ms),
        .pins = p->op == PYN_OP_RUN && p->call.kind == PYN_CALL_EXEC,
        .outer_run = p->chain_run,
        .link = link,
        .block = block,
        .to = p->to,
        .home = p->home,
        .call = p->call,
    };
    if (p->call.async != PYN_CALL_PLAIN && !keep_reply_to(r)) {
        free(r);
        return NULL;
    }
    if (link)
        pyn_link_ref(link);
    if (block)
        pyn_block_ref(block);
    begin_life(r);
    if (p->call.use == PYN_USE_KEEP)
        r->call.stream = r->id;
    return r;
}

struct pyn_request *pyn_request_new_closer(void)
{
    struct pyn_request *r = malloc(sizeof(*r));

    if (!r)
        return NULL;
    *r = (struct pyn_request){.op = PYN_OP_CLOSE, .deadline = PYN_NEVER};
    begin_life(r);
    return r;
}

struct pyn_request *pyn_request_ref(struct pyn_request *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void pyn_request_unref(struct pyn_request *r)
{
    if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (r->gather)
        pyn_gather_unref(r->gather);
    if (r->link)
        pyn_link_unref(r->link);
    pyn_block_unref(r->block);
    pyn_context_unref(r->context);
    free(r->kept);
    free(r);
}

void pyn_request_release_block(struct pyn_request *r)
{
    pyn_block_unref(r->block);
    r->block = NULL;
    r->home = (struct pyn_span){NULL, 0};
    r->call = (struct pyn_call){.kind = r->call.kind, .async = r->call.async};
}

bool pyn_request_claim(struct pyn_request *r)
{
    return !atomic_exchange_explicit(&r->answered, true, memory_order_acq_rel);
}

struct pyn_outer pyn_request_outer(const struct pyn_request *r)
{
    return (struct pyn_outer){
        .deadline = r->deadline,
        .outer_run = r->outer_run,
        .context = r->context ? pyn_context_ref(r->context) : NULL,
        .depth = r->depth,
        .helps = r->job.helps,
    };
}
