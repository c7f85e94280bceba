/* What a turn of a worker has for the log: one batch, with records of all its groups. When it is synced, the groups are
 * told. */
#ifndef BELFRY_TURN_LOG_H
#define BELFRY_TURN_LOG_H

#include "node/partition.h"

/* On the partition's home worker. number: of the write, as group_synced wants it. */
void turn_log_add(struct partition *partition, const struct segment_record *record, uint64_t number);
/* Hands the turn's batch to the log writer. */
void turn_log_flush(struct node_worker *worker);
/* After the last turn: what a late message still wanted written is not, and nobody was told that it is. */
void turn_log_drop(struct node_worker *worker);

#endif
