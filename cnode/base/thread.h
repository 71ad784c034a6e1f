/* Starting threads that run no Python code, and waking one that waits in poll(). */
#ifndef PYN_BASE_THREAD_H
#define PYN_BASE_THREAD_H

#include <pthread.h>

#include "base/defs.h"

/* Starts a thread that receives no signals. stack 0: the system's default. t NULL: detached. 0 or an errno. */
PYN_MUSTCHECK int pyn_thread_start(pthread_t *t, size_t stack, void *(*run)(void *), void *arg);
/* A condition whose timed waits are by the monotonic clock, as pyn_now() is. */
void pyn_cond_init(pthread_cond_t *c);
/* Names the calling thread; at most 15 characters. */
void pyn_thread_name(const char *name);

/* A descriptor that polls readable from raise to clear. -1 with errno when the system has none left. */
PYN_MUSTCHECK int pyn_wake_new(void);
void pyn_wake_raise(int fd); /* async-signal-safe */
void pyn_wake_clear(int fd);

#endif
