/* Changes of a group's membership: which may be proposed, and when. */
#include "cluster/group_engine.h"

static unsigned voters_of(const struct group_members *members)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < members->len; i++) {
        voters += members->list[i].role == GROUP_VOTER;
    }
    return voters;
}

/* The members of `to` in the order the engine has them in: it keeps what it knows of each by place. */
static enum err order_change(const struct group *group, const struct group_members *to, struct group_members *out)
{
    struct group_members from;
    unsigned changes = 0;
    group_members(group, &from);
    *out = (struct group_members){0};
    for (unsigned i = 0; i < from.len; i++) {
        const struct group_member *kept = group_members_find(to, from.list[i].replica);
        changes += kept == NULL || kept->role != from.list[i].role;
        if (kept != NULL) {
            out->list[out->len++] = *kept;
        }
    }
    for (unsigned i = 0; i < to->len; i++) {
        if (group_members_find(&from, to->list[i].replica) == NULL) {
            /* A learner first: a replica that has nothing yet must not count. */
            changes += to->list[i].role == GROUP_LEARNER ? 1 : 2;
            out->list[out->len++] = to->list[i];
        }
    }
    const struct group_member *self = group_members_find(out, group->options.replica);
    bool keeps_us = self != NULL && self->role == GROUP_VOTER;
    bool enough = voters_of(out) >= 2 || voters_of(out) >= voters_of(&from);
    return changes == 1 && keeps_us && enough && out->len == to->len ? OK : ERR_BAD_REQUEST;
}

static bool is_voter(const struct group_members *members, uint64_t replica)
{
    const struct group_member *member = group_members_find(members, replica);
    return member != NULL && member->role == GROUP_VOTER;
}

/* Who becomes a voter must know that it is a member, or it would refuse its vote when it is needed.
 * Before a voter goes, every one that stays must know of the membership it goes from. */
static bool voters_know(const struct group *group, const struct group_members *from, const struct group_members *to)
{
    bool shrinks = voters_of(to) < voters_of(from);
    for (unsigned i = 0; i < to->len; i++) {
        uint64_t replica = to->list[i].replica;
        bool must_know = is_voter(to, replica) && (shrinks || !is_voter(from, replica));
        if (must_know && replica != group->options.replica &&
            group_match_index(group, replica) < group->raft.configuration_committed_index) {
            return false;
        }
    }
    return true;
}

static enum err propose_barrier(struct group *group)
{
    struct bytes payload = bytes_of(mem_zalloc(8), 8);
    return group->own_index == 0 && group_propose(group, RAFT_BARRIER, &payload, 1) != 0 ? ERR_NOT_LEADER
                                                                                         : ERR_CONFLICT;
}

enum err group_change(struct group *group, const struct group_members *members, int64_t now_ns)
{
    struct group_members ordered, from;
    group->now_ns = now_ns;
    if (!group->leader) {
        return ERR_NOT_LEADER;
    }
    TRY(order_change(group, members, &ordered));
    if (group_is_changing(group) || group_is_handing_over(group)) {
        return ERR_CONFLICT;
    }
    if (group->own_index == 0) {
        return propose_barrier(group);
    }
    group_members(group, &from);
    if (raft_commit_index(&group->raft) < group->own_index || !voters_know(group, &from, &ordered)) {
        return ERR_CONFLICT;
    }
    struct bytes payload = group_members_encode(&ordered);
    return group_propose(group, RAFT_CHANGE, &payload, 1) == 0 ? OK : ERR_CONFLICT;
}
