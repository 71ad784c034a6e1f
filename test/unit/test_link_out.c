#include <errno.h>
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

/* --- Sending --- */

static atomic_uint released;

static void release(void *owner)
{
    (void)owner;
    atomic_fetch_add(&released, 1);
}

/* One frame: `own` bytes in the buffer and the same stretch spliced in `count` times, with a byte behind each. */
static void make_out(struct pyn_out *o, size_t own, const uint8_t *ext, size_t ext_len, unsigned count)
{
    static const uint8_t pid[] = {88, 119, 1, 'a', 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3};
    size_t frame;

    pyn_out_init(o, (size_t)1 << 28);
    frame = pyn_frame_send(&o->buf, (struct pyn_span){pid, sizeof(pid)});
    ck_assert(pyn_buf_room(&o->buf, own));
    memset(o->buf.data + o->buf.len, 'o', own);
    o->buf.len += own;
    for (unsigned i = 0; i < count; i++) {
        ck_assert(pyn_out_splice(o, (struct pyn_span){ext, ext_len}, release, NULL));
        pyn_buf_u8(&o->buf, 'b');
    }
    pyn_frame_end(&o->buf, frame, o->ext_bytes);
    ck_assert(!o->buf.failed);
}

static void check_out(int fd, size_t own, const uint8_t *ext, size_t ext_len, unsigned count)
{
    size_t n;
    uint8_t *frame = rig_read_frame(fd, &n);
    uint8_t *at = frame + RIG_FRAME_HEAD;

    ck_assert_uint_eq(n, RIG_FRAME_HEAD + own + count * (ext_len + 1));
    for (size_t i = 0; i < own; i++) {
        if (*at++ != 'o')
            ck_abort_msg("byte %zu is damaged", i);
    }
    for (unsigned i = 0; i < count; i++) {
        ck_assert(memcmp(at, ext, ext_len) == 0);
        ck_assert_uint_eq(at[ext_len], 'b');
        at += ext_len + 1;
    }
    free(frame);
}

START_TEST(small_messages_are_copied_and_go_together)
{
    struct pyn_out o;

    for (int i = 0; i < 3; i++) {
        make_out(&o, 10, NULL, 0, 0);
        ck_assert(pyn_link_send(rig.last_up, &o, false));
        ck_assert_uint_eq(o.buf.len, 0);
        ck_assert_ptr_nonnull(o.buf.data); /* kept for the next message */
        pyn_out_free(&o);
    }
    ck_assert(rig_is_quiet(far));
    pyn_link_flush(rig.last_up);
    for (int i = 0; i < 3; i++)
        check_out(far, 10, NULL, 0, 0);
    ck_assert(rig_is_quiet(far));
    ck_assert_uint_eq(rig.last_up->waiting, 0);
}
END_TEST

/* Sizes on both sides of each limit, all queued before the first byte is written. */
START_TEST(all_kinds_of_messages_in_order)
{
    static const struct {
        size_t own, ext;
        unsigned count;
    } kinds[] = {{0, 0, 0},     {16000, 0, 0}, {17000, 0, 0}, {1, 70000, 1},   {16000, 0, 0}, {16000, 0, 0},
                 {16000, 0, 0}, {16000, 0, 0}, {5, 0, 0},     {20000, 10, 64}, {0, 1, 64},    {300000, 1000, 3}};
    enum { KINDS = sizeof(kinds) / sizeof(*kinds) };
    uint8_t *ext = malloc(70000);
    unsigned stretches = 0;

    ck_assert_ptr_nonnull(ext);
    for (size_t i = 0; i < 70000; i++)
        ext[i] = (uint8_t)(i * 31);
    atomic_store(&released, 0);
    for (size_t i = 0; i < KINDS; i++) {
        struct pyn_out o;
        make_out(&o, kinds[i].own, ext, kinds[i].ext, kinds[i].count);
        ck_assert(pyn_link_send(rig.last_up, &o, true));
        ck_assert_uint_eq(pyn_out_size(&o), 0);
        ck_assert_uint_eq(o.ext_count, 0);
        pyn_out_free(&o);
        stretches += kinds[i].count;
    }
    ck_assert_uint_eq(atomic_load(&released), 0);
    rig_start(&rig);
    pyn_link_flush(rig.last_up);
    for (size_t i = 0; i < KINDS; i++)
        check_out(far, kinds[i].own, ext, kinds[i].ext, kinds[i].count);
    wait_until(atomic_load(&released) == stretches);
    rig_stop(&rig);
    ck_assert_uint_eq(atomic_load(&released), stretches);
    ck_assert_uint_eq(rig.last_up->waiting, 0);
    free(ext);
}
END_TEST

START_TEST(a_message_for_a_dead_link_is_dropped)
{
    static const uint8_t ext[10];
    struct pyn_link *l = pyn_link_ref(rig.last_up);
    struct pyn_out o;

    atomic_store(&released, 0);
    pyn_link_close(l, "over");
    make_out(&o, 10, ext, sizeof(ext), 2);
    ck_assert(pyn_link_send(l, &o, false));
    ck_assert_uint_eq(atomic_load(&released), 2);
    rig_poll_until(&rig, rig.downs == 1);
    make_out(&o, 10, ext, sizeof(ext), 2);
    ck_assert(pyn_link_send(l, &o, true));
    ck_assert_uint_eq(atomic_load(&released), 4);
    pyn_link_flush(l);
    make_out(&o, 10, NULL, 0, 0);
    ck_assert(pyn_link_send(l, &o, true));
    ck_assert_uint_eq(o.buf.len, 0);
    pyn_out_free(&o);
    pyn_link_unref(l);
}
END_TEST

START_TEST(a_dying_link_releases_what_waits)
{
    static uint8_t ext[100000];
    struct pyn_out o;

    atomic_store(&released, 0);
    for (int i = 0; i < 30; i++) {
        make_out(&o, 10, ext, sizeof(ext), 2);
        ck_assert(pyn_link_send(rig.last_up, &o, true));
    }
    pyn_link_flush(rig.last_up); /* some of it, and then the socket is full */
    ck_assert_uint_gt(rig.last_up->waiting, 0);
    close(far);
    rig_poll_until(&rig, rig.downs == 1);
    ck_assert_uint_eq(atomic_load(&released), 60);
    far = -1;
}
END_TEST

/* As its writer could not go on: that is no failure, and the next one is sent. */
START_TEST(a_message_that_was_taken_back_is_not_sent)
{
    static const uint8_t ext[10];
    struct pyn_link *l = rig.last_up;
    struct pyn_out o;

    atomic_store(&released, 0);
    for (unsigned stretches = 0; stretches < 2; stretches++) {
        make_out(&o, 100, ext, sizeof(ext), stretches);
        pyn_out_truncate(&o, 0);
        pyn_frame_end(&o.buf, 0, o.ext_bytes);
        ck_assert(!o.buf.failed);
        ck_assert(pyn_link_send(l, &o, stretches == 0));
        ck_assert_ptr_null(o.buf.data);
        ck_assert_ptr_null(l->head);
        ck_assert_uint_eq(l->waiting, 0);
    }
    ck_assert_uint_eq(atomic_load(&released), 1);
    make_out(&o, 10, NULL, 0, 0);
    ck_assert(pyn_link_send(l, &o, false));
    pyn_link_flush(l);
    check_out(far, 10, NULL, 0, 0);
    pyn_out_free(&o);
}
END_TEST

START_TEST(a_message_that_failed_is_not_sent)
{
    struct pyn_out o;

    make_out(&o, 10, NULL, 0, 0);
    o.buf.failed = true;
    ck_assert(pyn_link_send(rig.last_up, &o, true));
    pyn_link_flush(rig.last_up);
    ck_assert(rig_is_quiet(far));
    ck_assert(pyn_link_is_up(rig.last_up));
}
END_TEST

/* --- A peer that does not take its output --- */

START_TEST(a_slow_peer_is_refused_and_not_read)
{
    struct pyn_out o;
    unsigned sent = 0;
    size_t n;

    for (;; sent++) {
        make_out(&o, 50000, NULL, 0, 0);
        if (!pyn_link_send(rig.last_up, &o, false))
            break;
        pyn_link_flush(rig.last_up);
        ck_assert_uint_lt(sent, 1000);
    }
    ck_assert_uint_gt(rig.last_up->waiting, MAX_OUTPUT);
    ck_assert_uint_gt(pyn_out_size(&o), 50000); /* still ours */
    ck_assert(!pyn_link_offer(rig.last_up, &o, MAX_OUTPUT));
    ck_assert_uint_gt(pyn_out_size(&o), 50000);
    ck_assert(pyn_link_offer(rig.last_up, &o, MAX_OUTPUT * 4));
    sent++;
    make_out(&o, 50000, NULL, 0, 0);
    ck_assert(pyn_link_send(rig.last_up, &o, true));
    sent++;

    rig_frame(&bytes, 'a', 10);
    rig_write(far, bytes.data, bytes.len);
    for (int i = 0; i < 10; i++)
        pyn_links_poll(rig.ls, 1);
    ck_assert_uint_eq(rig.messages, 0);

    rig_start(&rig);
    for (; sent > 0; sent--)
        free(rig_read_frame(far, &n));
    wait_until(atomic_load(&rig.messages) == 1);
    rig_stop(&rig);
    ck_assert(rig_is_quiet(far));
    ck_assert_uint_eq(rig.downs, 0);
}
END_TEST

START_TEST(a_paused_link_can_die)
{
    struct pyn_out o;

    make_out(&o, 4 * MAX_OUTPUT, NULL, 0, 0);
    ck_assert(pyn_link_send(rig.last_up, &o, true));
    pyn_link_flush(rig.last_up);
    ck_assert(rig.last_up->paused);
    if (_i == 0) {
        close(far);
        far = -1;
    } else {
        pyn_link_close(rig.last_up, "told to");
    }
    rig_poll_until(&rig, rig.downs == 1);
}
END_TEST

/* --- Many threads --- */

enum { SENDERS = 8, PER_SENDER = 400 };

struct sender {
    struct pyn_link *link;
    uint8_t number;
    pthread_t thread;
};

static uint8_t shared_ext[SENDERS][70000];

/* The message's head: who, and the how manieth; then bytes that say who. */
static void make_numbered(struct pyn_out *o, uint8_t who, uint32_t i)
{
    static const size_t sizes[] = {10, 100, 3000, 15000, 20000, 40, 7, 90000};
    size_t n = sizes[(i + who) % 8];
    bool splice = i % 20 == 11;
    size_t frame;

    frame = pyn_frame_send(&o->buf, (struct pyn_span){(const uint8_t *)"X\1\2\3", 4});
    pyn_buf_u8(&o->buf, who);
    pyn_buf_be32(&o->buf, i);
    if (splice)
        ck_assert(pyn_out_splice(o, (struct pyn_span){shared_ext[who], sizeof(shared_ext[who])}, release, NULL));
    ck_assert(pyn_buf_room(&o->buf, n));
    memset(o->buf.data + o->buf.len, who, n);
    o->buf.len += n;
    pyn_frame_end(&o->buf, frame, o->ext_bytes);
}

static void *send_thread(void *arg)
{
    struct sender *s = arg;
    struct pyn_out o;

    pyn_out_init(&o, 1 << 20);
    for (uint32_t i = 0; i < PER_SENDER; i++) {
        make_numbered(&o, s->number, i);
        /* Refused: the peer is slow; wait for it as a caller would. */
        while (!pyn_link_send(s->link, &o, i % 2))
            usleep(100);
        if (i % 3 != 0)
            pyn_link_flush(s->link);
    }
    pyn_link_flush(s->link);
    pyn_out_free(&o);
    pyn_link_unref(s->link);
    return NULL;
}

static void start_senders(struct sender *senders)
{
    for (uint8_t i = 0; i < SENDERS; i++) {
        memset(shared_ext[i], i, sizeof(shared_ext[i]));
        senders[i].link = pyn_link_ref(rig.last_up);
        senders[i].number = i;
        ck_assert_int_eq(pthread_create(&senders[i].thread, NULL, send_thread, &senders[i]), 0);
    }
}

/* 8 threads send, the peer reads haltingly: each message whole, and each thread's in their order. */
START_TEST(threads_do_not_mix)
{
    struct sender senders[SENDERS];
    uint32_t next[SENDERS] = {0};
    const size_t head = 6 + 2 + 4 + 1; /* of the frame, before who */

    atomic_store(&released, 0);
    start_senders(senders);
    rig_start(&rig);
    for (unsigned k = 0; k < SENDERS * PER_SENDER; k++) {
        size_t n;
        uint8_t *frame = rig_read_frame(far, &n);
        uint8_t who;
        ck_assert_uint_gt(n, head + 5);
        who = frame[head];
        ck_assert_uint_lt(who, SENDERS);
        ck_assert_uint_eq(pyn_get_be32(frame + head + 1), next[who]++);
        for (size_t i = head + 5; i < n; i++) {
            if (frame[i] != who)
                ck_abort_msg("byte %zu of message %u is of another thread", i, k);
        }
        free(frame);
        if (k % 500 == 0)
            usleep(3000);
    }
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    rig_stop(&rig);
    ck_assert(rig_is_quiet(far));
    ck_assert_uint_eq(atomic_load(&released), SENDERS * PER_SENDER / 20);
}
END_TEST

/* The link dies while 8 threads send: whether by another thread, by the peer or by nobody reading, on_down comes once
 * and each stretch is released once. */
START_TEST(threads_send_to_a_dying_link)
{
    struct sender senders[SENDERS];
    struct pyn_link *l = pyn_link_ref(rig.last_up);
    uint8_t some[100000];

    atomic_store(&released, 0);
    rig_start(&rig);
    start_senders(senders);
    rig_read(far, some, sizeof(some));
    if (_i == 0) {
        pyn_link_close(l, "by another thread");
    } else if (_i == 1) {
        close(far);
        far = -1;
    } else {
        rig_write(far, "\xff\xff\xff\xff", 4);
        if (recv(far, some, sizeof(some), MSG_WAITALL) < 0) /* less, or nothing, when it is closed for it meanwhile */
            ck_assert_int_eq(errno, ECONNRESET);
    }
    /* For _i == 2 reading is paused or not, by luck: in the end it is closed for it or for this. */
    if (_i == 2)
        pyn_link_close(l, "by another thread");
    for (int i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    wait_until(atomic_load(&rig.downs) == 1);
    rig_stop(&rig);
    ck_assert_uint_eq(atomic_load(&released), SENDERS * PER_SENDER / 20);
    ck_assert_int_eq(l->fd, -1);
    ck_assert_ptr_null(l->head);
    pyn_link_unref(l);
}
END_TEST

static void add_tests(TCase *limits, TCase *core)
{
    tcase_add_test(limits, a_message_for_a_dead_link_is_dropped);
    tcase_add_test(limits, a_dying_link_releases_what_waits);
    tcase_add_test(limits, a_message_that_was_taken_back_is_not_sent);
    tcase_add_test(limits, a_message_that_failed_is_not_sent);
    tcase_add_test(limits, a_slow_peer_is_refused_and_not_read);
    tcase_add_loop_test(limits, a_paused_link_can_die, 0, 2);
    tcase_add_loop_test(limits, threads_send_to_a_dying_link, 0, 3);
    tcase_add_test(core, small_messages_are_copied_and_go_together);
    tcase_add_test(core, all_kinds_of_messages_in_order);
    tcase_add_test(core, threads_do_not_mix);
}

int main(void)
{
    Suite *s = suite_create("link_out");
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
