#include "base/huge.h"

#include <stdint.h>
#include <sys/mman.h>

#define HUGE_MIN ((size_t)4 * 1024 * 1024)
#define PAGE ((size_t)4096)

void pyn_huge_pages(void *at, size_t n)
{
    uintptr_t first = ((uintptr_t)at + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    uintptr_t end = ((uintptr_t)at + n) & ~(uintptr_t)(PAGE - 1);

    /* A hint: the kernel may have no huge pages. */
    if (n >= HUGE_MIN)
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
}
