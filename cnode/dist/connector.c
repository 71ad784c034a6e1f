#include "dist/connector.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "dist/epmd.h"
#include "dist/resolve.h"
#include "dist/thread.h"

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 10000, STABLE_MS = 5000, REASON = 256 };

struct pyn_connector {
    char peer[256];
    char alive[256];
    const char *host; /* into peer */
    const char *own_host;
    uint16_t epmd_port;
    unsigned handshake_ms;
    int stop_fd;
    int look_fd; /* raised by pyn_connector_look */
    atomic_bool linked;
    struct pyn_handshakes *shakes;
    struct pyn_pending *pending;
    struct pyn_links *links;
    pthread_t thread;
    /* The thread's own. */
    bool was_up, complained; /* what the log said last */
    uint64_t up_since, next_try, backoff_ms;
};

/* --- One attempt; returns true when there is a link, else `reason` is a sentence, or "" when nothing is wrong --- */

/* The host's addresses. Our own host is there even when no resolver knows it. */
static unsigned find_host(struct pyn_connector *c, const struct pyn_wait *w, struct pyn_address found[PYN_RESOLVE_MAX],
                          char *reason)
{
    unsigned n = pyn_resolve(c->host, w, found, reason, REASON);

    if (n == 0 && strcmp(c->host, c->own_host) == 0) {
        pyn_address_loopback(0, &found[0]);
        n = 1;
    }
    return n;
}

/* Asks the epmd of the host for the port and connects to it. 0 or an errno, with a reason. */
static int reach(struct pyn_connector *c, struct pyn_address *host, const struct pyn_wait *w, int *fd, char *reason)
{
    enum pyn_epmd_result r;
    char where[80];
    uint16_t port;
    int rc;

    pyn_address_set_port(host, c->epmd_port);
    pyn_address_text(host, where, sizeof(where));
    r = pyn_epmd_lookup(host, c->alive, w, &port);
    if (r != PYN_EPMD_OK) {
        snprintf(reason, REASON, "epmd at %s: %s", where, pyn_epmd_text(r));
        return r == PYN_EPMD_STOPPED ? ECANCELED : ENOENT;
    }
    pyn_address_set_port(host, port);
    pyn_address_text(host, where, sizeof(where));
    rc = pyn_net_connect(host, w, fd);
    if (rc != 0)
        snprintf(reason, REASON, "connecting to %s: %s", where, strerror(rc));
    return rc;
}

static int reach_any(struct pyn_connector *c, const struct pyn_wait *w, int *fd, char *reason)
{
    struct pyn_address found[PYN_RESOLVE_MAX];
    unsigned n = find_host(c, w, found, reason);
    int rc = ENOENT;

    for (unsigned i = 0; i < n && rc != 0 && rc != ECANCELED; i++)
        rc = reach(c, &found[i], w, fd, reason);
    return rc;
}

static bool has_link(struct pyn_connector *c)
{
    struct pyn_link *l = pyn_links_find(c->links, c->peer);

    if (l != NULL)
        pyn_link_unref(l);
    return l != NULL;
}

/* The socket is connected; from here on our attempt counts against one of the peer's. Takes fd. */
static bool shake(struct pyn_connector *c, int fd, const struct pyn_wait *w, char *reason)
{
    struct pyn_handshake hs = {.fd = fd, .wait = *w, .expect = c->peer};
    enum pyn_shake_end end;
    bool up = false;

    reason[0] = '\0';
    if (!pyn_pending_out_begin(c->pending, c->peer)) {
        close(fd);
        return false;
    }
    hs.wait.cancel_fd = c->pending->cancel_fd;
    if (has_link(c)) {
        close(fd);
        up = true;
    } else if ((end = pyn_handshake_connect(c->shakes, &hs)) == PYN_SHAKE_OK) {
        pyn_handshake_prepare_link(fd);
        up = pyn_links_add(c->links, fd, hs.peer, hs.peer_flags) == 0;
        if (!up)
            snprintf(reason, REASON, "the link could not be set up");
    } else {
        close(fd);
        if (end != PYN_SHAKE_SIMULTANEOUS && end != PYN_SHAKE_STOPPED)
            snprintf(reason, REASON, "%s", hs.reason);
    }
    pyn_pending_out_end(c->pending);
    return up;
}

static bool attempt(struct pyn_connector *c, char *reason)
{
    struct pyn_wait w = {
        .deadline = pyn_deadline_in(pyn_now(), c->handshake_ms), .stop_fd = c->stop_fd, .cancel_fd = -1};
    int fd;

    reason[0] = '\0';
    return reach_any(c, &w, &fd, reason) == 0 && shake(c, fd, &w, reason);
}

/* --- The thread --- */

static void say_up(struct pyn_connector *c)
{
    if (c->was_up)
        return;
    pyn_log(PYN_NOTICE, "coord", "connected to coordinator %s", c->peer);
    c->was_up = true;
    c->complained = false;
    c->up_since = pyn_now();
}

static void say_failed(struct pyn_connector *c, const char *reason)
{
    if (reason[0] == '\0')
        return;
    pyn_log(c->complained ? PYN_DEBUG : PYN_WARNING, "coord", "cannot connect to coordinator %s: %s%s", c->peer, reason,
            c->complained ? "" : "; trying on");
    c->complained = true;
}

static void back_off(struct pyn_connector *c)
{
    c->next_try = pyn_deadline_in(pyn_now(), pyn_jitter(c->backoff_ms));
    c->backoff_ms = c->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : c->backoff_ms * 2;
}

/* A link that lasted is made again at once; one that keeps breaking must not become a busy loop. */
static void note_loss(struct pyn_connector *c)
{
    if (!c->was_up)
        return;
    pyn_log(PYN_WARNING, "coord", "connection to coordinator %s lost; connecting again", c->peer);
    c->was_up = false;
    if (pyn_now() - c->up_since >= STABLE_MS * PYN_MS) {
        c->backoff_ms = BACKOFF_MIN_MS;
        c->next_try = 0;
    } else {
        back_off(c);
    }
}

/* Waits until the deadline or until pyn_connector_look. false: the node stops. */
static bool rest(struct pyn_connector *c, uint64_t deadline)
{
    struct pyn_wait w = {.deadline = deadline, .stop_fd = c->stop_fd, .cancel_fd = -1};
    int rc = pyn_net_poll(c->look_fd, POLLIN, &w);

    pyn_wake_clear(c->look_fd);
    return rc != ECANCELED;
}

/* Returns the time of the next look when nobody calls for one earlier. */
static uint64_t look(struct pyn_connector *c)
{
    char reason[REASON];

    /* Whoever connects to us is alive, even when that link is gone again by now. */
    if (atomic_exchange(&c->linked, false)) {
        c->backoff_ms = BACKOFF_MIN_MS;
        say_up(c);
    }
    if (has_link(c)) {
        say_up(c);
        return PYN_NEVER;
    }
    note_loss(c);
    if (pyn_now() < c->next_try)
        return c->next_try;
    if (attempt(c, reason)) {
        say_up(c);
        return 0;
    }
    say_failed(c, reason);
    back_off(c);
    return c->next_try;
}

static void *run(void *arg)
{
    struct pyn_connector *c = arg;

    pyn_thread_name("pyn-coord");
    while (rest(c, look(c)))
        ;
    return NULL;
}

/* --- Life --- */

static void discard(struct pyn_connector *c)
{
    if (c->look_fd >= 0)
        close(c->look_fd);
    free(c);
}

struct pyn_connector *pyn_connector_start(const struct pyn_connector_config *config, struct pyn_handshakes *shakes,
                                          struct pyn_pending *pending, struct pyn_links *links, char *error,
                                          size_t error_size)
{
    struct pyn_connector *c = calloc(1, sizeof(*c));
    int rc;

    if (c == NULL) {
        snprintf(error, error_size, "no memory for the connection to the coordinator");
        return NULL;
    }
    snprintf(c->peer, sizeof(c->peer), "%s", config->peer);
    c->host = strchr(c->peer, '@') + 1;
    snprintf(c->alive, sizeof(c->alive), "%.*s", (int)(c->host - 1 - c->peer), c->peer);
    c->own_host = strchr(pending->self, '@') + 1;
    c->epmd_port = config->epmd_port;
    c->handshake_ms = config->handshake_ms;
    c->stop_fd = config->stop_fd;
    c->backoff_ms = BACKOFF_MIN_MS;
    c->shakes = shakes;
    c->pending = pending;
    c->links = links;
    c->look_fd = pyn_wake_new();
    rc = c->look_fd < 0 ? errno : pyn_thread_start(&c->thread, 0, run, c);
    if (rc != 0) {
        snprintf(error, error_size, "cannot start the connection to the coordinator: %s", strerror(rc));
        discard(c);
        return NULL;
    }
    return c;
}

void pyn_connector_linked(struct pyn_connector *c, const char *peer)
{
    if (strcmp(peer, c->peer) != 0)
        return;
    atomic_store(&c->linked, true);
    pyn_connector_look(c);
}

void pyn_connector_look(struct pyn_connector *c)
{
    pyn_wake_raise(c->look_fd);
}

bool pyn_connector_wants(const struct pyn_connector *c, const char *peer)
{
    return strcmp(c->peer, peer) == 0;
}

struct pyn_link *pyn_connector_link(struct pyn_connector *c)
{
    return pyn_links_find(c->links, c->peer);
}

void pyn_connector_stop(struct pyn_connector *c)
{
    pthread_join(c->thread, NULL);
}

void pyn_connector_free(struct pyn_connector *c)
{
    discard(c);
}
