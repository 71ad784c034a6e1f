/* What pynode prints for --help and --version, and its exit codes. */
#ifndef PYN_APP_CLI_H
#define PYN_APP_CLI_H

#include <stdio.h>

enum pyn_exit {
    PYN_EXIT_OK = 0,          /* stopped as asked */
    PYN_EXIT_FAILED = 1,      /* failed at run time */
    PYN_EXIT_USAGE = 2,       /* bad usage or configuration */
    PYN_EXIT_NAME_TAKEN = 3,  /* the name is in use at epmd */
    PYN_EXIT_NO_EPMD = 4,     /* epmd unreachable */
    PYN_EXIT_PYTHON = 5,      /* Python would not start, or cannot do the mode */
    PYN_EXIT_STUCK = 6,       /* too many stuck workers */
    PYN_EXIT_NOT_DRAINED = 7, /* the drain deadline passed, or a second signal came, with calls still running */
};

/* Every option with its text, and the exit codes. */
void pyn_cli_help(FILE *to);
/* "pynode 0.1.0 (Python 3.11.2, ei 5.3, mode multi_executor)"; the mode is the one that would be chosen. */
void pyn_cli_version(FILE *to, const char *python, const char *ei, const char *mode);

#endif
