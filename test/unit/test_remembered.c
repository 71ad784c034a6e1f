#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "svc/remembered.h"

#include "unit/suite.h"

enum { GROUPS = 70 };

static struct pyn_span span_of(const char *text)
{
    return (struct pyn_span){(const uint8_t *)text, strlen(text)};
}

static struct pyn_call exec_of(const char *code)
{
    return (struct pyn_call){.kind = PYN_CALL_EXEC, .code = span_of(code)};
}

/* A new reference. */
static struct pyn_entry *add(struct pyn_remembered *t, const char *key, const char *code)
{
    struct pyn_call call = exec_of(code);
    struct pyn_entry *e;
    int groups[GROUPS];
    unsigned count;

    ck_assert_int_eq(pyn_remembered_add(t, span_of(key), &call, &e, groups, &count), PYN_REMEMBER_OK);
    return e;
}

static void keep(struct pyn_remembered *t, const char *key, const char *code)
{
    struct pyn_entry *e = add(t, key, code);

    pyn_remembered_settle(t, e, true);
    pyn_entry_unref(e);
}

/* What the group has missed, as a sentence. */
static void ck_assert_missed(struct pyn_remembered *t, int group, const char *expected)
{
    char all[256] = "";
    struct pyn_entry *e;

    while ((e = pyn_remembered_next(t, group))) {
        snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%.*s", all[0] ? " " : "", (int)e->call.code.len,
                 (const char *)e->call.code.ptr);
        pyn_entry_unref(e);
    }
    ck_assert_str_eq(all, expected);
}

/* --- Limits --- */

START_TEST(empty_table)
{
    struct pyn_remembered *t = pyn_remembered_new(2, 100, GROUPS);
    struct pyn_call call = exec_of("a");
    int groups[GROUPS];

    ck_assert(!pyn_remembered_has(t, span_of("k"), &call));
    pyn_remembered_forget(t, span_of("k"));
    ck_assert_uint_eq(pyn_remembered_count(t), 0);
    ck_assert_uint_eq(pyn_remembered_groups(t, groups), 0);
    ck_assert_ptr_null(pyn_remembered_next(t, 0));
    pyn_remembered_free(t);
    pyn_remembered_free(NULL);
    pyn_entry_unref(NULL);
}
END_TEST

START_TEST(too_many)
{
    struct pyn_remembered *t = pyn_remembered_new(2, 100, GROUPS);
    struct pyn_call call = exec_of("c");
    struct pyn_entry *e;
    int groups[GROUPS];
    unsigned count;

    keep(t, "1", "a");
    keep(t, "2", "b");
    ck_assert_int_eq(pyn_remembered_add(t, span_of("3"), &call, &e, groups, &count), PYN_REMEMBER_TOO_MANY);
    ck_assert_ptr_null(e);
    pyn_remembered_forget(t, span_of("1"));
    keep(t, "3", "c");
    ck_assert_uint_eq(pyn_remembered_count(t), 2);
    pyn_remembered_free(t);
}
END_TEST

START_TEST(too_large)
{
    struct pyn_remembered *t = pyn_remembered_new(10, 10, GROUPS);
    struct pyn_call call = exec_of("0123456789");
    struct pyn_entry *e;
    int groups[GROUPS];
    unsigned count;

    ck_assert_int_eq(pyn_remembered_add(t, span_of("k"), &call, &e, groups, &count), PYN_REMEMBER_TOO_LARGE);
    call = exec_of("012345678");
    keep(t, "k", "012345678");
    ck_assert_int_eq(pyn_remembered_add(t, span_of("k"), &call, &e, groups, &count), PYN_REMEMBER_TOO_LARGE);
    pyn_remembered_forget(t, span_of("k"));
    keep(t, "k", "012345678");
    ck_assert_uint_eq(pyn_remembered_count(t), 1);
    pyn_remembered_free(t);
}
END_TEST

START_TEST(groups_out_of_range)
{
    struct pyn_remembered *t = pyn_remembered_new(10, 100, GROUPS);
    struct pyn_entry *e = add(t, "k", "a");
    int groups[GROUPS];

    for (int g = -1; g <= GROUPS; g += GROUPS + 1) {
        pyn_remembered_enter(t, g);
        pyn_remembered_missed(t, e, g);
        ck_assert_ptr_null(pyn_remembered_next(t, g));
    }
    ck_assert_uint_eq(pyn_remembered_groups(t, groups), 0);
    pyn_entry_unref(e);
    pyn_remembered_free(t);
}
END_TEST

/* --- Core --- */

START_TEST(copies_are_its_own)
{
    struct pyn_remembered *t = pyn_remembered_new(10, 1000, GROUPS);
    char texts[] = "key module function args kwargs locals";
    struct pyn_call call = {.kind = PYN_CALL_FUNCTION,
                            .module = {(uint8_t *)texts + 4, 6},
                            .function = {(uint8_t *)texts + 11, 8},
                            .args = {(uint8_t *)texts + 20, 4},
                            .kwargs = {(uint8_t *)texts + 25, 6},
                            .locals = {(uint8_t *)texts + 32, 6}};
    struct pyn_entry *e;
    int groups[GROUPS];
    unsigned count;

    ck_assert_int_eq(pyn_remembered_add(t, (struct pyn_span){(uint8_t *)texts, 3}, &call, &e, groups, &count),
                     PYN_REMEMBER_OK);
    memset(texts, 'x', sizeof(texts));
    ck_assert(pyn_span_is(e->key, "key"));
    ck_assert(pyn_span_is(e->call.module, "module"));
    ck_assert(pyn_span_is(e->call.function, "function"));
    ck_assert(pyn_span_is(e->call.args, "args"));
    ck_assert(pyn_span_is(e->call.kwargs, "kwargs"));
    ck_assert(pyn_span_is(e->call.locals, "locals"));
    ck_assert_uint_eq(e->call.code.len, 0);
    pyn_entry_unref(e);
    pyn_remembered_free(t);
}
END_TEST

START_TEST(who_comes_later_has_missed_all)
{
    struct pyn_remembered *t = pyn_remembered_new(10, 1000, GROUPS);
    struct pyn_call call = exec_of("c");
    struct pyn_entry *e;
    int groups[GROUPS];
    unsigned count;

    pyn_remembered_enter(t, 0);
    pyn_remembered_enter(t, 65);
    keep(t, "1", "a");
    keep(t, "2", "b");
    ck_assert_missed(t, 0, "");
    pyn_remembered_enter(t, 3);
    pyn_remembered_enter(t, 0); /* it was there before */
    ck_assert_int_eq(pyn_remembered_add(t, span_of("3"), &call, &e, groups, &count), PYN_REMEMBER_OK);
    ck_assert_uint_eq(count, 3);
    ck_assert(groups[0] == 0 && groups[1] == 3 && groups[2] == 65);
    ck_assert_missed(t, 3, "a b");
    ck_assert_missed(t, 3, "");
    ck_assert_missed(t, 0, "");
    pyn_remembered_missed(t, e, 65);
    pyn_remembered_missed(t, e, 65);
    ck_assert_missed(t, 65, "c");
    pyn_entry_unref(e);
    pyn_remembered_free(t);
}
END_TEST

START_TEST(the_newest_of_a_key)
{
    struct pyn_remembered *t = pyn_remembered_new(10, 1000, GROUPS);
    struct pyn_call old = exec_of("old"), new = exec_of("new");
    struct pyn_entry *e, *failed;

    keep(t, "k", "old");
    keep(t, "other", "other");
    e = add(t, "k", "new");
    ck_assert(pyn_remembered_has(t, span_of("k"), &new));
    ck_assert(!pyn_remembered_has(t, span_of("k"), &old));
    ck_assert(!pyn_remembered_has(t, span_of("x"), &new));
    pyn_remembered_enter(t, 1);
    ck_assert_missed(t, 1, "old other new");
    /* Seen to work, it takes the other's place ... */
    pyn_remembered_settle(t, e, true);
    pyn_remembered_enter(t, 2);
    ck_assert_missed(t, 2, "other new");
    /* ... and else leaves it. */
    failed = add(t, "k", "failed");
    pyn_remembered_settle(t, failed, false);
    pyn_remembered_settle(t, failed, true); /* it is gone: nothing happens */
    pyn_remembered_missed(t, failed, 2);
    ck_assert_missed(t, 2, "");
    ck_assert(pyn_remembered_has(t, span_of("k"), &new));
    ck_assert_uint_eq(pyn_remembered_count(t), 2);
    pyn_entry_unref(failed);
    pyn_entry_unref(e);
    pyn_remembered_free(t);
}
END_TEST

START_TEST(forgotten_is_missed_by_nobody)
{
    struct pyn_remembered *t = pyn_remembered_new(10, 1000, GROUPS);
    struct pyn_entry *last;

    keep(t, "1", "a");
    keep(t, "2", "b");
    last = add(t, "3", "c");
    pyn_remembered_enter(t, 1);
    pyn_remembered_enter(t, 2);
    pyn_remembered_forget(t, span_of("1"));
    pyn_remembered_forget(t, span_of("3"));
    ck_assert_missed(t, 1, "b");
    ck_assert(pyn_span_is(last->call.code, "c")); /* who has it still reads it */
    pyn_entry_unref(last);
    keep(t, "4", "d");
    pyn_remembered_enter(t, 5);
    ck_assert_missed(t, 5, "b d");
    ck_assert_missed(t, 2, "b");
    pyn_remembered_free(t);
}
END_TEST

struct user {
    struct pyn_remembered *table;
    int number;
};

static void *use(void *arg)
{
    const struct user *u = arg;
    char key[16];

    snprintf(key, sizeof(key), "%d", u->number);
    for (int i = 0; i < 500; i++) {
        struct pyn_entry *e = add(u->table, key, "code"), *missed;
        pyn_remembered_missed(u->table, e, u->number);
        pyn_remembered_settle(u->table, e, i % 3 != 0);
        pyn_entry_unref(e);
        while ((missed = pyn_remembered_next(u->table, u->number)))
            pyn_entry_unref(missed);
        if (i % 50 == 0)
            pyn_remembered_forget(u->table, span_of(key));
    }
    return NULL;
}

START_TEST(threads_at_once)
{
    struct pyn_remembered *t = pyn_remembered_new(20, 1000, GROUPS);
    struct user users[4];
    pthread_t threads[4];

    for (int i = 0; i < 4; i++) {
        users[i] = (struct user){t, i};
        pthread_create(&threads[i], NULL, use, &users[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(pyn_remembered_count(t), 4);
    pyn_remembered_free(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("remembered");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, empty_table);
    tcase_add_test(limits, too_many);
    tcase_add_test(limits, too_large);
    tcase_add_test(limits, groups_out_of_range);
    tcase_add_test(core, copies_are_its_own);
    tcase_add_test(core, who_comes_later_has_missed_all);
    tcase_add_test(core, the_newest_of_a_key);
    tcase_add_test(core, forgotten_is_missed_by_nobody);
    tcase_add_test(core, threads_at_once);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
