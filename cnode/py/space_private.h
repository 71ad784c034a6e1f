/* Between py/space.c, py/host.c and py/call.c: the base of an interpreter. */
#ifndef PYN_PY_SPACE_PRIVATE_H
#define PYN_PY_SPACE_PRIVATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/defs.h"

/* What `__main__` holds now is the base of the current interpreter. 0, or -1 with an exception set. Attached. */
PYN_MUSTCHECK int pyn_space_keep_base(void);
/* Code for every interpreter has run in `__main__`, which was `before` (a dict) then and is `after` now: what it bound,
 * or removed, is in the base from now on. 0, or -1 with an exception set. Attached. */
PYN_MUSTCHECK int pyn_space_extend_base(PyObject *before, PyObject *after);

#endif
