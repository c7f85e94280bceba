/* Alarms: what kinds have to do at a time (actors/kind.h), on whoever leads the partition. */
#ifndef BELFRY_ALARMS_H
#define BELFRY_ALARMS_H

#include "node/node.h"

struct alarms; /* of one partition; opaque */

/* On the partition's home worker, each tick: runs what is due. */
void alarms_tick(struct partition *partition);
/* Gives up what is under way on the worker. */
void alarms_stop(struct node_worker *worker);
void alarms_free(struct alarms *alarms);

#endif
