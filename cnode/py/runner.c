#include "py/runner.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/forked.h"
#include "py/aim.h"
#include "py/module.h"

#define CAPSULE "erlang.runner"

struct pyn_runner {
    PyInterpreterState *interp;
    struct pyn_loop *loop; /* NULL: closed; the loop's thread */
    struct pyn_aim aim;    /* the step that runs */
};

static const struct pyn_coroutines *current;

void pyn_coroutines_set(const struct pyn_coroutines *c)
{
    current = c;
}

const struct pyn_coroutines *pyn_coroutines_get(void)
{
    return pyn_forked() ? NULL : current;
}

/* ---- lifetime ---- */

static void free_runner(PyObject *capsule)
{
    struct pyn_runner *r = PyCapsule_GetPointer(capsule, CAPSULE);

    pyn_aim_free(&r->aim);
    free(r);
}

PyObject *pyn_runner_new(void)
{
    struct pyn_runner *r = calloc(1, sizeof(*r));
    PyObject *capsule;

    if (!r)
        return PyErr_NoMemory();
    r->interp = PyInterpreterState_Get();
    pyn_aim_init(&r->aim);
    capsule = PyCapsule_New(r, CAPSULE, free_runner);
    if (!capsule) {
        pyn_aim_free(&r->aim);
        free(r);
    }
    return capsule;
}

struct pyn_runner *pyn_runner_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, CAPSULE);
}

struct pyn_loop *pyn_runner_its_loop(const struct pyn_runner *r)
{
    return r->loop;
}

void pyn_runner_set_loop(struct pyn_runner *r, struct pyn_loop *loop)
{
    r->loop = loop;
}

/* ---- the loop's thread ---- */

static _Thread_local struct pyn_runner *this_runner;
static _Thread_local uint64_t this_request;
static _Thread_local uint64_t adopted; /* see pyn_runner_adopt */

void pyn_runner_enter(struct pyn_runner *r)
{
    if (r)
        pyn_aim_take(&r->aim);
    else if (this_runner) /* else it is a worker that has made the loop in vain */
        pyn_aim_leave();
    this_runner = r;
}

struct pyn_loop *pyn_runner_loop(void)
{
    return this_runner ? this_runner->loop : NULL;
}

uint64_t pyn_runner_step_request(void)
{
    return this_request;
}

uint64_t pyn_runner_adopt(uint64_t request)
{
    uint64_t before = adopted;

    adopted = request;
    return before;
}

uint64_t pyn_runner_request(void)
{
    struct pyn_types *ty;
    PyObject *value = NULL;
    uint64_t request = adopted;

    if (this_request != 0)
        return this_request;
    ty = pyn_module_types();
    if (ty && PyContextVar_Get(ty->request, NULL, &value) == 0 && value) {
        request = PyLong_AsUnsignedLongLong(value);
        Py_DECREF(value);
    }
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return request;
}

/* ---- steps and interrupts ---- */

static struct pyn_mark exchange_mark(struct pyn_runner *r, struct pyn_mark next)
{
    this_request = next.serial;
    return pyn_aim_exchange(&r->aim, next);
}

struct pyn_mark pyn_runner_begin(struct pyn_runner *r, uint64_t request)
{
    return exchange_mark(r, (struct pyn_mark){.serial = request, .since = pyn_now()});
}

void pyn_runner_end(struct pyn_runner *r, struct pyn_mark outer)
{
    exchange_mark(r, outer);
}

uint64_t pyn_runner_look(struct pyn_runner *r, uint64_t *since)
{
    struct pyn_mark mark = pyn_aim_look(&r->aim);

    *since = mark.since;
    return mark.serial;
}

bool pyn_runner_imports(struct pyn_runner *r)
{
    return pyn_aim_look(&r->aim).imports > 0;
}

void pyn_runner_interrupt(struct pyn_runner *r, uint64_t request)
{
    (void)pyn_aim_interrupt(&r->aim, r->interp, request);
}
