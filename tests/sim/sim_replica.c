/* A replica: its group, its state machine, its clock; how it starts, crashes and pauses. */
#include <stdlib.h>

#include "tests/sim/sim.h"

int64_t replica_clock_ns(const struct replica *replica)
{
    int64_t now_ns = replica->sim->now_ns;
    return replica->clock_offset_ns + now_ns + now_ns / 1000000 * replica->clock_drift_ppm;
}

bool replica_runs(const struct replica *replica)
{
    return replica->state == REPLICA_UP && !replica->paused;
}

/* ---- what the group asks for ---- */

static void on_hard_state(void *ctx, struct group *group, uint64_t term, uint64_t vote)
{
    disk_write_hard_state(ctx, group, term, vote);
}

static void on_append(void *ctx, struct group *group, const struct group_entry *entry)
{
    disk_write_entry(ctx, group, entry);
}

static void on_send(void *ctx, struct group *group, const struct group_message *message)
{
    net_send(ctx, group, message);
}

static void on_role(void *ctx, struct group *group, bool leader)
{
    struct replica *replica = ctx;
    sim_trace(replica->sim, "%llu %s in term %llu", (unsigned long long)replica->id, leader ? "leads" : "follows",
              (unsigned long long)group_term(group));
}

static void apply_some(struct sim *sim, struct sim_event *event);

static void schedule_apply(struct replica *replica)
{
    struct sim *sim = replica->sim;
    if (!replica->apply_scheduled && replica->applying_len > 0) {
        replica->apply_scheduled = true;
        sim_at(sim, sim_between(sim, 1, sim->plan.apply_us_max) * SIM_US, apply_some, replica, 0, NULL);
    }
}

static void apply_some(struct sim *sim, struct sim_event *event)
{
    struct replica *replica = event->replica;
    size_t len = sim_chance(sim, 700) ? replica->applying_len : 1 + (size_t)sim_below(sim, replica->applying_len);
    for (size_t i = 0; i < len; i++) {
        const struct applying *next = &replica->applying[i];
        struct bytes borrowed = {next->borrowed, next->entry.payload.len};
        if (!bytes_eq(borrowed, next->entry.payload)) {
            sim_fail(sim, "replica %llu: payload of %llu changed before it was applied",
                     (unsigned long long)replica->id, (unsigned long long)next->entry.index);
        }
    }
    replica->applied = replica->applying[len - 1].entry.index;
    replica->applying_len -= len;
    memmove(replica->applying, replica->applying + len, replica->applying_len * sizeof *replica->applying);
    replica->apply_scheduled = false;
    if (sim_chance(sim, 50)) {
        replica->durable = replica->applied;
    }
    group_applied(replica->group, replica->applied);
    schedule_apply(replica);
    client_applied(replica);
}

/* Applied is what is committed and synced here, in order. */
static void on_apply(void *ctx, struct group *group, const struct group_entry *entry)
{
    struct replica *replica = ctx;
    struct sim *sim = replica->sim;
    (void)group;
    const struct sim_log *synced = &replica->disk.synced;
    if (entry->index != replica->handed + 1 || entry->index > synced->len ||
        synced->list[entry->index - 1].term != entry->term || synced->list[entry->index - 1].kind != entry->kind ||
        !bytes_eq(synced->list[entry->index - 1].payload, entry->payload)) {
        sim_fail(sim, "replica %llu applies %llu^%llu after %llu, synced to %zu", (unsigned long long)replica->id,
                 (unsigned long long)entry->index, (unsigned long long)entry->term, (unsigned long long)replica->handed,
                 synced->len);
    }
    replica->handed = entry->index;
    if (replica->applying_len == replica->applying_cap) {
        replica->applying_cap = replica->applying_cap == 0 ? 64 : 2 * replica->applying_cap;
        replica->applying = mem_realloc(replica->applying, replica->applying_cap * sizeof *replica->applying);
    }
    replica->applying[replica->applying_len++] = (struct applying){entry->payload.ptr, synced->list[entry->index - 1]};
    schedule_apply(replica);
}

/* No snapshots are taken here yet. */
static void on_restart(void *ctx, struct group *group, uint64_t index, uint64_t term)
{
    (void)ctx;
    (void)group;
    (void)index;
    (void)term;
    CHECK(false);
}

static const struct group_ops replica_ops = {on_hard_state, on_append, on_apply, on_role, on_restart, on_send};

/* ---- starting ---- */

/* A replica of the founding members: the first entry is on its disk already. */
void replica_found(struct replica *replica, const struct group_members *members)
{
    struct bytes encoded = group_members_encode(members);
    struct group_entry first = {1, 1, ENTRY_CHANGE, arena_copy(&replica->sim->arena, encoded)};
    free((void *)(uintptr_t)encoded.ptr);
    replica->disk.term = 1;
    log_put(&replica->disk.synced, &first);
    log_put(&replica->disk.written, &first);
    replica_start(replica);
}

/* Runs of terms may be split anywhere. */
static size_t fill_runs(struct replica *replica, struct group_run *runs)
{
    size_t len = 0;
    const struct group_entry *list = replica->disk.synced.list;
    for (uint64_t index = 1; index <= replica->applied; index++) {
        bool last = index == replica->applied || list[index].term != list[index - 1].term;
        if (last || sim_chance(replica->sim, 5)) {
            runs[len++] = (struct group_run){list[index - 1].term, index};
        }
    }
    return len;
}

static struct group_start start_of(struct replica *replica)
{
    const struct sim_disk *disk = &replica->disk;
    size_t applied = (size_t)replica->applied, len = disk->synced.len - applied;
    struct group_start start = {.term = disk->term, .vote = disk->vote, .applied_index = applied};
    if (disk->synced.len > 0) {
        start.first_index = 1;
        start.runs = mem_alloc((applied + 1) * sizeof *start.runs);
        start.runs_len = fill_runs(replica, start.runs);
        start.entries_len = len;
        start.entries = mem_alloc((len + 1) * sizeof *start.entries);
        for (size_t i = 0; i < len; i++) {
            start.entries[i] = disk->synced.list[applied + i];
            struct bytes payload = start.entries[i].payload;
            start.entries[i].payload = bytes_of(mem_copy(payload.ptr, payload.len), payload.len);
        }
    }
    if (applied > 0) {
        start.applied_term = disk->synced.list[applied - 1].term;
        size_t at = applied;
        while (disk->synced.list[at - 1].kind != ENTRY_CHANGE) {
            at--;
        }
        start.configuration = disk->synced.list[at - 1].payload;
        start.configuration_index = at;
    }
    return start;
}

static void on_tick(struct sim *sim, struct sim_event *event)
{
    struct replica *replica = event->replica;
    group_tick(replica->group, replica_clock_ns(replica));
    sim_at(sim, replica->tick_ns + sim_between(sim, 0, SIM_MS), on_tick, replica, 0, NULL);
}

void replica_start(struct replica *replica)
{
    struct sim *sim = replica->sim;
    CHECK(replica->group == NULL);
    if (replica->state == REPLICA_ABSENT || sim_chance(sim, 300)) { /* the machine booted */
        replica->clock_offset_ns = sim_between(sim, 0, 1000000 * SIM_S);
    }
    replica->state = REPLICA_UP;
    replica->incarnation++;
    replica->handed = replica->durable = replica->applied;
    replica->commit_seen = replica->applied;
    replica->term_seen = replica->disk.term;
    replica->change_seen = 0;
    replica->leader_seen = replica->paused = replica->apply_scheduled = false;
    struct group_options options = {.replica = replica->id,
                                    .election_ms = sim->plan.election_ms,
                                    .heartbeat_ms = sim->plan.heartbeat_ms,
                                    .seed = sim_below(sim, UINT32_MAX),
                                    .keep_bytes = (size_t)sim_below(sim, 20000),
                                    .ops = &replica_ops,
                                    .ctx = replica};
    struct group_start start = start_of(replica);
    sim_trace(sim, "%llu starts: term %llu vote %llu applied %llu last %zu", (unsigned long long)replica->id,
              (unsigned long long)start.term, (unsigned long long)start.vote, (unsigned long long)start.applied_index,
              replica->disk.synced.len);
    enum err err = group_open(&options, &start, replica_clock_ns(replica), &replica->group);
    if (err != OK) {
        sim_fail(sim, "replica %llu does not open: %s", (unsigned long long)replica->id, err_code(err));
    }
    free(start.runs);
    free(start.entries);
    sim_at(sim, sim_between(sim, 0, replica->tick_ns), on_tick, replica, 0, NULL);
    check_replica(replica);
}

/* ---- stopping ---- */

void replica_crash(struct replica *replica)
{
    struct sim *sim = replica->sim;
    CHECK(replica->state == REPLICA_UP);
    disk_crash(replica);
    group_close(replica->group);
    replica->group = NULL;
    replica->state = REPLICA_DOWN;
    replica->applying_len = 0;
    if (sim_chance(sim, 700)) { /* a power loss; otherwise the process alone died */
        replica->applied = replica->durable + sim_below(sim, replica->applied - replica->durable + 1);
    }
    client_forget(replica);
    sim->stats.crashes++;
    sim_trace(sim, "%llu crashes: term %llu vote %llu applied %llu last %zu", (unsigned long long)replica->id,
              (unsigned long long)replica->disk.term, (unsigned long long)replica->disk.vote,
              (unsigned long long)replica->applied, replica->disk.synced.len);
}

static void on_resume(struct sim *sim, struct sim_event *event)
{
    struct replica *replica = &sim->replicas[event->arg];
    if (replica->resume_ns <= sim->now_ns) { /* not when it was paused anew meanwhile */
        replica->paused = false;
    }
}

/* As SIGSTOP does: its events wait until it goes on, with the time it is then. */
void replica_pause(struct replica *replica, int64_t for_ns)
{
    struct sim *sim = replica->sim;
    replica->paused = true;
    replica->resume_ns = sim->now_ns + for_ns;
    replica->resume_slack_ns = sim_chance(sim, 500) ? 2 * SIM_MS : 0;
    sim_trace(sim, "%llu pauses for %lld ms", (unsigned long long)replica->id, (long long)(for_ns / SIM_MS));
    sim_at(sim, for_ns, on_resume, NULL, replica->id, NULL);
}

void replica_close(struct replica *replica)
{
    group_close(replica->group);
    disk_close(&replica->disk);
    free(replica->applying);
    free(replica->submissions);
    free(replica->reads);
}
