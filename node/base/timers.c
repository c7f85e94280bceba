#include "node/base/timers.h"

#include <stdlib.h>

static void place(struct timers *timers, size_t slot, struct timer *timer)
{
    timers->heap[slot - 1] = timer;
    timer->slot = slot;
}

static void sift_up(struct timers *timers, size_t slot, struct timer *timer)
{
    while (slot > 1 && timers->heap[slot / 2 - 1]->due_ms > timer->due_ms) {
        place(timers, slot, timers->heap[slot / 2 - 1]);
        slot /= 2;
    }
    place(timers, slot, timer);
}

static void sift_down(struct timers *timers, size_t slot, struct timer *timer)
{
    for (;;) {
        size_t child = slot * 2;
        if (child > timers->len) {
            break;
        }
        if (child < timers->len && timers->heap[child]->due_ms < timers->heap[child - 1]->due_ms) {
            child++;
        }
        if (timers->heap[child - 1]->due_ms >= timer->due_ms) {
            break;
        }
        place(timers, slot, timers->heap[child - 1]);
        slot = child;
    }
    place(timers, slot, timer);
}

static void settle(struct timers *timers, size_t slot, struct timer *timer)
{
    if (slot > 1 && timers->heap[slot / 2 - 1]->due_ms > timer->due_ms) {
        sift_up(timers, slot, timer);
    } else {
        sift_down(timers, slot, timer);
    }
}

void timers_close(struct timers *timers)
{
    free(timers->heap);
    *timers = (struct timers){0};
}

void timers_set(struct timers *timers, struct timer *timer, int64_t due_ms)
{
    timer->due_ms = due_ms;
    if (timer->slot == 0) {
        if (timers->len == timers->cap) {
            timers->cap = timers->cap == 0 ? 64 : timers->cap * 2;
            timers->heap = mem_realloc(timers->heap, timers->cap * sizeof(struct timer *));
        }
        timers->len++;
        sift_up(timers, timers->len, timer);
    } else {
        settle(timers, timer->slot, timer);
    }
}

void timers_clear(struct timers *timers, struct timer *timer)
{
    size_t slot = timer->slot;
    if (slot == 0) {
        return;
    }
    timer->slot = 0;
    struct timer *last = timers->heap[--timers->len];
    if (last != timer) {
        settle(timers, slot, last);
    }
}

int64_t timers_next(const struct timers *timers)
{
    return timers->len == 0 ? INT64_MAX : timers->heap[0]->due_ms;
}

void timers_run(struct timers *timers, int64_t now_ms)
{
    /* What a fire sets again for now waits for the next run, so this ends. */
    for (size_t bound = timers->len; bound > 0 && timers_next(timers) <= now_ms; bound--) {
        struct timer *timer = timers->heap[0];
        timers_clear(timers, timer);
        timer->fire(timer);
    }
}
