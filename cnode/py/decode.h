/* External term format to Python objects, by the table of the API contract ("Types", Erlang -> Python).
 *
 * Contract of the whole family: attached; returns a new reference, or NULL with an exception set
 * (ValueError for malformed or too deeply nested bytes, TypeError for an unhashable or doubled map key,
 * MemoryError). Bytes are bounds-checked; recursion is bounded by PYN_ETF_MAX_DEPTH. */
#ifndef PYN_PY_DECODE_H
#define PYN_PY_DECODE_H

#include "py/types.h"

/* One term at the cursor, which moves behind it. */
PyObject *pyn_decode(struct pyn_types *ty, struct pyn_reader *r);
/* The whole span must be one term. */
PyObject *pyn_decode_span(struct pyn_types *ty, struct pyn_span term);

#endif
