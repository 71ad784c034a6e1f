/* Tracing: which span is open where. Spans themselves are Python's (lib/_pynode_tracing.py); here is what carries them
 * across calls. A span is a number that is never 0. All but pyn_trace_on: attached.
 *
 * The open span is the value of a context variable, so it follows threads and coroutines as Python's own do. It goes
 * to Erlang with each request (svc/bridge.c) and comes back with the calls that a callback makes. */
#ifndef PYN_PY_TRACE_H
#define PYN_PY_TRACE_H

#include "base/defs.h"

struct pyn_types;

/* One switch for all interpreters: Python turns it (erlang._tracing). Any thread. */
bool pyn_trace_on(void);
void pyn_trace_switch(bool on);

/* The span that is open where the calling thread is; 0: none. No exception is left. */
int64_t pyn_trace_current(void);

/* A request begins, whose caller has that span open (0: none): what was open on this thread before is none of its
 * parents. Returns what leave wants; it is NULL while tracing is off. No exception is left. */
void *pyn_trace_enter(struct pyn_types *ty, int64_t span);
/* Steals. An exception that is set stays. */
void pyn_trace_leave(struct pyn_types *ty, void *mark);

#endif
