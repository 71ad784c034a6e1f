/* The receiving side of a link: large reads into counted blocks, frames delivered where they lie.
 *
 * A link holds a block only while it has part of a frame in it. What it leaves, with the bytes that requests refer
 * to in front, serves the next reader (links->spare): so reading small messages allocates nothing as long as they are
 * consumed at once, and an idle link costs no memory. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/huge.h"
#include "base/log.h"
#include "dist/link_private.h"

/* A read into less room than this is not worth its system call. */
#define ROOM_MIN ((size_t)16 * 1024)
/* One read takes no more, so that a peer with a large message does not keep the others waiting. */
#define READ_MAX ((size_t)1024 * 1024)

/* The bytes of the frame that begins at start, its length included; the least that is known of it. */
static size_t frame_size(const struct pyn_inbuf *in)
{
    if (in->len - in->start < PYN_LINK_HEADER)
        return PYN_LINK_HEADER;
    return PYN_LINK_HEADER + (size_t)pyn_get_be32(in->block->data + in->start);
}

/* Makes *in an empty place for at least `need` bytes (one chunk can hold them): the spare's or a new one. */
static bool take_chunk(struct pyn_links *ls, size_t need, struct pyn_inbuf *in)
{
    struct pyn_inbuf *spare = &ls->spare;

    if (need < ROOM_MIN)
        need = ROOM_MIN;
    if (spare->block) {
        if (pyn_block_is_mine(spare->block))
            spare->len = 0;
        *in = (struct pyn_inbuf){spare->block, spare->len, spare->len};
        spare->block = NULL;
        if (in->block->cap - in->len >= need)
            return true;
        pyn_block_unref(in->block);
    }
    *in = (struct pyn_inbuf){pyn_block_new(PYN_LINK_CHUNK), 0, 0};
    return in->block != NULL;
}

/* A block for one frame that no chunk can hold. Its bytes are allocated now but cost memory only as they arrive. */
static bool take_exact(size_t size, struct pyn_inbuf *in)
{
    *in = (struct pyn_inbuf){pyn_block_new(size), 0, 0};
    if (!in->block)
        return false;
    pyn_huge_pages(in->block->data, size);
    return true;
}

/* Moves the part of a frame that is there to a place where the rest fits behind it. */
static bool relocate(struct pyn_link *l, size_t size)
{
    struct pyn_inbuf old = l->in;
    size_t part = old.len - old.start;
    bool ok;

    if (size <= PYN_LINK_CHUNK && pyn_block_is_mine(old.block)) {
        memmove(old.block->data, old.block->data + old.start, part);
        l->in.start = 0;
        l->in.len = part;
        return true;
    }
    ok = size <= PYN_LINK_CHUNK ? take_chunk(l->ls, size, &l->in) : take_exact(size, &l->in);
    if (ok) {
        memcpy(l->in.block->data + l->in.len, old.block->data + old.start, part);
        l->in.len += part;
    }
    pyn_block_unref(old.block);
    return ok;
}

static bool make_room(struct pyn_link *l)
{
    struct pyn_inbuf *in = &l->in;
    size_t size;

    if (!in->block)
        return take_chunk(l->ls, 0, in);
    size = frame_size(in);
    if (size <= in->block->cap - in->start) {
        /* It fits where it is. Move it all the same when little more than its end could be read there; a block
         * made for it, or one that it fills from the start, is as good as can be. */
        if (in->start == 0 || in->block->cap - in->len >= ROOM_MIN)
            return true;
    }
    return relocate(l, size);
}

/* Leaves the block to the next reader when nothing of it is needed here. */
static void settle(struct pyn_link *l)
{
    struct pyn_inbuf *in = &l->in;
    struct pyn_inbuf *spare = &l->ls->spare;

    if (!in->block || in->start < in->len)
        return;
    if (in->block->cap == PYN_LINK_CHUNK && !spare->block)
        *spare = *in;
    else
        pyn_block_unref(in->block);
    in->block = NULL;
}

static void log_unknown(struct pyn_link *l, unsigned op)
{
    uint64_t bit = UINT64_C(1) << (op < 63 ? op : 63);

    if (l->unknown_ops & bit)
        return;
    l->unknown_ops |= bit;
    pyn_log(PYN_NOTICE, "link", "peer=%s control message with the unknown operation %u skipped", l->peer, op);
}

static void log_malformed(const struct pyn_link *l, struct pyn_span frame)
{
    char hex[2 * 32 + 1] = "";

    for (size_t i = 0; i < frame.len && i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", frame.ptr[i]);
    pyn_log(PYN_WARNING, "link", "peer=%s control message in a frame of %zu bytes is malformed, it begins %s", l->peer,
            frame.len, hex);
}

/* false: the link is down. */
static bool deliver(struct pyn_link *l, struct pyn_span frame, int *messages)
{
    struct pyn_links *ls = l->ls;
    struct pyn_control c;

    switch (pyn_control_parse(frame, &c)) {
    case PYN_CONTROL_OK:
        ++*messages;
        ls->events.on_message(ls->events.ctx, l, &c, l->in.block);
        return pyn_link_is_up(l); /* somebody may have closed it, the callback too */
    case PYN_CONTROL_UNKNOWN:
        log_unknown(l, (unsigned)c.op);
        return true;
    case PYN_CONTROL_MALFORMED:
        break;
    }
    log_malformed(l, frame);
    pyn_link_close(l, "malformed control message");
    return false;
}

/* Delivers every frame that is complete. false: the link is down. */
static bool cut_frames(struct pyn_link *l, int *messages)
{
    struct pyn_inbuf *in = &l->in;

    while (in->len - in->start >= PYN_LINK_HEADER) {
        const uint8_t *at = in->block->data + in->start;
        size_t size = pyn_get_be32(at);

        if (size > l->ls->config.max_frame) {
            pyn_log(PYN_WARNING, "link", "peer=%s frame of %zu bytes is longer than the maximum of %zu", l->peer, size,
                    l->ls->config.max_frame);
            pyn_link_close(l, "frame too long");
            return false;
        }
        if (in->len - in->start - PYN_LINK_HEADER < size)
            break;
        in->start += PYN_LINK_HEADER + size;
        /* An empty frame is a tick: that bytes came is all it has to say. */
        if (size > 0 && !deliver(l, (struct pyn_span){at + PYN_LINK_HEADER, size}, messages))
            return false;
    }
    return true;
}

static bool read_failed(struct pyn_link *l, ssize_t n)
{
    char reason[128];

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return true;
    if (n == 0)
        snprintf(reason, sizeof(reason), "closed by the peer");
    else
        snprintf(reason, sizeof(reason), "cannot read: %m");
    pyn_link_close(l, reason);
    return false;
}

bool pyn_link_read(struct pyn_link *l, int *messages)
{
    struct pyn_inbuf *in = &l->in;
    size_t room;
    ssize_t n;
    bool ok;

    if (!make_room(l)) {
        pyn_link_close(l, "no memory to read into");
        return false;
    }
    room = in->block->cap - in->len;
    n = recv(l->fd, in->block->data + in->len, room < READ_MAX ? room : READ_MAX, MSG_DONTWAIT);
    if (n > 0) {
        in->len += (size_t)n;
        atomic_fetch_add_explicit(&l->bytes_in, (uint64_t)n, memory_order_relaxed);
        atomic_fetch_add_explicit(&l->ls->bytes_in, (uint64_t)n, memory_order_relaxed);
        ok = cut_frames(l, messages);
    } else {
        ok = read_failed(l, n);
    }
    settle(l);
    return ok;
}
