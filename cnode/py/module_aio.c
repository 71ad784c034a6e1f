/* erlang.async_call: requests whose answers an asyncio loop awaits. The Python half is lib/_pynode_aio.py. */
#include <unistd.h>

#include "py/host_private.h"
#include "py/module_docs.h"
#include "py/module_ops.h"

#define NOTIFIER "erlang.notifier"

static void free_notifier(PyObject *capsule)
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    struct pyn_notify *n = PyCapsule_GetPointer(capsule, NOTIFIER);
    struct pyn_rpc *rpc;
    void *future;

    if (!bridge || !n)
        return; /* the node has ended: what is left is the process's */
    while ((rpc = bridge->loop_abandon(bridge->ctx, n, &future))) {
        bridge->close(bridge->ctx, rpc);
        Py_XDECREF((PyObject *)future);
    }
    bridge->loop_close(bridge->ctx, n);
}

static PyObject *loop_open(PyObject *module, PyObject *Py_UNUSED(unused))
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    struct pyn_notify *n = bridge ? bridge->loop_open(bridge->ctx) : NULL;

    if (!n)
        return pyn_rpc_raise(PyModule_GetState(module), PYN_RPC_DOWN);
    return PyCapsule_New(n, NOTIFIER, free_notifier);
}

static PyObject *loop_fd(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    struct pyn_notify *n = PyCapsule_GetPointer(capsule, NOTIFIER);

    return n ? PyLong_FromLong(bridge->loop_fd(bridge->ctx, n)) : NULL;
}

/* _loop_ask(notifier, future, name, *args) -> number. The request keeps the future until it is settled. */
static PyObject *loop_ask(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    struct pyn_types *ty = PyModule_GetState(module);
    const struct pyn_bridge *bridge = pyn_bridge_get();
    enum pyn_rpc_result result = PYN_RPC_DOWN;
    struct pyn_notify *n;
    struct pyn_rpc *rpc;
    struct pyn_out out;
    uint64_t id;

    if (count < 3 || !PyUnicode_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError,
                        "async_call() takes the name of a registered function (str) and its arguments");
        return NULL;
    }
    n = PyCapsule_GetPointer(args[0], NOTIFIER);
    if (!n)
        return NULL;
    pyn_out_init(&out, PYN_RPC_MAX_REQUEST);
    rpc = bridge ? bridge->open(bridge->ctx, PYN_RPC_CALL, n, &out, &result) : NULL;
    if (!rpc) {
        pyn_out_free(&out);
        return pyn_rpc_raise(ty, result);
    }
    if (pyn_rpc_write_call(ty, args + 2, count - 2, &out) != 0 || out.buf.failed) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the arguments are larger than a message may be");
        bridge->close(bridge->ctx, rpc);
        pyn_out_free(&out);
        return NULL;
    }
    bridge->set_cookie(bridge->ctx, rpc, Py_NewRef(args[1]));
    id = bridge->id(bridge->ctx, rpc);
    bridge->loop_enter(bridge->ctx, n);
    Py_BEGIN_ALLOW_THREADS
    bridge->post(bridge->ctx, rpc, &out);
    Py_END_ALLOW_THREADS
    pyn_out_free(&out);
    return PyLong_FromUnsignedLongLong(id);
}

static PyObject *loop_cancel(PyObject *Py_UNUSED(module), PyObject *args)
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    unsigned long long id;
    PyObject *capsule;
    struct pyn_notify *n;
    void *future = NULL;
    struct pyn_rpc *rpc;

    if (!PyArg_ParseTuple(args, "OK", &capsule, &id) || !(n = PyCapsule_GetPointer(capsule, NOTIFIER)))
        return NULL;
    rpc = bridge ? bridge->loop_cancel(bridge->ctx, n, id, &future) : NULL;
    if (rpc) {
        bridge->close(bridge->ctx, rpc);
        Py_XDECREF((PyObject *)future);
    }
    Py_RETURN_NONE;
}

/* (future, value, exception) of a settled request; steals the future, closes the request. */
static PyObject *settled(struct pyn_types *ty, const struct pyn_bridge *bridge, struct pyn_rpc *rpc, PyObject *future)
{
    struct pyn_span reply;
    enum pyn_rpc_result result = bridge->take(bridge->ctx, rpc, &reply);
    PyObject *value = result == PYN_RPC_ANSWER ? pyn_rpc_unpack(ty, reply, NULL) : pyn_rpc_raise(ty, result);
    PyObject *error = NULL, *triple;

    if (!value) {
        PyObject *type, *trace;
        PyErr_Fetch(&type, &error, &trace);
        PyErr_NormalizeException(&type, &error, &trace);
        Py_XDECREF(type);
        Py_XDECREF(trace);
    }
    bridge->close(bridge->ctx, rpc);
    triple = Py_BuildValue("(NNN)", future, value ? value : Py_NewRef(Py_None), error ? error : Py_NewRef(Py_None));
    return triple;
}

/* _loop_ready(notifier) -> [(future, value, exception or None)]: what has been settled. Calls that are nested in this
 * one run before it returns. */
static PyObject *loop_ready(PyObject *module, PyObject *capsule)
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    struct pyn_notify *n = PyCapsule_GetPointer(capsule, NOTIFIER);
    PyObject *list = PyList_New(0);
    struct pyn_rpc *rpc;
    uint64_t count;
    void *future;

    if (!n || !list || !bridge)
        return list;
    if (read(bridge->loop_fd(bridge->ctx, n), &count, sizeof(count)) < 0)
        count = 0; /* somebody was quicker: there may still be something on the list */
    Py_BEGIN_ALLOW_THREADS
    bridge->loop_serve(bridge->ctx, n);
    Py_END_ALLOW_THREADS
    while ((rpc = bridge->loop_next(bridge->ctx, n, &future))) {
        PyObject *triple = settled(PyModule_GetState(module), bridge, rpc, future);
        int bad = !triple || PyList_Append(list, triple);
        Py_XDECREF(triple);
        if (bad) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

/* async_call(name, *args): _pynode_aio's, imported when it is first used, as asyncio is large. */
static PyObject *async_call(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *aio = PyImport_ImportModule("_pynode_aio");
    PyObject *function = aio ? PyObject_GetAttrString(aio, "async_call") : NULL;
    PyObject *result = function ? PyObject_CallObject(function, args) : NULL;

    Py_XDECREF(function);
    Py_XDECREF(aio);
    return result;
}

#define FAST(f) ((PyCFunction)(void (*)(void))(f))

PyMethodDef pyn_module_aio[] = {
    {"async_call", async_call, METH_VARARGS, PYN_DOC_ASYNC_CALL},
    {"_loop_open", loop_open, METH_NOARGS, NULL},
    {"_loop_fd", loop_fd, METH_O, NULL},
    {"_loop_ask", FAST(loop_ask), METH_FASTCALL, NULL},
    {"_loop_cancel", loop_cancel, METH_VARARGS, NULL},
    {"_loop_ready", loop_ready, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
