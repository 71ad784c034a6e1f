/* The result of a function that was called with the option `async`. */
#ifndef PYN_PY_LATER_H
#define PYN_PY_LATER_H

#include "py/interp_private.h"
#include "py/call.h"

/* Gives a value that can be awaited to an event loop (PYN_CALL_DEFERRED: the loop answers the request that this worker
 * runs); appends any other at once, as pyn_result_value does. Steals value. Attached. */
enum pyn_call_outcome pyn_later_run(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out,
                                    PyObject *value);

#endif
