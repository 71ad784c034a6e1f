/* Failures of the encoder: what, and where in the structure. Nothing here is reached while all is well. */
#include "py/encode_private.h"
#include "py/error.h"

int pyn_enc_refuse(struct pyn_enc *e, PyObject *class, const char *what, ...)
{
    va_list args;

    va_start(args, what);
    e->refused = class;
    Py_XSETREF(e->what, PyUnicode_FromFormatV(what, args));
    va_end(args);
    if (!e->what)
        PyErr_Clear();
    return -1;
}

int pyn_enc_too_deep(struct pyn_enc *e, PyObject *o)
{
    return pyn_enc_refuse(e, PyExc_ValueError, "%s nested deeper than %u levels", Py_TYPE(o)->tp_name,
                          PYN_ETF_MAX_DEPTH);
}

int pyn_enc_full(struct pyn_enc *e, size_t n)
{
    struct pyn_out *out = e->out;
    size_t size = pyn_out_size(out);

    if (size > out->buf.max || n > out->buf.max - size)
        return pyn_enc_refuse(e, PyExc_ValueError, "a value of more than %zu bytes", out->buf.max);
    PyErr_NoMemory();
    return -1;
}

/* Interrupts and the like are no matter of what was just being converted; and what an iterator raises that is a result
 * itself is the call's own exception. */
void pyn_enc_failed(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    if (e->refused || e->raised || (depth == 0 && PyIter_Check(o)))
        return;
    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError) ||
        PyErr_ExceptionMatches(PyExc_RecursionError))
        return;
    e->raised = pyn_take_exception();
    Py_XSETREF(e->what, PyUnicode_FromString(Py_TYPE(o)->tp_name));
    if (!e->what)
        PyErr_Clear();
}

static bool is_noted(const struct pyn_enc *e)
{
    return e->refused || e->raised;
}

/* Steals place. */
static void add_place(struct pyn_enc *e, PyObject *place)
{
    if (place && !e->places)
        e->places = PyList_New(0);
    if (!place || !e->places || PyList_Append(e->places, place) < 0)
        PyErr_Clear(); /* the message does without it */
    Py_XDECREF(place);
}

void pyn_enc_at_index(struct pyn_enc *e, Py_ssize_t i)
{
    if (is_noted(e))
        add_place(e, PyUnicode_FromFormat("[%zd]", i));
}

static void add_key_place(struct pyn_enc *e, PyObject *key, const char *format)
{
    PyObject *repr;

    if (!is_noted(e))
        return;
    repr = pyn_short_repr(key);
    if (repr)
        add_place(e, PyUnicode_FromFormat(format, repr));
    Py_XDECREF(repr);
}

void pyn_enc_at_key(struct pyn_enc *e, PyObject *key)
{
    add_key_place(e, key, "[%U]");
}

void pyn_enc_in_key(struct pyn_enc *e, PyObject *key)
{
    add_key_place(e, key, "{key %U}");
}

/* The class and the text stay as they are. */
static void raise_again(struct pyn_enc *e, PyObject *path)
{
    PyObject *place = path && e->what ? PyUnicode_FromFormat("%U%U", e->what, path) : NULL;
    PyObject *exc = e->raised;

    PyErr_Clear(); /* there may be no memory for the place */
    e->raised = NULL;
    if (place)
        pyn_error_set_place(exc, place);
    Py_XDECREF(place);
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc, PyException_GetTraceback(exc)); /* steals */
}

void pyn_enc_raise(struct pyn_enc *e)
{
    PyObject *path = is_noted(e) ? pyn_path_text(e->places) : NULL;

    if (e->raised)
        raise_again(e, path);
    else if (path && e->what)
        PyErr_Format(e->refused, "cannot convert %U%U", e->what, path);
    else if (e->refused)
        PyErr_NoMemory();
    Py_XDECREF(path);
    Py_CLEAR(e->what);
    Py_CLEAR(e->places);
}
