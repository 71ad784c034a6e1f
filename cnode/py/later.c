#include "py/later.h"

#include "py/coroutines.h"
#include "py/result.h"

static PyObject *loop_module(struct pyn_seat *s)
{
    if (!s->loop_module)
        s->loop_module = PyImport_ImportModule("_pynode_loop");
    return s->loop_module;
}

static bool can_be_awaited(PyObject *value)
{
    return Py_TYPE(value)->tp_as_async && Py_TYPE(value)->tp_as_async->am_await;
}

/* _pynode_loop.name(value), which steals value; NULL with an exception. */
static PyObject *convert(struct pyn_seat *s, const char *name, PyObject *value)
{
    PyObject *module = loop_module(s);
    PyObject *result = module ? PyObject_CallMethod(module, name, "(O)", value) : NULL;

    Py_DECREF(value);
    return result;
}

/* false with an exception: no loop has it. Steals value. */
static bool start(struct pyn_seat *s, const struct pyn_call *call, const struct pyn_coroutines *c, uint64_t request,
                  const struct pyn_place *place, PyObject *value)
{
    PyObject *done = NULL;
    bool before;

    /* An interrupt might leave the loop half made, and what waits there would never begin. */
    if (pyn_aim_go(true, &before) == 0) {
        done = PyObject_CallMethod(s->loop_module, "start", "IKKOO", place->number, (unsigned long long)place->loop,
                                   (unsigned long long)request, value, call->traceback ? Py_True : Py_False);
        if (pyn_aim_back(before) < 0)
            Py_CLEAR(done);
    }
    Py_DECREF(value);
    Py_XDECREF(done);
    if (done)
        return true;
    if (c->undo(c->ctx, request))
        return false;
    PyErr_Clear(); /* an interrupt, after the loop had begun */
    return true;
}

enum pyn_call_outcome pyn_later_run(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out,
                                    PyObject *value)
{
    const struct pyn_coroutines *c = pyn_coroutines_get();
    size_t mark = out->buf.len;
    struct pyn_place place = {0};
    uint64_t request = 0;

    if (call->async == PYN_CALL_GATHER)
        value = convert(s, "gathered", value);
    if (value && !can_be_awaited(value))
        return pyn_result_value(s->types, out, value, call->traceback);
    /* The module first: what is registered is to be started without delay. */
    if (value && loop_module(s) && c)
        request = c->defer(c->ctx, &place);
    if (value && request == 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_RuntimeError, "the node is stopping");
        Py_DECREF(value);
    } else if (value && start(s, call, c, request, &place, value)) {
        return PYN_CALL_DEFERRED;
    }
    return pyn_result_error(s->types, out, mark, call->traceback);
}
