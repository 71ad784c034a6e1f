#include "unit/notation.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "etf/writer.h"

/* Elements of one container at most. */
enum { ELEMENTS_MAX = 64 };

static const char *write_one(struct pyn_buf *b, const char *at);

static void no_notation(const char *at)
{
    fprintf(stderr, "this is not in the notation of terms: %s\n", at);
    abort();
}

static const char *skip_blanks(const char *at)
{
    while (*at == ' ' || *at == '\n')
        at++;
    return at;
}

/* The text between here and the mark. */
static struct pyn_span until(const char *at, char mark)
{
    const char *end = strchr(at, mark);

    if (!end)
        no_notation(at);
    return (struct pyn_span){(const uint8_t *)at, (size_t)(end - at)};
}

static void write_string(struct pyn_buf *b, struct pyn_span s)
{
    if (s.len == 0) {
        pyn_write_nil(b);
        return;
    }
    pyn_buf_u8(b, 107);
    pyn_buf_u8(b, (uint8_t)(s.len >> 8));
    pyn_buf_u8(b, (uint8_t)s.len);
    pyn_buf_bytes(b, s.ptr, s.len);
}

static const char *write_special(struct pyn_buf *b, char letter, const char *behind)
{
    if (letter == 'P') {
        pyn_buf_u8(b, 88);
        pyn_write_atom(b, "peer@host");
        pyn_buf_bytes(b, "\0\0\0\1\0\0\0\2\0\0\0\3", 12);
    } else if (letter == 'R') {
        pyn_buf_bytes(b, "\x5a\0\2", 3);
        pyn_write_atom(b, "peer@host");
        pyn_buf_bytes(b, "\0\0\0\3\0\0\0\4\0\0\0\5", 12);
    } else if (letter == 'B') {
        pyn_buf_bytes(b, "n\x08\0\xff\xff\xff\xff\xff\xff\xff\xff", 11);
    } else {
        no_notation(behind);
    }
    return behind;
}

/* The elements up to the closing mark go to parts; returns what is behind them. *tail: the element behind a bar. */
static const char *read_elements(struct pyn_buf *parts, const char *at, const char *marks, size_t *count, bool *tail)
{
    *count = 0;
    *tail = false;
    at = skip_blanks(at);
    while (*at && !strchr(marks, *at)) {
        if (*count == ELEMENTS_MAX)
            no_notation(at);
        at = skip_blanks(write_one(parts, at));
        *count += !*tail;
        if (*at == '|')
            *tail = true;
        if (*at == ',' || *at == '|' || (*at == '=' && at[1] == '>'))
            at = skip_blanks(at + (*at == '=' ? 2 : 1));
    }
    if (!*at)
        no_notation(at);
    return at + 1;
}

static const char *write_container(struct pyn_buf *b, const char *at)
{
    struct pyn_buf parts;
    size_t count;
    bool tail;
    char mark = *at;

    pyn_buf_init(&parts, 1 << 20);
    at = read_elements(&parts, at + (mark == '#' ? 2 : 1), mark == '[' ? "]" : "}", &count, &tail);
    if (mark == '{')
        pyn_write_tuple(b, count);
    else if (mark == '#')
        pyn_write_map(b, count / 2);
    else if (count > 0)
        pyn_write_list(b, count);
    pyn_buf_bytes(b, parts.data, parts.len);
    if (mark == '[' && !tail)
        pyn_write_nil(b);
    pyn_buf_free(&parts);
    return at;
}

static const char *write_word(struct pyn_buf *b, const char *at)
{
    const char *end = at;

    while (isalnum((unsigned char)*end) || *end == '_' || *end == '@')
        end++;
    if (end == at)
        no_notation(at);
    pyn_write_atom_span(b, (struct pyn_span){(const uint8_t *)at, (size_t)(end - at)});
    return end;
}

static const char *write_one(struct pyn_buf *b, const char *at)
{
    struct pyn_span text;
    char *end;

    switch (*at) {
    case '{':
    case '[':
    case '#':
        return write_container(b, at);
    case '$':
        return write_special(b, at[1], at + 2);
    case '~':
        pyn_buf_u8(b, 200);
        return at + 1;
    case '\'':
        text = until(at + 1, '\'');
        pyn_write_atom_span(b, text);
        return at + text.len + 2;
    case '"':
        text = until(at + 1, '"');
        write_string(b, text);
        return at + text.len + 2;
    case '<':
        text = until(at + 1, '>');
        pyn_write_binary(b, text.ptr, text.len);
        return at + text.len + 2;
    default:
        break;
    }
    if (!isdigit((unsigned char)*at) && *at != '-')
        return write_word(b, at);
    pyn_write_int(b, strtoll(at, &end, 10));
    return end;
}

void notation_write(struct pyn_buf *b, const char *text)
{
    for (text = skip_blanks(text); *text; text = skip_blanks(text))
        text = write_one(b, text);
    if (b->failed)
        no_notation("(out of memory)");
}
