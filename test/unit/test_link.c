#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "dist/link.h"
#include "unit/link_rig.h"
#include "unit/suite.h"

enum { MAX_FRAME = 1 << 20, MAX_OUTPUT = 1 << 20, STREAM_FRAMES = 3000 };

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

static void see_and_close(struct rig *r, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block)
{
    (void)r;
    (void)c;
    (void)block;
    pyn_link_close(l, "enough");
}

START_TEST(a_callback_may_close_its_link)
{
    for (int i = 0; i < 5; i++)
        rig_frame(&bytes, 'a', 10);
    rig.seen = see_and_close;
    rig_write(far, bytes.data, bytes.len);
    rig_poll_until(&rig, rig.downs == 1);
    ck_assert_uint_eq(rig.messages, 1);
    ck_assert_str_eq(rig.reason, "enough");
}
END_TEST

/* Who holds a reference may ask and send for as long as he likes; the descriptor is given back all the same. */
START_TEST(a_reference_outlives_the_connection)
{
    struct pyn_link *l = pyn_link_ref(rig.last_up);
    struct pyn_out o;
    uint64_t id = pyn_link_id(l);
    char c;

    pyn_link_close(l, "over");
    ck_assert(!pyn_link_is_up(l));
    rig_poll_until(&rig, rig.downs == 1);
    ck_assert_int_eq(recv(far, &c, 1, 0), 0);
    ck_assert_str_eq(pyn_link_peer(l), "far@host");
    ck_assert_uint_eq(pyn_link_id(l), id);
    ck_assert_uint_eq(pyn_link_peer_flags(l), RIG_PEER_FLAGS);
    pyn_out_init(&o, 1000);
    rig_frame(&o.buf, 'x', 10);
    ck_assert(pyn_link_send(l, &o, false));
    ck_assert_uint_eq(o.buf.len, 0);
    pyn_out_free(&o);
    pyn_link_flush(l);
    pyn_link_close(l, "again");
    pyn_link_unref(l);
    pyn_link_unref(NULL);
    ck_assert_uint_eq(rig.downs, 1);
}
END_TEST

/* A poller that sleeps without end notices. */
START_TEST(close_wakes_the_poller)
{
    struct pyn_link *l = pyn_link_ref(rig.last_up);

    rig_start(&rig);
    pyn_link_close(l, "by another thread");
    pyn_link_close(l, "again");
    wait_until(atomic_load(&rig.downs) == 1);
    rig_stop(&rig);
    ck_assert_uint_eq(atomic_load(&rig.downs), 1);
    ck_assert_str_eq(rig.reason, "by another thread");
    ck_assert_str_eq(pyn_link_peer(l), "far@host");
    pyn_link_unref(l);
}
END_TEST

static void echo(struct rig *r, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block)
{
    struct pyn_out o;

    (void)r;
    (void)block;
    pyn_out_init(&o, 1 << 22);
    rig_frame(&o.buf, c->payload.ptr[0], c->payload.len);
    ck_assert(pyn_link_send(l, &o, true));
    pyn_out_free(&o);
    pyn_link_flush(l);
}

/* Both directions under pressure at once, with pausing and resuming: nothing is lost and nothing stands still. */
START_TEST(echo_of_much)
{
    struct rig_feed f = {.fd = far, .bytes = &bytes, .seed = 7};

    rig_stream_frames(&bytes, STREAM_FRAMES);
    rig.seen = echo;
    rig_start(&rig);
    rig_feed_start(&f);
    for (uint32_t i = 0; i < STREAM_FRAMES; i++) {
        size_t n;
        uint8_t *frame = rig_read_frame(far, &n);
        rig_stream_check((struct pyn_span){frame + RIG_FRAME_HEAD, n - RIG_FRAME_HEAD}, i);
        free(frame);
    }
    pthread_join(f.thread, NULL);
    rig_stop(&rig);
    ck_assert_uint_eq(rig.downs, 0);
}
END_TEST

static void add_tests(TCase *limits, TCase *core)
{
    tcase_add_test(limits, a_callback_may_close_its_link);
    tcase_add_test(limits, a_reference_outlives_the_connection);
    tcase_add_test(limits, close_wakes_the_poller);
    tcase_add_test(core, echo_of_much);
}

int main(void)
{
    Suite *s = suite_create("link");
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
