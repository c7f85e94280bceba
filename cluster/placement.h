/* Who shall have a vote, and who shall lead: decisions, without side effects. */
#ifndef BELFRY_CLUSTER_PLACEMENT_H
#define BELFRY_CLUSTER_PLACEMENT_H

#include "cluster/group.h"

/* How many voters a group of so many members has: 1, 2, 3, 3, 5, and 5 beyond. */
unsigned placement_voters(unsigned members);
/* The membership a cluster is founded with: in the order of replicas, the first ones are voters. The same
 * on every founder. */
void placement_found(struct group_members *members);

#endif
