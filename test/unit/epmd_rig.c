#include "unit/epmd_rig.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "dist/net.h"

static void let_go(struct epmd_rig *r, int i)
{
    close(r->at[i].fd);
    r->at[i].fd = -1;
    if (r->at[i].name[0] != '\0')
        atomic_fetch_sub(&r->registered, 1);
    r->at[i].name[0] = '\0';
}

static int find(const struct epmd_rig *r, const char *name)
{
    for (int i = 0; i < EPMD_RIG_CONNECTIONS; i++) {
        if (r->at[i].fd >= 0 && strcmp(r->at[i].name, name) == 0)
            return i;
    }
    return -1;
}

static void answer(int fd, const void *bytes, size_t n)
{
    ssize_t put = send(fd, bytes, n, MSG_NOSIGNAL);
    (void)put;
}

/* len, 120, port, type, protocol, highest, lowest, name length, name, extra length */
static bool alive2(struct epmd_rig *r, int i, const uint8_t *m)
{
    uint8_t reply[6] = {118, 0};
    char name[256];

    ck_assert_uint_eq(m[5], 72);
    ck_assert_uint_eq(pyn_get_be16(m + 7), 6);
    ck_assert_uint_eq(pyn_get_be16(m + 9), 5);
    snprintf(name, sizeof(name), "%.*s", pyn_get_be16(m + 11), (const char *)m + 13);
    pyn_put_be32(reply + 2, 1000 + atomic_load(&r->registrations));
    if (find(r, name) >= 0) {
        reply[1] = 1;
        answer(r->at[i].fd, reply, 6);
        return false;
    }
    /* Before the answer: who has it may look. */
    snprintf(r->at[i].name, sizeof(r->at[i].name), "%s", name);
    r->at[i].port = pyn_get_be16(m + 3);
    atomic_fetch_add(&r->registrations, 1);
    atomic_fetch_add(&r->registered, 1);
    if (r->mode == EPMD_RIG_OLD)
        answer(r->at[i].fd, "y\0\0\2", 4);
    else
        answer(r->at[i].fd, reply, 6);
    return true;
}

static void port_please(struct epmd_rig *r, int i, const uint8_t *m)
{
    uint8_t reply[14] = {119, 0, 0, 0, 77, 0, 0, 6, 0, 5, 0, 0, 0, 0};
    char name[256];
    int k;

    snprintf(name, sizeof(name), "%.*s", pyn_get_be16(m) - 1, (const char *)m + 3);
    k = find(r, name);
    if (k < 0) {
        answer(r->at[i].fd, "w\1", 2);
        return;
    }
    reply[2] = (uint8_t)(r->at[k].port >> 8);
    reply[3] = (uint8_t)r->at[k].port;
    answer(r->at[i].fd, reply, sizeof(reply));
}

static void names(struct epmd_rig *r, int i)
{
    char line[300];

    answer(r->at[i].fd, "\0\0\x11\x11", 4);
    for (int k = 0; k < EPMD_RIG_CONNECTIONS; k++) {
        if (r->at[k].fd >= 0 && r->at[k].name[0] != '\0') {
            snprintf(line, sizeof(line), "name %s at port %u\n", r->at[k].name, (unsigned)r->at[k].port);
            answer(r->at[i].fd, line, strlen(line));
        }
    }
}

/* false: the connection is over. Requests are small: one read has the whole of it. */
static bool serve(struct epmd_rig *r, int i)
{
    uint8_t m[512] = {0};

    if (recv(r->at[i].fd, m, sizeof(m) - 1, 0) <= 2)
        return false;
    atomic_fetch_add(&r->requests, 1);
    if (r->mode == EPMD_RIG_SILENT)
        return true;
    if (r->mode == EPMD_RIG_GARBAGE_ONCE && atomic_load(&r->requests) > 1)
        return true;
    if (r->mode == EPMD_RIG_GARBAGE || r->mode == EPMD_RIG_GARBAGE_ONCE)
        answer(r->at[i].fd, "220 mail.example.org ready", 26);
    else if (r->mode != EPMD_RIG_RUDE && m[2] == 120)
        return alive2(r, i, m);
    else if (r->mode != EPMD_RIG_RUDE && m[2] == 122)
        port_please(r, i, m);
    else if (r->mode != EPMD_RIG_RUDE && m[2] == 110)
        names(r, i);
    return false;
}

static void let_in(struct epmd_rig *r)
{
    int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    for (int i = 0; i < EPMD_RIG_CONNECTIONS && fd >= 0; i++) {
        if (r->at[i].fd < 0) {
            r->at[i].fd = fd;
            return;
        }
    }
    if (fd >= 0)
        close(fd);
}

static void *run(void *arg)
{
    struct epmd_rig *r = arg;
    struct pollfd p[EPMD_RIG_CONNECTIONS + 1];

    while (!atomic_load(&r->stop)) {
        for (int i = 0; i < EPMD_RIG_CONNECTIONS; i++)
            p[i] = (struct pollfd){.fd = r->at[i].fd, .events = POLLIN};
        p[EPMD_RIG_CONNECTIONS] = (struct pollfd){.fd = r->listen_fd, .events = POLLIN};
        poll(p, EPMD_RIG_CONNECTIONS + 1, 5);
        for (int i = 0; i < EPMD_RIG_CONNECTIONS; i++) {
            if (p[i].fd >= 0 && p[i].revents && !serve(r, i))
                let_go(r, i);
        }
        if (p[EPMD_RIG_CONNECTIONS].revents)
            let_in(r);
    }
    return NULL;
}

void epmd_rig_start(struct epmd_rig *r, uint16_t port, enum epmd_rig_mode mode)
{
    memset(r, 0, sizeof(*r));
    r->port = port;
    r->mode = mode;
    for (int i = 0; i < EPMD_RIG_CONNECTIONS; i++)
        r->at[i].fd = -1;
    ck_assert_int_eq(pyn_net_listen("127.0.0.1", &r->port, &r->listen_fd), 0);
    ck_assert_int_eq(pthread_create(&r->thread, NULL, run, r), 0);
}

void epmd_rig_stop(struct epmd_rig *r)
{
    atomic_store(&r->stop, true);
    pthread_join(r->thread, NULL);
    for (int i = 0; i < EPMD_RIG_CONNECTIONS; i++) {
        if (r->at[i].fd >= 0)
            let_go(r, i);
    }
    close(r->listen_fd);
}

uint16_t epmd_rig_free_port(void)
{
    uint16_t port = 0;
    int fd;

    ck_assert_int_eq(pyn_net_listen("127.0.0.1", &port, &fd), 0);
    close(fd);
    return port;
}
