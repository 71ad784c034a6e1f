#include "py/module_ops.h"

#include "etf/writer.h"
#include "py/aim.h"
#include "py/bridge.h"
#include "py/decode.h"
#include "py/encode.h"
#include "py/imports.h"
#include "py/module_docs.h"
#include "py/runner.h"

/* ---- results ---- */

PyObject *pyn_rpc_raise(struct pyn_types *ty, enum pyn_rpc_result result)
{
    if (result == PYN_RPC_INTERRUPTED) {
        pyn_aim_raised();
        PyErr_SetString(PyExc_KeyboardInterrupt, "the call that made this one has ended");
    } else if (result == PYN_RPC_TOO_DEEP) {
        PyErr_SetString(PyExc_RecursionError, "calls between Python and Erlang are nested too deeply");
    } else {
        PyErr_SetString(ty->coordinator_down, "the coordinator node is not connected");
    }
    return NULL;
}

/* {error, {callback, Class, Reason, Text, Stacktrace}} or {error, Reason}: an exception. */
static PyObject *raise_error(struct pyn_types *ty, PyObject *reason)
{
    PyObject *error = NULL;

    if (PyTuple_Check(reason) && PyTuple_GET_SIZE(reason) == 5) {
        error = PyObject_CallOneArg(ty->callback_error, PyTuple_GET_ITEM(reason, 3));
        if (error && (PyObject_SetAttrString(error, "class_", PyTuple_GET_ITEM(reason, 1)) ||
                      PyObject_SetAttrString(error, "reason", PyTuple_GET_ITEM(reason, 2)) ||
                      PyObject_SetAttrString(error, "stacktrace", PyTuple_GET_ITEM(reason, 4))))
            Py_CLEAR(error);
        if (error)
            PyErr_SetObject(ty->callback_error, error);
        Py_XDECREF(error);
    } else if (PyUnicode_Check(reason) && PyUnicode_CompareWithASCIIString(reason, "not_a_counter") == 0) {
        PyErr_SetString(PyExc_TypeError, "the key holds a value that is no integer");
    } else if (PyUnicode_Check(reason) && PyUnicode_CompareWithASCIIString(reason, "coordinator_down") == 0) {
        PyErr_SetString(ty->coordinator_down, "the coordinator has no answer");
    } else {
        PyErr_Format(ty->callback_error, "%S", reason);
    }
    return NULL;
}

PyObject *pyn_rpc_unpack(struct pyn_types *ty, struct pyn_span reply, PyObject *missing)
{
    PyObject *term = pyn_decode_span(ty, reply);
    PyObject *value = NULL;

    if (!term)
        return NULL;
    if (!PyTuple_Check(term) || PyTuple_GET_SIZE(term) != 2 || !PyUnicode_Check(PyTuple_GET_ITEM(term, 0))) {
        PyErr_SetString(PyExc_RuntimeError, "the coordinator's answer is malformed");
    } else if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(term, 0), "ok") == 0) {
        value = Py_NewRef(PyTuple_GET_ITEM(term, 1));
    } else {
        PyObject *reason = PyTuple_GET_ITEM(term, 1);
        bool absent = PyUnicode_Check(reason) && PyUnicode_CompareWithASCIIString(reason, "not_found") == 0;
        value = missing && absent ? Py_NewRef(missing) : raise_error(ty, reason);
    }
    Py_DECREF(term);
    return value;
}

/* ---- asking ---- */

/* Writes the term that is asked for; -1 with an exception. */
typedef int (*write_fn)(struct pyn_types *ty, PyObject *const *args, Py_ssize_t count, struct pyn_out *out);

static PyObject *ask(PyObject *module, enum pyn_rpc_target target, write_fn write, PyObject *const *args,
                     Py_ssize_t count, PyObject *missing)
{
    struct pyn_types *ty = PyModule_GetState(module);
    const struct pyn_bridge *bridge = pyn_bridge_get();
    enum pyn_rpc_result result = PYN_RPC_DOWN;
    struct pyn_span reply = {NULL, 0};
    PyObject *value = NULL;
    struct pyn_rpc *rpc;
    struct pyn_out out;

    pyn_out_init(&out, PYN_RPC_MAX_REQUEST);
    rpc = bridge ? bridge->open(bridge->ctx, target, NULL, &out, &result) : NULL;
    if (!rpc) {
        pyn_out_free(&out);
        return pyn_rpc_raise(ty, result);
    }
    if (write(ty, args, count, &out) != 0)
        goto out;
    if (out.buf.failed) {
        PyErr_SetString(PyExc_ValueError, "the arguments are larger than a message may be");
        goto out;
    }
    Py_BEGIN_ALLOW_THREADS
    bridge->post(bridge->ctx, rpc, &out);
    result = bridge->wait(bridge->ctx, rpc, &reply);
    Py_END_ALLOW_THREADS
    value = result == PYN_RPC_ANSWER ? pyn_rpc_unpack(ty, reply, missing) : pyn_rpc_raise(ty, result);
out:
    bridge->close(bridge->ctx, rpc);
    pyn_out_free(&out);
    return value;
}

/* ---- functions ---- */

static int write_list(struct pyn_types *ty, PyObject *const *items, Py_ssize_t count, struct pyn_out *out)
{
    if (count > 0)
        pyn_write_list(&out->buf, (size_t)count);
    for (Py_ssize_t i = 0; i < count; i++)
        if (pyn_encode(ty, items[i], out) != 0)
            return -1;
    pyn_write_nil(&out->buf);
    return 0;
}

int pyn_rpc_write_call(struct pyn_types *ty, PyObject *const *args, Py_ssize_t count, struct pyn_out *out)
{
    Py_ssize_t len;
    const char *name = PyUnicode_AsUTF8AndSize(args[0], &len); /* whatever kind of str: an Atom is one, too */

    if (!name)
        return -1;
    pyn_write_tuple(&out->buf, 2);
    pyn_write_binary(&out->buf, name, (size_t)len);
    return write_list(ty, args + 1, count - 1, out);
}

static PyObject *module_call(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || !PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "call() takes the name of a registered function (str) and its arguments");
        return NULL;
    }
    return ask(module, PYN_RPC_CALL, pyn_rpc_write_call, args, count, NULL);
}

/* A function found by attribute: self is the tuple (module, name). */
static PyObject *named_call(PyObject *self, PyObject *args)
{
    PyObject *name = PyTuple_GET_ITEM(self, 1);
    Py_ssize_t count = PyTuple_GET_SIZE(args);
    PyObject *few[9], **all = few;
    PyObject *value;

    if (count > 8 && !(all = PyMem_Malloc((size_t)(count + 1) * sizeof(*all))))
        return PyErr_NoMemory();
    all[0] = name;
    for (Py_ssize_t i = 0; i < count; i++)
        all[i + 1] = PyTuple_GET_ITEM(args, i);
    value = ask(PyTuple_GET_ITEM(self, 0), PYN_RPC_CALL, pyn_rpc_write_call, all, count + 1, NULL);
    if (all != few)
        PyMem_Free(all);
    return value;
}

static PyMethodDef named_method = {"erlang_function", named_call, METH_VARARGS,
                                   "A function that Erlang registered; found by its name when it is called."};

static PyObject *module_getattr(PyObject *module, PyObject *name)
{
    PyObject *self, *function;

    if (!PyUnicode_Check(name) || PyUnicode_GET_LENGTH(name) == 0 || PyUnicode_READ_CHAR(name, 0) == '_') {
        PyErr_Format(PyExc_AttributeError, "module 'erlang' has no attribute %R", name);
        return NULL;
    }
    function = pyn_module_lazy(module, name);
    if (function || PyErr_Occurred())
        return function;
    self = PyTuple_Pack(2, module, name);
    if (!self)
        return NULL;
    function = PyCFunction_New(&named_method, self);
    Py_DECREF(self);
    return function;
}

/* ---- shared state ---- */

/* {Operation, Arg...}: args[0] is a str, the operation's name. */
static int write_operation(struct pyn_types *ty, PyObject *const *args, Py_ssize_t count, struct pyn_out *out)
{
    const char *name = PyUnicode_AsUTF8(args[0]);

    if (!name)
        return -1;
    pyn_write_tuple(&out->buf, (size_t)count);
    pyn_write_atom(&out->buf, name);
    for (Py_ssize_t i = 1; i < count; i++)
        if (pyn_encode(ty, args[i], out) != 0)
            return -1;
    return 0;
}

static PyObject *ask_state(PyObject *module, const char *operation, PyObject *const *args, Py_ssize_t count,
                           PyObject *missing)
{
    PyObject *all[4] = {PyUnicode_FromString(operation)};
    PyObject *value;

    if (!all[0])
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        all[i + 1] = args[i];
    value = ask(module, PYN_RPC_STATE, write_operation, all, count + 1, missing);
    Py_DECREF(all[0]);
    return value;
}

static PyObject *state_get(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"key", "default", NULL};
    PyObject *key, *missing = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O:state_get", names, &key, &missing))
        return NULL;
    return ask_state(module, "fetch", &key, 1, missing);
}

static PyObject *state_set(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"key", "value", NULL};
    PyObject *pair[2], *done;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO:state_set", names, &pair[0], &pair[1]))
        return NULL;
    done = ask_state(module, "store", pair, 2, NULL);
    Py_XDECREF(done);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *state_delete(PyObject *module, PyObject *key)
{
    PyObject *done = ask_state(module, "remove", &key, 1, NULL);

    Py_XDECREF(done);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *state_clear(PyObject *module, PyObject *Py_UNUSED(unused))
{
    PyObject *done = ask_state(module, "clear", NULL, 0, NULL);

    Py_XDECREF(done);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *state_keys(PyObject *module, PyObject *Py_UNUSED(unused))
{
    return ask_state(module, "keys", NULL, 0, NULL);
}

static PyObject *count_by(PyObject *module, PyObject *args, PyObject *keywords, bool down)
{
    static char *names[] = {"key", "by", NULL};
    PyObject *pair[2] = {NULL, NULL}, *value;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O!:state_incr", names, &pair[0], &PyLong_Type, &pair[1]))
        return NULL;
    if (!pair[1])
        pair[1] = PyLong_FromLong(down ? -1 : 1);
    else
        pair[1] = down ? PyNumber_Negative(pair[1]) : PyNumber_Positive(pair[1]); /* of a bool: an int */
    if (!pair[1])
        return NULL;
    value = ask_state(module, "incr", pair, 2, NULL);
    Py_DECREF(pair[1]);
    return value;
}

static PyObject *state_incr(PyObject *module, PyObject *args, PyObject *keywords)
{
    return count_by(module, args, keywords, false);
}

static PyObject *state_decr(PyObject *module, PyObject *args, PyObject *keywords)
{
    return count_by(module, args, keywords, true);
}

/* ---- messages ---- */

/* What erlang.send sends to: a pid, a name, or (name, node). Names are str, Atoms included. */
static bool is_target(struct pyn_types *ty, PyObject *to)
{
    if (PyTuple_Check(to))
        return PyTuple_GET_SIZE(to) == 2 && PyUnicode_Check(PyTuple_GET_ITEM(to, 0)) &&
               PyUnicode_Check(PyTuple_GET_ITEM(to, 1));
    return PyUnicode_Check(to) || Py_IS_TYPE(to, ty->opaque[PYN_OPAQUE_PID]);
}

/* As an atom, where it is text: a new reference. */
static PyObject *name_of(struct pyn_types *ty, PyObject *text)
{
    Py_ssize_t len;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &len);

    return utf8 ? pyn_atom_new(ty, (struct pyn_span){(const uint8_t *)utf8, (size_t)len}) : NULL;
}

/* The target with names that are atoms: a new reference, or NULL with an exception. */
static PyObject *target_of(struct pyn_types *ty, PyObject *to)
{
    PyObject *name, *node, *both = NULL;

    if (!is_target(ty, to)) {
        PyErr_Format(PyExc_TypeError, "send() takes a Pid, a name (str) or (name, node), not %.100s",
                     Py_TYPE(to)->tp_name);
        return NULL;
    }
    if (PyUnicode_Check(to))
        return name_of(ty, to);
    if (!PyTuple_Check(to))
        return Py_NewRef(to);
    name = name_of(ty, PyTuple_GET_ITEM(to, 0));
    node = name ? name_of(ty, PyTuple_GET_ITEM(to, 1)) : NULL;
    if (node)
        both = PyTuple_Pack(2, name, node);
    Py_XDECREF(name);
    Py_XDECREF(node);
    return both;
}

static PyObject *module_send(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"to", "term", NULL};
    struct pyn_types *ty = PyModule_GetState(module);
    const struct pyn_bridge *bridge = pyn_bridge_get();
    PyObject *to, *term, *whole, *value = NULL;
    struct pyn_out target, out;
    void *link = NULL;
    size_t frame = 0;
    bool sent;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO:send", names, &to, &term))
        return NULL;
    pyn_out_init(&target, 4096);
    pyn_out_init(&out, PYN_RPC_MAX_REQUEST);
    whole = target_of(ty, to);
    if (!whole || pyn_encode(ty, whole, &target) != 0)
        goto out;
    if (!bridge ||
        !bridge->send_begin(bridge->ctx, (struct pyn_span){target.buf.data, target.buf.len}, &out, &frame, &link)) {
        pyn_rpc_raise(ty, PYN_RPC_DOWN);
        goto out;
    }
    sent = pyn_encode(ty, term, &out) == 0;
    if (!sent)
        pyn_out_truncate(&out, 0);
    Py_BEGIN_ALLOW_THREADS
    sent = bridge->send_end(bridge->ctx, link, frame, &out) && sent;
    Py_END_ALLOW_THREADS
    if (sent)
        value = Py_NewRef(Py_None);
    else if (!PyErr_Occurred())
        pyn_rpc_raise(ty, PYN_RPC_INTERRUPTED);
out:
    Py_XDECREF(whole);
    pyn_out_free(&target);
    pyn_out_free(&out);
    return value;
}

static PyObject *module_self(PyObject *module, PyObject *Py_UNUSED(unused))
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    struct pyn_types *ty = PyModule_GetState(module);

    if (!bridge)
        return pyn_rpc_raise(ty, PYN_RPC_DOWN);
    return pyn_opaque_new(ty, PYN_OPAQUE_PID, bridge->own_pid(bridge->ctx));
}

/* _on_behalf() -> the id of the request that this thread works for; 0: none. */
static PyObject *module_on_behalf(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    const struct pyn_bridge *bridge = pyn_bridge_get();

    return PyLong_FromUnsignedLongLong(bridge ? bridge->request(bridge->ctx) : 0);
}

/* _adopt(request) -> what this thread worked for before. */
static PyObject *module_adopt(PyObject *Py_UNUSED(module), PyObject *number)
{
    unsigned long long request = PyLong_AsUnsignedLongLong(number);

    if (PyErr_Occurred())
        return NULL;
    return PyLong_FromUnsignedLongLong(pyn_runner_adopt(request));
}

/* _sheltered(function) -> one that does the same, and is not interrupted before its end. */
static PyObject *module_sheltered(PyObject *Py_UNUSED(module), PyObject *function)
{
    return pyn_imports_sheltered(function);
}

#define KEYWORDS(f) ((PyCFunction)(void (*)(void))(f))

PyMethodDef pyn_module_ops[] = {
    {"call", KEYWORDS(module_call), METH_FASTCALL, PYN_DOC_CALL},
    {"__getattr__", module_getattr, METH_O, PYN_DOC_GETATTR},
    {"state_get", KEYWORDS(state_get), METH_VARARGS | METH_KEYWORDS, PYN_DOC_STATE_GET},
    {"state_set", KEYWORDS(state_set), METH_VARARGS | METH_KEYWORDS, PYN_DOC_STATE_SET},
    {"state_delete", state_delete, METH_O, PYN_DOC_STATE_DELETE},
    {"state_clear", state_clear, METH_NOARGS, PYN_DOC_STATE_CLEAR},
    {"state_keys", state_keys, METH_NOARGS, PYN_DOC_STATE_KEYS},
    {"state_incr", KEYWORDS(state_incr), METH_VARARGS | METH_KEYWORDS, PYN_DOC_STATE_INCR},
    {"state_decr", KEYWORDS(state_decr), METH_VARARGS | METH_KEYWORDS, PYN_DOC_STATE_DECR},
    {"send", KEYWORDS(module_send), METH_VARARGS | METH_KEYWORDS, PYN_DOC_SEND},
    {"self", module_self, METH_NOARGS, PYN_DOC_SELF},
    {"_on_behalf", module_on_behalf, METH_NOARGS, NULL},
    {"_adopt", module_adopt, METH_O, NULL},
    {"_sheltered", module_sheltered, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
