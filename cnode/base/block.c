#include "base/block.h"

#include <stdlib.h>

struct pyn_block *pyn_block_new(size_t cap)
{
    struct pyn_block *b;

    if (cap > SIZE_MAX - sizeof(*b))
        return NULL;
    b = malloc(sizeof(*b) + cap);
    if (!b)
        return NULL;
    atomic_init(&b->refs, 1);
    b->cap = cap;
    return b;
}

struct pyn_block *pyn_block_ref(struct pyn_block *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void pyn_block_unref(struct pyn_block *b)
{
    /* acquire-release: whoever frees must see all that the other holders did with the bytes. */
    if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
        free(b);
}

bool pyn_block_is_mine(struct pyn_block *b)
{
    return atomic_load_explicit(&b->refs, memory_order_acquire) == 1;
}
