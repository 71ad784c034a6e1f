/* Buffers: of bytes, which become a binary, and of numbers, which become nested lists. The usual numbers are read where
 * they lie, without a Python object for each of them; of everything else the object's own tolist() makes a list. */
#include "py/encode_private.h"

/* A number takes that many bytes at least. */
enum { LEAST_BYTES = 2, NUMBER_BYTES = 16 };

/* ---- bytes ---- */

/* Characters, or a row of bytes: a byte without dimensions is a number. */
static bool is_bytes_format(const Py_buffer *view)
{
    const char *f = view->format ? view->format : "B";

    if (view->itemsize != 1 || view->ndim > 1)
        return false;
    if (f[0] == '<' && f[1] == 'c') /* as ctypes has it */
        f++;
    return f[1] == '\0' && (f[0] == 'c' || (f[0] == 'B' && view->ndim == 1));
}

/* base: whose bytes the view shows, borrowed, or NULL. */
static int put_view(struct pyn_enc *e, Py_buffer *view, PyObject *base)
{
    uint8_t *to;

    /* What other objects export may be written to while it waits to be sent, even if not through this
     * view. */
    if (base && PyBytes_CheckExact(base) && PyBuffer_IsContiguous(view, 'C'))
        return pyn_enc_bytes(e, base, view->buf, (size_t)view->len);
    if (pyn_enc_binary_room(e, (size_t)view->len, &to) < 0)
        return -1;
    return PyBuffer_ToContiguous(to, view, view->len, 'C');
}

/* ---- numbers ---- */

struct numbers {
    const Py_buffer *view;
    char kind; /* i, u, f or b: signed, unsigned, floating, boolean; the width is view->itemsize */
    bool swap; /* the bytes are in the other order than this machine's */
    Py_ssize_t strides[PyBUF_MAX_NDIM];
};

static char kind_of(char code)
{
    static const char codes[] = "bhilqn"
                                "BHILQN"
                                "efd"
                                "?";
    static const char kinds[] = "iiiiii"
                                "uuuuuu"
                                "fff"
                                "b";
    const char *at = code ? strchr(codes, code) : NULL;

    return at ? kinds[at - codes] : '\0';
}

/* Some exporters (ctypes) leave them out, whatever they are asked for: then one element follows the other. */
static void take_strides(struct numbers *n)
{
    Py_ssize_t step = n->view->itemsize;

    for (int i = n->view->ndim - 1; i >= 0; i--) {
        n->strides[i] = n->view->strides ? n->view->strides[i] : step;
        step *= n->view->shape[i];
    }
}

static bool understand(const Py_buffer *view, struct numbers *n)
{
    const char *f = view->format ? view->format : "B";
    const bool big = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
    bool prefixed = strchr("@=<>!", *f) != NULL && *f;
    Py_ssize_t width = view->itemsize;

    n->view = view;
    n->swap = prefixed && (*f == '<' ? big : (*f == '>' || *f == '!') && !big);
    f += prefixed;
    n->kind = kind_of(f[0]);
    if (!n->kind || f[1] != '\0' || view->suboffsets || view->ndim > PyBUF_MAX_NDIM)
        return false;
    take_strides(n);
    return width == 2 || width == 4 || width == 8 || (width == 1 && n->kind != 'f');
}

static uint64_t load(const struct numbers *n, const char *at)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;

    switch (n->view->itemsize) {
    case 1:
        return (uint8_t)*at;
    case 2:
        memcpy(&two, at, sizeof(two));
        return n->swap ? __builtin_bswap16(two) : two;
    case 4:
        memcpy(&four, at, sizeof(four));
        return n->swap ? __builtin_bswap32(four) : four;
    default:
        memcpy(&eight, at, sizeof(eight));
        return n->swap ? __builtin_bswap64(eight) : eight;
    }
}

static double as_double(uint64_t bits, Py_ssize_t width)
{
    uint16_t half = (uint16_t)bits;
    uint32_t four = (uint32_t)bits;
    float narrow;
    double wide;

    switch (width) {
    case 2:
        return PyFloat_Unpack2((const char *)&half, __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
    case 4:
        memcpy(&narrow, &four, sizeof(narrow));
        return (double)narrow;
    default:
        memcpy(&wide, &bits, sizeof(wide));
        return wide;
    }
}

static int put_signed(struct pyn_enc *e, uint64_t bits, Py_ssize_t width)
{
    const uint64_t sign = UINT64_C(1) << (8 * width - 1);

    pyn_write_int(&e->out->buf, (int64_t)((bits ^ sign) - sign));
    return pyn_enc_done(e, NUMBER_BYTES);
}

static int put_unsigned(struct pyn_enc *e, uint64_t v)
{
    uint8_t digits[8];

    if (v <= INT64_MAX) {
        pyn_write_int(&e->out->buf, (int64_t)v);
    } else {
        for (int i = 0; i < 8; i++)
            digits[i] = (uint8_t)(v >> (8 * i));
        pyn_write_big(&e->out->buf, false, (struct pyn_span){digits, sizeof(digits)});
    }
    return pyn_enc_done(e, NUMBER_BYTES);
}

static int put_number(struct pyn_enc *e, const struct numbers *n, const char *at)
{
    uint64_t bits = load(n, at);

    switch (n->kind) {
    case 'i':
        return put_signed(e, bits, n->view->itemsize);
    case 'u':
        return put_unsigned(e, bits);
    case 'f':
        return pyn_enc_float(e, as_double(bits, n->view->itemsize));
    default:
        pyn_write_atom(&e->out->buf, bits ? "true" : "false");
        return pyn_enc_done(e, NUMBER_BYTES);
    }
}

/* The dimensions from `dim` on, whose first element is at `at`; as deep in the recursion as there are dimensions (64
 * at most). */
static int put_dimension(struct pyn_enc *e, const struct numbers *n, int dim, const char *at)
{
    const Py_ssize_t count = dim < n->view->ndim ? n->view->shape[dim] : 0;
    size_t head = e->out->buf.len;

    if (dim == n->view->ndim)
        return put_number(e, n, at);
    pyn_write_list(&e->out->buf, 1);
    if (pyn_enc_done(e, 5) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++, at += n->strides[dim]) {
        if (put_dimension(e, n, dim + 1, at) < 0)
            return -1;
    }
    return pyn_enc_close_list(e, head, (size_t)count);
}

/* An array may be larger than its memory (one number that is shown many times), so that a list of it would end this
 * process. count < 0: not known. */
static int check_size(struct pyn_enc *e, PyObject *o, Py_ssize_t count)
{
    size_t used = pyn_out_size(e->out), max = e->out->buf.max;

    if (count >= 0 && (used > max || (size_t)count > (max - used) / LEAST_BYTES))
        return pyn_enc_refuse(e, PyExc_ValueError, "%s of %zd elements: more than %zu bytes", Py_TYPE(o)->tp_name,
                              count, max);
    return 0;
}

/* Of count elements so far one dimension more is asked for. false: it has none, and so the elements are empty lists. */
static bool multiply(Py_ssize_t *count, Py_ssize_t by)
{
    if (by > 0)
        *count = *count > PY_SSIZE_T_MAX / by ? PY_SSIZE_T_MAX : *count * by;
    return by > 0;
}

static Py_ssize_t count_of(const Py_buffer *view)
{
    Py_ssize_t count = 1;

    for (int i = 0; i < view->ndim && multiply(&count, view->shape[i]); i++) {
    }
    return count;
}

/* 1: these are no numbers that are read here; nothing was written. */
static int put_numbers(struct pyn_enc *e, PyObject *o, const Py_buffer *view, unsigned depth)
{
    struct numbers n;

    if (check_size(e, o, count_of(view)) < 0)
        return -1;
    if (!understand(view, &n))
        return 1;
    if (depth + (unsigned)view->ndim > PYN_ETF_MAX_DEPTH)
        return pyn_enc_too_deep(e, o);
    return put_dimension(e, &n, 0, view->buf);
}

/* ---- objects ---- */

/* Bytes as a binary where `binary` is set, and numbers. 1: it is none of these; nothing was written. */
static int put_memory(struct pyn_enc *e, PyObject *o, unsigned depth, bool binary)
{
    Py_buffer view;
    int rc;

    if (PyObject_GetBuffer(o, &view, PyBUF_FULL_RO) < 0) {
        PyErr_Clear(); /* an array of what has no format, dates for one; or a view that was released */
        return 1;
    }
    if (view.ndim > 0 && !view.shape) {
        PyBuffer_Release(&view);
        return 1;
    }
    if (binary && is_bytes_format(&view))
        rc = put_view(e, &view, PyMemoryView_Check(o) ? PyMemoryView_GET_BUFFER(o)->obj : NULL);
    else
        rc = put_numbers(e, o, &view, depth);
    PyBuffer_Release(&view);
    return rc;
}

/* What tolist() gave, or would give for ever. Steals list. */
static int put_list_of(struct pyn_enc *e, PyObject *o, PyObject *list, unsigned depth)
{
    PyObject *number;
    int rc;

    if (Py_TYPE(list) != Py_TYPE(o)) {
        rc = pyn_enc_value(e, list, depth + 1);
        Py_DECREF(list);
        return rc;
    }
    /* A scalar that Python has no type for, as numpy's long double. */
    Py_DECREF(list);
    number = PyNumber_Float(o);
    if (!number) {
        PyErr_Clear();
        return pyn_enc_text_of(e, o);
    }
    rc = pyn_enc_float(e, PyFloat_AsDouble(number));
    Py_DECREF(number);
    return rc;
}

/* 1: o has no tolist. */
static int put_by_tolist(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    PyObject *method = PyObject_GetAttr(o, e->ty->str_tolist), *list;

    if (!method) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        return 1;
    }
    list = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    return list ? put_list_of(e, o, list, depth) : -1;
}

/* A buffer that has no tolist itself and is of no numbers, as a ctypes array of structures: as a sequence, or by a
 * memoryview. */
static int put_foreign(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    PyObject *list = NULL, *view;

    if (PySequence_Check(o)) {
        list = PySequence_List(o);
    } else {
        view = PyMemoryView_FromObject(o);
        if (view)
            list = PyObject_CallMethodNoArgs(view, e->ty->str_tolist);
        Py_XDECREF(view);
    }
    if (!list) {
        PyErr_Clear();
        return pyn_enc_text_of(e, o);
    }
    return put_list_of(e, o, list, depth);
}

static int put_memoryview(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    int rc = put_memory(e, o, depth, true);

    if (rc <= 0)
        return rc;
    rc = put_by_tolist(e, o, depth);
    if (rc < 0 && PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        PyErr_Clear();
        return pyn_enc_refuse(e, PyExc_TypeError, "memoryview of format '%s'",
                              PyMemoryView_GET_BUFFER(o)->format ? PyMemoryView_GET_BUFFER(o)->format : "");
    }
    return rc;
}

/* ---- numpy ---- */

static bool is_numpy(PyObject *o, const char *name)
{
    const char *type = Py_TYPE(o)->tp_name;

    return strncmp(type, "numpy.", 6) == 0 && strcmp(type + 6, name) == 0;
}

/* tolist() gives dates as objects or as plain numbers, by their unit; their texts are ISO 8601, or with the unit
 * ("5 seconds"), in every unit. 1: this is no array of them. */
static int put_dates(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    PyObject *kind = NULL, *text = NULL, *dtype = PyObject_GetAttrString(o, "dtype");
    int rc = 1;

    if (dtype)
        kind = PyObject_GetAttrString(dtype, "kind");
    if (kind && PyUnicode_Check(kind) &&
        (PyUnicode_CompareWithASCIIString(kind, "M") == 0 || PyUnicode_CompareWithASCIIString(kind, "m") == 0)) {
        text = PyObject_CallMethod(o, "astype", "s", "U");
        rc = text ? put_by_tolist(e, text, depth) : -1;
    }
    if (!kind)
        PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(kind);
    Py_XDECREF(dtype);
    return rc;
}

/* The number of elements by the shape, as numpy says it; -1 when it does not. */
static Py_ssize_t said_size(PyObject *o)
{
    PyObject *shape = PyObject_GetAttrString(o, "shape");
    Py_ssize_t count = shape && PyTuple_Check(shape) ? 1 : -1;

    for (Py_ssize_t i = 0; count >= 0 && i < PyTuple_GET_SIZE(shape); i++) {
        if (!multiply(&count, PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i))))
            break;
    }
    Py_XDECREF(shape);
    PyErr_Clear();
    return count;
}

static int put_array(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    int rc = put_memory(e, o, depth, false);

    if (rc > 0 && (rc = check_size(e, o, said_size(o))) == 0)
        rc = put_dates(e, o, depth);
    return rc;
}

/* Types that know better what they are than their memory does (a masked array, for one) are left to their tolist. */
int pyn_enc_buffer(struct pyn_enc *e, PyObject *o, unsigned depth)
{
    int rc = 1;

    if (depth > PYN_ETF_MAX_DEPTH) /* a tolist() may give something else that has one, and so on */
        return pyn_enc_too_deep(e, o);
    if (PyMemoryView_Check(o))
        return put_memoryview(e, o, depth);
    if (is_numpy(o, "datetime64") || is_numpy(o, "timedelta64"))
        return pyn_enc_text_of(e, o);
    if (is_numpy(o, "ndarray") || is_numpy(o, "memmap") || strcmp(Py_TYPE(o)->tp_name, "array.array") == 0)
        rc = put_array(e, o, depth);
    else if (check_size(e, o, said_size(o)) < 0)
        return -1;
    if (rc > 0)
        rc = put_by_tolist(e, o, depth);
    if (rc > 0)
        rc = put_memory(e, o, depth, true);
    return rc > 0 ? put_foreign(e, o, depth) : rc;
}
