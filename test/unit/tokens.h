/* A term walked token by token, for the tests and the fuzz target: what a decoder does, without a decoder. */
#ifndef PYN_TEST_TOKENS_H
#define PYN_TEST_TOKENS_H

#include "etf/reader.h"

/* How many terms belong to the token and follow it. */
static inline uint64_t token_children(const struct pyn_token *t)
{
    switch (t->kind) {
    case PYN_T_LIST:
        return (uint64_t)t->count + 1;
    case PYN_T_TUPLE:
        return t->count;
    case PYN_T_MAP:
        return (uint64_t)t->count * 2;
    default:
        return 0;
    }
}

/* Reads one whole term and shows each of its tokens to see(ctx, token). The depth is bounded as the skipper's is,
 * but for a fun, which is one token here and a level there. */
static inline enum pyn_etf_error walk_term(struct pyn_reader *r, void (*see)(void *, const struct pyn_token *),
                                           void *ctx)
{
    uint64_t left[PYN_ETF_MAX_DEPTH];
    size_t depth = 0;

    do {
        struct pyn_token t = {0};
        enum pyn_etf_error e = pyn_read_token(r, &t);

        if (e != PYN_ETF_OK)
            return e;
        see(ctx, &t);
        if (token_children(&t) > 0) {
            if (depth == PYN_ETF_MAX_DEPTH)
                return PYN_ETF_TOO_DEEP;
            left[depth++] = token_children(&t);
        }
        while (depth > 0 && left[depth - 1] == 0)
            depth--;
        if (depth > 0)
            left[depth - 1]--;
    } while (depth > 0);
    return PYN_ETF_OK;
}

#endif
