#include <stdlib.h>
#include <string.h>

#include "svc/due.h"

#include "unit/suite.h"

enum { MANY = 2000 };

static struct pyn_due due;
static struct pyn_request *all;

static void setup(void)
{
    ck_assert(pyn_due_init(&due, MANY));
    all = calloc(MANY, sizeof(*all));
    for (int i = 0; i < MANY; i++)
        all[i].deadline = (uint64_t)(i * 7919 % MANY) * PYN_MS + 1;
}

static void teardown(void)
{
    pyn_due_free(&due);
    free(all);
}

/* Each stands where it believes to stand, and none before one that it is due after. */
static void check_order(void)
{
    for (unsigned i = 1; i <= due.count; i++) {
        ck_assert_uint_eq(due.at[i]->late.due, i);
        if (i > 1)
            ck_assert_uint_le(due.at[i / 2]->deadline, due.at[i]->deadline);
    }
}

/* --- Limits --- */

START_TEST(empty)
{
    ck_assert_ptr_null(pyn_due_first(&due));
    pyn_due_remove(&due, &all[0]);
    ck_assert_uint_eq(due.count, 0);
}
END_TEST

START_TEST(without_a_deadline)
{
    all[0].deadline = PYN_NEVER;
    pyn_due_add(&due, &all[0]);
    ck_assert_ptr_null(pyn_due_first(&due));
    pyn_due_remove(&due, &all[0]);
    ck_assert_uint_eq(due.count, 0);
}
END_TEST

START_TEST(full)
{
    struct pyn_due small;

    ck_assert(pyn_due_init(&small, 2));
    for (int i = 0; i < 3; i++)
        pyn_due_add(&small, &all[i]);
    ck_assert_uint_eq(small.count, 2);
    ck_assert_uint_eq(all[2].late.due, 0);
    pyn_due_add(&small, &all[0]); /* it is in it */
    ck_assert_uint_eq(small.count, 2);
    pyn_due_free(&small);
}
END_TEST

START_TEST(room_for_none)
{
    struct pyn_due none;

    ck_assert(pyn_due_init(&none, 0));
    pyn_due_add(&none, &all[0]);
    ck_assert_ptr_null(pyn_due_first(&none));
    pyn_due_free(&none);
    pyn_due_free(&none);
}
END_TEST

/* --- Core --- */

START_TEST(the_earliest_first)
{
    uint64_t last = 0;

    for (int i = 0; i < MANY; i++)
        pyn_due_add(&due, &all[i]);
    check_order();
    for (int i = 0; i < MANY; i++) {
        struct pyn_request *r = pyn_due_first(&due);
        ck_assert_uint_le(last, r->deadline);
        last = r->deadline;
        pyn_due_remove(&due, r);
        ck_assert_uint_eq(r->late.due, 0);
    }
    ck_assert_ptr_null(pyn_due_first(&due));
}
END_TEST

START_TEST(from_anywhere)
{
    unsigned seed = 1, in = 0;

    for (int round = 0; round < 20000; round++) {
        struct pyn_request *r = &all[rand_r(&seed) % MANY];
        if (r->late.due) {
            pyn_due_remove(&due, r);
            in--;
        } else {
            r->deadline = (uint64_t)(rand_r(&seed) % 100); /* many are equal */
            pyn_due_add(&due, r);
            in++;
        }
        ck_assert_uint_eq(due.count, in);
        if (round % 97 == 0)
            check_order();
    }
    check_order();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("due");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(limits, empty);
    tcase_add_test(limits, without_a_deadline);
    tcase_add_test(limits, full);
    tcase_add_test(limits, room_for_none);
    tcase_add_test(core, the_earliest_first);
    tcase_add_test(core, from_anywhere);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
