#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>

#include "base/defs.h"
#include "py/host.h"
#include "unit/suite.h"

#ifdef PYN_ADDRESS_SANITIZER

#include <sanitizer/lsan_interface.h>

/* Some of the addresses may be left in registers or on the stack, where the sanitizer sees them. */
enum { MANY = 64, SIZE = 1000 };

/* The addresses, so that the sanitizer takes none of them for one. */
static uintptr_t hidden[MANY];

static PyObject *lose_ours(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    for (int i = 0; i < MANY; i++)
        hidden[i] = ~(uintptr_t)malloc(SIZE);
    Py_RETURN_NONE;
}

static PyObject *lose_pythons(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    for (int i = 0; i < MANY; i++)
        hidden[i] = ~(uintptr_t)PyMem_Malloc(SIZE);
    Py_RETURN_NONE;
}

/* Python calls it by way of its own code. */
static void from_python(PyMethodDef *def)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *globals = PyDict_New(), *f = PyCFunction_New(def, NULL), *result;

    ck_assert_int_eq(PyDict_SetItemString(globals, "f", f), 0);
    result = PyRun_String("list(map(lambda _: f(), [1]))", Py_eval_input, globals, globals);
    ck_assert_ptr_nonnull(result);
    Py_DECREF(result);
    Py_DECREF(f);
    Py_DECREF(globals);
    PyGILState_Release(gil);
}

START_TEST(sees_ours)
{
    static PyMethodDef def = {"lose_ours", lose_ours, METH_NOARGS, NULL};

    from_python(&def);
    ck_assert_int_ne(__lsan_do_recoverable_leak_check(), 0);
    for (int i = 0; i < MANY; i++)
        free((void *)~hidden[i]);
    ck_assert_int_eq(__lsan_do_recoverable_leak_check(), 0);
}
END_TEST

START_TEST(leaves_pythons)
{
    static PyMethodDef def = {"lose_pythons", lose_pythons, METH_NOARGS, NULL};

    from_python(&def);
    ck_assert_int_eq(__lsan_do_recoverable_leak_check(), 0);
    /* Not given back: so it is at the program's end, too. */
}
END_TEST

#else

/* Nothing is changed where there is nothing to report. */
START_TEST(does_nothing)
{
    PyMemAllocatorEx raw;

    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    ck_assert_ptr_null(raw.ctx);
}
END_TEST

#endif

int main(void)
{
    static const struct pyn_host_config config = {.mode = PYN_MODE_MULTI_EXECUTOR};
    char error[1024];
    Suite *s = suite_create("leaks");
    TCase *core = tcase_create("Core");
    int failed;

    if (!pyn_host_start(&config, error, sizeof(error)))
        return 99;
#ifdef PYN_ADDRESS_SANITIZER
    tcase_add_test(core, sees_ours);
    tcase_add_test(core, leaves_pythons);
    tcase_set_timeout(core, 60);
#else
    tcase_add_test(core, does_nothing);
#endif
    suite_add_tcase(s, core);
    failed = suite_run_here(s);
    pyn_host_stop();
    return failed;
}
