#include <stdlib.h>
#include <string.h>

#include "dist/control.h"
#include "etf/reader.h"
#include "etf/writer.h"

#include "unit/suite.h"

/* --- Terms by letters: each test frame is a row of them --- */

static void put_node_and(struct pyn_buf *b, unsigned numbers)
{
    pyn_write_atom(b, "peer@host");
    for (unsigned i = 0; i < numbers; i++)
        pyn_buf_be32(b, i + 1);
}

static void put_ref(struct pyn_buf *b)
{
    pyn_buf_bytes(b, "\x5a\0\3", 3);
    put_node_and(b, 4);
}

static void put_letter(struct pyn_buf *b, char letter)
{
    switch (letter) {
    case 'P': /* pid */
        pyn_buf_u8(b, 88);
        put_node_and(b, 3);
        break;
    case 'O': /* port */
        pyn_buf_u8(b, 89);
        put_node_and(b, 2);
        break;
    case 'R':
        put_ref(b);
        break;
    case 'A':
        pyn_write_atom(b, "py");
        break;
    case 'L':
        pyn_buf_bytes(b, "s\1\xe9", 3);
        break; /* a Latin-1 name */
    case 'E':
        pyn_write_atom(b, "");
        break;
    case 'I':
        pyn_write_int(b, 42);
        break;
    case 'B':
        pyn_buf_bytes(b, "n\x08\0\xff\xff\xff\xff\xff\xff\xff\xff", 11);
        break; /* 2^64 - 1 */
    case 'T':  /* a tuple of three */
        pyn_write_tuple(b, 3);
        for (int i = 0; i < 3; i++)
            pyn_write_atom(b, "x");
        break;
    case 'N':
        pyn_write_nil(b);
        break;
    case '?':
        pyn_buf_u8(b, 200);
        break; /* no tag */
    default:
        ck_abort_msg("no such letter: %c", letter);
    }
}

/* 'p', 131, {Op, letters...}, and with a tail 131 and it. The buffer is the caller's. */
static struct pyn_span make_frame(struct pyn_buf *b, int64_t op, const char *letters, const char *tail)
{
    pyn_buf_init(b, 1 << 20);
    pyn_buf_u8(b, 'p');
    pyn_write_version(b);
    pyn_write_tuple(b, strlen(letters) + 1);
    pyn_write_int(b, op);
    for (; *letters; letters++)
        put_letter(b, *letters);
    if (tail) {
        pyn_write_version(b);
        pyn_buf_bytes(b, tail, strlen(tail));
    }
    ck_assert(!b->failed);
    return (struct pyn_span){b->data, b->len};
}

/* The n-th element of the frame's tuple (0 is the operation). */
static struct pyn_span element(struct pyn_span frame, unsigned n)
{
    struct pyn_reader r = {frame.ptr + 2, frame.ptr + frame.len};
    struct pyn_span s = {NULL, 0};
    uint32_t arity;

    ck_assert(pyn_read_tuple(&r, &arity));
    ck_assert_uint_lt(n, arity);
    for (unsigned i = 0; i <= n; i++)
        ck_assert_int_eq(pyn_read_skip(&r, &s), PYN_ETF_OK);
    return s;
}

/* --- Bad frames --- */

static const struct {
    const char *bytes;
    size_t len;
} garbage[] = {
    {"", 0},
    {"p", 1},
    {"p\x83", 2},
    {"p\x84h\3a\2", 6}, /* another version */
    {"\x83\x44\0", 3},  /* a distribution header */
    {"q\x83h\2a\2", 6}, /* another first byte */
    {"p\x83"
     "a\2",
     4},                                   /* no tuple */
    {"p\x83h\0", 4},                       /* a tuple of nothing */
    {"p\x83h\1w\2hi", 8},                  /* an operation that is no number */
    {"p\x83h\1b\xff\xff\xff\xff", 9},      /* operation -1 */
    {"p\x83h\1n\4\0\xff\xff\xff\xff", 11}, /* operation 2^32 - 1 */
    {"p\x83h\xff"
     "a\2",
     6}, /* an arity that the bytes cannot hold */
    {"p\x83i\xff\xff\xff\xff"
     "a\2",
     9},
};

START_TEST(garbage_is_malformed)
{
    struct pyn_span frame;
    struct pyn_control c;
    uint8_t *copy = malloc(garbage[_i].len + 1);

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, garbage[_i].bytes, garbage[_i].len);
    frame = (struct pyn_span){copy, garbage[_i].len};
    ck_assert_int_eq(pyn_control_parse(frame, &c), PYN_CONTROL_MALFORMED);
    free(copy);
}
END_TEST

static const struct {
    int64_t op;
    const char *letters;
    const char *tail;
} bad[] = {
    {2, "EP", NULL},                      /* SEND without payload */
    {2, "EP", ""},                        /* with an empty one */
    {2, "EA", "j"},                       /* to a name */
    {2, "ER", "j"},                       /* to a reference */
    {2, "P", "j"},                        /* too short */
    {2, "EPP", "j"},                      /* too long */
    {2, "?P", "j"},                       /* a broken term where nobody looks */
    {6, "PEP", "j"},                      /* REG_SEND to a pid */
    {6, "AEA", "j"},                      /* from a name */
    {6, "PEB", "j"},     {33, "PP", "j"}, /* ALIAS_SEND to a pid */
    {33, "RR", "j"},     {1, "PA", NULL}, /* LINK to a name */
    {1, "PP", "j"},                       /* with a payload */
    {19, "PAP", NULL},                    /* MONITOR_P without reference */
    {19, "PIR", NULL},   {20, "PPA", NULL}, {21, "IPRA", NULL}, {21, "PARA", NULL}, /* to a name */
    {21, "PPR?", NULL},  {3, "PP?", NULL},  {24, "PP", NULL}, /* reason promised behind the tuple, not there */
    {35, "APP", NULL},                                        /* an id that is none */
    {29, "RPPTN", NULL},                                      /* SPAWN_REQUEST without arguments */
    {29, "PPPTN", "j"},  {99, "?", NULL},                     /* unknown, and broken */
    {0, "?", NULL},
};

START_TEST(wrong_shape_is_malformed)
{
    struct pyn_control c;
    struct pyn_buf b;
    struct pyn_span frame = make_frame(&b, bad[_i].op, bad[_i].letters, bad[_i].tail);

    ck_assert_int_eq(pyn_control_parse(frame, &c), PYN_CONTROL_MALFORMED);
    pyn_buf_free(&b);
}
END_TEST

/* --- Good frames --- */

static const struct {
    int64_t op;
    const char *letters;
    const char *tail;
    enum pyn_ctl_op as;
    /* which element each is; 0: not set */
    unsigned from, to, ref, id, reason;
    bool named; /* to is an atom */
    bool tail_is_reason;
} good[] = {
    {1, "PP", NULL, PYN_CTL_LINK, 1, 2, 0, 0, 0, false, false},
    {1, "PO", NULL, PYN_CTL_LINK, 1, 2, 0, 0, 0, false, false},
    {2, "EP", "j", PYN_CTL_SEND, 0, 2, 0, 0, 0, false, false},
    {2, "AP", "anything at all", PYN_CTL_SEND, 0, 2, 0, 0, 0, false, false},
    {12, "EPT", "j", PYN_CTL_SEND, 0, 2, 0, 0, 0, false, false},
    {3, "PPA", NULL, PYN_CTL_EXIT, 1, 2, 0, 0, 3, false, false},
    {3, "PPT", NULL, PYN_CTL_EXIT, 1, 2, 0, 0, 3, false, false},
    {13, "PPTA", NULL, PYN_CTL_EXIT, 1, 2, 0, 0, 4, false, false},
    {24, "PP", "w\2up", PYN_CTL_EXIT, 1, 2, 0, 0, 0, false, true},
    {25, "PPT", "w\2up", PYN_CTL_EXIT, 1, 2, 0, 0, 0, false, true},
    {4, "PP", NULL, PYN_CTL_UNLINK, 1, 2, 0, 0, 0, false, false},
    {6, "PEA", "j", PYN_CTL_REG_SEND, 1, 3, 0, 0, 0, true, false},
    {6, "PEL", "j", PYN_CTL_REG_SEND, 1, 3, 0, 0, 0, false, false},
    {16, "PEAN", "j", PYN_CTL_REG_SEND, 1, 3, 0, 0, 0, true, false},
    {7, "PP", NULL, PYN_CTL_GROUP_LEADER, 1, 2, 0, 0, 0, false, false},
    {8, "PPA", NULL, PYN_CTL_EXIT2, 1, 2, 0, 0, 3, false, false},
    {18, "PPNA", NULL, PYN_CTL_EXIT2, 1, 2, 0, 0, 4, false, false},
    {26, "PP", "j", PYN_CTL_EXIT2, 1, 2, 0, 0, 0, false, true},
    {27, "PPN", "j", PYN_CTL_EXIT2, 1, 2, 0, 0, 0, false, true},
    {19, "PPR", NULL, PYN_CTL_MONITOR_P, 1, 2, 3, 0, 0, false, false},
    {19, "PAR", NULL, PYN_CTL_MONITOR_P, 1, 2, 3, 0, 0, true, false},
    {20, "PAR", NULL, PYN_CTL_DEMONITOR_P, 1, 2, 3, 0, 0, true, false},
    {21, "PPRA", NULL, PYN_CTL_MONITOR_P_EXIT, 1, 2, 3, 0, 4, false, false},
    {21, "APRT", NULL, PYN_CTL_MONITOR_P_EXIT, 1, 2, 3, 0, 4, false, false},
    {28, "APR", "j", PYN_CTL_MONITOR_P_EXIT, 1, 2, 3, 0, 0, false, true},
    {22, "PP", "j", PYN_CTL_SEND_SENDER, 1, 2, 0, 0, 0, false, false},
    {23, "PPT", "j", PYN_CTL_SEND_SENDER, 1, 2, 0, 0, 0, false, false},
    {29, "RPPTN", "j", PYN_CTL_SPAWN_REQUEST, 2, 3, 1, 4, 5, false, false},
    {30, "RPPTNT", "j", PYN_CTL_SPAWN_REQUEST, 2, 3, 1, 4, 5, false, false},
    {31, "RPIP", NULL, PYN_CTL_SPAWN_REPLY, 0, 2, 1, 3, 4, false, false},
    {32, "RPIAT", NULL, PYN_CTL_SPAWN_REPLY, 0, 2, 1, 3, 4, false, false},
    {33, "PR", "j", PYN_CTL_ALIAS_SEND, 1, 2, 0, 0, 0, false, false},
    {34, "PRT", "j", PYN_CTL_ALIAS_SEND, 1, 2, 0, 0, 0, false, false},
    {35, "IPP", NULL, PYN_CTL_UNLINK_ID, 2, 3, 0, 1, 0, false, false},
    {35, "BPP", NULL, PYN_CTL_UNLINK_ID, 2, 3, 0, 1, 0, false, false},
    {36, "BPP", NULL, PYN_CTL_UNLINK_ID_ACK, 2, 3, 0, 1, 0, false, false},
};

static void check_element(struct pyn_span frame, unsigned n, struct pyn_span got)
{
    struct pyn_span want = {NULL, 0};

    if (n > 0)
        want = element(frame, n);
    ck_assert_ptr_eq(got.ptr, want.ptr);
    ck_assert_uint_eq(got.len, want.len);
}

START_TEST(every_operation_is_understood)
{
    struct pyn_control c;
    struct pyn_buf b;
    struct pyn_span frame = make_frame(&b, good[_i].op, good[_i].letters, good[_i].tail);

    ck_assert_int_eq(pyn_control_parse(frame, &c), PYN_CONTROL_OK);
    ck_assert_int_eq(c.op, good[_i].as);
    check_element(frame, good[_i].from, c.from);
    check_element(frame, good[_i].to, c.to);
    check_element(frame, good[_i].ref, c.ref);
    check_element(frame, good[_i].id, c.id);
    if (!good[_i].tail_is_reason)
        check_element(frame, good[_i].reason, c.reason);
    ck_assert_int_eq(pyn_span_is(c.to_name, "py"), good[_i].named);
    if (good[_i].tail && good[_i].tail_is_reason)
        ck_assert(pyn_span_is(c.reason, good[_i].tail));
    else if (good[_i].tail)
        ck_assert(pyn_span_is(c.payload, good[_i].tail));
    if (!good[_i].tail || good[_i].tail_is_reason)
        ck_assert_ptr_null(c.payload.ptr);
    pyn_buf_free(&b);
}
END_TEST

/* A frame cut anywhere is malformed, or has less payload; never is a byte behind its end looked at. */
START_TEST(truncated_anywhere)
{
    struct pyn_control c;
    struct pyn_buf b;
    struct pyn_span frame = make_frame(&b, good[_i].op, good[_i].letters, good[_i].tail);
    size_t tail = good[_i].tail ? strlen(good[_i].tail) : 0;

    for (size_t len = 0; len < frame.len; len++) {
        uint8_t *copy = malloc(len + 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy + 1, frame.ptr, len); /* so that its end is the end of the block */
        ck_assert_int_eq(pyn_control_parse((struct pyn_span){copy + 1, len}, &c),
                         len > frame.len - tail ? PYN_CONTROL_OK : PYN_CONTROL_MALFORMED);
        free(copy);
    }
    pyn_buf_free(&b);
}
END_TEST

START_TEST(unknown_operations_can_be_skipped)
{
    static const int64_t ops[] = {0, 5, 9, 10, 11, 14, 15, 17, 37, 38, 99, 255, 256, 70000, INT32_MAX};

    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        struct pyn_control c;
        struct pyn_buf b;
        struct pyn_span frame = make_frame(&b, ops[i], "PATNIB", "whatever");
        ck_assert_int_eq(pyn_control_parse(frame, &c), PYN_CONTROL_UNKNOWN);
        ck_assert_int_eq((int64_t)c.op, ops[i]);
        pyn_buf_free(&b);
    }
}
END_TEST

/* --- Builders --- */

struct terms {
    struct pyn_buf bytes;
    struct pyn_span pid, port, ref, name, id, reason;
};

static struct pyn_span one_term(struct pyn_buf *b, char letter)
{
    size_t start = b->len;

    put_letter(b, letter);
    return (struct pyn_span){b->data + start, b->len - start};
}

static void terms_make(struct terms *t)
{
    pyn_buf_init(&t->bytes, 1 << 16);
    ck_assert(pyn_buf_room(&t->bytes, 4096)); /* so that it does not move */
    t->pid = one_term(&t->bytes, 'P');
    t->port = one_term(&t->bytes, 'O');
    t->ref = one_term(&t->bytes, 'R');
    t->name = one_term(&t->bytes, 'A');
    t->id = one_term(&t->bytes, 'B');
    t->reason = one_term(&t->bytes, 'T');
}

/* The frame that begins at `at` ends with the buffer and its length says so (`more` bytes come from elsewhere). */
static struct pyn_control parse_built(const struct pyn_buf *b, size_t at, size_t more)
{
    struct pyn_control c;

    ck_assert(!b->failed);
    ck_assert_uint_eq(pyn_get_be32(b->data + at), b->len - at - 4 + more);
    ck_assert_int_eq(pyn_control_parse((struct pyn_span){b->data + at + 4, b->len - at - 4}, &c), PYN_CONTROL_OK);
    return c;
}

START_TEST(built_messages_are_understood)
{
    struct terms t;
    struct pyn_control c;
    struct pyn_buf b;
    size_t frame;

    terms_make(&t);
    pyn_buf_init(&b, 1 << 16);
    pyn_buf_bytes(&b, "before", 6);

    frame = pyn_frame_send(&b, t.pid);
    ck_assert_uint_eq(frame, 6);
    pyn_write_nil(&b);
    pyn_frame_end(&b, frame, 0);
    c = parse_built(&b, frame, 0);
    ck_assert_int_eq(c.op, PYN_CTL_SEND);
    ck_assert(pyn_span_eq(c.to, t.pid));
    ck_assert(pyn_span_is(c.payload, "j"));

    frame = pyn_frame_alias_send(&b, t.pid, t.ref);
    pyn_write_nil(&b);
    pyn_frame_end(&b, frame, 1000000);
    c = parse_built(&b, frame, 1000000);
    ck_assert_int_eq(c.op, PYN_CTL_ALIAS_SEND);
    ck_assert(pyn_span_eq(c.from, t.pid));
    ck_assert(pyn_span_eq(c.to, t.ref));

    frame = pyn_frame_reg_send(&b, t.pid, "py_coordinator");
    pyn_write_int(&b, 7);
    pyn_frame_end(&b, frame, 0);
    c = parse_built(&b, frame, 0);
    ck_assert_int_eq(c.op, PYN_CTL_REG_SEND);
    ck_assert(pyn_span_eq(c.from, t.pid));
    ck_assert(pyn_span_is(c.to_name, "py_coordinator"));
    ck_assert(pyn_span_is(c.payload, "a\7"));
    pyn_buf_free(&b);
    pyn_buf_free(&t.bytes);
}
END_TEST

START_TEST(built_signals_are_understood)
{
    struct terms t;
    struct pyn_control c;
    struct pyn_buf b;
    size_t at;

    terms_make(&t);
    pyn_buf_init(&b, 1 << 16);
    pyn_frame_monitor(&b, t.pid, t.name, t.ref);
    c = parse_built(&b, 0, 0);
    ck_assert_int_eq(c.op, PYN_CTL_MONITOR_P);
    ck_assert(pyn_span_eq(c.from, t.pid) && pyn_span_is(c.to_name, "py") && pyn_span_eq(c.ref, t.ref));

    at = b.len;
    pyn_frame_demonitor(&b, t.pid, t.pid, t.ref);
    c = parse_built(&b, at, 0);
    ck_assert_int_eq(c.op, PYN_CTL_DEMONITOR_P);
    ck_assert(pyn_span_eq(c.from, t.pid) && pyn_span_eq(c.to, t.pid) && pyn_span_eq(c.ref, t.ref));

    at = b.len;
    pyn_frame_monitor_exit(&b, t.name, t.pid, t.ref, t.reason);
    c = parse_built(&b, at, 0);
    ck_assert_int_eq(c.op, PYN_CTL_MONITOR_P_EXIT);
    ck_assert(pyn_span_eq(c.from, t.name) && pyn_span_eq(c.to, t.pid));
    ck_assert(pyn_span_eq(c.ref, t.ref) && pyn_span_eq(c.reason, t.reason));

    at = b.len;
    pyn_frame_exit(&b, t.port, t.pid, t.name);
    c = parse_built(&b, at, 0);
    ck_assert_int_eq(c.op, PYN_CTL_EXIT);
    ck_assert(pyn_span_eq(c.from, t.port) && pyn_span_eq(c.to, t.pid) && pyn_span_eq(c.reason, t.name));

    at = b.len;
    pyn_frame_unlink_ack(&b, t.id, t.pid, t.port);
    c = parse_built(&b, at, 0);
    ck_assert_int_eq(c.op, PYN_CTL_UNLINK_ID_ACK);
    ck_assert(pyn_span_eq(c.id, t.id) && pyn_span_eq(c.from, t.pid) && pyn_span_eq(c.to, t.port));
    pyn_buf_free(&b);
    pyn_buf_free(&t.bytes);
}
END_TEST

/* The maximum is met at each byte of the message in turn: nothing is written behind it, the failure stays. */
START_TEST(a_full_buffer_fails)
{
    struct terms t;

    terms_make(&t);
    for (size_t max = 0; max < 120; max++) {
        struct pyn_buf b;
        size_t frame;
        pyn_buf_init(&b, max);
        frame = pyn_frame_reg_send(&b, t.pid, "some_name");
        pyn_write_binary(&b, "0123456789012345678901234567890123456789", 40);
        pyn_frame_end(&b, frame, 0);
        ck_assert_uint_le(b.len, max);
        if (!b.failed)
            parse_built(&b, frame, 0);
        else
            ck_assert_uint_lt(max, 110);
        pyn_buf_free(&b);
    }
    pyn_buf_free(&t.bytes);
}
END_TEST

START_TEST(a_frame_longer_than_the_protocol_fails)
{
    struct terms t;
    struct pyn_buf b;
    size_t frame;

    terms_make(&t);
    pyn_buf_init(&b, 1 << 16);
    frame = pyn_frame_send(&b, t.pid);
    pyn_frame_end(&b, frame, UINT32_MAX);
    ck_assert(b.failed);
    pyn_buf_free(&b);
    pyn_buf_free(&t.bytes);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("control");
    TCase *limits = tcase_create("Limits");
    TCase *core = tcase_create("Core");

    tcase_add_loop_test(limits, garbage_is_malformed, 0, (int)(sizeof(garbage) / sizeof(*garbage)));
    tcase_add_loop_test(limits, wrong_shape_is_malformed, 0, (int)(sizeof(bad) / sizeof(*bad)));
    tcase_add_loop_test(limits, truncated_anywhere, 0, (int)(sizeof(good) / sizeof(*good)));
    tcase_add_test(limits, a_full_buffer_fails);
    tcase_add_test(limits, a_frame_longer_than_the_protocol_fails);
    tcase_add_loop_test(core, every_operation_is_understood, 0, (int)(sizeof(good) / sizeof(*good)));
    tcase_add_test(core, unknown_operations_can_be_skipped);
    tcase_add_test(core, built_messages_are_understood);
    tcase_add_test(core, built_signals_are_understood);
    suite_add_tcase(s, limits);
    suite_add_tcase(s, core);
    return suite_run(s);
}
