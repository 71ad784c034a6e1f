#include "sched/queue.h"

void pyn_queue_push(struct pyn_queue *q, struct pyn_job *job)
{
    job->next = NULL;
    if (q->tail)
        q->tail->next = job;
    else
        q->head = job;
    q->tail = job;
    q->count++;
}

struct pyn_job *pyn_queue_pop(struct pyn_queue *q)
{
    struct pyn_job *job = q->head;

    if (!job)
        return NULL;
    q->head = job->next;
    if (!q->head)
        q->tail = NULL;
    q->count--;
    job->next = NULL;
    return job;
}

void pyn_queue_append(struct pyn_queue *to, struct pyn_queue *from)
{
    if (!from->head)
        return;
    if (to->tail)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    to->count += from->count;
    *from = (struct pyn_queue){0};
}

unsigned pyn_queue_take(struct pyn_queue *q, struct pyn_queue *to, bool (*match)(void *ctx, struct pyn_job *job),
                        void *ctx)
{
    struct pyn_queue rest = {0};
    struct pyn_job *job;
    unsigned taken = 0;

    while ((job = pyn_queue_pop(q))) {
        if (match(ctx, job)) {
            pyn_queue_push(to, job);
            taken++;
        } else {
            pyn_queue_push(&rest, job);
        }
    }
    *q = rest;
    return taken;
}
