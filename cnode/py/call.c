#include "py/call.h"

#include <stdlib.h>

#include "etf/writer.h"
#include "py/child.h"
#include "py/decode.h"
#include "py/encode.h"
#include "py/later.h"
#include "py/result.h"
#include "py/space_private.h"
#include "py/stream.h"
#include "py/target.h"
#include "py/trace.h"

enum { FEW_ARGS = 8, MAX_ARGS = 255 * 256 };

/* ---- results ---- */

enum pyn_call_outcome pyn_call_write_error(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out,
                                           size_t mark)
{
    return pyn_result_error(s->types, out, mark, call->traceback);
}

static int encode_used(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out, PyObject *value)
{
    switch (call->use) {
    case PYN_USE_COLLECT:
        return pyn_stream_collect(s, value, out);
    case PYN_USE_KEEP:
        return pyn_stream_keep(call, value, out);
    case PYN_USE_VALUE:
        break;
    }
    return pyn_encode(s->types, value, out);
}

/* Steals value. */
static enum pyn_call_outcome write_value(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out,
                                         PyObject *value)
{
    size_t mark = out->buf.len;
    int bad;

    pyn_write_tuple(&out->buf, 2);
    pyn_write_atom(&out->buf, "ok");
    bad = encode_used(s, call, out, value);
    Py_DECREF(value);
    return bad ? pyn_call_write_error(s, call, out, mark) : PYN_CALL_OK;
}

/* ---- call ---- */

/* Arguments for PyObject_Vectorcall: slot 0 is the callee's to write on (PY_VECTORCALL_ARGUMENTS_OFFSET). */
struct arguments {
    PyObject *few[FEW_ARGS + 1];
    PyObject **all; /* few, or allocated */
    size_t count;   /* decoded so far, positional and keyword ones; owned */
    size_t positional;
    PyObject *names; /* owned tuple of str, or NULL */
};

static void release_arguments(struct arguments *a)
{
    for (size_t i = 0; i < a->count; i++)
        Py_DECREF(a->all[i + 1]);
    if (a->all != a->few)
        free(a->all);
    Py_XDECREF(a->names);
}

static int reserve(struct arguments *a, size_t total)
{
    a->all = a->few;
    if (total <= FEW_ARGS)
        return 0;
    if (total > MAX_ARGS) {
        PyErr_Format(PyExc_TypeError, "%zu arguments: at most %d are possible", total, MAX_ARGS);
        return -1;
    }
    a->all = malloc((total + 1) * sizeof(*a->all));
    if (!a->all) {
        a->all = a->few;
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* Lists of small integers come as strings of bytes. */
static int decode_bytes(struct arguments *a, struct pyn_span bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        PyObject *value = PyLong_FromLong(bytes.ptr[i]);
        if (!value)
            return -1;
        a->all[++a->count] = value;
    }
    return 0;
}

static int decode_positional(struct pyn_seat *s, struct arguments *a, struct pyn_reader *r,
                             const struct pyn_token *head)
{
    if (head->kind == PYN_T_STRING)
        return decode_bytes(a, head->bytes);
    for (uint32_t i = 0; i < head->count; i++) {
        PyObject *value = pyn_decode(s->types, r);
        if (!value)
            return -1;
        a->all[++a->count] = value;
    }
    return 0;
}

/* An atom and a binary of the same characters are one name here; Python itself would keep the last one silently. */
static int refuse_doubled(PyObject *names)
{
    PyObject *set = PySet_New(names);
    int rc = set ? 0 : -1;

    if (set && PySet_GET_SIZE(set) < PyTuple_GET_SIZE(names)) {
        PyErr_SetString(PyExc_TypeError, "two keyword names become equal in Python");
        rc = -1;
    }
    Py_XDECREF(set);
    return rc;
}

static int decode_keywords(struct pyn_seat *s, struct arguments *a, struct pyn_reader *r, uint32_t count)
{
    if (count == 0)
        return 0;
    a->names = PyTuple_New((Py_ssize_t)count);
    if (!a->names)
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *name = pyn_decode(s->types, r);
        PyObject *value;
        if (!name)
            return -1;
        PyTuple_SET_ITEM(a->names, (Py_ssize_t)i, name); /* steals */
        if (!PyUnicode_Check(name)) {
            PyErr_SetString(PyExc_TypeError, "keyword names must be atoms or UTF-8 binaries");
            return -1;
        }
        value = pyn_decode(s->types, r);
        if (!value)
            return -1;
        a->all[++a->count] = value;
    }
    return count > 1 ? refuse_doubled(a->names) : 0;
}

static int decode_arguments(struct pyn_seat *s, struct arguments *a, const struct pyn_call *call)
{
    struct pyn_reader positional = pyn_reader_of(call->args);
    struct pyn_reader keyword = pyn_reader_of(call->kwargs);
    struct pyn_token head = {0}, map = {0};
    size_t total;

    a->all = a->few;
    if (pyn_read_token(&positional, &head) || (call->kwargs.len > 0 && pyn_read_token(&keyword, &map))) {
        PyErr_SetString(PyExc_ValueError, "the arguments are malformed");
        return -1;
    }
    a->positional = head.kind == PYN_T_STRING ? head.bytes.len : head.count;
    total = a->positional + map.count;
    if (reserve(a, total) != 0)
        return -1;
    if (decode_positional(s, a, &positional, &head) != 0)
        return -1;
    return decode_keywords(s, a, &keyword, map.count);
}

static PyObject *sorted_names(PyObject *space)
{
    PyObject *names = PyDict_Keys(space);

    if (names && PyList_Sort(names) != 0)
        Py_CLEAR(names);
    return names;
}

/* Some of Python's own functions look at the code that calls them. There is none: __main__, or the context, is in its
 * place. */
static PyObject *call_builtin(struct pyn_seat *s, PyObject *callable, struct pyn_span name, struct arguments *a)
{
    bool runs = pyn_span_is(name, "eval") || pyn_span_is(name, "exec");

    if (a->count == 0 && (pyn_span_is(name, "globals") || pyn_span_is(name, "locals") || pyn_span_is(name, "vars")))
        return Py_NewRef(s->names);
    if (a->count == 0 && pyn_span_is(name, "dir"))
        return sorted_names(s->names);
    if (a->count == 1 && a->positional == 1 && runs) { /* there is room for FEW_ARGS */
        a->all[2] = Py_NewRef(s->names);
        a->count = a->positional = 2;
    }
    return PyObject_Vectorcall(callable, a->all + 1, a->positional | PY_VECTORCALL_ARGUMENTS_OFFSET, a->names);
}

static enum pyn_call_outcome run_function(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out)
{
    size_t mark = out->buf.len;
    struct arguments a = {.all = a.few};
    PyObject *callable, *value;
    bool refused;

    callable = pyn_target_find(s, call->module, call->function, &refused);
    if (refused) {
        PyErr_Clear();
        return PYN_CALL_REFUSED;
    }
    if (!callable || decode_arguments(s, &a, call) != 0)
        value = NULL;
    else if (pyn_span_is(call->module, "builtins"))
        value = call_builtin(s, callable, call->function, &a);
    else
        value = PyObject_Vectorcall(callable, a.all + 1, a.positional | PY_VECTORCALL_ARGUMENTS_OFFSET, a.names);
    pyn_child_ends(); /* before its value is looked at */
    release_arguments(&a);
    Py_XDECREF(callable);
    if (value && call->async != PYN_CALL_PLAIN)
        return pyn_later_run(s, call, out, value);
    return value ? write_value(s, call, out, value) : pyn_call_write_error(s, call, out, mark);
}

/* ---- eval and exec ---- */

/* The namespace of an eval with locals: a copy of __main__ (or of the context's) with the locals on top, so that
 * lambdas and comprehensions see them too, and nothing stays. New reference. */
static PyObject *namespace_with(struct pyn_seat *s, struct pyn_span locals)
{
    PyObject *names = pyn_decode_span(s->types, locals);
    PyObject *space = NULL;

    if (!names)
        return NULL;
    if (!PyDict_Check(names)) {
        PyErr_SetString(PyExc_TypeError, "locals must be a map");
        goto out;
    }
    space = PyDict_Copy(s->names);
    if (space && PyDict_Update(space, names) != 0)
        Py_CLEAR(space);
out:
    Py_DECREF(names);
    return space;
}

/* Without the blanks before it, as Python's own eval takes it. */
static struct pyn_span expression_of(struct pyn_span code)
{
    while (code.len > 0 && (*code.ptr == ' ' || *code.ptr == '\t')) {
        code.ptr++;
        code.len--;
    }
    return code;
}

static enum pyn_call_outcome run_eval(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out)
{
    size_t mark = out->buf.len;
    PyObject *code = pyn_code_find(s, expression_of(call->code), Py_eval_input);
    PyObject *space = NULL, *value = NULL;

    if (code)
        space = call->locals.len > 0 ? namespace_with(s, call->locals) : Py_NewRef(s->names);
    if (space)
        value = PyEval_EvalCode(code, space, space);
    pyn_child_ends();
    Py_XDECREF(space);
    Py_XDECREF(code);
    return value ? write_value(s, call, out, value) : pyn_call_write_error(s, call, out, mark);
}

/* Whether there are several __main__, so that one has to know which of them holds a name. Not only those of workers
 * that own their interpreter: helpers run code there as well, and there is the main one. */
static bool names_are_asked_for(void)
{
    return pyn_host_mode() == PYN_MODE_SUBINTERP;
}

/* Which names of __main__ are bound to something else than before: the callers of other processes find them by it. */
static int note_new_names(struct pyn_seat *s, PyObject *before)
{
    PyObject *after = PyDict_Copy(s->main_dict);
    PyObject *names = after ? PyList_New(0) : NULL;
    PyObject *key, *value;
    Py_ssize_t at = 0;

    while (names && PyDict_Next(after, &at, &key, &value)) {
        if (PyUnicode_Check(key) && PyDict_GetItem(before, key) != value && PyList_Append(names, key) != 0)
            Py_CLEAR(names);
    }
    Py_XDECREF(after);
    Py_XSETREF(s->new_names, names);
    return names ? 0 : -1;
}

static int note_bound(struct pyn_seat *s, PyObject *before, bool everywhere)
{
    if (everywhere && pyn_space_extend_base(before, s->main_dict) != 0)
        return -1;
    return names_are_asked_for() ? note_new_names(s, before) : 0;
}

/* The same where the code may have failed half way: its exception stays, and what it bound until then counts. */
static int note_after(struct pyn_seat *s, PyObject *before, bool everywhere, bool failed)
{
    PyObject *type, *value, *trace;
    int rc;

    if (!failed)
        return note_bound(s, before, everywhere);
    PyErr_Fetch(&type, &value, &trace);
    rc = note_bound(s, before, everywhere);
    PyErr_Clear();
    PyErr_Restore(type, value, trace);
    return rc;
}

static enum pyn_call_outcome run_exec(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out)
{
    size_t mark = out->buf.len;
    PyObject *code = pyn_code_find(s, call->code, Py_file_input);
    PyObject *before = NULL, *value = NULL, *names = s->names;
    /* What a context binds is nobody else's to find. */
    bool note = names == s->main_dict && (names_are_asked_for() || call->everywhere);

    Py_CLEAR(s->new_names);
    if (code && note)
        before = PyDict_Copy(names);
    if (code && (before || !note))
        value = PyEval_EvalCode(code, names, names);
    if (before && note_after(s, before, call->everywhere, !value) != 0)
        Py_CLEAR(value);
    Py_XDECREF(before);
    Py_XDECREF(code);
    if (!value)
        return pyn_call_write_error(s, call, out, mark);
    Py_DECREF(value);
    pyn_write_atom(&out->buf, "ok");
    return PYN_CALL_OK;
}

void pyn_call_new_names(struct pyn_seat *s, void (*fn)(void *ctx, struct pyn_span name), void *ctx)
{
    for (Py_ssize_t i = 0; s->new_names && i < PyList_GET_SIZE(s->new_names); i++) {
        Py_ssize_t len;
        const char *text = PyUnicode_AsUTF8AndSize(PyList_GET_ITEM(s->new_names, i), &len);
        if (text)
            fn(ctx, (struct pyn_span){(const uint8_t *)text, (size_t)len});
        else
            PyErr_Clear(); /* a name with surrogates: no request can hold it */
    }
    Py_CLEAR(s->new_names);
}

static enum pyn_call_outcome run(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out)
{
    switch (call->kind) {
    case PYN_CALL_FUNCTION:
        return run_function(s, call, out);
    case PYN_CALL_EVAL:
        return run_eval(s, call, out);
    case PYN_CALL_STREAM_NEXT:
        return pyn_stream_next(s, call, out);
    case PYN_CALL_STREAM_CLOSE:
        return pyn_stream_close(s, call, out);
    case PYN_CALL_EXEC:
        break;
    }
    return run_exec(s, call, out);
}

enum pyn_call_outcome pyn_call_run(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out)
{
    void *mark = pyn_trace_enter(s->types, call->span);
    enum pyn_call_outcome outcome = run(s, call, out);

    pyn_child_ends();
    pyn_trace_leave(s->types, mark);
    return outcome;
}
