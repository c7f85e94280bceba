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

/* ---- membership ---- */

static unsigned count_voters(const struct group_members *members)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < members->len; i++) {
        voters += members->list[i].role == GROUP_VOTER;
    }
    return voters;
}

static void without(const struct group_members *from, unsigned at, struct group_members *out)
{
    *out = *from;
    out->len--;
    memmove(&out->list[at], &out->list[at + 1], (out->len - at) * sizeof out->list[0]);
}

/* Those that go: learners first, then voters, the leader itself never. */
static enum placement_step remove_one(const struct placement *placement, struct group_members *out)
{
    const struct group_members *current = placement->current;
    bool self_goes = false;
    for (unsigned role = GROUP_LEARNER; role <= GROUP_VOTER; role++) {
        for (unsigned i = 0; i < current->len; i++) {
            const struct group_member *member = &current->list[i];
            if (member->role != role || group_members_find(placement->wanted, member->replica) != NULL) {
                continue;
            }
            if (member->replica == placement->self) {
                self_goes = true;
            } else if (role == GROUP_LEARNER || count_voters(current) > 2) {
                without(current, i, out);
                return PLACEMENT_CHANGE;
            }
        }
    }
    return self_goes && count_voters(current) > 1 ? PLACEMENT_HAND_OVER : PLACEMENT_NOTHING;
}

static bool add_one(const struct placement *placement, struct group_members *out)
{
    *out = *placement->current;
    for (unsigned i = 0; i < placement->wanted->len && out->len < GROUP_MEMBERS_MAX; i++) {
        const struct group_member *member = &placement->wanted->list[i];
        if (group_members_find(placement->current, member->replica) == NULL) {
            out->list[out->len] = *member;
            out->list[out->len++].role = GROUP_LEARNER;
            return true;
        }
    }
    return false;
}

/* By number: one more, or one less. */
static bool change_role(const struct placement *placement, struct group_members *out)
{
    unsigned voters = count_voters(placement->current), target = placement_voters(placement->current->len);
    *out = *placement->current;
    for (unsigned i = 0; i < out->len; i++) {
        struct group_member *member = &out->list[i];
        bool ready = placement->is_ready(placement->ctx, member->replica);
        if (voters < target && member->role == GROUP_LEARNER && ready) {
            member->role = GROUP_VOTER;
            return true;
        }
        if (voters > target && member->role == GROUP_VOTER && member->replica != placement->self) {
            member->role = GROUP_LEARNER;
            return true;
        }
    }
    return false;
}

/* As in wanted: all groups have the same voters in the end, so that any node may lead any of them. */
static enum placement_step follow_role(const struct placement *placement, struct group_members *out)
{
    bool self_goes = false;
    *out = *placement->current;
    for (unsigned role = GROUP_VOTER + 1; role-- > GROUP_LEARNER;) { /* promotions first */
        for (unsigned i = 0; i < out->len; i++) {
            struct group_member *member = &out->list[i];
            const struct group_member *wanted = group_members_find(placement->wanted, member->replica);
            if (wanted == NULL || wanted->role != role || member->role == role) {
                continue;
            }
            if (role == GROUP_LEARNER && member->replica == placement->self) {
                self_goes = true;
            } else if (role == GROUP_LEARNER ? count_voters(out) > placement_voters(out->len)
                                             : placement->is_ready(placement->ctx, member->replica)) {
                member->role = (uint8_t)role;
                return PLACEMENT_CHANGE;
            }
        }
    }
    return self_goes ? PLACEMENT_HAND_OVER : PLACEMENT_NOTHING;
}

enum placement_step placement_next(const struct placement *placement, struct group_members *out)
{
    enum placement_step step = remove_one(placement, out);
    if (step != PLACEMENT_NOTHING) {
        return step;
    }
    if (add_one(placement, out)) {
        return PLACEMENT_CHANGE;
    }
    if (placement->follows_roles) {
        return follow_role(placement, out);
    }
    return change_role(placement, out) ? PLACEMENT_CHANGE : PLACEMENT_NOTHING;
}

/* ---- leaders ---- */

static size_t count_led(const struct placement_leaders *leaders, uint64_t replica)
{
    size_t led = 0;
    for (size_t i = 0; i < leaders->len; i++) {
        led += leaders->leaders[i] == replica;
    }
    return led;
}

/* Of those who may take over, who leads fewest. */
static uint64_t find_least(const struct placement_leaders *leaders, size_t *led)
{
    uint64_t least = 0;
    *led = SIZE_MAX;
    for (unsigned i = 0; i < leaders->members->len; i++) {
        const struct group_member *member = &leaders->members->list[i];
        size_t count = count_led(leaders, member->replica);
        if (member->role == GROUP_VOTER && member->replica != leaders->self && count < *led &&
            leaders->can_lead(leaders->ctx, member->replica)) {
            *led = count;
            least = member->replica;
        }
    }
    return least;
}

uint64_t placement_lead(const struct placement_leaders *leaders)
{
    size_t led;
    uint64_t to = find_least(leaders, &led);
    return to != 0 && count_led(leaders, leaders->self) >= led + 2 ? to : 0;
}

uint64_t placement_heir(const struct placement_leaders *leaders)
{
    size_t led;
    return find_least(leaders, &led);
}
