/* A whole py service in this process, with Python, a node at an epmd in a thread, and peers that are plain sockets in
 * the hands of the test. For tests that run in a process of their own each: Python starts once. */
#ifndef PYN_TEST_SERVICE_RIG_H
#define PYN_TEST_SERVICE_RIG_H

#include "svc/service.h"

#include "unit/epmd_rig.h"

struct service_rig {
    struct epmd_rig epmd;
    struct pyn_service_config config;
    struct pyn_node_config node_config;
    struct pyn_service *service;
    struct pyn_node *node;
};

/* Fills in the configurations (2 workers, 100 requests); change them before the start. */
void service_rig_init(struct service_rig *r);
void service_rig_start(struct service_rig *r);
/* Drains and frees everything but Python. */
void service_rig_stop(struct service_rig *r);

/* A link to a peer of that name: the far end. */
int service_rig_peer(struct service_rig *r, const char *name);
/* Sends the payload (notation.h) to a registered name. */
void service_rig_send(int fd, const char *name, const char *payload);
/* {'$gen_call', {$P, $R}, Request} to `py`. */
void service_rig_ask(int fd, const char *request);
/* The payload of the next frame as token text (token_text.h), or `control N`; valid until the next call. Ticks, and
 * monitors of callers, which come when a call takes long, are passed over. */
const char *service_rig_next(int fd);
/* The same for a text in the notation. */
const char *service_rig_text(const char *notation);
/* The next frame is the answer {$R, Result}, to $P. */
void service_rig_expect(int fd, const char *result);

#endif
