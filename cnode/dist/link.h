/* One connection to a peer after its handshake: framing, read-ahead, batched writes, ticks.
 *
 * Reading: only the thread whose turn it is to read (the one inside pyn_links_poll). Sending: any thread.
 * A link is counted: the table of links holds one reference, every request that came over it one more; the socket
 * is closed by whoever takes it down, the memory goes with the last reference. */
#ifndef PYN_DIST_LINK_H
#define PYN_DIST_LINK_H

#include "base/block.h"
#include "base/out.h"
#include "dist/control.h"

struct pyn_link;

struct pyn_link *pyn_link_ref(struct pyn_link *l);
void pyn_link_unref(struct pyn_link *l);

/* The peer's node name; lives as long as the link. */
const char *pyn_link_peer(const struct pyn_link *l);
/* A number that no other link of this process has or had. */
uint64_t pyn_link_id(const struct pyn_link *l);
/* The capability flags that the peer announced (DFLAG_*). */
uint64_t pyn_link_peer_flags(const struct pyn_link *l);
/* false once the connection is lost or closed; then sends are dropped silently. */
bool pyn_link_is_up(const struct pyn_link *l);

/* Queues whole frames for the peer and empties `o` (steals its bytes or copies them, takes over foreign stretches).
 * Nothing is written before pyn_link_flush. true also when the link is down (the bytes have nobody to go to).
 * false: more than the configured maximum is waiting already; the message is kept by the caller and the peer is too
 * slow. `must` = true queues regardless (replies: what they answer was admitted, so they are bounded by admission).
 * An empty one is no message: nothing is sent. One that failed is not sent either, and logged.
 * No lock of the caller's may be held. */
PYN_MUSTCHECK bool pyn_link_send(struct pyn_link *l, struct pyn_out *o, bool must);

/* The same for a message that may be lost, whose sender must never wait: false when more than `most` bytes are waiting;
 * the message is kept by the caller. Attached to Python or not, under no lock. */
PYN_MUSTCHECK bool pyn_link_offer(struct pyn_link *l, struct pyn_out *o, size_t most);

/* Writes what waits, as much as the socket takes without blocking, many messages in one call; the rest goes out when
 * the socket is writable again. Whoever is there writes: when another thread is writing, it takes ours along. */
void pyn_link_flush(struct pyn_link *l);

/* Takes the link down for a reason that goes to the log; the reading thread notices and calls on_down. Any thread. */
void pyn_link_close(struct pyn_link *l, const char *reason);

#endif
