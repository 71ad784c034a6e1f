#include "dist/connector.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/forked.h"
#include "base/log.h"
#include "base/thread.h"
#include "dist/epmd.h"
#include "dist/resolve.h"

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 10000, STABLE_MS = 5000, REASON = 256 };

/* One of the coordinators. */
struct target {
    char peer[256];
    char alive[256];
    const char *host; /* into peer */
    bool complained;  /* what the log said last; the thread's own */
};

struct pyn_connector {
    struct target targets[PYN_COORDINATORS_MAX]; /* the one to be preferred first */
    unsigned count;
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
    bool was_up; /* what the log said last */
    uint64_t up_since, next_try, backoff_ms;
};

/* --- One attempt; returns true when there is a link, else `reason` is a sentence, or "" when nothing is wrong --- */

/* The host's addresses. Our own host is there even when no resolver knows it. */
static unsigned find_host(struct pyn_connector *c, const struct target *t, const struct pyn_wait *w,
                          struct pyn_address found[PYN_RESOLVE_MAX], char *reason)
{
    unsigned n = pyn_resolve(t->host, w, found, reason, REASON);

    if (n == 0 && strcmp(t->host, c->own_host) == 0) {
        pyn_address_loopback(0, &found[0]);
        n = 1;
    }
    return n;
}

/* Asks the epmd of the host for the port and connects to it. 0 or an errno, with a reason. */
static int reach(struct pyn_connector *c, const struct target *t, struct pyn_address *host, const struct pyn_wait *w,
                 int *fd, char *reason)
{
    enum pyn_epmd_result r;
    char where[80];
    uint16_t port;
    int rc;

    pyn_address_set_port(host, c->epmd_port);
    pyn_address_text(host, where, sizeof(where));
    r = pyn_epmd_lookup(host, t->alive, w, &port);
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

static int reach_any(struct pyn_connector *c, const struct target *t, const struct pyn_wait *w, int *fd, char *reason)
{
    struct pyn_address found[PYN_RESOLVE_MAX];
    unsigned n = find_host(c, t, w, found, reason);
    int rc = ENOENT;

    for (unsigned i = 0; i < n && rc != 0 && rc != ECANCELED; i++)
        rc = reach(c, t, &found[i], w, fd, reason);
    return rc;
}

static bool has_link(struct pyn_connector *c, const struct target *t)
{
    struct pyn_link *l = pyn_links_find(c->links, t->peer);

    if (l != NULL)
        pyn_link_unref(l);
    return l != NULL;
}

/* NULL: none is connected. */
static const struct target *linked_target(struct pyn_connector *c)
{
    for (unsigned i = 0; i < c->count; i++)
        if (has_link(c, &c->targets[i]))
            return &c->targets[i];
    return NULL;
}

/* The socket is connected; from here on our attempt counts against one of the peer's. Takes fd. */
static bool shake(struct pyn_connector *c, const struct target *t, int fd, const struct pyn_wait *w, char *reason)
{
    struct pyn_handshake hs = {.fd = fd, .wait = *w, .expect = t->peer};
    enum pyn_shake_end end;
    bool up = false;

    reason[0] = '\0';
    if (!pyn_pending_out_begin(c->pending, t->peer)) {
        pyn_fd_close(fd);
        return false;
    }
    hs.wait.cancel_fd = c->pending->cancel_fd;
    if (has_link(c, t)) {
        pyn_fd_close(fd);
        up = true;
    } else if ((end = pyn_handshake_connect(c->shakes, &hs)) == PYN_SHAKE_OK) {
        pyn_handshake_prepare_link(fd);
        up = pyn_links_add(c->links, fd, hs.peer, hs.peer_flags) == 0;
        if (!up)
            snprintf(reason, REASON, "the link could not be set up");
    } else {
        pyn_fd_close(fd);
        if (end != PYN_SHAKE_SIMULTANEOUS && end != PYN_SHAKE_STOPPED)
            snprintf(reason, REASON, "%s", hs.reason);
    }
    pyn_pending_out_end(c->pending);
    return up;
}

static bool attempt(struct pyn_connector *c, const struct target *t, char *reason)
{
    struct pyn_wait w = {
        .deadline = pyn_deadline_in(pyn_now(), c->handshake_ms), .stop_fd = c->stop_fd, .cancel_fd = -1};
    int fd;

    reason[0] = '\0';
    return reach_any(c, t, &w, &fd, reason) == 0 && shake(c, t, fd, &w, reason);
}

/* --- The thread --- */

static void say_up(struct pyn_connector *c, const struct target *t)
{
    if (c->was_up || t == NULL)
        return;
    pyn_log(PYN_NOTICE, "coord", "connected to coordinator %s", t->peer);
    c->was_up = true;
    for (unsigned i = 0; i < c->count; i++)
        c->targets[i].complained = false;
    c->up_since = pyn_now();
}

static void say_failed(struct target *t, const char *reason)
{
    if (reason[0] == '\0')
        return;
    pyn_log(t->complained ? PYN_DEBUG : PYN_WARNING, "coord", "cannot connect to coordinator %s: %s%s", t->peer, reason,
            t->complained ? "" : "; trying on");
    t->complained = true;
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
    pyn_log(PYN_WARNING, "coord", "connection to coordinator %s lost; connecting again",
            c->count == 1 ? c->targets[0].peer : "(any of them)");
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

/* Tries one after the other; true when one is connected. */
static bool attempt_all(struct pyn_connector *c)
{
    char reason[REASON];

    for (unsigned i = 0; i < c->count; i++) {
        if (attempt(c, &c->targets[i], reason)) {
            say_up(c, &c->targets[i]);
            return true;
        }
        say_failed(&c->targets[i], reason);
    }
    return false;
}

/* Returns the time of the next look when nobody calls for one earlier. */
static uint64_t look(struct pyn_connector *c)
{
    bool had_link = atomic_exchange(&c->linked, false);
    const struct target *linked = linked_target(c);

    /* Whoever connects to us is alive, even when that link is gone again by now. */
    if (had_link) {
        c->backoff_ms = BACKOFF_MIN_MS;
        say_up(c, linked ? linked : &c->targets[0]);
    }
    if (linked) {
        say_up(c, linked);
        return PYN_NEVER;
    }
    note_loss(c);
    if (pyn_now() < c->next_try)
        return c->next_try;
    if (attempt_all(c))
        return 0;
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

/* The names were checked before. */
static void set_targets(struct pyn_connector *c, const char *peers)
{
    while (*peers && c->count < PYN_COORDINATORS_MAX) {
        struct target *t = &c->targets[c->count++];
        size_t len = strcspn(peers, ",");
        snprintf(t->peer, sizeof(t->peer), "%.*s", (int)len, peers);
        snprintf(t->alive, sizeof(t->alive), "%.*s", (int)strcspn(peers, "@"), peers);
        t->host = t->peer + strlen(t->alive) + 1;
        peers += len + (peers[len] == ',');
    }
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
    set_targets(c, config->peer);
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
    if (!pyn_connector_wants(c, peer))
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
    for (unsigned i = 0; i < c->count; i++)
        if (strcmp(c->targets[i].peer, peer) == 0)
            return true;
    return false;
}

struct pyn_link *pyn_connector_link(struct pyn_connector *c)
{
    struct pyn_link *l = NULL;

    for (unsigned i = 0; i < c->count && l == NULL; i++)
        l = pyn_links_find(c->links, c->targets[i].peer);
    return l;
}

void pyn_connector_stop(struct pyn_connector *c)
{
    pthread_join(c->thread, NULL);
}

void pyn_connector_free(struct pyn_connector *c)
{
    discard(c);
}
