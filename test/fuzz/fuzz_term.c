/* libFuzzer target: one term of the external term format, which may be anything.
 *
 * 1. A walk over all tokens and the skipper agree on whether it is a term, and on where it ends.
 * 2. What the walk saw, written by the writer and read again, is the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etf/reader.h"
#include "etf/writer.h"
#include "unit/tokens.h"

enum { WRITTEN_MAX = 1 << 26 };

/* Not assert(): it must hold in every build. */
static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "fuzz_term: %s\n", what);
        abort();
    }
}

struct seen {
    struct pyn_buf out; /* the term, as the writer says it */
    bool funs;
};

/* Names in Latin-1 and lists of bytes have no writer of their own kind. */
static void write_latin1(struct pyn_buf *b, struct pyn_span name)
{
    uint8_t head[2] = {115, (uint8_t)name.len};

    pyn_write_raw(b, (struct pyn_span){head, sizeof(head)});
    pyn_write_raw(b, name);
}

static void write_string(struct pyn_buf *b, struct pyn_span bytes)
{
    static const uint8_t empty[] = {107, 0, 0};
    struct pyn_buf utf8;

    if (bytes.len == 0) {
        pyn_write_raw(b, (struct pyn_span){empty, sizeof(empty)});
        return;
    }
    pyn_buf_init(&utf8, bytes.len * 2);
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.ptr[i] >= 0x80) {
            pyn_buf_u8(&utf8, (uint8_t)(0xc0 | bytes.ptr[i] >> 6));
            pyn_buf_u8(&utf8, (uint8_t)(0x80 | (bytes.ptr[i] & 0x3f)));
        } else {
            pyn_buf_u8(&utf8, bytes.ptr[i]);
        }
    }
    must(!utf8.failed, "room for UTF-8");
    pyn_write_charlist(b, (struct pyn_span){utf8.data, utf8.len});
    pyn_buf_free(&utf8);
}

static void write_token(void *ctx, const struct pyn_token *t)
{
    struct seen *s = ctx;
    struct pyn_buf *b = &s->out;

    switch (t->kind) {
    case PYN_T_INT:
        pyn_write_int(b, t->i);
        break;
    case PYN_T_BIG:
        pyn_write_big(b, t->negative, t->bytes);
        break;
    case PYN_T_FLOAT:
        pyn_write_float(b, t->f);
        break;
    case PYN_T_ATOM:
        pyn_write_atom_span(b, t->bytes);
        break;
    case PYN_T_LATIN1:
        write_latin1(b, t->bytes);
        break;
    case PYN_T_BINARY:
        pyn_write_binary(b, t->bytes.ptr, t->bytes.len);
        break;
    case PYN_T_STRING:
        write_string(b, t->bytes);
        break;
    case PYN_T_NIL:
        pyn_write_nil(b);
        break;
    case PYN_T_LIST:
        pyn_write_list(b, t->count);
        break;
    case PYN_T_TUPLE:
        pyn_write_tuple(b, t->count);
        break;
    case PYN_T_MAP:
        pyn_write_map(b, t->count);
        break;
    case PYN_T_FUN:
        s->funs = true; /* fall through */
    case PYN_T_PID:
    case PYN_T_PORT:
    case PYN_T_REF:
    case PYN_T_BITS:
        pyn_write_raw(b, t->bytes);
        break;
    }
}

static bool same(const struct pyn_token *a, const struct pyn_token *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case PYN_T_INT:
        return a->i == b->i;
    case PYN_T_BIG:
        return a->negative == b->negative && pyn_span_eq(a->bytes, b->bytes);
    case PYN_T_FLOAT:
        return memcmp(&a->f, &b->f, sizeof(a->f)) == 0;
    case PYN_T_NIL:
        return true;
    case PYN_T_LIST:
    case PYN_T_TUPLE:
    case PYN_T_MAP:
        return a->count == b->count;
    default:
        return pyn_span_eq(a->bytes, b->bytes);
    }
}

/* ctx is a reader of the first form; each token of the second must be there. */
static void compare_token(void *ctx, const struct pyn_token *t)
{
    struct pyn_token first = {0};

    must(pyn_read_token(ctx, &first) == PYN_ETF_OK, "a token more than before");
    must(same(&first, t), "another token than before");
}

/* bytes is one whole term, and `written` the same by the writer. */
static void compare(struct pyn_span bytes, const struct pyn_buf *written)
{
    struct pyn_reader first = pyn_reader_of(bytes);
    struct pyn_reader second = pyn_reader_of((struct pyn_span){written->data, written->len});

    must(!written->failed, "written");
    must(walk_term(&second, compare_token, &first) == PYN_ETF_OK, "what was written is a term");
    must(pyn_reader_left(&first) == 0, "all was written");
    must(pyn_reader_left(&second) == 0, "no more was written");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pyn_reader walk = pyn_reader_of((struct pyn_span){data, size});
    struct pyn_reader skip = walk;
    struct pyn_span term = {NULL, 0};
    struct seen s = {.funs = false};
    enum pyn_etf_error walked, skipped;
    bool funs;

    pyn_buf_init(&s.out, WRITTEN_MAX);
    walked = walk_term(&walk, write_token, &s);
    skipped = pyn_read_skip(&skip, &term);
    /* A fun is one token to the walk but a level to the skipper; so is the malformed one that the walk may stop at. */
    funs = s.funs || (walked != PYN_ETF_OK && walk.pos < walk.end && *walk.pos == ETF_NEW_FUN);
    must(walked == skipped || (funs && skipped == PYN_ETF_TOO_DEEP), "walk and skip agree");
    if (skipped == PYN_ETF_OK) {
        must(term.ptr == data && skip.pos == data + term.len && walk.pos == skip.pos, "they end at one place");
        compare(term, &s.out);
    } else {
        must(skip.pos == data, "the cursor stays on an error");
    }
    pyn_buf_free(&s.out);
    return 0;
}
