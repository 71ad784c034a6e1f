/* str to a binary of UTF-8, straight into the output: Python's own conversion would keep a second copy
 * in the str. */
#include "py/encode_private.h"

/* Bytes of the character, 0 for a surrogate. */
static inline size_t width_of(Py_UCS4 c)
{
    if (c < 0x80)
        return 1;
    if (c < 0x800)
        return 2;
    if (c < 0x10000)
        return c >= 0xd800 && c <= 0xdfff ? 0 : 3;
    return 4;
}

/* false when there are surrogates. */
static bool utf8_size(int kind, const void *data, Py_ssize_t len, size_t *size)
{
    size_t n = 0;

    for (Py_ssize_t i = 0; i < len; i++) {
        size_t width = width_of(PyUnicode_READ(kind, data, i));

        if (PYN_UNLIKELY(width == 0))
            return false;
        n += width;
    }
    *size = n;
    return true;
}

static inline uint8_t *put_char(uint8_t *to, Py_UCS4 c)
{
    if (c < 0x80) {
        *to++ = (uint8_t)c;
        return to;
    }
    if (c < 0x800) {
        *to++ = (uint8_t)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *to++ = (uint8_t)(0xe0 | c >> 12);
        } else {
            *to++ = (uint8_t)(0xf0 | c >> 18);
            *to++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        }
        *to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    }
    *to++ = (uint8_t)(0x80 | (c & 0x3f));
    return to;
}

static int put_wide(struct pyn_enc *e, PyObject *o)
{
    int kind = (int)PyUnicode_KIND(o);
    const void *data = PyUnicode_DATA(o);
    Py_ssize_t len = PyUnicode_GET_LENGTH(o);
    uint8_t *to;
    size_t size;

    if (!utf8_size(kind, data, len, &size))
        return pyn_enc_refuse(e, PyExc_ValueError, "%s with lone surrogates", Py_TYPE(o)->tp_name);
    if (pyn_enc_binary_room(e, size, &to) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < len; i++)
        to = put_char(to, PyUnicode_READ(kind, data, i));
    return 0;
}

int pyn_enc_str(struct pyn_enc *e, PyObject *o)
{
    if (pyn_str_ready(o) < 0)
        return -1;
    if (PyUnicode_IS_ASCII(o))
        return pyn_enc_bytes(e, o, PyUnicode_DATA(o), (size_t)PyUnicode_GET_LENGTH(o));
    return put_wide(e, o);
}
