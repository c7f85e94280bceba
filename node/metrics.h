/* Counters for /metrics: relaxed atomics, any thread; labels come from tables and so are bounded. */
#ifndef BELFRY_METRICS_H
#define BELFRY_METRICS_H

#include "node/node.h"

struct metrics;

struct metrics *metrics_new(unsigned routes);
void metrics_free(struct metrics *metrics);
void metrics_command(struct metrics *metrics, uint8_t kind, uint8_t op, enum err err);
/* route is an index of the router; status an HTTP status. */
void metrics_request(struct metrics *metrics, unsigned route, enum method method, int status, int64_t ns);
/* Appends the Prometheus text format (version 0.0.4). */
void metrics_write(struct node *node, struct buf *out);

#endif
