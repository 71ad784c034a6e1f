#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dist/resolve.h"
#include "base/thread.h"

#include "unit/suite.h"

static struct pyn_wait wait_ms(uint64_t ms)
{
    return (struct pyn_wait){.deadline = pyn_deadline_in(pyn_now(), ms), .stop_fd = -1, .cancel_fd = -1};
}

static unsigned threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    unsigned n = 0;

    ck_assert_ptr_nonnull(tasks);
    while (readdir(tasks) != NULL)
        n++;
    closedir(tasks);
    return n;
}

static unsigned threads_before;

static void *say_path(void *path)
{
    snprintf(path, 64, "/proc/self/task/%d", (int)gettid());
    return NULL;
}

/* The thread sanitizer has a thread of its own when there has been one of ours, and that one is counted for a moment
 * after it was joined. */
static void setup(void)
{
    char path[64] = "";
    pthread_t first;

    ck_assert_int_eq(pyn_thread_start(&first, 0, say_path, path), 0);
    pthread_join(first, NULL);
    wait_until(access(path, F_OK) != 0);
    threads_before = threads();
}

/* Nobody waits for a thread that looks up: it would be a leak when the program ends before it. */
static void teardown(void)
{
    wait_until(threads() <= threads_before);
}

/* No name server is asked for one that begins so. */
START_TEST(an_unknown_host_is_an_error)
{
    struct pyn_address found[PYN_RESOLVE_MAX];
    struct pyn_wait w = wait_ms(20000);
    char reason[256] = "";

    ck_assert_uint_eq(pyn_resolve("-no-such-host", &w, found, reason, sizeof(reason)), 0);
    ck_assert_ptr_nonnull(strstr(reason, "-no-such-host"));
}
END_TEST

START_TEST(numbers_need_no_resolver)
{
    struct pyn_address found[PYN_RESOLVE_MAX];
    struct pyn_wait over = wait_ms(0);
    char reason[256] = "";

    ck_assert_uint_eq(pyn_resolve("127.0.0.1", &over, found, reason, sizeof(reason)), 1);
    ck_assert_uint_eq(pyn_resolve("::1", &over, found, reason, sizeof(reason)), 1);
}
END_TEST

START_TEST(localhost_is_known)
{
    struct pyn_address found[PYN_RESOLVE_MAX];
    struct pyn_wait w = wait_ms(20000);
    char reason[256] = "";

    ck_assert_msg(pyn_resolve("localhost", &w, found, reason, sizeof(reason)) >= 1, "%s", reason);
}
END_TEST

START_TEST(a_stop_is_not_held_up)
{
    struct pyn_address found[PYN_RESOLVE_MAX];
    struct pyn_wait w = wait_ms(60000);
    char reason[256] = "";
    int stop = pyn_wake_new();

    w.stop_fd = stop;
    pyn_wake_raise(stop);
    ck_assert_uint_eq(pyn_resolve("localhost", &w, found, reason, sizeof(reason)), 0);
    ck_assert_str_ne(reason, "");
    close(stop);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("resolve");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_set_timeout(core, 30);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(core, an_unknown_host_is_an_error);
    tcase_add_test(core, numbers_need_no_resolver);
    tcase_add_test(core, localhost_is_known);
    tcase_add_test(limits, a_stop_is_not_held_up);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
