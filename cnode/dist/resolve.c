#include "dist/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"

/* Shared by the asking and the looking thread; whoever is last frees it. The answer is written by the looking thread
 * before it sets `done`, and read by the other one after it saw that. */
struct question {
    atomic_uint refs;
    atomic_bool done;
    int done_fd;
    int error; /* EAI_*, 0 */
    unsigned count;
    struct pyn_address found[PYN_RESOLVE_MAX];
    char host[256];
};

static void drop(struct question *q)
{
    if (atomic_fetch_sub(&q->refs, 1) != 1)
        return;
    close(q->done_fd);
    free(q);
}

static void collect(struct question *q, const struct addrinfo *list, int family)
{
    for (const struct addrinfo *a = list; a != NULL && q->count < PYN_RESOLVE_MAX; a = a->ai_next) {
        struct pyn_address *to = &q->found[q->count];
        if (a->ai_family != family || a->ai_addrlen > sizeof(to->at))
            continue;
        memset(to, 0, sizeof(*to));
        memcpy(&to->at, a->ai_addr, a->ai_addrlen);
        to->len = a->ai_addrlen;
        q->count++;
    }
}

static void *look(void *arg)
{
    struct question *q = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;

    pyn_thread_name("pyn-resolve");
    q->error = getaddrinfo(q->host, NULL, &hints, &list);
    if (q->error == 0) {
        collect(q, list, AF_INET);
        collect(q, list, AF_INET6);
        freeaddrinfo(list);
    }
    atomic_store(&q->done, true);
    pyn_wake_raise(q->done_fd);
    drop(q);
    return NULL;
}

/* NULL with errno. */
static struct question *ask(const char *host)
{
    struct question *q = calloc(1, sizeof(*q));
    int rc;

    if (q == NULL)
        return NULL;
    snprintf(q->host, sizeof(q->host), "%s", host);
    q->done_fd = pyn_wake_new();
    if (q->done_fd < 0) {
        rc = errno;
        free(q);
        errno = rc;
        return NULL;
    }
    atomic_init(&q->refs, 2);
    rc = pyn_thread_start(NULL, 0, look, q);
    if (rc != 0) {
        close(q->done_fd);
        free(q);
        errno = rc;
        return NULL;
    }
    return q;
}

unsigned pyn_resolve(const char *host, const struct pyn_wait *w, struct pyn_address found[PYN_RESOLVE_MAX],
                     char *reason, size_t reason_size)
{
    struct question *q;
    unsigned n = 0;
    int rc;

    if (pyn_address_parse(host, 0, &found[0]))
        return 1;
    q = ask(host);
    if (q == NULL) {
        snprintf(reason, reason_size, "cannot look up host %s: %s", host, strerror(errno));
        return 0;
    }
    rc = pyn_net_poll(q->done_fd, POLLIN, w);
    if (rc != 0) {
        snprintf(reason, reason_size, "looking up host %s: %s", host, strerror(rc));
    } else if (!atomic_load(&q->done) || q->count == 0) {
        snprintf(reason, reason_size, "host %s is not known: %s", host,
                 q->error ? gai_strerror(q->error) : "no address");
    } else {
        n = q->count;
        memcpy(found, q->found, n * sizeof(found[0]));
    }
    drop(q);
    return n;
}
