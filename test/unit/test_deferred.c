/* Requests whose answer comes later, from a peer's side: svc/deferred.c, loops.c, coroutines.c, and of chain.c what is
 * about them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "unit/link_rig.h"
#include "unit/service_rig.h"
#include "unit/suite.h"

#define ASYNC ", #{}, #{async => true, timeout => infinity}}"

static struct service_rig rig;
static int fd;

static void setup(void)
{
    service_rig_init(&rig);
}

static void start(void)
{
    service_rig_start(&rig);
    fd = service_rig_peer(&rig, "a@host");
}

static void stop(void)
{
    close(fd);
    service_rig_stop(&rig);
}

/* What `info` says, as text, holds this. */
static bool says(const char *text)
{
    service_rig_ask(fd, "info");
    return strstr(service_rig_next(fd), text) != NULL;
}

/* --- Limits --- */

static const char *const bad[] = {
    "{call, asyncio, sleep, [0], #{}, #{async => 1}}",
    "{call, asyncio, sleep, [0], #{}, #{async => maybe}}",
    "{eval, <1>, #{}, #{async => true}}",
    "{exec, <1>, #{async => true}}",
    "{call_all, asyncio, sleep, [0], #{}, #{async => true}}",
    "{stream, asyncio, sleep, [0], #{}, #{async => stream}}",
    "{cancel, $R, now}",
    "{cancel, $R, report, 1}",
};

START_TEST(bad_requests)
{
    start();
    service_rig_ask(fd, bad[_i]);
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/2 atom:error tuple/2 atom:bad_request bin"));
    ck_assert(says("coroutines int:0"));
    stop();
}
END_TEST

START_TEST(nothing_to_cancel)
{
    start();
    service_rig_ask(fd, "{cancel, $R}");
    service_rig_expect(fd, "ok");
    service_rig_ask(fd, "{cancel, $R, report}");
    service_rig_expect(fd, "{error, not_found}");
    stop();
}
END_TEST

START_TEST(as_many_as_may_wait)
{
    rig.config.max_queue = 3;
    start();
    for (int i = 0; i < 3; i++)
        service_rig_ask(fd, "{call, asyncio, sleep, [3600]" ASYNC);
    wait_until(says("coroutines int:3"));
    service_rig_ask(fd, "{call, asyncio, sleep, [3600]" ASYNC);
    service_rig_expect(fd, "{error, {overloaded, 3, 3}}");
    close(fd);
    wait_until(pyn_links_count(pyn_service_links(rig.service)) == 0);
    service_rig_stop(&rig);
}
END_TEST

START_TEST(no_time_at_all)
{
    start();
    for (int i = 0; i < 20; i++) {
        service_rig_ask(fd, "{call, asyncio, sleep, [3600], #{}, #{async => true, timeout => 0}}");
        service_rig_expect(fd, "{error, timeout}");
    }
    stop();
}
END_TEST

/* Whatever a peer says about what its call is nested in: it runs. */
START_TEST(chains_that_are_none)
{
    static const char *const chains[] = {"{0, 0, 0}", "{0, 99999, 3}", "{0, 1, 1}", "{77, 2, 1}"};

    start();
    for (size_t i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
        char request[256];
        snprintf(request, sizeof(request), "{call, asyncio, sleep, [0, 7], #{}, #{async => true, chain => %s}}",
                 chains[i]);
        service_rig_ask(fd, request);
        service_rig_expect(fd, "{ok, 7}");
    }
    stop();
}
END_TEST

/* --- Core --- */

START_TEST(answers)
{
    start();
    service_rig_ask(fd, "{call, asyncio, sleep, [0, 7]" ASYNC);
    service_rig_expect(fd, "{ok, 7}");
    service_rig_ask(fd, "{call, builtins, abs, [-7]" ASYNC);
    service_rig_expect(fd, "{ok, 7}");
    service_rig_ask(fd, "{call, asyncio, sleep, [x]" ASYNC);
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/2 atom:error tuple/2 atom:TypeError"));
    service_rig_ask(fd, "{call, builtins, range, [3], #{}, #{async => stream}}");
    ck_assert_ptr_nonnull(service_rig_next(fd));
    wait_until(says("in_flight int:0"));
    stop();
}
END_TEST

/* One with much time and one with little, while nothing else goes on: the watchdog sleeps until then. */
START_TEST(deadlines)
{
    uint64_t begin;

    start();
    service_rig_ask(fd, "{call, asyncio, sleep, [0, 7]" ASYNC); /* the import */
    service_rig_expect(fd, "{ok, 7}");
    for (int i = 0; i < 3; i++) {
        service_rig_ask(fd, "{call, asyncio, sleep, [3600], #{}, #{async => true, timeout => 30000}}");
        begin = pyn_now();
        service_rig_ask(fd, "{call, asyncio, sleep, [3600], #{}, #{async => true, timeout => 300}}");
        service_rig_expect(fd, "{error, timeout}");
        ck_assert_uint_ge(pyn_now() - begin, 299 * PYN_MS);
        ck_assert_uint_lt(pyn_now() - begin, 20000 * PYN_MS);
    }
    wait_until(says("coroutines int:3"));
    stop();
}
END_TEST

START_TEST(cancelled)
{
    start();
    service_rig_send(fd, "py", "{'$gen_call', {$P, [alias | $R]}, {call, asyncio, sleep, [3600]" ASYNC "}");
    wait_until(says("coroutines int:1"));
    service_rig_send(fd, "py", "{'$gen_cast', {cancel, $R}}");
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/2 atom:error atom:interrupted"));
    wait_until(says("in_flight int:0"));
    stop();
}
END_TEST

/* By its whole tag, in the very turn of reading in which it came. */
START_TEST(cancelled_at_once)
{
    start();
    service_rig_send(fd, "py", "{'$gen_cast', {call, asyncio, sleep, [3600], #{}, #{async => true, timeout => 400}}}");
    service_rig_send(fd, "py", "{$P, tag, {call, asyncio, sleep, [3600]" ASYNC "}");
    service_rig_send(fd, "py", "{'$gen_cast', {cancel, tag}}");
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "atom:tag tuple/2 atom:error atom:interrupted"));
    wait_until(says("in_flight int:0")); /* the one that nobody waits for ends by its time */
    stop();
}
END_TEST

START_TEST(a_peer_that_goes)
{
    int other;

    start();
    other = service_rig_peer(&rig, "b@host");
    /* What is imported while a call of it is interrupted may be seen half filled by another one. */
    service_rig_ask(fd, "{call, asyncio, sleep, [0, 7]" ASYNC);
    service_rig_expect(fd, "{ok, 7}");
    for (int i = 0; i < 10; i++)
        service_rig_ask(other, "{call, asyncio, sleep, [3600]" ASYNC);
    service_rig_ask(fd, "{call, asyncio, sleep, [1, 7]" ASYNC);
    wait_until(pyn_links_count(pyn_service_links(rig.service)) == 2);
    close(other);
    service_rig_expect(fd, "{ok, 7}");
    wait_until(says("in_flight int:0"));
    stop();
}
END_TEST

static void *write_later(void *to)
{
    usleep(500000);
    ck_assert_int_eq(write(*(int *)to, "x", 1), 1);
    return NULL;
}

/* The end waits for those that end, and cancels the others. */
START_TEST(drained)
{
    char request[100];
    pthread_t writer;
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    start();
    service_rig_ask(fd, "{exec, <import asyncio, select\n"
                        "async def wait(fd):\n"
                        "    while not select.select([fd], [], [], 0)[0]: await asyncio.sleep(0.01)\n"
                        "    return 7>}");
    service_rig_expect(fd, "ok");
    (void)snprintf(request, sizeof(request), "{call, '__main__', wait, [%d]" ASYNC, ends[0]);
    service_rig_ask(fd, request);
    wait_until(says("coroutines int:1"));
    ck_assert_int_eq(pthread_create(&writer, NULL, write_later, &ends[1]), 0);
    ck_assert(pyn_service_drain(rig.service, pyn_now() + 20 * PYN_SECOND));
    service_rig_expect(fd, "{ok, 7}");
    pthread_join(writer, NULL);
    stop();
    close(ends[0]);
    close(ends[1]);
}
END_TEST

START_TEST(stopped)
{
    start();
    service_rig_ask(fd, "{call, asyncio, sleep, [3600]" ASYNC);
    wait_until(says("coroutines int:1"));
    ck_assert(!pyn_service_drain(rig.service, pyn_now() + 50 * PYN_MS));
    ck_assert(pyn_service_stop(rig.service, pyn_now() + 20 * PYN_SECOND));
    service_rig_expect(fd, "{error, stopping}");
    pyn_node_stop(rig.node);
    pyn_service_free(rig.service);
    pyn_node_free(rig.node);
    pyn_host_stop();
    epmd_rig_stop(&rig.epmd);
    close(fd);
}
END_TEST

/* One of the two workers has the loop, unless the coroutine cannot run there. */
START_TEST(preferred_workers)
{
    rig.config.async_workers = 1;
    start();
    for (int i = 0; i < 20; i++)
        service_rig_ask(fd, "{call, asyncio, sleep, [3600]" ASYNC);
    wait_until(says("coroutines int:20"));
    ck_assert(says("loops int:1"));
    close(fd);
    wait_until(pyn_links_count(pyn_service_links(rig.service)) == 0);
    service_rig_stop(&rig);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("deferred");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_set_timeout(limits, 60);
    tcase_set_timeout(core, 60);
    tcase_add_checked_fixture(limits, setup, NULL);
    tcase_add_checked_fixture(core, setup, NULL);
    tcase_add_loop_test(limits, bad_requests, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(limits, nothing_to_cancel);
    tcase_add_test(limits, as_many_as_may_wait);
    tcase_add_test(limits, no_time_at_all);
    tcase_add_test(limits, chains_that_are_none);
    tcase_add_test(core, answers);
    tcase_add_test(core, deadlines);
    tcase_add_test(core, cancelled);
    tcase_add_test(core, cancelled_at_once);
    tcase_add_test(core, a_peer_that_goes);
    tcase_add_test(core, drained);
    tcase_add_test(core, stopped);
    tcase_add_test(core, preferred_workers);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
