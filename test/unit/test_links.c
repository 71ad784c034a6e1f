#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "dist/links.h"
#include "unit/link_rig.h"
#include "unit/suite.h"

enum { MAX_FRAME = 1 << 20, MAX_OUTPUT = 100000, TICKTIME = 60 };

static struct rig rig;
static const uint64_t T0 = 1000 * PYN_SECOND;

static void setup(void)
{
    rig_init(&rig, MAX_FRAME, MAX_OUTPUT, TICKTIME);
}

static void teardown(void)
{
    rig_free(&rig);
}

static void send_bytes(struct pyn_link *l, size_t n)
{
    struct pyn_out o;

    pyn_out_init(&o, 1 << 26);
    rig_frame(&o.buf, 's', n);
    ck_assert(pyn_link_send(l, &o, true));
    pyn_link_flush(l);
    pyn_out_free(&o);
}

static void feed(int fd)
{
    struct pyn_buf b;

    pyn_buf_init(&b, 1000);
    rig_frame(&b, 'f', 10);
    rig_write(fd, b.data, b.len);
    pyn_buf_free(&b);
}

/* --- Limits --- */

START_TEST(nothing_to_do)
{
    uint64_t in, out;

    ck_assert_int_eq(pyn_links_poll(rig.ls, 0), 0);
    ck_assert_int_eq(pyn_links_poll(rig.ls, 1), 0);
    ck_assert_uint_eq(pyn_links_count(rig.ls), 0);
    ck_assert_ptr_null(pyn_links_find(rig.ls, "a@host"));
    pyn_links_tick(rig.ls, T0);
    pyn_links_bytes(rig.ls, &in, &out);
    ck_assert_uint_eq(in + out, 0);
    pyn_links_free(NULL);
}
END_TEST

static bool is_epoll(int fd)
{
    char path[64], to[64] = "";

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return readlink(path, to, sizeof(to) - 1) > 0 && strstr(to, "eventpoll");
}

/* As Python code does that closes all descriptors. */
START_TEST(descriptors_that_others_close)
{
    int epoll = 3;

    while (!is_epoll(epoll))
        epoll++;
    pyn_links_tick(rig.ls, T0);
    ck_assert(!rig.broken);
    ck_assert_int_eq(close(epoll), 0);
    pyn_links_tick(rig.ls, T0);
    ck_assert(rig.broken);
}
END_TEST

/* epoll refuses plain files: the link comes and goes, and on_up and on_down are a pair. */
START_TEST(a_socket_that_cannot_be_watched)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pyn_links_add(rig.ls, fd, "a@host", 0), 0);
    rig_poll_until(&rig, rig.downs == 1);
    ck_assert_str_eq(rig.order, "ud");
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
    ck_assert_int_eq(errno, EBADF);
}
END_TEST

START_TEST(a_silent_peer_is_dropped)
{
    int silent = rig_connect(&rig, "silent@host");
    int talking = rig_connect(&rig, "talking@host");
    static const uint8_t tick[4];

    for (uint64_t s = 0; s < 75; s += 5) {
        pyn_links_tick(rig.ls, T0 + s * PYN_SECOND);
        rig_write(talking, tick, sizeof(tick));
        pyn_links_poll(rig.ls, 20);
        pyn_links_poll(rig.ls, 0);
    }
    ck_assert_uint_eq(rig.downs, 0);
    pyn_links_tick(rig.ls, T0 + 75 * PYN_SECOND);
    rig_poll_until(&rig, rig.downs == 1);
    ck_assert_str_eq(rig.reason, "the peer has been silent for longer than the tick time");
    ck_assert_ptr_null(pyn_links_find(rig.ls, "silent@host"));
    ck_assert_uint_eq(pyn_links_count(rig.ls), 1);
    ck_assert_uint_eq(rig.messages, 0);
    close(silent);
    close(talking);
}
END_TEST

/* A peer that is not read, as it has not taken its output, shows that it lives by taking some. */
START_TEST(a_paused_peer_that_takes_output_lives)
{
    int fd = rig_connect(&rig, "slow@host");
    char some[30000];

    send_bytes(rig.last_up, 20 << 20);
    for (uint64_t s = 0; s <= 150; s += 50) {
        pyn_links_tick(rig.ls, T0 + s * PYN_SECOND);
        for (int i = 0; i < 20; i++) {
            rig_read(fd, some, sizeof(some));
            pyn_links_poll(rig.ls, 0);
        }
    }
    ck_assert_uint_eq(rig.downs, 0);
    pyn_links_tick(rig.ls, T0 + 200 * PYN_SECOND); /* sees the last progress */
    pyn_links_tick(rig.ls, T0 + 275 * PYN_SECOND);
    rig_poll_until(&rig, rig.downs == 1);
    close(fd);
}
END_TEST

START_TEST(links_end_with_their_table)
{
    int fd = rig_connect(&rig, "a@host");
    int fresh = rig_add(&rig, "fresh@host");
    struct pyn_link *l = pyn_link_ref(rig.last_up);
    struct pyn_out o;
    char c;

    send_bytes(l, 1 << 20);
    pyn_links_free(rig.ls);
    ck_assert(!pyn_link_is_up(l));
    pyn_out_init(&o, 1000);
    rig_frame(&o.buf, 'x', 10);
    ck_assert(pyn_link_send(l, &o, false));
    pyn_link_flush(l);
    pyn_out_free(&o);
    pyn_link_close(l, "too late");
    pyn_link_unref(l);
    ck_assert_int_eq(recv(fresh, &c, 1, 0), 0);
    ck_assert_uint_eq(rig.downs, 0);
    close(fd);
    close(fresh);
    setup(); /* for teardown */
}
END_TEST

/* --- Core --- */

START_TEST(a_link_lives)
{
    struct pyn_link *l;
    uint64_t in, out;
    int fd = rig_add(&rig, "a@host");

    ck_assert_uint_eq(rig.ups, 0); /* from the polling thread only */
    ck_assert_uint_eq(pyn_links_count(rig.ls), 1);
    feed(fd); /* its first message is there before it is announced */
    rig_poll_until(&rig, rig.messages == 1);
    ck_assert_uint_eq(rig.ups, 1);
    l = pyn_links_find(rig.ls, "a@host");
    ck_assert_ptr_eq(l, rig.last_up);
    ck_assert(pyn_link_is_up(l));
    ck_assert_str_eq(pyn_link_peer(l), "a@host");
    send_bytes(l, 100);
    pyn_links_bytes(rig.ls, &in, &out);
    ck_assert_uint_eq(out - in, 90);
    close(fd);
    rig_poll_until(&rig, rig.downs == 1);
    ck_assert_str_eq(rig.order, "ud");
    ck_assert_ptr_null(pyn_links_find(rig.ls, "a@host"));
    pyn_links_bytes(rig.ls, &in, &out);
    ck_assert_uint_eq(out - in, 90); /* those that are gone included */
    pyn_link_unref(l);
}
END_TEST

/* Somebody has found it meanwhile, and waits for an answer over it. */
START_TEST(one_that_breaks_before_it_is_announced_is_told)
{
    int fd = rig_add(&rig, "a@host");
    struct pyn_link *l = pyn_links_find(rig.ls, "a@host");

    ck_assert_ptr_nonnull(l);
    pyn_link_close(l, "the first write failed");
    rig_poll_until(&rig, rig.downs == 1);
    ck_assert_uint_eq(rig.ups, 0);
    ck_assert_uint_eq(pyn_links_count(rig.ls), 0);
    pyn_link_unref(l);
    close(fd);
}
END_TEST

/* An idle link is announced at once, also while the poller sleeps without end. */
START_TEST(adding_wakes_the_poller)
{
    int fds[20];

    rig_start(&rig);
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof(name), "n%d@host", i);
        fds[i] = rig_add(&rig, name);
        wait_until(atomic_load(&rig.ups) == (unsigned)i + 1);
    }
    rig_stop(&rig);
    for (int i = 0; i < 20; i++)
        close(fds[i]);
}
END_TEST

START_TEST(wake_ends_the_next_poll)
{
    uint64_t start = pyn_now();

    pyn_links_poll(rig.ls, 0);
    for (int i = 0; i < 3; i++) {
        pyn_links_wake(rig.ls);
        pyn_links_wake(rig.ls);
        ck_assert_int_eq(pyn_links_poll(rig.ls, WAIT_MS), 0);
    }
    ck_assert_uint_lt(pyn_now() - start, WAIT_MS * PYN_MS);
    /* both wakes were for one poll */
    start = pyn_now();
    pyn_links_poll(rig.ls, 30);
    ck_assert_uint_ge(pyn_now() - start, 25 * PYN_MS);
}
END_TEST

START_TEST(a_new_connection_replaces_the_old_one)
{
    int first = rig_connect(&rig, "a@host");
    struct pyn_link *old = pyn_link_ref(rig.last_up);
    int second = rig_add(&rig, "a@host");
    int third = rig_add(&rig, "a@host"); /* before the second one was announced */
    struct pyn_link *now = pyn_links_find(rig.ls, "a@host");
    char c;

    ck_assert(!pyn_link_is_up(old));
    ck_assert_ptr_ne(now, old);
    ck_assert_uint_ne(pyn_link_id(now), pyn_link_id(old));
    ck_assert_uint_eq(pyn_links_count(rig.ls), 1);
    rig_poll_until(&rig, rig.ups == 2);
    pyn_links_poll(rig.ls, 0);
    ck_assert_str_eq(rig.order, "uddu");
    ck_assert_ptr_eq(rig.last_up, now);
    ck_assert_int_eq(recv(first, &c, 1, 0), 0);
    ck_assert_int_eq(recv(second, &c, 1, 0), 0);
    feed(third);
    rig_poll_until(&rig, rig.messages == 1);
    pyn_link_unref(old);
    pyn_link_unref(now);
    close(first);
    close(second);
    close(third);
}
END_TEST

START_TEST(ticks_are_sent_when_due)
{
    int fd = rig_connect(&rig, "a@host");
    uint8_t bytes[4] = {1, 1, 1, 1};

    pyn_links_tick(rig.ls, T0);
    pyn_links_tick(rig.ls, T0 + 14 * PYN_SECOND);
    ck_assert(rig_is_quiet(fd));
    pyn_links_tick(rig.ls, T0 + 15 * PYN_SECOND);
    rig_read(fd, bytes, 4);
    ck_assert_uint_eq(pyn_get_be32(bytes), 0);
    ck_assert(rig_is_quiet(fd));
    pyn_links_tick(rig.ls, T0 + 29 * PYN_SECOND);
    ck_assert(rig_is_quiet(fd));

    send_bytes(rig.last_up, 10); /* counts as a tick, from when it is noticed on */
    pyn_links_tick(rig.ls, T0 + 30 * PYN_SECOND);
    pyn_links_tick(rig.ls, T0 + 44 * PYN_SECOND);
    free(rig_read_frame(fd, &(size_t){0}));
    ck_assert(rig_is_quiet(fd));
    pyn_links_tick(rig.ls, T0 + 45 * PYN_SECOND);
    rig_read(fd, bytes, 4);
    close(fd);
}
END_TEST

/* A large message is on its way: no tick comes into it, and input is taken all the same. */
START_TEST(no_tick_inside_a_message)
{
    enum { SIZE = 90000 };
    int fd = rig_connect(&rig, "a@host");
    int small = 4096;
    size_t n;

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    for (int i = 0; i < 10; i++)
        send_bytes(rig.last_up, SIZE / 10 * 11);
    for (uint64_t s = 0; s < 60; s += 15)
        pyn_links_tick(rig.ls, T0 + s * PYN_SECOND);
    rig_start(&rig);
    for (int i = 0; i < 10; i++) {
        free(rig_read_frame(fd, &n));
        ck_assert_uint_gt(n, SIZE);
    }
    rig_stop(&rig);
    ck_assert(rig_is_quiet(fd));
    close(fd);
}
END_TEST

static void count_link(void *ctx, struct pyn_link *l)
{
    send_bytes(l, 10);
    ++*(unsigned *)ctx;
}

enum { MANY = 300 };

START_TEST(three_hundred_links)
{
    int fds[MANY];
    unsigned seen = 0;
    size_t n;

    for (int i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof(name), "n%d@host", i);
        fds[i] = rig_add(&rig, name);
    }
    rig_poll_until(&rig, rig.ups == MANY);
    for (int i = 0; i < MANY; i++)
        feed(fds[i]);
    rig_poll_until(&rig, rig.messages == MANY);
    pyn_links_each(rig.ls, count_link, &seen);
    ck_assert_uint_eq(seen, MANY);
    for (int i = 0; i < MANY; i++)
        free(rig_read_frame(fds[i], &n));
    for (int i = 0; i < MANY; i += 2)
        close(fds[i]);
    rig_poll_until(&rig, rig.downs == MANY / 2);
    ck_assert_uint_eq(pyn_links_count(rig.ls), MANY / 2);
    for (int i = 1; i < MANY; i += 2) {
        feed(fds[i]);
        close(fds[i]); /* its message still is delivered */
    }
    rig_poll_until(&rig, rig.downs == MANY);
    ck_assert_uint_eq(rig.messages, MANY + MANY / 2);
}
END_TEST

/* --- All at once --- */

struct churn {
    pthread_t thread;
    int number;
};

/* Connects, says something, hears something, leaves or is closed; always under the same name. */
static void *churn_thread(void *arg)
{
    struct churn *c = arg;
    char name[32];

    snprintf(name, sizeof(name), "n%d@host", c->number);
    for (int i = 0; i < 60; i++) {
        int fd = rig_add(&rig, name);
        struct pyn_link *l = pyn_links_find(rig.ls, name);
        size_t n;
        ck_assert_ptr_nonnull(l);
        send_bytes(l, 100);
        free(rig_read_frame(fd, &n));
        feed(fd);
        if (i % 3 == 0)
            pyn_link_close(l, "churn");
        pyn_link_unref(l);
        if (i % 3 != 1 || i > 57)
            close(fd);
        else
            rig_add(&rig, name); /* both far ends stay open until the process ends */
    }
    return NULL;
}

static void *tick_thread(void *arg)
{
    atomic_bool *stop = arg;
    uint64_t now = T0;
    uint64_t in, out;

    while (!atomic_load(stop)) {
        pyn_links_tick(rig.ls, now += PYN_SECOND / 100);
        pyn_links_bytes(rig.ls, &in, &out);
        pyn_links_count(rig.ls);
        usleep(1000);
    }
    return NULL;
}

START_TEST(coming_and_going)
{
    struct churn churns[4];
    atomic_bool stop = false;
    pthread_t ticker;

    rig_start(&rig);
    ck_assert_int_eq(pthread_create(&ticker, NULL, tick_thread, &stop), 0);
    for (int i = 0; i < 4; i++) {
        churns[i].number = i;
        ck_assert_int_eq(pthread_create(&churns[i].thread, NULL, churn_thread, &churns[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(churns[i].thread, NULL);
    wait_until(pyn_links_count(rig.ls) == 0 && atomic_load(&rig.ups) <= atomic_load(&rig.downs));
    atomic_store(&stop, true);
    pthread_join(ticker, NULL);
    rig_stop(&rig);
    ck_assert_uint_gt(atomic_load(&rig.ups), 0);
}
END_TEST

/* The turn goes round between threads; nothing but the lock that they pass it under is between them. */
struct turn {
    pthread_mutex_t lock;
    atomic_uint turns;
    unsigned want;
};

static void *turn_thread(void *arg)
{
    struct turn *t = arg;

    while (atomic_load(&rig.messages) < t->want) {
        pthread_mutex_lock(&t->lock);
        pyn_links_poll(rig.ls, 1);
        pthread_mutex_unlock(&t->lock);
        atomic_fetch_add(&t->turns, 1);
    }
    return NULL;
}

START_TEST(threads_take_turns)
{
    enum { THREADS = 3, WANT = 500 };
    struct turn turn = {.lock = PTHREAD_MUTEX_INITIALIZER, .want = WANT};
    pthread_t threads[THREADS];
    int a = rig_add(&rig, "a@host");
    int b = rig_add(&rig, "b@host");

    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, turn_thread, &turn), 0);
    for (int i = 0; i < WANT; i++) {
        feed(i % 2 ? a : b);
        if (i % 50 == 0)
            usleep(500);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(rig.messages, WANT);
    close(a);
    close(b);
}
END_TEST

static void add_tests(TCase *limits, TCase *core)
{
    tcase_add_test(limits, nothing_to_do);
    tcase_add_test(limits, descriptors_that_others_close);
    tcase_add_test(limits, a_socket_that_cannot_be_watched);
    tcase_add_test(limits, one_that_breaks_before_it_is_announced_is_told);
    tcase_add_test(limits, a_silent_peer_is_dropped);
    tcase_add_test(limits, a_paused_peer_that_takes_output_lives);
    tcase_add_test(limits, links_end_with_their_table);
    tcase_add_test(limits, three_hundred_links);
    tcase_add_test(core, a_link_lives);
    tcase_add_test(core, adding_wakes_the_poller);
    tcase_add_test(core, wake_ends_the_next_poll);
    tcase_add_test(core, a_new_connection_replaces_the_old_one);
    tcase_add_test(core, ticks_are_sent_when_due);
    tcase_add_test(core, no_tick_inside_a_message);
    tcase_add_test(core, coming_and_going);
    tcase_add_test(core, threads_take_turns);
}

int main(void)
{
    Suite *s = suite_create("links");
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
