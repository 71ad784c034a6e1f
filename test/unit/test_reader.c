#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etf/reader.h"
#include "unit/cases.h"
#include "unit/suite.h"
#include "unit/token_text.h"
#include "unit/tokens.h"

static struct test_case *valid, *invalid;
static size_t valid_count, invalid_count;

static const char *error_name(enum pyn_etf_error e)
{
    static const char *const names[] = {"OK", "TRUNCATED", "BAD_TAG", "BAD_VALUE", "TOO_DEEP", "LYING"};
    return names[e];
}

static void see_nothing(void *ctx, const struct pyn_token *t)
{
    (void)ctx;
    (void)t;
}

static void see_funs(void *ctx, const struct pyn_token *t)
{
    *(bool *)ctx |= t->kind == PYN_T_FUN;
}

/* Both ways of going over a term, from the same bytes: they must agree on whether it is one, and where it ends. */
static enum pyn_etf_error walk_and_skip(const uint8_t *bytes, size_t len)
{
    struct pyn_reader w = {bytes, bytes + len};
    struct pyn_reader s = w;
    struct pyn_span skipped = {NULL, 0};
    bool funs = false;
    enum pyn_etf_error we = walk_term(&w, see_funs, &funs);
    enum pyn_etf_error se = pyn_read_skip(&s, &skipped);

    if (se == PYN_ETF_OK) {
        ck_assert_ptr_eq(skipped.ptr, bytes);
        ck_assert_ptr_eq(s.pos, bytes + skipped.len);
        ck_assert_ptr_eq(s.pos, w.pos);
    } else {
        ck_assert_ptr_eq(s.pos, bytes);
    }
    /* A fun is one token to the walk but a level to the skipper. */
    if (!(funs && se == PYN_ETF_TOO_DEEP))
        ck_assert_msg(we == se, "walk says %s, skip says %s", error_name(we), error_name(se));
    return se;
}

static enum pyn_etf_error both(struct pyn_span s)
{
    uint8_t *copy = cases_exact(s.ptr, s.len);
    enum pyn_etf_error e = walk_and_skip(copy, s.len);

    free(copy);
    return e;
}

/* --- Core --- */

START_TEST(invalid_cases)
{
    const struct test_case *c = &invalid[_i];
    enum pyn_etf_error e = walk_and_skip(c->bytes, c->len);

    ck_assert_msg(strcmp(error_name(e), c->expected) == 0, "%s: %s, not %s", c->name, error_name(e), c->expected);
}
END_TEST

START_TEST(valid_cases)
{
    const struct test_case *c = &valid[_i];
    struct pyn_reader r = {c->bytes, c->bytes + c->len};
    struct token_text *x = calloc(1, sizeof(*x));
    enum pyn_etf_error e;

    ck_assert_ptr_nonnull(x);
    e = walk_term(&r, token_text_add, x);
    ck_assert_msg(e == PYN_ETF_OK, "%s: %s", c->name, error_name(e));
    ck_assert_msg(pyn_reader_left(&r) == 0, "%s: %zu bytes are left", c->name, pyn_reader_left(&r));
    ck_assert_msg(strcmp(x->at, c->expected) == 0, "%s: got\n%s\nnot\n%s", c->name, x->at, c->expected);
    ck_assert_int_eq(walk_and_skip(c->bytes, c->len), PYN_ETF_OK);
    free(x);
}
END_TEST

START_TEST(every_tag_is_known_or_refused)
{
    /* Not 'u', FUN_EXT, gone since OTP 23; not 'y', LOCAL_EXT, which stays at home. */
    static const char tags[] = "abcdefghijklmnopqrstvwxMXYZF";
    uint8_t bytes[400] = {0};
    bool known[256] = {false};

    for (size_t i = 0; tags[i]; i++)
        known[(uint8_t)tags[i]] = true;
    for (unsigned tag = 0; tag < 256; tag++) {
        struct pyn_reader r = {bytes, bytes + sizeof(bytes)};
        struct pyn_token t;

        bytes[0] = (uint8_t)tag;
        if (known[tag])
            ck_assert_msg(pyn_read_token(&r, &t) != PYN_ETF_BAD_TAG, "tag %u", tag);
        else
            ck_assert_msg(pyn_read_token(&r, &t) == PYN_ETF_BAD_TAG, "tag %u", tag);
    }
}
END_TEST

START_TEST(cursor_stays_on_error)
{
    for (size_t i = 0; i < valid_count; i++) {
        struct pyn_reader r = {valid[i].bytes, valid[i].bytes + 1};
        struct pyn_token t;

        if (pyn_read_token(&r, &t) != PYN_ETF_OK)
            ck_assert_ptr_eq(r.pos, valid[i].bytes);
    }
}
END_TEST

START_TEST(fixed_shapes)
{
    /* {call, 5} */
    static const uint8_t bytes[] = {131, 104, 2, 119, 4, 'c', 'a', 'l', 'l', 97, 5};
    struct pyn_reader r = {bytes, bytes + sizeof(bytes)};
    struct pyn_span name;
    struct pyn_token t;
    uint32_t arity;
    int64_t v;

    ck_assert(!pyn_read_tuple(&r, &arity));
    ck_assert(pyn_read_version(&r));
    ck_assert(!pyn_read_version(&r));
    ck_assert(!pyn_read_atom(&r, &name));
    ck_assert(!pyn_read_int(&r, &v));
    ck_assert_ptr_eq(r.pos, bytes + 1);
    ck_assert(pyn_read_tuple(&r, &arity));
    ck_assert_uint_eq(arity, 2);
    ck_assert(!pyn_read_tuple(&r, &arity));
    ck_assert(pyn_read_atom(&r, &name));
    ck_assert(pyn_span_is(name, "call"));
    ck_assert(!pyn_read_kind(&r, PYN_T_BINARY, &t));
    ck_assert(pyn_read_int(&r, &v));
    ck_assert_int_eq(v, 5);
    ck_assert(!pyn_read_int(&r, &v));
    ck_assert(!pyn_read_version(&r));
    ck_assert_uint_eq(pyn_reader_left(&r), 0);
}
END_TEST

START_TEST(empty_span_has_no_address)
{
    struct pyn_reader r = pyn_reader_of((struct pyn_span){NULL, 0});
    struct pyn_token t;

    ck_assert_int_eq(pyn_read_token(&r, &t), PYN_ETF_TRUNCATED);
    ck_assert_int_eq(pyn_read_skip(&r, NULL), PYN_ETF_TRUNCATED);
    ck_assert(!pyn_read_version(&r));
}
END_TEST

START_TEST(errors_have_sentences)
{
    for (int e = PYN_ETF_OK; e <= PYN_ETF_LYING; e++)
        ck_assert_uint_gt(strlen(pyn_etf_strerror((enum pyn_etf_error)e)), 5);
    ck_assert_ptr_nonnull(pyn_etf_strerror((enum pyn_etf_error)99));
}
END_TEST

/* --- Limits --- */

START_TEST(truncated_everywhere)
{
    const struct test_case *c = &valid[_i];

    for (size_t len = 0; len < c->len; len += len < 600 ? 1 : 997) {
        enum pyn_etf_error e = both((struct pyn_span){c->bytes, len});

        ck_assert_msg(e == PYN_ETF_TRUNCATED || e == PYN_ETF_LYING, "%s cut to %zu bytes: %s", c->name, len,
                      error_name(e));
    }
}
END_TEST

START_TEST(every_byte_changed)
{
    static const uint8_t values[] = {0, 1, 2, 0x7f, 0x80, 0xff, 77, 88, 90, 97, 104, 106, 107, 108, 109, 112, 116, 119};
    const struct test_case *c = &valid[_i];
    uint8_t *copy = cases_exact(c->bytes, c->len);

    for (size_t at = 0; at < c->len && at < 600; at++) {
        for (size_t v = 0; v < sizeof(values); v++) {
            copy[at] = values[v];
            walk_and_skip(copy, c->len);
        }
        copy[at] = c->bytes[at];
    }
    free(copy);
}
END_TEST

/* One level of a kind of container around whatever comes next. */
struct wrap {
    const char *name;
    const char *before; /* hex */
    const char *after;
};

static const struct wrap wraps[] = {
    {"tuple", "68 01", ""},
    {"large tuple", "69 00000001", ""},
    {"list", "6c 00000001", "6a"},
    {"tail of a list", "6c 00000001 61 00", ""},
    {"key of a map", "74 00000001", "6a"},
    {"value of a map", "74 00000001 6a", ""},
};

/* depth levels around nil, or around nothing when `open_end`. */
static struct pyn_span nest(const struct wrap *w, size_t depth, bool open_end)
{
    uint8_t *before, *after, *all;
    size_t nb = cases_unhex(w->before, &before);
    size_t na = cases_unhex(w->after, &after);
    size_t n = 0;

    all = malloc(depth * (nb + na) + 1);
    ck_assert_ptr_nonnull(all);
    for (size_t i = 0; i < depth; i++, n += nb)
        memcpy(all + n, before, nb);
    if (!open_end) {
        all[n++] = 106;
        for (size_t i = 0; i < depth; i++, n += na)
            memcpy(all + n, after, na);
    }
    free(before);
    free(after);
    return (struct pyn_span){all, n};
}

static void expect_nest(const struct wrap *w, size_t depth, bool open_end, enum pyn_etf_error expected)
{
    struct pyn_span s = nest(w, depth, open_end);
    enum pyn_etf_error e = both(s);

    ck_assert_msg(e == expected, "%s, %zu deep: %s", w->name, depth, error_name(e));
    free((void *)s.ptr);
}

START_TEST(nested_too_deep)
{
    const struct wrap *w = &wraps[_i];

    expect_nest(w, 1, false, PYN_ETF_OK);
    expect_nest(w, PYN_ETF_MAX_DEPTH, false, PYN_ETF_OK);
    expect_nest(w, PYN_ETF_MAX_DEPTH + 1, false, PYN_ETF_TOO_DEEP);
    expect_nest(w, 200000, false, PYN_ETF_TOO_DEEP);
    expect_nest(w, 200000, true, PYN_ETF_TOO_DEEP);
}
END_TEST

/* Funs inside each other's free variables; each says its size. */
static struct pyn_span nested_funs(size_t depth)
{
    static const uint8_t tail[] = {119, 1, 'm', 97, 0, 97, 0, 88, 119, 1, 'n', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1};
    enum { HEAD = 30, ONE = HEAD + sizeof(tail) };
    uint8_t *all = calloc(depth * ONE + 1, 1);

    ck_assert_ptr_nonnull(all);
    for (size_t i = 0; i < depth; i++) {
        uint8_t *at = all + i * ONE;
        uint32_t size = (uint32_t)((depth - i) * ONE); /* from itself to the end of all */

        at[0] = 112;
        at[1] = (uint8_t)(size >> 24);
        at[2] = (uint8_t)(size >> 16);
        at[3] = (uint8_t)(size >> 8);
        at[4] = (uint8_t)size;
        at[HEAD - 1] = 1;
        memcpy(at + HEAD, tail, sizeof(tail));
    }
    all[depth * ONE] = 106;
    return (struct pyn_span){all, depth * ONE + 1};
}

START_TEST(funs_nested_too_deep)
{
    static const struct {
        size_t depth;
        enum pyn_etf_error expected;
    } table[] = {
        {1, PYN_ETF_OK},
        {PYN_ETF_MAX_DEPTH, PYN_ETF_OK},
        {PYN_ETF_MAX_DEPTH + 1, PYN_ETF_TOO_DEEP},
        {100000, PYN_ETF_TOO_DEEP},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct pyn_span s = nested_funs(table[i].depth);
        struct pyn_reader r = pyn_reader_of(s);
        struct pyn_token t;

        ck_assert_int_eq(pyn_read_skip(&r, NULL), table[i].expected);
        r = pyn_reader_of(s);
        ck_assert_int_eq(pyn_read_token(&r, &t), table[i].expected);
        free((void *)s.ptr);
    }
}
END_TEST

/* Each has an outer container that is honest only if all of the rest belongs to it. */
START_TEST(lying_lengths)
{
    static const struct {
        const char *hex;
        enum pyn_etf_error expected;
    } table[] = {
        {"68 ff 6a", PYN_ETF_LYING},
        {"69 ffffffff 6a", PYN_ETF_LYING},
        {"69 80000000 6a", PYN_ETF_LYING},
        {"69 00000002 6a", PYN_ETF_LYING},
        {"6c ffffffff 6a*16", PYN_ETF_LYING},
        {"6c 7fffffff 6a*16", PYN_ETF_LYING},
        {"6c 00000010 6a*16", PYN_ETF_LYING},
        {"6c 0000000f 6a*16", PYN_ETF_OK},
        {"74 ffffffff 6a*16", PYN_ETF_LYING},
        {"74 80000000 6a*16", PYN_ETF_LYING}, /* twice that is 0 in 32 bits */
        {"74 80000001 6a*16", PYN_ETF_LYING},
        {"74 00000009 6a*17", PYN_ETF_LYING},
        {"74 00000008 6a*16", PYN_ETF_OK},
        {"6b ffff 61*16", PYN_ETF_TRUNCATED},
        {"6d ffffffff 61*16", PYN_ETF_TRUNCATED},
        {"6d 80000000 61*16", PYN_ETF_TRUNCATED},
        {"6d 00000011 61*16", PYN_ETF_TRUNCATED},
        {"4d ffffffff 01 61*16", PYN_ETF_TRUNCATED},
        {"6e ff 00 61*16", PYN_ETF_TRUNCATED},
        {"6f ffffffff 00 61*16", PYN_ETF_TRUNCATED},
        {"6f 80000000 01 61*16", PYN_ETF_TRUNCATED},
        {"64 ffff 61*16", PYN_ETF_TRUNCATED},
        {"73 ff 61*16", PYN_ETF_TRUNCATED},
        {"76 ffff 61*16", PYN_ETF_TRUNCATED},
        {"77 ff 61*16", PYN_ETF_TRUNCATED},
        {"70 ffffffff 00*200", PYN_ETF_TRUNCATED},
        {"70 00000000 00*200", PYN_ETF_BAD_VALUE},
        {"5a ffff 77 01 61 00*16", PYN_ETF_BAD_VALUE},
        {"72 0005 77 01 61 00*16", PYN_ETF_TRUNCATED},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        uint8_t *bytes;
        size_t len = cases_unhex(table[i].hex, &bytes);
        enum pyn_etf_error e = walk_and_skip(bytes, len);

        ck_assert_msg(e == table[i].expected, "%s: %s", table[i].hex, error_name(e));
        free(bytes);
    }
}
END_TEST

/* A walk over a list of many terms is linear, and a count alone costs nothing. */
START_TEST(long_list)
{
    enum { COUNT = 500000 };
    uint8_t *bytes = malloc(6 + COUNT);
    struct pyn_reader r = {bytes, bytes + 6 + COUNT};

    ck_assert_ptr_nonnull(bytes);
    memset(bytes, 106, 6 + COUNT);
    bytes[0] = 108;
    bytes[1] = 0;
    bytes[2] = COUNT >> 16;
    bytes[3] = (COUNT >> 8) & 255;
    bytes[4] = COUNT & 255;
    ck_assert_int_eq(walk_term(&r, see_nothing, NULL), PYN_ETF_OK);
    ck_assert_uint_eq(pyn_reader_left(&r), 0);
    ck_assert_int_eq(walk_and_skip(bytes, 6 + COUNT), PYN_ETF_OK);
    ck_assert_int_eq(walk_and_skip(bytes, 5 + COUNT), PYN_ETF_LYING);
    free(bytes);
}
END_TEST

static Suite *reader_suite(void)
{
    Suite *s = suite_create("reader");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_loop_test(core, invalid_cases, 0, (int)invalid_count);
    tcase_add_loop_test(core, valid_cases, 0, (int)valid_count);
    tcase_add_test(core, every_tag_is_known_or_refused);
    tcase_add_test(core, cursor_stays_on_error);
    tcase_add_test(core, fixed_shapes);
    tcase_add_test(core, empty_span_has_no_address);
    tcase_add_test(core, errors_have_sentences);
    suite_add_tcase(s, core);
    tcase_set_timeout(limits, 120);
    tcase_add_loop_test(limits, truncated_everywhere, 0, (int)valid_count);
    tcase_add_loop_test(limits, every_byte_changed, 0, (int)valid_count);
    tcase_add_loop_test(limits, nested_too_deep, 0, (int)(sizeof(wraps) / sizeof(wraps[0])));
    tcase_add_test(limits, funs_nested_too_deep);
    tcase_add_test(limits, lying_lengths);
    tcase_add_test(limits, long_list);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    int failed;

    valid = cases_load("valid", &valid_count);
    invalid = cases_load("invalid", &invalid_count);
    failed = suite_run(reader_suite());
    cases_free(valid, valid_count);
    cases_free(invalid, invalid_count);
    return failed;
}
