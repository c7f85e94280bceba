/* Entries that a replica lacks and memory no longer has: read from the log, off the worker, and sent. */
#ifndef BELFRY_LOG_LOADER_H
#define BELFRY_LOG_LOADER_H

#include "node/partition.h"

/* On the partition's home: sends the APPEND once its entries are read; at most LIMIT_LOADS at a time, more
 * are dropped. What was read is not sent when the leadership has changed meanwhile. */
void log_loader_send(struct partition *partition, const struct group_message *message);

#endif
