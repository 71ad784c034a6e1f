/* The Python module `erlang`, one instance per interpreter (multi-phase initialisation, PEP 489, 684, 703). */
#ifndef PYN_PY_MODULE_H
#define PYN_PY_MODULE_H

#include "py/types.h"

/* For PyImport_AppendInittab("erlang", ...). */
PyMODINIT_FUNC PyInit_erlang(void);

/* The codec state of the current interpreter: borrowed, alive as long as its `erlang` module. NULL with an exception
 * when the module cannot be imported. Attached. */
struct pyn_types *pyn_module_types(void);

#endif
