#include "py/space.h"

#include "py/interp_private.h"
#include "py/space_private.h"

#define BASE "pynode.base"

/* ---- the base ---- */

int pyn_space_keep_base(void)
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get()); /* borrowed */
    PyObject *module = PyImport_AddModule("__main__");                     /* borrowed */
    PyObject *base = dict && module ? PyDict_Copy(PyModule_GetDict(module)) : NULL;
    int rc = base ? PyDict_SetItemString(dict, BASE, base) : -1;

    Py_XDECREF(base);
    return rc;
}

/* Borrowed: it lives as long as the interpreter. NULL: there is none (no exception). */
static PyObject *base_of_current(void)
{
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get()); /* borrowed */
    return dict ? PyDict_GetItemString(dict, BASE) : NULL;
}

/* What is bound in `after` to something else than in `before`. */
static int add_bound(PyObject *base, PyObject *before, PyObject *after)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;

    while (PyDict_Next(after, &at, &key, &value)) {
        PyObject *old = PyDict_GetItemWithError(before, key); /* borrowed */
        if (!old && PyErr_Occurred())
            return -1;
        if (old != value && PyDict_SetItem(base, key, value) != 0)
            return -1;
    }
    return 0;
}

static int drop_removed(PyObject *base, PyObject *before, PyObject *after)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;

    while (PyDict_Next(before, &at, &key, &value)) {
        int kept = PyDict_Contains(after, key);
        int known = kept == 0 ? PyDict_Contains(base, key) : 0;
        if (kept < 0 || known < 0 || (known > 0 && PyDict_DelItem(base, key) != 0))
            return -1;
    }
    return 0;
}

int pyn_space_extend_base(PyObject *before, PyObject *after)
{
    PyObject *base = base_of_current();
    PyObject *now;
    int rc;

    if (!base)
        return 0;
    now = PyDict_Copy(after); /* other threads may go on changing `after` */
    if (!now)
        return -1;
    rc = add_bound(base, before, now) || drop_removed(base, before, now) ? -1 : 0;
    Py_DECREF(now);
    return rc;
}

/* ---- spaces ---- */

bool pyn_space_open(struct pyn_seat *s)
{
    PyObject *base = base_of_current();

    if (base && !s->space)
        s->space = PyDict_Copy(base);
    if (s->space && PyDict_SetItemString(s->space, "__builtins__", PyEval_GetBuiltins()) != 0)
        Py_CLEAR(s->space);
    PyErr_Clear();
    return s->space != NULL;
}

/* __name__, __builtins__ and the like. */
static bool is_special(PyObject *name)
{
    Py_ssize_t len = PyUnicode_Check(name) ? PyUnicode_GET_LENGTH(name) : 0;
    return len > 4 && PyUnicode_READ_CHAR(name, 0) == '_' && PyUnicode_READ_CHAR(name, 1) == '_';
}

/* Functions hold the dict that holds them, so it has to be emptied. What was bound last goes first: destructors still
 * find what they were written with. The special names stay for them until the end. */
static void drop_names(PyObject *space)
{
    PyObject *names = PyDict_Keys(space);

    for (Py_ssize_t i = names ? PyList_GET_SIZE(names) : 0; i-- > 0;) {
        PyObject *name = PyList_GET_ITEM(names, i); /* borrowed */
        if (!is_special(name) && PyDict_DelItem(space, name) != 0)
            PyErr_Clear(); /* a destructor has removed it */
    }
    Py_XDECREF(names);
    PyErr_Clear();
}

void pyn_space_close(struct pyn_seat *s)
{
    PyObject *space = s->space;

    if (!space)
        return;
    s->space = NULL;
    s->names = s->main_dict;
    drop_names(space);
    PyDict_Clear(space);
    Py_DECREF(space);
}

bool pyn_space_use(struct pyn_seat *s, bool space)
{
    bool before = s->names == s->space && s->space;

    s->names = space && s->space ? s->space : s->main_dict;
    return before;
}
