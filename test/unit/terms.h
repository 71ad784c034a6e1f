/* Terms in the notation of unit/notation.h, for what reads them: each in a block of exactly its size, so that a read
 * behind its end is noticed. */
#ifndef PYN_TEST_TERMS_H
#define PYN_TEST_TERMS_H

#include <check.h>
#include <stdlib.h>

#include "unit/cases.h"
#include "unit/notation.h"

enum { TERM_MAX = 1 << 20 };

/* The owner frees bytes. */
struct term {
    uint8_t *bytes;
    struct pyn_span span;
};

static inline struct term term_of(const char *text)
{
    struct pyn_buf b;
    struct term t;

    pyn_buf_init(&b, TERM_MAX);
    notation_write(&b, text);
    t.bytes = cases_exact(b.data, b.len);
    t.span = (struct pyn_span){t.bytes, b.len};
    pyn_buf_free(&b);
    return t;
}

static inline void ck_assert_term(struct pyn_span span, const char *text)
{
    struct term t = term_of(text);

    ck_assert_msg(pyn_span_eq(span, t.span), "%zu bytes are not %s", span.len, text);
    free(t.bytes);
}

#endif
