#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "dist/link_private.h"
#include "unit/link_rig.h"
#include "unit/suite.h"

enum { MAX_FRAME = 1 << 20, MAX_OUTPUT = 1 << 20 };

static struct rig rig;
static int far;
static struct pyn_buf bytes; /* what the test writes */

static void setup(void)
{
    rig_init(&rig, MAX_FRAME, MAX_OUTPUT, 0);
    far = rig_connect(&rig, "far@host");
    pyn_buf_init(&bytes, (size_t)1 << 28);
}

static void teardown(void)
{
    pyn_buf_free(&bytes);
    close(far);
    rig_free(&rig);
}

/* --- Receiving: what must take the link down --- */

static const struct {
    const char *bytes;
    size_t len;
    const char *reason;
} poison[] = {
    {"\0\0\0\1p", 5, "malformed control message"},
    {"\0\0\0\3\x83\x44\0", 7, "malformed control message"},
    {"\0\0\0\7p\x83h\2a\2j", 11, "malformed control message"},
    {"\0\x10\0\1", 4, "frame too long"},
    {"\xff\xff\xff\xff", 4, "frame too long"},
};

/* What came before it is delivered, what comes behind it is not. */
START_TEST(a_bad_frame_takes_the_link_down)
{
    rig_frame(&bytes, 'a', 10);
    rig_frame(&bytes, 'b', 10);
    pyn_buf_bytes(&bytes, poison[_i].bytes, poison[_i].len);
    rig_frame(&bytes, 'c', 10);
    rig_write(far, bytes.data, bytes.len);
    rig_poll_until(&rig, rig.downs > 0);
    ck_assert_uint_eq(rig.messages, 2);
    ck_assert_uint_eq(rig.downs, 1);
    ck_assert_str_eq(rig.reason, poison[_i].reason);
    ck_assert_uint_eq(pyn_links_count(rig.ls), 0);
    ck_assert_int_eq(pyn_links_poll(rig.ls, 0), 0);
    ck_assert_uint_eq(rig.downs, 1);
}
END_TEST

START_TEST(the_longest_frame_is_taken)
{
    rig_frame(&bytes, 'x', MAX_FRAME - RIG_FRAME_HEAD);
    ck_assert_uint_eq(bytes.len, MAX_FRAME + 4);
    for (size_t at = 0; at < bytes.len;) {
        size_t n = bytes.len - at < 100000 ? bytes.len - at : 100000;
        rig_write(far, bytes.data + at, n);
        at += n;
        pyn_links_poll(rig.ls, 20);
    }
    rig_poll_until(&rig, rig.messages == 1);
    ck_assert_uint_eq(rig.downs, 0);
}
END_TEST

START_TEST(an_unknown_operation_is_skipped)
{
    static const uint8_t unknown[] = {0, 0, 0, 8, 'p', 131, 104, 2, 97, 99, 97, 1};

    pyn_buf_bytes(&bytes, unknown, sizeof(unknown));
    rig_frame(&bytes, 'a', 10);
    pyn_buf_bytes(&bytes, unknown, sizeof(unknown));
    rig_frame(&bytes, 'a', 10);
    rig_write(far, bytes.data, bytes.len);
    rig_poll_until(&rig, rig.messages == 2);
    ck_assert_uint_eq(rig.downs, 0);
}
END_TEST

START_TEST(the_peer_may_leave_anywhere)
{
    size_t cut;

    rig_frame(&bytes, 'a', 10);
    cut = bytes.len;
    rig_frame(&bytes, 'a', 100000);
    cut += (size_t)_i * (bytes.len - cut) / 5;
    rig_write(far, bytes.data, cut);
    shutdown(far, SHUT_WR);
    rig_poll_until(&rig, rig.downs == 1);
    ck_assert_uint_eq(rig.messages, _i == 5 ? 2 : 1);
    ck_assert_str_eq(rig.reason, "closed by the peer");
}
END_TEST

/* --- Receiving: how the bytes may come --- */

START_TEST(byte_by_byte)
{
    unsigned expected = 0;

    for (unsigned i = 0; i < 3; i++) {
        rig_frame(&bytes, 'a', i * 7 + 1);
        pyn_buf_be32(&bytes, 0); /* a tick in between */
    }
    for (size_t i = 0; i < bytes.len; i++) {
        rig_write(far, bytes.data + i, 1);
        pyn_links_poll(rig.ls, WAIT_MS);
        expected = rig.messages;
    }
    ck_assert_uint_eq(expected, 3);
    ck_assert_uint_eq(rig.downs, 0);
    ck_assert_ptr_null(rig.last_up->in.block);
}
END_TEST

enum { STREAM_FRAMES = 3000, KEPT_MAX = 1000 };

/* Some messages are kept, and must stay as they are while reading goes on. */
struct stream {
    uint32_t next;
    struct {
        struct pyn_block *block;
        struct pyn_span payload;
        uint32_t number;
    } kept[KEPT_MAX];
    unsigned kept_count;
};

static void see_stream(struct rig *r, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block)
{
    struct stream *s = r->ctx;

    (void)l;
    rig_stream_check(c->payload, s->next);
    if (s->next % 7 == 3 && s->kept_count < KEPT_MAX) {
        s->kept[s->kept_count].block = pyn_block_ref(block);
        s->kept[s->kept_count].payload = c->payload;
        s->kept[s->kept_count++].number = s->next;
    }
    s->next++;
}

START_TEST(many_frames_in_any_pieces)
{
    struct stream *s = calloc(1, sizeof(*s));
    struct rig_feed f = {.fd = far, .bytes = &bytes, .seed = (unsigned)_i + 1};

    ck_assert_ptr_nonnull(s);
    rig_stream_frames(&bytes, STREAM_FRAMES);
    rig.ctx = s;
    rig.seen = see_stream;
    rig_feed_start(&f);
    rig_poll_until(&rig, s->next == STREAM_FRAMES || rig.downs > 0);
    pthread_join(f.thread, NULL);
    ck_assert_uint_eq(rig.downs, 0);
    for (unsigned i = 0; i < s->kept_count; i++) {
        rig_stream_check(s->kept[i].payload, s->kept[i].number);
        pyn_block_unref(s->kept[i].block);
    }
    free(s);
}
END_TEST

static void see_exact_block(struct rig *r, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block)
{
    (void)l;
    *(size_t *)r->ctx = block->cap;
    for (size_t i = 0; i < c->payload.len; i += 4093)
        ck_assert_uint_eq(c->payload.ptr[i], 'L');
    ck_assert_uint_eq(c->payload.ptr[c->payload.len - 1], 'L');
}

START_TEST(a_frame_of_64_mib_comes_in_one_piece)
{
    struct rig_feed f = {.fd = 0, .bytes = &bytes, .seed = 1};
    size_t cap = 0;

    teardown();
    rig_init(&rig, (size_t)65 << 20, MAX_OUTPUT, 0);
    far = rig_connect(&rig, "far@host");
    pyn_buf_init(&bytes, (size_t)1 << 28);
    rig_frame(&bytes, 'L', (size_t)64 << 20);
    f.fd = far;
    rig.ctx = &cap;
    rig.seen = see_exact_block;
    rig_feed_start(&f);
    rig_poll_until(&rig, rig.messages == 1);
    pthread_join(f.thread, NULL);
    ck_assert_uint_eq(cap, bytes.len);
    ck_assert_ptr_null(rig.last_up->in.block);
}
END_TEST

/* Nobody keeps anything: one block serves all links. Somebody does: its place is not written over. */
START_TEST(a_quiet_link_holds_no_block)
{
    int other = rig_connect(&rig, "other@host");
    struct pyn_block *first;

    rig_frame(&bytes, 'a', 100);
    rig_write(far, bytes.data, bytes.len);
    rig_poll_until(&rig, rig.messages == 1);
    first = rig.ls->spare.block;
    ck_assert_ptr_nonnull(first);
    rig_write(other, bytes.data, bytes.len);
    rig_poll_until(&rig, rig.messages == 2);
    ck_assert_ptr_eq(rig.ls->spare.block, first);
    ck_assert_uint_eq(rig.ls->spare.len, bytes.len);
    pyn_block_ref(first);
    rig_write(far, bytes.data, bytes.len);
    rig_poll_until(&rig, rig.messages == 3);
    ck_assert_uint_eq(rig.ls->spare.len, 2 * bytes.len);
    ck_assert(memcmp(first->data, bytes.data, bytes.len) == 0);
    pyn_block_unref(first);
    close(other);
}
END_TEST

static void add_tests(TCase *limits, TCase *core)
{
    tcase_add_loop_test(limits, a_bad_frame_takes_the_link_down, 0, (int)(sizeof(poison) / sizeof(*poison)));
    tcase_add_test(limits, the_longest_frame_is_taken);
    tcase_add_test(limits, an_unknown_operation_is_skipped);
    tcase_add_loop_test(limits, the_peer_may_leave_anywhere, 0, 6);
    tcase_add_test(limits, a_frame_of_64_mib_comes_in_one_piece);
    tcase_add_test(core, byte_by_byte);
    tcase_add_loop_test(core, many_frames_in_any_pieces, 0, 3);
    tcase_add_test(core, a_quiet_link_holds_no_block);
}

int main(void)
{
    Suite *s = suite_create("link_in");
    TCase *limits = tcase_create("Limits");
    TCase *core = tcase_create("Core");

    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_set_timeout(limits, 60);
    tcase_set_timeout(core, 60);
    add_tests(limits, core);
    suite_add_tcase(s, limits);
    suite_add_tcase(s, core);
    return suite_run(s);
}
