#include "dist/epmd.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/forked.h"

enum {
    DEFAULT_PORT = 4369,
    ALIVE2_REQ = 120,
    ALIVE2_RESP = 121,
    ALIVE2_X_RESP = 118,
    PORT_PLEASE2_REQ = 122,
    PORT2_RESP = 119,
    NAMES_REQ = 110,
    HIDDEN = 72,
    TCP_IPV4 = 0,
    HIGHEST = 6,
    LOWEST = 5,
    REQUEST_MAX = 512,
    NAMES_MAX = 64 * 1024,
};

const char *pyn_epmd_text(enum pyn_epmd_result r)
{
    static const char *const words[] = {
        [PYN_EPMD_OK] = "ok",
        [PYN_EPMD_UNREACHABLE] = "nobody answers",
        [PYN_EPMD_TAKEN] = "the name is registered already",
        [PYN_EPMD_UNKNOWN] = "the name is not registered",
        [PYN_EPMD_BROKEN] = "what answers is not epmd",
        [PYN_EPMD_TIMED_OUT] = "no answer in time",
        [PYN_EPMD_STOPPED] = "stopped",
    };
    return words[r];
}

uint16_t pyn_epmd_port(uint16_t given)
{
    const char *env = getenv("ERL_EPMD_PORT");
    char *end;
    long n;

    if (given != 0)
        return given;
    if (env != NULL) {
        n = strtol(env, &end, 10);
        if (end != env && *end == '\0' && n > 0 && n <= UINT16_MAX)
            return (uint16_t)n;
    }
    return DEFAULT_PORT;
}

static enum pyn_epmd_result from_errno(int error)
{
    switch (error) {
    case 0:
        return PYN_EPMD_OK;
    case ETIMEDOUT:
        return PYN_EPMD_TIMED_OUT;
    case ECANCELED:
        return PYN_EPMD_STOPPED;
    default:
        return PYN_EPMD_UNREACHABLE;
    }
}

/* The same for an answer that was begun: who closes in the middle of it is no epmd. */
static enum pyn_epmd_result from_answer(int error)
{
    return error == ENODATA ? PYN_EPMD_BROKEN : from_errno(error);
}

/* Connects and sends a request, with its length before it. *fd is open only on OK. */
static enum pyn_epmd_result ask(const struct pyn_address *epmd, const struct pyn_buf *request, const struct pyn_wait *w,
                                int *fd)
{
    uint8_t message[2 + REQUEST_MAX];
    int rc;

    if (request->failed)
        return PYN_EPMD_BROKEN;
    message[0] = (uint8_t)(request->len >> 8);
    message[1] = (uint8_t)request->len;
    memcpy(message + 2, request->data, request->len);
    rc = pyn_net_connect(epmd, w, fd);
    if (rc != 0)
        return from_errno(rc);
    rc = pyn_net_write(*fd, message, 2 + request->len, w);
    if (rc != 0)
        pyn_fd_close(*fd);
    return from_errno(rc);
}

static void put_be16(struct pyn_buf *b, size_t v)
{
    pyn_buf_u8(b, (uint8_t)(v >> 8));
    pyn_buf_u8(b, (uint8_t)v);
}

static void put_alive2(struct pyn_buf *b, const char *alive, uint16_t port)
{
    pyn_buf_u8(b, ALIVE2_REQ);
    put_be16(b, port);
    pyn_buf_u8(b, HIDDEN);
    pyn_buf_u8(b, TCP_IPV4);
    put_be16(b, HIGHEST);
    put_be16(b, LOWEST);
    put_be16(b, strlen(alive));
    pyn_buf_bytes(b, alive, strlen(alive));
    put_be16(b, 0);
}

static enum pyn_epmd_result read_alive2(int fd, const struct pyn_wait *w, uint32_t *creation)
{
    uint8_t answer[6];
    size_t n;
    int rc = pyn_net_read(fd, answer, 2, w);

    if (rc != 0)
        return from_answer(rc);
    if (answer[0] != ALIVE2_RESP && answer[0] != ALIVE2_X_RESP)
        return PYN_EPMD_BROKEN;
    n = answer[0] == ALIVE2_X_RESP ? 4 : 2;
    if (answer[1] != 0)
        return PYN_EPMD_TAKEN; /* the protocol has no other reason that a correct request could meet */
    rc = pyn_net_read(fd, answer + 2, n, w);
    if (rc != 0)
        return from_answer(rc);
    *creation = n == 4 ? pyn_get_be32(answer + 2) : pyn_get_be16(answer + 2);
    return PYN_EPMD_OK;
}

enum pyn_epmd_result pyn_epmd_register(uint16_t epmd_port, const char *alive, uint16_t port, const struct pyn_wait *w,
                                       int *fd, uint32_t *creation)
{
    struct pyn_address epmd;
    struct pyn_buf request;
    enum pyn_epmd_result r;
    int s;

    pyn_address_loopback(epmd_port, &epmd);
    pyn_buf_init(&request, REQUEST_MAX);
    put_alive2(&request, alive, port);
    r = ask(&epmd, &request, w, &s);
    pyn_buf_free(&request);
    if (r != PYN_EPMD_OK)
        return r;
    r = read_alive2(s, w, creation);
    if (r == PYN_EPMD_OK)
        *fd = s;
    else
        pyn_fd_close(s);
    return r;
}

enum pyn_epmd_result pyn_epmd_lookup(const struct pyn_address *epmd, const char *alive, const struct pyn_wait *w,
                                     uint16_t *port)
{
    uint8_t answer[4];
    struct pyn_buf request;
    enum pyn_epmd_result r;
    int fd, rc;

    pyn_buf_init(&request, REQUEST_MAX);
    pyn_buf_u8(&request, PORT_PLEASE2_REQ);
    pyn_buf_bytes(&request, alive, strlen(alive));
    r = ask(epmd, &request, w, &fd);
    pyn_buf_free(&request);
    if (r != PYN_EPMD_OK)
        return r;
    rc = pyn_net_read(fd, answer, 2, w);
    if (rc != 0)
        r = from_answer(rc);
    else if (answer[0] != PORT2_RESP)
        r = PYN_EPMD_BROKEN;
    else if (answer[1] != 0)
        r = PYN_EPMD_UNKNOWN;
    else
        r = from_answer(pyn_net_read(fd, answer + 2, 2, w));
    /* The rest (its type, versions, extra bytes) decides nothing: the handshake tells all of it again. */
    if (r == PYN_EPMD_OK)
        *port = pyn_get_be16(answer + 2);
    pyn_fd_close(fd);
    return r;
}

/* "name py1 at port 4711\n" for each, to "py1 at port 4711, ...". */
static void tidy_names(struct pyn_buf *list, char *text, size_t size)
{
    char *save = NULL;
    size_t n = 0;

    pyn_buf_u8(list, '\0');
    snprintf(text, size, "nothing");
    if (list->failed)
        return;
    for (char *line = strtok_r((char *)list->data, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "name ", 5) == 0)
            line += 5;
        n += (size_t)snprintf(text + n, size - n, "%s%s", n > 0 ? ", " : "", line);
        if (n >= size)
            return;
    }
}

enum pyn_epmd_result pyn_epmd_names(uint16_t epmd_port, const struct pyn_wait *w, char *text, size_t size)
{
    struct pyn_address epmd;
    struct pyn_buf request, list;
    enum pyn_epmd_result r;
    uint8_t bytes[4];
    int fd, rc;

    pyn_address_loopback(epmd_port, &epmd);
    pyn_buf_init(&request, REQUEST_MAX);
    pyn_buf_u8(&request, NAMES_REQ);
    r = ask(&epmd, &request, w, &fd);
    pyn_buf_free(&request);
    if (r != PYN_EPMD_OK)
        return r;
    pyn_buf_init(&list, NAMES_MAX);
    rc = pyn_net_read(fd, bytes, 4, w); /* epmd's own port */
    if (rc == 0) {
        while (!list.failed && (rc = pyn_net_read(fd, bytes, 1, w)) == 0)
            pyn_buf_u8(&list, bytes[0]);
        r = rc == ENODATA || list.failed ? PYN_EPMD_OK : from_answer(rc);
    } else {
        r = from_answer(rc);
    }
    if (r == PYN_EPMD_OK)
        tidy_names(&list, text, size);
    pyn_buf_free(&list);
    pyn_fd_close(fd);
    return r;
}
