/* What link.c, link_in.c, link_out.c and links.c share. Nobody else includes it.
 *
 * Locks, in this order: links->lock, then link->lock. No callback, no release of a foreign stretch and no log line
 * runs under link->lock.
 *
 * The life of the socket. `fd` is closed once, when the polling thread retires the link, and so early (not with the
 * last reference) that requests which still wait somewhere keep no descriptor of a dead peer. Whoever uses the number
 * must be sure that it still is this socket:
 *   - under link->lock, while fd >= 0: shutdown, epoll_ctl;
 *   - without it: the polling thread, for recv, because it alone retires; and the thread that has set `writing`, for
 *     sendmsg, because retiring leaves a link that is being written to its writer: that one, when it lets go of
 *     `writing` and finds `retired`, closes the socket and frees the queue.
 * So pyn_link_close only shuts down: the socket then is ready for ever, and the polling thread finds out. */
#ifndef PYN_DIST_LINK_PRIVATE_H
#define PYN_DIST_LINK_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "dist/links.h"
#include "dist/spin.h"

/* Received bytes and small outgoing messages are gathered in pieces of this size. */
#define PYN_LINK_CHUNK ((size_t)64 * 1024)
#define PYN_LINK_HEADER 4u

/* A piece of the output queue: a chunk into which small messages were copied, or one message that was stolen. */
struct pyn_seg {
    struct pyn_seg *next;
    size_t done;   /* bytes of it that are written */
    size_t len;    /* bytes in it */
    bool is_chunk; /* data[] holds them, PYN_LINK_CHUNK at most; else out does */
    struct pyn_out out;
    uint8_t data[];
};

/* Received bytes: frames begin at start, bytes end at len. Unread bytes behind len may be filled although requests
 * hold references: they point in front of len. */
struct pyn_inbuf {
    struct pyn_block *block;
    size_t start;
    size_t len;
};

struct pyn_link {
    atomic_uint refs;
    atomic_bool up;       /* written under lock; goes false once */
    struct pyn_links *ls; /* not to be used once retired */
    uint64_t id;
    uint64_t peer_flags;
    atomic_uint_least64_t bytes_in;  /* written by the polling thread */
    atomic_uint_least64_t bytes_out; /* written by who has set `writing` */

    /* The polling thread's. */
    struct pyn_inbuf in;
    uint64_t unknown_ops; /* bit per operation that was logged; the last bit stands for all from 63 on */

    pthread_mutex_t lock; /* guards all down to `reason` */
    int fd;               /* -1 once closed */
    uint32_t interest;    /* what epoll watches it for; 0 while it is not in epoll */
    bool watched;
    bool writing; /* a thread is in sendmsg; it alone removes from the queue */
    bool blocked; /* the socket takes nothing more; EPOLLOUT resumes */
    bool paused;  /* not read because the peer does not take our output */
    bool retired;
    struct pyn_seg *head;
    struct pyn_seg *tail;
    size_t waiting; /* bytes in the queue */
    char reason[160];

    /* Guarded by links->lock. */
    bool fresh; /* on_up is due */
    struct {
        bool started;
        uint64_t in, out;       /* the counters as they were seen last */
        uint64_t in_at, out_at; /* and when they were seen to have moved */
    } tick;

    char peer[];
};

struct pyn_links {
    struct pyn_links_config config;
    struct pyn_links_events events;
    int epoll_fd;
    int wake_fd;      /* watched edge-triggered, so nobody needs to read it */
    atomic_bool news; /* a link is fresh */
    atomic_uint_least64_t bytes_in;
    atomic_uint_least64_t bytes_out;

    /* The polling thread's: what links whose bytes are all consumed leave to the next reader. Bytes in front of len may
     * be referred to by requests. */
    struct pyn_inbuf spare;
    struct pyn_spin spin; /* the polling thread's */

    pthread_mutex_t lock;    /* guards the table, and in each link what it says */
    struct pyn_link **table; /* every link that is not retired */
    unsigned count;
    unsigned cap;
    uint64_t next_id;
};

/* link.c: a link with one reference around the socket, which stays the caller's on NULL. */
struct pyn_link *pyn_link_new(struct pyn_links *ls, int fd, const char *peer, uint64_t peer_flags, uint64_t id);
/* link.c, under l->lock: makes epoll watch for what the link's state asks for. */
void pyn_link_watch(struct pyn_link *l);
/* link.c, under l->lock: the part of pyn_link_close. The first reason stays. */
void pyn_link_fail(struct pyn_link *l, const char *reason);
/* link.c, polling thread: no more of this link. What a writer is busy with is left to it. */
void pyn_link_retire(struct pyn_link *l);
/* link.c, under links->lock: sends a tick or closes the link, when due. */
void pyn_link_tick(struct pyn_link *l, uint64_t now, uint64_t ticktime);

/* link_in.c, polling thread: reads once, delivers what is complete. false: the link is down (retire it). */
PYN_MUSTCHECK bool pyn_link_read(struct pyn_link *l, int *messages);

/* link_out.c, polling thread: the socket is writable again. */
void pyn_link_resume(struct pyn_link *l);
/* link_out.c: queues the empty frame unless something waits already, and flushes. */
void pyn_link_send_tick(struct pyn_link *l);
/* link_out.c, under l->lock: takes the whole queue off. */
struct pyn_seg *pyn_link_detach(struct pyn_link *l);
/* link_out.c: frees a list of segments and releases their foreign stretches. No lock held. */
void pyn_segs_free(struct pyn_seg *s);
/* link_out.c: gives back the chunk that an idle link keeps. */
void pyn_link_trim(struct pyn_link *l);

#endif
