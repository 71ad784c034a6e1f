/* A byte buffer that grows up to a maximum given at birth.
 *
 * A failed append (maximum or memory) sets `failed`, leaves the bytes as they were and makes every later append
 * fail too, so that a writer may check once, at its end. The struct belongs to one thread at a time. */
#ifndef PYN_BASE_BUF_H
#define PYN_BASE_BUF_H

#include <string.h>

#include "base/defs.h"

struct pyn_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max;
    bool failed;
};

/* An empty buffer that will hold max bytes at most; allocates nothing. */
void pyn_buf_init(struct pyn_buf *b, size_t max);
/* Frees the bytes; the buffer is as after init. */
void pyn_buf_free(struct pyn_buf *b);
/* Cuts back to len bytes (not more than there are) and forgets a failure. */
void pyn_buf_truncate(struct pyn_buf *b, size_t len);
/* Empties the buffer; gives memory above keep bytes back. */
void pyn_buf_reset(struct pyn_buf *b, size_t keep);
/* The slow path of pyn_buf_room. */
PYN_MUSTCHECK bool pyn_buf_grow(struct pyn_buf *b, size_t more);

/* Makes room for `more` further bytes behind len. false: failed is set. */
static inline bool pyn_buf_room(struct pyn_buf *b, size_t more)
{
    return PYN_LIKELY(more <= b->cap - b->len && !b->failed) || pyn_buf_grow(b, more);
}

static inline void pyn_buf_bytes(struct pyn_buf *b, const void *bytes, size_t n)
{
    if (n > 0 && pyn_buf_room(b, n)) {
        memcpy(b->data + b->len, bytes, n);
        b->len += n;
    }
}

static inline void pyn_buf_u8(struct pyn_buf *b, uint8_t v)
{
    if (pyn_buf_room(b, 1))
        b->data[b->len++] = v;
}

/* Big-endian, as the external term format wants it. */
static inline void pyn_put_be32(uint8_t *at, uint32_t v)
{
    at[0] = (uint8_t)(v >> 24);
    at[1] = (uint8_t)(v >> 16);
    at[2] = (uint8_t)(v >> 8);
    at[3] = (uint8_t)v;
}

static inline uint32_t pyn_get_be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline uint16_t pyn_get_be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline void pyn_buf_be32(struct pyn_buf *b, uint32_t v)
{
    if (pyn_buf_room(b, 4)) {
        pyn_put_be32(b->data + b->len, v);
        b->len += 4;
    }
}

#endif
