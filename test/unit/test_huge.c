#include <stdlib.h>
#include <string.h>

#include "base/huge.h"

#include "unit/suite.h"

static const size_t sizes[] = {0, 1, 4095, 4096, 4 * 1024 * 1024 - 1, 4 * 1024 * 1024, 9 * 1024 * 1024 + 5};

/* Wherever it begins, whatever its size: what is there stays, and what is beside it too. */
START_TEST(no_byte_changes)
{
    size_t n = sizes[_i], changed = 0;
    unsigned char *block = malloc(n + 3);

    ck_assert_ptr_nonnull(block);
    memset(block, 'a', n + 3);
    pyn_huge_pages(block + 1, n);
    for (size_t i = 0; i < n + 3; i++)
        changed += block[i] != 'a';
    ck_assert_uint_eq(changed, 0);
    free(block);
}
END_TEST

START_TEST(nowhere)
{
    pyn_huge_pages(NULL, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("huge");
    TCase *limits = tcase_create("Limits"), *core = tcase_create("Core");

    tcase_add_test(limits, nowhere);
    tcase_add_loop_test(core, no_byte_changes, 0, sizeof(sizes) / sizeof(sizes[0]));
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, core);
    return suite_run(suite);
}
