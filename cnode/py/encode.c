#include "py/encode_private.h"

#include "py/graveyard.h"

/* The longest of the numbers that are written in one go, tag included. */
enum { SHORT_TERM = 16, BINARY_HEAD = 5 };

/* Tags that are written here and not by etf/writer.h: the inner loops of large lists are made of these. */
enum { SMALL_INTEGER_EXT = 97, INTEGER_EXT = 98, BINARY_EXT = 109 };

/* Numbers */

/* The largest that every release of the BEAM takes: 65535 words. It closes the connection when there is more. */
enum { BIG_MAX_BYTES = 65535 * 8 };

static int refuse_big(struct pyn_enc *e)
{
    return pyn_enc_refuse(e, PyExc_ValueError, "an integer of more than %d bits", BIG_MAX_BYTES * 8);
}

/* Its digits, n bytes of which the last ones may be zeros. */
static int put_digits(struct pyn_enc *e, bool negative, const uint8_t *digits, size_t n)
{
    while (n > 0 && digits[n - 1] == 0)
        n--;
    if (n > BIG_MAX_BYTES)
        return refuse_big(e);
    pyn_write_big(&e->out->buf, negative, (struct pyn_span){digits, n});
    return pyn_enc_done(e, n + 6);
}

static int put_big(struct pyn_enc *e, PyObject *o, bool negative)
{
    /* Not PyNumber_Absolute: a subclass may say anything. */
    PyObject *magnitude = PyLong_Type.tp_as_number->nb_absolute(o);
    Py_ssize_t n = magnitude ? pyn_long_size(magnitude) : -1;
    bool huge = n > BIG_MAX_BYTES + 8; /* whatever is before its first digit */
    uint8_t *digits = n < 0 || huge ? NULL : PyMem_Malloc((size_t)n);
    int rc = huge ? refuse_big(e) : -1;

    if (n >= 0 && !huge && !digits)
        PyErr_NoMemory();
    if (digits && pyn_long_bytes(magnitude, digits, n) == 0)
        rc = put_digits(e, negative, digits, (size_t)n);
    PyMem_Free(digits);
    Py_XDECREF(magnitude);
    return rc;
}

static int put_wide_long(struct pyn_enc *e, PyObject *o)
{
    int overflow;
    long long v = PyLong_AsLongLongAndOverflow(o, &overflow);

    if (overflow != 0)
        return put_big(e, o, overflow < 0);
    if (v == -1 && PyErr_Occurred())
        return -1;
    pyn_write_int(&e->out->buf, v);
    return pyn_enc_done(e, SHORT_TERM);
}

static inline int put_long(struct pyn_enc *e, PyObject *o)
{
    struct pyn_buf *b = &e->out->buf;
    int64_t v;

    if (PYN_UNLIKELY(b->cap - b->len < SHORT_TERM || !pyn_long_compact(o, &v) || v != (int32_t)v))
        return put_wide_long(e, o);
    if ((uint64_t)v < 256) {
        b->data[b->len] = SMALL_INTEGER_EXT;
        b->data[b->len + 1] = (uint8_t)v;
        b->len += 2;
    } else {
        b->data[b->len] = INTEGER_EXT;
        pyn_put_be32(b->data + b->len + 1, (uint32_t)v);
        b->len += 5;
    }
    return 0;
}

int pyn_enc_long(struct pyn_enc *e, PyObject *o)
{
    return put_long(e, o);
}

/* The bits are looked at, not the value: -ffast-math believes that there are no others than finite ones. */
int pyn_enc_float(struct pyn_enc *e, double v)
{
    const uint64_t infinity = UINT64_C(0x7ff) << 52, sign = UINT64_C(1) << 63;
    struct pyn_buf *b = &e->out->buf;
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    if (PYN_LIKELY((bits & infinity) != infinity))
        pyn_write_float(b, v);
    else if ((bits & ~sign) != infinity)
        pyn_write_atom(b, "nan");
    else
        pyn_write_atom(b, bits & sign ? "neg_infinity" : "infinity");
    return pyn_enc_done(e, SHORT_TERM);
}

static int put_atom(struct pyn_enc *e, const char *name)
{
    pyn_write_atom(&e->out->buf, name);
    return pyn_enc_done(e, SHORT_TERM);
}

/* Binaries */

static int put_binary_head(struct pyn_enc *e, size_t n, size_t room)
{
    struct pyn_buf *b = &e->out->buf;

    if (PYN_UNLIKELY(n > UINT32_MAX))
        return pyn_enc_refuse(e, PyExc_ValueError, "a binary of more than 4294967295 bytes");
    if (!pyn_buf_room(b, BINARY_HEAD + room))
        return pyn_enc_full(e, BINARY_HEAD + room);
    b->data[b->len] = BINARY_EXT;
    pyn_put_be32(b->data + b->len + 1, (uint32_t)n);
    b->len += BINARY_HEAD;
    return 0;
}

int pyn_enc_binary_room(struct pyn_enc *e, size_t n, uint8_t **to)
{
    struct pyn_buf *b = &e->out->buf;

    if (put_binary_head(e, n, n) < 0)
        return -1;
    *to = b->data + b->len;
    b->len += n;
    return 0;
}

/* The bytes behind the head, lent by their owner; false: nothing was taken. */
static bool lend(struct pyn_enc *e, PyObject *owner, struct pyn_span bytes)
{
    struct pyn_grave *grave = pyn_grave_new(e->ty->graveyard, owner);

    if (!grave)
        return false;
    if (pyn_out_splice(e->out, bytes, pyn_grave_bury, grave))
        return true;
    pyn_grave_drop(grave);
    return false;
}

static int put_large(struct pyn_enc *e, PyObject *owner, struct pyn_span bytes)
{
    struct pyn_buf *b = &e->out->buf;

    if (put_binary_head(e, bytes.len, 0) < 0)
        return -1;
    if (pyn_out_size(e->out) > b->max || bytes.len > b->max - pyn_out_size(e->out))
        return pyn_enc_full(e, bytes.len);
    if (lend(e, owner, bytes))
        return 0;
    pyn_buf_bytes(b, bytes.ptr, bytes.len);
    return pyn_enc_done(e, bytes.len);
}

static inline int put_bytes(struct pyn_enc *e, PyObject *owner, const void *bytes, size_t n)
{
    uint8_t *to;

    if (PYN_UNLIKELY(n >= PYN_EXT_MIN && e->keys == 0))
        return put_large(e, owner, (struct pyn_span){bytes, n});
    if (pyn_enc_binary_room(e, n, &to) < 0)
        return -1;
    memcpy(to, bytes, n);
    return 0;
}

int pyn_enc_bytes(struct pyn_enc *e, PyObject *owner, const void *bytes, size_t n)
{
    return put_bytes(e, owner, bytes, n);
}

/* What needs no second look: converting it runs no Python code. NOT_PLAIN: it is something else. */
enum { NOT_PLAIN = 1 };

static inline int put_plain(struct pyn_enc *e, PyObject *o)
{
    PyTypeObject *t = Py_TYPE(o);

    if (t == &PyLong_Type)
        return put_long(e, o);
    if (t == &PyUnicode_Type) {
        if (PYN_LIKELY(PyUnicode_IS_COMPACT_ASCII(o)))
            return put_bytes(e, o, PyUnicode_1BYTE_DATA(o), (size_t)PyUnicode_GET_LENGTH(o));
        return pyn_enc_str(e, o);
    }
    if (t == &PyFloat_Type)
        return pyn_enc_float(e, PyFloat_AS_DOUBLE(o));
    if (t == &PyBool_Type)
        return put_atom(e, o == Py_True ? "true" : "false");
    if (o == Py_None)
        return put_atom(e, "none");
    if (t == &PyBytes_Type)
        return put_bytes(e, o, PyBytes_AS_STRING(o), (size_t)PyBytes_GET_SIZE(o));
    return NOT_PLAIN;
}

/* Lists and tuples */

int pyn_enc_close_list(struct pyn_enc *e, size_t at, size_t count)
{
    struct pyn_buf *b = &e->out->buf;

    if (count > UINT32_MAX)
        return pyn_enc_refuse(e, PyExc_ValueError, "a list of more than 4294967295 elements");
    if (count == 0)
        b->len = at; /* a list of no elements is written as nil */
    else
        pyn_put_be32(b->data + at + 1, (uint32_t)count);
    pyn_write_nil(b);
    return pyn_enc_done(e, 1);
}

/* Writes the plain elements from *i on. 0: n are written, or the list has become shorter; NOT_PLAIN:
 * *next (new reference) stands at *i. The list keeps still meanwhile. */
static int put_run(struct pyn_enc *e, PyObject *list, Py_ssize_t n, Py_ssize_t *i, PyObject **next)
{
    Py_ssize_t k = *i;
    int rc = 0;

    PYN_BEGIN_CRITICAL(list);
    for (; k < n && k < PyList_GET_SIZE(list); k++) {
        rc = put_plain(e, PyList_GET_ITEM(list, k));
        if (PYN_UNLIKELY(rc != 0)) {
            *next = rc == NOT_PLAIN ? Py_NewRef(PyList_GET_ITEM(list, k)) : NULL;
            break;
        }
    }
    PYN_END_CRITICAL();
    *i = k;
    return rc;
}

/* Python code that runs meanwhile, or another thread, may change the list: as in Python's own loops over
 * lists, what stands at an index when its turn comes counts; what was appended since the start does not. */
int pyn_enc_list(struct pyn_enc *e, PyObject *list, unsigned depth)
{
    Py_ssize_t n = PyList_Size(list), i = 0;
    size_t at = e->out->buf.len;
    int rc;

    pyn_write_list(&e->out->buf, (size_t)n);
    if (pyn_enc_done(e, 5) < 0)
        return -1;
    for (;; i++) {
        PyObject *next = NULL;

        rc = put_run(e, list, n, &i, &next);
        if (rc == 0)
            return pyn_enc_close_list(e, at, (size_t)i);
        if (rc == NOT_PLAIN) {
            rc = pyn_enc_value(e, next, depth + 1);
            Py_DECREF(next);
        }
        if (rc < 0) {
            pyn_enc_at_index(e, i);
            return -1;
        }
    }
}

int pyn_enc_tuple(struct pyn_enc *e, PyObject *tuple, unsigned depth)
{
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);

    pyn_write_tuple(&e->out->buf, (size_t)n);
    if (pyn_enc_done(e, 5) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (pyn_enc_value(e, PyTuple_GET_ITEM(tuple, i), depth + 1) < 0) {
            pyn_enc_at_index(e, i);
            return -1;
        }
    }
    return 0;
}

int pyn_enc_value(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    PyTypeObject *t = Py_TYPE(o);
    int rc = put_plain(e, o);

    if (rc != NOT_PLAIN)
        return rc;
    if (t != &PyList_Type && t != &PyTuple_Type && t != &PyDict_Type)
        return pyn_enc_rare(e, o, depth);
    if (PYN_UNLIKELY(depth >= PYN_ETF_MAX_DEPTH))
        return pyn_enc_too_deep(e, o);
    if (t == &PyList_Type)
        return pyn_enc_list(e, o, depth);
    if (t == &PyTuple_Type)
        return pyn_enc_tuple(e, o, depth);
    return pyn_enc_dict(e, o, depth);
}

static int encode(struct pyn_types *ty, PyObject *o, struct pyn_out *out, bool spare)
{
    struct pyn_enc e = {.ty = ty, .out = out, .spare = spare};
    int rc;

    pyn_graveyard_drain(ty->graveyard);
    rc = pyn_enc_value(&e, o, 0);
    if (rc == 0 && PYN_UNLIKELY(pyn_out_size(out) > out->buf.max))
        rc = pyn_enc_full(&e, 0);
    if (PYN_UNLIKELY(rc < 0))
        pyn_enc_raise(&e);
    return rc;
}

int pyn_encode(struct pyn_types *ty, PyObject *o, struct pyn_out *out)
{
    return encode(ty, o, out, false);
}

int pyn_encode_sparing(struct pyn_types *ty, PyObject *o, struct pyn_out *out)
{
    return encode(ty, o, out, true);
}
