#include <string.h>

#include "svc/streams.h"

#include "unit/suite.h"

static const struct pyn_stream_place here = {.group = 3, .estimate = 17, .context = 9};

static struct pyn_span span_of(const char *text)
{
    return (struct pyn_span){(const uint8_t *)text, strlen(text)};
}

static bool add(struct pyn_streams *t, uint64_t number, uint64_t link_id, const char *pid)
{
    return pyn_streams_add(t, number, &here, link_id, span_of(pid));
}

/* One that nobody has taken. */
static void add_free(struct pyn_streams *t, uint64_t number, uint64_t link_id, const char *pid)
{
    ck_assert(add(t, number, link_id, pid));
    ck_assert(!pyn_streams_give(t, number, PYN_STREAM_LIVES));
}

/* How many are to be closed by the caller; the last one's number goes to *last. */
static unsigned end_all(struct pyn_streams *t, struct pyn_streams_match match, uint64_t *last)
{
    struct pyn_stream_place place = {.group = -1};
    unsigned count = 0;

    while (pyn_streams_end(t, &match, last, &place)) {
        ck_assert_int_eq(place.group, here.group);
        count++;
    }
    return count;
}

START_TEST(what_is_not_there)
{
    struct pyn_streams *t = pyn_streams_new(10);
    struct pyn_stream_place place;
    uint64_t number = 0;

    ck_assert_int_eq(pyn_streams_find(t, 1, &place), PYN_STREAM_UNKNOWN);
    ck_assert_int_eq(pyn_streams_take(t, 1), PYN_STREAM_UNKNOWN);
    ck_assert(!pyn_streams_give(t, 1, PYN_STREAM_LIVES));
    ck_assert(!pyn_streams_give(t, 1, PYN_STREAM_FAILS));
    ck_assert(!pyn_streams_give(t, 1, PYN_STREAM_GONE));
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){.number = 1}, &number), 0);
    ck_assert_uint_eq(pyn_streams_count(t), 0);
    pyn_streams_free(t);
    pyn_streams_free(NULL);
}
END_TEST

START_TEST(a_full_table_takes_no_more)
{
    struct pyn_streams *t = pyn_streams_new(3);

    for (uint64_t i = 1; i <= 3; i++)
        ck_assert(add(t, i, 1, "pid"));
    ck_assert(!add(t, 4, 1, "pid"));
    ck_assert_uint_eq(pyn_streams_count(t), 3);
    ck_assert(!pyn_streams_give(t, 2, PYN_STREAM_GONE));
    ck_assert(add(t, 4, 1, "pid"));
    pyn_streams_free(t);
}
END_TEST

/* It is taken from its beginning on, by one at a time. */
START_TEST(taking_and_giving)
{
    struct pyn_streams *t = pyn_streams_new(10);
    struct pyn_stream_place place = {0};

    ck_assert(add(t, 7, 1, "pid"));
    ck_assert_int_eq(pyn_streams_find(t, 7, &place), PYN_STREAM_BUSY);
    ck_assert_int_eq(place.group, here.group);
    ck_assert_uint_eq(place.estimate, here.estimate);
    ck_assert_int_eq(pyn_streams_take(t, 7), PYN_STREAM_BUSY);
    ck_assert(!pyn_streams_give(t, 7, PYN_STREAM_LIVES));
    ck_assert_int_eq(pyn_streams_find(t, 7, &place), PYN_STREAM_FREE);
    ck_assert_int_eq(pyn_streams_take(t, 7), PYN_STREAM_FREE);
    ck_assert_int_eq(pyn_streams_take(t, 7), PYN_STREAM_BUSY);
    ck_assert(!pyn_streams_give(t, 7, PYN_STREAM_GONE));
    ck_assert_int_eq(pyn_streams_take(t, 7), PYN_STREAM_UNKNOWN);
    ck_assert_uint_eq(pyn_streams_count(t), 0);
    pyn_streams_free(t);
}
END_TEST

/* Numbers that share a bucket are different streams. */
START_TEST(numbers_are_whole)
{
    struct pyn_streams *t = pyn_streams_new(10);
    uint64_t number = 0;

    add_free(t, 5, 1, "pid");
    add_free(t, 5 + 1024, 1, "pid");
    add_free(t, 5 + 2048, 1, "pid");
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){.number = 5 + 1024}, &number), 1);
    ck_assert_uint_eq(number, 5 + 1024);
    ck_assert_int_eq(pyn_streams_take(t, 5), PYN_STREAM_FREE);
    ck_assert_int_eq(pyn_streams_take(t, 5 + 1024), PYN_STREAM_UNKNOWN);
    ck_assert_int_eq(pyn_streams_take(t, 5 + 2048), PYN_STREAM_FREE);
    pyn_streams_free(t);
}
END_TEST

/* What fails is closed by who has taken it; what Python has dropped by nobody. */
START_TEST(ends_of_those_that_are_taken)
{
    struct pyn_streams *t = pyn_streams_new(10);
    uint64_t number = 0;

    for (uint64_t i = 1; i <= 4; i++)
        ck_assert(add(t, i, 1, "pid"));
    ck_assert(pyn_streams_give(t, 1, PYN_STREAM_FAILS));
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){.link_id = 1}, &number), 0);
    ck_assert_int_eq(pyn_streams_take(t, 2), PYN_STREAM_UNKNOWN);
    ck_assert(pyn_streams_give(t, 2, PYN_STREAM_LIVES));
    ck_assert(pyn_streams_give(t, 3, PYN_STREAM_FAILS));
    ck_assert(!pyn_streams_give(t, 4, PYN_STREAM_GONE));
    ck_assert_uint_eq(pyn_streams_count(t), 0);
    pyn_streams_free(t);
}
END_TEST

START_TEST(which_are_to_end)
{
    struct pyn_streams *t = pyn_streams_new(10);
    uint64_t number = 0;

    add_free(t, 1, 1, "a");
    add_free(t, 2, 1, "ab");
    add_free(t, 3, 2, "a");
    add_free(t, 4, 2, "b");
    add_free(t, 5, 3, "b");
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){.pid = span_of("a")}, &number), 2);
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){.pid = span_of("abc")}, &number), 0);
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){.context = 8}, &number), 0);
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){.link_id = 2}, &number), 1);
    ck_assert_uint_eq(number, 4);
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){.number = 9}, &number), 0);
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){.number = 5, .pid = span_of("x")}, &number), 0);
    ck_assert_uint_eq(pyn_streams_count(t), 2);
    ck_assert(add(t, 6, 1, "a"));
    ck_assert_uint_eq(end_all(t, (struct pyn_streams_match){0}, &number), 2);
    ck_assert(pyn_streams_give(t, 6, PYN_STREAM_LIVES));
    ck_assert_uint_eq(pyn_streams_count(t), 0);
    ck_assert(!add(t, 7, 1, "a")); /* the end of all is for good */
    pyn_streams_free(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("streams");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, what_is_not_there);
    tcase_add_test(limits, a_full_table_takes_no_more);
    tcase_add_test(core, taking_and_giving);
    tcase_add_test(core, numbers_are_whole);
    tcase_add_test(core, ends_of_those_that_are_taken);
    tcase_add_test(core, which_are_to_end);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
