/* The coordinator is a listener of our own with another name, its port known to an epmd in a thread. */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "dist/connector.h"
#include "dist/epmd.h"
#include "dist/listener.h"
#include "base/thread.h"

#include "unit/epmd_rig.h"
#include "unit/link_rig.h"
#include "unit/suite.h"

#define OURS "m@127.0.0.1"
#define THEIRS "z@127.0.0.1"

static struct epmd_rig epmd;
static int stop_fd;

/* Us. */
static struct rig rig;
static struct pyn_handshakes *us;
static struct pyn_pending pending;
static struct pyn_connector *connector;

/* The coordinator. */
struct coordinator {
    struct rig rig;
    struct pyn_handshakes *shakes;
    struct pyn_pending pending;
    struct pyn_listener *listener;
    int stop_fd;
    int registration;
};

static struct coordinator coord;

static void coordinator_start(struct coordinator *c, const char *name, const char *cookie)
{
    struct pyn_listener_config config = {
        .bind_address = "127.0.0.1", .handshake_ms = 20000, .max_handshakes = 8, .max_links = 100};
    struct pyn_listener_tools tools = {.pending = &c->pending};
    struct pyn_wait w = {.deadline = PYN_NEVER, .stop_fd = -1, .cancel_fd = -1};
    char error[200];
    uint32_t creation;

    rig_init(&c->rig, 1 << 20, 1 << 20, 0);
    rig_start(&c->rig);
    pyn_log_set_level(PYN_OFF);
    config.stop_fd = c->stop_fd = pyn_wake_new();
    c->shakes = pyn_handshakes_new(name, cookie, 5000);
    ck_assert_int_eq(pyn_pending_init(&c->pending, name), 0);
    c->listener = pyn_listener_new(&config, error, sizeof(error));
    ck_assert_msg(c->listener != NULL, "%s", error);
    tools.shakes = c->shakes;
    tools.links = c->rig.ls;
    ck_assert_int_eq(pyn_listener_run(c->listener, &tools), 0);
    ck_assert_int_eq(pyn_epmd_register(epmd.port, "z", pyn_listener_port(c->listener), &w, &c->registration, &creation),
                     PYN_EPMD_OK);
}

static void coordinator_stop(struct coordinator *c)
{
    close(c->registration);
    pyn_wake_raise(c->stop_fd);
    pyn_listener_free(c->listener);
    rig_stop(&c->rig);
    rig_free(&c->rig);
    pyn_handshakes_free(c->shakes);
    pyn_pending_destroy(&c->pending);
    close(c->stop_fd);
}

static void start_to(const char *peer)
{
    struct pyn_connector_config config = {
        .peer = peer, .epmd_port = epmd.port, .handshake_ms = 20000, .stop_fd = stop_fd};
    char error[200];

    connector = pyn_connector_start(&config, us, &pending, rig.ls, error, sizeof(error));
    ck_assert_msg(connector != NULL, "%s", error);
}

static void setup(void)
{
    epmd_rig_start(&epmd, 0, EPMD_RIG_GOOD);
    stop_fd = pyn_wake_new();
    rig_init(&rig, 1 << 20, 1 << 20, 0);
    rig_start(&rig);
    pyn_log_set_level(PYN_OFF);
    us = pyn_handshakes_new(OURS, "secret", 1000);
    ck_assert_int_eq(pyn_pending_init(&pending, OURS), 0);
    connector = NULL;
}

static void teardown(void)
{
    pyn_wake_raise(stop_fd);
    if (connector != NULL) {
        pyn_connector_stop(connector);
        pyn_connector_look(connector); /* still allowed */
        pyn_connector_free(connector);
    }
    rig_stop(&rig);
    rig_free(&rig);
    pyn_handshakes_free(us);
    pyn_pending_destroy(&pending);
    close(stop_fd);
    epmd_rig_stop(&epmd);
}

START_TEST(a_host_that_nobody_knows)
{
    start_to("z@-no-such-host");
    ck_assert_ptr_null(pyn_connector_link(connector));
}
END_TEST

START_TEST(another_cookie)
{
    coordinator_start(&coord, THEIRS, "Secret");
    start_to(THEIRS);
    wait_until(atomic_load(&epmd.requests) >= 3); /* its registration, and two attempts of ours */
    ck_assert_ptr_null(pyn_connector_link(connector));
    coordinator_stop(&coord);
}
END_TEST

START_TEST(another_name)
{
    coordinator_start(&coord, "y@127.0.0.1", "secret");
    start_to(THEIRS);
    wait_until(atomic_load(&epmd.requests) >= 3);
    ck_assert_uint_eq(atomic_load(&rig.ups), 0);
    coordinator_stop(&coord);
}
END_TEST

START_TEST(it_connects)
{
    struct pyn_link *l;

    coordinator_start(&coord, THEIRS, "secret");
    start_to(THEIRS);
    wait_until(atomic_load(&rig.ups) == 1 && atomic_load(&coord.rig.ups) == 1);
    l = pyn_connector_link(connector);
    ck_assert_ptr_nonnull(l);
    ck_assert_str_eq(pyn_link_peer(l), THEIRS);
    ck_assert_uint_eq(pyn_link_peer_flags(l), PYN_OUR_DFLAGS);
    pyn_link_unref(l);
    coordinator_stop(&coord);
}
END_TEST

START_TEST(the_coordinator_may_come_late)
{
    start_to(THEIRS);
    wait_until(atomic_load(&epmd.requests) >= 2);
    coordinator_start(&coord, THEIRS, "secret");
    wait_until(atomic_load(&rig.ups) == 1);
    coordinator_stop(&coord);
}
END_TEST

START_TEST(the_first_that_can_be_reached)
{
    coordinator_start(&coord, THEIRS, "secret");
    start_to("nobody@127.0.0.1," THEIRS ",x@127.0.0.1");
    wait_until(atomic_load(&rig.ups) == 1);
    ck_assert(pyn_connector_wants(connector, THEIRS));
    ck_assert(pyn_connector_wants(connector, "x@127.0.0.1"));
    ck_assert(!pyn_connector_wants(connector, "nobody@127.0.0.1,"));
    struct pyn_link *l = pyn_connector_link(connector);
    ck_assert_ptr_nonnull(l);
    ck_assert_str_eq(pyn_link_peer(l), THEIRS);
    pyn_link_unref(l);
    coordinator_stop(&coord);
}
END_TEST

START_TEST(it_connects_again)
{
    coordinator_start(&coord, THEIRS, "secret");
    start_to(THEIRS);
    for (unsigned i = 1; i <= 2; i++) {
        wait_until(atomic_load(&rig.ups) == i);
        coordinator_stop(&coord);
        wait_until(atomic_load(&rig.downs) == i);
        pyn_connector_look(connector);
        memset(&coord, 0, sizeof(coord));
        wait_until(atomic_load(&epmd.registered) == 0);
        coordinator_start(&coord, THEIRS, "secret");
    }
    wait_until(atomic_load(&rig.ups) == 3);
    coordinator_stop(&coord);
}
END_TEST

START_TEST(a_link_that_is_there_will_do)
{
    unsigned before;
    int far;

    coordinator_start(&coord, THEIRS, "secret");
    far = rig_add(&rig, THEIRS);
    before = atomic_load(&epmd.requests);
    start_to(THEIRS);
    wait_until(atomic_load(&rig.ups) == 1);
    pyn_connector_linked(connector, THEIRS);
    pyn_connector_linked(connector, "other@127.0.0.1");
    ck_assert_uint_eq(atomic_load(&epmd.requests), before);
    /* And when it is gone, there is another one. */
    close(far);
    wait_until(atomic_load(&rig.downs) == 1);
    pyn_connector_look(connector);
    wait_until(atomic_load(&rig.ups) == 2);
    coordinator_stop(&coord);
}
END_TEST

START_TEST(a_peer_that_is_already_at_it_goes_first)
{
    struct pyn_pending_in in = {.link = NULL};

    coordinator_start(&coord, THEIRS, "secret");
    ck_assert_int_eq(pyn_pending_in_begin(&pending, &in, THEIRS), PYN_PENDING_OK);
    start_to(THEIRS);
    wait_until(atomic_load(&epmd.requests) >= 3);
    ck_assert_uint_eq(atomic_load(&rig.ups), 0);
    pyn_pending_in_end(&pending, &in);
    wait_until(atomic_load(&rig.ups) == 1);
    coordinator_stop(&coord);
}
END_TEST

START_TEST(stopped_in_the_middle)
{
    epmd_rig_stop(&epmd);
    epmd_rig_start(&epmd, 0, EPMD_RIG_SILENT);
    start_to(THEIRS);
    wait_until(atomic_load(&epmd.requests) >= 1);
    /* teardown hangs when the wait for epmd does not end */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("connector");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_set_timeout(core, 30);
    tcase_set_timeout(limits, 30);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, a_host_that_nobody_knows);
    tcase_add_test(limits, another_cookie);
    tcase_add_test(limits, another_name);
    tcase_add_test(limits, stopped_in_the_middle);
    tcase_add_test(core, it_connects);
    tcase_add_test(core, the_coordinator_may_come_late);
    tcase_add_test(core, the_first_that_can_be_reached);
    tcase_add_test(core, it_connects_again);
    tcase_add_test(core, a_link_that_is_there_will_do);
    tcase_add_test(core, a_peer_that_is_already_at_it_goes_first);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
