#include <stdlib.h>
#include <string.h>

#include "base/defs.h"

#include "unit/suite.h"

static struct pyn_span span_of(const char *text)
{
    return (struct pyn_span){(const uint8_t *)text, strlen(text)};
}

/* --- Core --- */

START_TEST(spans_differ)
{
    static const char *const table[][2] = {{"a", "b"}, {"a", ""}, {"", "a"}, {"abc", "abd"}, {"abc", "abcd"}};

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        ck_assert(!pyn_span_eq(span_of(table[i][0]), span_of(table[i][1])));
        ck_assert(!pyn_span_is(span_of(table[i][0]), table[i][1]));
    }
}
END_TEST

START_TEST(spans_agree)
{
    char other[] = "hello";

    ck_assert(pyn_span_eq(span_of("hello"), span_of(other)));
    ck_assert(pyn_span_is(span_of(other), "hello"));
    ck_assert(pyn_span_eq(span_of(""), (struct pyn_span){NULL, 0}));
    ck_assert(pyn_span_is((struct pyn_span){NULL, 0}, ""));
    /* A NUL is a byte like others. */
    ck_assert(!pyn_span_is((struct pyn_span){(const uint8_t *)"a\0b", 3}, "a"));
}
END_TEST

START_TEST(hash_depends_on_bytes_and_seed)
{
    uint64_t h = pyn_span_hash(span_of("math"), 1);

    ck_assert_uint_eq(h, pyn_span_hash(span_of("math"), 1));
    ck_assert_uint_ne(h, pyn_span_hash(span_of("math"), 2));
    ck_assert_uint_ne(h, pyn_span_hash(span_of("maths"), 1));
    ck_assert_uint_ne(h, pyn_span_hash(span_of("mati"), 1));
}
END_TEST

/* --- Limits --- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Short keys that differ by a bit: no two hashes alike, also in the low bits that a table would use. */
START_TEST(hash_spreads)
{
    enum { COUNT = 65536, BUCKETS = 1024 };
    uint64_t *all = calloc(COUNT, sizeof(*all));
    unsigned used[BUCKETS] = {0};

    ck_assert_ptr_nonnull(all);
    for (unsigned i = 0; i < COUNT; i++) {
        uint8_t key[2] = {(uint8_t)i, (uint8_t)(i >> 8)};

        all[i] = pyn_span_hash((struct pyn_span){key, 2}, 0);
        used[all[i] % BUCKETS]++;
    }
    for (unsigned i = 0; i < BUCKETS; i++)
        ck_assert_uint_lt(used[i], 4 * COUNT / BUCKETS);
    qsort(all, COUNT, sizeof(*all), by_value);
    for (unsigned i = 1; i < COUNT; i++)
        ck_assert_uint_ne(all[i - 1], all[i]);
    free(all);
}
END_TEST

static Suite *defs_suite(void)
{
    Suite *s = suite_create("defs");
    TCase *core = tcase_create("Core");
    TCase *limits = tcase_create("Limits");

    tcase_add_test(core, spans_differ);
    tcase_add_test(core, spans_agree);
    tcase_add_test(core, hash_depends_on_bytes_and_seed);
    suite_add_tcase(s, core);
    tcase_add_test(limits, hash_spreads);
    suite_add_tcase(s, limits);
    return s;
}

int main(void)
{
    return suite_run(defs_suite());
}
