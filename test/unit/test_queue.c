
#include "sched/queue.h"

#include "unit/suite.h"

static bool is_odd(void *ctx, struct pyn_job *job)
{
    (void)ctx;
    return job->group % 2 == 1;
}

START_TEST(empty_queue_gives_nothing)
{
    struct pyn_queue q = {0}, other = {0};

    ck_assert_ptr_null(pyn_queue_pop(&q));
    pyn_queue_append(&q, &other);
    ck_assert_ptr_null(q.head);
    ck_assert_uint_eq(pyn_queue_take(&q, &other, is_odd, NULL), 0);
}
END_TEST

START_TEST(first_in_first_out)
{
    struct pyn_job jobs[5] = {{0}};
    struct pyn_queue q = {0};

    for (int i = 0; i < 5; i++)
        pyn_queue_push(&q, &jobs[i]);
    ck_assert_uint_eq(q.count, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_ptr_eq(pyn_queue_pop(&q), &jobs[i]);
    ck_assert_ptr_null(q.tail);
    pyn_queue_push(&q, &jobs[0]);
    ck_assert_ptr_eq(pyn_queue_pop(&q), &jobs[0]);
}
END_TEST

START_TEST(take_keeps_the_order_of_both)
{
    struct pyn_job jobs[6] = {{0}};
    struct pyn_queue q = {0}, odd = {0};

    for (int i = 0; i < 6; i++) {
        jobs[i].group = i;
        pyn_queue_push(&q, &jobs[i]);
    }
    ck_assert_uint_eq(pyn_queue_take(&q, &odd, is_odd, NULL), 3);
    for (int i = 0; i < 6; i += 2)
        ck_assert_ptr_eq(pyn_queue_pop(&q), &jobs[i]);
    pyn_queue_append(&q, &odd);
    ck_assert_uint_eq(odd.count, 0);
    for (int i = 1; i < 6; i += 2)
        ck_assert_ptr_eq(pyn_queue_pop(&q), &jobs[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("queue");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, empty_queue_gives_nothing);
    tcase_add_test(core, first_in_first_out);
    tcase_add_test(core, take_keeps_the_order_of_both);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
