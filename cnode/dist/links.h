/* All links of the node, and the turn of reading them.
 *
 * Threads: pyn_links_poll by one thread at a time (the caller passes the turn on; nothing is kept in thread-local
 * state, so that any thread may take the next turn). pyn_links_wake, _add, _find, _count by any thread. The callbacks
 * run on the polling thread without any lock of dist/ held; they may send, flush and close, but not poll or pass the
 * turn on. */
#ifndef PYN_DIST_LINKS_H
#define PYN_DIST_LINKS_H

#include "dist/link.h"

struct pyn_links;

struct pyn_links_config {
    size_t max_frame;  /* bytes; a longer frame closes its link */
    size_t max_output; /* bytes waiting for one peer before pyn_link_send refuses and before reading from it pauses */
    unsigned tick_seconds; /* net_ticktime: a tick goes out after a quarter of it without output, a silent peer is
                              dropped after 5/4 of it */
    unsigned spin_us;      /* an eager wait asks for so long before it sleeps (dist/spin.h) */
};

struct pyn_links_events {
    void *ctx;
    /* A link finished its handshake and is in the table. */
    void (*on_up)(void *ctx, struct pyn_link *l);
    /* One message. The spans in c point into block; keep them by pyn_block_ref. */
    void (*on_message)(void *ctx, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block);
    /* The link is gone: no further message of it comes. Also for one that broke before its on_up: others may have found
     * it since it was added. */
    void (*on_down)(void *ctx, struct pyn_link *l, const char *reason);
    /* Nothing can be read any more, whatever is done: somebody has closed our descriptors. From pyn_links_tick. */
    void (*on_broken)(void *ctx);
};

/* NULL with a log line when the system refuses (epoll, eventfd). */
struct pyn_links *pyn_links_new(const struct pyn_links_config *config, const struct pyn_links_events *events);
/* After the last poll and the last add. Closes all, without calling back: none is found any more, and what is sent over
 * those that others still have is dropped. */
void pyn_links_stop(struct pyn_links *ls);
/* The same, when no other thread uses them any more; references to single links may be left. */
void pyn_links_free(struct pyn_links *ls);

/* How long a turn waits for something to read: without end, or for so many milliseconds. */
enum { PYN_POLL_EAGER = -2, PYN_POLL_SLEEP = -1 }; /* eager: see dist/spin.h */

/* One turn: waits for at most timeout_ms (or one of the above; 0: not at all), then reads every ready link once (one
 * chunk each, so that nobody starves the others), cuts frames, calls back, resumes writes. Returns the number of
 * messages delivered; 0 also after pyn_links_wake or the timeout. */
int pyn_links_poll(struct pyn_links *ls, int timeout_ms);
/* Makes the poll that is under way, or the next one, return. */
void pyn_links_wake(struct pyn_links *ls);
/* Ticks: sends those that are due and drops peers that have been silent for too long. To be called about every
 * second by one housekeeping thread, not the polling one. */
void pyn_links_tick(struct pyn_links *ls, uint64_t now);

/* Takes over a connected, handshaken, non-blocking socket. A link to the same peer that is there already is taken down
 * first (the peer would not have begun another one otherwise). on_up follows from the polling thread, after the
 * on_down of that one, unless the link breaks before. 0, or -1 with the fd closed. */
PYN_MUSTCHECK int pyn_links_add(struct pyn_links *ls, int fd, const char *peer, uint64_t peer_flags);
/* The link to that node that is up, with a new reference; NULL when there is none. */
struct pyn_link *pyn_links_find(struct pyn_links *ls, const char *peer);
/* Links that are up. */
unsigned pyn_links_count(struct pyn_links *ls);
/* Calls fn for each link that is up, with the table locked: fn may send and flush but not add or find. */
void pyn_links_each(struct pyn_links *ls, void (*fn)(void *ctx, struct pyn_link *l), void *ctx);
/* Bytes that wait for peers to take them, over all links that are up. */
size_t pyn_links_waiting(struct pyn_links *ls);
/* Bytes in and out over all links, those that are gone included. */
void pyn_links_bytes(struct pyn_links *ls, uint64_t *in, uint64_t *out);

#endif
