#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "svc/request.h"

#include "unit/link_rig.h"
#include "unit/suite.h"

enum { THREADS = 4 };

static struct rig rig;
static int fd;

static void setup(void)
{
    rig_init(&rig, 1 << 20, 1 << 20, 0);
    fd = rig_connect(&rig, "a@host");
}

static void teardown(void)
{
    close(fd);
    rig_free(&rig);
}

static struct pyn_request *new_request(struct pyn_parsed *p, uint64_t now)
{
    struct pyn_block *block = pyn_block_new(16);
    struct pyn_request *r = pyn_request_new(rig.last_up, block, p, now);

    ck_assert_ptr_nonnull(r);
    pyn_block_unref(block); /* the request keeps it */
    return r;
}

START_TEST(deadlines)
{
    static const struct {
        uint64_t timeout_ms, now, deadline;
    } rows[] = {
        {PYN_NO_TIMEOUT, 1000, PYN_NEVER},
        {0, 1000, 1000},
        {5, 1000, 1000 + 5 * PYN_MS},
        {UINT64_MAX - 1, PYN_SECOND, PYN_NEVER}, /* does not wrap */
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pyn_parsed p = {.timeout_ms = rows[i].timeout_ms};
        struct pyn_request *r = new_request(&p, rows[i].now);

        ck_assert_uint_eq(r->deadline, rows[i].deadline);
        pyn_request_unref(r);
    }
}
END_TEST

START_TEST(numbers)
{
    struct pyn_parsed p = {.timeout_ms = 1, .call = {.kind = PYN_CALL_EXEC}};
    struct pyn_request *a = new_request(&p, 1), *b = new_request(&p, 1);

    ck_assert_uint_ne(a->id, 0);
    ck_assert_uint_gt(b->id, a->id);
    ck_assert(a->pins);
    ck_assert_ptr_eq(pyn_request_of(&a->job), a);
    ck_assert_int_eq(a->job.group, PYN_ANY_GROUP);
    pyn_request_unref(a);
    pyn_request_unref(b);
}
END_TEST

static void *claim(void *request)
{
    struct pyn_request *r = request;
    bool won = pyn_request_claim(r);

    pyn_request_unref(r);
    return won ? r : NULL;
}

/* Whoever comes, one answers; the last one frees it, whoever that is (the address sanitizer looks). */
START_TEST(one_answers)
{
    struct pyn_parsed p = {.timeout_ms = 1};
    struct pyn_request *r = new_request(&p, 1);
    pthread_t threads[THREADS];
    unsigned winners = 0;

    ck_assert(!pyn_request_is_answered(r));
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, claim, pyn_request_ref(r)), 0);
    pyn_request_unref(r);
    for (int i = 0; i < THREADS; i++) {
        void *won;
        pthread_join(threads[i], &won);
        winners += won != NULL;
    }
    ck_assert_uint_eq(winners, 1);
}
END_TEST

/* What is answered later keeps whom to answer, and not the bytes that it came in. */
START_TEST(kept_for_later)
{
    static const uint8_t bytes[] = "pid[alias|ref]";
    struct pyn_block *block = pyn_block_new(sizeof(bytes));
    struct pyn_parsed p = {
        .timeout_ms = 1,
        .to = {{block->data, 3}, {block->data + 3, 11}, {block->data + 10, 3}},
        .call = {.async = PYN_CALL_AWAIT},
    };
    struct pyn_request *r;

    memcpy(block->data, bytes, sizeof(bytes));
    r = pyn_request_new(rig.last_up, block, &p, 1);
    ck_assert_ptr_nonnull(r);
    ck_assert(!pyn_block_is_mine(block));
    pyn_request_release_block(r);
    ck_assert(pyn_block_is_mine(block));
    memset(block->data, 'x', sizeof(bytes));
    ck_assert(pyn_span_is(r->to.pid, "pid"));
    ck_assert(pyn_span_is(r->to.tag, "[alias|ref]"));
    ck_assert(pyn_span_is(r->to.alias, "ref"));
    pyn_request_unref(r);
    pyn_block_unref(block);
}
END_TEST

/* One that nobody waits for. */
START_TEST(nobody_to_keep)
{
    struct pyn_parsed p = {.timeout_ms = 1, .call = {.async = PYN_CALL_GATHER}};
    struct pyn_request *r = new_request(&p, 1);

    ck_assert_uint_eq(r->to.pid.len, 0);
    ck_assert_uint_eq(r->to.alias.len, 0);
    pyn_request_release_block(r);
    pyn_request_unref(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("request");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, deadlines);
    tcase_add_test(core, numbers);
    tcase_add_test(core, one_answers);
    tcase_add_test(core, kept_for_later);
    tcase_add_test(limits, nobody_to_keep);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
