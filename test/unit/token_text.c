#include "unit/token_text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHOWN_BYTES = 16 };

static void __attribute__((format(printf, 2, 3))) put(struct token_text *x, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(x->at + x->len, TEXT_SIZE - x->len, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= TEXT_SIZE - x->len) {
        fprintf(stderr, "token_text: a text of more than %d bytes\n", TEXT_SIZE);
        abort();
    }
    x->len += (size_t)n;
}

static void put_bytes(struct token_text *x, const char *name, struct pyn_span s, bool plain)
{
    put(x, "%s:", name);
    for (size_t i = 0; i < s.len && i < SHOWN_BYTES; i++)
        put(x, plain ? "%c" : "%02x", s.ptr[i]);
    if (s.len > SHOWN_BYTES)
        put(x, "..%zu", s.len);
}

void token_text_add(void *ctx, const struct pyn_token *t)
{
    struct token_text *x = ctx;

    if (x->len > 0)
        put(x, " ");
    switch (t->kind) {
    case PYN_T_INT:
        put(x, "int:%" PRId64, t->i);
        break;
    case PYN_T_BIG:
        put_bytes(x, t->negative ? "big-" : "big+", t->bytes, false);
        break;
    case PYN_T_FLOAT:
        put(x, "float:%.17g", t->f);
        break;
    case PYN_T_ATOM:
        put_bytes(x, "atom", t->bytes, true);
        break;
    case PYN_T_LATIN1:
        put_bytes(x, "latin1", t->bytes, false);
        break;
    case PYN_T_BINARY:
        put_bytes(x, "binary", t->bytes, false);
        break;
    case PYN_T_STRING:
        put_bytes(x, "string", t->bytes, false);
        break;
    case PYN_T_NIL:
        put(x, "nil");
        break;
    case PYN_T_LIST:
        put(x, "list/%" PRIu32, t->count);
        break;
    case PYN_T_TUPLE:
        put(x, "tuple/%" PRIu32, t->count);
        break;
    case PYN_T_MAP:
        put(x, "map/%" PRIu32, t->count);
        break;
    case PYN_T_PID:
        put(x, "pid/%zu", t->bytes.len);
        break;
    case PYN_T_PORT:
        put(x, "port/%zu", t->bytes.len);
        break;
    case PYN_T_REF:
        put(x, "ref/%zu", t->bytes.len);
        break;
    case PYN_T_FUN:
        put(x, "fun/%zu", t->bytes.len);
        break;
    case PYN_T_BITS:
        put_bytes(x, "bits", t->bytes, false);
        break;
    }
}
