#include "py/host_private.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "py/arena.h"
#include "py/error.h"
#include "py/imports.h"
#include "py/leaks.h"
#include "py/library.h"
#include "py/module.h"
#include "py/space_private.h"

/* The program that belongs to this libpython; the build sets it. */
#ifndef PYN_PYTHON
#define PYN_PYTHON NULL
#endif

/* Python itself is one per process, and so is this. Written by pyn_host_start before any other thread runs. */
static struct {
    struct pyn_host_config config;
    enum pyn_mode mode;
    PyThreadState *main_state; /* the starting thread's, kept for the stop */
    char executable[4096];
    char node_name[1024];
} host;

const struct pyn_host_config *pyn_host_config(void)
{
    return &host.config;
}

const char *pyn_host_node_name(void)
{
    return host.node_name[0] ? host.node_name : "nonode@nohost";
}

void pyn_host_set_node_name(const char *name)
{
    snprintf(host.node_name, sizeof(host.node_name), "%s", name);
}

enum pyn_mode pyn_host_mode(void)
{
    return host.mode;
}

/* Made once, at the start; or without one, for --version. */
static char version[32];

static void make_version(void)
{
    snprintf(version, sizeof(version), "%.*s", (int)strcspn(Py_GetVersion(), " "), Py_GetVersion());
}

const char *pyn_host_version(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_version);
    return version;
}

/* ---- modes ---- */

static const char *const mode_names[] = {"auto", "free_threaded", "subinterp", "multi_executor"};

const char *pyn_mode_name(enum pyn_mode mode)
{
    return mode_names[mode];
}

bool pyn_mode_parse(const char *word, enum pyn_mode *mode)
{
    for (int i = PYN_MODE_AUTO; i <= PYN_MODE_MULTI_EXECUTOR; i++) {
        if (strcmp(word, mode_names[i]) == 0) {
            *mode = (enum pyn_mode)i;
            return true;
        }
    }
    return false;
}

static bool subinterp_possible(const char **reason)
{
#ifdef Py_GIL_DISABLED
    *reason = "this Python is free-threaded: it has no interpreter locks to be had one each (use free_threaded)";
    return false;
#elif PY_VERSION_HEX < 0x030C0000
    *reason = "sub-interpreters with a GIL of their own need Python 3.12 (PEP 684)";
    return false;
#else
    /* 3.12.1 corrupts its heap once _asyncio, ssl or hashlib was imported in an interpreter with its own GIL. */
    if (Py_Version < 0x030C0200) {
        *reason = "Python 3.12.0 and 3.12.1 corrupt their memory in sub-interpreters with a GIL of their own";
        return false;
    }
    *reason = NULL;
    return true;
#endif
}

bool pyn_mode_possible(enum pyn_mode mode, const char **reason)
{
    *reason = NULL;
    if (mode == PYN_MODE_SUBINTERP)
        return subinterp_possible(reason);
#ifndef Py_GIL_DISABLED
    if (mode == PYN_MODE_FREE_THREADED) {
        *reason =
            "this Python was built with a GIL (free_threaded needs 3.13 or later built with --disable-gil, PEP 703)";
        return false;
    }
#endif
    return true;
}

enum pyn_mode pyn_mode_detect(const char **reason)
{
    if (pyn_mode_possible(PYN_MODE_FREE_THREADED, reason))
        return PYN_MODE_FREE_THREADED;
    if (pyn_mode_possible(PYN_MODE_SUBINTERP, reason))
        return PYN_MODE_SUBINTERP;
    return PYN_MODE_MULTI_EXECUTOR;
}

/* ---- start and stop ---- */

static bool find_executable(char *error, size_t size)
{
    struct stat st;
    char cfg[sizeof(host.executable) + 16];

    if (!host.config.venv) {
        snprintf(host.executable, sizeof(host.executable), "%s", PYN_PYTHON ? PYN_PYTHON : "");
        return true;
    }
    snprintf(cfg, sizeof(cfg), "%s/pyvenv.cfg", host.config.venv);
    if (stat(cfg, &st) != 0) {
        snprintf(error, size, "'%s' is no virtual environment: it has no pyvenv.cfg", host.config.venv);
        return false;
    }
    snprintf(host.executable, sizeof(host.executable), "%s/bin/python", host.config.venv);
    return true;
}

static PyStatus configure(PyConfig *config)
{
    PyStatus status;

    PyConfig_InitIsolatedConfig(config);
    config->install_signal_handlers = 0;
    config->parse_argv = 0;
    config->site_import = 1;
    config->pathconfig_warnings = 0;
#ifdef Py_GIL_DISABLED
    if (host.mode == PYN_MODE_MULTI_EXECUTOR)
        config->enable_gil = 1; /* asked for by option: as PYTHON_GIL=1 */
#endif
    if (host.executable[0]) {
        status = PyConfig_SetBytesString(config, &config->executable, host.executable);
        if (PyStatus_Exception(status))
            return status;
        status = PyConfig_SetBytesString(config, &config->program_name, host.executable);
        if (PyStatus_Exception(status))
            return status;
    }
    return PyConfig_Read(config);
}

static PyStatus initialize(void)
{
    PyPreConfig pre;
    PyConfig config;
    PyStatus status;

    PyPreConfig_InitIsolatedConfig(&pre);
    pre.utf8_mode = 1;
    status = Py_PreInitialize(&pre);
    if (PyStatus_Exception(status))
        return status;
    status = configure(&config);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    return status;
}

/* The types of _datetime are static: all interpreters share them, and what hangs on them is allocated by the first one
 * that imports it and freed by the last one that ends. Unless that is one and the same, the heap is corrupt (3.13.5).
 * So the main interpreter is the first. */
static void own_shared_types(void)
{
    PyObject *module = PyImport_ImportModule("_datetime");

    Py_XDECREF(module);
    PyErr_Clear(); /* a Python without it has no such types either */
}

bool pyn_host_start(const struct pyn_host_config *config, char *error, size_t size)
{
    const char *reason;
    PyStatus status;

    host.config = *config;
    host.mode = config->mode;
    (void)pyn_host_version(); /* Python makes it anew, in one place for all, whenever it is asked */
    if (host.mode == PYN_MODE_AUTO) {
        host.mode = pyn_mode_detect(&reason);
        if (host.mode == PYN_MODE_MULTI_EXECUTOR)
            pyn_log(PYN_INFO, "python", "mode multi_executor: %s", reason);
    }
    if (!pyn_mode_possible(host.mode, &reason)) {
        snprintf(error, size, "mode %s is not possible with Python %s: %s", pyn_mode_name(host.mode),
                 pyn_host_version(), reason);
        return false;
    }
    if (!find_executable(error, size))
        return false;
    if (PyImport_AppendInittab("erlang", PyInit_erlang) != 0) {
        snprintf(error, size, "the module 'erlang' could not be added to Python's built-in modules");
        return false;
    }
    pyn_arena_install();
    pyn_leaks_install();
    status = initialize();
    if (PyStatus_Exception(status)) {
        snprintf(error, size, "Python did not start: %s%s%s", status.func ? status.func : "", status.func ? ": " : "",
                 status.err_msg ? status.err_msg : "exit");
        return false;
    }
    if (host.mode == PYN_MODE_SUBINTERP)
        own_shared_types();
    if (pyn_host_prepare(0) != 0) {
        char line[1024];
        pyn_error_line(line, sizeof(line));
        snprintf(error, size, "preparing the main interpreter failed: %s", line);
        return false;
    }
    host.main_state = PyEval_SaveThread();
    return true;
}

void pyn_host_stop(void)
{
    PyEval_RestoreThread(host.main_state);
    if (Py_FinalizeEx() != 0)
        pyn_log(PYN_WARNING, "python", "flushing at the end of Python failed");
}

/* ---- preparing an interpreter ---- */

static PyObject *boot_info(unsigned number)
{
    PyObject *paths = PyList_New(0);
    PyObject *info = NULL;

    if (!paths)
        return NULL;
    for (unsigned i = 0; i < host.config.path_count; i++) {
        PyObject *path = PyUnicode_DecodeFSDefault(host.config.paths[i]);
        int bad = !path || PyList_Append(paths, path);
        Py_XDECREF(path);
        if (bad)
            goto out;
    }
    info = Py_BuildValue("{sOsIsOsz}", "main", number == 0 ? Py_True : Py_False, "interp", number, "paths", paths,
                         "executable", host.executable[0] ? host.executable : NULL);
out:
    Py_DECREF(paths);
    return info;
}

static int run_bootstrap(unsigned number)
{
    PyObject *info = boot_info(number);
    PyObject *globals = PyDict_New();
    PyObject *code = NULL, *result = NULL;

    if (!info || !globals || PyDict_SetItemString(globals, "_boot", info) ||
        PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins()))
        goto out;
    code = Py_CompileString(pyn_bootstrap_source, "<pynode bootstrap>", Py_file_input);
    if (code)
        result = PyEval_EvalCode(code, globals, globals);
out:
    Py_XDECREF(code);
    Py_XDECREF(globals);
    Py_XDECREF(info);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

static int run_preload(void)
{
    PyObject *module, *names, *code, *result = NULL;

    if (!host.config.preload)
        return 0;
    module = PyImport_AddModule("__main__"); /* borrowed */
    if (!module)
        return -1;
    names = PyModule_GetDict(module);
    code = Py_CompileString(host.config.preload, host.config.preload_name, Py_file_input);
    if (code)
        result = PyEval_EvalCode(code, names, names);
    Py_XDECREF(code);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

int pyn_host_prepare(unsigned number)
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get()); /* borrowed */
    PyObject *value = PyLong_FromUnsignedLong(number);
    int bad = !dict || !value || PyDict_SetItemString(dict, "pynode.number", value);

    Py_XDECREF(value);
    if (bad || pyn_imports_shelter() != 0 || run_bootstrap(number) != 0 || run_preload() != 0)
        return -1;
    return pyn_space_keep_base();
}

unsigned pyn_host_interp_number(PyInterpreterState *interp)
{
    PyObject *dict = PyInterpreterState_GetDict(interp);
    PyObject *value = dict ? PyDict_GetItemString(dict, "pynode.number") : NULL;

    return value ? (unsigned)PyLong_AsUnsignedLong(value) : 0;
}

unsigned pyn_host_current_interp(void)
{
    return pyn_host_interp_number(PyInterpreterState_Get());
}

void pyn_host_import_in_main(const char *name)
{
    PyThreadState *own = PyThreadState_Get();
    PyThreadState *other = PyThreadState_New(PyInterpreterState_Main());
    PyObject *module;

    if (!other)
        return;
    PyThreadState_Swap(other);
    module = PyImport_ImportModule(name);
    Py_XDECREF(module);
    PyErr_Clear();
    PyThreadState_Clear(other);
    PyThreadState_Swap(own);
    PyThreadState_Delete(other);
}
