/* A multi-step piece of work as a table that reads downwards. A state goes on to the next row, jumps,
 * waits, or fails; a failure jumps to the last row, which always runs. Whoever completes a wait calls
 * flow_resume, which only enqueues: the flow goes on at the end of the loop's turn. */
#ifndef BELFRY_FLOW_H
#define BELFRY_FLOW_H

#include "node/base/err.h"
#include "node/base/list.h"

enum flow_next { FLOW_NEXT, FLOW_WAIT, FLOW_FAIL, FLOW_DONE };

struct flow;

struct flow_state {
    const char *name; /* NULL ends the table */
    enum flow_next (*run)(struct flow *flow);
};

struct flow {
    const struct flow_state *states;
    unsigned at;
    bool waiting;
    enum err err; /* of the state that failed; OK else */
    struct list resumed;
};

void flow_init(struct flow *flow, const struct flow_state *states);
/* Runs until a state waits or the last one is done. The flow may be gone afterwards. */
void flow_run(struct flow *flow);
/* A state's way to fail. */
enum flow_next flow_fail(struct flow *flow, enum err err);
/* Completes a wait: the flow is put into the queue. */
void flow_resume(struct flow *flow, struct list *queue, enum err err);
/* Runs what is in the queue. */
void flow_run_queue(struct list *queue);
/* Forgets a flow that waits. */
void flow_cancel(struct flow *flow);

#endif
