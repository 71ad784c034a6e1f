#include <stdlib.h>
#include <string.h>

#include "etf/utf8.h"
#include "unit/cases.h"
#include "unit/suite.h"

static struct pyn_span span_of(const char *text)
{
    return (struct pyn_span){(const uint8_t *)text, strlen(text)};
}

/* The bytes of a code point by the plain rule, surrogates included. */
static size_t encode(uint32_t point, uint8_t *at)
{
    if (point < 0x80) {
        at[0] = (uint8_t)point;
        return 1;
    }
    if (point < 0x800) {
        at[0] = (uint8_t)(0xc0 | point >> 6);
        at[1] = (uint8_t)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        at[0] = (uint8_t)(0xe0 | point >> 12);
        at[1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        at[2] = (uint8_t)(0x80 | (point & 0x3f));
        return 3;
    }
    at[0] = (uint8_t)(0xf0 | point >> 18);
    at[1] = (uint8_t)(0x80 | (point >> 12 & 0x3f));
    at[2] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
    at[3] = (uint8_t)(0x80 | (point & 0x3f));
    return 4;
}

/* --- Core --- */

START_TEST(bad_bytes_are_refused)
{
    static const char *const table[] = {
        "80",          "bf",          "61 80",          "c3",
        "c3 28",       "e2 82",       "e2 28 a1",       "f0 9f 98",
        "f0 28 8c bc", "f0 9f 28 80", "c0 80",          "c1 bf",
        "e0 80 80",    "e0 9f bf",    "f0 80 80 80",    "f0 8f bf bf", /* overlong */
        "ed a0 80",    "ed bf bf",                                     /* surrogates */
        "f4 90 80 80", "f5 80 80 80", "f8 88 80 80 80", "fe",
        "ff", /* above U+10FFFF, never leads */
        "61*7 ff",     "61*8 ff",     "61*15 c3",       "61*64 ed a0 80 61*64",
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint8_t *bytes;
        size_t len = cases_unhex(table[i], &bytes);
        size_t chars = 77;

        ck_assert_msg(!pyn_utf8_check((struct pyn_span){bytes, len}, &chars), "%s", table[i]);
        ck_assert_uint_eq(chars, 77);
        free(bytes);
    }
}
END_TEST

START_TEST(code_points_are_counted)
{
    static const struct {
        const char *text;
        size_t chars;
    } table[] = {
        {"", 0},
        {"a", 1},
        {"abcdefgh", 8},
        {"abcdefghi", 9},
        {"é", 1},
        {"aébcdefgh", 9},
        {"日本語", 3},
        {"😀", 1},
        {"12345678é12345678", 17},
        {"퟿", 1},
        {"\xee\x80\x80", 1},
        {"\xf4\x8f\xbf\xbf", 1},
        {"日a本b語c", 6},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        size_t chars = 77;

        ck_assert_msg(pyn_utf8_check(span_of(table[i].text), &chars), "%s", table[i].text);
        ck_assert_uint_eq(chars, table[i].chars);
        ck_assert(pyn_utf8_check(span_of(table[i].text), NULL));
    }
    ck_assert(pyn_utf8_check((struct pyn_span){NULL, 0}, NULL));
    ck_assert_uint_eq(pyn_utf8_ascii_prefix((struct pyn_span){NULL, 0}), 0);
}
END_TEST

/* One replacement for each longest stretch that could have begun a character. */
START_TEST(bad_stretches)
{
    static const struct {
        const char *hex;
        int32_t points[6];
        size_t count;
    } table[] = {
        {"61 80 62", {'a', -1, 'b'}, 3},
        {"e2 82 61", {-1, 'a'}, 2},
        {"f0 9f 98", {-1}, 1},
        {"f0 9f 98 f0 9f 98 80", {-1, 0x1f600}, 2},
        {"c0 af", {-1, -1}, 2},
        {"ed a0 80", {-1, -1, -1}, 3},
        {"e0 80 80", {-1, -1, -1}, 3},
        {"f4 90 80 80", {-1, -1, -1, -1}, 4},
        {"e6 97 a5 ff", {0x65e5, -1}, 2},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint8_t *bytes;
        size_t len = cases_unhex(table[i].hex, &bytes);
        const uint8_t *p = bytes;
        size_t n = 0;

        for (; p < bytes + len; n++) {
            ck_assert_uint_lt(n, table[i].count);
            ck_assert_int_eq(pyn_utf8_next(&p, bytes + len), table[i].points[n]);
        }
        ck_assert_uint_eq(n, table[i].count);
        free(bytes);
    }
}
END_TEST

/* --- Limits --- */

START_TEST(every_code_point)
{
    for (uint32_t point = 0; point <= 0x110100; point++) {
        bool good = point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff);
        uint8_t bytes[4];
        struct pyn_span s = {bytes, encode(point, bytes)};
        const uint8_t *p = bytes;
        size_t chars = 0;

        if (pyn_utf8_check(s, &chars) != good || (good && chars != 1))
            ck_abort_msg("U+%04X", point);
        if (pyn_utf8_next(&p, bytes + s.len) != (good ? (int32_t)point : PYN_UTF8_BAD))
            ck_abort_msg("U+%04X read", point);
    }
}
END_TEST

/* A byte that is not ASCII, at each place of each short length, at each alignment; the block ends with the text. */
START_TEST(ascii_prefix_everywhere)
{
    for (size_t len = 1; len <= 40; len++) {
        uint8_t *block = malloc(len);

        ck_assert_ptr_nonnull(block);
        memset(block, 'x', len);
        for (size_t start = 0; start < len && start < 8; start++) {
            struct pyn_span s = {block + start, len - start};

            ck_assert_uint_eq(pyn_utf8_ascii_prefix(s), s.len);
            for (size_t at = 0; at < s.len; at++) {
                block[start + at] = 0x80;
                ck_assert_uint_eq(pyn_utf8_ascii_prefix(s), at);
                ck_assert(!pyn_utf8_check(s, NULL));
                block[start + at] = 'x';
            }
        }
        free(block);
    }
}
END_TEST

START_TEST(cut_at_every_byte)
{
    static const char text[] = "aé日😀";
    static const size_t whole[] = {0, 1, 3, 6, 10}; /* lengths that end with a character */

    for (size_t len = 0; len < sizeof(text); len++) {
        uint8_t *copy = cases_exact((const uint8_t *)text, len);
        bool good = false;

        for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
            good |= whole[i] == len;
        ck_assert_int_eq(pyn_utf8_check((struct pyn_span){copy, len}, NULL), good);
        free(copy);
    }
}
END_TEST

static Suite *utf8_suite(void)
{
    Suite *s = suite_create("utf8");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, bad_bytes_are_refused);
    tcase_add_test(core, code_points_are_counted);
    tcase_add_test(core, bad_stretches);
    suite_add_tcase(s, core);
    tcase_set_timeout(limits, 60);
    tcase_add_test(limits, every_code_point);
    tcase_add_test(limits, ascii_prefix_everywhere);
    tcase_add_test(limits, cut_at_every_byte);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    return suite_run(utf8_suite());
}
