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
enum { LINE_MAX_BYTES = PIPE_BUF, HEAD_MAX = 128, MARK_MAX = 32, PATIENCE_MS = 200 };

/* Of a long text, escaped: what leaves room for the head, and for what is said before it. */
enum { PIECE_MAX = LINE_MAX_BYTES - 2 * HEAD_MAX };

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

/* Writes the character at `to`, control characters escaped; returns how many bytes it takes, 4 at most. */
static size_t put_char(char *to, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";

    if (c >= 0x20 && c != 0x7f) {
        to[0] = (char)c;
        return 1;
    }
    to[0] = '\\';
    to[1] = 'n';
    if (c == '\n')
        return 2;
    to[1] = 'x';
    to[2] = hex[c >> 4];
    to[3] = hex[c & 15];
    return 4;
}

/* Writes what fits into `room` bytes, and returns it as a number of bytes of the text. *n: where the line ends. It is
 * cut between two characters of UTF-8. */
static size_t put_text(char *line, size_t *n, size_t room, const char *text)
{
    size_t end = *n + room, took = 0;
    char one[4];

    for (; text[took]; took++) {
        size_t width = put_char(one, (unsigned char)text[took]);
        if (*n + width > end)
            break;
        memcpy(line + *n, one, width);
        *n += width;
    }
    for (int i = 0; i < 3 && took > 0 && ((unsigned char)text[took] & 0xc0) == 0x80 && (text[took - 1] & 0x80); i++) {
        took--;
        --*n;
    }
    return took;
}

/* total: how long the text is really. What does not fit is counted at its end. */
static size_t put_line(char *line, enum pyn_level level, const char *area, const char *text, size_t total)
{
    size_t n = put_head(line, level, area), start = n, took;
    bool cut;

    took = put_text(line, &n, LINE_MAX_BYTES - 1 - start, text);
    cut = took < total;
    if (cut) {
        n = start;
        took = put_text(line, &n, LINE_MAX_BYTES - MARK_MAX - start, text);
        n += (size_t)snprintf(line + n, MARK_MAX, "... (%zu more bytes)", total - took);
    }
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
    put_out(line, put_line(line, PYN_WARNING, "log", text, strlen(text)));
}

static bool begin_line(void)
{
    if (!is_taken()) {
        atomic_fetch_add(&lost, 1);
        return false;
    }
    say_what_was_lost();
    return true;
}

void pyn_log(enum pyn_level level, const char *area, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    char text[LINE_MAX_BYTES];
    va_list args;
    int total;

    if (!pyn_log_enabled(level) || !begin_line())
        return;
    va_start(args, fmt);
    total = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    put_out(line, put_line(line, level, area, text, total < 0 ? 0 : (size_t)total));
}

static unsigned count_pieces(const char *text)
{
    char line[PIECE_MAX];
    unsigned count = 0;
    size_t n;

    do {
        n = 0;
        text += put_text(line, &n, PIECE_MAX, text);
        count++;
    } while (*text);
    return count;
}

void pyn_log_text(enum pyn_level level, const char *area, const char *before, const char *text)
{
    char line[LINE_MAX_BYTES];
    unsigned count;

    if (!pyn_log_enabled(level))
        return;
    count = count_pieces(text);
    for (unsigned i = 1; i <= count; i++) {
        size_t n = put_head(line, level, area);
        n += (size_t)snprintf(line + n, HEAD_MAX - MARK_MAX, "%.90s", before);
        if (count > 1)
            n += (size_t)snprintf(line + n, MARK_MAX, "part=%u/%u ", i, count);
        text += put_text(line, &n, PIECE_MAX, text);
        line[n++] = '\n';
        if (begin_line())
            put_out(line, n);
    }
}
