#include "etf/utf8.h"

#include <string.h>

static const uint64_t HIGH_BITS = UINT64_C(0x8080808080808080);

size_t pyn_utf8_ascii_prefix(struct pyn_span s)
{
    size_t i = 0;

    for (uint64_t word; s.len - i >= sizeof(word); i += sizeof(word)) {
        memcpy(&word, s.ptr + i, sizeof(word));
        if (word & HIGH_BITS)
            break;
    }
    while (i < s.len && s.ptr[i] < 0x80)
        i++;
    return i;
}

/* What a lead byte promises: how many bytes follow, and the bounds of the first of them, which are narrower than
 * 80..BF where an overlong form, a surrogate or something above U+10FFFF would begin. */
struct lead {
    unsigned follow;
    uint8_t low, high;
    uint8_t bits;
};

static inline bool lead_of(uint8_t c, struct lead *l)
{
    if (c < 0xc2 || c > 0xf4)
        return false;
    if (c < 0xe0)
        *l = (struct lead){1, 0x80, 0xbf, c & 0x1f};
    else if (c < 0xf0)
        *l = (struct lead){2, c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf, c & 0x0f};
    else
        *l = (struct lead){3, c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf, c & 0x07};
    return true;
}

static inline int32_t next_point(const uint8_t **pos, const uint8_t *end)
{
    const uint8_t *p = *pos;
    struct lead l;
    int32_t point;

    if (*p < 0x80) {
        *pos = p + 1;
        return *p;
    }
    if (!lead_of(*p++, &l)) {
        *pos = p;
        return PYN_UTF8_BAD;
    }
    point = l.bits;
    for (; l.follow > 0; l.follow--, p++) {
        if (p == end || *p < l.low || *p > l.high) {
            *pos = p;
            return PYN_UTF8_BAD;
        }
        point = point << 6 | (*p & 0x3f);
        l.low = 0x80;
        l.high = 0xbf;
    }
    *pos = p;
    return point;
}

int32_t pyn_utf8_next(const uint8_t **pos, const uint8_t *end)
{
    return next_point(pos, end);
}

bool pyn_utf8_check(struct pyn_span s, size_t *chars)
{
    const uint8_t *p = s.ptr;
    const uint8_t *end = s.len > 0 ? p + s.len : p; /* an empty span may have no address */
    size_t n = 0;

    while (p < end) {
        size_t ascii = pyn_utf8_ascii_prefix((struct pyn_span){p, (size_t)(end - p)});

        p += ascii;
        n += ascii;
        /* Stay out of the fast path while the text is not ASCII: it would find nothing at each character. */
        while (p < end && *p >= 0x80) {
            if (next_point(&p, end) == PYN_UTF8_BAD)
                return false;
            n++;
        }
    }
    if (chars)
        *chars = n;
    return true;
}
