/* The table of options: one row says name, kind, range and help text, for the parser and for --help. */
#ifndef PYN_APP_OPTIONS_H
#define PYN_APP_OPTIONS_H

#include "app/config.h"

struct pyn_option {
    const char *name; /* without dashes */
    const char *arg;  /* what --help calls its value; NULL: takes none on the command line, true or false in a file */
    const char *help;
    /* Stores the value; false: `error` says why not, in words that go after "--name: ". */
    bool (*set)(const struct pyn_option *o, struct pyn_config *c, const char *value, char *error, size_t size);
    size_t offset; /* the member that a generic setter stores in */
    uint64_t min;  /* of a number */
    uint64_t max;
};

/* The table ends with a row whose name is NULL. */
extern const struct pyn_option pyn_options[];

/* The row of that name (n characters), or NULL. */
const struct pyn_option *pyn_option_find(const char *name, size_t n);
/* All defaults. */
void pyn_options_defaults(struct pyn_config *c);

#endif
