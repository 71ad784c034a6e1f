#include "app/signals.h"

#include "unit/suite.h"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HURRY = 7 };

static const int touched[] = {SIGPIPE, SIGTERM, SIGINT};
static struct sigaction before[3]; /* Check has handlers of its own */
static int fd;

static void setup(void)
{
    signal(SIGTERM, SIG_DFL); /* Check has handlers of its own, which the node would give back to a child */
    signal(SIGINT, SIG_DFL);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(sigaction(touched[i], NULL, &before[i]), 0);
    fd = pyn_signals_install(HURRY);
    ck_assert_int_ge(fd, 0);
}

static void teardown(void)
{
    pyn_signals_restore();
}

static bool readable(int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, timeout_ms) == 1;
}

static const int asked[] = {SIGTERM, SIGINT};

START_TEST(signal_makes_it_readable)
{
    ck_assert(!readable(0));
    ck_assert_int_eq(pyn_signals_caught(), 0);
    ck_assert_int_eq(kill(getpid(), asked[_i]), 0);
    ck_assert(readable(WAIT_MS));
    ck_assert_int_eq(pyn_signals_caught(), asked[_i]);
}
END_TEST

START_TEST(second_signal_ends_the_process)
{
    pid_t child = fork();
    int status;

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (pyn_signals_install(HURRY) >= 0) {
            raise(asked[_i]);
            raise(SIGTERM);
        }
        _exit(99); /* not reached */
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), HURRY);
}
END_TEST

/* Also at once, before it has run anything: the handler is its parent's until then. */
START_TEST(a_signal_to_a_child_is_its_own)
{
    int status;
    pid_t child = fork(), ended;

    ck_assert_int_ge(child, 0);
    if (child == 0)
        for (;;)
            pause();
    do { /* again, as the thread sanitizer loses one whose handler goes while it waits for its turn */
        ck_assert_int_eq(kill(child, asked[_i]), 0);
        usleep(1000);
        ended = waitpid(child, &status, WNOHANG);
    } while (ended == 0);
    ck_assert_int_eq(ended, child);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), asked[_i]);
    ck_assert(!readable(0));
    ck_assert_int_eq(pyn_signals_caught(), 0);
}
END_TEST

START_TEST(broken_pipe_is_an_error_only)
{
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    close(ends[0]);
    ck_assert_int_eq(write(ends[1], "x", 1), -1);
    close(ends[1]);
    ck_assert_int_eq(pyn_signals_caught(), 0);
}
END_TEST

/* What Python code starts must be killable: nothing is blocked, and exec puts caught signals back to their default. */
START_TEST(nothing_is_blocked)
{
    sigset_t mask;

    ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
    ck_assert_int_eq(sigismember(&mask, SIGTERM), 0);
    ck_assert_int_eq(sigismember(&mask, SIGINT), 0);
}
END_TEST

START_TEST(restores_what_was)
{
    struct sigaction action;

    pyn_signals_restore();
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(sigaction(touched[i], NULL, &action), 0);
        ck_assert(action.sa_handler == before[i].sa_handler);
    }
    pyn_signals_restore();
    ck_assert_int_ge(pyn_signals_install(HURRY), 0);
    ck_assert_int_eq(pyn_signals_caught(), 0);
}
END_TEST

START_TEST(refuses_without_descriptors)
{
    struct rlimit limit;
    struct rlimit none;

    pyn_signals_restore();
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    fd = pyn_signals_install(HURRY);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(fd, -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("signals");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_loop_test(core, signal_makes_it_readable, 0, 2);
    tcase_add_loop_test(core, second_signal_ends_the_process, 0, 2);
    tcase_add_loop_test(core, a_signal_to_a_child_is_its_own, 0, 2);
    tcase_add_test(core, broken_pipe_is_an_error_only);
    tcase_add_test(core, nothing_is_blocked);
    tcase_add_test(core, restores_what_was);
    suite_add_tcase(s, core);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, refuses_without_descriptors);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
