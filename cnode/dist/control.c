#include "dist/control.h"

#include <limits.h>

#include "etf/reader.h"
#include "etf/writer.h"

/* A frame of a connection without atom cache and fragments starts so. */
enum { PASS_THROUGH = 112, VERSION = 131, LENGTH_BYTES = 4 };

/* An element of a control tuple: where its bytes go and what it may be. */
enum field {
    F_NONE,    /* behind the last one */
    F_SKIP,    /* anything; of no use to us */
    F_FROM,    /* a process */
    F_DEAD,    /* a process or a name */
    F_TO,      /* a process */
    F_NAME,    /* the name of a process */
    F_WATCHED, /* a process or a name */
    F_ALIAS,   /* a reference as the destination */
    F_REF,
    F_ID, /* a number */
    F_MFA,
    F_REASON,
    F_KINDS
};

#define BIT(kind) (1u << (kind))
#define PROCESS (BIT(PYN_T_PID) | BIT(PYN_T_PORT)) /* links go to ports as well */
#define NAME (BIT(PYN_T_ATOM) | BIT(PYN_T_LATIN1))
#define NUMBER (BIT(PYN_T_INT) | BIT(PYN_T_BIG))

/* kinds = 0: any term. */
static const struct {
    size_t offset;
    unsigned kinds;
} fields[F_KINDS] = {
    [F_FROM] = {offsetof(struct pyn_control, from), PROCESS},
    [F_DEAD] = {offsetof(struct pyn_control, from), PROCESS | NAME},
    [F_TO] = {offsetof(struct pyn_control, to), PROCESS},
    [F_NAME] = {offsetof(struct pyn_control, to), NAME},
    [F_WATCHED] = {offsetof(struct pyn_control, to), PROCESS | NAME},
    [F_ALIAS] = {offsetof(struct pyn_control, to), BIT(PYN_T_REF)},
    [F_REF] = {offsetof(struct pyn_control, ref), BIT(PYN_T_REF)},
    [F_ID] = {offsetof(struct pyn_control, id), NUMBER},
    [F_MFA] = {offsetof(struct pyn_control, id), 0},
    [F_REASON] = {offsetof(struct pyn_control, reason), 0},
};

/* What comes behind the control tuple. */
enum tail { T_NOTHING, T_PAYLOAD, T_REASON };

enum { MAX_FIELDS = 6 };

struct shape {
    uint8_t op;    /* what it is given out as; 0: not known */
    uint8_t arity; /* of the tuple, the operation included */
    uint8_t tail;
    uint8_t field[MAX_FIELDS];
};

/* By the number on the wire. Those without a name here are variants: with a trace token (which we have no use for) or
 * with the reason behind the tuple instead of in it. */
static const struct shape shapes[] = {
    [PYN_CTL_LINK] = {PYN_CTL_LINK, 3, T_NOTHING, {F_FROM, F_TO}},
    [PYN_CTL_SEND] = {PYN_CTL_SEND, 3, T_PAYLOAD, {F_SKIP, F_TO}},
    [PYN_CTL_EXIT] = {PYN_CTL_EXIT, 4, T_NOTHING, {F_FROM, F_TO, F_REASON}},
    [PYN_CTL_UNLINK] = {PYN_CTL_UNLINK, 3, T_NOTHING, {F_FROM, F_TO}},
    [PYN_CTL_REG_SEND] = {PYN_CTL_REG_SEND, 4, T_PAYLOAD, {F_FROM, F_SKIP, F_NAME}},
    [PYN_CTL_GROUP_LEADER] = {PYN_CTL_GROUP_LEADER, 3, T_NOTHING, {F_FROM, F_TO}},
    [PYN_CTL_EXIT2] = {PYN_CTL_EXIT2, 4, T_NOTHING, {F_FROM, F_TO, F_REASON}},
    [PYN_CTL_SEND_TT] = {PYN_CTL_SEND, 4, T_PAYLOAD, {F_SKIP, F_TO, F_SKIP}},
    [PYN_CTL_EXIT_TT] = {PYN_CTL_EXIT, 5, T_NOTHING, {F_FROM, F_TO, F_SKIP, F_REASON}},
    [PYN_CTL_REG_SEND_TT] = {PYN_CTL_REG_SEND, 5, T_PAYLOAD, {F_FROM, F_SKIP, F_NAME, F_SKIP}},
    [PYN_CTL_EXIT2_TT] = {PYN_CTL_EXIT2, 5, T_NOTHING, {F_FROM, F_TO, F_SKIP, F_REASON}},
    [PYN_CTL_MONITOR_P] = {PYN_CTL_MONITOR_P, 4, T_NOTHING, {F_FROM, F_WATCHED, F_REF}},
    [PYN_CTL_DEMONITOR_P] = {PYN_CTL_DEMONITOR_P, 4, T_NOTHING, {F_FROM, F_WATCHED, F_REF}},
    [PYN_CTL_MONITOR_P_EXIT] = {PYN_CTL_MONITOR_P_EXIT, 5, T_NOTHING, {F_DEAD, F_TO, F_REF, F_REASON}},
    [PYN_CTL_SEND_SENDER] = {PYN_CTL_SEND_SENDER, 3, T_PAYLOAD, {F_FROM, F_TO}},
    [23] = {PYN_CTL_SEND_SENDER, 4, T_PAYLOAD, {F_FROM, F_TO, F_SKIP}},
    [24] = {PYN_CTL_EXIT, 3, T_REASON, {F_FROM, F_TO}},
    [25] = {PYN_CTL_EXIT, 4, T_REASON, {F_FROM, F_TO, F_SKIP}},
    [26] = {PYN_CTL_EXIT2, 3, T_REASON, {F_FROM, F_TO}},
    [27] = {PYN_CTL_EXIT2, 4, T_REASON, {F_FROM, F_TO, F_SKIP}},
    [28] = {PYN_CTL_MONITOR_P_EXIT, 4, T_REASON, {F_DEAD, F_TO, F_REF}},
    [PYN_CTL_SPAWN_REQUEST] = {PYN_CTL_SPAWN_REQUEST, 6, T_PAYLOAD, {F_REF, F_FROM, F_TO, F_MFA, F_REASON}},
    [30] = {PYN_CTL_SPAWN_REQUEST, 7, T_PAYLOAD, {F_REF, F_FROM, F_TO, F_MFA, F_REASON, F_SKIP}},
    [PYN_CTL_SPAWN_REPLY] = {PYN_CTL_SPAWN_REPLY, 5, T_NOTHING, {F_REF, F_TO, F_ID, F_REASON}},
    [32] = {PYN_CTL_SPAWN_REPLY, 6, T_NOTHING, {F_REF, F_TO, F_ID, F_REASON, F_SKIP}},
    [PYN_CTL_ALIAS_SEND] = {PYN_CTL_ALIAS_SEND, 3, T_PAYLOAD, {F_FROM, F_ALIAS}},
    [34] = {PYN_CTL_ALIAS_SEND, 4, T_PAYLOAD, {F_FROM, F_ALIAS, F_SKIP}},
    [PYN_CTL_UNLINK_ID] = {PYN_CTL_UNLINK_ID, 4, T_NOTHING, {F_ID, F_FROM, F_TO}},
    [PYN_CTL_UNLINK_ID_ACK] = {PYN_CTL_UNLINK_ID_ACK, 4, T_NOTHING, {F_ID, F_FROM, F_TO}},
};

/* One element of a known tuple into its place. */
static bool read_field(struct pyn_reader *r, unsigned field, struct pyn_control *c)
{
    unsigned kinds = fields[field].kinds;
    struct pyn_span *place;
    struct pyn_token t;
    const uint8_t *start = r->pos;

    if (kinds == 0) {
        place = field == F_SKIP ? NULL : (struct pyn_span *)((char *)c + fields[field].offset);
        return pyn_read_skip(r, place) == PYN_ETF_OK;
    }
    /* Nothing among the kinds is a container, so the token is the whole term. */
    if (pyn_read_token(r, &t) != PYN_ETF_OK || !(kinds & BIT(t.kind)))
        return false;
    place = (struct pyn_span *)((char *)c + fields[field].offset);
    *place = (struct pyn_span){start, (size_t)(r->pos - start)};
    if (t.kind == PYN_T_ATOM && place == &c->to)
        c->to_name = t.bytes;
    return true;
}

static bool read_tail(struct pyn_reader *r, unsigned tail, struct pyn_control *c)
{
    struct pyn_span rest;

    if (tail == T_NOTHING)
        return r->pos == r->end;
    if (!pyn_read_version(r) || r->pos == r->end)
        return false;
    rest = (struct pyn_span){r->pos, pyn_reader_left(r)};
    if (tail == T_REASON)
        c->reason = rest;
    else
        c->payload = rest;
    return true;
}

static enum pyn_control_error skip_unknown(struct pyn_reader *r, uint32_t terms)
{
    for (; terms > 0; terms--) {
        if (pyn_read_skip(r, NULL) != PYN_ETF_OK)
            return PYN_CONTROL_MALFORMED;
    }
    return PYN_CONTROL_UNKNOWN;
}

enum pyn_control_error pyn_control_parse(struct pyn_span frame, struct pyn_control *c)
{
    struct pyn_reader r = pyn_reader_of(frame);
    const struct shape *s;
    uint32_t arity;
    int64_t op;

    *c = (struct pyn_control){0};
    if (frame.len == 0 || *r.pos++ != PASS_THROUGH || !pyn_read_version(&r))
        return PYN_CONTROL_MALFORMED;
    if (!pyn_read_tuple(&r, &arity) || arity == 0 || !pyn_read_int(&r, &op) || op < 0 || op > INT_MAX)
        return PYN_CONTROL_MALFORMED;
    if (op >= (int64_t)(sizeof(shapes) / sizeof(*shapes)) || shapes[op].op == 0) {
        c->op = (enum pyn_ctl_op)op;
        return skip_unknown(&r, arity - 1);
    }
    s = &shapes[op];
    c->op = (enum pyn_ctl_op)s->op;
    if (arity != s->arity)
        return PYN_CONTROL_MALFORMED;
    for (unsigned i = 0; i + 1 < arity; i++) {
        if (!read_field(&r, s->field[i], c))
            return PYN_CONTROL_MALFORMED;
    }
    return read_tail(&r, s->tail, c) ? PYN_CONTROL_OK : PYN_CONTROL_MALFORMED;
}

/* The length, which pyn_frame_end fills in, and the head of the control tuple. */
static size_t open_frame(struct pyn_buf *b, enum pyn_ctl_op op, uint8_t arity)
{
    const uint8_t head[] = {0, 0, 0, 0, PASS_THROUGH, VERSION, 104, arity, 97, (uint8_t)op};
    size_t frame = b->len;

    pyn_buf_bytes(b, head, sizeof(head));
    return frame;
}

size_t pyn_frame_send(struct pyn_buf *b, struct pyn_span to_pid)
{
    size_t frame = open_frame(b, PYN_CTL_SEND, 3);

    pyn_write_atom(b, "");
    pyn_write_raw(b, to_pid);
    pyn_write_version(b);
    return frame;
}

size_t pyn_frame_alias_send(struct pyn_buf *b, struct pyn_span from_pid, struct pyn_span alias_ref)
{
    size_t frame = open_frame(b, PYN_CTL_ALIAS_SEND, 3);

    pyn_write_raw(b, from_pid);
    pyn_write_raw(b, alias_ref);
    pyn_write_version(b);
    return frame;
}

size_t pyn_frame_reg_send(struct pyn_buf *b, struct pyn_span from_pid, const char *name)
{
    size_t frame = open_frame(b, PYN_CTL_REG_SEND, 4);

    pyn_write_raw(b, from_pid);
    pyn_write_atom(b, "");
    pyn_write_atom(b, name);
    pyn_write_version(b);
    return frame;
}

void pyn_frame_end(struct pyn_buf *b, size_t frame, size_t ext_bytes)
{
    size_t own;

    if (b->failed || b->len == frame) /* nothing to end: it was taken back */
        return;
    own = b->len - frame - LENGTH_BYTES;
    if (own > UINT32_MAX || ext_bytes > UINT32_MAX - own)
        b->failed = true;
    else
        pyn_put_be32(b->data + frame, (uint32_t)(own + ext_bytes));
}

/* A whole frame of three or four given terms. */
static void put_frame(struct pyn_buf *b, enum pyn_ctl_op op, const struct pyn_span *terms, uint8_t count)
{
    size_t frame = open_frame(b, op, (uint8_t)(count + 1));

    for (unsigned i = 0; i < count; i++)
        pyn_write_raw(b, terms[i]);
    pyn_frame_end(b, frame, 0);
}

void pyn_frame_monitor(struct pyn_buf *b, struct pyn_span from_pid, struct pyn_span to, struct pyn_span ref)
{
    put_frame(b, PYN_CTL_MONITOR_P, (struct pyn_span[]){from_pid, to, ref}, 3);
}

void pyn_frame_demonitor(struct pyn_buf *b, struct pyn_span from_pid, struct pyn_span to, struct pyn_span ref)
{
    put_frame(b, PYN_CTL_DEMONITOR_P, (struct pyn_span[]){from_pid, to, ref}, 3);
}

void pyn_frame_monitor_exit(struct pyn_buf *b, struct pyn_span from, struct pyn_span to, struct pyn_span ref,
                            struct pyn_span reason)
{
    put_frame(b, PYN_CTL_MONITOR_P_EXIT, (struct pyn_span[]){from, to, ref, reason}, 4);
}

void pyn_frame_exit(struct pyn_buf *b, struct pyn_span from, struct pyn_span to, struct pyn_span reason)
{
    put_frame(b, PYN_CTL_EXIT, (struct pyn_span[]){from, to, reason}, 3);
}

void pyn_frame_unlink_ack(struct pyn_buf *b, struct pyn_span id, struct pyn_span from, struct pyn_span to)
{
    put_frame(b, PYN_CTL_UNLINK_ID_ACK, (struct pyn_span[]){id, from, to}, 3);
}
