/* Being told to stop: SIGTERM and SIGINT become a readable descriptor.
 *
 * Handlers, not a signal mask with a signalfd: a mask would be inherited by every program that Python code starts.
 * Signal dispositions belong to the whole process, so there is one set of them and the state is the file's own. */
#ifndef PYN_APP_SIGNALS_H
#define PYN_APP_SIGNALS_H

#include "base/defs.h"

/* Ignores SIGPIPE (a peer that leaves with answers on the way raises it) and catches SIGTERM and SIGINT. The first of
 * them makes the returned descriptor readable; the second one ends the process at once with `hurry_code`, without any
 * clean-up. -1: the system refused, errno says why. To be called once, before Python starts (which must not install
 * handlers of its own). */
PYN_MUSTCHECK int pyn_signals_install(int hurry_code);
/* The signal that came first; 0 while none has. Any thread. */
int pyn_signals_caught(void);
/* Back to how it was before pyn_signals_install; closes the descriptor. For tests, and the end of the program. */
void pyn_signals_restore(void);

#endif
