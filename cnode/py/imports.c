#include "py/imports.h"

#include "py/aim.h"
#include "py/compat.h"

/* Functions of Python are replaced, in the module that has them, by functions of C, which have no frame: tracebacks,
 * and what Python cuts out of them, stay as they are. */

static PyObject *call_with(bool shelter, bool imports, PyObject *original, PyObject *const *args, Py_ssize_t n,
                           PyObject *names)
{
    PyObject *result;
    bool before;

    if (pyn_aim_go(shelter, &before) < 0)
        return NULL;
    if (imports)
        pyn_aim_import(1);
    result = PyObject_Vectorcall(original, args, (size_t)n, names);
    if (imports)
        pyn_aim_import(-1);
    if (pyn_aim_back(before) < 0)
        Py_CLEAR(result);
    return result;
}

static PyObject *sheltered(PyObject *original, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    return call_with(true, false, original, args, n, names);
}

static PyObject *importing(PyObject *original, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    return call_with(true, true, original, args, n, names);
}

static PyObject *exposed(PyObject *original, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    return call_with(false, false, original, args, n, names);
}

#define METHOD(name, function)                                                                                         \
    {                                                                                                                  \
        name, _PyCFunction_CAST(function), METH_FASTCALL | METH_KEYWORDS, NULL                                         \
    }

/* The ways in; and the one way out, to the code of modules. What a version of Python does not have is left out. */
static PyMethodDef methods[] = {
    METHOD("_find_and_load", importing), METHOD("_lock_unlock_module", sheltered),     METHOD("_load", sheltered),
    METHOD("_exec", sheltered),          METHOD("_call_with_frames_removed", exposed),
};

static PyMethodDef any_method = METHOD("sheltered", sheltered);

PyObject *pyn_imports_sheltered(PyObject *function)
{
    return PyCFunction_NewEx(&any_method, function, NULL);
}

static int replace(PyObject *module, PyMethodDef *method)
{
    PyObject *original = PyObject_GetAttrString(module, method->ml_name), *function;
    int rc;

    if (!original) {
        PyErr_Clear();
        return 0;
    }
    function = PyCFunction_NewEx(method, original, NULL);
    Py_DECREF(original);
    rc = function ? PyObject_SetAttrString(module, method->ml_name, function) : -1;
    Py_XDECREF(function);
    return rc;
}

int pyn_imports_shelter(void)
{
    PyObject *module = PyImport_ImportModule("_frozen_importlib");
    int rc = module ? 0 : -1;

    for (size_t i = 0; rc == 0 && i < sizeof(methods) / sizeof(*methods); i++)
        rc = replace(module, &methods[i]);
    Py_XDECREF(module);
    return rc;
}
