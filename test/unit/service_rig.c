#include "unit/service_rig.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "dist/control.h"
#include "unit/link_rig.h"
#include "unit/notation.h"
#include "unit/token_text.h"

enum { MAX_FRAME = 1 << 20, STOP_SECONDS = 20 };

void service_rig_init(struct service_rig *r)
{
    memset(r, 0, sizeof(*r));
    pyn_log_set_level(PYN_OFF);
    epmd_rig_start(&r->epmd, 0, EPMD_RIG_GOOD);
    r->config = (struct pyn_service_config){
        .workers = 2,
        .main_workers = 1,
        .max_queue = 100,
        .max_stuck = 4,
        .max_frame = MAX_FRAME,
        .links = {.max_frame = MAX_FRAME, .max_output = MAX_FRAME, .tick_seconds = 60},
    };
    r->node_config = (struct pyn_node_config){
        .name = "py1@127.0.0.1",
        .long_names = true,
        .cookie = "secret",
        .bind_address = "127.0.0.1",
        .epmd_port = r->epmd.port,
        .handshake_ms = 20000,
        .max_handshakes = 8,
        .max_links = 100,
    };
}

void service_rig_start(struct service_rig *r)
{
    static const struct pyn_host_config host = {.mode = PYN_MODE_AUTO};
    char error[1024];

    ck_assert_msg(pyn_host_start(&host, error, sizeof(error)), "%s", error);
    r->service = pyn_service_start(&r->config, error, sizeof(error));
    ck_assert_msg(r->service != NULL, "%s", error);
    r->node = pyn_node_start(&r->node_config, pyn_service_links(r->service), error, sizeof(error));
    ck_assert_msg(r->node != NULL, "%s", error);
    pyn_host_set_node_name(pyn_node_name(r->node));
    pyn_service_ready(r->service, r->node);
}

void service_rig_stop(struct service_rig *r)
{
    uint64_t deadline = pyn_now() + STOP_SECONDS * PYN_SECOND;

    ck_assert(pyn_service_drain(r->service, deadline));
    ck_assert(pyn_service_stop(r->service, deadline));
    pyn_node_stop(r->node);
    pyn_service_free(r->service);
    pyn_node_free(r->node);
    pyn_host_stop();
    epmd_rig_stop(&r->epmd);
}

int service_rig_peer(struct service_rig *r, const char *name)
{
    struct pyn_links *links = pyn_service_links(r->service);
    struct pyn_link *l;
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(pyn_links_add(links, fds[0], name, RIG_PEER_FLAGS), 0);
    wait_until((l = pyn_links_find(links, name)) != NULL);
    pyn_link_unref(l);
    return fds[1];
}

void service_rig_send(int fd, const char *name, const char *payload)
{
    struct pyn_buf b, from;
    size_t frame;

    pyn_buf_init(&from, 1000);
    notation_write(&from, "$P");
    pyn_buf_init(&b, MAX_FRAME);
    frame = pyn_frame_reg_send(&b, (struct pyn_span){from.data, from.len}, name);
    notation_write(&b, payload);
    pyn_frame_end(&b, frame, 0);
    ck_assert(!b.failed);
    rig_write(fd, b.data, b.len);
    pyn_buf_free(&from);
    pyn_buf_free(&b);
}

void service_rig_ask(int fd, const char *request)
{
    char text[8192];

    ck_assert_int_lt(snprintf(text, sizeof(text), "{'$gen_call', {$P, $R}, %s}", request), (int)sizeof(text));
    service_rig_send(fd, "py", text);
}

static void add_terms(struct token_text *t, struct pyn_span terms)
{
    struct pyn_reader r = pyn_reader_of(terms);
    struct pyn_token token;

    while (pyn_reader_left(&r) > 0) {
        ck_assert_int_eq(pyn_read_token(&r, &token), PYN_ETF_OK);
        token_text_add(t, &token);
    }
}

const char *service_rig_next(int fd)
{
    static struct token_text text;
    struct pyn_control c;
    uint8_t *frame;
    size_t n;

    text.len = 0;
    text.at[0] = '\0';
    for (;;) {
        frame = rig_read_frame(fd, &n);
        if (n > 0) {
            ck_assert_int_eq(pyn_control_parse((struct pyn_span){frame, n}, &c), PYN_CONTROL_OK);
            if (c.op != PYN_CTL_MONITOR_P && c.op != PYN_CTL_DEMONITOR_P)
                break;
        }
        free(frame);
    }
    if (c.payload.len > 0)
        add_terms(&text, c.payload);
    else
        text.len = (size_t)snprintf(text.at, sizeof(text.at), "control %d", (int)c.op);
    free(frame);
    return text.at;
}

const char *service_rig_text(const char *notation)
{
    static struct token_text text;
    struct pyn_buf b;

    text.len = 0;
    text.at[0] = '\0';
    pyn_buf_init(&b, MAX_FRAME);
    notation_write(&b, notation);
    add_terms(&text, (struct pyn_span){b.data, b.len});
    pyn_buf_free(&b);
    return text.at;
}

void service_rig_expect(int fd, const char *result)
{
    char text[8192];
    const char *got = service_rig_next(fd);

    ck_assert_int_lt(snprintf(text, sizeof(text), "{$R, %s}", result), (int)sizeof(text));
    ck_assert_str_eq(got, service_rig_text(text));
}
