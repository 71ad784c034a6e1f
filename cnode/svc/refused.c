#include "svc/refused.h"

#include <stdlib.h>
#include <string.h>

void pyn_refused_init(struct pyn_refused *r)
{
    memset(r, 0, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
}

void pyn_refused_free(struct pyn_refused *r)
{
    for (unsigned i = 0; i < r->count; i++)
        free(r->modules[i].name);
    pthread_mutex_destroy(&r->lock);
}

static bool has(struct pyn_refused *r, struct pyn_span name)
{
    for (unsigned i = 0; i < r->count; i++) {
        struct pyn_span known = {r->modules[i].name, r->modules[i].len};
        if (pyn_span_eq(known, name))
            return true;
    }
    return false;
}

bool pyn_refused_add(struct pyn_refused *r, struct pyn_span name)
{
    bool added = false;
    uint8_t *copy = NULL;

    pthread_mutex_lock(&r->lock);
    if (r->count < PYN_REFUSED_MAX && name.len > 0 && !has(r, name))
        copy = malloc(name.len);
    if (copy) {
        memcpy(copy, name.ptr, name.len);
        r->modules[r->count].name = copy;
        r->modules[r->count].len = name.len;
        atomic_fetch_add(&r->count, 1);
        added = true;
    }
    pthread_mutex_unlock(&r->lock);
    return added;
}

bool pyn_refused_has(struct pyn_refused *r, struct pyn_span name)
{
    bool found;

    if (atomic_load_explicit(&r->count, memory_order_relaxed) == 0)
        return false;
    pthread_mutex_lock(&r->lock);
    found = has(r, name);
    pthread_mutex_unlock(&r->lock);
    return found;
}
