#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "svc/pins.h"

#include "unit/suite.h"

static struct pyn_span span_of(const char *text)
{
    return (struct pyn_span){(const uint8_t *)text, strlen(text)};
}

/* A key that no other number has. */
static struct pyn_span numbered(char *room, size_t size, int number)
{
    snprintf(room, size, "key-%d", number);
    return span_of(room);
}

/* --- Limits --- */

START_TEST(nothing_is_known_at_first)
{
    struct pyn_pins *p = pyn_pins_new(4, 4);

    ck_assert_ptr_nonnull(p);
    ck_assert_int_eq(pyn_pins_caller(p, span_of("pid")), -1);
    ck_assert_int_eq(pyn_pins_name(p, span_of("name")), -1);
    ck_assert_int_eq(pyn_pins_name(p, span_of("")), -1);
    pyn_pins_forget_caller(p, span_of("pid"));
    pyn_pins_free(p);
    pyn_pins_free(NULL);
}
END_TEST

/* The oldest one makes room; one that was set again is as old as it was. */
START_TEST(full_tables_make_room)
{
    enum { MAX = 8, ALL = 3000 };
    struct pyn_pins *p = pyn_pins_new(MAX, MAX);
    char room[32];

    for (int i = 0; i < ALL; i++) {
        pyn_pins_set_caller(p, numbered(room, sizeof(room), i), i);
        pyn_pins_set_name(p, numbered(room, sizeof(room), i), -i);
        ck_assert_int_eq(pyn_pins_caller(p, numbered(room, sizeof(room), i)), i);
    }
    for (int i = 0; i < ALL; i++) {
        bool kept = i >= ALL - MAX;
        ck_assert_int_eq(pyn_pins_caller(p, numbered(room, sizeof(room), i)), kept ? i : -1);
        ck_assert_int_eq(pyn_pins_name(p, numbered(room, sizeof(room), i)), kept ? -i : -1);
    }
    pyn_pins_free(p);
}
END_TEST

/* Whichever is dropped, the list of ages stays whole. */
START_TEST(forgetting_makes_room_too)
{
    enum { MAX = 5 };
    struct pyn_pins *p = pyn_pins_new(MAX, 1);
    char room[32];

    for (int gone = 0; gone < MAX; gone++) {
        for (int i = 0; i < MAX; i++)
            pyn_pins_set_caller(p, numbered(room, sizeof(room), i), i);
        pyn_pins_forget_caller(p, numbered(room, sizeof(room), gone));
        pyn_pins_forget_caller(p, numbered(room, sizeof(room), gone));
        pyn_pins_set_caller(p, span_of("new"), 77);
        for (int i = 0; i < MAX; i++)
            ck_assert_int_eq(pyn_pins_caller(p, numbered(room, sizeof(room), i)), i == gone ? -1 : i);
        ck_assert_int_eq(pyn_pins_caller(p, span_of("new")), 77);
        pyn_pins_forget_caller(p, span_of("new"));
    }
    pyn_pins_free(p);
}
END_TEST

/* More keys than buckets, so that they share them. */
START_TEST(many_keys)
{
    enum { MANY = 20000 };
    struct pyn_pins *p = pyn_pins_new(MANY, 1);
    char room[32];

    for (int i = 0; i < MANY; i++)
        pyn_pins_set_caller(p, numbered(room, sizeof(room), i), i % 100);
    for (int i = 0; i < MANY; i += 2)
        pyn_pins_forget_caller(p, numbered(room, sizeof(room), i));
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(pyn_pins_caller(p, numbered(room, sizeof(room), i)), i % 2 ? i % 100 : -1);
    pyn_pins_free(p);
}
END_TEST

/* --- Core --- */

START_TEST(the_last_one_counts)
{
    struct pyn_pins *p = pyn_pins_new(4, 4);

    pyn_pins_set_caller(p, span_of("pid"), 1);
    pyn_pins_set_caller(p, span_of("other"), 2);
    pyn_pins_set_caller(p, span_of("pid"), 3);
    ck_assert_int_eq(pyn_pins_caller(p, span_of("pid")), 3);
    ck_assert_int_eq(pyn_pins_caller(p, span_of("other")), 2);
    pyn_pins_forget_caller(p, span_of("pid"));
    ck_assert_int_eq(pyn_pins_caller(p, span_of("pid")), -1);
    ck_assert_int_eq(pyn_pins_caller(p, span_of("other")), 2);
    pyn_pins_free(p);
}
END_TEST

/* Callers and names do not meet, and bytes of any kind are keys. */
START_TEST(keys_are_bytes)
{
    static const uint8_t with_nul[] = {1, 0, 2}, other[] = {1, 0, 3};
    struct pyn_pins *p = pyn_pins_new(4, 4);

    pyn_pins_set_caller(p, (struct pyn_span){with_nul, 3}, 1);
    pyn_pins_set_caller(p, (struct pyn_span){other, 3}, 2);
    pyn_pins_set_caller(p, (struct pyn_span){other, 1}, 3);
    ck_assert_int_eq(pyn_pins_caller(p, (struct pyn_span){with_nul, 3}), 1);
    ck_assert_int_eq(pyn_pins_caller(p, (struct pyn_span){other, 3}), 2);
    ck_assert_int_eq(pyn_pins_caller(p, (struct pyn_span){with_nul, 1}), 3);
    ck_assert_int_eq(pyn_pins_name(p, (struct pyn_span){with_nul, 1}), -1);
    pyn_pins_free(p);
}
END_TEST

static const struct {
    const char *asked;
    int group;
} names[] = {{"f", 1}, {"f.x", 1}, {"f.x.y", 1}, {"f.", 1}, {"ff", -1}, {".f", -1}, {"", -1}, {"x.f", -1}};

START_TEST(dotted_names_go_by_their_first_part)
{
    struct pyn_pins *p = pyn_pins_new(4, 4);

    pyn_pins_set_name(p, span_of("f"), 1);
    ck_assert_int_eq(pyn_pins_name(p, span_of(names[_i].asked)), names[_i].group);
    pyn_pins_free(p);
}
END_TEST

static void *use(void *pins)
{
    char room[32];

    for (int i = 0; i < 2000; i++) {
        pyn_pins_set_caller(pins, numbered(room, sizeof(room), i % 50), i);
        pyn_pins_set_name(pins, numbered(room, sizeof(room), i % 70), i);
        (void)pyn_pins_name(pins, numbered(room, sizeof(room), i % 30));
        if (pyn_pins_caller(pins, numbered(room, sizeof(room), i % 50)) >= 0)
            pyn_pins_forget_caller(pins, numbered(room, sizeof(room), i % 30));
    }
    return NULL;
}

START_TEST(any_thread)
{
    struct pyn_pins *p = pyn_pins_new(20, 20);
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, use, p), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    pyn_pins_free(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pins");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, nothing_is_known_at_first);
    tcase_add_test(limits, full_tables_make_room);
    tcase_add_test(limits, forgetting_makes_room_too);
    tcase_add_test(limits, many_keys);
    tcase_add_test(core, the_last_one_counts);
    tcase_add_test(core, keys_are_bytes);
    tcase_add_loop_test(core, dotted_names_go_by_their_first_part, 0, (int)(sizeof(names) / sizeof(names[0])));
    tcase_add_test(core, any_thread);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
