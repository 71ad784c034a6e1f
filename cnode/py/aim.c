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

/* lock held. */
static bool is_patient(const struct pyn_aim *a)
{
    return a->mark.imports > 0 && !(a->mark.wanted && pyn_now() - a->mark.wanted_since > PYN_IMPORT_PATIENCE);
}

/* lock held. */
static bool has_to_wait(const struct pyn_aim *a)
{
    return a->mark.sheltered || is_patient(a);
}

/* Returns whether an interrupt is due first, which changes nothing but where `anyway`. lock held. */
static bool change(struct pyn_aim *a, bool sheltered, bool anyway)
{
    bool due = sheltered ? is_on_its_way(a) : a->mark.wanted && !is_patient(a);

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

void pyn_aim_import(int change)
{
    struct pyn_aim *a = aim_here();

    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    a->mark.imports += (unsigned)change;
    pthread_mutex_unlock(&a->lock);
}

void pyn_aim_raised(void)
{
    struct pyn_aim *a = aim_here();
    bool came;

    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    came = a->mark.interrupted;
    a->mark.interrupted = came || a->mark.wanted;
    a->mark.spared = !a->mark.interrupted;
    a->mark.wanted = false;
    pthread_mutex_unlock(&a->lock);
    if (came)
        PyThreadState_SetAsyncExc(a->thread, NULL); /* it may be on its way */
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

enum attempt { RAISED, TOO_LATE, WANTED, AGAIN };

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

/* Attached, lock held. */
static enum attempt raise_there(struct pyn_aim *a)
{
    if (PyThreadState_SetAsyncExc(a->thread, PyExc_KeyboardInterrupt) != 1)
        return TOO_LATE;
    a->mark.wanted = false;
    a->mark.interrupted = is_at(a);
    if (!a->mark.interrupted)
        PyThreadState_SetAsyncExc(a->thread, NULL);
    return a->mark.interrupted ? RAISED : TOO_LATE;
}

/* lock held. */
static enum attempt want(struct pyn_aim *a)
{
    if (!a->mark.wanted)
        a->mark.wanted_since = pyn_now();
    a->mark.wanted = true;
    return WANTED;
}

/* lock held. */
static enum attempt count_raised(struct pyn_aim *a)
{
    a->mark.spared = false;
    a->mark.interrupted = true;
    return RAISED;
}

/* Attached. */
static enum attempt raise_or_want(struct pyn_aim *a, uint64_t serial)
{
    enum attempt result;

    pthread_mutex_lock(&a->lock);
    if (a->mark.serial != serial)
        result = TOO_LATE;
    else if (a->mark.spared)
        result = count_raised(a);
    else if (has_to_wait(a))
        result = want(a);
    else
        result = raise_there(a);
    pthread_mutex_unlock(&a->lock);
    return result;
}

/* Until the thread has raised it, or does something else, or is to be interrupted from here after all. Detached. */
static enum attempt wait_for_raise(struct pyn_aim *a, uint64_t serial)
{
    struct pyn_mark mark;
    bool waits;

    do {
        usleep(LOOK_AGAIN);
        pthread_mutex_lock(&a->lock);
        mark = a->mark;
        waits = has_to_wait(a);
        pthread_mutex_unlock(&a->lock);
    } while (mark.serial == serial && mark.wanted && waits);
    if (mark.serial != serial)
        return TOO_LATE;
    return mark.wanted ? AGAIN : RAISED;
}

bool pyn_aim_interrupt(struct pyn_aim *a, PyInterpreterState *interp, uint64_t serial)
{
    enum attempt result = AGAIN;

    while (result == AGAIN) {
        /* SetAsyncExc finds only threads of the interpreter that its caller is attached to. */
        PyThreadState *state = PyThreadState_New(interp);
        if (!state)
            return false;
        PyEval_RestoreThread(state);
        result = raise_or_want(a, serial);
        PyThreadState_Clear(state);
        PyThreadState_DeleteCurrent();
        if (result == WANTED)
            result = wait_for_raise(a, serial);
    }
    return result == RAISED;
}
