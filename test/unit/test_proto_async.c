/* The option async; the rest of the protocol is in test_proto.c. */
#include <check.h>
#include <stdlib.h>

#include "etf/writer.h"
#include "svc/proto.h"
#include "unit/notation.h"

#define MAX (1 << 20)

static struct pyn_buf bytes;

static void setup(void)
{
    pyn_buf_init(&bytes, MAX);
}

static void teardown(void)
{
    pyn_buf_free(&bytes);
}

static struct pyn_parsed parsed(const char *request)
{
    struct pyn_parsed p;

    pyn_write_tuple(&bytes, 2);
    notation_write(&bytes, "'$gen_cast'");
    notation_write(&bytes, request);
    ck_assert(pyn_proto_parse((struct pyn_span){bytes.data, bytes.len}, &p));
    return p;
}

/* --- Limits --- */

static const char *const bad[] = {
    "{call, math, sqrt, [], #{}, #{async => 1}}",
    "{call, math, sqrt, [], #{}, #{async => later}}",
    "{call, math, sqrt, [], #{}, #{async => ~}}",
    "{eval, <1>, #{}, #{async => true}}",
    "{exec, <1>, #{async => true}}",
    "{call_all, math, sqrt, [], #{}, #{async => true}}",
    "{stream, math, sqrt, [], #{}, #{async => true}}",
    "{stream, math, sqrt, [], #{}, #{async => stream}}",
};

START_TEST(bad_requests)
{
    struct pyn_parsed p = parsed(bad[_i]);

    ck_assert_msg(p.op == PYN_OP_BAD, "%s", bad[_i]);
    ck_assert_ptr_nonnull(p.complaint);
}
END_TEST

/* --- Core --- */

static const struct {
    const char *request;
    enum pyn_call_async async;
} asyncs[] = {
    {"{call, m, f, []}", PYN_CALL_PLAIN},
    {"{call, m, f, [], #{}, #{async => false}}", PYN_CALL_PLAIN},
    {"{call, m, f, [], #{}, #{async => true}}", PYN_CALL_AWAIT},
    {"{call, m, f, [], #{}, #{timeout => 5, async => stream}}", PYN_CALL_GATHER},
};

START_TEST(what_is_awaited)
{
    struct pyn_parsed p = parsed(asyncs[_i].request);

    ck_assert_int_eq(p.op, PYN_OP_RUN);
    ck_assert_int_eq(p.call.async, asyncs[_i].async);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("proto_async");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_loop_test(limits, bad_requests, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_loop_test(core, what_is_awaited, 0, sizeof(asyncs) / sizeof(asyncs[0]));
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
