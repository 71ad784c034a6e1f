/* Bounds-checked reading of the external term format (ERTS User's Guide, "External Term Format").
 *
 * Bytes of a peer go through this cursor and nothing else: `ei_decode_*` and `ei_skip_term` take no end of buffer.
 * Nothing here recurses, allocates, or reads at or behind `end`. Any thread; the cursor belongs to one. */
#ifndef PYN_ETF_READER_H
#define PYN_ETF_READER_H

#include "base/defs.h"
#include "etf/tags.h"

/* Terms nested deeper than this are refused, in both directions. */
#define PYN_ETF_MAX_DEPTH 512u

struct pyn_reader {
    const uint8_t *pos;
    const uint8_t *end;
};

enum pyn_token_kind {
    PYN_T_INT,    /* .i: every integer that fits, also when it came as a big one */
    PYN_T_BIG,    /* the rest: .negative, .bytes = digits, little-endian base 256, no leading zeros */
    PYN_T_FLOAT,  /* .f, always finite (NaN and infinities on the wire are malformed) */
    PYN_T_ATOM,   /* .bytes = name in UTF-8, checked; at most 255 characters */
    PYN_T_LATIN1, /* .bytes = name of an ATOM_EXT / SMALL_ATOM_EXT in Latin-1 that is not plain ASCII */
    PYN_T_BINARY, /* .bytes */
    PYN_T_STRING, /* .bytes: a list of so many integers 0..255 */
    PYN_T_NIL,    /* the empty list */
    PYN_T_LIST,   /* .count > 0 elements follow, then the tail (NIL for a proper list) */
    PYN_T_TUPLE,  /* .count elements follow */
    PYN_T_MAP,    /* .count pairs of key and value follow */
    PYN_T_PID,    /* the rest: .bytes = the whole term, tag included, no version byte */
    PYN_T_PORT,
    PYN_T_REF,
    PYN_T_FUN,  /* NEW_FUN_EXT and EXPORT_EXT */
    PYN_T_BITS, /* BIT_BINARY_EXT that is not of whole bytes; whole term in .bytes */
};

struct pyn_token {
    enum pyn_token_kind kind;
    bool negative;
    int64_t i;
    double f;
    uint32_t count;
    struct pyn_span bytes;
};

enum pyn_etf_error {
    PYN_ETF_OK = 0,
    PYN_ETF_TRUNCATED, /* the bytes end inside the term */
    PYN_ETF_BAD_TAG,   /* a tag that the format does not have, or that does not travel between nodes */
    PYN_ETF_BAD_VALUE, /* invalid UTF-8 in an atom, a float that is no number, a sign that is neither 0 nor 1, ... */
    PYN_ETF_TOO_DEEP,
    PYN_ETF_LYING, /* a count that the rest of the bytes cannot hold */
};

/* A sentence for the log, never NULL. */
const char *pyn_etf_strerror(enum pyn_etf_error e);

/* Reads the head of one term: whole for simple kinds; for LIST, TUPLE and MAP the elements follow, and count is
 * checked against the bytes that are left (each element has at least one), so it is safe to allocate by: who holds
 * several containers open should still bound what all of them ask for, as each may claim the same bytes.
 * PID, PORT, REF and FUN are checked inside and skipped as a whole (a FUN's free variables too).
 * On an error the cursor stays where it was. */
PYN_MUSTCHECK enum pyn_etf_error pyn_read_token(struct pyn_reader *r, struct pyn_token *t);

/* Skips one whole term, iteratively; nesting deeper than PYN_ETF_MAX_DEPTH is an error. When `skipped` is not NULL
 * it becomes the term's bytes. On an error the cursor stays where it was. */
PYN_MUSTCHECK enum pyn_etf_error pyn_read_skip(struct pyn_reader *r, struct pyn_span *skipped);

/* The version byte 131 that starts every control and payload term. */
PYN_MUSTCHECK bool pyn_read_version(struct pyn_reader *r);

/* Convenience for fixed shapes; each returns false, with the cursor unmoved, when the next term is something else
 * or malformed. */
PYN_MUSTCHECK bool pyn_read_tuple(struct pyn_reader *r, uint32_t *arity);
/* An atom in UTF-8 or ASCII (Latin-1 names that are not ASCII do not match). */
PYN_MUSTCHECK bool pyn_read_atom(struct pyn_reader *r, struct pyn_span *name);
PYN_MUSTCHECK bool pyn_read_int(struct pyn_reader *r, int64_t *value);
/* A token of exactly this kind. */
PYN_MUSTCHECK bool pyn_read_kind(struct pyn_reader *r, enum pyn_token_kind kind, struct pyn_token *t);

/* The two tags that large lists are made of, read without a call: the next term when it is SMALL_INTEGER_EXT or
 * INTEGER_EXT. false, with the cursor unmoved, for all others, and near the end of the bytes. */
PYN_MUSTCHECK static inline bool pyn_read_short_int(struct pyn_reader *r, int64_t *value)
{
    const uint8_t *p = r->pos;

    if (r->end - p < 5)
        return false;
    if (p[0] == ETF_SMALL_INTEGER) {
        *value = p[1];
        r->pos = p + 2;
        return true;
    }
    if (p[0] != ETF_INTEGER)
        return false;
    *value = (int32_t)((uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4]);
    r->pos = p + 5;
    return true;
}

static inline struct pyn_reader pyn_reader_of(struct pyn_span s)
{
    /* An empty span may have no address. */
    return (struct pyn_reader){s.ptr, s.len > 0 ? s.ptr + s.len : s.ptr};
}

static inline size_t pyn_reader_left(const struct pyn_reader *r)
{
    return (size_t)(r->end - r->pos);
}

#endif
