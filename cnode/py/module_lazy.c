/* The names of the module `erlang` that are written in Python. Their modules are imported when a name is first used, as
 * they take others of Python's library along, and every interpreter would pay for that. */
#include "py/module_ops.h"

static const struct {
    const char *name;
    const char *module;
} lazy[] = {
    {"ErlangHandler", "_pynode_logging"},
    {"Span", "_pynode_tracing"},
    {"setup_logging", "_pynode_logging"},
    {"trace", "_pynode_tracing"},
};

enum { LAZY_COUNT = sizeof(lazy) / sizeof(lazy[0]) };

PyObject *pyn_module_lazy(PyObject *module, PyObject *name)
{
    PyObject *from, *value;

    for (int i = 0; i < LAZY_COUNT; i++) {
        if (PyUnicode_CompareWithASCIIString(name, lazy[i].name) != 0)
            continue;
        from = PyImport_ImportModule(lazy[i].module);
        value = from ? PyObject_GetAttr(from, name) : NULL;
        Py_XDECREF(from);
        if (value && PyObject_SetAttr(module, name, value) != 0) /* the next one finds it without us */
            Py_CLEAR(value);
        return value;
    }
    return NULL;
}

/* __dir__() -> [str]: what is there, and what comes when it is asked for. */
static PyObject *module_dir(PyObject *module, PyObject *Py_UNUSED(unused))
{
    PyObject *names = PySet_New(PyModule_GetDict(module)), *list = NULL;
    int bad = !names;

    for (int i = 0; i < LAZY_COUNT && !bad; i++) {
        PyObject *name = PyUnicode_FromString(lazy[i].name);
        bad = !name || PySet_Add(names, name) != 0;
        Py_XDECREF(name);
    }
    if (!bad)
        list = PySequence_List(names);
    Py_XDECREF(names);
    return list;
}

/* `__all__`: the names that do not begin with an underscore. */
int pyn_module_add_all(PyObject *module)
{
    PyObject *names = module_dir(module, NULL), *all = PyList_New(0);
    int bad = !names || !all || PyList_Sort(names) != 0;

    for (Py_ssize_t i = 0; !bad && i < PyList_GET_SIZE(names); i++) {
        PyObject *name = PyList_GET_ITEM(names, i);
        if (PyUnicode_READ_CHAR(name, 0) != '_')
            bad = PyList_Append(all, name) != 0;
    }
    bad = bad || PyModule_AddObjectRef(module, "__all__", all) != 0;
    Py_XDECREF(names);
    Py_XDECREF(all);
    return bad ? -1 : 0;
}

PyMethodDef pyn_module_dir[] = {
    {"__dir__", module_dir, METH_NOARGS, "What is in it, without the registered functions."},
    {NULL, NULL, 0, NULL},
};
