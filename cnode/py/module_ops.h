/* The functions of the module `erlang` that talk to Erlang: call, send, state_*, self, and the attribute style. */
#ifndef PYN_PY_MODULE_OPS_H
#define PYN_PY_MODULE_OPS_H

#include "py/types.h"

/* The method table of module_ops.c, ended by a NULL name; module.c adds it to its own. */
extern PyMethodDef pyn_module_ops[];

#endif
