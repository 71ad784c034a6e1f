/* Streams: iterators that Python keeps for a caller, and items that are encoded while they come.
 *
 * The iterators are in the dictionary of the module _pynode_stream of their interpreter, by number: nothing in C holds
 * one. Who calls sees to it that no two threads are at the same stream at once. All functions: attached. */
#ifndef PYN_PY_STREAM_H
#define PYN_PY_STREAM_H

#include "py/call.h"
#include "py/interp_private.h"

/* Appends the list of the items of the iterator; of what is none, a list of the value itself. 0, or -1 with an
 * exception; then `out` holds a partial term and the caller truncates it. */
PYN_MUSTCHECK int pyn_stream_collect(struct pyn_seat *s, PyObject *value, struct pyn_out *out);

/* Has Python keep the value as the iterator number call->stream, and appends that number. 0, or -1 with an exception:
 * then nothing is kept. */
PYN_MUSTCHECK int pyn_stream_keep(const struct pyn_call *call, PyObject *value, struct pyn_out *out);

/* Sends the stream's next items, a message each, to who asks (py/bridge.h): call->max_items at most, and fewer when a
 * slice of time or a chunk of bytes is full. Appends {ok, {Count, more | done | {error, Reason}}}. After `done` and an
 * error the stream is closed, which PYN_CALL_ENDED says. */
PYN_MUSTCHECK enum pyn_call_outcome pyn_stream_next(struct pyn_seat *s, const struct pyn_call *call,
                                                    struct pyn_out *out);

/* Closes the iterator, so that a generator's `finally` runs, and appends ok. */
PYN_MUSTCHECK enum pyn_call_outcome pyn_stream_close(struct pyn_seat *s, const struct pyn_call *call,
                                                     struct pyn_out *out);

/* py/call.c: takes the current exception and appends {error, Reason} at mark, in place of what stands there. */
enum pyn_call_outcome pyn_call_write_error(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out,
                                           size_t mark);

#endif
