/* What a thread runs that can be interrupted: a call of a seat, a step of an event loop. */
#ifndef PYN_PY_MARK_H
#define PYN_PY_MARK_H

#include "base/defs.h"

/* Marks nest: what begins puts the outer one aside, and its end puts it back. */
struct pyn_mark {
    uint64_t serial; /* of the request; 0: none */
    uint64_t since;
    bool interrupted; /* an interrupt has been raised, or is about to be */
    bool sheltered;   /* it is not to be interrupted now, see py/aim.h, */
    bool wanted;      /* but as soon as it may be */
};

#endif
