/* Calls that run in every interpreter: {call_all, ...} and {exec_all, ...}.
 *
 * In mode subinterp that is each worker's interpreter and the main one, else there is one. An interpreter whose workers
 * are all stuck is left out. With a key to remember it by, the call is also run in interpreters that start later, and
 * in those that were left out or did not come to it in time, before they run anything else. What has worked nowhere is
 * not remembered. */
#ifndef PYN_SVC_EVERYWHERE_H
#define PYN_SVC_EVERYWHERE_H

#include "dist/link.h"
#include "svc/proto.h"

struct pyn_request;
struct pyn_service;
struct pyn_worker;

/* A request of that kind came: admits it and gives it to all. On the polling thread. */
void pyn_everywhere_run(struct pyn_service *s, struct pyn_link *l, const struct pyn_parsed *p, struct pyn_block *block);
/* The worker has an interpreter: runs what that has missed. On the worker's thread, detached, before its first job. */
void pyn_everywhere_start(struct pyn_service *s, struct pyn_worker *w);
/* The same before the job r, whose time it is. Attached. */
void pyn_everywhere_catch_up(struct pyn_service *s, struct pyn_worker *w, const struct pyn_request *r);

#endif
