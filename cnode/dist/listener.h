/* Accepting connections: the thread "pyn-listen" accepts, a short-lived thread "pyn-shake" per connection shakes hands
 * and gives the socket to the links. */
#ifndef PYN_DIST_LISTENER_H
#define PYN_DIST_LISTENER_H

#include "dist/handshake.h"
#include "dist/links.h"
#include "dist/pending.h"

struct pyn_listener;

/* What the listener works with; all borrowed, must outlive it. */
struct pyn_listener_tools {
    struct pyn_handshakes *shakes;
    struct pyn_pending *pending;
    struct pyn_links *links;
    /* After a link was made; NULL: nobody cares. On the handshake's thread, no lock held. */
    void (*on_link)(void *ctx, const char *peer);
    void *ctx;
};

struct pyn_listener_config {
    const char *bind_address; /* numeric; NULL: all IPv4 interfaces */
    uint16_t port;            /* 0: any */
    unsigned handshake_ms;    /* for a whole handshake, from accept to the link */
    unsigned max_handshakes;
    unsigned max_links;
    int stop_fd; /* borrowed: raised before pyn_listener_wait, ends every handshake */
};

/* Opens the socket; nothing is accepted before pyn_listener_run. NULL: error says why. */
struct pyn_listener *pyn_listener_new(const struct pyn_listener_config *config, char *error, size_t error_size);
uint16_t pyn_listener_port(const struct pyn_listener *l);
/* Starts accepting. 0 or an errno. */
PYN_MUSTCHECK int pyn_listener_run(struct pyn_listener *l, const struct pyn_listener_tools *tools);
/* Closes the socket; handshakes under way go on. A second call does nothing; by one thread at a time. */
void pyn_listener_stop(struct pyn_listener *l);
/* Waits for the handshakes under way to end; stop_fd has been raised, so they do at once. */
void pyn_listener_wait(struct pyn_listener *l);
/* Stops and waits where that was not done. */
void pyn_listener_free(struct pyn_listener *l);

#endif
