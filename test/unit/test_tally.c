#include <pthread.h>
#include <stdlib.h>

#include "base/tally.h"

#include "unit/suite.h"

enum { MANY = 100000 };

/* Addresses that nobody reads at. */
static const void *block(uintptr_t number)
{
    return (const void *)(number * 16);
}

static bool take(struct pyn_tally *t, uintptr_t number, size_t *size)
{
    unsigned owner;
    return pyn_tally_take(t, block(number), size, &owner);
}

/* --- Limits --- */

START_TEST(nothing_is_known_before_the_start)
{
    struct pyn_tally *t = pyn_tally_new(1000);
    size_t size;

    pyn_tally_add(t, block(1), 100, 0);
    ck_assert(!take(t, 1, &size));
    ck_assert_uint_eq(pyn_tally_total(t).peak, 0);
    pyn_tally_start(t);
    ck_assert(!take(t, 1, &size));
    ck_assert(!take(t, 0, &size)); /* NULL */
    pyn_tally_add(t, NULL, 100, 0);
    ck_assert_uint_eq(pyn_tally_total(t).peak, 0);
    pyn_tally_free(t);
    pyn_tally_free(NULL);
}
END_TEST

START_TEST(too_many_are_not_counted)
{
    struct pyn_tally *t = pyn_tally_new(6400);
    unsigned known = 0;
    size_t size;

    pyn_tally_start(t);
    for (uintptr_t i = 1; i <= MANY; i++)
        pyn_tally_add(t, block(i), 1, 0);
    ck_assert_uint_eq(pyn_tally_total(t).current, 6400);
    for (uintptr_t i = 1; i <= MANY; i++)
        known += take(t, i, &size);
    ck_assert_uint_eq(known, 6400);
    ck_assert_uint_eq(pyn_tally_total(t).current, 0);
    pyn_tally_free(t);
}
END_TEST

START_TEST(owners_beyond_the_last_count_as_it)
{
    struct pyn_tally *t = pyn_tally_new(1000);
    unsigned owner;
    size_t size;

    pyn_tally_start(t);
    pyn_tally_add(t, block(1), 5, PYN_TALLY_OWNERS - 1);
    pyn_tally_add(t, block(2), 6, PYN_TALLY_OWNERS);
    pyn_tally_add(t, block(3), 7, UINT32_MAX);
    ck_assert_uint_eq(pyn_tally_of(t, PYN_TALLY_OWNERS - 1).current, 18);
    ck_assert(pyn_tally_take(t, block(3), &size, &owner));
    ck_assert_uint_eq(owner, PYN_TALLY_OWNERS - 1);
    pyn_tally_free(t);
}
END_TEST

/* --- Core --- */

START_TEST(current_and_peak_by_owner)
{
    struct pyn_tally *t = pyn_tally_new(1000);
    unsigned owner = 9;
    size_t size = 0;

    pyn_tally_start(t);
    pyn_tally_add(t, block(1), 100, 0);
    pyn_tally_add(t, block(2), 50, 3);
    pyn_tally_add(t, block(3), 0, 3);
    ck_assert_uint_eq(pyn_tally_total(t).current, 150);
    ck_assert_uint_eq(pyn_tally_of(t, 0).current, 100);
    ck_assert_uint_eq(pyn_tally_of(t, 3).current, 50);
    ck_assert(pyn_tally_take(t, block(1), &size, &owner));
    ck_assert_uint_eq(size, 100);
    ck_assert_uint_eq(owner, 0);
    ck_assert(!pyn_tally_take(t, block(1), &size, &owner));
    pyn_tally_add(t, block(4), 20, 3);
    ck_assert_uint_eq(pyn_tally_total(t).current, 70);
    ck_assert_uint_eq(pyn_tally_total(t).peak, 150);
    ck_assert_uint_eq(pyn_tally_of(t, 0).peak, 100);
    ck_assert_uint_eq(pyn_tally_of(t, 3).peak, 70);
    /* One whose end was missed. */
    pyn_tally_add(t, block(4), 30, 0);
    ck_assert_uint_eq(pyn_tally_total(t).current, 80);
    ck_assert_uint_eq(pyn_tally_of(t, 3).current, 50);
    pyn_tally_free(t);
}
END_TEST

START_TEST(a_stop_forgets)
{
    struct pyn_tally *t = pyn_tally_new(1000);
    size_t size;

    for (int round = 0; round < 3; round++) {
        pyn_tally_start(t);
        pyn_tally_add(t, block(1), 100, 1);
        pyn_tally_start(t); /* it counts already */
        ck_assert_uint_eq(pyn_tally_of(t, 1).current, 100);
        pyn_tally_stop(t);
        pyn_tally_stop(t);
        ck_assert_uint_eq(pyn_tally_of(t, 1).current, 0);
        ck_assert_uint_eq(pyn_tally_total(t).peak, 0);
        ck_assert(!take(t, 1, &size));
    }
    pyn_tally_free(t);
}
END_TEST

/* Places that are freed in any order leave all others found. */
START_TEST(blocks_come_and_go)
{
    enum { BLOCKS = 3000 };
    struct pyn_tally *t = pyn_tally_new(MANY);
    static bool there[BLOCKS];
    size_t expected = 0, size;
    unsigned random = 1;

    pyn_tally_start(t);
    for (int i = 0; i < MANY; i++) {
        unsigned n = (random = random * 1664525 + 1013904223) >> 8;
        unsigned at = n % BLOCKS;
        ck_assert_int_eq(take(t, at + 1, &size), there[at]);
        if (there[at])
            ck_assert_uint_eq(size, at + 7);
        expected -= there[at] ? at + 7 : 0;
        there[at] = n % 3 != 0;
        if (there[at])
            pyn_tally_add(t, block(at + 1), at + 7, 0);
        expected += there[at] ? at + 7 : 0;
    }
    ck_assert_uint_eq(pyn_tally_total(t).current, expected);
    for (unsigned at = 0; at < BLOCKS; at++)
        ck_assert_int_eq(take(t, at + 1, &size), there[at]);
    pyn_tally_free(t);
}
END_TEST

struct user {
    struct pyn_tally *tally;
    unsigned number;
};

static void *use(void *arg)
{
    const struct user *u = arg;
    size_t size;

    for (uintptr_t i = 0; i < 20000; i++) {
        uintptr_t own = u->number * 1000 + i % 500 + 1;
        if (!take(u->tally, own, &size))
            pyn_tally_add(u->tally, block(own), 8, u->number);
    }
    for (uintptr_t i = 0; i < 500; i++)
        (void)take(u->tally, u->number * 1000 + i + 1, &size);
    return NULL;
}

/* Also while it is started and stopped. */
START_TEST(threads_at_once)
{
    struct pyn_tally *t = pyn_tally_new(MANY);
    struct user users[4];
    pthread_t threads[4];

    pyn_tally_start(t);
    for (unsigned i = 0; i < 4; i++) {
        users[i] = (struct user){t, i};
        pthread_create(&threads[i], NULL, use, &users[i]);
    }
    for (int i = 0; _i == 1 && i < 50; i++) {
        pyn_tally_stop(t);
        pyn_tally_start(t);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(pyn_tally_total(t).current, 0);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(pyn_tally_of(t, i).current, 0);
    pyn_tally_free(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tally");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, nothing_is_known_before_the_start);
    tcase_add_test(limits, too_many_are_not_counted);
    tcase_add_test(limits, owners_beyond_the_last_count_as_it);
    tcase_add_test(core, current_and_peak_by_owner);
    tcase_add_test(core, a_stop_forgets);
    tcase_add_test(core, blocks_come_and_go);
    tcase_add_loop_test(core, threads_at_once, 0, 2);
    tcase_set_timeout(core, 60);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
