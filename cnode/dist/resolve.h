/* Looking up a host name without being held by it: the system's resolver takes as long as it likes and cannot be told
 * to stop, so it runs in a thread of its own that is left behind when the wait ends first. */
#ifndef PYN_DIST_RESOLVE_H
#define PYN_DIST_RESOLVE_H

#include "dist/net.h"

enum { PYN_RESOLVE_MAX = 4 };

/* Addresses of the host, IPv4 first, port 0. Returns how many there are (at most PYN_RESOLVE_MAX); 0 when there is
 * none or the wait ended, and then `reason` says what happened. */
PYN_MUSTCHECK unsigned pyn_resolve(const char *host, const struct pyn_wait *w,
                                   struct pyn_address found[PYN_RESOLVE_MAX], char *reason, size_t reason_size);

#endif
