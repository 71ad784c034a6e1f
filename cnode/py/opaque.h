/* The Python types of terms that Python cannot hold natively: erlang.Pid, .Reference, .Port, .Function,
 * .Bitstring and .ImproperList. Immutable, hashable, comparable by their bytes (every node writes a
 * given term in the same way), not to be made from Python. */
#ifndef PYN_PY_OPAQUE_H
#define PYN_PY_OPAQUE_H

#include "py/types.h"

/* A new reference to the type of that kind. Attached. */
PyObject *pyn_opaque_type_new(PyObject *module, enum pyn_opaque_kind kind);

#endif
