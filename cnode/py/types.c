#include "py/types.h"

#include "etf/utf8.h"
#include "py/compat.h"
#include "py/graveyard.h"
#include "py/module_docs.h"
#include "py/opaque.h"
#include "py/step.h"

enum { ATOM_MAX_CHARS = 255 };

/* erlang.Atom */

static PyObject *atom_of_str(PyTypeObject *type, PyObject *name)
{
    PyObject *args = PyTuple_Pack(1, name), *atom = NULL;

    if (args)
        atom = PyUnicode_Type.tp_new(type, args, NULL);
    Py_XDECREF(args);
    return atom;
}

static bool is_short_enough(PyObject *name)
{
    if (PyUnicode_GetLength(name) <= ATOM_MAX_CHARS)
        return true;
    PyErr_Format(PyExc_ValueError, "an atom has at most %d characters, not %zd", ATOM_MAX_CHARS,
                 PyUnicode_GetLength(name));
    return false;
}

static PyObject *atom_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", NULL};
    PyObject *name, *utf8;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U:Atom", names, &name))
        return NULL;
    if (!is_short_enough(name))
        return NULL;
    utf8 = PyUnicode_AsUTF8String(name); /* surrogates have no UTF-8: the error says so */
    if (!utf8)
        return NULL;
    Py_DECREF(utf8);
    return atom_of_str(type, name);
}

static PyObject *atom_repr(PyObject *self)
{
    PyObject *text = PyUnicode_Type.tp_repr(self), *repr = NULL;

    if (text)
        repr = PyUnicode_FromFormat("Atom(%U)", text);
    Py_XDECREF(text);
    return repr;
}

static PyType_Slot atom_slots[] = {
    {Py_tp_doc, (char *)PYN_DOC_ATOM},
    {Py_tp_new, atom_new},
    {Py_tp_repr, atom_repr},
    {0, NULL},
};

static PyType_Spec atom_spec = {
    .name = "erlang.Atom",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = atom_slots,
};

PyObject *pyn_atom_new(struct pyn_types *ty, struct pyn_span utf8)
{
    PyObject *name = PyUnicode_DecodeUTF8((const char *)utf8.ptr, (Py_ssize_t)utf8.len, NULL), *atom = NULL;

    if (name && is_short_enough(name))
        atom = atom_of_str(ty->atom, name);
    Py_XDECREF(name);
    return atom;
}

/* Names */

static PyObject *str_of_ascii(struct pyn_span s)
{
    return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, s.ptr, (Py_ssize_t)s.len);
}

static bool name_is(PyObject *name, struct pyn_span s)
{
    return (size_t)PyUnicode_GET_LENGTH(name) == s.len && memcmp(PyUnicode_1BYTE_DATA(name), s.ptr, s.len) == 0;
}

static inline PyObject **slot_of(struct pyn_types *ty, struct pyn_span s)
{
    uint64_t h = s.len * UINT64_C(0x9e3779b97f4a7c15);

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ s.ptr[i]) * UINT64_C(0x100000001b3);
    return &ty->names[(h ^ h >> 32) % PYN_NAME_SLOTS];
}

#ifdef Py_GIL_DISABLED
/* Other threads read the slot meanwhile, so what is in it stays in it. */
static PyObject *name_in(PyObject **slot)
{
    return __atomic_load_n(slot, __ATOMIC_ACQUIRE);
}

static void keep_name(PyObject **slot, PyObject *name)
{
    PyObject *none = NULL;

    Py_INCREF(name);
    if (!__atomic_compare_exchange_n(slot, &none, name, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        Py_DECREF(name);
}
#else
static PyObject *name_in(PyObject **slot)
{
    return *slot;
}

static void keep_name(PyObject **slot, PyObject *name)
{
    Py_XSETREF(*slot, Py_NewRef(name));
}
#endif

PyObject *pyn_name_new(struct pyn_types *ty, struct pyn_span ascii)
{
    PyObject **slot = slot_of(ty, ascii);
    PyObject *name = name_in(slot);

    if (PYN_LIKELY(name && name_is(name, ascii)))
        return Py_NewRef(name);
    name = str_of_ascii(ascii);
    if (name)
        keep_name(slot, name);
    return name;
}

/* The whole */

static int add_exceptions(struct pyn_types *ty, PyObject *module)
{
    PyObject *defaults = Py_BuildValue("{sOsOsO}", "class_", Py_None, "reason", Py_None, "stacktrace", Py_None);

    if (!defaults)
        return -1;
    ty->callback_error = PyErr_NewExceptionWithDoc("erlang.CallbackError", PYN_DOC_CALLBACK_ERROR, PyExc_RuntimeError,
                                                   defaults);
    Py_DECREF(defaults);
    if (!ty->callback_error || PyModule_AddObjectRef(module, "CallbackError", ty->callback_error) < 0)
        return -1;
    ty->coordinator_down = PyErr_NewExceptionWithDoc("erlang.CoordinatorDown", PYN_DOC_COORDINATOR_DOWN,
                                                     PyExc_ConnectionError, NULL);
    if (!ty->coordinator_down)
        return -1;
    return PyModule_AddObjectRef(module, "CoordinatorDown", ty->coordinator_down);
}

static int add_types(struct pyn_types *ty, PyObject *module)
{
    ty->atom = (PyTypeObject *)PyType_FromModuleAndSpec(module, &atom_spec, (PyObject *)&PyUnicode_Type);
    if (!ty->atom || PyModule_AddType(module, ty->atom) < 0)
        return -1;
    for (unsigned i = 0; i < PYN_OPAQUE_KINDS; i++) {
        ty->opaque[i] = (PyTypeObject *)pyn_opaque_type_new(module, i);
        if (!ty->opaque[i] || PyModule_AddType(module, ty->opaque[i]) < 0)
            return -1;
    }
    ty->step = (PyTypeObject *)pyn_step_type_new(module);
    ty->request = PyContextVar_New("erlang.request", NULL);
    if (!ty->step || !ty->request)
        return -1;
    return PyModule_AddObjectRef(module, "_request", ty->request);
}

static PyObject *new_nothing(void)
{
    PyObject *names = PyDict_New();
    PyObject *function = names ? PyRun_String("lambda: None", Py_eval_input, names, names) : NULL;

    Py_XDECREF(names);
    return function;
}

int pyn_breathe(struct pyn_types *ty)
{
    PyObject *none = PyObject_CallNoArgs(ty->nothing);

    Py_XDECREF(none);
    return none ? 0 : -1;
}

int pyn_types_init(struct pyn_types *ty, PyObject *module)
{
    *ty = (struct pyn_types){0};
    ty->graveyard = pyn_graveyard_new();
    if (!ty->graveyard) {
        PyErr_NoMemory();
        return -1;
    }
    ty->str_tolist = PyUnicode_InternFromString("tolist");
    ty->nothing = new_nothing();
    if (!ty->str_tolist || !ty->nothing)
        return -1;
    for (unsigned i = 0; i < PYN_SMALL_INTS; i++) {
        ty->small[i] = PyLong_FromLong((long)i);
        if (!ty->small[i])
            return -1;
    }
    ty->span_var = PyContextVar_New("erlang.span", Py_None);
    if (!ty->span_var || PyModule_AddObjectRef(module, "_span", ty->span_var) < 0)
        return -1;
    if (add_types(ty, module) < 0)
        return -1;
    return add_exceptions(ty, module);
}

int pyn_types_traverse(struct pyn_types *ty, visitproc visit, void *arg)
{
    Py_VISIT(ty->atom);
    for (unsigned i = 0; i < PYN_OPAQUE_KINDS; i++)
        Py_VISIT(ty->opaque[i]);
    Py_VISIT(ty->step);
    Py_VISIT(ty->callback_error);
    Py_VISIT(ty->coordinator_down);
    Py_VISIT(ty->span_var);
    Py_VISIT(ty->nothing);
    return 0;
}

void pyn_types_clear(struct pyn_types *ty)
{
    struct pyn_graveyard *yard = ty->graveyard;

    ty->graveyard = NULL;
    pyn_graveyard_close(yard);
    Py_CLEAR(ty->atom);
    for (unsigned i = 0; i < PYN_OPAQUE_KINDS; i++)
        Py_CLEAR(ty->opaque[i]);
    Py_CLEAR(ty->step);
    Py_CLEAR(ty->request);
    Py_CLEAR(ty->callback_error);
    Py_CLEAR(ty->coordinator_down);
    Py_CLEAR(ty->span_var);
    Py_CLEAR(ty->str_tolist);
    Py_CLEAR(ty->nothing);
    for (unsigned i = 0; i < PYN_SMALL_INTS; i++)
        Py_CLEAR(ty->small[i]);
    for (unsigned i = 0; i < PYN_NAME_SLOTS; i++)
        Py_CLEAR(ty->names[i]);
}
