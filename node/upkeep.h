/* What a worker does now and then: passivates idle actors, looks for work that dead nodes left
 * (chores), flushes the log, publishes its numbers for /metrics. */
#ifndef BELFRY_UPKEEP_H
#define BELFRY_UPKEEP_H

#include "node/node.h"

void upkeep_start(struct node_worker *worker);
/* Gives up a chore under way; nothing new begins. */
void upkeep_stop(struct node_worker *worker);
/* At the end of every turn: cheap. */
void upkeep_publish(struct node_worker *worker);

#endif
