#include "dist/registration.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/forked.h"
#include "base/log.h"
#include "base/thread.h"

enum {
    REQUEST_MS = 5000,
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 10000,
    /* A node that was killed is in epmd's list until epmd has looked at its socket again. */
    TAKEN_MS = 500,
    NAMES_TEXT = 512,
};

struct pyn_registration {
    uint16_t epmd_port;
    bool launch;
    char alive[256];
    uint16_t port;
    int stop_fd;
    int fd; /* of the registration; belongs to the thread once that runs */
    uint32_t creation;
    char launch_reason[128]; /* why epmd could not be started, "" */
    pthread_t thread;
};

/* One attempt, with epmd started where nobody answers and we may. */
static enum pyn_epmd_result attempt(struct pyn_registration *r, const struct pyn_wait *w, uint32_t *creation)
{
    struct pyn_wait step = pyn_wait_step(w, REQUEST_MS);
    enum pyn_epmd_result result = pyn_epmd_register(r->epmd_port, r->alive, r->port, &step, &r->fd, creation);

    if (result != PYN_EPMD_UNREACHABLE || !r->launch)
        return result;
    step = pyn_wait_step(w, REQUEST_MS);
    if (!pyn_epmd_launch(r->epmd_port, &step, r->launch_reason, sizeof(r->launch_reason)))
        return result;
    return pyn_epmd_register(r->epmd_port, r->alive, r->port, &step, &r->fd, creation);
}

static enum pyn_epmd_result first(struct pyn_registration *r, const struct pyn_wait *w)
{
    uint64_t taken_until = pyn_deadline_in(pyn_now(), TAKEN_MS);
    uint64_t pause_ms = RETRY_MIN_MS;
    enum pyn_epmd_result before = PYN_EPMD_TIMED_OUT;

    for (;;) {
        enum pyn_epmd_result result = attempt(r, w, &r->creation);
        struct pyn_wait pause = pyn_wait_step(w, pyn_jitter(pause_ms));
        bool give_up = result == PYN_EPMD_OK || result == PYN_EPMD_STOPPED || pause.deadline >= w->deadline ||
                       (result == PYN_EPMD_TAKEN && pyn_now() >= taken_until);
        /* An attempt that the end of the time cut short says less than the one before it. */
        if (result == PYN_EPMD_TIMED_OUT)
            result = before;
        before = result;
        if (give_up || !pyn_wait_out(&pause))
            return result;
        if (result != PYN_EPMD_TAKEN)
            pause_ms *= 2;
    }
}

static void explain(const struct pyn_registration *r, enum pyn_epmd_result result, char *error, size_t size)
{
    char names[NAMES_TEXT] = "?";
    struct pyn_wait w = {.deadline = pyn_deadline_in(pyn_now(), REQUEST_MS), .stop_fd = r->stop_fd, .cancel_fd = -1};

    if (result == PYN_EPMD_TAKEN) {
        if (pyn_epmd_names(r->epmd_port, &w, names, sizeof(names)) != PYN_EPMD_OK)
            snprintf(names, sizeof(names), "no answer");
        snprintf(error, size, "the name %s is in use on this host (epmd on port %u has: %s)", r->alive,
                 (unsigned)r->epmd_port, names);
    } else if (result == PYN_EPMD_UNREACHABLE) {
        snprintf(error, size, "epmd cannot be reached on port %u%s%s", (unsigned)r->epmd_port,
                 r->launch ? "; starting it: " : " (and is not to be started)",
                 r->launch && r->launch_reason[0] == '\0' ? "it still does not answer" : r->launch_reason);
    } else {
        snprintf(error, size, "epmd on port %u: %s", (unsigned)r->epmd_port, pyn_epmd_text(result));
    }
}

/* Returns when epmd has closed the registration (true) or the node stops (false). epmd never sends anything on it. */
static bool wait_for_loss(struct pyn_registration *r)
{
    struct pyn_wait w = {.deadline = PYN_NEVER, .stop_fd = r->stop_fd, .cancel_fd = -1};
    char byte;
    int rc;

    do {
        rc = pyn_net_read(r->fd, &byte, 1, &w);
    } while (rc == 0);
    return rc != ECANCELED;
}

/* true when registered again, false when the node stops. */
static bool again(struct pyn_registration *r)
{
    struct pyn_wait w = {.deadline = PYN_NEVER, .stop_fd = r->stop_fd, .cancel_fd = -1};
    uint64_t pause_ms = RETRY_MIN_MS;
    enum pyn_epmd_result before = PYN_EPMD_OK;

    for (;;) {
        struct pyn_wait pause = pyn_wait_step(&w, pyn_jitter(pause_ms));
        enum pyn_epmd_result result;
        uint32_t unused;
        if (!pyn_wait_out(&pause))
            return false;
        result = attempt(r, &w, &unused);
        if (result == PYN_EPMD_OK)
            return true;
        if (result == PYN_EPMD_STOPPED)
            return false;
        pyn_log(result == before ? PYN_DEBUG : PYN_WARNING, "epmd", "cannot register %s again yet: %s", r->alive,
                pyn_epmd_text(result));
        before = result;
        pause_ms = pause_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : pause_ms * 2;
    }
}

static void *run(void *arg)
{
    struct pyn_registration *r = arg;

    pyn_thread_name("pyn-epmd");
    while (wait_for_loss(r)) {
        pyn_fd_close(r->fd);
        r->fd = -1;
        pyn_log(PYN_WARNING, "epmd", "epmd closed the registration of %s; registering again", r->alive);
        if (!again(r))
            break;
        pyn_log(PYN_NOTICE, "epmd", "registered %s again", r->alive);
    }
    return NULL;
}

static void discard(struct pyn_registration *r)
{
    if (r->fd >= 0)
        pyn_fd_close(r->fd);
    free(r);
}

struct pyn_registration *pyn_registration_start(const struct pyn_registration_config *config,
                                                enum pyn_epmd_result *result, char *error, size_t error_size)
{
    struct pyn_wait w = {
        .deadline = pyn_deadline_in(pyn_now(), config->first_ms), .stop_fd = config->stop_fd, .cancel_fd = -1};
    struct pyn_registration *r = calloc(1, sizeof(*r));
    int rc;

    *result = PYN_EPMD_BROKEN;
    if (r == NULL) {
        snprintf(error, error_size, "no memory for the registration at epmd");
        return NULL;
    }
    r->fd = -1;
    r->epmd_port = config->epmd_port;
    r->launch = config->launch;
    snprintf(r->alive, sizeof(r->alive), "%s", config->alive);
    r->port = config->port;
    r->stop_fd = config->stop_fd;
    *result = first(r, &w);
    if (*result != PYN_EPMD_OK) {
        explain(r, *result, error, error_size);
        discard(r);
        return NULL;
    }
    rc = pyn_thread_start(&r->thread, 0, run, r);
    if (rc != 0) {
        snprintf(error, error_size, "cannot start the thread for epmd: %s", strerror(rc));
        *result = PYN_EPMD_BROKEN;
        discard(r);
        return NULL;
    }
    return r;
}

uint32_t pyn_registration_creation(const struct pyn_registration *r)
{
    return r->creation;
}

void pyn_registration_stop(struct pyn_registration *r)
{
    pthread_join(r->thread, NULL);
    discard(r);
}
