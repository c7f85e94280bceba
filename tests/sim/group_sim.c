/* Looks for faults in a group of replicas by random runs in virtual time (sim.h).
 *   group_sim [--seed N] [--runs N] [--verbose]     runs N, N + 1, ...; the first one twice, to the same end
 *   group_sim --without G --runs N                  without guard G, 0: the quarantine; is it found out?
 *   group_sim --failover KILLS [--seed N]           how long a group is without a leader */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

unsigned group_without; /* guards taken out of the group, by bit */

static uint64_t running_seed;

/* A broken CHECK or a sanitizer ends the process on its own: the seed must be known all the same. */
static void on_abort(int number)
{
    fflush(stdout);
    fprintf(stderr, "group_sim: repeat with --seed %llu --verbose\n", (unsigned long long)running_seed);
    signal(number, SIG_DFL);
    raise(number);
}

/* Sanitizers look these up: they end the process with SIGABRT then. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
    return "abort_on_error=1";
}

const char *__ubsan_default_options(void)
{
    return "abort_on_error=1:print_stacktrace=1";
}

static void add_stats(struct sim_stats *sum, const struct sim_stats *run)
{
    const uint64_t *from = (const uint64_t *)run;
    uint64_t *to = (uint64_t *)sum;
    for (size_t i = 0; i < offsetof(struct sim_stats, settle_ns_max) / sizeof *to; i++) {
        to[i] += from[i];
    }
    sum->settle_ns_max = run->settle_ns_max > sum->settle_ns_max ? run->settle_ns_max : sum->settle_ns_max;
}

static uint64_t run_once(uint64_t seed, bool verbose, struct sim_stats *sum)
{
    struct sim sim;
    running_seed = seed;
    sim_open(&sim, seed, verbose);
    sim_draw_plan(&sim);
    sim_begin(&sim);
    sim_run_until(&sim, sim.chaos_ends_ns);
    sim_settle(&sim);
    add_stats(sum, &sim.stats);
    uint64_t digest = sim.digest ^ sim.stats.events;
    sim_close(&sim);
    return digest;
}

static void print_stats(const struct sim_stats *sum, uint64_t runs)
{
    printf("group_sim: %llu runs hold: %llu events, %llu messages, %llu faults, %llu crashes, %llu changes, "
           "%llu leaders, %llu commits, %llu acknowledged, %llu lease and %llu index reads; settled within %lld ms\n",
           (unsigned long long)runs, (unsigned long long)sum->events, (unsigned long long)sum->messages,
           (unsigned long long)sum->faults, (unsigned long long)sum->crashes, (unsigned long long)sum->changes,
           (unsigned long long)sum->leaders, (unsigned long long)sum->commits, (unsigned long long)sum->acks,
           (unsigned long long)sum->lease_reads, (unsigned long long)sum->index_reads,
           (long long)(sum->settle_ns_max / SIM_MS));
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, runs = 1;
    unsigned kills = 0;
    bool verbose = false;
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "--seed") == 0 && has_value) {
            seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--runs") == 0 && has_value) {
            runs = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--without") == 0 && has_value) {
            group_without |= 1U << strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--failover") == 0 && has_value) {
            kills = (unsigned)strtoul(argv[++i], NULL, 10);
        } else {
            fprintf(stderr,
                    "usage: group_sim [--seed N] [--runs N] [--verbose] [--without GUARD] [--failover KILLS]\n");
            return 2;
        }
    }
    signal(SIGABRT, on_abort);
    if (kills > 0) {
        failover_measure(seed, kills);
        return 0;
    }
    struct sim_stats sum = {0}, again = {0};
    uint64_t digest = run_once(seed, verbose, &sum);
    if (runs > 1 && run_once(seed, false, &again) != digest) {
        fprintf(stderr, "group_sim: seed %llu does not repeat\n", (unsigned long long)seed);
        return 1;
    }
    for (uint64_t i = 1; i < runs; i++) {
        (void)run_once(seed + i, verbose, &sum);
    }
    print_stats(&sum, runs);
    return 0;
}
