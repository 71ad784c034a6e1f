/* Coroutines: requests whose function gave something to await, which an event loop runs while the worker goes on.
 *
 * One loop per worker, on a thread of its own, made when the first coroutine comes to it. Two halves: struct pyn_loop
 * is svc's (which requests it has, what it is told by its eventfd), struct pyn_runner is py's (the thread in its
 * interpreter, the step that it runs, so that it can be interrupted). The functions of struct pyn_coroutines are
 * svc's; py only calls them. No Python type appears here. */
#ifndef PYN_PY_COROUTINES_H
#define PYN_PY_COROUTINES_H

#include "base/out.h"
#include "py/call.h"

struct pyn_loop;
struct pyn_request;
struct pyn_runner;

/* Where a coroutine is to run. */
struct pyn_place {
    unsigned number; /* the worker whose loop it is */
    uint64_t loop;   /* that loop, a number; 0: to be made */
};

struct pyn_coroutines {
    void *ctx;

    /* On a worker's thread. The request that it runs is to be answered later, by answer and end. Returns its number; 0:
     * the node stops. Attached. */
    uint64_t (*defer)(void *ctx, struct pyn_place *place);
    /* No loop got it: it is the worker's to answer, as ever. false: a loop has begun it all the same. */
    bool (*undo)(void *ctx, uint64_t request);

    /* A loop for that worker's coroutines; *number is its number. When there is one already only its number is given,
     * and NULL; NULL and 0: the node stops, or out of memory or descriptors. Any thread. */
    struct pyn_loop *(*open)(void *ctx, unsigned place, struct pyn_runner *runner, uint64_t *number);
    /* Something waits for the loop to take it. false: it is closed. Any thread. */
    bool (*wake)(void *ctx, uint64_t loop);

    /* The rest is for the loop's own thread. */
    int (*fd)(void *ctx, struct pyn_loop *l); /* an eventfd: readable when there is something to take */
    /* What the loop was told: up to `max` requests whose tasks are to be cancelled. *stop: it has to end; *retire: it
     * was given up and another one has its place, so it has to end when it has no coroutine any more. */
    unsigned (*take)(void *ctx, struct pyn_loop *l, uint64_t *requests, unsigned max, bool *stop, bool *retire);
    /* The loop is going to run the coroutine of that request. false: it has ended meanwhile and is forgotten now. */
    bool (*begin)(void *ctx, struct pyn_loop *l, uint64_t request);
    /* The coroutine has ended: begins the answer in `out` (empty before), behind which the result is to be written.
     * NULL: somebody has answered; the request is forgotten now. */
    struct pyn_request *(*answer)(void *ctx, uint64_t request, struct pyn_out *out, size_t *frame);
    /* Sends what stands in `out` and forgets the request. It goes out by flush at the latest. */
    void (*end)(void *ctx, struct pyn_loop *l, struct pyn_request *r, size_t frame, struct pyn_out *out,
                enum pyn_call_outcome outcome);
    /* The coroutine was lost (its loop has ended): the request is answered so. Any thread. */
    void (*drop)(void *ctx, uint64_t request);
    /* Detached. */
    void (*flush)(void *ctx, struct pyn_loop *l);
    /* Nobody will find the loop any more, when this returns; frees it. Detached. */
    void (*close)(void *ctx, struct pyn_loop *l);
};

/* Set before the first call, by svc; lives as long as Python. NULL: the node has ended. */
void pyn_coroutines_set(const struct pyn_coroutines *c);
const struct pyn_coroutines *pyn_coroutines_get(void);

/* The request that the calling thread runs a coroutine of, or on whose behalf it does something else (by the context
 * variable, which threads of asyncio.to_thread have too). 0: none. Attached. */
uint64_t pyn_runner_request(void);
/* The loop that the calling thread runs, or NULL. */
struct pyn_loop *pyn_runner_loop(void);

/* Which request's step the loop runs now, and since when; 0: none. Any thread. */
uint64_t pyn_runner_look(struct pyn_runner *r, uint64_t *since);
/* Raises KeyboardInterrupt in the loop's thread if it still runs a step of that request. Waits for the interpreter, as
 * pyn_seat_interrupt does. */
void pyn_runner_interrupt(struct pyn_runner *r, uint64_t request);
/* The step imports a module: an interrupt takes up to PYN_IMPORT_PATIENCE longer. Any thread. */
bool pyn_runner_imports(struct pyn_runner *r);

#endif
