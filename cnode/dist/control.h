/* Control messages of the distribution protocol ("Protocol between Connected Nodes"): parsing and building.
 * No sockets. A frame here is what follows the 4-byte length: 'p' (112), 131, control tuple[, 131, payload]. */
#ifndef PYN_DIST_CONTROL_H
#define PYN_DIST_CONTROL_H

#include "base/buf.h"
#include "base/defs.h"

enum pyn_ctl_op {
    PYN_CTL_LINK = 1,
    PYN_CTL_SEND = 2,
    PYN_CTL_EXIT = 3,
    PYN_CTL_UNLINK = 4,
    PYN_CTL_REG_SEND = 6,
    PYN_CTL_GROUP_LEADER = 7,
    PYN_CTL_EXIT2 = 8,
    PYN_CTL_SEND_TT = 12,
    PYN_CTL_EXIT_TT = 13,
    PYN_CTL_REG_SEND_TT = 16,
    PYN_CTL_EXIT2_TT = 18,
    PYN_CTL_MONITOR_P = 19,
    PYN_CTL_DEMONITOR_P = 20,
    PYN_CTL_MONITOR_P_EXIT = 21,
    PYN_CTL_SEND_SENDER = 22,
    PYN_CTL_SPAWN_REQUEST = 29,
    PYN_CTL_SPAWN_REPLY = 31,
    PYN_CTL_ALIAS_SEND = 33,
    PYN_CTL_UNLINK_ID = 35,
    PYN_CTL_UNLINK_ID_ACK = 36,
};

/* A parsed control message: terms are spans into the frame. Which are set depends on op:
 *   SEND               to                   (payload)
 *   SEND_SENDER        from to              (payload)
 *   REG_SEND           from to=atom name    (payload)
 *   ALIAS_SEND         from to=ref          (payload)
 *   LINK               from to
 *   UNLINK(_ID)(_ACK)  from to [id]
 *   EXIT, EXIT2        from to [reason]     (reason is the payload's term when DFLAG_EXIT_PAYLOAD was agreed)
 *   MONITOR_P          from to=pid or atom name, ref
 *   DEMONITOR_P        from to ref
 *   MONITOR_P_EXIT     from=dead pid or name, to=watcher, ref, reason
 *   GROUP_LEADER       from to
 *   SPAWN_REQUEST      ref from to=group leader, id=mfa, reason=options   (payload: argument list)
 *   SPAWN_REPLY        ref to, id=flags, reason=result
 * The variants with a trace token (SEND_TT, ...) and those with the reason behind the tuple come out as the plain
 * operation. Pids, references and names are checked to be such (a process may also be a port); reason and mfa are
 * any well-formed term. */
struct pyn_control {
    enum pyn_ctl_op op;
    struct pyn_span from;
    struct pyn_span to;
    struct pyn_span to_name; /* the name's characters when `to` is an atom; else empty */
    struct pyn_span ref;
    struct pyn_span id;
    struct pyn_span reason;
    struct pyn_span
        payload; /* the payload term, version byte cut off, shape NOT checked; ptr NULL when there is none */
};

enum pyn_control_error { PYN_CONTROL_OK = 0, PYN_CONTROL_MALFORMED, PYN_CONTROL_UNKNOWN };

/* Parses one frame (without its length). MALFORMED: the link cannot be trusted any more. UNKNOWN: a well-formed
 * message with an operation that we do not know; op holds its number, it may be skipped. */
PYN_MUSTCHECK enum pyn_control_error pyn_control_parse(struct pyn_span frame, struct pyn_control *c);

/* Builders append a whole frame's beginning: the 4-byte length (left as 0), 'p', 131 and the control tuple, and 131
 * for the payload where there is one. They return the offset of the frame in the buffer; write the payload behind,
 * then call pyn_frame_end with that offset. ext_bytes = foreign bytes spliced into this frame (base/out.h). A frame of
 * which nothing is left, as it was truncated away, has no end. */
size_t pyn_frame_send(struct pyn_buf *b, struct pyn_span to_pid);
size_t pyn_frame_alias_send(struct pyn_buf *b, struct pyn_span from_pid, struct pyn_span alias_ref);
size_t pyn_frame_reg_send(struct pyn_buf *b, struct pyn_span from_pid, const char *name);
void pyn_frame_end(struct pyn_buf *b, size_t frame, size_t ext_bytes);

/* Whole frames without a payload. */
void pyn_frame_monitor(struct pyn_buf *b, struct pyn_span from_pid, struct pyn_span to, struct pyn_span ref);
void pyn_frame_demonitor(struct pyn_buf *b, struct pyn_span from_pid, struct pyn_span to, struct pyn_span ref);
/* MONITOR_P_EXIT; reason is a term. `from` is the pid or the name atom that was monitored. */
void pyn_frame_monitor_exit(struct pyn_buf *b, struct pyn_span from, struct pyn_span to, struct pyn_span ref,
                            struct pyn_span reason);
/* EXIT, for a link to a process that we do not have (reason: the term `noproc`). */
void pyn_frame_exit(struct pyn_buf *b, struct pyn_span from, struct pyn_span to, struct pyn_span reason);
/* UNLINK_ID_ACK {36, Id, From, To}. */
void pyn_frame_unlink_ack(struct pyn_buf *b, struct pyn_span id, struct pyn_span from, struct pyn_span to);

#endif
