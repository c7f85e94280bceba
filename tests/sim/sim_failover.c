/* How long a group of three is without a leader when its leader dies: network and disks are good. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

static int compare_ns(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

static void print_percentiles(const char *what, int64_t *list, unsigned len)
{
    qsort(list, len, sizeof *list, compare_ns);
    printf("%s, ms: p50 %lld, p90 %lld, p99 %lld, max %lld\n", what, (long long)(list[len / 2] / SIM_MS),
           (long long)(list[len * 9 / 10] / SIM_MS), (long long)(list[len * 99 / 100] / SIM_MS),
           (long long)(list[len - 1] / SIM_MS));
}

static void wait_for_leader(struct sim *sim)
{
    while (sim_leader(sim) == NULL) {
        sim_run_until(sim, sim->now_ns + SIM_MS);
    }
}

static void kill_one(uint64_t seed, int64_t *leader_ns, int64_t *commit_ns)
{
    struct sim sim;
    sim_open(&sim, seed, false);
    sim.plan = (struct sim_plan){.founders = 3,
                                 .election_ms = 200,
                                 .heartbeat_ms = 50,
                                 .delay_us_max = 500,
                                 .disk_us_max = 2000,
                                 .apply_us_max = 500,
                                 .submit_ms_mean = 5,
                                 .read_ms_mean = 1000,
                                 .batch_max = 1};
    for (uint64_t id = 1; id <= SIM_IDS; id++) {
        sim.replicas[id].tick_ns = 10 * SIM_MS;
    }
    sim_begin(&sim);
    wait_for_leader(&sim);
    sim_run_until(&sim, sim.now_ns + sim_between(&sim, SIM_S, 2 * SIM_S));
    struct replica *leader = sim_leader(&sim);
    CHECK(leader != NULL);
    replica_crash(leader);
    int64_t killed_ns = sim.now_ns;
    wait_for_leader(&sim);
    *leader_ns = sim.now_ns - killed_ns;
    uint64_t seen = sim.visible;
    while (sim.visible == seen) {
        sim_run_until(&sim, sim.now_ns + SIM_MS);
    }
    *commit_ns = sim.now_ns - killed_ns;
    sim_close(&sim);
}

void failover_measure(uint64_t seed, unsigned kills)
{
    int64_t *leader_ns = mem_alloc(kills * sizeof *leader_ns), *commit_ns = mem_alloc(kills * sizeof *commit_ns);
    for (unsigned i = 0; i < kills; i++) {
        kill_one(seed + i, &leader_ns[i], &commit_ns[i]);
    }
    print_percentiles("to the next leader", leader_ns, kills);
    print_percentiles("to the next acknowledged submission", commit_ns, kills);
    free(leader_ns);
    free(commit_ns);
}
