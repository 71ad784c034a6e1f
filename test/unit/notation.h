/* Terms written down as Erlang does, for tables of tests:
 *
 *   42 -7  atom 'quoted atom'  "bytes" (STRING_EXT)  <bytes>  {A, B}  [A, B]  [A | B]  #{A => B}
 *   $P a pid   $R a reference   $B 2^64 - 1   ~ a byte that is no tag
 *
 * Strings and binaries hold what stands between their marks; nothing is escaped. */
#ifndef PYN_TEST_NOTATION_H
#define PYN_TEST_NOTATION_H

#include "base/buf.h"

/* Appends the terms of text; ends the program when it is not in the notation. */
void notation_write(struct pyn_buf *b, const char *text);

#endif
