#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/forked.h"

#include "unit/suite.h"

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* Bits of what the child sees. */
static int in_a_child(const int *fds, int count)
{
    int status, seen = 0;
    pid_t pid = fork();

    if (pid == 0) {
        for (int i = 0; i < count; i++)
            seen |= is_open(fds[i]) << i;
        _exit(seen | pyn_forked() << count);
    }
    ck_assert_int_gt(pid, 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(no_descriptor_is_none)
{
    ck_assert_int_eq(pyn_fd_own(-1), -1);
    pyn_fd_close(-1);
    ck_assert_int_eq(pyn_fd_own(1 << 30), 1 << 30);
    pyn_fd_close(1 << 30);
}
END_TEST

START_TEST(a_child_has_none_of_the_nodes)
{
    int fds[4];

    pyn_forked_init();
    for (int i = 0; i < 4; i++)
        fds[i] = open("/dev/null", O_RDONLY);
    ck_assert_int_eq(pyn_fd_own(fds[0]), fds[0]);
    ck_assert_int_eq(pyn_fd_own(fds[2]), fds[2]);
    pyn_fd_own(fds[3]);
    ck_assert_int_eq(in_a_child(fds, 3), 2 | 8);
    for (int i = 0; i < 4; i++)
        ck_assert(is_open(fds[i]));
    ck_assert(!pyn_forked());
    /* A number that was given back is somebody else's. */
    pyn_fd_close(fds[3]);
    ck_assert(!is_open(fds[3]));
    ck_assert_int_eq(open("/dev/null", O_RDONLY), fds[3]);
    ck_assert_int_eq(in_a_child(fds + 2, 2), 2 | 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("forked");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, no_descriptor_is_none);
    tcase_add_test(core, a_child_has_none_of_the_nodes);
    suite_add_tcase(s, limits);
    suite_add_tcase(s, core);
    return suite_run(s);
}
