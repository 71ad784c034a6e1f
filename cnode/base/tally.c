#include "base/tally.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { SHARDS = 64, FIRST_CAP = 256 };

struct known {
    const void *block; /* NULL: a free place */
    size_t size;
    unsigned owner;
};

/* Open addressing; a place is searched for from its hash on, up to the first free one. Half of it stays free. */
struct shard {
    pthread_mutex_t lock; /* guards the rest */
    struct known *places;
    size_t cap; /* a power of two, or 0 */
    size_t count;
};

struct sum {
    atomic_size_t current, peak;
};

struct pyn_tally {
    atomic_bool on;
    size_t max_per_shard;
    struct shard shards[SHARDS];
    struct sum total;
    struct sum owners[PYN_TALLY_OWNERS];
};

struct pyn_tally *pyn_tally_new(unsigned max_blocks)
{
    struct pyn_tally *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->max_per_shard = ((size_t)max_blocks + SHARDS - 1) / SHARDS;
    for (int i = 0; i < SHARDS; i++)
        pthread_mutex_init(&t->shards[i].lock, NULL);
    return t;
}

void pyn_tally_free(struct pyn_tally *t)
{
    if (!t)
        return;
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_destroy(&t->shards[i].lock);
        free(t->shards[i].places);
    }
    free(t);
}

/* ---- sums ---- */

static void count(struct sum *s, size_t size)
{
    size_t now = atomic_fetch_add_explicit(&s->current, size, memory_order_relaxed) + size;
    size_t peak = atomic_load_explicit(&s->peak, memory_order_relaxed);

    while (now > peak &&
           !atomic_compare_exchange_weak_explicit(&s->peak, &peak, now, memory_order_relaxed, memory_order_relaxed))
        ;
}

static void uncount(struct sum *s, size_t size)
{
    atomic_fetch_sub_explicit(&s->current, size, memory_order_relaxed);
}

static void clear(struct sum *s)
{
    atomic_store(&s->current, 0);
    atomic_store(&s->peak, 0);
}

static struct pyn_tally_sum read_sum(struct sum *s)
{
    return (struct pyn_tally_sum){atomic_load(&s->current), atomic_load(&s->peak)};
}

static unsigned bounded(unsigned owner)
{
    return owner < PYN_TALLY_OWNERS ? owner : PYN_TALLY_OWNERS - 1;
}

struct pyn_tally_sum pyn_tally_of(struct pyn_tally *t, unsigned owner)
{
    return read_sum(&t->owners[bounded(owner)]);
}

struct pyn_tally_sum pyn_tally_total(struct pyn_tally *t)
{
    return read_sum(&t->total);
}

/* ---- blocks ---- */

static uint64_t hash(const void *block)
{
    uint64_t h = (uint64_t)(uintptr_t)block >> 4;
    return h * UINT64_C(0x9e3779b97f4a7c15);
}

static struct shard *shard_of(struct pyn_tally *t, const void *block)
{
    return &t->shards[hash(block) >> 58];
}

static size_t home(const struct shard *s, const void *block)
{
    return (size_t)(hash(block) >> 20) & (s->cap - 1);
}

/* lock held, cap > 0. The block's place, or the free one that it would go to. */
static struct known *find(const struct shard *s, const void *block)
{
    size_t at = home(s, block);

    while (s->places[at].block && s->places[at].block != block)
        at = (at + 1) & (s->cap - 1);
    return &s->places[at];
}

/* lock held. Room for one more? */
static bool grow(const struct pyn_tally *t, struct shard *s)
{
    struct shard bigger = {.cap = s->cap ? s->cap * 2 : FIRST_CAP, .count = s->count};

    if (s->count >= t->max_per_shard)
        return false;
    if (s->count < s->cap / 2)
        return true;
    bigger.places = calloc(bigger.cap, sizeof(*bigger.places));
    if (!bigger.places)
        return false;
    for (size_t i = 0; i < s->cap; i++)
        if (s->places[i].block)
            *find(&bigger, s->places[i].block) = s->places[i];
    free(s->places);
    s->places = bigger.places;
    s->cap = bigger.cap;
    return true;
}

/* lock held. Frees a place; those behind it that were pushed on by it move up. */
static void vacate(struct shard *s, size_t at)
{
    size_t next = at;

    for (;;) {
        next = (next + 1) & (s->cap - 1);
        if (!s->places[next].block)
            break;
        /* It may move when its own home is not between the hole and itself. */
        if (((next - home(s, s->places[next].block)) & (s->cap - 1)) >= ((next - at) & (s->cap - 1))) {
            s->places[at] = s->places[next];
            at = next;
        }
    }
    s->places[at].block = NULL;
    s->count--;
}

/* lock held. */
static void forget(struct pyn_tally *t, struct shard *s, const struct known *k)
{
    uncount(&t->total, k->size);
    uncount(&t->owners[k->owner], k->size);
    vacate(s, (size_t)(k - s->places));
}

void pyn_tally_add(struct pyn_tally *t, const void *block, size_t size, unsigned owner)
{
    struct shard *s = shard_of(t, block);
    struct known *k;

    if (!block)
        return;
    pthread_mutex_lock(&s->lock);
    if (s->cap > 0 && (k = find(s, block))->block)
        forget(t, s, k); /* its end was missed */
    if (atomic_load(&t->on) && grow(t, s)) {
        k = find(s, block);
        *k = (struct known){block, size, bounded(owner)};
        s->count++;
        count(&t->total, size);
        count(&t->owners[bounded(owner)], size);
    }
    pthread_mutex_unlock(&s->lock);
}

bool pyn_tally_take(struct pyn_tally *t, const void *block, size_t *size, unsigned *owner)
{
    struct shard *s = shard_of(t, block);
    struct known *k;
    bool found = false;

    if (!block)
        return false;
    pthread_mutex_lock(&s->lock);
    if (s->cap > 0 && (k = find(s, block))->block) {
        *size = k->size;
        *owner = k->owner;
        forget(t, s, k);
        found = true;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

/* ---- start and stop ---- */

void pyn_tally_start(struct pyn_tally *t)
{
    atomic_store(&t->on, true);
}

void pyn_tally_stop(struct pyn_tally *t)
{
    atomic_store(&t->on, false);
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &t->shards[i];
        pthread_mutex_lock(&s->lock);
        free(s->places);
        s->places = NULL;
        s->cap = s->count = 0;
        pthread_mutex_unlock(&s->lock);
    }
    /* Whoever added since has seen `on` under a shard's lock before that was emptied. */
    clear(&t->total);
    for (int i = 0; i < PYN_TALLY_OWNERS; i++)
        clear(&t->owners[i]);
}
