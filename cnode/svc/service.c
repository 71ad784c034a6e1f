#include "svc/service.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "svc/service_private.h"

enum { MAX_RPC = 1 << 20, MAX_WATCHED = 65536, MAX_NAMES = 65536, MAX_STREAMS = 4096, WORKER_STACK = 16 * 1024 * 1024 };

/* ---- the pool's operations that are not run.c's ---- */

static void pool_poll(void *service, bool eager)
{
    struct pyn_service *s = service;
    pyn_links_poll(s->links, eager ? PYN_POLL_EAGER : PYN_POLL_SLEEP);
}

static void pool_wake(void *service)
{
    struct pyn_service *s = service;
    pyn_links_wake(s->links);
}

/* Callers whose definitions are in the worker's interpreter go there, bound or not: rather bind another one. */
static unsigned pool_burden(void *service, const struct pyn_worker *w)
{
    struct pyn_service *s = service;
    return s->pins ? pyn_pins_callers(s->pins, w->group) : 0;
}

static bool start_pool(struct pyn_service *s)
{
    const struct pyn_pool_config config = {
        .workers = s->config.workers,
        .main_workers = s->mode == PYN_MODE_SUBINTERP ? s->config.main_workers : 0,
        .max_stuck = s->config.max_stuck,
        .max_helpers = PYN_MAX_HELPERS,
        .parallel = s->mode != PYN_MODE_MULTI_EXECUTOR,
        .stack_size = WORKER_STACK,
    };
    const struct pyn_pool_ops ops = {
        .ctx = s,
        .start = pyn_run_start,
        .stop = pyn_run_stop,
        .attach = pyn_run_attach,
        .detach = pyn_run_detach,
        .run = pyn_run_job,
        .flush = pyn_run_flush,
        .flush_for = pyn_run_flush,
        .poll = pool_poll,
        .wake = pool_wake,
        .estimate = pyn_run_estimate,
        .burden = pool_burden,
        .gone = pyn_run_free_desk,
    };

    s->pool = pyn_pool_new(&config, &ops);
    return s->pool != NULL;
}

/* ---- lifetime ---- */

/* What was answered in the last moment has this long to get into the socket. */
#define OUTPUT_GRACE (250 * PYN_MS)

/* Python code that closes all descriptors, as daemons once did, leaves a node that nobody can reach. Better none: it is
 * started again. */
static void on_broken(void *service)
{
    (void)service;
    pyn_log(PYN_ERROR, "links", "the node's descriptors were closed, by Python code perhaps: the node ends");
    _exit(EXIT_FAILURE);
}

struct pyn_service *pyn_service_start(const struct pyn_service_config *config, char *error, size_t size)
{
    struct pyn_service *s = calloc(1, sizeof(*s));
    struct pyn_links_events events = {s, pyn_dispatch_up, pyn_dispatch_message, pyn_dispatch_down, on_broken};

    if (!s) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
    s->config = *config;
    s->mode = pyn_host_mode();
    s->started = pyn_now();
    pthread_mutex_init(&s->ready_lock, NULL);
    pthread_cond_init(&s->ready_cond, NULL);
    pyn_refused_init(&s->refused);
    s->max_groups = config->workers + config->main_workers + config->max_stuck + 1;
    s->remembered = pyn_remembered_new(PYN_MAX_REMEMBERED, PYN_MAX_REMEMBERED_BYTES, s->max_groups);
    pyn_contexts_init(&s->contexts, config->workers);
    pyn_buf_init(&s->own_pid, 4096);
    s->fatal_fd = pyn_wake_new();
    s->watch = pyn_watch_new(MAX_WATCHED);
    s->rpc = pyn_rpc_table_new(s, MAX_RPC);
    s->streams = pyn_streams_new(MAX_STREAMS);
    s->links = pyn_links_new(&config->links, &events);
    s->deferred = pyn_deferred_new(s, config->workers + config->main_workers + config->max_stuck, config->async_workers,
                                   config->max_queue);
    if (s->mode == PYN_MODE_SUBINTERP)
        s->pins = pyn_pins_new(MAX_WATCHED, MAX_NAMES);
    if (s->fatal_fd < 0 || !s->watch || !s->rpc || !s->streams || !s->links || !s->deferred || !s->remembered ||
        (s->mode == PYN_MODE_SUBINTERP && !s->pins))
        snprintf(error, size, "out of memory or descriptors");
    else if (!start_pool(s))
        snprintf(error, size, "the workers did not start");
    else if (pyn_guard_start(s) != 0)
        snprintf(error, size, "the watchdog thread did not start");
    else
        return s;
    if (!s->pool || pyn_service_stop(s, PYN_NEVER))
        pyn_service_free(s);
    return NULL;
}

struct pyn_links *pyn_service_links(struct pyn_service *s)
{
    return s->links;
}

int pyn_service_fatal_fd(const struct pyn_service *s)
{
    return s->fatal_fd;
}

void pyn_service_ready(struct pyn_service *s, struct pyn_node *node)
{
    pthread_mutex_lock(&s->ready_lock);
    s->node = node;
    pyn_node_write_pid(node, &s->own_pid);
    atomic_store_explicit(&s->ready, true, memory_order_release);
    pthread_cond_broadcast(&s->ready_cond);
    pthread_mutex_unlock(&s->ready_lock);
}

static bool wait_for_none(struct pyn_service *s, uint64_t deadline)
{
    while (atomic_load_explicit(&s->admitted, memory_order_acquire) > 0) {
        if (pyn_now() >= deadline)
            return false;
        poll(NULL, 0, 5);
    }
    return true;
}

/* An answer that the socket did not take at once is not lost; but who does not read holds nobody up for ever. */
static void wait_for_output(struct pyn_service *s, uint64_t deadline)
{
    while (pyn_links_waiting(s->links) > 0 && pyn_now() < deadline)
        poll(NULL, 0, 5);
}

bool pyn_service_drain(struct pyn_service *s, uint64_t deadline)
{
    bool ended;

    atomic_store(&s->draining, true);
    pyn_streaming_shut(s, &(struct pyn_streams_match){0});
    ended = wait_for_none(s, deadline);
    wait_for_output(s, deadline);
    return ended;
}

static bool any(void *ctx, const struct pyn_request *r)
{
    (void)ctx;
    (void)r;
    return true;
}

static void drop_job(void *service, struct pyn_job *job)
{
    pyn_run_answer(service, pyn_request_of(job), "stopping");
    pyn_run_dispose(service, pyn_request_of(job));
}

bool pyn_service_stop(struct pyn_service *s, uint64_t deadline)
{
    bool ended;

    atomic_store(&s->draining, true);
    pyn_streaming_shut(s, &(struct pyn_streams_match){0});
    pyn_guard_cancel(s, any, NULL, "stopping");
    pyn_rpc_link_down(s->rpc, NULL);
    ended = wait_for_none(s, deadline);
    pyn_rpc_table_close(s->rpc);                  /* an interpreter does not end before its threads have */
    wait_for_output(s, pyn_now() + OUTPUT_GRACE); /* while there are workers who write */
    ended = pyn_deferred_stop(s->deferred, ended ? deadline : pyn_now() + PYN_MS) &&
            ended; /* they are interpreters' too */
    ended = pyn_pool_stop(s->pool, ended ? deadline : pyn_now() + PYN_MS, drop_job) && ended;
    pyn_guard_stop(s);
    return ended;
}

void pyn_service_free(struct pyn_service *s)
{
    pyn_pool_free(s->pool);
    if (s->links)
        pyn_links_free(s->links);
    pyn_rpc_table_free(s->rpc);
    pyn_deferred_free(s->deferred);
    pyn_watch_free(s->watch);
    pyn_pins_free(s->pins);
    pyn_streams_free(s->streams);
    pyn_refused_free(&s->refused);
    pyn_remembered_free(s->remembered);
    pyn_contexts_fini(&s->contexts);
    pyn_buf_free(&s->own_pid);
    if (s->fatal_fd >= 0)
        close(s->fatal_fd);
    pthread_mutex_destroy(&s->ready_lock);
    pthread_cond_destroy(&s->ready_cond);
    free(s);
}
