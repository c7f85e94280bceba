/* The operator changes the membership all the time: new replicas come as learners, are promoted, demoted
 * and removed; a removed one runs on for a while. Some of what it asks for must be refused. */
#include "tests/sim/sim.h"

enum { MEMBERS_MAX = 5 };

static struct group_member *pick_member(struct sim *sim, struct group_members *members, enum group_role role)
{
    struct group_member *found = NULL;
    unsigned matches = 0;
    for (unsigned i = 0; i < members->len; i++) {
        if (members->list[i].role == role && sim_below(sim, ++matches) == 0) {
            found = &members->list[i];
        }
    }
    return found;
}

static bool add_learner(struct sim *sim, struct group_members *members)
{
    struct replica *fresh = sim_pick(sim, REPLICA_ABSENT);
    if (fresh == NULL || fresh->id == 0 || members->len >= MEMBERS_MAX) {
        return false;
    }
    if (sim_chance(sim, 300)) { /* one that was started for an attempt that failed */
        for (uint64_t id = 1; id <= SIM_IDS; id++) {
            if (sim->replicas[id].state == REPLICA_UP && !sim->replicas[id].was_added) {
                fresh = &sim->replicas[id];
            }
        }
    }
    if (fresh->state == REPLICA_ABSENT) {
        replica_start(fresh);
    }
    members->list[members->len++] = sim_member(fresh->id, GROUP_LEARNER);
    return true;
}

static bool promote(struct sim *sim, struct replica *leader, struct group_members *members)
{
    struct group_member *learner = pick_member(sim, members, GROUP_LEARNER);
    if (learner == NULL || (group_match_index(leader->group, learner->replica) == 0 && !sim_chance(sim, 100))) {
        return false;
    }
    learner->role = GROUP_VOTER;
    return true;
}

static bool demote(struct sim *sim, struct group_members *members)
{
    struct group_member *voter = pick_member(sim, members, GROUP_VOTER);
    if (voter == NULL) {
        return false;
    }
    voter->role = GROUP_LEARNER;
    return true;
}

static bool remove_one(struct sim *sim, struct group_members *members)
{
    struct group_member *member = pick_member(sim, members, sim_chance(sim, 500) ? GROUP_VOTER : GROUP_LEARNER);
    if (member == NULL) {
        return false;
    }
    *member = members->list[--members->len];
    return true;
}

static bool draw_change(struct sim *sim, struct replica *leader, struct group_members *members)
{
    uint64_t kind = sim_below(sim, 100);
    return kind < 40   ? add_learner(sim, members)
           : kind < 75 ? promote(sim, leader, members)
           : kind < 85 ? demote(sim, members)
                       : remove_one(sim, members);
}

static void expect_refused(struct sim *sim, struct replica *leader, struct group_members members)
{
    uint64_t own = leader->id;
    for (unsigned i = 0; i < members.len; i++) {
        if (members.list[i].replica == own) {
            members.list[i].role = GROUP_LEARNER;
        }
    }
    enum err err = group_change(leader->group, &members, replica_clock_ns(leader));
    if (err == OK) {
        sim_fail(sim, "leader %llu demotes itself", (unsigned long long)own);
    }
}

/* Removed for sure: nobody will ask for it again. Not all are switched off. */
static void on_retire(struct sim *sim, struct sim_event *event)
{
    struct group_members members;
    const struct group_entry *change = check_newest_change(sim, sim->history_len);
    CHECK(group_members_decode(change->payload, &members) == OK);
    struct replica *replica = &sim->replicas[event->arg];
    if (group_members_find(&members, replica->id) == NULL && sim_chance(sim, 700)) {
        if (replica->state == REPLICA_UP) {
            replica_crash(replica);
        }
        replica->state = REPLICA_GONE;
    }
}

/* Of the members before, those that are no longer wanted are switched off some day. */
static void note_change(struct sim *sim, const struct group_members *before, const struct group_members *after)
{
    for (unsigned i = 0; i < after->len; i++) {
        sim->replicas[after->list[i].replica].was_added = true;
    }
    for (unsigned i = 0; i < before->len; i++) {
        uint64_t id = before->list[i].replica;
        if (group_members_find(after, id) == NULL) {
            sim_at(sim, sim_between(sim, 100 * SIM_MS, 5 * SIM_S), on_retire, NULL, id, NULL);
        }
    }
}

static void change_once(struct sim *sim, struct replica *leader)
{
    struct group_members before, after;
    group_members(leader->group, &before);
    after = before;
    if (sim_chance(sim, 20)) {
        expect_refused(sim, leader, before);
    }
    if (!draw_change(sim, leader, &after) || !replica_runs(leader)) {
        return;
    }
    enum err err = group_change(leader->group, &after, replica_clock_ns(leader));
    sim_trace(sim, "%llu is asked to change %u to %u members: %d", (unsigned long long)leader->id, before.len,
              after.len, err);
    if (err == OK) {
        sim->stats.changes++;
        note_change(sim, &before, &after);
    }
    check_replica(leader);
}

static void on_change(struct sim *sim, struct sim_event *event)
{
    (void)event;
    if (sim->calm) {
        return;
    }
    struct replica *leader = sim_leader(sim);
    if (leader != NULL) {
        change_once(sim, leader);
    }
    sim_at(sim, sim_wait_ns(sim, sim->plan.change_ms_mean), on_change, NULL, 0, NULL);
}

void operator_begin(struct sim *sim)
{
    sim_at(sim, 0, on_change, NULL, 0, NULL);
}
