#include "node/base/clock.h"

#include <time.h>

static int64_t system_wall_ms(struct clock *clock)
{
    (void)clock;
    struct timespec ts;
    CHECK(clock_gettime(CLOCK_REALTIME, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t system_boot_ns(struct clock *clock)
{
    (void)clock;
    struct timespec ts;
    CHECK(clock_gettime(CLOCK_BOOTTIME, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct clock *clock_system(void)
{
    static struct clock clock = {system_wall_ms, system_boot_ns};
    return &clock;
}
