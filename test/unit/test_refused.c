#include <stdio.h>
#include <string.h>

#include "svc/refused.h"

#include "unit/suite.h"

static struct pyn_span span_of(const char *text)
{
    return (struct pyn_span){(const uint8_t *)text, strlen(text)};
}

static struct pyn_span numbered(char *room, size_t size, int number)
{
    snprintf(room, size, "module_%d", number);
    return span_of(room);
}

START_TEST(empty_set_has_nothing)
{
    struct pyn_refused r;

    pyn_refused_init(&r);
    ck_assert(!pyn_refused_has(&r, span_of("numpy")));
    ck_assert(!pyn_refused_has(&r, span_of("")));
    ck_assert(!pyn_refused_add(&r, span_of(""))); /* no module has that name */
    ck_assert(!pyn_refused_has(&r, span_of("")));
    pyn_refused_free(&r);
}
END_TEST

/* What does not fit is found out anew each time; what is there stays. */
START_TEST(full_set_takes_no_more)
{
    struct pyn_refused r;
    char room[32];

    pyn_refused_init(&r);
    for (int i = 0; i < PYN_REFUSED_MAX; i++)
        ck_assert(pyn_refused_add(&r, numbered(room, sizeof(room), i)));
    ck_assert(!pyn_refused_add(&r, span_of("numpy")));
    ck_assert(!pyn_refused_has(&r, span_of("numpy")));
    for (int i = 0; i < PYN_REFUSED_MAX; i++)
        ck_assert(pyn_refused_has(&r, numbered(room, sizeof(room), i)));
    pyn_refused_free(&r);
}
END_TEST

START_TEST(names_are_whole)
{
    struct pyn_refused r;

    pyn_refused_init(&r);
    ck_assert(pyn_refused_add(&r, span_of("numpy")));
    ck_assert(!pyn_refused_add(&r, span_of("numpy")));
    ck_assert(pyn_refused_has(&r, span_of("numpy")));
    ck_assert(!pyn_refused_has(&r, span_of("nump")));
    ck_assert(!pyn_refused_has(&r, span_of("numpy.linalg")));
    ck_assert(pyn_refused_add(&r, span_of("numpy.linalg")));
    ck_assert(pyn_refused_has(&r, span_of("numpy.linalg")));
    pyn_refused_free(&r);
}
END_TEST

/* The name that it was given may go. */
START_TEST(names_are_copied)
{
    struct pyn_refused r;
    char name[] = "numpy";

    pyn_refused_init(&r);
    ck_assert(pyn_refused_add(&r, span_of(name)));
    name[0] = 'x';
    ck_assert(pyn_refused_has(&r, span_of("numpy")));
    ck_assert(!pyn_refused_has(&r, span_of(name)));
    pyn_refused_free(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("refused");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, empty_set_has_nothing);
    tcase_add_test(limits, full_set_takes_no_more);
    tcase_add_test(core, names_are_whole);
    tcase_add_test(core, names_are_copied);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
