#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "py/decode.h"
#include "py/encode.h"
#include "py/error.h"
#include "unit/cases.h"
#include "unit/python.h"
#include "unit/suite.h"

enum { MAX = 16 * 1024 * 1024 };

/* Python -> Erlang for what is none of the common types. term: as in test cases' input.hex, without the version
 * byte. */

static const struct {
    const char *value;
    const char *term;
} values[] = {
    {"{1}", "6c 00000001 61 01 6a"},
    {"set()", "6a"},
    {"frozenset([1])", "6c 00000001 61 01 6a"},
    {"range(3)", "6c 00000003 61 00 61 01 61 02 6a"},
    {"range(0)", "6a"},
    {"iter([1, 'x'])", "6c 00000002 61 01 6d 00000001 78 6a"},
    {"(x for x in (1, 2))", "6c 00000002 61 01 61 02 6a"},
    {"(x for x in ())", "6a"},
    {"map(iter, [[1], []])", "6c 00000002 6c 00000001 61 01 6a 6a 6a"},
    /* any other object */
    {"datetime.date(2026, 1, 2)", "6d 0000000a 323032362d30312d3032"},
    {"decimal.Decimal('1.10')", "6d 00000004 312e3130"},
    {"1j", "6d 00000002 316a"},
    {"type('N', (), {'__next__': lambda s: 1, '__str__': lambda s: 'n'})()", "6d 00000001 6e"},
    {"type('O', (), {'__str__': lambda s: '\\xe9'})()", "6d 00000002 c3a9"},
    {"dataclasses.make_dataclass('D', ['x'])(1)", "6d 00000006 4428783d3129"},
    {"enum.Enum('C', ['RED']).RED", "6d 00000005 432e524544"},
    {"int", "6d 0000000d 3c636c6173732027696e74273e"},
};

START_TEST(test_values)
{
    struct pyn_out out;
    uint8_t *expected;
    size_t n = cases_unhex(values[_i].term, &expected);

    pyn_out_init(&out, MAX);
    ck_assert_msg(python_encode(values[_i].value, &out) == 0, "%s: %s", values[_i].value,
                  PyErr_Occurred() ? python_error() : "");
    ck_assert_msg(out.buf.len == n, "%s: %zu bytes", values[_i].value, out.buf.len);
    ck_assert_msg(memcmp(out.buf.data, expected, n) == 0, "%s", values[_i].value);
    free(expected);
    pyn_out_free(&out);
}
END_TEST

/* --- code of the object that fails --- */

/* The same exception may be raised in several places, so these are made one after the other. */
static const struct {
    const char *value;
    const char *line;
} failing[] = {
    {"Raises(ValueError('bad str'))", "ValueError: bad str (converting Raises)"},
    {"[{'k': (1, Raises(ValueError('bad str')))}]", "ValueError: bad str (converting Raises at [0]['k'][1])"},
    {"{1: {Raises(ValueError('bad str')): 1}}", "ValueError: bad str (converting Raises at [1]{key an object})"},
    {"[Raises(ValueError())]", "ValueError: (converting Raises at [0])"},
    {"[Raises(KeyError('k'))]", "KeyError: 'k' (converting Raises at [0])"},
    {"[Raises(erlang.CallbackError('gone'))]", "CallbackError: gone (converting Raises at [0])"},
    {"[Raises(LookupError('a', 'b'))]", "LookupError: ('a', 'b') (converting Raises at [0])"},
    {"[Raises(Unwilling('x'))]", "Unwilling: x"}, /* takes nothing along */
    {"[1, (1 // x for x in (1, 0))]",
     "ZeroDivisionError: integer division or modulo by zero (converting generator at [1])"},
    {"(1 // x for x in (1, 0))", "ZeroDivisionError: integer division or modulo by zero"},
    {"(Raises(ValueError('v')) for _ in [1])", "ValueError: v (converting Raises at [0])"},
    {"{'f': open('/dev/null', 'w')}", "UnsupportedOperation: not readable (converting _io.TextIOWrapper at ['f'])"},
    {"[Raises(one)]", "ValueError: one (converting Raises at [0])"},
    {"(1, Raises(one))", "ValueError: one (converting Raises at [1])"},
    /* what is no matter of the object */
    {"[Raises(KeyboardInterrupt('k'))]", "KeyboardInterrupt: k"},
    {"[Raises(SystemExit(3))]", "SystemExit: 3"},
    {"[Raises(MemoryError('m'))]", "MemoryError: m"},
    {"[Raises(RecursionError('r'))]", "RecursionError: r"},
    {"[Raises(GeneratorExit('g'))]", "GeneratorExit: g"},
};

START_TEST(test_failing)
{
    for (size_t i = 0; i < sizeof(failing) / sizeof(failing[0]); i++) {
        struct pyn_out out;
        char line[200];

        pyn_out_init(&out, MAX);
        if (python_encode(failing[i].value, &out) < 0) {
            pyn_error_line(line, sizeof(line));
            ck_assert_msg(strcmp(line, failing[i].line) == 0, "%s: '%s' instead of '%s'", failing[i].value, line,
                          failing[i].line);
        } else {
            ck_assert_msg(*failing[i].line == '\0', "%s was converted", failing[i].value);
        }
        pyn_out_free(&out);
    }
}
END_TEST

/* In Python it is a note, the last one only, and one of many. */
START_TEST(test_notes)
{
    struct pyn_out out;
    PyObject *notes;

    pyn_out_init(&out, MAX);
    python_exec("noted = ValueError('x')\n"
                "noted.add_note('first')\n");
    for (int i = 0; i < 3; i++) {
        ck_assert_int_lt(python_encode("[[Raises(noted)]]", &out), 0);
        PyErr_Clear();
        pyn_out_truncate(&out, 0);
    }
    notes = python_eval("noted.__notes__");
    ck_assert_str_eq(python_repr(notes), "['first', 'converting Raises at [0][0]']");
    ck_assert_int_lt(python_encode("(Raises(noted),)", &out), 0);
    pyn_error_write(python_types(), &out, true);
    ck_assert_str_eq(python_repr(notes), "['first']");
    Py_DECREF(notes);
    notes = python_eval("'_pynode_place' in noted.__dict__");
    ck_assert_ptr_eq(notes, Py_False);
    Py_DECREF(notes);
    pyn_out_free(&out);
}
END_TEST

/* --- what changes meanwhile --- */

static const struct {
    const char *value;
    const char *repr; /* of what arrives */
} changing[] = {
    {"(lambda l: l.extend([1, Then(l.clear), 2, 3]) or l)([])", "[1, 'done']"},
    {"(lambda l: l.extend([Then(l.clear), [2]]) or l)([])", "['done']"},
    {"(lambda l: l.extend([Then(lambda: l.append(9)), [2]]) or l)([])", "['done', [2]]"},
    {"(lambda l: l.extend([Then(lambda: l.__setitem__(1, 5)), 2]) or l)([])", "['done', 5]"},
    {"(lambda d: d.update(a=Then(d.clear), b=[1]) or d)({})", "{'a': 'done', 'b': [1]}"},
    {"(lambda d: d.update(a=Then(lambda: d.update({str(i): i for i in range(99)})), b=1) or d)({})",
     "{'a': 'done', 'b': 1}"},
    {"(lambda d: d.update({Then(d.clear): 1, 'b': 2}) or d)({})", "{'done': 1, 'b': 2}"},
};

START_TEST(test_changing)
{
    struct pyn_out out;
    PyObject *back;

    pyn_out_init(&out, MAX);
    ck_assert_int_eq(python_encode(changing[_i].value, &out), 0);
    back = pyn_decode_span(python_types(), (struct pyn_span){out.buf.data, out.buf.len});
    ck_assert_msg(back, "%s: %s", changing[_i].value, back ? "" : python_error());
    ck_assert_str_eq(python_repr(back), changing[_i].repr);
    Py_DECREF(back);
    pyn_out_free(&out);
}
END_TEST

/* Keys that collide do not cost quadratic time: 200 000 of them, of two kinds. */
START_TEST(test_many_mixed_keys)
{
    struct pyn_out out;

    pyn_out_init(&out, MAX);
    ck_assert_int_eq(
        python_encode("{**{'k%d' % i: i for i in range(100000)}, **{b'b%d' % i: i for i in range(100000)}}", &out), 0);
    pyn_out_free(&out);
}
END_TEST

/* Several threads write to what several convert: what arrives is some state of it, and always a whole term. */
enum { THREADS = 4, ROUNDS = 300 };

static void *convert_shared(void *arg)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *shared = arg, *change = PyList_GetItem(shared, 0), *back = shared;
    bool ok = true;

    for (int i = 0; i < ROUNDS && ok; i++) {
        PyObject *changed = PyObject_CallNoArgs(change);
        struct pyn_out out;

        pyn_out_init(&out, MAX);
        ok = changed && pyn_encode(python_types(), shared, &out) == 0;
        back = ok ? pyn_decode_span(python_types(), (struct pyn_span){out.buf.data, out.buf.len}) : NULL;
        ok = back != NULL;
        Py_XDECREF(back);
        Py_XDECREF(changed);
        pyn_out_free(&out);
    }
    if (!ok)
        PyErr_Print();
    PyGILState_Release(state);
    return ok ? arg : NULL;
}

START_TEST(test_threads)
{
    PyObject *shared = python_eval("[change, some_list, some_dict, nested_dict]");
    PyThreadState *state = PyEval_SaveThread();
    pthread_t threads[THREADS];
    void *result[THREADS];

    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, convert_shared, shared), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], &result[i]);
    PyEval_RestoreThread(state);
    for (int i = 0; i < THREADS; i++)
        ck_assert_ptr_eq(result[i], shared);
    Py_DECREF(shared);
}
END_TEST

static void prepare(void)
{
    python_exec("import dataclasses, datetime, decimal, enum, random\n"
                "some_list, some_dict, nested_dict = [], {}, {}\n"
                "def change():\n"
                "    n = random.randrange(100)\n"
                "    some_list[:] = [[n], str(n), Then(some_list.clear), {n}] * (n // 10)\n"
                "    some_dict[n] = some_dict[str(n)] = some_dict[erlang.Atom(str(n))] = n\n"
                "    nested_dict[str(n)] = nested_dict[b'b%d' % n] = [n, {str(n): n}]\n"
                "    for d in some_dict, nested_dict:\n"
                "        if n > 90: d.clear()\n"
                "class Raises:\n"
                "    def __init__(self, exc): self.exc = exc\n"
                "    def __str__(self): raise self.exc\n"
                "    def __repr__(self): return 'an object'\n"
                "class Unwilling(Exception):\n"
                "    def __setattr__(self, name, value): raise OSError('not this')\n"
                "one = ValueError('one')\n"
                "class Then:\n"
                "    def __init__(self, what): self.what = what\n"
                "    def __str__(self):\n"
                "        self.what()\n"
                "        return 'done'\n");
}

#define COUNT(table) ((int)(sizeof(table) / sizeof(*(table))))

static Suite *rare_suite(void)
{
    Suite *s = suite_create("encode_rare");
    TCase *core = tcase_create("Core"), *limits = tcase_create("Limits");

    tcase_add_loop_test(core, test_values, 0, COUNT(values));
    tcase_add_test(core, test_failing);
    tcase_add_test(core, test_notes);
    tcase_add_loop_test(limits, test_changing, 0, COUNT(changing));
    tcase_add_test(limits, test_many_mixed_keys);
    tcase_add_test(limits, test_threads);
    tcase_set_timeout(limits, 60);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    int failed;

    python_start();
    prepare();
    failed = suite_run_here(rare_suite());
    python_stop();
    return failed;
}
