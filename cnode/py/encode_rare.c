/* What is none of the common types exactly: subclasses of them, our own types, sets, iterators,
 * buffers (encode_buffer.c), and at last any object by its str(). */
#include "py/encode_private.h"

/* Others have their turn after so many elements of an iterator. */
enum { BREATH = 4096 };

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

/* Everything that an iterator gives, one by one. What ends an endless one is an interrupt, or the output's maximum.
 * open: who changes what is iterated over meanwhile does no harm, so that others may run. */
static int put_elements(struct pyn_enc *e, PyObject *it, unsigned depth, bool open)
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
        if (open && count % BREATH == BREATH - 1 && pyn_breathe(e->ty) < 0)
            return -1;
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
    rc = put_elements(e, it, depth, !PyAnySet_Check(o));
    Py_DECREF(it);
    return rc;
}

int pyn_enc_text_of(struct pyn_enc *e, PyObject *o)
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

static int put_rare(struct pyn_enc *e, PyObject *o, unsigned depth)
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
        return pyn_enc_buffer(e, o, depth);
    if (PyIter_Check(o) && Py_TYPE(o)->tp_iter && !e->spare) /* one that can be iterated over, too */
        return put_iterable(e, o, depth);
    return pyn_enc_text_of(e, o);
}

int pyn_enc_rare(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    int rc = put_rare(e, o, depth);

    if (PYN_UNLIKELY(rc < 0))
        pyn_enc_failed(e, o, depth);
    return rc;
}
