/* What stands between a task of our loops and its coroutine: it notes whose step runs, so that the step can be
 * interrupted and no other, and what Erlang is asked by it has its deadline; and at the end of a request's coroutine it
 * sends the answer.
 *
 * It has the methods of a coroutine; every other attribute is the coroutine's. */
#ifndef PYN_PY_STEP_H
#define PYN_PY_STEP_H

#include "py/types.h"

/* The type of the current interpreter, a new reference; NULL with an exception. */
PyObject *pyn_step_type_new(PyObject *module);

/* For a request: `owner` (the Python half of the loop) is told of the end by owner._ended(request). A new reference. */
PyObject *pyn_step_of_request(struct pyn_types *ty, PyObject *capsule, PyObject *coro, uint64_t request, bool traceback,
                              PyObject *owner);
/* For a task that the coroutine of a request made, on whose behalf it runs; coro itself when there is no such request.
 * A new reference. */
PyObject *pyn_step_of_task(struct pyn_types *ty, PyObject *capsule, PyObject *coro);

#endif
