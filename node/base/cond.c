#include "node/base/cond.h"

#include "node/base/check.h"

enum { SECOND_NS = 1000000000 };

void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(cond, &attributes) == 0);
    (void)pthread_condattr_destroy(&attributes);
}

struct timespec cond_deadline(int64_t in_ns)
{
    struct timespec until;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    int64_t ns = until.tv_nsec + in_ns;
    return (struct timespec){until.tv_sec + ns / SECOND_NS, ns % SECOND_NS};
}
