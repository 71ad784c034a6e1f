#include "unit/link_rig.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "etf/writer.h"

static void note(struct rig *r, char what)
{
    size_t n = strlen(r->order);

    if (n + 1 < sizeof(r->order))
        r->order[n] = what;
}

static void on_up(void *ctx, struct pyn_link *l)
{
    struct rig *r = ctx;

    r->last_up = l;
    note(r, 'u');
    atomic_fetch_add(&r->ups, 1);
}

static void on_message(void *ctx, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block)
{
    struct rig *r = ctx;

    if (r->seen)
        r->seen(r, l, c, block);
    atomic_fetch_add(&r->messages, 1);
}

static void on_broken(void *ctx)
{
    struct rig *r = ctx;
    r->broken = true;
}

static void on_down(void *ctx, struct pyn_link *l, const char *reason)
{
    struct rig *r = ctx;

    ck_assert(!pyn_link_is_up(l));
    snprintf(r->reason, sizeof(r->reason), "%s", reason);
    note(r, 'd');
    atomic_fetch_add(&r->downs, 1);
}

void rig_init(struct rig *r, size_t max_frame, size_t max_output, unsigned tick)
{
    struct pyn_links_config config = {max_frame, max_output, tick, 50};
    struct pyn_links_events events = {r, on_up, on_message, on_down, on_broken};

    memset(r, 0, sizeof(*r));
    pyn_log_set_level(PYN_ERROR);
    r->ls = pyn_links_new(&config, &events);
    ck_assert_ptr_nonnull(r->ls);
}

void rig_free(struct rig *r)
{
    pyn_links_free(r->ls);
}

int rig_add(struct rig *r, const char *peer)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    ck_assert_int_eq(pyn_links_add(r->ls, fds[0], peer, RIG_PEER_FLAGS), 0);
    return fds[1];
}

int rig_connect(struct rig *r, const char *peer)
{
    unsigned ups = atomic_load(&r->ups);
    int fd = rig_add(r, peer);

    rig_poll_until(r, atomic_load(&r->ups) > ups);
    return fd;
}

static void *poll_loop(void *arg)
{
    struct rig *r = arg;

    while (!atomic_load(&r->stop))
        pyn_links_poll(r->ls, -1);
    return NULL;
}

void rig_start(struct rig *r)
{
    atomic_store(&r->stop, false);
    ck_assert_int_eq(pthread_create(&r->poller, NULL, poll_loop, r), 0);
}

void rig_stop(struct rig *r)
{
    atomic_store(&r->stop, true);
    pyn_links_wake(r->ls);
    pthread_join(r->poller, NULL);
}

void rig_frame(struct pyn_buf *b, uint8_t fill, size_t n)
{
    static const uint8_t pid[] = {88, 119, 1, 'a', 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3};
    size_t frame = pyn_frame_send(b, (struct pyn_span){pid, sizeof(pid)});

    ck_assert(pyn_buf_room(b, n));
    memset(b->data + b->len, fill, n);
    b->len += n;
    pyn_frame_end(b, frame, 0);
    ck_assert(!b->failed);
}

size_t rig_stream_size(uint32_t number)
{
    if (number % 500 == 499)
        return 200000 + number;
    if (number % 100 == 99)
        return 60000 + number;
    return 1 + number * 37 % 3000;
}

void rig_stream_frames(struct pyn_buf *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rig_frame(b, (uint8_t)i, rig_stream_size(i));
}

void rig_stream_check(struct pyn_span payload, uint32_t number)
{
    ck_assert_uint_eq(payload.len, rig_stream_size(number));
    for (size_t i = 0; i < payload.len; i++) {
        if (payload.ptr[i] != (uint8_t)number)
            ck_abort_msg("message %u is damaged at %zu", number, i);
    }
}

static void *feed_thread(void *arg)
{
    struct rig_feed *f = arg;
    size_t at = 0;

    while (at < f->bytes->len) {
        size_t n = (size_t)rand_r(&f->seed);
        n = f->seed % 3 == 0 ? n % 100 + 1 : n % 150000 + 1;
        if (n > f->bytes->len - at)
            n = f->bytes->len - at;
        rig_write(f->fd, f->bytes->data + at, n);
        at += n;
    }
    return NULL;
}

void rig_feed_start(struct rig_feed *f)
{
    ck_assert_int_eq(pthread_create(&f->thread, NULL, feed_thread, f), 0);
}

void rig_write(int fd, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;

    while (n > 0) {
        ssize_t k = send(fd, at, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        ck_assert_msg(k > 0, "cannot write: %s", strerror(errno));
        at += k;
        n -= (size_t)k;
    }
}

void rig_read(int fd, void *bytes, size_t n)
{
    uint8_t *at = bytes;

    while (n > 0) {
        struct pollfd p = {fd, POLLIN, 0};
        ssize_t k;
        ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
        k = recv(fd, at, n, 0);
        ck_assert_msg(k > 0, "cannot read: %s", k == 0 ? "end" : strerror(errno));
        at += k;
        n -= (size_t)k;
    }
}

uint8_t *rig_read_frame(int fd, size_t *n)
{
    uint8_t head[4];
    uint8_t *bytes;

    rig_read(fd, head, sizeof(head));
    *n = pyn_get_be32(head);
    bytes = malloc(*n + 1);
    ck_assert_ptr_nonnull(bytes);
    rig_read(fd, bytes, *n);
    return bytes;
}

bool rig_is_quiet(int fd)
{
    struct pollfd p = {fd, POLLIN, 0};

    return poll(&p, 1, 0) == 0;
}
