#include "dist/pending.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"

int pyn_pending_init(struct pyn_pending *p, const char *self)
{
    memset(p, 0, sizeof(*p));
    p->self = self;
    p->cancel_fd = pyn_wake_new();
    if (p->cancel_fd < 0)
        return errno;
    pthread_mutex_init(&p->lock, NULL);
    return 0;
}

void pyn_pending_destroy(struct pyn_pending *p)
{
    close(p->cancel_fd);
    pthread_mutex_destroy(&p->lock);
}

bool pyn_pending_out_begin(struct pyn_pending *p, const char *peer)
{
    bool go = true;

    pthread_mutex_lock(&p->lock);
    for (const struct pyn_pending_in *in = p->in; in != NULL && go; in = in->next)
        go = strcmp(in->peer, peer) != 0;
    if (go) {
        pyn_wake_clear(p->cancel_fd);
        p->out_active = true;
        snprintf(p->out, sizeof(p->out), "%s", peer);
    }
    pthread_mutex_unlock(&p->lock);
    return go;
}

void pyn_pending_out_end(struct pyn_pending *p)
{
    pthread_mutex_lock(&p->lock);
    p->out_active = false;
    pthread_mutex_unlock(&p->lock);
}

static void enter(struct pyn_pending *p, struct pyn_pending_in *in, const char *peer)
{
    snprintf(in->peer, sizeof(in->peer), "%s", peer);
    in->next = p->in;
    in->link = &p->in;
    if (p->in != NULL)
        p->in->link = &in->next;
    p->in = in;
    p->in_count++;
}

enum pyn_pending_verdict pyn_pending_in_begin(struct pyn_pending *p, struct pyn_pending_in *in, const char *peer)
{
    enum pyn_pending_verdict v = PYN_PENDING_OK;

    pthread_mutex_lock(&p->lock);
    if (p->out_active && strcmp(p->out, peer) == 0) {
        v = strcmp(p->self, peer) > 0 ? PYN_PENDING_NOK : PYN_PENDING_OK_SIMULTANEOUS;
        if (v == PYN_PENDING_OK_SIMULTANEOUS) {
            p->out_active = false;
            pyn_wake_raise(p->cancel_fd);
        }
    }
    if (v != PYN_PENDING_NOK)
        enter(p, in, peer);
    pthread_mutex_unlock(&p->lock);
    return v;
}

void pyn_pending_in_end(struct pyn_pending *p, struct pyn_pending_in *in)
{
    pthread_mutex_lock(&p->lock);
    if (in->link != NULL) {
        *in->link = in->next;
        if (in->next != NULL)
            in->next->link = in->link;
        in->link = NULL;
        p->in_count--;
    }
    pthread_mutex_unlock(&p->lock);
}

unsigned pyn_pending_in_count(struct pyn_pending *p)
{
    unsigned n;

    pthread_mutex_lock(&p->lock);
    n = p->in_count;
    pthread_mutex_unlock(&p->lock);
    return n;
}
