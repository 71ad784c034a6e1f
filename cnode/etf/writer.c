#include "etf/writer.h"

#include "etf/tags.h"
#include "etf/utf8.h"

enum { ATOM_MAX_CHARS = 255, STRING_MAX = 65535 };

/* Tag and length in one piece; n is what the format's 32 bits can say, or the buffer fails. */
static void put_head32(struct pyn_buf *b, uint8_t tag, size_t n)
{
    uint8_t *at;

    if (n > UINT32_MAX) {
        b->failed = true;
        return;
    }
    if (!pyn_buf_room(b, 5))
        return;
    at = b->data + b->len;
    at[0] = tag;
    pyn_put_be32(at + 1, (uint32_t)n);
    b->len += 5;
}

static void put_head8(struct pyn_buf *b, uint8_t tag, size_t n)
{
    if (!pyn_buf_room(b, 2))
        return;
    b->data[b->len] = tag;
    b->data[b->len + 1] = (uint8_t)n;
    b->len += 2;
}

static void put_head16(struct pyn_buf *b, uint8_t tag, size_t n)
{
    if (!pyn_buf_room(b, 3))
        return;
    b->data[b->len] = tag;
    b->data[b->len + 1] = (uint8_t)(n >> 8);
    b->data[b->len + 2] = (uint8_t)n;
    b->len += 3;
}

void pyn_write_version(struct pyn_buf *b)
{
    pyn_buf_u8(b, ETF_VERSION);
}

/* An int64 that INTEGER_EXT cannot hold. */
static void put_wide_int(struct pyn_buf *b, int64_t v)
{
    uint64_t magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    uint8_t digits[8];
    size_t n = 0;

    for (; magnitude > 0; magnitude >>= 8)
        digits[n++] = (uint8_t)magnitude;
    pyn_write_big(b, v < 0, (struct pyn_span){digits, n});
}

void pyn_write_int(struct pyn_buf *b, int64_t v)
{
    if (v >= 0 && v <= UINT8_MAX)
        put_head8(b, ETF_SMALL_INTEGER, (size_t)v);
    else if (v >= INT32_MIN && v <= INT32_MAX)
        put_head32(b, ETF_INTEGER, (uint32_t)v);
    else
        put_wide_int(b, v);
}

void pyn_write_big(struct pyn_buf *b, bool negative, struct pyn_span digits)
{
    if (digits.len <= UINT8_MAX)
        put_head8(b, ETF_SMALL_BIG, digits.len);
    else
        put_head32(b, ETF_LARGE_BIG, digits.len);
    pyn_buf_u8(b, negative);
    pyn_buf_bytes(b, digits.ptr, digits.len);
}

void pyn_write_float(struct pyn_buf *b, double v)
{
    uint64_t bits;
    uint8_t *at;

    if (!pyn_buf_room(b, 9))
        return;
    memcpy(&bits, &v, sizeof(bits));
    at = b->data + b->len;
    at[0] = ETF_NEW_FLOAT;
    pyn_put_be32(at + 1, (uint32_t)(bits >> 32));
    pyn_put_be32(at + 5, (uint32_t)bits);
    b->len += 9;
}

static bool atom_fits(struct pyn_span name)
{
    size_t chars = 0;

    if (name.len <= ATOM_MAX_CHARS)
        return true;
    if (name.len > ATOM_MAX_CHARS * 4)
        return false;
    for (size_t i = 0; i < name.len; i++)
        chars += (name.ptr[i] & 0xc0) != 0x80;
    return chars <= ATOM_MAX_CHARS;
}

void pyn_write_atom_span(struct pyn_buf *b, struct pyn_span name)
{
    if (!atom_fits(name)) {
        b->failed = true;
        return;
    }
    if (name.len <= UINT8_MAX)
        put_head8(b, ETF_SMALL_ATOM_UTF8, name.len);
    else
        put_head16(b, ETF_ATOM_UTF8, name.len);
    pyn_buf_bytes(b, name.ptr, name.len);
}

void pyn_write_atom(struct pyn_buf *b, const char *name)
{
    pyn_write_atom_span(b, (struct pyn_span){(const uint8_t *)name, strlen(name)});
}

void pyn_write_tuple(struct pyn_buf *b, size_t arity)
{
    if (arity <= UINT8_MAX)
        put_head8(b, ETF_SMALL_TUPLE, arity);
    else
        put_head32(b, ETF_LARGE_TUPLE, arity);
}

void pyn_write_list(struct pyn_buf *b, size_t count)
{
    put_head32(b, ETF_LIST, count);
}

void pyn_write_nil(struct pyn_buf *b)
{
    pyn_buf_u8(b, ETF_NIL);
}

void pyn_write_map(struct pyn_buf *b, size_t pairs)
{
    put_head32(b, ETF_MAP, pairs);
}

void pyn_write_binary_head(struct pyn_buf *b, size_t n)
{
    put_head32(b, ETF_BINARY, n);
}

void pyn_write_binary(struct pyn_buf *b, const void *bytes, size_t n)
{
    pyn_write_binary_head(b, n);
    pyn_buf_bytes(b, bytes, n);
}

void pyn_write_raw(struct pyn_buf *b, struct pyn_span term)
{
    pyn_buf_bytes(b, term.ptr, term.len);
}

static int32_t next_or_replacement(const uint8_t **pos, const uint8_t *end)
{
    int32_t point = pyn_utf8_next(pos, end);
    return point == PYN_UTF8_BAD ? PYN_UTF8_REPLACEMENT : point;
}

void pyn_write_charlist(struct pyn_buf *b, struct pyn_span utf8)
{
    const uint8_t *end = utf8.len > 0 ? utf8.ptr + utf8.len : utf8.ptr;
    int32_t highest = 0;
    size_t count = 0;

    for (const uint8_t *p = utf8.ptr; p < end; count++) {
        int32_t point = next_or_replacement(&p, end);
        highest = point > highest ? point : highest;
    }
    if (count == 0) {
        pyn_write_nil(b);
    } else if (highest <= UINT8_MAX && count <= STRING_MAX) {
        put_head16(b, ETF_STRING, count);
        for (const uint8_t *p = utf8.ptr; p < end;)
            pyn_buf_u8(b, (uint8_t)next_or_replacement(&p, end));
    } else {
        pyn_write_list(b, count);
        for (const uint8_t *p = utf8.ptr; p < end;)
            pyn_write_int(b, next_or_replacement(&p, end));
        pyn_write_nil(b);
    }
}
