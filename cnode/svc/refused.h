/* Modules that sub-interpreters refused: calls to them go to the main interpreter at once. Grows up to a maximum; what
 * is not in it is found out anew at each call. Own mutex, innermost; asking an empty set takes no lock. Any thread. */
#ifndef PYN_SVC_REFUSED_H
#define PYN_SVC_REFUSED_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/defs.h"

enum { PYN_REFUSED_MAX = 256 };

struct pyn_refused {
    pthread_mutex_t lock;
    atomic_uint count;
    struct {
        uint8_t *name; /* owned */
        size_t len;
    } modules[PYN_REFUSED_MAX];
};

void pyn_refused_init(struct pyn_refused *r);
void pyn_refused_free(struct pyn_refused *r);
/* true when the name was not known yet. */
bool pyn_refused_add(struct pyn_refused *r, struct pyn_span name);
bool pyn_refused_has(struct pyn_refused *r, struct pyn_span name);

#endif
