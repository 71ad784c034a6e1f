/* Waiting for sockets without going to sleep where that pays.
 *
 * To be woken takes a thread longer than most calls do, and it costs the peer, too: its write has to wake somebody. So
 * where the last message came soon after the one before, the next wait asks again and again for a moment before it
 * sleeps, giving the processor away in between to whoever else can use it. Where messages are rare it sleeps at once,
 * and so it does for a while on a machine whose processors are all taken; an idle node never asks. One thread at a
 * time. */
#ifndef PYN_DIST_SPIN_H
#define PYN_DIST_SPIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct pyn_spin {
    uint64_t window;        /* ns to ask before sleeping; 0: never */
    uint64_t last;          /* ns that the last wait took until something came */
    unsigned vain;          /* how often it has asked in vain since it asked with success */
    bool gave_slice;        /* it lost the processor for long in between */
    uint64_t crowded_until; /* others want the processor: no asking before that time */
};

struct pyn_spin pyn_spin_init(unsigned window_us);
/* As epoll_wait without a time limit; eager: this thread has nothing to do that others wait for, and may ask for a
 * while. */
int pyn_spin_wait(struct pyn_spin *s, int epoll_fd, struct epoll_event *events, int max, bool eager);
/* What the wait was for: so many messages. */
void pyn_spin_got(struct pyn_spin *s, int messages);

#endif
