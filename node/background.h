/* A thread of the node's own for what may wait for a disk and no worker should: old log entries, durable
 * points asked for. Jobs run one after the other; each ends on the worker it came from. */
#ifndef BELFRY_BACKGROUND_H
#define BELFRY_BACKGROUND_H

#include "node/loop/worker.h"

struct background;

struct background_job {
    struct message message; /* done is called with it, on the worker; whoever runs it owns it */
    struct list link;
    struct worker *worker;
    void (*work)(struct background_job *job); /* on the thread */
    void (*done)(struct background_job *job); /* on the worker */
};

struct background *background_new(void);
/* Runs what is queued, then joins the thread. */
void background_free(struct background *background);
/* Any thread. */
void background_run(struct background *background, struct background_job *job);

#endif
