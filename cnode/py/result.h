/* The result of a request, as the API contract has it: {ok, Value} or {error, Reason}. */
#ifndef PYN_PY_RESULT_H
#define PYN_PY_RESULT_H

#include "py/call.h"
#include "py/types.h"

/* Appends {ok, Value}, or {error, Reason} when the value cannot be encoded. Steals value. Attached. */
enum pyn_call_outcome pyn_result_value(struct pyn_types *ty, struct pyn_out *out, PyObject *value, bool traceback);
/* Cuts `out` to mark and appends {error, Reason} for the current exception, which is taken. Attached. */
enum pyn_call_outcome pyn_result_error(struct pyn_types *ty, struct pyn_out *out, size_t mark, bool traceback);

#endif
