#include "svc/due.h"

#include <stdlib.h>

bool pyn_due_init(struct pyn_due *d, unsigned max)
{
    *d = (struct pyn_due){.max = max};
    d->at = calloc((size_t)max + 1, sizeof(struct pyn_request *));
    return d->at != NULL;
}

void pyn_due_free(struct pyn_due *d)
{
    free(d->at);
    d->at = NULL;
}

static void put(struct pyn_due *d, unsigned place, struct pyn_request *r)
{
    d->at[place] = r;
    r->late.due = place;
}

/* Moves r, which is to stand at place, up to where it belongs. */
static void rise(struct pyn_due *d, unsigned place, struct pyn_request *r)
{
    for (; place > 1 && d->at[place / 2]->deadline > r->deadline; place /= 2)
        put(d, place, d->at[place / 2]);
    put(d, place, r);
}

/* The same downwards. */
static void sink(struct pyn_due *d, unsigned place, struct pyn_request *r)
{
    for (;;) {
        unsigned child = place * 2;
        if (child < d->count && d->at[child + 1]->deadline < d->at[child]->deadline)
            child++;
        if (child > d->count || d->at[child]->deadline >= r->deadline)
            break;
        put(d, place, d->at[child]);
        place = child;
    }
    put(d, place, r);
}

void pyn_due_add(struct pyn_due *d, struct pyn_request *r)
{
    if (r->deadline != PYN_NEVER && r->late.due == 0 && d->count < d->max)
        rise(d, ++d->count, r);
}

void pyn_due_remove(struct pyn_due *d, struct pyn_request *r)
{
    unsigned place = r->late.due;
    struct pyn_request *last;

    if (place == 0)
        return;
    r->late.due = 0;
    last = d->at[d->count--];
    if (last == r)
        return;
    if (place > 1 && d->at[place / 2]->deadline > last->deadline)
        rise(d, place, last);
    else
        sink(d, place, last);
}
