/* The table of streams: where each is, whose it is, whether a thread is at it. The iterators are Python's.
 *
 * A stream is *taken* while it is opened or pulled; nobody else may touch its iterator then. One that is to end while
 * it is taken is marked, and closed by who has it. One lock of its own, innermost. Any thread. */
#ifndef PYN_SVC_STREAMS_H
#define PYN_SVC_STREAMS_H

#include "base/defs.h"

struct pyn_streams;

/* At most max streams at a time. NULL: out of memory. */
struct pyn_streams *pyn_streams_new(unsigned max);
void pyn_streams_free(struct pyn_streams *t);
unsigned pyn_streams_count(struct pyn_streams *t);

struct pyn_worker;

struct pyn_stream_place {
    int group;               /* the interpreter */
    uint32_t estimate;       /* the slot of its function in the table of durations */
    uint64_t context;        /* the context that it is in; 0: none */
    struct pyn_worker *only; /* that context's worker, or NULL */
};

/* Enters a stream, taken. It belongs to the process of that pid, which came by that link; the bytes are copied. false:
 * the maximum is reached, or no more streams are wanted (pyn_streams_end of all), or no memory. */
PYN_MUSTCHECK bool pyn_streams_add(struct pyn_streams *t, uint64_t number, const struct pyn_stream_place *place,
                                   uint64_t link_id, struct pyn_span pid);

enum pyn_stream_state {
    PYN_STREAM_UNKNOWN, /* there is none, or it is to end */
    PYN_STREAM_FREE,
    PYN_STREAM_BUSY, /* somebody has taken it */
};
/* How it is, and where, when it is known. */
PYN_MUSTCHECK enum pyn_stream_state pyn_streams_find(struct pyn_streams *t, uint64_t number,
                                                     struct pyn_stream_place *place);
/* Takes the stream when it is free; how it was. */
PYN_MUSTCHECK enum pyn_stream_state pyn_streams_take(struct pyn_streams *t, uint64_t number);

enum pyn_stream_give {
    PYN_STREAM_LIVES, /* it may be taken again */
    PYN_STREAM_FAILS, /* what came of it did not reach its owner: it ends */
    PYN_STREAM_GONE,  /* Python has dropped it, or never kept it */
};
/* Of a taken stream. true: it has left the table, and the caller has to close it. */
PYN_MUSTCHECK bool pyn_streams_give(struct pyn_streams *t, uint64_t number, enum pyn_stream_give how);

/* Which streams are to end: those for which all that is set is true. With nothing set: all, and no more may come. */
struct pyn_streams_match {
    uint64_t number;
    uint64_t link_id;
    uint64_t context;
    struct pyn_span pid;
};
/* Ends one stream that matches and is not taken: it has left the table, and the caller closes it, and calls again.
 * Those that are taken are marked. false: none is left. */
PYN_MUSTCHECK bool pyn_streams_end(struct pyn_streams *t, const struct pyn_streams_match *match, uint64_t *number,
                                   struct pyn_stream_place *place);

#endif
