/* Requests to epmd, the daemon that knows the ports of a host's nodes ("The EPMD Protocol" in the ERTS User's Guide).
 * Each is one short connection, but for the registration, which lasts as long as its socket is open. */
#ifndef PYN_DIST_EPMD_H
#define PYN_DIST_EPMD_H

#include "dist/net.h"

enum pyn_epmd_result {
    PYN_EPMD_OK,
    PYN_EPMD_UNREACHABLE, /* nobody answers on the port */
    PYN_EPMD_TAKEN,       /* another node of that name is registered */
    PYN_EPMD_UNKNOWN,     /* no node of that name is registered */
    PYN_EPMD_BROKEN,      /* what answers is not epmd */
    PYN_EPMD_TIMED_OUT,
    PYN_EPMD_STOPPED,
};

/* A word for logs: "nobody answers", ... */
const char *pyn_epmd_text(enum pyn_epmd_result r);

/* The port to ask on: `given`, else ERL_EPMD_PORT of the environment, else 4369. Before threads are started. */
uint16_t pyn_epmd_port(uint16_t given);

/* Registers a hidden node at this host's epmd. The name stays registered as long as *fd is open (new, the
 * caller's; set on OK only). */
PYN_MUSTCHECK enum pyn_epmd_result pyn_epmd_register(uint16_t epmd_port, const char *alive, uint16_t port,
                                                     const struct pyn_wait *w, int *fd, uint32_t *creation);
/* The port of a node; `epmd` is the address of its host's epmd. */
PYN_MUSTCHECK enum pyn_epmd_result pyn_epmd_lookup(const struct pyn_address *epmd, const char *alive,
                                                   const struct pyn_wait *w, uint16_t *port);
/* Writes what this host's epmd has registered, as "py1 at port 4711, ..."; "nothing" when it is that. */
PYN_MUSTCHECK enum pyn_epmd_result pyn_epmd_names(uint16_t epmd_port, const struct pyn_wait *w, char *text,
                                                  size_t size);

/* Runs `epmd -daemon` (found in PATH or where Erlang usually is) and waits until it has gone into the background.
 * false with a reason when no such program can be run. */
PYN_MUSTCHECK bool pyn_epmd_launch(uint16_t epmd_port, const struct pyn_wait *w, char *reason, size_t reason_size);

#endif
