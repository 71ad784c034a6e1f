#include "py/aim.h"

#include <unistd.h>

#define LOOK_AGAIN 1000 /* us */

static _Thread_local struct pyn_aim *here;

void pyn_aim_init(struct pyn_aim *a)
{
    pthread_mutex_init(&a->lock, NULL);
}

void pyn_aim_free(struct pyn_aim *a)
{
    pthread_mutex_destroy(&a->lock);
}

void pyn_aim_take(struct pyn_aim *a)
{
    a->state = PyThreadState_Get();
    a->thread = PyThread_get_thread_ident();
    here = a;
}

void pyn_aim_leave(void)
{
    here = NULL;
}

/* ---- on the thread ---- */

/* An interrupt that is still on its way to what is put aside, or has ended, must not hit anything else: the exception
 * may not have been raised yet. Nobody sets it anew, as the mark has changed. */
struct pyn_mark pyn_aim_exchange(struct pyn_aim *a, struct pyn_mark next)
{
    struct pyn_mark mark;

    pthread_mutex_lock(&a->lock);
    mark = a->mark;
    a->mark = next;
    pthread_mutex_unlock(&a->lock);
    if (mark.interrupted)
        PyThreadState_SetAsyncExc(a->thread, NULL);
    return mark;
}

/* lock held. */
static bool is_on_its_way(struct pyn_aim *a)
{
    return a->mark.interrupted && __atomic_load_n(&a->state->async_exc, __ATOMIC_RELAXED) != NULL;
}

/* Returns whether an interrupt is due first, which changes nothing but where `anyway`. lock held. */
static bool change(struct pyn_aim *a, bool sheltered, bool anyway)
{
    bool due = sheltered ? is_on_its_way(a) : a->mark.wanted;

    if (!sheltered && due) {
        a->mark.wanted = false;
        a->mark.interrupted = true;
    }
    if (!due || anyway)
        a->mark.sheltered = sheltered;
    return due;
}

/* What nobody aims at, or what is in another interpreter for a while, is not in question. */
static struct pyn_aim *aim_here(void)
{
    return here && here->state == PyThreadState_Get() ? here : NULL;
}

/* On the thread; an interrupt that is on its way goes no further. Returns -1. */
static int raise_here(struct pyn_aim *a)
{
    PyThreadState_SetAsyncExc(a->thread, NULL);
    PyErr_SetNone(PyExc_KeyboardInterrupt);
    return -1;
}

static int go(struct pyn_aim *a, bool sheltered, bool anyway, bool *before)
{
    bool due;

    pthread_mutex_lock(&a->lock);
    *before = a->mark.sheltered;
    due = change(a, sheltered, anyway);
    pthread_mutex_unlock(&a->lock);
    return due ? raise_here(a) : 0;
}

int pyn_aim_go(bool sheltered, bool *before)
{
    struct pyn_aim *a = aim_here();

    *before = sheltered;
    return a ? go(a, sheltered, false, before) : 0;
}

int pyn_aim_back(bool before)
{
    struct pyn_aim *a = aim_here();
    bool now;

    return a ? go(a, before, true, &now) : 0;
}

int pyn_aim_breathe(void)
{
    struct pyn_aim *a = aim_here();
    bool due = false;

    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
    if (!a)
        return 0;
    pthread_mutex_lock(&a->lock);
    due = is_on_its_way(a);
    pthread_mutex_unlock(&a->lock);
    return due ? raise_here(a) : 0;
}

/* ---- on others ---- */

struct pyn_mark pyn_aim_look(struct pyn_aim *a)
{
    struct pyn_mark mark;

    pthread_mutex_lock(&a->lock);
    mark = a->mark;
    pthread_mutex_unlock(&a->lock);
    return mark;
}

enum attempt { RAISED, TOO_LATE, WANTED };

/* Python 3.11 finds a thread that this one starts, which has its number until it runs. Attached; where there is a GIL,
 * which is so in all versions that do this, neither thread goes on meanwhile. */
static bool is_at(const struct pyn_aim *a)
{
#if PY_VERSION_HEX < 0x030C0000
    return a->state->async_exc != NULL;
#else
    (void)a;
    return true;
#endif
}

/* Attached. */
static enum attempt raise_or_want(struct pyn_aim *a, uint64_t serial)
{
    enum attempt result = TOO_LATE;

    pthread_mutex_lock(&a->lock);
    if (a->mark.serial == serial && a->mark.sheltered) {
        a->mark.wanted = true;
        result = WANTED;
    } else if (a->mark.serial == serial && PyThreadState_SetAsyncExc(a->thread, PyExc_KeyboardInterrupt) == 1) {
        result = is_at(a) ? RAISED : TOO_LATE;
        a->mark.interrupted = result == RAISED;
        if (!a->mark.interrupted)
            PyThreadState_SetAsyncExc(a->thread, NULL);
    }
    pthread_mutex_unlock(&a->lock);
    return result;
}

/* Until the thread has raised it, or does something else. Detached. */
static bool wait_for_raise(struct pyn_aim *a, uint64_t serial)
{
    struct pyn_mark mark;

    do {
        usleep(LOOK_AGAIN);
        mark = pyn_aim_look(a);
    } while (mark.serial == serial && mark.wanted);
    return mark.serial == serial;
}

bool pyn_aim_interrupt(struct pyn_aim *a, PyInterpreterState *interp, uint64_t serial)
{
    /* SetAsyncExc finds only threads of the interpreter that its caller is attached to. */
    PyThreadState *state = PyThreadState_New(interp);
    enum attempt result;

    if (!state)
        return false;
    PyEval_RestoreThread(state);
    result = raise_or_want(a, serial);
    PyThreadState_Clear(state);
    PyThreadState_DeleteCurrent();
    return result == RAISED || (result == WANTED && wait_for_raise(a, serial));
}
