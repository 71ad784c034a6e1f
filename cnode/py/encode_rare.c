/* What is none of the common types exactly: subclasses of them, our own types, sets, iterators, buffers,
 * and at last any object by its str(). */
#include "py/encode_private.h"

static int put_atom_object(struct pyn_enc *e, PyObject *o)
{
    Py_ssize_t n;
    const char *utf8 = PyUnicode_AsUTF8AndSize(o, &n);

    if (!utf8)
        return -1;
    pyn_write_atom_span(&e->out->buf, (struct pyn_span){(const uint8_t *)utf8, (size_t)n});
    return pyn_enc_done(e, (size_t)n + 3);
}

static int put_term(struct pyn_enc *e, struct pyn_span term)
{
    pyn_write_raw(&e->out->buf, term);
    return pyn_enc_done(e, term.len);
}

/* Everything that an iterator gives, one by one: the output's maximum is what ends an endless one. */
static int put_elements(struct pyn_enc *e, PyObject *it, unsigned depth)
{
    size_t at = e->out->buf.len, count = 0;

    pyn_write_list(&e->out->buf, 1);
    if (pyn_enc_done(e, 5) < 0)
        return -1;
    for (PyObject *o; (o = PyIter_Next(it)); count++) {
        int rc = pyn_enc_value(e, o, depth + 1);

        Py_DECREF(o);
        if (rc < 0) {
            pyn_enc_at_index(e, (Py_ssize_t)count);
            return -1;
        }
    }
    return PyErr_Occurred() ? -1 : pyn_enc_close_list(e, at, count);
}

static int put_iterable(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    PyObject *it;
    int rc;

    if (depth >= PYN_ETF_MAX_DEPTH)
        return pyn_enc_too_deep(e, o);
    it = PyObject_GetIter(o);
    if (!it)
        return -1;
    rc = put_elements(e, it, depth);
    Py_DECREF(it);
    return rc;
}

static int put_text_of(struct pyn_enc *e, PyObject *o)
{
    PyObject *text = PyObject_Str(o);
    int rc;

    if (!text)
        return -1;
    rc = pyn_enc_str(e, text);
    Py_DECREF(text);
    return rc;
}

/* A bytearray changes under its readers, so it is copied, under its lock where there is no GIL. (A free-threaded 3.13
 * does not take that lock itself: there, changing one while another thread reads it is unsafe in Python, too.) */
static int put_bytearray(struct pyn_enc *e, PyObject *o)
{
    uint8_t *to;
    int rc;

    PYN_BEGIN_CRITICAL(o);
    rc = pyn_enc_binary_room(e, (size_t)PyByteArray_GET_SIZE(o), &to);
    if (rc == 0)
        memcpy(to, PyByteArray_AS_STRING(o), (size_t)PyByteArray_GET_SIZE(o));
    PYN_END_CRITICAL();
    return rc;
}

/* Buffers */

static bool is_bytes_format(const Py_buffer *view)
{
    const char *f = view->format;

    if (view->itemsize != 1 || view->ndim > 1)
        return false;
    return !f || ((f[0] == 'B' || f[0] == 'c') && f[1] == '\0');
}

/* base: whose bytes the view shows, borrowed, or NULL. */
static int put_view(struct pyn_enc *e, Py_buffer *view, PyObject *base)
{
    uint8_t *to;

    /* What other objects export may be written to while it waits to be sent, even if not through this
     * view. */
    if (base && PyBytes_CheckExact(base) && PyBuffer_IsContiguous(view, 'C'))
        return pyn_enc_bytes(e, base, view->buf, (size_t)view->len);
    if (pyn_enc_binary_room(e, (size_t)view->len, &to) < 0)
        return -1;
    return PyBuffer_ToContiguous(to, view, view->len, 'C');
}

/* 1: o is no buffer of bytes, nothing was written. */
static int put_byte_buffer(struct pyn_enc *e, PyObject *o)
{
    Py_buffer view;
    int rc = 1;

    if (PyObject_GetBuffer(o, &view, PyBUF_FULL_RO) < 0) {
        PyErr_Clear(); /* an array of what has no format, dates for one; or a view that was released */
        return 1;
    }
    if (is_bytes_format(&view))
        rc = put_view(e, &view, PyMemoryView_Check(o) ? PyMemoryView_GET_BUFFER(o)->obj : NULL);
    PyBuffer_Release(&view);
    return rc;
}

/* What tolist() gave, or would give for ever. Steals list. */
static int put_list_of(struct pyn_enc *e, PyObject *o, PyObject *list, unsigned depth)
{
    PyObject *number;
    int rc;

    if (Py_TYPE(list) != Py_TYPE(o)) {
        rc = pyn_enc_value(e, list, depth + 1);
        Py_DECREF(list);
        return rc;
    }
    /* A scalar that Python has no type for, as numpy's long double. */
    Py_DECREF(list);
    number = PyNumber_Float(o);
    if (!number) {
        PyErr_Clear();
        return put_text_of(e, o);
    }
    rc = pyn_enc_float(e, PyFloat_AsDouble(number));
    Py_DECREF(number);
    return rc;
}

/* 1: o has no tolist. */
static int put_by_tolist(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    PyObject *method = PyObject_GetAttr(o, e->ty->str_tolist), *list;

    if (!method) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        return 1;
    }
    list = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    return list ? put_list_of(e, o, list, depth) : -1;
}

/* A buffer of numbers that has no tolist itself, as a ctypes array: by a memoryview, or as a sequence. */
static int put_foreign_buffer(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    PyObject *list = NULL, *view;

    if (PySequence_Check(o)) {
        list = PySequence_List(o);
    } else {
        view = PyMemoryView_FromObject(o);
        if (view)
            list = PyObject_CallMethodNoArgs(view, e->ty->str_tolist);
        Py_XDECREF(view);
    }
    if (!list) {
        PyErr_Clear();
        return put_text_of(e, o);
    }
    return put_list_of(e, o, list, depth);
}

static int put_memoryview(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    int rc = put_byte_buffer(e, o);

    if (rc <= 0)
        return rc;
    rc = put_by_tolist(e, o, depth);
    if (rc < 0 && PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        PyErr_Clear();
        return pyn_enc_refuse(e, PyExc_TypeError, "memoryview of format '%s'",
                              PyMemoryView_GET_BUFFER(o)->format ? PyMemoryView_GET_BUFFER(o)->format : "");
    }
    return rc;
}

static int put_buffer(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    int rc;

    if (PyMemoryView_Check(o))
        return put_memoryview(e, o, depth);
    rc = put_by_tolist(e, o, depth);
    if (rc > 0)
        rc = put_byte_buffer(e, o);
    return rc > 0 ? put_foreign_buffer(e, o, depth) : rc;
}

/* Subclasses of the containers, at last with room for them. */
static int put_container(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    if (depth >= PYN_ETF_MAX_DEPTH)
        return pyn_enc_too_deep(e, o);
    if (PyList_Check(o))
        return pyn_enc_list(e, o, depth);
    if (PyTuple_Check(o))
        return pyn_enc_tuple(e, o, depth);
    return pyn_enc_dict(e, o, depth);
}

int pyn_enc_rare(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    struct pyn_span term;

    if (Py_TYPE(o) == e->ty->atom) /* before str, which it is a subclass of */
        return put_atom_object(e, o);
    if (pyn_opaque_term(e->ty, o, &term))
        return put_term(e, term);
    if (PyUnicode_Check(o))
        return pyn_enc_str(e, o);
    if (PyLong_Check(o))
        return pyn_enc_long(e, o);
    if (PyFloat_Check(o))
        return pyn_enc_float(e, PyFloat_AS_DOUBLE(o));
    if (PyBytes_Check(o))
        return pyn_enc_bytes(e, o, PyBytes_AS_STRING(o), (size_t)PyBytes_GET_SIZE(o));
    if (PyList_Check(o) || PyTuple_Check(o) || PyDict_Check(o))
        return put_container(e, o, depth);
    if (PyAnySet_Check(o) || PyRange_Check(o))
        return put_iterable(e, o, depth);
    if (PyByteArray_Check(o))
        return put_bytearray(e, o);
    if (PyObject_CheckBuffer(o))
        return put_buffer(e, o, depth);
    if (PyIter_Check(o))
        return put_iterable(e, o, depth);
    return put_text_of(e, o);
}
