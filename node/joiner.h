/* Sends what gathers (node/gather.h) as commands. */
#ifndef BELFRY_JOINER_H
#define BELFRY_JOINER_H

#include "node/gather.h"
#include "node/node.h"

void joiner_init(struct node_worker *worker);
void joiner_close(struct node_worker *worker);

#endif
