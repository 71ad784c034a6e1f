/* Monotonic time in nanoseconds: the only clock that deadlines are told in. */
#ifndef PYN_BASE_CLOCK_H
#define PYN_BASE_CLOCK_H

#include <stdint.h>

#define PYN_NEVER UINT64_MAX
#define PYN_MS UINT64_C(1000000)
#define PYN_SECOND UINT64_C(1000000000)

/* Nanoseconds of CLOCK_MONOTONIC. Any thread. */
uint64_t pyn_now(void);
/* now + ms, PYN_NEVER when that does not fit. */
uint64_t pyn_deadline_in(uint64_t now, uint64_t ms);
/* Milliseconds from now to the deadline, rounded up, for poll(): 0 when it is past, -1 for PYN_NEVER. */
int pyn_poll_ms(uint64_t now, uint64_t deadline);

#endif
