#include "dist/spin.h"

#include <sched.h>

#include "base/clock.h"

/* Who yields and comes back only after so long has given somebody a whole slice. Where that was the one who sends,
 * there is much to read now, and asking has paid. Where there is little to read it was somebody else, who never sleeps:
 * on such a machine a thread that sleeps is woken at once, and one that yields waits for slices. */
#define SLICE PYN_MS
#define MUCH 4
#define LOOK_AGAIN_AFTER (200 * PYN_MS)

/* Who has asked in vain so often in a row, as messages come a little slower than the window is long, asks only each
 * so many waits from then on. */
#define VAIN 3
#define TRY_EACH 32

struct pyn_spin pyn_spin_init(unsigned window_us)
{
    return (struct pyn_spin){.window = window_us * (PYN_MS / 1000), .last = PYN_NEVER};
}

/* A thread that slept learns of a message later than it came: hence twice the window. */
static bool pays(struct pyn_spin *s, uint64_t now)
{
    if (s->last >= 2 * s->window || now < s->crowded_until)
        return false;
    return s->vain < VAIN || s->vain++ % TRY_EACH == 0;
}

static void yield(struct pyn_spin *s, uint64_t *now)
{
    uint64_t before = *now;

    sched_yield();
    *now = pyn_now();
    s->gave_slice = s->gave_slice || *now - before > SLICE;
}

/* Returns what epoll_wait does, 0 when the window is over. */
static int ask(struct pyn_spin *s, uint64_t began, int epoll_fd, struct epoll_event *events, int max)
{
    uint64_t now = began;
    int n;

    while ((n = epoll_wait(epoll_fd, events, max, 0)) == 0 && now - began < s->window)
        yield(s, &now);
    s->vain = n > 0 ? 0 : s->vain + 1;
    return n;
}

int pyn_spin_wait(struct pyn_spin *s, int epoll_fd, struct epoll_event *events, int max, bool eager)
{
    uint64_t began = pyn_now();
    int n = 0;

    s->gave_slice = false;
    if (eager && pays(s, began))
        n = ask(s, began, epoll_fd, events, max);
    if (n == 0)
        n = epoll_wait(epoll_fd, events, max, -1);
    s->last = pyn_now() - began;
    return n;
}

void pyn_spin_got(struct pyn_spin *s, int messages)
{
    if (s->gave_slice && messages < MUCH)
        s->crowded_until = pyn_now() + LOOK_AGAIN_AFTER;
}
