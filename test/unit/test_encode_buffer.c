#include <string.h>

#include "py/decode.h"
#include "py/encode.h"
#include "unit/python.h"
#include "unit/suite.h"

enum { MAX = 16 * 1024 * 1024 };

/* repr: of what comes back when it goes to Erlang's format and is read again (atoms come as text). */
struct row {
    const char *value;
    const char *repr;
};

static const struct row bytes[] = {
    {"memoryview(b'\\xff')", "b'\\xff'"},
    {"memoryview(b'')", "''"},
    {"memoryview(bytearray(b'\\xfe\\xff'))", "b'\\xfe\\xff'"},
    {"memoryview(b'abcdef')[::-2]", "'fdb'"},
    {"memoryview(bytes(range(128, 228)) * 1000)[50:100000:50000]", "b'\\xb2\\xb2'"},
    {"memoryview(array.array('d', [0])).cast('B')", "'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'"},
    {"memoryview(b'ab').cast('c')", "'ab'"},
    {"memoryview(b'a').cast('c', ())", "'a'"},
    {"ctypes.c_char(b'a')", "'a'"},
    {"(ctypes.c_char * 2)(b'a', b'b')", "'ab'"},
    {"mmap.mmap(-1, 4)", "'\\x00\\x00\\x00\\x00'"},
};

static const struct row numbers[] = {
    {"array.array('b', [-128, 127])", "[-128, 127]"},
    {"array.array('B', [0, 255])", "[0, 255]"},
    {"array.array('h', [-32768, 32767])", "[-32768, 32767]"},
    {"array.array('H', [65535])", "[65535]"},
    {"array.array('i', [-2**31, 2**31 - 1])", "[-2147483648, 2147483647]"},
    {"array.array('I', [2**32 - 1])", "[4294967295]"},
    {"array.array('l', [-2**63, 2**63 - 1])", "[-9223372036854775808, 9223372036854775807]"},
    {"array.array('q', [-1])", "[-1]"},
    {"array.array('Q', [2**63 - 1, 2**63, 2**64 - 1])",
     "[9223372036854775807, 9223372036854775808, 18446744073709551615]"},
    {"array.array('f', [1.5, -0.0])", "[1.5, -0.0]"},
    {"array.array('d', [1e308, 5e-324])", "[1e+308, 5e-324]"},
    {"array.array('d', [float('nan'), float('inf'), -float('inf')])", "['nan', 'infinity', 'neg_infinity']"},
    {"array.array('f', [float('nan'), -float('inf')])", "['nan', 'neg_infinity']"},
    {"array.array('d')", "[]"},
    {"array.array('u', 'ab')", "['a', 'b']"},
    {"memoryview(array.array('h', [1, 2, 3, 4]))[::-2]", "[4, 2]"},
    {"memoryview(b'\\xff').cast('b')", "[-1]"},
    {"memoryview(b'\\x00\\x01\\x02').cast('?')", "[False, True, True]"},
    {"memoryview(bytes(4)).cast('B', (2, 2))", "[[0, 0], [0, 0]]"},
    {"memoryview(bytes(range(8))).cast('B', (2, 2, 2))", "[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]"},
    {"memoryview(array.array('i', [7])).cast('B').cast('i', ())", "7"},
    {"memoryview(b'a').cast('B', ())", "97"},
    {"memoryview(bytearray(b'\\xff')).cast('B', ())", "255"},
    {"ctypes.c_ubyte(97)", "97"},
    {"memoryview(array.array('q', [1])).cast('B').cast('n')", "[1]"},
    {"(ctypes.c_int * 2)(1, 2)", "[1, 2]"},
    {"(ctypes.c_ubyte * 2)(1, 2)", "[1, 2]"},
    {"(ctypes.c_double * 0)()", "[]"},
    {"((ctypes.c_int * 0) * 2)()", "[[], []]"},
    {"((ctypes.c_int * 2) * 0)()", "[]"},
    {"((ctypes.c_short * 2) * 2)((1, 2), (3, -4))", "[[1, 2], [3, -4]]"},
    {"(ctypes.c_int.__ctype_be__ * 2)(1, -2)", "[1, -2]"},
    {"(ctypes.c_double.__ctype_be__ * 1)(1.5)", "[1.5]"},
    {"memoryview((ctypes.c_uint16.__ctype_be__ * 2)(1, 65535))", "[1, 65535]"},
    {"ctypes.c_int(5)", "5"},
    {"ctypes.c_bool(True)", "True"},
};

static const struct row numpy_values[] = {
    {"numpy.arange(3)", "[0, 1, 2]"},
    {"numpy.array([[1.5, 2], [3, 4]])", "[[1.5, 2.0], [3.0, 4.0]]"},
    {"numpy.zeros((2, 0))", "[[], []]"},
    {"numpy.zeros((0, 2))", "[]"},
    {"numpy.array(5)", "5"},
    {"numpy.array(True)", "True"},
    {"numpy.arange(6).reshape(2, 3).T", "[[0, 3], [1, 4], [2, 5]]"},
    {"numpy.broadcast_to(7, (2, 2))", "[[7, 7], [7, 7]]"},
    {"numpy.array([1, 2], dtype='u1')", "[1, 2]"},
    {"numpy.array([2**64 - 1], dtype='>u8')", "[18446744073709551615]"},
    {"numpy.array([1, -2], dtype='>i4')[::-1]", "[-2, 1]"},
    {"numpy.array([1.5, numpy.nan], dtype='>f8')", "[1.5, 'nan']"},
    {"numpy.array([0.5], dtype='>f2')", "[0.5]"},
    {"numpy.array([1, 65504, numpy.inf, 6e-8], dtype='f2')", "[1.0, 65504.0, 'infinity', 5.960464477539063e-08]"},
    {"numpy.array([0.1], dtype='f4')", "[0.10000000149011612]"},
    {"numpy.array([True, False])", "[True, False]"},
    {"numpy.array(['a', b'b'])", "['a', 'b']"},
    {"numpy.array([b'a\\xff'])", "[b'a\\xff']"},
    {"numpy.array([1j])", "['1j']"},
    {"numpy.array(['2026-01-02', 'NaT'], dtype='M8[D]')", "['2026-01-02', 'NaT']"},
    {"numpy.array([['2026-01-02']], dtype='M8[ns]')", "[['2026-01-02T00:00:00.000000000']]"},
    {"numpy.array('2026', dtype='M8[Y]')", "'2026'"},
    {"numpy.array([5, -1], dtype='m8[s]')", "['5 seconds', '-1 seconds']"},
    {"numpy.array([[1], 'x', None], dtype=object)", "[[1], 'x', None]"},
    {"numpy.array([(1, 2.5, b'x')], dtype=[('a', 'i4'), ('b', '>f8'), ('c', 'S3')])", "[(1, 2.5, 'x')]"},
    {"numpy.array([(1, 2.5)], dtype=[('a', 'i4'), ('b', 'f8')])[0]", "(1, 2.5)"},
    {"numpy.array([1.5], dtype='g')", "[1.5]"},
    {"numpy.ma.array([1, 2], mask=[0, 1])", "[1, None]"},
    {"numpy.matrix([[1, 2]])", "[[1, 2]]"},
    {"memoryview(numpy.arange(4, dtype='f8').reshape(2, 2).T)", "[[0.0, 2.0], [1.0, 3.0]]"},
    {"numpy.arange(3, dtype='u1').tobytes()", "'\\x00\\x01\\x02'"},
    {"numpy.int64(-7)", "-7"},
    {"numpy.uint64(2**64 - 1)", "18446744073709551615"},
    {"numpy.float16(1.5)", "1.5"},
    {"numpy.float32(1.5)", "1.5"},
    {"numpy.float64(1.5)", "1.5"},
    {"numpy.longdouble(1.5)", "1.5"},
    {"numpy.float64('nan')", "'nan'"},
    {"numpy.bool_(True)", "True"},
    {"numpy.str_('x')", "'x'"},
    {"numpy.bytes_(b'\\xff')", "b'\\xff'"},
    {"numpy.datetime64('2026-01-02')", "'2026-01-02'"},
    {"numpy.datetime64('2026-01-02T03:04:05', 'ns')", "'2026-01-02T03:04:05.000000000'"},
    {"numpy.timedelta64(3, 'ns')", "'3 nanoseconds'"},
    {"{numpy.int64(1): numpy.float32(0.5)}", "{1: 0.5}"},
};

static void check_row(const struct row *row)
{
    struct pyn_out out;
    PyObject *back;

    pyn_out_init(&out, MAX);
    ck_assert_msg(python_encode(row->value, &out) == 0, "%s: %s", row->value, PyErr_Occurred() ? python_error() : "");
    back = pyn_decode_span(python_types(), (struct pyn_span){out.buf.data, out.buf.len});
    ck_assert_ptr_nonnull(back);
    ck_assert_msg(strcmp(python_repr(back), row->repr) == 0, "%s: %s", row->value, python_repr(back));
    Py_DECREF(back);
    pyn_out_free(&out);
}

START_TEST(test_bytes)
{
    check_row(&bytes[_i]);
}
END_TEST

START_TEST(test_numbers)
{
    check_row(&numbers[_i]);
}
END_TEST

START_TEST(test_numpy)
{
    check_row(&numpy_values[_i]);
}
END_TEST

/* Refused by a sentence, without the memory that a list of it would take. */
static void check_refused(const char *value, size_t max, const char *sentence)
{
    struct pyn_out out;
    const char *error;

    pyn_out_init(&out, max);
    ck_assert_msg(python_encode(value, &out) != 0, "%s", value);
    error = python_error();
    ck_assert_msg(strstr(error, sentence), "%s: %s", value, error);
    pyn_out_free(&out);
}

START_TEST(test_too_many)
{
    check_refused("array.array('d', bytes(8000))", 4096, "a value of more than 4096 bytes");
    check_refused("array.array('b', bytes(4000))", 4096, "array.array of 4000 elements: more than 4096 bytes");
    check_refused("memoryview(bytes(4000)).cast('b')", 4096, "memoryview of 4000 elements: more than 4096 bytes");
    check_refused("((ctypes.c_int * 0) * 5000)()", 4096, "of 5000 elements: more than 4096 bytes");
    check_refused("[memoryview(bytes(4000)).cast('b', (2, 2000))]", 4096, "bytes at [0]");
}
END_TEST

START_TEST(test_too_many_numpy)
{
    check_refused("numpy.broadcast_to(numpy.int8(1), (10**12,))", MAX, "numpy.ndarray of 1000000000000 elements");
    check_refused("numpy.broadcast_to(numpy.array('x', dtype=object), (10**12,))", MAX, "1000000000000 elements");
    check_refused("numpy.broadcast_to(numpy.datetime64('2026'), (10**12,))", MAX, "1000000000000 elements");
    check_refused("numpy.zeros((10**12, 0), dtype='M8[s]')", MAX, "1000000000000 elements");
    check_refused("numpy.zeros((10**12, 0), dtype=object)", MAX, "1000000000000 elements");
    check_refused("numpy.broadcast_to(numpy.array([1j]), (10**12,))", MAX, "1000000000000 elements");
    check_refused("numpy.lib.stride_tricks.as_strided(numpy.matrix([1]), (10**6, 10**6), (0, 0), subok=True)", MAX,
                  "matrix of 1000000000000 elements");
}
END_TEST

/* As many containers as a term may have, and one more. */
START_TEST(test_depth)
{
    check_refused("functools.reduce(lambda t, _: [t], range(511), memoryview(bytes(4)).cast('B', (2, 2)))", MAX,
                  "nested deeper");
    check_row(&(struct row){"[memoryview(bytes(2)).cast('B', (1, 2))]", "[[[0, 0]]]"});
    /* Each one's tolist() gives the other. */
    python_exec("class Ping(ctypes.c_int):\n"
                "    def tolist(self): return Pong()\n"
                "class Pong(ctypes.c_int):\n"
                "    def tolist(self): return Ping()\n");
    check_refused("Ping()", MAX, "nested deeper than 512 levels");
}
END_TEST

static bool have_numpy(void)
{
    PyObject *o = PyImport_ImportModule("numpy");

    if (!o) {
        PyErr_Clear();
        return false;
    }
    Py_DECREF(o);
    python_exec("import numpy");
    return true;
}

#define COUNT(table) ((int)(sizeof(table) / sizeof(*(table))))

static Suite *buffer_suite(void)
{
    Suite *s = suite_create("encode_buffer");
    TCase *core = tcase_create("Core"), *limits = tcase_create("Limits");

    tcase_add_loop_test(core, test_bytes, 0, COUNT(bytes));
    tcase_add_loop_test(core, test_numbers, 0, COUNT(numbers));
    tcase_add_test(limits, test_too_many);
    tcase_add_test(limits, test_depth);
    if (have_numpy()) {
        tcase_add_loop_test(core, test_numpy, 0, COUNT(numpy_values));
        tcase_add_test(limits, test_too_many_numpy);
    }
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    int failed;

    python_start();
    python_exec("import array, ctypes, functools, mmap");
    failed = suite_run_here(buffer_suite());
    python_stop();
    return failed;
}
