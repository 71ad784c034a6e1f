#include "svc/remembered.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What is in the table; users see its first member. */
struct item {
    struct pyn_entry entry;
    atomic_uint refs;
    size_t bytes;
    bool listed; /* guarded by the table's lock, as are the next three */
    struct item *next;
    unsigned missed_count;
    uint64_t *missed; /* a bit per group; behind the struct, as the copies of the spans are */
    uint8_t *copies;
};

struct pyn_remembered {
    unsigned max_entries, max_groups;
    size_t max_bytes;
    atomic_uint missed_total; /* changed under lock, read without */

    pthread_mutex_t lock; /* guards all below, and what items say */
    struct item *first, **last;
    unsigned count;
    size_t bytes;
    uint64_t *known; /* a bit per group that is there */
};

static struct item *item_of(struct pyn_entry *e)
{
    return (struct item *)e;
}

static size_t words(unsigned bits)
{
    return (bits + 63) / 64;
}

static bool get(const uint64_t *bits, int at)
{
    return bits[at / 64] >> (at % 64) & 1;
}

static void set(uint64_t *bits, int at, bool value)
{
    if (value)
        bits[at / 64] |= UINT64_C(1) << (at % 64);
    else
        bits[at / 64] &= ~(UINT64_C(1) << (at % 64));
}

/* ---- lifetime ---- */

struct pyn_remembered *pyn_remembered_new(unsigned max_entries, size_t max_bytes, unsigned max_groups)
{
    struct pyn_remembered *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->max_entries = max_entries;
    t->max_groups = max_groups;
    t->max_bytes = max_bytes;
    t->last = &t->first;
    pthread_mutex_init(&t->lock, NULL);
    t->known = calloc(words(max_groups), sizeof(*t->known));
    if (!t->known) {
        pyn_remembered_free(t);
        return NULL;
    }
    return t;
}

void pyn_remembered_free(struct pyn_remembered *t)
{
    struct item *next;

    if (!t)
        return;
    for (struct item *i = t->first; i; i = next) {
        next = i->next;
        pyn_entry_unref(&i->entry);
    }
    pthread_mutex_destroy(&t->lock);
    free(t->known);
    free(t);
}

struct pyn_entry *pyn_entry_ref(struct pyn_entry *e)
{
    atomic_fetch_add_explicit(&item_of(e)->refs, 1, memory_order_relaxed);
    return e;
}

void pyn_entry_unref(struct pyn_entry *e)
{
    if (e && atomic_fetch_sub_explicit(&item_of(e)->refs, 1, memory_order_acq_rel) == 1)
        free(item_of(e));
}

/* ---- entries ---- */

static size_t size_of(struct pyn_span key, const struct pyn_call *c)
{
    return key.len + c->module.len + c->function.len + c->args.len + c->kwargs.len + c->code.len + c->locals.len;
}

static struct pyn_span copy(struct item *i, struct pyn_span from)
{
    struct pyn_span to = {i->copies, from.len};

    if (from.len > 0)
        memcpy(i->copies, from.ptr, from.len);
    i->copies += from.len;
    return to;
}

static struct item *new_item(struct pyn_span key, const struct pyn_call *call, size_t bytes, unsigned max_groups)
{
    size_t bits = words(max_groups) * sizeof(uint64_t);
    struct item *i = calloc(1, sizeof(*i) + bits + bytes);

    if (!i)
        return NULL;
    atomic_init(&i->refs, 1);
    i->bytes = bytes;
    i->missed = (uint64_t *)(i + 1);
    i->copies = (uint8_t *)i->missed + bits;
    i->entry.key = copy(i, key);
    i->entry.call = *call;
    i->entry.call.module = copy(i, call->module);
    i->entry.call.function = copy(i, call->function);
    i->entry.call.args = copy(i, call->args);
    i->entry.call.kwargs = copy(i, call->kwargs);
    i->entry.call.code = copy(i, call->code);
    i->entry.call.locals = copy(i, call->locals);
    return i;
}

/* lock held. */
static unsigned list_groups(const struct pyn_remembered *t, int *groups)
{
    unsigned count = 0;

    for (unsigned g = 0; g < t->max_groups; g++)
        if (get(t->known, (int)g))
            groups[count++] = (int)g;
    return count;
}

/* lock held. */
static enum pyn_remember append(struct pyn_remembered *t, struct item *i)
{
    if (t->count >= t->max_entries)
        return PYN_REMEMBER_TOO_MANY;
    if (i->bytes > t->max_bytes - t->bytes)
        return PYN_REMEMBER_TOO_LARGE;
    *t->last = i;
    t->last = &i->next;
    t->count++;
    t->bytes += i->bytes;
    i->listed = true;
    pyn_entry_ref(&i->entry);
    return PYN_REMEMBER_OK;
}

enum pyn_remember pyn_remembered_add(struct pyn_remembered *t, struct pyn_span key, const struct pyn_call *call,
                                     struct pyn_entry **entry, int *groups, unsigned *count)
{
    size_t bytes = size_of(key, call);
    enum pyn_remember result;
    struct item *i;

    *entry = NULL;
    *count = 0;
    if (bytes > t->max_bytes)
        return PYN_REMEMBER_TOO_LARGE;
    i = new_item(key, call, bytes, t->max_groups);
    if (!i)
        return PYN_REMEMBER_NO_MEMORY;
    pthread_mutex_lock(&t->lock);
    result = append(t, i);
    *count = list_groups(t, groups);
    pthread_mutex_unlock(&t->lock);
    if (result == PYN_REMEMBER_OK)
        *entry = &i->entry;
    else
        pyn_entry_unref(&i->entry);
    return result;
}

static bool same_call(const struct pyn_call *a, const struct pyn_call *b)
{
    return a->kind == b->kind && pyn_span_eq(a->module, b->module) && pyn_span_eq(a->function, b->function) &&
           pyn_span_eq(a->args, b->args) && pyn_span_eq(a->kwargs, b->kwargs) && pyn_span_eq(a->code, b->code) &&
           pyn_span_eq(a->locals, b->locals);
}

bool pyn_remembered_has(struct pyn_remembered *t, struct pyn_span key, const struct pyn_call *call)
{
    const struct item *newest = NULL;
    bool same;

    pthread_mutex_lock(&t->lock);
    for (const struct item *i = t->first; i; i = i->next)
        if (pyn_span_eq(i->entry.key, key))
            newest = i;
    same = newest && same_call(&newest->entry.call, call);
    pthread_mutex_unlock(&t->lock);
    return same;
}

/* lock held. Unlists the item at *at, and gives the table's reference to the caller. */
static struct item *unlist(struct pyn_remembered *t, struct item **at)
{
    struct item *i = *at;

    *at = i->next;
    if (!i->next)
        t->last = at;
    t->count--;
    t->bytes -= i->bytes;
    i->listed = false;
    atomic_fetch_sub(&t->missed_total, i->missed_count);
    return i;
}

/* lock held. Unlists what has the key and stands before `end` (NULL: all). */
static void unlist_key(struct pyn_remembered *t, struct pyn_span key, const struct item *end)
{
    struct item **at = &t->first;

    while (*at && *at != end) {
        if (pyn_span_eq((*at)->entry.key, key))
            pyn_entry_unref(&unlist(t, at)->entry);
        else
            at = &(*at)->next;
    }
}

void pyn_remembered_settle(struct pyn_remembered *t, struct pyn_entry *entry, bool keep)
{
    struct item *i = item_of(entry);
    struct item **at;

    pthread_mutex_lock(&t->lock);
    if (i->listed && keep) {
        unlist_key(t, entry->key, i);
    } else if (i->listed) {
        for (at = &t->first; *at != i; at = &(*at)->next)
            ;
        pyn_entry_unref(&unlist(t, at)->entry); /* not the last reference: the caller has one */
    }
    pthread_mutex_unlock(&t->lock);
}

void pyn_remembered_forget(struct pyn_remembered *t, struct pyn_span key)
{
    pthread_mutex_lock(&t->lock);
    unlist_key(t, key, NULL);
    pthread_mutex_unlock(&t->lock);
}

unsigned pyn_remembered_count(struct pyn_remembered *t)
{
    unsigned count;

    pthread_mutex_lock(&t->lock);
    count = t->count;
    pthread_mutex_unlock(&t->lock);
    return count;
}

/* ---- groups ---- */

static bool in_range(const struct pyn_remembered *t, int group)
{
    return group >= 0 && (unsigned)group < t->max_groups;
}

/* lock held; a listed item. */
static void set_missed(struct pyn_remembered *t, struct item *i, int group, bool missed)
{
    if (get(i->missed, group) == missed)
        return;
    set(i->missed, group, missed);
    if (missed) {
        i->missed_count++;
        atomic_fetch_add(&t->missed_total, 1);
    } else {
        i->missed_count--;
        atomic_fetch_sub(&t->missed_total, 1);
    }
}

void pyn_remembered_enter(struct pyn_remembered *t, int group)
{
    if (!in_range(t, group))
        return;
    pthread_mutex_lock(&t->lock);
    if (!get(t->known, group)) {
        set(t->known, group, true);
        for (struct item *i = t->first; i; i = i->next)
            set_missed(t, i, group, true);
    }
    pthread_mutex_unlock(&t->lock);
}

unsigned pyn_remembered_groups(struct pyn_remembered *t, int *groups)
{
    unsigned count;

    pthread_mutex_lock(&t->lock);
    count = list_groups(t, groups);
    pthread_mutex_unlock(&t->lock);
    return count;
}

void pyn_remembered_missed(struct pyn_remembered *t, struct pyn_entry *entry, int group)
{
    if (!in_range(t, group))
        return;
    pthread_mutex_lock(&t->lock);
    if (item_of(entry)->listed)
        set_missed(t, item_of(entry), group, true);
    pthread_mutex_unlock(&t->lock);
}

struct pyn_entry *pyn_remembered_next(struct pyn_remembered *t, int group)
{
    struct pyn_entry *found = NULL;

    if (PYN_LIKELY(atomic_load_explicit(&t->missed_total, memory_order_acquire) == 0) || !in_range(t, group))
        return NULL;
    pthread_mutex_lock(&t->lock);
    for (struct item *i = t->first; i && !found; i = i->next) {
        if (get(i->missed, group)) {
            set_missed(t, i, group, false);
            found = pyn_entry_ref(&i->entry);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}
