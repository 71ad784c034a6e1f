/* Shelters Python's import system from interrupts (py/aim.h).
 *
 * It holds a lock for each module that it imports, in Python code that an interrupt may leave at any point: the lock is
 * held for ever then, and so waits whoever imports that module. The code of modules is outside of the shelter, but is
 * let go on for some seconds: an import that was broken off can leave a package that can never be imported again. */
#ifndef PYN_PY_IMPORTS_H
#define PYN_PY_IMPORTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* A new reference to a function that does the same, sheltered. */
PyObject *pyn_imports_sheltered(PyObject *function);
/* Once per interpreter, before anything is run in it. 0, or -1 with an exception. Attached. */
int pyn_imports_shelter(void);

#endif
