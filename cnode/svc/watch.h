/* Monitors of callers: their death ends their calls and frees what is kept for them.
 *
 * A monitor costs a message each way, so only callers whose calls take long, and those that have state here, are
 * watched. One entry per process. Own mutex, under which only links are sent to. Any thread. */
#ifndef PYN_SVC_WATCH_H
#define PYN_SVC_WATCH_H

#include "dist/link.h"
#include "dist/node.h"

struct pyn_watch;

/* At most max processes are watched at once; further ones are not (their calls end by their timeout). */
struct pyn_watch *pyn_watch_new(unsigned max);
void pyn_watch_free(struct pyn_watch *w);

/* Watches the process; keeps it watched until it dies or its link goes. false: the maximum is reached. */
bool pyn_watch_add(struct pyn_watch *w, struct pyn_node *node, struct pyn_span own_pid, struct pyn_link *link,
                   struct pyn_span pid);
/* MONITOR_P_EXIT with that reference came: the dead pid's bytes go to *pid (owned by the caller, init'ed by us). false:
 * not one of ours. */
bool pyn_watch_exit(struct pyn_watch *w, struct pyn_span ref, struct pyn_buf *pid);
/* Forgets all processes of that link. */
void pyn_watch_forget_link(struct pyn_watch *w, uint64_t link_id);
unsigned pyn_watch_count(struct pyn_watch *w);

#endif
