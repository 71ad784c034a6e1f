/* The py protocol, version 1: every tuple that a peer may send to the registered name `py`, and every answer.
 *
 *   Form      {'$gen_call', {Pid, Tag}, Request}    answered {Tag, Result}
 *             {'$gen_cast', Request}                not answered
 *             {Pid, Tag, Request}                   plain message, answered {Tag, Result} to Pid
 *   Request   {call, Module, Function, Args [, Kwargs [, Options]]}
 *             {eval, Code [, Locals [, Options]]}
 *             {exec, Code [, Options]}
 *             {call_all, Module, Function, Args [, Kwargs [, Options]]}, {exec_all, Code [, Options]}
 *                                 the same in every interpreter: {ok, [{Interpreter, Result}, ...]}
 *             {forget, Key}       what was remembered by that key is not run in later interpreters any more
 *             {stream, Module, Function, Args [, Kwargs [, Options]]}    answered {ok, Stream}, an integer
 *             {stream_next, Stream, Max [, Options]}      {ok, {Count, more | done | {error, Reason}}}, and before it,
 *                                                         for each item, the message {py_item, Stream, Item} to Pid
 *             {stream_close, Stream}                      ok
 *             {cancel, Tag}       the call of that tag, or of the alias in it, ends with {error, interrupted}
 *             {cancel, Tag, report}    the same; {error, not_found} when there is no such call
 *             {bind [, Options]}  binds a worker to a new context, answered {ok, Context} (an integer): the caller is
 *                                 its owner, with whose death it ends
 *             {unbind, Context}   ends it; answered ok when the worker is free again
 *             {interrupt, Context} what runs in it ends with {error, interrupted}
 *             info, version
 *             sync                answered `ok` at once, behind everything that was sent to that node before
 *   Options   Timeout (milliseconds | infinity), or a map of timeout, traceback (boolean),
 *             chain ({Interpreter, Run, Depth [, Span]}: the call is made by a callback of that run, see svc/rpc.h),
 *             span (the span that the caller is in, where there is no chain that says so: the parent of this call's),
 *             ctx (a Context: the call runs there),
 *             remember (Key, a binary: call_all and exec_all are run in later interpreters too, see svc/everywhere.h),
 *             replay (boolean: with remember, what is remembered by that key already is not run again),
 *             home (Pid: where the definitions of that process are, in place of the caller's),
 *             collect (boolean: the items of an iterator are the result),
 *             async (call only; true: a coroutine that the function returns is awaited on an event loop, and the
 *             request answered when it ends; stream: what an async generator, or any iterator, gives is answered as a
 *             list)
 *   Result    {ok, Value} | ok | {error, Reason}
 *
 * Module, Function, Code: atom, binary or (Code) list of bytes; Args: a list; Kwargs, Locals: maps. Tag = [alias | Ref]
 * is answered by ALIAS_SEND to Ref, so that an answer that comes too late is dropped by the caller's node; any other by
 * SEND to Pid. No Python, no sockets here. */
#ifndef PYN_SVC_PROTO_H
#define PYN_SVC_PROTO_H

#include "base/buf.h"
#include "py/call.h"

/* Milliseconds that a request without a timeout may take. */
#define PYN_DEFAULT_TIMEOUT UINT64_C(30000)
#define PYN_NO_TIMEOUT UINT64_MAX
/* Bytes of a key to remember something by. */
#define PYN_KEY_MAX 255u

/* Where the answer goes; spans are terms in the request's bytes. */
struct pyn_reply_to {
    struct pyn_span pid;   /* empty: nobody waits */
    struct pyn_span tag;   /* goes back as it came */
    struct pyn_span alias; /* the reference in a tag [alias | Ref]; empty: no alias */
};

enum pyn_op {
    PYN_OP_RUN,
    PYN_OP_ALL,
    PYN_OP_FORGET,
    PYN_OP_BIND,
    PYN_OP_UNBIND,
    PYN_OP_CLOSE, /* not a peer's: a context is closed (svc/bind.h) */
    PYN_OP_INTERRUPT,
    PYN_OP_CANCEL,
    PYN_OP_STREAM_CLOSE,
    PYN_OP_INFO,
    PYN_OP_VERSION,
    PYN_OP_SYNC,
    PYN_OP_BAD,
    PYN_OP_BAD_ARGS
};

struct pyn_parsed {
    enum pyn_op op;
    struct pyn_reply_to to;
    struct pyn_call call;      /* PYN_OP_RUN, PYN_OP_ALL; PYN_OP_STREAM_CLOSE: its stream */
    uint64_t timeout_ms;       /* PYN_OP_RUN, PYN_OP_ALL, PYN_OP_BIND */
    int chain_interp;          /* PYN_OP_RUN: the interpreter that the call is nested in; -1: none */
    uint64_t chain_run;        /* PYN_OP_RUN, PYN_OP_ALL: and the request there; 0: none */
    uint64_t context;          /* PYN_OP_RUN: the context of the call, 0: none; PYN_OP_UNBIND, PYN_OP_INTERRUPT */
    struct pyn_span remember;  /* PYN_OP_ALL, PYN_OP_FORGET: the key; empty: none */
    bool replay;               /* PYN_OP_ALL */
    struct pyn_span home;      /* PYN_OP_RUN: a pid whose definitions it wants; empty: the caller's */
    struct pyn_span cancelled; /* PYN_OP_CANCEL: a tag */
    bool report;               /* PYN_OP_CANCEL: it matters whether there is such a call */
    const char *complaint;     /* PYN_OP_BAD: a sentence */
};

/* Takes a message to `py` apart. false: it is in none of the three forms, and nobody can be answered. The bytes are
 * checked throughout; spans point into the payload. */
PYN_MUSTCHECK bool pyn_proto_parse(struct pyn_span payload, struct pyn_parsed *p);

/* Takes {'$gen_call', {Pid, Tag}, {is_auth, Node}} apart, the question behind net_adm:ping. */
PYN_MUSTCHECK bool pyn_proto_parse_ping(struct pyn_span payload, struct pyn_reply_to *to);

/* Begins a frame that answers `to`: control message and {Tag, ...; the result is to be written behind. Returns what
 * pyn_frame_end wants. */
size_t pyn_proto_begin_reply(struct pyn_buf *b, const struct pyn_reply_to *to, struct pyn_span own_pid);

/* Results that are not Python's. */
void pyn_proto_write_error(struct pyn_buf *b, const char *reason);
void pyn_proto_write_overloaded(struct pyn_buf *b, uint64_t current, uint64_t max);
void pyn_proto_write_bad_request(struct pyn_buf *b, const char *sentence);
void pyn_proto_write_exception(struct pyn_buf *b, const char *type, const char *message);

#endif
