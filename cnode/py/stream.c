#include "py/stream.h"

#include "base/clock.h"
#include "etf/writer.h"
#include "py/bridge.h"
#include "py/child.h"
#include "py/encode.h"
#include "py/error.h"

/* A request for items is over when it has taken this long, or has given so many bytes. */
#define SLICE PYN_MS
#define CHUNK_BYTES ((size_t)64 * 1024)
/* What was sent waits this long for more to go out with it. While the next item is waited for, the watchdog sends. */
#define FLUSH_AFTER (PYN_MS / 10)

/* ---- items ---- */

enum filled { FILLED, EXHAUSTED, FAILED };

/* Encodes one more item. FAILED: there is an exception, and `out` is as it was. */
static enum filled add_item(struct pyn_seat *s, PyObject *iterator, struct pyn_out *out)
{
    size_t mark = out->buf.len;
    PyObject *item = PyIter_Next(iterator);
    int bad;

    pyn_child_ends(); /* before anything is sent */
    if (!item)
        return PyErr_Occurred() ? FAILED : EXHAUSTED;
    bad = pyn_encode(s->types, item, out);
    Py_DECREF(item);
    if (!bad && pyn_out_fits(out))
        return FILLED;
    if (!bad)
        PyErr_SetString(PyExc_ValueError, "the items are larger than the node's maximum for a message");
    pyn_out_truncate(out, mark);
    return FAILED;
}

/* ---- all of them in one list ---- */

/* The head of the list was written for a count that was not known. */
static void end_list(struct pyn_out *out, size_t head, uint32_t count)
{
    if (count == 0)
        pyn_out_truncate(out, head);
    else if (!out->buf.failed)
        pyn_put_be32(out->buf.data + head + 1, count);
    pyn_write_nil(&out->buf);
}

/* EXHAUSTED, or FAILED. */
static enum filled add_all(struct pyn_seat *s, PyObject *iterator, struct pyn_out *out)
{
    size_t head = out->buf.len;
    uint64_t since = pyn_now();
    enum filled filled = FILLED;
    uint32_t count = 0;

    pyn_write_list(&out->buf, 1);
    while (filled == FILLED) {
        filled = add_item(s, iterator, out);
        count += filled == FILLED;
        if (filled == FILLED && pyn_now() - since > SLICE) {
            filled = pyn_breathe(s->types) == 0 ? FILLED : FAILED;
            since = pyn_now();
        }
    }
    end_list(out, head, count);
    return filled;
}

/* ---- a message for each ---- */

static void flush(const struct pyn_bridge *bridge)
{
    Py_BEGIN_ALLOW_THREADS
    bridge->item_flush(bridge->ctx);
    Py_END_ALLOW_THREADS
}

/* Sends the next item. */
static enum filled send_item(struct pyn_seat *s, const struct pyn_bridge *bridge, PyObject *iterator,
                             struct pyn_out *item, size_t *bytes)
{
    size_t frame = bridge->item_begin(bridge->ctx, item);
    enum filled filled = add_item(s, iterator, item);

    if (filled != FILLED) {
        pyn_out_truncate(item, 0);
        return filled;
    }
    *bytes += pyn_out_size(item);
    bridge->item_send(bridge->ctx, frame, item);
    return FILLED;
}

/* Sends some of the next items, and counts them. */
static enum filled send_some(struct pyn_seat *s, PyObject *iterator, uint32_t max, size_t max_bytes, uint32_t *count)
{
    const struct pyn_bridge *bridge = pyn_bridge_get();
    uint64_t since = pyn_now(), flushed = since, now = since;
    enum filled filled = FILLED;
    struct pyn_out item;
    size_t bytes = 0;

    pyn_out_init(&item, max_bytes);
    for (*count = 0; *count < max && bytes < CHUNK_BYTES && now - since < SLICE;) {
        filled = send_item(s, bridge, iterator, &item, &bytes);
        if (filled != FILLED)
            break;
        ++*count;
        now = pyn_now();
        if (now - flushed > FLUSH_AFTER) {
            flush(bridge);
            flushed = now;
        }
    }
    pyn_out_free(&item);
    return filled;
}

/* ---- the iterators ---- */

/* A new reference to what _pynode_stream has by that name. */
static PyObject *library(const char *name)
{
    PyObject *module = PyImport_ImportModule("_pynode_stream");
    PyObject *found = module ? PyObject_GetAttrString(module, name) : NULL;

    Py_XDECREF(module);
    return found;
}

static PyObject *find_stream(uint64_t number)
{
    PyObject *find = library("find");
    PyObject *iterator = find ? PyObject_CallFunction(find, "K", (unsigned long long)number) : NULL;

    Py_XDECREF(find);
    return iterator;
}

/* What goes wrong in it is written to the log by Python. */
static int close_stream(uint64_t number)
{
    PyObject *close = library("close");
    PyObject *done = close ? PyObject_CallFunction(close, "K", (unsigned long long)number) : NULL;

    Py_XDECREF(close);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* ---- requests ---- */

/* An iterator that was made for the value, not the value itself: nobody else closes it. The exception stays. */
static void close_own(PyObject *iterator, PyObject *value)
{
    PyObject *type, *error, *trace, *close = NULL, *done;

    if (iterator == value)
        return;
    PyErr_Fetch(&type, &error, &trace);
    if (PyObject_HasAttrString(iterator, "close"))
        close = PyObject_GetAttrString(iterator, "close");
    done = close ? PyObject_CallNoArgs(close) : NULL;
    Py_XDECREF(done);
    Py_XDECREF(close);
    PyErr_Clear();
    PyErr_Restore(type, error, trace);
}

int pyn_stream_collect(struct pyn_seat *s, PyObject *value, struct pyn_out *out)
{
    PyObject *make = library("iterator");
    PyObject *iterator = make ? PyObject_CallOneArg(make, value) : NULL;
    enum filled filled = FAILED;

    Py_XDECREF(make);
    if (iterator) {
        filled = add_all(s, iterator, out);
        close_own(iterator, value);
    }
    Py_XDECREF(iterator);
    return filled == EXHAUSTED ? 0 : -1;
}

int pyn_stream_keep(const struct pyn_call *call, PyObject *value, struct pyn_out *out)
{
    PyObject *keep = library("keep");
    PyObject *done = keep ? PyObject_CallFunction(keep, "KO", (unsigned long long)call->stream, value) : NULL;

    Py_XDECREF(keep);
    Py_XDECREF(done);
    if (!done)
        return -1;
    pyn_write_int(&out->buf, (int64_t)call->stream);
    return 0;
}

enum pyn_call_outcome pyn_stream_next(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out)
{
    size_t mark = out->buf.len;
    PyObject *iterator = find_stream(call->stream);
    enum filled filled;
    uint32_t count;

    if (!iterator)
        return pyn_call_write_error(s, call, out, mark);
    filled = send_some(s, iterator, call->max_items, out->buf.max, &count);
    Py_DECREF(iterator);
    pyn_write_tuple(&out->buf, 2);
    pyn_write_atom(&out->buf, "ok");
    pyn_write_tuple(&out->buf, 2);
    pyn_write_int(&out->buf, count);
    if (filled == FILLED) {
        pyn_write_atom(&out->buf, "more");
        return PYN_CALL_OK;
    }
    if (filled == FAILED)
        pyn_call_write_error(s, call, out, out->buf.len);
    else
        pyn_write_atom(&out->buf, "done");
    if (close_stream(call->stream) != 0)
        PyErr_Clear(); /* interrupted: it will be closed once more */
    return PYN_CALL_ENDED;
}

enum pyn_call_outcome pyn_stream_close(struct pyn_seat *s, const struct pyn_call *call, struct pyn_out *out)
{
    if (close_stream(call->stream) != 0)
        return pyn_call_write_error(s, call, out, out->buf.len);
    pyn_write_atom(&out->buf, "ok");
    return PYN_CALL_OK;
}
