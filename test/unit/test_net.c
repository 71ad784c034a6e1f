#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dist/net.h"
#include "base/thread.h"

#include "unit/suite.h"

static struct pyn_wait wait_ms(uint64_t ms)
{
    return (struct pyn_wait){.deadline = pyn_deadline_in(pyn_now(), ms), .stop_fd = -1, .cancel_fd = -1};
}

static void pair(int fds[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
}

START_TEST(addresses_are_numeric)
{
    static const struct {
        const char *text;
        bool good;
        const char *shown;
    } t[] = {
        {"", false, NULL},          {"localhost", false, NULL},      {"1.2.3", false, NULL},
        {"1.2.3.4.5", false, NULL}, {"1.2.3.4", true, "1.2.3.4:80"}, {"::1", true, "[::1]:80"},
        {"::", true, "[::]:80"},
    };
    struct pyn_address a;
    char text[80];

    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        ck_assert_msg(pyn_address_parse(t[i].text, 80, &a) == t[i].good, "%s", t[i].text);
        if (t[i].good) {
            pyn_address_text(&a, text, sizeof(text));
            ck_assert_str_eq(text, t[i].shown);
        }
    }
}
END_TEST

START_TEST(a_wait_ends_by_time_and_by_waking)
{
    struct pyn_wait w = wait_ms(20);
    int wake = pyn_wake_new();
    int fds[2];

    pair(fds);
    ck_assert_int_eq(pyn_net_poll(fds[0], POLLIN, &w), ETIMEDOUT);
    ck_assert(pyn_wait_out(&w));
    for (int i = 0; i < 2; i++) {
        w = wait_ms(20000);
        *(i ? &w.stop_fd : &w.cancel_fd) = wake;
        pyn_wake_raise(wake);
        ck_assert_int_eq(pyn_net_poll(fds[0], POLLIN, &w), ECANCELED);
        ck_assert(!pyn_wait_out(&w));
        pyn_wake_clear(wake);
    }
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    ck_assert_int_eq(pyn_net_poll(fds[0], POLLIN, &w), 0);
    close(wake);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(reads_are_whole_or_an_error)
{
    struct pyn_wait w = wait_ms(20);
    char bytes[4] = "";
    int fds[2];

    pair(fds);
    ck_assert_int_eq(write(fds[1], "ab", 2), 2);
    ck_assert_int_eq(pyn_net_read(fds[0], bytes, 4, &w), ETIMEDOUT);
    w = wait_ms(20000);
    ck_assert_int_eq(write(fds[1], "abcdef", 6), 6);
    ck_assert_int_eq(pyn_net_read(fds[0], bytes, 4, &w), 0);
    ck_assert_int_eq(memcmp(bytes, "abcd", 4), 0);
    close(fds[1]);
    ck_assert_int_eq(pyn_net_read(fds[0], bytes, 4, &w), ENODATA);
    ck_assert_int_eq(pyn_net_write(fds[0], bytes, 4, &w), EPIPE);
    close(fds[0]);
}
END_TEST

START_TEST(a_full_socket_times_out)
{
    struct pyn_wait w = wait_ms(50);
    size_t n = 16u << 20;
    char *bytes = calloc(1, n);
    int fds[2];

    pair(fds);
    ck_assert_int_eq(pyn_net_write(fds[0], bytes, n, &w), ETIMEDOUT);
    free(bytes);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(listen_and_connect)
{
    static const char *const binds[] = {NULL, "127.0.0.1", "::1"};
    struct pyn_wait w = wait_ms(20000);
    struct pyn_address a;
    int listening, fd;
    uint16_t port;

    port = 0;
    ck_assert_int_eq(pyn_net_listen("localhost", &port, &listening), EINVAL);
    for (size_t i = 0; i < sizeof(binds) / sizeof(binds[0]); i++) {
        port = 0;
        if (pyn_net_listen(binds[i], &port, &listening) == EADDRNOTAVAIL && i == 2)
            continue; /* a host without IPv6 */
        ck_assert_uint_ne(port, 0);
        ck_assert(pyn_address_parse(i == 2 ? "::1" : "127.0.0.1", port, &a));
        ck_assert_int_eq(pyn_net_connect(&a, &w, &fd), 0);
        close(fd);
        close(listening);
        ck_assert_int_eq(pyn_net_connect(&a, &w, &fd), ECONNREFUSED);
    }
}
END_TEST

START_TEST(jitter_stays_within_a_half)
{
    for (int i = 0; i < 1000; i++) {
        uint64_t ms = pyn_jitter(1000);
        ck_assert(ms >= 500 && ms < 1500);
    }
    ck_assert_uint_eq(pyn_jitter(0), 0);
}
END_TEST

START_TEST(steps_do_not_outlast_the_whole)
{
    struct pyn_wait w = wait_ms(20000);

    ck_assert_uint_eq(pyn_wait_step(&w, 60000).deadline, w.deadline);
    ck_assert_uint_lt(pyn_wait_step(&w, 1).deadline, w.deadline);
    w.deadline = PYN_NEVER;
    ck_assert_uint_lt(pyn_wait_step(&w, 1).deadline, PYN_NEVER);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, addresses_are_numeric);
    tcase_add_test(core, reads_are_whole_or_an_error);
    tcase_add_test(core, listen_and_connect);
    tcase_add_test(limits, a_wait_ends_by_time_and_by_waking);
    tcase_add_test(limits, a_full_socket_times_out);
    tcase_add_test(limits, jitter_stays_within_a_half);
    tcase_add_test(limits, steps_do_not_outlast_the_whole);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
