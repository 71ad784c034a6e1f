/* Contexts from a peer's side, frame by frame: svc/bind.c, and what it asks of the pool and the watchdog. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit/notation.h"
#include "unit/service_rig.h"
#include "unit/suite.h"

static struct service_rig rig;

static void setup(void)
{
    service_rig_init(&rig);
    service_rig_start(&rig);
}

/* A request with a number in it. */
static void ask_for(int fd, const char *request, unsigned long long id)
{
    char text[256];

    snprintf(text, sizeof(text), request, id);
    service_rig_ask(fd, text);
}

/* The number of a new context, or 0: the answer was no_workers_available. The owner's monitor is passed over. */
static unsigned long long bind_one(int fd)
{
    const char *answer, *number;

    service_rig_ask(fd, "{bind, 5000}");
    answer = service_rig_next(fd);
    if (strstr(answer, "atom:no_workers"))
        return 0;
    number = strstr(answer, "atom:ok int:");
    ck_assert_msg(number != NULL, "%s", answer);
    return strtoull(number + strlen("atom:ok int:"), NULL, 10);
}

/* --- Limits --- */

static const char *const bad[] = {
    "{bind, soon}", "{bind, 1, 2}",    "{unbind}",          "{unbind, 0}",
    "{unbind, x}",  "{interrupt, -1}", "{interrupt, 1, 2}", "{eval, <1>, #{}, #{ctx => x}}",
};

START_TEST(bad_requests)
{
    int fd = service_rig_peer(&rig, "a@host");

    service_rig_ask(fd, bad[_i]);
    ck_assert_ptr_nonnull(strstr(service_rig_next(fd), "tuple/2 atom:error tuple/2 atom:bad_request bin"));
    service_rig_send(fd, "py", "{'$gen_cast', {bind, 5000}}"); /* nobody to own it */
    service_rig_ask(fd, "{call, builtins, abs, [-7]}");
    service_rig_expect(fd, "{ok, 7}");
    close(fd);
    service_rig_stop(&rig);
}
END_TEST

START_TEST(no_such_context)
{
    int fd = service_rig_peer(&rig, "a@host");

    service_rig_ask(fd, "{eval, <1>, #{}, #{ctx => 1}}");
    service_rig_expect(fd, "{error, context_lost}");
    service_rig_ask(fd, "{interrupt, 1}");
    service_rig_expect(fd, "{error, context_lost}");
    service_rig_ask(fd, "{unbind, 1}");
    service_rig_expect(fd, "ok");
    close(fd);
    service_rig_stop(&rig);
}
END_TEST

START_TEST(all_are_bound)
{
    int fd = service_rig_peer(&rig, "a@host");
    unsigned long long a = bind_one(fd), b = bind_one(fd);

    ck_assert(a != 0 && b != 0 && a != b);
    ck_assert_uint_eq(bind_one(fd), 0);
    service_rig_ask(fd, "{call, builtins, abs, [-7], #{}, 50}");
    service_rig_expect(fd, "{error, timeout}");
    service_rig_ask(fd, "{call, builtins, abs, [-7]}"); /* waits until ... */
    ask_for(fd, "{unbind, %llu}", a);
    service_rig_expect(fd, "ok"); /* ... this */
    service_rig_expect(fd, "{ok, 7}");
    ck_assert_uint_ne(bind_one(fd), 0);
    close(fd);
    service_rig_stop(&rig);
}
END_TEST

/* --- Core --- */

START_TEST(names_of_their_own)
{
    int fd = service_rig_peer(&rig, "a@host");
    unsigned long long a = bind_one(fd), b = bind_one(fd);

    ask_for(fd, "{exec, <x = (1, __name__)>, #{ctx => %llu}}", a);
    service_rig_expect(fd, "ok");
    ask_for(fd, "{eval, <x>, #{}, #{ctx => %llu}}", a);
    service_rig_expect(fd, "{ok, {1, <__main__>}}");
    ask_for(fd, "{eval, <'x' in globals()>, #{}, #{ctx => %llu}}", b);
    service_rig_expect(fd, "{ok, false}");
    ask_for(fd, "{unbind, %llu}", b);
    service_rig_expect(fd, "ok");
    service_rig_ask(fd, "{eval, <'x' in globals()>}");
    service_rig_expect(fd, "{ok, false}");
    ask_for(fd, "{unbind, %llu}", a);
    service_rig_expect(fd, "ok");
    ask_for(fd, "{eval, <x>, #{}, #{ctx => %llu}}", a);
    service_rig_expect(fd, "{error, context_lost}");
    close(fd);
    service_rig_stop(&rig);
}
END_TEST

/* Who has a call under way in it hears that it is gone, as does who waits there. */
START_TEST(ended_under_way)
{
    int owner = service_rig_peer(&rig, "a@host"), other = service_rig_peer(&rig, "b@host");
    unsigned long long id = bind_one(owner);

    ask_for(other, "{exec, <while True: pass>, #{ctx => %llu}}", id);
    ask_for(other, "{exec, <while True: pass>, #{ctx => %llu}}", id);
    service_rig_ask(other, "version"); /* what was sent before has been read */
    ck_assert_ptr_nonnull(service_rig_next(other));
    close(owner);
    service_rig_expect(other, "{error, context_lost}");
    service_rig_expect(other, "{error, context_lost}");
    ck_assert_uint_ne(bind_one(other), 0);
    while (bind_one(other) == 0) /* the answers do not wait for the worker */
        usleep(1000);
    close(other);
    service_rig_stop(&rig);
}
END_TEST

START_TEST(interrupted)
{
    int fd = service_rig_peer(&rig, "a@host");
    unsigned long long id = bind_one(fd);

    ask_for(fd, "{exec, <x = 1>, #{ctx => %llu}}", id); /* by itself: the interrupt may come before the first line */
    service_rig_expect(fd, "ok");
    ask_for(fd, "{exec, <while True: x += 1>, #{ctx => %llu}}", id);
    do { /* until it runs */
        ask_for(fd, "{interrupt, %llu}", id);
    } while (!strstr(service_rig_next(fd), "interrupted"));
    do { /* the last interrupt may still be on its way, and hit one of these */
        ask_for(fd, "{eval, <bool(x)>, #{}, #{ctx => %llu}}", id);
    } while (!strstr(service_rig_next(fd), "atom:true"));
    close(fd);
    service_rig_stop(&rig);
}
END_TEST

/* Its worker sits in C and is given up: so is the context, and its place is free. */
START_TEST(a_stuck_worker)
{
    int fd = service_rig_peer(&rig, "a@host");
    unsigned long long id = bind_one(fd);
    char text[400], byte;
    int said[2], let_go[2], called_off = 0, ok = 0;

    ck_assert_uint_ne(bind_one(fd), 0);
    ck_assert_int_eq(pipe(said), 0);
    ck_assert_int_eq(pipe(let_go), 0);
    /* No code of Python runs between the two calls. */
    (void)snprintf(text, sizeof(text),
                   "{exec, <import functools, operator, os\n"
                   "calls = functools.partial(os.write, %d, b's'), functools.partial(os.read, %d, 1)\n"
                   "list(map(operator.methodcaller('__call__'), calls))>, #{ctx => %llu}}",
                   said[1], let_go[0], id);
    service_rig_ask(fd, text);
    ck_assert_int_eq(read(said[0], &byte, 1), 1);
    ask_for(fd, "{interrupt, %llu}", id);
    for (int i = 0; i < 2; i++) { /* of the two answers, the order is not said */
        const char *answer = service_rig_next(fd);
        called_off += strstr(answer, "interrupted") != NULL;
        ok += strstr(answer, "atom:ok") != NULL;
    }
    ck_assert_int_eq(called_off, 1);
    ck_assert_int_eq(ok, 1);
    ask_for(fd, "{eval, <1>, #{}, #{ctx => %llu}}", id); /* waits for the worker until that is given up */
    service_rig_expect(fd, "{error, context_lost}");
    ask_for(fd, "{unbind, %llu}", id);
    service_rig_expect(fd, "ok");
    ck_assert_uint_ne(bind_one(fd), 0);
    ck_assert_int_eq(write(let_go[1], &byte, 1), 1);
    close(fd);
    service_rig_stop(&rig);
    for (int i = 0; i < 2; i++) {
        close(said[i]);
        close(let_go[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bind");
    TCase *limits = tcase_create("Limits");
    TCase *core = tcase_create("Core");

    tcase_add_checked_fixture(limits, setup, NULL);
    tcase_add_loop_test(limits, bad_requests, 0, (int)(sizeof(bad) / sizeof(bad[0])));
    tcase_add_test(limits, no_such_context);
    tcase_add_test(limits, all_are_bound);
    suite_add_tcase(suite, limits);
    tcase_add_checked_fixture(core, setup, NULL);
    tcase_add_test(core, names_of_their_own);
    tcase_add_test(core, ended_under_way);
    tcase_add_test(core, interrupted);
    tcase_add_test(core, a_stuck_worker);
    tcase_set_timeout(core, 30);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
