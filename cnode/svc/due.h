/* Requests in the order of their deadlines: a heap of pointers, so that the next one is found at once and ten thousand
 * of them cost nothing until then. No lock: the owner's guards it. A request is in one heap at most (late.due). */
#ifndef PYN_SVC_DUE_H
#define PYN_SVC_DUE_H

#include "svc/request.h"

struct pyn_due {
    struct pyn_request **at; /* from 1 on; owned array of borrowed pointers */
    unsigned count, max;
};

/* Room for max requests. false: out of memory. */
PYN_MUSTCHECK bool pyn_due_init(struct pyn_due *d, unsigned max);
void pyn_due_free(struct pyn_due *d);
/* One with no deadline (PYN_NEVER) is not entered. No more than the maximum may be in it. */
void pyn_due_add(struct pyn_due *d, struct pyn_request *r);
/* One that is not in it is no error. */
void pyn_due_remove(struct pyn_due *d, struct pyn_request *r);
/* The one with the earliest deadline, or NULL. */
static inline struct pyn_request *pyn_due_first(const struct pyn_due *d)
{
    return d->count > 0 ? d->at[1] : NULL;
}

#endif
