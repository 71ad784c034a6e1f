/* Starting epmd where none runs, as every Erlang node does. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dist/epmd.h"

extern char **environ;

enum { LOOK_AGAIN_MS = 10 };

/* Where Erlang keeps it when it is not in PATH. */
static const char *const usual_places[] = {
    "/usr/bin/epmd",
    "/usr/local/bin/epmd",
    "/usr/lib/erlang/bin/epmd",
    "/usr/lib/erlang/erts-*/bin/epmd",
    "/usr/lib64/erlang/erts-*/bin/epmd",
    "/usr/local/lib/erlang/erts-*/bin/epmd",
    "/opt/erlang/erts-*/bin/epmd",
    "/opt/homebrew/lib/erlang/erts-*/bin/epmd",
};

/* The child has /dev/null for its three streams and none of our signal settings (SIGPIPE is ignored here). */
static int spawn(const char *program, char *port_text, pid_t *pid)
{
    char *argv[] = {(char *)"epmd", (char *)"-daemon", (char *)"-port", port_text, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int rc;

    rc = posix_spawn_file_actions_init(&files);
    if (rc != 0)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc != 0) {
        posix_spawn_file_actions_destroy(&files);
        return rc;
    }
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawnp(pid, program, &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

static int spawn_usual(char *port_text, pid_t *pid)
{
    int rc = ENOENT;

    for (size_t i = 0; i < sizeof(usual_places) / sizeof(usual_places[0]) && rc != 0; i++) {
        glob_t found;
        if (glob(usual_places[i], 0, NULL, &found) != 0)
            continue;
        for (size_t k = 0; k < found.gl_pathc && rc != 0; k++)
            rc = spawn(found.gl_pathv[k], port_text, pid);
        globfree(&found);
    }
    return rc;
}

/* `epmd -daemon` forks and its parent exits at once. One that does not is killed: it never went into the background. */
static bool wait_for(pid_t pid, const struct pyn_wait *w, char *reason, size_t reason_size)
{
    int status = 0;

    for (;;) {
        struct pyn_wait step = pyn_wait_step(w, LOOK_AGAIN_MS);
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            break;
        if (!pyn_wait_out(&step) || pyn_now() >= w->deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            snprintf(reason, reason_size, "epmd -daemon did not go into the background");
            return false;
        }
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        snprintf(reason, reason_size, "epmd could not be run");
        return false;
    }
    return true;
}

bool pyn_epmd_launch(uint16_t epmd_port, const struct pyn_wait *w, char *reason, size_t reason_size)
{
    char port_text[8];
    pid_t pid = 0;
    int rc;

    snprintf(port_text, sizeof(port_text), "%u", (unsigned)epmd_port);
    rc = spawn("epmd", port_text, &pid);
    if (rc != 0)
        rc = spawn_usual(port_text, &pid);
    if (rc != 0) {
        snprintf(reason, reason_size, "the program epmd cannot be run: %s", strerror(rc));
        return false;
    }
    return wait_for(pid, w, reason, reason_size);
}
