#include "app/options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

enum { NODE_NAME_MAX = 255, COOKIE_MAX = 255 };

#define SETTER(name)                                                                                                   \
    static bool name(const struct pyn_option *o, struct pyn_config *c, const char *value, char *error, size_t size)

static void *member(const struct pyn_option *o, struct pyn_config *c)
{
    return (char *)c + o->offset;
}

/* Replaces an owned string. */
static bool keep(char **at, const char *value, char *error, size_t size)
{
    char *copy = strdup(value);

    if (!copy) {
        snprintf(error, size, "out of memory");
        return false;
    }
    free(*at);
    *at = copy;
    return true;
}

SETTER(set_text)
{
    if (!*value) {
        snprintf(error, size, "it is empty");
        return false;
    }
    return keep(member(o, c), value, error, size);
}

/* Decimal digits, with one of the suffixes K, M, G (times 1024) when that is allowed. */
static bool parse_number(const struct pyn_option *o, const char *value, bool suffix, uint64_t *number, char *error,
                         size_t size)
{
    char *end = NULL;
    unsigned shift = 0;

    errno = 0;
    *number = isdigit((unsigned char)*value) ? strtoull(value, &end, 10) : 0;
    if (end && suffix && *end) {
        shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
        end += shift > 0;
    }
    if (!end || *end) {
        snprintf(error, size, "\"%.64s\" is not a whole number%s", value,
                 suffix ? " (of bytes; K, M or G may follow it)" : "");
        return false;
    }
    if (errno == ERANGE || *number > UINT64_MAX >> shift || *number << shift < o->min || *number << shift > o->max) {
        snprintf(error, size, "%.64s is not between %" PRIu64 " and %" PRIu64, value, o->min, o->max);
        return false;
    }
    *number <<= shift;
    return true;
}

SETTER(set_unsigned)
{
    uint64_t number;

    if (!parse_number(o, value, false, &number, error, size))
        return false;
    *(unsigned *)member(o, c) = (unsigned)number;
    return true;
}

SETTER(set_port)
{
    uint64_t number;

    if (!parse_number(o, value, false, &number, error, size))
        return false;
    *(uint16_t *)member(o, c) = (uint16_t)number;
    return true;
}

SETTER(set_bytes)
{
    uint64_t number;

    if (!parse_number(o, value, true, &number, error, size))
        return false;
    *(size_t *)member(o, c) = (size_t)number;
    return true;
}

static bool parse_switch(const char *value, bool *on, char *error, size_t size)
{
    *on = strcmp(value, "true") == 0;
    if (*on || strcmp(value, "false") == 0)
        return true;
    snprintf(error, size, "\"%.64s\" is neither true nor false", value);
    return false;
}

SETTER(set_switch)
{
    return parse_switch(value, member(o, c), error, size);
}

SETTER(set_switch_off)
{
    bool *on = member(o, c);

    if (!parse_switch(value, on, error, size))
        return false;
    *on = !*on;
    return true;
}

/* What Erlang takes: letters, digits, _ and - before the @; behind it anything printable without a second @. */
static bool check_name(const char *value, char *error, size_t size)
{
    const char *at = strchr(value, '@');
    size_t alive = at ? (size_t)(at - value) : strlen(value);
    size_t i;

    if (strlen(value) > NODE_NAME_MAX) {
        snprintf(error, size, "a node name has %d characters at most", NODE_NAME_MAX);
        return false;
    }
    for (i = 0; i < alive && (isalnum((unsigned char)value[i]) || value[i] == '_' || value[i] == '-'); i++)
        ;
    if (alive == 0 || i < alive) {
        snprintf(error, size, "\"%.64s\": before the @ a node name has letters, digits, _ and - only", value);
        return false;
    }
    for (i = 1; at && (isgraph((unsigned char)at[i]) && at[i] != '@'); i++)
        ;
    if (at && (i == 1 || at[i])) {
        snprintf(error, size, "\"%.64s\": behind the @ there is no host name", value);
        return false;
    }
    return true;
}

SETTER(set_long_name)
{
    const char *at = strchr(value, '@');

    if (!check_name(value, error, size))
        return false;
    if (at && !strpbrk(at, ".:")) {
        snprintf(error, size, "\"%.64s\": a long name has a full host name (with a dot); --sname takes short ones",
                 value);
        return false;
    }
    c->node.long_names = true;
    return keep(member(o, c), value, error, size);
}

SETTER(set_short_name)
{
    const char *at = strchr(value, '@');

    if (!check_name(value, error, size))
        return false;
    if (at && strchr(at, '.')) {
        snprintf(error, size, "\"%.64s\": a short name has a host without dots; --name takes full ones", value);
        return false;
    }
    c->node.long_names = false;
    return keep(member(o, c), value, error, size);
}

/* One name, or several with commas between. */
SETTER(set_nodes)
{
    char name[NODE_NAME_MAX + 2];
    const char *rest = value;

    do {
        size_t len = strcspn(rest, ",");
        snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : sizeof(name) - 1), rest);
        if (!check_name(name, error, size))
            return false;
        if (!strchr(name, '@')) {
            snprintf(error, size, "\"%.64s\" is not a node name: it has no @host", name);
            return false;
        }
        rest = rest[len] ? rest + len + 1 : NULL;
    } while (rest);
    return keep(member(o, c), value, error, size);
}

SETTER(set_cookie)
{
    if (!*value || strlen(value) > COOKIE_MAX) {
        snprintf(error, size, "a cookie has 1 to %d characters", COOKIE_MAX); /* and is never printed */
        return false;
    }
    return keep(member(o, c), value, error, size);
}

SETTER(set_address)
{
    struct in6_addr address;

    if (inet_pton(AF_INET, value, &address) != 1 && inet_pton(AF_INET6, value, &address) != 1) {
        snprintf(error, size, "\"%.64s\" is not a numeric address (such as 127.0.0.1)", value);
        return false;
    }
    return keep(member(o, c), value, error, size);
}

SETTER(set_directory)
{
    struct stat st;

    if (stat(value, &st) != 0 || !S_ISDIR(st.st_mode)) {
        snprintf(error, size, "\"%.256s\" is not a directory", value);
        return false;
    }
    return keep(member(o, c), value, error, size);
}

SETTER(add_path)
{
    (void)o;
    if (!*value || c->host.path_count == PYN_CONFIG_PATHS_MAX) {
        snprintf(error, size, *value ? "there are more than %u" : "it is empty", PYN_CONFIG_PATHS_MAX);
        return false;
    }
    if (!keep(&c->paths[c->host.path_count], value, error, size))
        return false;
    c->host.path_count++;
    return true;
}

SETTER(set_mode)
{
    static const struct {
        const char *word;
        enum pyn_mode mode;
    } modes[] = {
        {"auto", PYN_MODE_AUTO},
        {"free_threaded", PYN_MODE_FREE_THREADED},
        {"subinterp", PYN_MODE_SUBINTERP},
        {"multi_executor", PYN_MODE_MULTI_EXECUTOR},
    };

    (void)o;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(value, modes[i].word) == 0) {
            c->host.mode = modes[i].mode;
            return true;
        }
    }
    snprintf(error, size, "\"%.64s\" is none of auto, free_threaded, subinterp, multi_executor", value);
    return false;
}

SETTER(set_log_level)
{
    (void)o;
    if (pyn_log_parse_level(value, &c->log_level))
        return true;
    snprintf(error, size, "\"%.64s\" is none of debug, info, notice, warning, error, off", value);
    return false;
}

#define AT(m) offsetof(struct pyn_config, m)

const struct pyn_option pyn_options[] = {
    {"name", "NAME@HOST", "long node name", set_long_name, AT(name), 0, 0},
    {"sname", "NAME", "short node name; one of the two is needed", set_short_name, AT(name), 0, 0},
    {"cookie", "COOKIE", "default: PYNODE_COOKIE, or ~/.erlang.cookie (others can see a command line)", set_cookie,
     AT(cookie), 0, 0},
    {"bind", "ADDR", "numeric address to listen on (default: all, as Erlang does)", set_address, AT(bind_address), 0,
     0},
    {"port", "N", "port to listen on (default: any)", set_port, AT(node.port), 0, 65535},
    {"epmd-port", "N", "port of epmd (default: ERL_EPMD_PORT or 4369)", set_port, AT(node.epmd_port), 0, 65535},
    {"no-epmd-start", NULL, "do not start an epmd when none answers", set_switch_off, AT(node.start_epmd), 0, 0},
    {"coordinator", "NODE[,NODE]", "coordinator to connect to, of several the first that can be reached", set_nodes,
     AT(coordinator), 0, 0},
    {"workers", "N", "Python workers (default 4)", set_unsigned, AT(service.workers), 1, 256},
    {"main-workers", "N", "subinterp mode: workers for modules that refuse sub-interpreters (default 1)", set_unsigned,
     AT(service.main_workers), 1, 64},
    {"async-workers", "N", "of these, so many have event loops for coroutines (default: all)", set_unsigned,
     AT(service.async_workers), 1, 256},
    {"mode", "MODE", "auto (default), free_threaded, subinterp or multi_executor", set_mode, 0, 0, 0},
    {"venv", "DIR", "virtual environment whose packages Python sees", set_directory, AT(venv), 0, 0},
    {"preload", "FILE", "Python code to run in every interpreter at its start", set_text, AT(preload_file), 0, 0},
    {"path", "DIR", "add DIR to sys.path (may be given several times)", add_path, 0, 0, 0},
    {"max-queue", "N", "requests admitted at once; more are answered overloaded (default 10000)", set_unsigned,
     AT(service.max_queue), 1, 10000000},
    {"max-frame", "BYTES", "longest message in either direction (default 512M; K, M, G may follow a number)", set_bytes,
     AT(service.max_frame), 4 * KIB, 2 * GIB},
    {"max-output", "BYTES", "bytes that may wait for one slow peer (default 1G)", set_bytes,
     AT(service.links.max_output), 4 * KIB, 64 * GIB},
    {"tick", "SECONDS", "net_ticktime: a peer that is silent for longer is given up (default 60)", set_unsigned,
     AT(service.links.tick_seconds), 1, 86400},
    {"spin", "US", "look for the next message so long before sleeping (default 50)", set_unsigned,
     AT(service.links.spin_us), 0, 10000},
    {"handshake-timeout", "MS", "time for one handshake (default 7000)", set_unsigned, AT(node.handshake_ms), 10,
     600000},
    {"max-handshakes", "N", "handshakes under way at once; more wait (default 32)", set_unsigned,
     AT(node.max_handshakes), 1, 1024},
    {"max-links", "N", "connected nodes; more are refused (default 4096)", set_unsigned, AT(node.max_links), 1, 65536},
    {"drain-timeout", "MS", "time for running calls to end when told to stop (default 5000)", set_unsigned,
     AT(drain_ms), 0, 86400000},
    {"max-stuck", "N", "workers that may be stuck in C code; one more ends the node (default 16)", set_unsigned,
     AT(service.max_stuck), 0, 1024},
    {"log-level", "LEVEL", "debug, info, notice (default), warning, error or off", set_log_level, 0, 0, 0},
    {"parent-pipe", NULL, "drain and exit when standard input reaches its end", set_switch, AT(parent_pipe), 0, 0},
    {NULL, NULL, NULL, NULL, 0, 0, 0},
};

const struct pyn_option *pyn_option_find(const char *name, size_t n)
{
    for (const struct pyn_option *o = pyn_options; o->name; o++) {
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    }
    return NULL;
}

void pyn_options_defaults(struct pyn_config *c)
{
    memset(c, 0, sizeof(*c));
    c->node.start_epmd = true;
    c->node.handshake_ms = 7000;
    c->node.max_handshakes = 32;
    c->node.max_links = 4096;
    c->service.workers = 4;
    c->service.main_workers = 1;
    c->service.max_queue = 10000;
    c->service.max_stuck = 16;
    c->service.max_frame = 512 * MIB;
    c->service.links.max_output = GIB;
    c->service.links.tick_seconds = 60;
    c->service.links.spin_us = 50;
    c->host.mode = PYN_MODE_AUTO;
    c->log_level = PYN_NOTICE;
    c->drain_ms = 5000;
}
