#include "app/cli.h"

#include "app/options.h"

#ifndef PYN_VERSION
#define PYN_VERSION "unknown"
#endif

enum { COLUMN = 26 };

static void print_option(FILE *to, const char *name, const char *arg, const char *help)
{
    char left[64];

    snprintf(left, sizeof(left), "--%s%s%s", name, arg ? " " : "", arg ? arg : "");
    fprintf(to, "  %-*s %s\n", COLUMN, left, help);
}

void pyn_cli_help(FILE *to)
{
    fputs("usage: pynode --name NAME@HOST | --sname NAME [option ...]\n"
          "Runs Python as a hidden node of an Erlang cluster.\n\n",
          to);
    for (const struct pyn_option *o = pyn_options; o->name; o++)
        print_option(to, o->name, o->arg, o->help);
    print_option(to, "config", "FILE", "read options from FILE: lines `option = value`; the command line wins");
    print_option(to, "version", NULL, "print versions and the mode");
    print_option(to, "help", NULL, "print this");
    fputs("\nIt ends with 0 when it was told to stop, 1 failed at run time, 2 bad usage or configuration,\n"
          "3 name in use at epmd, 4 epmd unreachable, 5 Python would not start, 6 too many stuck workers,\n"
          "7 calls were still running when it had to stop.\n",
          to);
}

void pyn_cli_version(FILE *to, const char *python, const char *ei, const char *mode)
{
    fprintf(to, "pynode %s (Python %s, ei %s, mode %s)\n", PYN_VERSION, python, ei, mode);
}
