/* Requests of Python to Erlang, many at once: svc/rpc.c. The test is the coordinator. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit/link_rig.h"
#include "unit/service_rig.h"
#include "unit/suite.h"

enum { THREADS = 8 };

static struct service_rig rig;
static int fd;

/* Each thread counts under a key of its own, and keeps what it gets. */
static const char code[] = "{exec, <"
                           "import erlang, threading\n"
                           "got = [None] * 8\n"
                           "def count(i):\n"
                           "    try:\n"
                           "        got[i] = erlang.state_incr(i)\n"
                           "    except erlang.CoordinatorDown:\n"
                           "        got[i] = -1\n"
                           "threads = [threading.Thread(target=count, args=[i]) for i in range(8)]\n"
                           "for thread in threads: thread.start()\n"
                           "for thread in threads: thread.join()\n"
                           ">, infinity}";

static void setup(void)
{
    service_rig_init(&rig);
    rig.node_config.coordinator = "c@127.0.0.1"; /* not at epmd: only this link is it */
    service_rig_start(&rig);
    fd = service_rig_peer(&rig, "c@127.0.0.1");
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/4 atom:py_member"));
}

static void teardown(void)
{
    close(fd);
    service_rig_stop(&rig);
}

/* The number of the next request, and the key that it counts. */
static long next_request(long *key)
{
    static const char number[] = "atom:py_rpc int:", operation[] = "atom:incr int:";
    const char *text = service_rig_next(fd), *id = strstr(text, number), *op = strstr(text, operation);

    ck_assert_msg(id && op, "%s", text);
    *key = strtol(op + sizeof(operation) - 1, NULL, 10);
    return strtol(id + sizeof(number) - 1, NULL, 10);
}

/* {py_replies, [...]} for requests that count these keys: ten times the key each. */
static void reply_together(const long *ids, const long *keys, int count)
{
    char text[2048];
    int n = snprintf(text, sizeof(text), "{py_replies, [");

    for (int i = 0; i < count; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "%s{py_reply, %ld, {ok, %ld}}", i > 0 ? ", " : "", ids[i],
                      10 * keys[i]);
    (void)snprintf(text + n, sizeof(text) - (size_t)n, "]}");
    service_rig_send(fd, "py", text);
}

/* --- Limits --- */

static const char *const strange[] = {
    "{py_replies}",
    "{py_replies, 1}",
    "{py_replies, []}",
    "{py_replies, [1]}",
    "{py_replies, [{py_reply, 1}]}",
    "{py_replies, [{py_reply, x, {ok, 1}}]}",
    "{py_replies, [{py_reply, 77, {ok, 1}}]}",
    "{py_replies, [{py_reply, 77, {ok, 1}} | 2]}",
    "{py_replies, [{py_reply, 77, ~}]}",
    "{py_replies, [{py_reply, 77, 1}], more}",
};

/* Skipped, or for nobody; the link lives on. */
START_TEST(strange_replies)
{
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++)
        service_rig_send(fd, "py", strange[i]);
    service_rig_ask(fd, "{call, builtins, abs, [-7]}");
    service_rig_expect(fd, "{ok, 7}");
}
END_TEST

/* All threads that wait hear of it. */
START_TEST(the_coordinator_goes)
{
    int caller = service_rig_peer(&rig, "a@host");
    long key;

    service_rig_ask(caller, code);
    (void)next_request(&key);
    close(fd);
    service_rig_expect(caller, "ok");
    service_rig_ask(caller, "{eval, <got == [-1] * 8>}");
    service_rig_expect(caller, "{ok, true}");
    fd = caller;
}
END_TEST

/* --- Core --- */

/* Whatever is answered together, and in whatever order: each thread has its own. */
START_TEST(each_gets_its_own)
{
    long ids[THREADS], keys[THREADS];
    int answered = 0, size = _i;

    service_rig_ask(fd, code);
    while (answered < THREADS) {
        int count = size < THREADS - answered ? size : THREADS - answered;
        for (int i = 0; i < count; i++) /* the last one first */
            ids[count - 1 - i] = next_request(&keys[count - 1 - i]);
        reply_together(ids, keys, count);
        answered += count;
    }
    service_rig_expect(fd, "ok");
    service_rig_ask(fd, "{eval, <got == [10 * i for i in range(8)]>}");
    service_rig_expect(fd, "{ok, true}");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rpc");
    TCase *core = tcase_create("Core"), *limits = tcase_create("Limits");

    tcase_set_timeout(core, 60);
    tcase_set_timeout(limits, 60);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, strange_replies);
    tcase_add_test(limits, the_coordinator_goes);
    tcase_add_loop_test(core, each_gets_its_own, 1, THREADS + 1);
    suite_add_tcase(s, limits);
    suite_add_tcase(s, core);
    return suite_run(s);
}
