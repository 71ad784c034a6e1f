/* Everything that may be set on the command line or in a configuration file: defaults, ranges, sentences.
 *
 *     pynode --sname py1 --workers 8 --config /etc/pynode.conf
 *
 * The file has lines `option = value` with the same names without the dashes; # begins a comment line; an option that
 * takes no value on the command line is true or false there. What comes later wins, and the command line wins over
 * files; --path adds up. Nothing here needs Python, a node or a network. One thread. */
#ifndef PYN_APP_CONFIG_H
#define PYN_APP_CONFIG_H

#include "base/log.h"
#include "dist/node.h"
#include "py/host.h"
#include "svc/service.h"

#define PYN_CONFIG_PATHS_MAX 64u
#define PYN_CONFIG_ERROR_MAX 512u

/* The parts are what the layers want to be given. All strings are owned by the struct and live as long as it. */
struct pyn_config {
    struct pyn_node_config node; /* .cookie stays NULL: give `cookie` to pyn_cookie_read */
    struct pyn_service_config service;
    struct pyn_host_config host; /* .node_name stays NULL: known once the node has started */
    enum pyn_level log_level;
    unsigned drain_ms;
    bool parent_pipe;

    char *cookie; /* as given, or NULL */
    /* What the const pointers above stand for. */
    char *name;
    char *bind_address;
    char *coordinator;
    char *venv;
    char *preload_file;
    char *preload_code;
    char *paths[PYN_CONFIG_PATHS_MAX];
};

enum pyn_config_result {
    PYN_CONFIG_RUN,     /* complete and in range: start the node */
    PYN_CONFIG_HELP,    /* --help was asked for; nothing else was looked at */
    PYN_CONFIG_VERSION, /* the same for --version */
    PYN_CONFIG_BAD,     /* error says what is wrong and where, in a sentence */
};

/* Reads argv (argv[0] is the program) and the files that it names into *c, which need not be initialised and is to be
 * given to pyn_config_free whatever the result. */
PYN_MUSTCHECK enum pyn_config_result pyn_config_parse(struct pyn_config *c, int argc, char *const argv[], char *error,
                                                      size_t error_size);
void pyn_config_free(struct pyn_config *c);

#endif
