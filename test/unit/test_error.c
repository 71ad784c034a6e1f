#include <stdlib.h>
#include <string.h>

#include "py/decode.h"
#include "py/error.h"
#include "unit/python.h"
#include "unit/suite.h"

enum { ROUNDS = 100 };

/* What an exception becomes, as Python sees it when it comes back: the message is a list of code points. */

static const struct {
    const char *raise; /* a statement */
    const char *name;
    const char *message;
} cases[] = {
    {"raise Unprintable()", "Unprintable", "<unprintable Unprintable object>"},
    {"raise Leaving()", "Leaving", "<unprintable Leaving object>"},
    {"raise ValueError('a\\udc80')", "ValueError", "a\\udc80"},
    {"raise type('x' * 300, (Exception,), {})('y')", /* 255 characters are left */
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
     "y"},
    {"raise type('\\xc9rror', (Exception,), {})('\\u20ac')", "\xc3\x89rror", "\xe2\x82\xac"},
    {"1 / 0", "ZeroDivisionError", "division by zero"},
    {"raise ValueError", "ValueError", ""},
    {"raise ValueError('h\\xe9')", "ValueError", "h\xc3\xa9"},
    {"raise ValueError(1, 2)", "ValueError", "(1, 2)"},
    {"{}['k']", "KeyError", "'k'"},
    {"import no_such_module", "ModuleNotFoundError", "No module named 'no_such_module'"},
    {"nothing", "NameError", "name 'nothing' is not defined"},
    {"compile('1 +', 'f', 'eval')", "SyntaxError", "invalid syntax (f, line 1)"},
    {"open('/nonexistent/x')", "FileNotFoundError", "[Errno 2] No such file or directory: '/nonexistent/x'"},
    {"raise SystemExit(3)", "SystemExit", "3"},
    {"raise KeyboardInterrupt", "KeyboardInterrupt", ""},
    {"raise erlang.CallbackError('badthing')", "CallbackError", "badthing"},
    {"b'\\xff'.decode()", "UnicodeDecodeError",
     "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"},
};

static void raise(const char *statement)
{
    PyObject *names = PyModule_GetDict(PyImport_AddModule("__main__"));
    PyObject *o = PyRun_String(statement, Py_file_input, names, names);

    ck_assert_msg(!o && PyErr_Occurred(), "%s did not raise", statement);
}

/* The written term, back in Python as a tuple; new. */
static PyObject *written(const struct pyn_out *out)
{
    PyObject *o = pyn_decode_span(python_types(), (struct pyn_span){out->buf.data, out->buf.len});

    ck_assert_msg(o, "%s", o ? "" : python_error());
    return o;
}

/* ''.join(map(chr, list)) in UTF-8; the caller frees. */
static char *text_of(PyObject *list)
{
    PyObject *f = python_eval("lambda l: ''.join(map(chr, l))"), *text = PyObject_CallOneArg(f, list);
    char *copy = strdup(PyUnicode_AsUTF8(text));

    Py_DECREF(f);
    Py_DECREF(text);
    return copy;
}

START_TEST(test_cases)
{
    struct pyn_out out;
    PyObject *reason;
    char *message;

    pyn_out_init(&out, 1 << 20);
    raise(cases[_i].raise);
    pyn_error_write(python_types(), &out, false);
    ck_assert(!PyErr_Occurred());
    ck_assert(!out.buf.failed);
    reason = written(&out);
    ck_assert_int_eq(PyTuple_GET_SIZE(reason), 2);
    ck_assert_str_eq(PyUnicode_AsUTF8(PyTuple_GET_ITEM(reason, 0)), cases[_i].name);
    message = text_of(PyTuple_GET_ITEM(reason, 1));
    ck_assert_str_eq(message, cases[_i].message);
    free(message);
    Py_DECREF(reason);
    pyn_out_free(&out);
}
END_TEST

START_TEST(test_traceback)
{
    struct pyn_out out;
    PyObject *reason;
    const char *text;

    pyn_out_init(&out, 1 << 20);
    python_exec("def inner(): raise ValueError('deep')\n"
                "def outer():\n"
                "    try: inner()\n"
                "    except ValueError as e: raise KeyError('x\\udc80') from e\n");
    raise("outer()");
    pyn_error_write(python_types(), &out, true);
    reason = written(&out);
    ck_assert_int_eq(PyTuple_GET_SIZE(reason), 3);
    text = PyUnicode_AsUTF8(PyTuple_GET_ITEM(reason, 2));
    ck_assert(strncmp(text, "Traceback (most recent call last):\n", 35) == 0);
    ck_assert_ptr_nonnull(strstr(text, "in inner"));
    ck_assert_ptr_nonnull(strstr(text, "ValueError: deep"));
    ck_assert_ptr_nonnull(strstr(text, "KeyError: 'x\\udc80'"));
    Py_DECREF(reason);
    pyn_out_free(&out);
}
END_TEST

START_TEST(test_traceback_that_fails)
{
    struct pyn_out out;
    PyObject *reason;

    pyn_out_init(&out, 1 << 20);
    python_exec("import traceback\nkept = traceback.format_exception\ntraceback.format_exception = None");
    raise("1 / 0");
    pyn_error_write(python_types(), &out, true);
    python_exec("traceback.format_exception = kept");
    reason = written(&out);
    ck_assert_str_eq(PyUnicode_AsUTF8(PyTuple_GET_ITEM(reason, 2)), "(no traceback: formatting it failed)");
    Py_DECREF(reason);
    pyn_out_free(&out);
}
END_TEST

START_TEST(test_long_message)
{
    struct pyn_out out;
    PyObject *reason;

    pyn_out_init(&out, 4 << 20);
    raise("raise ValueError('\\u20ac' * 1000000)");
    pyn_error_write(python_types(), &out, true);
    ck_assert(!out.buf.failed);
    reason = written(&out);
    ck_assert_int_eq(PyList_GET_SIZE(PyTuple_GET_ITEM(reason, 1)), 64 * 1024 / 3); /* no part of a character */
    ck_assert_int_le(PyUnicode_GET_LENGTH(PyTuple_GET_ITEM(reason, 2)), 256 * 1024 / 2);
    Py_DECREF(reason);
    pyn_out_free(&out);
}
END_TEST

START_TEST(test_endless_recursion)
{
    struct pyn_out out;
    PyObject *reason;

    pyn_out_init(&out, 1 << 20);
    python_exec("def again(): again()");
    raise("again()");
    pyn_error_write(python_types(), &out, true);
    reason = written(&out);
    ck_assert_str_eq(PyUnicode_AsUTF8(PyTuple_GET_ITEM(reason, 0)), "RecursionError");
    Py_DECREF(reason);
    pyn_out_free(&out);
}
END_TEST

START_TEST(test_full_output)
{
    struct pyn_out out;

    for (size_t max = 0; max < 40; max++) {
        pyn_out_init(&out, max);
        raise("1 / 0");
        pyn_error_write(python_types(), &out, true);
        ck_assert(out.buf.failed);
        ck_assert(!PyErr_Occurred());
        pyn_out_free(&out);
    }
}
END_TEST

START_TEST(test_without_exception)
{
    struct pyn_out out;
    PyObject *reason;
    char line[64];

    pyn_out_init(&out, 1 << 20);
    pyn_error_write(python_types(), &out, false);
    reason = written(&out);
    ck_assert_str_eq(PyUnicode_AsUTF8(PyTuple_GET_ITEM(reason, 0)), "SystemError");
    Py_DECREF(reason);
    pyn_out_free(&out);
    pyn_error_line(line, sizeof(line));
    ck_assert_str_eq(line, "no exception set");
}
END_TEST

static const struct {
    const char *raise;
    size_t size;
    const char *line;
} lines[] = {
    {"import no_such_module", 200, "ModuleNotFoundError: No module named 'no_such_module'"},
    {"raise ValueError('a\\nb\\tc\\x7fd')", 200, "ValueError: a b c d"},
    {"raise ValueError", 200, "ValueError"},
    {"raise ValueError('')", 200, "ValueError"},
    {"raise Unprintable()", 200, "Unprintable: <unprintable Unprintable object>"},
    {"1 / 0", 1, ""},
    {"1 / 0", 5, "Zero"},
    {"1 / 0", 18, "ZeroDivisionError"},
    {"1 / 0", 20, "ZeroDivisionError"},
    {"1 / 0", 21, "ZeroDivisionError: d"},
    {"raise ValueError('\\u20ac\\u20ac')", 17, "ValueError: \xe2\x82\xac"},
};

START_TEST(test_lines)
{
    char line[200];

    memset(line, '?', sizeof(line));
    raise(lines[_i].raise);
    pyn_error_line(line, lines[_i].size);
    ck_assert(!PyErr_Occurred());
    ck_assert_str_eq(line, lines[_i].line);
    for (size_t i = lines[_i].size; i < sizeof(line); i++)
        ck_assert_int_eq(line[i], '?');
}
END_TEST

START_TEST(test_short_repr)
{
    PyObject *o = python_eval("'x' * 1000"), *bad = python_eval("Unprintable()"), *repr;

    repr = pyn_short_repr(o);
    ck_assert_int_eq(PyUnicode_GET_LENGTH(repr), 103);
    Py_DECREF(repr);
    repr = pyn_short_repr(bad);
    ck_assert_str_eq(PyUnicode_AsUTF8(repr), "<Unprintable>");
    Py_DECREF(repr);
    Py_DECREF(o);
    Py_DECREF(bad);
}
END_TEST

static void write_all(void)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct pyn_out out;

        pyn_out_init(&out, 1 << 20);
        raise(cases[i].raise);
        pyn_error_write(python_types(), &out, true);
        pyn_out_free(&out);
    }
}

/* Blocks that so many rounds left behind. */
static long left_behind(void)
{
    long before = python_blocks();

    for (int i = 0; i < ROUNDS; i++)
        write_all();
    return python_blocks() - before;
}

/* Python's own caches grow now and then, by chance of its hashes; a leak is one every time. */
START_TEST(test_no_leak)
{
    long left = ROUNDS;

    for (int i = 0; i < 5 && left >= ROUNDS; i++)
        left = left_behind();
    ck_assert_msg(left < ROUNDS, "%ld blocks more", left);
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(*(table))))

static Suite *error_suite(void)
{
    Suite *s = suite_create("error");
    TCase *core = tcase_create("Core"), *limits = tcase_create("Limits");

    tcase_add_loop_test(core, test_cases, 0, COUNT(cases));
    tcase_add_loop_test(core, test_lines, 0, COUNT(lines));
    tcase_add_test(core, test_traceback);
    tcase_add_test(core, test_traceback_that_fails);
    tcase_add_test(core, test_without_exception);
    tcase_add_test(core, test_short_repr);
    tcase_add_test(limits, test_long_message);
    tcase_add_test(limits, test_endless_recursion);
    tcase_add_test(limits, test_full_output);
    tcase_add_test(limits, test_no_leak);
    tcase_set_timeout(limits, 60);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    int failed;

    python_start();
    python_exec("class Unprintable(Exception):\n"
                "    def __str__(self): raise RuntimeError('no')\n"
                "    __repr__ = __str__\n"
                "class Leaving(Exception):\n"
                "    def __str__(self): raise SystemExit\n");
    failed = suite_run_here(error_suite());
    python_stop();
    return failed;
}
