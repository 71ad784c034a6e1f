#include "py/graveyard.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct pyn_grave {
    struct pyn_grave *next; /* while it waits */
    struct pyn_graveyard *yard;
    PyObject *object;
};

struct pyn_graveyard {
    pthread_mutex_t lock;      /* guards all below; a leaf: nothing is called under it */
    struct pyn_grave *waiting; /* released by their users, still holding their objects */
    size_t holders;            /* the interpreter until close, and each grave */
    bool closed;
    atomic_bool busy; /* waiting is not empty; read without the lock, as a hint */
};

struct pyn_graveyard *pyn_graveyard_new(void)
{
    struct pyn_graveyard *g = calloc(1, sizeof(*g));

    if (!g)
        return NULL;
    if (pthread_mutex_init(&g->lock, NULL) != 0) {
        free(g);
        return NULL;
    }
    g->holders = 1;
    return g;
}

/* Gives n holds back; the last one frees. */
static void let_go(struct pyn_graveyard *g, size_t n)
{
    bool last;

    pthread_mutex_lock(&g->lock);
    g->holders -= n;
    last = g->holders == 0;
    pthread_mutex_unlock(&g->lock);
    if (last) {
        pthread_mutex_destroy(&g->lock);
        free(g);
    }
}

static struct pyn_grave *take_waiting(struct pyn_graveyard *g, bool close)
{
    struct pyn_grave *list;

    pthread_mutex_lock(&g->lock);
    list = g->waiting;
    g->waiting = NULL;
    g->closed |= close;
    atomic_store_explicit(&g->busy, false, memory_order_relaxed);
    pthread_mutex_unlock(&g->lock);
    return list;
}

/* How many graves there were; their holds are the caller's to give back. */
static size_t release_list(struct pyn_grave *list)
{
    size_t n = 0;

    for (struct pyn_grave *next; list; list = next, n++) {
        next = list->next;
        Py_DECREF(list->object);
        free(list);
    }
    return n;
}

void pyn_graveyard_drain(struct pyn_graveyard *g)
{
    size_t n;

    if (PYN_LIKELY(!g || !atomic_load_explicit(&g->busy, memory_order_relaxed)))
        return;
    n = release_list(take_waiting(g, false));
    if (n > 0)
        let_go(g, n);
}

void pyn_graveyard_close(struct pyn_graveyard *g)
{
    if (g)
        let_go(g, release_list(take_waiting(g, true)) + 1);
}

struct pyn_grave *pyn_grave_new(struct pyn_graveyard *g, PyObject *object)
{
    struct pyn_grave *grave = malloc(sizeof(*grave));

    if (!grave)
        return NULL;
    *grave = (struct pyn_grave){.yard = g, .object = Py_NewRef(object)};
    pthread_mutex_lock(&g->lock);
    g->holders++;
    pthread_mutex_unlock(&g->lock);
    return grave;
}

void pyn_grave_bury(void *opaque)
{
    struct pyn_grave *grave = opaque;
    struct pyn_graveyard *g = grave->yard;
    bool closed;

    pthread_mutex_lock(&g->lock);
    closed = g->closed;
    if (!closed) {
        grave->next = g->waiting;
        g->waiting = grave;
        atomic_store_explicit(&g->busy, true, memory_order_relaxed);
    }
    pthread_mutex_unlock(&g->lock);
    if (closed) {
        /* The interpreter has gone: nobody can give the reference back, so its object stays where it is. */
        free(grave);
        let_go(g, 1);
    }
}

void pyn_grave_drop(struct pyn_grave *grave)
{
    struct pyn_graveyard *g = grave->yard;

    Py_DECREF(grave->object);
    free(grave);
    let_go(g, 1);
}
