/* Test cases that are folders: <data>/etf/<kind>/<case>/{input.hex,expected}, where <data> is the environment
 * variable PYN_TEST_DATA, or test/data.
 *
 * input.hex: pairs of hexadecimal digits, blanks as one likes, `#` starts a comment to the end of the line, and
 * `XX*N` is the byte XX, N times. expected: one line. */
#ifndef PYN_TEST_CASES_H
#define PYN_TEST_CASES_H

#include <stddef.h>
#include <stdint.h>

struct test_case {
    char *name;
    uint8_t *bytes; /* a block of exactly len bytes, so that a read behind its end is noticed */
    size_t len;
    char *expected; /* without its newline */
};

/* All cases of a kind ("valid", "invalid"), sorted by name; the caller owns them. A folder that cannot be read, or
 * one without cases, ends the program with a message. */
struct test_case *cases_load(const char *kind, size_t *count);
void cases_free(struct test_case *cases, size_t count);
/* Like input.hex, from a string; *bytes is new. Ends the program when the text is malformed. */
size_t cases_unhex(const char *text, uint8_t **bytes);
/* A copy in a block of its own, of exactly len bytes; free() it by its first byte: len 0 gives one byte's address. */
uint8_t *cases_exact(const uint8_t *bytes, size_t len);

#endif
