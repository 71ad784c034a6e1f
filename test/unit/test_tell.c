/* Messages of Python that may be lost, and the span that travels with requests: svc/tell.c, py/module_tell.c and
 * py/trace.c, from the coordinator's side. The test is the coordinator c, and the caller a. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit/link_rig.h"
#include "unit/service_rig.h"
#include "unit/suite.h"

static struct service_rig rig;
static int coordinator, caller;

static void setup(void)
{
    service_rig_init(&rig);
}

static void start(void)
{
    rig.node_config.coordinator = "c@127.0.0.1"; /* not at epmd: only this link is it */
    service_rig_start(&rig);
    coordinator = service_rig_peer(&rig, "c@127.0.0.1");
    ck_assert_ptr_nonnull(strstr(service_rig_next(coordinator), "atom:py_member"));
    caller = service_rig_peer(&rig, "a@host");
}

static void stop(void)
{
    close(coordinator);
    close(caller);
    service_rig_stop(&rig);
}

/* Python code that has to end without an exception. */
static void run(int fd, const char *code)
{
    char request[4096];

    ck_assert_int_lt(snprintf(request, sizeof(request), "{exec, <%s>}", code), (int)sizeof(request));
    service_rig_ask(fd, request);
    service_rig_expect(fd, "ok");
}

/* --- Limits --- */

START_TEST(no_coordinator)
{
    service_rig_start(&rig);
    caller = service_rig_peer(&rig, "a@host");
    run(caller, "import erlang\nassert erlang._tell(0, 7) == 1 and erlang._tell(1, 7) == 1");
    close(caller);
    service_rig_stop(&rig);
}
END_TEST

static const char *const bad[] = {
    "erlang._tell(0, '\\ud800')", "erlang._tell(0, 'x' * (1 << 21))", "erlang._tell(2, 1)",   "erlang._tell(-1, 1)",
    "erlang._tell_admit(2)",      "erlang._tell_lost(9, 1)",          "erlang._tell_lost(0)", "erlang._tell(0)",
    "erlang._fits('x' * 70000)",  "erlang._fits('\\ud800')",
};

START_TEST(bad_messages)
{
    char code[500];

    start();
    (void)snprintf(code, sizeof(code),
                   "import erlang\ntry:\n    %s\nexcept (ValueError, TypeError): pass\nelse: raise SystemError\n"
                   "assert erlang._tell(0, 1) == 0",
                   bad[_i]);
    run(caller, code);
    ck_assert_str_eq(service_rig_next(coordinator), "int:1"); /* nothing of the bad one went out */
    stop();
}
END_TEST

/* A coordinator that does not read: what is too much is refused at once, and the rest is there when it reads. */
START_TEST(a_full_link)
{
    unsigned sent = 0;
    const char *text;

    start();
    run(caller, "import erlang, time\n"
                "begin = time.monotonic()\n"
                "sent = 0\n"
                "while erlang._tell(0, b'x' * 500000) == 0: sent += 1\n"
                "assert 20 < sent < 100, sent\n"
                "assert time.monotonic() - begin < 20\n"
                "assert erlang._tell(0, b'x') == 2\n"
                "erlang._tell_lost(0, 3)\n"
                "assert erlang._tell_admit(0) == 3 and erlang._tell_admit(0) == 0\n"
                "assert erlang._tell(1, sent) == 0"); /* for the other target there is more room */
    do {
        text = service_rig_next(coordinator);
        sent += strncmp(text, "int:", 4) != 0;
    } while (strncmp(text, "int:", 4) != 0);
    ck_assert_uint_eq(sent, strtoul(text + 4, NULL, 10));
    stop();
}
END_TEST

START_TEST(a_flood)
{
    start();
    run(caller, "import erlang\n"
                "taken = [erlang._tell_admit(0) for _ in range(20000)]\n"
                "assert 5000 <= taken.count(0) and -1 in taken\n"
                "assert -1 not in [erlang._tell_admit(1) for _ in range(20000)]"); /* spans are not limited by time */
    stop();
}
END_TEST

/* --- Core --- */

START_TEST(in_their_order)
{
    char expected[32];

    start();
    run(caller, "import erlang\nfor n in range(100): erlang._tell(n % 2, n)");
    for (int n = 0; n < 100; n++) {
        (void)snprintf(expected, sizeof(expected), "int:%d", n);
        ck_assert_str_eq(service_rig_next(coordinator), expected);
    }
    stop();
}
END_TEST

/* Who has the answer of the call and asks sync then gets its answer behind what the call has sent. */
START_TEST(sync_comes_behind)
{
    start();
    for (int n = 0; n < 50; n++) {
        run(caller, "import erlang\nerlang._tell(1, 1)\nerlang._tell(1, 2)");
        service_rig_ask(coordinator, "sync");
        ck_assert_str_eq(service_rig_next(coordinator), "int:1");
        ck_assert_str_eq(service_rig_next(coordinator), "int:2");
        service_rig_expect(coordinator, "ok");
    }
    stop();
}
END_TEST

/* It goes out although the call goes on and does nothing more. */
START_TEST(sent_while_the_call_waits)
{
    start();
    service_rig_ask(caller, "{exec, <import erlang, time\nerlang._tell(1, 1)\nerlang._tell(1, 2)\ntime.sleep(30)>}");
    ck_assert_str_eq(service_rig_next(coordinator), "int:1");
    ck_assert_str_eq(service_rig_next(coordinator), "int:2");
    service_rig_send(caller, "py", "{'$gen_cast', {cancel, $R}}");
    service_rig_expect(caller, "{error, interrupted}");
    close(coordinator);
    close(caller);
    _exit(0); /* nothing ends time.sleep */
}
END_TEST

static void answer_rpc(const char *chain_end)
{
    const char *text = service_rig_next(coordinator), *id = strstr(text, "atom:py_rpc int:");
    char reply[100];

    ck_assert_msg(id && strstr(text, chain_end), "%s: no %s", text, chain_end);
    (void)snprintf(reply, sizeof(reply), "{py_reply, %ld, {ok, 1}}", strtol(id + 16, NULL, 10));
    service_rig_send(coordinator, "py", reply);
}

/* {Interpreter, Run, Depth}, and with a span that is open {Interpreter, Run, Depth, Span}, while tracing is on. */
START_TEST(the_open_span_goes_along)
{
    const char *ask =
        "{exec, <import erlang\ntoken = erlang._span.set(77)\nerlang.call('f')\nerlang._span.reset(token)>}";

    start();
    service_rig_ask(caller, ask);
    answer_rpc("tuple/3");
    service_rig_expect(caller, "ok");
    run(caller, "import erlang\nassert not erlang._tracing()\nerlang._trace_switch(True)\nassert erlang._tracing()");
    service_rig_ask(caller, ask);
    answer_rpc("int:77");
    service_rig_expect(caller, "ok");
    service_rig_ask(caller, "{exec, <import erlang\nerlang.call('f')>}");
    answer_rpc("tuple/3");
    service_rig_expect(caller, "ok");
    run(caller, "import erlang\nerlang._trace_switch(False)");
    stop();
}
END_TEST

/* What the caller has open is open when its request begins, and nothing that another request has left. */
START_TEST(the_callers_span_is_open)
{
    start();
    service_rig_ask(caller, "{eval, <__import__('erlang')._span.get()>, #{}, #{span => 99}}");
    service_rig_expect(caller, "{ok, none}"); /* tracing is off */
    run(caller, "import erlang\nerlang._trace_switch(True)");
    service_rig_ask(caller, "{eval, <__import__('erlang')._span.get()>, #{}, #{span => 99}}");
    service_rig_expect(caller, "{ok, 99}");
    service_rig_ask(caller, "{eval, <__import__('erlang')._span.get()>, #{}, #{chain => {0, 12345, 1, 98}}}");
    service_rig_expect(caller, "{ok, 98}");
    for (int n = 0; n < 10; n++) {
        run(caller, "import erlang\nassert erlang._span.get() is None\nerlang._span.set(5)");
        service_rig_ask(caller, "{eval, <__import__('erlang')._span.get()>}");
        service_rig_expect(caller, "{ok, none}");
    }
    run(caller, "import erlang\nerlang._trace_switch(False)");
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tell");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_set_timeout(core, 60);
    tcase_set_timeout(limits, 60);
    tcase_add_checked_fixture(core, setup, NULL);
    tcase_add_checked_fixture(limits, setup, NULL);
    tcase_add_test(limits, no_coordinator);
    tcase_add_loop_test(limits, bad_messages, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(limits, a_full_link);
    tcase_add_test(limits, a_flood);
    tcase_add_test(core, in_their_order);
    tcase_add_test(core, sync_comes_behind);
    tcase_add_test(core, sent_while_the_call_waits);
    tcase_add_test(core, the_open_span_goes_along);
    tcase_add_test(core, the_callers_span_is_open);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
