/* The sending side of a link: a queue of segments, written by one thread at a time, many messages in one call.
 *
 * Small messages are copied one behind the other into chunks; large ones, and those with foreign stretches, are
 * stolen and written from where they are. While a thread writes, others only append: they touch bytes of a chunk behind
 * those that the writer has gathered, and segments behind the ones that it holds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/forked.h"
#include "base/log.h"
#include "dist/link_private.h"

/* A message up to this size is copied: cheaper than giving its buffer away. */
#define COPY_MAX ((size_t)16 * 1024)

/* After so many writes in a row the rest is left to the polling thread: a worker has other work than to write
 * for everybody. */
enum { IOV_COUNT = 64, ROUNDS_MAX = 16 };

struct gathered {
    struct iovec iov[IOV_COUNT];
    size_t count;
    size_t bytes;
};

static void seg_free(struct pyn_seg *s)
{
    if (!s->is_chunk)
        pyn_out_free(&s->out);
    free(s);
}

void pyn_segs_free(struct pyn_seg *s)
{
    while (s) {
        struct pyn_seg *next = s->next;
        seg_free(s);
        s = next;
    }
}

struct pyn_seg *pyn_link_detach(struct pyn_link *l)
{
    struct pyn_seg *s = l->head;

    l->head = l->tail = NULL;
    l->waiting = 0;
    return s;
}

static void push(struct pyn_link *l, struct pyn_seg *s)
{
    s->next = NULL;
    if (l->tail)
        l->tail->next = s;
    else
        l->head = s;
    l->tail = s;
}

/* Under the lock. Copies bytes (COPY_MAX at most) to the end of the queue. */
static bool append(struct pyn_link *l, const void *bytes, size_t n)
{
    struct pyn_seg *s = l->tail;

    if (!s || !s->is_chunk || PYN_LINK_CHUNK - s->len < n) {
        s = malloc(sizeof(*s) + PYN_LINK_CHUNK);
        if (!s)
            return false;
        s->done = s->len = 0;
        s->is_chunk = true;
        push(l, s);
    }
    memcpy(s->data + s->len, bytes, n);
    s->len += n;
    l->waiting += n;
    return true;
}

/* Under the lock. Moves the content of *o to the end of the queue. */
static void append_stolen(struct pyn_link *l, struct pyn_seg *s, struct pyn_out *o)
{
    s->done = 0;
    s->len = pyn_out_size(o);
    s->is_chunk = false;
    s->out = *o;
    pyn_out_init(o, s->out.buf.max);
    push(l, s);
    l->waiting += s->len;
}

/* Under the lock. Reading from a peer that does not take its output stops until it does. */
static void set_pause(struct pyn_link *l)
{
    size_t max = l->ls->config.max_output;

    if (l->paused ? l->waiting <= max / 2 : l->waiting > max) {
        l->paused = !l->paused;
        pyn_link_watch(l);
    }
}

/* Under the lock. `s` is a segment to move the message into, NULL to copy it. */
static bool enqueue(struct pyn_link *l, struct pyn_out *o, struct pyn_seg **s)
{
    if (*s) {
        append_stolen(l, *s, o);
        *s = NULL;
    } else if (!append(l, o->buf.data, o->buf.len)) {
        return false;
    }
    set_pause(l);
    return true;
}

/* In the place of a number of bytes: the configured one, which may be looked at only while the link is up. */
#define CONFIGURED (SIZE_MAX - 1)

/* What is no message: nothing, as it was taken back, or half of one. */
static void drop_message(const struct pyn_link *l, struct pyn_out *o)
{
    if (o->buf.failed)
        pyn_log(PYN_ERROR, "link", "peer=%s a message that could not be written whole is not sent", l->peer);
    pyn_out_free(o);
}

/* Refused when more than `most` bytes are waiting already. */
static bool send_within(struct pyn_link *l, struct pyn_out *o, size_t most)
{
    bool copy = o->ext_count == 0 && o->buf.len <= COPY_MAX;
    struct pyn_seg *s;
    bool accepted = true;

    if (PYN_UNLIKELY(o->buf.failed || o->buf.len == 0)) {
        drop_message(l, o);
        return true;
    }
    s = copy ? NULL : malloc(sizeof(*s));
    pthread_mutex_lock(&l->lock);
    if (PYN_LIKELY(pyn_link_is_up(l))) {
        if (l->waiting > (most == CONFIGURED ? l->ls->config.max_output : most))
            accepted = false;
        else if (PYN_UNLIKELY((!copy && !s) || !enqueue(l, o, &s)))
            pyn_link_fail(l, "no memory for a message to the peer"); /* one lost message breaks all that follows */
    }
    pthread_mutex_unlock(&l->lock);
    free(s);
    if (accepted && copy)
        pyn_buf_truncate(&o->buf, 0);
    else if (accepted)
        pyn_out_free(o); /* empty when it was taken */
    return accepted;
}

bool pyn_link_send(struct pyn_link *l, struct pyn_out *o, bool must)
{
    return send_within(l, o, must ? SIZE_MAX : CONFIGURED);
}

bool pyn_link_offer(struct pyn_link *l, struct pyn_out *o, size_t most)
{
    return send_within(l, o, most);
}

static bool add_iov(struct gathered *g, const uint8_t *bytes, size_t n)
{
    if (g->count == IOV_COUNT)
        return false;
    g->iov[g->count++] = (struct iovec){(void *)bytes, n};
    g->bytes += n;
    return true;
}

/* Adds the bytes from..to of a stretch that stands at `base` in its message, as far as they come after `done`. */
static bool add_piece(struct gathered *g, size_t done, size_t base, const uint8_t *bytes, size_t n)
{
    size_t skip = done > base ? done - base : 0;

    return skip >= n || add_iov(g, bytes + skip, n - skip);
}

/* Own bytes and foreign stretches of a stolen message in their order. */
static bool gather_stolen(struct gathered *g, const struct pyn_seg *s)
{
    const struct pyn_out *o = &s->out;
    size_t base = 0; /* bytes of the message so far */
    size_t own = 0;  /* bytes of its buffer so far */

    for (unsigned i = 0; i < o->ext_count; i++) {
        const struct pyn_ext *e = &o->ext[i];
        if (!add_piece(g, s->done, base, o->buf.data + own, e->at - own))
            return false;
        base += e->at - own;
        own = e->at;
        if (!add_piece(g, s->done, base, e->ptr, e->len))
            return false;
        base += e->len;
    }
    return own == o->buf.len || add_piece(g, s->done, base, o->buf.data + own, o->buf.len - own);
}

static void gather(struct gathered *g, const struct pyn_link *l)
{
    bool more = true;

    g->count = 0;
    g->bytes = 0;
    for (const struct pyn_seg *s = l->head; s && more; s = s->next) {
        if (!s->is_chunk)
            more = gather_stolen(g, s);
        else if (s->len > s->done)
            more = add_iov(g, s->data + s->done, s->len - s->done);
    }
}

/* Under the lock, by the writer: n bytes more are written. Returns the segments that are done with. A chunk at the
 * end of the queue stays there for the next message. */
static struct pyn_seg *advance(struct pyn_link *l, size_t n)
{
    struct pyn_seg *finished = NULL;
    struct pyn_seg *s;

    l->waiting -= n;
    while ((s = l->head) != NULL) {
        size_t left = s->len - s->done;
        if (n < left) {
            s->done += n;
            break;
        }
        n -= left;
        if (s->is_chunk && s == l->tail) {
            s->done = s->len = 0;
            break;
        }
        l->head = s->next;
        if (!l->head)
            l->tail = NULL;
        s->next = finished;
        finished = s;
    }
    set_pause(l);
    return finished;
}

static void write_failed(struct pyn_link *l, int error)
{
    char reason[128];

    errno = error;
    snprintf(reason, sizeof(reason), "cannot write: %m");
    pyn_link_fail(l, reason);
}

/* By the writer, with the lock held before and after but not during the call. false: no more for now. */
static bool write_once(struct pyn_link *l)
{
    struct pyn_seg *finished = NULL;
    struct gathered g;
    struct msghdr msg = {.msg_iov = g.iov};
    int fd = l->fd;
    int error;
    ssize_t n;

    gather(&g, l);
    pthread_mutex_unlock(&l->lock);
    msg.msg_iovlen = g.count;
    n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    error = errno;
    if (n > 0) {
        atomic_fetch_add_explicit(&l->bytes_out, (uint64_t)n, memory_order_relaxed);
        atomic_fetch_add_explicit(&l->ls->bytes_out, (uint64_t)n, memory_order_relaxed);
    }
    pthread_mutex_lock(&l->lock);
    if (n >= 0) {
        /* A short write means that the socket is full; epoll says when to go on even if that was not the reason. */
        finished = advance(l, (size_t)n);
        l->blocked = (size_t)n < g.bytes;
    } else if (error == EAGAIN || error == EWOULDBLOCK) {
        l->blocked = true;
    } else if (error != EINTR) {
        write_failed(l, error);
    }
    if (finished) {
        pthread_mutex_unlock(&l->lock);
        pyn_segs_free(finished);
        pthread_mutex_lock(&l->lock);
    }
    return !l->blocked;
}

/* By the writer: lets go of `writing` and of the lock; of a retired link also frees what was left to the writer. */
static void stop_writing(struct pyn_link *l)
{
    struct pyn_seg *queue = NULL;
    int fd = -1;

    l->writing = false;
    if (PYN_UNLIKELY(l->retired)) {
        fd = l->fd;
        l->fd = -1;
        queue = pyn_link_detach(l);
    } else {
        pyn_link_watch(l);
    }
    pthread_mutex_unlock(&l->lock);
    if (PYN_UNLIKELY(fd >= 0))
        pyn_fd_close(fd);
    pyn_segs_free(queue);
}

void pyn_link_flush(struct pyn_link *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->writing || l->blocked || l->waiting == 0 || !pyn_link_is_up(l)) {
        pthread_mutex_unlock(&l->lock);
        return;
    }
    l->writing = true;
    for (int round = 0; l->waiting > 0 && pyn_link_is_up(l); round++) {
        if (round == ROUNDS_MAX) {
            l->blocked = true;
            break;
        }
        if (!write_once(l))
            break;
    }
    stop_writing(l);
}

void pyn_link_resume(struct pyn_link *l)
{
    pthread_mutex_lock(&l->lock);
    l->blocked = false;
    /* What flush finds nothing to do about must not be reported again and again. */
    if (l->writing || l->waiting == 0)
        pyn_link_watch(l);
    pthread_mutex_unlock(&l->lock);
    pyn_link_flush(l);
}

void pyn_link_send_tick(struct pyn_link *l)
{
    static const uint8_t empty_frame[PYN_LINK_HEADER];

    pthread_mutex_lock(&l->lock);
    if (pyn_link_is_up(l) && l->waiting == 0 && !l->writing)
        (void)append(l, empty_frame, sizeof(empty_frame)); /* without memory there is another tick to come */
    pthread_mutex_unlock(&l->lock);
    pyn_link_flush(l);
}

void pyn_link_trim(struct pyn_link *l)
{
    struct pyn_seg *queue = NULL;

    pthread_mutex_lock(&l->lock);
    if (l->waiting == 0 && !l->writing)
        queue = pyn_link_detach(l);
    pthread_mutex_unlock(&l->lock);
    pyn_segs_free(queue);
}
