/* The one CPython of this process: its start, its mode, its end. No Python type appears here: svc includes this. */
#ifndef PYN_PY_HOST_H
#define PYN_PY_HOST_H

#include "base/defs.h"

enum pyn_mode { PYN_MODE_AUTO, PYN_MODE_FREE_THREADED, PYN_MODE_SUBINTERP, PYN_MODE_MULTI_EXECUTOR };

struct pyn_host_config {
    enum pyn_mode mode;
    const char *venv;         /* directory or NULL: its packages are visible in every interpreter */
    const char *preload;      /* Python code that runs in every interpreter at its start, or NULL */
    const char *preload_name; /* the file that it is from, for what Python says about it */
    const char *const *paths; /* put at the front of sys.path, in order */
    unsigned path_count;
};

/* Initialises Python (isolated configuration, PEP 587) on the calling thread, which must be the one that will call
 * pyn_host_stop, and decides on the mode. Afterwards the calling thread is detached. The config's strings must live as
 * long as the host. false: error says why in a sentence. */
PYN_MUSTCHECK bool pyn_host_start(const struct pyn_host_config *config, char *error, size_t size);
/* Ends Python: runs atexit functions and joins non-daemon Python threads, without a limit of time (the caller has a
 * deadline and leaves by _exit). All seats must be closed. */
void pyn_host_stop(void);

enum pyn_mode pyn_host_mode(void);
/* What erlang.node() says; copied. Before the first call. */
void pyn_host_set_node_name(const char *name);
/* The number of the interpreter that the calling thread is attached to, as pyn_seat_interp gives it. */
unsigned pyn_host_current_interp(void);
/* "3.11.2"; lives for ever; may be asked before the start. */
const char *pyn_host_version(void);
const char *pyn_mode_name(enum pyn_mode mode);
/* "auto", "free_threaded", "subinterp", "multi_executor". */
PYN_MUSTCHECK bool pyn_mode_parse(const char *word, enum pyn_mode *mode);
/* true when the Python of this build can do the mode; else reason is a sentence. */
/* The best mode that the Python of this build can do; reason: why not a better one, or NULL. */
enum pyn_mode pyn_mode_detect(const char **reason);
bool pyn_mode_possible(enum pyn_mode mode, const char **reason);

#endif
