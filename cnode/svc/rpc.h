/* Requests of Python code to Erlang: the table of those under way, and the bridge (py/bridge.h) in front of it.
 *
 * To the coordinator, by REG_SEND:
 *     py_callback ! {py_rpc, Id, Pid, Chain, Timeout, {Name, Args}}
 *     py_state    ! {py_rpc, Id, Pid, Chain, Timeout, Operation}
 *     either      ! {py_rpc_cancel, Id, Pid}                      nobody waits any more
 * Pid is this node's, Chain = {Interpreter, Run, Depth} names the call that asks (Run 0: a thread of Python's own) and
 * says in how many others it is nested; when a span is open (py/trace.h) it is {Interpreter, Run, Depth, Span}. Timeout
 * is what is left of its time in milliseconds, or infinity. The answer, from whatever node, is sent to Pid:
 *     {py_reply, Id, {ok, Value} | {error, Reason}}
 *     {py_replies, [{py_reply, Id, ...}, ...]}                    several at once
 *
 * Chain goes into the options of a py call that the callback makes, {chain, Chain}: such a call runs on the thread that
 * waits for the callback.
 *
 * Lock: rpc->lock guards the table and each request's state; taken under pool->lock (ready), so nothing is called
 * under it. */
#ifndef PYN_SVC_RPC_H
#define PYN_SVC_RPC_H

#include "base/block.h"
#include "dist/link.h"
#include "etf/reader.h"

struct pyn_request;
struct pyn_service;
struct pyn_rpc_table;

struct pyn_rpc_table *pyn_rpc_table_new(struct pyn_service *s, unsigned max);
/* The node stops: all that is asked, now or later, has no answer. */
void pyn_rpc_table_close(struct pyn_rpc_table *t);
void pyn_rpc_table_free(struct pyn_rpc_table *t);

/* One of these came. false: it is no reply. On the polling thread. */
bool pyn_rpc_reply(struct pyn_rpc_table *t, struct pyn_span payload, struct pyn_block *block);
/* The link is gone: what was asked over it has no answer any more. NULL: all links. */
void pyn_rpc_link_down(struct pyn_rpc_table *t, const struct pyn_link *l);
/* The call has ended before its time: who waits for something on its behalf is told, and so is Erlang. The worker
 * itself may be busy with a call that is nested there, which ends when Erlang knows. */
void pyn_rpc_run_ended(struct pyn_rpc_table *t, const struct pyn_request *run);
/* The request, whose coroutine runs on an event loop, was called off: loops' threads that wait for something on its
 * behalf are told. */
void pyn_rpc_coroutine_ended(struct pyn_rpc_table *t, const struct pyn_request *run);
/* svc/tell.c: what Python has told the coordinator goes out, if it has not yet. By the watchdog, while calls run. */
void pyn_tell_flush(struct pyn_rpc_table *t);

#endif
