/* The table of contexts. Workers are only compared. */
#include <pthread.h>
#include <string.h>

#include "sched/pool.h"
#include "svc/contexts.h"

#include "unit/suite.h"

static struct pyn_worker workers[8];

static struct pyn_span span_of(const char *text)
{
    return (struct pyn_span){(const uint8_t *)text, strlen(text)};
}

static struct pyn_context *add(struct pyn_contexts *t, int worker, uint64_t link_id, const char *owner)
{
    struct pyn_context *c = pyn_context_new(&workers[worker], link_id, span_of(owner), NULL);

    ck_assert_ptr_nonnull(c);
    ck_assert(pyn_contexts_reserve(t));
    pyn_contexts_add(t, c);
    return c;
}

static void drop(struct pyn_contexts *t, struct pyn_context *c)
{
    struct pyn_queue waiting = {0};

    pyn_contexts_remove(t, c, &waiting);
    pyn_context_unref(c);
}

static bool has_owner(const struct pyn_context *c, const void *what)
{
    return pyn_span_eq((struct pyn_span){c->owner, c->owner_len}, *(const struct pyn_span *)what);
}

/* --- Limits --- */

START_TEST(nothing_is_there_at_first)
{
    struct pyn_contexts t;
    struct pyn_job job = {0};

    pyn_contexts_init(&t, 0);
    ck_assert(!pyn_contexts_reserve(&t));
    ck_assert_ptr_null(pyn_contexts_find(&t, 0));
    ck_assert_ptr_null(pyn_contexts_find(&t, UINT64_MAX));
    ck_assert_ptr_null(pyn_contexts_of_worker(&t, &workers[0]));
    ck_assert(!pyn_contexts_await(&t, 1, &job));
    ck_assert_uint_eq(pyn_contexts_count(&t), 0);
    pyn_context_unref(NULL);
    pyn_contexts_fini(&t);
}
END_TEST

/* What is reserved counts, and what is over counts until it is removed. */
START_TEST(no_more_places_than_workers)
{
    struct pyn_contexts t;
    struct pyn_context *c;

    pyn_contexts_init(&t, 2);
    c = add(&t, 0, 1, "a");
    ck_assert(pyn_contexts_reserve(&t));
    ck_assert(!pyn_contexts_reserve(&t));
    pyn_contexts_unreserve(&t);
    ck_assert(pyn_contexts_reserve(&t));
    ck_assert(pyn_context_end(c));
    ck_assert(!pyn_contexts_reserve(&t));
    drop(&t, c);
    ck_assert(pyn_contexts_reserve(&t));
    ck_assert_uint_eq(pyn_contexts_count(&t), 0);
    pyn_contexts_fini(&t);
}
END_TEST

/* The numbers of another pynode mean nothing here. */
START_TEST(numbers_are_not_used_again)
{
    struct pyn_contexts one, two;
    struct pyn_context *a, *b;

    pyn_contexts_init(&one, 1);
    pyn_contexts_init(&two, 1);
    a = add(&one, 0, 1, "a");
    b = add(&two, 0, 1, "a");
    ck_assert_uint_ne(a->id, b->id);
    ck_assert(a->id > 0 && a->id < UINT64_C(1) << 59);
    for (int i = 0; i < 100; i++) {
        uint64_t before = a->id;
        drop(&one, a);
        a = add(&one, 0, 1, "a");
        ck_assert_uint_gt(a->id, before);
        ck_assert_ptr_null(pyn_contexts_find(&one, before));
    }
    drop(&one, a);
    drop(&two, b);
    pyn_contexts_fini(&one);
    pyn_contexts_fini(&two);
}
END_TEST

/* --- Core --- */

START_TEST(found_until_it_is_over)
{
    struct pyn_contexts t;
    struct pyn_context *c, *found;

    pyn_contexts_init(&t, 8);
    c = add(&t, 3, 1, "a");
    found = pyn_contexts_find(&t, c->id);
    ck_assert_ptr_eq(found, c);
    pyn_context_unref(found);
    ck_assert(!pyn_context_is_over(c));
    ck_assert(pyn_context_end(c));
    ck_assert(!pyn_context_end(c));
    ck_assert(pyn_context_is_over(c));
    ck_assert_ptr_null(pyn_contexts_find(&t, c->id));
    found = pyn_contexts_of_worker(&t, &workers[3]);
    ck_assert_ptr_eq(found, c);
    pyn_context_unref(found);
    ck_assert_ptr_null(pyn_contexts_of_worker(&t, &workers[2]));
    drop(&t, c);
    ck_assert_ptr_null(pyn_contexts_of_worker(&t, &workers[3]));
    pyn_contexts_fini(&t);
}
END_TEST

START_TEST(all_of_one_owner)
{
    struct pyn_contexts t;
    struct pyn_context *all[6], *c;
    struct pyn_span owner = span_of("a");
    int ended = 0;

    pyn_contexts_init(&t, 8);
    for (int i = 0; i < 6; i++)
        all[i] = add(&t, i, 1, i % 2 == 0 ? "a" : "ab");
    while ((c = pyn_contexts_search(&t, has_owner, &owner))) {
        ck_assert(pyn_context_end(c));
        pyn_context_unref(c);
        ended++;
    }
    ck_assert_int_eq(ended, 3);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(pyn_context_is_over(all[i]), i % 2 == 0);
        drop(&t, all[i]);
    }
    pyn_contexts_fini(&t);
}
END_TEST

START_TEST(who_waits_is_handed_over_once)
{
    struct pyn_contexts t;
    struct pyn_queue waiting = {0};
    struct pyn_job jobs[3] = {0};
    struct pyn_context *c, *other;

    pyn_contexts_init(&t, 8);
    c = add(&t, 0, 1, "a");
    other = add(&t, 1, 1, "a");
    ck_assert(pyn_contexts_await(&t, c->id, &jobs[0]));
    ck_assert(pyn_context_end(c)); /* it is still listed */
    ck_assert(pyn_contexts_await(&t, c->id, &jobs[1]));
    pyn_contexts_remove(&t, other, &waiting);
    ck_assert_uint_eq(waiting.count, 0);
    pyn_contexts_remove(&t, c, &waiting);
    pyn_contexts_remove(&t, c, &waiting);
    ck_assert_uint_eq(waiting.count, 2);
    ck_assert_ptr_eq(pyn_queue_pop(&waiting), &jobs[0]);
    ck_assert_ptr_eq(pyn_queue_pop(&waiting), &jobs[1]);
    ck_assert(!pyn_contexts_await(&t, c->id, &jobs[2]));
    pyn_context_unref(c);
    pyn_context_unref(other);
    pyn_contexts_fini(&t);
}
END_TEST

/* What is still listed at the end is given back. */
START_TEST(left_at_the_end)
{
    struct pyn_contexts t;

    pyn_contexts_init(&t, 8);
    for (int i = 0; i < 3; i++)
        pyn_context_unref(add(&t, i, 1, "a"));
    pyn_contexts_fini(&t);
}
END_TEST

enum { THREADS = 4, ROUNDS = 2000 };

static void *in_and_out(void *table)
{
    struct pyn_contexts *t = table;

    for (int i = 0; i < ROUNDS; i++) {
        struct pyn_context *c;
        if (!pyn_contexts_reserve(t))
            continue;
        c = pyn_context_new(&workers[0], 1, span_of("a"), NULL);
        ck_assert_ptr_nonnull(c);
        pyn_contexts_add(t, c);
        ck_assert_uint_le(pyn_contexts_count(t), 2);
        ck_assert(pyn_context_end(c));
        drop(t, c);
    }
    return NULL;
}

START_TEST(several_threads)
{
    struct pyn_contexts t;
    pthread_t threads[THREADS];

    pyn_contexts_init(&t, 2);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, in_and_out, &t), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(pyn_contexts_count(&t), 0);
    ck_assert(pyn_contexts_reserve(&t) && pyn_contexts_reserve(&t) && !pyn_contexts_reserve(&t));
    pyn_contexts_fini(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("contexts");
    TCase *limits = tcase_create("Limits");
    TCase *core = tcase_create("Core");

    tcase_add_test(limits, nothing_is_there_at_first);
    tcase_add_test(limits, no_more_places_than_workers);
    tcase_add_test(limits, numbers_are_not_used_again);
    suite_add_tcase(suite, limits);
    tcase_add_test(core, found_until_it_is_over);
    tcase_add_test(core, all_of_one_owner);
    tcase_add_test(core, who_waits_is_handed_over_once);
    tcase_add_test(core, left_at_the_end);
    tcase_add_test(core, several_threads);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
