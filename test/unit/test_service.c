/* The service from a peer's side, frame by frame: svc/service.c, dispatch.c, run.c, guard.c, admin.c, rpc.c, bridge.c.
 * What Python makes of values is tested elsewhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dist/control.h"
#include "unit/link_rig.h"
#include "unit/notation.h"
#include "unit/service_rig.h"
#include "unit/suite.h"

static struct service_rig rig;

static void setup(void)
{
    service_rig_init(&rig);
}

static void start(void)
{
    service_rig_start(&rig);
}

static void stop(void)
{
    service_rig_stop(&rig);
}

/* --- Limits --- */

static const struct {
    const char *request, *answer;
} bad[] = {
    {"nothing", "{error, {bad_request, <unknown request>}}"},
    {"{call, math}", NULL},
    {"{call, 1, 2, []}", NULL},
    {"{call, math, sqrt, 4}", "{error, invalid_args}"},
    {"{call, math, sqrt, [4 | 5]}", "{error, invalid_args}"},
    {"{eval, <1>, 7}", NULL},
    {"{call, math, sqrt, [4], #{}, 'soon'}", NULL},
};

START_TEST(bad_requests)
{
    int fd;

    start();
    fd = service_rig_peer(&rig, "a@host");
    service_rig_ask(fd, bad[_i].request);
    if (bad[_i].answer && strstr(bad[_i].answer, "invalid_args"))
        service_rig_expect(fd, bad[_i].answer);
    else
        ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/2 atom:error tuple/2 atom:bad_request bin"));
    service_rig_ask(fd, "{call, builtins, abs, [-7]}");
    service_rig_expect(fd, "{ok, 7}");
    close(fd);
    stop();
}
END_TEST

/* What nobody can be answered for is skipped; the link lives on. */
START_TEST(strange_messages)
{
    int fd;

    start();
    fd = service_rig_peer(&rig, "a@host");
    service_rig_send(fd, "py", "hello");
    service_rig_send(fd, "py", "{'$gen_call', nobody, version}");
    service_rig_send(fd, "py", "{'$gen_cast', {call, math}}");
    service_rig_send(fd, "py", "{py_reply, 77, {ok, 1}}");
    service_rig_send(fd, "nobody", "{'$gen_call', {$P, $R}, version}");
    service_rig_ask(fd, "{call, builtins, abs, [-7]}");
    service_rig_expect(fd, "{ok, 7}");
    close(fd);
    stop();
}
END_TEST

START_TEST(a_full_queue)
{
    int fd;

    rig.config.max_queue = 1;
    start();
    fd = service_rig_peer(&rig, "a@host");
    service_rig_ask(fd, "{exec, <while True: pass>, infinity}");
    service_rig_ask(fd, "{call, builtins, abs, [-7]}");
    service_rig_expect(fd, "{error, {overloaded, 1, 1}}");
    service_rig_ask(fd, "{cancel, $R}"); /* of the two answers, the order is not said */
    ck_assert_ptr_nonnull(service_rig_next(fd));
    ck_assert_ptr_nonnull(service_rig_next(fd));
    close(fd);
    stop();
}
END_TEST

START_TEST(a_deadline)
{
    int fd;

    start();
    fd = service_rig_peer(&rig, "a@host");
    service_rig_ask(fd, "{exec, <import time; time.sleep(0.4)>, 30}"); /* Python cannot be interrupted there */
    service_rig_expect(fd, "{error, timeout}");
    service_rig_ask(fd, "{exec, <while True: pass>, 30}");
    service_rig_expect(fd, "{error, timeout}");
    service_rig_ask(fd, "{call, builtins, abs, [-7]}");
    service_rig_expect(fd, "{ok, 7}");
    close(fd);
    stop();
}
END_TEST

/* The work of a peer that is gone ends with it: drain would wait for it otherwise. */
START_TEST(a_peer_that_goes)
{
    int fd;

    start();
    fd = service_rig_peer(&rig, "a@host");
    service_rig_ask(fd, "{exec, <while True: pass>, infinity}");
    service_rig_ask(fd, "info"); /* answered: what was before it has been read */
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "in_flight int:1"));
    close(fd);
    wait_until(pyn_links_count(pyn_service_links(rig.service)) == 0);
    stop();
}
END_TEST

START_TEST(a_result_that_is_too_large)
{
    int fd;

    start();
    fd = service_rig_peer(&rig, "a@host");
    service_rig_ask(fd, "{call, builtins, bytes, [2000000]}");
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/2 atom:error tuple/2 atom:ValueError"));
    close(fd);
    stop();
}
END_TEST

/* --- Core --- */

START_TEST(answers)
{
    static const char *const pairs[][2] = {
        {"{call, builtins, abs, [-7]}", "{ok, 7}"},
        {"{call, <builtins>, <int>, [<ff>], #{base => 16}}", "{ok, 255}"},
        {"{eval, <x + 1>, #{x => 41}}", "{ok, 42}"},
        {"{exec, <y = 5>}", "ok"},
        {"{eval, <y>}", "{ok, 5}"},
        {"{call, builtins, nothing, []}", NULL},
    };
    int fd;

    start();
    fd = service_rig_peer(&rig, "a@host");
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        service_rig_ask(fd, pairs[i][0]);
        if (pairs[i][1])
            service_rig_expect(fd, pairs[i][1]);
        else
            ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/2 atom:error tuple/2 atom:AttributeError"));
    }
    close(fd);
    stop();
}
END_TEST

START_TEST(other_forms)
{
    int fd;

    start();
    fd = service_rig_peer(&rig, "a@host");
    service_rig_send(fd, "py", "{$P, mine, {call, builtins, abs, [-7]}}");
    ck_assert_str_eq(service_rig_next(fd), service_rig_text("{mine, {ok, 7}}"));
    service_rig_send(fd, "py", "{'$gen_call', {$P, [alias | $R]}, {call, builtins, abs, [-7]}}");
    ck_assert_str_eq(service_rig_next(fd), service_rig_text("{[alias | $R], {ok, 7}}"));
    service_rig_send(fd, "net_kernel", "{'$gen_call', {$P, $R}, {is_auth, 'a@host'}}");
    service_rig_expect(fd, "yes");
    service_rig_send(fd, "py", "{'$gen_cast', {exec, <z = 1>}}");
    close(fd);
    stop();
}
END_TEST

START_TEST(what_it_says_of_itself)
{
    static const char *const facts[] = {
        "mode atom:",       "atom:workers int:",  "atom:calls int:1", "atom:errors int:0",
        "atom:stuck int:0", "atom:bytes_in int:", "atom:uptime int:", "atom:links int:1"};
    const char *text;
    int fd;

    start();
    fd = service_rig_peer(&rig, "a@host");
    service_rig_ask(fd, "{call, builtins, abs, [-7]}");
    service_rig_expect(fd, "{ok, 7}");
    service_rig_ask(fd, "version");
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/2 atom:ok bin"));
    service_rig_ask(fd, "info");
    text = service_rig_next(fd);
    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
        ck_assert_msg(strstr(text, facts[i]) != NULL, "no %s in %s", facts[i], text);
    close(fd);
    stop();
}
END_TEST

START_TEST(cancelled)
{
    int fd, other;

    start();
    fd = service_rig_peer(&rig, "a@host");
    other = service_rig_peer(&rig, "b@host");
    service_rig_ask(fd, "{exec, <while True: pass>, infinity}");
    service_rig_ask(fd, "version");
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "atom:ok bin"));
    service_rig_send(other, "py", "{'$gen_cast', {cancel, $R}}");
    service_rig_expect(fd, "{error, interrupted}");
    close(fd);
    close(other);
    stop();
}
END_TEST

/* The test is the coordinator: it gets {py_rpc, Id, Pid, Chain, Timeout, {Name, Args}} and answers. */
START_TEST(asks_the_coordinator)
{
    const char *text, *id;
    char reply[200];
    int fd;

    rig.node_config.coordinator = "c@127.0.0.1"; /* not at epmd: only this link is it */
    start();
    fd = service_rig_peer(&rig, "c@127.0.0.1");
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/4 atom:py_member int:1 atom:py1@127.0.0.1"));
    service_rig_ask(fd, "{call, erlang, call, [<twice>, 21]}");
    text = service_rig_next(fd);
    ck_assert_ptr_nonnull(strstr(text, "atom:py_rpc int:"));
    id = strstr(text, "int:") + strlen("int:");
    snprintf(reply, sizeof(reply), "{py_reply, %d, {ok, 42}}", (int)strtol(id, NULL, 10));
    service_rig_send(fd, "py", reply);
    service_rig_expect(fd, "{ok, 42}");
    /* No answer: the time ends it. It has to be asked before that. */
    service_rig_ask(fd, "{call, erlang, call, [<twice>, 21], #{}, 3000}");
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "atom:py_rpc int:"));
    while (!strstr(text = service_rig_next(fd), "atom:timeout"))
        ck_assert_msg(strstr(text, "py_rpc_cancel") || strstr(text, "control"), "%s", text);
    close(fd);
    stop();
}
END_TEST

START_TEST(monitors)
{
    struct pyn_buf b, pid, ref, name;
    int fd;

    start();
    fd = service_rig_peer(&rig, "a@host");
    pyn_buf_init(&b, 10000);
    pyn_buf_init(&pid, 1000);
    pyn_buf_init(&ref, 1000);
    pyn_buf_init(&name, 1000);
    notation_write(&pid, "$P");
    notation_write(&ref, "$R");
    notation_write(&name, "nobody");
    pyn_frame_monitor(&b, (struct pyn_span){pid.data, pid.len}, (struct pyn_span){name.data, name.len},
                      (struct pyn_span){ref.data, ref.len});
    rig_write(fd, b.data, b.len);
    ck_assert_str_eq(service_rig_next(fd), "control 21"); /* MONITOR_P_EXIT: there is no such process */
    close(fd);
    pyn_buf_free(&b);
    pyn_buf_free(&pid);
    pyn_buf_free(&ref);
    pyn_buf_free(&name);
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("service");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_set_timeout(core, 60);
    tcase_set_timeout(limits, 60);
    tcase_add_checked_fixture(core, setup, NULL);
    tcase_add_checked_fixture(limits, setup, NULL);
    tcase_add_loop_test(limits, bad_requests, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(limits, strange_messages);
    tcase_add_test(limits, a_full_queue);
    tcase_add_test(limits, a_deadline);
    tcase_add_test(limits, a_peer_that_goes);
    tcase_add_test(limits, a_result_that_is_too_large);
    tcase_add_test(core, answers);
    tcase_add_test(core, other_forms);
    tcase_add_test(core, what_it_says_of_itself);
    tcase_add_test(core, cancelled);
    tcase_add_test(core, asks_the_coordinator);
    tcase_add_test(core, monitors);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
