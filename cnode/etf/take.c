#include "etf/take.h"

#include <locale.h>
#include <stdlib.h>

#include "etf/tags.h"
#include "etf/utf8.h"

enum { FLOAT_TEXT = 31, REF_WORDS_MAX = 5 };

/* A Latin-1 name: one byte is one character. */
static enum pyn_etf_error check_latin1(struct pyn_token *t)
{
    if (t->bytes.len > PYN_ATOM_MAX)
        return PYN_ETF_BAD_VALUE;
    t->kind = pyn_utf8_ascii_prefix(t->bytes) == t->bytes.len ? PYN_T_ATOM : PYN_T_LATIN1;
    return PYN_ETF_OK;
}

enum pyn_etf_error pyn_take_check_name(const struct pyn_token *t)
{
    size_t chars;

    return pyn_utf8_check(t->bytes, &chars) && chars <= PYN_ATOM_MAX ? PYN_ETF_OK : PYN_ETF_BAD_VALUE;
}

enum pyn_etf_error pyn_take_atom(struct pyn_reader *c, struct pyn_token *t, uint8_t tag)
{
    bool wide = tag == ETF_ATOM || tag == ETF_ATOM_UTF8;
    bool latin1 = tag == ETF_ATOM || tag == ETF_SMALL_ATOM;
    enum pyn_etf_error e;

    if (!wide && !latin1 && tag != ETF_SMALL_ATOM_UTF8)
        return PYN_ETF_BAD_VALUE;
    e = pyn_take_bytes(c, t, PYN_T_ATOM, wide ? 2 : 1);
    if (e != PYN_ETF_OK)
        return e;
    return latin1 ? check_latin1(t) : pyn_take_check_name(t);
}

/* Digits of at most eight bytes to *value; false when int64_t cannot hold them. */
static bool fits_int64(struct pyn_span digits, bool negative, int64_t *value)
{
    uint64_t magnitude = 0;

    for (size_t i = digits.len; i > 0; i--)
        magnitude = magnitude << 8 | digits.ptr[i - 1];
    if (magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *value = (int64_t)(negative ? 0 - magnitude : magnitude);
    return true;
}

enum pyn_etf_error pyn_take_big(struct pyn_reader *c, struct pyn_token *t, unsigned width)
{
    const uint8_t *sign;
    size_t n;

    if (!pyn_take_length(c, width, &n) || !pyn_take_raw(c, 1, &sign) || !pyn_take_raw(c, n, &t->bytes.ptr))
        return PYN_ETF_TRUNCATED;
    if (*sign > 1)
        return PYN_ETF_BAD_VALUE;
    while (n > 0 && t->bytes.ptr[n - 1] == 0)
        n--;
    t->bytes.len = n;
    t->negative = *sign;
    t->kind = PYN_T_BIG;
    if (n <= sizeof(t->i) && fits_int64(t->bytes, t->negative, &t->i))
        t->kind = PYN_T_INT;
    return PYN_ETF_OK;
}

/* strtod by the rules of the C locale: Python code may have set one where a comma stands for the point. */
static bool parse_c_locale(const char *text, double *value)
{
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before;
    char *end;

    if (!c_locale)
        return false;
    before = uselocale(c_locale);
    *value = strtod(text, &end);
    uselocale(before);
    freelocale(c_locale);
    return end != text && *end == '\0';
}

enum pyn_etf_error pyn_take_float_text(struct pyn_reader *c, struct pyn_token *t)
{
    char text[FLOAT_TEXT + 1] = {0};
    const uint8_t *at;
    uint64_t bits;

    if (!pyn_take_raw(c, FLOAT_TEXT, &at))
        return PYN_ETF_TRUNCATED;
    memcpy(text, at, FLOAT_TEXT);
    /* strtod knows more than decimal numbers: "inf", "nan", hexadecimal, leading blanks. */
    if (text[strspn(text, "0123456789+-.eE")] != '\0' || !parse_c_locale(text, &t->f))
        return PYN_ETF_BAD_VALUE;
    memcpy(&bits, &t->f, sizeof(bits));
    if (!pyn_bits_finite(bits))
        return PYN_ETF_BAD_VALUE;
    t->kind = PYN_T_FLOAT;
    return PYN_ETF_OK;
}

enum pyn_etf_error pyn_take_bits(struct pyn_reader *c, struct pyn_token *t)
{
    const uint8_t *start = c->pos - 1;
    const uint8_t *used;
    size_t n;

    if (!pyn_take_length(c, 4, &n) || !pyn_take_raw(c, 1, &used) || !pyn_take_raw(c, n, &t->bytes.ptr))
        return PYN_ETF_TRUNCATED;
    /* used: how many bits of the last byte count, from the high end. */
    if (*used > 8 || (*used == 0) != (n == 0))
        return PYN_ETF_BAD_VALUE;
    if (*used % 8 == 0) {
        t->kind = PYN_T_BINARY;
        t->bytes.len = n;
    } else {
        t->kind = PYN_T_BITS;
        t->bytes = (struct pyn_span){start, (size_t)(c->pos - start)};
    }
    return PYN_ETF_OK;
}

/* An atom inside an identifier. */
static enum pyn_etf_error take_inner_atom(struct pyn_reader *c)
{
    struct pyn_token t;
    const uint8_t *tag;

    if (!pyn_take_raw(c, 1, &tag))
        return PYN_ETF_TRUNCATED;
    return pyn_take_atom(c, &t, *tag);
}

/* A node's name and then `fixed` bytes of numbers. */
static enum pyn_etf_error take_node_and(struct pyn_reader *c, size_t fixed)
{
    enum pyn_etf_error e = take_inner_atom(c);
    const uint8_t *at;

    if (e != PYN_ETF_OK)
        return e;
    return pyn_take_raw(c, fixed, &at) ? PYN_ETF_OK : PYN_ETF_TRUNCATED;
}

/* The references that begin with their number of words; `creation` is the creation's width. */
static enum pyn_etf_error take_reference(struct pyn_reader *c, size_t creation)
{
    size_t words;

    if (!pyn_take_length(c, 2, &words))
        return PYN_ETF_TRUNCATED;
    if (words == 0 || words > REF_WORDS_MAX)
        return PYN_ETF_BAD_VALUE;
    return take_node_and(c, creation + words * 4);
}

/* EXPORT_EXT: module, function, arity. */
static enum pyn_etf_error take_export(struct pyn_reader *c)
{
    enum pyn_etf_error e = take_inner_atom(c);
    const uint8_t *arity;

    if (e == PYN_ETF_OK)
        e = take_inner_atom(c);
    if (e != PYN_ETF_OK)
        return e;
    if (!pyn_take_raw(c, 2, &arity))
        return PYN_ETF_TRUNCATED;
    return arity[0] == ETF_SMALL_INTEGER ? PYN_ETF_OK : PYN_ETF_BAD_VALUE;
}

static enum pyn_etf_error take_ident_body(struct pyn_reader *c, uint8_t tag, enum pyn_token_kind *kind)
{
    switch (tag) {
    case ETF_NEW_PID: /* id, serial, creation */
        *kind = PYN_T_PID;
        return take_node_and(c, 4 + 4 + 4);
    case ETF_PID:
        *kind = PYN_T_PID;
        return take_node_and(c, 4 + 4 + 1);
    case ETF_NEWER_REFERENCE:
        *kind = PYN_T_REF;
        return take_reference(c, 4);
    case ETF_NEW_REFERENCE:
        *kind = PYN_T_REF;
        return take_reference(c, 1);
    case ETF_REFERENCE: /* id, creation */
        *kind = PYN_T_REF;
        return take_node_and(c, 4 + 1);
    case ETF_V4_PORT: /* id, creation */
        *kind = PYN_T_PORT;
        return take_node_and(c, 8 + 4);
    case ETF_NEW_PORT:
        *kind = PYN_T_PORT;
        return take_node_and(c, 4 + 4);
    case ETF_PORT:
        *kind = PYN_T_PORT;
        return take_node_and(c, 4 + 1);
    case ETF_EXPORT:
        *kind = PYN_T_FUN;
        return take_export(c);
    default:
        return PYN_ETF_BAD_TAG;
    }
}

enum pyn_etf_error pyn_take_ident(struct pyn_reader *c, struct pyn_token *t, uint8_t tag)
{
    const uint8_t *start = c->pos - 1;
    enum pyn_etf_error e = take_ident_body(c, tag, &t->kind);

    if (e == PYN_ETF_OK)
        t->bytes = (struct pyn_span){start, (size_t)(c->pos - start)};
    return e;
}

/* An integer of a fun's head: SMALL_INTEGER_EXT or INTEGER_EXT. */
static enum pyn_etf_error take_inner_int(struct pyn_reader *c)
{
    struct pyn_token t;
    const uint8_t *tag;

    if (!pyn_take_raw(c, 1, &tag))
        return PYN_ETF_TRUNCATED;
    if (*tag == ETF_SMALL_INTEGER)
        return pyn_take_u8(c, &t);
    return *tag == ETF_INTEGER ? pyn_take_i32(c, &t) : PYN_ETF_BAD_VALUE;
}

static enum pyn_etf_error take_inner_pid(struct pyn_reader *c)
{
    enum pyn_token_kind kind;
    const uint8_t *tag;

    if (!pyn_take_raw(c, 1, &tag))
        return PYN_ETF_TRUNCATED;
    if (*tag != ETF_NEW_PID && *tag != ETF_PID)
        return PYN_ETF_BAD_VALUE;
    return take_ident_body(c, *tag, &kind);
}

enum pyn_etf_error pyn_take_fun_head(struct pyn_reader *c, uint32_t *free_vars, const uint8_t **must_end)
{
    /* size, arity, uniq, index, number of free variables */
    enum { FIXED = 4 + 1 + 16 + 4 + 4 };
    const uint8_t *at;
    enum pyn_etf_error e;

    if (!pyn_take_raw(c, FIXED, &at))
        return PYN_ETF_TRUNCATED;
    if (pyn_get_be32(at) < FIXED)
        return PYN_ETF_BAD_VALUE;
    if (pyn_get_be32(at) - FIXED > pyn_reader_left(c))
        return PYN_ETF_TRUNCATED;
    *must_end = at + pyn_get_be32(at);
    *free_vars = pyn_get_be32(at + FIXED - 4);
    e = take_inner_atom(c);
    if (e == PYN_ETF_OK)
        e = take_inner_int(c);
    if (e == PYN_ETF_OK)
        e = take_inner_int(c);
    if (e == PYN_ETF_OK)
        e = take_inner_pid(c);
    if (e == PYN_ETF_OK && *free_vars > pyn_reader_left(c))
        e = PYN_ETF_LYING;
    return e;
}
