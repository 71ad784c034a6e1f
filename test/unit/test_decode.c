#include <limits.h>
#include <stdlib.h>

#include "py/decode.h"
#include "unit/cases.h"
#include "unit/python.h"
#include "unit/suite.h"

/* The table of the API contract, Erlang -> Python. term: as in test cases' input.hex, without the version byte. */

static const struct {
    const char *term;
    const char *repr;
} values[] = {
    /* integers */
    {"61 00", "0"},
    {"61 ff", "255"},
    {"62 00000100", "256"},
    {"62 ffffffff", "-1"},
    {"62 80000000", "-2147483648"},
    {"6e 08 00 ffffffffffffff7f", "9223372036854775807"},
    {"6e 08 01 0000000000000080", "-9223372036854775808"},
    {"6e 08 00 ffffffffffffffff", "18446744073709551615"},
    {"6e 09 00 00*8 01", "18446744073709551616"},
    {"6e 09 01 00*8 01", "-18446744073709551616"},
    {"6e 0a 01 01 00*9", "-1"},
    {"6f 00000009 00 00*8 01", "18446744073709551616"},
    {"6e 00 00", "0"},
    /* floats */
    {"46 3ff8000000000000", "1.5"},
    {"46 8000000000000000", "-0.0"},
    /* binaries */
    {"6d 00000000", "''"},
    {"6d 00000001 61", "'a'"},
    {"6d 00000005 68656c6c6f", "'hello'"},
    {"6d 00000003 e282ac", "'\xe2\x82\xac'"},
    {"6d 00000004 f09f9880", "'\xf0\x9f\x98\x80'"},
    {"6d 00000001 ff", "b'\\xff'"},
    {"6d 00000003 eda080", "b'\\xed\\xa0\\x80'"}, /* a surrogate is no UTF-8 */
    {"6d 00000002 c080", "b'\\xc0\\x80'"},        /* nor is an overlong form */
    {"6d 00000003 6162ff", "b'ab\\xff'"},
    {"68 02 77 05 6279746573 6d 00000002 6869", "b'hi'"},
    {"68 02 77 05 6279746573 6d 00000000", "b''"},
    {"68 02 76 0005 6279746573 6d 00000002 6869", "b'hi'"},
    {"68 02 77 05 6279746573 61 01", "('bytes', 1)"},
    {"68 02 6d 00000005 6279746573 6d 00000002 6869", "('bytes', 'hi')"},
    {"68 03 77 05 6279746573 6d 00000001 69 61 01", "('bytes', 'i', 1)"},
    /* atoms */
    {"77 04 74727565", "True"},
    {"77 05 66616c7365", "False"},
    {"77 09 756e646566696e6564", "None"},
    {"77 03 6e696c", "None"},
    {"77 04 6e6f6e65", "None"},
    {"73 04 74727565", "True"},
    {"64 0004 6e6f6e65", "None"},
    {"77 02 6f6b", "'ok'"},
    {"77 00", "''"},
    {"77 04 54727565", "'True'"},
    {"77 03 6e756c", "'nul'"},
    {"77 04 d184d183", "'\xd1\x84\xd1\x83'"},
    {"76 0003 e282ac", "'\xe2\x82\xac'"},
    {"73 02 e961", "'\xc3\xa9"
                   "a'"}, /* Latin-1 */
    {"64 0001 fc", "'\xc3\xbc'"},
    {"77 28 61*40", "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"},
    /* containers */
    {"6a", "[]"},
    {"6b 0003 616263", "[97, 98, 99]"},
    {"6c 00000001 62 00000400 6a", "[1024]"},
    {"6c 00000002 6c 00000001 61 01 6a 6a 6a", "[[1], []]"},
    {"6c 00000001 61 01 6b 0002 0203", "[1, 2, 3]"}, /* a list in two parts */
    {"6c 00000001 61 01 6c 00000001 61 02 6a", "[1, 2]"},
    {"68 00", "()"},
    {"68 01 61 01", "(1,)"},
    {"68 02 77 02 6f6b 61 01", "('ok', 1)"},
    {"69 00000002 61 01 61 02", "(1, 2)"},
    {"74 00000000", "{}"},
    {"74 00000002 77 01 61 61 01 6d 00000001 62 6a", "{'a': 1, 'b': []}"},
    {"74 00000001 68 01 61 01 61 02", "{(1,): 2}"},
    {"74 00000001 6d 00000001 ff 61 02", "{b'\\xff': 2}"},
    {"74 00000001 58 77 06 614068 6f7374 0000007b 00000000 00000001 61 02", "{<erlang.Pid a@host 123.0>: 2}"},
    /* what Python cannot hold */
    {"58 77 06 6140686f7374 0000007b 00000002 00000001", "<erlang.Pid a@host 123.2>"},
    {"67 64 0006 6140686f7374 0000007b 00000000 01", "<erlang.Pid a@host 123.0>"},
    {"5a 0003 77 06 6140686f7374 00000001 00000001 00000002 00000003", "<erlang.Reference a@host 3.2.1>"},
    {"72 0001 64 0006 6140686f7374 01 00000009", "<erlang.Reference a@host 9>"},
    {"65 64 0006 6140686f7374 00000009 01", "<erlang.Reference a@host 9>"},
    {"78 77 06 6140686f7374 0000000000000005 00000001", "<erlang.Port a@host 5>"},
    {"59 77 06 6140686f7374 00000005 00000001", "<erlang.Port a@host 5>"},
    {"66 64 0006 6140686f7374 00000005 01", "<erlang.Port a@host 5>"},
    {"71 77 04 6d617468 77 04 73717274 61 01", "<erlang.Function math:sqrt/1>"},
    {"70 00000034 02 00*16 00000007 00000000 77 01 6d 61 07 61 63 58 77 01 61 00000001 00000000 00000001",
     "<erlang.Function m.7.99/2>"},
    {"4d 00000002 03 ffe0", "<erlang.Bitstring of 11 bits>"},
    {"6c 00000002 61 01 61 02 61 03", "<erlang.ImproperList of 2 elements and a tail>"},
    {"6c 00000001 77 05 616c696173 5a 0001 77 01 61 00000001 00000001",
     "<erlang.ImproperList of 1 elements and a tail>"},
};

static const struct {
    const char *term;
    const char *error;
} errors[] = {
    {"", "ValueError: malformed Erlang term: the bytes end inside the term"},
    {"61", "ValueError: malformed Erlang term: the bytes end inside the term"},
    {"00", "ValueError: malformed Erlang term: unknown tag"},
    {"61 01 61 01", "ValueError: malformed Erlang term: 2 bytes behind its end"},
    {"6c 00000002 61 01", "ValueError: malformed Erlang term: a count that the bytes cannot hold"},
    {"6c 00000002 61 01 61", "ValueError: malformed Erlang term: the bytes end inside the term"},
    {"6c 00000001 61 01 61", "ValueError: malformed Erlang term: the bytes end inside the term"},
    {"6c ffffffff 61 01 6a", "ValueError: malformed Erlang term: a count that the bytes cannot hold"},
    {"68 02 61 01 00", "ValueError: malformed Erlang term: unknown tag"},
    {"68 02 00 61", "ValueError: malformed Erlang term: unknown tag"},
    {"68 03 61 01 61 01 00", "ValueError: malformed Erlang term: unknown tag"},
    {"74 00000001 61 01 00", "ValueError: malformed Erlang term: unknown tag"},
    {"74 00000001 00 61 01", "ValueError: malformed Erlang term: unknown tag"},
    {"46 7ff8000000000000", "ValueError: malformed Erlang term: malformed value"},
    {"74 00000001 6b 0002 0102 61 01", "TypeError: map key [1, 2] cannot be a key in Python: unhashable type: 'list'"},
    {"74 00000001 74 00000000 61 01", "TypeError: map key {} cannot be a key in Python: unhashable type: 'dict'"},
    {"74 00000001 68 01 6a 61 01", "TypeError: map key ([],) cannot be a key in Python: unhashable type: 'list'"},
    {"74 00000002 61 01 61 01 46 3ff0000000000000 61 02", "TypeError: two keys of a map become equal in Python: 1.0"},
    {"74 00000002 61 01 61 01 77 04 74727565 61 02", "TypeError: two keys of a map become equal in Python: True"},
    {"74 00000002 77 01 61 61 01 6d 00000001 61 61 02", "TypeError: two keys of a map become equal in Python: 'a'"},
    {"74 00000002 77 03 6e696c 61 01 77 04 6e6f6e65 61 02",
     "TypeError: two keys of a map become equal in Python: None"},
    {"6c 00000001 74 00000002 6d 000000c8 61*200 61 01 77 c8 61*200 61 02 6a",
     "TypeError: two keys of a map become equal in Python: "
     "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa... at [0]"},
    {"6c 00000001 68 02 61 01 74 00000001 6d 00000001 6b 74 00000001 6a 61 01 6a",
     "TypeError: map key [] cannot be a key in Python: unhashable type: 'list' at [0][1]['k']"},
    {"68 03 61 01 61 01 74 00000001 74 00000001 6a 61 01 61 02",
     "TypeError: map key [] cannot be a key in Python: unhashable type: 'list' at [2]{key}"},
};

static PyObject *decode(const char *hex)
{
    uint8_t *bytes;
    size_t n = cases_unhex(hex, &bytes);
    PyObject *o = pyn_decode_span(python_types(), (struct pyn_span){bytes, n});

    free(bytes);
    return o;
}

START_TEST(test_errors)
{
    PyObject *o = decode(errors[_i].term);

    ck_assert_msg(!o, "%s decoded to %s", errors[_i].term, o ? python_repr(o) : "");
    ck_assert_str_eq(python_error(), errors[_i].error);
}
END_TEST

START_TEST(test_values)
{
    PyObject *o = decode(values[_i].term);

    ck_assert_msg(o, "%s: %s", values[_i].term, o ? "" : python_error());
    ck_assert_str_eq(python_repr(o), values[_i].repr);
    Py_DECREF(o);
}
END_TEST

START_TEST(test_cursor_moves_behind)
{
    const uint8_t two[] = {97, 1, 106};
    struct pyn_reader r = {two, two + sizeof(two)};
    PyObject *first = pyn_decode(python_types(), &r), *second;

    ck_assert_ptr_eq(r.pos, two + 2);
    second = pyn_decode(python_types(), &r);
    ck_assert_ptr_eq(r.pos, r.end);
    ck_assert_str_eq(python_repr(first), "1");
    ck_assert_str_eq(python_repr(second), "[]");
    Py_DECREF(first);
    Py_DECREF(second);
}
END_TEST

START_TEST(test_truncated_everywhere)
{
    uint8_t *bytes;
    size_t n = cases_unhex(values[_i].term, &bytes);

    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *part = cases_exact(bytes, cut);

        ck_assert(!pyn_decode_span(python_types(), (struct pyn_span){part, cut}));
        ck_assert(strncmp(python_error(), "ValueError: malformed", 21) == 0);
        free(part);
    }
    free(bytes);
}
END_TEST

/* depth lists (or tuples, or maps) in each other, around nil. */
static PyObject *decode_nested(const char *head, size_t head_len, const char *tail, size_t tail_len, size_t depth)
{
    size_t n = depth * (head_len + tail_len) + 1;
    uint8_t *bytes = malloc(n), *at = bytes;
    PyObject *o;

    for (size_t i = 0; i < depth; i++, at += head_len)
        memcpy(at, head, head_len);
    *at++ = 106;
    for (size_t i = 0; i < depth; i++, at += tail_len)
        memcpy(at, tail, tail_len);
    o = pyn_decode_span(python_types(), (struct pyn_span){bytes, n});
    free(bytes);
    return o;
}

static const struct {
    const char *head;
    size_t head_len;
    const char *tail;
    size_t tail_len;
} nests[] = {
    {"\x6c\0\0\0\1", 5, "\x6a", 1},   /* [[...]] */
    {"\x68\1", 2, "", 0},             /* {{...}} */
    {"\x68\2\x61\1", 4, "", 0},       /* {1, {1, ...}} */
    {"\x68\2", 2, "\x61\1", 2},       /* {{..., 1}, 1} */
    {"\x74\0\0\0\1\x61\1", 7, "", 0}, /* #{1 => #{1 => ...}} */
    {"\x6c\0\0\0\1\x61\1", 7, "", 0}, /* [1 | [1 | ...]] */
};

START_TEST(test_depth)
{
    PyObject *o = decode_nested(nests[_i].head, nests[_i].head_len, nests[_i].tail, nests[_i].tail_len,
                                PYN_ETF_MAX_DEPTH - 1);

    ck_assert_msg(o, "%s", o ? "" : python_error());
    Py_DECREF(o);
    o = decode_nested(nests[_i].head, nests[_i].head_len, nests[_i].tail, nests[_i].tail_len, PYN_ETF_MAX_DEPTH + 1);
    ck_assert_ptr_null(o);
    ck_assert_str_eq(python_error(), "ValueError: Erlang term nested deeper than 512 levels");
    o = decode_nested(nests[_i].head, nests[_i].head_len, nests[_i].tail, nests[_i].tail_len, 100000);
    ck_assert_ptr_null(o);
    ck_assert_str_eq(python_error(), "ValueError: Erlang term nested deeper than 512 levels");
}
END_TEST

START_TEST(test_huge_integer)
{
    enum { DIGITS = 100000 };
    uint8_t *bytes = malloc(6 + DIGITS);
    PyObject *o, *expected = python_eval("-(256**100000 - 1)");

    memcpy(bytes, "\x6f\x00\x01\x86\xa0\x01", 6);
    memset(bytes + 6, 0xff, DIGITS);
    o = pyn_decode_span(python_types(), (struct pyn_span){bytes, 6 + DIGITS});
    ck_assert_int_eq(PyObject_RichCompareBool(o, expected, Py_EQ), 1);
    Py_DECREF(o);
    Py_DECREF(expected);
    free(bytes);
}
END_TEST

/* Names are cached by hash: none may ever be taken for another. */
START_TEST(test_many_names)
{
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 5000; i++) {
            char term[32], expected[32];
            int n = snprintf(term + 2, sizeof(term) - 2, "name%u", i);
            PyObject *o;

            term[0] = 119;
            term[1] = (char)n;
            o = pyn_decode_span(python_types(), (struct pyn_span){(uint8_t *)term, (size_t)n + 2});
            snprintf(expected, sizeof(expected), "'name%u'", i);
            ck_assert_str_eq(python_repr(o), expected);
            Py_DECREF(o);
        }
    }
}
END_TEST

START_TEST(test_opaque_objects)
{
    PyObject *a = decode("58 77 06 6140686f7374 0000007b 00000002 00000001");
    PyObject *b = decode("58 77 06 6140686f7374 0000007b 00000002 00000001");
    PyObject *other = decode("58 77 06 6140686f7374 0000007c 00000002 00000001");
    PyObject *latin1 = decode("67 64 0003 e94068 0000007b 00000000 01");
    PyObject *main = PyImport_AddModule("__main__");

    PyObject_SetAttrString(main, "a", a);
    PyObject_SetAttrString(main, "b", b);
    PyObject_SetAttrString(main, "other", other);
    PyObject_SetAttrString(main, "latin1", latin1);
    python_exec("import copy, pickle\n"
                "assert a == b and not a != b and hash(a) == hash(b) and a is not b\n"
                "assert a != other and len({a, b, other}) == 2\n"
                "assert a != 'x' and a != None\n"
                "assert type(a) is erlang.Pid and str(a) == repr(a) == f'{a}'\n"
                "assert a.node == 'a@host' and latin1.node == '\\xe9@h'\n"
                "assert copy.copy(a) is a and copy.deepcopy([a])[0] is a\n"
                "def refused(f, *args, error=TypeError):\n"
                "    try: f(*args)\n"
                "    except error as e: return str(e)\n"
                "    raise AssertionError(f)\n"
                "assert 'Pid' in refused(erlang.Pid)\n"
                "assert 'Pid' in refused(erlang.Pid, b'x')\n"
                "refused(object.__new__, erlang.Pid)\n"
                "assert 'pickle' in refused(pickle.dumps, a)\n"
                "refused(setattr, erlang.Pid, 'x', 1)\n"
                "refused(lambda: a < b)\n"
                "refused(setattr, a, 'x', 1, error=AttributeError)\n"
                "refused(type, 'P', (erlang.Pid,), {})\n");
    Py_DECREF(a);
    Py_DECREF(b);
    Py_DECREF(other);
    Py_DECREF(latin1);
    python_exec("del a, b, other, latin1");
}
END_TEST

static void decode_all(void)
{
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        PyObject *o = decode(values[i].term);

        ck_assert_ptr_nonnull(o);
        Py_DECREF(o);
    }
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        ck_assert_ptr_null(decode(errors[i].term));
        PyErr_Clear();
    }
}

/* What Python keeps for itself may grow once, at any time: a leak grows in each of three rounds. */
START_TEST(test_no_leak)
{
    long before, after = 0, least = LONG_MAX;

    decode_all();
    for (int round = 0; round < 3; round++) {
        before = python_blocks();
        for (int i = 0; i < 200; i++)
            decode_all();
        after = python_blocks();
        least = after - before < least ? after - before : least;
    }
    ck_assert_msg(least < 50, "%ld blocks more in each round, now %ld", least, after);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("decode");
    TCase *core = tcase_create("Core"), *limits = tcase_create("Limits");
    int failed;

    tcase_add_loop_test(core, test_errors, 0, sizeof(errors) / sizeof(*errors));
    tcase_add_loop_test(core, test_values, 0, sizeof(values) / sizeof(*values));
    tcase_add_test(core, test_cursor_moves_behind);
    tcase_add_test(core, test_opaque_objects);
    tcase_add_loop_test(limits, test_truncated_everywhere, 0, sizeof(values) / sizeof(*values));
    tcase_add_loop_test(limits, test_depth, 0, sizeof(nests) / sizeof(*nests));
    tcase_add_test(limits, test_huge_integer);
    tcase_add_test(limits, test_many_names);
    tcase_add_test(limits, test_no_leak);
    tcase_set_timeout(limits, 60);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    python_start();
    failed = suite_run_here(s);
    python_stop();
    return failed;
}
