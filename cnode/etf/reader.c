#include "etf/reader.h"

#include "etf/tags.h"
#include "etf/take.h"

const char *pyn_etf_strerror(enum pyn_etf_error e)
{
    switch (e) {
    case PYN_ETF_OK:
        return "no error";
    case PYN_ETF_TRUNCATED:
        return "the bytes end inside the term";
    case PYN_ETF_BAD_TAG:
        return "unknown tag";
    case PYN_ETF_BAD_VALUE:
        return "malformed value";
    case PYN_ETF_TOO_DEEP:
        return "nested too deep";
    case PYN_ETF_LYING:
        return "a count that the bytes cannot hold";
    }
    return "unknown error";
}

/* A container of `count` elements of `each` terms and `more` terms behind them, of at least one byte each. */
static inline enum pyn_etf_error open_container(struct pyn_reader *c, struct pyn_token *t, enum pyn_token_kind kind,
                                                unsigned width, unsigned each, unsigned more)
{
    size_t count;

    if (!pyn_take_length(c, width, &count))
        return PYN_ETF_TRUNCATED;
    if ((uint64_t)count * each + more > pyn_reader_left(c))
        return PYN_ETF_LYING;
    t->kind = kind;
    t->count = (uint32_t)count;
    return PYN_ETF_OK;
}

/* No BEAM sends a LIST_EXT without elements; the one sensible reading of it, with nil behind, is nil. */
static enum pyn_etf_error close_empty_list(struct pyn_reader *c, struct pyn_token *t)
{
    if (*c->pos != ETF_NIL)
        return PYN_ETF_BAD_VALUE;
    c->pos++;
    t->kind = PYN_T_NIL;
    return PYN_ETF_OK;
}

static inline enum pyn_etf_error open_list(struct pyn_reader *c, struct pyn_token *t)
{
    enum pyn_etf_error e = open_container(c, t, PYN_T_LIST, 4, 1, 1);

    if (e == PYN_ETF_OK && PYN_UNLIKELY(t->count == 0))
        return close_empty_list(c, t);
    return e;
}

static inline enum pyn_etf_error simple_token(struct pyn_token *t, enum pyn_token_kind kind)
{
    t->kind = kind;
    return PYN_ETF_OK;
}

/* The tags that no call is made of. */
static enum pyn_etf_error read_rare(struct pyn_reader *r, struct pyn_token *t)
{
    struct pyn_reader c = *r;
    enum pyn_etf_error e;
    uint8_t tag = *c.pos++;

    switch (tag) {
    case ETF_ATOM:
    case ETF_SMALL_ATOM:
    case ETF_ATOM_UTF8:
        e = pyn_take_atom(&c, t, tag);
        break;
    case ETF_SMALL_BIG:
        e = pyn_take_big(&c, t, 1);
        break;
    case ETF_LARGE_BIG:
        e = pyn_take_big(&c, t, 4);
        break;
    case ETF_FLOAT:
        e = pyn_take_float_text(&c, t);
        break;
    case ETF_LARGE_TUPLE:
        e = open_container(&c, t, PYN_T_TUPLE, 4, 1, 0);
        break;
    case ETF_BIT_BINARY:
        e = pyn_take_bits(&c, t);
        break;
    default:
        e = pyn_take_ident(&c, t, tag);
    }
    if (e == PYN_ETF_OK)
        r->pos = c.pos;
    return e;
}

/* Everything but NEW_FUN_EXT, whose free variables need the skipper, which needs this function. */
static inline enum pyn_etf_error read_head(struct pyn_reader *r, struct pyn_token *t)
{
    struct pyn_reader c = *r;
    enum pyn_etf_error e;

    if (c.pos == c.end)
        return PYN_ETF_TRUNCATED;
    switch (*c.pos++) {
    case ETF_SMALL_INTEGER:
        e = pyn_take_u8(&c, t);
        break;
    case ETF_SMALL_ATOM_UTF8:
        e = pyn_take_small_atom(&c, t);
        break;
    case ETF_SMALL_TUPLE:
        e = open_container(&c, t, PYN_T_TUPLE, 1, 1, 0);
        break;
    case ETF_BINARY:
        e = pyn_take_bytes(&c, t, PYN_T_BINARY, 4);
        break;
    case ETF_NIL:
        e = simple_token(t, PYN_T_NIL);
        break;
    case ETF_LIST:
        e = open_list(&c, t);
        break;
    case ETF_STRING:
        e = pyn_take_bytes(&c, t, PYN_T_STRING, 2);
        break;
    case ETF_INTEGER:
        e = pyn_take_i32(&c, t);
        break;
    case ETF_NEW_FLOAT:
        e = pyn_take_float(&c, t);
        break;
    case ETF_MAP:
        e = open_container(&c, t, PYN_T_MAP, 4, 2, 0);
        break;
    default:
        return read_rare(r, t);
    }
    if (e == PYN_ETF_OK)
        r->pos = c.pos;
    return e;
}

/* A term that is still open: so many of its terms are to come, and where it must end, if it said so. */
struct level {
    uint64_t left;
    const uint8_t *must_end;
};

/* Reads one head; what it opens goes to *l, which says left = 0 and must_end = NULL for a term that is complete. */
static inline enum pyn_etf_error skip_head(struct pyn_reader *c, struct level *l)
{
    struct pyn_token t;
    enum pyn_etf_error e;

    *l = (struct level){0, NULL};
    if (c->pos < c->end && *c->pos == ETF_NEW_FUN) {
        c->pos++;
        e = pyn_take_fun_head(c, &t.count, &l->must_end);
        l->left = t.count;
        return e;
    }
    e = read_head(c, &t);
    if (e != PYN_ETF_OK)
        return e;
    if (t.kind == PYN_T_LIST)
        l->left = (uint64_t)t.count + 1;
    else if (t.kind == PYN_T_TUPLE)
        l->left = t.count;
    else if (t.kind == PYN_T_MAP)
        l->left = (uint64_t)t.count * 2;
    return PYN_ETF_OK;
}

/* Most terms of a large list are such. One at least is left for the loop that closes what ends. */
static inline void skip_short_ints(struct pyn_reader *c, struct level *l)
{
    int64_t ignored;

    while (l->left > 0 && pyn_read_short_int(c, &ignored))
        l->left--;
}

static enum pyn_etf_error skip_term(struct pyn_reader *c)
{
    struct level open[PYN_ETF_MAX_DEPTH];
    size_t depth = 0;

    do {
        struct level l;
        enum pyn_etf_error e;

        if (depth > 0)
            skip_short_ints(c, &open[depth - 1]);
        e = skip_head(c, &l);
        if (e != PYN_ETF_OK)
            return e;
        if (l.left > 0 || l.must_end) {
            if (depth == PYN_ETF_MAX_DEPTH)
                return PYN_ETF_TOO_DEEP;
            open[depth++] = l;
        }
        for (; depth > 0 && open[depth - 1].left == 0; depth--) {
            if (open[depth - 1].must_end && open[depth - 1].must_end != c->pos)
                return PYN_ETF_BAD_VALUE;
        }
        if (depth > 0)
            open[depth - 1].left--;
    } while (depth > 0);
    return PYN_ETF_OK;
}

/* The skipper's bookkeeping stays out of the frame of pyn_read_token. */
static __attribute__((noinline)) enum pyn_etf_error read_fun(struct pyn_reader *r, struct pyn_token *t)
{
    enum pyn_etf_error e = pyn_read_skip(r, &t->bytes);

    if (e == PYN_ETF_OK)
        t->kind = PYN_T_FUN;
    return e;
}

enum pyn_etf_error pyn_read_token(struct pyn_reader *r, struct pyn_token *t)
{
    if (PYN_UNLIKELY(r->pos < r->end && *r->pos == ETF_NEW_FUN))
        return read_fun(r, t);
    return read_head(r, t);
}

enum pyn_etf_error pyn_read_skip(struct pyn_reader *r, struct pyn_span *skipped)
{
    struct pyn_reader c = *r;
    enum pyn_etf_error e = skip_term(&c);

    if (e != PYN_ETF_OK)
        return e;
    if (skipped)
        *skipped = (struct pyn_span){r->pos, (size_t)(c.pos - r->pos)};
    r->pos = c.pos;
    return PYN_ETF_OK;
}

bool pyn_read_version(struct pyn_reader *r)
{
    if (r->pos == r->end || *r->pos != ETF_VERSION)
        return false;
    r->pos++;
    return true;
}

bool pyn_read_kind(struct pyn_reader *r, enum pyn_token_kind kind, struct pyn_token *t)
{
    struct pyn_reader c = *r;

    if (pyn_read_token(&c, t) != PYN_ETF_OK || t->kind != kind)
        return false;
    r->pos = c.pos;
    return true;
}

bool pyn_read_tuple(struct pyn_reader *r, uint32_t *arity)
{
    struct pyn_token t;

    if (!pyn_read_kind(r, PYN_T_TUPLE, &t))
        return false;
    *arity = t.count;
    return true;
}

bool pyn_read_atom(struct pyn_reader *r, struct pyn_span *name)
{
    struct pyn_token t;

    if (!pyn_read_kind(r, PYN_T_ATOM, &t))
        return false;
    *name = t.bytes;
    return true;
}

bool pyn_read_int(struct pyn_reader *r, int64_t *value)
{
    struct pyn_token t;

    if (!pyn_read_kind(r, PYN_T_INT, &t))
        return false;
    *value = t.i;
    return true;
}
