#include "py/step.h"

#include "py/child.h"
#include "py/compat.h"
#include "py/module_ops.h"
#include "py/result.h"
#include "py/runner.h"

struct step {
    PyObject_HEAD
    PyObject *coro;            /* owned */
    PyObject *capsule;         /* owned: the runner's */
    struct pyn_runner *runner; /* borrowed from it */
    uint64_t request;
    PyObject *owner; /* owned: the loop's Python half; NULL: a task that the coroutine made */
    bool traceback;
    bool answered; /* the answer was sent, */
    bool told;     /* and the owner knows it */
};

/* ---- the end of a request's coroutine ---- */

/* Not while the step is marked: an interrupt must not hit the loop's own code. Whatever exception is set stays. */
static void tell_owner(struct step *s)
{
    PyObject *type, *value, *trace, *number, *done;

    if (!s->answered || s->told)
        return;
    s->told = true;
    PyErr_Fetch(&type, &value, &trace);
    number = PyLong_FromUnsignedLongLong(s->request);
    done = number ? PyObject_CallMethod(s->owner, "_ended", "O", number) : NULL;
    if (!done)
        PyErr_WriteUnraisable(s->owner);
    Py_XDECREF(number);
    Py_XDECREF(done);
    PyErr_Restore(type, value, trace);
}

/* value (borrowed), or where that is NULL the exception that is set, goes to the caller; none is set afterwards. */
static void answer(struct step *s, PyObject *value)
{
    const struct pyn_coroutines *c = pyn_coroutines_get();
    struct pyn_types *ty = PyType_GetModuleState(Py_TYPE(s));
    enum pyn_call_outcome outcome;
    struct pyn_request *r;
    struct pyn_out out;
    size_t frame;

    if (s->answered || !c) {
        PyErr_Clear();
        return;
    }
    s->answered = true;
    pyn_out_init(&out, PYN_RPC_MAX_REQUEST);
    r = c->answer(c->ctx, s->request, &out, &frame);
    if (r) {
        outcome = value ? pyn_result_value(ty, &out, Py_NewRef(value), s->traceback)
                        : pyn_result_error(ty, &out, out.buf.len, s->traceback);
        c->end(c->ctx, pyn_runner_its_loop(s->runner), r, frame, &out, outcome);
    }
    PyErr_Clear(); /* nobody wants the answer */
    pyn_out_free(&out);
}

/* Whether the task is to see the exception: a cancelled one shall know that it is. Of others asyncio would say, in the
 * log, that nobody has asked for them; and the loop would stop for KeyboardInterrupt and SystemExit. */
static bool is_for_task(PyObject *exc)
{
    return !PyErr_GivenExceptionMatches(exc, PyExc_Exception) &&
           !PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt) &&
           !PyErr_GivenExceptionMatches(exc, PyExc_SystemExit);
}

/* With an exception set: the coroutine has failed. Returns true when the task gets the exception (set again). */
static bool failed(struct step *s)
{
    PyObject *exc = pyn_take_exception();
    bool raise = exc && is_for_task(exc);

    if (exc)
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    answer(s, NULL);
    if (raise)
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_XDECREF(exc);
    return raise;
}

/* ---- one step ---- */

static PySendResult step_send(PyObject *self, PyObject *arg, PyObject **result)
{
    struct step *s = (struct step *)self;
    struct pyn_mark outer = pyn_runner_begin(s->runner, s->request);
    PySendResult how = PyIter_Send(s->coro, arg, result);

    pyn_child_ends();
    if (s->owner && how == PYGEN_RETURN) {
        answer(s, *result);
    } else if (s->owner && how == PYGEN_ERROR && !failed(s)) {
        *result = Py_NewRef(Py_None);
        how = PYGEN_RETURN;
    }
    pyn_runner_end(s->runner, outer);
    tell_owner(s);
    return how;
}

/* StopIteration with that value (stolen), as a coroutine raises it. Returns NULL. */
static PyObject *stop_iteration(PyObject *value)
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);

    Py_DECREF(value);
    if (stop)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    return NULL;
}

static PyObject *send_method(PyObject *self, PyObject *arg)
{
    PyObject *result = NULL;
    PySendResult how = step_send(self, arg, &result);

    return how == PYGEN_RETURN ? stop_iteration(result) : result;
}

static PyObject *step_next(PyObject *self)
{
    return send_method(self, Py_None);
}

/* The request's coroutine has ended by an exception that was thrown into it: what it raised now says how. */
static PyObject *thrown_end(struct step *s)
{
    PyObject *stop, *value;

    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return failed(s) ? NULL : stop_iteration(Py_NewRef(Py_None));
    stop = pyn_take_exception();
    value = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    if (!value)
        return failed(s) ? NULL : stop_iteration(Py_NewRef(Py_None));
    answer(s, value);
    return stop_iteration(value);
}

static PyObject *throw_method(PyObject *self, PyObject *args)
{
    struct step *s = (struct step *)self;
    struct pyn_mark outer = pyn_runner_begin(s->runner, s->request);
    PyObject *method = PyObject_GetAttrString(s->coro, "throw");
    PyObject *result = method ? PyObject_CallObject(method, args) : NULL;

    pyn_child_ends();
    Py_XDECREF(method);
    if (!result && s->owner)
        result = thrown_end(s);
    pyn_runner_end(s->runner, outer);
    tell_owner(s);
    return result;
}

static PyObject *close_method(PyObject *self, PyObject *Py_UNUSED(unused))
{
    return PyObject_CallMethod(((struct step *)self)->coro, "close", NULL);
}

/* What is no method of ours is the coroutine's. */
static PyObject *step_getattr(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);

    if (value || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return value;
    PyErr_Clear();
    return PyObject_GetAttr(((struct step *)self)->coro, name);
}

static PyObject *step_repr(PyObject *self)
{
    return PyObject_Repr(((struct step *)self)->coro);
}

/* ---- the type ---- */

/* No tp_clear: of every cycle through a step something else can be cleared (the task, the loop's table of tasks). */
static int step_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct step *s = (struct step *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(s->coro);
    Py_VISIT(s->owner);
    return 0;
}

/* A coroutine that is lost without an end, as its loop was closed, leaves a request. */
static void step_dealloc(PyObject *self)
{
    struct step *s = (struct step *)self;
    const struct pyn_coroutines *c = pyn_coroutines_get();
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (s->owner && !s->answered && c)
        c->drop(c->ctx, s->request);
    Py_DECREF(s->coro);
    Py_XDECREF(s->owner);
    Py_DECREF(s->capsule);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *step_self(PyObject *self)
{
    return Py_NewRef(self);
}

static PyMethodDef step_methods[] = {
    {"send", send_method, METH_O, NULL},
    {"throw", throw_method, METH_VARARGS, NULL},
    {"close", close_method, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot step_slots[] = {
    {Py_tp_dealloc, step_dealloc},  {Py_tp_traverse, step_traverse},
    {Py_tp_getattro, step_getattr}, {Py_tp_repr, step_repr},
    {Py_tp_methods, step_methods},  {Py_am_await, step_self},
    {Py_am_send, step_send},        {Py_tp_iter, step_self},
    {Py_tp_iternext, step_next},    {0, NULL},
};

static PyType_Spec step_spec = {
    .name = "erlang._Step",
    .basicsize = sizeof(struct step),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = step_slots,
};

PyObject *pyn_step_type_new(PyObject *module)
{
    return PyType_FromModuleAndSpec(module, &step_spec, NULL);
}

/* A new step, or NULL with an exception. */
static struct step *new_step(struct pyn_types *ty, PyObject *capsule, PyObject *coro, uint64_t request)
{
    struct pyn_runner *runner = pyn_runner_of(capsule);
    struct step *s = runner ? PyObject_GC_New(struct step, ty->step) : NULL;

    if (!s)
        return NULL;
    s->coro = Py_NewRef(coro);
    s->capsule = Py_NewRef(capsule);
    s->runner = runner;
    s->request = request;
    s->owner = NULL;
    s->traceback = s->answered = s->told = false;
    PyObject_GC_Track((PyObject *)s);
    return s;
}

PyObject *pyn_step_of_request(struct pyn_types *ty, PyObject *capsule, PyObject *coro, uint64_t request, bool traceback,
                              PyObject *owner)
{
    struct step *s = new_step(ty, capsule, coro, request);

    if (!s)
        return NULL;
    s->traceback = traceback;
    s->owner = Py_NewRef(owner);
    return (PyObject *)s;
}

PyObject *pyn_step_of_task(struct pyn_types *ty, PyObject *capsule, PyObject *coro)
{
    uint64_t request = Py_IS_TYPE(coro, ty->step) ? 0 : pyn_runner_request();

    return request && PyCoro_CheckExact(coro) ? (PyObject *)new_step(ty, capsule, coro, request) : Py_NewRef(coro);
}
