#include "base/thread.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

int pyn_thread_start(pthread_t *t, size_t stack, void *(*run)(void *), void *arg)
{
    pthread_attr_t attr;
    pthread_t unnamed;
    sigset_t all, before;
    int rc;

    rc = pthread_attr_init(&attr);
    if (rc != 0)
        return rc;
    if (stack > 0)
        rc = pthread_attr_setstacksize(&attr, stack);
    if (rc == 0 && t == NULL)
        rc = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (rc == 0) {
        /* A new thread inherits the mask; signals are for the thread that asked for them. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        rc = pthread_create(t ? t : &unnamed, &attr, run, arg);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attr);
    return rc;
}

void pyn_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

void pyn_thread_name(const char *name)
{
    pthread_setname_np(pthread_self(), name);
}

int pyn_wake_new(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void pyn_wake_raise(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof(one));
    (void)n; /* it fails only when the counter is full, and then it is raised already */
}

void pyn_wake_clear(int fd)
{
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));
    (void)n; /* nothing to read: it was clear */
}
