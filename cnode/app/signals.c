#include "app/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"

enum { CAUGHT = 2 };

static const int caught_signals[CAUGHT] = {SIGTERM, SIGINT};

/* Written by pyn_signals_install before any handler can run, but for `first`, which the handlers set. */
static struct {
    int fd;
    int hurry_code;
    pid_t pid;
    atomic_int first;
    struct sigaction old[CAUGHT];
    struct sigaction old_pipe;
} state = {.fd = -1};

/* Async-signal-safe: an atomic exchange, write, raise and _exit. */
static void on_signal(int number)
{
    int none = 0;
    int saved = errno;

    if (getpid() != state.pid) { /* forked this very moment: the signal is none for the node */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    if (!atomic_compare_exchange_strong(&state.first, &none, number))
        _exit(state.hurry_code);
    pyn_wake_raise(state.fd);
    errno = saved;
}

static int set_action(int number, void (*handler)(int), struct sigaction *old)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    return sigaction(number, &action, old);
}

/* Also in a process that was forked: a signal to it is none for the node. Async-signal-safe. */
static void restore(void)
{
    for (int i = 0; i < CAUGHT; i++)
        sigaction(caught_signals[i], &state.old[i], NULL);
    sigaction(SIGPIPE, &state.old_pipe, NULL);
}

int pyn_signals_install(int hurry_code)
{
    state.fd = pyn_wake_new();
    if (state.fd < 0)
        return -1;
    state.hurry_code = hurry_code;
    state.pid = getpid();
    atomic_store(&state.first, 0);
    if (set_action(SIGPIPE, SIG_IGN, &state.old_pipe) != 0)
        return -1;
    for (int i = 0; i < CAUGHT; i++) {
        if (set_action(caught_signals[i], on_signal, &state.old[i]) != 0)
            return -1;
    }
    pthread_atfork(NULL, NULL, restore);
    return state.fd;
}

int pyn_signals_caught(void)
{
    return atomic_load(&state.first);
}

void pyn_signals_restore(void)
{
    if (state.fd < 0)
        return;
    restore();
    close(state.fd);
    state.fd = -1;
}
