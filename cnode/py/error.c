#include "py/error.h"

#include <string.h>

#include "etf/utf8.h"
#include "etf/writer.h"
#include "py/compat.h"

enum {
    NAME_MAX_CHARS = 255,
    MESSAGE_MAX = 64 * 1024,
    TRACEBACK_MAX = 256 * 1024,
    REPR_MAX_CHARS = 100,
};

PyObject *pyn_short_repr(PyObject *o)
{
    PyObject *repr = PyObject_Repr(o), *cut;

    if (!repr) {
        PyErr_Clear();
        repr = PyUnicode_FromFormat("<%s>", Py_TYPE(o)->tp_name);
    }
    if (repr && PyUnicode_GetLength(repr) > REPR_MAX_CHARS) {
        cut = PyUnicode_Substring(repr, 0, REPR_MAX_CHARS);
        Py_SETREF(repr, cut ? PyUnicode_FromFormat("%U...", cut) : NULL);
        Py_XDECREF(cut);
    }
    if (!repr)
        PyErr_Clear();
    return repr;
}

/* A path longer than this is shown by its two ends. */
enum { PATH_HEAD = 6, PATH_TAIL = 3 };

PyObject *pyn_path_text(PyObject *places)
{
    Py_ssize_t n = places ? PyList_GET_SIZE(places) : 0;
    PyObject *text = PyUnicode_FromString(n > 0 ? " at " : "");

    for (Py_ssize_t i = 0; i < n && text; i++) {
        if (n > PATH_HEAD + PATH_TAIL && i == PATH_HEAD) {
            i = n - PATH_TAIL;
            PyUnicode_AppendAndDel(&text, PyUnicode_FromString("..."));
        }
        PyUnicode_Append(&text, PyList_GET_ITEM(places, n - 1 - i));
    }
    return text;
}

/* UTF-8 as a new bytes object; NULL, with no exception left, when that cannot be had. */
static PyObject *utf8_of(PyObject *str)
{
    PyObject *utf8 = str ? PyUnicode_AsEncodedString(str, "utf-8", "backslashreplace") : NULL;

    if (!utf8)
        PyErr_Clear();
    return utf8;
}

/* The bytes, or the text in their stead, cut between two characters. */
static struct pyn_span span_of(PyObject *utf8, const char *instead, size_t max)
{
    struct pyn_span s = {(const uint8_t *)instead, strlen(instead)};

    if (utf8)
        s = (struct pyn_span){(const uint8_t *)PyBytes_AS_STRING(utf8), (size_t)PyBytes_GET_SIZE(utf8)};
    if (s.len > max) {
        s.len = max;
        while (s.len > 0 && (s.ptr[s.len] & 0xc0) == 0x80)
            s.len--;
    }
    return s;
}

static struct pyn_span first_chars(struct pyn_span s, size_t chars)
{
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;

    while (p < end && chars-- > 0)
        (void)pyn_utf8_next(&p, end);
    return (struct pyn_span){s.ptr, (size_t)(p - s.ptr)};
}

static PyObject *class_name(PyObject *exc)
{
    PyObject *name = PyType_GetName(Py_TYPE(exc)), *utf8 = utf8_of(name);

    Py_XDECREF(name);
    return utf8;
}

/* ---- places ---- */

/* The attribute has the place, and the same object is one of the notes: so it is told from other notes. Its name is
 * interned, as Python's cache of attributes keeps every other string that it was asked for. */
static PyObject *place_name(void)
{
    return PyUnicode_InternFromString("_pynode_place");
}

/* New, or NULL without an exception. */
static PyObject *place_of(PyObject *exc)
{
    PyObject *name = place_name(), *place = name ? PyObject_GetAttr(exc, name) : NULL;

    if (!place)
        PyErr_Clear();
    else if (!PyUnicode_Check(place))
        Py_CLEAR(place);
    Py_XDECREF(name);
    return place;
}

/* NULL removes it. 0, or -1 without an exception. */
static int keep_place(PyObject *exc, PyObject *place)
{
    PyObject *name = place_name();
    int rc = name ? PyObject_SetAttr(exc, name, place) : -1;

    if (rc < 0)
        PyErr_Clear();
    Py_XDECREF(name);
    return rc;
}

static void remove_note(PyObject *exc, const PyObject *note)
{
    PyObject *notes = PyObject_GetAttrString(exc, "__notes__");

    for (Py_ssize_t i = 0; notes && PyList_Check(notes) && i < PyList_GET_SIZE(notes); i++) {
        if (PyList_GET_ITEM(notes, i) == note) {
            (void)PyList_SetSlice(notes, i, i + 1, NULL);
            break;
        }
    }
    Py_XDECREF(notes);
    PyErr_Clear();
}

/* The exception may be raised again, and not in a conversion. */
static void forget_place(PyObject *exc)
{
    PyObject *place = place_of(exc);

    if (!place)
        return;
    remove_note(exc, place);
    (void)keep_place(exc, NULL);
    Py_DECREF(place);
}

void pyn_error_set_place(PyObject *exc, PyObject *place)
{
    PyObject *note = PyUnicode_FromFormat("converting %U", place), *done = NULL;

    forget_place(exc);
    if (note && keep_place(exc, note) == 0)
        done = PyObject_CallMethod(exc, "add_note", "O", note);
    if (!done)
        PyErr_Clear();
    Py_XDECREF(done);
    Py_XDECREF(note);
}

/* Steals text, which may be NULL. */
static PyObject *with_place(PyObject *text, PyObject *exc)
{
    PyObject *place = text ? place_of(exc) : NULL, *longer = NULL;

    if (place) {
        longer = PyUnicode_FromFormat(PyUnicode_GET_LENGTH(text) > 0 ? "%U (%U)" : "%U(%U)", text, place);
        Py_DECREF(place);
    }
    if (!longer) {
        PyErr_Clear();
        return text;
    }
    Py_DECREF(text);
    return longer;
}

/* ---- what is written ---- */

/* str(exc) in UTF-8, or a sentence in its stead; NULL when there is no memory even for that. */
static PyObject *message_of(PyObject *exc)
{
    PyObject *text = PyObject_Str(exc), *utf8;

    if (!text) {
        PyErr_Clear();
        text = PyUnicode_FromFormat("<unprintable %s object>", Py_TYPE(exc)->tp_name);
    }
    text = with_place(text, exc);
    utf8 = utf8_of(text);
    Py_XDECREF(text);
    return utf8;
}

/* traceback.format_exception(exc) in UTF-8, or NULL with no exception left. */
static PyObject *traceback_of(PyObject *exc)
{
    PyObject *module = PyImport_ImportModule("traceback"), *lines = NULL, *empty = NULL, *text = NULL, *utf8;

    if (module)
        lines = PyObject_CallMethod(module, "format_exception", "O", exc);
    if (lines)
        empty = PyUnicode_FromStringAndSize(NULL, 0);
    if (empty)
        text = PyUnicode_Join(empty, lines);
    if (!text)
        PyErr_Clear();
    utf8 = utf8_of(text);
    Py_XDECREF(text);
    Py_XDECREF(empty);
    Py_XDECREF(lines);
    Py_XDECREF(module);
    return utf8;
}

static void write_traceback(PyObject *exc, struct pyn_out *out)
{
    PyObject *utf8 = traceback_of(exc);
    struct pyn_span s = span_of(utf8, "(no traceback: formatting it failed)", TRACEBACK_MAX);

    pyn_write_binary(&out->buf, s.ptr, s.len);
    Py_XDECREF(utf8);
}

void pyn_error_write(struct pyn_types *ty, struct pyn_out *out, bool traceback)
{
    PyObject *exc = pyn_take_exception(), *name, *message;
    struct pyn_buf *b = &out->buf;

    (void)ty;
    if (!exc) { /* a function that failed without saying why, as a faulty extension may */
        PyErr_SetString(PyExc_SystemError, "error return without exception set");
        exc = pyn_take_exception();
    }
    name = class_name(exc);
    message = message_of(exc);
    pyn_write_tuple(b, traceback ? 3 : 2);
    pyn_write_atom_span(b, first_chars(span_of(name, "Exception", SIZE_MAX), NAME_MAX_CHARS));
    pyn_write_charlist(b, span_of(message, "no memory for the message", MESSAGE_MAX));
    if (traceback)
        write_traceback(exc, out);
    forget_place(exc);
    Py_XDECREF(name);
    Py_XDECREF(message);
    Py_DECREF(exc);
    PyErr_Clear(); /* a destructor may leave one */
}

static void no_controls(char *line)
{
    for (; *line; line++) {
        if ((unsigned char)*line < 0x20 || *line == 0x7f)
            *line = ' ';
    }
}

void pyn_error_line(char *line, size_t size)
{
    PyObject *exc = pyn_take_exception(), *name, *message;
    struct pyn_span s;

    if (size == 0)
        return;
    if (!exc) {
        (void)PyOS_snprintf(line, size, "no exception set");
        return;
    }
    name = class_name(exc);
    message = message_of(exc);
    s = span_of(name, "Exception", size - 1);
    memcpy(line, s.ptr, s.len);
    line[s.len] = '\0';
    if (size - 1 - s.len > 2) {
        struct pyn_span m = span_of(message, "no memory for the message", size - 1 - s.len - 2);
        char *at = line + s.len;

        memcpy(at, ": ", 2);
        memcpy(at + 2, m.ptr, m.len);
        at[m.len > 0 ? m.len + 2 : 0] = '\0'; /* an empty message: the name alone */
    }
    no_controls(line);
    forget_place(exc);
    Py_XDECREF(name);
    Py_XDECREF(message);
    Py_DECREF(exc);
    PyErr_Clear();
}
