#include "dist/listener.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/forked.h"
#include "base/log.h"
#include "base/thread.h"
#include "dist/loglimit.h"

/* How long a handshake may take, whatever its time limit, once others wait for its place: as long as all places are
 * taken, those who dawdle in them would keep everybody else out. */
enum { PATIENCE_MS = 1000 };
enum { SHAKE_STACK = 256 * 1024, LOG_LINES = 20, LOG_SECONDS = 10, BACKOFF_MIN_MS = 10, BACKOFF_MAX_MS = 1000 };

struct pyn_listener {
    struct pyn_listener_config config;
    int fd;      /* -1 once stopped */
    int quit_fd; /* raised to end the accepting thread alone */
    int room_fd; /* raised when a handshake ended while there was no room for another */
    bool running;
    pthread_t thread;
    struct pyn_listener_tools tools;
    struct pyn_loglimit limit;
    pthread_mutex_t room; /* held where links and handshakes are counted, and where one becomes the other; outermost */
    pthread_mutex_t lock; /* guards under_way, guests and the fields of guests that say so */
    pthread_cond_t idle;  /* under_way became 0 */
    unsigned under_way;
    TAILQ_HEAD(, guest) guests; /* the oldest first */
};

/* One accepted connection; belongs to its thread, but for what the lock guards. */
struct guest {
    TAILQ_ENTRY(guest) in_list; /* guarded */
    uint64_t since;             /* when it was accepted; never changes */
    bool sent_away;             /* guarded */
    struct pyn_listener *listener;
    int fd;
    struct pyn_address from;
    struct pyn_handshake hs;
    struct pyn_pending_in pending;
};

/* --- Shaking hands --- */

static void log_limited(struct pyn_listener *l, enum pyn_level level, const char *from, const char *peer,
                        const char *reason)
{
    unsigned dropped;

    if (!pyn_log_enabled(level) || !pyn_loglimit_take(&l->limit, pyn_now(), &dropped))
        return;
    if (dropped > 0)
        pyn_log(level, "listen", "%u more lines about refused connections were left out", dropped);
    if (peer[0] != '\0')
        pyn_log(level, "listen", "no link to %s (from %s): %s", peer, from, reason);
    else
        pyn_log(level, "listen", "connection from %s refused: %s", from, reason);
}

/* l->room held. Who has a link may always connect again, since the new link takes the old one's place. */
static bool has_room(struct pyn_listener *l, const char *peer)
{
    struct pyn_link *old = pyn_links_find(l->tools.links, peer);

    if (old != NULL) {
        pyn_link_unref(old);
        return true;
    }
    return pyn_links_count(l->tools.links) + pyn_pending_in_count(l->tools.pending) < l->config.max_links;
}

static enum pyn_shake_status judge(void *ctx, struct pyn_handshake *hs)
{
    struct guest *g = ctx;
    struct pyn_listener *l = g->listener;
    enum pyn_pending_verdict verdict = PYN_PENDING_NOK;
    bool room;

    if (strcmp(hs->peer, l->tools.pending->self) == 0) {
        snprintf(hs->reason, sizeof(hs->reason), "it has our own name");
        return PYN_SHAKE_SAY_NOT_ALLOWED;
    }
    pthread_mutex_lock(&l->room);
    room = has_room(l, hs->peer);
    if (room)
        verdict = pyn_pending_in_begin(l->tools.pending, &g->pending, hs->peer);
    pthread_mutex_unlock(&l->room);
    if (!room) {
        snprintf(hs->reason, sizeof(hs->reason), "no more than %u links are allowed", l->config.max_links);
        return PYN_SHAKE_SAY_NOT_ALLOWED;
    }
    switch (verdict) {
    case PYN_PENDING_OK_SIMULTANEOUS:
        pyn_log(PYN_DEBUG, "listen", "%s connects to us while we connect to it: its attempt goes first", hs->peer);
        return PYN_SHAKE_SAY_OK_SIMULTANEOUS;
    case PYN_PENDING_NOK:
        return PYN_SHAKE_SAY_NOK;
    case PYN_PENDING_OK:
        break;
    }
    return PYN_SHAKE_SAY_OK;
}

/* A peer that has a link by now gave this attempt up in favour of the other one. */
static bool is_linked(struct pyn_listener *l, const char *peer)
{
    struct pyn_link *link = peer[0] != '\0' ? pyn_links_find(l->tools.links, peer) : NULL;

    if (link != NULL)
        pyn_link_unref(link);
    return link != NULL;
}

static void report(struct guest *g, enum pyn_shake_end end)
{
    enum pyn_level level = PYN_WARNING;
    char from[80];

    if (end == PYN_SHAKE_SIMULTANEOUS || end == PYN_SHAKE_STOPPED)
        level = PYN_DEBUG;
    else if (end == PYN_SHAKE_CLOSED && g->hs.peer[0] == '\0')
        level = PYN_INFO; /* a probe, or an attempt that gave way to another before it began */
    else if (end == PYN_SHAKE_CLOSED && is_linked(g->listener, g->hs.peer))
        level = PYN_DEBUG;
    pyn_address_text(&g->from, from, sizeof(from));
    log_limited(g->listener, level, from, g->hs.peer, g->hs.reason);
}

/* Out of reach of send_away; from here on the socket is nobody else's. false: it was sent away before. */
static bool leave_list(struct guest *g)
{
    bool stayed;

    pthread_mutex_lock(&g->listener->lock);
    TAILQ_REMOVE(&g->listener->guests, g, in_list);
    stayed = !g->sent_away;
    pthread_mutex_unlock(&g->listener->lock);
    if (!stayed)
        snprintf(g->hs.reason, sizeof(g->hs.reason), "it took more than %d ms while others were waiting", PATIENCE_MS);
    return stayed;
}

/* The guest becomes a link, and is no guest any more. The descriptor is the links'. */
static int become_link(struct guest *g)
{
    struct pyn_listener *l = g->listener;
    int fd = g->fd, rc;

    g->fd = -1;
    pthread_mutex_lock(&l->room);
    rc = pyn_links_add(l->tools.links, fd, g->hs.peer, g->hs.peer_flags);
    pyn_pending_in_end(l->tools.pending, &g->pending);
    pthread_mutex_unlock(&l->room);
    return rc;
}

static void shake(struct guest *g)
{
    struct pyn_listener *l = g->listener;
    enum pyn_shake_end end = pyn_handshake_accept(l->tools.shakes, &g->hs);

    if (!leave_list(g) && end == PYN_SHAKE_OK)
        end = PYN_SHAKE_REFUSED;
    if (end != PYN_SHAKE_OK) {
        report(g, end);
        return;
    }
    pyn_handshake_prepare_link(g->fd);
    if (become_link(g) < 0)
        pyn_log(PYN_ERROR, "listen", "no link to %s: it could not be set up", g->hs.peer);
    else if (l->tools.on_link != NULL)
        l->tools.on_link(l->tools.ctx, g->hs.peer);
}

static void guest_begins(struct pyn_listener *l, struct guest *g)
{
    pthread_mutex_lock(&l->lock);
    l->under_way++;
    TAILQ_INSERT_TAIL(&l->guests, g, in_list);
    pthread_mutex_unlock(&l->lock);
}

static void guest_ends(struct pyn_listener *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->under_way-- == l->config.max_handshakes)
        pyn_wake_raise(l->room_fd);
    if (l->under_way == 0)
        pthread_cond_signal(&l->idle);
    pthread_mutex_unlock(&l->lock);
}

/* The last word to the listener is guest_ends: after it the listener may be gone. */
static void *run_guest(void *arg)
{
    struct guest *g = arg;
    struct pyn_listener *l = g->listener;

    pyn_thread_name("pyn-shake");
    shake(g);
    pyn_pending_in_end(l->tools.pending, &g->pending); /* if it has not become a link */
    if (g->fd >= 0)
        pyn_fd_close(g->fd);
    free(g);
    guest_ends(l);
    return NULL;
}

/* --- Accepting --- */

static bool is_full(struct pyn_listener *l)
{
    bool full;

    pthread_mutex_lock(&l->lock);
    full = l->under_way >= l->config.max_handshakes;
    pthread_mutex_unlock(&l->lock);
    return full;
}

/* Ends the oldest handshake if it is too old. Returns when to come again. */
static uint64_t send_away(struct pyn_listener *l, uint64_t now)
{
    uint64_t next = PYN_NEVER;
    struct guest *g;

    pthread_mutex_lock(&l->lock);
    TAILQ_FOREACH(g, &l->guests, in_list)
    {
        if (g->sent_away)
            continue;
        next = pyn_deadline_in(g->since, PATIENCE_MS);
        if (next > now)
            break;
        g->sent_away = true;
        shutdown(g->fd, SHUT_RDWR); /* its thread reads the end and leaves */
        next = PYN_NEVER;
        break;
    }
    pthread_mutex_unlock(&l->lock);
    return next;
}

/* All places are taken: waits for one, and when somebody wants it, makes one. */
static int wait_for_room(struct pyn_listener *l, struct pyn_wait w)
{
    struct pyn_wait look = {.deadline = 0, .stop_fd = -1, .cancel_fd = -1};
    int rc;

    if (pyn_net_poll(l->fd, POLLIN, &look) != 0)
        w.deadline = pyn_deadline_in(pyn_now(), PATIENCE_MS); /* nobody there: look again then */
    else
        w.deadline = send_away(l, pyn_now());
    rc = pyn_net_poll(l->room_fd, POLLIN, &w);
    pyn_wake_clear(l->room_fd);
    return rc;
}

/* Takes fd. false when the system has no room for the connection. */
static bool welcome(struct pyn_listener *l, int fd, const struct pyn_address *from)
{
    struct guest *g = calloc(1, sizeof(*g));
    int rc;

    if (g == NULL) {
        pyn_fd_close(fd);
        return false;
    }
    g->listener = l;
    g->since = pyn_now();
    g->fd = fd;
    g->from = *from;
    g->hs.fd = fd;
    g->hs.wait.deadline = pyn_deadline_in(g->since, l->config.handshake_ms);
    g->hs.wait.stop_fd = l->config.stop_fd;
    g->hs.wait.cancel_fd = -1;
    g->hs.judge = judge;
    g->hs.ctx = g;
    guest_begins(l, g);
    rc = pyn_thread_start(NULL, SHAKE_STACK, run_guest, g);
    if (rc != 0) {
        (void)leave_list(g);
        guest_ends(l);
        free(g);
        pyn_fd_close(fd);
        errno = rc;
    }
    return rc == 0;
}

/* Errors that belong to the one connection that was being accepted, and not to the socket or the system. */
static bool is_passing(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ECONNABORTED || error == EPROTO ||
           error == ENETDOWN || error == EHOSTDOWN || error == EHOSTUNREACH || error == ENETUNREACH || error == EPERM;
}

/* true unless the system is out of something. */
static bool accept_one(struct pyn_listener *l)
{
    struct pyn_address from = {.len = sizeof(from.at)};
    int fd = pyn_fd_own(accept4(l->fd, &from.at.any, &from.len, SOCK_NONBLOCK | SOCK_CLOEXEC));

    if (fd < 0)
        return is_passing(errno);
    return welcome(l, fd, &from);
}

/* A count of lines that were left out is not kept back until there is another line. */
static void log_left_out(struct pyn_listener *l)
{
    unsigned dropped = pyn_loglimit_flush(&l->limit, pyn_now());

    if (dropped > 0)
        pyn_log(PYN_WARNING, "listen", "%u more lines about refused connections were left out", dropped);
}

/* false: the node stops, or only accepting does. */
static bool wait_for_work(struct pyn_listener *l)
{
    struct pyn_wait w = {.stop_fd = l->config.stop_fd, .cancel_fd = l->quit_fd};
    int rc;

    w.deadline = pyn_deadline_in(pyn_now(), LOG_SECONDS * 1000);
    rc = is_full(l) ? wait_for_room(l, w) : pyn_net_poll(l->fd, POLLIN, &w);
    if (rc == ETIMEDOUT)
        log_left_out(l);
    return rc != ECANCELED;
}

static void *run(void *arg)
{
    struct pyn_listener *l = arg;
    uint64_t backoff = 0;

    pyn_thread_name("pyn-listen");
    while (wait_for_work(l)) {
        struct pyn_wait w = {.stop_fd = l->config.stop_fd, .cancel_fd = l->quit_fd};
        if (is_full(l))
            continue;
        if (accept_one(l)) {
            backoff = 0;
            continue;
        }
        if (backoff == 0)
            pyn_log(PYN_ERROR, "listen", "cannot accept connections: %s; trying again", strerror(errno));
        backoff = backoff == 0 ? BACKOFF_MIN_MS : backoff * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : backoff * 2;
        w.deadline = pyn_deadline_in(pyn_now(), backoff);
        if (!pyn_wait_out(&w))
            break;
    }
    return NULL;
}

/* --- Life --- */

static void discard(struct pyn_listener *l)
{
    if (l->fd >= 0)
        pyn_fd_close(l->fd);
    if (l->quit_fd >= 0)
        close(l->quit_fd);
    if (l->room_fd >= 0)
        close(l->room_fd);
    pthread_cond_destroy(&l->idle);
    pthread_mutex_destroy(&l->room);
    pthread_mutex_destroy(&l->lock);
    pyn_loglimit_destroy(&l->limit);
    free(l);
}

static int open_all(struct pyn_listener *l)
{
    int rc = pyn_net_listen(l->config.bind_address, &l->config.port, &l->fd);

    if (rc != 0)
        return rc;
    l->quit_fd = pyn_wake_new();
    l->room_fd = l->quit_fd < 0 ? -1 : pyn_wake_new();
    return l->room_fd < 0 ? errno : 0;
}

struct pyn_listener *pyn_listener_new(const struct pyn_listener_config *config, char *error, size_t error_size)
{
    struct pyn_listener *l = calloc(1, sizeof(*l));
    int rc;

    if (l == NULL) {
        snprintf(error, error_size, "no memory for the listener");
        return NULL;
    }
    l->config = *config;
    l->fd = l->quit_fd = l->room_fd = -1;
    pyn_loglimit_init(&l->limit, LOG_LINES, LOG_SECONDS * PYN_SECOND);
    pthread_mutex_init(&l->room, NULL);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->idle, NULL);
    TAILQ_INIT(&l->guests);
    rc = open_all(l);
    if (rc != 0) {
        snprintf(error, error_size, "cannot listen on %s port %u: %s",
                 config->bind_address ? config->bind_address : "all interfaces", (unsigned)config->port,
                 rc == EINVAL ? "this is not a numeric address" : strerror(rc));
        discard(l);
        return NULL;
    }
    l->config.bind_address = NULL; /* borrowed only until here */
    return l;
}

uint16_t pyn_listener_port(const struct pyn_listener *l)
{
    return l->config.port;
}

int pyn_listener_run(struct pyn_listener *l, const struct pyn_listener_tools *tools)
{
    int rc;

    l->tools = *tools;
    rc = pyn_thread_start(&l->thread, 0, run, l);
    l->running = rc == 0;
    return rc;
}

void pyn_listener_stop(struct pyn_listener *l)
{
    pyn_wake_raise(l->quit_fd);
    if (l->running)
        pthread_join(l->thread, NULL);
    l->running = false;
    if (l->fd >= 0)
        pyn_fd_close(l->fd);
    l->fd = -1;
}

void pyn_listener_wait(struct pyn_listener *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->under_way > 0)
        pthread_cond_wait(&l->idle, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

void pyn_listener_free(struct pyn_listener *l)
{
    pyn_listener_stop(l);
    pyn_listener_wait(l);
    discard(l);
}
