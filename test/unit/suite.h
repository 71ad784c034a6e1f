/* What every test program has: its main, which runs its suite, and how it waits. Brings Check with it. */
#ifndef PYN_TEST_SUITE_H
#define PYN_TEST_SUITE_H

#include <check.h>
#include <unistd.h>

#include "base/clock.h"

enum { WAIT_MS = 20000 };

/* Both take the suite and return the program's exit code: 0, all have passed, or 1. Each test runs in a process of its
 * own, unless the environment says otherwise (CK_FORK=no). */
int suite_run(Suite *s);
/* All in this process: there is one Python for the whole program. */
int suite_run_here(Suite *s);

/* Does the step until the condition holds; fails the test, and shows the text, when it takes too long. */
#define wait_until_by(step, condition, text)                                                                           \
    do {                                                                                                               \
        uint64_t wait_until_end = pyn_now() + WAIT_MS * PYN_MS;                                                        \
        while (!(condition)) {                                                                                         \
            ck_assert_msg(pyn_now() < wait_until_end, "never came true: %s", text);                                    \
            step;                                                                                                      \
        }                                                                                                              \
    } while (0)

/* Beside the threads that make it true. One that looks again and again without sleeping could keep them out for ever
 * where only one thread runs at a time, as under valgrind. */
#define wait_until(condition) wait_until_by(usleep(200), condition, #condition)

#endif
