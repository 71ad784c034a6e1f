#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dist/epmd.h"
#include "base/thread.h"

#include "unit/epmd_rig.h"
#include "unit/suite.h"

static struct epmd_rig rig;

static struct pyn_wait wait_ms(uint64_t ms)
{
    return (struct pyn_wait){.deadline = pyn_deadline_in(pyn_now(), ms), .stop_fd = -1, .cancel_fd = -1};
}

START_TEST(where_epmd_listens)
{
    static const struct {
        const char *env;
        uint16_t given;
        uint16_t port;
    } t[] = {
        {NULL, 0, 4369}, {"", 0, 4369},  {"x", 0, 4369},    {"12x", 0, 4369},     {"70000", 0, 4369},
        {"-1", 0, 4369}, {"0", 0, 4369}, {"5000", 0, 5000}, {"5000", 6000, 6000},
    };

    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        if (t[i].env != NULL)
            setenv("ERL_EPMD_PORT", t[i].env, 1);
        else
            unsetenv("ERL_EPMD_PORT");
        ck_assert_uint_eq(pyn_epmd_port(t[i].given), t[i].port);
    }
}
END_TEST

/* What every request makes of an epmd that is none. */
START_TEST(bad_epmds)
{
    static const struct {
        enum epmd_rig_mode mode;
        enum pyn_epmd_result result;
    } t[] = {
        {EPMD_RIG_SILENT, PYN_EPMD_TIMED_OUT},
        {EPMD_RIG_GARBAGE, PYN_EPMD_BROKEN},
        {EPMD_RIG_RUDE, PYN_EPMD_BROKEN},
    };
    char text[100];

    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct pyn_wait w = wait_ms(t[i].mode == EPMD_RIG_SILENT ? 100 : 20000);
        struct pyn_address at;
        uint32_t creation;
        uint16_t port;
        int fd = -1;
        epmd_rig_start(&rig, 0, t[i].mode);
        pyn_address_loopback(rig.port, &at);
        ck_assert_int_eq(pyn_epmd_register(rig.port, "py1", 4711, &w, &fd, &creation), t[i].result);
        ck_assert_int_eq(fd, -1);
        ck_assert_int_eq(pyn_epmd_lookup(&at, "py1", &w, &port), t[i].result);
        if (t[i].mode != EPMD_RIG_GARBAGE) /* a list of names is any text */
            ck_assert_int_eq(pyn_epmd_names(rig.port, &w, text, sizeof(text)), t[i].result);
        epmd_rig_stop(&rig);
    }
}
END_TEST

START_TEST(nobody_there)
{
    uint16_t nobody = epmd_rig_free_port();
    struct pyn_wait w = wait_ms(20000);
    struct pyn_address at;
    uint32_t creation;
    uint16_t port;
    char text[10];
    int fd;

    pyn_address_loopback(nobody, &at);
    ck_assert_int_eq(pyn_epmd_register(nobody, "py1", 1, &w, &fd, &creation), PYN_EPMD_UNREACHABLE);
    ck_assert_int_eq(pyn_epmd_lookup(&at, "py1", &w, &port), PYN_EPMD_UNREACHABLE);
    ck_assert_int_eq(pyn_epmd_names(nobody, &w, text, sizeof(text)), PYN_EPMD_UNREACHABLE);
}
END_TEST

START_TEST(a_name_lives_as_long_as_its_socket)
{
    struct pyn_wait w = wait_ms(20000);
    struct pyn_address at;
    uint32_t creation = 0;
    uint16_t port = 0;
    char text[100];
    int fd, other = -1;

    epmd_rig_start(&rig, 0, EPMD_RIG_GOOD);
    pyn_address_loopback(rig.port, &at);
    ck_assert_int_eq(pyn_epmd_lookup(&at, "py1", &w, &port), PYN_EPMD_UNKNOWN);
    ck_assert_int_eq(pyn_epmd_names(rig.port, &w, text, sizeof(text)), PYN_EPMD_OK);
    ck_assert_str_eq(text, "nothing");
    ck_assert_int_eq(pyn_epmd_register(rig.port, "py1", 4711, &w, &fd, &creation), PYN_EPMD_OK);
    ck_assert_uint_eq(creation, 1000);
    ck_assert_int_eq(pyn_epmd_lookup(&at, "py1", &w, &port), PYN_EPMD_OK);
    ck_assert_uint_eq(port, 4711);
    ck_assert_int_eq(pyn_epmd_register(rig.port, "py1", 4712, &w, &other, &creation), PYN_EPMD_TAKEN);
    ck_assert_int_eq(other, -1);
    ck_assert_int_eq(pyn_epmd_register(rig.port, "py2", 4712, &w, &other, &creation), PYN_EPMD_OK);
    ck_assert_int_eq(pyn_epmd_names(rig.port, &w, text, sizeof(text)), PYN_EPMD_OK);
    ck_assert_ptr_nonnull(strstr(text, "py1 at port 4711"));
    ck_assert_ptr_nonnull(strstr(text, ", "));
    ck_assert_int_eq(pyn_epmd_names(rig.port, &w, text, 8), PYN_EPMD_OK);
    ck_assert_uint_lt(strlen(text), 8);
    close(other);
    close(fd);
    wait_until(atomic_load(&rig.registered) == 0);
    epmd_rig_stop(&rig);
}
END_TEST

START_TEST(an_old_epmd_gives_a_small_creation)
{
    struct pyn_wait w = wait_ms(20000);
    uint32_t creation = 0;
    int fd;

    epmd_rig_start(&rig, 0, EPMD_RIG_OLD);
    ck_assert_int_eq(pyn_epmd_register(rig.port, "py1", 4711, &w, &fd, &creation), PYN_EPMD_OK);
    ck_assert_uint_eq(creation, 2);
    close(fd);
    epmd_rig_stop(&rig);
}
END_TEST

START_TEST(a_name_that_is_too_long)
{
    struct pyn_wait w = wait_ms(20000);
    char name[1000];
    uint32_t creation;
    int fd;

    memset(name, 'a', sizeof(name));
    name[999] = '\0';
    epmd_rig_start(&rig, 0, EPMD_RIG_GOOD);
    ck_assert_int_eq(pyn_epmd_register(rig.port, name, 4711, &w, &fd, &creation), PYN_EPMD_BROKEN);
    epmd_rig_stop(&rig);
}
END_TEST

START_TEST(stopping_is_not_held_up)
{
    struct pyn_wait w = wait_ms(60000);
    uint32_t creation;
    int fd;

    epmd_rig_start(&rig, 0, EPMD_RIG_SILENT);
    w.stop_fd = pyn_wake_new();
    pyn_wake_raise(w.stop_fd);
    ck_assert_int_eq(pyn_epmd_register(rig.port, "py1", 4711, &w, &fd, &creation), PYN_EPMD_STOPPED);
    close(w.stop_fd);
    epmd_rig_stop(&rig);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("epmd");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(limits, bad_epmds);
    tcase_add_test(limits, nobody_there);
    tcase_add_test(limits, a_name_that_is_too_long);
    tcase_add_test(limits, stopping_is_not_held_up);
    tcase_add_test(core, where_epmd_listens);
    tcase_add_test(core, a_name_lives_as_long_as_its_socket);
    tcase_add_test(core, an_old_epmd_gives_a_small_creation);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
