/* Python objects to external term format, by the table of the API contract ("Types", Python -> Erlang).
 *
 * Attached. Returns 0, or -1 with an exception set; then `out` holds a partial term and the caller truncates it. Messages of
 * TypeError/ValueError name the value's type and its place ("at [3]['key']: ..."). Bytes-like objects and ASCII/UTF-8
 * strings from PYN_EXT_MIN bytes on are spliced in without a copy; their release goes through the graveyard. */
#ifndef PYN_PY_ENCODE_H
#define PYN_PY_ENCODE_H

#include "py/types.h"

PYN_MUSTCHECK int pyn_encode(struct pyn_types *ty, PyObject *o, struct pyn_out *out);

#endif
