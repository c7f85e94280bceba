#include "node/flow.h"

void flow_init(struct flow *flow, const struct flow_state *states)
{
    *flow = (struct flow){.states = states};
    list_init(&flow->resumed);
}

static unsigned last_state(const struct flow *flow)
{
    unsigned last = 0;
    while (flow->states[last + 1].name != NULL) {
        last++;
    }
    return last;
}

void flow_run(struct flow *flow)
{
    for (;;) {
        const struct flow_state *state = &flow->states[flow->at];
        CHECK(state->name != NULL);
        switch (state->run(flow)) {
        case FLOW_NEXT: flow->at++; break;
        case FLOW_FAIL: flow->at = last_state(flow); break;
        case FLOW_WAIT: flow->waiting = true; return;
        case FLOW_DONE: return; /* the flow may be freed */
        }
    }
}

enum flow_next flow_fail(struct flow *flow, enum err err)
{
    flow->err = err;
    return FLOW_FAIL;
}

void flow_resume(struct flow *flow, struct list *queue, enum err err)
{
    CHECK(flow->waiting);
    flow->waiting = false;
    flow->err = err;
    flow->at = err == OK ? flow->at + 1 : last_state(flow);
    list_add_tail(queue, &flow->resumed);
}

void flow_run_queue(struct list *queue)
{
    struct list now;
    list_init(&now);
    list_splice(&now, queue);
    for (struct list *link = list_pop(&now); link != NULL; link = list_pop(&now)) {
        flow_run(container_of(link, struct flow, resumed));
    }
}

void flow_cancel(struct flow *flow)
{
    list_remove(&flow->resumed);
    flow->waiting = false;
}
