/* Whether the node can serve: what /readyz and the start ask. */
#ifndef BELFRY_READINESS_H
#define BELFRY_READINESS_H

#include "node/node.h"

/* Every partition has a leader that this node knows of. */
bool readiness_is_led(struct node *node);
/* What is committed is applied, but for what is on its way. */
bool readiness_has_applied(struct node *node);
/* Why the node is not ready; returns the number of failing checks. */
unsigned readiness_check(struct node *node, struct buf *out_text, bool verbose);

#endif
