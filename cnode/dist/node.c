#include "dist/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "dist/connector.h"
#include "dist/ident.h"
#include "dist/listener.h"
#include "dist/pending.h"
#include "dist/registration.h"

/* Time for the first registration: epmd has to be started, or it is being started by somebody else. */
enum { REGISTER_MS = 3000, LAUNCH_MS = 8000 };

/* Made and used by the thread that starts and stops the node, but for the functions of node.h that any thread may call:
 * those use ident and connector, which stay from the start to pyn_node_free. */
struct pyn_node {
    char name[256];
    char alive[256];
    int stop_fd; /* raised once, for good: ends every wait of every thread below */
    bool stopped;
    bool has_pending;
    struct pyn_pending pending;
    struct pyn_ident *ident;
    struct pyn_handshakes *shakes;
    struct pyn_listener *listener;
    struct pyn_registration *registration;
    struct pyn_connector *connector; /* NULL without a coordinator */
};

/* Where the sentence about a failure goes. */
struct sentence {
    char *text;
    size_t size;
};

/* --- Start, step by step; each returns 0 or the failure, with a sentence --- */

static enum pyn_node_failure check_coordinators(const char *names, const struct pyn_node *n, struct sentence e)
{
    unsigned count = 0;

    for (size_t len; names != NULL; names = names[len] == ',' ? names + len + 1 : NULL) {
        len = strcspn(names, ",");
        if (!pyn_ident_valid_name((struct pyn_span){(const uint8_t *)names, len})) {
            snprintf(e.text, e.size, "coordinator \"%.*s\" is not a node name (name@host)",
                     (int)(len > 255 ? 255 : len), names);
            return PYN_NODE_FAILED;
        }
        if (len == strlen(n->name) && memcmp(names, n->name, len) == 0) {
            snprintf(e.text, e.size, "the coordinator %s is this node itself", n->name);
            return PYN_NODE_FAILED;
        }
        if (++count > PYN_COORDINATORS_MAX) {
            snprintf(e.text, e.size, "there are more than %d coordinators", PYN_COORDINATORS_MAX);
            return PYN_NODE_FAILED;
        }
    }
    return 0;
}

static enum pyn_node_failure check_values(const struct pyn_node_config *config, const struct pyn_node *n,
                                          struct sentence e)
{
    if (config->max_handshakes == 0 || config->handshake_ms == 0 || config->max_links == 0) {
        snprintf(e.text, e.size, "the limits of handshakes and links must be 1 or more");
        return PYN_NODE_FAILED;
    }
    return check_coordinators(config->coordinator, n, e);
}

static enum pyn_node_failure set_name(struct pyn_node *n, const struct pyn_node_config *config, struct sentence e)
{
    int rc;

    if (!pyn_ident_full_name(config->name, config->long_names, n->name, e.text, e.size))
        return PYN_NODE_BAD_NAME;
    snprintf(n->alive, sizeof(n->alive), "%.*s", (int)strcspn(n->name, "@"), n->name);
    rc = pyn_pending_init(&n->pending, n->name);
    n->has_pending = rc == 0;
    if (rc == 0)
        n->stop_fd = pyn_wake_new();
    if (n->stop_fd < 0) {
        snprintf(e.text, e.size, "no descriptors left: %s", strerror(rc ? rc : errno));
        return PYN_NODE_FAILED;
    }
    return check_values(config, n, e);
}

static enum pyn_node_failure open_listener(struct pyn_node *n, const struct pyn_node_config *config, struct sentence e)
{
    const struct pyn_listener_config lc = {
        .bind_address = config->bind_address,
        .port = config->port,
        .handshake_ms = config->handshake_ms,
        .max_handshakes = config->max_handshakes,
        .max_links = config->max_links,
        .stop_fd = n->stop_fd,
    };

    n->listener = pyn_listener_new(&lc, e.text, e.size);
    return n->listener ? 0 : PYN_NODE_FAILED;
}

static enum pyn_node_failure enter_epmd(struct pyn_node *n, const struct pyn_node_config *config, struct sentence e)
{
    const struct pyn_registration_config rc = {
        .epmd_port = pyn_epmd_port(config->epmd_port),
        .launch = config->start_epmd,
        .alive = n->alive,
        .port = pyn_listener_port(n->listener),
        .first_ms = config->start_epmd ? LAUNCH_MS : REGISTER_MS,
        .stop_fd = n->stop_fd,
    };
    enum pyn_epmd_result result;

    n->registration = pyn_registration_start(&rc, &result, e.text, e.size);
    if (n->registration != NULL)
        return 0;
    return result == PYN_EPMD_TAKEN ? PYN_NODE_NAME_TAKEN : result == PYN_EPMD_OK ? PYN_NODE_FAILED : PYN_NODE_NO_EPMD;
}

static enum pyn_node_failure set_identity(struct pyn_node *n, const struct pyn_node_config *config, struct sentence e)
{
    n->shakes = pyn_handshakes_new(n->name, config->cookie, pyn_registration_creation(n->registration));
    n->ident = calloc(1, sizeof(*n->ident));
    if (n->shakes == NULL || n->ident == NULL) {
        snprintf(e.text, e.size, "erl_interface cannot be set up for %s", n->name);
        return PYN_NODE_FAILED;
    }
    pyn_ident_init(n->ident, n->name, pyn_handshakes_creation(n->shakes));
    return 0;
}

static enum pyn_node_failure start_coordinator(struct pyn_node *n, const struct pyn_node_config *config,
                                               struct pyn_links *links, struct sentence e)
{
    const struct pyn_connector_config cc = {
        .peer = config->coordinator,
        .epmd_port = pyn_epmd_port(config->epmd_port),
        .handshake_ms = config->handshake_ms,
        .stop_fd = n->stop_fd,
    };

    if (config->coordinator == NULL)
        return 0;
    n->connector = pyn_connector_start(&cc, n->shakes, &n->pending, links, e.text, e.size);
    return n->connector ? 0 : PYN_NODE_FAILED;
}

static void on_link(void *ctx, const char *peer)
{
    struct pyn_node *n = ctx;

    if (n->connector != NULL)
        pyn_connector_linked(n->connector, peer);
}

/* The connector first: the listener's threads look at it. */
static enum pyn_node_failure start_threads(struct pyn_node *n, const struct pyn_node_config *config,
                                           struct pyn_links *links, struct sentence e)
{
    const struct pyn_listener_tools tools = {
        .shakes = n->shakes, .pending = &n->pending, .links = links, .on_link = on_link, .ctx = n};
    enum pyn_node_failure f = start_coordinator(n, config, links, e);
    int rc;

    if (f != 0)
        return f;
    rc = pyn_listener_run(n->listener, &tools);
    if (rc != 0) {
        snprintf(e.text, e.size, "cannot start the listening thread: %s", strerror(rc));
        return PYN_NODE_FAILED;
    }
    return 0;
}

static enum pyn_node_failure start(struct pyn_node *n, const struct pyn_node_config *config, struct pyn_links *links,
                                   struct sentence e)
{
    enum pyn_node_failure f = set_name(n, config, e);

    if (f == 0)
        f = open_listener(n, config, e);
    if (f == 0)
        f = enter_epmd(n, config, e);
    if (f == 0)
        f = set_identity(n, config, e);
    if (f == 0)
        f = start_threads(n, config, links, e);
    return f;
}

struct pyn_node *pyn_node_start(const struct pyn_node_config *config, struct pyn_links *links, char *error,
                                size_t error_size)
{
    struct pyn_node *n = calloc(1, sizeof(*n));
    enum pyn_node_failure f = PYN_NODE_FAILED;

    if (n != NULL) {
        n->stop_fd = -1;
        f = start(n, config, links, (struct sentence){error, error_size});
    } else {
        snprintf(error, error_size, "no memory for the node");
    }
    if (f != 0) {
        if (config->failure != NULL)
            *config->failure = f;
        pyn_node_free(n);
        return NULL;
    }
    pyn_log(PYN_INFO, "node", "%s listens on port %u, creation %u", n->name, (unsigned)pyn_node_port(n),
            (unsigned)pyn_node_creation(n));
    return n;
}

/* --- Stop --- */

void pyn_node_stop_listening(struct pyn_node *n)
{
    pyn_listener_stop(n->listener);
}

void pyn_node_stop(struct pyn_node *n)
{
    if (n->stopped)
        return;
    n->stopped = true;
    if (n->stop_fd >= 0)
        pyn_wake_raise(n->stop_fd);
    if (n->listener != NULL) {
        pyn_listener_stop(n->listener);
        pyn_listener_wait(n->listener);
    }
    if (n->registration != NULL)
        pyn_registration_stop(n->registration);
    n->registration = NULL;
    if (n->connector != NULL)
        pyn_connector_stop(n->connector);
}

void pyn_node_free(struct pyn_node *n)
{
    if (n == NULL)
        return;
    pyn_node_stop(n);
    if (n->connector != NULL)
        pyn_connector_free(n->connector);
    if (n->listener != NULL)
        pyn_listener_free(n->listener);
    pyn_handshakes_free(n->shakes);
    free(n->ident);
    if (n->has_pending)
        pyn_pending_destroy(&n->pending);
    if (n->stop_fd >= 0)
        close(n->stop_fd);
    free(n);
}

/* --- What others ask --- */

const char *pyn_node_name(const struct pyn_node *n)
{
    return n->name;
}

uint16_t pyn_node_port(const struct pyn_node *n)
{
    return pyn_listener_port(n->listener);
}

uint32_t pyn_node_creation(const struct pyn_node *n)
{
    return n->ident->creation;
}

void pyn_node_coordinator_lost(struct pyn_node *n)
{
    if (n->connector != NULL)
        pyn_connector_look(n->connector);
}

struct pyn_link *pyn_node_coordinator(struct pyn_node *n)
{
    return n->connector ? pyn_connector_link(n->connector) : NULL;
}

bool pyn_node_is_coordinator(const struct pyn_node *n, const char *peer)
{
    return n->connector && pyn_connector_wants(n->connector, peer);
}

void pyn_node_write_pid(const struct pyn_node *n, struct pyn_buf *b)
{
    pyn_ident_write_pid(n->ident, b);
}

void pyn_node_write_ref(struct pyn_node *n, struct pyn_buf *b)
{
    pyn_ident_write_ref(n->ident, b);
}
