#include "app/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/options.h"

enum { LINE_MAX_BYTES = 4096, FILE_MAX_LINES = 10000, PRELOAD_MAX_BYTES = 1 << 20, WHY_MAX = 400 };

/* Where an error is told. */
struct complaint {
    char *text;
    size_t size;
};

static bool set_option(struct pyn_config *c, const struct pyn_option *o, const char *value, const char *where,
                       struct complaint *e)
{
    char why[WHY_MAX] = "";

    if (o->set(o, c, value, why, sizeof(why)))
        return true;
    snprintf(e->text, e->size, "%.200s%s: %s", where, o->name, why);
    return false;
}

/* ---- files ---- */

/* Cuts blanks off both ends, in place. */
static char *trim(char *text)
{
    size_t n;

    while (isspace((unsigned char)*text))
        text++;
    n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        text[--n] = '\0';
    return text;
}

static bool read_line(struct pyn_config *c, char *line, const char *where, struct complaint *e)
{
    char *equals = strchr(line, '=');
    char *name = trim(line);
    const struct pyn_option *o;

    if (!*name || *name == '#')
        return true;
    if (!equals) {
        snprintf(e->text, e->size, "%.200sthere is no = in \"%.64s\"", where, name);
        return false;
    }
    *equals = '\0';
    name = trim(name);
    o = pyn_option_find(name, strlen(name));
    if (!o) {
        snprintf(e->text, e->size, "%.200sthere is no option \"%.64s\" (pynode --help lists them)", where, name);
        return false;
    }
    return set_option(c, o, trim(equals + 1), where, e);
}

static bool read_lines(struct pyn_config *c, FILE *file, const char *path, struct complaint *e)
{
    char line[LINE_MAX_BYTES];
    char where[256];

    for (unsigned number = 1; fgets(line, sizeof(line), file); number++) {
        snprintf(where, sizeof(where), "%.200s:%u: ", path, number);
        if (number > FILE_MAX_LINES || (!strchr(line, '\n') && !feof(file))) {
            snprintf(e->text, e->size, "%.200sthe %s is too long", where, number > FILE_MAX_LINES ? "file" : "line");
            return false;
        }
        if (!read_line(c, line, where, e))
            return false;
    }
    if (ferror(file)) {
        snprintf(e->text, e->size, "config: %.200s cannot be read", path);
        return false;
    }
    return true;
}

static bool read_file(struct pyn_config *c, const char *path, struct complaint *e)
{
    FILE *file = fopen(path, "re");
    bool ok;

    if (!file) {
        snprintf(e->text, e->size, "--config: %.200s: %s", path, strerror(errno));
        return false;
    }
    ok = read_lines(c, file, path, e);
    fclose(file);
    return ok;
}

/* ---- command line ---- */

/* One argument of argv, with its value where it has one. */
struct argument {
    const char *name; /* behind the dashes, name_len characters */
    size_t name_len;
    const char *value; /* behind the = or the next argument; NULL: there is none */
    bool joined;       /* --name=value */
};

static bool next_argument(int argc, char *const argv[], int at, struct argument *a, struct complaint *e)
{
    const char *text = argv[at];
    const char *equals = strchr(text, '=');

    if (strncmp(text, "--", 2) != 0 || !text[2]) {
        snprintf(e->text, e->size, "\"%.64s\" is not an option (pynode --help lists them)", text);
        return false;
    }
    a->name = text + 2;
    a->name_len = equals ? (size_t)(equals - a->name) : strlen(a->name);
    a->joined = equals != NULL;
    a->value = equals ? equals + 1 : at + 1 < argc ? argv[at + 1] : NULL;
    return true;
}

static bool is_config(const struct argument *a)
{
    return a->name_len == 6 && memcmp(a->name, "config", 6) == 0;
}

/* The option takes its value; how many arguments that were is added to *at. */
static bool take_value(const struct argument *a, const char *kind, int *at, struct complaint *e)
{
    if (!a->value) {
        snprintf(e->text, e->size, "--%.*s: %s is missing behind it", (int)a->name_len, a->name, kind);
        return false;
    }
    *at += a->joined ? 1 : 2;
    return true;
}

static bool take_option(struct pyn_config *c, const struct argument *a, int *at, bool store, struct complaint *e)
{
    const struct pyn_option *o = pyn_option_find(a->name, a->name_len);

    if (!o) {
        snprintf(e->text, e->size, "there is no option --%.*s (pynode --help lists them)",
                 a->name_len < 64 ? (int)a->name_len : 64, a->name);
        return false;
    }
    if (!o->arg) {
        if (a->joined) {
            snprintf(e->text, e->size, "--%s takes no value", o->name);
            return false;
        }
        *at += 1;
        return !store || set_option(c, o, "true", "--", e);
    }
    return take_value(a, o->arg, at, e) && (!store || set_option(c, o, a->value, "--", e));
}

/* Files first, in a walk of their own, so that the command line wins whatever the order. */
static bool walk(struct pyn_config *c, int argc, char *const argv[], bool files, struct complaint *e)
{
    struct argument a;

    for (int at = 1; at < argc;) {
        if (!next_argument(argc, argv, at, &a, e))
            return false;
        if (is_config(&a)) {
            if (!take_value(&a, "FILE", &at, e) || (files && !read_file(c, a.value, e)))
                return false;
        } else if (!take_option(c, &a, &at, !files, e)) {
            return false;
        }
    }
    return true;
}

/* ---- the whole ---- */

static bool read_preload(struct pyn_config *c, struct complaint *e)
{
    FILE *file = fopen(c->preload_file, "re");
    size_t n = 0;
    bool bad;

    if (!file) {
        snprintf(e->text, e->size, "--preload: %.200s: %s", c->preload_file, strerror(errno));
        return false;
    }
    free(c->preload_code);
    c->preload_code = malloc(PRELOAD_MAX_BYTES + 1);
    if (c->preload_code)
        n = fread(c->preload_code, 1, PRELOAD_MAX_BYTES + 1, file);
    bad = !c->preload_code || ferror(file);
    fclose(file);
    if (bad || n > PRELOAD_MAX_BYTES || memchr(c->preload_code, '\0', n)) {
        snprintf(e->text, e->size, "--preload: %.200s %s", c->preload_file,
                 bad ? "cannot be read" : "is not Python code of at most 1 MiB");
        return false;
    }
    c->preload_code[n] = '\0';
    return true;
}

/* Points the parts to the strings and checks what no single option can. */
static bool finish(struct pyn_config *c, struct complaint *e)
{
    if (!c->name) {
        snprintf(e->text, e->size, "the node needs a name: --name NAME@HOST or --sname NAME");
        return false;
    }
    if (c->preload_file && !read_preload(c, e))
        return false;
    c->node.name = c->name;
    c->node.bind_address = c->bind_address;
    c->node.coordinator = c->coordinator;
    c->host.venv = c->venv;
    c->host.preload = c->preload_code;
    c->host.preload_name = c->preload_file;
    c->host.paths = (const char *const *)c->paths;
    c->service.links.max_frame = c->service.max_frame;
    return true;
}

static enum pyn_config_result asked_for(int argc, char *const argv[])
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return PYN_CONFIG_HELP;
        if (strcmp(argv[i], "--version") == 0)
            return PYN_CONFIG_VERSION;
    }
    return PYN_CONFIG_RUN;
}

enum pyn_config_result pyn_config_parse(struct pyn_config *c, int argc, char *const argv[], char *error,
                                        size_t error_size)
{
    struct complaint e = {error, error_size};
    enum pyn_config_result asked = asked_for(argc, argv);

    pyn_options_defaults(c);
    if (asked != PYN_CONFIG_RUN)
        return asked;
    if (!walk(c, argc, argv, true, &e) || !walk(c, argc, argv, false, &e) || !finish(c, &e))
        return PYN_CONFIG_BAD;
    return PYN_CONFIG_RUN;
}

void pyn_config_free(struct pyn_config *c)
{
    free(c->cookie);
    free(c->name);
    free(c->bind_address);
    free(c->coordinator);
    free(c->venv);
    free(c->preload_file);
    free(c->preload_code);
    for (unsigned i = 0; i < PYN_CONFIG_PATHS_MAX; i++)
        free(c->paths[i]);
    memset(c, 0, sizeof(*c));
}
