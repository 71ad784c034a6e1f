/* Tokens as text, in prefix notation: {ok, [1]} is `tuple/2 atom:ok list/1 int:1 nil`. Of long bytes the first 16 and
 * their number are shown. */
#ifndef PYN_TEST_TOKEN_TEXT_H
#define PYN_TEST_TOKEN_TEXT_H

#include "etf/reader.h"

enum { TEXT_SIZE = 64 * 1024 };

/* Starts as all zero. */
struct token_text {
    char at[TEXT_SIZE];
    size_t len;
};

/* Adds the token; ctx is the struct token_text. */
void token_text_add(void *ctx, const struct pyn_token *t);

#endif
