#include "base/defs.h"

#include <string.h>

bool pyn_span_eq(struct pyn_span a, struct pyn_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool pyn_span_is(struct pyn_span a, const char *text)
{
    struct pyn_span b = {(const uint8_t *)text, strlen(text)};
    return pyn_span_eq(a, b);
}

uint64_t pyn_span_hash(struct pyn_span a, uint64_t seed)
{
    uint64_t h = seed ^ 0xcbf29ce484222325u;
    for (size_t i = 0; i < a.len; i++)
        h = (h ^ a.ptr[i]) * 0x100000001b3u;
    h ^= h >> 29;
    return h * 0x9e3779b97f4a7c15u;
}
