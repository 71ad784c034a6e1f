/* Handshakes that are under way, by the peer's name: who wins when two nodes connect to each other at once.
 *
 * Both ends must come to the same decision without talking about it, so it is the one that every Erlang node makes:
 * of two crossing attempts, the one started by the node with the greater name lives. An accepting node whose own
 * attempt lives answers `nok`; one whose own attempt dies answers `ok_simultaneous` and gives its own up.
 *
 * Our attempt counts from the moment its TCP connection stands, not before: as long as nobody can hear us, the other
 * side's attempt must not be turned away. */
#ifndef PYN_DIST_PENDING_H
#define PYN_DIST_PENDING_H

#include <pthread.h>

#include "base/defs.h"

enum { PYN_NODE_NAME_MAX = 255 };

/* An accepted handshake; the memory belongs to the thread that shakes hands. */
struct pyn_pending_in {
    char peer[PYN_NODE_NAME_MAX + 1];
    struct pyn_pending_in *next;
    struct pyn_pending_in **link; /* NULL while it is not in the table */
};

struct pyn_pending {
    pthread_mutex_t lock; /* guards all below but self and cancel_fd, which never change */
    const char *self;     /* borrowed */
    int cancel_fd;        /* raised when our own attempt has lost */
    struct pyn_pending_in *in;
    unsigned in_count;
    bool out_active;
    char out[PYN_NODE_NAME_MAX + 1];
};

enum pyn_pending_verdict { PYN_PENDING_OK, PYN_PENDING_OK_SIMULTANEOUS, PYN_PENDING_NOK };

/* 0 or an errno. self: our node name, must live as long. */
PYN_MUSTCHECK int pyn_pending_init(struct pyn_pending *p, const char *self);
void pyn_pending_destroy(struct pyn_pending *p);

/* Our own attempt begins to count. false: that peer's handshake with us is under way already; give up. One attempt at
 * a time; each true is followed by pyn_pending_out_end. */
PYN_MUSTCHECK bool pyn_pending_out_begin(struct pyn_pending *p, const char *peer);
void pyn_pending_out_end(struct pyn_pending *p);

/* A peer told its name. Enters `in` into the table unless the verdict is NOK. */
PYN_MUSTCHECK enum pyn_pending_verdict pyn_pending_in_begin(struct pyn_pending *p, struct pyn_pending_in *in,
                                                            const char *peer);
/* Nothing when it is not in the table. */
void pyn_pending_in_end(struct pyn_pending *p, struct pyn_pending_in *in);
unsigned pyn_pending_in_count(struct pyn_pending *p);

#endif
