/* Condition variables that are waited for until a time, on the monotonic clock: setting the wall clock moves
 * nothing. */
#ifndef BELFRY_BASE_COND_H
#define BELFRY_BASE_COND_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

void cond_init(pthread_cond_t *cond);
/* For pthread_cond_timedwait: that long from now. */
struct timespec cond_deadline(int64_t in_ns);

#endif
