/* The state that the files of svc/ share. */
#ifndef PYN_SVC_SERVICE_PRIVATE_H
#define PYN_SVC_SERVICE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/out.h"
#include "svc/contexts.h"
#include "svc/deferred.h"
#include "svc/everywhere.h"
#include "svc/gather.h"
#include "svc/pins.h"
#include "svc/refused.h"
#include "svc/request.h"
#include "svc/rpc.h"
#include "svc/service.h"
#include "svc/streams.h"
#include "svc/touched.h"
#include "svc/watch.h"

/* Calls nested deeper than this (Python, Erlang, Python, ...) are refused, well before the C stack ends. */
enum { PYN_ESTIMATES = 1024, PYN_MAX_NESTING = 200, PYN_MAX_HELPERS = 200 };
/* Of threads that interrupt Python code, but run none. */
enum { PYN_INTERRUPTER_STACK = 1024 * 1024 };
/* The group of the main interpreter. */
enum { PYN_MAIN_GROUP = 0 };
/* What is run in interpreters that start later. */
enum { PYN_MAX_REMEMBERED = 1024, PYN_MAX_REMEMBERED_BYTES = 16 * 1024 * 1024 };

/* What a worker has on its desk: its seat in Python, the answer under way, the links that have unsent answers. */
struct pyn_desk {
    struct pyn_seat *seat;
    struct pyn_context *context; /* that the worker is bound to: a reference; the worker's own */
    struct pyn_out out;          /* the worker's own */
    atomic_uint interrupters; /* threads that are about to interrupt this seat; it is not closed before they are gone */
    struct pyn_touched touched; /* the links that have unsent answers */
};

struct pyn_service {
    struct pyn_service_config config;
    enum pyn_mode mode;
    struct pyn_links *links;
    struct pyn_pool *pool;
    struct pyn_watch *watch;
    struct pyn_rpc_table *rpc;
    struct pyn_deferred *deferred;
    struct pyn_pins *pins; /* NULL where there is one __main__ only */
    struct pyn_refused refused;
    struct pyn_remembered *remembered;
    unsigned max_groups; /* interpreters that there can ever be, the main one included */
    struct pyn_contexts contexts;
    struct pyn_streams *streams;
    uint64_t started;
    int fatal_fd;

    pthread_mutex_t ready_lock; /* guards node until ready; nothing is taken under it */
    pthread_cond_t ready_cond;
    struct pyn_node *node;
    atomic_bool ready;
    struct pyn_buf own_pid; /* written before ready */

    atomic_bool draining;
    atomic_uint admitted; /* requests that were taken and not disposed of yet */
    atomic_uint_fast64_t calls, errors, timeouts, interrupted, overloaded;
    atomic_uint_fast32_t estimates[PYN_ESTIMATES]; /* ns, by hash of module and function; collisions do no harm */

    /* guard.c */
    pthread_t guard;
    pthread_mutex_t guard_lock; /* guards guard_stop and the sleep; innermost */
    pthread_cond_t guard_cond;
    bool guard_started;
    bool guard_stop;
    atomic_bool guard_parked;
    _Atomic uint64_t guard_clock; /* ns that the watchdog has seen pass */
};

/* This node's pid as a term; there once the service is ready, and so whenever a message has come. */
static inline struct pyn_span pyn_service_pid(const struct pyn_service *s)
{
    return (struct pyn_span){s->own_pid.data, s->own_pid.len};
}

/* dispatch.c */
void pyn_dispatch_message(void *service, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block);
void pyn_dispatch_up(void *service, struct pyn_link *l);
void pyn_dispatch_down(void *service, struct pyn_link *l, const char *reason);
/* Counts a request in; false: it was refused, and its caller told so. Who has it disposes of it. */
bool pyn_dispatch_admit(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p);
/* The slot of the call's name in the table of durations. */
uint32_t pyn_dispatch_estimate(const struct pyn_call *call);
/* Sends a whole frame that stands in b, now. Empties b. */
void pyn_dispatch_send_now(struct pyn_link *l, struct pyn_out *o);

/* chain.c */
/* Gives a call that a callback makes to the worker that waits for the callback; it has no more time than that one, and
 * runs in its context. false: there is none, and it goes to the pool. */
PYN_MUSTCHECK bool pyn_chain_nest(struct pyn_service *s, struct pyn_request *r);
/* Until when the running call has time that this one is nested in; PYN_NEVER: no such call. helps: a thread of Python's
 * own may wait for it. */
uint64_t pyn_chain_deadline(struct pyn_service *s, const struct pyn_parsed *p, bool *helps);

/* run.c: the pool's operations. */
bool pyn_run_start(void *service, struct pyn_worker *w);
/* The request of that id, if a worker runs it now: a new reference. */
struct pyn_request *pyn_run_find(struct pyn_service *s, uint64_t id);
void pyn_run_stop(void *service, struct pyn_worker *w);
void pyn_run_free_desk(void *unused, struct pyn_worker *w);
void pyn_run_attach(void *service, struct pyn_worker *w);
void pyn_run_detach(void *service, struct pyn_worker *w);
void pyn_run_job(void *service, struct pyn_worker *w, struct pyn_job *job);
void pyn_run_flush(void *service, struct pyn_worker *w);
uint64_t pyn_run_estimate(void *service, struct pyn_job *job);
/* Something was sent to the link, and is flushed with the worker's answers. */
void pyn_run_touch(struct pyn_desk *d, struct pyn_link *l);
/* The request that the calling thread runs, and the worker that it is; NULL on threads of Python's own. */
struct pyn_request *pyn_run_current(void);
struct pyn_worker *pyn_run_worker(void);
/* Answers r with {error, Reason}, ok, or what `write` writes, at once, unless somebody else has. Any thread, attached
 * or not. true: it was for us to answer. */
bool pyn_run_answer(struct pyn_service *s, struct pyn_request *r, const char *error_reason);
bool pyn_run_answer_ok(struct pyn_service *s, struct pyn_request *r);
bool pyn_run_answer_with(struct pyn_service *s, struct pyn_request *r,
                         void (*write)(struct pyn_buf *b, const void *arg), const void *arg);
/* The same for who has claimed it. */
void pyn_run_send_error(struct pyn_service *s, struct pyn_request *r, const char *error_reason);
/* Ends the frame that was begun at `frame` and queues it, the answer to r, which the caller has claimed; says what is
 * wrong instead when it is too large. true: the link is to be flushed. */
PYN_MUSTCHECK bool pyn_run_queue_result(struct pyn_service *s, struct pyn_request *r, struct pyn_out *o, size_t frame);
/* For the statistics: a call has ended. */
void pyn_run_count(struct pyn_service *s, enum pyn_call_outcome outcome, bool interrupted);
/* The request has left the node's hands: gives the reference and the admission back. */
void pyn_run_dispose(struct pyn_service *s, struct pyn_request *r);

/* guard.c */
int pyn_guard_start(struct pyn_service *s);
void pyn_guard_stop(struct pyn_service *s);
/* A job begins: the watchdog must be awake. Cheap when it is. */
void pyn_guard_wake(struct pyn_service *s);
/* More of these than are allowed are stuck: the node has to end. */
void pyn_guard_end_node(struct pyn_service *s, const char *of_what);
/* How much later, in ns, a thread is said not to follow an interrupt, with all that runs beside it. Takes
 * deferred->lock. */
uint64_t pyn_guard_patience(struct pyn_service *s);
/* Ends requests that match, waiting and running; those that wait are answered with reason (NULL: not at all). true:
 * there were some. */
bool pyn_guard_cancel(struct pyn_service *s, bool (*match)(void *ctx, const struct pyn_request *r), void *ctx,
                      const char *reason);

/* streaming.c */
/* A request for items goes where its stream is. */
void pyn_streaming_route(struct pyn_service *s, struct pyn_request *r);
/* Whether w's interpreter has the stream that r asks; true for every other request. */
bool pyn_streaming_at_home(struct pyn_service *s, const struct pyn_request *r, const struct pyn_worker *w);
/* Around every request on its worker, attached; nothing but requests of streams are concerned. _begin false: it was
 * answered, and is not to be run. _end comes before the answer is sent, as the next request may follow that at once;
 * delivered: the answer will be sent. */
PYN_MUSTCHECK bool pyn_streaming_begin(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r);
void pyn_streaming_end(struct pyn_service *s, struct pyn_worker *w, struct pyn_request *r,
                       enum pyn_call_outcome outcome, bool delivered);
/* Ends all streams that match. Any thread. */
void pyn_streaming_shut(struct pyn_service *s, const struct pyn_streams_match *match);
/* Ends the stream, and what is asked of it with {error, interrupted}. */
void pyn_streaming_close(struct pyn_service *s, uint64_t number);
/* r sends messages while it runs, which may have to be flushed by others. */
bool pyn_streaming_sends(const struct pyn_request *r);
/* See py/bridge.h. The context is the table of requests to the coordinator. */
size_t pyn_streaming_item_begin(void *table, struct pyn_out *out);
void pyn_streaming_item_send(void *table, size_t frame, struct pyn_out *out);
void pyn_streaming_item_flush(void *table);

/* admin.c */
/* {ok, Facts}, and the map Facts alone. */
void pyn_admin_write_info(struct pyn_service *s, struct pyn_buf *b);
void pyn_admin_write_facts(struct pyn_service *s, struct pyn_buf *b);

#endif
