/* What a worker does now and then: passivates idle actors, looks for work that dead nodes left
 * (chores), flushes the log, publishes its numbers for /metrics. */
#ifndef BELFRY_UPKEEP_H
#define BELFRY_UPKEEP_H

#include "node/node.h"

void upkeep_start(struct node_worker *worker);
/* Gives up a chore under way; nothing new begins. */
void upkeep_stop(struct node_worker *worker);
/* Whether this node's clock is right, as far as is known now. On the first worker, which hears of others'. */
void upkeep_look_at_clock(struct node *node);
/* At the end of every turn: cheap. */
void upkeep_publish(struct node_worker *worker);

#endif
