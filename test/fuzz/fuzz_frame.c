/* Arbitrary bytes as a control message, and arbitrary bytes in arbitrary pieces as what a peer sends over a link.
 *
 * The first byte of the input chooses the sizes of the pieces; a block here and there is kept for a while and must stay
 * as it was. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "dist/links.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_FRAME = 300000, KEPT = 4, PIECE_MAX = 20000 };

struct kept {
    struct pyn_block *block;
    const uint8_t *ptr;
    size_t len;
    uint64_t hash;
};

struct run {
    struct kept kept[KEPT];
    unsigned messages;
    unsigned ups, downs;
};

static volatile uint8_t sink;

/* Every byte of the span is looked at. */
static uint64_t touch(struct pyn_span s)
{
    uint64_t h = pyn_span_hash(s, 0);

    sink ^= (uint8_t)h;
    return h;
}

static void touch_all(const struct pyn_control *c)
{
    touch(c->from);
    touch(c->to);
    touch(c->to_name);
    touch(c->ref);
    touch(c->id);
    touch(c->reason);
    touch(c->payload);
}

static void drop(struct kept *k)
{
    if (k->block && touch((struct pyn_span){k->ptr, k->len}) != k->hash)
        abort();
    pyn_block_unref(k->block);
    k->block = NULL;
}

static void on_up(void *ctx, struct pyn_link *l)
{
    (void)l;
    ((struct run *)ctx)->ups++;
}

static void on_message(void *ctx, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block)
{
    struct run *r = ctx;
    struct kept *k = &r->kept[r->messages % KEPT];

    (void)l;
    if (r->downs > 0 || r->ups == 0)
        abort();
    touch_all(c);
    if (c->payload.ptr && (c->payload.ptr < block->data || c->payload.ptr + c->payload.len > block->data + block->cap))
        abort();
    if (r->messages++ % 3 == 0) {
        drop(k);
        *k = (struct kept){pyn_block_ref(block), c->to.ptr, c->to.len, touch(c->to)};
    }
}

static void on_down(void *ctx, struct pyn_link *l, const char *reason)
{
    (void)l;
    sink ^= (uint8_t)strlen(reason);
    if (++((struct run *)ctx)->downs > 1)
        abort();
}

static void parse_one(const uint8_t *data, size_t size)
{
    /* In a block of its own, so that a read behind its end is noticed. */
    uint8_t *copy = malloc(size + 1);
    struct pyn_control c;

    if (!copy)
        abort();
    memcpy(copy + 1, data, size);
    if (pyn_control_parse((struct pyn_span){copy + 1, size}, &c) == PYN_CONTROL_OK)
        touch_all(&c);
    free(copy);
}

static void feed(struct pyn_links *ls, struct run *r, int fd, unsigned seed, const uint8_t *data, size_t size)
{
    while (size > 0 && r->downs == 0) {
        size_t n = seed % 4 == 0 ? 1 + seed / 4 % 7 : 1 + (size_t)seed * 97 % PIECE_MAX;
        ssize_t sent;
        seed = (seed * 1103515245u + 12345u) >> 8 & 0xffff;
        if (n > size)
            n = size;
        sent = send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            data += sent;
            size -= (size_t)sent;
        }
        pyn_links_poll(ls, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pyn_links_config config = {MAX_FRAME, 100000, 60, 0};
    struct run r = {0};
    struct pyn_links_events events = {&r, on_up, on_message, on_down, NULL};
    struct pyn_links *ls;
    int fds[2];

    if (size == 0)
        return 0;
    pyn_log_set_level(PYN_OFF);
    parse_one(data + 1, size - 1);
    ls = pyn_links_new(&config, &events);
    if (!ls || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0 || pyn_links_add(ls, fds[0], "fuzz@host", 0) != 0)
        abort();
    pyn_links_poll(ls, 0);
    feed(ls, &r, fds[1], data[0], data + 1, size - 1);
    close(fds[1]);
    while (r.downs == 0)
        pyn_links_poll(ls, 0);
    for (unsigned i = 0; i < KEPT; i++)
        drop(&r.kept[i]);
    pyn_links_free(ls);
    return 0;
}
