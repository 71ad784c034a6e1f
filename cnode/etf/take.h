/* The pieces that terms are made of, taken off a cursor: private to the reader.
 *
 * Every function starts behind the tag. On an error the cursor may stand anywhere: the reader works on a copy and
 * throws it away. What no hot path meets is in take.c. */
#ifndef PYN_ETF_TAKE_H
#define PYN_ETF_TAKE_H

#include <string.h>

#include "base/buf.h"
#include "etf/reader.h"

/* Largest number of characters that an atom may have. */
#define PYN_ATOM_MAX 255u

/* tag is one of the four atom tags, anything else is BAD_VALUE. */
PYN_MUSTCHECK enum pyn_etf_error pyn_take_atom(struct pyn_reader *c, struct pyn_token *t, uint8_t tag);
/* The name in t->bytes is UTF-8 of at most PYN_ATOM_MAX characters. */
PYN_MUSTCHECK enum pyn_etf_error pyn_take_check_name(const struct pyn_token *t);
/* SMALL_BIG_EXT (width 1) and LARGE_BIG_EXT (width 4); a value that fits int64_t becomes PYN_T_INT. */
PYN_MUSTCHECK enum pyn_etf_error pyn_take_big(struct pyn_reader *c, struct pyn_token *t, unsigned width);
/* FLOAT_EXT: 31 bytes of text. */
PYN_MUSTCHECK enum pyn_etf_error pyn_take_float_text(struct pyn_reader *c, struct pyn_token *t);
/* BIT_BINARY_EXT; one of whole bytes becomes PYN_T_BINARY. */
PYN_MUSTCHECK enum pyn_etf_error pyn_take_bits(struct pyn_reader *c, struct pyn_token *t);
/* Pids, ports, references, EXPORT_EXT; any other tag is BAD_TAG. */
PYN_MUSTCHECK enum pyn_etf_error pyn_take_ident(struct pyn_reader *c, struct pyn_token *t, uint8_t tag);
/* NEW_FUN_EXT up to its free variables: *free_vars terms follow and must end exactly at *must_end. */
PYN_MUSTCHECK enum pyn_etf_error pyn_take_fun_head(struct pyn_reader *c, uint32_t *free_vars, const uint8_t **must_end);

static inline bool pyn_take_raw(struct pyn_reader *c, size_t n, const uint8_t **at)
{
    if (PYN_UNLIKELY(n > pyn_reader_left(c)))
        return false;
    *at = c->pos;
    c->pos += n;
    return true;
}

/* A big-endian length of 1, 2 or 4 bytes. */
static inline bool pyn_take_length(struct pyn_reader *c, unsigned width, size_t *n)
{
    const uint8_t *at;

    if (!pyn_take_raw(c, width, &at))
        return false;
    *n = width == 1 ? at[0] : width == 2 ? pyn_get_be16(at) : pyn_get_be32(at);
    return true;
}

static inline enum pyn_etf_error pyn_take_u8(struct pyn_reader *c, struct pyn_token *t)
{
    const uint8_t *at;

    if (!pyn_take_raw(c, 1, &at))
        return PYN_ETF_TRUNCATED;
    t->kind = PYN_T_INT;
    t->i = at[0];
    return PYN_ETF_OK;
}

static inline enum pyn_etf_error pyn_take_i32(struct pyn_reader *c, struct pyn_token *t)
{
    const uint8_t *at;

    if (!pyn_take_raw(c, 4, &at))
        return PYN_ETF_TRUNCATED;
    t->kind = PYN_T_INT;
    t->i = (int32_t)pyn_get_be32(at);
    return PYN_ETF_OK;
}

/* An exponent of all ones is an infinity or no number, which are no Erlang terms. Looks at the bits, as isfinite()
 * is always true to a compiler that was given -ffast-math. */
static inline bool pyn_bits_finite(uint64_t bits)
{
    const uint64_t exponent = UINT64_C(0x7ff) << 52;
    return (bits & exponent) != exponent;
}

/* NEW_FLOAT_EXT. */
static inline enum pyn_etf_error pyn_take_float(struct pyn_reader *c, struct pyn_token *t)
{
    const uint8_t *at;
    uint64_t bits;

    if (!pyn_take_raw(c, 8, &at))
        return PYN_ETF_TRUNCATED;
    bits = (uint64_t)pyn_get_be32(at) << 32 | pyn_get_be32(at + 4);
    if (!pyn_bits_finite(bits))
        return PYN_ETF_BAD_VALUE;
    t->kind = PYN_T_FLOAT;
    memcpy(&t->f, &bits, sizeof(t->f));
    return PYN_ETF_OK;
}

/* A length of `width` bytes, and so many bytes. */
static inline enum pyn_etf_error pyn_take_bytes(struct pyn_reader *c, struct pyn_token *t, enum pyn_token_kind kind,
                                                unsigned width)
{
    size_t n;

    if (!pyn_take_length(c, width, &n) || !pyn_take_raw(c, n, &t->bytes.ptr))
        return PYN_ETF_TRUNCATED;
    t->kind = kind;
    t->bytes.len = n;
    return PYN_ETF_OK;
}

/* SMALL_ATOM_UTF8_EXT. An ASCII name, which nearly all are, cannot be too long. */
static inline enum pyn_etf_error pyn_take_small_atom(struct pyn_reader *c, struct pyn_token *t)
{
    enum pyn_etf_error e = pyn_take_bytes(c, t, PYN_T_ATOM, 1);
    uint8_t all = 0;

    if (e != PYN_ETF_OK)
        return e;
    for (size_t i = 0; i < t->bytes.len; i++)
        all |= t->bytes.ptr[i];
    return PYN_LIKELY(all < 0x80) ? PYN_ETF_OK : pyn_take_check_name(t);
}

#endif
