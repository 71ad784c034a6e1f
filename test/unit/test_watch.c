#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "dist/control.h"
#include "svc/watch.h"

#include "unit/epmd_rig.h"
#include "unit/link_rig.h"
#include "unit/notation.h"
#include "unit/suite.h"

static struct epmd_rig epmd;
static struct rig rig;
static struct pyn_node *node;
static struct pyn_watch *watch;
static struct pyn_buf own;

static struct pyn_span span_of(const struct pyn_buf *b)
{
    return (struct pyn_span){b->data, b->len};
}

static void setup(void)
{
    struct pyn_node_config config = {
        .name = "w@127.0.0.1",
        .long_names = true,
        .cookie = "secret",
        .bind_address = "127.0.0.1",
        .handshake_ms = 1000,
        .max_handshakes = 1,
        .max_links = 10,
    };
    char error[1024];

    pyn_log_set_level(PYN_OFF);
    epmd_rig_start(&epmd, 0, EPMD_RIG_GOOD);
    config.epmd_port = epmd.port;
    rig_init(&rig, 1 << 20, 1 << 20, 0);
    node = pyn_node_start(&config, rig.ls, error, sizeof(error));
    ck_assert_msg(node != NULL, "%s", error);
    watch = pyn_watch_new(3);
    pyn_buf_init(&own, 1000);
    pyn_node_write_pid(node, &own);
}

static void teardown(void)
{
    pyn_watch_free(watch);
    pyn_node_stop(node);
    rig_free(&rig);
    pyn_node_free(node);
    pyn_buf_free(&own);
    epmd_rig_stop(&epmd);
}

/* Any term does: the watch only compares bytes. */
static bool add(struct pyn_link *l, const char *pid)
{
    struct pyn_buf b;
    bool added;

    pyn_buf_init(&b, 1000);
    notation_write(&b, pid);
    added = pyn_watch_add(watch, node, span_of(&own), l, span_of(&b));
    pyn_buf_free(&b);
    return added;
}

/* The next frame is MONITOR_P; its reference goes to *ref. */
static void read_monitor(int fd, struct pyn_buf *ref)
{
    struct pyn_control c;
    size_t n;
    uint8_t *frame = rig_read_frame(fd, &n);

    ck_assert_int_eq(pyn_control_parse((struct pyn_span){frame, n}, &c), PYN_CONTROL_OK);
    ck_assert_int_eq(c.op, PYN_CTL_MONITOR_P);
    ck_assert(pyn_span_eq(c.from, span_of(&own)));
    pyn_buf_init(ref, 1000);
    pyn_buf_bytes(ref, c.ref.ptr, c.ref.len);
    free(frame);
}

START_TEST(nothing_is_watched)
{
    struct pyn_buf pid;

    ck_assert(!pyn_watch_exit(watch, span_of(&own), &pid));
    pyn_watch_forget_link(watch, 1);
    ck_assert_uint_eq(pyn_watch_count(watch), 0);
    pyn_watch_free(NULL);
}
END_TEST

START_TEST(no_more_than_the_maximum)
{
    int fd = rig_connect(&rig, "a@host");

    ck_assert(add(rig.last_up, "$P"));
    ck_assert(add(rig.last_up, "2"));
    ck_assert(add(rig.last_up, "3"));
    ck_assert(!add(rig.last_up, "4"));
    ck_assert(add(rig.last_up, "2")); /* is watched already */
    ck_assert_uint_eq(pyn_watch_count(watch), 3);
    close(fd);
    rig_poll_until(&rig, rig.downs == 1);
}
END_TEST

START_TEST(one_monitor_for_each_process)
{
    int fd = rig_connect(&rig, "a@host");
    struct pyn_buf ref, pid, expected;

    ck_assert(add(rig.last_up, "$P"));
    ck_assert(add(rig.last_up, "$P"));
    read_monitor(fd, &ref);
    ck_assert(rig_is_quiet(fd));
    ck_assert(pyn_watch_exit(watch, span_of(&ref), &pid));
    pyn_buf_init(&expected, 1000);
    notation_write(&expected, "$P");
    ck_assert(pyn_span_eq(span_of(&pid), span_of(&expected)));
    pyn_buf_free(&pid);
    ck_assert(!pyn_watch_exit(watch, span_of(&ref), &pid)); /* it dies once */
    pyn_buf_free(&expected);
    pyn_buf_free(&ref);
    close(fd);
}
END_TEST

START_TEST(a_link_takes_its_own_with_it)
{
    int a = rig_connect(&rig, "a@host");
    uint64_t id = pyn_link_id(rig.last_up);
    struct pyn_link *first = pyn_link_ref(rig.last_up);
    int b = rig_connect(&rig, "b@host");

    ck_assert(add(first, "1"));
    ck_assert(add(first, "2"));
    ck_assert(add(rig.last_up, "1")); /* the same bytes, from elsewhere */
    ck_assert_uint_eq(pyn_watch_count(watch), 3);
    pyn_watch_forget_link(watch, id);
    ck_assert_uint_eq(pyn_watch_count(watch), 1);
    close(a);
    rig_poll_until(&rig, rig.downs == 1);
    ck_assert(!add(first, "5")); /* it is down: nobody would forget it */
    pyn_link_unref(first);
    close(b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watch");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_set_timeout(core, 60);
    tcase_set_timeout(limits, 60);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, nothing_is_watched);
    tcase_add_test(limits, no_more_than_the_maximum);
    tcase_add_test(core, one_monitor_for_each_process);
    tcase_add_test(core, a_link_takes_its_own_with_it);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
