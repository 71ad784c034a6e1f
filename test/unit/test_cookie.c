#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dist/cookie.h"

#include "unit/suite.h"

static char dir[64];
static char path[128];
static char error[512];

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/pyn-cookie-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/.erlang.cookie", dir);
    setenv("HOME", dir, 1);
    unsetenv("PYNODE_COOKIE");
    unsetenv("XDG_CONFIG_HOME");
    error[0] = '\0';
}

static void teardown(void)
{
    unlink(path);
    rmdir(dir);
}

static void put(const char *to, const char *text, size_t n, mode_t mode)
{
    int fd;

    unlink(to);
    fd = open(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, n), (ssize_t)n);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

static void expect(const char *given, const char *cookie)
{
    char *got;

    ck_assert_msg(pyn_cookie_read(given, &got, error, sizeof(error)), "%s", error);
    ck_assert_str_eq(got, cookie);
    free(got);
}

static void refuse(const char *given, const char *because)
{
    char *got;

    ck_assert(!pyn_cookie_read(given, &got, error, sizeof(error)));
    ck_assert_ptr_null(got);
    ck_assert_msg(strstr(error, because) != NULL, "%s", error);
}

START_TEST(bad_cookies_are_refused)
{
    char longest[300];

    refuse("", "empty");
    refuse("a\nb", "control character at position 2");
    refuse("\x7f", "control character");
    memset(longest, 'x', sizeof(longest));
    longest[256] = '\0';
    refuse(longest, "longer than 255");
    longest[255] = '\0';
    expect(longest, longest);
    setenv("PYNODE_COOKIE", "", 1);
    refuse(NULL, "PYNODE_COOKIE is empty");
}
END_TEST

START_TEST(others_must_not_read_the_file)
{
    static const mode_t modes[] = {0440, 0404, 0620, 0602, 0410, 0401, 0777};

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        put(path, "SECRET", 6, modes[i]);
        refuse(NULL, "owner only");
    }
}
END_TEST

START_TEST(bad_files_are_refused)
{
    char longest[300];

    memset(longest, 'x', sizeof(longest));
    put(path, "", 0, 0400);
    refuse(NULL, "empty");
    unlink(path);
    put(path, "\n", 1, 0400);
    refuse(NULL, "empty");
    unlink(path);
    put(path, "a\nb\n", 4, 0400);
    refuse(NULL, "control character");
    unlink(path);
    put(path, "a\0b", 3, 0400);
    refuse(NULL, "control character");
    unlink(path);
    put(path, longest, 300, 0400);
    refuse(NULL, "longer");
    unlink(path);
    put(path, longest, 256, 0400);
    refuse(NULL, "longer");
    unlink(path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    refuse(NULL, "not a regular file");
    rmdir(path);
}
END_TEST

START_TEST(one_newline_is_no_part_of_it)
{
    static const struct {
        const char *text;
        const char *cookie;
    } t[] = {{"SECRET", "SECRET"}, {"SECRET\n", "SECRET"}, {"SECRET\r\n", "SECRET"}, {"a b", "a b"}};

    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        unlink(path);
        put(path, t[i].text, strlen(t[i].text), 0400);
        expect(NULL, t[i].cookie);
    }
}
END_TEST

START_TEST(the_nearest_one_counts)
{
    put(path, "FILE", 4, 0600);
    expect(NULL, "FILE");
    setenv("PYNODE_COOKIE", "ENV", 1);
    expect(NULL, "ENV");
    expect("GIVEN", "GIVEN");
}
END_TEST

START_TEST(the_configuration_folder_is_looked_at)
{
    char config[160];

    snprintf(config, sizeof(config), "%s/erlang", dir);
    ck_assert_int_eq(mkdir(config, 0700), 0);
    snprintf(config, sizeof(config), "%s/erlang/.erlang.cookie", dir);
    put(config, "CONFIG", 6, 0400);
    setenv("XDG_CONFIG_HOME", dir, 1);
    expect(NULL, "CONFIG");
    put(path, "HOME", 4, 0400);
    expect(NULL, "HOME");
    unlink(config);
    snprintf(config, sizeof(config), "%s/erlang", dir);
    rmdir(config);
}
END_TEST

START_TEST(one_is_made_when_there_is_none)
{
    struct stat st;
    char *first;

    ck_assert_msg(pyn_cookie_read(NULL, &first, error, sizeof(error)), "%s", error);
    ck_assert_uint_eq(strlen(first), 20);
    ck_assert_uint_eq(strspn(first, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 20);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 07777, 0400);
    expect(NULL, first);
    free(first);
}
END_TEST

START_TEST(no_home_no_cookie)
{
    setenv("HOME", "/proc/nowhere", 1);
    refuse(NULL, "/proc/nowhere");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cookie");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, bad_cookies_are_refused);
    tcase_add_test(limits, others_must_not_read_the_file);
    tcase_add_test(limits, bad_files_are_refused);
    tcase_add_test(limits, no_home_no_cookie);
    tcase_add_test(core, one_newline_is_no_part_of_it);
    tcase_add_test(core, the_nearest_one_counts);
    tcase_add_test(core, the_configuration_folder_is_looked_at);
    tcase_add_test(core, one_is_made_when_there_is_none);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
