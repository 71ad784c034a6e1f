#include "unit/python.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/defs.h"
#include "py/encode.h"
#include "py/leaks.h"

#ifndef PYN_PYTHON
#define PYN_PYTHON ""
#endif

static struct {
    struct pyn_types types;
    PyObject *module;
    PyObject *names;
    char text[128 * 1024];
} py;

static void die(const char *what)
{
    fprintf(stderr, "python: %s failed\n", what);
    if (PyErr_Occurred())
        PyErr_Print();
    exit(99);
}

/* The address sanitizer sees an object only if it has a block of its own from malloc(). */
#if defined(PYN_ADDRESS_SANITIZER) && !defined(Py_GIL_DISABLED) /* which has no other allocator than its own */
#define PLAIN_MALLOC 1
#endif

#ifdef PLAIN_MALLOC
/* Before 3.12 an object that is left at the end is one that a test has lost; since then interned strings are left. */
static void leave_out_of_reports(void)
{
    if (PY_VERSION_HEX >= 0x030C0000) {
        PyMemAllocatorEx quiet;

        pyn_leaks_install();
        PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &quiet);
        PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &quiet);
        PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &quiet);
    }
}
#endif

static void choose_allocator(void)
{
#ifdef PLAIN_MALLOC
    PyPreConfig config;
    PyStatus status;

    PyPreConfig_InitIsolatedConfig(&config);
    config.allocator = PYMEM_ALLOCATOR_MALLOC;
    status = Py_PreInitialize(&config);
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
    leave_out_of_reports();
#endif
}

static void start_interpreter(void)
{
    PyConfig config;
    PyStatus status;

    choose_allocator();
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 0;
    status = PyStatus_Ok();
    if (PYN_PYTHON[0])
        status = PyConfig_SetBytesString(&config, &config.executable, PYN_PYTHON);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
}

void python_start(void)
{
    start_interpreter();
    py.module = PyImport_AddModule("erlang");
    if (!py.module || pyn_types_init(&py.types, py.module) < 0)
        die("making the module");
    Py_INCREF(py.module);
    py.names = PyModule_GetDict(PyImport_AddModule("__main__"));
    Py_INCREF(py.names);
    python_exec("import erlang, sys, gc");
}

void python_stop(void)
{
    Py_CLEAR(py.names);
    Py_CLEAR(py.module);
    pyn_types_clear(&py.types);
    if (Py_FinalizeEx() < 0)
        exit(98);
}

struct pyn_types *python_types(void)
{
    return &py.types;
}

PyObject *python_eval(const char *expression)
{
    PyObject *o;

    PyErr_Clear(); /* of a test that has failed */
    o = PyRun_String(expression, Py_eval_input, py.names, py.names);

    if (!o)
        die(expression);
    return o;
}

void python_exec(const char *code)
{
    PyObject *o = PyRun_String(code, Py_file_input, py.names, py.names);

    if (!o)
        die(code);
    Py_DECREF(o);
}

int python_encode(const char *expression, struct pyn_out *out)
{
    PyObject *o = python_eval(expression);
    int rc = pyn_encode(&py.types, o, out);

    Py_DECREF(o);
    return rc;
}

static const char *keep(PyObject *str)
{
    PyObject *utf8 = str ? PyUnicode_AsEncodedString(str, "utf-8", "backslashreplace") : NULL;

    if (!utf8)
        die("making text");
    snprintf(py.text, sizeof(py.text), "%s", PyBytes_AS_STRING(utf8));
    Py_DECREF(utf8);
    Py_DECREF(str);
    return py.text;
}

const char *python_repr(PyObject *o)
{
    return keep(PyObject_Repr(o));
}

const char *python_error(void)
{
    PyObject *type, *value, *traceback, *text;

    PyErr_Fetch(&type, &value, &traceback);
    if (!type)
        die("taking an exception: there is none:");
    PyErr_NormalizeException(&type, &value, &traceback);
    text = PyUnicode_FromFormat("%s: %S", ((PyTypeObject *)type)->tp_name, value);
    Py_DECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return keep(text);
}

long python_blocks(void)
{
    PyObject *o = python_eval("(gc.collect(), gc.collect(), sys.getallocatedblocks())[2]");
    long n = PyLong_AsLong(o);

    Py_DECREF(o);
    return n;
}
