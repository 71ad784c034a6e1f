/* Writing of the external term format into a pyn_buf. Errors stay in the buffer (`failed`): check once, at the end.
 * Small tags are chosen as the BEAM does: SMALL_INTEGER, INTEGER, SMALL_BIG/LARGE_BIG, SMALL_ATOM_UTF8/ATOM_UTF8,
 * SMALL_TUPLE/LARGE_TUPLE, NEW_FLOAT. */
#ifndef PYN_ETF_WRITER_H
#define PYN_ETF_WRITER_H

#include "base/buf.h"

/* The version byte 131. */
void pyn_write_version(struct pyn_buf *b);
void pyn_write_int(struct pyn_buf *b, int64_t v);
/* digits: little-endian base 256 without leading (that is, trailing) zero bytes; what fits INTEGER_EXT must be
 * written by pyn_write_int. */
void pyn_write_big(struct pyn_buf *b, bool negative, struct pyn_span digits);
/* v must be finite. */
void pyn_write_float(struct pyn_buf *b, double v);
/* name: valid UTF-8 of at most 255 characters; anything longer sets failed. */
void pyn_write_atom_span(struct pyn_buf *b, struct pyn_span name);
/* name: a C string of ASCII, at most 255 long. */
void pyn_write_atom(struct pyn_buf *b, const char *name);
void pyn_write_tuple(struct pyn_buf *b, size_t arity);
/* count elements and then a tail follow; the caller writes the tail (pyn_write_nil for a proper list).
 * count 0 is not allowed by the BEAM's readers: write nil alone. */
void pyn_write_list(struct pyn_buf *b, size_t count);
void pyn_write_nil(struct pyn_buf *b);
void pyn_write_map(struct pyn_buf *b, size_t pairs);
/* The head of a binary of n bytes, which the caller appends (or splices in). */
void pyn_write_binary_head(struct pyn_buf *b, size_t n);
void pyn_write_binary(struct pyn_buf *b, const void *bytes, size_t n);
/* A whole term that is in this format already (a pid, the tag of a call). */
void pyn_write_raw(struct pyn_buf *b, struct pyn_span term);
/* A list of code points from UTF-8 text, as Erlang's strings are: STRING_EXT when all fit a byte and there are at
 * most 65535, else LIST_EXT of integers; nil when empty. Bytes that are no valid UTF-8 become U+FFFD. */
void pyn_write_charlist(struct pyn_buf *b, struct pyn_span utf8);

#endif
