#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#include "unit/suite.h"

enum { CAUGHT = 64 * 1024 };

/* Standard error goes to a file of its own between the two calls. */
struct capture {
    FILE *file;
    int saved;
    char text[CAUGHT];
};

static struct capture *capture_start(void)
{
    struct capture *c = calloc(1, sizeof(*c));

    ck_assert_ptr_nonnull(c);
    c->file = tmpfile();
    ck_assert_ptr_nonnull(c->file);
    c->saved = dup(STDERR_FILENO);
    ck_assert_int_ge(c->saved, 0);
    ck_assert_int_ge(dup2(fileno(c->file), STDERR_FILENO), 0);
    return c;
}

static void capture_stop(struct capture *c)
{
    size_t n;

    ck_assert_int_ge(dup2(c->saved, STDERR_FILENO), 0);
    close(c->saved);
    rewind(c->file);
    n = fread(c->text, 1, CAUGHT - 1, c->file);
    c->text[n] = '\0';
    fclose(c->file);
}

/* --- Core --- */

START_TEST(unknown_levels)
{
    static const char *const table[] = {"", "Debug", "warn", "error ", "5", "debugger"};
    enum pyn_level level;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        ck_assert(!pyn_log_parse_level(table[i], &level));
}
END_TEST

START_TEST(level_names_come_back)
{
    for (int i = PYN_DEBUG; i <= PYN_OFF; i++) {
        enum pyn_level level;

        ck_assert(pyn_log_parse_level(pyn_log_level_name((enum pyn_level)i), &level));
        ck_assert_int_eq(level, i);
    }
}
END_TEST

START_TEST(levels)
{
    struct capture *c = capture_start();

    pyn_log_set_level(PYN_WARNING);
    pyn_log(PYN_NOTICE, "area", "not this");
    pyn_log(PYN_WARNING, "area", "this");
    pyn_log_set_level(PYN_OFF);
    pyn_log(PYN_ERROR, "area", "nor this");
    capture_stop(c);
    ck_assert_ptr_null(strstr(c->text, "not this"));
    ck_assert_ptr_nonnull(strstr(c->text, " warning area this\n"));
    ck_assert_ptr_null(strstr(c->text, "nor this"));
    ck_assert(!pyn_log_enabled(PYN_ERROR));
    pyn_log_set_level(PYN_INFO);
    ck_assert(!pyn_log_enabled(PYN_DEBUG));
    ck_assert(pyn_log_enabled(PYN_INFO));
    free(c);
}
END_TEST

START_TEST(a_line)
{
    struct capture *c = capture_start();
    int year, month, day, hour, minute, second, micro, end = 0;

    pyn_log(PYN_INFO, "link", "peer=%s n=%d", "a@host", 5);
    capture_stop(c);
    ck_assert_int_eq(sscanf(c->text, "%4d-%2d-%2dT%2d:%2d:%2d.%6dZ info link peer=a@host n=5%n", &year, &month, &day,
                            &hour, &minute, &second, &micro, &end),
                     7);
    ck_assert_int_gt(end, 0);
    ck_assert_str_eq(c->text + end, "\n");
    free(c);
}
END_TEST

START_TEST(control_characters_are_escaped)
{
    struct capture *c = capture_start();

    pyn_log(PYN_INFO, "x", "%s", "a\nb\tc\x1b[0m\x7f\xc3\xa9%s");
    capture_stop(c);
    ck_assert_ptr_nonnull(strstr(c->text, " x a\\nb\\x09c\\x1b[0m\\x7f\xc3\xa9%s\n"));
    free(c);
}
END_TEST

/* --- Limits --- */

enum { LONG = 20000 };

static char *long_text(char c)
{
    char *text = malloc(LONG + 1);

    ck_assert_ptr_nonnull(text);
    memset(text, c, LONG);
    text[LONG] = '\0';
    return text;
}

/* Each line is as long as it may be, and says at its end how much of the text is not in it. */
START_TEST(long_texts_are_cut)
{
    static const struct {
        char c;
        size_t width;
    } table[] = {{'x', 1}, {'\x01', 4}};

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct capture *c = capture_start();
        char *text = long_text(table[i].c);
        const char *begin, *mark;
        size_t left;
        int end = 0;

        pyn_log(PYN_INFO, "x", "%s", text);
        capture_stop(c);
        ck_assert_uint_le(strlen(c->text), PIPE_BUF);
        ck_assert_uint_gt(strlen(c->text), PIPE_BUF - 100);
        begin = strstr(c->text, " x ") + 3;
        mark = strstr(begin, "... (");
        ck_assert_ptr_nonnull(mark);
        ck_assert_int_eq(sscanf(mark, "... (%zu more bytes)%n", &left, &end), 1);
        ck_assert_str_eq(mark + end, "\n");
        ck_assert_uint_eq((size_t)(mark - begin) / table[i].width + left, LONG);
        free(text);
        free(c);
    }
}
END_TEST

/* A text that just fits is whole, one more byte is too much. */
START_TEST(the_longest_line)
{
    struct capture *c = capture_start();
    char *text = long_text('x');
    size_t head;

    pyn_log(PYN_INFO, "x", "%s", "");
    head = (size_t)lseek(STDERR_FILENO, 0, SEEK_CUR) - 1;
    text[PIPE_BUF - head - 1] = '\0';
    pyn_log(PYN_INFO, "x", "%s", text);
    text[PIPE_BUF - head - 1] = 'x';
    text[PIPE_BUF - head] = '\0';
    pyn_log(PYN_INFO, "x", "%s", text);
    capture_stop(c);
    ck_assert_uint_eq(strcspn(c->text + head + 1, "\n"), PIPE_BUF - 1);
    ck_assert_ptr_null(memmem(c->text, head + 1 + PIPE_BUF, "more bytes", 10));
    ck_assert_ptr_nonnull(strstr(c->text + head + 1 + PIPE_BUF, " more bytes)\n"));
    free(text);
    free(c);
}
END_TEST

/* What the parts of the lines say, one behind the other; each line begins as it should. Returns their number. */
static unsigned join_parts(const char *lines, const char *before, char *joined)
{
    unsigned count = 0, part, of;
    int end;

    for (; *lines; lines = strchr(lines, '\n') + 1) {
        const char *at = strstr(lines, before);

        ck_assert_ptr_nonnull(at);
        ck_assert_uint_le(strcspn(lines, "\n"), PIPE_BUF - 1);
        at += strlen(before);
        ck_assert_int_eq(sscanf(at, "part=%u/%u%n", &part, &of, &end), 2);
        ck_assert_uint_eq(part, ++count);
        at += end + 1;
        memcpy(joined, at, strcspn(at, "\n"));
        joined += strcspn(at, "\n");
    }
    *joined = '\0';
    ck_assert_uint_eq(count, of);
    return count;
}

START_TEST(long_texts_in_parts)
{
    /* Also characters of several bytes that do not end where a part does, and what is no UTF-8. */
    static const char *const fillings[] = {"x", "\xc3\xa9", "y\xc3\xa9", "\xf0\x9f\x98\x80", "\x80"};
    static char joined[CAUGHT], text[LONG + 8];

    for (size_t i = 0; i < sizeof(fillings) / sizeof(fillings[0]); i++) {
        struct capture *c = capture_start();
        size_t n = 0, width = strlen(fillings[i]);

        for (; n < LONG; n += width)
            memcpy(text + n, fillings[i], width);
        text[n] = '\0';
        pyn_log_text(PYN_NOTICE, "python", "interp=1 ", text);
        capture_stop(c);
        ck_assert_uint_eq(join_parts(c->text, " notice python interp=1 ", joined), LONG / (PIPE_BUF - 256) + 1);
        ck_assert_str_eq(joined, text);
        for (const char *line = strchr(c->text, '\n') + 1; *line; line = strchr(line, '\n') + 1)
            ck_assert(((unsigned char)line[-2] & 0xc0) != 0xc0); /* no character is torn */
        free(c);
    }
}
END_TEST

START_TEST(short_texts_in_one_part)
{
    struct capture *c = capture_start();

    pyn_log_text(PYN_INFO, "x", "before ", "a\nb\x01");
    pyn_log_text(PYN_INFO, "x", "before ", "");
    pyn_log_text(PYN_DEBUG, "x", "before ", "not this");
    capture_stop(c);
    ck_assert_ptr_nonnull(strstr(c->text, " info x before a\\nb\\x01\n"));
    ck_assert_ptr_nonnull(strstr(c->text, " info x before \n"));
    ck_assert_ptr_null(strstr(c->text, "not this"));
    free(c);
}
END_TEST

START_TEST(long_areas_are_cut)
{
    struct capture *c = capture_start();

    pyn_log(PYN_ERROR, "0123456789012345678901234567890123456789", "text");
    capture_stop(c);
    ck_assert_ptr_nonnull(strstr(c->text, " error 01234567890123456789012345678901 text\n"));
    free(c);
}
END_TEST

/* A pipe that is full and not read: lines are dropped, and the first one afterwards says how many. */
START_TEST(a_reader_that_does_not_read)
{
    static char text[1 << 20];
    int saved = dup(STDERR_FILENO), ends[2];
    ssize_t n;

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
    for (int i = 0; i < 3000; i++)
        pyn_log(PYN_INFO, "x", "line %d", i);
    n = read(ends[0], text, sizeof(text) - 1);
    pyn_log(PYN_INFO, "x", "%s", "again");
    ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
    ck_assert_int_gt(n, 0);
    text[n] = '\0';
    ck_assert_ptr_nonnull(strstr(text, " x line 0\n"));
    ck_assert_ptr_null(strstr(text, "line 2999"));
    n = read(ends[0], text, sizeof(text) - 1);
    ck_assert_int_gt(n, 0);
    text[n] = '\0';
    ck_assert_ptr_nonnull(strstr(text, " warning log "));
    ck_assert_ptr_nonnull(strstr(text, " lines were lost, as nobody read them\n"));
    ck_assert_ptr_nonnull(strstr(text, " x again\n"));
    close(ends[0]);
    close(ends[1]);
    close(saved);
}
END_TEST

static Suite *log_suite(void)
{
    Suite *s = suite_create("log");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, unknown_levels);
    tcase_add_test(core, level_names_come_back);
    tcase_add_test(core, levels);
    tcase_add_test(core, a_line);
    tcase_add_test(core, control_characters_are_escaped);
    suite_add_tcase(s, core);
    tcase_add_test(limits, long_texts_are_cut);
    tcase_add_test(limits, the_longest_line);
    tcase_add_test(limits, long_texts_in_parts);
    tcase_add_test(limits, short_texts_in_one_part);
    tcase_add_test(limits, long_areas_are_cut);
    tcase_add_test(limits, a_reader_that_does_not_read);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    return suite_run(log_suite());
}
