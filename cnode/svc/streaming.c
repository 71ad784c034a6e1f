/* Streams on their way between requests, the table (svc/streams.h) and Python (py/stream.h).
 *
 * Nothing flows unasked: the owner asks for so many items, an ordinary request with its deadline, and a stream that
 * nobody asks occupies no worker. Each item is a message of its own, so that none waits for the next one, which may
 * take its time; the answer says how many they were. When it does not reach who asked, because it came too late or
 * nobody waits any more, an item may be lost: then the stream ends. */
#include "base/log.h"
#include "etf/writer.h"
#include "svc/rpc_private.h"

/* Time for the `finally` of a generator; then it is interrupted. */
#define CLOSE_TIME (5 * PYN_SECOND)

static bool opens(const struct pyn_request *r)
{
    return r->call.use == PYN_USE_KEEP;
}

static bool pulls(const struct pyn_request *r)
{
    return r->call.kind == PYN_CALL_STREAM_NEXT;
}

void pyn_streaming_route(struct pyn_service *s, struct pyn_request *r)
{
    struct pyn_stream_place place;

    if (pyn_streams_find(s->streams, r->call.stream, &place) != PYN_STREAM_FREE)
        return; /* whoever runs it says so, at once */
    if (place.context != 0 && !(r->context = pyn_contexts_find(&s->contexts, place.context)))
        return; /* it is about to be closed */
    if (s->pins)
        r->job.group = place.group;
    r->job.only = place.only;
    r->estimate = place.estimate;
}

bool pyn_streaming_at_home(struct pyn_service *s, const struct pyn_request *r, const struct pyn_worker *w)
{
    return !pulls(r) || !s->pins || r->job.group == w->group;
}

/* A stream that was opened in a context stays with its worker; but for a module that is called in the main
 * interpreter. */
static struct pyn_stream_place place_of(struct pyn_worker *w, const struct pyn_request *r)
{
    const struct pyn_desk *d = w->seat;
    bool bound = r->context && r->context == d->context;

    return (struct pyn_stream_place){
        .group = w->group,
        .estimate = (r->estimate + 1) % PYN_ESTIMATES,
        .context = bound ? r->context->id : 0,
        .only = bound ? w : NULL,
    };
}

/* The owner's death has to be noticed from the beginning on. NULL, or why it cannot be. */
static const char *open_stream(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    const struct pyn_stream_place place = place_of(w, r);

    if (r->to.pid.len == 0)
        return "no_owner"; /* a cast: nobody could ask for an item */
    if (!pyn_watch_add(s->watch, s->node, pyn_service_pid(s), r->link, r->to.pid))
        return "too_many_streams";
    if (!pyn_streams_add(s->streams, r->call.stream, &place, pyn_link_id(r->link), r->to.pid))
        return atomic_load(&s->draining) ? "stopping" : "too_many_streams";
    return NULL;
}

/* One that was busy when the request came may be free by now, but not here. */
static const char *take_stream(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    struct pyn_stream_place place;
    enum pyn_stream_state state = pyn_streams_find(s->streams, r->call.stream, &place);

    if (r->to.pid.len == 0)
        return "no_owner";
    if (state == PYN_STREAM_FREE && s->pins && place.group != w->group)
        state = PYN_STREAM_BUSY;
    if (state == PYN_STREAM_FREE)
        state = pyn_streams_take(s->streams, r->call.stream);
    if (state == PYN_STREAM_FREE)
        return NULL;
    return state == PYN_STREAM_BUSY ? "stream_busy" : "no_such_stream";
}

/* Its time is that of the `finally` alone, however long it has waited for a worker. */
static void begin_closing(struct pyn_worker *w, struct pyn_request *r)
{
    pthread_mutex_lock(&w->lock); /* the watchdog reads it there */
    r->deadline = pyn_deadline_in(pyn_now(), CLOSE_TIME / PYN_MS);
    pthread_mutex_unlock(&w->lock);
}

bool pyn_streaming_begin(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r)
{
    const char *refusal = NULL;

    if (opens(r))
        refusal = open_stream(s, w, r);
    else if (pulls(r))
        refusal = take_stream(s, w, r);
    else if (r->call.kind == PYN_CALL_STREAM_CLOSE)
        begin_closing(w, r);
    if (refusal)
        pyn_run_answer(s, r, refusal);
    return !refusal;
}

/* As a request of the node to itself, so that it is seen by who looks at what runs. It may be nested in whatever a
 * worker waits for: the owner of what the generator holds should not have to wait for strangers. */
static void close_stream(struct pyn_service *s, uint64_t number, const struct pyn_stream_place *place)
{
    const struct pyn_parsed p = {
        .op = PYN_OP_RUN,
        .call = {.kind = PYN_CALL_STREAM_CLOSE, .stream = number},
        .timeout_ms = PYN_NO_TIMEOUT,
    };
    struct pyn_request *r = pyn_request_new(NULL, NULL, &p, pyn_now());

    if (!r) {
        pyn_log(PYN_ERROR, "stream", "out of memory: a stream is not closed");
        return;
    }
    atomic_fetch_add(&s->admitted, 1);
    r->job.group = place->group;
    r->job.only = place->only;
    r->job.nests = !place->only;
    pyn_pool_push(s->pool, &r->job);
}

static enum pyn_stream_give outcome_of(const struct pyn_request *r, enum pyn_call_outcome outcome, bool delivered)
{
    if (outcome == PYN_CALL_REFUSED)
        return PYN_STREAM_GONE;
    /* Also what has ended: Python may have been interrupted while it closed it. */
    if (!delivered || (r->context && pyn_context_is_over(r->context)))
        return PYN_STREAM_FAILS;
    if (outcome == PYN_CALL_ENDED || (opens(r) && outcome == PYN_CALL_ERROR))
        return PYN_STREAM_GONE;
    return outcome == PYN_CALL_ERROR ? PYN_STREAM_FAILS : PYN_STREAM_LIVES;
}

void pyn_streaming_end(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r,
                       enum pyn_call_outcome outcome, bool delivered)
{
    const struct pyn_stream_place place = place_of(w, r);

    if ((opens(r) || pulls(r)) && pyn_streams_give(s->streams, r->call.stream, outcome_of(r, outcome, delivered)))
        close_stream(s, r->call.stream, &place);
}

void pyn_streaming_shut(struct pyn_service *s, const struct pyn_streams_match *match)
{
    struct pyn_stream_place place;
    uint64_t number;

    while (pyn_streams_end(s->streams, match, &number, &place))
        close_stream(s, number, &place);
}

static bool is_of(void *ctx, const struct pyn_request *r)
{
    return pulls(r) && r->call.stream == *(const uint64_t *)ctx;
}

void pyn_streaming_close(struct pyn_service *s, uint64_t number)
{
    pyn_streaming_shut(s, &(struct pyn_streams_match){.number = number});
    pyn_guard_cancel(s, is_of, &number, "interrupted");
}

/* ---- items: functions of the bridge ---- */

/* {py_item, Stream, Item} */
size_t pyn_streaming_item_begin(void *table, struct pyn_out *out)
{
    const struct pyn_request *r = pyn_run_current();
    size_t frame = pyn_frame_send(&out->buf, r->to.pid);

    (void)table;
    pyn_write_tuple(&out->buf, 3);
    pyn_write_atom(&out->buf, "py_item");
    pyn_write_int(&out->buf, (int64_t)r->call.stream);
    return frame;
}

/* Nobody who does not read gets much: there was a request for it. */
void pyn_streaming_item_send(void *table, size_t frame, struct pyn_out *out)
{
    const struct pyn_request *r = pyn_run_current();

    (void)table;
    pyn_frame_end(&out->buf, frame, out->ext_bytes);
    if (pyn_link_send(r->link, out, true))
        pyn_run_touch(pyn_run_worker()->seat, r->link);
}

void pyn_streaming_item_flush(void *table)
{
    pyn_run_flush(((struct pyn_rpc_table *)table)->service, pyn_run_worker());
}

bool pyn_streaming_sends(const struct pyn_request *r)
{
    return pulls(r);
}
