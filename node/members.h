/* Who belongs to the cluster. The membership of the system partition's group is the cluster's; the groups
 * of the other partitions follow it, each by the hand of its leader (cluster/placement.h). A node asks to be
 * taken in with PEER_JOIN, whomever it reaches; one whose address another, unreachable member had takes that
 * one's place. A node that was removed is never taken in again.
 *
 * Leaders are spread evenly over the voters; a node that is draining leads nothing. */
#ifndef BELFRY_MEMBERS_H
#define BELFRY_MEMBERS_H

#include "cluster/link.h"
#include "node/node.h"

struct members;
struct members *members_new(unsigned partitions);
void members_free(struct members *members);

/* Every 100 ms or so, on each worker, for the groups it is home to. */
void members_tend(struct node_worker *worker);
/* PEER_JOIN. */
void members_on_join(struct node_worker *worker, const struct link_hello *from, struct bytes body);
/* The cluster's membership as this node knows it. Any thread. */
void members_list(struct members *members, struct group_members *out);
/* It is a voter of every partition, as known here. Any thread. */
bool members_votes_everywhere(struct node *node, uint64_t replica);
/* This node was removed from the cluster. Any thread. */
bool members_is_retired(struct members *members);
/* This node leads nothing any more, and is not led to. Any thread. */
bool members_lead_nothing(struct node *node);

#endif
