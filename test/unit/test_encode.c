#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "py/decode.h"
#include "py/encode.h"
#include "py/graveyard.h"
#include "unit/cases.h"
#include "unit/python.h"
#include "unit/suite.h"

enum { MAX = 16 * 1024 * 1024 };

/* The table of the API contract, Python -> Erlang. term: as in test cases' input.hex, without the version byte. */

static const struct {
    const char *value;
    const char *term;
} values[] = {
    /* int */
    {"0", "61 00"},
    {"255", "61 ff"},
    {"256", "62 00000100"},
    {"-1", "62 ffffffff"},
    {"-2**31", "62 80000000"},
    {"2**31 - 1", "62 7fffffff"},
    {"2**31", "6e 04 00 00000080"},
    {"-2**31 - 1", "6e 04 01 01000080"},
    {"2**63 - 1", "6e 08 00 ffffffffffffff7f"},
    {"-2**63", "6e 08 01 0000000000000080"},
    {"2**63", "6e 08 00 0000000000000080"},
    {"2**64 - 1", "6e 08 00 ff*8"},
    {"2**64", "6e 09 00 00*8 01"},
    {"-2**64", "6e 09 01 00*8 01"},
    {"256**255 - 1", "6e ff 00 ff*255"},
    {"-256**255", "6f 00000100 01 00*255 01"},
    {"Odd(2**64)", "6e 09 00 00*8 01"},
    {"Odd(-2**64)", "6e 09 01 00*8 01"},
    {"enum.IntEnum('E', {'A': 7}).A", "61 07"},
    {"enum.IntFlag('F', {'A': 4}).A", "61 04"},
    {"type('I', (int,), {})(300)", "62 0000012c"},
    /* bool, None, float */
    {"True", "77 04 74727565"},
    {"False", "77 05 66616c7365"},
    {"None", "77 04 6e6f6e65"},
    {"1.5", "46 3ff8000000000000"},
    {"-0.0", "46 8000000000000000"},
    {"float('nan')", "77 03 6e616e"},
    {"-float('nan')", "77 03 6e616e"},
    {"float('inf')", "77 08 696e66696e697479"},
    {"-float('inf')", "77 0c 6e65675f696e66696e697479"},
    {"type('F', (float,), {})(1.5)", "46 3ff8000000000000"},
    /* text and bytes */
    {"''", "6d 00000000"},
    {"'hello'", "6d 00000005 68656c6c6f"},
    {"'\\x7f\\x80\\xff'", "6d 00000005 7f c280 c3bf"},
    {"'\\u07ff\\u0800\\uffff'", "6d 00000008 dfbf e0a080 efbfbf"},
    {"'a\\U00010000\\U0010ffff'", "6d 00000009 61 f0908080 f48fbfbf"},
    {"'\\ud7ff\\ue000'", "6d 00000006 ed9fbf ee8080"},
    {"type('S', (str,), {})('h\\xe9')", "6d 00000003 68c3a9"},
    {"type('S', (str,), {})('hi')", "6d 00000002 6869"},
    {"enum.Enum('S', {'A': 'x'}, type=str).A", "6d 00000001 78"},
    {"b''", "6d 00000000"},
    {"b'\\x00\\xff'", "6d 00000002 00ff"},
    {"type('B', (bytes,), {})(b'hi')", "6d 00000002 6869"},
    {"bytearray(b'hi')", "6d 00000002 6869"},
    {"bytearray()", "6d 00000000"},
    {"memoryview(b'hello')", "6d 00000005 68656c6c6f"},
    {"memoryview(b'hello')[1:3]", "6d 00000002 656c"},
    {"memoryview(b'hello')[::2]", "6d 00000003 686c6f"},
    {"memoryview(bytearray(b'hi'))", "6d 00000002 6869"},
    {"memoryview(b'hi').cast('c')", "6d 00000002 6869"},
    {"mmap.mmap(-1, 2)", "6d 00000002 0000"},
    /* atoms */
    {"erlang.Atom('ok')", "77 02 6f6b"},
    {"erlang.Atom('')", "77 00"},
    {"erlang.Atom('true')", "77 04 74727565"},
    {"erlang.Atom('\\u0444' * 255)", "76 01fe d184*0"}, /* compared by its head: see below */
    {"[erlang.Atom(name='a')]", "6c 00000001 77 01 61 6a"},
    /* containers */
    {"[]", "6a"},
    {"[1, [2], 'x']", "6c 00000003 61 01 6c 00000001 61 02 6a 6d 00000001 78 6a"},
    {"[[], ()]", "6c 00000002 6a 68 00 6a"},
    {"type('L', (list,), {})([1])", "6c 00000001 61 01 6a"},
    {"()", "68 00"},
    {"(1, (2,), 'x')", "68 03 61 01 68 01 61 02 6d 00000001 78"},
    {"(0,) * 256", "69 00000100 6100*0"},
    {"collections.namedtuple('P', 'x y')(1, 2)", "68 02 61 01 61 02"},
    {"{}", "74 00000000"},
    {"{'a': 1, 'b': [2]}", "74 00000002 6d 00000001 61 61 01 6d 00000001 62 6c 00000001 61 02 6a"},
    {"{erlang.Atom('a'): 1}", "74 00000001 77 01 61 61 01"},
    {"{(1, 'x'): {}}", "74 00000001 68 02 61 01 6d 00000001 78 74 00000000"},
    {"{'1': 0, b'2': 0, 1: 0, 2.0: 0, None: 0}",
     "74 00000005 6d 00000001 31 6100 6d 00000001 32 6100 6101 6100 46 4000000000000000 6100 77 04 6e6f6e65 6100"},
    {"{1: 2, True: 3}", "74 00000001 61 01 61 03"}, /* one key in Python already */
    {"collections.OrderedDict(a=1)", "74 00000001 6d 00000001 61 61 01"},
    {"collections.Counter('a')", "74 00000001 6d 00000001 61 61 01"},
    {"collections.defaultdict(list, a=[])", "74 00000001 6d 00000001 61 6a"},
};

static const struct {
    const char *value;
    const char *error;
} errors[] = {
    {"'\\ud800'", "ValueError: cannot convert str with lone surrogates"},
    {"[1, 2, {'name': 'x\\udfff\\U00010000'}]", "ValueError: cannot convert str with lone surrogates at [2]['name']"},
    {"({'k': ('\\ud800',)},)", "ValueError: cannot convert str with lone surrogates at [0]['k'][0]"},
    {"{1: {'\\ud800': 1}}", "ValueError: cannot convert str with lone surrogates at [1]{key '\\ud800'}"},
    {"[iter(['\\ud800'])]", "ValueError: cannot convert str with lone surrogates at [0][0]"},
    {"type('S', (str,), {})('\\ud800')", "ValueError: cannot convert S with lone surrogates"},
    {"{b'x': 1, 'x': 2}", "TypeError: cannot convert dict with two keys that become equal in Erlang: 'x'"},
    {"[{'a': {'x': 1, b'x': 2}}]",
     "TypeError: cannot convert dict with two keys that become equal in Erlang: b'x' at [0]['a']"},
    {"{True: 1, (1, 'a'): [], (1, b'a'): 3}",
     "TypeError: cannot convert dict with two keys that become equal in Erlang: (1, b'a')"},
    {"{float('nan'): 1, -float('nan'): 2}",
     "TypeError: cannot convert dict with two keys that become equal in Erlang: nan"},
    {"{float('nan'): 1, float('inf'): 1, erlang.Atom('infinity'): 2}",
     "TypeError: cannot convert dict with two keys that become equal in Erlang: Atom('infinity')"},
    {"{True: 1, erlang.Atom('true'): 2}",
     "TypeError: cannot convert dict with two keys that become equal in Erlang: Atom('true')"},
    {"{datetime.date(2026, 1, 2): 1, '2026-01-02': 2}",
     "TypeError: cannot convert dict with two keys that become equal in Erlang: '2026-01-02'"},
    {"type('O', (), {'__str__': lambda s: 1 / 0})()", "ZeroDivisionError: division by zero"},
    {"[type('O', (), {'__str__': lambda s: '\\ud800'})()]",
     "ValueError: cannot convert str with lone surrogates at [0]"},
    {"(1 // x for x in (1, 0))", "ZeroDivisionError: integer division or modulo by zero"},
    {"[pointers]", "TypeError: cannot convert memoryview of format '&<i' at [0]"},
    {"itertools.count()", "ValueError: cannot convert a value of more than 16777216 bytes at [*]"},
    {"itertools.repeat(bytes(1 << 20))", "ValueError: cannot convert a value of more than 16777216 bytes at [*]"},
    {"['x', bytes(1 << 25)]", "ValueError: cannot convert a value of more than 16777216 bytes at [1]"},
    {"['x', 'y' * (1 << 25)]", "ValueError: cannot convert a value of more than 16777216 bytes at [1]"},
    {"'\\xe9' * (1 << 24)", "ValueError: cannot convert a value of more than 16777216 bytes"},
    {"[1 << 4194240]", "ValueError: cannot convert an integer of more than 4194240 bits at [0]"},
    {"-(1 << (1 << 28))", "ValueError: cannot convert an integer of more than 4194240 bits"},
    {"[bytes(1 << 23), bytes(1 << 23)]", "ValueError: cannot convert a value of more than 16777216 bytes at [1]"},
    {"(lambda l: (l.append(l), l)[1])([])",
     "ValueError: cannot convert list nested deeper than 512 levels at [0][0][0][0][0][0]...[0][0][0]"},
    {"(lambda d: (d.update(d=d), d)[1])({})", "ValueError: cannot convert dict nested deeper than 512 levels at "
                                              "['d']['d']['d']['d']['d']['d']...['d']['d']['d']"},
    {"self_giving()", "ValueError: cannot convert generator nested deeper than 512 levels at "
                      "[0][0][0][0][0][0]...[0][0][0]"},
    {"Tolist()", "ValueError: cannot convert list nested deeper than 512 levels at [0][0][0][0][0][0]...[0][0][0]"},
};

/* The bytes that would go over the wire, spliced stretches included; the caller frees. */
static uint8_t *flatten(const struct pyn_out *out, size_t *n)
{
    uint8_t *bytes = malloc(pyn_out_size(out) + 1), *at = bytes;
    size_t done = 0;

    for (unsigned i = 0; i < out->ext_count; i++) {
        const struct pyn_ext *x = &out->ext[i];

        memcpy(at, out->buf.data + done, x->at - done);
        at += x->at - done;
        done = x->at;
        memcpy(at, x->ptr, x->len);
        at += x->len;
    }
    memcpy(at, out->buf.data + done, out->buf.len - done);
    *n = pyn_out_size(out);
    return bytes;
}

/* `*` in the pattern stands for any digits. */
static bool matches(const char *text, const char *pattern)
{
    for (; *pattern; pattern++) {
        if (*pattern == '*') {
            while (*text >= '0' && *text <= '9')
                text++;
        } else if (*text++ != *pattern) {
            return false;
        }
    }
    return *text == '\0';
}

START_TEST(test_errors)
{
    struct pyn_out out;
    const char *error;

    pyn_out_init(&out, MAX);
    ck_assert_msg(python_encode(errors[_i].value, &out) < 0, "%s was converted", errors[_i].value);
    error = python_error();
    ck_assert_msg(matches(error, errors[_i].error), "%s: '%s' instead of '%s'", errors[_i].value, error,
                  errors[_i].error);
    pyn_out_truncate(&out, 0);
    ck_assert_int_eq(python_encode("[1]", &out), 0); /* the next one is not hurt */
    ck_assert_uint_eq(pyn_out_size(&out), 8);
    pyn_out_free(&out);
    pyn_graveyard_drain(python_types()->graveyard);
}
END_TEST

START_TEST(test_values)
{
    struct pyn_out out;
    const char *star = strstr(values[_i].term, "*0");
    uint8_t *expected;
    size_t n = cases_unhex(values[_i].term, &expected);

    pyn_out_init(&out, MAX);
    ck_assert_msg(python_encode(values[_i].value, &out) == 0, "%s: %s", values[_i].value,
                  PyErr_Occurred() ? python_error() : "");
    if (star) /* only the head is given */
        ck_assert_uint_gt(out.buf.len, n);
    else
        ck_assert_msg(out.buf.len == n, "%s: %zu bytes", values[_i].value, out.buf.len);
    ck_assert_msg(memcmp(out.buf.data, expected, n) == 0, "%s", values[_i].value);
    free(expected);
    pyn_out_free(&out);
}
END_TEST

/* What comes back equals what went, and the BEAM's reader would take it: ours is as strict. */
static const char *const round_trips[] = {
    "[-2**n for n in range(0, 600, 7)] + [2**n for n in range(0, 600, 7)]",
    "[2**n - 1 for n in range(0, 2100, 8)] + [1 - 2**n for n in range(0, 2100, 8)]",
    "3 ** 100000",
    "{'k%d' % i: i for i in range(1000)}",
    "{i: str(i) for i in range(-500, 500)}",
    "{(i, 'x'): [i] for i in range(300)}",
    "{i / 8: {i: (i,)} for i in range(300)}",
    "[float(i) / 7 for i in range(-100, 100)] + [5e-324, 1.7976931348623157e308]",
    "''.join(chr(c) for c in range(1, 0x110000) if not 0xd800 <= c <= 0xdfff)",
    "[chr(c) for c in range(1, 0x3000)]",
    "list(range(100000))",
    "[True, False, None, '', 'true', [], (), {}, b'\\xff']",
    "tuple(range(1000))",
    "'x' * 65535 + '\\u20ac'",
    "['x' * 65536, b'\\xff' * 65536, 'y' * 70000, 'end']",
    "['\\xe9' * 65536, 1]",
    "[b'\\xff' * 65536 for _ in range(100)]",
    "{'x' * 70000: b'\\xff' * 70000}",
    "functools.reduce(lambda x, _: [x], range(511), [])",
    "functools.reduce(lambda x, _: (x, 1), range(511), ())",
    "functools.reduce(lambda x, _: {'k': x}, range(511), {})",
};

START_TEST(test_round_trips)
{
    PyObject *there = python_eval(round_trips[_i]), *back;
    struct pyn_out out;
    uint8_t *bytes;
    size_t n;

    pyn_out_init(&out, MAX);
    ck_assert_msg(pyn_encode(python_types(), there, &out) == 0, "%s: %s", round_trips[_i],
                  PyErr_Occurred() ? python_error() : "");
    bytes = flatten(&out, &n);
    back = pyn_decode_span(python_types(), (struct pyn_span){bytes, n});
    ck_assert_msg(back, "%s: %s", round_trips[_i], back ? "" : python_error());
    ck_assert_msg(PyObject_RichCompareBool(there, back, Py_EQ) == 1, "%s", round_trips[_i]);
    free(bytes);
    Py_DECREF(there);
    Py_DECREF(back);
    pyn_out_free(&out);
    pyn_graveyard_drain(python_types()->graveyard);
}
END_TEST

static const char *const opaque_terms[] = {
    "58 77 06 6140686f7374 0000007b 00000002 00000001",
    "5a 0003 77 06 6140686f7374 00000001 00000001 00000002 00000003",
    "78 77 06 6140686f7374 0000000000000005 00000001",
    "71 77 04 6d617468 77 04 73717274 61 01",
    "4d 00000002 03 ffe0",
    "6c 00000002 61 01 61 02 61 03",
};

START_TEST(test_opaque_come_back)
{
    uint8_t *bytes;
    size_t n = cases_unhex(opaque_terms[_i], &bytes);
    PyObject *o = pyn_decode_span(python_types(), (struct pyn_span){bytes, n}), *in;
    struct pyn_out out;

    pyn_out_init(&out, MAX);
    in = Py_BuildValue("{O[O]}", o, o);
    ck_assert_int_eq(pyn_encode(python_types(), in, &out), 0);
    ck_assert_uint_eq(out.buf.len, 5 + n + 5 + n + 1);
    ck_assert_mem_eq(out.buf.data + 5, bytes, n);
    ck_assert_mem_eq(out.buf.data + 5 + n + 5, bytes, n);
    free(bytes);
    Py_DECREF(o);
    Py_DECREF(in);
    pyn_out_free(&out);
}
END_TEST

START_TEST(test_atom_class)
{
    python_exec(
        "a = erlang.Atom('ok')\n"
        "assert a == 'ok' and hash(a) == hash('ok') and {a: 1}['ok'] == 1\n"
        "assert isinstance(a, str) and repr(a) == \"Atom('ok')\" and type(str(a)) is str\n"
        "assert repr(copy.deepcopy(a)) == \"Atom('ok')\" and repr(pickle.loads(pickle.dumps(a))) == repr(a)\n"
        "erlang.Atom('\\u20ac' * 255)\n"
        "for bad, error in ('x' * 256, ValueError), ('\\ud800', ValueError), (1, TypeError), (b'a', TypeError):\n"
        "    try: erlang.Atom(bad)\n"
        "    except error: pass\n"
        "    else: raise AssertionError(bad)\n"
        "assert issubclass(erlang.CallbackError, RuntimeError)\n"
        "assert erlang.CallbackError('x').reason is None\n"
        "assert issubclass(erlang.CoordinatorDown, ConnectionError)\n");
}
END_TEST

/* --- spliced stretches --- */

static const struct {
    const char *value;
    unsigned stretches;
} splices[] = {
    {"bytes(65535)", 0},
    {"bytes(65536)", 1},
    {"'x' * 65536", 1},
    {"'\\xe9' * 65536", 0},  /* written as UTF-8 straight away */
    {"bytearray(65536)", 0}, /* may change before it is sent */
    {"memoryview(bytes(65536))", 1},
    {"memoryview(bytes(70000))[1:65537]", 1},
    {"memoryview(bytes(140000))[::2]", 0},
    {"memoryview(bytearray(65536)).toreadonly()", 0},
    {"{bytes(65536): bytes(65536)}", 1}, /* keys are compared */
    {"[bytes(65536)] * 100", 64},
    {"type('S', (str,), {})('x' * 65536)", 1},
    {"type('B', (bytes,), {})(65536)", 1},
};

START_TEST(test_splices)
{
    struct pyn_out out;
    long before = python_blocks();
    size_t n;

    pyn_out_init(&out, MAX);
    ck_assert_int_eq(python_encode(splices[_i].value, &out), 0);
    ck_assert_uint_eq(out.ext_count, splices[_i].stretches);
    ck_assert_uint_eq(pyn_out_size(&out), out.buf.len + out.ext_bytes);
    free(flatten(&out, &n)); /* they live on, although nobody else holds them: the address sanitizer would know */
    pyn_out_free(&out);
    pyn_graveyard_drain(python_types()->graveyard);
    ck_assert_int_lt(labs(python_blocks() - before), 40);
}
END_TEST

/* An output that has room for so many bytes fails at each of them, in order and without harm. */
START_TEST(test_every_maximum)
{
    static const char value[] =
        "[1, -1, 2**40, 2**100, 1.5, True, None, 'abc', '\\u20ac', b'x', {'k': (1, {2}), b'j': 0},"
        " erlang.Atom('a'), 1j, bytearray(9), range(3), float('nan')]";
    PyObject *o = python_eval(value);
    struct pyn_out out;
    size_t whole;

    pyn_out_init(&out, MAX);
    ck_assert_int_eq(pyn_encode(python_types(), o, &out), 0);
    whole = out.buf.len;
    pyn_out_free(&out);
    for (size_t max = 0; max <= whole; max++) {
        pyn_out_init(&out, max);
        if (max == whole) {
            ck_assert_int_eq(pyn_encode(python_types(), o, &out), 0);
        } else {
            ck_assert_int_lt(pyn_encode(python_types(), o, &out), 0);
            ck_assert_ptr_nonnull(strstr(python_error(), "ValueError: cannot convert a value of more than "));
        }
        pyn_out_free(&out);
    }
    Py_DECREF(o);
}
END_TEST

/* The maximum counts spliced stretches too. */
START_TEST(test_maximum_of_both)
{
    struct pyn_out out;

    pyn_out_init(&out, 200000);
    ck_assert_int_eq(python_encode("[bytes(100000), bytes(65536), bytes(30000)]", &out), 0);
    pyn_out_truncate(&out, 0);
    ck_assert_int_lt(python_encode("[bytes(100000), bytes(65536), bytes(40000)]", &out), 0);
    ck_assert_str_eq(python_error(), "ValueError: cannot convert a value of more than 200000 bytes");
    pyn_out_free(&out);
    pyn_graveyard_drain(python_types()->graveyard);
}
END_TEST

static void encode_all(void)
{
    for (size_t i = 0; i < sizeof(values) / sizeof(*values) + sizeof(errors) / sizeof(*errors); i++) {
        size_t k = i - sizeof(values) / sizeof(*values);
        bool good = i < sizeof(values) / sizeof(*values);
        struct pyn_out out;

        if (!good && strstr(errors[k].error, "more than"))
            continue; /* these are large */
        pyn_out_init(&out, MAX);
        ck_assert_int_eq(python_encode(good ? values[i].value : errors[k].value, &out), good ? 0 : -1);
        PyErr_Clear();
        pyn_out_free(&out);
    }
}

/* What leaks grows with every round, each time; Python's own caches grow by some hundred now and then. */
START_TEST(test_no_leak)
{
    long least = LONG_MAX;

    encode_all();
    for (int times = 0; times < 5 && least >= 200; times++) {
        long before = python_blocks(), grown;
        for (int i = 0; i < 400; i++)
            encode_all();
        grown = python_blocks() - before;
        least = grown < least ? grown : least;
    }
    ck_assert_msg(least < 200, "at least %ld blocks in 400 rounds", least);
}
END_TEST

static void prepare(void)
{
    python_exec("import array, collections, copy, ctypes, dataclasses, datetime, decimal, enum, functools, itertools\n"
                "import mmap, pickle\n"
                "def self_giving():\n"
                "    yield self_giving()\n"
                "pointers = memoryview((ctypes.POINTER(ctypes.c_int) * 1)())\n"
                "class Tolist(ctypes.c_int):\n"
                "    def tolist(self): return [Tolist()]\n"
                "class Odd(int):\n"
                "    def __abs__(self): return 'x' * 3 if self > 0 else -5\n");
}

#define COUNT(table) ((int)(sizeof(table) / sizeof(*(table))))

static Suite *encode_suite(void)
{
    Suite *s = suite_create("encode");
    TCase *core = tcase_create("Core"), *limits = tcase_create("Limits");

    tcase_add_loop_test(core, test_errors, 0, COUNT(errors));
    tcase_add_loop_test(core, test_values, 0, COUNT(values));
    tcase_add_loop_test(core, test_round_trips, 0, COUNT(round_trips));
    tcase_add_loop_test(core, test_opaque_come_back, 0, COUNT(opaque_terms));
    tcase_add_test(core, test_atom_class);
    tcase_add_loop_test(limits, test_splices, 0, COUNT(splices));
    tcase_add_test(limits, test_every_maximum);
    tcase_add_test(limits, test_maximum_of_both);
    tcase_add_test(limits, test_no_leak);
    tcase_set_timeout(core, 60);
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
    failed = suite_run_here(encode_suite());
    python_stop();
    return failed;
}
