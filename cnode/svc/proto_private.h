/* Between svc/proto.c (requests and answers) and svc/proto_options.c. All of them: false, or a sentence, for anything
 * else than what they look for; what they give points into the payload. */
#ifndef PYN_SVC_PROTO_PRIVATE_H
#define PYN_SVC_PROTO_PRIVATE_H

#include "etf/reader.h"
#include "svc/proto.h"

PYN_MUSTCHECK bool pyn_proto_read_pid(struct pyn_reader *r, struct pyn_span *pid);
/* A binary of 1 to PYN_KEY_MAX bytes. */
PYN_MUSTCHECK bool pyn_proto_read_key(struct pyn_reader *r, struct pyn_span *key);
/* The number of a context. */
PYN_MUSTCHECK bool pyn_proto_read_context(struct pyn_reader *r, struct pyn_parsed *p);
/* Options, or a timeout in their place. NULL, or the complaint. */
PYN_MUSTCHECK const char *pyn_proto_read_options(struct pyn_reader *r, struct pyn_parsed *p);

#endif
