#include "cluster/placement.h"

#include <stdlib.h>

unsigned placement_voters(unsigned members)
{
    static const unsigned voters[] = {0, 1, 2, 3, 3, 5};
    return voters[members < ARRAY_LEN(voters) ? members : ARRAY_LEN(voters) - 1];
}

static int by_replica(const void *a, const void *b)
{
    uint64_t x = ((const struct group_member *)a)->replica, y = ((const struct group_member *)b)->replica;
    return (x > y) - (x < y);
}

void placement_found(struct group_members *members)
{
    qsort(members->list, members->len, sizeof members->list[0], by_replica);
    for (unsigned i = 0; i < members->len; i++) {
        members->list[i].role = i < placement_voters(members->len) ? GROUP_VOTER : GROUP_LEARNER;
    }
}
