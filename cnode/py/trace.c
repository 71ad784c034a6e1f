#include "py/trace.h"

#include <stdatomic.h>

#include "py/module.h"

static atomic_bool on;

bool pyn_trace_on(void)
{
    return atomic_load_explicit(&on, memory_order_relaxed);
}

void pyn_trace_switch(bool to)
{
    atomic_store_explicit(&on, to, memory_order_relaxed);
}

int64_t pyn_trace_current(void)
{
    struct pyn_types *ty = pyn_module_types();
    PyObject *value = NULL;
    int64_t span = 0;

    if (ty && PyContextVar_Get(ty->span_var, NULL, &value) == 0 && value && PyLong_Check(value))
        span = PyLong_AsLongLong(value);
    Py_XDECREF(value);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        span = 0;
    }
    return span;
}

void *pyn_trace_enter(struct pyn_types *ty, int64_t span)
{
    PyObject *value, *token = NULL;

    if (PYN_LIKELY(!pyn_trace_on()))
        return NULL;
    value = span ? PyLong_FromLongLong(span) : Py_NewRef(Py_None);
    if (value)
        token = PyContextVar_Set(ty->span_var, value);
    Py_XDECREF(value);
    if (!token)
        PyErr_Clear(); /* without memory for it there is no parent, that is all */
    return token;
}

void pyn_trace_leave(struct pyn_types *ty, void *mark)
{
    PyObject *type, *value, *trace;

    if (PYN_LIKELY(!mark))
        return;
    PyErr_Fetch(&type, &value, &trace);
    if (PyContextVar_Reset(ty->span_var, mark) != 0)
        PyErr_Clear();
    Py_DECREF((PyObject *)mark);
    PyErr_Restore(type, value, trace);
}
