/* A Python exception becomes an Erlang reason: the one place where that happens. */
#ifndef PYN_PY_ERROR_H
#define PYN_PY_ERROR_H

#include "py/types.h"

/* Takes the current exception (there must be one), writes {'Type', "message"} or, with traceback,
 * {'Type', "message", <<"Traceback ...">>} and leaves no exception set. Never fails: when the message
 * cannot be made (a __str__ that raises) it says so instead; surrogates are written as \udcXX. The
 * message is cut at 64 KiB, the traceback at 256 KiB. Attached. */
void pyn_error_write(struct pyn_types *ty, struct pyn_out *out, bool traceback);

/* The current exception as one line of UTF-8 for the log ("ImportError: No module named 'x'"), cleared.
 * Attached. */
void pyn_error_line(char *line, size_t size);

/* Remembers at an exception what was converted when it was raised, and where: "B at [0]['k']". Python has that as a
 * note of it, and the two above write it behind the text and forget it. No exception may be set. Attached; Python
 * code may run. */
void pyn_error_set_place(PyObject *exc, PyObject *place);

/* A new reference to repr(o), cut to 100 characters; `<type>` when it has no repr. NULL only when memory
 * is out, without an exception. No exception may be set. Attached; Python code may run. */
PyObject *pyn_short_repr(PyObject *o);
/* Of a list of str, innermost place first: " at [2]['name']", outermost first; "" when it is NULL or has none. New, or
 * NULL with an exception. Attached. */
PyObject *pyn_path_text(PyObject *places);

#endif
