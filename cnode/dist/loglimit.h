/* So many log lines in a stretch of time, and then a count of those that were left out: a flood of bad clients must not
 * flood the log. */
#ifndef PYN_DIST_LOGLIMIT_H
#define PYN_DIST_LOGLIMIT_H

#include <pthread.h>

#include "base/defs.h"

struct pyn_loglimit {
    pthread_mutex_t lock; /* guards all below */
    unsigned most;        /* lines in one window */
    uint64_t window;      /* nanoseconds */
    uint64_t ends;        /* end of the current window */
    unsigned lines;       /* in it */
    unsigned dropped;     /* since the last line */
};

void pyn_loglimit_init(struct pyn_loglimit *l, unsigned most, uint64_t window);
void pyn_loglimit_destroy(struct pyn_loglimit *l);
/* true when a line may be written now; *dropped then is the number of lines left out since the last one. Any thread. */
PYN_MUSTCHECK bool pyn_loglimit_take(struct pyn_loglimit *l, uint64_t now, unsigned *dropped);
/* So many more lines were left out, for another reason: they count with the others. Any thread. */
void pyn_loglimit_lost(struct pyn_loglimit *l, unsigned lines);
/* The number of lines left out, when their window is over, else 0; it is not told again. Any thread. */
PYN_MUSTCHECK unsigned pyn_loglimit_flush(struct pyn_loglimit *l, uint64_t now);

#endif
