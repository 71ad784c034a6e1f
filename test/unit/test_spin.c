/* Waiting that asks before it sleeps. */
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "dist/spin.h"

#include "unit/suite.h"

static int epoll_fd, event_fd;
static struct epoll_event events[2];

static void setup(void)
{
    struct epoll_event ev = {.events = EPOLLIN};

    epoll_fd = epoll_create1(0);
    event_fd = eventfd(0, EFD_NONBLOCK);
    ck_assert_int_eq(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &ev), 0);
}

static void teardown(void)
{
    close(event_fd);
    close(epoll_fd);
}

static void say(void)
{
    uint64_t one = 1;
    ck_assert_int_eq(write(event_fd, &one, sizeof(one)), sizeof(one));
}

static void hear(void)
{
    uint64_t count;
    ck_assert_int_eq(read(event_fd, &count, sizeof(count)), sizeof(count));
}

static void *say_later(void *after_us)
{
    usleep(*(useconds_t *)after_us);
    say();
    return NULL;
}

/* Waits for something that another thread says after so many microseconds. */
static void wait_for_it(struct pyn_spin *s, useconds_t after_us, bool eager)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, say_later, &after_us), 0);
    ck_assert_int_eq(pyn_spin_wait(s, epoll_fd, events, 2, eager), 1);
    pthread_join(thread, NULL);
    hear();
}

/* --- Limits --- */

START_TEST(no_window_never_asks)
{
    struct pyn_spin s = pyn_spin_init(0);

    for (int i = 0; i < 3; i++) {
        wait_for_it(&s, 100, true);
        ck_assert_uint_gt(s.last, 0);
    }
    ck_assert_uint_eq(s.window, 0);
}
END_TEST

START_TEST(an_error_is_epolls)
{
    struct pyn_spin s = pyn_spin_init(50);

    ck_assert_int_eq(pyn_spin_wait(&s, -1, events, 2, true), -1);
    ck_assert_int_eq(pyn_spin_wait(&s, -1, events, 2, false), -1);
}
END_TEST

/* --- Core --- */

START_TEST(what_is_there_is_had_at_once)
{
    struct pyn_spin s = pyn_spin_init(50);

    ck_assert_uint_eq(s.last, PYN_NEVER);
    say();
    ck_assert_int_eq(pyn_spin_wait(&s, epoll_fd, events, 2, true), 1);
    ck_assert_uint_lt(s.last, PYN_SECOND);
}
END_TEST

/* Whatever it does meanwhile, it ends with the event: one that sleeps, one that asks, one that asks in vain first. */
START_TEST(waits_until_something_comes)
{
    struct pyn_spin s = pyn_spin_init((unsigned)_i);

    for (int i = 0; i < 3; i++) {
        s.last = i == 0 ? PYN_NEVER : 0;
        s.crowded_until = 0;
        wait_for_it(&s, 2000, true);
        ck_assert_uint_lt(s.last, PYN_NEVER);
    }
    wait_for_it(&s, 2000, false);
}
END_TEST

/* The time until which others want the processor holds: the wait neither asks nor looks whether that is still so. */
START_TEST(crowded_machines_are_left_in_peace)
{
    struct pyn_spin s = pyn_spin_init(10000);
    uint64_t until = s.crowded_until = pyn_now() + 3600 * PYN_SECOND;

    s.last = 0;
    wait_for_it(&s, 100, true);
    ck_assert_uint_eq(s.crowded_until, until);
}
END_TEST

/* Who asks in vain again and again does so less and less, and no less when it has paid again. */
START_TEST(what_does_not_pay_is_tried_now_and_then)
{
    struct pyn_spin s = pyn_spin_init(1);

    while (s.vain < 8) { /* on a busy machine one of them may find the event */
        s.last = s.crowded_until = 0;
        wait_for_it(&s, 3000, true);
    }
    s.vain = 32; /* those that did not ask are counted as well: its turn has come */
    s.last = 0;
    say();
    ck_assert_int_eq(pyn_spin_wait(&s, epoll_fd, events, 2, true), 1);
    ck_assert_uint_eq(s.vain, 0);
}
END_TEST

/* Only who gave a slice away for little is on such a machine. */
START_TEST(a_slice_for_little_is_too_much)
{
    struct pyn_spin s = pyn_spin_init(50);
    uint64_t before;

    pyn_spin_got(&s, 0);
    s.gave_slice = true;
    pyn_spin_got(&s, 100);
    ck_assert_uint_eq(s.crowded_until, 0);
    before = pyn_now();
    pyn_spin_got(&s, 1);
    ck_assert_uint_gt(s.crowded_until, before);
    say();
    ck_assert_int_eq(pyn_spin_wait(&s, epoll_fd, events, 2, true), 1);
    ck_assert(!s.gave_slice);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spin");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(limits, no_window_never_asks);
    tcase_add_test(limits, an_error_is_epolls);
    tcase_add_test(core, what_is_there_is_had_at_once);
    tcase_add_loop_test(core, waits_until_something_comes, 1, 4);
    tcase_add_test(core, crowded_machines_are_left_in_peace);
    tcase_add_test(core, what_does_not_pay_is_tried_now_and_then);
    tcase_add_test(core, a_slice_for_little_is_too_much);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
