/* Keeps some of the arenas that Python's allocator gives back, for its next large value: mapping and unmapping them
 * costs as much as decoding a list of 100 000 integers does.
 *
 * Thread-safe: interpreters with a GIL of their own share it. Own mutex, innermost. */
#ifndef PYN_PY_ARENA_H
#define PYN_PY_ARENA_H

/* Before Python starts. Builds whose allocator has no arenas (free-threaded) are left as they are. */
void pyn_arena_install(void);

#endif
