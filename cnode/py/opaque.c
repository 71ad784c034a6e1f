#include "py/opaque.h"

#include "py/compat.h"

struct opaque {
    PyObject_VAR_HEAD
    uint8_t term[]; /* Py_SIZE bytes */
};

static struct pyn_span term_of(PyObject *self)
{
    return (struct pyn_span){((struct opaque *)self)->term, (size_t)Py_SIZE(self)};
}

/* What is read off a term for people to see. The reader has checked the bytes of a peer, but nothing
 * here trusts that: what does not fit gives false. */

static bool take(struct pyn_reader *r, size_t width, uint64_t *v)
{
    if (pyn_reader_left(r) < width)
        return false;
    *v = 0;
    while (width-- > 0)
        *v = *v << 8 | *r->pos++;
    return true;
}

/* The name of an atom as a new str; NULL, without an exception where the term is none. */
static PyObject *take_name(struct pyn_reader *r)
{
    struct pyn_token t;

    if (pyn_read_token(r, &t) != PYN_ETF_OK)
        return NULL;
    if (t.kind == PYN_T_ATOM)
        return PyUnicode_DecodeUTF8((const char *)t.bytes.ptr, (Py_ssize_t)t.bytes.len, NULL);
    if (t.kind == PYN_T_LATIN1)
        return PyUnicode_DecodeLatin1((const char *)t.bytes.ptr, (Py_ssize_t)t.bytes.len, NULL);
    return NULL;
}

enum {
    NEW_PID = 88,
    NEW_PORT = 89,
    NEWER_REF = 90,
    OLD_REF = 101,
    NEW_FUN = 112,
    EXPORT = 113,
    NEW_REF = 114,
    V4_PORT = 120
};

/* The shapes begin:  pid and port: tag, node, ...   references (but the oldest): tag, 16-bit length,
 * node, ... */
static struct pyn_reader at_node(struct pyn_span term, uint64_t *tag, uint64_t *words)
{
    struct pyn_reader r = pyn_reader_of(term);

    *words = 1;
    if (!take(&r, 1, tag))
        *tag = 0;
    if ((*tag == NEWER_REF || *tag == NEW_REF) && !take(&r, 2, words))
        *words = 0;
    return r;
}

static PyObject *pid_text(struct pyn_span term)
{
    uint64_t tag, words, id, serial;
    struct pyn_reader r = at_node(term, &tag, &words);
    PyObject *node = take_name(&r), *text = NULL;

    if (node && take(&r, 4, &id) && take(&r, 4, &serial))
        text = PyUnicode_FromFormat("<erlang.Pid %U %u.%u>", node, (unsigned)id, (unsigned)serial);
    Py_XDECREF(node);
    return text;
}

static PyObject *port_text(struct pyn_span term)
{
    uint64_t tag, words, id;
    struct pyn_reader r = at_node(term, &tag, &words);
    PyObject *node = take_name(&r), *text = NULL;

    if (node && take(&r, tag == V4_PORT ? 8 : 4, &id))
        text = PyUnicode_FromFormat("<erlang.Port %U %llu>", node, (unsigned long long)id);
    Py_XDECREF(node);
    return text;
}

/* Words in the order in which Erlang prints them: the last one first. */
static PyObject *words_text(PyObject *node, struct pyn_reader *r, uint64_t words)
{
    char digits[5 * 11 + 1] = "";
    int len = 0;

    if (words == 0 || words > 5 || pyn_reader_left(r) < words * 4)
        return NULL;
    for (uint64_t i = words; i-- > 0;) {
        struct pyn_reader at = {r->pos + 4 * i, r->end};
        uint64_t v = 0;

        (void)take(&at, 4, &v);
        len += PyOS_snprintf(digits + len, sizeof(digits) - (size_t)len, "%s%u", len ? "." : "", (unsigned)v);
    }
    return PyUnicode_FromFormat("<erlang.Reference %U %s>", node, digits);
}

static PyObject *reference_text(struct pyn_span term)
{
    uint64_t tag, words, creation;
    struct pyn_reader r = at_node(term, &tag, &words);
    size_t width = tag == NEWER_REF ? 4 : tag == NEW_REF ? 1 : 0; /* of the creation, when it comes first */
    PyObject *node = take_name(&r), *text = NULL;

    if (node && take(&r, width, &creation))
        text = words_text(node, &r, words);
    Py_XDECREF(node);
    return text;
}

static PyObject *export_text(struct pyn_reader *r)
{
    PyObject *module = take_name(r), *name = NULL, *text = NULL;
    int64_t arity;

    if (module)
        name = take_name(r);
    if (name && pyn_read_int(r, &arity))
        text = PyUnicode_FromFormat("<erlang.Function %U:%U/%d>", module, name, (int)arity);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return text;
}

static PyObject *function_text(struct pyn_span term)
{
    struct pyn_reader r = pyn_reader_of(term);
    uint64_t tag, skip, arity;
    int64_t index, uniq;
    PyObject *module, *text = NULL;

    if (!take(&r, 1, &tag))
        return NULL;
    if (tag == EXPORT)
        return export_text(&r);
    /* Size:32, Arity:8, Uniq:128, Index:32, NumFree:32, Module, OldIndex, OldUniq, ... */
    if (tag != NEW_FUN || !take(&r, 4, &skip) || !take(&r, 1, &arity) || pyn_reader_left(&r) < 24)
        return NULL;
    r.pos += 24;
    module = take_name(&r);
    if (module && pyn_read_int(&r, &index) && pyn_read_int(&r, &uniq))
        text = PyUnicode_FromFormat("<erlang.Function %U.%lld.%lld/%u>", module, (long long)index, (long long)uniq,
                                    (unsigned)arity);
    Py_XDECREF(module);
    return text;
}

static PyObject *bitstring_text(struct pyn_span term)
{
    struct pyn_reader r = pyn_reader_of(term);
    uint64_t tag, bytes, bits;

    if (!take(&r, 1, &tag) || !take(&r, 4, &bytes) || !take(&r, 1, &bits) || bytes == 0)
        return NULL;
    return PyUnicode_FromFormat("<erlang.Bitstring of %llu bits>", (unsigned long long)((bytes - 1) * 8 + bits));
}

static PyObject *improper_text(struct pyn_span term)
{
    struct pyn_reader r = pyn_reader_of(term);
    struct pyn_token t;

    if (!pyn_read_kind(&r, PYN_T_LIST, &t))
        return NULL;
    return PyUnicode_FromFormat("<erlang.ImproperList of %u elements and a tail>", (unsigned)t.count);
}

/* Python object: slots */

static PyObject *opaque_text(PyObject *self, PyObject *(*text)(struct pyn_span))
{
    PyObject *s = text(term_of(self));

    if (s || PyErr_Occurred())
        return s;
    return PyUnicode_FromFormat("<%s of %zd bytes>", Py_TYPE(self)->tp_name, Py_SIZE(self));
}

#define REPR_SLOT(name, text)                                                                                          \
    static PyObject *name(PyObject *self)                                                                              \
    {                                                                                                                  \
        return opaque_text(self, text);                                                                                \
    }
REPR_SLOT(pid_repr, pid_text)
REPR_SLOT(reference_repr, reference_text)
REPR_SLOT(port_repr, port_text)
REPR_SLOT(function_repr, function_text)
REPR_SLOT(bitstring_repr, bitstring_text)
REPR_SLOT(improper_repr, improper_text)

static void opaque_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_Free(self);
    Py_DECREF(type); /* a heap type is held by each of its instances */
}

static Py_hash_t opaque_hash(PyObject *self)
{
    return pyn_hash_bytes(term_of(self));
}

static PyObject *opaque_compare(PyObject *a, PyObject *b, int op)
{
    bool same;

    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b))
        Py_RETURN_NOTIMPLEMENTED;
    same = pyn_span_eq(term_of(a), term_of(b));
    return PyBool_FromLong(same == (op == Py_EQ));
}

static PyObject *opaque_copy(PyObject *self, PyObject *Py_UNUSED(memo))
{
    return Py_NewRef(self);
}

static PyObject *opaque_reduce(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    return PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object: it belongs to a running Erlang node",
                        Py_TYPE(self)->tp_name);
}

static PyObject *opaque_node(PyObject *self, void *Py_UNUSED(closure))
{
    uint64_t tag, words;
    struct pyn_reader r = at_node(term_of(self), &tag, &words);
    PyObject *name = take_name(&r);

    if (!name && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "the term names no node");
    return name;
}

static PyMethodDef opaque_methods[] = {
    {"__copy__", opaque_copy, METH_NOARGS, NULL},
    {"__deepcopy__", opaque_copy, METH_O, NULL},
    {"__reduce__", opaque_reduce, METH_NOARGS, NULL},
    {"__reduce_ex__", opaque_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef node_getset[] = {
    {"node", opaque_node, NULL, "The name of the node that it belongs to.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyGetSetDef no_getset[] = {{NULL, NULL, NULL, NULL, NULL}};

static const struct {
    const char *name;
    const char *doc;
    reprfunc repr;
    PyGetSetDef *getset;
} KINDS[PYN_OPAQUE_KINDS] = {
    [PYN_OPAQUE_PID] =
        {"erlang.Pid",
         "An Erlang process identifier: hashable, comparable, and the same process when it comes back to Erlang.",
         pid_repr, node_getset},
    [PYN_OPAQUE_REFERENCE] = {"erlang.Reference", "An Erlang reference.", reference_repr, node_getset},
    [PYN_OPAQUE_PORT] = {"erlang.Port", "An Erlang port.", port_repr, node_getset},
    [PYN_OPAQUE_FUNCTION] = {"erlang.Function", "An Erlang fun.", function_repr, no_getset},
    [PYN_OPAQUE_BITSTRING] = {"erlang.Bitstring", "Bits that are no whole bytes.", bitstring_repr, no_getset},
    [PYN_OPAQUE_IMPROPER_LIST] = {"erlang.ImproperList", "A list whose tail is no list.", improper_repr, no_getset},
};

PyObject *pyn_opaque_type_new(PyObject *module, enum pyn_opaque_kind kind)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, (char *)KINDS[kind].doc}, {Py_tp_dealloc, opaque_dealloc},
        {Py_tp_repr, KINDS[kind].repr},       {Py_tp_hash, opaque_hash},
        {Py_tp_richcompare, opaque_compare},  {Py_tp_methods, opaque_methods},
        {Py_tp_getset, KINDS[kind].getset},   {0, NULL},
    };
    PyType_Spec spec = {
        .name = KINDS[kind].name,
        .basicsize = (int)offsetof(struct opaque, term),
        .itemsize = 1,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = slots,
    };

    return PyType_FromModuleAndSpec(module, &spec, NULL);
}

PyObject *pyn_opaque_new(struct pyn_types *ty, enum pyn_opaque_kind kind, struct pyn_span term)
{
    struct opaque *o = PyObject_NewVar(struct opaque, ty->opaque[kind], (Py_ssize_t)term.len);

    if (o)
        memcpy(o->term, term.ptr, term.len);
    return (PyObject *)o;
}

bool pyn_opaque_term(struct pyn_types *ty, PyObject *o, struct pyn_span *term)
{
    PyTypeObject *type = Py_TYPE(o);

    for (int i = 0; i < PYN_OPAQUE_KINDS; i++) {
        if (type == ty->opaque[i]) {
            *term = term_of(o);
            return true;
        }
    }
    return false;
}
