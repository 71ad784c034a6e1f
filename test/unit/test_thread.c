#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"

#include "unit/suite.h"

static void *look_at_mask(void *arg)
{
    char name[16] = "";
    sigset_t mask;

    pyn_thread_name("pyn-test");
    pthread_getname_np(pthread_self(), name, sizeof(name));
    ck_assert_str_eq(name, "pyn-test");
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    ck_assert_int_eq(sigismember(&mask, SIGTERM), 1);
    pyn_wake_raise(*(int *)arg);
    return NULL;
}

static bool is_raised(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, ms) == 1;
}

START_TEST(a_stack_that_is_too_small_is_refused)
{
    pthread_t t;

    ck_assert_int_eq(pyn_thread_start(&t, 1, look_at_mask, NULL), EINVAL);
}
END_TEST

START_TEST(threads_take_no_signals)
{
    int fd = pyn_wake_new();
    sigset_t mask;
    pthread_t t;

    ck_assert_int_eq(pyn_thread_start(&t, 256 * 1024, look_at_mask, &fd), 0);
    pthread_join(t, NULL);
    ck_assert(is_raised(fd, 0));
    pyn_wake_clear(fd);
    ck_assert_int_eq(pyn_thread_start(NULL, 0, look_at_mask, &fd), 0);
    ck_assert(is_raised(fd, 20000));
    pyn_wake_clear(fd);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    ck_assert_int_eq(sigismember(&mask, SIGTERM), 0);
    close(fd);
}
END_TEST

START_TEST(a_wake_is_up_or_down)
{
    int fd = pyn_wake_new();

    ck_assert(!is_raised(fd, 0));
    for (int i = 0; i < 3; i++)
        pyn_wake_raise(fd);
    ck_assert(is_raised(fd, 0));
    pyn_wake_clear(fd);
    pyn_wake_clear(fd);
    ck_assert(!is_raised(fd, 0));
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("thread");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, threads_take_no_signals);
    tcase_add_test(core, a_wake_is_up_or_down);
    tcase_add_test(limits, a_stack_that_is_too_small_is_refused);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
