#include "py/interp_private.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "py/error.h"
#include "py/graveyard.h"
#include "py/module.h"
#include "py/space.h"

static void fail(char *error, size_t size, const char *what)
{
    char line[1024];

    pyn_error_line(line, sizeof(line));
    snprintf(error, size, "%s: %s", what, line);
}

/* ---- the thread state ---- */

#if PY_VERSION_HEX >= 0x030C0000
/* Makes an interpreter with its own GIL. Returns its first thread state, attached; NULL: detached, error is set. */
static PyThreadState *new_interpreter(char *error, size_t size)
{
    const PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = 0,
        .allow_exec = 0,
        .allow_threads = 1,
        .allow_daemon_threads = 0,
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyThreadState *first = PyThreadState_New(PyInterpreterState_Main());
    PyThreadState *state = NULL;
    PyStatus status;

    if (!first) {
        snprintf(error, size, "out of memory for a thread state");
        return NULL;
    }
    PyEval_RestoreThread(first);
    status = Py_NewInterpreterFromConfig(&state, &config);
    if (PyStatus_Exception(status)) {
        snprintf(error, size, "Python made no sub-interpreter: %s",
                 status.err_msg ? status.err_msg : "no reason given");
        PyThreadState_Clear(first);
        PyThreadState_DeleteCurrent();
        return NULL;
    }
    PyThreadState_Swap(first);
    PyThreadState_Clear(first);
    PyThreadState_DeleteCurrent();
    PyEval_RestoreThread(state);
    return state;
}
#endif

/* Sets s->state, one more of an interpreter that is there, and attaches. */
static bool join_interpreter(struct pyn_seat *s, PyInterpreterState *interp, char *error, size_t size)
{
    s->state = PyThreadState_New(interp);
    if (!s->state) {
        snprintf(error, size, "out of memory for a thread state");
        return false;
    }
    PyEval_RestoreThread(s->state);
    return true;
}

/* Sets s->state and attaches. */
static bool take_state(struct pyn_seat *s, bool main, char *error, size_t size)
{
    static atomic_uint last_number;

#if PY_VERSION_HEX >= 0x030C0000
    if (!main && pyn_host_mode() == PYN_MODE_SUBINTERP) {
        s->state = new_interpreter(error, size);
        s->owns_interp = true;
        s->interp = atomic_fetch_add(&last_number, 1) + 1;
        return s->state != NULL;
    }
#else
    (void)main;
    (void)last_number;
#endif
    return join_interpreter(s, PyInterpreterState_Main(), error, size);
}

/* Gives the thread state back, and the interpreter where it is the seat's. Attached before, detached after. */
static void give_state(struct pyn_seat *s)
{
    pyn_aim_leave();
    if (s->owns_interp) {
        Py_EndInterpreter(s->state); /* 3.12 and later return without a lock held (own GIL) */
    } else {
        PyThreadState_Clear(s->state);
        PyThreadState_DeleteCurrent();
    }
}

/* ---- seats ---- */

static bool furnish(struct pyn_seat *s, char *error, size_t size)
{
    PyObject *main_module;

    if (s->owns_interp && pyn_host_prepare(s->interp) != 0) {
        fail(error, size, "preparing a sub-interpreter failed");
        return false;
    }
    s->erlang_module = PyImport_ImportModule("erlang");
    main_module = PyImport_AddModule("__main__"); /* borrowed */
    if (!s->erlang_module || !main_module) {
        fail(error, size, "a module of the interpreter is missing");
        return false;
    }
    s->types = PyModule_GetState(s->erlang_module);
    s->main_dict = Py_NewRef(PyModule_GetDict(main_module));
    s->names = s->main_dict;
    pyn_aim_take(&s->aim);
    return true;
}

static void clear_caches(struct pyn_seat *s)
{
    for (int i = 0; i < PYN_TARGETS; i++) {
        free(s->targets[i].key);
        Py_CLEAR(s->targets[i].module);
        Py_CLEAR(s->targets[i].path);
    }
    for (int i = 0; i < PYN_CODES; i++) {
        free(s->codes[i].key);
        Py_CLEAR(s->codes[i].code);
    }
    pyn_space_close(s);
    Py_CLEAR(s->loop_module);
    Py_CLEAR(s->new_names);
    s->names = NULL;
    Py_CLEAR(s->main_dict);
    Py_CLEAR(s->erlang_module);
}

/* other NULL: an interpreter by mode, and by `main`. */
static struct pyn_seat *open_seat(const struct pyn_seat *other, bool main, char *error, size_t size)
{
    struct pyn_seat *s = calloc(1, sizeof(*s));

    if (!s) {
        snprintf(error, size, "out of memory for a seat");
        return NULL;
    }
    pyn_aim_init(&s->aim);
    if (other)
        s->interp = other->interp;
    if (!(other ? join_interpreter(s, other->state->interp, error, size) : take_state(s, main, error, size))) {
        pyn_aim_free(&s->aim);
        free(s);
        return NULL;
    }
    if (!furnish(s, error, size)) {
        clear_caches(s);
        give_state(s);
        pyn_aim_free(&s->aim);
        free(s);
        return NULL;
    }
    pyn_seat_detach(s);
    return s;
}

struct pyn_seat *pyn_seat_open(bool main, char *error, size_t size)
{
    return open_seat(NULL, main, error, size);
}

struct pyn_seat *pyn_seat_open_beside(const struct pyn_seat *other, char *error, size_t size)
{
    return open_seat(other, false, error, size);
}

void pyn_seat_close(struct pyn_seat *s)
{
    pyn_seat_attach(s);
    clear_caches(s);
    give_state(s);
    pyn_aim_free(&s->aim);
    free(s);
}

unsigned pyn_seat_interp(const struct pyn_seat *s)
{
    return s->interp;
}

void pyn_seat_attach(struct pyn_seat *s)
{
    PyEval_RestoreThread(s->state);
    pyn_graveyard_drain(s->types ? s->types->graveyard : NULL);
}

void pyn_seat_detach(struct pyn_seat *s)
{
    PyThreadState *state = PyEval_SaveThread();
    (void)s;
    (void)state;
}

/* ---- interrupts ---- */

struct pyn_mark pyn_seat_begin(struct pyn_seat *s, uint64_t serial)
{
    struct pyn_mark outer = pyn_aim_exchange(&s->aim, (struct pyn_mark){.serial = serial});

    if (outer.interrupted)
        PyErr_Clear();
    return outer;
}

bool pyn_seat_end(struct pyn_seat *s, struct pyn_mark outer)
{
    struct pyn_mark mark = pyn_aim_exchange(&s->aim, outer);

    if (mark.interrupted)
        PyErr_Clear();
    return mark.interrupted;
}

bool pyn_seat_imports(struct pyn_seat *s)
{
    return pyn_aim_look(&s->aim).imports > 0;
}

bool pyn_seat_interrupt(struct pyn_seat *s, uint64_t serial)
{
    return pyn_aim_interrupt(&s->aim, s->state->interp, serial);
}
