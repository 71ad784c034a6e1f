/* For the address sanitizer's report of leaks: what Python allocates for itself is left out of it. In other builds this
 * does nothing. */
#ifndef PYN_PY_LEAKS_H
#define PYN_PY_LEAKS_H

/* Before Python starts. */
void pyn_leaks_install(void);

#endif
