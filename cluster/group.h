/* One Raft group: libraft's raft_step() with what it needs around it, itself a step machine.
 * Events go in through the functions below, effects come out through struct group_ops; it does no
 * I/O, reads no clock and starts no thread, so a simulator can run many in one thread.
 *
 * Entries live here from submit until they are handed to apply: at most LIMIT_INFLIGHT_ENTRIES.
 * Guards against the engine's known faults are named G1..G10, as in cluster/README.md.
 * Not thread-safe: a group belongs to its worker. The only header that needs raft.h is group.c. */
#ifndef BELFRY_CLUSTER_GROUP_H
#define BELFRY_CLUSTER_GROUP_H

#include "node/base/bytes.h"
#include "node/base/err.h"

enum group_entry_kind { ENTRY_COMMAND = 1, ENTRY_BARRIER = 2, ENTRY_CHANGE = 3 };

struct group_entry {
    uint64_t index, term;
    uint8_t kind;
    struct bytes payload; /* malloc'd */
};

struct group;

struct group_ops {
    /* To be synced before anything that follows; in order with append. */
    void (*hard_state)(void *ctx, struct group *group, uint64_t term, uint64_t vote);
    /* To be synced; then group_persisted. Payloads are borrowed until then. */
    void (*append)(void *ctx, struct group *group, const struct group_entry *entry);
    /* Committed and synced here: to be applied in order; then group_applied. Owns the payload. */
    void (*apply)(void *ctx, struct group *group, struct group_entry entry);
    /* Leadership won or lost. */
    void (*role)(void *ctx, struct group *group, bool leader);
};

struct group_options {
    unsigned number;
    uint64_t replica; /* our id in the configuration, greater than zero */
    unsigned election_ms, heartbeat_ms;
    uint64_t seed;
    const struct group_ops *ops;
    void *ctx;
};

/* What is on disk. */
struct group_start {
    uint64_t term, vote;
    uint64_t applied_index, applied_term; /* of the state; 0 when nothing was applied */
    struct bytes configuration;           /* in force at applied_index (group_configuration) */
    uint64_t configuration_index;
    struct group_entry *entries; /* after applied_index, synced; payloads are taken over */
    size_t entries_len;
};

/* The encoded configuration of a group with one voter; malloc'd. The first entry of a group's
 * log, index 1 and term 1, carries the configuration it is founded with. */
struct bytes group_configuration_sole(uint64_t replica, const char *address);

/* Errors: ERR_CORRUPT when what is on disk does not fit together. */
enum err group_open(const struct group_options *options, const struct group_start *start, int64_t now_ms,
                    struct group **out) MUST_USE;
void group_close(struct group *group);

/* Appends commands; takes the payloads over in every case. Stamps nothing: the payload is opaque.
 * Errors: ERR_NOT_LEADER, ERR_OVERLOADED (nothing was taken into the log). */
enum err group_submit(struct group *group, struct bytes *payloads, size_t len, int64_t now_ms,
                      uint64_t *out_first_index) MUST_USE;
/* How many more entries group_submit takes at the moment. */
size_t group_room(const struct group *group);
/* Entries up to index are synced. */
void group_persisted(struct group *group, uint64_t index, int64_t now_ms);
/* Entries up to index are applied to the state. */
void group_applied(struct group *group, uint64_t index);
/* Drives timeouts; call every 10 to 20 ms. */
void group_tick(struct group *group, int64_t now_ms);

bool group_is_leader(const struct group *group);
uint64_t group_term(const struct group *group);
uint64_t group_commit_index(const struct group *group);
uint64_t group_last_index(const struct group *group);
/* Until when, on the boot clock, this leader may serve reads from its own state: the newest time
 * at which a majority is known to have heard of it, plus the election timeout less a margin.
 * INT64_MAX for a sole voter, INT64_MIN when it may not. */
int64_t group_lease_end_ns(const struct group *group);

#endif
