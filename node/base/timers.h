/* A heap of deadlines, one a loop. The owner asks for the next one, sleeps, and fires.
 * Not thread-safe: it belongs to its loop. Due times are milliseconds of the boot clock. */
#ifndef BELFRY_BASE_TIMERS_H
#define BELFRY_BASE_TIMERS_H

#include "node/base/check.h"

struct timer {
    int64_t due_ms;
    size_t slot; /* 1-based place in the heap; 0 when not set */
    void (*fire)(struct timer *timer);
};

struct timers {
    struct timer **heap;
    size_t len, cap;
};

void timers_close(struct timers *timers);
/* Sets or moves the timer. */
void timers_set(struct timers *timers, struct timer *timer, int64_t due_ms);
void timers_clear(struct timers *timers, struct timer *timer);
/* The next due time, or INT64_MAX. */
int64_t timers_next(const struct timers *timers);
/* Fires what is due at now_ms, each once; a timer is clear before its fire runs. */
void timers_run(struct timers *timers, int64_t now_ms);

#endif
