/* Namespaces that stand in for that of `__main__`: each context has one.
 *
 * An interpreter keeps a base: the names that code meant for every interpreter has bound in `__main__`. A space begins
 * as a copy of it. A seat has one space at most, for the worker is bound to one context.
 *
 * No Python type appears here: svc includes this. All on the seat's thread, attached. */
#ifndef PYN_PY_SPACE_H
#define PYN_PY_SPACE_H

#include "base/defs.h"
#include "py/interp.h"

/* Gives the seat a space. false: out of memory, and no exception is left. */
PYN_MUSTCHECK bool pyn_space_open(struct pyn_seat *s);
/* Drops the space and what it holds, the last name first; destructors run. Without one nothing happens. */
void pyn_space_close(struct pyn_seat *s);
/* Calls see the space (true), or `__main__`, from now on. Returns what held before. */
bool pyn_space_use(struct pyn_seat *s, bool space);

#endif
