#include "py/memtrace.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/tally.h"
#include "py/host.h"

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)

/* 16 M blocks, which cost 48 bytes each at most. */
enum { MAX_BLOCKS = 1 << 24 };

/* Python's allocators are one per process, and so is this. */
static struct {
    pthread_mutex_t lock; /* guards active, and the exchange of the allocators */
    bool active;
    struct pyn_tally *tally;   /* made once, by the first start; never freed, as a call of ours may be under way */
    PyMemAllocatorEx mem, obj; /* the real ones, asked for once */
} trace = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The interpreter that the calling thread is attached to; who allocates is. */
static unsigned owner(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyThreadState *state = PyThreadState_GetUnchecked();
#else
    PyThreadState *state = _PyThreadState_UncheckedGet();
#endif
    return state ? (unsigned)PyInterpreterState_GetID(PyThreadState_GetInterpreter(state)) : 0;
}

static void *added(void *block, size_t size)
{
    pyn_tally_add(trace.tally, block, size, owner());
    return block;
}

/* Taken before it is freed: another thread may get the same address a moment later. */
static void taken(void *block)
{
    size_t size;
    unsigned who;

    (void)pyn_tally_take(trace.tally, block, &size, &who);
}

static void *resized(const PyMemAllocatorEx *real, void *ctx, void *block, size_t size)
{
    size_t old_size;
    unsigned old_owner;
    bool known = pyn_tally_take(trace.tally, block, &old_size, &old_owner);
    void *moved = real->realloc(ctx, block, size);

    if (moved)
        return added(moved, size);
    if (known)
        pyn_tally_add(trace.tally, block, old_size, old_owner);
    return NULL;
}

/* ctx is the real allocator's own: while the allocators are exchanged another interpreter may call an old function
 * with a new context or the other way round, and must not notice. */
#define DOMAIN(name)                                                                                                   \
    static void *name##_malloc(void *ctx, size_t size)                                                                 \
    {                                                                                                                  \
        return added(trace.name.malloc(ctx, size), size);                                                              \
    }                                                                                                                  \
    static void *name##_calloc(void *ctx, size_t count, size_t size)                                                   \
    {                                                                                                                  \
        return added(trace.name.calloc(ctx, count, size), count * size);                                               \
    }                                                                                                                  \
    static void *name##_realloc(void *ctx, void *block, size_t size)                                                   \
    {                                                                                                                  \
        return resized(&trace.name, ctx, block, size);                                                                 \
    }                                                                                                                  \
    static void name##_free(void *ctx, void *block)                                                                    \
    {                                                                                                                  \
        taken(block);                                                                                                  \
        trace.name.free(ctx, block);                                                                                   \
    }

DOMAIN(mem)
DOMAIN(obj)

/* lock held. */
static void install(void)
{
    PyMemAllocatorEx mem = {trace.mem.ctx, mem_malloc, mem_calloc, mem_realloc, mem_free};
    PyMemAllocatorEx obj = {trace.obj.ctx, obj_malloc, obj_calloc, obj_realloc, obj_free};

    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &mem);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &obj);
}

/* lock held. */
static void uninstall(void)
{
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &trace.mem);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &trace.obj);
}

/* lock held. */
static bool prepare(void)
{
    if (trace.tally)
        return true;
    PyMem_GetAllocator(PYMEM_DOMAIN_MEM, &trace.mem);
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &trace.obj);
    trace.tally = pyn_tally_new(MAX_BLOCKS);
    return trace.tally != NULL;
}

static bool start(void)
{
    bool ok;

    pthread_mutex_lock(&trace.lock);
    ok = prepare();
    if (ok && !trace.active) {
        pyn_tally_start(trace.tally);
        install();
        trace.active = true;
    }
    pthread_mutex_unlock(&trace.lock);
    return ok;
}

static void stop(void)
{
    pthread_mutex_lock(&trace.lock);
    if (trace.active) {
        uninstall();
        pyn_tally_stop(trace.tally);
        trace.active = false;
    }
    pthread_mutex_unlock(&trace.lock);
}

static bool sums(struct pyn_tally_sum *own, struct pyn_tally_sum *all)
{
    bool active;

    pthread_mutex_lock(&trace.lock);
    active = trace.active;
    if (active) {
        *own = pyn_tally_of(trace.tally, owner());
        *all = pyn_tally_total(trace.tally);
    }
    pthread_mutex_unlock(&trace.lock);
    return active;
}

#else

static bool start(void)
{
    return false;
}

static void stop(void)
{
}

static bool sums(struct pyn_tally_sum *own, struct pyn_tally_sum *all)
{
    *own = *all = (struct pyn_tally_sum){0};
    return false;
}

#endif

static PyObject *trace_own(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyBool_FromLong(pyn_host_mode() == PYN_MODE_SUBINTERP);
}

static PyObject *trace_start(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    if (!start())
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *trace_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    stop();
    Py_RETURN_NONE;
}

static PyObject *trace_read(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    struct pyn_tally_sum own, all;

    if (!sums(&own, &all))
        Py_RETURN_NONE;
    return Py_BuildValue("((nn)(nn))", (Py_ssize_t)own.current, (Py_ssize_t)own.peak, (Py_ssize_t)all.current,
                         (Py_ssize_t)all.peak);
}

PyMethodDef pyn_module_memtrace[] = {
    {"_memtrace_own", trace_own, METH_NOARGS, NULL},
    {"_memtrace_start", trace_start, METH_NOARGS, NULL},
    {"_memtrace_stop", trace_stop, METH_NOARGS, NULL},
    {"_memtrace_read", trace_read, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
