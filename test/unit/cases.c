#include "unit/cases.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 1024, FILE_LIMIT = 1 << 20 };

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "cases: %s\n", strerror(errno));
        exit(2);
    }
    return p;
}

static char *read_text(const char *folder, const char *name, const char *file)
{
    char path[PATH_LEN];
    char *text = must(malloc(FILE_LIMIT));
    FILE *f;
    size_t n;

    snprintf(path, sizeof(path), "%s/%s/%s", folder, name, file);
    f = fopen(path, "r");
    if (!f) {
        fprintf(stderr, "cases: %s: %s\n", path, strerror(errno));
        exit(2);
    }
    n = fread(text, 1, FILE_LIMIT - 1, f);
    text[n] = '\0';
    fclose(f);
    return must(realloc(text, n + 1));
}

uint8_t *cases_exact(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = must(malloc(len > 0 ? len : 1));

    if (len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

static const char *skip_blanks(const char *p)
{
    while (isspace((unsigned char)*p) || *p == '#')
        p += *p == '#' ? strcspn(p, "\n") : 1;
    return p;
}

static unsigned hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

    if (!at) {
        fprintf(stderr, "cases: '%c' is no hexadecimal digit\n", c);
        exit(2);
    }
    return (unsigned)(at - digits);
}

size_t cases_unhex(const char *text, uint8_t **bytes)
{
    uint8_t *room = must(malloc(FILE_LIMIT));
    size_t n = 0;

    for (const char *p = skip_blanks(text); *p; p = skip_blanks(p)) {
        unsigned long times = 1;
        uint8_t byte = (uint8_t)(hex_digit(p[0]) << 4 | hex_digit(p[1]));
        char *behind = (char *)p + 2;

        if (*behind == '*')
            times = strtoul(behind + 1, &behind, 10);
        if (times > FILE_LIMIT - n) {
            fprintf(stderr, "cases: input too long\n");
            exit(2);
        }
        memset(room + n, byte, times);
        n += times;
        p = behind;
    }
    *bytes = cases_exact(room, n);
    free(room);
    return n;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct test_case *)a)->name, ((const struct test_case *)b)->name);
}

static void load_one(const char *folder, const char *name, struct test_case *c)
{
    char *hex = read_text(folder, name, "input.hex");

    c->name = must(strdup(name));
    c->len = cases_unhex(hex, &c->bytes);
    c->expected = read_text(folder, name, "expected");
    c->expected[strcspn(c->expected, "\n")] = '\0';
    free(hex);
}

struct test_case *cases_load(const char *kind, size_t *count)
{
    const char *data = getenv("PYN_TEST_DATA");
    struct test_case *cases = NULL;
    struct dirent *entry;
    char folder[PATH_LEN];
    DIR *dir;

    snprintf(folder, sizeof(folder), "%s/etf/%s", data ? data : "test/data", kind);
    *count = 0;
    dir = must(opendir(folder));
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        cases = must(realloc(cases, (*count + 1) * sizeof(*cases)));
        load_one(folder, entry->d_name, &cases[(*count)++]);
    }
    closedir(dir);
    qsort(must(cases), *count, sizeof(*cases), by_name);
    return cases;
}

void cases_free(struct test_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(cases[i].name);
        free(cases[i].bytes);
        free(cases[i].expected);
    }
    free(cases);
}
