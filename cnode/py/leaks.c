#include "py/leaks.h"

#include "base/defs.h"

#ifdef PYN_ADDRESS_SANITIZER

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <sanitizer/lsan_interface.h>

/* CPython keeps interned strings, static types and caches until the process ends, by design. A suppression would match
 * any frame of a stack, and so hide the leaks of all our code that Python calls. Its allocators are what tells the two
 * apart: all of them get what the sanitizer sees from this one. */
static PyMemAllocatorEx python;

static void *quiet_malloc(void *ctx, size_t size)
{
    void *block;

    __lsan_disable();
    block = python.malloc(ctx, size);
    __lsan_enable();
    return block;
}

static void *quiet_calloc(void *ctx, size_t count, size_t size)
{
    void *block;

    __lsan_disable();
    block = python.calloc(ctx, count, size);
    __lsan_enable();
    return block;
}

static void *quiet_realloc(void *ctx, void *old, size_t size)
{
    void *block;

    __lsan_disable();
    block = python.realloc(ctx, old, size);
    __lsan_enable();
    return block;
}

void pyn_leaks_install(void)
{
    PyMemAllocatorEx quiet;

    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &python);
    quiet = (PyMemAllocatorEx){python.ctx, quiet_malloc, quiet_calloc, quiet_realloc, python.free};
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &quiet);
}

#else

void pyn_leaks_install(void)
{
}

#endif
