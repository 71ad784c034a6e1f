/* What is to run in every interpreter, those included that start later: calls in the order of their coming, each under
 * a key, and which interpreters (groups) each one still has to be run in.
 *
 * A new entry of a known key replaces the older one, but only once it is settled, that is, it was seen to work: until
 * then an interpreter that starts runs both. Bounded in number and bytes. Own mutex, innermost; asking what a group has
 * missed takes no lock when nobody has missed anything. Any thread. */
#ifndef PYN_SVC_REMEMBERED_H
#define PYN_SVC_REMEMBERED_H

#include "py/call.h"

struct pyn_remembered;

/* Counted: the table has a reference while the entry is in it. */
struct pyn_entry {
    struct pyn_span key;
    struct pyn_call call; /* its spans are the entry's own copies */
};

enum pyn_remember {
    PYN_REMEMBER_OK,
    PYN_REMEMBER_TOO_MANY,
    PYN_REMEMBER_TOO_LARGE, /* all of them together */
    PYN_REMEMBER_NO_MEMORY
};

/* Groups are numbers below max_groups. */
struct pyn_remembered *pyn_remembered_new(unsigned max_entries, size_t max_bytes, unsigned max_groups);
/* No reference to an entry may be out. */
void pyn_remembered_free(struct pyn_remembered *t);

/* Appends a copy of the call. *entry: a new reference. groups (room for max_groups) and *count: those that are there;
 * who comes later has missed it. */
PYN_MUSTCHECK enum pyn_remember pyn_remembered_add(struct pyn_remembered *t, struct pyn_span key,
                                                   const struct pyn_call *call, struct pyn_entry **entry, int *groups,
                                                   unsigned *count);
/* The newest entry of that key has this very call. */
bool pyn_remembered_has(struct pyn_remembered *t, struct pyn_span key, const struct pyn_call *call);
/* keep: older entries of its key go, else the entry itself. Nothing happens when it is not in the table any more. */
void pyn_remembered_settle(struct pyn_remembered *t, struct pyn_entry *entry, bool keep);
/* Forgets all entries of that key. */
void pyn_remembered_forget(struct pyn_remembered *t, struct pyn_span key);
unsigned pyn_remembered_count(struct pyn_remembered *t);

/* The group is there from now on. The first time, it has missed all entries. */
void pyn_remembered_enter(struct pyn_remembered *t, int group);
/* The groups that are there; returns how many. */
unsigned pyn_remembered_groups(struct pyn_remembered *t, int *groups);
/* The entry was not run in that group. */
void pyn_remembered_missed(struct pyn_remembered *t, struct pyn_entry *entry, int group);
/* The oldest entry that the group has missed, as a new reference; from now on it has not. NULL: none. */
struct pyn_entry *pyn_remembered_next(struct pyn_remembered *t, int group);

struct pyn_entry *pyn_entry_ref(struct pyn_entry *e);
void pyn_entry_unref(struct pyn_entry *e);

#endif
