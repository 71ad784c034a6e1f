#include "svc/pins.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS = 1024 };

/* A map from bytes to a group: chained buckets, and a list in order of age for making room. */
struct pin {
    struct pin *next; /* in the bucket */
    struct pin *older, *younger;
    uint64_t hash;
    int group;
    size_t len;
    uint8_t key[];
};

struct table {
    struct pin **buckets;
    unsigned size, count, max;
    struct pin *oldest, *youngest;
    unsigned held[GROUPS]; /* by group: more groups than that share */
};

struct pyn_pins {
    pthread_mutex_t lock; /* guards both */
    struct table callers;
    struct table names;
};

static unsigned slot(int group)
{
    return (unsigned)group % GROUPS;
}

static bool init_table(struct table *t, unsigned max)
{
    *t = (struct table){.size = 1024, .max = max};
    t->buckets = calloc(t->size, sizeof(struct pin *));
    return t->buckets != NULL;
}

static struct pin **find(struct table *t, struct pyn_span key, uint64_t hash)
{
    struct pin **at = &t->buckets[hash % t->size];

    while (*at && !((*at)->hash == hash && (*at)->len == key.len && memcmp((*at)->key, key.ptr, key.len) == 0))
        at = &(*at)->next;
    return at;
}

static void drop(struct table *t, struct pin **at)
{
    struct pin *pin = *at;

    *at = pin->next;
    if (pin->older)
        pin->older->younger = pin->younger;
    else
        t->oldest = pin->younger;
    if (pin->younger)
        pin->younger->older = pin->older;
    else
        t->youngest = pin->older;
    t->count--;
    t->held[slot(pin->group)]--;
    free(pin);
}

static void set(struct table *t, struct pyn_span key, int group)
{
    uint64_t hash = pyn_span_hash(key, 0);
    struct pin **at = find(t, key, hash);
    struct pin *pin;

    if (*at) {
        t->held[slot((*at)->group)]--;
        t->held[slot(group)]++;
        (*at)->group = group;
        return;
    }
    if (t->count >= t->max && t->oldest) {
        struct pyn_span old = {t->oldest->key, t->oldest->len};
        drop(t, find(t, old, t->oldest->hash));
    }
    pin = malloc(sizeof(*pin) + key.len);
    if (!pin)
        return; /* as if it had been made room of at once */
    at = &t->buckets[hash % t->size];
    *pin = (struct pin){.next = *at, .older = t->youngest, .hash = hash, .group = group, .len = key.len};
    memcpy(pin->key, key.ptr, key.len);
    *at = pin;
    if (t->youngest)
        t->youngest->younger = pin;
    else
        t->oldest = pin;
    t->youngest = pin;
    t->count++;
    t->held[slot(group)]++;
}

static int get(struct table *t, struct pyn_span key)
{
    struct pin **at = find(t, key, pyn_span_hash(key, 0));
    return *at ? (*at)->group : -1;
}

struct pyn_pins *pyn_pins_new(unsigned max_callers, unsigned max_names)
{
    struct pyn_pins *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    if (init_table(&p->callers, max_callers) && init_table(&p->names, max_names))
        return p;
    pyn_pins_free(p);
    return NULL;
}

static void free_table(struct table *t)
{
    while (t->oldest) {
        struct pyn_span key = {t->oldest->key, t->oldest->len};
        drop(t, find(t, key, t->oldest->hash));
    }
    free(t->buckets);
}

void pyn_pins_free(struct pyn_pins *p)
{
    if (!p)
        return;
    free_table(&p->callers);
    free_table(&p->names);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void pyn_pins_set_caller(struct pyn_pins *p, struct pyn_span pid, int group)
{
    pthread_mutex_lock(&p->lock);
    set(&p->callers, pid, group);
    pthread_mutex_unlock(&p->lock);
}

int pyn_pins_caller(struct pyn_pins *p, struct pyn_span pid)
{
    int group;

    pthread_mutex_lock(&p->lock);
    group = get(&p->callers, pid);
    pthread_mutex_unlock(&p->lock);
    return group;
}

unsigned pyn_pins_callers(struct pyn_pins *p, int group)
{
    unsigned count;

    pthread_mutex_lock(&p->lock);
    count = p->callers.held[slot(group)];
    pthread_mutex_unlock(&p->lock);
    return count;
}

void pyn_pins_forget_caller(struct pyn_pins *p, struct pyn_span pid)
{
    struct pin **at;

    pthread_mutex_lock(&p->lock);
    at = find(&p->callers, pid, pyn_span_hash(pid, 0));
    if (*at)
        drop(&p->callers, at);
    pthread_mutex_unlock(&p->lock);
}

static struct pyn_span first_part(struct pyn_span name)
{
    const uint8_t *dot = memchr(name.ptr, '.', name.len);

    if (dot)
        name.len = (size_t)(dot - name.ptr);
    return name;
}

void pyn_pins_set_name(struct pyn_pins *p, struct pyn_span name, int group)
{
    pthread_mutex_lock(&p->lock);
    set(&p->names, name, group);
    pthread_mutex_unlock(&p->lock);
}

int pyn_pins_name(struct pyn_pins *p, struct pyn_span name)
{
    int group;

    pthread_mutex_lock(&p->lock);
    group = get(&p->names, first_part(name));
    pthread_mutex_unlock(&p->lock);
    return group;
}
