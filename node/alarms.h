/* Alarms: what kinds have to do at a time (actors/kind.h), on whoever leads the partition. */
#ifndef BELFRY_ALARMS_H
#define BELFRY_ALARMS_H

#include "node/node.h"

struct alarms; /* of one partition; opaque */

/* Each tick: runs what is due in the partitions that have their home here. */
void alarms_tick(struct node_worker *worker);
/* Gives up what is under way on the worker. */
void alarms_stop(struct node_worker *worker);
void alarms_free(struct alarms *alarms);

#endif
