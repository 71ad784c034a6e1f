#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dist/epmd.h"

#include "unit/suite.h"

static char dir[64], program[128], noted[128];
static char old_path[4096];

static void setup(void)
{
    snprintf(old_path, sizeof(old_path), "%s", getenv("PATH"));
    snprintf(dir, sizeof(dir), "/tmp/pyn-epmd-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(program, sizeof(program), "%s/epmd", dir);
    snprintf(noted, sizeof(noted), "%s/noted", dir);
    setenv("PATH", dir, 1);
}

static void teardown(void)
{
    setenv("PATH", old_path, 1);
    unlink(program);
    unlink(noted);
    rmdir(dir);
}

/* A program in the place of epmd. */
static void make_program(const char *commands)
{
    FILE *f = fopen(program, "w");

    ck_assert_ptr_nonnull(f);
    fprintf(f, "#!/bin/sh\n%s\n", commands);
    fclose(f);
    ck_assert_int_eq(chmod(program, 0700), 0);
}

static bool launch(uint64_t ms, char reason[200])
{
    struct pyn_wait w = {.deadline = pyn_deadline_in(pyn_now(), ms), .stop_fd = -1, .cancel_fd = -1};

    reason[0] = '\0';
    return pyn_epmd_launch(4711, &w, reason, 200);
}

START_TEST(one_that_hangs_is_given_up)
{
    char reason[200];

    make_program("while :; do :; done");
    ck_assert(!launch(200, reason));
    ck_assert_ptr_nonnull(strstr(reason, "background"));
}
END_TEST

START_TEST(it_gets_the_port_and_no_streams)
{
    char reason[200], text[200] = "", commands[300];
    FILE *f;

    snprintf(commands, sizeof(commands), "echo shown; echo shown >&2; echo \"$*\" >%s", noted);
    make_program(commands);
    ck_assert_msg(launch(20000, reason), "%s", reason);
    f = fopen(noted, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), f));
    fclose(f);
    ck_assert_str_eq(text, "-daemon -port 4711\n");
}
END_TEST

START_TEST(its_signals_are_as_usual)
{
    char reason[200], commands[300];

    /* A shell cannot trap what was ignored when it began. */
    snprintf(commands, sizeof(commands), "trap 'echo caught >%s' PIPE; kill -s PIPE $$", noted);
    make_program(commands);
    signal(SIGPIPE, SIG_IGN);
    ck_assert_msg(launch(20000, reason), "%s", reason);
    ck_assert_int_eq(access(noted, F_OK), 0);
    signal(SIGPIPE, SIG_DFL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("epmd_launch");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, one_that_hangs_is_given_up);
    tcase_add_test(core, it_gets_the_port_and_no_streams);
    tcase_add_test(core, its_signals_are_as_usual);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
