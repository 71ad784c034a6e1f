/* An epmd in a thread, for tests that must not need Erlang or disturb a real one. */
#ifndef PYN_TEST_EPMD_RIG_H
#define PYN_TEST_EPMD_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include "base/clock.h"

enum { EPMD_RIG_CONNECTIONS = 64 };

enum epmd_rig_mode {
    EPMD_RIG_GOOD,
    EPMD_RIG_OLD,          /* answers ALIVE2_RESP with a small creation */
    EPMD_RIG_SILENT,       /* reads and says nothing */
    EPMD_RIG_GARBAGE,      /* answers with bytes of its own */
    EPMD_RIG_GARBAGE_ONCE, /* then it is silent */
    EPMD_RIG_RUDE,         /* closes at once */
};

struct epmd_rig {
    uint16_t port;
    enum epmd_rig_mode mode;
    atomic_uint registrations; /* all that ever were */
    atomic_uint registered;    /* at the moment */
    atomic_uint requests;
    atomic_bool stop;
    pthread_t thread;
    int listen_fd;
    struct {
        int fd;
        char name[256]; /* "" while nothing is registered over it */
        uint16_t port;
    } at[EPMD_RIG_CONNECTIONS];
};

/* port 0: any. The first creation given out is 1000, then 1001 ... */
void epmd_rig_start(struct epmd_rig *r, uint16_t port, enum epmd_rig_mode mode);
/* Closes everything, as when epmd is killed. */
void epmd_rig_stop(struct epmd_rig *r);
/* A port that nobody listens on. */
uint16_t epmd_rig_free_port(void);

#endif
