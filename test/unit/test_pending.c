#include <poll.h>

#include "dist/pending.h"

#include "unit/suite.h"

static bool cancelled(const struct pyn_pending *p)
{
    struct pollfd fd = {.fd = p->cancel_fd, .events = POLLIN};

    return poll(&fd, 1, 0) == 1;
}

static struct pyn_pending p;

static void setup(void)
{
    ck_assert_int_eq(pyn_pending_init(&p, "m@host"), 0);
}

static void teardown(void)
{
    pyn_pending_destroy(&p);
}

START_TEST(the_greater_name_wins)
{
    static const struct {
        const char *peer;
        enum pyn_pending_verdict verdict;
        bool gives_up;
    } t[] = {
        {"a@host", PYN_PENDING_NOK, false},
        {"m@hos", PYN_PENDING_NOK, false},
        {"m@hosu", PYN_PENDING_OK_SIMULTANEOUS, true},
        {"z@host", PYN_PENDING_OK_SIMULTANEOUS, true},
    };

    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct pyn_pending_in in = {.link = NULL};
        ck_assert(pyn_pending_out_begin(&p, t[i].peer));
        ck_assert(!cancelled(&p));
        ck_assert_int_eq(pyn_pending_in_begin(&p, &in, t[i].peer), t[i].verdict);
        ck_assert(cancelled(&p) == t[i].gives_up);
        ck_assert_uint_eq(pyn_pending_in_count(&p), t[i].gives_up ? 1 : 0);
        pyn_pending_in_end(&p, &in);
        pyn_pending_out_end(&p);
        ck_assert_uint_eq(pyn_pending_in_count(&p), 0);
    }
}
END_TEST

START_TEST(others_are_no_rivals)
{
    struct pyn_pending_in a = {.link = NULL}, b = {.link = NULL};

    ck_assert(pyn_pending_out_begin(&p, "z@host"));
    ck_assert_int_eq(pyn_pending_in_begin(&p, &a, "a@host"), PYN_PENDING_OK);
    pyn_pending_out_end(&p);
    ck_assert_int_eq(pyn_pending_in_begin(&p, &b, "z@host"), PYN_PENDING_OK);
    ck_assert(!cancelled(&p));
    pyn_pending_in_end(&p, &a);
    pyn_pending_in_end(&p, &b);
}
END_TEST

START_TEST(an_accepted_one_comes_first)
{
    struct pyn_pending_in in = {.link = NULL};

    ck_assert_int_eq(pyn_pending_in_begin(&p, &in, "a@host"), PYN_PENDING_OK);
    ck_assert(!pyn_pending_out_begin(&p, "a@host"));
    ck_assert(pyn_pending_out_begin(&p, "b@host"));
    pyn_pending_out_end(&p);
    pyn_pending_in_end(&p, &in);
    ck_assert(pyn_pending_out_begin(&p, "a@host"));
    pyn_pending_out_end(&p);
}
END_TEST

START_TEST(a_lost_attempt_leaves_nothing)
{
    struct pyn_pending_in in = {.link = NULL}, again = {.link = NULL};

    ck_assert(pyn_pending_out_begin(&p, "z@host"));
    ck_assert_int_eq(pyn_pending_in_begin(&p, &in, "z@host"), PYN_PENDING_OK_SIMULTANEOUS);
    /* The peer gives up and comes again before our own attempt has noticed that it lost. */
    ck_assert_int_eq(pyn_pending_in_begin(&p, &again, "z@host"), PYN_PENDING_OK);
    pyn_pending_out_end(&p);
    pyn_pending_in_end(&p, &in);
    pyn_pending_in_end(&p, &again);
    ck_assert(pyn_pending_out_begin(&p, "z@host"));
    ck_assert(!cancelled(&p));
    pyn_pending_out_end(&p);
}
END_TEST

START_TEST(many_come_and_go_in_any_order)
{
    struct pyn_pending_in in[9] = {{.link = NULL}};

    for (int i = 0; i < 9; i++)
        ck_assert_int_eq(pyn_pending_in_begin(&p, &in[i], "x@host"), PYN_PENDING_OK);
    ck_assert_uint_eq(pyn_pending_in_count(&p), 9);
    for (int i = 0; i < 9; i++) {
        pyn_pending_in_end(&p, &in[i * 4 % 9]);
        pyn_pending_in_end(&p, &in[i * 4 % 9]); /* once more: nothing */
        ck_assert_uint_eq(pyn_pending_in_count(&p), 8 - (unsigned)i);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pending");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(core, the_greater_name_wins);
    tcase_add_test(core, others_are_no_rivals);
    tcase_add_test(core, an_accepted_one_comes_first);
    tcase_add_test(core, a_lost_attempt_leaves_nothing);
    tcase_add_test(limits, many_come_and_go_in_any_order);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
