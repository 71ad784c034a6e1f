/* Whole nodes of ours, with an epmd in a thread. */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "dist/node.h"

#include "unit/epmd_rig.h"
#include "unit/link_rig.h"
#include "unit/suite.h"

static struct epmd_rig epmd;

struct side {
    struct rig rig;
    struct pyn_node *node;
    struct pyn_node_config config;
    enum pyn_node_failure failure;
    char error[1024];
};

static struct side a, b;

static void side_init(struct side *s, const char *name)
{
    memset(s, 0, sizeof(*s));
    s->config = (struct pyn_node_config){
        .name = name,
        .long_names = true,
        .cookie = "secret",
        .bind_address = "127.0.0.1",
        .epmd_port = epmd.port,
        .handshake_ms = 20000,
        .max_handshakes = 8,
        .max_links = 100,
        .failure = &s->failure,
    };
    rig_init(&s->rig, 1 << 20, 1 << 20, 0);
    rig_start(&s->rig);
    pyn_log_set_level(PYN_OFF);
}

static void side_start(struct side *s)
{
    s->node = pyn_node_start(&s->config, s->rig.ls, s->error, sizeof(s->error));
}

static void side_free(struct side *s)
{
    pyn_node_free(s->node);
    rig_stop(&s->rig);
    rig_free(&s->rig);
}

static void setup(void)
{
    epmd_rig_start(&epmd, 0, EPMD_RIG_GOOD);
    side_init(&a, "a@127.0.0.1");
    side_init(&b, "b@127.0.0.1");
}

static void teardown(void)
{
    side_free(&a);
    side_free(&b);
    epmd_rig_stop(&epmd);
}

static void must_fail(enum pyn_node_failure failure, const char *because)
{
    a.failure = 0;
    side_start(&a);
    ck_assert_ptr_null(a.node);
    ck_assert_int_eq(a.failure, failure);
    ck_assert_msg(strstr(a.error, because) != NULL, "%s", a.error);
}

START_TEST(what_is_refused)
{
    a.config.name = "a b";
    must_fail(PYN_NODE_BAD_NAME, "a b");
    a.config.name = "a@127.0.0.1";
    a.config.bind_address = "somewhere";
    must_fail(PYN_NODE_FAILED, "somewhere");
    a.config.bind_address = "127.0.0.1";
    a.config.coordinator = "nobody";
    must_fail(PYN_NODE_FAILED, "nobody");
    a.config.coordinator = "a@127.0.0.1";
    must_fail(PYN_NODE_FAILED, "itself");
    a.config.coordinator = NULL;
    a.config.max_handshakes = 0;
    must_fail(PYN_NODE_FAILED, "limits");
    a.config.max_handshakes = 1;
    a.config.failure = NULL;
    a.config.max_links = 0;
    side_start(&a);
    ck_assert_ptr_null(a.node);
}
END_TEST

START_TEST(a_name_that_is_in_use)
{
    b.config.name = "a@127.0.0.1";
    side_start(&b);
    ck_assert_msg(b.node != NULL, "%s", b.error);
    must_fail(PYN_NODE_NAME_TAKEN, "in use");
}
END_TEST

START_TEST(no_epmd)
{
    a.config.epmd_port = epmd_rig_free_port();
    must_fail(PYN_NODE_NO_EPMD, "cannot be reached");
}
END_TEST

START_TEST(who_it_is)
{
    static const uint8_t pid[] = {88,  119, 11, 'a', '@', '1', '2', '7', '.', '0', '.', '0', '.',
                                  '1', 0,   0,  0,   1,   0,   0,   0,   0,   0,   0,   3,   0xe8};
    struct pyn_buf one, two;

    side_start(&a);
    ck_assert_msg(a.node != NULL, "%s", a.error);
    ck_assert_str_eq(pyn_node_name(a.node), "a@127.0.0.1");
    ck_assert_uint_ne(pyn_node_port(a.node), 0);
    ck_assert_uint_eq(pyn_node_creation(a.node), 1000);
    ck_assert_ptr_null(pyn_node_coordinator(a.node));
    pyn_node_coordinator_lost(a.node); /* there is none: nothing happens */
    pyn_buf_init(&one, 1000);
    pyn_buf_init(&two, 1000);
    pyn_node_write_pid(a.node, &one);
    ck_assert_uint_eq(one.len, sizeof(pid));
    ck_assert_mem_eq(one.data, pid, sizeof(pid));
    pyn_buf_truncate(&one, 0);
    pyn_node_write_ref(a.node, &one);
    pyn_node_write_ref(a.node, &two);
    ck_assert_uint_eq(one.len, two.len);
    ck_assert_mem_ne(one.data, two.data, one.len);
    pyn_buf_free(&one);
    pyn_buf_free(&two);
}
END_TEST

START_TEST(a_small_creation_is_raised_everywhere)
{
    epmd_rig_stop(&epmd);
    epmd_rig_start(&epmd, 0, EPMD_RIG_OLD);
    a.config.epmd_port = epmd.port;
    side_start(&a);
    ck_assert_msg(a.node != NULL, "%s", a.error);
    ck_assert_uint_gt(pyn_node_creation(a.node), 3);
}
END_TEST

START_TEST(to_the_coordinator)
{
    struct pyn_link *l;

    a.config.coordinator = "b@127.0.0.1";
    side_start(&a);
    side_start(&b);
    wait_until(atomic_load(&a.rig.ups) == 1 && atomic_load(&b.rig.ups) == 1);
    l = pyn_node_coordinator(a.node);
    ck_assert_ptr_nonnull(l);
    pyn_link_close(l, "the test wants it");
    pyn_link_unref(l);
    wait_until(atomic_load(&a.rig.downs) == 1);
    pyn_node_coordinator_lost(a.node);
    wait_until(atomic_load(&a.rig.ups) == 2 && atomic_load(&b.rig.ups) == 2);
}
END_TEST

START_TEST(to_each_other)
{
    a.config.coordinator = "b@127.0.0.1";
    b.config.coordinator = "a@127.0.0.1";
    for (int i = 0; i < 20; i++) {
        side_start(&a);
        side_start(&b);
        ck_assert(a.node != NULL && b.node != NULL);
        wait_until(pyn_links_count(a.rig.ls) >= 1 && pyn_links_count(b.rig.ls) >= 1 &&
                   atomic_load(&a.rig.ups) - atomic_load(&a.rig.downs) == 1 &&
                   atomic_load(&b.rig.ups) - atomic_load(&b.rig.downs) == 1);
        pyn_node_stop(a.node);
        pyn_node_stop(b.node);
        pyn_node_free(a.node);
        pyn_node_free(b.node);
        a.node = b.node = NULL;
        rig_stop(&a.rig);
        rig_stop(&b.rig);
        rig_free(&a.rig);
        rig_free(&b.rig);
        rig_init(&a.rig, 1 << 20, 1 << 20, 0);
        rig_init(&b.rig, 1 << 20, 1 << 20, 0);
        pyn_log_set_level(PYN_OFF);
        rig_start(&a.rig);
        rig_start(&b.rig);
        wait_until(atomic_load(&epmd.registered) == 0);
    }
}
END_TEST

START_TEST(stopped_nodes_stay_askable)
{
    a.config.coordinator = "b@127.0.0.1";
    side_start(&a);
    side_start(&b);
    wait_until(atomic_load(&a.rig.ups) == 1);
    pyn_node_stop_listening(a.node);
    pyn_node_stop(a.node);
    pyn_node_stop(a.node);
    wait_until(atomic_load(&epmd.registered) == 1);
    ck_assert_str_eq(pyn_node_name(a.node), "a@127.0.0.1");
    ck_assert_uint_eq(pyn_links_count(a.rig.ls), 1); /* links stay */
    pyn_node_coordinator_lost(a.node);
    pyn_link_unref(pyn_node_coordinator(a.node));
    pyn_node_free(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("node");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_set_timeout(core, 60);
    tcase_set_timeout(limits, 60);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_test(limits, what_is_refused);
    tcase_add_test(limits, a_name_that_is_in_use);
    tcase_add_test(limits, no_epmd);
    tcase_add_test(limits, a_small_creation_is_raised_everywhere);
    tcase_add_test(core, who_it_is);
    tcase_add_test(core, to_the_coordinator);
    tcase_add_test(core, to_each_other);
    tcase_add_test(core, stopped_nodes_stay_askable);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
