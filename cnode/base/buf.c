#include "base/buf.h"

#include <stdlib.h>

enum { FIRST_SIZE = 256 };

void pyn_buf_init(struct pyn_buf *b, size_t max)
{
    *b = (struct pyn_buf){.max = max};
}

void pyn_buf_free(struct pyn_buf *b)
{
    free(b->data);
    pyn_buf_init(b, b->max);
}

void pyn_buf_truncate(struct pyn_buf *b, size_t len)
{
    if (len < b->len)
        b->len = len;
    b->failed = false;
}

void pyn_buf_reset(struct pyn_buf *b, size_t keep)
{
    if (b->cap > keep)
        pyn_buf_free(b);
    pyn_buf_truncate(b, 0);
}

bool pyn_buf_grow(struct pyn_buf *b, size_t more)
{
    size_t want = b->cap ? b->cap : FIRST_SIZE;
    uint8_t *data;

    if (b->failed || more > b->max || b->len > b->max - more) {
        b->failed = true;
        return false;
    }
    while (want < b->len + more)
        want = want > b->max / 2 ? b->max : want * 2;
    /* Room that is there is used without another look at the maximum: never make more than it. */
    if (want > b->max)
        want = b->max;
    data = realloc(b->data, want);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = want;
    return true;
}
