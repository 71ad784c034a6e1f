/* This node towards the cluster: its name, cookie and creation, its registration at epmd, its listening socket, the
 * threads that shake hands, and the connection to the coordinator.
 *
 * Threads it starts: "pyn-listen" (accepts), "pyn-shake" (one per handshake under way, bounded, each with a time
 * limit), "pyn-epmd" (holds the registration, renews it when epmd was restarted), "pyn-coord" (connects to
 * the coordinator and reconnects with back-off and jitter). None of them touches Python. */
#ifndef PYN_DIST_NODE_H
#define PYN_DIST_NODE_H

#include "dist/cookie.h"
#include "dist/links.h"

struct pyn_node;

/* What kept the node from starting, so that the program can exit with a code of its own for each. */
enum pyn_node_failure {
    PYN_NODE_FAILED = 1, /* the system refused something, or a value is wrong: the sentence says what */
    PYN_NODE_NAME_TAKEN, /* another node has the name at epmd */
    PYN_NODE_NO_EPMD,    /* no epmd answers, or not as one */
    PYN_NODE_BAD_NAME,   /* no node name can be made of what was given, on this host */
};

struct pyn_node_config {
    const char *name; /* "py1" or "py1@host" */
    bool long_names;
    const char *cookie;             /* checked, at most 255 bytes */
    const char *bind_address;       /* numeric; NULL: all interfaces, as Erlang does */
    uint16_t port;                  /* 0: any */
    uint16_t epmd_port;             /* 0: ERL_EPMD_PORT or 4369 */
    bool start_epmd;                /* start `epmd -daemon` when none answers */
    const char *coordinator;        /* node name, or several with commas between, or NULL */
    unsigned handshake_ms;          /* time limit for one handshake */
    unsigned max_handshakes;        /* at once; others wait, and then one that takes over 1 s must go */
    unsigned max_links;             /* further connections are refused with a log line */
    enum pyn_node_failure *failure; /* set when pyn_node_start returns NULL; may be NULL */
};

/* Opens the listening socket, registers with epmd (starts it where allowed), starts the threads. Links go to `links`.
 * NULL: `error` says why in a sentence (for instance that another node of that name is registered). */
struct pyn_node *pyn_node_start(const struct pyn_node_config *config, struct pyn_links *links, char *error,
                                size_t error_size);
/* Stops accepting, unregisters, joins all threads. Links stay as they are, and the other functions may still be called
 * until pyn_node_free. A second call does nothing. */
void pyn_node_stop(struct pyn_node *n);
/* Stops accepting new connections only (drain). */
void pyn_node_stop_listening(struct pyn_node *n);
/* Stops it where that was not done. NULL is fine. */
void pyn_node_free(struct pyn_node *n);

/* The full name, "py1@host". */
const char *pyn_node_name(const struct pyn_node *n);
uint16_t pyn_node_port(const struct pyn_node *n);
uint32_t pyn_node_creation(const struct pyn_node *n);
/* The coordinator link was lost or came up: the connector thread is told by svc through this. Any thread. */
void pyn_node_coordinator_lost(struct pyn_node *n);
/* true when that node is the one that is to coordinate this one. Any thread. */
bool pyn_node_is_coordinator(const struct pyn_node *n, const char *peer);
/* A link to the coordinator with a new reference, or NULL. */
struct pyn_link *pyn_node_coordinator(struct pyn_node *n);

/* Terms of our own identity, in external format without version byte. The pid is the same for the life of the
 * process: it stands for the registered name `py`. */
void pyn_node_write_pid(const struct pyn_node *n, struct pyn_buf *b);
/* A reference that this process never made before. Any thread. */
void pyn_node_write_ref(struct pyn_node *n, struct pyn_buf *b);

#endif
