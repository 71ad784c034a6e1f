#include "base/clock.h"

#include <limits.h>
#include <time.h>

uint64_t pyn_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * PYN_SECOND + (uint64_t)ts.tv_nsec;
}

uint64_t pyn_deadline_in(uint64_t now, uint64_t ms)
{
    if (ms > (PYN_NEVER - now) / PYN_MS)
        return PYN_NEVER;
    return now + ms * PYN_MS;
}

int pyn_poll_ms(uint64_t now, uint64_t deadline)
{
    uint64_t ms;

    if (deadline == PYN_NEVER)
        return -1;
    if (deadline <= now)
        return 0;
    ms = (deadline - now - 1) / PYN_MS + 1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
