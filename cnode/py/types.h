/* What every interpreter keeps for the codec: the types of the `erlang` module, cached strings, the
 * graveyard.
 *
 * One struct pyn_types per interpreter, made in it by the `erlang` module's exec slot (module state),
 * alive as long as the interpreter. "Attached" below: the calling thread holds a thread state of that
 * interpreter. */
#ifndef PYN_PY_TYPES_H
#define PYN_PY_TYPES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/out.h"
#include "etf/reader.h"

/* Kinds of terms that Python cannot hold natively: they carry their bytes and come back unchanged. */
enum pyn_opaque_kind {
    PYN_OPAQUE_PID,
    PYN_OPAQUE_REFERENCE,
    PYN_OPAQUE_PORT,
    PYN_OPAQUE_FUNCTION,
    PYN_OPAQUE_BITSTRING,
    PYN_OPAQUE_IMPROPER_LIST,
    PYN_OPAQUE_KINDS
};

#define PYN_SMALL_INTS 256u
#define PYN_NAME_SLOTS 256u

struct pyn_graveyard; /* py/graveyard.h */

struct pyn_types {
    PyTypeObject *atom; /* erlang.Atom, a str subclass (owned) */
    PyTypeObject
        *opaque[PYN_OPAQUE_KINDS];   /* erlang.Pid, .Reference, .Port, .Function, .Bitstring, .ImproperList (owned) */
    PyTypeObject *step;              /* erlang._Step (owned), see py/step.h */
    PyObject *request;               /* erlang._request: the context variable of py/coroutines.h (owned) */
    PyObject *callback_error;        /* erlang.CallbackError (owned) */
    PyObject *coordinator_down;      /* erlang.CoordinatorDown (owned) */
    struct pyn_graveyard *graveyard; /* owned */
    PyObject *span_var;              /* the context variable of the open span, py/trace.h (owned) */
    PyObject *str_tolist;            /* "tolist" */
    PyObject *nothing;               /* a function of Python that does nothing (owned), see pyn_breathe */
    PyObject *small[PYN_SMALL_INTS]; /* the integers 0..255 (owned) */
    /* Names that came as atoms or map keys, by hash: pyn_name_new. Owned; NULL where nothing came yet. */
    PyObject *names[PYN_NAME_SLOTS];
};

/* Fills *ty (all zero before) for the current interpreter and adds the types to the module. 0, or -1
 * with an exception; what was made until then is released by pyn_types_clear. Attached. */
PYN_MUSTCHECK int pyn_types_init(struct pyn_types *ty, PyObject *module);
int pyn_types_traverse(struct pyn_types *ty, visitproc visit, void *arg);
/* May be called more than once. Attached. */
void pyn_types_clear(struct pyn_types *ty);

/* For long loops in C: what Python code does between two instructions. Others that wait for the interpreter get it, and
 * an interrupt is raised here: -1 with KeyboardInterrupt. (To release the interpreter and take it again would not do:
 * each release wakes those who wait, they come too late, and wait anew until they may ask for it.) Attached. */
PYN_MUSTCHECK int pyn_breathe(struct pyn_types *ty);

/* A new reference to an object that holds this term (bytes of a whole term, no version byte). Attached. */
PyObject *pyn_opaque_new(struct pyn_types *ty, enum pyn_opaque_kind kind, struct pyn_span term);
/* true when o is one of ours; then *term is what it holds, alive as long as o. Attached. */
bool pyn_opaque_term(struct pyn_types *ty, PyObject *o, struct pyn_span *term);
/* A new erlang.Atom of that name. Attached. */
PyObject *pyn_atom_new(struct pyn_types *ty, struct pyn_span utf8);
/* A new reference to the str of a short ASCII name that is likely to come again. Attached. */
PyObject *pyn_name_new(struct pyn_types *ty, struct pyn_span ascii);

#endif
