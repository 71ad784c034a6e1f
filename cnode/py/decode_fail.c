/* Where a value is that Python refuses: noted on the way up, and put into the text at the top. */
#include "py/compat.h"
#include "py/decode_private.h"
#include "py/error.h"

/* Where a key was refused. Until the exception is at the top its arguments are the text and the places, innermost
 * first; no other TypeError comes from here. Steals place. */
static void at_place(PyObject *place)
{
    PyObject *exc, *args, *one, *more;

    if (!place || !PyErr_ExceptionMatches(PyExc_TypeError)) {
        Py_XDECREF(place);
        return;
    }
    exc = pyn_take_exception();
    args = PyObject_GetAttrString(exc, "args");
    one = PyTuple_Pack(1, place);
    more = args && one ? PySequence_Concat(args, one) : NULL;
    if (!more || PyObject_SetAttrString(exc, "args", more) < 0)
        PyErr_Clear(); /* the message does without it */
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_XDECREF(more);
    Py_XDECREF(one);
    Py_XDECREF(args);
    Py_DECREF(exc);
    Py_DECREF(place);
}

PyObject *pyn_dec_at_index(size_t i)
{
    if (PyErr_ExceptionMatches(PyExc_TypeError))
        at_place(PyUnicode_FromFormat("[%zu]", i));
    return NULL;
}

void pyn_dec_at_key(PyObject *key)
{
    PyObject *type, *value, *trace, *repr, *place;

    if (!PyErr_ExceptionMatches(PyExc_TypeError))
        return;
    PyErr_Fetch(&type, &value, &trace);
    repr = key ? pyn_short_repr(key) : NULL;
    place = repr ? PyUnicode_FromFormat("[%U]", repr) : PyUnicode_FromString("{key}");
    Py_XDECREF(repr);
    PyErr_Clear();
    PyErr_Restore(type, value, trace);
    at_place(place);
}

PyObject *pyn_dec_failed(void)
{
    PyObject *exc, *args, *places, *path;

    if (!PyErr_ExceptionMatches(PyExc_TypeError))
        return NULL;
    exc = pyn_take_exception();
    args = PyObject_GetAttrString(exc, "args");
    places = args && PyTuple_GET_SIZE(args) > 1 ? PySequence_List(args) : NULL;
    if (places && PyList_SetSlice(places, 0, 1, NULL) == 0 && (path = pyn_path_text(places))) {
        PyErr_Format(PyExc_TypeError, "%U%U", PyTuple_GET_ITEM(args, 0), path);
        Py_DECREF(path);
    } else {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    Py_XDECREF(places);
    Py_XDECREF(args);
    Py_DECREF(exc);
    return NULL;
}
