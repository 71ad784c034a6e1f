#include <string.h>

#include "base/out.h"

#include "unit/suite.h"

static void count_release(void *owner)
{
    ++*(int *)owner;
}

static bool splice(struct pyn_out *o, const char *text, int *released)
{
    return pyn_out_splice(o, (struct pyn_span){(const uint8_t *)text, strlen(text)}, count_release, released);
}

/* --- Core --- */

START_TEST(refused_splice_takes_nothing)
{
    struct pyn_out o;
    int released = 0;

    pyn_out_init(&o, 10);
    ck_assert(!splice(&o, "12345678901", &released));
    pyn_buf_bytes(&o.buf, "abcdef", 6);
    ck_assert(!splice(&o, "12345", &released));
    ck_assert(splice(&o, "1234", &released));
    ck_assert(!splice(&o, "1", &released));
    ck_assert_uint_eq(pyn_out_size(&o), 10);
    ck_assert(pyn_out_fits(&o));
    ck_assert_int_eq(released, 0);
    pyn_out_free(&o);
    ck_assert_int_eq(released, 1);
}
END_TEST

START_TEST(a_failed_buffer_takes_no_stretch)
{
    struct pyn_out o;
    int released = 0;

    pyn_out_init(&o, 10);
    pyn_buf_bytes(&o.buf, "12345678901", 11);
    ck_assert(!splice(&o, "a", &released));
    ck_assert(!pyn_out_fits(&o));
    pyn_out_truncate(&o, 0);
    ck_assert(splice(&o, "a", &released));
    pyn_out_free(&o);
    ck_assert_int_eq(released, 1);
}
END_TEST

START_TEST(stretches_know_their_place)
{
    struct pyn_out o;
    int released[2] = {0, 0};

    pyn_out_init(&o, 1000);
    pyn_buf_bytes(&o.buf, "ab", 2);
    ck_assert(splice(&o, "xyz", &released[0]));
    pyn_buf_bytes(&o.buf, "c", 1);
    ck_assert(splice(&o, "w", &released[1]));
    ck_assert_uint_eq(pyn_out_size(&o), 7);
    ck_assert_uint_eq(o.ext_count, 2);
    ck_assert_uint_eq(o.ext[0].at, 2);
    ck_assert_uint_eq(o.ext[0].len, 3);
    ck_assert_uint_eq(o.ext[1].at, 3);
    pyn_out_free(&o);
    ck_assert_int_eq(released[0] + released[1], 2);
    ck_assert_uint_eq(pyn_out_size(&o), 0);
    pyn_out_free(&o); /* freeing twice is freeing once */
    ck_assert_int_eq(released[0] + released[1], 2);
}
END_TEST

START_TEST(truncate_drops_what_came_later)
{
    struct pyn_out o;
    int released[3] = {0, 0, 0};

    pyn_out_init(&o, 1000);
    pyn_buf_bytes(&o.buf, "ab", 2);
    ck_assert(splice(&o, "xyz", &released[0]));
    pyn_buf_bytes(&o.buf, "cd", 2);
    ck_assert(splice(&o, "w", &released[1]));
    ck_assert(splice(&o, "v", &released[2]));
    pyn_out_truncate(&o, 4);
    ck_assert_int_eq(released[0], 0);
    ck_assert_int_eq(released[1], 1);
    ck_assert_int_eq(released[2], 1);
    ck_assert_uint_eq(pyn_out_size(&o), 7);
    pyn_out_truncate(&o, 0);
    ck_assert_int_eq(released[0], 1);
    ck_assert_uint_eq(pyn_out_size(&o), 0);
    pyn_out_free(&o);
    ck_assert_int_eq(released[0] + released[1] + released[2], 3);
}
END_TEST

/* --- Limits --- */

START_TEST(bytes_behind_a_stretch_count)
{
    struct pyn_out o;
    int released = 0;

    pyn_out_init(&o, 10);
    ck_assert(splice(&o, "12345678", &released));
    pyn_buf_bytes(&o.buf, "ab", 2);
    ck_assert(pyn_out_fits(&o));
    pyn_buf_bytes(&o.buf, "c", 1);
    ck_assert(!pyn_out_fits(&o));
    pyn_out_free(&o);
    ck_assert_int_eq(released, 1);
}
END_TEST

START_TEST(as_many_stretches_as_there_is_room_for)
{
    struct pyn_out o;
    int released = 0;

    pyn_out_init(&o, 1000);
    for (unsigned i = 0; i < PYN_EXT_MAX; i++)
        ck_assert(splice(&o, "x", &released));
    ck_assert(!splice(&o, "x", &released));
    ck_assert_uint_eq(pyn_out_size(&o), PYN_EXT_MAX);
    pyn_out_free(&o);
    ck_assert_int_eq(released, (int)PYN_EXT_MAX);
}
END_TEST

START_TEST(sizes_that_wrap)
{
    static const uint8_t byte;
    struct pyn_out o;
    int released = 0;

    pyn_out_init(&o, SIZE_MAX);
    ck_assert(splice(&o, "xyz", &released));
    ck_assert(!pyn_out_splice(&o, (struct pyn_span){&byte, SIZE_MAX}, count_release, &released));
    ck_assert(!pyn_out_splice(&o, (struct pyn_span){&byte, SIZE_MAX - 2}, count_release, &released));
    pyn_out_free(&o);
    ck_assert_int_eq(released, 1);
}
END_TEST

static Suite *out_suite(void)
{
    Suite *s = suite_create("out");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, refused_splice_takes_nothing);
    tcase_add_test(core, a_failed_buffer_takes_no_stretch);
    tcase_add_test(core, stretches_know_their_place);
    tcase_add_test(core, truncate_drops_what_came_later);
    suite_add_tcase(s, core);
    tcase_add_test(limits, bytes_behind_a_stretch_count);
    tcase_add_test(limits, as_many_stretches_as_there_is_room_for);
    tcase_add_test(limits, sizes_that_wrap);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    return suite_run(out_suite());
}
