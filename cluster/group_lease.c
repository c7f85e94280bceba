/* The leader's lease: every message to a follower carries the leader's clock, every answer brings it
 * back. Who has answered a stamp will not help to elect another within an election time-out of it. */
#include "cluster/group_engine.h"

/* stamps_len: there is none of it. */
static unsigned place_of(const struct group *group, uint64_t replica)
{
    unsigned i = 0;
    while (i < group->stamps_len && group->stamps[i].replica != replica) {
        i++;
    }
    return i;
}

static struct group_stamp *find(struct group *group, uint64_t replica)
{
    uint64_t term = raft_current_term(&group->raft);
    if (group->stamps_term != term) {
        group->stamps_term = term;
        group->stamps_len = 0;
        group->stamps_full = false;
    }
    unsigned place = place_of(group, replica);
    if (place < group->stamps_len) {
        return &group->stamps[place];
    }
    if (group->stamps_len == GROUP_MEMBERS_MAX) {
        group->stamps_full = true;
        return NULL;
    }
    struct group_stamp *stamp = &group->stamps[group->stamps_len++];
    *stamp = (struct group_stamp){replica, INT64_MIN, INT64_MIN};
    return stamp;
}

void group_lease_stamp(struct group *group, uint64_t replica, int64_t stamp_ns)
{
    struct group_stamp *stamp = stamp_ns > 0 ? find(group, replica) : NULL;
    if (stamp != NULL && stamp_ns > stamp->stamp_ns) {
        stamp->stamp_ns = stamp_ns;
    }
}

void group_lease_told(struct group *group, uint64_t replica)
{
    struct group_stamp *stamp = find(group, replica);
    if (stamp != NULL) {
        stamp->told_ns = group->now_ns;
    }
}

static int64_t stamp_of(const struct group *group, uint64_t replica)
{
    unsigned place = place_of(group, replica);
    return place < group->stamps_len ? group->stamps[place].stamp_ns : INT64_MIN;
}

/* The newest stamp that a majority of the voters, us among them, has brought back. */
static int64_t majority_stamp(const struct group *group)
{
    const struct raft_configuration *configuration = &group->raft.configuration;
    int64_t newest[GROUP_MEMBERS_MAX];
    unsigned others = 0, voters = 0;
    if (group->stamps_term != group->raft.current_term) {
        return INT64_MIN;
    }
    for (unsigned i = 0; i < configuration->n && others < GROUP_MEMBERS_MAX; i++) {
        const struct raft_server *server = &configuration->servers[i];
        voters += server->role == RAFT_VOTER;
        if (server->role != RAFT_VOTER || server->id == group->options.replica) {
            continue;
        }
        int64_t stamp = stamp_of(group, server->id);
        unsigned at = others++;
        for (; at > 0 && newest[at - 1] < stamp; at--) {
            newest[at] = newest[at - 1];
        }
        newest[at] = stamp;
    }
    unsigned needed = voters / 2; /* besides us */
    return needed == 0 || needed > others ? INT64_MIN : newest[needed - 1];
}

/* What it found in its log is committed: nothing acknowledged is beyond its commit index. */
static bool is_settled(const struct group *group)
{
    return group->leader && group->raft.commit_index >= group->leader_floor;
}

int64_t group_confirmed_ns(const struct group *group)
{
    if (!is_settled(group)) {
        return INT64_MIN;
    }
    return group_is_sole_voter(group) ? INT64_MAX : majority_stamp(group);
}

/* Whoever was told to take over may ask the others to break their word. Nobody was, or all of them have answered
 * something newer in this term: they did not follow it then, and will not (G17); nor will who starts anew, whose
 * connections are others. */
static bool hands_over(const struct group *group)
{
    if (group_is_handing_over(group) || group->stamps_full) {
        return true;
    }
    for (unsigned i = 0; i < group->stamps_len; i++) {
        if (group->stamps[i].told_ns >= group->stamps[i].stamp_ns && group->stamps[i].told_ns != INT64_MIN) {
            return true;
        }
    }
    return false;
}

int64_t group_lease_end_ns(const struct group *group)
{
    int64_t election_ns = (int64_t)group->options.election_ms * 1000000;
    int64_t margin_ns = election_ns / 20 + 2000000; /* clocks' rates differ, and count whole milliseconds */
    int64_t confirmed_ns = group_confirmed_ns(group);
    if (confirmed_ns == INT64_MIN || confirmed_ns == INT64_MAX) {
        return confirmed_ns;
    }
    return hands_over(group) ? INT64_MIN : confirmed_ns + election_ns - margin_ns;
}
