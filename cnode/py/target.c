#include "py/target.h"

#include <stdlib.h>
#include <string.h>

#include "py/compat.h"

/* ---- names ---- */

static bool key_matches(const struct pyn_target *t, uint64_t hash, struct pyn_span m, struct pyn_span f)
{
    return t->hash == hash && t->key_len == m.len + 1 + f.len && memcmp(t->key, m.ptr, m.len) == 0 &&
           t->key[m.len] == 0xff && memcmp(t->key + m.len + 1, f.ptr, f.len) == 0;
}

static PyObject *interned(struct pyn_span text)
{
    PyObject *s = PyUnicode_DecodeUTF8((const char *)text.ptr, (Py_ssize_t)text.len, NULL);
    if (s)
        PyUnicode_InternInPlace(&s);
    return s;
}

/* "a.b.c" to the tuple ('a', 'b', 'c'). */
static PyObject *split_path(struct pyn_span dotted)
{
    PyObject *list = PyList_New(0);
    PyObject *tuple = NULL;
    const uint8_t *at = dotted.ptr, *end = dotted.ptr + dotted.len;

    while (list && at <= end) {
        const uint8_t *dot = memchr(at, '.', (size_t)(end - at));
        const uint8_t *stop = dot ? dot : end;
        PyObject *name = interned((struct pyn_span){at, (size_t)(stop - at)});
        int bad = !name || PyList_Append(list, name);
        Py_XDECREF(name);
        if (bad)
            goto out;
        at = stop + 1;
    }
    if (list)
        tuple = PyList_AsTuple(list);
out:
    Py_XDECREF(list);
    return tuple;
}

static void free_target(struct pyn_target *t)
{
    free(t->key);
    Py_XDECREF(t->module);
    Py_XDECREF(t->path);
}

/* false with an exception: *t holds what was made until then. */
static bool make_target(struct pyn_target *t, uint64_t hash, struct pyn_span m, struct pyn_span f)
{
    *t = (struct pyn_target){.hash = hash ? hash : 1, .key_len = m.len + 1 + f.len};
    t->key = malloc(t->key_len);
    t->module = interned(m);
    t->path = split_path(f);
    t->is_main = pyn_span_is(m, "__main__");
    if (!t->key || !t->module || !t->path) {
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        return false;
    }
    memcpy(t->key, m.ptr, m.len);
    t->key[m.len] = 0xff; /* no byte of UTF-8 */
    memcpy(t->key + m.len + 1, f.ptr, f.len);
    return true;
}

/* What makes an object may run the garbage collector, that a destructor, and that a call which is nested in this one
 * and fills the same entry. So the entry is exchanged as a whole, when nothing is left to be made. */
static int fill_target(struct pyn_target *t, uint64_t hash, struct pyn_span m, struct pyn_span f)
{
    struct pyn_target made, old;
    bool ok = make_target(&made, hash, m, f);

    old = ok ? *t : made;
    if (ok)
        *t = made;
    free_target(&old);
    return ok ? 0 : -1;
}

/* ---- lookups ---- */

static bool says_refusal(PyObject *error)
{
    PyObject *text = PyObject_Str(error);
    const char *message = text ? PyUnicode_AsUTF8(text) : NULL;
    bool refused = message && strstr(message, "does not support loading in subinterpreters");

    Py_XDECREF(text);
    PyErr_Clear();
    return refused;
}

/* What the error was raised from, or while it was handled; new reference or NULL. */
static PyObject *earlier_error(PyObject *error)
{
    PyObject *cause = PyException_GetCause(error);

    return cause ? cause : PyException_GetContext(error);
}

/* Packages catch the error of a module that they need and raise one of their own. */
enum { ERRORS_BEHIND = 16 };

static bool is_refusal(void)
{
    PyObject *type, *value, *trace, *error;
    bool refused = false;

    if (!PyErr_ExceptionMatches(PyExc_ImportError))
        return false;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    error = Py_XNewRef(value);
    for (int i = 0; error && !refused && i < ERRORS_BEHIND; i++) {
        PyObject *earlier = earlier_error(error);

        refused = says_refusal(error);
        Py_SETREF(error, earlier);
    }
    Py_XDECREF(error);
    PyErr_Restore(type, value, trace);
    return refused;
}

static PyObject *find_module(struct pyn_seat *s, PyObject *name, bool *refused)
{
    PyObject *module = PyImport_GetModule(name);

    if (module || PyErr_Occurred())
        return module;
    module = PyImport_Import(name);
    if (!module && s->owns_interp)
        *refused = is_refusal();
    return module;
}

/* With an AttributeError of the module: whether that is another one by now. Clears the exception then. */
static bool was_replaced(PyObject *module, PyObject *name)
{
    PyObject *type, *value, *trace, *now;

    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return false;
    PyErr_Fetch(&type, &value, &trace);
    now = PyImport_GetModule(name);
    Py_XDECREF(now);
    if (now == module || PyErr_Occurred()) {
        PyErr_Clear();
        PyErr_Restore(type, value, trace);
        return false;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return true;
}

enum { IMPORT_TRIES = 5 };

/* An attribute of a module. Where another thread imports it at this moment, and is interrupted, Python gives those who
 * wait for it a module that is half done, and forgets it: so it is imported anew. */
static PyObject *find_in_module(struct pyn_seat *s, PyObject *name, PyObject *attribute, bool *refused)
{
    PyObject *value = NULL;
    bool again = true;

    for (int i = 0; again && i < IMPORT_TRIES; i++) {
        PyObject *module = find_module(s, name, refused);
        if (!module)
            return NULL;
        value = PyObject_GetAttr(module, attribute);
        again = !value && i + 1 < IMPORT_TRIES && was_replaced(module, name);
        Py_DECREF(module);
    }
    return value;
}

/* The first name of a call to __main__: missing there is a NameError, as it would be in code that runs there. */
static PyObject *find_in_main(struct pyn_seat *s, PyObject *name)
{
    PyObject *value;

    if (pyn_dict_get(s->names, name, &value) == 0)
        PyErr_Format(PyExc_NameError, "name '%U' is not defined", name);
    return value;
}

PyObject *pyn_target_find(struct pyn_seat *s, struct pyn_span m, struct pyn_span f, bool *refused)
{
    uint64_t hash = pyn_span_hash(f, pyn_span_hash(m, 0));
    struct pyn_target *t = &s->targets[hash % PYN_TARGETS];
    PyObject *name, *path, *at;
    Py_ssize_t i;

    *refused = false;
    if (!key_matches(t, hash ? hash : 1, m, f) && fill_target(t, hash, m, f) != 0)
        return NULL;
    /* The lookups run Python code, and a call nested in that may refill the entry. */
    name = Py_NewRef(t->module);
    path = Py_NewRef(t->path);
    at = t->is_main ? find_in_main(s, PyTuple_GET_ITEM(path, 0))
                    : find_in_module(s, name, PyTuple_GET_ITEM(path, 0), refused);
    for (i = 1; at && i < PyTuple_GET_SIZE(path); i++) {
        PyObject *next = PyObject_GetAttr(at, PyTuple_GET_ITEM(path, i));
        Py_DECREF(at);
        at = next;
    }
    Py_DECREF(path);
    Py_DECREF(name);
    return at;
}

/* ---- code ---- */

PyObject *pyn_code_find(struct pyn_seat *s, struct pyn_span source, int start)
{
    uint64_t hash = pyn_span_hash(source, (uint64_t)start) | 1;
    struct pyn_code *c = &s->codes[hash / 2 % PYN_CODES], old;
    PyObject *code;
    char *text;

    if (memchr(source.ptr, 0, source.len)) {
        PyErr_SetString(PyExc_ValueError, "source code cannot contain null bytes");
        return NULL;
    }
    if (c->hash == hash && c->key_len == source.len + 1 && c->key[0] == (uint8_t)start &&
        memcmp(c->key + 1, source.ptr, source.len) == 0)
        return Py_NewRef(c->code);
    text = malloc(source.len + 2);
    if (!text)
        return PyErr_NoMemory();
    text[0] = (char)start;
    memcpy(text + 1, source.ptr, source.len);
    text[source.len + 1] = 0;
    code = Py_CompileString(text + 1, "<erlang>", start);
    if (!code || source.len > 4096) { /* what is long is not asked for often */
        free(text);
        return code;
    }
    /* As in fill_target: letting go of the old code may run Python code, which finds a whole entry. */
    old = *c;
    *c = (struct pyn_code){hash, (uint8_t *)text, source.len + 1, Py_NewRef(code)};
    free(old.key);
    Py_XDECREF(old.code);
    return code;
}
