#ifndef BELFRY_BENCH_QUEUE_LOAD_RUN_H
#define BELFRY_BENCH_QUEUE_LOAD_RUN_H

#include "bench/queue_load/load.h"

/* Carries the load out and prints what was measured: a line of JSON. */
void load_run(const struct options *options);

#endif
