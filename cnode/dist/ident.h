/* Who we are, as terms: the node's name, the one pid that it has, references. */
#ifndef PYN_DIST_IDENT_H
#define PYN_DIST_IDENT_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/defs.h"

struct pyn_ident {
    char name[256];
    uint32_t creation;
    _Atomic uint64_t next_ref;
    uint32_t ref_salt; /* random: two lives of a node never make the same reference, even with one creation */
};

/* name: checked before, ASCII, at most 255 characters. */
void pyn_ident_init(struct pyn_ident *id, const char *name, uint32_t creation);
/* NEW_PID_EXT, without version byte, always the same. */
void pyn_ident_write_pid(const struct pyn_ident *id, struct pyn_buf *b);
/* NEWER_REFERENCE_EXT of three words, another one each time. Any thread. */
void pyn_ident_write_ref(struct pyn_ident *id, struct pyn_buf *b);

/* true when the name can be a node's: 1 to 255 bytes, one `@` with something before and behind it, and nothing
 * that is blank or a control character. */
PYN_MUSTCHECK bool pyn_ident_valid_name(struct pyn_span name);

/* Builds the full name from what was asked for: "py1" or "py1@host", as it is; a missing host is this host's name, up
 * to its first dot for short names, fully qualified for long ones. false: error says why. */
PYN_MUSTCHECK bool pyn_ident_full_name(const char *asked, bool long_names, char full[256], char *error,
                                       size_t error_size);

#endif
