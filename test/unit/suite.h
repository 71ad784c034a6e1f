/* The main of a test program: runs its suite. Brings Check with it. */
#ifndef PYN_TEST_SUITE_H
#define PYN_TEST_SUITE_H

#include <check.h>

/* Both take the suite and return the program's exit code: 0, all have passed, or 1. Each test runs in a process of its
 * own, unless the environment says otherwise (CK_FORK=no). */
int suite_run(Suite *s);
/* All in this process: there is one Python for the whole program. */
int suite_run_here(Suite *s);

#endif
