/* From the names of a call to the callable, and from source to code, through the caches of the seat. */
#ifndef PYN_PY_TARGET_H
#define PYN_PY_TARGET_H

#include "py/call.h"
#include "py/interp_private.h"

/* A new reference to the callable, looked up now: the module is imported when it is not there. NULL with an exception;
 * *refused is set when it is the ImportError of a module that does not load in sub-interpreters. Attached. */
PyObject *pyn_target_find(struct pyn_seat *s, struct pyn_span module, struct pyn_span function, bool *refused);

/* A new reference to the code object of an expression (Py_eval_input) or of statements (Py_file_input). Attached. */
PyObject *pyn_code_find(struct pyn_seat *s, struct pyn_span source, int start);

#endif
