#include <limits.h>

#include "base/clock.h"

#include "unit/suite.h"

/* --- Core --- */

START_TEST(time_goes_on)
{
    uint64_t start = pyn_now();
    uint64_t last = start;

    while (last - start < PYN_MS) {
        uint64_t now = pyn_now();
        ck_assert_uint_ge(now, last);
        last = now;
    }
}
END_TEST

START_TEST(deadlines)
{
    ck_assert_uint_eq(pyn_deadline_in(5, 0), 5);
    ck_assert_uint_eq(pyn_deadline_in(5, 1), 5 + PYN_MS);
    ck_assert_uint_eq(pyn_deadline_in(0, 30000), 30 * PYN_SECOND);
}
END_TEST

START_TEST(poll_times)
{
    static const struct {
        uint64_t now, deadline;
        int ms;
    } table[] = {
        {5, PYN_NEVER, -1}, {5, 5, 0},          {6, 5, 0},
        {5, 6, 1}, /* rounded up: poll must not come back before the deadline */
        {0, PYN_MS, 1},     {0, PYN_MS + 1, 2}, {PYN_SECOND, 31 * PYN_SECOND, 30000},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        ck_assert_int_eq(pyn_poll_ms(table[i].now, table[i].deadline), table[i].ms);
}
END_TEST

/* --- Limits --- */

START_TEST(what_does_not_fit_is_never)
{
    ck_assert_uint_eq(pyn_deadline_in(5, UINT64_MAX), PYN_NEVER);
    ck_assert_uint_eq(pyn_deadline_in(UINT64_MAX - 1, 1), PYN_NEVER);
    ck_assert_uint_eq(pyn_deadline_in(PYN_NEVER, 0), PYN_NEVER);
    ck_assert_uint_le(pyn_deadline_in(5, UINT64_MAX / PYN_MS), PYN_NEVER);
    ck_assert_uint_ge(pyn_deadline_in(5, UINT64_MAX / PYN_MS), PYN_NEVER - 2 * PYN_MS);
}
END_TEST

START_TEST(long_polls_are_cut)
{
    ck_assert_int_eq(pyn_poll_ms(0, PYN_NEVER - 1), INT_MAX);
    ck_assert_int_eq(pyn_poll_ms(PYN_NEVER - 2, PYN_NEVER - 1), 1);
    ck_assert_int_eq(pyn_poll_ms(0, (uint64_t)INT_MAX * PYN_MS), INT_MAX);
    ck_assert_int_eq(pyn_poll_ms(0, (uint64_t)INT_MAX * PYN_MS + 1), INT_MAX);
}
END_TEST

static Suite *clock_suite(void)
{
    Suite *s = suite_create("clock");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, time_goes_on);
    tcase_add_test(core, deadlines);
    tcase_add_test(core, poll_times);
    suite_add_tcase(s, core);
    tcase_add_test(limits, what_does_not_fit_is_never);
    tcase_add_test(limits, long_polls_are_cut);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    return suite_run(clock_suite());
}
