/* The distribution handshake, by `ei`, over a socket that stays ours.
 *
 * ei reads and writes through callbacks. They wait by poll() with one deadline for the whole handshake, and they look
 * at what passes: the capability flags that ei announces are replaced by those that this program stands for, the
 * peer's flags and name are noted, and the status message (which ei always makes "ok") is ours to choose.
 *
 * ei keeps a table indexed by descriptor whose entries are large and are never given back. It gets small stand-in
 * numbers instead of descriptors, and its entry is cleared when the handshake is over. So nothing of ei is left
 * behind: the socket is closed by close(2), and descriptors may be of any size.
 *
 * ei asks gethostid(3) for its challenges, which may look the host up: a host that cannot resolve its own name has
 * slow handshakes, and the deadline is seen only after it. */
#ifndef PYN_DIST_HANDSHAKE_H
#define PYN_DIST_HANDSHAKE_H

#include "dist/net.h"

/* Capability flags, those that somebody here names. */
#define PYN_DFLAG_PUBLISHED UINT64_C(0x1)
#define PYN_DFLAG_DIST_MONITOR UINT64_C(0x8)
#define PYN_DFLAG_DIST_MONITOR_NAME UINT64_C(0x20)
#define PYN_DFLAG_EXIT_PAYLOAD UINT64_C(0x400000)
#define PYN_DFLAG_FRAGMENTS UINT64_C(0x800000)
#define PYN_DFLAG_UNLINK_ID UINT64_C(0x2000000)
#define PYN_DFLAG_MANDATORY_25_DIGEST UINT64_C(0x4000000)
#define PYN_DFLAG_SPAWN UINT64_C(0x100000000)
#define PYN_DFLAG_NAME_ME UINT64_C(0x200000000)
#define PYN_DFLAG_V4_NC UINT64_C(0x400000000)
#define PYN_DFLAG_ALIAS UINT64_C(0x800000000)

/* What we announce, whatever version of ei this is: EXTENDED_REFERENCES, DIST_MONITOR, FUN_TAGS, DIST_MONITOR_NAME,
 * NEW_FUN_TAGS, EXTENDED_PIDS_PORTS, EXPORT_PTR_TAG, BIT_BINARIES, NEW_FLOATS, SMALL_ATOM_TAGS, UTF8_ATOMS, MAP_TAG,
 * BIG_CREATION, HANDSHAKE_23, UNLINK_ID, MANDATORY_25_DIGEST, V4_NC: what ei 5.3 has, and monitors by name.
 * Not PUBLISHED (a hidden node), SPAWN, ALIAS, FRAGMENTS, EXIT_PAYLOAD (exit reasons stay in the control tuple),
 * SEND_SENDER. */
#define PYN_OUR_DFLAGS UINT64_C(0x407074fbc)

enum pyn_shake_end {
    PYN_SHAKE_OK,
    PYN_SHAKE_TIMED_OUT,
    PYN_SHAKE_STOPPED,      /* stop_fd was raised */
    PYN_SHAKE_CLOSED,       /* the peer closed or the connection broke */
    PYN_SHAKE_COOKIE,       /* the peer has another cookie */
    PYN_SHAKE_GARBAGE,      /* not the distribution protocol, or not in a version that we speak */
    PYN_SHAKE_REFUSED,      /* we said no, or the peer did (`not_allowed`) */
    PYN_SHAKE_SIMULTANEOUS, /* gave way to the other one of two crossing attempts; nothing is wrong */
    PYN_SHAKE_SYSTEM,       /* no memory, no room in ei's table */
};

enum pyn_shake_status { PYN_SHAKE_SAY_OK, PYN_SHAKE_SAY_OK_SIMULTANEOUS, PYN_SHAKE_SAY_NOK, PYN_SHAKE_SAY_NOT_ALLOWED };

struct pyn_handshake {
    /* Set by the caller. */
    int fd; /* borrowed, non-blocking, connected */
    struct pyn_wait wait;
    const char *expect; /* connecting: the name that the peer must give */
    /* Accepting: what to answer, asked once peer and peer_flags are known; NULL: always ok. May write `reason` when it
     * refuses. */
    enum pyn_shake_status (*judge)(void *ctx, struct pyn_handshake *hs);
    void *ctx;

    /* Results. */
    char peer[256];      /* "" until it was told */
    uint64_t peer_flags; /* the flags that MANDATORY_25_DIGEST stands for included */
    uint64_t our_flags;  /* as sent */
    char reason[160];    /* a sentence when it failed */

    /* Private. */
    enum pyn_shake_end end;
    int slot;
    bool accepting;
    bool in_body; /* the next read is a message's body, of body_len bytes */
    uint16_t body_len;
    uint8_t last_in; /* tag of the last message read, 0 before */
    bool answered;   /* something was written after it */
};

/* Our side of every handshake; used by many at a time. */
struct pyn_handshakes;

/* name "alive@host", creation from epmd. NULL when ei refuses them or memory is out. */
struct pyn_handshakes *pyn_handshakes_new(const char *name, const char *cookie, uint32_t creation);
void pyn_handshakes_free(struct pyn_handshakes *h);
/* The creation as ei sends it (it raises the tiny ones of an old epmd): pids and references must have the same. */
uint32_t pyn_handshakes_creation(const struct pyn_handshakes *h);

/* Both run one whole handshake on the calling thread (it needs 64 KiB of stack). The socket stays open and the caller's
 * in every case; not one byte behind the handshake was read. */
PYN_MUSTCHECK enum pyn_shake_end pyn_handshake_accept(struct pyn_handshakes *h, struct pyn_handshake *hs);
PYN_MUSTCHECK enum pyn_shake_end pyn_handshake_connect(struct pyn_handshakes *h, struct pyn_handshake *hs);

/* Sets what a link wants of its socket and a handshake does not care about: TCP_NODELAY, SO_KEEPALIVE. */
void pyn_handshake_prepare_link(int fd);

#endif
