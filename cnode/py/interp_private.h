/* Between py/interp.c, py/call.c and py/stream.c. */
#ifndef PYN_PY_INTERP_PRIVATE_H
#define PYN_PY_INTERP_PRIVATE_H

#include "py/aim.h"
#include "py/host_private.h"
#include "py/interp.h"
#include "py/types.h"

enum { PYN_TARGETS = 512, PYN_CODES = 64 };

/* A callable that was asked for before, by the bytes of its names: saves the making of strings, not the lookup, so that
 * a module that was reloaded or patched is always called as it is now. */
struct pyn_target {
    uint64_t hash; /* 0: empty */
    uint8_t *key;  /* owned: module, 0xff, function */
    size_t key_len;
    PyObject *module; /* owned str */
    PyObject *path;   /* owned tuple of str */
    bool is_main;     /* the module is __main__ */
};

/* Code that was compiled before. */
struct pyn_code {
    uint64_t hash; /* 0: empty */
    uint8_t *key;  /* owned: the source, behind a byte for the kind */
    size_t key_len;
    PyObject *code; /* owned */
};

/* The caches belong to the seat, not the interpreter: no other thread touches them, with or without a GIL. */
struct pyn_seat {
    PyThreadState *state; /* this thread's, in its interpreter */
    unsigned interp;
    bool owns_interp;
    struct pyn_types *types; /* borrowed from erlang_module */
    PyObject *erlang_module; /* owned */
    PyObject *main_dict;     /* owned: of __main__ */
    PyObject *space;         /* owned: the namespace of the context that the worker is bound to; NULL: none */
    PyObject *names;         /* borrowed: main_dict or space, whichever the call that runs sees as __main__ */
    PyObject *loop_module;   /* owned: _pynode_loop, once it was needed */
    PyObject *new_names;     /* owned list: what the last exec bound; NULL where nobody asks */
    struct pyn_target targets[PYN_TARGETS];
    struct pyn_code codes[PYN_CODES];
    struct pyn_aim aim; /* the call that runs */
};

#endif
