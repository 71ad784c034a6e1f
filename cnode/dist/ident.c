#include "dist/ident.h"

#include <ei.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "etf/writer.h"

/* Nodes without V4_NC take three words in a reference, and 18 bits of the first. */
enum { REF_WORDS = 3, REF_FIRST_BITS = 18, REF_LAST_BITS = 64 - 32 - REF_FIRST_BITS, PID_ID = 1, NAME_MAX_BYTES = 255 };

void pyn_ident_init(struct pyn_ident *id, const char *name, uint32_t creation)
{
    uint32_t random[3];

    snprintf(id->name, sizeof(id->name), "%s", name);
    id->creation = creation;
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        random[0] = (uint32_t)getpid();
        random[1] = (uint32_t)(pyn_now() >> 32);
        random[2] = (uint32_t)pyn_now();
    }
    id->ref_salt = random[0];
    atomic_init(&id->next_ref, (uint64_t)random[1] << 32 | random[2]);
}

void pyn_ident_write_pid(const struct pyn_ident *id, struct pyn_buf *b)
{
    pyn_buf_u8(b, ERL_NEW_PID_EXT);
    pyn_write_atom(b, id->name);
    pyn_buf_be32(b, PID_ID);
    pyn_buf_be32(b, 0);
    pyn_buf_be32(b, id->creation);
}

void pyn_ident_write_ref(struct pyn_ident *id, struct pyn_buf *b)
{
    uint64_t n = atomic_fetch_add_explicit(&id->next_ref, 1, memory_order_relaxed);

    pyn_buf_u8(b, ERL_NEWER_REFERENCE_EXT);
    pyn_buf_u8(b, 0);
    pyn_buf_u8(b, REF_WORDS);
    pyn_write_atom(b, id->name);
    pyn_buf_be32(b, id->creation);
    pyn_buf_be32(b, (uint32_t)(n & ((1u << REF_FIRST_BITS) - 1)));
    pyn_buf_be32(b, (uint32_t)(n >> REF_FIRST_BITS));
    pyn_buf_be32(b, (uint32_t)(n >> (REF_FIRST_BITS + 32)) | id->ref_salt << REF_LAST_BITS);
}

bool pyn_ident_valid_name(struct pyn_span name)
{
    size_t at = 0, ats = 0;

    if (name.len == 0 || name.len > NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] <= 0x20 || name.ptr[i] == 0x7f)
            return false;
        if (name.ptr[i] == '@') {
            at = i;
            ats++;
        }
    }
    return ats == 1 && at > 0 && at + 1 < name.len;
}

static bool valid_alive(const char *text, size_t n)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

    return n > 0 && strspn(text, allowed) >= n;
}

static bool qualified_host(char *host, size_t size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME};
    struct addrinfo *list = NULL;
    bool found = false;

    if (strchr(host, '.') != NULL)
        return true;
    if (getaddrinfo(host, NULL, &hints, &list) != 0)
        return false;
    if (list->ai_canonname != NULL && strchr(list->ai_canonname, '.') != NULL)
        found = (size_t)snprintf(host, size, "%s", list->ai_canonname) < size;
    freeaddrinfo(list);
    return found;
}

static bool this_host(bool long_names, char *host, size_t size, char *error, size_t error_size)
{
    if (gethostname(host, size) < 0 || host[0] == '\0') {
        snprintf(error, error_size, "this host has no name; give the node's name as name@host");
        return false;
    }
    host[size - 1] = '\0';
    if (!long_names) {
        host[strcspn(host, ".")] = '\0';
        return true;
    }
    if (qualified_host(host, size))
        return true;
    snprintf(error, error_size, "the full name of host %s cannot be found; give the node's name as name@host.domain",
             host);
    return false;
}

/* Erlang's own rule: short and long names do not mix, and the dot in the host tells them apart. */
static bool check_host(const char *host, bool long_names, char *error, size_t error_size)
{
    bool dot = strchr(host, '.') != NULL || strchr(host, ':') != NULL;

    if (!dot && long_names) {
        snprintf(error, error_size, "host %s has no dot, but long names were asked for", host);
        return false;
    }
    if (dot && !long_names) {
        snprintf(error, error_size, "host %s has a dot, but short names were asked for", host);
        return false;
    }
    return true;
}

static bool is_ascii(const char *text)
{
    while ((unsigned char)(*text - 1) < 0x7f)
        text++;
    return *text == '\0';
}

bool pyn_ident_full_name(const char *asked, bool long_names, char full[256], char *error, size_t error_size)
{
    char host[256];
    size_t alive = strcspn(asked, "@");
    const char *given = asked[alive] == '@' ? asked + alive + 1 : NULL;
    int n;

    if (!valid_alive(asked, alive)) {
        snprintf(error, error_size, "node name \"%.255s\": before the @ it needs letters, digits, _ or -", asked);
        return false;
    }
    if (given == NULL) {
        if (!this_host(long_names, host, sizeof(host), error, error_size))
            return false;
        given = host;
    } else if (!check_host(given, long_names, error, error_size)) {
        return false;
    }
    n = snprintf(full, 256, "%.*s@%s", (int)alive, asked, given);
    if (n < 0 || n > NAME_MAX_BYTES) {
        snprintf(error, error_size, "node name \"%.64s...\" is longer than %d characters", asked, NAME_MAX_BYTES);
        return false;
    }
    if (!is_ascii(full) || !pyn_ident_valid_name((struct pyn_span){(const uint8_t *)full, strlen(full)})) {
        snprintf(error, error_size, "\"%.255s\" is not a node name", asked);
        return false;
    }
    return true;
}
