/* Seats: a worker's place in an interpreter, taken for life (one thread state each).
 *
 * All functions but pyn_seat_interrupt are called by the thread that owns the seat. */
#ifndef PYN_PY_INTERP_H
#define PYN_PY_INTERP_H

#include "base/defs.h"
#include "py/mark.h"

struct pyn_seat;

/* Opens a seat for the calling thread: in subinterp mode a new interpreter of its own (unless `main`), else a thread
 * state in the main interpreter. The preload code has run when it returns. NULL: error says why. Returns detached. */
struct pyn_seat *pyn_seat_open(bool main, char *error, size_t size);
/* A seat for the calling thread in the interpreter of another one, which is to be closed after this one. */
struct pyn_seat *pyn_seat_open_beside(const struct pyn_seat *other, char *error, size_t size);
/* Ends the interpreter where it was the seat's own. Detached before and after. */
void pyn_seat_close(struct pyn_seat *s);

/* 0 for the main interpreter, else a number that no other interpreter of this process has or had. */
unsigned pyn_seat_interp(const struct pyn_seat *s);

/* Takes and gives back the interpreter (PyEval_RestoreThread / PyEval_SaveThread). Attaching may wait for the GIL. */
void pyn_seat_attach(struct pyn_seat *s);
void pyn_seat_detach(struct pyn_seat *s);

/* Marks the beginning and the end of the call `serial` (never 0), so that an interrupt reaches this call and no
 * other. Calls nest: _end is given what _begin returned, and the outer call is the current one again. _end returns true
 * when the call was interrupted, and makes sure that nothing of the interrupt is left. Attached. */
PYN_MUSTCHECK struct pyn_mark pyn_seat_begin(struct pyn_seat *s, uint64_t serial);
bool pyn_seat_end(struct pyn_seat *s, struct pyn_mark outer);

/* Raises KeyboardInterrupt in the thread of the seat if it still runs the call `serial`, see pyn_aim_interrupt. true:
 * it was raised. */
bool pyn_seat_interrupt(struct pyn_seat *s, uint64_t serial);
/* The call imports a module: an interrupt takes up to PYN_IMPORT_PATIENCE longer. Any thread. */
bool pyn_seat_imports(struct pyn_seat *s);

#endif
