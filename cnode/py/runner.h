/* py's half of an event loop for coroutines: what its thread runs at this moment. */
#ifndef PYN_PY_RUNNER_H
#define PYN_PY_RUNNER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "py/coroutines.h"
#include "py/mark.h"

/* A new runner in a capsule, which owns it; NULL with an exception. */
PyObject *pyn_runner_new(void);
/* The runner of a capsule, borrowed; NULL with an exception. */
struct pyn_runner *pyn_runner_of(PyObject *capsule);
struct pyn_loop *pyn_runner_its_loop(const struct pyn_runner *r);
void pyn_runner_set_loop(struct pyn_runner *r, struct pyn_loop *loop);
/* The calling thread is the loop's, from now on; NULL: no more. Attached. */
void pyn_runner_enter(struct pyn_runner *r);

/* A step of a task, from one await to the next, begins or ends: they nest. _begin returns what _end wants; after _end
 * nothing is left of an interrupt that was meant for the step. On the loop's thread, attached. */
struct pyn_mark pyn_runner_begin(struct pyn_runner *r, uint64_t request);
void pyn_runner_end(struct pyn_runner *r, struct pyn_mark outer);
/* The request of the step that this thread runs; 0: none. Nothing is looked up. */
uint64_t pyn_runner_step_request(void);

/* The request that this thread works for where neither a step nor a context says: set by whoever starts it, or has it
 * work. Returns the one before. A context would not do: what runs in another one would be nobody's. */
uint64_t pyn_runner_adopt(uint64_t request);

#endif
