/* What a worker does at the end of each turn of its loop, and with each tick of its groups: what gathered in the turn
 * is sent off as one. */
#ifndef BELFRY_TURN_END_H
#define BELFRY_TURN_END_H

#include "node/node.h"

/* Sets the hook, and the tick's fire. After the HTTP server's hook. */
void turn_end_init(struct node_worker *worker);

#endif
