#include "py/arena.h"

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>

#ifndef Py_GIL_DISABLED

/* So many arenas of 1 MiB are kept at most; their memory is what a large value used a moment ago. */
enum { KEPT = 16 };

/* Python's allocator is one per process, and so is this. */
static struct {
    PyObjectArenaAllocator system;
    pthread_mutex_t lock; /* guards the rest */
    unsigned count;
    size_t size; /* of each: they are all of one size */
    void *arenas[KEPT];
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *take(void *ctx, size_t size)
{
    void *arena = NULL;

    (void)ctx;
    pthread_mutex_lock(&cache.lock);
    if (cache.count > 0 && size == cache.size)
        arena = cache.arenas[--cache.count];
    pthread_mutex_unlock(&cache.lock);
    return arena ? arena : cache.system.alloc(cache.system.ctx, size);
}

static void give(void *ctx, void *arena, size_t size)
{
    (void)ctx;
    pthread_mutex_lock(&cache.lock);
    if (cache.count == 0)
        cache.size = size;
    if (cache.count < KEPT && size == cache.size) {
        cache.arenas[cache.count++] = arena;
        arena = NULL;
    }
    pthread_mutex_unlock(&cache.lock);
    if (arena)
        cache.system.free(cache.system.ctx, arena, size);
}

static void lock(void)
{
    pthread_mutex_lock(&cache.lock);
}

static void unlock(void)
{
    pthread_mutex_unlock(&cache.lock);
}

void pyn_arena_install(void)
{
    PyObjectArenaAllocator ours = {NULL, take, give};

    pthread_atfork(lock, unlock, unlock); /* the child allocates as well, and has no other thread to unlock it */

    PyObject_GetArenaAllocator(&cache.system);
    PyObject_SetArenaAllocator(&ours);
}

#else

void pyn_arena_install(void)
{
}

#endif
