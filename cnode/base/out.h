/* One outgoing message: bytes, with large foreign stretches spliced in where they stand, uncopied.
 *
 * Used by one thread at a time. Who sends it gives it to the link (pyn_link_send steals the content). */
#ifndef PYN_BASE_OUT_H
#define PYN_BASE_OUT_H

#include "base/buf.h"

/* A foreign stretch: `len` bytes at `ptr` come after the first `at` bytes of the buffer. release(owner) is called
 * once, by whichever thread has finished with the bytes, with no lock of ours held. */
struct pyn_ext {
    size_t at;
    const uint8_t *ptr;
    size_t len;
    void (*release)(void *owner);
    void *owner;
};

/* From this size on a binary is spliced in instead of copied. */
#define PYN_EXT_MIN ((size_t)64 * 1024)
/* So many stretches at most; the encoder copies what comes after them. */
#define PYN_EXT_MAX 64u

struct pyn_out {
    struct pyn_buf buf;
    struct pyn_ext *ext; /* owned array, NULL while there is none */
    unsigned ext_count;
    size_t ext_bytes; /* the sum of all their lengths */
};

/* An empty message of at most max bytes (foreign stretches included). */
void pyn_out_init(struct pyn_out *o, size_t max);
/* Releases everything, foreign stretches too. */
void pyn_out_free(struct pyn_out *o);
/* Appends a foreign stretch. Steals `owner` on true; on false (limits, memory) nothing was taken: copy instead. */
PYN_MUSTCHECK bool pyn_out_splice(struct pyn_out *o, struct pyn_span bytes, void (*release)(void *), void *owner);
/* Back to a size that the buffer had before: later bytes and stretches are dropped (and released). */
void pyn_out_truncate(struct pyn_out *o, size_t len);
/* All bytes that would go over the wire. */
static inline size_t pyn_out_size(const struct pyn_out *o)
{
    return o->buf.len + o->ext_bytes;
}
/* true when all appends worked and the whole is within the maximum. The buffer counts its own bytes only, so what was
 * appended behind a foreign stretch is not checked before this: ask here, not buf.failed, before sending. */
static inline bool pyn_out_fits(const struct pyn_out *o)
{
    return !o->buf.failed && pyn_out_size(o) <= o->buf.max;
}

#endif
