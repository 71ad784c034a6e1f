#include "dist/loglimit.h"

void pyn_loglimit_init(struct pyn_loglimit *l, unsigned most, uint64_t window)
{
    pthread_mutex_init(&l->lock, NULL);
    l->most = most;
    l->window = window;
    l->ends = 0;
    l->lines = 0;
    l->dropped = 0;
}

void pyn_loglimit_destroy(struct pyn_loglimit *l)
{
    pthread_mutex_destroy(&l->lock);
}

bool pyn_loglimit_take(struct pyn_loglimit *l, uint64_t now, unsigned *dropped)
{
    bool yes;

    pthread_mutex_lock(&l->lock);
    if (now >= l->ends) {
        l->ends = now + l->window;
        l->lines = 0;
    }
    yes = l->lines < l->most;
    if (yes) {
        l->lines++;
        *dropped = l->dropped;
        l->dropped = 0;
    } else {
        l->dropped++;
    }
    pthread_mutex_unlock(&l->lock);
    return yes;
}

void pyn_loglimit_lost(struct pyn_loglimit *l, unsigned lines)
{
    pthread_mutex_lock(&l->lock);
    l->dropped += lines;
    pthread_mutex_unlock(&l->lock);
}

unsigned pyn_loglimit_flush(struct pyn_loglimit *l, uint64_t now)
{
    unsigned dropped = 0;

    pthread_mutex_lock(&l->lock);
    if (now >= l->ends) {
        dropped = l->dropped;
        l->dropped = 0;
    }
    pthread_mutex_unlock(&l->lock);
    return dropped;
}
