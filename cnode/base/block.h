/* A counted block of received bytes. The reader of a link fills it; every request that points into it holds a
 * reference, so that a payload is never copied on its way to Python. */
#ifndef PYN_BASE_BLOCK_H
#define PYN_BASE_BLOCK_H

#include <stdatomic.h>

#include "base/defs.h"

struct pyn_block {
    atomic_uint refs;
    size_t cap;
    uint8_t data[];
};

/* A new block of cap bytes with one reference, or NULL when memory is out. The bytes are not set. */
struct pyn_block *pyn_block_new(size_t cap);
/* Takes one more reference; returns the block. Any thread. */
struct pyn_block *pyn_block_ref(struct pyn_block *b);
/* Gives one reference back; the last one frees. NULL is fine. Any thread. */
void pyn_block_unref(struct pyn_block *b);
/* true when the caller holds the only reference, so that the bytes may be written over. */
bool pyn_block_is_mine(struct pyn_block *b);

#endif
