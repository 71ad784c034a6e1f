/* Between svc/rpc.c (the table), svc/bridge.c (what Python asks), svc/tell.c (what it says without waiting) and
 * svc/notify.c (event loops that wait for answers). */
#ifndef PYN_SVC_RPC_PRIVATE_H
#define PYN_SVC_RPC_PRIVATE_H

#include <pthread.h>

#include "dist/loglimit.h"
#include "py/bridge.h"
#include "svc/service_private.h"

enum { PYN_RPC_BUCKETS = 4096 };

enum pyn_rpc_state { PYN_RPC_ASKED, PYN_RPC_ANSWERED, PYN_RPC_LOST };

/* Where the answers for one event loop are collected: an eventfd, and the requests that have theirs. Made and freed by
 * the loop's interpreter; the list is guarded by the table's lock. */
struct pyn_notify {
    struct pyn_pool_loop loop;
    struct pyn_worker *worker; /* the worker whose thread the loop runs on; NULL: a thread of Python's own */
    struct pyn_rpc *done, **done_end;
};

/* What others than the asker read (the guard, who reads messages) is set before it is in the table, or guarded. */
struct pyn_rpc {
    struct pyn_rpc *next; /* in the bucket */
    uint64_t id;
    atomic_uint refs; /* the asker's, and that of who is about to wake it */
    enum pyn_rpc_target target;
    struct pyn_link *link;     /* owned reference */
    struct pyn_request *run;   /* owned reference: the call that asks; NULL: a thread that belongs to none */
    bool beside;               /* a thread that the call's code has started asks: nothing is nested in the call */
    struct pyn_worker *worker; /* on whose thread the asker waits; NULL: any other thread, or a loop */
    struct pyn_loop *loop;     /* on whose thread the asker waits, so that no coroutine runs there; NULL: none */
    struct pyn_notify *notify; /* the loop that the asker is in; NULL: it waits */
    void *cookie;              /* the asker's own */
    bool late;                 /* a generator that was called off asks, in its `finally` */
    size_t frame;
    pthread_cond_t cond; /* for waiters that are no workers; with table->lock */

    /* guarded by table->lock */
    enum pyn_rpc_state state;
    struct pyn_rpc *next_done;
    struct pyn_block *block; /* owned reference: holds the reply */
    struct pyn_span reply;
};

struct pyn_rpc_table {
    struct pyn_service *service;
    struct pyn_bridge bridge;
    struct pyn_loglimit tells[PYN_TELL_TARGETS]; /* each with a lock of its own */
    atomic_uint_fast64_t tell_flushed;           /* when the last of these was flushed */
    atomic_bool tell_unsent;                     /* one of them is in the queue of the coordinator's link */
    pthread_mutex_t lock;                        /* guards all below; innermost but for links */
    struct pyn_rpc *buckets[PYN_RPC_BUCKETS];
    uint64_t last_id;
    unsigned count, max;
    bool closed;
};

/* Gives r its number and enters it; false: the table is full, or closed. */
bool pyn_rpc_insert(struct pyn_rpc_table *t, struct pyn_rpc *r);
/* Takes r out; true when it had no answer, and Erlang does not know yet that it needs none. */
bool pyn_rpc_withdraw(struct pyn_rpc_table *t, struct pyn_rpc *r);
void pyn_rpc_unref(struct pyn_rpc *r);
/* Tells Erlang that nobody waits for that answer any more. */
void pyn_rpc_call_off(struct pyn_rpc_table *t, struct pyn_link *l, enum pyn_rpc_target target, uint64_t id);
/* svc/tell.c: the functions of the bridge by these names (py/bridge.h), with t as their context. */
void pyn_tell_init(struct pyn_rpc_table *t);
void pyn_tell_destroy(struct pyn_rpc_table *t);
bool pyn_tell_admit(void *t, enum pyn_tell_target target, unsigned *dropped);
void pyn_tell_lost(void *t, enum pyn_tell_target target, unsigned count);
size_t pyn_tell_begin(void *t, enum pyn_tell_target target, struct pyn_out *out);
enum pyn_tell_result pyn_tell_end(void *t, enum pyn_tell_target target, size_t frame, struct pyn_out *out);
/* svc/notify.c: those named loop_*. */
struct pyn_notify *pyn_notify_open(void *t);
int pyn_notify_fd(void *t, struct pyn_notify *n);
struct pyn_rpc *pyn_notify_next(void *t, struct pyn_notify *n, void **cookie);
void pyn_notify_enter(void *t, struct pyn_notify *n);
void pyn_notify_serve(void *t, struct pyn_notify *n);
struct pyn_rpc *pyn_notify_cancel(void *t, struct pyn_notify *n, uint64_t id, void **cookie);
struct pyn_rpc *pyn_notify_abandon(void *t, struct pyn_notify *n, void **cookie);
void pyn_notify_close(void *t, struct pyn_notify *n);
/* svc/bridge.c: the functions that Python calls, with t as their context. */
struct pyn_bridge pyn_bridge_of(struct pyn_rpc_table *t);

#endif
