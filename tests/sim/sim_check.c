/* What must hold: one leader a term, one history, applied in order, nothing said before it is synced,
 * no read of an old state. Everything here knows the whole group, as nobody in it does. */
#include <stdlib.h>

#include "tests/sim/sim.h"

const struct group_entry *check_committed(const struct sim *sim, uint64_t index)
{
    return index > 0 && index <= sim->history_len ? &sim->history[index - 1].entry : NULL;
}

const struct group_entry *check_newest_change(const struct sim *sim, uint64_t index)
{
    for (; index > 0; index--) {
        const struct group_entry *entry = check_committed(sim, index);
        if (entry != NULL && entry->kind == ENTRY_CHANGE) {
            return entry;
        }
    }
    return NULL;
}

static bool is_same_entry(const struct group_entry *a, const struct group_entry *b)
{
    return a->index == b->index && a->term == b->term && a->kind == b->kind && bytes_eq(a->payload, b->payload);
}

static void note_committed(struct replica *replica, const struct group_entry *entry)
{
    struct sim *sim = replica->sim;
    if (sim->history_len == sim->history_cap) {
        sim->history_cap = sim->history_cap == 0 ? 1024 : 2 * sim->history_cap;
        sim->history = mem_realloc(sim->history, sim->history_cap * sizeof *sim->history);
    }
    sim->history[sim->history_len++] = (struct committed){*entry, group_term(replica->group)};
    sim->stats.commits++;
    if (entry->kind != ENTRY_COMMAND) {
        return;
    }
    uint64_t id = client_id_of(entry->payload);
    if (id >= sim->ids_len || sim->ids[id] != SUBMISSION_OPEN) {
        sim_fail(sim, "submission %llu is committed twice, or was never made: index %llu", (unsigned long long)id,
                 (unsigned long long)entry->index);
    }
    sim->ids[id] = SUBMISSION_COMMITTED;
}

/* Whoever learns first that an entry is committed writes the history; all others must agree. */
static void check_history(struct replica *replica)
{
    struct sim *sim = replica->sim;
    uint64_t commit = group_commit_index(replica->group);
    const struct sim_log *log = &replica->disk.written;
    if (commit < replica->commit_seen || commit > log->len) {
        sim_fail(sim, "replica %llu: commit index %llu after %llu, last %zu", (unsigned long long)replica->id,
                 (unsigned long long)commit, (unsigned long long)replica->commit_seen, log->len);
    }
    for (uint64_t index = replica->commit_seen + 1; index <= commit; index++) {
        const struct group_entry *entry = &log->list[index - 1];
        if (index > sim->history_len) {
            note_committed(replica, entry);
        } else if (!is_same_entry(entry, check_committed(sim, index))) {
            sim_fail(sim, "replica %llu commits %llu^%llu, others %llu^%llu", (unsigned long long)replica->id,
                     (unsigned long long)index, (unsigned long long)entry->term, (unsigned long long)index,
                     (unsigned long long)check_committed(sim, index)->term);
        }
    }
    replica->commit_seen = commit;
}

/* Who is elected has everything that was committed in earlier terms. */
static void check_complete(struct replica *replica)
{
    struct sim *sim = replica->sim;
    const struct sim_log *log = &replica->disk.written;
    for (size_t i = 0; i < sim->history_len && sim->history[i].in_term < group_term(replica->group); i++) {
        if (i >= log->len || !is_same_entry(&sim->history[i].entry, &log->list[i])) {
            sim_fail(sim, "replica %llu leads in term %llu without entry %zu", (unsigned long long)replica->id,
                     (unsigned long long)group_term(replica->group), i + 1);
        }
    }
}

static void check_leader(struct replica *replica)
{
    struct sim *sim = replica->sim;
    uint64_t term = group_term(replica->group);
    if (replica->disk.term < term) {
        return; /* a sole voter, whose term a power loss may still undo: nobody has heard of it */
    }
    if (term >= sim->leaders_len) {
        size_t len = (size_t)term + 64;
        sim->leaders = mem_realloc(sim->leaders, len * sizeof *sim->leaders);
        memset(sim->leaders + sim->leaders_len, 0, (len - sim->leaders_len) * sizeof *sim->leaders);
        sim->leaders_len = len;
    }
    if (sim->leaders[term].replica == 0) {
        sim->leaders[term].replica = replica->id;
        sim->leaders[term].incarnation = replica->incarnation;
        sim->stats.leaders++;
        check_complete(replica);
    }
    if (sim->leaders[term].replica != replica->id || sim->leaders[term].incarnation != replica->incarnation) {
        sim_fail(sim, "replica %llu leads in term %llu, as %llu does or did", (unsigned long long)replica->id,
                 (unsigned long long)term, (unsigned long long)sim->leaders[term].replica);
    }
}

/* Whoever may read under a lease at this moment knows of all that anybody has seen. */
static void check_lease(struct replica *replica)
{
    struct sim *sim = replica->sim;
    int64_t end_ns = group_lease_end_ns(replica->group);
    if (replica_clock_ns(replica) < end_ns && group_commit_index(replica->group) < sim->visible) {
        sim_fail(sim, "replica %llu holds a lease in term %llu at commit index %llu; %llu was seen",
                 (unsigned long long)replica->id, (unsigned long long)group_term(replica->group),
                 (unsigned long long)group_commit_index(replica->group), (unsigned long long)sim->visible);
    }
}

/* The membership in force is the newest one in the log, committed or not. */
static void check_members(struct replica *replica)
{
    struct group_members own, logged = {0};
    uint64_t change = replica->disk.written.change;
    group_members(replica->group, &own);
    if (change > 0) {
        CHECK(group_members_decode(replica->disk.written.list[change - 1].payload, &logged) == OK);
    }
    bool same = own.len == logged.len;
    for (unsigned i = 0; same && i < own.len; i++) {
        const struct group_member *member = group_members_find(&logged, own.list[i].replica);
        same = member != NULL && member->role == own.list[i].role;
    }
    if (!same) {
        sim_describe(replica->sim);
        sim_fail(replica->sim, "replica %llu is in another membership than that of its entry %llu",
                 (unsigned long long)replica->id, (unsigned long long)change);
    }
    replica->change_seen = change;
}

void check_replica(struct replica *replica)
{
    struct sim *sim = replica->sim;
    if (replica->state != REPLICA_UP) {
        return;
    }
    uint64_t term = group_term(replica->group);
    if (term < replica->term_seen || group_last_index(replica->group) != replica->disk.written.len) {
        sim_fail(sim, "replica %llu: term %llu after %llu, last %llu and wrote %zu", (unsigned long long)replica->id,
                 (unsigned long long)term, (unsigned long long)replica->term_seen,
                 (unsigned long long)group_last_index(replica->group), replica->disk.written.len);
    }
    replica->term_seen = term;
    check_history(replica);
    if (replica->disk.written.change != replica->change_seen || sim->stats.events % 64 == 0) {
        check_members(replica);
    }
    if (group_is_leader(replica->group)) {
        check_leader(replica);
        check_lease(replica);
    }
    if (replica->reads_len > 0) {
        client_serve(replica);
    }
    sim->digest = (sim->digest ^ (replica->id << 56) ^ (term << 32) ^ replica->commit_seen) * 0x9E3779B97F4A7C15U;
}

/* No message before the term and the vote it rests on are synced; entries are acknowledged once synced. */
void check_send(struct replica *replica, const struct group_message *message)
{
    const struct sim_disk *disk = &replica->disk;
    uint64_t rests_on = message->term;
    bool votes = message->type == MESSAGE_VOTE, grants = message->type == MESSAGE_VOTE_RESULT && message->granted;
    if (message->pre_vote) {
        rests_on = votes ? message->term - 1 : 0; /* of a term nobody is in yet */
    }
    uint64_t vote = votes ? message->from : grants ? message->to : 0;
    bool term_is_synced = rests_on <= disk->term;
    bool vote_is_synced = vote == 0 || message->pre_vote || disk->term > message->term || disk->vote == vote;
    bool entries_are_synced = message->type != MESSAGE_APPEND_RESULT || message->rejected > 0 ||
                              message->term != disk->term || message->index <= disk->synced.len;
    if (!term_is_synced || !vote_is_synced || !entries_are_synced) {
        sim_fail(replica->sim,
                 "replica %llu sends type %u of term %llu, index %llu; synced: term %llu vote %llu last %zu",
                 (unsigned long long)replica->id, message->type, (unsigned long long)message->term,
                 (unsigned long long)message->index, (unsigned long long)disk->term, (unsigned long long)disk->vote,
                 disk->synced.len);
    }
}

void check_visible(struct sim *sim, uint64_t index)
{
    if (index <= sim->visible) {
        return;
    }
    sim->visible = index;
    for (uint64_t id = 1; id <= SIM_IDS; id++) {
        if (sim->replicas[id].state == REPLICA_UP) {
            check_lease(&sim->replicas[id]);
        }
    }
}

void check_end(struct sim *sim)
{
    for (uint64_t id = 1; id <= SIM_IDS; id++) {
        if (sim->replicas[id].state == REPLICA_UP) {
            check_members(&sim->replicas[id]);
        }
    }
    for (uint64_t id = 0; id < sim->ids_len; id++) {
        if (sim->ids[id] == SUBMISSION_ACKNOWLEDGED) {
            sim->stats.acks++;
        }
    }
}
