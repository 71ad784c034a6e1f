/* Requests about streams; the rest of the protocol is in test_proto.c. */
#include <stdlib.h>

#include "etf/writer.h"
#include "svc/proto.h"
#include "unit/cases.h"
#include "unit/notation.h"
#include "unit/suite.h"
#include "unit/terms.h"

#define MAX (1 << 20)

/* --- Bad messages --- */

static const char *const bad_requests[] = {
    "{call, math, sqrt, [], #{}, #{home => x}}",
    "{call, math, sqrt, [], #{}, #{collect => 1}}",
    "{stream}",
    "{stream, math, sqrt}",
    "{stream, 1, sqrt, []}",
    "{stream, math, sqrt, [], #{}, #{home => $R}}",
    "{stream, math, sqrt, [], #{}, 1, 2}",
    "{stream_next, 1}",
    "{stream_next, 0, 1}",
    "{stream_next, -1, 1}",
    "{stream_next, $B, 1}",
    "{stream_next, x, 1}",
    "{stream_next, 1, 0}",
    "{stream_next, 1, 4294967296}",
    "{stream_next, 1, ~}",
    "{stream_next, 1, 1, soon}",
    "{stream_next, 1, 1, 1, 1}",
    "{stream_close}",
    "{stream_close, 0}",
    "{stream_close, x}",
    "{stream_close, 1, 2}",
};

START_TEST(bad_requests_have_a_sentence)
{
    struct pyn_parsed p;
    struct pyn_buf b;

    pyn_buf_init(&b, MAX);
    pyn_write_tuple(&b, 3);
    notation_write(&b, "$P $R");
    notation_write(&b, bad_requests[_i]);
    ck_assert(pyn_proto_parse((struct pyn_span){b.data, b.len}, &p));
    ck_assert_msg(p.op == PYN_OP_BAD, "%s: %d", bad_requests[_i], (int)p.op);
    ck_assert_ptr_nonnull(p.complaint);
    pyn_buf_free(&b);
}
END_TEST

static const char *const whole[] = {
    "{$P, $R, {stream, m, f, [1], #{a => 2}, #{home => $P, timeout => 5}}}",
    "{$P, $R, {stream_next, 77, 1000, #{timeout => infinity}}}",
    "{$P, $R, {stream_close, 77}}",
};

/* Never one that would be run, never a read behind the end. */
START_TEST(cut_at_every_byte)
{
    struct term t = term_of(whole[_i]);
    struct pyn_parsed p;

    for (size_t n = 0; n < t.span.len; n++) {
        uint8_t *cut = cases_exact(t.bytes, n);

        if (pyn_proto_parse((struct pyn_span){cut, n}, &p))
            ck_assert_msg(p.op == PYN_OP_BAD || p.op == PYN_OP_BAD_ARGS, "%s at %zu: %d", whole[_i], n, (int)p.op);
        free(cut);
    }
    free(t.bytes);
}
END_TEST

/* --- Good ones --- */

static const struct {
    const char *request;
    enum pyn_op op;
    enum pyn_call_kind kind;
    enum pyn_call_use use;
    uint64_t stream;
    uint32_t max_items;
    uint64_t timeout;
    const char *home;
} streams[] = {
    {"{stream, m, f, []}", PYN_OP_RUN, PYN_CALL_FUNCTION, PYN_USE_KEEP, 0, 0, 30000, NULL},
    {"{stream, m, f, [], #{}, #{home => $P, timeout => 5}}", PYN_OP_RUN, PYN_CALL_FUNCTION, PYN_USE_KEEP, 0, 0, 5,
     "$P"},
    {"{stream, m, f, [], #{}, #{collect => false}}", PYN_OP_RUN, PYN_CALL_FUNCTION, PYN_USE_KEEP, 0, 0, 30000, NULL},
    {"{stream_next, 1, 1}", PYN_OP_RUN, PYN_CALL_STREAM_NEXT, PYN_USE_VALUE, 1, 1, 30000, NULL},
    {"{stream_next, 9223372036854775807, 4294967295, 7}", PYN_OP_RUN, PYN_CALL_STREAM_NEXT, PYN_USE_VALUE, INT64_MAX,
     UINT32_MAX, 7, NULL},
    {"{stream_close, 12}", PYN_OP_STREAM_CLOSE, PYN_CALL_FUNCTION, PYN_USE_VALUE, 12, 0, 30000, NULL},
    {"{call, m, f, [], #{}, #{collect => true}}", PYN_OP_RUN, PYN_CALL_FUNCTION, PYN_USE_COLLECT, 0, 0, 30000, NULL},
    {"{eval, <x>, #{}, #{collect => true, home => $P}}", PYN_OP_RUN, PYN_CALL_EVAL, PYN_USE_COLLECT, 0, 0, 30000, "$P"},
};

START_TEST(streams_are_taken_apart)
{
    struct pyn_parsed p;
    struct pyn_buf b;

    pyn_buf_init(&b, MAX);
    pyn_write_tuple(&b, 2);
    notation_write(&b, "'$gen_cast'");
    notation_write(&b, streams[_i].request);
    ck_assert(pyn_proto_parse((struct pyn_span){b.data, b.len}, &p));
    ck_assert_msg(p.op == streams[_i].op, "%s: %s", streams[_i].request, p.complaint ? p.complaint : "");
    ck_assert_int_eq(p.call.kind, streams[_i].kind);
    ck_assert_int_eq(p.call.use, streams[_i].use);
    ck_assert_uint_eq(p.call.stream, streams[_i].stream);
    ck_assert_uint_eq(p.call.max_items, streams[_i].max_items);
    ck_assert_uint_eq(p.timeout_ms, streams[_i].timeout);
    if (streams[_i].home)
        ck_assert_term(p.home, streams[_i].home);
    else
        ck_assert_uint_eq(p.home.len, 0);
    pyn_buf_free(&b);
}
END_TEST

#define ADD(tcase, test, table) tcase_add_loop_test(tcase, test, 0, (int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *suite = suite_create("proto_streams");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    ADD(limits, bad_requests_have_a_sentence, bad_requests);
    ADD(limits, cut_at_every_byte, whole);
    ADD(core, streams_are_taken_apart, streams);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
