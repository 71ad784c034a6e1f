#include "dist/links.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/forked.h"
#include "base/log.h"
#include "base/thread.h"
#include "dist/link_private.h"

enum { EVENTS_MAX = 64, TABLE_FIRST = 16 };

static bool open_fds(struct pyn_links *ls)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};

    ls->epoll_fd = pyn_fd_own(epoll_create1(EPOLL_CLOEXEC));
    ls->wake_fd = pyn_wake_new();
    return ls->epoll_fd >= 0 && ls->wake_fd >= 0 && epoll_ctl(ls->epoll_fd, EPOLL_CTL_ADD, ls->wake_fd, &ev) == 0;
}

static void close_fds(struct pyn_links *ls)
{
    if (ls->epoll_fd >= 0)
        pyn_fd_close(ls->epoll_fd);
    if (ls->wake_fd >= 0)
        close(ls->wake_fd);
}

struct pyn_links *pyn_links_new(const struct pyn_links_config *config, const struct pyn_links_events *events)
{
    struct pyn_links *ls = calloc(1, sizeof(*ls));

    if (!ls)
        return NULL;
    ls->config = *config;
    ls->events = *events;
    ls->next_id = 1;
    ls->spin = pyn_spin_init(config->spin_us);
    if (!open_fds(ls) || pthread_mutex_init(&ls->lock, NULL) != 0) {
        pyn_log(PYN_ERROR, "links", "the system refuses what links need: %m");
        close_fds(ls);
        free(ls);
        return NULL;
    }
    return ls;
}

/* Polling thread. */
static void remove_link(struct pyn_links *ls, struct pyn_link *l)
{
    pyn_link_retire(l);
    pthread_mutex_lock(&ls->lock);
    for (unsigned i = 0; i < ls->count; i++) {
        if (ls->table[i] == l) {
            ls->table[i] = ls->table[--ls->count];
            break;
        }
    }
    pthread_mutex_unlock(&ls->lock);
    pyn_log(PYN_INFO, "link", "peer=%s link is down: %s", l->peer, l->reason);
}

/* Polling thread. The table's reference goes with it. */
static void take_down(struct pyn_links *ls, struct pyn_link *l)
{
    remove_link(ls, l);
    ls->events.on_down(ls->events.ctx, l, l->reason);
    pyn_link_unref(l);
}

static struct pyn_link *first_link(struct pyn_links *ls)
{
    struct pyn_link *l;

    pthread_mutex_lock(&ls->lock);
    l = ls->count > 0 ? ls->table[0] : NULL;
    pthread_mutex_unlock(&ls->lock);
    return l;
}

void pyn_links_stop(struct pyn_links *ls)
{
    struct pyn_link *l;

    while ((l = first_link(ls))) {
        pyn_link_close(l, "this node stops");
        remove_link(ls, l);
        pyn_link_unref(l);
    }
}

void pyn_links_free(struct pyn_links *ls)
{
    if (!ls)
        return;
    pyn_links_stop(ls);
    pyn_block_unref(ls->spare.block);
    pthread_mutex_destroy(&ls->lock);
    close_fds(ls);
    free(ls->table);
    free(ls);
}

/* Under ls->lock. */
static bool table_room(struct pyn_links *ls)
{
    unsigned cap = ls->cap ? ls->cap * 2 : TABLE_FIRST;
    struct pyn_link **table;

    if (ls->count < ls->cap)
        return true;
    table = realloc(ls->table, cap * sizeof(struct pyn_link *));
    if (!table)
        return false;
    ls->table = table;
    ls->cap = cap;
    return true;
}

/* Under ls->lock: the link to that peer which is up, or NULL. There is one at most. */
static struct pyn_link *lookup(struct pyn_links *ls, const char *peer)
{
    for (unsigned i = 0; i < ls->count; i++) {
        if (pyn_link_is_up(ls->table[i]) && strcmp(ls->table[i]->peer, peer) == 0)
            return ls->table[i];
    }
    return NULL;
}

/* From here on the link may be gone at any time, by what the polling thread does. */
static bool insert(struct pyn_links *ls, int fd, const char *peer, uint64_t peer_flags)
{
    struct pyn_link *l = NULL;
    struct pyn_link *old;

    pthread_mutex_lock(&ls->lock);
    if (table_room(ls))
        l = pyn_link_new(ls, fd, peer, peer_flags, ls->next_id++);
    if (l) {
        old = lookup(ls, peer);
        if (old)
            pyn_link_close(old, "replaced by a new connection of the same peer");
        l->fresh = true;
        ls->table[ls->count++] = l;
        atomic_store(&ls->news, true);
    }
    pthread_mutex_unlock(&ls->lock);
    return l != NULL;
}

int pyn_links_add(struct pyn_links *ls, int fd, const char *peer, uint64_t peer_flags)
{
    if (!insert(ls, fd, peer, peer_flags)) {
        pyn_log(PYN_ERROR, "link", "peer=%s no memory for its link", peer);
        pyn_fd_close(fd);
        return -1;
    }
    pyn_links_wake(ls);
    return 0;
}

/* Edge-triggered: each is an event, nobody reads, and the counter overflows in some thousand years. */
void pyn_links_wake(struct pyn_links *ls)
{
    pyn_wake_raise(ls->wake_fd);
}

static struct pyn_link *take_fresh(struct pyn_links *ls)
{
    struct pyn_link *found = NULL;

    pthread_mutex_lock(&ls->lock);
    for (unsigned i = 0; i < ls->count && !found; i++) {
        if (ls->table[i]->fresh) {
            found = ls->table[i];
            found->fresh = false;
        }
    }
    pthread_mutex_unlock(&ls->lock);
    return found;
}

/* A link other than l to the same peer which is closed but not yet taken down. */
static struct pyn_link *find_replaced(struct pyn_links *ls, const struct pyn_link *l)
{
    struct pyn_link *found = NULL;

    pthread_mutex_lock(&ls->lock);
    for (unsigned i = 0; i < ls->count && !found; i++) {
        struct pyn_link *other = ls->table[i];
        if (other != l && !pyn_link_is_up(other) && strcmp(other->peer, l->peer) == 0)
            found = other;
    }
    pthread_mutex_unlock(&ls->lock);
    return found;
}

static bool watch_first(struct pyn_links *ls, struct pyn_link *l)
{
    struct epoll_event ev = {.events = 0, .data.ptr = l};
    int r;

    pthread_mutex_lock(&l->lock);
    r = epoll_ctl(ls->epoll_fd, EPOLL_CTL_ADD, l->fd, &ev);
    if (r == 0) {
        l->watched = true;
        pyn_link_watch(l);
    } else {
        pyn_link_fail(l, "cannot be watched");
    }
    pthread_mutex_unlock(&l->lock);
    return r == 0;
}

/* Polling thread, outside of any batch of events, as these point to links. Fresh links come to epoll here and not
 * before, so on_up comes before their first message and after the on_down of the link that they replace. */
static void announce(struct pyn_links *ls)
{
    struct pyn_link *l;
    struct pyn_link *old;

    while ((l = take_fresh(ls)) != NULL) {
        if (!pyn_link_is_up(l)) {
            take_down(ls, l); /* who had found it in the table waits for answers, or for a new one */
            continue;
        }
        while ((old = find_replaced(ls, l)) != NULL)
            take_down(ls, old);
        pyn_log(PYN_INFO, "link", "peer=%s link is up", l->peer);
        ls->events.on_up(ls->events.ctx, l);
        if (!watch_first(ls, l))
            take_down(ls, l);
    }
}

/* The socket says that it is broken and has nothing to read. */
static void hang_up(struct pyn_link *l)
{
    char reason[128] = "closed by the peer";
    socklen_t size = sizeof(int);
    int error = 0;

    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0) {
        errno = error;
        snprintf(reason, sizeof(reason), "connection lost: %m");
    }
    pyn_link_close(l, reason);
}

static void serve(struct pyn_links *ls, struct pyn_link *l, uint32_t events, int *messages)
{
    bool up = pyn_link_is_up(l);

    if (up && (events & EPOLLOUT))
        pyn_link_resume(l);
    if (up && (events & EPOLLIN))
        up = pyn_link_read(l, messages);
    else if (up && (events & (EPOLLERR | EPOLLHUP)))
        hang_up(l);
    if (!up || !pyn_link_is_up(l))
        take_down(ls, l);
}

int pyn_links_poll(struct pyn_links *ls, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int messages = 0;
    int n;

    if (timeout_ms >= 0)
        n = epoll_wait(ls->epoll_fd, events, EVENTS_MAX, timeout_ms);
    else
        n = pyn_spin_wait(&ls->spin, ls->epoll_fd, events, EVENTS_MAX, timeout_ms == PYN_POLL_EAGER);

    /* A link is in the batch once at most, and only its own event takes it down: none of these pointers dangles. */
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr)
            serve(ls, events[i].data.ptr, events[i].events, &messages);
    }
    pyn_spin_got(&ls->spin, messages);
    if (atomic_load_explicit(&ls->news, memory_order_relaxed) && atomic_exchange(&ls->news, false))
        announce(ls);
    return messages;
}

void pyn_links_tick(struct pyn_links *ls, uint64_t now)
{
    uint64_t ticktime = ls->config.tick_seconds * PYN_SECOND;

    /* Who waits in epoll does not notice. */
    if (fcntl(ls->epoll_fd, F_GETFD) < 0)
        ls->events.on_broken(ls->events.ctx);
    if (ticktime == 0)
        return;
    pthread_mutex_lock(&ls->lock);
    for (unsigned i = 0; i < ls->count; i++)
        pyn_link_tick(ls->table[i], now, ticktime);
    pthread_mutex_unlock(&ls->lock);
}

struct pyn_link *pyn_links_find(struct pyn_links *ls, const char *peer)
{
    struct pyn_link *l;

    pthread_mutex_lock(&ls->lock);
    l = lookup(ls, peer);
    if (l)
        pyn_link_ref(l);
    pthread_mutex_unlock(&ls->lock);
    return l;
}

unsigned pyn_links_count(struct pyn_links *ls)
{
    unsigned n = 0;

    pthread_mutex_lock(&ls->lock);
    for (unsigned i = 0; i < ls->count; i++)
        n += pyn_link_is_up(ls->table[i]);
    pthread_mutex_unlock(&ls->lock);
    return n;
}

void pyn_links_each(struct pyn_links *ls, void (*fn)(void *ctx, struct pyn_link *l), void *ctx)
{
    pthread_mutex_lock(&ls->lock);
    for (unsigned i = 0; i < ls->count; i++) {
        if (pyn_link_is_up(ls->table[i]))
            fn(ctx, ls->table[i]);
    }
    pthread_mutex_unlock(&ls->lock);
}

/* What the system has taken but the peer has not counts, too: closing a socket that has something unread resets the
 * connection, and then the rest would be lost. */
static size_t waiting_for(struct pyn_link *l)
{
    size_t n = 0;
    int unsent = 0;

    pthread_mutex_lock(&l->lock);
    if (pyn_link_is_up(l)) {
        n = l->waiting;
        if (ioctl(l->fd, SIOCOUTQ, &unsent) == 0 && unsent > 0)
            n += (size_t)unsent;
    }
    pthread_mutex_unlock(&l->lock);
    return n;
}

size_t pyn_links_waiting(struct pyn_links *ls)
{
    size_t n = 0;

    pthread_mutex_lock(&ls->lock);
    for (unsigned i = 0; i < ls->count; i++)
        n += waiting_for(ls->table[i]);
    pthread_mutex_unlock(&ls->lock);
    return n;
}

void pyn_links_bytes(struct pyn_links *ls, uint64_t *in, uint64_t *out)
{
    *in = atomic_load_explicit(&ls->bytes_in, memory_order_relaxed);
    *out = atomic_load_explicit(&ls->bytes_out, memory_order_relaxed);
}
