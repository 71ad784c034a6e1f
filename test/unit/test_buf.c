#include <string.h>

#include "base/buf.h"

#include "unit/suite.h"

/* --- Core --- */

START_TEST(a_failure_stays)
{
    struct pyn_buf b;

    pyn_buf_init(&b, 10);
    pyn_buf_bytes(&b, "12345678", 8);
    pyn_buf_bytes(&b, "abc", 3);
    ck_assert(b.failed);
    ck_assert_uint_eq(b.len, 8);
    pyn_buf_u8(&b, 1); /* would fit */
    ck_assert_uint_eq(b.len, 8);
    ck_assert(!pyn_buf_room(&b, 0));
    ck_assert_int_eq(memcmp(b.data, "12345678", 8), 0);
    pyn_buf_truncate(&b, 8);
    ck_assert(!b.failed);
    pyn_buf_bytes(&b, "ab", 2);
    ck_assert(!b.failed);
    ck_assert_uint_eq(b.len, 10);
    pyn_buf_free(&b);
}
END_TEST

START_TEST(appends)
{
    struct pyn_buf b;

    pyn_buf_init(&b, 100000);
    ck_assert_ptr_null(b.data);
    pyn_buf_bytes(&b, NULL, 0);
    ck_assert_ptr_null(b.data);
    pyn_buf_u8(&b, 0xfe);
    pyn_buf_be32(&b, 0x01020304);
    pyn_buf_bytes(&b, "xy", 2);
    ck_assert_uint_eq(b.len, 7);
    ck_assert_int_eq(memcmp(b.data, "\xfe\x01\x02\x03\x04xy", 7), 0);
    pyn_buf_free(&b);
    ck_assert_ptr_null(b.data);
    ck_assert_uint_eq(b.max, 100000);
}
END_TEST

START_TEST(big_endian)
{
    uint8_t at[4];

    pyn_put_be32(at, 0xfedcba98);
    ck_assert_int_eq(memcmp(at, "\xfe\xdc\xba\x98", 4), 0);
    ck_assert_uint_eq(pyn_get_be32(at), 0xfedcba98);
    ck_assert_uint_eq(pyn_get_be16(at), 0xfedc);
}
END_TEST

START_TEST(truncate_and_reset)
{
    struct pyn_buf b;

    pyn_buf_init(&b, 100000);
    for (int i = 0; i < 1000; i++)
        pyn_buf_u8(&b, (uint8_t)i);
    pyn_buf_truncate(&b, 2000);
    ck_assert_uint_eq(b.len, 1000);
    pyn_buf_truncate(&b, 7);
    ck_assert_uint_eq(b.len, 7);
    pyn_buf_reset(&b, 100000);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_uint_ge(b.cap, 1000);
    pyn_buf_reset(&b, 999);
    ck_assert_uint_eq(b.cap, 0);
    ck_assert_ptr_null(b.data);
    pyn_buf_free(&b);
}
END_TEST

/* --- Limits --- */

START_TEST(no_room_beyond_any_maximum)
{
    uint8_t pattern[1101];

    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)i;
    for (size_t max = 0; max < sizeof(pattern); max += max % 128 < 124 ? 3 : 1) {
        struct pyn_buf b;

        pyn_buf_init(&b, max);
        while (!b.failed)
            pyn_buf_u8(&b, pattern[b.len]);
        ck_assert_uint_eq(b.len, max);
        ck_assert_uint_le(b.cap, max);
        ck_assert(max == 0 || memcmp(b.data, pattern, max) == 0);
        pyn_buf_free(&b);
    }
}
END_TEST

START_TEST(sizes_that_wrap)
{
    struct pyn_buf b;

    pyn_buf_init(&b, 1000);
    pyn_buf_bytes(&b, "abc", 3);
    ck_assert(!pyn_buf_room(&b, SIZE_MAX));
    pyn_buf_truncate(&b, 3);
    ck_assert(!pyn_buf_room(&b, SIZE_MAX - 2));
    pyn_buf_truncate(&b, 3);
    ck_assert(!pyn_buf_room(&b, 998));
    pyn_buf_truncate(&b, 3);
    ck_assert(pyn_buf_room(&b, 997));
    ck_assert_uint_eq(b.len, 3);
    ck_assert_uint_eq(b.cap, 1000);
    pyn_buf_free(&b);
}
END_TEST

/* Many small appends cost few allocations. */
START_TEST(growth_is_geometric)
{
    struct pyn_buf b;
    unsigned grown = 0;

    pyn_buf_init(&b, SIZE_MAX);
    for (int i = 0; i < 1000000; i++) {
        size_t before = b.cap;
        pyn_buf_u8(&b, (uint8_t)i);
        grown += b.cap != before;
    }
    ck_assert(!b.failed);
    ck_assert_uint_lt(grown, 20);
    pyn_buf_free(&b);
}
END_TEST

static Suite *buf_suite(void)
{
    Suite *s = suite_create("buf");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, a_failure_stays);
    tcase_add_test(core, appends);
    tcase_add_test(core, big_endian);
    tcase_add_test(core, truncate_and_reset);
    suite_add_tcase(s, core);
    tcase_add_test(limits, no_room_beyond_any_maximum);
    tcase_add_test(limits, sizes_that_wrap);
    tcase_add_test(limits, growth_is_geometric);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    return suite_run(buf_suite());
}
