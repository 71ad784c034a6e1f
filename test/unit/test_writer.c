#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etf/reader.h"
#include "etf/writer.h"
#include "unit/cases.h"
#include "unit/suite.h"
#include "unit/tokens.h"

enum { ROOM = 1 << 20 };

static struct pyn_span span_of(const char *text)
{
    return (struct pyn_span){(const uint8_t *)text, strlen(text)};
}

/* The buffer holds exactly these bytes; it is emptied. */
static void expect(struct pyn_buf *b, const char *what, const char *hex)
{
    uint8_t *bytes;
    size_t len = cases_unhex(hex, &bytes);

    ck_assert_msg(!b->failed, "%s: failed", what);
    ck_assert_msg(b->len == len && (len == 0 || memcmp(b->data, bytes, len) == 0), "%s is not %s", what, hex);
    free(bytes);
    pyn_buf_reset(b, SIZE_MAX);
}

/* --- Core --- */

START_TEST(integers)
{
    static const struct {
        int64_t v;
        const char *hex;
    } table[] = {
        {0, "61 00"},
        {255, "61 ff"},
        {256, "62 00000100"},
        {-1, "62 ffffffff"},
        {INT32_MAX, "62 7fffffff"},
        {INT32_MIN, "62 80000000"},
        {INT64_C(0x80000000), "6e 04 00 00000080"},
        {-INT64_C(0x80000001), "6e 04 01 01000080"},
        {INT64_C(0x100000000), "6e 05 00 0000000001"},
        {INT64_MAX, "6e 08 00 ffffffffffffff7f"},
        {INT64_MIN, "6e 08 01 0000000000000080"},
    };
    struct pyn_buf b;

    pyn_buf_init(&b, ROOM);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        pyn_write_int(&b, table[i].v);
        expect(&b, "integer", table[i].hex);
    }
    pyn_buf_free(&b);
}
END_TEST

START_TEST(integers_come_back)
{
    struct pyn_buf b;

    pyn_buf_init(&b, ROOM);
    for (int shift = 0; shift < 64; shift++) {
        for (int delta = -2; delta <= 2; delta++) {
            int64_t v = (int64_t)((UINT64_C(1) << shift) + (uint64_t)(int64_t)delta);
            struct pyn_reader r;
            int64_t back = 0;

            pyn_write_int(&b, v);
            r = pyn_reader_of((struct pyn_span){b.data, b.len});
            ck_assert(pyn_read_int(&r, &back));
            ck_assert_int_eq(back, v);
            ck_assert_uint_eq(pyn_reader_left(&r), 0);
            pyn_buf_reset(&b, SIZE_MAX);
        }
    }
    pyn_buf_free(&b);
}
END_TEST

START_TEST(bigs)
{
    uint8_t digits[256];
    struct pyn_buf b;

    memset(digits, 0xab, sizeof(digits));
    pyn_buf_init(&b, ROOM);
    pyn_write_big(&b, false, (struct pyn_span){digits, 9});
    expect(&b, "big", "6e 09 00 ab*9");
    pyn_write_big(&b, true, (struct pyn_span){digits, 255});
    expect(&b, "big of 255", "6e ff 01 ab*255");
    pyn_write_big(&b, true, (struct pyn_span){digits, 256});
    expect(&b, "big of 256", "6f 00000100 01 ab*256");
    pyn_buf_free(&b);
}
END_TEST

START_TEST(floats)
{
    struct pyn_buf b;

    pyn_buf_init(&b, ROOM);
    pyn_write_float(&b, 1.5);
    expect(&b, "1.5", "46 3ff8000000000000");
    pyn_write_float(&b, -0.0);
    expect(&b, "-0.0", "46 8000000000000000");
    pyn_write_float(&b, DBL_MAX);
    expect(&b, "DBL_MAX", "46 7fefffffffffffff");
    pyn_buf_free(&b);
}
END_TEST

START_TEST(atoms)
{
    uint8_t name[1024];
    struct pyn_buf b;

    pyn_buf_init(&b, ROOM);
    pyn_write_atom(&b, "ok");
    expect(&b, "ok", "77 02 6f6b");
    pyn_write_atom(&b, "");
    expect(&b, "''", "77 00");
    pyn_write_atom_span(&b, (struct pyn_span){NULL, 0});
    expect(&b, "'' without an address", "77 00");
    memset(name, 'a', sizeof(name));
    pyn_write_atom_span(&b, (struct pyn_span){name, 255});
    expect(&b, "255 letters", "77 ff 61*255");
    for (size_t i = 0; i < 255; i++)
        memcpy(name + i * 2, "é", 2);
    pyn_write_atom_span(&b, (struct pyn_span){name, 256});
    ck_assert(!b.failed);
    ck_assert_uint_eq(b.data[0], 118);
    pyn_buf_reset(&b, SIZE_MAX);
    pyn_write_atom_span(&b, (struct pyn_span){name, 510});
    ck_assert(!b.failed);
    ck_assert_uint_eq(b.len, 3 + 510);
    pyn_buf_free(&b);
}
END_TEST

START_TEST(containers)
{
    struct pyn_buf b;

    pyn_buf_init(&b, ROOM);
    pyn_write_version(&b);
    expect(&b, "version", "83");
    pyn_write_tuple(&b, 0);
    pyn_write_tuple(&b, 255);
    pyn_write_tuple(&b, 256);
    expect(&b, "tuples", "68 00  68 ff  69 00000100");
    pyn_write_nil(&b);
    pyn_write_list(&b, 1);
    pyn_write_map(&b, 0);
    pyn_write_map(&b, 0x01020304);
    expect(&b, "lists and maps", "6a  6c 00000001  74 00000000  74 01020304");
    pyn_write_binary_head(&b, 0x01000000);
    pyn_write_binary(&b, "abc", 3);
    pyn_write_binary(&b, NULL, 0);
    expect(&b, "binaries", "6d 01000000  6d 00000003 616263  6d 00000000");
    pyn_write_raw(&b, span_of("xyz"));
    pyn_write_raw(&b, (struct pyn_span){NULL, 0});
    expect(&b, "raw", "78797a");
    pyn_buf_free(&b);
}
END_TEST

START_TEST(charlists)
{
    static const struct {
        const char *text;
        const char *hex;
    } table[] = {
        {"", "6a"},
        {"abc", "6b 0003 616263"},
        {"é", "6b 0001 e9"},
        {"aÿ", "6b 0002 61ff"},
        {"aĀ", "6c 00000002 61 61 62 00000100 6a"},
        {"日😀", "6c 00000002 62 000065e5 62 0001f600 6a"},
        {"\xff", "6c 00000001 62 0000fffd 6a"},
        {"a\xed\xa0\x80", "6c 00000004 61 61 62 0000fffd 62 0000fffd 62 0000fffd 6a"},
    };
    struct pyn_buf b;

    pyn_buf_init(&b, ROOM);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        pyn_write_charlist(&b, span_of(table[i].text));
        expect(&b, table[i].text, table[i].hex);
    }
    pyn_write_charlist(&b, (struct pyn_span){NULL, 0});
    expect(&b, "no text", "6a");
    pyn_buf_free(&b);
}
END_TEST

/* --- Limits --- */

START_TEST(charlist_too_long_for_a_string)
{
    uint8_t *text = malloc(65536);
    struct pyn_buf b;

    ck_assert_ptr_nonnull(text);
    memset(text, 'a', 65536);
    pyn_buf_init(&b, ROOM);
    pyn_write_charlist(&b, (struct pyn_span){text, 65535});
    ck_assert_uint_eq(b.len, 3 + 65535);
    ck_assert_uint_eq(b.data[0], 107);
    pyn_buf_reset(&b, SIZE_MAX);
    pyn_write_charlist(&b, (struct pyn_span){text, 65536});
    ck_assert_uint_eq(b.len, 5 + 2 * 65536 + 1);
    ck_assert_uint_eq(b.data[0], 108);
    ck_assert_uint_eq(b.data[b.len - 1], 106);
    ck_assert(!b.failed);
    pyn_buf_free(&b);
    free(text);
}
END_TEST

static void too_long_atom(struct pyn_buf *b)
{
    uint8_t name[256];

    memset(name, 'a', sizeof(name));
    pyn_write_atom_span(b, (struct pyn_span){name, sizeof(name)});
}

static void too_long_wide_atom(struct pyn_buf *b)
{
    uint8_t name[1024];

    for (size_t i = 0; i < sizeof(name); i += 4)
        memcpy(name + i, "😀", 4);
    pyn_write_atom_span(b, (struct pyn_span){name, sizeof(name)});
}

static void huge_list(struct pyn_buf *b)
{
    pyn_write_list(b, (size_t)UINT32_MAX + 1);
}

static void huge_tuple(struct pyn_buf *b)
{
    pyn_write_tuple(b, (size_t)UINT32_MAX + 1);
}

static void huge_map(struct pyn_buf *b)
{
    pyn_write_map(b, SIZE_MAX);
}

static void huge_binary(struct pyn_buf *b)
{
    pyn_write_binary_head(b, (size_t)UINT32_MAX + 1);
}

START_TEST(what_the_format_cannot_say_fails)
{
    static void (*const table[])(struct pyn_buf *) = {
        too_long_atom, too_long_wide_atom, huge_list, huge_tuple, huge_map, huge_binary,
    };
    struct pyn_buf b;

    pyn_buf_init(&b, ROOM);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        table[i](&b);
        ck_assert_msg(b.failed && b.len == 0, "%zu", i);
        pyn_write_nil(&b);
        ck_assert_msg(b.failed && b.len == 0, "nothing comes after a failure");
        pyn_buf_truncate(&b, 0);
    }
    pyn_buf_free(&b);
}
END_TEST

static void write_some_of_all(struct pyn_buf *b)
{
    static const uint8_t digits[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

    pyn_write_tuple(b, 9);
    pyn_write_int(b, 7);
    pyn_write_int(b, -7);
    pyn_write_int(b, INT64_MIN);
    pyn_write_big(b, false, (struct pyn_span){digits, sizeof(digits)});
    pyn_write_float(b, 0.1);
    pyn_write_list(b, 1);
    pyn_write_atom(b, "atom");
    pyn_write_nil(b);
    pyn_write_map(b, 1);
    pyn_write_binary(b, "key", 3);
    pyn_write_charlist(b, span_of("value"));
    pyn_write_charlist(b, span_of("größer Ω"));
    pyn_write_nil(b);
}

static void see_nothing(void *ctx, const struct pyn_token *t)
{
    (void)ctx;
    (void)t;
}

/* With every maximum that is too small: the buffer says failed, never holds more, and is whole when it is enough. */
START_TEST(every_maximum)
{
    struct pyn_buf b;
    struct pyn_reader r;
    size_t whole;

    pyn_buf_init(&b, ROOM);
    write_some_of_all(&b);
    whole = b.len;
    ck_assert(!b.failed);
    r = pyn_reader_of((struct pyn_span){b.data, b.len});
    ck_assert_int_eq(walk_term(&r, see_nothing, NULL), PYN_ETF_OK);
    ck_assert_uint_eq(pyn_reader_left(&r), 0);
    pyn_buf_free(&b);
    for (size_t max = 0; max <= whole; max++) {
        pyn_buf_init(&b, max);
        write_some_of_all(&b);
        ck_assert_uint_le(b.len, max);
        ck_assert_int_eq(b.failed, max < whole);
        pyn_buf_free(&b);
    }
}
END_TEST

static Suite *writer_suite(void)
{
    Suite *s = suite_create("writer");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, integers);
    tcase_add_test(core, integers_come_back);
    tcase_add_test(core, bigs);
    tcase_add_test(core, floats);
    tcase_add_test(core, atoms);
    tcase_add_test(core, containers);
    tcase_add_test(core, charlists);
    suite_add_tcase(s, core);
    tcase_add_test(limits, charlist_too_long_for_a_string);
    tcase_add_test(limits, what_the_format_cannot_say_fails);
    tcase_add_test(limits, every_maximum);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    return suite_run(writer_suite());
}
