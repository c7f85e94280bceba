/* The world's clock, its randomness, and how a run goes: found, disturb, settle. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

enum { SETTLE_S = 10 };

/* ---- randomness ---- */

uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    return random_u64(&sim->random) % bound;
}

int64_t sim_between(struct sim *sim, int64_t least, int64_t most)
{
    return most <= least ? least : least + (int64_t)sim_below(sim, (uint64_t)(most - least) + 1);
}

bool sim_chance(struct sim *sim, unsigned permille)
{
    return permille > 0 && sim_below(sim, 1000) < permille;
}

int64_t sim_wait_ns(struct sim *sim, unsigned ms_mean)
{
    int64_t mean_ns = ms_mean * SIM_MS;
    return sim_chance(sim, 850) ? sim_between(sim, 0, mean_ns) : sim_between(sim, 0, 8 * mean_ns);
}

/* ---- saying what happens ---- */

void sim_trace(const struct sim *sim, const char *fmt, ...)
{
    if (!sim->verbose) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    printf("%12.3f  ", (double)sim->now_ns / 1e6);
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
}

void sim_fail(struct sim *sim, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fflush(stdout);
    fprintf(stderr, "group_sim: at %.3f ms: ", (double)sim->now_ns / 1e6);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\ngroup_sim: repeat with --seed %llu --verbose\n", (unsigned long long)sim->seed);
    va_end(args);
    exit(1);
}

/* ---- events ---- */

void sim_at(struct sim *sim, int64_t delay_ns, void (*run)(struct sim *, struct sim_event *), struct replica *replica,
            uint64_t arg, void *data)
{
    queue_push(&sim->queue, (struct sim_event){.at_ns = sim->now_ns + delay_ns,
                                               .run = run,
                                               .replica = replica,
                                               .incarnation = replica == NULL ? 0 : replica->incarnation,
                                               .arg = arg,
                                               .data = data});
}

static void run_event(struct sim *sim, struct sim_event event)
{
    struct replica *replica = event.replica;
    bool bound = event.incarnation != 0;
    sim->now_ns = event.at_ns;
    if (bound && (replica->incarnation != event.incarnation || replica->state != REPLICA_UP)) {
        free(event.data);
        return;
    }
    if (replica != NULL && replica->state == REPLICA_UP && replica->paused) {
        event.at_ns = replica->resume_ns + (bound ? replica->resume_slack_ns : 0);
        queue_push(&sim->queue, event);
        return;
    }
    event.run(sim, &event);
    free(event.data);
    sim->stats.events++;
    if (replica != NULL) {
        check_replica(replica);
    }
}

void sim_run_until(struct sim *sim, int64_t until_ns)
{
    while (sim->queue.len > 0 && sim->queue.heap[0].at_ns <= until_ns) {
        run_event(sim, queue_pop(&sim->queue));
    }
    sim->now_ns = until_ns;
}

/* ---- looking for replicas ---- */

struct replica *sim_leader(struct sim *sim)
{
    struct replica *found = NULL;
    unsigned leaders = 0;
    for (uint64_t id = 1; id <= SIM_IDS; id++) {
        struct replica *replica = &sim->replicas[id];
        if (replica_runs(replica) && group_is_leader(replica->group) && sim_below(sim, ++leaders) == 0) {
            found = replica;
        }
    }
    return found;
}

struct replica *sim_pick(struct sim *sim, enum replica_state state)
{
    struct replica *found = NULL;
    unsigned matches = 0;
    for (uint64_t id = 1; id <= SIM_IDS; id++) {
        if (sim->replicas[id].state == state && sim_below(sim, ++matches) == 0) {
            found = &sim->replicas[id];
        }
    }
    return found;
}

struct group_member sim_member(uint64_t replica, enum group_role role)
{
    struct group_member member = {.replica = replica, .role = (uint8_t)role};
    snprintf(member.address, sizeof member.address, "node%llu", (unsigned long long)replica);
    return member;
}

struct group_members sim_voters(unsigned len)
{
    struct group_members members = {.len = len};
    for (unsigned i = 0; i < len; i++) {
        members.list[i] = sim_member(i + 1, GROUP_VOTER);
    }
    return members;
}

/* ---- a run ---- */

void sim_open(struct sim *sim, uint64_t seed, bool verbose)
{
    *sim = (struct sim){.seed = seed, .verbose = verbose, .ids_len = 0};
    random_init_seed(&sim->random, seed);
    int64_t drift_ppm_max = sim_chance(sim, 800) ? 200 : 20000; /* the lease's margin is for two in a hundred */
    for (uint64_t id = 0; id <= SIM_IDS; id++) {
        sim->replicas[id] = (struct replica){.sim = sim, .id = id, .disk_slow = 1};
        sim->replicas[id].clock_drift_ppm = sim_between(sim, -drift_ppm_max, drift_ppm_max);
        sim->replicas[id].tick_ns = sim_between(sim, 10, 20) * SIM_MS;
    }
}

void sim_draw_plan(struct sim *sim)
{
    static const unsigned founders[] = {1, 1, 1, 2, 3, 3, 3, 3, 4, 5}, elections[] = {200, 200, 150, 300};
    struct sim_plan *plan = &sim->plan;
    bool rough = sim_chance(sim, 700);
    plan->founders = founders[sim_below(sim, ARRAY_LEN(founders))];
    plan->election_ms = elections[sim_below(sim, ARRAY_LEN(elections))];
    plan->heartbeat_ms = plan->election_ms / 4;
    plan->drop_permille = rough ? (unsigned)sim_below(sim, 151) : 0;
    plan->double_permille = rough ? (unsigned)sim_below(sim, 201) : 0;
    plan->late_permille = rough ? (unsigned)sim_below(sim, 60) : 0;
    plan->delay_us_max = (unsigned)sim_between(sim, 200, sim_chance(sim, 300) ? 30000 : 3000);
    plan->disk_us_max = (unsigned)sim_between(sim, 100, sim_chance(sim, 300) ? 30000 : 5000);
    plan->apply_us_max = (unsigned)sim_between(sim, 50, sim_chance(sim, 200) ? 100000 : 5000);
    plan->submit_ms_mean = (unsigned)sim_between(sim, 5, sim_chance(sim, 300) ? 1000 : 60);
    plan->read_ms_mean = (unsigned)sim_between(sim, 5, 60);
    plan->batch_max = (unsigned)sim_between(sim, 1, 63);
    plan->fault_ms_mean = (unsigned)sim_between(sim, 100, sim_chance(sim, 500) ? 500 : 3000);
    plan->change_ms_mean = sim_chance(sim, 600) || plan->founders == 1 ? (unsigned)sim_between(sim, 50, 2000) : 0;
    plan->chaos_ns = 20 * SIM_S;
    for (unsigned i = 0; i < FAULT_KINDS; i++) {
        plan->fault_weights[i] = (unsigned)sim_below(sim, 4);
    }
}

void sim_begin(struct sim *sim)
{
    struct group_members members = sim_voters(sim->plan.founders);
    sim_trace(sim, "%u founders, election %u ms, drop %u double %u late %u permille, delay %u disk %u apply %u us",
              members.len, sim->plan.election_ms, sim->plan.drop_permille, sim->plan.double_permille,
              sim->plan.late_permille, sim->plan.delay_us_max, sim->plan.disk_us_max, sim->plan.apply_us_max);
    for (unsigned i = 0; i < members.len; i++) {
        sim->replicas[members.list[i].replica].was_added = true;
        replica_found(&sim->replicas[members.list[i].replica], &members);
    }
    sim->chaos_ends_ns = sim->now_ns + sim->plan.chaos_ns;
    client_begin(sim);
    if (sim->plan.fault_ms_mean > 0) {
        fault_begin(sim);
    }
    if (sim->plan.change_ms_mean > 0) {
        operator_begin(sim);
    }
}

/* All members have all of the leader's log, and have applied it. What an older leader left behind it
 * stands until the next entry comes. */
static bool is_settled(struct sim *sim)
{
    struct replica *leader = sim_leader(sim);
    if (!sim->quiet || leader == NULL || group_is_changing(leader->group)) {
        return false;
    }
    struct group_members members;
    group_members(leader->group, &members);
    uint64_t last = group_last_index(leader->group);
    for (unsigned i = 0; i < members.len; i++) {
        const struct replica *member = &sim->replicas[members.list[i].replica];
        if (!replica_runs(member) || member->applied != last || group_commit_index(member->group) != last) {
            return false;
        }
    }
    return true;
}

void sim_describe(const struct sim *sim)
{
    for (uint64_t id = 1; id <= SIM_IDS; id++) {
        const struct replica *replica = &sim->replicas[id];
        struct group_members members = {0};
        if (replica->state != REPLICA_UP) {
            continue;
        }
        group_members(replica->group, &members);
        fprintf(stderr, "replica %llu: term %llu leader %llu applied %llu commit %llu last %llu%s, members",
                (unsigned long long)id, (unsigned long long)group_term(replica->group),
                (unsigned long long)group_leader(replica->group), (unsigned long long)replica->applied,
                (unsigned long long)group_commit_index(replica->group),
                (unsigned long long)group_last_index(replica->group),
                group_is_changing(replica->group) ? ", changing" : "");
        for (unsigned i = 0; i < members.len; i++) {
            fprintf(stderr, " %s%llu", members.list[i].role == GROUP_VOTER ? "" : "learner ",
                    (unsigned long long)members.list[i].replica);
        }
        fprintf(stderr, "\n");
    }
}

void sim_settle(struct sim *sim)
{
    int64_t began_ns = sim->now_ns;
    sim->calm = true;
    net_heal(sim);
    for (uint64_t id = 1; id <= SIM_IDS; id++) {
        struct replica *replica = &sim->replicas[id];
        replica->disk_slow = 1;
        if (replica->state == REPLICA_DOWN) {
            replica_start(replica);
        }
    }
    while (!is_settled(sim)) {
        if (sim->now_ns - began_ns > SETTLE_S * SIM_S) {
            sim_describe(sim);
            sim_fail(sim, "not settled after %d s of calm: %s, %llu acknowledged since", SETTLE_S,
                     sim_leader(sim) == NULL ? "no leader" : "a leader", (unsigned long long)sim->calm_acks);
        }
        sim_run_until(sim, sim->now_ns + 10 * SIM_MS);
        sim->quiet = sim->calm_acks > 0;
    }
    int64_t took_ns = sim->now_ns - began_ns;
    sim->stats.settle_ns_max = took_ns > sim->stats.settle_ns_max ? took_ns : sim->stats.settle_ns_max;
    check_end(sim);
}

void sim_close(struct sim *sim)
{
    for (uint64_t id = 1; id <= SIM_IDS; id++) {
        replica_close(&sim->replicas[id]);
    }
    queue_close(&sim->queue);
    arena_close(&sim->arena);
    free(sim->history);
    free(sim->leaders);
    free(sim->ids);
}
