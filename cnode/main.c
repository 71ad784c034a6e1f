/* Start order, and in reverse the stop order. The only file that knows every layer. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/cli.h"
#include "app/config.h"
#include "app/signals.h"
#include "base/clock.h"
#include "base/forked.h"
#include "base/log.h"

enum { ERROR_MAX = 1024 };

/* What is there once everything runs; each part stops what it started. */
struct program {
    struct pyn_config config;
    char *cookie;
    int signal_fd;
    int parent_fd; /* where standard input was; -1: it is not looked at */
    struct pyn_service *service;
    struct pyn_node *node;
    enum pyn_node_failure failure;
};

static int fail(enum pyn_exit code, const char *sentence)
{
    pyn_log(PYN_ERROR, "main", "%s", sentence);
    return (int)code;
}

static enum pyn_exit exit_code(enum pyn_node_failure failure)
{
    switch (failure) {
    case PYN_NODE_NAME_TAKEN:
        return PYN_EXIT_NAME_TAKEN;
    case PYN_NODE_NO_EPMD:
        return PYN_EXIT_NO_EPMD;
    case PYN_NODE_BAD_NAME:
        return PYN_EXIT_USAGE;
    case PYN_NODE_FAILED:
        break;
    }
    return PYN_EXIT_FAILED;
}

static void log_ready(const struct program *p)
{
    pyn_log(PYN_NOTICE, "main", "node ready name=%s port=%u mode=%s workers=%u python=%s", pyn_node_name(p->node),
            (unsigned)pyn_node_port(p->node), pyn_mode_name(pyn_host_mode()), p->config.service.workers,
            pyn_host_version());
}

/* ---- waiting for the end ---- */

/* Standard input is not for Python code: what reads it finds its end. */
static bool take_input(struct program *p)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool ok;

    p->parent_fd = p->config.parent_pipe ? pyn_fd_own(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)) : -1;
    ok = null >= 0 && (p->parent_fd >= 0 || !p->config.parent_pipe) && dup2(null, STDIN_FILENO) == STDIN_FILENO;
    if (null > STDIN_FILENO)
        close(null);
    return ok;
}

/* true when standard input has reached its end: whoever started us is gone. */
static bool parent_gone(struct pollfd *fd)
{
    char bytes[256];

    if (!(fd->revents & (POLLIN | POLLHUP | POLLERR)))
        return false;
    return read(fd->fd, bytes, sizeof(bytes)) <= 0;
}

/* Returns the exit code that the cause stands for. */
static enum pyn_exit wait_for_end(const struct program *p)
{
    struct pollfd fds[3] = {
        {.fd = p->signal_fd, .events = POLLIN},
        {.fd = pyn_service_fatal_fd(p->service), .events = POLLIN},
        {.fd = p->parent_fd, .events = POLLIN},
    };

    for (;;) {
        if (poll(fds, 3, -1) < 0)
            continue; /* interrupted: the signal's descriptor is readable next */
        if (fds[1].revents)
            return PYN_EXIT_STUCK;
        if (fds[0].revents) {
            pyn_log(PYN_NOTICE, "main", "%s: stopping", strsignal(pyn_signals_caught()));
            return PYN_EXIT_OK;
        }
        if (parent_gone(&fds[2])) {
            pyn_log(PYN_NOTICE, "main", "the parent's pipe was closed: stopping");
            return PYN_EXIT_OK;
        }
    }
}

/* ---- stop ---- */

/* How much longer threads and Python may take once every call has ended or was interrupted. Only a machine that stands
 * still for seconds needs so long, when nothing is stuck. */
#define LAST_GRACE (4 * PYN_SECOND)

static int stop(struct program *p, enum pyn_exit code)
{
    uint64_t deadline = pyn_deadline_in(pyn_now(), p->config.drain_ms);
    bool drained;

    if (p->node)
        pyn_node_stop_listening(p->node);
    drained = pyn_service_drain(p->service, deadline);
    if (!drained)
        pyn_log(PYN_WARNING, "main", "calls still run at the end of the drain time: they are interrupted");
    if (!pyn_service_stop(p->service, pyn_now() + LAST_GRACE)) {
        /* A thread sits in C code that does not return: nothing that it may touch can be freed. */
        pyn_log(PYN_WARNING, "main", "a worker did not end: leaving without it");
        if (p->node)
            pyn_node_stop(p->node); /* unregisters */
        _exit(code == PYN_EXIT_OK ? PYN_EXIT_NOT_DRAINED : (int)code);
    }
    if (p->node)
        pyn_node_stop(p->node);
    pyn_links_stop(pyn_service_links(p->service));
    if (code == PYN_EXIT_OK && !drained)
        code = PYN_EXIT_NOT_DRAINED;
    pyn_log(PYN_NOTICE, "main", "stopped");
    return (int)code;
}

/* ---- start ---- */

static int run(struct program *p)
{
    char error[ERROR_MAX];

    pyn_forked_init();
    if (!take_input(p))
        return fail(PYN_EXIT_FAILED, "standard input could not be put aside");
    p->signal_fd = pyn_signals_install(PYN_EXIT_NOT_DRAINED);
    if (p->signal_fd < 0)
        return fail(PYN_EXIT_FAILED, "signal handlers could not be installed");
    if (!pyn_cookie_read(p->config.cookie, &p->cookie, error, sizeof(error)))
        return fail(PYN_EXIT_USAGE, error);
    p->config.node.cookie = p->cookie;
    p->config.node.failure = &p->failure;
    if (!pyn_host_start(&p->config.host, error, sizeof(error)))
        return fail(PYN_EXIT_PYTHON, error);
    p->service = pyn_service_start(&p->config.service, error, sizeof(error));
    if (!p->service)
        return fail(PYN_EXIT_PYTHON, error);
    p->node = pyn_node_start(&p->config.node, pyn_service_links(p->service), error, sizeof(error));
    if (!p->node) {
        pyn_log(PYN_ERROR, "main", "%s", error);
        return stop(p, exit_code(p->failure));
    }
    pyn_host_set_node_name(pyn_node_name(p->node));
    pyn_service_ready(p->service, p->node);
    log_ready(p);
    return stop(p, wait_for_end(p));
}

enum { PYTHON_END_SECONDS = 5 };

static volatile sig_atomic_t code_at_end;

static void leave(int signal)
{
    (void)signal;
    _exit(code_at_end);
}

/* Python's end waits for threads that Python code has started, without a limit: ours is here. Everything else has been
 * stopped by now; what these threads may look at until Python has ended is freed after it. */
static void finish(struct program *p, int code)
{
    code_at_end = code;
    signal(SIGALRM, leave);
    alarm(PYTHON_END_SECONDS);
    pyn_host_stop();
    alarm(0);
    pyn_service_free(p->service);
    if (p->node)
        pyn_node_free(p->node);
}

int main(int argc, char **argv)
{
    struct program p = {0};
    char error[ERROR_MAX];
    const char *reason;
    int code;

    switch (pyn_config_parse(&p.config, argc, argv, error, sizeof(error))) {
    case PYN_CONFIG_HELP:
        pyn_cli_help(stdout);
        pyn_config_free(&p.config);
        return PYN_EXIT_OK;
    case PYN_CONFIG_VERSION:
        pyn_cli_version(stdout, pyn_host_version(), PYN_EI_VERSION, pyn_mode_name(pyn_mode_detect(&reason)));
        pyn_config_free(&p.config);
        return PYN_EXIT_OK;
    case PYN_CONFIG_BAD:
        fprintf(stderr, "pynode: %s\n", error);
        pyn_config_free(&p.config);
        return PYN_EXIT_USAGE;
    case PYN_CONFIG_RUN:
        break;
    }
    pyn_log_set_level(p.config.log_level);
    code = run(&p);
    if (p.service && code != PYN_EXIT_PYTHON)
        finish(&p, code);
    free(p.cookie);
    pyn_config_free(&p.config);
    return code;
}
