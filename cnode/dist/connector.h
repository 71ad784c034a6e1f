/* The connection to the coordinator: the thread "pyn-coord" makes it and makes it again, for ever, with back-off and
 * jitter. A link that the coordinator made to us serves as well. Of several coordinators one connection is enough: they
 * are tried in their order while there is none. */
#ifndef PYN_DIST_CONNECTOR_H
#define PYN_DIST_CONNECTOR_H

#include "dist/handshake.h"
#include "dist/links.h"
#include "dist/pending.h"

enum { PYN_COORDINATORS_MAX = 16 };

struct pyn_connector;

struct pyn_connector_config {
    const char *peer; /* "name@host", or several with commas between, valid; copied */
    uint16_t epmd_port;
    unsigned handshake_ms; /* for a whole attempt: epmd, TCP, handshake */
    int stop_fd;           /* borrowed: raised before pyn_connector_stop, ends every wait */
};

/* All borrowed things must outlive the connector. NULL: error says why. */
struct pyn_connector *pyn_connector_start(const struct pyn_connector_config *config, struct pyn_handshakes *shakes,
                                          struct pyn_pending *pending, struct pyn_links *links, char *error,
                                          size_t error_size);
/* A link to `peer`, whoever that is, was made by the listener. Any thread. */
void pyn_connector_linked(struct pyn_connector *c, const char *peer);
/* A link to a coordinator was lost or came up. Any thread. */
void pyn_connector_look(struct pyn_connector *c);
/* The link to the first coordinator that is connected, with a new reference, or NULL. */
struct pyn_link *pyn_connector_link(struct pyn_connector *c);
/* true when that node is a coordinator. Any thread. */
bool pyn_connector_wants(const struct pyn_connector *c, const char *peer);
/* Joins the thread; stop_fd has been raised. The other functions may still be called. */
void pyn_connector_stop(struct pyn_connector *c);
/* After pyn_connector_stop. */
void pyn_connector_free(struct pyn_connector *c);

#endif
