/* Words that every layer uses: spans of bytes, the must-check mark, status codes. */
#ifndef PYN_BASE_DEFS_H
#define PYN_BASE_DEFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The result must be looked at: ignoring it loses an error. */
#define PYN_MUSTCHECK __attribute__((warn_unused_result))
#define PYN_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

#define PYN_LIKELY(x) __builtin_expect(!!(x), 1)
#define PYN_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Built with the address sanitizer: gcc says so in one way, clang in another. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PYN_ADDRESS_SANITIZER 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define PYN_ADDRESS_SANITIZER 1
#endif

/* A stretch of bytes that somebody else owns; the holder says who and for how long. */
struct pyn_span {
    const uint8_t *ptr;
    size_t len;
};

/* true when both spans hold the same bytes. */
bool pyn_span_eq(struct pyn_span a, struct pyn_span b);
/* true when the span holds exactly the characters of the C string. */
bool pyn_span_is(struct pyn_span a, const char *text);
/* 64-bit hash (FNV-1a with a final mix) of the bytes, continued from seed. */
uint64_t pyn_span_hash(struct pyn_span a, uint64_t seed);

#endif
