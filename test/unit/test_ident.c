#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dist/ident.h"

#include "unit/suite.h"

START_TEST(names_of_peers)
{
    static const struct {
        const char *name;
        bool good;
    } t[] = {
        {"", false},        {"a", false},          {"@", false},     {"a@", false},
        {"@b", false},      {"a@b@c", false},      {"a b@c", false}, {"a\n@c", false},
        {"a@c\x7f", false}, {"py1@host", true},    {"a@b", true},    {"x-1_y@10.0.0.1", true},
        {"a@::1", true},    {"n\xc3\xa4@h", true},
    };
    char longest[258];

    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
        ck_assert_msg(pyn_ident_valid_name((struct pyn_span){(const uint8_t *)t[i].name, strlen(t[i].name)}) ==
                          t[i].good,
                      "%s", t[i].name);
    memset(longest, 'x', sizeof(longest));
    longest[1] = '@';
    ck_assert(pyn_ident_valid_name((struct pyn_span){(const uint8_t *)longest, 255}));
    ck_assert(!pyn_ident_valid_name((struct pyn_span){(const uint8_t *)longest, 256}));
}
END_TEST

START_TEST(our_name_as_given)
{
    static const struct {
        const char *asked;
        bool long_names;
        const char *full; /* NULL: refused */
    } t[] = {
        {"", false, NULL},
        {"@host", false, NULL},
        {"a b@host", false, NULL},
        {"a@", false, NULL},
        {"a@h@i", false, NULL},
        {"\xc3\xa4@h", false, NULL},
        {"a@h\xc3\xa4", false, NULL},
        {"a@h i", false, NULL},
        {"a@b.c", false, NULL},
        {"a@b", true, NULL},
        {"a@b", false, "a@b"},
        {"a-b_1@b.c", true, "a-b_1@b.c"},
        {"a@127.0.0.1", true, "a@127.0.0.1"},
    };
    char full[256];
    char error[400];

    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        bool ok = pyn_ident_full_name(t[i].asked, t[i].long_names, full, error, sizeof(error));
        ck_assert_msg(ok == (t[i].full != NULL), "%s", t[i].asked);
        if (ok)
            ck_assert_str_eq(full, t[i].full);
        else
            ck_assert_str_ne(error, "");
    }
}
END_TEST

START_TEST(a_short_name_gets_this_host)
{
    char full[256], error[400], host[256];

    ck_assert_int_eq(gethostname(host, sizeof(host)), 0);
    host[strcspn(host, ".")] = '\0';
    ck_assert(pyn_ident_full_name("py1", false, full, error, sizeof(error)));
    ck_assert_int_eq(strncmp(full, "py1@", 4), 0);
    ck_assert_str_eq(full + 4, host);
}
END_TEST

START_TEST(a_name_that_is_too_long)
{
    char asked[300], full[256], error[400];

    memset(asked, 'a', sizeof(asked));
    memcpy(asked + 253, "@h", 3);
    ck_assert(pyn_ident_full_name(asked, false, full, error, sizeof(error)));
    ck_assert_uint_eq(strlen(full), 255);
    memcpy(asked + 253, "a@h", 4);
    ck_assert(!pyn_ident_full_name(asked, false, full, error, sizeof(error)));
}
END_TEST

START_TEST(the_pid)
{
    static const uint8_t expected[] = {88, 119, 8, 'p', 'y', '1', '@', 'h',  'o',  's',  't', 0,
                                       0,  0,   1, 0,   0,   0,   0,   0x12, 0x34, 0x56, 0x78};
    struct pyn_ident id;
    struct pyn_buf b;

    pyn_ident_init(&id, "py1@host", 0x12345678);
    pyn_buf_init(&b, 1024);
    pyn_ident_write_pid(&id, &b);
    ck_assert_uint_eq(b.len, sizeof(expected));
    ck_assert_mem_eq(b.data, expected, sizeof(expected));
    pyn_buf_free(&b);
}
END_TEST

enum { THREADS = 4, REFS = 500, REF_BYTES = 3 + 10 + 4 + 12 };

struct maker {
    struct pyn_ident *id;
    struct pyn_buf b;
};

static void *make_refs(void *arg)
{
    struct maker *m = arg;

    for (int i = 0; i < REFS; i++)
        pyn_ident_write_ref(m->id, &m->b);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, REF_BYTES);
}

START_TEST(references_are_all_different)
{
    static uint8_t all[THREADS * REFS][REF_BYTES];
    struct maker m[THREADS];
    struct pyn_ident id;
    pthread_t t[THREADS];

    pyn_ident_init(&id, "py1@host", 7);
    atomic_store(&id.next_ref, UINT64_C(0x3ff00) - REFS); /* the first word runs over on the way */
    for (int i = 0; i < THREADS; i++) {
        m[i].id = &id;
        pyn_buf_init(&m[i].b, 1 << 20);
        ck_assert_int_eq(pthread_create(&t[i], NULL, make_refs, &m[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        ck_assert_uint_eq(m[i].b.len, REFS * REF_BYTES);
        memcpy(all[i * REFS], m[i].b.data, m[i].b.len);
        pyn_buf_free(&m[i].b);
    }
    ck_assert_uint_eq(all[0][0], 90);
    ck_assert_uint_eq(all[0][2], 3);
    qsort(all, THREADS * REFS, REF_BYTES, compare);
    for (int i = 1; i < THREADS * REFS; i++) {
        ck_assert_int_ne(compare(all[i - 1], all[i]), 0);
        ck_assert_uint_lt(pyn_get_be32(all[i] + 17), 1u << 18);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ident");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, names_of_peers);
    tcase_add_test(core, our_name_as_given);
    tcase_add_test(core, a_short_name_gets_this_host);
    tcase_add_test(core, the_pid);
    tcase_add_test(limits, a_name_that_is_too_long);
    tcase_add_test(limits, references_are_all_different);
    suite_add_tcase(s, core);
    suite_add_tcase(s, limits);
    return suite_run(s);
}
