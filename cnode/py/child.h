/* The end of a process that Python code has forked (base/forked.h), where it comes back from the code that was called:
 * the answer is the node's to give. */
#ifndef PYN_PY_CHILD_H
#define PYN_PY_CHILD_H

/* Returns at once unless this is such a process. Then it ends as a script would at its last line: with the traceback of
 * the current exception, if there is one, and the exit code that follows. Attached. */
void pyn_child_ends(void);

#endif
