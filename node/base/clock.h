/* Time comes from outside: every part that needs it is handed a struct clock, so a
 * simulator can drive it. Wall time is for stamps, boot time for leases and deadlines. */
#ifndef BELFRY_BASE_CLOCK_H
#define BELFRY_BASE_CLOCK_H

#include "node/base/check.h"

struct clock {
    int64_t (*wall_ms)(struct clock *clock); /* milliseconds since 1970 UTC */
    int64_t (*boot_ns)(struct clock *clock); /* CLOCK_BOOTTIME: counts through suspend */
};

/* The machine's clocks; never freed, any thread. */
struct clock *clock_system(void);

static inline int64_t clock_wall_ms(struct clock *clock)
{
    return clock->wall_ms(clock);
}
static inline int64_t clock_boot_ns(struct clock *clock)
{
    return clock->boot_ns(clock);
}
static inline int64_t clock_boot_ms(struct clock *clock)
{
    return clock->boot_ns(clock) / 1000000;
}

#endif
