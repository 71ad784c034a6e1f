#include "svc/streams.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024 };

struct stream {
    struct stream *next;
    uint64_t number;
    uint64_t link_id;
    struct pyn_stream_place place;
    bool taken;
    bool ending;
    size_t pid_len;
    uint8_t pid[];
};

struct pyn_streams {
    pthread_mutex_t lock; /* guards all below */
    struct stream *buckets[BUCKETS];
    unsigned count, max;
    bool closed; /* no more may come */
};

struct pyn_streams *pyn_streams_new(unsigned max)
{
    struct pyn_streams *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    pthread_mutex_init(&t->lock, NULL);
    t->max = max;
    return t;
}

void pyn_streams_free(struct pyn_streams *t)
{
    struct stream *s;

    if (!t)
        return;
    for (unsigned i = 0; i < BUCKETS; i++) {
        while ((s = t->buckets[i])) {
            t->buckets[i] = s->next;
            free(s);
        }
    }
    pthread_mutex_destroy(&t->lock);
    free(t);
}

unsigned pyn_streams_count(struct pyn_streams *t)
{
    unsigned count;

    pthread_mutex_lock(&t->lock);
    count = t->count;
    pthread_mutex_unlock(&t->lock);
    return count;
}

bool pyn_streams_add(struct pyn_streams *t, uint64_t number, const struct pyn_stream_place *place, uint64_t link_id,
                     struct pyn_span pid)
{
    struct stream *s = malloc(sizeof(*s) + pid.len);
    bool room;

    if (!s)
        return false;
    *s = (struct stream){.number = number, .link_id = link_id, .place = *place, .taken = true, .pid_len = pid.len};
    if (pid.len > 0)
        memcpy(s->pid, pid.ptr, pid.len);
    pthread_mutex_lock(&t->lock);
    room = t->count < t->max && !t->closed;
    if (room) {
        s->next = t->buckets[number % BUCKETS];
        t->buckets[number % BUCKETS] = s;
        t->count++;
    }
    pthread_mutex_unlock(&t->lock);
    if (!room)
        free(s);
    return room;
}

/* lock held. Where the stream hangs; what is there is NULL when there is none. */
static struct stream **place_of(struct pyn_streams *t, uint64_t number)
{
    struct stream **at = &t->buckets[number % BUCKETS];

    while (*at && (*at)->number != number)
        at = &(*at)->next;
    return at;
}

/* lock held. */
static void remove_at(struct pyn_streams *t, struct stream **at)
{
    struct stream *s = *at;

    *at = s->next;
    t->count--;
    free(s);
}

static enum pyn_stream_state state_of(const struct stream *s)
{
    if (!s || s->ending)
        return PYN_STREAM_UNKNOWN;
    return s->taken ? PYN_STREAM_BUSY : PYN_STREAM_FREE;
}

enum pyn_stream_state pyn_streams_find(struct pyn_streams *t, uint64_t number, struct pyn_stream_place *place)
{
    enum pyn_stream_state state;
    struct stream *s;

    pthread_mutex_lock(&t->lock);
    s = *place_of(t, number);
    state = state_of(s);
    if (state != PYN_STREAM_UNKNOWN)
        *place = s->place;
    pthread_mutex_unlock(&t->lock);
    return state;
}

enum pyn_stream_state pyn_streams_take(struct pyn_streams *t, uint64_t number)
{
    enum pyn_stream_state state;
    struct stream *s;

    pthread_mutex_lock(&t->lock);
    s = *place_of(t, number);
    state = state_of(s);
    if (state == PYN_STREAM_FREE)
        s->taken = true;
    pthread_mutex_unlock(&t->lock);
    return state;
}

bool pyn_streams_give(struct pyn_streams *t, uint64_t number, enum pyn_stream_give how)
{
    struct stream **at;
    bool close = false;

    pthread_mutex_lock(&t->lock);
    at = place_of(t, number);
    if (*at) {
        close = how == PYN_STREAM_FAILS || (how == PYN_STREAM_LIVES && (*at)->ending);
        (*at)->taken = false;
        if (close || how == PYN_STREAM_GONE)
            remove_at(t, at);
    }
    pthread_mutex_unlock(&t->lock);
    return close;
}

static bool matches(const struct stream *s, const struct pyn_streams_match *m)
{
    if (m->number != 0 && m->number != s->number)
        return false;
    if (m->link_id != 0 && m->link_id != s->link_id)
        return false;
    if (m->context != 0 && m->context != s->place.context)
        return false;
    return m->pid.len == 0 || pyn_span_eq((struct pyn_span){s->pid, s->pid_len}, m->pid);
}

/* lock held. The first one of the bucket that is not taken; those that are get marked on the way. */
static struct stream **find_ending(struct stream **at, const struct pyn_streams_match *match)
{
    for (; *at; at = &(*at)->next) {
        if (!matches(*at, match))
            continue;
        (*at)->ending = true;
        if (!(*at)->taken)
            return at;
    }
    return NULL;
}

bool pyn_streams_end(struct pyn_streams *t, const struct pyn_streams_match *match, uint64_t *number,
                     struct pyn_stream_place *place)
{
    struct stream **at = NULL;

    pthread_mutex_lock(&t->lock);
    if (match->number == 0 && match->link_id == 0 && match->context == 0 && match->pid.len == 0)
        t->closed = true;
    for (unsigned i = 0; i < BUCKETS && !at && t->count > 0; i++)
        at = find_ending(&t->buckets[i], match);
    if (at) {
        *number = (*at)->number;
        *place = (*at)->place;
        remove_at(t, at);
    }
    pthread_mutex_unlock(&t->lock);
    return at != NULL;
}
