/* Between py/host.c, py/interp.c and py/module.c. */
#ifndef PYN_PY_HOST_PRIVATE_H
#define PYN_PY_HOST_PRIVATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "py/host.h"

const struct pyn_host_config *pyn_host_config(void);
const char *pyn_host_node_name(void);

/* Prepares the current interpreter: runs bootstrap.py and the preload code. number: as pyn_seat_interp. 0, or -1 with
 * an exception set. Attached. */
PYN_MUSTCHECK int pyn_host_prepare(unsigned number);
/* The number that pyn_host_prepare was given for that interpreter. Attached to it. */
unsigned pyn_host_interp_number(PyInterpreterState *interp);
/* Imports a module in the main interpreter on a thread that is attached to another one; no exception is left. */
void pyn_host_import_in_main(const char *name);

#endif
