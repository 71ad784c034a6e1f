/* A process that Python code has forked from this one, and that goes on without exec, is no node: it must not read what
 * peers send, nor keep their connections open when the node has gone. */
#ifndef PYN_BASE_FORKED_H
#define PYN_BASE_FORKED_H

#include "base/defs.h"

/* Once, before there are threads. */
void pyn_forked_init(void);
/* This is such a process. */
bool pyn_forked(void);

/* fd, which is closed in every process that is forked from now on; -1 is returned as it is. Any thread. */
int pyn_fd_own(int fd);
/* In the place of close, for such a descriptor. */
void pyn_fd_close(int fd);

#endif
