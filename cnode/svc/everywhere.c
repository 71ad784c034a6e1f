#include "svc/everywhere.h"

#include <stdlib.h>

#include "base/log.h"
#include "etf/reader.h"
#include "etf/writer.h"
#include "py/space.h"
#include "svc/service_private.h"

/* ---- a request ---- */

/* What is needed to give it to all; freed at its end. */
struct plan {
    const struct pyn_parsed *parsed;
    struct pyn_entry *entry; /* owned until a gather takes it */
    int *groups;
    unsigned count;
    struct pyn_request **children; /* count of them, a reference each */
};

static void write_too_much(struct pyn_buf *b, const char *what, uint64_t max)
{
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "error");
    pyn_write_tuple(b, 3);
    pyn_write_atom(b, "too_much_remembered");
    pyn_write_atom(b, what);
    pyn_write_int(b, (int64_t)max);
}

/* Answers without a call of Python: {ok, []} or that it cannot be remembered. Gives the admission back. */
static void answer(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p, enum pyn_remember why)
{
    struct pyn_out o;
    size_t frame;

    atomic_fetch_sub(&s->admitted, 1);
    if (p->to.pid.len == 0)
        return;
    pyn_out_init(&o, s->config.max_frame);
    frame = pyn_proto_begin_reply(&o.buf, &p->to, pyn_service_pid(s));
    if (why == PYN_REMEMBER_TOO_MANY) {
        write_too_much(&o.buf, "entries", PYN_MAX_REMEMBERED);
    } else if (why == PYN_REMEMBER_TOO_LARGE) {
        write_too_much(&o.buf, "bytes", PYN_MAX_REMEMBERED_BYTES);
    } else if (why == PYN_REMEMBER_NO_MEMORY) {
        pyn_proto_write_exception(&o.buf, "MemoryError", "the node is out of memory");
    } else {
        pyn_write_tuple(&o.buf, 2);
        pyn_write_atom(&o.buf, "ok");
        pyn_write_nil(&o.buf);
    }
    pyn_frame_end(&o.buf, frame, 0);
    pyn_dispatch_send_now(l, &o);
}

static enum pyn_remember remember(struct pyn_service *s, struct plan *plan)
{
    const struct pyn_parsed *p = plan->parsed;

    if (p->remember.len > 0)
        return pyn_remembered_add(s->remembered, p->remember, &p->call, &plan->entry, plan->groups, &plan->count);
    plan->count = pyn_remembered_groups(s->remembered, plan->groups);
    return PYN_REMEMBER_OK;
}

/* Interpreters that nobody will come from are left out. */
static void leave_out_stuck(struct pyn_service *s, struct plan *plan)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < plan->count; i++) {
        if (pyn_pool_has_group(s->pool, plan->groups[i], false))
            plan->groups[kept++] = plan->groups[i];
        else if (plan->entry)
            pyn_remembered_missed(s->remembered, plan->entry, plan->groups[i]);
    }
    plan->count = kept;
}

static bool make_children(struct pyn_service *s, struct plan *plan, struct pyn_link *l, struct pyn_block *block)
{
    uint64_t now = pyn_now();
    bool helps;
    uint64_t outer = pyn_chain_deadline(s, plan->parsed, &helps);

    plan->children = calloc(plan->count + 1, sizeof(struct pyn_request *));
    for (unsigned i = 0; plan->children && i < plan->count; i++) {
        struct pyn_request *r = pyn_request_new(l, block, plan->parsed, now);
        if (!r)
            return false;
        plan->children[i] = r;
        r->pins = false;
        r->estimate = pyn_dispatch_estimate(&r->call);
        r->deadline = outer < r->deadline ? outer : r->deadline;
        r->job.group = plan->groups[i];
        r->job.nests = true;
        r->job.helps = helps;
    }
    return plan->children != NULL;
}

/* true: the admission and the entry have gone to the children. */
static bool give_out(struct pyn_service *s, struct plan *plan, struct pyn_link *l, struct pyn_block *block)
{
    struct pyn_gather *g = NULL;

    if (make_children(s, plan, l, block))
        g = pyn_gather_new(s, l, block, &plan->parsed->to, plan->entry, plan->count);
    if (!g)
        return false;
    plan->entry = NULL;
    pyn_guard_wake(s); /* for who waits inside a loop nothing else may begin before its time is over */
    if (plan->count == 0) {
        pyn_gather_finish(g);
        pyn_gather_discharge(g);
    }
    for (unsigned i = 0; i < plan->count; i++)
        pyn_gather_adopt(g, plan->children[i], i);
    for (unsigned i = 0; i < plan->count; i++) {
        struct pyn_request *r = plan->children[i];
        plan->children[i] = NULL;
        pyn_pool_push(s->pool, &r->job);
    }
    pyn_gather_unref(g);
    return true;
}

static void drop_plan(struct pyn_service *s, struct plan *plan)
{
    for (unsigned i = 0; plan->children && i < plan->count; i++)
        if (plan->children[i])
            pyn_request_unref(plan->children[i]);
    if (plan->entry) {
        pyn_remembered_settle(s->remembered, plan->entry, false);
        pyn_entry_unref(plan->entry);
    }
    free(plan->children);
    free(plan->groups);
}

void pyn_everywhere_run(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p, struct pyn_block *block)
{
    struct plan plan = {.parsed = p};
    enum pyn_remember result = PYN_REMEMBER_NO_MEMORY;

    if (!pyn_dispatch_admit(s, l, p))
        return;
    if (p->replay && pyn_remembered_has(s->remembered, p->remember, &p->call)) {
        answer(s, l, p, PYN_REMEMBER_OK);
        return;
    }
    plan.groups = calloc(s->max_groups, sizeof(int));
    if (plan.groups)
        result = remember(s, &plan);
    if (result == PYN_REMEMBER_OK) {
        leave_out_stuck(s, &plan);
        if (!give_out(s, &plan, l, block))
            result = PYN_REMEMBER_NO_MEMORY;
    }
    if (result != PYN_REMEMBER_OK)
        answer(s, l, p, result);
    drop_plan(s, &plan);
}

/* ---- what an interpreter has missed ---- */

/* The exception in {error, {Type, Message}}, as far as it is plain text. */
static void log_failure(const struct pyn_worker *w, const struct pyn_entry *e, const struct pyn_out *out)
{
    struct pyn_reader r = pyn_reader_of((struct pyn_span){out->buf.data, out->buf.len});
    struct pyn_span word, type = {0};
    struct pyn_token text = {0};
    uint32_t arity;

    if (pyn_read_tuple(&r, &arity) && pyn_read_atom(&r, &word) && pyn_read_tuple(&r, &arity) &&
        pyn_read_atom(&r, &type) && !pyn_read_kind(&r, PYN_T_STRING, &text))
        text.bytes.len = 0;
    pyn_log(PYN_WARNING, "everywhere", "interp=%d key=%.*s failed in this interpreter: %.*s: %.*s", w->group,
            (int)e->key.len, (const char *)e->key.ptr, (int)type.len, (const char *)type.ptr,
            (int)(text.bytes.len < 1000 ? text.bytes.len : 1000), (const char *)text.bytes.ptr);
}

/* Attached. */
static void run_missed(struct pyn_service *s, struct pyn_worker *w, struct pyn_entry *e, uint64_t serial)
{
    struct pyn_desk *d = w->seat;
    enum pyn_call_outcome outcome;
    struct pyn_mark outer;
    struct pyn_out out;
    bool outer_space;

    pyn_out_init(&out, s->config.max_frame);
    outer = pyn_seat_begin(d->seat, serial);
    outer_space = pyn_space_use(d->seat, false);
    outcome = pyn_call_run(d->seat, &e->call, &out);
    (void)pyn_space_use(d->seat, outer_space);
    if (pyn_seat_end(d->seat, outer)) {
        pyn_log(PYN_WARNING, "everywhere", "interp=%d key=%.*s was interrupted: it is run once more later", w->group,
                (int)e->key.len, (const char *)e->key.ptr);
        pyn_remembered_missed(s->remembered, e, w->group);
    } else if (outcome != PYN_CALL_OK) {
        log_failure(w, e, &out);
    } else {
        pyn_log(PYN_DEBUG, "everywhere", "interp=%d key=%.*s was run", w->group, (int)e->key.len,
                (const char *)e->key.ptr);
    }
    pyn_out_free(&out);
}

void pyn_everywhere_start(struct pyn_service *s, struct pyn_worker *w)
{
    struct pyn_seat *seat = ((struct pyn_desk *)w->seat)->seat;
    struct pyn_entry *e;

    pyn_remembered_enter(s->remembered, w->group);
    while ((e = pyn_remembered_next(s->remembered, w->group))) {
        pyn_seat_attach(seat);
        run_missed(s, w, e, UINT64_MAX); /* the serial of no request: nobody interrupts it */
        pyn_seat_detach(seat);
        pyn_entry_unref(e);
    }
}

void pyn_everywhere_catch_up(struct pyn_service *s, struct pyn_worker *w, const struct pyn_request *r)
{
    struct pyn_entry *e;

    while (!pyn_request_is_answered(r) && (e = pyn_remembered_next(s->remembered, w->group))) {
        run_missed(s, w, e, r->id);
        pyn_entry_unref(e);
        w->now = pyn_now();
    }
}
