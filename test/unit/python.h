/* A Python for the tests of py/: the main interpreter with a module `erlang` that has the codec's types, and a
 * namespace in which the tables' expressions are evaluated. What fails ends the program with a message. */
#ifndef PYN_TEST_PYTHON_H
#define PYN_TEST_PYTHON_H

#include "py/types.h"

/* Once per program, before the first test; python_stop after the last. */
void python_start(void);
void python_stop(void);
/* The codec's state of that interpreter. */
struct pyn_types *python_types(void);

/* A new reference to the value of an expression. */
PyObject *python_eval(const char *expression);
void python_exec(const char *code);
/* pyn_encode of that value. */
int python_encode(const char *expression, struct pyn_out *out);
/* repr(o), "type: text" of the current exception (taken): valid until the next call of any of them. */
const char *python_repr(PyObject *o);
const char *python_error(void);
/* sys.getallocatedblocks() after a collection. */
long python_blocks(void);

#endif
