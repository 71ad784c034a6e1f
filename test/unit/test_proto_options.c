/* What options say, alone and as part of a request; the rest of the protocol is in test_proto.c. */
#include <stdlib.h>

#include "etf/writer.h"
#include "svc/proto_private.h"
#include "unit/notation.h"
#include "unit/suite.h"
#include "unit/terms.h"

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

static const char *const bad_options[] = {
    "~",
    "soon",
    "-1",
    "[]",
    "{1}",
    "#{1 => 2}",
    "#{<timeout> => 2}",
    "#{timeout => soon}",
    "#{timeout => -1}",
    "#{traceback => maybe}",
    "#{remember => <>}",
    "#{remember => key}",
    "#{replay => 1}",
    "#{chain => {1, 2}}",
    "#{chain => {-1, 2, 1}}",
    "#{chain => {1, -2, 1}}",
    "#{chain => {1, 2, 3, x}}",
    "#{span => x}",
    "#{ctx => 0}",
    "#{ctx => x}",
    "#{home => here}",
    "#{collect => 1}",
    "#{later => ~}",
    "#{timeout => 1, later => {x, ~}}",
};

START_TEST(options_that_are_refused)
{
    struct term t = term_of(bad_options[_i]);
    struct pyn_reader r = pyn_reader_of(t.span);
    struct pyn_parsed p = {0};

    ck_assert_msg(pyn_proto_read_options(&r, &p) != NULL, "%s", bad_options[_i]);
    free(t.bytes);
}
END_TEST

static const char *const long_options = "#{timeout => 7, traceback => true, remember => <key>, replay => true, chain "
                                        "=> {1, 2, 3, 4}, ctx => 5, home => $P, "
                                        "collect => true, async => true, later => [1 | 2]}";

START_TEST(options_cut_at_every_byte)
{
    struct term t = term_of(long_options);

    for (size_t n = 0; n < t.span.len; n++) {
        uint8_t *cut = cases_exact(t.bytes, n);
        struct pyn_reader r = pyn_reader_of((struct pyn_span){cut, n});
        struct pyn_parsed p = {0};

        ck_assert_msg(pyn_proto_read_options(&r, &p) != NULL, "cut at %zu", n);
        free(cut);
    }
    free(t.bytes);
}
END_TEST

/* --- Core --- */

START_TEST(every_option_is_read)
{
    struct term t = term_of(long_options);
    struct pyn_reader r = pyn_reader_of(t.span);
    struct pyn_parsed p = {0};

    ck_assert_ptr_null(pyn_proto_read_options(&r, &p));
    ck_assert_uint_eq(pyn_reader_left(&r), 0);
    ck_assert_uint_eq(p.timeout_ms, 7);
    ck_assert(p.call.traceback && p.replay);
    ck_assert(pyn_span_is(p.remember, "key"));
    ck_assert_int_eq(p.chain_interp, 1);
    ck_assert_uint_eq(p.chain_run, 2);
    ck_assert_int_eq(p.call.span, 4);
    ck_assert_uint_eq(p.context, 5);
    ck_assert_term(p.home, "$P");
    ck_assert_int_eq(p.call.use, PYN_USE_COLLECT);
    ck_assert_int_eq(p.call.async, PYN_CALL_AWAIT);
    free(t.bytes);
}
END_TEST

START_TEST(a_timeout_stands_for_options)
{
    struct term number = term_of("250"), word = term_of("infinity"), none = term_of("#{}");
    struct pyn_parsed p = {0};
    struct pyn_reader r = pyn_reader_of(number.span);

    ck_assert_ptr_null(pyn_proto_read_options(&r, &p));
    ck_assert_uint_eq(p.timeout_ms, 250);
    r = pyn_reader_of(none.span);
    ck_assert_ptr_null(pyn_proto_read_options(&r, &p));
    ck_assert_uint_eq(p.timeout_ms, 250);
    r = pyn_reader_of(word.span);
    ck_assert_ptr_null(pyn_proto_read_options(&r, &p));
    ck_assert_uint_eq(p.timeout_ms, PYN_NO_TIMEOUT);
    free(number.bytes);
    free(word.bytes);
    free(none.bytes);
}
END_TEST

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
    Suite *suite = suite_create("proto_options");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_loop_test(limits, bad_requests, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_loop_test(core, what_is_awaited, 0, sizeof(asyncs) / sizeof(asyncs[0]));
    tcase_add_loop_test(limits, options_that_are_refused, 0, sizeof(bad_options) / sizeof(*bad_options));
    tcase_add_test(limits, options_cut_at_every_byte);
    tcase_add_test(core, every_option_is_read);
    tcase_add_test(core, a_timeout_stands_for_options);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
