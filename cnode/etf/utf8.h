/* Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. Any thread, no state. */
#ifndef PYN_ETF_UTF8_H
#define PYN_ETF_UTF8_H

#include "base/defs.h"

/* What pyn_utf8_next gives for bytes that are no code point. */
#define PYN_UTF8_BAD (-1)
#define PYN_UTF8_REPLACEMENT 0xFFFD

/* How many bytes at the start of s are plain ASCII. */
size_t pyn_utf8_ascii_prefix(struct pyn_span s);
/* true when s is valid from its first byte to its last; then *chars, when chars is not NULL, is the number of code
 * points (otherwise it is not touched). */
PYN_MUSTCHECK bool pyn_utf8_check(struct pyn_span s, size_t *chars);
/* The code point at *pos, which moves behind it; *pos < end. Bytes that are none give PYN_UTF8_BAD, and *pos moves
 * over the longest stretch that could have begun one (at least one byte), as Python's "replace" handler does. */
int32_t pyn_utf8_next(const uint8_t **pos, const uint8_t *end);

#endif
