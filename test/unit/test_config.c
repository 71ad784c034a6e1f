#include "app/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/cli.h"
#include "app/options.h"

#include "unit/suite.h"

enum { ARGS_MAX = 160 };

static struct pyn_config config;
static char error[PYN_CONFIG_ERROR_MAX];
static char path[] = "/tmp/test_config.XXXXXX";

/* Parses "pynode" and the words of the text, which are separated by single blanks. */
static enum pyn_config_result parse(const char *text)
{
    char *copy = strdup(text);
    char *argv[ARGS_MAX] = {"pynode"};
    char *rest = copy;
    int argc = 1;
    enum pyn_config_result result;

    for (char *word = strsep(&rest, " "); word && argc < ARGS_MAX; word = strsep(&rest, " "))
        argv[argc++] = word;
    error[0] = '\0';
    result = pyn_config_parse(&config, argc, argv, error, sizeof(error));
    free(copy);
    return result;
}

/* The same with a configuration file; the text goes before --config FILE. */
static enum pyn_config_result parse_file(const char *content, size_t n, const char *before)
{
    char text[1024];
    int fd;

    memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, content, n), (ssize_t)n);
    close(fd);
    snprintf(text, sizeof(text), "%s%s--config %s", before, *before ? " " : "", path);
    return parse(text);
}

static void teardown(void)
{
    pyn_config_free(&config);
    unlink(path);
}

/* ---- bad input ---- */

static const struct {
    const char *args;
    const char *says;
} bad_args[] = {
    {"--workers 2", "needs a name"},
    {"--sname", "--sname: NAME is missing"},
    {"--sname py1 --workers", "--workers: N is missing"},
    {"--sname py1 extra", "\"extra\" is not an option"},
    {"--sname py1 -w", "\"-w\" is not an option"},
    {"--sname py1 --", "\"--\" is not an option"},
    {"--sname py1 --wurkers 2", "there is no option --wurkers"},
    {"--sname py1 --worker 2", "there is no option --worker"},
    {"--sname py1 --workers two", "--workers: \"two\" is not a whole number"},
    {"--sname py1 --workers -1", "--workers: \"-1\" is not a whole number"},
    {"--sname py1 --workers +1", "\"+1\" is not a whole number"},
    {"--sname py1 --workers 4K", "\"4K\" is not a whole number"},
    {"--sname py1 --workers=", "\"\" is not a whole number"},
    {"--sname py1 --workers 0", "--workers: 0 is not between 1 and 256"},
    {"--sname py1 --workers 257", "257 is not between 1 and 256"},
    {"--sname py1 --workers 99999999999999999999999", "is not between"},
    {"--sname py1 --port 65536", "--port: 65536 is not between 0 and 65535"},
    {"--sname py1 --max-frame 1", "--max-frame: 1 is not between"},
    {"--sname py1 --max-frame 3G", "is not between"},
    {"--sname py1 --max-frame 18446744073709551615G", "is not between"},
    {"--sname py1 --max-frame 1MB", "\"1MB\" is not a whole number (of bytes"},
    {"--sname py1 --parent-pipe=true", "--parent-pipe takes no value"},
    {"--sname py1 --mode fast", "--mode: \"fast\" is none of auto"},
    {"--sname py1 --log-level loud", "--log-level: \"loud\" is none of debug"},
    {"--sname py1 --bind localhost", "--bind: \"localhost\" is not a numeric address"},
    {"--sname py1 --coordinator main", "--coordinator: \"main\" is not a node name"},
    {"--sname py1 --coordinator a@h,main", "--coordinator: \"main\" is not a node name"},
    {"--sname py1 --coordinator a@h,", "--coordinator: \"\": before the @"},
    {"--sname py1 --coordinator a@h,,b@h", "--coordinator: \"\": before the @"},
    {"--sname py1 --venv /nowhere/at/all", "--venv: \"/nowhere/at/all\" is not a directory"},
    {"--sname py1 --preload /nowhere/x.py", "--preload: /nowhere/x.py: No such file"},
    {"--sname py1 --preload /tmp", "--preload: /tmp cannot be read"},
    {"--sname py1 --config /nowhere/x", "--config: /nowhere/x: No such file"},
    {"--sname py1 --config", "--config: FILE is missing"},
    {"--sname py1 --cookie=", "--cookie: a cookie has 1 to 255 characters"},
    {"--sname py1 --path=", "--path: it is empty"},
    {"--sname py.1", "before the @"},
    {"--sname @host", "before the @"},
    {"--sname py1@", "behind the @"},
    {"--sname py1@a@b", "behind the @"},
    {"--sname py1@host.domain", "a short name has a host without dots"},
    {"--name py1@host", "a long name has a full host name"},
};

START_TEST(refuses_bad_arguments)
{
    ck_assert_int_eq(parse(bad_args[_i].args), PYN_CONFIG_BAD);
    ck_assert_msg(strstr(error, bad_args[_i].says), "\"%s\" says: %s", bad_args[_i].args, error);
}
END_TEST

static const struct {
    const char *content;
    const char *says;
} bad_files[] = {
    {"sname = py1\nworkers\n", ":2: there is no = in \"workers\""},
    {"sname = py1\n\n# x\nwurkers = 1\n", ":4: there is no option \"wurkers\""},
    {"workers = many\n", ":1: workers: \"many\" is not a whole number"},
    {"parent-pipe = maybe\n", "parent-pipe: \"maybe\" is neither true nor false"},
    {"no-epmd-start =\n", "no-epmd-start: \"\" is neither true nor false"},
    {"--workers = 3\n", "there is no option \"--workers\""},
    {"config = other\n", "there is no option \"config\""},
    {" = 3\n", "there is no option \"\""},
    {"bind = 1.2.3\n", "bind: \"1.2.3\" is not a numeric address"},
    {"venv = \n", "venv: \"\" is not a directory"},
};

START_TEST(refuses_bad_files)
{
    const char *content = bad_files[_i].content;

    ck_assert_int_eq(parse_file(content, strlen(content), "--sname py1"), PYN_CONFIG_BAD);
    ck_assert_msg(strstr(error, bad_files[_i].says), "\"%s\" says: %s", content, error);
    ck_assert_msg(strstr(error, path), "no file name in: %s", error);
}
END_TEST

START_TEST(never_prints_the_cookie)
{
    char args[600] = "--sname py1 --cookie ";

    memset(args + strlen(args), 'S', 300);
    ck_assert_int_eq(parse(args), PYN_CONFIG_BAD);
    ck_assert_ptr_null(strstr(error, "SSS"));
}
END_TEST

/* ---- good input ---- */

START_TEST(has_defaults)
{
    ck_assert_int_eq(parse("--sname py1"), PYN_CONFIG_RUN);
    ck_assert_str_eq(config.node.name, "py1");
    ck_assert(!config.node.long_names);
    ck_assert(config.node.start_epmd);
    ck_assert(!config.parent_pipe);
    ck_assert_ptr_null(config.node.bind_address);
    ck_assert_ptr_null(config.node.coordinator);
    ck_assert_ptr_null(config.cookie);
    ck_assert_ptr_null(config.host.preload);
    ck_assert_uint_eq(config.node.port, 0);
    ck_assert_uint_eq(config.service.workers, 4);
    ck_assert_uint_eq(config.service.main_workers, 1);
    ck_assert_int_eq(config.host.mode, PYN_MODE_AUTO);
    ck_assert_uint_eq(config.host.path_count, 0);
    ck_assert_int_eq(config.log_level, PYN_NOTICE);
    ck_assert_uint_eq(config.service.links.max_frame, config.service.max_frame);
}
END_TEST

START_TEST(defaults_are_in_range)
{
    struct pyn_config defaults;
    char why[100];
    char value[32];

    pyn_options_defaults(&defaults);
    pyn_options_defaults(&config);
    for (const struct pyn_option *o = pyn_options; o->name; o++) {
        if (!o->max)
            continue;
        snprintf(value, sizeof(value), "%llu", (unsigned long long)o->max);
        ck_assert_msg(o->set(o, &config, value, why, sizeof(why)), "--%s %s: %s", o->name, value, why);
        snprintf(value, sizeof(value), "%llu", (unsigned long long)o->min);
        ck_assert_msg(o->set(o, &config, value, why, sizeof(why)), "--%s %s: %s", o->name, value, why);
    }
    ck_assert_uint_ge(defaults.node.handshake_ms, config.node.handshake_ms);
    ck_assert_uint_ge(defaults.service.max_frame, config.service.max_frame);
    ck_assert_uint_ge(defaults.service.links.max_output, defaults.service.max_frame);
}
END_TEST

START_TEST(takes_every_option)
{
    ck_assert_int_eq(
        parse("--name py1@host.domain --cookie secret --bind 127.0.0.1 --port 4370 --epmd-port 4371 "
              "--no-epmd-start --coordinator main@host.domain --workers 8 --main-workers 2 --async-workers 3 "
              "--mode subinterp --venv /tmp --path /a --path /b --max-queue 7 --max-frame 1M "
              "--max-output=2G --tick 15 --spin 7 --handshake-timeout 500 --max-handshakes 3 --max-links 5 "
              "--drain-timeout 0 --max-stuck 0 --log-level debug --parent-pipe"),
        PYN_CONFIG_RUN);
    ck_assert_str_eq(config.node.name, "py1@host.domain");
    ck_assert(config.node.long_names);
    ck_assert_str_eq(config.cookie, "secret");
    ck_assert_str_eq(config.node.bind_address, "127.0.0.1");
    ck_assert_uint_eq(config.node.port, 4370);
    ck_assert_uint_eq(config.node.epmd_port, 4371);
    ck_assert(!config.node.start_epmd);
    ck_assert_str_eq(config.node.coordinator, "main@host.domain");
    ck_assert_uint_eq(config.service.workers, 8);
    ck_assert_uint_eq(config.service.main_workers, 2);
    ck_assert_uint_eq(config.service.async_workers, 3);
    ck_assert_int_eq(config.host.mode, PYN_MODE_SUBINTERP);
    ck_assert_str_eq(config.host.venv, "/tmp");
    ck_assert_uint_eq(config.host.path_count, 2);
    ck_assert_str_eq(config.host.paths[0], "/a");
    ck_assert_str_eq(config.host.paths[1], "/b");
    ck_assert_uint_eq(config.service.max_queue, 7);
    ck_assert_uint_eq(config.service.max_frame, 1 << 20);
    ck_assert_uint_eq(config.service.links.max_output, (size_t)2 << 30);
    ck_assert_uint_eq(config.service.links.tick_seconds, 15);
    ck_assert_uint_eq(config.service.links.spin_us, 7);
    ck_assert_uint_eq(config.node.handshake_ms, 500);
    ck_assert_uint_eq(config.node.max_handshakes, 3);
    ck_assert_uint_eq(config.node.max_links, 5);
    ck_assert_uint_eq(config.drain_ms, 0);
    ck_assert_uint_eq(config.service.max_stuck, 0);
    ck_assert_int_eq(config.log_level, PYN_DEBUG);
    ck_assert(config.parent_pipe);
}
END_TEST

START_TEST(reads_files)
{
    const char *content = "# a node\n\n  sname =  py2 \r\nworkers=3\nno-epmd-start = true\nparent-pipe = false\n"
                          "path = /a b\npath = /c\ncookie = x = y\nmode = multi_executor";

    ck_assert_int_eq(parse_file(content, strlen(content), ""), PYN_CONFIG_RUN);
    ck_assert_str_eq(config.node.name, "py2");
    ck_assert_uint_eq(config.service.workers, 3);
    ck_assert(!config.node.start_epmd);
    ck_assert(!config.parent_pipe);
    ck_assert_uint_eq(config.host.path_count, 2);
    ck_assert_str_eq(config.host.paths[0], "/a b");
    ck_assert_str_eq(config.cookie, "x = y");
    ck_assert_int_eq(config.host.mode, PYN_MODE_MULTI_EXECUTOR);
}
END_TEST

START_TEST(later_wins_and_argv_over_file)
{
    const char *content = "workers = 3\nworkers = 5\nname = a@b.c\nmax-queue = 9\n";

    /* --config comes last on this command line, and its values lose all the same. */
    ck_assert_int_eq(parse_file(content, strlen(content), "--sname py1 --max-queue 1 --max-queue 2"), PYN_CONFIG_RUN);
    ck_assert_uint_eq(config.service.workers, 5);
    ck_assert_uint_eq(config.service.max_queue, 2);
    ck_assert_str_eq(config.node.name, "py1");
    ck_assert(!config.node.long_names);
}
END_TEST

START_TEST(reads_preload)
{
    const char *code = "x = 1\n";
    char args[200];

    ck_assert_int_eq(parse_file("workers = 1\n", 12, "--sname py1"), PYN_CONFIG_RUN);
    pyn_config_free(&config);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(code, file);
    fclose(file);
    snprintf(args, sizeof(args), "--sname py1 --preload %s", path);
    ck_assert_int_eq(parse(args), PYN_CONFIG_RUN);
    ck_assert_str_eq(config.host.preload, code);
    ck_assert_str_eq(config.host.preload_name, path);
}
END_TEST

START_TEST(help_and_version_win)
{
    ck_assert_int_eq(parse("--wurkers --help"), PYN_CONFIG_HELP);
    pyn_config_free(&config);
    ck_assert_int_eq(parse("-h"), PYN_CONFIG_HELP);
    pyn_config_free(&config);
    ck_assert_int_eq(parse("--version --sname"), PYN_CONFIG_VERSION);
}
END_TEST

START_TEST(help_names_every_option)
{
    char *text = NULL;
    size_t n = 0;
    char want[64];
    FILE *memory = open_memstream(&text, &n);

    ck_assert_ptr_nonnull(memory);
    pyn_cli_help(memory);
    fclose(memory);
    for (const struct pyn_option *o = pyn_options; o->name; o++) {
        snprintf(want, sizeof(want), "  --%s ", o->name);
        ck_assert_msg(strstr(text, want), "--%s is not in the help", o->name);
    }
    for (char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        ck_assert_uint_le(strcspn(line, "\n"), 110);
    free(text);
}
END_TEST

START_TEST(version_is_one_line)
{
    char *text = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&text, &n);

    ck_assert_ptr_nonnull(memory);
    pyn_cli_version(memory, "3.11.2", "5.3", "multi_executor");
    fclose(memory);
    ck_assert_int_eq(strncmp(text, "pynode ", 7), 0);
    ck_assert_ptr_nonnull(strstr(text, " (Python 3.11.2, ei 5.3, mode multi_executor)\n"));
    free(text);
}
END_TEST

/* ---- limits ---- */

START_TEST(bounds_file_line_and_name)
{
    static char big[8192];
    char args[600] = "--sname ";

    memset(big, 'x', sizeof(big));
    ck_assert_int_eq(parse_file(big, sizeof(big), "--sname py1"), PYN_CONFIG_BAD);
    ck_assert_ptr_nonnull(strstr(error, "the line is too long"));
    pyn_config_free(&config);
    unlink(path);
    memset(big, '\n', sizeof(big));
    ck_assert_int_eq(parse_file(big, sizeof(big), "--sname py1"), PYN_CONFIG_RUN);
    pyn_config_free(&config);
    memset(args + 8, 'a', 256);
    ck_assert_int_eq(parse(args), PYN_CONFIG_BAD);
    ck_assert_ptr_nonnull(strstr(error, "255 characters at most"));
    pyn_config_free(&config);
    args[8 + 255] = '\0';
    ck_assert_int_eq(parse(args), PYN_CONFIG_RUN);
}
END_TEST

START_TEST(bounds_paths)
{
    char args[2048] = "--sname py1";

    for (unsigned i = 0; i < PYN_CONFIG_PATHS_MAX; i++)
        snprintf(args + strlen(args), sizeof(args) - strlen(args), " --path=/p%u", i);
    ck_assert_int_eq(parse(args), PYN_CONFIG_RUN);
    ck_assert_uint_eq(config.host.path_count, PYN_CONFIG_PATHS_MAX);
    pyn_config_free(&config);
    snprintf(args + strlen(args), sizeof(args) - strlen(args), " --path=/more");
    ck_assert_int_eq(parse(args), PYN_CONFIG_BAD);
    ck_assert_ptr_nonnull(strstr(error, "there are more than 64"));
}
END_TEST

START_TEST(survives_a_small_error_buffer)
{
    char *argv[] = {"pynode", "--sname", "py1", "--no-such-option-at-all"};
    char small[8];

    ck_assert_int_eq(pyn_config_parse(&config, 4, argv, small, sizeof(small)), PYN_CONFIG_BAD);
    ck_assert_uint_lt(strlen(small), sizeof(small));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_checked_fixture(core, NULL, teardown);
    tcase_add_loop_test(core, refuses_bad_arguments, 0, (int)(sizeof(bad_args) / sizeof(bad_args[0])));
    tcase_add_loop_test(core, refuses_bad_files, 0, (int)(sizeof(bad_files) / sizeof(bad_files[0])));
    tcase_add_test(core, never_prints_the_cookie);
    tcase_add_test(core, has_defaults);
    tcase_add_test(core, defaults_are_in_range);
    tcase_add_test(core, takes_every_option);
    tcase_add_test(core, reads_files);
    tcase_add_test(core, later_wins_and_argv_over_file);
    tcase_add_test(core, reads_preload);
    tcase_add_test(core, help_and_version_win);
    tcase_add_test(core, help_names_every_option);
    tcase_add_test(core, version_is_one_line);
    suite_add_tcase(s, core);
    tcase_add_checked_fixture(limits, NULL, teardown);
    tcase_add_test(limits, bounds_file_line_and_name);
    tcase_add_test(limits, bounds_paths);
    tcase_add_test(limits, survives_a_small_error_buffer);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
