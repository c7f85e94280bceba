/* Who shall have a vote, and who shall lead: decisions, without side effects. */
#ifndef BELFRY_CLUSTER_PLACEMENT_H
#define BELFRY_CLUSTER_PLACEMENT_H

#include "cluster/group.h"

/* How many voters a group of so many members has: 1, 2, 3, 3, 5, and 5 beyond. */
unsigned placement_voters(unsigned members);
/* The membership a cluster is founded with: in the order of replicas, the first ones are voters. The same
 * on every founder. */
void placement_found(struct group_members *members);

/* What shall be done next so that a group's members become the wanted ones, with as many voters as there
 * should be. The system group's roles are decided by their number; the others' follow those in wanted. */
enum placement_step { PLACEMENT_NOTHING, PLACEMENT_CHANGE, PLACEMENT_HAND_OVER };
struct placement {
    const struct group_members *current, *wanted;
    uint64_t self;      /* who leads and asks */
    bool follows_roles; /* not the system group */
    /* A learner that has nearly all of the log and is reached; a voter that is reached. */
    bool (*is_ready)(void *ctx, uint64_t replica);
    void *ctx;
};
/* PLACEMENT_CHANGE: *out is the next membership, one change away. PLACEMENT_HAND_OVER: another must lead
 * first. */
enum placement_step placement_next(const struct placement *placement, struct group_members *out);

/* Who leads what, for one of the groups this node leads. */
struct placement_leaders {
    const struct group_members *members; /* of that group */
    const uint64_t *leaders;             /* of each group, the replica that leads it or is told to; or 0 */
    size_t len;
    uint64_t self;
    bool (*can_lead)(void *ctx, uint64_t replica);
    void *ctx;
};
/* To whom this node shall hand one of the groups it leads, so that all lead about as many; 0: it stays. */
uint64_t placement_lead(const struct placement_leaders *leaders);
/* To whom it shall hand this group because it goes: to whom leads fewest; 0: nobody can take it over. */
uint64_t placement_heir(const struct placement_leaders *leaders);

#endif
