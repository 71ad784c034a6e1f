
#include "dist/loglimit.h"

#include "unit/suite.h"

START_TEST(so_many_lines_in_a_window)
{
    struct pyn_loglimit l;
    unsigned dropped = 99;

    pyn_loglimit_init(&l, 3, 1000);
    for (int i = 0; i < 3; i++) {
        ck_assert(pyn_loglimit_take(&l, 5000 + i, &dropped));
        ck_assert_uint_eq(dropped, 0);
    }
    for (int i = 0; i < 7; i++)
        ck_assert(!pyn_loglimit_take(&l, 5999, &dropped));
    ck_assert(pyn_loglimit_take(&l, 6000, &dropped));
    ck_assert_uint_eq(dropped, 7);
    ck_assert(pyn_loglimit_take(&l, 6000, &dropped));
    ck_assert_uint_eq(dropped, 0);
    pyn_loglimit_destroy(&l);
}
END_TEST

START_TEST(the_count_is_told_once)
{
    struct pyn_loglimit l;
    unsigned dropped;

    pyn_loglimit_init(&l, 1, 1000);
    ck_assert_uint_eq(pyn_loglimit_flush(&l, 0), 0);
    ck_assert(pyn_loglimit_take(&l, 1, &dropped));
    ck_assert(!pyn_loglimit_take(&l, 2, &dropped));
    ck_assert_uint_eq(pyn_loglimit_flush(&l, 3), 0); /* the window is not over */
    ck_assert_uint_eq(pyn_loglimit_flush(&l, 1001), 1);
    ck_assert_uint_eq(pyn_loglimit_flush(&l, 1001), 0);
    ck_assert(pyn_loglimit_take(&l, 1002, &dropped));
    ck_assert_uint_eq(dropped, 0);
    pyn_loglimit_destroy(&l);
}
END_TEST

START_TEST(lost_lines_count_too)
{
    struct pyn_loglimit l;
    unsigned dropped;

    pyn_loglimit_init(&l, 1, 1000);
    ck_assert(pyn_loglimit_take(&l, 1, &dropped));
    ck_assert(!pyn_loglimit_take(&l, 2, &dropped));
    pyn_loglimit_lost(&l, 3);
    ck_assert(pyn_loglimit_take(&l, 1001, &dropped));
    ck_assert_uint_eq(dropped, 4);
    pyn_loglimit_destroy(&l);
}
END_TEST

START_TEST(no_lines_at_all)
{
    struct pyn_loglimit l;
    unsigned dropped;

    pyn_loglimit_init(&l, 0, 1000);
    ck_assert(!pyn_loglimit_take(&l, 1, &dropped));
    ck_assert(!pyn_loglimit_take(&l, 5000, &dropped));
    ck_assert_uint_eq(pyn_loglimit_flush(&l, 9000), 2);
    pyn_loglimit_destroy(&l);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loglimit");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, so_many_lines_in_a_window);
    tcase_add_test(core, the_count_is_told_once);
    tcase_add_test(core, lost_lines_count_too);
    tcase_add_test(limits, no_lines_at_all);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
