#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "dist/registration.h"
#include "base/thread.h"

#include "unit/epmd_rig.h"
#include "unit/suite.h"

/* Time for attempts that epmd answers, also on a machine that stands still for a while. */
enum { FIRST_MS = 3000 };

static struct epmd_rig rig;
static int stop_fd;
static char error[1024];

static void setup(void)
{
    pyn_log_set_level(PYN_OFF);
    stop_fd = pyn_wake_new();
    ck_assert_int_ge(stop_fd, 0);
    error[0] = '\0';
}

static void teardown(void)
{
    close(stop_fd);
}

static struct pyn_registration *start(uint16_t epmd_port, uint64_t first_ms, enum pyn_epmd_result *result)
{
    struct pyn_registration_config c = {
        .epmd_port = epmd_port, .alive = "py1", .port = 4711, .first_ms = first_ms, .stop_fd = stop_fd};

    return pyn_registration_start(&c, result, error, sizeof(error));
}

static void stop(struct pyn_registration *r)
{
    pyn_wake_raise(stop_fd);
    pyn_registration_stop(r);
}

START_TEST(nobody_answers)
{
    enum pyn_epmd_result result;

    ck_assert_ptr_null(start(epmd_rig_free_port(), 300, &result));
    ck_assert_int_eq(result, PYN_EPMD_UNREACHABLE);
    ck_assert_ptr_nonnull(strstr(error, "cannot be reached"));
}
END_TEST

START_TEST(something_else_answers)
{
    enum pyn_epmd_result result;

    epmd_rig_start(&rig, 0, EPMD_RIG_GARBAGE);
    ck_assert_ptr_null(start(rig.port, FIRST_MS, &result));
    ck_assert_int_eq(result, PYN_EPMD_BROKEN);
    ck_assert_ptr_nonnull(strstr(error, "not epmd"));
    epmd_rig_stop(&rig);
}
END_TEST

/* The last attempt hangs until the time is over: the reason is still that of the one before. */
START_TEST(the_reason_is_not_lost)
{
    enum pyn_epmd_result result;

    epmd_rig_start(&rig, 0, EPMD_RIG_GARBAGE_ONCE);
    ck_assert_ptr_null(start(rig.port, FIRST_MS, &result));
    ck_assert_int_eq(result, PYN_EPMD_BROKEN);
    wait_until(atomic_load(&rig.requests) >= 2);
    epmd_rig_stop(&rig);
}
END_TEST

START_TEST(the_name_is_taken)
{
    struct pyn_wait w = {.deadline = PYN_NEVER, .stop_fd = -1, .cancel_fd = -1};
    enum pyn_epmd_result result;
    uint32_t creation;
    int fd;

    epmd_rig_start(&rig, 0, EPMD_RIG_GOOD);
    ck_assert_int_eq(pyn_epmd_register(rig.port, "py1", 1234, &w, &fd, &creation), PYN_EPMD_OK);
    ck_assert_ptr_null(start(rig.port, 20000, &result));
    ck_assert_int_eq(result, PYN_EPMD_TAKEN);
    ck_assert_ptr_nonnull(strstr(error, "py1 at port 1234"));
    close(fd);
    epmd_rig_stop(&rig);
}
END_TEST

START_TEST(registered_as_long_as_it_lives)
{
    enum pyn_epmd_result result;
    struct pyn_registration *r;

    epmd_rig_start(&rig, 0, EPMD_RIG_GOOD);
    r = start(rig.port, 20000, &result);
    ck_assert_msg(r != NULL, "%s", error);
    ck_assert_uint_eq(pyn_registration_creation(r), 1000);
    ck_assert_uint_eq(atomic_load(&rig.registered), 1);
    stop(r);
    wait_until(atomic_load(&rig.registered) == 0);
    epmd_rig_stop(&rig);
}
END_TEST

START_TEST(again_when_epmd_comes_back)
{
    enum pyn_epmd_result result;
    struct pyn_registration *r;
    uint16_t port;

    epmd_rig_start(&rig, 0, EPMD_RIG_GOOD);
    port = rig.port;
    r = start(port, 20000, &result);
    ck_assert_msg(r != NULL, "%s", error);
    for (int i = 0; i < 3; i++) {
        epmd_rig_stop(&rig);
        epmd_rig_start(&rig, port, EPMD_RIG_GOOD);
        wait_until(atomic_load(&rig.registered) == 1);
        ck_assert_uint_eq(pyn_registration_creation(r), 1000);
    }
    stop(r);
    epmd_rig_stop(&rig);
}
END_TEST

START_TEST(epmd_may_come_late)
{
    enum pyn_epmd_result result;
    struct pyn_registration *r;
    uint16_t port;

    /* It restarts as something broken, and then well. */
    epmd_rig_start(&rig, 0, EPMD_RIG_GOOD);
    port = rig.port;
    r = start(port, 20000, &result);
    ck_assert_msg(r != NULL, "%s", error);
    epmd_rig_stop(&rig);
    epmd_rig_start(&rig, port, EPMD_RIG_RUDE);
    wait_until(atomic_load(&rig.requests) >= 2);
    epmd_rig_stop(&rig);
    epmd_rig_start(&rig, port, EPMD_RIG_GOOD);
    wait_until(atomic_load(&rig.registered) == 1);
    stop(r);
    epmd_rig_stop(&rig);
}
END_TEST

START_TEST(stopped_while_it_tries)
{
    enum pyn_epmd_result result;
    struct pyn_registration *r;
    uint16_t port;

    epmd_rig_start(&rig, 0, EPMD_RIG_GOOD);
    port = rig.port;
    r = start(port, 20000, &result);
    ck_assert_msg(r != NULL, "%s", error);
    epmd_rig_stop(&rig);
    epmd_rig_start(&rig, port, EPMD_RIG_SILENT);
    wait_until(atomic_load(&rig.requests) >= 1);
    stop(r); /* hangs when the wait does not see it */
    epmd_rig_stop(&rig);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("registration");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_set_timeout(core, 30);
    tcase_set_timeout(limits, 30);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, nobody_answers);
    tcase_add_test(limits, something_else_answers);
    tcase_add_test(limits, the_reason_is_not_lost);
    tcase_add_test(limits, stopped_while_it_tries);
    tcase_add_test(core, the_name_is_taken);
    tcase_add_test(core, registered_as_long_as_it_lives);
    tcase_add_test(core, again_when_epmd_comes_back);
    tcase_add_test(core, epmd_may_come_late);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
