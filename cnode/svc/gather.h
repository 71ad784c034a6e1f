/* One request that runs in every interpreter: a child request for each, whose results are collected here. The last one
 * sends {Tag, {ok, [{Interpreter, Result}, ...]}}.
 *
 * Counted: each child has a reference. The gather holds the caller's link and the block that the request came in, and
 * one place in the count of admitted requests until its last child has left, and goes with the last reference: what a
 * thread that a child has started asks of Erlang may still refer to that child. Children have the caller's address, so
 * what ends the caller's requests (deadline, cancel, death, a lost link) ends them; a child that ends without a result
 * (nobody waits any more) leaves the answer unsent. Any thread. */
#ifndef PYN_SVC_GATHER_H
#define PYN_SVC_GATHER_H

#include "base/out.h"
#include "svc/proto.h"
#include "svc/remembered.h"

struct pyn_block;
struct pyn_gather;
struct pyn_link;
struct pyn_request;
struct pyn_service;

/* One reference, the caller's. On success it steals the reference on entry (NULL: nothing is remembered) and the place
 * in the count of admitted requests. NULL: out of memory. */
struct pyn_gather *pyn_gather_new(struct pyn_service *s, struct pyn_link *link, struct pyn_block *block,
                                  const struct pyn_reply_to *to, struct pyn_entry *entry, unsigned children);
/* Makes r, which runs in r->job.group, child `slot`: it holds a reference from now on. */
void pyn_gather_adopt(struct pyn_gather *g, struct pyn_request *r, unsigned slot);
void pyn_gather_unref(struct pyn_gather *g);

/* The child's result: what stands in `out` (which stays the caller's), or {error, reason}. Once for each child, by who
 * has claimed it. */
void pyn_gather_put(struct pyn_request *r, const struct pyn_out *out, bool ok);
void pyn_gather_put_error(struct pyn_request *r, const char *reason);
/* All results are there: the answer goes out. */
void pyn_gather_finish(struct pyn_gather *g);
/* The place among the admitted is given back. */
void pyn_gather_discharge(struct pyn_gather *g);
/* The child leaves, run or not. */
void pyn_gather_leave(struct pyn_request *r);

#endif
