/* What goes wrong, at random times: each kind as often as this run's plan says. */
#include "tests/sim/sim.h"

/* The leader is hit more often than chance would have it. */
static struct replica *victim(struct sim *sim)
{
    struct replica *leader = sim_chance(sim, 500) ? sim_leader(sim) : NULL;
    struct replica *found = leader != NULL ? leader : sim_pick(sim, REPLICA_UP);
    return found != NULL && replica_runs(found) ? found : NULL;
}

static void on_restart(struct sim *sim, struct sim_event *event)
{
    struct replica *replica = &sim->replicas[event->arg];
    if (replica->state == REPLICA_DOWN) {
        replica_start(replica);
    }
}

static void crash(struct replica *replica, int64_t down_ns)
{
    replica_crash(replica);
    sim_at(replica->sim, down_ns, on_restart, NULL, replica->id, NULL);
}

static int64_t down_ns(struct sim *sim)
{
    return sim_between(sim, 0, sim_chance(sim, 400) ? 100 * SIM_MS : 4 * SIM_S);
}

static void crash_one(struct sim *sim)
{
    struct replica *replica = victim(sim);
    if (replica != NULL) {
        crash(replica, down_ns(sim));
    }
}

static void crash_many(struct sim *sim)
{
    unsigned permille = sim_chance(sim, 300) ? 1000 : 500;
    int64_t together_ns = down_ns(sim);
    for (uint64_t id = 1; id <= SIM_IDS; id++) {
        if (sim->replicas[id].state == REPLICA_UP && sim_chance(sim, permille)) {
            crash(&sim->replicas[id], sim_chance(sim, 500) ? together_ns : down_ns(sim));
        }
    }
}

static void on_heal(struct sim *sim, struct sim_event *event)
{
    (void)event;
    net_heal(sim);
}

static void heal_later(struct sim *sim)
{
    sim_at(sim, sim_between(sim, 10 * SIM_MS, sim_chance(sim, 500) ? SIM_S : 5 * SIM_S), on_heal, NULL, 0, NULL);
}

static void cut_one_way(struct sim *sim)
{
    uint64_t from = 1 + sim_below(sim, SIM_IDS), to = 1 + sim_below(sim, SIM_IDS);
    sim->cut[from][to] = true;
    sim_trace(sim, "cut from %llu to %llu", (unsigned long long)from, (unsigned long long)to);
    heal_later(sim);
}

static void split(struct sim *sim)
{
    uint64_t side = sim_below(sim, 1U << (SIM_IDS + 1));
    for (uint64_t from = 1; from <= SIM_IDS; from++) {
        for (uint64_t to = 1; to <= SIM_IDS; to++) {
            sim->cut[from][to] = (side >> from & 1) != (side >> to & 1);
        }
    }
    sim_trace(sim, "split by %llx", (unsigned long long)side);
    heal_later(sim);
}

static void isolate(struct sim *sim)
{
    struct replica *replica = victim(sim);
    if (replica == NULL) {
        return;
    }
    uint64_t ways = sim_below(sim, 4); /* 0: in, 1: out, else both */
    for (uint64_t other = 1; other <= SIM_IDS; other++) {
        sim->cut[other][replica->id] |= ways != 1;
        sim->cut[replica->id][other] |= ways != 0;
    }
    sim_trace(sim, "%llu is isolated, way %llu", (unsigned long long)replica->id, (unsigned long long)ways);
    heal_later(sim);
}

static void on_fast_disk(struct sim *sim, struct sim_event *event)
{
    sim->replicas[event->arg].disk_slow = 1;
}

static void slow_disk(struct sim *sim)
{
    struct replica *replica = victim(sim);
    if (replica != NULL) {
        replica->disk_slow = (unsigned)sim_between(sim, 10, 100);
        sim_trace(sim, "%llu has a disk %u times slower", (unsigned long long)replica->id, replica->disk_slow);
        sim_at(sim, sim_between(sim, 50 * SIM_MS, 3 * SIM_S), on_fast_disk, NULL, replica->id, NULL);
    }
}

static void pause_one(struct sim *sim)
{
    struct replica *replica = victim(sim);
    int64_t left_ns = sim->chaos_ends_ns - sim->now_ns;
    int64_t for_ns = sim_between(sim, 20 * SIM_MS, sim_chance(sim, 500) ? 500 * SIM_MS : 5 * SIM_S);
    if (replica != NULL && left_ns > 20 * SIM_MS) {
        replica_pause(replica, for_ns < left_ns ? for_ns : left_ns - 10 * SIM_MS);
    }
}

static void transfer(struct sim *sim)
{
    struct replica *leader = sim_leader(sim);
    if (leader != NULL) {
        uint64_t to = sim_below(sim, SIM_IDS + 1);
        enum err err = group_transfer(leader->group, to, replica_clock_ns(leader));
        sim_trace(sim, "%llu hands over to %llu: %d", (unsigned long long)leader->id, (unsigned long long)to, err);
        check_replica(leader);
    }
}

/* What tries leases: the leader alone is cut off, everybody else is whole, and some of them start anew. */
static void swap_leader(struct sim *sim)
{
    struct replica *leader = sim_leader(sim);
    if (leader == NULL) {
        return;
    }
    net_heal(sim);
    for (uint64_t other = 1; other <= SIM_IDS; other++) {
        sim->cut[other][leader->id] = sim->cut[leader->id][other] = true;
        struct replica *replica = &sim->replicas[other];
        if (replica != leader && replica->state == REPLICA_UP && sim_chance(sim, 500)) {
            crash(replica, sim_between(sim, 0, 10 * SIM_MS));
        }
    }
    sim_trace(sim, "%llu is swapped", (unsigned long long)leader->id);
    heal_later(sim);
}

static void heal_now(struct sim *sim)
{
    net_heal(sim);
}

static void (*const faults[FAULT_KINDS])(struct sim *sim) = {
    crash_one, crash_many, cut_one_way, split, isolate, slow_disk, pause_one, transfer, swap_leader, heal_now,
};

static void on_fault(struct sim *sim, struct sim_event *event)
{
    unsigned sum = 0;
    (void)event;
    if (sim->calm) {
        return;
    }
    for (unsigned i = 0; i < FAULT_KINDS; i++) {
        sum += sim->plan.fault_weights[i];
    }
    uint64_t at = sum == 0 ? 0 : sim_below(sim, sum);
    for (unsigned i = 0; i < FAULT_KINDS && sum > 0; i++) {
        if (at < sim->plan.fault_weights[i]) {
            faults[i](sim);
            sim->stats.faults++;
            break;
        }
        at -= sim->plan.fault_weights[i];
    }
    sim_at(sim, sim_wait_ns(sim, sim->plan.fault_ms_mean), on_fault, NULL, 0, NULL);
}

void fault_begin(struct sim *sim)
{
    sim_at(sim, sim_wait_ns(sim, sim->plan.fault_ms_mean), on_fault, NULL, 0, NULL);
}
