#include <stdlib.h>

#include "dist/control.h"
#include "etf/reader.h"
#include "etf/writer.h"
#include "svc/proto.h"
#include "unit/cases.h"
#include "unit/notation.h"
#include "unit/suite.h"
#include "unit/terms.h"

#define MAX (1 << 20)

static void ck_assert_text(struct pyn_span span, const char *text)
{
    ck_assert_msg(pyn_span_is(span, text), "\"%.*s\" is not \"%s\"", (int)span.len, (const char *)span.ptr, text);
}

/* --- Bad messages --- */

/* In no form: nobody can be answered. */
static const char *const no_form[] = {
    "~",
    "hello",
    "42",
    "[]",
    "\"text\"",
    "<text>",
    "#{}",
    "{}",
    "{a}",
    "{$P, $R}",
    "{$P, $R, info, more}",
    "{$R, $P, info}",
    "{1, $R, info}",
    "{'$gen_call', info}",
    "{'$gen_call', {$P, $R}}",
    "{'$gen_call', {$P, $R}, info, more}",
    "{'$gen_call', $P, info}",
    "{'$gen_call', {$P}, info}",
    "{'$gen_call', {$P, $R, x}, info}",
    "{'$gen_call', {name, $R}, info}",
    "{'$gen_call', [$P, $R], info}",
    "{'$gen_call', {$P, ~}, info}",
    "{'$gen_cast'}",
    "{'$gen_cast', info, more}",
    "{'$gen_info', info}",
    "{<$gen_cast>, info}",
    "{system, {$P, $R}, get_state}",
};

START_TEST(what_is_in_no_form)
{
    struct term t = term_of(no_form[_i]);
    struct pyn_parsed p;

    ck_assert_msg(!pyn_proto_parse(t.span, &p), "%s", no_form[_i]);
    free(t.bytes);
}
END_TEST

static const char *const bad_requests[] = {
    "~",
    "1",
    "<info>",
    "unknown",
    "[]",
    "{}",
    "{1}",
    "{<call>, math, sqrt, []}",
    "{unknown, 1}",
    "{call}",
    "{call, math, sqrt}",
    "{call, math, sqrt, [], #{}, 1, 2}",
    "{call, 1, sqrt, []}",
    "{call, \"math\", sqrt, []}",
    "{call, '', sqrt, []}",
    "{call, math, <>, []}",
    "{call, math, {sqrt}, []}",
    "{call, math, sqrt, [], []}",
    "{call, math, sqrt, [], x}",
    "{call, math, sqrt, [], #{a => ~}}",
    "{call, math, sqrt, [], #{}, soon}",
    "{call, math, sqrt, [], #{}, -1}",
    "{call, math, sqrt, [], #{}, $B}",
    "{call, math, sqrt, [], #{}, {1}}",
    "{call, math, sqrt, [], #{}, #{1 => 2}}",
    "{call, math, sqrt, [], #{}, #{traceback => 1}}",
    "{call, math, sqrt, [], #{}, #{traceback => maybe}}",
    "{call, math, sqrt, [], #{}, #{later => ~}}",
    "{call, math, sqrt, [~]}",
    "{call, math, sqrt, ~}",
    "{call, math, sqrt, [1 | ~]}",
    "{eval}",
    "{eval, 1}",
    "{eval, {code}}",
    "{eval, <1>, []}",
    "{eval, <1>, #{}, x}",
    "{eval, <1>, #{}, 1, 2}",
    "{exec}",
    "{exec, 1}",
    "{exec, <1>, #{traceback => 1}}",
    "{exec, <1>, 1, 2}",
    "{cancel}",
    "{cancel, ~}",
    "{cancel, 1, 2}",
    "{cancel, 1, report, 2}",
    "{cancel, ~, report}",
    "{call_all}",
    "{call_all, math, sqrt}",
    "{call_all, 1, sqrt, []}",
    "{call_all, math, sqrt, [], []}",
    "{call_all, math, sqrt, [], #{}, soon}",
    "{call_all, math, sqrt, [], #{}, 1, 2}",
    "{exec_all}",
    "{exec_all, 1}",
    "{exec_all, <1>, 1, 2}",
    "{forget}",
    "{forget, key}",
    "{forget, <>}",
    "{forget, <key>, 1}",
};

/* The asker hears of it. */
START_TEST(bad_requests_have_a_sentence)
{
    struct pyn_parsed p;
    struct pyn_buf b;

    pyn_buf_init(&b, MAX);
    pyn_write_tuple(&b, 3);
    notation_write(&b, "'$gen_call' {$P, $R}");
    notation_write(&b, bad_requests[_i]);
    ck_assert(pyn_proto_parse((struct pyn_span){b.data, b.len}, &p));
    ck_assert_msg(p.op == PYN_OP_BAD, "%s: %d", bad_requests[_i], (int)p.op);
    ck_assert_ptr_nonnull(p.complaint);
    ck_assert_term(p.to.pid, "$P");
    ck_assert_term(p.to.tag, "$R");
    pyn_buf_free(&b);
}
END_TEST

static const char *const no_arguments[] = {"16", "sqrt", "<16>", "{16}", "#{}", "[16 | 17]", "[1, 2 | x]"};

START_TEST(arguments_that_are_no_list)
{
    struct pyn_parsed p;
    struct pyn_buf b;

    for (int more = 0; more <= 1; more++) {
        pyn_buf_init(&b, MAX);
        pyn_write_tuple(&b, 3);
        notation_write(&b, "$P $R");
        pyn_write_tuple(&b, more ? 6 : 4);
        notation_write(&b, "call math sqrt");
        notation_write(&b, no_arguments[_i]);
        if (more)
            notation_write(&b, "#{} 100");
        ck_assert(pyn_proto_parse((struct pyn_span){b.data, b.len}, &p));
        ck_assert_msg(p.op == PYN_OP_BAD_ARGS, "%s: %d", no_arguments[_i], (int)p.op);
        ck_assert_term(p.to.pid, "$P");
        pyn_buf_free(&b);
    }
}
END_TEST

/* Whole messages, cut off at every byte: never one that would be run, never a read behind the end. */
static const char *const whole[] = {
    "{'$gen_call', {$P, [alias | $R]}, {call, math, <sqrt>, [16, {a, #{b => 1}}], #{x => <y>}, #{timeout => 5}}}",
    "{'$gen_call', {$P, $R}, {eval, <1 + x>, #{x => [1 | 2]}, 100}}",
    "{$P, {any, <tag>}, {exec, \"pass\", infinity}}",
    "{'$gen_cast', {cancel, [alias | $R]}}",
    "{'$gen_call', {$P, $R}, info}",
};

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
    ck_assert(pyn_proto_parse(t.span, &p));
    ck_assert(p.op != PYN_OP_BAD && p.op != PYN_OP_BAD_ARGS);
    free(t.bytes);
}
END_TEST

START_TEST(bytes_behind_the_message)
{
    struct pyn_parsed p;
    struct pyn_buf b;

    pyn_buf_init(&b, MAX);
    notation_write(&b, whole[_i]);
    pyn_write_atom(&b, "x");
    ck_assert(pyn_proto_parse((struct pyn_span){b.data, b.len}, &p));
    ck_assert_int_eq(p.op, PYN_OP_BAD);
    pyn_buf_free(&b);
}
END_TEST

/* An argument as deep as is read, and deeper ones. */
START_TEST(depth_is_bounded)
{
    struct pyn_parsed p;

    for (unsigned depth = PYN_ETF_MAX_DEPTH / 2; depth <= 4 * PYN_ETF_MAX_DEPTH; depth *= 2) {
        struct pyn_buf b;

        pyn_buf_init(&b, MAX);
        pyn_write_tuple(&b, 3);
        notation_write(&b, "$P $R");
        pyn_write_tuple(&b, 4);
        notation_write(&b, "call math sqrt");
        pyn_write_list(&b, 1);
        for (unsigned i = 0; i < depth; i++)
            pyn_write_tuple(&b, 1);
        pyn_write_nil(&b);
        pyn_write_nil(&b);
        ck_assert(pyn_proto_parse((struct pyn_span){b.data, b.len}, &p));
        ck_assert_int_eq(p.op, depth <= PYN_ETF_MAX_DEPTH ? PYN_OP_RUN : PYN_OP_BAD);
        pyn_buf_free(&b);
    }
}
END_TEST

static const char *const no_pings[] = {
    "~",
    "{}",
    "{is_auth, a@b}",
    "{'$gen_cast', {is_auth, a@b}}",
    "{'$gen_call', {$P, $R}, is_auth}",
    "{'$gen_call', {$P, $R}, {is_auth}}",
    "{'$gen_call', {$P, $R}, {is_auth, a@b, c}}",
    "{'$gen_call', {$P, $R}, {is_off, a@b}}",
    "{'$gen_call', {$P, $R}, {is_auth, ~}}",
    "{'$gen_call', {$P}, {is_auth, a@b}}",
};

START_TEST(what_is_no_ping)
{
    struct term t = term_of(no_pings[_i]);
    struct pyn_reply_to to;

    ck_assert_msg(!pyn_proto_parse_ping(t.span, &to), "%s", no_pings[_i]);
    free(t.bytes);
}
END_TEST

/* --- Good ones --- */

/* NULL: the span is empty. */
static const struct {
    const char *request;
    enum pyn_call_kind kind;
    const char *module, *function, *args, *kwargs; /* names as text, the others as terms */
    const char *code, *locals;
    uint64_t timeout;
    bool traceback;
    int interp;
    uint64_t run;
} requests[] = {
#define CALL(m, f, args, kwargs) PYN_CALL_FUNCTION, m, f, args, kwargs, NULL, NULL
#define EVAL(code, locals) PYN_CALL_EVAL, NULL, NULL, NULL, NULL, code, locals
#define EXEC(code) PYN_CALL_EXEC, NULL, NULL, NULL, NULL, code, NULL
    {"{call, math, sqrt, [16]}", CALL("math", "sqrt", "[16]", NULL), 30000, false, -1, 0},
    {"{call, <math>, <sqrt>, []}", CALL("math", "sqrt", "[]", NULL), 30000, false, -1, 0},
    {"{call, 'os.path', 'a.b', \"ab\"}", CALL("os.path", "a.b", "\"ab\"", NULL), 30000, false, -1, 0},
    {"{call, m, f, [{1}, [x | y]], #{}}", CALL("m", "f", "[{1}, [x | y]]", NULL), 30000, false, -1, 0},
    {"{call, m, f, [], #{a => 1, <b> => 2}}", CALL("m", "f", "[]", "#{a => 1, <b> => 2}"), 30000, false, -1, 0},
    {"{call, m, f, [], #{}, 0}", CALL("m", "f", "[]", NULL), 0, false, -1, 0},
    {"{call, m, f, [], #{}, infinity}", CALL("m", "f", "[]", NULL), PYN_NO_TIMEOUT, false, -1, 0},
    {"{call, m, f, [], #{}, #{}}", CALL("m", "f", "[]", NULL), 30000, false, -1, 0},
    {"{call, m, f, [], #{}, #{timeout => 7, traceback => true}}", CALL("m", "f", "[]", NULL), 7, true, -1, 0},
    {"{call, m, f, [], #{}, #{traceback => false, timeout => infinity, more => {x, [1]}}}", CALL("m", "f", "[]", NULL),
     PYN_NO_TIMEOUT, false, -1, 0},
    {"{call, m, f, [], #{}, #{chain => {2, 99, 5}}}", CALL("m", "f", "[]", NULL), 30000, false, 2, 99},
    {"{eval, <1 + 2>}", EVAL("1 + 2", NULL), 30000, false, -1, 0},
    {"{eval, \"1 + 2\"}", EVAL("1 + 2", NULL), 30000, false, -1, 0},
    {"{eval, x, #{}}", EVAL("x", NULL), 30000, false, -1, 0},
    {"{eval, <x>, #{x => 1}}", EVAL("x", "#{x => 1}"), 30000, false, -1, 0},
    {"{eval, <x>, #{x => 1}, 5}", EVAL("x", "#{x => 1}"), 5, false, -1, 0},
    {"{eval, [], #{}, #{traceback => true}}", EVAL(NULL, NULL), 30000, true, -1, 0},
    {"{exec, <pass>}", EXEC("pass"), 30000, false, -1, 0},
    {"{exec, \"pass\", 5}", EXEC("pass"), 5, false, -1, 0},
    {"{exec, <>, #{timeout => 5}}", EXEC(NULL), 5, false, -1, 0},
};

static void ck_assert_span(struct pyn_span span, const char *expected, bool text)
{
    if (!expected)
        ck_assert_uint_eq(span.len, 0);
    else if (text)
        ck_assert_text(span, expected);
    else
        ck_assert_term(span, expected);
}

START_TEST(requests_are_taken_apart)
{
    struct pyn_parsed p;
    struct pyn_buf b;

    pyn_buf_init(&b, MAX);
    pyn_write_tuple(&b, 2);
    notation_write(&b, "'$gen_cast'");
    notation_write(&b, requests[_i].request);
    ck_assert(pyn_proto_parse((struct pyn_span){b.data, b.len}, &p));
    ck_assert_msg(p.op == PYN_OP_RUN, "%s: %s", requests[_i].request, p.complaint ? p.complaint : "");
    ck_assert_int_eq(p.call.kind, requests[_i].kind);
    ck_assert_span(p.call.module, requests[_i].module, true);
    ck_assert_span(p.call.function, requests[_i].function, true);
    ck_assert_span(p.call.args, requests[_i].args, false);
    ck_assert_span(p.call.kwargs, requests[_i].kwargs, false);
    ck_assert_span(p.call.code, requests[_i].code, true);
    ck_assert_span(p.call.locals, requests[_i].locals, false);
    ck_assert_uint_eq(p.timeout_ms, requests[_i].timeout);
    ck_assert_int_eq(p.call.traceback, requests[_i].traceback);
    ck_assert_int_eq(p.chain_interp, requests[_i].interp);
    ck_assert_uint_eq(p.chain_run, requests[_i].run);
    ck_assert_uint_eq(p.to.pid.len, 0);
    pyn_buf_free(&b);
}
END_TEST

/* The same requests, for all. */
static const struct {
    const char *request;
    const char *code, *args;
    uint64_t timeout;
    const char *key;
    bool replay;
} for_all[] = {
    {"{call_all, m, f, [16]}", NULL, "[16]", 30000, NULL, false},
    {"{call_all, m, f, [], #{}, #{timeout => 7, remember => <key>}}", NULL, "[]", 7, "key", false},
    {"{call_all, m, f, [], #{}, #{replay => true, remember => <key>}}", NULL, "[]", 30000, "key", true},
    {"{exec_all, <pass>}", "pass", NULL, 30000, NULL, false},
    {"{exec_all, <pass>, infinity}", "pass", NULL, PYN_NO_TIMEOUT, NULL, false},
    {"{exec_all, <pass>, #{replay => false, remember => <k>}}", "pass", NULL, 30000, "k", false},
};

START_TEST(requests_for_all_are_taken_apart)
{
    struct pyn_parsed p;
    struct pyn_buf b;

    pyn_buf_init(&b, MAX);
    pyn_write_tuple(&b, 2);
    notation_write(&b, "'$gen_cast'");
    notation_write(&b, for_all[_i].request);
    ck_assert(pyn_proto_parse((struct pyn_span){b.data, b.len}, &p));
    ck_assert_msg(p.op == PYN_OP_ALL, "%s: %s", for_all[_i].request, p.complaint ? p.complaint : "");
    ck_assert_int_eq(p.call.kind, for_all[_i].code ? PYN_CALL_EXEC : PYN_CALL_FUNCTION);
    ck_assert_span(p.call.code, for_all[_i].code, true);
    ck_assert_span(p.call.args, for_all[_i].args, false);
    ck_assert_uint_eq(p.timeout_ms, for_all[_i].timeout);
    ck_assert_span(p.remember, for_all[_i].key, true);
    ck_assert_int_eq(p.replay, for_all[_i].replay);
    pyn_buf_free(&b);
}
END_TEST

static const struct {
    const char *request;
    int64_t span;
    uint64_t run;
} spans[] = {
    {"{call, m, f, []}", 0, 0},
    {"{call, m, f, [], #{}, #{span => 77, timeout => 5}}", 77, 0},
    {"{exec, <pass>, #{chain => {2, 99, 5}}}", 0, 99},
    {"{eval, <x>, #{}, #{chain => {2, 99, 5, 576460752303423487}}}", INT64_C(576460752303423487), 99},
};

START_TEST(the_span_of_the_caller)
{
    struct pyn_parsed p;
    struct pyn_buf b;

    pyn_buf_init(&b, MAX);
    pyn_write_tuple(&b, 2);
    notation_write(&b, "'$gen_cast'");
    notation_write(&b, spans[_i].request);
    ck_assert(pyn_proto_parse((struct pyn_span){b.data, b.len}, &p));
    ck_assert_int_eq(p.op, PYN_OP_RUN);
    ck_assert_int_eq(p.call.span, spans[_i].span);
    ck_assert_uint_eq(p.chain_run, spans[_i].run);
    pyn_buf_free(&b);
}
END_TEST

static const struct {
    const char *message;
    enum pyn_op op;
    const char *pid, *tag, *alias, *cancelled;
} forms[] = {
    {"{'$gen_call', {$P, $R}, info}", PYN_OP_INFO, "$P", "$R", NULL, NULL},
    {"{'$gen_call', {$P, [alias | $R]}, version}", PYN_OP_VERSION, "$P", "[alias | $R]", "$R", NULL},
    {"{'$gen_call', {$P, [other | $R]}, version}", PYN_OP_VERSION, "$P", "[other | $R]", NULL, NULL},
    {"{'$gen_call', {$P, [alias, x | $R]}, info}", PYN_OP_INFO, "$P", "[alias, x | $R]", NULL, NULL},
    {"{'$gen_call', {$P, [alias | x]}, info}", PYN_OP_INFO, "$P", "[alias | x]", NULL, NULL},
    {"{$P, {my, \"tag\"}, info}", PYN_OP_INFO, "$P", "{my, \"tag\"}", NULL, NULL},
    {"{$P, [alias | $R], info}", PYN_OP_INFO, "$P", "[alias | $R]", "$R", NULL},
    {"{'$gen_cast', info}", PYN_OP_INFO, NULL, NULL, NULL, NULL},
    {"{'$gen_call', {$P, $R}, sync}", PYN_OP_SYNC, "$P", "$R", NULL, NULL},
    {"{'$gen_cast', {cancel, $R}}", PYN_OP_CANCEL, NULL, NULL, NULL, "$R"},
    {"{'$gen_cast', {cancel, $R, report}}", PYN_OP_CANCEL, NULL, NULL, NULL, "$R"},
    {"{$P, 1, {cancel, {any, [tag]}}}", PYN_OP_CANCEL, "$P", "1", NULL, "{any, [tag]}"},
};

START_TEST(forms_say_whom_to_answer)
{
    struct term t = term_of(forms[_i].message);
    struct pyn_parsed p;

    ck_assert(pyn_proto_parse(t.span, &p));
    ck_assert_int_eq(p.op, forms[_i].op);
    ck_assert_span(p.to.pid, forms[_i].pid, false);
    ck_assert_span(p.to.tag, forms[_i].tag, false);
    ck_assert_span(p.to.alias, forms[_i].alias, false);
    ck_assert_span(p.cancelled, forms[_i].cancelled, false);
    free(t.bytes);
}
END_TEST

START_TEST(ping_is_taken_apart)
{
    struct term t = term_of("{'$gen_call', {$P, [alias | $R]}, {is_auth, a@b}}");
    struct pyn_reply_to to;

    ck_assert(pyn_proto_parse_ping(t.span, &to));
    ck_assert_term(to.pid, "$P");
    ck_assert_term(to.alias, "$R");
    free(t.bytes);
}
END_TEST

/* --- Answers --- */

static void write_stopping(struct pyn_buf *b)
{
    pyn_proto_write_error(b, "stopping");
}

static void write_overloaded(struct pyn_buf *b)
{
    pyn_proto_write_overloaded(b, 7, 4);
}

static void write_bad_request(struct pyn_buf *b)
{
    pyn_proto_write_bad_request(b, "no such request");
}

static void write_exception(struct pyn_buf *b)
{
    pyn_proto_write_exception(b, "ValueError", "too large");
}

static const struct {
    void (*write)(struct pyn_buf *b);
    const char *result;
} results[] = {
    {write_stopping, "{error, stopping}"},
    {write_overloaded, "{error, {overloaded, 7, 4}}"},
    {write_bad_request, "{error, {bad_request, <no such request>}}"},
    {write_exception, "{error, {'ValueError', \"too large\"}}"},
};

/* {Tag, Result} to the alias where there is one, else to the process. */
START_TEST(answers_are_whole_frames)
{
    struct term own = term_of("$P"), message = term_of("{$P, [alias | $R], info}"), plain = term_of("{$P, 17, info}");

    for (int alias = 0; alias <= 1; alias++) {
        struct pyn_parsed p;
        struct pyn_control c;
        struct pyn_buf b, expected;
        size_t frame;

        ck_assert(pyn_proto_parse(alias ? message.span : plain.span, &p));
        pyn_buf_init(&b, MAX);
        frame = pyn_proto_begin_reply(&b, &p.to, own.span);
        results[_i].write(&b);
        pyn_frame_end(&b, frame, 0);
        ck_assert_uint_eq(pyn_get_be32(b.data), b.len - 4);
        ck_assert_int_eq(pyn_control_parse((struct pyn_span){b.data + 4, b.len - 4}, &c), PYN_CONTROL_OK);
        ck_assert_int_eq(c.op, alias ? PYN_CTL_ALIAS_SEND : PYN_CTL_SEND);
        ck_assert_term(c.to, alias ? "$R" : "$P");
        pyn_buf_init(&expected, MAX);
        pyn_write_tuple(&expected, 2);
        notation_write(&expected, alias ? "[alias | $R]" : "17");
        notation_write(&expected, results[_i].result);
        ck_assert(pyn_span_eq(c.payload, (struct pyn_span){expected.data, expected.len}));
        pyn_buf_free(&expected);
        pyn_buf_free(&b);
    }
    free(own.bytes);
    free(message.bytes);
    free(plain.bytes);
}
END_TEST

#define ADD(tcase, test, table) tcase_add_loop_test(tcase, test, 0, (int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *suite = suite_create("proto");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    ADD(limits, what_is_in_no_form, no_form);
    ADD(limits, bad_requests_have_a_sentence, bad_requests);
    ADD(limits, arguments_that_are_no_list, no_arguments);
    ADD(limits, cut_at_every_byte, whole);
    ADD(limits, bytes_behind_the_message, whole);
    tcase_add_test(limits, depth_is_bounded);
    ADD(limits, what_is_no_ping, no_pings);
    ADD(core, requests_are_taken_apart, requests);
    ADD(core, the_span_of_the_caller, spans);
    ADD(core, requests_for_all_are_taken_apart, for_all);
    ADD(core, forms_say_whom_to_answer, forms);
    tcase_add_test(core, ping_is_taken_apart);
    ADD(core, answers_are_whole_frames, results);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
