#include "base/out.h"

#include <stdlib.h>

void pyn_out_init(struct pyn_out *o, size_t max)
{
    *o = (struct pyn_out){0};
    pyn_buf_init(&o->buf, max);
}

static void drop_ext(struct pyn_out *o, unsigned keep)
{
    while (o->ext_count > keep) {
        struct pyn_ext *e = &o->ext[--o->ext_count];
        o->ext_bytes -= e->len;
        e->release(e->owner);
    }
}

void pyn_out_free(struct pyn_out *o)
{
    drop_ext(o, 0);
    free(o->ext);
    o->ext = NULL;
    pyn_buf_free(&o->buf);
}

bool pyn_out_splice(struct pyn_out *o, struct pyn_span bytes, void (*release)(void *), void *owner)
{
    if (o->ext_count >= PYN_EXT_MAX || o->buf.failed)
        return false;
    if (bytes.len > o->buf.max || pyn_out_size(o) > o->buf.max - bytes.len)
        return false;
    if (!o->ext) {
        o->ext = malloc(PYN_EXT_MAX * sizeof(*o->ext));
        if (!o->ext)
            return false;
    }
    o->ext[o->ext_count++] = (struct pyn_ext){o->buf.len, bytes.ptr, bytes.len, release, owner};
    o->ext_bytes += bytes.len;
    return true;
}

void pyn_out_truncate(struct pyn_out *o, size_t len)
{
    unsigned keep = 0;

    /* A stretch that stands right at the cut came after it: what is kept ends before it. */
    while (keep < o->ext_count && o->ext[keep].at < len)
        keep++;
    drop_ext(o, keep);
    pyn_buf_truncate(&o->buf, len);
}
