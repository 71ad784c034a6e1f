#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "svc/touched.h"

#include "unit/link_rig.h"
#include "unit/suite.h"

enum { MAX_FRAME = 4096, LINKS = PYN_TOUCHED + 3, PAYLOAD = 10 };

static struct rig rig;
static struct pyn_touched touched;
static struct pyn_link *links[LINKS];
static int far[LINKS];

static void setup(void)
{
    rig_init(&rig, MAX_FRAME, MAX_FRAME, 0);
    pyn_touched_init(&touched);
    for (int i = 0; i < LINKS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "peer%d@host", i);
        far[i] = rig_connect(&rig, name);
        links[i] = pyn_link_ref(rig.last_up);
    }
}

static void teardown(void)
{
    pyn_touched_flush(&touched); /* gives the references back */
    pyn_touched_fini(&touched);
    for (int i = 0; i < LINKS; i++) {
        pyn_link_unref(links[i]);
        close(far[i]);
    }
    rig_free(&rig);
}

static void queue(struct pyn_link *l)
{
    struct pyn_out o;

    pyn_out_init(&o, MAX_FRAME);
    rig_frame(&o.buf, 7, PAYLOAD);
    ck_assert(pyn_link_send(l, &o, true));
    pyn_touched_add(&touched, l);
    pyn_out_free(&o);
}

static void expect(int fd)
{
    size_t n;

    free(rig_read_frame(fd, &n));
    ck_assert_uint_gt(n, PAYLOAD);
}

/* --- Limits --- */

START_TEST(nothing_to_flush)
{
    pyn_touched_flush(&touched);
    for (int i = 0; i < LINKS; i++)
        ck_assert(rig_is_quiet(far[i]));
}
END_TEST

/* What has no place in the list goes out at once. */
START_TEST(more_than_it_holds)
{
    for (int i = 0; i < LINKS; i++)
        queue(links[i]);
    for (int i = 0; i < LINKS; i++)
        ck_assert_int_eq(rig_is_quiet(far[i]), i < PYN_TOUCHED);
    pyn_touched_flush(&touched);
    for (int i = 0; i < LINKS; i++)
        expect(far[i]);
}
END_TEST

START_TEST(a_link_that_went_down)
{
    queue(links[0]);
    pyn_link_close(links[0], "test");
    pyn_touched_flush(&touched);
    queue(links[1]);
    pyn_touched_flush(&touched);
    expect(far[1]);
}
END_TEST

/* --- Core --- */

START_TEST(together)
{
    for (int round = 0; round < 3; round++) {
        queue(links[0]);
        queue(links[1]);
    }
    ck_assert_uint_eq(touched.count, 2);
    ck_assert(rig_is_quiet(far[0]));
    pyn_touched_flush(&touched);
    ck_assert_uint_eq(touched.count, 0);
    for (int round = 0; round < 3; round++) {
        expect(far[0]);
        expect(far[1]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("touched");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_checked_fixture(limits, setup, teardown);
    tcase_add_checked_fixture(core, setup, teardown);
    tcase_add_test(limits, nothing_to_flush);
    tcase_add_test(limits, more_than_it_holds);
    tcase_add_test(limits, a_link_that_went_down);
    tcase_add_test(core, together);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
