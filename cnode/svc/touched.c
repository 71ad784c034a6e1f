#include "svc/touched.h"

#include <string.h>

void pyn_touched_init(struct pyn_touched *t)
{
    pthread_mutex_init(&t->lock, NULL);
    t->count = 0;
}

void pyn_touched_fini(struct pyn_touched *t)
{
    pthread_mutex_destroy(&t->lock);
}

void pyn_touched_add(struct pyn_touched *t, struct pyn_link *l)
{
    bool known = false;

    pthread_mutex_lock(&t->lock);
    for (unsigned i = 0; i < t->count && !known; i++)
        known = t->links[i] == l;
    if (!known && t->count < PYN_TOUCHED) {
        t->links[t->count++] = pyn_link_ref(l);
        known = true;
    }
    pthread_mutex_unlock(&t->lock);
    if (!known)
        pyn_link_flush(l);
}

void pyn_touched_flush(struct pyn_touched *t)
{
    struct pyn_link *links[PYN_TOUCHED];
    unsigned count;

    pthread_mutex_lock(&t->lock);
    count = t->count;
    memcpy(links, t->links, count * sizeof(*links));
    t->count = 0;
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < count; i++) {
        pyn_link_flush(links[i]);
        pyn_link_unref(links[i]);
    }
}
