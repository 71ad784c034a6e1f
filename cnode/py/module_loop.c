/* What lib/_pynode_loop.py needs of the node: the C half of the event loops that run coroutines of requests. */
#include <pthread.h>
#include <stdio.h>

#include "base/thread.h"
#include "py/module_ops.h"
#include "py/runner.h"
#include "py/step.h"

enum { TAKE_AT_ONCE = 256 };

/* The node ends: threads that are left find nothing any more. */
static PyObject *node_ended(void)
{
    PyErr_SetString(PyExc_RuntimeError, "the node is stopping");
    return NULL;
}

/* _runner_open(place) -> (handle or None, number): None when that place has a loop already, which has that number. */
static PyObject *runner_open(PyObject *Py_UNUSED(module), PyObject *args)
{
    const struct pyn_coroutines *c = pyn_coroutines_get();
    PyObject *capsule;
    struct pyn_loop *loop;
    unsigned place;
    uint64_t number;

    if (!PyArg_ParseTuple(args, "I", &place))
        return NULL;
    capsule = pyn_runner_new();
    if (!capsule)
        return NULL;
    loop = c ? c->open(c->ctx, place, pyn_runner_of(capsule), &number) : NULL;
    if (loop) {
        pyn_runner_set_loop(pyn_runner_of(capsule), loop);
        return Py_BuildValue("(NK)", capsule, (unsigned long long)number);
    }
    Py_DECREF(capsule);
    if (!c || number == 0) {
        PyErr_SetString(PyExc_RuntimeError, "no event loop: the node is stopping, or out of memory or descriptors");
        return NULL;
    }
    return Py_BuildValue("(OK)", Py_None, (unsigned long long)number);
}

/* _runner_wake(number) -> bool: False when that loop is closed. */
static PyObject *runner_wake(PyObject *Py_UNUSED(module), PyObject *number)
{
    const struct pyn_coroutines *c = pyn_coroutines_get();
    unsigned long long value = PyLong_AsUnsignedLongLong(number);

    if (PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(c && c->wake(c->ctx, value));
}

/* ---- on the loop's thread ---- */

/* The loop of a handle; NULL with an exception. */
static struct pyn_loop *loop_of(PyObject *capsule, struct pyn_runner **runner)
{
    struct pyn_loop *loop;

    *runner = pyn_runner_of(capsule);
    if (!*runner)
        return NULL;
    loop = pyn_coroutines_get() ? pyn_runner_its_loop(*runner) : NULL;
    if (!loop)
        node_ended();
    return loop;
}

/* _runner_enter(handle, place) -> descriptor: this thread is the loop's. */
static PyObject *runner_enter(PyObject *Py_UNUSED(module), PyObject *args)
{
    const struct pyn_coroutines *c = pyn_coroutines_get();
    struct pyn_runner *runner;
    struct pyn_loop *loop;
    PyObject *capsule;
    unsigned place;
    char name[16];

    if (!PyArg_ParseTuple(args, "OI", &capsule, &place) || !(loop = loop_of(capsule, &runner)))
        return NULL;
    snprintf(name, sizeof(name), "pyn-loop-%u", place % 10000);
    pyn_thread_name(name);
    pyn_runner_enter(runner);
    return PyLong_FromLong(c->fd(c->ctx, loop));
}

/* _runner_take(handle) -> (stop, retire, [request]): what the loop was told; the list is of tasks to be cancelled. */
static PyObject *runner_take(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    struct pyn_runner *runner;
    struct pyn_loop *loop = loop_of(capsule, &runner);
    const struct pyn_coroutines *c = pyn_coroutines_get();
    uint64_t requests[TAKE_AT_ONCE];
    bool stop, retire;
    PyObject *list;
    unsigned count;

    if (!loop)
        return NULL;
    list = PyList_New(0);
    if (!list)
        return NULL;
    do {
        count = c->take(c->ctx, loop, requests, TAKE_AT_ONCE, &stop, &retire);
        for (unsigned i = 0; i < count; i++) {
            PyObject *number = PyLong_FromUnsignedLongLong(requests[i]);
            int bad = !number || PyList_Append(list, number);
            Py_XDECREF(number);
            if (bad) {
                Py_DECREF(list);
                return NULL;
            }
        }
    } while (count == TAKE_AT_ONCE);
    return Py_BuildValue("(NNN)", PyBool_FromLong(stop), PyBool_FromLong(retire), list);
}

/* _runner_begin(handle, request) -> bool: False when it has ended already. */
static PyObject *runner_begin(PyObject *Py_UNUSED(module), PyObject *args)
{
    const struct pyn_coroutines *c = pyn_coroutines_get();
    unsigned long long request;
    struct pyn_runner *runner;
    struct pyn_loop *loop;
    PyObject *capsule;

    if (!PyArg_ParseTuple(args, "OK", &capsule, &request) || !(loop = loop_of(capsule, &runner)))
        return NULL;
    return PyBool_FromLong(c->begin(c->ctx, loop, request));
}

/* _runner_drop(request): its coroutine was not begun and never will be. */
static PyObject *runner_drop(PyObject *Py_UNUSED(module), PyObject *number)
{
    const struct pyn_coroutines *c = pyn_coroutines_get();
    unsigned long long request = PyLong_AsUnsignedLongLong(number);

    if (PyErr_Occurred())
        return NULL;
    if (c)
        c->drop(c->ctx, request);
    Py_RETURN_NONE;
}

static PyObject *runner_flush(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    const struct pyn_coroutines *c = pyn_coroutines_get();
    struct pyn_runner *runner;
    struct pyn_loop *loop = loop_of(capsule, &runner);

    if (!loop)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    c->flush(c->ctx, loop);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* _runner_close(handle): the loop has ended. Nothing of the node may be used by this thread afterwards. */
static PyObject *runner_close(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    const struct pyn_coroutines *c = pyn_coroutines_get();
    struct pyn_runner *runner = pyn_runner_of(capsule);
    struct pyn_loop *loop;

    if (!runner)
        return NULL;
    loop = c ? pyn_runner_its_loop(runner) : NULL;
    pyn_runner_set_loop(runner, NULL);
    pyn_runner_enter(NULL);
    if (loop) {
        Py_BEGIN_ALLOW_THREADS
        c->close(c->ctx, loop);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

/* _step(handle, coroutine[, request, traceback, owner]): see py/step.h. */
static PyObject *step(PyObject *module, PyObject *args)
{
    PyObject *capsule, *coro, *owner = NULL;
    unsigned long long request = 0;
    int traceback = 0;

    if (!PyArg_ParseTuple(args, "OO|KpO:_step", &capsule, &coro, &request, &traceback, &owner))
        return NULL;
    if (owner)
        return pyn_step_of_request(PyModule_GetState(module), capsule, coro, request, traceback, owner);
    return pyn_step_of_task(PyModule_GetState(module), capsule, coro);
}

PyMethodDef pyn_module_loop[] = {
    {"_runner_open", runner_open, METH_VARARGS, NULL},
    {"_runner_wake", runner_wake, METH_O, NULL},
    {"_runner_enter", runner_enter, METH_VARARGS, NULL},
    {"_runner_take", runner_take, METH_O, NULL},
    {"_runner_begin", runner_begin, METH_VARARGS, NULL},
    {"_runner_drop", runner_drop, METH_O, NULL},
    {"_runner_flush", runner_flush, METH_O, NULL},
    {"_runner_close", runner_close, METH_O, NULL},
    {"_step", step, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
