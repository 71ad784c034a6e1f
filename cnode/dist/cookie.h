/* The secret that nodes show each other. */
#ifndef PYN_DIST_COOKIE_H
#define PYN_DIST_COOKIE_H

#include "base/defs.h"

/* Reads the cookie: `given` (option), PYNODE_COOKIE in the environment, ~/.erlang.cookie or
 * ~/.config/erlang/.erlang.cookie (refused when group or others may do anything with it; the first is made when there
 * is none, as Erlang does). false: error says why. The caller frees *cookie. Before threads are started. */
PYN_MUSTCHECK bool pyn_cookie_read(const char *given, char **cookie, char *error, size_t error_size);

#endif
