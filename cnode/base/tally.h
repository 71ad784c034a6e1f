/* Which blocks of memory are in use, and how many bytes they are: by whom (a small number), and all together.
 *
 * For allocators: a block is added behind its allocation and taken before it is freed, by any threads. What was
 * allocated before the start is not known, and its end changes nothing. Bounded: blocks beyond the maximum are not
 * counted. Mutexes of its own, innermost; memory of its own comes from malloc. */
#ifndef PYN_BASE_TALLY_H
#define PYN_BASE_TALLY_H

#include "base/defs.h"

enum { PYN_TALLY_OWNERS = 1024 };

struct pyn_tally;

/* Stopped. max_blocks is rounded up to a multiple of 64. NULL: out of memory. */
struct pyn_tally *pyn_tally_new(unsigned max_blocks);
void pyn_tally_free(struct pyn_tally *t);

/* From nothing; counts until it is stopped. Nothing happens when it counts already. */
void pyn_tally_start(struct pyn_tally *t);
/* Forgets everything. */
void pyn_tally_stop(struct pyn_tally *t);

/* Owners from PYN_TALLY_OWNERS on count as the last one. A block that is known already is known by the new size. */
void pyn_tally_add(struct pyn_tally *t, const void *block, size_t size, unsigned owner);
/* true: the block was known, and is no more; *size and *owner are as they were added. */
bool pyn_tally_take(struct pyn_tally *t, const void *block, size_t *size, unsigned *owner);

struct pyn_tally_sum {
    size_t current;
    size_t peak;
};
struct pyn_tally_sum pyn_tally_of(struct pyn_tally *t, unsigned owner);
struct pyn_tally_sum pyn_tally_total(struct pyn_tally *t);

#endif
