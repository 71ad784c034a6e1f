#include "svc/watch.h"

#include <pthread.h>
#include <stdlib.h>

enum { BUCKETS = 1024 };

struct entry {
    struct entry *next_by_pid;
    uint64_t link_id;
    uint64_t hash; /* of the pid */
    struct pyn_buf pid;
    struct pyn_buf ref;
};

struct pyn_watch {
    pthread_mutex_t lock; /* guards all below */
    struct entry *buckets[BUCKETS];
    unsigned count, max;
};

struct pyn_watch *pyn_watch_new(unsigned max)
{
    struct pyn_watch *w = calloc(1, sizeof(*w));

    if (!w)
        return NULL;
    pthread_mutex_init(&w->lock, NULL);
    w->max = max;
    return w;
}

static void free_entry(struct entry *e)
{
    pyn_buf_free(&e->pid);
    pyn_buf_free(&e->ref);
    free(e);
}

void pyn_watch_free(struct pyn_watch *w)
{
    if (!w)
        return;
    for (int i = 0; i < BUCKETS; i++) {
        struct entry *next;
        for (struct entry *e = w->buckets[i]; e; e = next) {
            next = e->next_by_pid;
            free_entry(e);
        }
    }
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static struct pyn_span span_of(const struct pyn_buf *b)
{
    return (struct pyn_span){b->data, b->len};
}

static struct entry *new_entry(struct pyn_node *node, uint64_t link_id, uint64_t hash, struct pyn_span pid)
{
    struct entry *e = calloc(1, sizeof(*e));

    if (!e)
        return NULL;
    e->link_id = link_id;
    e->hash = hash;
    pyn_buf_init(&e->pid, 4096);
    pyn_buf_init(&e->ref, 4096);
    pyn_buf_bytes(&e->pid, pid.ptr, pid.len);
    pyn_node_write_ref(node, &e->ref);
    if (e->pid.failed || e->ref.failed) {
        free_entry(e);
        return NULL;
    }
    return e;
}

static void send_monitor(struct pyn_link *link, struct pyn_span own_pid, const struct entry *e)
{
    struct pyn_out o;

    pyn_out_init(&o, 16384);
    pyn_frame_monitor(&o.buf, own_pid, span_of(&e->pid), span_of(&e->ref));
    if (pyn_link_send(link, &o, true))
        pyn_link_flush(link);
    pyn_out_free(&o);
}

bool pyn_watch_add(struct pyn_watch *w, struct pyn_node *node, struct pyn_span own_pid, struct pyn_link *link,
                   struct pyn_span pid)
{
    uint64_t hash = pyn_span_hash(pid, 0);
    struct entry **bucket = &w->buckets[hash % BUCKETS];
    struct entry *e;
    bool known = false;

    pthread_mutex_lock(&w->lock);
    for (e = *bucket; e && !known; e = e->next_by_pid)
        known = e->hash == hash && e->link_id == pyn_link_id(link) && pyn_span_eq(span_of(&e->pid), pid);
    /* What is added after the link went down nobody would forget (it goes down before pyn_watch_forget_link). */
    if (!known && pyn_link_is_up(link) && w->count < w->max && (e = new_entry(node, pyn_link_id(link), hash, pid))) {
        e->next_by_pid = *bucket;
        *bucket = e;
        w->count++;
        send_monitor(link, own_pid, e);
        known = true;
    }
    pthread_mutex_unlock(&w->lock);
    return known;
}

/* Unlinks and returns the first entry that matches. lock held. */
static struct entry *take(struct pyn_watch *w, int bucket, bool (*match)(const struct entry *e, const void *what),
                          const void *what)
{
    for (struct entry **at = &w->buckets[bucket]; *at; at = &(*at)->next_by_pid) {
        struct entry *e = *at;
        if (match(e, what)) {
            *at = e->next_by_pid;
            w->count--;
            return e;
        }
    }
    return NULL;
}

static bool has_ref(const struct entry *e, const void *ref)
{
    return pyn_span_eq(span_of(&e->ref), *(const struct pyn_span *)ref);
}

static bool has_link(const struct entry *e, const void *link_id)
{
    return e->link_id == *(const uint64_t *)link_id;
}

bool pyn_watch_exit(struct pyn_watch *w, struct pyn_span ref, struct pyn_buf *pid)
{
    struct entry *e = NULL;

    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < BUCKETS && !e; i++)
        e = take(w, i, has_ref, &ref);
    pthread_mutex_unlock(&w->lock);
    if (!e)
        return false;
    *pid = e->pid;
    pyn_buf_init(&e->pid, 0);
    free_entry(e);
    return true;
}

void pyn_watch_forget_link(struct pyn_watch *w, uint64_t link_id)
{
    struct entry *gone = NULL, *e;

    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < BUCKETS; i++) {
        while ((e = take(w, i, has_link, &link_id))) {
            e->next_by_pid = gone;
            gone = e;
        }
    }
    pthread_mutex_unlock(&w->lock);
    while ((e = gone)) {
        gone = e->next_by_pid;
        free_entry(e);
    }
}

unsigned pyn_watch_count(struct pyn_watch *w)
{
    unsigned count;

    pthread_mutex_lock(&w->lock);
    count = w->count;
    pthread_mutex_unlock(&w->lock);
    return count;
}
