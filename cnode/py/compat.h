/* What differs between Python 3.11 and 3.14, with and without the GIL. The only file that asks for the
 * version. */
#ifndef PYN_PY_COMPAT_H
#define PYN_PY_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/defs.h"

/* Holds the object's own lock where there is no GIL; a block, so nothing may return or jump out of it. */
#if PY_VERSION_HEX >= 0x030D0000
#define PYN_BEGIN_CRITICAL(o) Py_BEGIN_CRITICAL_SECTION(o)
#define PYN_END_CRITICAL() Py_END_CRITICAL_SECTION()
#else
#define PYN_BEGIN_CRITICAL(o) {
#define PYN_END_CRITICAL() }
#endif

/* The current exception, taken off the thread: a new reference to the normalised instance, which holds its
 * traceback, or NULL when there is none. */
static inline PyObject *pyn_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *tb;

    PyErr_Fetch(&type, &value, &tb);
    if (!type)
        return NULL;
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb && value)
        (void)PyException_SetTraceback(value, tb);
    Py_DECREF(type);
    Py_XDECREF(tb);
    return value;
#endif
}

/* 1: *value is a new reference to what the dict has for that key; 0: it has nothing; -1 with an exception. Another
 * thread may replace it meanwhile, so that where there is no GIL a borrowed reference might be to nothing. */
static inline int pyn_dict_get(PyObject *dict, PyObject *key, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyDict_GetItemRef(dict, key, value);
#else
    *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    if (*value)
        return 1;
    return PyErr_Occurred() ? -1 : 0;
#endif
}

/* true when *v is the value of o, a PyLong that Python keeps in one machine word's part; false for all
 * others. */
static inline bool pyn_long_compact(PyObject *o, int64_t *v)
{
#if PY_VERSION_HEX >= 0x030C0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)o))
        return false;
    *v = PyUnstable_Long_CompactValue((PyLongObject *)o);
    return true;
#else
    Py_ssize_t size = Py_SIZE(o);

    if (size < -1 || size > 1)
        return false;
    *v = size == 0 ? 0 : (int64_t)size * ((PyLongObject *)o)->ob_digit[0];
    return true;
#endif
}

/* Bytes that pyn_long_bytes needs for o, which must not be negative; -1 with an exception set. */
static inline Py_ssize_t pyn_long_size(PyObject *o)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_AsNativeBytes(o, NULL, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    size_t bits = _PyLong_NumBits(o);

    return bits == (size_t)-1 && PyErr_Occurred() ? -1 : (Py_ssize_t)(bits / 8 + 1);
#endif
}

/* The digits of o, not negative, little-endian, zeros filling up the end. 0, or -1 with an exception
 * set. */
static inline int pyn_long_bytes(PyObject *o, uint8_t *to, Py_ssize_t n)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_AsNativeBytes(o, to, n, Py_ASNATIVEBYTES_LITTLE_ENDIAN) < 0 ? -1 : 0;
#else
    return _PyLong_AsByteArray((PyLongObject *)o, to, (size_t)n, 1, 0);
#endif
}

/* A new reference to the integer of these little-endian digits. */
static inline PyObject *pyn_long_of_bytes(struct pyn_span digits)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromUnsignedNativeBytes(digits.ptr, digits.len, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    return _PyLong_FromByteArray(digits.ptr, digits.len, 1, 0);
#endif
}

#if PY_VERSION_HEX >= 0x030D0000 && PY_VERSION_HEX < 0x030E0000
PyAPI_FUNC(Py_hash_t) _Py_HashBytes(const void *, Py_ssize_t); /* exported, but in no public header of 3.13 */
#endif

/* Python's own keyed hash, so that a peer cannot choose bytes that collide. */
static inline Py_hash_t pyn_hash_bytes(struct pyn_span s)
{
#if PY_VERSION_HEX >= 0x030E0000
    return Py_HashBuffer(s.ptr, (Py_ssize_t)s.len);
#else
    return _Py_HashBytes(s.ptr, (Py_ssize_t)s.len);
#endif
}

/* Strings made by the old wide-character calls of 3.11 have no data until they are asked for it. */
static inline int pyn_str_ready(PyObject *o)
{
#if PY_VERSION_HEX >= 0x030C0000
    (void)o;
    return 0;
#else
    return PyUnicode_READY(o);
#endif
}

#endif
