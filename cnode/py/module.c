#include "py/module.h"

#include "base/log.h"
#include "py/host.h"
#include "py/host_private.h"
#include "py/library.h"
#include "py/module_docs.h"
#include "py/module_ops.h"
#include "py/memtrace.h"

/* erlang._log(stream, line): a line of stdout (1) or stderr (2) goes to the node's log. */
static PyObject *module_log(PyObject *Py_UNUSED(module), PyObject *args)
{
    int stream;
    const char *line;
    char before[64];

    if (!PyArg_ParseTuple(args, "is", &stream, &line))
        return NULL;
    (void)PyOS_snprintf(before, sizeof(before), "interp=%u stream=%s ",
                        pyn_host_interp_number(PyInterpreterState_Get()), stream == 2 ? "stderr" : "stdout");
    Py_BEGIN_ALLOW_THREADS
    pyn_log_text(stream == 2 ? PYN_WARNING : PYN_NOTICE, "python", before, line);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* erlang._load_in_main(name): imports the module in the main interpreter, on this thread; errors are not ours to
 * report, the import that follows in the own interpreter will. */
static PyObject *module_load_in_main(PyObject *Py_UNUSED(module), PyObject *name)
{
    const char *text = PyUnicode_AsUTF8(name);

    if (!text)
        return NULL;
    pyn_host_import_in_main(text);
    Py_RETURN_NONE;
}

/* erlang._library(name) -> str or None: the source of a module that is part of this program. */
static PyObject *module_library(PyObject *Py_UNUSED(module), PyObject *name)
{
    const char *text = PyUnicode_AsUTF8(name);
    const char *source = text ? pyn_library_source(text) : NULL;

    if (!text)
        return NULL;
    return source ? PyUnicode_FromString(source) : Py_NewRef(Py_None);
}

static PyObject *module_node(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    return PyUnicode_FromString(pyn_host_node_name());
}

static PyMethodDef methods[] = {
    {"node", module_node, METH_NOARGS, PYN_DOC_NODE},
    {"_log", module_log, METH_VARARGS, NULL},
    {"_library", module_library, METH_O, NULL},
    {"_load_in_main", module_load_in_main, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    static PyMethodDef *const tables[] = {pyn_module_ops, pyn_module_aio,      pyn_module_tell,
                                          pyn_module_dir, pyn_module_memtrace, pyn_module_loop};

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        if (PyModule_AddFunctions(module, tables[i]) != 0)
            return -1;
    if (pyn_types_init(PyModule_GetState(module), module) != 0)
        return -1;
    return pyn_module_add_all(module);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct pyn_types *ty = PyModule_GetState(module);
    return ty ? pyn_types_traverse(ty, visit, arg) : 0;
}

static int module_clear(PyObject *module)
{
    struct pyn_types *ty = PyModule_GetState(module);
    if (ty)
        pyn_types_clear(ty);
    return 0;
}

static void module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_MOD_PER_INTERPRETER_GIL_SUPPORTED
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "erlang", .m_doc = PYN_DOC_MODULE,       .m_size = sizeof(struct pyn_types),
    .m_methods = methods,  .m_slots = slots,   .m_traverse = module_traverse, .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit_erlang(void)
{
    return PyModuleDef_Init(&definition);
}

struct pyn_types *pyn_module_types(void)
{
    PyObject *module = PyImport_ImportModule("erlang");
    struct pyn_types *ty;

    if (!module)
        return NULL;
    ty = PyModule_GetState(module);
    Py_DECREF(module); /* sys.modules keeps it; the seat holds a reference of its own besides */
    return ty;
}
