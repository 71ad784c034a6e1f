/* Python objects to external term format, by the table of the API contract ("Types", Python -> Erlang).
 *
 * Attached. Returns 0, or -1 with an exception set; then `out` holds a partial term and the caller truncates it.
 * Messages of TypeError/ValueError that are ours name the value's type and its place ("cannot convert str with lone
 * surrogates at [3]['key']"). bytes, views of bytes and ASCII strings are spliced in without a copy from PYN_EXT_MIN
 * bytes on, and released through the graveyard; what could change before it is sent is copied. */
#ifndef PYN_PY_ENCODE_H
#define PYN_PY_ENCODE_H

#include "py/types.h"

PYN_MUSTCHECK int pyn_encode(struct pyn_types *ty, PyObject *o, struct pyn_out *out);
/* The same, but an iterator, wherever it is, becomes its text: it is somebody else's to be consumed. */
PYN_MUSTCHECK int pyn_encode_sparing(struct pyn_types *ty, PyObject *o, struct pyn_out *out);

#endif
