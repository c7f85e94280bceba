/* A binary heap of events, the earliest first; those of one moment in the order they were pushed. */
#include <stdlib.h>

#include "tests/sim/sim.h"

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

void queue_push(struct sim_queue *queue, struct sim_event event)
{
    if (queue->len == queue->cap) {
        queue->cap = queue->cap == 0 ? 1024 : 2 * queue->cap;
        queue->heap = mem_realloc(queue->heap, queue->cap * sizeof *queue->heap);
    }
    event.order = queue->order++;
    size_t at = queue->len++;
    while (at > 0 && is_before(&event, &queue->heap[(at - 1) / 2])) {
        queue->heap[at] = queue->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->heap[at] = event;
}

struct sim_event queue_pop(struct sim_queue *queue)
{
    CHECK(queue->len > 0);
    struct sim_event first = queue->heap[0], last = queue->heap[--queue->len];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < queue->len) {
        if (child + 1 < queue->len && is_before(&queue->heap[child + 1], &queue->heap[child])) {
            child++;
        }
        if (!is_before(&queue->heap[child], &last)) {
            break;
        }
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    queue->heap[at] = last;
    return first;
}

void queue_close(struct sim_queue *queue)
{
    for (size_t i = 0; i < queue->len; i++) {
        free(queue->heap[i].data);
    }
    free(queue->heap);
}
