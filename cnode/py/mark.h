/* What a thread runs that can be interrupted: a call of a seat, a step of an event loop. */
#ifndef PYN_PY_MARK_H
#define PYN_PY_MARK_H

#include "base/clock.h"
#include "base/defs.h"

/* An import that is to be interrupted has this long to end by itself, as a package of which some modules are there can
 * often never be imported again. And whoever asks again finds it. */
#define PYN_IMPORT_PATIENCE (5 * PYN_SECOND)

/* Marks nest: what begins puts the outer one aside, and its end puts it back. */
struct pyn_mark {
    uint64_t serial; /* of the request; 0: none */
    uint64_t since;
    bool interrupted; /* an interrupt has been raised, or is about to be */
    bool sheltered;   /* it is not to be interrupted now, see py/aim.h, */
    bool wanted;      /* but as soon as it may be */
    unsigned imports; /* so many modules are being imported, one by the code of the other */
    uint64_t wanted_since;
    bool spared; /* the thread has raised one itself: the first that comes is that one */
};

#endif
