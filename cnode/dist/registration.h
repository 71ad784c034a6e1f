/* Our name at this host's epmd: registered once while starting, then held by the thread "pyn-epmd", which registers
 * again, for as long as it takes, when epmd was restarted.
 *
 * The creation is that of the first registration, as BEAM nodes keep theirs: the process is the same one, and so are
 * its pid and its references. */
#ifndef PYN_DIST_REGISTRATION_H
#define PYN_DIST_REGISTRATION_H

#include "dist/epmd.h"

struct pyn_registration;

struct pyn_registration_config {
    uint16_t epmd_port;
    bool launch; /* start epmd when nobody answers */
    const char *alive;
    uint16_t port;
    uint64_t first_ms; /* time limit of the first registration */
    int stop_fd;       /* borrowed: raised before pyn_registration_stop, ends every wait */
};

/* Registers and starts the thread. NULL: *result says what kind of error it is, `error` is a sentence about it. */
struct pyn_registration *pyn_registration_start(const struct pyn_registration_config *config,
                                                enum pyn_epmd_result *result, char *error, size_t error_size);
uint32_t pyn_registration_creation(const struct pyn_registration *r);
/* Unregisters, joins the thread, frees. stop_fd has been raised. */
void pyn_registration_stop(struct pyn_registration *r);

#endif
