#include <pthread.h>
#include <string.h>

#include "base/block.h"

#include "unit/suite.h"

/* --- Core --- */

START_TEST(no_block)
{
    pyn_block_unref(NULL);
}
END_TEST

START_TEST(references)
{
    struct pyn_block *b = pyn_block_new(100);

    ck_assert_ptr_nonnull(b);
    ck_assert_uint_eq(b->cap, 100);
    memset(b->data, 7, b->cap);
    ck_assert(pyn_block_is_mine(b));
    ck_assert_ptr_eq(pyn_block_ref(b), b);
    ck_assert(!pyn_block_is_mine(b));
    pyn_block_unref(b);
    ck_assert(pyn_block_is_mine(b));
    ck_assert_uint_eq(b->data[99], 7);
    pyn_block_unref(b);
}
END_TEST

/* --- Limits --- */

START_TEST(sizes)
{
    struct pyn_block *b = pyn_block_new(0);

    ck_assert_ptr_nonnull(b);
    pyn_block_unref(b);
    ck_assert_ptr_null(pyn_block_new(SIZE_MAX));
    ck_assert_ptr_null(pyn_block_new(SIZE_MAX - sizeof(struct pyn_block) + 1));
}
END_TEST

static void *ref_and_unref(void *arg)
{
    struct pyn_block *b = arg;

    for (int i = 0; i < 20000; i++)
        pyn_block_unref(pyn_block_ref(b));
    ck_assert_uint_eq(b->data[0], 1);
    pyn_block_unref(b);
    return NULL;
}

/* Whichever thread gives the last reference back frees: a checker of memory sees it freed once, after all use. */
START_TEST(last_reference_of_many_threads)
{
    enum { COUNT = 4 };
    struct pyn_block *blocks[COUNT];
    pthread_t threads[COUNT];

    for (int i = 0; i < COUNT; i++) {
        blocks[i] = pyn_block_new(1);
        ck_assert_ptr_nonnull(blocks[i]);
        blocks[i]->data[0] = 1;
    }
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ref_and_unref, pyn_block_ref(blocks[i / 2])), 0);
    for (int i = 0; i < COUNT; i++)
        pyn_block_unref(blocks[i]);
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

static Suite *block_suite(void)
{
    Suite *s = suite_create("block");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, no_block);
    tcase_add_test(core, references);
    suite_add_tcase(s, core);
    tcase_add_test(limits, sizes);
    tcase_add_test(limits, last_reference_of_many_threads);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    return suite_run(block_suite());
}
