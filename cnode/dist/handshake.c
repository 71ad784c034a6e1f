#include "dist/handshake.h"

#include <ei.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "dist/ident.h"

/* What MANDATORY_25_DIGEST stands for. */
#define MANDATORY_25 UINT64_C(0x1070f94)
/* A message of the handshake is a name of 255 bytes and some numbers; OTP may add a little. */
enum { MESSAGE_MAX = 1024, HEADER = 2, SLOT_WORDS = 16 };
/* Offsets in a message body. */
enum { AT_FLAGS = 1, NAME_HEAD = 15, CHALLENGE_HEAD = 19 };

struct pyn_handshakes {
    ei_cnode node; /* never changes after birth; each handshake works on a copy */
};

/* The stand-ins for descriptors. ei's table belongs to the process, so they do too. */
static _Atomic uint64_t slots[SLOT_WORDS];
static pthread_once_t ei_once = PTHREAD_ONCE_INIT;
static int ei_error;

static int slot_claim(void)
{
    for (int i = 0; i < SLOT_WORDS; i++) {
        uint64_t word = atomic_load(&slots[i]);
        while (word != UINT64_MAX) {
            int bit = __builtin_ctzll(~word);
            if (atomic_compare_exchange_weak(&slots[i], &word, word | UINT64_C(1) << bit))
                return i * 64 + bit;
        }
    }
    return -1;
}

static void slot_release(int slot)
{
    atomic_fetch_and(&slots[slot / 64], ~(UINT64_C(1) << (slot % 64)));
}

/* The first failure is the one that counts. Returns what a callback returns. */
static int fail(struct pyn_handshake *hs, enum pyn_shake_end end, const char *fmt, ...) PYN_PRINTF(3, 4);
static int fail(struct pyn_handshake *hs, enum pyn_shake_end end, const char *fmt, ...)
{
    va_list args;

    if (hs->end == PYN_SHAKE_OK) {
        hs->end = end;
        if (hs->reason[0] == '\0') {
            va_start(args, fmt);
            vsnprintf(hs->reason, sizeof(hs->reason), fmt, args);
            va_end(args);
        }
    }
    return EIO;
}

static int fail_socket(struct pyn_handshake *hs, int error)
{
    switch (error) {
    case ETIMEDOUT:
        return fail(hs, PYN_SHAKE_TIMED_OUT, "timed out");
    case ECANCELED:
        return fail(hs, PYN_SHAKE_STOPPED, "stopped");
    case ENODATA:
        if (hs->accepting || hs->last_in != 'N')
            return fail(hs, PYN_SHAKE_CLOSED, "the peer closed the connection");
        return fail(hs, PYN_SHAKE_CLOSED, "the peer closed the connection (it may have another cookie)");
    default:
        return fail(hs, PYN_SHAKE_CLOSED, "%s", strerror(error));
    }
}

static int send_status(struct pyn_handshake *hs, const char *status)
{
    uint8_t message[HEADER + 1 + 32];
    size_t n = strlen(status);
    int rc;

    message[0] = 0;
    message[1] = (uint8_t)(1 + n);
    message[2] = 's';
    memcpy(message + 3, status, n);
    rc = pyn_net_write(hs->fd, message, HEADER + 1 + n, &hs->wait);
    return rc ? fail_socket(hs, rc) : 0;
}

/* --- What the peer says --- */

static int saw_name(struct pyn_handshake *hs, const uint8_t *body, size_t len, size_t head)
{
    struct pyn_span name;

    if (len < head)
        return fail(hs, PYN_SHAKE_GARBAGE, "its first message is too short");
    name.ptr = body + head;
    name.len = pyn_get_be16(body + head - 2);
    hs->peer_flags = (uint64_t)pyn_get_be32(body + AT_FLAGS) << 32 | pyn_get_be32(body + AT_FLAGS + 4);
    if (hs->peer_flags & PYN_DFLAG_MANDATORY_25_DIGEST)
        hs->peer_flags |= MANDATORY_25;
    if (name.len > len - head)
        return fail(hs, PYN_SHAKE_GARBAGE, "its name is longer than its message");
    if (hs->accepting && (hs->peer_flags & PYN_DFLAG_NAME_ME))
        return fail(hs, PYN_SHAKE_REFUSED, "it has no name and asks for one; this node gives none");
    if (!pyn_ident_valid_name(name) || memchr(name.ptr, 0, name.len) != NULL)
        return fail(hs, PYN_SHAKE_GARBAGE, "its name is not a node name");
    memcpy(hs->peer, name.ptr, name.len);
    hs->peer[name.len] = '\0';
    if (!hs->accepting && hs->expect != NULL && strcmp(hs->expect, hs->peer) != 0)
        return fail(hs, PYN_SHAKE_REFUSED, "it says that its name is %.64s", hs->peer);
    return 0;
}

/* "alive": the peer believes that an older connection to us still stands, and asks whether we insist. We do, and ei,
 * which does not know the question, is shown an "ok". */
static int saw_status(struct pyn_handshake *hs, char *body, size_t len)
{
    struct pyn_span word = {(const uint8_t *)body + 1, len - 1};

    if (pyn_span_is(word, "ok") || pyn_span_is(word, "ok_simultaneous"))
        return 0;
    if (pyn_span_is(word, "nok"))
        return fail(hs, PYN_SHAKE_SIMULTANEOUS, "it is connecting to us itself");
    if (pyn_span_is(word, "alive")) {
        if (send_status(hs, "true"))
            return EIO;
        memcpy(body, "sok", 3);
        return 0;
    }
    return fail(hs, PYN_SHAKE_REFUSED, "it answered %.*s", (int)(len - 1 > 32 ? 32 : len - 1), body + 1);
}

static int saw_body(struct pyn_handshake *hs, char *body, size_t len)
{
    hs->last_in = (uint8_t)body[0];
    hs->answered = false;
    if (body[0] == 'N')
        return saw_name(hs, (const uint8_t *)body, len, hs->accepting ? NAME_HEAD : CHALLENGE_HEAD);
    if (body[0] == 's' && !hs->accepting)
        return saw_status(hs, body, len);
    if (hs->peer[0] == '\0' && body[0] == 'n')
        return fail(hs, PYN_SHAKE_GARBAGE, "it speaks only the handshake from before OTP 23");
    if (hs->peer[0] == '\0')
        return fail(hs, PYN_SHAKE_GARBAGE, "what it sent is not a handshake");
    return 0;
}

static int saw_header(struct pyn_handshake *hs, const char *bytes)
{
    hs->body_len = pyn_get_be16((const uint8_t *)bytes);
    if (hs->body_len == 0 || hs->body_len > MESSAGE_MAX)
        return fail(hs, PYN_SHAKE_GARBAGE, "what it sent is not a handshake (a message of %u bytes)",
                    (unsigned)hs->body_len);
    return 0;
}

/* ei asks for a header of two bytes and then for the whole body; it gets each complete, so the two alternate. */
static int on_read(void *ctx, char *bytes, ssize_t *len, unsigned unused)
{
    struct pyn_handshake *hs = ctx;
    size_t want = hs->in_body ? hs->body_len : HEADER;
    int rc;

    (void)unused;
    if (*len < 0 || (size_t)*len != want)
        return fail(hs, PYN_SHAKE_SYSTEM, "this version of ei reads in another way");
    rc = pyn_net_read(hs->fd, bytes, want, &hs->wait);
    if (rc != 0)
        return fail_socket(hs, rc);
    hs->in_body = !hs->in_body;
    return hs->in_body ? saw_header(hs, bytes) : saw_body(hs, bytes, want);
}

/* --- What ei says --- */

static int give_status(struct pyn_handshake *hs)
{
    switch (hs->judge ? hs->judge(hs->ctx, hs) : PYN_SHAKE_SAY_OK) {
    case PYN_SHAKE_SAY_OK:
        return send_status(hs, "ok");
    case PYN_SHAKE_SAY_OK_SIMULTANEOUS:
        return send_status(hs, "ok_simultaneous");
    case PYN_SHAKE_SAY_NOK:
        return send_status(hs, "nok") ? EIO : fail(hs, PYN_SHAKE_SIMULTANEOUS, "our own attempt goes first");
    case PYN_SHAKE_SAY_NOT_ALLOWED:
        break;
    }
    return send_status(hs, "not_allowed") ? EIO : fail(hs, PYN_SHAKE_REFUSED, "it is not allowed to connect");
}

static int write_flags(struct pyn_handshake *hs, const char *bytes, size_t len)
{
    uint8_t message[HEADER + MESSAGE_MAX];
    int rc;

    if (len < HEADER + NAME_HEAD || len > sizeof(message))
        return fail(hs, PYN_SHAKE_SYSTEM, "this version of ei writes in another way");
    memcpy(message, bytes, len);
    hs->our_flags = PYN_OUR_DFLAGS;
    pyn_put_be32(message + HEADER + AT_FLAGS, (uint32_t)(PYN_OUR_DFLAGS >> 32));
    pyn_put_be32(message + HEADER + AT_FLAGS + 4, (uint32_t)PYN_OUR_DFLAGS);
    rc = pyn_net_write(hs->fd, message, len, &hs->wait);
    return rc ? fail_socket(hs, rc) : 0;
}

/* ei writes each message with one call. */
static int on_write(void *ctx, const char *bytes, ssize_t *len, unsigned unused)
{
    struct pyn_handshake *hs = ctx;
    int rc;

    (void)unused;
    if (*len <= HEADER)
        return fail(hs, PYN_SHAKE_SYSTEM, "this version of ei writes in another way");
    hs->answered = true;
    if (bytes[HEADER] == 'N')
        return write_flags(hs, bytes, (size_t)*len);
    if (bytes[HEADER] == 's')
        return give_status(hs);
    rc = pyn_net_write(hs->fd, bytes, (size_t)*len, &hs->wait);
    return rc ? fail_socket(hs, rc) : 0;
}

/* --- The rest of ei's socket: there is nothing to do, the socket is connected already and stays open --- */

static int on_socket(void **ctx, void *setup)
{
    *ctx = setup;
    return 0;
}

static int on_close(void *ctx)
{
    (void)ctx;
    return 0;
}

static int on_listen(void *ctx, void *address, int *len, int backlog)
{
    (void)ctx;
    (void)address;
    (void)len;
    (void)backlog;
    return 0;
}

static int on_accept(void **ctx, void *address, int *len, unsigned unused)
{
    (void)ctx;
    (void)unused;
    memset(address, 0, sizeof(struct sockaddr_in));
    *len = sizeof(struct sockaddr_in);
    return 0;
}

static int on_connect(void *ctx, void *address, int len, unsigned unused)
{
    (void)ctx;
    (void)address;
    (void)len;
    (void)unused;
    return 0;
}

static int on_header_size(void *ctx, int *size)
{
    (void)ctx;
    *size = HEADER;
    return 0;
}

static int on_get_fd(void *ctx, int *fd)
{
    *fd = ((struct pyn_handshake *)ctx)->slot;
    return 0;
}

/* Not const only because ei takes it so. */
static ei_socket_callbacks callbacks = {
    .flags = EI_SCLBK_FLG_FULL_IMPL,
    .socket = on_socket,
    .close = on_close,
    .listen = on_listen,
    .EI_ACCEPT_NAME = on_accept,
    .connect = on_connect,
    .write = on_write,
    .read = on_read,
    .handshake_packet_header_size = on_header_size,
    .get_fd = on_get_fd,
};

/* --- A whole handshake --- */

static void ei_begin(void)
{
    ei_error = ei_init();
}

struct pyn_handshakes *pyn_handshakes_new(const char *name, const char *cookie, uint32_t creation)
{
    const char *host = strchr(name, '@');
    char alive[EI_MAXALIVELEN + 1];
    struct in_addr unused = {0};
    struct pyn_handshakes *h;

    pthread_once(&ei_once, ei_begin);
    if (ei_error != 0 || host == NULL || (size_t)(host - name) >= sizeof(alive))
        return NULL;
    snprintf(alive, sizeof(alive), "%.*s", (int)(host - name), name);
    h = calloc(1, sizeof(*h));
    if (h == NULL)
        return NULL;
    if (ei_connect_xinit_ussi(&h->node, host + 1, alive, name, &unused, cookie, creation, &callbacks, sizeof(callbacks),
                              NULL) < 0) {
        free(h);
        return NULL;
    }
    return h;
}

void pyn_handshakes_free(struct pyn_handshakes *h)
{
    free(h);
}

uint32_t pyn_handshakes_creation(const struct pyn_handshakes *h)
{
    return h->node.creation;
}

/* ei gave up without one of our callbacks having failed: what it last read was not to its liking. */
static void explain(struct pyn_handshake *hs)
{
    if (hs->answered || hs->last_in == 0)
        fail(hs, PYN_SHAKE_SYSTEM, "ei refused the connection (error %d)", erl_errno);
    else if (hs->last_in == 'N')
        fail(hs, PYN_SHAKE_GARBAGE, "it lacks capabilities that nodes from OTP 25 on must have");
    else if (hs->last_in == (hs->accepting ? 'r' : 'a'))
        fail(hs, PYN_SHAKE_COOKIE, "it has another cookie");
    else
        fail(hs, PYN_SHAKE_GARBAGE, "it sent a message of type %u out of turn", (unsigned)hs->last_in);
}

/* ei takes the socket of an accepted connection from its table of listening ones: ours is entered there as if it
 * listened. */
static int run_accept(ei_cnode *node, const struct pyn_handshake *hs)
{
    struct in_addr any = {0};
    ErlConnect peer;
    int port = 0;

    if (ei_xlisten(node, &any, &port, 0) != hs->slot)
        return -1;
    return ei_accept_tmo(node, hs->slot, &peer, 0);
}

static int run_connect(ei_cnode *node)
{
    struct in_addr unused = {0};

    return ei_xconnect_host_port_tmo(node, &unused, 0, 0);
}

static enum pyn_shake_end run(struct pyn_handshakes *h, struct pyn_handshake *hs, bool accepting)
{
    ei_cnode node = h->node;
    int got;

    hs->accepting = accepting;
    hs->end = PYN_SHAKE_OK;
    hs->peer[0] = hs->reason[0] = '\0';
    hs->peer_flags = hs->our_flags = 0;
    hs->in_body = hs->answered = false;
    hs->last_in = 0;
    hs->slot = slot_claim();
    if (hs->slot < 0) {
        fail(hs, PYN_SHAKE_SYSTEM, "too many handshakes at once");
        return hs->end;
    }
    node.setup_context = hs;
    got = accepting ? run_accept(&node, hs) : run_connect(&node);
    if (got < 0)
        explain(hs);
    ei_close_connection(hs->slot);
    slot_release(hs->slot);
    return hs->end;
}

enum pyn_shake_end pyn_handshake_accept(struct pyn_handshakes *h, struct pyn_handshake *hs)
{
    return run(h, hs, true);
}

enum pyn_shake_end pyn_handshake_connect(struct pyn_handshakes *h, struct pyn_handshake *hs)
{
    return run(h, hs, false);
}

void pyn_handshake_prepare_link(int fd)
{
    int on = 1;

    /* Refused on a socket that is not TCP (tests), where they mean nothing. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}
