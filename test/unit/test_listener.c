#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "dist/listener.h"
#include "base/thread.h"

#include "unit/epmd_rig.h"
#include "unit/link_rig.h"
#include "unit/suite.h"

static struct rig rig;
static struct pyn_handshakes *us;
static struct pyn_pending pending;
static struct pyn_listener *listener;
static int stop_fd;
static atomic_uint linked;
static struct pyn_listener_config config;

static void on_link(void *ctx, const char *peer)
{
    (void)ctx;
    ck_assert_ptr_nonnull(strchr(peer, '@'));
    atomic_fetch_add(&linked, 1);
}

static void setup(void)
{
    pyn_log_set_level(PYN_OFF);
    stop_fd = pyn_wake_new();
    config = (struct pyn_listener_config){
        .bind_address = "127.0.0.1", .handshake_ms = 20000, .max_handshakes = 8, .max_links = 100, .stop_fd = stop_fd};
    atomic_store(&linked, 0);
    rig_init(&rig, 1 << 20, 1 << 20, 0);
    rig_start(&rig);
    us = pyn_handshakes_new("m@host", "secret", 1000);
    ck_assert_int_eq(pyn_pending_init(&pending, "m@host"), 0);
    listener = NULL;
}

static void teardown(void)
{
    pyn_wake_raise(stop_fd);
    if (listener != NULL)
        pyn_listener_free(listener);
    rig_stop(&rig);
    rig_free(&rig);
    pyn_handshakes_free(us);
    pyn_pending_destroy(&pending);
    close(stop_fd);
}

static void open_it(void)
{
    char error[200];

    listener = pyn_listener_new(&config, error, sizeof(error));
    ck_assert_msg(listener != NULL, "%s", error);
}

static void run_it(void)
{
    struct pyn_listener_tools tools = {.shakes = us, .pending = &pending, .links = rig.ls, .on_link = on_link};

    ck_assert_int_eq(pyn_listener_run(listener, &tools), 0);
}

static int dial(void)
{
    struct pyn_wait w = {.deadline = PYN_NEVER, .stop_fd = -1, .cancel_fd = -1};
    struct pyn_address a;
    int fd;

    pyn_address_loopback(pyn_listener_port(listener), &a);
    ck_assert_int_eq(pyn_net_connect(&a, &w, &fd), 0);
    return fd;
}

/* A peer of that name connects; *fd stays open. */
static enum pyn_shake_end join(const char *name, int *fd)
{
    struct pyn_handshakes *peer = pyn_handshakes_new(name, "secret", 7);
    struct pyn_handshake hs = {.fd = dial(), .wait = {.deadline = PYN_NEVER, .stop_fd = -1, .cancel_fd = -1}};
    enum pyn_shake_end end;

    hs.expect = "m@host";
    end = pyn_handshake_connect(peer, &hs);
    pyn_handshakes_free(peer);
    *fd = hs.fd;
    return end;
}

START_TEST(bad_places)
{
    char error[200];
    uint16_t port;

    config.bind_address = "localhost";
    ck_assert_ptr_null(pyn_listener_new(&config, error, sizeof(error)));
    ck_assert_ptr_nonnull(strstr(error, "numeric"));
    config.bind_address = "127.0.0.1";
    open_it();
    port = pyn_listener_port(listener);
    config.port = port;
    ck_assert_ptr_null(pyn_listener_new(&config, error, sizeof(error)));
    ck_assert_ptr_nonnull(strstr(error, "in use"));
    /* Never run: stopping and freeing are still right. */
    pyn_listener_stop(listener);
    pyn_listener_stop(listener);
}
END_TEST

START_TEST(peers_get_links)
{
    struct pyn_link *l;
    int fd[2];

    open_it();
    run_it();
    ck_assert_int_eq(join("a@host", &fd[0]), PYN_SHAKE_OK);
    ck_assert_int_eq(join("z@host", &fd[1]), PYN_SHAKE_OK);
    wait_until(atomic_load(&rig.ups) == 2);
    wait_until(atomic_load(&linked) == 2);
    l = pyn_links_find(rig.ls, "a@host");
    ck_assert_ptr_nonnull(l);
    ck_assert_uint_eq(pyn_link_peer_flags(l), PYN_OUR_DFLAGS);
    pyn_link_unref(l);
    close(fd[0]);
    close(fd[1]);
    wait_until(atomic_load(&rig.downs) == 2);
    ck_assert_uint_eq(pyn_pending_in_count(&pending), 0);
}
END_TEST

START_TEST(a_peer_that_comes_again_replaces_its_link)
{
    int first, again, other;

    config.max_links = 1;
    open_it();
    run_it();
    ck_assert_int_eq(join("a@host", &first), PYN_SHAKE_OK);
    wait_until(atomic_load(&rig.ups) == 1);
    ck_assert_int_eq(join("b@host", &other), PYN_SHAKE_REFUSED);
    close(other);
    ck_assert_int_eq(join("a@host", &again), PYN_SHAKE_OK);
    wait_until(atomic_load(&rig.ups) == 2);
    wait_until(atomic_load(&rig.downs) == 1);
    close(first);
    close(again);
}
END_TEST

enum { CROWD = 8, EACH = 10, ALL = CROWD * EACH };
static const unsigned places[] = {ALL, ALL / 2};

struct crowd {
    pthread_t thread;
    unsigned number, refused, count; /* count: of fds */
    int fds[EACH];
};

static void *come(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < EACH; i++) {
        char name[32];
        snprintf(name, sizeof(name), "p%u_%d@host", c->number, i);
        c->refused += join(name, &c->fds[c->count++]) == PYN_SHAKE_REFUSED;
    }
    return NULL;
}

/* Of those who come at the same time as many are let in as there are places: none more, and none fewer. */
START_TEST(every_place_is_given_once)
{
    struct crowd crowd[CROWD] = {0};
    unsigned refused = 0;

    config.max_links = places[_i];
    config.max_handshakes = ALL; /* nobody is sent away to make room */
    open_it();
    run_it();
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i].number = i;
        ck_assert_int_eq(pyn_thread_start(&crowd[i].thread, 0, come, &crowd[i]), 0);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        pthread_join(crowd[i].thread, NULL);
        refused += crowd[i].refused;
    }
    ck_assert_uint_eq(refused, ALL - places[_i]);
    wait_until(atomic_load(&rig.ups) == places[_i]);
    ck_assert_uint_eq(pyn_links_count(rig.ls), places[_i]);
    for (unsigned i = 0; i < CROWD; i++)
        for (unsigned k = 0; k < crowd[i].count; k++)
            close(crowd[i].fds[k]);
}
END_TEST

START_TEST(nobody_else_has_our_name)
{
    int fd;

    open_it();
    run_it();
    ck_assert_int_eq(join("m@host", &fd), PYN_SHAKE_REFUSED);
    close(fd);
    ck_assert_uint_eq(pyn_links_count(rig.ls), 0);
}
END_TEST

START_TEST(crossing_attempts)
{
    int fd;

    open_it();
    run_it();
    ck_assert(pyn_pending_out_begin(&pending, "a@host"));
    ck_assert_int_eq(join("a@host", &fd), PYN_SHAKE_SIMULTANEOUS);
    close(fd);
    pyn_pending_out_end(&pending);
    ck_assert(pyn_pending_out_begin(&pending, "z@host"));
    ck_assert_int_eq(join("z@host", &fd), PYN_SHAKE_OK);
    pyn_pending_out_end(&pending);
    wait_until(atomic_load(&rig.ups) == 1);
    close(fd);
}
END_TEST

START_TEST(those_who_dawdle_make_room)
{
    int idle[6], fd;

    config.max_handshakes = 2;
    open_it();
    run_it();
    for (int i = 0; i < 6; i++)
        idle[i] = dial();
    ck_assert_int_eq(join("a@host", &fd), PYN_SHAKE_OK);
    close(fd);
    for (int i = 0; i < 6; i++)
        close(idle[i]);
}
END_TEST

START_TEST(as_many_as_are_let_in_are_served)
{
    enum { MANY = 30 };
    int fd[MANY];

    config.max_handshakes = 1;
    open_it();
    run_it();
    for (int i = 0; i < MANY; i++) {
        char name[20];
        snprintf(name, sizeof(name), "n%d@host", i);
        ck_assert_int_eq(join(name, &fd[i]), PYN_SHAKE_OK);
    }
    wait_until(atomic_load(&rig.ups) == MANY);
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
}
END_TEST

/* Until the log, which goes to the other end of the pipe, has such a line. */
static void wait_for_log(int pipe_end, const char *words)
{
    char text[4096] = "";
    size_t n = 0;

    while (strstr(text, words) == NULL) {
        ssize_t got = read(pipe_end, text + n, sizeof(text) - 1 - n);
        ck_assert_int_gt(got, 0);
        n += (size_t)got;
        text[n] = '\0';
    }
}

START_TEST(no_descriptors_for_a_while)
{
    struct rlimit limit, low;
    int log[2], old_stderr = dup(STDERR_FILENO), waiting, fd;

    ck_assert_int_eq(pipe(log), 0);
    dup2(log[1], STDERR_FILENO);
    pyn_log_set_level(PYN_ERROR);
    open_it();
    waiting = dial();
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = (rlim_t)waiting + 1; /* every lower one is in use */
    setrlimit(RLIMIT_NOFILE, &low);
    run_it();
    wait_for_log(log[0], "cannot accept");
    setrlimit(RLIMIT_NOFILE, &limit);
    ck_assert_int_eq(join("a@host", &fd), PYN_SHAKE_OK);
    dup2(old_stderr, STDERR_FILENO);
    close(fd);
    close(waiting);
    close(old_stderr);
    close(log[0]);
    close(log[1]);
}
END_TEST

START_TEST(a_drain_lets_nobody_in)
{
    struct pyn_wait w = {.deadline = PYN_NEVER, .stop_fd = -1, .cancel_fd = -1};
    struct pyn_address a;
    int fd, late;

    open_it();
    run_it();
    ck_assert_int_eq(join("a@host", &fd), PYN_SHAKE_OK);
    pyn_listener_stop(listener);
    pyn_address_loopback(pyn_listener_port(listener), &a);
    ck_assert_int_eq(pyn_net_connect(&a, &w, &late), ECONNREFUSED);
    wait_until(atomic_load(&rig.ups) == 1);
    ck_assert_uint_eq(pyn_links_count(rig.ls), 1);
    close(fd);
}
END_TEST

START_TEST(a_stop_waits_for_nobody)
{
    int idle[3];
    uint64_t begin;

    open_it();
    run_it();
    for (int i = 0; i < 3; i++)
        idle[i] = dial();
    begin = pyn_now();
    pyn_wake_raise(stop_fd);
    pyn_listener_free(listener);
    listener = NULL;
    ck_assert_uint_lt(pyn_now() - begin, 10 * PYN_SECOND); /* the handshakes had 20 */
    for (int i = 0; i < 3; i++)
        close(idle[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("listener");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_set_timeout(core, 30);
    tcase_set_timeout(limits, 30);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, bad_places);
    tcase_add_loop_test(limits, every_place_is_given_once, 0, 2);
    tcase_add_test(limits, nobody_else_has_our_name);
    tcase_add_test(limits, those_who_dawdle_make_room);
    tcase_add_test(limits, as_many_as_are_let_in_are_served);
    tcase_add_test(limits, no_descriptors_for_a_while);
    tcase_add_test(core, peers_get_links);
    tcase_add_test(core, a_peer_that_comes_again_replaces_its_link);
    tcase_add_test(core, crossing_attempts);
    tcase_add_test(core, a_drain_lets_nobody_in);
    tcase_add_test(core, a_stop_waits_for_nobody);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
