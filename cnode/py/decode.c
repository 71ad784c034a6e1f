#include "py/decode.h"

#include "base/huge.h"
#include "etf/utf8.h"
#include "py/compat.h"
#include "py/decode_private.h"
#include "py/error.h"

enum {
    NAME_MAX_BYTES = 32,  /* longer atoms and keys do not come often enough to be kept */
    RECORD_MAX_KEYS = 64, /* maps up to here have the keys of a record, which come again; larger ones are tables */
};

static PyObject *build(struct pyn_types *ty, struct pyn_reader *r, const struct pyn_token *t, const uint8_t *start,
                       unsigned depth);

static PyObject *malformed(enum pyn_etf_error e)
{
    if (e == PYN_ETF_TOO_DEEP)
        return PyErr_Format(PyExc_ValueError, "Erlang term nested deeper than %u levels", PYN_ETF_MAX_DEPTH);
    return PyErr_Format(PyExc_ValueError, "malformed Erlang term: %s", pyn_etf_strerror(e));
}

static inline bool is_text(struct pyn_span s, const char *text, size_t len)
{
    return s.len == len && memcmp(s.ptr, text, len) == 0;
}
#define IS(s, literal) is_text(s, literal, sizeof(literal) - 1)

/* Simple terms */

static inline PyObject *decode_int(struct pyn_types *ty, int64_t v)
{
    if (PYN_LIKELY((uint64_t)v < PYN_SMALL_INTS))
        return Py_NewRef(ty->small[v]);
    if (PYN_LIKELY(v >= LONG_MIN && v <= LONG_MAX))
        return PyLong_FromLong((long)v); /* has a short way for what fits one digit, the other has none */
    return PyLong_FromLongLong(v);
}

static PyObject *decode_big(const struct pyn_token *t)
{
    PyObject *v = pyn_long_of_bytes(t->bytes), *negative;

    if (!v || !t->negative)
        return v;
    negative = PyNumber_Negative(v);
    Py_DECREF(v);
    return negative;
}

/* The four atoms that are no names in Python; NULL for all others. Borrowed. */
static inline PyObject *constant_of(struct pyn_span s)
{
    if (s.len < 3 || s.len > 9)
        return NULL;
    if (IS(s, "true"))
        return Py_True;
    if (IS(s, "false"))
        return Py_False;
    if (IS(s, "undefined") || IS(s, "nil") || IS(s, "none"))
        return Py_None;
    return NULL;
}

static inline PyObject *ascii_str(struct pyn_span s)
{
    PyObject *o;

    if (s.len <= 1) /* Python keeps one object for each of these */
        return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, s.ptr, (Py_ssize_t)s.len);
    o = PyUnicode_New((Py_ssize_t)s.len, 127);
    if (o) {
        pyn_huge_pages(PyUnicode_1BYTE_DATA(o), s.len);
        memcpy(PyUnicode_1BYTE_DATA(o), s.ptr, s.len);
    }
    return o;
}

static PyObject *decode_name(struct pyn_types *ty, struct pyn_span s)
{
    if (s.len <= NAME_MAX_BYTES && pyn_utf8_ascii_prefix(s) == s.len)
        return pyn_name_new(ty, s);
    return PyUnicode_DecodeUTF8((const char *)s.ptr, (Py_ssize_t)s.len, NULL);
}

static PyObject *decode_atom(struct pyn_types *ty, struct pyn_span s)
{
    PyObject *constant = constant_of(s);

    return constant ? Py_NewRef(constant) : decode_name(ty, s);
}

static PyObject *bytes_of(struct pyn_span s)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)s.len);

    if (bytes) {
        pyn_huge_pages(PyBytes_AS_STRING(bytes), s.len);
        memcpy(PyBytes_AS_STRING(bytes), s.ptr, s.len);
    }
    return bytes;
}

/* Text where it is text. Asking first is cheaper than the exception of a decoder that fails. */
static PyObject *decode_binary(struct pyn_span s)
{
    size_t ascii = pyn_utf8_ascii_prefix(s);

    if (PYN_LIKELY(ascii == s.len))
        return ascii_str(s);
    if (pyn_utf8_check((struct pyn_span){s.ptr + ascii, s.len - ascii}, NULL))
        return PyUnicode_DecodeUTF8((const char *)s.ptr, (Py_ssize_t)s.len, NULL);
    return bytes_of(s);
}

static PyObject *decode_string(struct pyn_types *ty, struct pyn_span s)
{
    PyObject *list = PyList_New((Py_ssize_t)s.len);

    if (!list)
        return NULL;
    for (size_t i = 0; i < s.len; i++)
        PyList_SET_ITEM(list, (Py_ssize_t)i, Py_NewRef(ty->small[s.ptr[i]]));
    return list;
}

/* Containers */

static inline PyObject *decode_next(struct pyn_types *ty, struct pyn_reader *r, unsigned depth)
{
    const uint8_t *start = r->pos;
    struct pyn_token t;
    enum pyn_etf_error e;
    int64_t v;

    if (pyn_read_short_int(r, &v))
        return decode_int(ty, v);
    e = pyn_read_token(r, &t);
    if (PYN_UNLIKELY(e != PYN_ETF_OK))
        return malformed(e);
    return build(ty, r, &t, start, depth);
}

/* A tail that is a list makes a proper list, written in two parts; anything else makes the whole term
 * improper. Steals list. */
static PyObject *decode_tail(struct pyn_types *ty, struct pyn_reader *r, PyObject *list, const uint8_t *start,
                             unsigned depth)
{
    PyObject *tail = decode_next(ty, r, depth), *whole = NULL;
    Py_ssize_t n = PyList_GET_SIZE(list);

    if (tail && PyList_CheckExact(tail)) {
        if (PyList_SetSlice(list, n, n, tail) == 0)
            whole = Py_NewRef(list);
    } else if (tail) {
        whole = pyn_opaque_new(ty, PYN_OPAQUE_IMPROPER_LIST, (struct pyn_span){start, (size_t)(r->pos - start)});
    }
    Py_XDECREF(tail);
    Py_DECREF(list);
    return whole;
}

static PyObject *decode_list(struct pyn_types *ty, struct pyn_reader *r, uint32_t count, const uint8_t *start,
                             unsigned depth)
{
    PyObject *list = PyList_New(count);
    struct pyn_token t;

    if (!list)
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *o = decode_next(ty, r, depth);

        if (PYN_UNLIKELY(!o)) {
            Py_DECREF(list);
            return pyn_dec_at_index(i);
        }
        PyList_SET_ITEM(list, i, o);
    }
    if (PYN_LIKELY(pyn_read_kind(r, PYN_T_NIL, &t)))
        return list;
    return decode_tail(ty, r, list, start, depth);
}

/* {bytes, Binary} is how Erlang asks for bytes, whatever is in them. */
static PyObject *decode_pair(struct pyn_types *ty, struct pyn_reader *r, unsigned depth)
{
    const uint8_t *start = r->pos;
    PyObject *first, *second, *pair = NULL;
    struct pyn_token t;
    enum pyn_etf_error e = pyn_read_token(r, &t);

    if (e != PYN_ETF_OK)
        return malformed(e);
    if (t.kind == PYN_T_ATOM && IS(t.bytes, "bytes")) {
        struct pyn_token b;

        if (pyn_read_kind(r, PYN_T_BINARY, &b))
            return bytes_of(b.bytes);
    }
    first = build(ty, r, &t, start, depth);
    if (!first)
        return pyn_dec_at_index(0);
    second = decode_next(ty, r, depth);
    if (second)
        pair = PyTuple_New(2);
    else
        (void)pyn_dec_at_index(1);
    if (!pair) {
        Py_DECREF(first);
        Py_XDECREF(second);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, first);
    PyTuple_SET_ITEM(pair, 1, second);
    return pair;
}

static PyObject *decode_tuple(struct pyn_types *ty, struct pyn_reader *r, uint32_t count, unsigned depth)
{
    PyObject *tuple;

    if (count == 2)
        return decode_pair(ty, r, depth);
    tuple = PyTuple_New(count);
    if (!tuple)
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *o = decode_next(ty, r, depth);

        if (PYN_UNLIKELY(!o)) {
            Py_DECREF(tuple);
            return pyn_dec_at_index(i);
        }
        PyTuple_SET_ITEM(tuple, i, o);
    }
    return tuple;
}

/* Maps */

static void name_unhashable(PyObject *key)
{
    PyObject *cause, *repr;

    if (!PyErr_ExceptionMatches(PyExc_TypeError))
        return;
    cause = pyn_take_exception();
    repr = pyn_short_repr(key);
    PyErr_Format(PyExc_TypeError, "map key %V cannot be a key in Python: %S", repr, "?", cause);
    Py_XDECREF(repr);
    Py_XDECREF(cause);
}

static void name_doubled(PyObject *key)
{
    PyObject *repr = pyn_short_repr(key);

    PyErr_Format(PyExc_TypeError, "two keys of a map become equal in Python: %V", repr, "?");
    Py_XDECREF(repr);
}

/* The keys of a record come again from call to call as names do. */
static inline PyObject *decode_key(struct pyn_types *ty, struct pyn_reader *r, bool record, unsigned depth)
{
    const uint8_t *start = r->pos;
    struct pyn_token t;
    enum pyn_etf_error e = pyn_read_token(r, &t);

    if (PYN_UNLIKELY(e != PYN_ETF_OK))
        return malformed(e);
    if (record && t.kind == PYN_T_BINARY && t.bytes.len <= NAME_MAX_BYTES &&
        pyn_utf8_ascii_prefix(t.bytes) == t.bytes.len)
        return pyn_name_new(ty, t.bytes);
    return build(ty, r, &t, start, depth);
}

static bool decode_entry(struct pyn_types *ty, struct pyn_reader *r, PyObject *dict, bool record, unsigned depth)
{
    Py_ssize_t before = PyDict_GET_SIZE(dict);
    PyObject *key = decode_key(ty, r, record, depth), *value = NULL;
    bool ok = false;

    if (key)
        value = decode_next(ty, r, depth);
    if (!value) {
        pyn_dec_at_key(key);
        goto out;
    }
    if (PyDict_SetItem(dict, key, value) < 0)
        name_unhashable(key);
    else if (PyDict_GET_SIZE(dict) == before)
        name_doubled(key);
    else
        ok = true;
out:
    Py_XDECREF(key);
    Py_XDECREF(value);
    return ok;
}

static PyObject *decode_map(struct pyn_types *ty, struct pyn_reader *r, uint32_t count, unsigned depth)
{
    PyObject *dict = PyDict_New();

    if (!dict)
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_entry(ty, r, dict, count <= RECORD_MAX_KEYS, depth)) {
            Py_DECREF(dict);
            return NULL;
        }
    }
    return dict;
}

static PyObject *build_container(struct pyn_types *ty, struct pyn_reader *r, const struct pyn_token *t,
                                 const uint8_t *start, unsigned depth)
{
    if (PYN_UNLIKELY(depth >= PYN_ETF_MAX_DEPTH))
        return malformed(PYN_ETF_TOO_DEEP);
    if (t->kind == PYN_T_LIST)
        return decode_list(ty, r, t->count, start, depth + 1);
    if (t->kind == PYN_T_TUPLE)
        return decode_tuple(ty, r, t->count, depth + 1);
    return decode_map(ty, r, t->count, depth + 1);
}

/* The object of a token that was read at start; what follows of a container is read here. */
static PyObject *build(struct pyn_types *ty, struct pyn_reader *r, const struct pyn_token *t, const uint8_t *start,
                       unsigned depth)
{
    switch (t->kind) {
    case PYN_T_INT:
        return decode_int(ty, t->i);
    case PYN_T_BINARY:
        return decode_binary(t->bytes);
    case PYN_T_ATOM:
        return decode_atom(ty, t->bytes);
    case PYN_T_FLOAT:
        return PyFloat_FromDouble(t->f);
    case PYN_T_NIL:
        return PyList_New(0);
    case PYN_T_STRING:
        return decode_string(ty, t->bytes);
    case PYN_T_LIST:
    case PYN_T_TUPLE:
    case PYN_T_MAP:
        return build_container(ty, r, t, start, depth);
    case PYN_T_BIG:
        return decode_big(t);
    case PYN_T_LATIN1:
        return PyUnicode_DecodeLatin1((const char *)t->bytes.ptr, (Py_ssize_t)t->bytes.len, NULL);
    case PYN_T_PID:
        return pyn_opaque_new(ty, PYN_OPAQUE_PID, t->bytes);
    case PYN_T_PORT:
        return pyn_opaque_new(ty, PYN_OPAQUE_PORT, t->bytes);
    case PYN_T_REF:
        return pyn_opaque_new(ty, PYN_OPAQUE_REFERENCE, t->bytes);
    case PYN_T_FUN:
        return pyn_opaque_new(ty, PYN_OPAQUE_FUNCTION, t->bytes);
    case PYN_T_BITS:
        return pyn_opaque_new(ty, PYN_OPAQUE_BITSTRING, t->bytes);
    }
    return malformed(PYN_ETF_BAD_TAG);
}

PyObject *pyn_decode(struct pyn_types *ty, struct pyn_reader *r)
{
    PyObject *o = decode_next(ty, r, 0);

    return PYN_LIKELY(o != NULL) ? o : pyn_dec_failed();
}

PyObject *pyn_decode_span(struct pyn_types *ty, struct pyn_span term)
{
    struct pyn_reader r = pyn_reader_of(term);
    PyObject *o = pyn_decode(ty, &r);

    if (o && pyn_reader_left(&r) > 0) {
        Py_DECREF(o);
        return PyErr_Format(PyExc_ValueError, "malformed Erlang term: %zu bytes behind its end", pyn_reader_left(&r));
    }
    return o;
}
