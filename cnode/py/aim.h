/* What interrupts aim at: a thread that runs Python code of requests, be it of a seat or of an event loop.
 *
 * An interrupt is KeyboardInterrupt, raised in that thread by another one, in the call that was meant and in no other.
 * It has to wait while the thread is *sheltered*: where an exception would do harm beyond its call. That is in the code
 * of the import system (py/imports.h), whose locks might never be released, and where a coroutine is given to an event
 * loop, which might be half made. The thread itself says when it goes in and out, and raises what came meanwhile. To
 * look at its frames from outside would need all other threads to stand still where there is no GIL, and each interrupt
 * would cost so much that many are late. */
#ifndef PYN_PY_AIM_H
#define PYN_PY_AIM_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>

#include "py/mark.h"

struct pyn_aim {
    PyThreadState *state;
    unsigned long thread; /* as PyThreadState_SetAsyncExc wants it */
    pthread_mutex_t lock; /* guards mark; innermost: only SetAsyncExc is called under it */
    struct pyn_mark mark;
};

void pyn_aim_init(struct pyn_aim *a);
void pyn_aim_free(struct pyn_aim *a);
/* The calling thread, with its thread state, is what is aimed at from now on. Attached. */
void pyn_aim_take(struct pyn_aim *a);
/* The calling thread is so no more. */
void pyn_aim_leave(void);

/* The thread begins something, or is back where it was: returns what it left. Nothing remains of an interrupt that was
 * meant for that. On the thread, attached. */
struct pyn_mark pyn_aim_exchange(struct pyn_aim *a, struct pyn_mark next);
/* Any thread. */
struct pyn_mark pyn_aim_look(struct pyn_aim *a);

/* Raises KeyboardInterrupt in the thread if it still runs `serial`, or has it do so itself when it is not sheltered any
 * more. Waits for that, and for the interpreter, and so is called by a thread that has nothing else to do. true: it was
 * raised. Detached. */
bool pyn_aim_interrupt(struct pyn_aim *a, PyInterpreterState *interp, uint64_t serial);

/* The calling thread goes into a shelter, or, in one, out to code that may be interrupted; _back takes it where it was
 * before. -1 with KeyboardInterrupt, in the place of any other exception: an interrupt was on its way, which would have
 * hit behind the door, or was waiting there. Then _go has changed nothing, and _back has. A thread that nobody aims at
 * may call them. Attached. */
PYN_MUSTCHECK int pyn_aim_go(bool sheltered, bool *before);
PYN_MUSTCHECK int pyn_aim_back(bool before);

/* The calling thread begins (1) or has ended (-1) the import of a module, in its shelter. Meanwhile it is let go on for
 * a while (PYN_IMPORT_PATIENCE) also outside of it, in the code of modules. Attached. */
void pyn_aim_import(int change);

/* The calling thread raises KeyboardInterrupt itself, as its call was called off: the interrupt that comes for the same
 * reason is that one, and the code that tidies up is not hit by another. A thread that nobody aims at may call it.
 * Attached. */
void pyn_aim_raised(void);

#endif
