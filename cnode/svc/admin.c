/* What the node says of itself. */
#include <stdio.h>
#include <unistd.h>

#include "etf/writer.h"
#include "svc/service_private.h"

/* Resident bytes of this process; 0 when the system does not say. */
static uint64_t resident_bytes(void)
{
    unsigned long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (!f)
        return 0;
    if (fscanf(f, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    fclose(f);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void put_int(struct pyn_buf *b, const char *key, uint64_t value)
{
    pyn_write_atom(b, key);
    pyn_write_int(b, value > INT64_MAX ? INT64_MAX : (int64_t)value);
}

static void put_atom(struct pyn_buf *b, const char *key, const char *value)
{
    pyn_write_atom(b, key);
    pyn_write_atom(b, value);
}

static void put_counters(struct pyn_service *s, struct pyn_buf *b)
{
    put_int(b, "calls", atomic_load(&s->calls));
    put_int(b, "errors", atomic_load(&s->errors));
    put_int(b, "timeouts", atomic_load(&s->timeouts));
    put_int(b, "interrupted", atomic_load(&s->interrupted));
    put_int(b, "overloaded", atomic_load(&s->overloaded));
}

void pyn_admin_write_info(struct pyn_service *s, struct pyn_buf *b)
{
    pyn_write_tuple(b, 2);
    pyn_write_atom(b, "ok");
    pyn_admin_write_facts(s, b);
}

void pyn_admin_write_facts(struct pyn_service *s, struct pyn_buf *b)
{
    struct pyn_pool_stats pool;
    uint64_t in, out;
    unsigned stuck_loops;

    pyn_pool_stats(s->pool, &pool);
    pyn_links_bytes(s->links, &in, &out);
    pyn_write_map(b, 29);
    put_atom(b, "mode", pyn_mode_name(s->mode));
    pyn_write_atom(b, "python");
    pyn_write_binary(b, pyn_host_version(), strlen(pyn_host_version()));
    put_int(b, "executors", s->config.workers);
    put_int(b, "workers", pool.workers);
    put_int(b, "busy", pool.busy);
    put_int(b, "bound", pyn_contexts_count(&s->contexts));
    put_int(b, "queued", pool.queued);
    put_int(b, "in_flight", atomic_load(&s->admitted));
    put_int(b, "max_queue", s->config.max_queue);
    put_int(b, "stuck", pool.stuck);
    put_int(b, "stuck_total", pool.stuck_total);
    put_int(b, "deposed", pool.deposed);
    put_counters(s, b);
    put_int(b, "coroutines", pyn_deferred_count(s->deferred));
    put_int(b, "loops", pyn_deferred_loops(s->deferred, &stuck_loops));
    put_int(b, "stuck_loops", stuck_loops);
    put_int(b, "bytes_in", in);
    put_int(b, "bytes_out", out);
    put_int(b, "links", pyn_links_count(s->links));
    put_int(b, "watched", pyn_watch_count(s->watch));
    put_int(b, "remembered", pyn_remembered_count(s->remembered));
    put_int(b, "streams", pyn_streams_count(s->streams));
    put_int(b, "memory", resident_bytes());
    put_int(b, "uptime", (pyn_now() - s->started) / PYN_MS);
    put_int(b, "os_pid", (uint64_t)getpid());
}
