/* The functions of the module `erlang` that talk to Erlang: call, send, state_*, self, and the attribute style. */
#ifndef PYN_PY_MODULE_OPS_H
#define PYN_PY_MODULE_OPS_H

#include "py/bridge.h"
#include "py/types.h"

/* A message to the coordinator is bounded as an answer is: by the peer's patience, and by this. */
#define PYN_RPC_MAX_REQUEST ((size_t)1 << 30)

/* The method tables of module_ops.c, module_aio.c, module_loop.c and module_tell.c, ended by a NULL name; module.c adds
 * them to its own. */
extern PyMethodDef pyn_module_ops[];
extern PyMethodDef pyn_module_aio[];
extern PyMethodDef pyn_module_loop[];
extern PyMethodDef pyn_module_tell[];
extern PyMethodDef pyn_module_dir[]; /* module_lazy.c */

/* All attached. */

/* module_lazy.c: a new reference to what is written in Python by that name (str), or NULL with an exception, or NULL
 * without one when nothing is. */
PyObject *pyn_module_lazy(PyObject *module, PyObject *name);
/* module_lazy.c: sets `__all__`, after everything else. -1 with an exception. */
PYN_MUSTCHECK int pyn_module_add_all(PyObject *module);

/* Sets the exception that stands for a request without an answer; returns NULL. */
PyObject *pyn_rpc_raise(struct pyn_types *ty, enum pyn_rpc_result result);
/* {ok, Value} | {error, Reason} to a new reference, or an exception. `missing` (borrowed, may be NULL) stands for
 * {error, not_found}. */
PyObject *pyn_rpc_unpack(struct pyn_types *ty, struct pyn_span reply, PyObject *missing);
/* Writes {Name, [Arg]}; args[0] is the name. -1 with an exception. */
PYN_MUSTCHECK int pyn_rpc_write_call(struct pyn_types *ty, PyObject *const *args, Py_ssize_t count,
                                     struct pyn_out *out);

#endif
