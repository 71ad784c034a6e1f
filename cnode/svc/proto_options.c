/* The options of a request. */
#include "svc/proto_private.h"

bool pyn_proto_read_pid(struct pyn_reader *r, struct pyn_span *pid)
{
    struct pyn_token t;

    if (!pyn_read_kind(r, PYN_T_PID, &t))
        return false;
    *pid = t.bytes;
    return true;
}

static bool read_timeout(struct pyn_reader *r, uint64_t *ms)
{
    struct pyn_span word;
    int64_t value;

    if (pyn_read_int(r, &value)) {
        *ms = (uint64_t)value;
        return value >= 0;
    }
    *ms = PYN_NO_TIMEOUT;
    return pyn_read_atom(r, &word) && pyn_span_is(word, "infinity");
}

static const char *read_chain(struct pyn_reader *r, struct pyn_parsed *p)
{
    int64_t interp, run, depth;
    uint32_t arity;

    if (!pyn_read_tuple(r, &arity) || arity < 3 || arity > 4 || !pyn_read_int(r, &interp) || !pyn_read_int(r, &run) ||
        !pyn_read_int(r, &depth) || interp < 0 || interp > INT32_MAX || run < 0 ||
        (arity == 4 && !pyn_read_int(r, &p->call.span)))
        return "chain must be as a callback was given it";
    p->chain_interp = (int)interp;
    p->chain_run = (uint64_t)run;
    return NULL;
}

static bool read_bool(struct pyn_reader *r, bool *value)
{
    struct pyn_span word;

    if (!pyn_read_atom(r, &word) || (!pyn_span_is(word, "true") && !pyn_span_is(word, "false")))
        return false;
    *value = pyn_span_is(word, "true");
    return true;
}

bool pyn_proto_read_key(struct pyn_reader *r, struct pyn_span *key)
{
    struct pyn_token t;

    if (!pyn_read_kind(r, PYN_T_BINARY, &t))
        return false;
    *key = t.bytes;
    return key->len > 0 && key->len <= PYN_KEY_MAX;
}

bool pyn_proto_read_context(struct pyn_reader *r, struct pyn_parsed *p)
{
    int64_t value;

    if (!pyn_read_int(r, &value) || value <= 0)
        return false;
    p->context = (uint64_t)value;
    return true;
}

static const char *read_collect(struct pyn_reader *r, struct pyn_parsed *p)
{
    bool on;

    if (!read_bool(r, &on))
        return "collect must be true or false";
    p->call.use = on ? PYN_USE_COLLECT : PYN_USE_VALUE;
    return NULL;
}

static const char *read_async(struct pyn_reader *r, struct pyn_parsed *p)
{
    struct pyn_span word;

    if (!pyn_read_atom(r, &word))
        word.len = 0;
    if (pyn_span_is(word, "true"))
        p->call.async = PYN_CALL_AWAIT;
    else if (pyn_span_is(word, "stream"))
        p->call.async = PYN_CALL_GATHER;
    else if (!pyn_span_is(word, "false"))
        return "async must be true, false or stream";
    return NULL;
}

static const char *read_option(struct pyn_reader *r, struct pyn_parsed *p)
{
    struct pyn_span key, skipped;

    if (!pyn_read_atom(r, &key))
        return "the keys of options must be atoms";
    if (pyn_span_is(key, "timeout"))
        return read_timeout(r, &p->timeout_ms) ? NULL : "timeout must be milliseconds (not negative) or infinity";
    if (pyn_span_is(key, "traceback"))
        return read_bool(r, &p->call.traceback) ? NULL : "traceback must be true or false";
    if (pyn_span_is(key, "remember"))
        return pyn_proto_read_key(r, &p->remember) ? NULL : "remember must be a binary of 1 to 255 bytes";
    if (pyn_span_is(key, "replay"))
        return read_bool(r, &p->replay) ? NULL : "replay must be true or false";
    if (pyn_span_is(key, "chain"))
        return read_chain(r, p);
    if (pyn_span_is(key, "span"))
        return pyn_read_int(r, &p->call.span) ? NULL : "span must be the number of a span";
    if (pyn_span_is(key, "ctx"))
        return pyn_proto_read_context(r, p) ? NULL : "ctx must be the number of a context";
    if (pyn_span_is(key, "home"))
        return pyn_proto_read_pid(r, &p->home) ? NULL : "home must be a pid";
    if (pyn_span_is(key, "collect"))
        return read_collect(r, p);
    if (pyn_span_is(key, "async"))
        return p->call.kind == PYN_CALL_FUNCTION ? read_async(r, p) : "async is an option of call only";
    /* What later versions know is not an error. */
    return pyn_read_skip(r, &skipped) ? "malformed options" : NULL;
}

const char *pyn_proto_read_options(struct pyn_reader *r, struct pyn_parsed *p)
{
    struct pyn_reader peek = *r;
    struct pyn_token map;

    if (!pyn_read_kind(&peek, PYN_T_MAP, &map))
        return read_timeout(r, &p->timeout_ms) ? NULL
                                               : "options must be a map, or a timeout in milliseconds, or infinity";
    *r = peek;
    for (uint32_t i = 0; i < map.count; i++) {
        const char *complaint = read_option(r, p);
        if (complaint)
            return complaint;
    }
    return NULL;
}
