/* References that are to be given back by a thread that is not attached (the writer of a link has sent
 * the bytes that an object owns): they wait here for the next thread that is. One per interpreter; its
 * list is guarded by its own mutex, under which nothing is called. */
#ifndef PYN_PY_GRAVEYARD_H
#define PYN_PY_GRAVEYARD_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/defs.h"

struct pyn_graveyard;
struct pyn_grave; /* one reference to an object whose bytes somebody still needs */

/* NULL when memory is out (no exception set). */
struct pyn_graveyard *pyn_graveyard_new(void);
/* Releases what waits and frees it once no grave points to it any more (graves keep it alive). Attached.
 * NULL is fine. */
void pyn_graveyard_close(struct pyn_graveyard *g);
/* Releases all that waits. Attached; cheap when nothing waits (one relaxed load). Python code may run.
 * NULL is fine. */
void pyn_graveyard_drain(struct pyn_graveyard *g);

/* A grave with a reference of its own to the object; NULL when memory is out (no exception set).
 * Attached. */
struct pyn_grave *pyn_grave_new(struct pyn_graveyard *g, PyObject *object);
/* The bytes are needed no more: the grave's reference waits for the next drain. Takes the pyn_grave,
 * which is gone afterwards; typed as the release function of pyn_out_splice. Any thread, attached or
 * not. */
void pyn_grave_bury(void *grave);
/* Gives the reference back at once. Attached. */
void pyn_grave_drop(struct pyn_grave *grave);

#endif
