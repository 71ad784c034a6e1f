/* Links that have unsent answers of one thread: they are flushed together. */
#ifndef PYN_SVC_TOUCHED_H
#define PYN_SVC_TOUCHED_H

#include <pthread.h>

#include "dist/link.h"

enum { PYN_TOUCHED = 8 };

struct pyn_touched {
    pthread_mutex_t lock;                /* guards the rest; innermost */
    struct pyn_link *links[PYN_TOUCHED]; /* a reference each */
    unsigned count;
};

void pyn_touched_init(struct pyn_touched *t);
void pyn_touched_fini(struct pyn_touched *t);
/* Something waits in the link; it is flushed at once when the list is full. */
void pyn_touched_add(struct pyn_touched *t, struct pyn_link *l);
/* Takes the list and flushes; whoever comes first does it. */
void pyn_touched_flush(struct pyn_touched *t);

#endif
