/* dict to map. A map with two equal keys is malformed: they are found before they leave. */
#include <stdlib.h>

#include "py/encode_private.h"
#include "py/error.h"

/* The encoded keys of one map so far, by hash: open addressing, at most half full. */
struct key_set {
    struct key_at {
        size_t at; /* in the buffer, which may move: no pointer */
        size_t len;
    } * slots; /* owned; len 0: empty */
    size_t mask;
};

static bool keys_init(struct key_set *s, size_t keys)
{
    size_t n = 4;

    while (n < keys * 2)
        n *= 2;
    s->slots = calloc(n, sizeof(*s->slots));
    s->mask = n - 1;
    return s->slots != NULL;
}

/* Adds the key; false when it was there. */
static bool keys_add(struct key_set *s, const struct pyn_buf *b, struct key_at key)
{
    struct pyn_span new = {b->data + key.at, key.len};
    size_t i = (size_t)pyn_hash_bytes(new) & s->mask;

    for (; s->slots[i].len > 0; i = (i + 1) & s->mask) {
        struct pyn_span old = {b->data + s->slots[i].at, s->slots[i].len};

        if (pyn_span_eq(old, new))
            return false;
    }
    s->slots[i] = key;
    return true;
}

/* What kinds of keys a dict has, as far as it matters for their encodings to be distinct. Keys of one kind that
 * differ in Python differ in Erlang, but for FLOAT (every nan is another key in Python) and OTHER. */
enum {
    KEY_TEXT = 1, /* a binary, as BYTES is */
    KEY_BYTES = 2,
    KEY_INT = 4,
    KEY_CONST = 8, /* bool and None: atoms, as ATOM is */
    KEY_ATOM = 16,
    KEY_FLOAT = 32, /* nan and infinities become atoms */
    KEY_OTHER = 64, /* may become anything, and run Python code at that */
};

static inline unsigned kind_of(const struct pyn_enc *e, PyObject *o)
{
    PyTypeObject *t = Py_TYPE(o);

    if (t == &PyUnicode_Type)
        return KEY_TEXT;
    if (t == &PyLong_Type)
        return KEY_INT;
    if (t == &PyBytes_Type)
        return KEY_BYTES;
    if (t == &PyBool_Type || o == Py_None)
        return KEY_CONST;
    if (t == &PyFloat_Type)
        return KEY_FLOAT;
    return t == e->ty->atom ? KEY_ATOM : KEY_OTHER;
}

static inline bool kinds_collide(unsigned kinds)
{
    const unsigned text = KEY_TEXT | KEY_BYTES, atom = KEY_CONST | KEY_ATOM;

    return (kinds & (KEY_FLOAT | KEY_OTHER)) || (kinds & text) == text || (kinds & atom) == atom;
}

/* true when no Python code will run while the dict is converted. */
static bool look_through(const struct pyn_enc *e, PyObject *dict, unsigned *kinds)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0;
    unsigned values = 0;

    *kinds = 0;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        *kinds |= kind_of(e, key);
        values |= kind_of(e, value);
    }
    return !((*kinds | values) & KEY_OTHER);
}

/* set: NULL when the keys cannot meet. */
static int put_key(struct pyn_enc *e, PyObject *key, struct key_set *set, unsigned depth)
{
    struct pyn_buf *b = &e->out->buf;
    struct key_at at = {.at = b->len};
    PyObject *repr;
    int rc;

    e->keys++;
    rc = pyn_enc_value(e, key, depth);
    e->keys--;
    if (rc < 0) {
        pyn_enc_in_key(e, key);
        return -1;
    }
    at.len = b->len - at.at;
    if (!set || keys_add(set, b, at))
        return 0;
    repr = pyn_short_repr(key);
    rc = pyn_enc_refuse(e, PyExc_TypeError, "dict with two keys that become equal in Erlang: %V", repr, "?");
    Py_XDECREF(repr);
    return rc;
}

/* Nobody changes the dict meanwhile. */
static int put_pairs(struct pyn_enc *e, PyObject *dict, struct key_set *set, unsigned depth)
{
    PyObject *key, *value;
    Py_ssize_t pos = 0;

    pyn_write_map(&e->out->buf, (size_t)PyDict_GET_SIZE(dict));
    if (pyn_enc_done(e, 5) < 0)
        return -1;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (put_key(e, key, set, depth) < 0)
            return -1;
        if (pyn_enc_value(e, value, depth) < 0) {
            pyn_enc_at_key(e, key);
            return -1;
        }
    }
    return 0;
}

static int put_checked(struct pyn_enc *e, PyObject *dict, unsigned kinds, unsigned depth)
{
    struct key_set set;
    int rc;

    if (!kinds_collide(kinds))
        return put_pairs(e, dict, NULL, depth);
    if (!keys_init(&set, (size_t)PyDict_GET_SIZE(dict))) {
        PyErr_NoMemory();
        return -1;
    }
    rc = put_pairs(e, dict, &set, depth);
    free(set.slots);
    return rc;
}

/* Python code that runs while we walk, or another thread, may change a dict: then we walk over a copy. */
static int put_copy(struct pyn_enc *e, PyObject *dict, unsigned depth)
{
    PyObject *copy = PyDict_Copy(dict);
    unsigned kinds;
    int rc;

    if (!copy)
        return -1;
    (void)look_through(e, copy, &kinds);
    rc = put_checked(e, copy, kinds, depth);
    Py_DECREF(copy);
    return rc;
}

int pyn_enc_dict(struct pyn_enc *e, PyObject *dict, unsigned depth)
{
    unsigned kinds;
    bool plain;
    int rc = 0;

    PYN_BEGIN_CRITICAL(dict);
    plain = look_through(e, dict, &kinds);
    if (plain)
        rc = put_checked(e, dict, kinds, depth + 1);
    PYN_END_CRITICAL();
    return plain ? rc : put_copy(e, dict, depth + 1);
}
