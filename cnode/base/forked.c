#include "base/forked.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

/* Descriptors from here on are not looked after; a process has rarely so many. */
enum { FDS = 1 << 17, WORD = 64 };

static _Atomic uint64_t owned[FDS / WORD];
static atomic_bool forked;

/* In the child, of whose threads only this one is left: no lock can be trusted, close and atomics can. */
static void on_fork(void)
{
    atomic_store(&forked, true);
    for (int word = 0; word < FDS / WORD; word++) {
        uint64_t bits = atomic_exchange(&owned[word], 0);
        for (int bit = 0; bits != 0; bit++, bits >>= 1)
            if (bits & 1)
                close(word * WORD + bit);
    }
}

void pyn_forked_init(void)
{
    pthread_atfork(NULL, NULL, on_fork);
}

bool pyn_forked(void)
{
    return atomic_load_explicit(&forked, memory_order_relaxed);
}

int pyn_fd_own(int fd)
{
    if (fd >= 0 && fd < FDS)
        atomic_fetch_or(&owned[fd / WORD], UINT64_C(1) << fd % WORD);
    return fd;
}

void pyn_fd_close(int fd)
{
    if (fd >= 0 && fd < FDS)
        atomic_fetch_and(&owned[fd / WORD], ~(UINT64_C(1) << fd % WORD));
    close(fd);
}
