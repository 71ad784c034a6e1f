/* Large memory by large pages. */
#ifndef PYN_BASE_HUGE_H
#define PYN_BASE_HUGE_H

#include <stddef.h>

/* To be called for memory that is about to be filled for the first time: from 4 MiB on asks for huge pages, since each
 * page of a fresh block costs a fault, and 64 MiB have 16384 small ones. Changes no byte, promises nothing. */
void pyn_huge_pages(void *at, size_t n);

#endif
