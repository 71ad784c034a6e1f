/* Shared by the files of the encoder: encode.c (common types), encode_map.c, encode_text.c,
 * encode_rare.c, encode_buffer.c, encode_fail.c.
 *
 * Every function returns 0, or -1 after a failure, and is called attached. A failure of ours is noted in
 * struct pyn_enc, with no Python exception set, so that the frames may ask for the repr of a key as they
 * unwind; a failure of Python's own is the exception that is set. One of an object's own code is noted, too. */
#ifndef PYN_PY_ENCODE_PRIVATE_H
#define PYN_PY_ENCODE_PRIVATE_H

#include "etf/writer.h"
#include "py/compat.h"
#include "py/encode.h"

struct pyn_enc {
    struct pyn_types *ty;
    struct pyn_out *out;
    bool spare;        /* iterators are not to be consumed */
    unsigned keys;     /* > 0 inside a map key, whose bytes stay together: they are compared */
    PyObject *refused; /* class of our exception (borrowed); NULL while nothing of ours has failed */
    PyObject *raised;  /* what an object's own code has raised (owned), or NULL */
    PyObject *what;    /* its text, or the type of that object (owned), NULL when memory is out */
    PyObject *places;  /* list of str (owned), innermost first, or NULL */
};

/* Any object. depth: how many containers it is in. */
PYN_MUSTCHECK int pyn_enc_value(struct pyn_enc *e, PyObject *o, unsigned depth);

/* Lists, tuples and dicts, subclasses too; at depth < PYN_ETF_MAX_DEPTH. */
PYN_MUSTCHECK int pyn_enc_list(struct pyn_enc *e, PyObject *list, unsigned depth);
PYN_MUSTCHECK int pyn_enc_tuple(struct pyn_enc *e, PyObject *tuple, unsigned depth);
PYN_MUSTCHECK int pyn_enc_dict(struct pyn_enc *e, PyObject *dict, unsigned depth);
/* The head of a list stands at `at`: says how many elements came, and closes it. */
PYN_MUSTCHECK int pyn_enc_close_list(struct pyn_enc *e, size_t at, size_t count);

/* PyLong, PyFloat, str, subclasses too. */
PYN_MUSTCHECK int pyn_enc_long(struct pyn_enc *e, PyObject *o);
PYN_MUSTCHECK int pyn_enc_float(struct pyn_enc *e, double v);
PYN_MUSTCHECK int pyn_enc_str(struct pyn_enc *e, PyObject *o);
/* n bytes inside `owner`, which never change: spliced in when they are many. */
PYN_MUSTCHECK int pyn_enc_bytes(struct pyn_enc *e, PyObject *owner, const void *bytes, size_t n);
/* The head of a binary and room for its n bytes, which go to *to; the length is counted already. */
PYN_MUSTCHECK int pyn_enc_binary_room(struct pyn_enc *e, size_t n, uint8_t **to);

/* Everything that is none of the common types exactly. */
PYN_MUSTCHECK int pyn_enc_rare(struct pyn_enc *e, PyObject *o, unsigned depth);

/* Whatever exports its memory. */
PYN_MUSTCHECK int pyn_enc_buffer(struct pyn_enc *e, PyObject *o, unsigned depth);
/* Any object as its str(). */
PYN_MUSTCHECK int pyn_enc_text_of(struct pyn_enc *e, PyObject *o);

/* Failures, all -1. what: "str with lone surrogates", to be read behind "cannot convert". */
PYN_MUSTCHECK int pyn_enc_refuse(struct pyn_enc *e, PyObject *class, const char *what, ...);
PYN_MUSTCHECK int pyn_enc_too_deep(struct pyn_enc *e, PyObject *o);
/* The buffer did not take n further bytes. */
PYN_MUSTCHECK int pyn_enc_full(struct pyn_enc *e, size_t n);
/* The exception that is set comes from o, as far as it is one that the code of o may have raised. */
void pyn_enc_failed(struct pyn_enc *e, PyObject *o, unsigned depth);
/* Says, on the way out, where it was. */
void pyn_enc_at_index(struct pyn_enc *e, Py_ssize_t i);
void pyn_enc_at_key(struct pyn_enc *e, PyObject *key);
void pyn_enc_in_key(struct pyn_enc *e, PyObject *key);
/* At the top: what was noted becomes the exception. */
void pyn_enc_raise(struct pyn_enc *e);

/* After writes of at most n bytes. */
static inline int pyn_enc_done(struct pyn_enc *e, size_t n)
{
    return PYN_LIKELY(!e->out->buf.failed) ? 0 : pyn_enc_full(e, n);
}

#endif
