#include "base/log.h"

#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A pipe takes no more than PIPE_BUF bytes in one piece: a longer line could mix with another thread's. */
enum { LINE_MAX_BYTES = PIPE_BUF, HEAD_MAX = 128, PATIENCE_MS = 200 };

static const char *const names[] = {"debug", "info", "notice", "warning", "error", "off"};
static atomic_int lowest_level = PYN_INFO;
static atomic_ulong lost; /* lines that nobody took, since the last one that somebody did */

void pyn_log_set_level(enum pyn_level lowest)
{
    atomic_store_explicit(&lowest_level, (int)lowest, memory_order_relaxed);
}

bool pyn_log_enabled(enum pyn_level level)
{
    return (int)level >= atomic_load_explicit(&lowest_level, memory_order_relaxed);
}

bool pyn_log_parse_level(const char *word, enum pyn_level *level)
{
    for (int i = PYN_DEBUG; i <= PYN_OFF; i++) {
        if (strcmp(word, names[i]) == 0) {
            *level = (enum pyn_level)i;
            return true;
        }
    }
    return false;
}

const char *pyn_log_level_name(enum pyn_level level)
{
    return names[level];
}

static size_t put_head(char *line, enum pyn_level level, const char *area)
{
    struct timespec ts;
    struct tm tm;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    n = strftime(line, HEAD_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, HEAD_MAX - n, ".%06ldZ %s %.32s ", ts.tv_nsec / 1000, names[level], area);
    return n;
}

/* Copies the text with control characters escaped; stops one byte short of room for the newline. */
static size_t put_text(char *line, size_t n, const char *text)
{
    static const char hex[] = "0123456789abcdef";

    for (; *text && n < LINE_MAX_BYTES - 6; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '\n') {
            line[n++] = '\\';
            line[n++] = 'n';
        } else if (c < 0x20 || c == 0x7f) {
            line[n++] = '\\';
            line[n++] = 'x';
            line[n++] = hex[c >> 4];
            line[n++] = hex[c & 15];
        } else {
            line[n++] = (char)c;
        }
    }
    return n;
}

static size_t put_line(char *line, enum pyn_level level, const char *area, const char *text)
{
    size_t n = put_head(line, level, area);

    n = put_text(line, n, text);
    line[n++] = '\n';
    return n;
}

/* Whoever reads us is waited for once; when it does not read, what follows is dropped until it does. */
static bool is_taken(void)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

    return poll(&fd, 1, atomic_load_explicit(&lost, memory_order_relaxed) > 0 ? 0 : PATIENCE_MS) != 0;
}

static void put_out(const char *line, size_t n)
{
    ssize_t unused = write(STDERR_FILENO, line, n); /* nowhere to report a failing log to */

    (void)unused;
}

static void say_what_was_lost(void)
{
    unsigned long count = atomic_exchange(&lost, 0);
    char line[LINE_MAX_BYTES], text[HEAD_MAX];

    if (count == 0)
        return;
    snprintf(text, sizeof(text), "%lu lines were lost, as nobody read them", count);
    put_out(line, put_line(line, PYN_WARNING, "log", text));
}

void pyn_log(enum pyn_level level, const char *area, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    char text[LINE_MAX_BYTES];
    va_list args;

    if (!pyn_log_enabled(level))
        return;
    if (!is_taken()) {
        atomic_fetch_add(&lost, 1);
        return;
    }
    say_what_was_lost();
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    put_out(line, put_line(line, level, area, text));
}
