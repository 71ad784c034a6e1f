#include <pthread.h>

#include "py/graveyard.h"
#include "unit/python.h"
#include "unit/suite.h"

enum { THREADS = 4, GRAVES = 2000 };

/* An object that only its grave holds is gone after the drain, and not before. */
START_TEST(test_waits_for_drain)
{
    struct pyn_graveyard *g = pyn_graveyard_new();
    struct pyn_grave *grave;
    PyObject *o = python_eval("Counted()");

    grave = pyn_grave_new(g, o);
    Py_DECREF(o);
    pyn_graveyard_drain(g);
    ck_assert_str_eq(python_repr(python_eval("Counted.alive")), "1");
    pyn_grave_bury(grave);
    ck_assert_str_eq(python_repr(python_eval("Counted.alive")), "1");
    pyn_graveyard_drain(g);
    ck_assert_str_eq(python_repr(python_eval("Counted.alive")), "0");
    pyn_graveyard_close(g);
}
END_TEST

START_TEST(test_drop)
{
    struct pyn_graveyard *g = pyn_graveyard_new();
    PyObject *o = python_eval("Counted()");
    struct pyn_grave *grave = pyn_grave_new(g, o);

    Py_DECREF(o);
    pyn_grave_drop(grave);
    ck_assert_str_eq(python_repr(python_eval("Counted.alive")), "0");
    pyn_graveyard_close(g);
}
END_TEST

START_TEST(test_close_releases)
{
    struct pyn_graveyard *g = pyn_graveyard_new();
    PyObject *o = python_eval("Counted()");

    pyn_grave_bury(pyn_grave_new(g, o));
    Py_DECREF(o);
    pyn_graveyard_close(g);
    ck_assert_str_eq(python_repr(python_eval("Counted.alive")), "0");
}
END_TEST

/* The writer of a link may be done only when the interpreter has gone: its graves keep the graveyard, not more. */
START_TEST(test_bury_after_close)
{
    struct pyn_graveyard *g = pyn_graveyard_new();
    PyObject *o = python_eval("object()");
    Py_ssize_t held = Py_REFCNT(o);
    struct pyn_grave *one = pyn_grave_new(g, o), *two = pyn_grave_new(g, o);

    ck_assert_int_eq(Py_REFCNT(o), held + 2);
    pyn_graveyard_close(g);
    pyn_grave_bury(one);
    pyn_grave_bury(two);
    ck_assert_int_eq(Py_REFCNT(o), held + 2); /* nobody was attached to give them back */
    Py_DECREF(o);
    Py_DECREF(o);
    Py_DECREF(o);
}
END_TEST

/* A destructor that buries and drains again. */
static struct pyn_graveyard *nested;

static void bury_more(PyObject *capsule)
{
    (void)capsule;
    pyn_grave_bury(pyn_grave_new(nested, Py_None));
    pyn_graveyard_drain(nested);
}

START_TEST(test_destructor_drains)
{
    PyObject *o;

    nested = pyn_graveyard_new();
    o = PyCapsule_New(&nested, NULL, bury_more);
    pyn_grave_bury(pyn_grave_new(nested, o));
    Py_DECREF(o);
    pyn_graveyard_drain(nested);
    pyn_graveyard_close(nested);
}
END_TEST

START_TEST(test_null)
{
    pyn_graveyard_drain(NULL);
    pyn_graveyard_close(NULL);
}
END_TEST

static void *bury_all(void *arg)
{
    struct pyn_grave **graves = arg;

    for (int i = 0; i < GRAVES; i++)
        pyn_grave_bury(graves[i]);
    return NULL;
}

/* Threads that are not attached bury, while the attached one drains. */
START_TEST(test_many_threads)
{
    static struct pyn_grave *graves[THREADS][GRAVES];
    struct pyn_graveyard *g = pyn_graveyard_new();
    pthread_t threads[THREADS];
    PyObject *alive;

    for (int t = 0; t < THREADS; t++) {
        for (int i = 0; i < GRAVES; i++) {
            PyObject *o = python_eval("Counted()");

            graves[t][i] = pyn_grave_new(g, o);
            Py_DECREF(o);
        }
    }
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, bury_all, graves[t]), 0);
    for (int i = 0; i < 100; i++)
        pyn_graveyard_drain(g);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    pyn_graveyard_drain(g);
    alive = python_eval("Counted.alive");
    ck_assert_str_eq(python_repr(alive), "0");
    Py_DECREF(alive);
    pyn_graveyard_close(g);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("graveyard");
    TCase *core = tcase_create("Core"), *limits = tcase_create("Limits");
    int failed;

    tcase_add_test(core, test_waits_for_drain);
    tcase_add_test(core, test_drop);
    tcase_add_test(core, test_close_releases);
    tcase_add_test(core, test_null);
    tcase_add_test(limits, test_bury_after_close);
    tcase_add_test(limits, test_destructor_drains);
    tcase_add_test(limits, test_many_threads);
    tcase_set_timeout(limits, 60);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    python_start();
    python_exec("class Counted:\n"
                "    alive = 0\n"
                "    def __init__(self): Counted.alive += 1\n"
                "    def __del__(self): Counted.alive -= 1\n");
    failed = suite_run_here(s);
    python_stop();
    return failed;
}
