/* Between py/decode.c and py/decode_fail.c. All with an exception set; unless it is a TypeError it stays as it is. */
#ifndef PYN_PY_DECODE_PRIVATE_H
#define PYN_PY_DECODE_PRIVATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* In the element of that number. Returns NULL. */
PyObject *pyn_dec_at_index(size_t i);
/* In the value of that key; key NULL: in a key. */
void pyn_dec_at_key(PyObject *key);
/* At the top: what was noted becomes the text. Returns NULL. */
PyObject *pyn_dec_failed(void);

#endif
