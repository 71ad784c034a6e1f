#include "py/runner.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/forked.h"
#include "py/module.h"

#define CAPSULE "erlang.runner"

struct pyn_runner {
    PyInterpreterState *interp;
    unsigned long thread;  /* as PyThreadState_SetAsyncExc wants it */
    struct pyn_loop *loop; /* NULL: closed; the loop's thread */
    pthread_mutex_t lock;  /* guards mark; innermost: only SetAsyncExc is called under it */
    struct pyn_step_mark mark;
};

static const struct pyn_coroutines *current;

void pyn_coroutines_set(const struct pyn_coroutines *c)
{
    current = c;
}

const struct pyn_coroutines *pyn_coroutines_get(void)
{
    return pyn_forked() ? NULL : current;
}

/* ---- lifetime ---- */

static void free_runner(PyObject *capsule)
{
    struct pyn_runner *r = PyCapsule_GetPointer(capsule, CAPSULE);

    pthread_mutex_destroy(&r->lock);
    free(r);
}

PyObject *pyn_runner_new(void)
{
    struct pyn_runner *r = calloc(1, sizeof(*r));
    PyObject *capsule;

    if (!r)
        return PyErr_NoMemory();
    r->interp = PyInterpreterState_Get();
    pthread_mutex_init(&r->lock, NULL);
    capsule = PyCapsule_New(r, CAPSULE, free_runner);
    if (!capsule) {
        pthread_mutex_destroy(&r->lock);
        free(r);
    }
    return capsule;
}

struct pyn_runner *pyn_runner_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, CAPSULE);
}

struct pyn_loop *pyn_runner_its_loop(const struct pyn_runner *r)
{
    return r->loop;
}

void pyn_runner_set_loop(struct pyn_runner *r, struct pyn_loop *loop)
{
    r->loop = loop;
}

/* ---- the loop's thread ---- */

static _Thread_local struct pyn_runner *this_runner;
static _Thread_local uint64_t this_request;

void pyn_runner_enter(struct pyn_runner *r)
{
    this_runner = r;
    if (r)
        r->thread = PyThread_get_thread_ident();
}

struct pyn_loop *pyn_runner_loop(void)
{
    return this_runner ? this_runner->loop : NULL;
}

uint64_t pyn_runner_step_request(void)
{
    return this_request;
}

uint64_t pyn_runner_request(void)
{
    struct pyn_types *ty;
    PyObject *value = NULL;
    uint64_t request = 0;

    if (this_request != 0)
        return this_request;
    ty = pyn_module_types();
    if (ty && PyContextVar_Get(ty->request, NULL, &value) == 0 && value) {
        request = PyLong_AsUnsignedLongLong(value);
        Py_DECREF(value);
    }
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return request;
}

/* ---- steps and interrupts ---- */

static struct pyn_step_mark exchange_mark(struct pyn_runner *r, struct pyn_step_mark next)
{
    struct pyn_step_mark mark;

    pthread_mutex_lock(&r->lock);
    mark = r->mark;
    r->mark = next;
    pthread_mutex_unlock(&r->lock);
    this_request = next.request;
    if (mark.interrupted) /* it may not have been raised yet; nobody sets it anew, as the mark has changed */
        PyThreadState_SetAsyncExc(r->thread, NULL);
    return mark;
}

struct pyn_step_mark pyn_runner_begin(struct pyn_runner *r, uint64_t request)
{
    return exchange_mark(r, (struct pyn_step_mark){request, pyn_now(), false});
}

void pyn_runner_end(struct pyn_runner *r, struct pyn_step_mark outer)
{
    exchange_mark(r, outer);
}

uint64_t pyn_runner_look(struct pyn_runner *r, uint64_t *since)
{
    uint64_t request;

    pthread_mutex_lock(&r->lock);
    request = r->mark.request;
    *since = r->mark.since;
    pthread_mutex_unlock(&r->lock);
    return request;
}

void pyn_runner_interrupt(struct pyn_runner *r, uint64_t request)
{
    /* SetAsyncExc finds only threads of the interpreter that its caller is attached to. */
    PyThreadState *state = PyThreadState_New(r->interp);

    if (!state)
        return;
    PyEval_RestoreThread(state);
    pthread_mutex_lock(&r->lock);
    if (r->mark.request == request && PyThreadState_SetAsyncExc(r->thread, PyExc_KeyboardInterrupt) == 1)
        r->mark.interrupted = true;
    pthread_mutex_unlock(&r->lock);
    PyThreadState_Clear(state);
    PyThreadState_DeleteCurrent();
}
