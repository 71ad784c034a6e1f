/* What the Python halves of logging and tracing (lib/_pynode_logging.py, lib/_pynode_tracing.py) need: messages to the
 * coordinator that may be lost and for which nobody waits, the node's own log, the switch of tracing. */
#include "base/log.h"
#include "py/compat.h"
#include "py/encode.h"
#include "py/module_ops.h"
#include "py/trace.h"

/* A record or a span, and one attribute of a span. */
#define MESSAGE_MAX ((size_t)1 << 20)
#define VALUE_MAX ((size_t)1 << 16)

/* -1 with an exception. */
static int write_term(struct pyn_types *ty, PyObject *term, struct pyn_out *out)
{
    if (pyn_encode_sparing(ty, term, out) != 0)
        return -1;
    if (pyn_out_fits(out))
        return 0;
    PyErr_SetString(PyExc_ValueError, "the value is larger than what is reported of one");
    return -1;
}

static bool is_target(int target)
{
    if (target >= 0 && target < PYN_TELL_TARGETS)
        return true;
    PyErr_SetString(PyExc_ValueError, "there is no such target");
    return false;
}

/* _tell_admit(target) -> how many messages have been left out since the last one, or -1: this one, too. */
static PyObject *tell_admit(PyObject *Py_UNUSED(module), PyObject *args)
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    unsigned dropped = 0;
    int target;

    if (!PyArg_ParseTuple(args, "i", &target) || !is_target(target))
        return NULL;
    if (bridge && !bridge->tell_admit(bridge->ctx, target, &dropped))
        return PyLong_FromLong(-1);
    return PyLong_FromUnsignedLong(dropped);
}

/* _tell_lost(target, count) */
static PyObject *tell_lost(PyObject *Py_UNUSED(module), PyObject *args)
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    unsigned count;
    int target;

    if (!PyArg_ParseTuple(args, "iI", &target, &count) || !is_target(target))
        return NULL;
    if (bridge)
        bridge->tell_lost(bridge->ctx, target, count);
    Py_RETURN_NONE;
}

/* _tell(target, term) -> 0 when it is on its way, else enum pyn_tell_result; an exception when the term cannot be
 * converted or is too large. */
static PyObject *tell(PyObject *module, PyObject *args)
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    enum pyn_tell_result result;
    struct pyn_out out;
    PyObject *term;
    size_t frame;
    int target;

    if (!PyArg_ParseTuple(args, "iO", &target, &term) || !is_target(target))
        return NULL;
    if (!bridge)
        return PyLong_FromLong(PYN_TELL_DOWN);
    pyn_out_init(&out, MESSAGE_MAX);
    frame = bridge->tell_begin(bridge->ctx, target, &out);
    if (write_term(PyModule_GetState(module), term, &out) != 0) {
        pyn_out_free(&out);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    result = bridge->tell_end(bridge->ctx, target, frame, &out);
    pyn_out_free(&out);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(result);
}

/* _fits(value): an exception when the value cannot be a part of a message. */
static PyObject *fits(PyObject *module, PyObject *value)
{
    struct pyn_out out;
    int bad;

    pyn_out_init(&out, VALUE_MAX);
    bad = write_term(PyModule_GetState(module), value, &out);
    pyn_out_free(&out);
    return bad ? NULL : Py_NewRef(Py_None);
}

/* _log_own(level, text): a line for the node's own log, with the level's number in Python. */
static PyObject *log_own(PyObject *Py_UNUSED(module), PyObject *args)
{
    enum pyn_level level;
    const char *text;
    int number;

    if (!PyArg_ParseTuple(args, "is", &number, &text))
        return NULL;
    level = number >= 40 ? PYN_ERROR : number >= 30 ? PYN_WARNING : number >= 20 ? PYN_INFO : PYN_DEBUG;
    Py_BEGIN_ALLOW_THREADS
    pyn_log_text(level, "python", "", text);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* _tracing() -> bool */
static PyObject *tracing(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(pyn_trace_on());
}

/* _trace_switch(on), for all interpreters of the node */
static PyObject *trace_switch(PyObject *Py_UNUSED(module), PyObject *on)
{
    int value = PyObject_IsTrue(on);

    if (value < 0)
        return NULL;
    pyn_trace_switch(value == 1);
    Py_RETURN_NONE;
}

PyMethodDef pyn_module_tell[] = {
    {"_tell_admit", tell_admit, METH_VARARGS, NULL},
    {"_tell_lost", tell_lost, METH_VARARGS, NULL},
    {"_tell", tell, METH_VARARGS, NULL},
    {"_fits", fits, METH_O, NULL},
    {"_log_own", log_own, METH_VARARGS, NULL},
    {"_tracing", tracing, METH_NOARGS, NULL},
    {"_trace_switch", trace_switch, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
