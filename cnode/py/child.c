#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <unistd.h>

#include "base/forked.h"
#include "py/child.h"
#include "py/compat.h"

/* Of sys.exit(value): None is 0, an integer itself, anything else is printed and 1. */
static int code_of(PyObject *exit)
{
    PyObject *value = PyObject_GetAttrString(exit, "code");
    int code = 1;

    if (value == Py_None)
        code = 0;
    else if (value && PyLong_Check(value))
        code = (int)PyLong_AsLong(value);
    else if (value)
        PySys_FormatStderr("%S\n", value);
    Py_XDECREF(value);
    return code;
}

static int exit_code(void)
{
    PyObject *exit;
    int code;

    if (!PyErr_Occurred())
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_SystemExit)) {
        PyErr_PrintEx(0);
        return 1;
    }
    exit = pyn_take_exception();
    code = exit ? code_of(exit) : 1;
    Py_XDECREF(exit);
    return code;
}

static void flush(const char *name)
{
    PyObject *file = PySys_GetObject(name); /* borrowed */
    PyObject *done = file && file != Py_None ? PyObject_CallMethod(file, "flush", NULL) : NULL;

    Py_XDECREF(done);
    PyErr_Clear();
}

void pyn_child_ends(void)
{
    int code;

    if (PYN_LIKELY(!pyn_forked()))
        return;
    code = exit_code();
    flush("stdout");
    flush("stderr");
    _exit(code);
}
