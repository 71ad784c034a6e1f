/* Both ends are ours (ei against ei over a socketpair); where a peer must misbehave, it is a script of bytes. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "dist/handshake.h"
#include "base/thread.h"

#include "unit/suite.h"

static struct pyn_handshakes *a; /* accepts */
static struct pyn_handshakes *b; /* connects */

static void setup(void)
{
    a = pyn_handshakes_new("a@host", "secret", 1000);
    b = pyn_handshakes_new("b@host", "secret", 2000);
    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(b);
}

static void teardown(void)
{
    pyn_handshakes_free(a);
    pyn_handshakes_free(b);
}

static void pair(int fds[2])
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static struct pyn_wait wait_ms(uint64_t ms)
{
    return (struct pyn_wait){.deadline = pyn_deadline_in(pyn_now(), ms), .stop_fd = -1, .cancel_fd = -1};
}

/* --- One end in a thread --- */

struct end {
    struct pyn_handshakes *us;
    struct pyn_handshake hs;
    bool accepts;
    enum pyn_shake_end end;
    pthread_t thread;
};

static void *run_end(void *arg)
{
    struct end *e = arg;

    e->end = e->accepts ? pyn_handshake_accept(e->us, &e->hs) : pyn_handshake_connect(e->us, &e->hs);
    if (e->end != PYN_SHAKE_OK)
        shutdown(e->hs.fd, SHUT_RDWR); /* as its owner's close would */
    return NULL;
}

static void begin(struct end *e, struct pyn_handshakes *us, int fd, bool accepts)
{
    e->us = us;
    e->hs.fd = fd;
    e->hs.wait = wait_ms(20000);
    e->accepts = accepts;
    ck_assert_int_eq(pyn_thread_start(&e->thread, 256 * 1024, run_end, e), 0);
}

/* Both ends; the sockets stay open and in the structs. */
static void meet(struct end *in, struct end *out)
{
    int fds[2];

    pair(fds);
    begin(in, a, fds[0], true);
    begin(out, b, fds[1], false);
    pthread_join(in->thread, NULL);
    pthread_join(out->thread, NULL);
}

static void part(const struct end *in, const struct end *out)
{
    close(in->hs.fd);
    close(out->hs.fd);
}

START_TEST(two_ends_meet)
{
    struct end in = {.us = NULL}, out = {.us = NULL};
    char byte = 'x';

    out.hs.expect = "a@host";
    meet(&in, &out);
    ck_assert_msg(in.end == PYN_SHAKE_OK, "%s", in.hs.reason);
    ck_assert_msg(out.end == PYN_SHAKE_OK, "%s", out.hs.reason);
    ck_assert_str_eq(in.hs.peer, "b@host");
    ck_assert_str_eq(out.hs.peer, "a@host");
    ck_assert_uint_eq(in.hs.our_flags, PYN_OUR_DFLAGS);
    ck_assert_uint_eq(in.hs.peer_flags, PYN_OUR_DFLAGS);
    ck_assert_uint_eq(out.hs.our_flags, PYN_OUR_DFLAGS);
    ck_assert_uint_eq(out.hs.peer_flags, PYN_OUR_DFLAGS);
    /* The sockets are still connected, and what comes now is the first byte. */
    ck_assert_int_eq(write(out.hs.fd, &byte, 1), 1);
    ck_assert_int_eq(read(in.hs.fd, &byte, 1), 1);
    ck_assert_int_eq(read(in.hs.fd, &byte, 1), -1);
    ck_assert_int_eq(errno, EAGAIN);
    part(&in, &out);
}
END_TEST

START_TEST(our_flags)
{
    ck_assert(PYN_OUR_DFLAGS & PYN_DFLAG_DIST_MONITOR_NAME);
    ck_assert(PYN_OUR_DFLAGS & PYN_DFLAG_DIST_MONITOR);
    ck_assert(PYN_OUR_DFLAGS & PYN_DFLAG_UNLINK_ID);
    ck_assert(PYN_OUR_DFLAGS & PYN_DFLAG_V4_NC);
    ck_assert(!(PYN_OUR_DFLAGS & (PYN_DFLAG_PUBLISHED | PYN_DFLAG_SPAWN | PYN_DFLAG_ALIAS | PYN_DFLAG_FRAGMENTS |
                                  PYN_DFLAG_EXIT_PAYLOAD | PYN_DFLAG_NAME_ME)));
}
END_TEST

START_TEST(creations_that_are_too_small)
{
    struct pyn_handshakes *h = pyn_handshakes_new("c@host", "secret", 2);

    ck_assert_uint_eq(pyn_handshakes_creation(a), 1000);
    ck_assert_uint_gt(pyn_handshakes_creation(h), 3);
    pyn_handshakes_free(h);
    ck_assert_ptr_null(pyn_handshakes_new("nohost", "secret", 1));
}
END_TEST

START_TEST(another_cookie)
{
    struct end in = {.us = NULL}, out = {.us = NULL};

    pyn_handshakes_free(b);
    b = pyn_handshakes_new("b@host", "Secret", 2000);
    meet(&in, &out);
    ck_assert_int_eq(in.end, PYN_SHAKE_COOKIE);
    ck_assert_str_eq(in.hs.peer, "b@host");
    ck_assert_int_eq(out.end, PYN_SHAKE_CLOSED);
    ck_assert_ptr_nonnull(strstr(out.hs.reason, "cookie"));
    part(&in, &out);
}
END_TEST

START_TEST(not_who_was_expected)
{
    struct end in = {.us = NULL}, out = {.us = NULL};

    out.hs.expect = "c@host";
    meet(&in, &out);
    ck_assert_int_eq(out.end, PYN_SHAKE_REFUSED);
    ck_assert_ptr_nonnull(strstr(out.hs.reason, "a@host"));
    ck_assert_int_eq(in.end, PYN_SHAKE_CLOSED);
    part(&in, &out);
}
END_TEST

static enum pyn_shake_status say(void *ctx, struct pyn_handshake *hs)
{
    ck_assert_str_eq(hs->peer, "b@host");
    ck_assert_uint_eq(hs->peer_flags, PYN_OUR_DFLAGS);
    return *(enum pyn_shake_status *)ctx;
}

START_TEST(what_the_judge_says)
{
    static const struct {
        enum pyn_shake_status status;
        enum pyn_shake_end in, out;
    } t[] = {
        {PYN_SHAKE_SAY_NOK, PYN_SHAKE_SIMULTANEOUS, PYN_SHAKE_SIMULTANEOUS},
        {PYN_SHAKE_SAY_NOT_ALLOWED, PYN_SHAKE_REFUSED, PYN_SHAKE_REFUSED},
        {PYN_SHAKE_SAY_OK_SIMULTANEOUS, PYN_SHAKE_OK, PYN_SHAKE_OK},
        {PYN_SHAKE_SAY_OK, PYN_SHAKE_OK, PYN_SHAKE_OK},
    };

    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct end in = {.us = NULL}, out = {.us = NULL};
        enum pyn_shake_status status = t[i].status;
        in.hs.judge = say;
        in.hs.ctx = &status;
        meet(&in, &out);
        ck_assert_msg(in.end == t[i].in, "%zu: %s", i, in.hs.reason);
        ck_assert_msg(out.end == t[i].out, "%zu: %s", i, out.hs.reason);
        part(&in, &out);
    }
}
END_TEST

/* --- Between the two: a relay that changes the status to "alive" and wants "true" for it --- */

struct relay {
    int to_in, to_out;
    bool insisted;
    pthread_t thread;
};

static size_t get_message(int fd, uint8_t *m)
{
    struct pyn_wait w = wait_ms(20000);
    size_t n;

    ck_assert_int_eq(pyn_net_read(fd, m, 2, &w), 0);
    n = pyn_get_be16(m);
    ck_assert_uint_le(n, 1000);
    ck_assert_int_eq(pyn_net_read(fd, m + 2, n, &w), 0);
    return n + 2;
}

static void pass(int from, int to)
{
    struct pyn_wait w = wait_ms(20000);
    uint8_t m[1002];
    size_t n = get_message(from, m);

    ck_assert_int_eq(pyn_net_write(to, m, n, &w), 0);
}

static void *run_relay(void *arg)
{
    struct relay *r = arg;
    struct pyn_wait w = wait_ms(20000);
    uint8_t m[1002];

    pass(r->to_out, r->to_in); /* name */
    ck_assert_uint_eq(get_message(r->to_in, m), 5);
    ck_assert_mem_eq(m, "\0\3sok", 5);
    ck_assert_int_eq(pyn_net_write(r->to_out, "\0\6salive", 8, &w), 0);
    ck_assert_uint_eq(get_message(r->to_out, m), 7);
    r->insisted = memcmp(m, "\0\5strue", 7) == 0;
    pass(r->to_in, r->to_out); /* challenge */
    pass(r->to_out, r->to_in); /* reply */
    pass(r->to_in, r->to_out); /* acknowledgement */
    return NULL;
}

START_TEST(a_peer_that_believes_us_connected)
{
    struct end in = {.us = NULL}, out = {.us = NULL};
    struct relay r = {.insisted = false};
    int left[2], right[2];

    pair(left);
    pair(right);
    r.to_in = left[1];
    r.to_out = right[1];
    begin(&in, a, left[0], true);
    begin(&out, b, right[0], false);
    ck_assert_int_eq(pthread_create(&r.thread, NULL, run_relay, &r), 0);
    pthread_join(r.thread, NULL);
    pthread_join(in.thread, NULL);
    pthread_join(out.thread, NULL);
    ck_assert(r.insisted);
    ck_assert_msg(in.end == PYN_SHAKE_OK, "%s", in.hs.reason);
    ck_assert_msg(out.end == PYN_SHAKE_OK, "%s", out.hs.reason);
    part(&in, &out);
    close(left[1]);
    close(right[1]);
}
END_TEST

/* --- Peers that misbehave: bytes, then silence or the end --- */

#define FLAGS "\x00\x00\x00\x04\x07\x07\x4f\xbc"
#define CREATION "\x00\x00\x00\x07"
#define BYTES(s) s, sizeof(s) - 1

static const struct {
    const char *bytes;
    size_t n;
    enum pyn_shake_end end;
} bad_clients[] = {
    {BYTES("GET / HTTP/1.1\r\n\r\n"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\0"), PYN_SHAKE_GARBAGE},
    {BYTES("\4\1"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\1N"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\1r"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\6n\0\5abc"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\16N" FLAGS CREATION "\0"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\17N" FLAGS CREATION "\0\0"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\22N" FLAGS CREATION "\0\4c@h"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\22N" FLAGS CREATION "\xff\xff"
           "c@h"),
     PYN_SHAKE_GARBAGE},
    {BYTES("\0\22N" FLAGS CREATION "\0\3c\0h"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\22N" FLAGS CREATION "\0\3coh"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\22N\0\0\0\0\0\0\0\0" CREATION "\0\3c@h"), PYN_SHAKE_GARBAGE},     /* no capabilities */
    {BYTES("\0\22N\0\0\0\6\7\7\x4f\xbc" CREATION "\0\3hos"), PYN_SHAKE_REFUSED}, /* NAME_ME */
    {BYTES("\0\22N" FLAGS CREATION "\0\3c@h\0\1r"), PYN_SHAKE_COOKIE},
    {BYTES("\0\22N" FLAGS CREATION "\0\3c@h\0\25r\0\0\0\0"
           "0123456789abcdef"),
     PYN_SHAKE_COOKIE},
    {BYTES("\0\22N" FLAGS CREATION "\0\3c@h\0\1x"), PYN_SHAKE_GARBAGE},
    {BYTES(""), PYN_SHAKE_CLOSED},
    {BYTES("\0"), PYN_SHAKE_CLOSED},
    {BYTES("\0\22N" FLAGS CREATION "\0\3c@"), PYN_SHAKE_CLOSED},
    {BYTES("\0\22N" FLAGS CREATION "\0\3c@h"), PYN_SHAKE_CLOSED},
};

START_TEST(bad_clients_are_refused)
{
    int i = _i;
    struct end in = {.us = NULL};
    int fds[2];

    pair(fds);
    ck_assert_int_eq(write(fds[1], bad_clients[i].bytes, bad_clients[i].n), (ssize_t)bad_clients[i].n);
    shutdown(fds[1], SHUT_WR);
    begin(&in, a, fds[0], true);
    pthread_join(in.thread, NULL);
    ck_assert_msg(in.end == bad_clients[i].end, "%d: ends as %d: %s", i, (int)in.end, in.hs.reason);
    ck_assert_str_ne(in.hs.reason, "");
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static const struct {
    const char *bytes;
    size_t n;
    enum pyn_shake_end end;
} bad_servers[] = {
    {BYTES("220 mail\r\n"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\1s"), PYN_SHAKE_REFUSED},
    {BYTES("\0\4snok"), PYN_SHAKE_SIMULTANEOUS},
    {BYTES("\0\14snot_allowed"), PYN_SHAKE_REFUSED},
    {BYTES("\0\4soka"), PYN_SHAKE_REFUSED},
    {BYTES("\0\1a"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\3sok"), PYN_SHAKE_CLOSED},
    {BYTES("\0\3sok\0\1N"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\3sok\0\26N" FLAGS "\0\0\0\1" CREATION "\0\4a@h"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\3sok\0\26N\0\0\0\0\0\0\0\0\0\0\0\1" CREATION "\0\3a@h"), PYN_SHAKE_GARBAGE},
    {BYTES("\0\3sok\0\26N" FLAGS "\0\0\0\1" CREATION "\0\3a@h"), PYN_SHAKE_CLOSED},
    {BYTES("\0\3sok\0\26N" FLAGS "\0\0\0\1" CREATION "\0\3a@h\0\1a"), PYN_SHAKE_COOKIE},
    {BYTES("\0\3sok\0\26N" FLAGS "\0\0\0\1" CREATION "\0\3a@h\0\21a0123456789abcdef"), PYN_SHAKE_COOKIE},
};

START_TEST(bad_servers_are_left)
{
    int i = _i;
    struct end out = {.us = NULL};
    int fds[2];

    pair(fds);
    ck_assert_int_eq(write(fds[1], bad_servers[i].bytes, bad_servers[i].n), (ssize_t)bad_servers[i].n);
    shutdown(fds[1], SHUT_WR);
    begin(&out, b, fds[0], false);
    pthread_join(out.thread, NULL);
    ck_assert_msg(out.end == bad_servers[i].end, "%d: ends as %d: %s", i, (int)out.end, out.hs.reason);
    ck_assert_str_ne(out.hs.reason, "");
    close(fds[0]);
    close(fds[1]);
}
END_TEST

/* --- Time --- */

START_TEST(silence_has_a_limit)
{
    struct pyn_handshake hs = {.fd = -1};
    int fds[2];

    pair(fds);
    hs.fd = fds[0];
    hs.wait = wait_ms(50);
    ck_assert_int_eq(pyn_handshake_accept(a, &hs), PYN_SHAKE_TIMED_OUT);
    hs.wait = wait_ms(50);
    ck_assert_int_eq(pyn_handshake_connect(b, &hs), PYN_SHAKE_TIMED_OUT);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

static void *dribble(void *arg)
{
    static const char name[] = "\0\22N" FLAGS CREATION "\0\3c@h";
    int fd = *(int *)arg;

    for (size_t i = 0; i < sizeof(name) - 1; i++) {
        if (send(fd, name + i, 1, MSG_NOSIGNAL) != 1)
            break;
        poll(NULL, 0, 20);
    }
    return NULL;
}

START_TEST(the_limit_is_for_the_whole)
{
    struct pyn_handshake hs = {.fd = -1};
    pthread_t t;
    int fds[2];

    pair(fds);
    hs.fd = fds[0];
    hs.wait = wait_ms(100);
    ck_assert_int_eq(pthread_create(&t, NULL, dribble, &fds[1]), 0);
    ck_assert_int_eq(pyn_handshake_accept(a, &hs), PYN_SHAKE_TIMED_OUT);
    close(fds[0]);
    pthread_join(t, NULL);
    close(fds[1]);
}
END_TEST

START_TEST(a_stop_ends_it)
{
    struct pyn_handshake hs = {.fd = -1};
    int fds[2];

    pair(fds);
    hs.fd = fds[0];
    hs.wait = wait_ms(60000);
    hs.wait.stop_fd = pyn_wake_new();
    pyn_wake_raise(hs.wait.stop_fd);
    ck_assert_int_eq(pyn_handshake_accept(a, &hs), PYN_SHAKE_STOPPED);
    close(hs.wait.stop_fd);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

/* --- Numbers --- */

START_TEST(nothing_is_used_up)
{
    for (int i = 0; i < 1200; i++) {
        struct pyn_handshake hs = {.fd = -1};
        int fds[2];
        pair(fds);
        close(fds[1]);
        hs.fd = fds[0];
        hs.wait = wait_ms(20000);
        ck_assert_int_eq(i % 2 ? pyn_handshake_accept(a, &hs) : pyn_handshake_connect(b, &hs), PYN_SHAKE_CLOSED);
        close(fds[0]);
    }
}
END_TEST

START_TEST(many_at_once)
{
    enum { MANY = 40 };
    static struct end in[MANY], out[MANY];

    for (int i = 0; i < MANY; i++) {
        int fds[2];
        pair(fds);
        begin(&in[i], a, fds[0], true);
        begin(&out[i], b, fds[1], false);
    }
    for (int i = 0; i < MANY; i++) {
        pthread_join(in[i].thread, NULL);
        pthread_join(out[i].thread, NULL);
        ck_assert_msg(in[i].end == PYN_SHAKE_OK && out[i].end == PYN_SHAKE_OK, "%s %s", in[i].hs.reason,
                      out[i].hs.reason);
        part(&in[i], &out[i]);
    }
}
END_TEST

START_TEST(descriptors_of_any_size)
{
    struct end in = {.us = NULL}, out = {.us = NULL};
    struct rlimit limit;
    int fds[2], high;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 3000 ? limit.rlim_max : 3000;
    setrlimit(RLIMIT_NOFILE, &limit);
    pair(fds);
    high = fcntl(fds[0], F_DUPFD_CLOEXEC, (int)limit.rlim_cur - 2);
    ck_assert_int_ge(high, 0);
    close(fds[0]);
    begin(&in, a, high, true);
    begin(&out, b, fds[1], false);
    pthread_join(in.thread, NULL);
    pthread_join(out.thread, NULL);
    ck_assert_int_eq(in.end, PYN_SHAKE_OK);
    ck_assert_int_eq(out.end, PYN_SHAKE_OK);
    part(&in, &out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("handshake");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_set_timeout(core, 30);
    tcase_set_timeout(limits, 30);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_loop_test(limits, bad_clients_are_refused, 0, sizeof(bad_clients) / sizeof(bad_clients[0]));
    tcase_add_loop_test(limits, bad_servers_are_left, 0, sizeof(bad_servers) / sizeof(bad_servers[0]));
    tcase_add_test(limits, silence_has_a_limit);
    tcase_add_test(limits, the_limit_is_for_the_whole);
    tcase_add_test(limits, a_stop_ends_it);
    tcase_add_test(limits, nothing_is_used_up);
    tcase_add_test(limits, many_at_once);
    tcase_add_test(limits, descriptors_of_any_size);
    tcase_add_test(core, our_flags);
    tcase_add_test(core, creations_that_are_too_small);
    tcase_add_test(core, two_ends_meet);
    tcase_add_test(core, another_cookie);
    tcase_add_test(core, not_who_was_expected);
    tcase_add_test(core, what_the_judge_says);
    tcase_add_test(core, a_peer_that_believes_us_connected);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
