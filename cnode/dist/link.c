#include "dist/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/forked.h"
#include "dist/link_private.h"

struct pyn_link *pyn_link_new(struct pyn_links *ls, int fd, const char *peer, uint64_t peer_flags, uint64_t id)
{
    size_t name = strlen(peer) + 1;
    struct pyn_link *l = calloc(1, sizeof(*l) + name);

    if (!l)
        return NULL;
    if (pthread_mutex_init(&l->lock, NULL) != 0) {
        free(l);
        return NULL;
    }
    atomic_init(&l->refs, 1);
    atomic_init(&l->up, true);
    l->ls = ls;
    l->fd = fd;
    l->id = id;
    l->peer_flags = peer_flags;
    memcpy(l->peer, peer, name);
    return l;
}

struct pyn_link *pyn_link_ref(struct pyn_link *l)
{
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    return l;
}

void pyn_link_unref(struct pyn_link *l)
{
    /* The table's reference goes after retiring, a writer has one of its own: the socket is closed by now. */
    if (!l || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&l->lock);
    free(l);
}

const char *pyn_link_peer(const struct pyn_link *l)
{
    return l->peer;
}

uint64_t pyn_link_id(const struct pyn_link *l)
{
    return l->id;
}

uint64_t pyn_link_peer_flags(const struct pyn_link *l)
{
    return l->peer_flags;
}

bool pyn_link_is_up(const struct pyn_link *l)
{
    return atomic_load_explicit(&l->up, memory_order_acquire);
}

void pyn_link_watch(struct pyn_link *l)
{
    struct epoll_event ev = {.data.ptr = l};

    ev.events = (l->paused ? 0 : (uint32_t)EPOLLIN) | (l->blocked ? (uint32_t)EPOLLOUT : 0);
    if (!l->watched || ev.events == l->interest)
        return;
    l->interest = ev.events;
    if (epoll_ctl(l->ls->epoll_fd, EPOLL_CTL_MOD, l->fd, &ev) < 0)
        pyn_link_fail(l, "cannot be watched any more");
}

void pyn_link_fail(struct pyn_link *l, const char *reason)
{
    if (!pyn_link_is_up(l))
        return;
    atomic_store_explicit(&l->up, false, memory_order_release);
    snprintf(l->reason, sizeof(l->reason), "%s", reason);
    shutdown(l->fd, SHUT_RDWR);
}

void pyn_link_close(struct pyn_link *l, const char *reason)
{
    pthread_mutex_lock(&l->lock);
    pyn_link_fail(l, reason);
    pthread_mutex_unlock(&l->lock);
}

void pyn_link_retire(struct pyn_link *l)
{
    struct pyn_seg *queue = NULL;
    int fd = -1;

    pthread_mutex_lock(&l->lock);
    pyn_link_fail(l, "closed");
    if (l->watched)
        epoll_ctl(l->ls->epoll_fd, EPOLL_CTL_DEL, l->fd, NULL);
    l->watched = false;
    l->retired = true;
    if (!l->writing) {
        fd = l->fd;
        l->fd = -1;
        queue = pyn_link_detach(l);
    }
    pthread_mutex_unlock(&l->lock);
    if (fd >= 0)
        pyn_fd_close(fd);
    pyn_segs_free(queue);
    pyn_block_unref(l->in.block);
    l->in.block = NULL;
}

/* No clock is read when bytes pass: this looks every second whether the counters have moved. */
void pyn_link_tick(struct pyn_link *l, uint64_t now, uint64_t ticktime)
{
    uint64_t in = atomic_load_explicit(&l->bytes_in, memory_order_relaxed);
    uint64_t out = atomic_load_explicit(&l->bytes_out, memory_order_relaxed);
    bool paused;

    pthread_mutex_lock(&l->lock);
    paused = l->paused;
    pthread_mutex_unlock(&l->lock);
    /* A peer that we do not read shows that it lives by taking our output. */
    if (!l->tick.started || in != l->tick.in || (paused && out != l->tick.out))
        l->tick.in_at = now;
    if (!l->tick.started || out != l->tick.out)
        l->tick.out_at = now;
    l->tick.started = true;
    if (now - l->tick.in_at >= ticktime + ticktime / 4) {
        pyn_link_close(l, "the peer has been silent for longer than the tick time");
    } else if (now - l->tick.out_at >= ticktime / 4) {
        l->tick.out_at = now;
        pyn_link_send_tick(l);
        pyn_link_trim(l);
        out = atomic_load_explicit(&l->bytes_out, memory_order_relaxed);
    }
    l->tick.in = in;
    l->tick.out = out;
}
