/* Links over socketpairs, for the tests of dist/link*.c and dist/links.c: the far end is a plain socket in the hands of
 * the test, what is called back is written down. */
#ifndef PYN_TEST_LINK_RIG_H
#define PYN_TEST_LINK_RIG_H

#include <pthread.h>
#include <stdatomic.h>

#include "dist/links.h"

#include "unit/suite.h"

/* What a SEND frame of rig_frame has between its length and its payload. */
enum { RIG_FRAME_HEAD = 6 + 2 + 16 + 1 };

/* What each link's peer announced. */
#define RIG_PEER_FLAGS UINT64_C(0x123456789)

struct rig {
    struct pyn_links *ls;
    /* Written by the polling thread; read by others through the atomics only. */
    atomic_uint ups, downs, messages;
    struct pyn_link *last_up; /* borrowed from the table */
    char reason[160];         /* of the last on_down */
    char order[64];           /* 'u' and 'd' as they came */
    bool broken;              /* on_broken came */
    /* Called for each message when set. */
    void (*seen)(struct rig *r, struct pyn_link *l, const struct pyn_control *c, struct pyn_block *block);
    void *ctx;
    /* rig_start */
    pthread_t poller;
    atomic_bool stop;
};

/* tick: seconds, 0 for none. */
void rig_init(struct rig *r, size_t max_frame, size_t max_output, unsigned tick);
/* Frees the links, too. */
void rig_free(struct rig *r);
/* Adds a link to `peer` and polls until it is up (not with a poller); returns the far end, blocking. */
int rig_connect(struct rig *r, const char *peer);
/* A socketpair: one end goes to pyn_links_add, the other is returned. */
int rig_add(struct rig *r, const char *peer);
/* A thread that polls until rig_stop. */
void rig_start(struct rig *r);
void rig_stop(struct rig *r);

/* A SEND frame whose payload is n bytes of `fill`, appended to b with its length. */
void rig_frame(struct pyn_buf *b, uint8_t fill, size_t n);
/* A row of messages of growing and shrinking sizes, of bytes that their number gives: the size of the payload... */
size_t rig_stream_size(uint32_t number);
/* ... all frames from 0 on, and whether a payload is that of this number. */
void rig_stream_frames(struct pyn_buf *b, uint32_t count);
void rig_stream_check(struct pyn_span payload, uint32_t number);

/* A thread that writes the bytes to fd in pieces of random sizes. */
struct rig_feed {
    int fd;
    const struct pyn_buf *bytes;
    unsigned seed;
    pthread_t thread;
};
void rig_feed_start(struct rig_feed *f);

/* The far end: blocking, complete or failing the test. */
void rig_write(int fd, const void *bytes, size_t n);
void rig_read(int fd, void *bytes, size_t n);
/* Reads a whole frame without its length into a new block. */
uint8_t *rig_read_frame(int fd, size_t *n);
/* Nothing can be read there now. */
bool rig_is_quiet(int fd);

/* By polling. */
#define rig_poll_until(r, condition) wait_until_by(pyn_links_poll((r)->ls, 20), condition, #condition)

#endif
