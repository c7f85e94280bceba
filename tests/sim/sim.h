/* One Raft group of one to five replicas in virtual time: disks, network, state machines, clients and
 * an operator are made up here, one thread, nothing real. A run is its seed and repeats exactly.
 *
 * The world is a queue of events. An event of a replica waits while that replica is paused and dies
 * with its incarnation; after each one the replica is checked against all the world knows (sim_check.c).
 * Ids of replicas are 1 ... SIM_IDS; they are never used twice. */
#ifndef BELFRY_TESTS_SIM_SIM_H
#define BELFRY_TESTS_SIM_SIM_H

#include "cluster/group.h"
#include "node/base/arena.h"
#include "node/base/random.h"

enum { SIM_IDS = 7, FAULT_KINDS = 10 };
#define SIM_US 1000LL
#define SIM_MS 1000000LL
#define SIM_S 1000000000LL

struct sim;
struct replica;
struct sim_event;

/* ---- the queue of events ---- */

struct sim_event {
    int64_t at_ns;
    uint64_t order; /* of events at the same time */
    void (*run)(struct sim *sim, struct sim_event *event);
    struct replica *replica; /* NULL: the world's */
    unsigned incarnation;    /* of that replica; 0: any */
    uint64_t arg;
    void *data; /* malloc'd, freed after the event */
};

struct sim_queue {
    struct sim_event *heap;
    size_t len, cap;
    uint64_t order;
};

void queue_push(struct sim_queue *queue, struct sim_event event);
struct sim_event queue_pop(struct sim_queue *queue);
void queue_close(struct sim_queue *queue);

/* ---- disks ---- */

/* A log from index 1 on; payloads live in the run's arena. */
struct sim_log {
    struct group_entry *list;
    size_t len, cap;
    uint64_t change; /* index of the newest membership, or 0 */
};

struct disk_write {
    uint64_t number;
    uint64_t term, vote;      /* of a hard state */
    struct group_entry entry; /* index 0: it is a hard state */
    const uint8_t *borrowed;  /* the group's payload, to be readable until the write is synced */
};

struct sim_disk {
    uint64_t term, vote; /* synced */
    struct sim_log synced;
    struct sim_log written; /* with what is not synced yet */
    struct disk_write *pending;
    size_t pending_len, pending_cap;
    size_t syncing; /* that many of pending are in the sync under way */
    uint64_t number;
};

void disk_write_hard_state(struct replica *replica, struct group *group, uint64_t term, uint64_t vote);
void disk_write_entry(struct replica *replica, struct group *group, const struct group_entry *entry);
/* What a power loss leaves: any prefix of what was not synced yet. */
void disk_crash(struct replica *replica);
void disk_close(struct sim_disk *disk);
void log_put(struct sim_log *log, const struct group_entry *entry);

/* ---- replicas ---- */

enum replica_state { REPLICA_ABSENT, REPLICA_UP, REPLICA_DOWN, REPLICA_GONE };

struct applying {
    const uint8_t *borrowed;
    struct group_entry entry;
};

struct submission {
    uint64_t id, index, term;
};

/* A linearizable read: from the state at index on, which must not be older than what any client had
 * seen when it began. */
struct read_wait {
    uint64_t index, seen;
    bool confirmed;     /* waits for the state alone */
    uint64_t term;      /* otherwise for a majority that has heard since of the leader in that term, */
    int64_t began_ns;   /* on its clock, */
    struct replica *by; /* and goes back to the replica that asked */
};

struct replica {
    struct sim *sim;
    uint64_t id;
    enum replica_state state;
    struct group *group; /* when up */
    unsigned incarnation;
    bool was_added; /* to the members once: an id is never used twice */
    bool paused;
    int64_t resume_ns, resume_slack_ns; /* after the pause messages may come before its own timers */
    struct sim_disk disk;
    unsigned disk_slow; /* times slower than usual */
    int64_t clock_offset_ns;
    int64_t clock_drift_ppm;
    int64_t tick_ns;
    /* the state machine */
    uint64_t handed, applied, durable; /* durable: what surely survives a power loss */
    struct applying *applying;
    size_t applying_len, applying_cap;
    bool apply_scheduled;
    /* clients that wait at this node */
    struct submission *submissions;
    size_t submissions_len, submissions_cap;
    struct read_wait *reads;
    size_t reads_len, reads_cap;
    /* what the checks saw last */
    uint64_t commit_seen, term_seen, change_seen;
    bool leader_seen;
};

int64_t replica_clock_ns(const struct replica *replica);
bool replica_runs(const struct replica *replica); /* up and not paused */
void replica_found(struct replica *replica, const struct group_members *members);
void replica_start(struct replica *replica);
void replica_crash(struct replica *replica);
void replica_pause(struct replica *replica, int64_t for_ns);
void replica_close(struct replica *replica);

/* ---- the world ---- */

/* Drawn from the seed: what a run is like. */
struct sim_plan {
    unsigned founders, election_ms, heartbeat_ms;
    unsigned drop_permille, double_permille, late_permille;
    unsigned delay_us_max, disk_us_max, apply_us_max;
    unsigned submit_ms_mean, read_ms_mean, batch_max;
    unsigned fault_ms_mean, change_ms_mean; /* 0: none */
    unsigned fault_weights[FAULT_KINDS];
    int64_t chaos_ns;
};

struct committed {
    struct group_entry entry;
    uint64_t in_term; /* committed in that term or before */
};

struct sim_stats {
    uint64_t events, messages, commits, acks, lease_reads, index_reads, leaders, crashes, faults, changes;
    int64_t settle_ns_max;
};

struct sim {
    uint64_t seed;
    bool verbose;
    struct random random;
    struct arena arena; /* payloads */
    int64_t now_ns;
    uint64_t digest; /* of all that happened */
    struct sim_queue queue;
    struct sim_plan plan;
    struct replica replicas[SIM_IDS + 1]; /* by id */
    bool cut[SIM_IDS + 1][SIM_IDS + 1];   /* from, to */
    int64_t chaos_ends_ns;
    bool calm;  /* the faults are over */
    bool quiet; /* so are the clients' submissions */
    /* what is known of the whole group */
    struct committed *history; /* by index - 1 */
    size_t history_len, history_cap;
    struct {
        uint64_t replica;
        unsigned incarnation;
    } * leaders; /* by term */
    size_t leaders_len;
    uint64_t visible; /* the newest index that any client has seen applied */
    uint8_t *ids;     /* by submission id: enum submission_state */
    uint64_t ids_len, ids_cap;
    uint64_t calm_acks;
    struct sim_stats stats;
};

void sim_open(struct sim *sim, uint64_t seed, bool verbose);
/* Draws a plan for a run that looks for faults. */
void sim_draw_plan(struct sim *sim);
/* Founds the group as planned and starts clients and faults. */
void sim_begin(struct sim *sim);
void sim_run_until(struct sim *sim, int64_t until_ns);
/* Ends all faults, then demands a leader, a commit and equal logs within ten seconds. */
void sim_settle(struct sim *sim);
void sim_close(struct sim *sim);

void sim_at(struct sim *sim, int64_t delay_ns, void (*run)(struct sim *, struct sim_event *), struct replica *replica,
            uint64_t arg, void *data);
/* Ends the process with the seed. */
_Noreturn void sim_fail(struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* What each replica that is up thinks, to stderr. */
void sim_describe(const struct sim *sim);
void sim_trace(const struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);

uint64_t sim_below(struct sim *sim, uint64_t bound);
int64_t sim_between(struct sim *sim, int64_t least, int64_t most);
bool sim_chance(struct sim *sim, unsigned permille);
/* A time of that mean; often short, at times long. */
int64_t sim_wait_ns(struct sim *sim, unsigned ms_mean);
/* A replica that runs and believes it leads, or NULL. */
struct replica *sim_leader(struct sim *sim);
/* A replica in that state, or NULL. */
struct replica *sim_pick(struct sim *sim, enum replica_state state);
/* Ids 1 ... len as voters. */
struct group_members sim_voters(unsigned len);
struct group_member sim_member(uint64_t replica, enum group_role role);

/* ---- the network ---- */

void net_send(struct replica *from, struct group *group, const struct group_message *message);
/* Between clients' reads at one replica and another: the event's arg is the sender, it takes the data. */
void net_send_read(struct replica *from, struct replica *to, void (*run)(struct sim *, struct sim_event *),
                   const struct read_wait *read);
void net_heal(struct sim *sim);

/* ---- checks ---- */

/* After every event of a replica. */
void check_replica(struct replica *replica);
void check_send(struct replica *replica, const struct group_message *message);
/* A client has seen the state at index. */
void check_visible(struct sim *sim, uint64_t index);
/* When all is settled. */
void check_end(struct sim *sim);
const struct group_entry *check_committed(const struct sim *sim, uint64_t index); /* NULL: not known */
/* The newest membership that is known to be committed, up to index. */
const struct group_entry *check_newest_change(const struct sim *sim, uint64_t index);

/* ---- clients ---- */

enum submission_state { SUBMISSION_OPEN, SUBMISSION_COMMITTED, SUBMISSION_ACKNOWLEDGED };

void client_begin(struct sim *sim);
void client_applied(struct replica *replica); /* acknowledges what it submitted */
void client_serve(struct replica *replica);   /* the reads that can be served now */
void client_forget(struct replica *replica);  /* connections died with the node */
uint64_t client_id_of(struct bytes payload);

/* ---- faults and the operator ---- */

void fault_begin(struct sim *sim);
void operator_begin(struct sim *sim);

/* From a leader's death to the next leader, and to the next commit, over that many kills. */
void failover_measure(uint64_t seed, unsigned kills);

#endif
