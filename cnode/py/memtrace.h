/* Counting what Python allocates, where CPython's own tracemalloc cannot be used.
 *
 * tracemalloc is one per process, and keeps objects of one interpreter to release them in another: with interpreters
 * that have a lock each that corrupts the heap (Python 3.13.5 crashes within seconds). So in mode subinterp the
 * allocators are wrapped here: bytes by interpreter, no tracebacks. The lock of the allocator's own interpreter is held
 * by who allocates; nothing of Python's is called but the allocators. */
#ifndef PYN_PY_MEMTRACE_H
#define PYN_PY_MEMTRACE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Functions of the module erlang, for _pynode_memory:
 *     _memtrace_own() -> bool               whether this mode counts here; the others have tracemalloc
 *     _memtrace_start(), _memtrace_stop()   of all interpreters
 *     _memtrace_read()                      None, or (current, peak) of this interpreter and (current, peak) of all */
extern PyMethodDef pyn_module_memtrace[];

#endif
