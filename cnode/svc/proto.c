#include "svc/proto.h"

#include "dist/control.h"
#include "svc/proto_private.h"
#include "etf/writer.h"

/* ---- small shapes ---- */

/* Atom or binary: its characters. */
static bool read_name(struct pyn_reader *r, struct pyn_span *name)
{
    struct pyn_token t;

    if (pyn_read_token(r, &t) || (t.kind != PYN_T_ATOM && t.kind != PYN_T_BINARY))
        return false;
    *name = t.bytes;
    return name->len > 0;
}

static bool read_code(struct pyn_reader *r, struct pyn_span *code)
{
    struct pyn_token t;

    if (pyn_read_token(r, &t))
        return false;
    if (t.kind == PYN_T_NIL)
        *code = (struct pyn_span){(const uint8_t *)"", 0};
    else
        *code = t.bytes;
    return t.kind == PYN_T_BINARY || t.kind == PYN_T_STRING || t.kind == PYN_T_ATOM || t.kind == PYN_T_NIL;
}

static bool read_map(struct pyn_reader *r, struct pyn_span *map)
{
    struct pyn_reader peek = *r;
    struct pyn_token t;

    if (!pyn_read_kind(&peek, PYN_T_MAP, &t) || pyn_read_skip(r, map))
        return false;
    if (t.count == 0)
        map->len = 0;
    return true;
}

/* [alias | Ref] */
static struct pyn_span alias_of(struct pyn_span tag)
{
    struct pyn_reader r = pyn_reader_of(tag);
    struct pyn_token list, word, ref;
    struct pyn_span none = {NULL, 0};

    if (!pyn_read_kind(&r, PYN_T_LIST, &list) || list.count != 1 || !pyn_read_kind(&r, PYN_T_ATOM, &word) ||
        !pyn_span_is(word.bytes, "alias") || !pyn_read_kind(&r, PYN_T_REF, &ref))
        return none;
    return ref.bytes;
}

/* Pid, Tag of a two-tuple whose head was read. */
static bool read_from(struct pyn_reader *r, struct pyn_reply_to *to)
{
    if (!pyn_proto_read_pid(r, &to->pid) || pyn_read_skip(r, &to->tag))
        return false;
    to->alias = alias_of(to->tag);
    return true;
}

/* ---- requests ---- */

static enum pyn_op bad(struct pyn_parsed *p, const char *complaint)
{
    p->complaint = complaint;
    return PYN_OP_BAD;
}

static enum pyn_op finish(struct pyn_reader *r, struct pyn_parsed *p, bool options)
{
    const char *complaint = options ? pyn_proto_read_options(r, p) : NULL;
    return complaint ? bad(p, complaint) : PYN_OP_RUN;
}

/* true for a proper list; its bytes go to *args. */
static bool read_args(struct pyn_reader *r, struct pyn_span *args)
{
    const uint8_t *start = r->pos;
    struct pyn_span skipped;
    struct pyn_token head, tail;

    if (pyn_read_token(r, &head))
        return false;
    if (head.kind == PYN_T_LIST) {
        for (uint32_t i = 0; i < head.count; i++)
            if (pyn_read_skip(r, &skipped))
                return false;
        if (!pyn_read_kind(r, PYN_T_NIL, &tail))
            return false;
    } else if (head.kind != PYN_T_NIL && head.kind != PYN_T_STRING) {
        return false;
    }
    *args = (struct pyn_span){start, (size_t)(r->pos - start)};
    return true;
}

static enum pyn_op parse_call(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p)
{
    p->call.kind = PYN_CALL_FUNCTION;
    if (arity < 4 || arity > 6)
        return bad(p, "call takes {call, Module, Function, Args, Kwargs, Options}, the last two optional");
    if (!read_name(r, &p->call.module) || !read_name(r, &p->call.function))
        return bad(p, "module and function must be atoms or binaries, and not empty");
    if (!read_args(r, &p->call.args))
        return PYN_OP_BAD_ARGS;
    if (arity > 4 && !read_map(r, &p->call.kwargs))
        return bad(p, "keyword arguments must be a map");
    return finish(r, p, arity > 5);
}

static enum pyn_op parse_eval(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p)
{
    p->call.kind = PYN_CALL_EVAL;
    if (arity < 2 || arity > 4)
        return bad(p, "eval takes {eval, Code, Locals, Options}, the last two optional");
    if (!read_code(r, &p->call.code))
        return bad(p, "code must be a binary");
    if (arity > 2 && !read_map(r, &p->call.locals))
        return bad(p, "locals must be a map");
    return finish(r, p, arity > 3);
}

static enum pyn_op parse_exec(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p)
{
    p->call.kind = PYN_CALL_EXEC;
    if (arity < 2 || arity > 3)
        return bad(p, "exec takes {exec, Code, Options}, the last optional");
    if (!read_code(r, &p->call.code))
        return bad(p, "code must be a binary");
    return finish(r, p, arity > 2);
}

static enum pyn_op parse_forget(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p)
{
    if (arity != 2 || !pyn_proto_read_key(r, &p->remember))
        return bad(p, "forget takes {forget, Key}, a binary of 1 to 255 bytes");
    return PYN_OP_FORGET;
}

static enum pyn_op everywhere(enum pyn_op op, struct pyn_parsed *p)
{
    p->call.everywhere = true;
    return op == PYN_OP_RUN ? PYN_OP_ALL : op;
}

/* Its caller is the owner: nobody could own one that is asked for by a cast. */
static enum pyn_op parse_bind(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p)
{
    const char *complaint;

    if (arity > 2 || p->to.pid.len == 0)
        return bad(p, "bind takes {bind, Options}, the options optional, and is a call");
    complaint = arity > 1 ? pyn_proto_read_options(r, p) : NULL;
    return complaint ? bad(p, complaint) : PYN_OP_BIND;
}

static enum pyn_op parse_context(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p, enum pyn_op op)
{
    if (arity != 2 || !pyn_proto_read_context(r, p))
        return bad(p, "unbind and interrupt take the number of a context");
    return op;
}

static enum pyn_op parse_stream(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p)
{
    enum pyn_op op;

    if (arity < 4 || arity > 6)
        return bad(p, "stream takes {stream, Module, Function, Args, Kwargs, Options}, the last two optional");
    op = parse_call(r, arity, p);
    p->call.use = PYN_USE_KEEP;
    if (p->call.async != PYN_CALL_PLAIN)
        return bad(p, "async is an option of call only");
    return op;
}

static bool read_stream(struct pyn_reader *r, struct pyn_parsed *p)
{
    int64_t number;

    if (!pyn_read_int(r, &number) || number <= 0)
        return false;
    p->call.stream = (uint64_t)number;
    return true;
}

static enum pyn_op parse_next(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p)
{
    int64_t max;

    p->call.kind = PYN_CALL_STREAM_NEXT;
    if (arity < 3 || arity > 4)
        return bad(p, "stream_next takes {stream_next, Stream, Max, Options}, the last optional");
    if (!read_stream(r, p) || !pyn_read_int(r, &max) || max <= 0 || max > UINT32_MAX)
        return bad(p, "stream and number of items must be positive integers");
    p->call.max_items = (uint32_t)max;
    return finish(r, p, arity > 3);
}

static enum pyn_op parse_close(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p)
{
    if (arity != 2 || !read_stream(r, p))
        return bad(p, "stream_close takes {stream_close, Stream}, a positive integer");
    return PYN_OP_STREAM_CLOSE;
}

static enum pyn_op parse_cancel(struct pyn_reader *r, uint32_t arity, struct pyn_parsed *p)
{
    struct pyn_span word;

    p->report = arity == 3;
    if (pyn_read_skip(r, &p->cancelled) || (p->report && (!pyn_read_atom(r, &word) || !pyn_span_is(word, "report"))))
        return bad(p, "cancel takes {cancel, Tag} or {cancel, Tag, report}");
    return PYN_OP_CANCEL;
}

static enum pyn_op parse_word(struct pyn_span word, struct pyn_parsed *p)
{
    if (pyn_span_is(word, "info"))
        return PYN_OP_INFO;
    if (pyn_span_is(word, "version"))
        return PYN_OP_VERSION;
    if (pyn_span_is(word, "sync"))
        return PYN_OP_SYNC;
    return bad(p, "unknown request");
}

static enum pyn_op parse_request(struct pyn_reader *r, struct pyn_parsed *p)
{
    struct pyn_span word;
    uint32_t arity;

    p->timeout_ms = PYN_DEFAULT_TIMEOUT;
    p->chain_interp = -1;
    if (pyn_read_atom(r, &word))
        return parse_word(word, p);
    if (!pyn_read_tuple(r, &arity) || arity == 0 || !pyn_read_atom(r, &word))
        return bad(p, "a request is a tuple that begins with an atom");
    if (pyn_span_is(word, "call"))
        return parse_call(r, arity, p);
    if (pyn_span_is(word, "eval"))
        return parse_eval(r, arity, p);
    if (pyn_span_is(word, "exec"))
        return parse_exec(r, arity, p);
    if (pyn_span_is(word, "call_all"))
        return everywhere(parse_call(r, arity, p), p);
    if (pyn_span_is(word, "exec_all"))
        return everywhere(parse_exec(r, arity, p), p);
    if (pyn_span_is(word, "forget"))
        return parse_forget(r, arity, p);
    if (pyn_span_is(word, "bind"))
        return parse_bind(r, arity, p);
    if (pyn_span_is(word, "unbind"))
        return parse_context(r, arity, p, PYN_OP_UNBIND);
    if (pyn_span_is(word, "interrupt"))
        return parse_context(r, arity, p, PYN_OP_INTERRUPT);
    if (pyn_span_is(word, "stream"))
        return parse_stream(r, arity, p);
    if (pyn_span_is(word, "stream_next"))
        return parse_next(r, arity, p);
    if (pyn_span_is(word, "stream_close"))
        return parse_close(r, arity, p);
    if (pyn_span_is(word, "cancel") && (arity == 2 || arity == 3))
        return parse_cancel(r, arity, p);
    return bad(p, "unknown request");
}

bool pyn_proto_parse(struct pyn_span payload, struct pyn_parsed *p)
{
    struct pyn_reader r = pyn_reader_of(payload);
    struct pyn_span word, whole;
    struct pyn_reader check = r;
    uint32_t arity, pair;

    *p = (struct pyn_parsed){0};
    if (!pyn_read_tuple(&r, &arity))
        return false;
    if (!pyn_read_atom(&r, &word)) {
        if (arity != 3 || !read_from(&r, &p->to))
            return false;
    } else if (pyn_span_is(word, "$gen_call") && arity == 3) {
        if (!pyn_read_tuple(&r, &pair) || pair != 2 || !read_from(&r, &p->to))
            return false;
    } else if (!pyn_span_is(word, "$gen_cast") || arity != 2) {
        return false;
    }
    p->op = parse_request(&r, p);
    if (p->op == PYN_OP_ALL && p->call.async != PYN_CALL_PLAIN)
        p->op = bad(p, "async is an option of call only");
    /* What follows the request in the payload is the rest of a complaint, or nothing. */
    if (p->op != PYN_OP_BAD && p->op != PYN_OP_BAD_ARGS && pyn_reader_left(&r) > 0)
        p->op = bad(p, "bytes behind the request");
    if (p->op == PYN_OP_BAD_ARGS && pyn_read_skip(&check, &whole))
        p->op = bad(p, "the request is malformed or nested too deeply");
    return true;
}

bool pyn_proto_parse_ping(struct pyn_span payload, struct pyn_reply_to *to)
{
    struct pyn_reader r = pyn_reader_of(payload);
    struct pyn_span word, asker;
    uint32_t arity;

    *to = (struct pyn_reply_to){0};
    return pyn_read_tuple(&r, &arity) && arity == 3 && pyn_read_atom(&r, &word) && pyn_span_is(word, "$gen_call") &&
           pyn_read_tuple(&r, &arity) && arity == 2 && read_from(&r, to) && pyn_read_tuple(&r, &arity) && arity == 2 &&
           pyn_read_atom(&r, &word) && pyn_span_is(word, "is_auth") && !pyn_read_skip(&r, &asker) &&
           pyn_reader_left(&r) == 0;
}

/* ---- answers ---- */

size_t pyn_proto_begin_reply(struct pyn_buf *b, const struct pyn_reply_to *to, struct pyn_span own_pid)
{
    size_t frame = to->alias.len > 0 ? pyn_frame_alias_send(b, own_pid, to->alias) : pyn_frame_send(b, to->pid);

    pyn_write_tuple(b, 2);
    pyn_write_raw(b, to->tag);
    return frame;
}

void pyn_proto_write_error(struct pyn_buf *b, const char *reason)
{
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "error");
    pyn_write_atom(b, reason);
}

void pyn_proto_write_overloaded(struct pyn_buf *b, uint64_t current, uint64_t max)
{
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "error");
    pyn_write_tuple(b, 3);
    pyn_write_atom(b, "overloaded");
    pyn_write_int(b, (int64_t)current);
    pyn_write_int(b, (int64_t)max);
}

void pyn_proto_write_bad_request(struct pyn_buf *b, const char *sentence)
{
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "error");
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "bad_request");
    pyn_write_binary(b, sentence, strlen(sentence));
}

void pyn_proto_write_exception(struct pyn_buf *b, const char *type, const char *message)
{
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "error");
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, type);
    pyn_write_charlist(b, (struct pyn_span){(const uint8_t *)message, strlen(message)});
}
