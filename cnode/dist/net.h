/* Sockets that never block: every wait is a poll() with a deadline and with descriptors that end it early. */
#ifndef PYN_DIST_NET_H
#define PYN_DIST_NET_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/defs.h"

/* What ends a wait: the deadline (ETIMEDOUT), or one of the two wake descriptors being raised (ECANCELED). */
struct pyn_wait {
    uint64_t deadline;
    int stop_fd;   /* borrowed; -1: none */
    int cancel_fd; /* borrowed; -1: none */
};

/* A socket address of either family. */
struct pyn_address {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage room;
    } at;
};

/* The same wait, over after ms at the latest: a step within a longer one. */
struct pyn_wait pyn_wait_step(const struct pyn_wait *w, uint64_t ms);

/* All of these return 0 or an errno. */
/* Waits until fd is ready for `events` (POLLIN, POLLOUT); fd -1: only waits. */
PYN_MUSTCHECK int pyn_net_poll(int fd, short events, const struct pyn_wait *w);
/* Reads exactly n bytes of a non-blocking socket. ENODATA: the peer closed before that. */
PYN_MUSTCHECK int pyn_net_read(int fd, void *bytes, size_t n, const struct pyn_wait *w);
PYN_MUSTCHECK int pyn_net_write(int fd, const void *bytes, size_t n, const struct pyn_wait *w);
/* A new, connected, non-blocking socket that is closed on exec. */
PYN_MUSTCHECK int pyn_net_connect(const struct pyn_address *to, const struct pyn_wait *w, int *fd);
/* A new listening one. text: a numeric address, NULL for all IPv4 interfaces; "::" takes IPv4 too. port 0: any.
 * The port that it got comes back in *port. */
PYN_MUSTCHECK int pyn_net_listen(const char *text, uint16_t *port, int *fd);

/* A numeric address of either family; false when the text is none. */
PYN_MUSTCHECK bool pyn_address_parse(const char *text, uint16_t port, struct pyn_address *a);
void pyn_address_loopback(uint16_t port, struct pyn_address *a);
void pyn_address_set_port(struct pyn_address *a, uint16_t port);
/* "127.0.0.1:4369" or "[::1]:4369". */
void pyn_address_text(const struct pyn_address *a, char *text, size_t size);

/* Waits for what is left of a wait; true when its time passed, false when it was woken. */
bool pyn_wait_out(const struct pyn_wait *w);

/* ms made up to 50 % longer or shorter at random, so that many nodes do not come back at once. */
uint64_t pyn_jitter(uint64_t ms);

#endif
