/* Where `__main__` is, in the mode with one interpreter per worker: which interpreter a caller's exec ran in, and in
 * which one an exec bound a name last. Bounded: the oldest entry of a full table makes room. Own mutex, innermost. Any
 * thread. */
#ifndef PYN_SVC_PINS_H
#define PYN_SVC_PINS_H

#include "base/defs.h"

struct pyn_pins;

struct pyn_pins *pyn_pins_new(unsigned max_callers, unsigned max_names);
void pyn_pins_free(struct pyn_pins *p);
/* The caller's exec, eval and calls to __main__ go to that group from now on. */
void pyn_pins_set_caller(struct pyn_pins *p, struct pyn_span pid, int group);
/* The group, or -1. */
int pyn_pins_caller(struct pyn_pins *p, struct pyn_span pid);
/* How many callers are there. */
unsigned pyn_pins_callers(struct pyn_pins *p, int group);
void pyn_pins_forget_caller(struct pyn_pins *p, struct pyn_span pid);
/* The name (its first part, when dotted) was bound in that group's __main__. */
void pyn_pins_set_name(struct pyn_pins *p, struct pyn_span name, int group);
int pyn_pins_name(struct pyn_pins *p, struct pyn_span name);

#endif
