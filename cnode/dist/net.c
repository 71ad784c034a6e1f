#include "dist/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/forked.h"

enum { BACKLOG = 512 };

struct pyn_wait pyn_wait_step(const struct pyn_wait *w, uint64_t ms)
{
    struct pyn_wait step = *w;
    uint64_t end = pyn_deadline_in(pyn_now(), ms);

    if (end < step.deadline)
        step.deadline = end;
    return step;
}

int pyn_net_poll(int fd, short events, const struct pyn_wait *w)
{
    struct pollfd p[3] = {
        {.fd = w->stop_fd, .events = POLLIN},
        {.fd = w->cancel_fd, .events = POLLIN},
        {.fd = fd, .events = events},
    };

    for (;;) {
        uint64_t now = pyn_now();
        int n = poll(p, 3, pyn_poll_ms(now, w->deadline));
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0)
            return p[0].revents || p[1].revents ? ECANCELED : 0;
        if (n == 0 && pyn_now() >= w->deadline)
            return ETIMEDOUT;
    }
}

/* A peer that always has a byte ready must not outrun the deadline. */
static int check_time(const struct pyn_wait *w)
{
    return w->deadline != PYN_NEVER && pyn_now() >= w->deadline ? ETIMEDOUT : 0;
}

static bool would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK;
}

int pyn_net_read(int fd, void *bytes, size_t n, const struct pyn_wait *w)
{
    uint8_t *at = bytes;
    int rc = 0;

    while (n > 0 && rc == 0) {
        ssize_t got = recv(fd, at, n, MSG_DONTWAIT);
        if (got > 0) {
            at += got;
            n -= (size_t)got;
            rc = n > 0 ? check_time(w) : 0;
        } else if (got == 0) {
            rc = ENODATA;
        } else if (would_block(errno)) {
            rc = pyn_net_poll(fd, POLLIN, w);
        } else if (errno != EINTR) {
            rc = errno;
        }
    }
    return rc;
}

int pyn_net_write(int fd, const void *bytes, size_t n, const struct pyn_wait *w)
{
    const uint8_t *at = bytes;
    int rc = 0;

    while (n > 0 && rc == 0) {
        ssize_t put = send(fd, at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put >= 0) {
            at += put;
            n -= (size_t)put;
            rc = n > 0 ? check_time(w) : 0;
        } else if (would_block(errno)) {
            rc = pyn_net_poll(fd, POLLOUT, w);
        } else if (errno != EINTR) {
            rc = errno;
        }
    }
    return rc;
}

int pyn_net_connect(const struct pyn_address *to, const struct pyn_wait *w, int *fd)
{
    socklen_t size = sizeof(int);
    int rc = 0;
    int s = pyn_fd_own(socket(to->at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));

    if (s < 0)
        return errno;
    if (connect(s, &to->at.any, to->len) < 0) {
        rc = errno;
        if (rc == EINPROGRESS || rc == EINTR)
            rc = pyn_net_poll(s, POLLOUT, w);
        if (rc == 0 && getsockopt(s, SOL_SOCKET, SO_ERROR, &rc, &size) < 0)
            rc = errno;
    }
    if (rc == 0) {
        *fd = s;
        s = -1;
    }
    if (s >= 0)
        pyn_fd_close(s);
    return rc;
}

int pyn_net_listen(const char *text, uint16_t *port, int *fd)
{
    struct pyn_address a;
    int on = 1, off = 0, rc = 0;
    int s;

    if (!pyn_address_parse(text ? text : "0.0.0.0", *port, &a))
        return EINVAL;
    s = pyn_fd_own(socket(a.at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (s < 0)
        return errno;
    /* A port that was asked for by number must be free again at once after a restart. */
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a.at.any.sa_family == AF_INET6)
        setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(s, &a.at.any, a.len) < 0 || listen(s, BACKLOG) < 0 || getsockname(s, &a.at.any, &a.len) < 0) {
        rc = errno;
        pyn_fd_close(s);
        return rc;
    }
    *port = ntohs(a.at.any.sa_family == AF_INET6 ? a.at.v6.sin6_port : a.at.v4.sin_port);
    *fd = s;
    return 0;
}

bool pyn_address_parse(const char *text, uint16_t port, struct pyn_address *a)
{
    memset(a, 0, sizeof(*a));
    if (inet_pton(AF_INET, text, &a->at.v4.sin_addr) == 1) {
        a->at.v4.sin_family = AF_INET;
        a->len = sizeof(a->at.v4);
    } else if (inet_pton(AF_INET6, text, &a->at.v6.sin6_addr) == 1) {
        a->at.v6.sin6_family = AF_INET6;
        a->len = sizeof(a->at.v6);
    } else {
        return false;
    }
    pyn_address_set_port(a, port);
    return true;
}

void pyn_address_loopback(uint16_t port, struct pyn_address *a)
{
    memset(a, 0, sizeof(*a));
    a->at.v4.sin_family = AF_INET;
    a->at.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a->len = sizeof(a->at.v4);
    pyn_address_set_port(a, port);
}

void pyn_address_set_port(struct pyn_address *a, uint16_t port)
{
    if (a->at.any.sa_family == AF_INET6)
        a->at.v6.sin6_port = htons(port);
    else
        a->at.v4.sin_port = htons(port);
}

void pyn_address_text(const struct pyn_address *a, char *text, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (a->at.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a->at.v6.sin6_addr, host, sizeof(host));
        snprintf(text, size, "[%s]:%u", host, (unsigned)ntohs(a->at.v6.sin6_port));
    } else if (a->at.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->at.v4.sin_addr, host, sizeof(host));
        snprintf(text, size, "%s:%u", host, (unsigned)ntohs(a->at.v4.sin_port));
    } else {
        snprintf(text, size, "a local socket");
    }
}

bool pyn_wait_out(const struct pyn_wait *w)
{
    return pyn_net_poll(-1, 0, w) == ETIMEDOUT;
}

uint64_t pyn_jitter(uint64_t ms)
{
    uint32_t random = 0;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
        random = (uint32_t)pyn_now();
    return ms / 2 + ms * (random % 1024) / 1024;
}
