#include "svc/contexts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Numbers begin somewhere: a number of an earlier pynode of this name is found in no table. They fit into an Erlang
 * integer of one word. */
static uint64_t first_id(void)
{
    uint32_t seed = 0;

    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed = (uint32_t)(uintptr_t)&seed;
    return (uint64_t)seed << 24;
}

void pyn_contexts_init(struct pyn_contexts *t, unsigned max)
{
    *t = (struct pyn_contexts){.max = max, .last_id = first_id()};
    pthread_mutex_init(&t->lock, NULL);
}

void pyn_contexts_fini(struct pyn_contexts *t)
{
    struct pyn_context *next;

    for (struct pyn_context *c = t->first; c; c = next) {
        next = c->next;
        pyn_context_unref(c);
    }
    pthread_mutex_destroy(&t->lock);
}

struct pyn_context *pyn_context_ref(struct pyn_context *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void pyn_context_unref(struct pyn_context *c)
{
    if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
        free(c);
}

bool pyn_context_end(struct pyn_context *c)
{
    return !atomic_exchange_explicit(&c->over, true, memory_order_acq_rel);
}

bool pyn_contexts_reserve(struct pyn_contexts *t)
{
    bool free_place;

    pthread_mutex_lock(&t->lock);
    free_place = t->count + t->reserved < t->max;
    if (free_place)
        t->reserved++;
    pthread_mutex_unlock(&t->lock);
    return free_place;
}

void pyn_contexts_unreserve(struct pyn_contexts *t)
{
    pthread_mutex_lock(&t->lock);
    t->reserved--;
    pthread_mutex_unlock(&t->lock);
}

struct pyn_context *pyn_context_new(struct pyn_worker *w, uint64_t link_id, struct pyn_span owner,
                                    struct pyn_job *closer)
{
    struct pyn_context *c = malloc(sizeof(*c) + owner.len);

    if (!c)
        return NULL;
    *c = (struct pyn_context){.worker = w, .link_id = link_id, .closer = closer, .owner_len = owner.len};
    memcpy(c->owner, owner.ptr, owner.len);
    atomic_init(&c->refs, 1);
    atomic_init(&c->over, false);
    return c;
}

void pyn_contexts_add(struct pyn_contexts *t, struct pyn_context *c)
{
    pyn_context_ref(c); /* the table's */
    pthread_mutex_lock(&t->lock);
    c->id = ++t->last_id;
    c->listed = true;
    c->next = t->first;
    t->first = c;
    t->count++;
    t->reserved--;
    pthread_mutex_unlock(&t->lock);
}

struct pyn_context *pyn_contexts_search(struct pyn_contexts *t,
                                        bool (*match)(const struct pyn_context *c, const void *what), const void *what)
{
    struct pyn_context *c;

    pthread_mutex_lock(&t->lock);
    for (c = t->first; c && (pyn_context_is_over(c) || !match(c, what)); c = c->next)
        ;
    if (c)
        pyn_context_ref(c);
    pthread_mutex_unlock(&t->lock);
    return c;
}

static bool has_id(const struct pyn_context *c, const void *id)
{
    return c->id == *(const uint64_t *)id;
}

struct pyn_context *pyn_contexts_find(struct pyn_contexts *t, uint64_t id)
{
    return pyn_contexts_search(t, has_id, &id);
}

bool pyn_contexts_await(struct pyn_contexts *t, uint64_t id, struct pyn_job *job)
{
    struct pyn_context *c;

    pthread_mutex_lock(&t->lock);
    for (c = t->first; c && c->id != id; c = c->next)
        ;
    if (c)
        pyn_queue_push(&c->waiting, job);
    pthread_mutex_unlock(&t->lock);
    return c != NULL;
}

struct pyn_context *pyn_contexts_of_worker(struct pyn_contexts *t, const struct pyn_worker *w)
{
    struct pyn_context *c;

    pthread_mutex_lock(&t->lock);
    for (c = t->first; c && c->worker != w; c = c->next)
        ;
    if (c)
        pyn_context_ref(c);
    pthread_mutex_unlock(&t->lock);
    return c;
}

void pyn_contexts_remove(struct pyn_contexts *t, struct pyn_context *c, struct pyn_queue *waiting)
{
    bool listed;

    pthread_mutex_lock(&t->lock);
    listed = c->listed;
    if (listed) {
        struct pyn_context **at = &t->first;
        while (*at != c)
            at = &(*at)->next;
        *at = c->next;
        c->listed = false;
        t->count--;
        pyn_queue_append(waiting, &c->waiting);
    }
    pthread_mutex_unlock(&t->lock);
    if (listed)
        pyn_context_unref(c);
}

unsigned pyn_contexts_count(struct pyn_contexts *t)
{
    unsigned count;

    pthread_mutex_lock(&t->lock);
    count = t->count;
    pthread_mutex_unlock(&t->lock);
    return count;
}
