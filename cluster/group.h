/* One Raft group: libraft's raft_step() with what it needs around it, itself a step machine.
 * Events go in through the functions below, effects come out through struct group_ops; it does no
 * I/O, reads no clock and starts no thread, so a simulator can run many in one thread.
 *
 * Entries live here from submit or receipt until they are applied and no longer among the newest,
 * which are kept for replicas that are a little behind: older ones are the driver's to load.
 * What is to be written carries a number that counts up; the driver reports it synced in order.
 * No message leaves before the terms and votes it rests on are synced.
 *
 * Times are CLOCK_BOOTTIME, and must be read afresh for every event: a lease rests on them.
 * Guards against the engine's known faults are named G1..G17, as in cluster/README.md.
 * Not thread-safe: a group belongs to its worker. The only code that sees raft.h is group.c. */
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

/* ---- membership ---- */

enum group_role { GROUP_LEARNER, GROUP_VOTER }; /* a learner follows the log and has no vote */
enum { GROUP_MEMBERS_MAX = 64, GROUP_ADDRESS_BYTES = 256 };

struct group_member {
    uint64_t replica; /* never used twice */
    uint8_t role;
    char address[GROUP_ADDRESS_BYTES]; /* where its node's peers reached it last; a hint */
};

struct group_members {
    struct group_member list[GROUP_MEMBERS_MAX];
    unsigned len;
};

/* Encodes a configuration: the payload of an ENTRY_CHANGE; malloc'd. The first entry of a group's log,
 * index 1 and term 1, is the one it is founded with. */
struct bytes group_members_encode(const struct group_members *members);
/* Errors: ERR_CORRUPT. */
enum err group_members_decode(struct bytes encoded, struct group_members *out) MUST_USE;
const struct group_member *group_members_find(const struct group_members *members, uint64_t replica);

/* ---- messages ---- */

enum group_message_type {
    MESSAGE_APPEND = 1, /* also the heartbeat */
    MESSAGE_APPEND_RESULT,
    MESSAGE_VOTE,
    MESSAGE_VOTE_RESULT,
    MESSAGE_INSTALL,
    MESSAGE_TIMEOUT_NOW
};

struct group_message {
    uint8_t type;
    uint64_t from, to;   /* replicas */
    uint64_t term;       /* APPEND, VOTE, INSTALL, TIMEOUT_NOW: the sender's; results: the receiver's */
    uint64_t index;      /* APPEND: of the entry before; APPEND_RESULT: the receiver's last; VOTE, INSTALL,
                          * TIMEOUT_NOW: the last */
    uint64_t index_term; /* the term of that entry; of results 0 */
    uint64_t commit;     /* APPEND: the leader's commit index */
    uint64_t rejected;   /* APPEND_RESULT: the index refused, or 0 */
    int64_t stamp_ns;    /* APPEND, INSTALL, TIMEOUT_NOW: the leader's clock; APPEND_RESULT: the newest one received in
                          * this term, 0 when none */
    bool granted, pre_vote, disrupt; /* VOTE and its result */
    uint64_t entries_len;            /* APPEND: entries index + 1 ... index + entries_len */
    struct group_entry *entries;     /* received: that many. Sent: NULL, see group_entries */
    struct bytes configuration;      /* INSTALL: in force at index; borrowed */
    uint64_t configuration_index;
};

struct group;

struct group_ops {
    /* To be synced before anything that follows, in order with append. Its number is group_writes. */
    void (*hard_state)(void *ctx, struct group *group, uint64_t term, uint64_t vote);
    /* To be synced. An index at or below the last one replaces what follows. The payload is borrowed
     * until group_synced. Its number is group_writes. */
    void (*append)(void *ctx, struct group *group, const struct group_entry *entry);
    /* Committed and synced here: to be applied in order. The payload is borrowed until group_applied. */
    void (*apply)(void *ctx, struct group *group, const struct group_entry *entry);
    /* Leadership won or lost. What was submitted and is not applied may or may not survive. */
    void (*role)(void *ctx, struct group *group, bool leader);
    /* The log begins anew behind index: to be synced. Its number is group_writes. */
    void (*restart)(void *ctx, struct group *group, uint64_t index, uint64_t term);
    /* To message->to; may be lost, doubled, delayed or overtaken. The entries of an APPEND are fetched
     * with group_entries: those too old for it are loaded from the log. */
    void (*send)(void *ctx, struct group *group, const struct group_message *message);
};

struct group_options {
    unsigned number;
    uint64_t replica; /* ours, greater than zero */
    unsigned election_ms, heartbeat_ms;
    uint64_t seed;
    size_t keep_bytes; /* of applied entries' payloads, the newest ones */
    const struct group_ops *ops;
    void *ctx;
};

/* Of what stands in the log at and below applied_index: entries up to `last`, back to the run before,
 * are of this term. */
struct group_run {
    uint64_t term, last;
};

/* What is on disk. All zero: a replica that was never founded and waits for a leader. */
struct group_start {
    uint64_t term, vote;
    uint64_t applied_index, applied_term; /* of the state; 0 when nothing was applied */
    struct bytes configuration;           /* in force at applied_index */
    uint64_t configuration_index;
    uint64_t first_index;   /* of the oldest entry the log still has, when there are runs */
    struct group_run *runs; /* of first_index ... applied_index; borrowed */
    size_t runs_len;
    struct group_entry *entries; /* after applied_index, synced; payloads are taken over */
    size_t entries_len;
};

/* Errors: ERR_CORRUPT when what is on disk does not fit together. */
enum err group_open(const struct group_options *options, const struct group_start *start, int64_t now_ns,
                    struct group **out) MUST_USE;
void group_close(struct group *group);

/* ---- events ---- */

/* Appends commands; takes the payloads over in every case. Stamps nothing: the payload is opaque.
 * Errors: ERR_NOT_LEADER, ERR_OVERLOADED (nothing was taken into the log). */
enum err group_submit(struct group *group, struct bytes *payloads, size_t len, int64_t now_ns,
                      uint64_t *out_first_index) MUST_USE;
/* How many more entries group_submit takes at the moment. */
size_t group_room(const struct group *group);
/* The number of the newest write asked for with hard_state or append. */
uint64_t group_writes(const struct group *group);
/* Writes up to that number are synced. */
void group_synced(struct group *group, uint64_t number, int64_t now_ns);
/* Entries up to index are applied to the state; their payloads are not read any more. */
void group_applied(struct group *group, uint64_t index);
/* Drives time-outs; call every 10 to 20 ms. */
void group_tick(struct group *group, int64_t now_ns);
/* Others are to lead, if any can: this replica stands for election so much later, and is not handed leadership.
 * 0: as all. A sole voter does not wait. */
void group_defer(struct group *group, unsigned ms);
/* A message from a peer, checked and decoded. Entries, malloc'd, and their payloads are taken over. Errors:
 * ERR_CORRUPT, it contradicts what is committed here: the replica must stop. */
enum err group_receive(struct group *group, struct group_message *message, int64_t now_ns) MUST_USE;
/* Hands leadership to a voter, 0: the one furthest ahead. Errors: ERR_NOT_LEADER, ERR_NOT_FOUND. */
enum err group_transfer(struct group *group, uint64_t replica, int64_t now_ns) MUST_USE;
/* Proposes a membership that differs in one member from the one in force.
 * Errors: ERR_NOT_LEADER; ERR_CONFLICT: not now, one is under way or this term has committed nothing
 * yet (a barrier is proposed: try again); ERR_BAD_REQUEST: more than one change, our own removal or
 * demotion, or fewer than two voters where there were two. */
enum err group_change(struct group *group, const struct group_members *members, int64_t now_ns) MUST_USE;
/* The leader of that term says, beside its messages, that it has committed up to index: a follower need
 * not wait for the next one to apply it. */
void group_hint_commit(struct group *group, uint64_t term, uint64_t index, int64_t now_ns);
/* The leader's MESSAGE_INSTALL, once the state as of message->index is staged and verified here; payloads
 * as in group_receive. *out_begun: the state is to be switched, nothing is taken in meanwhile, and then
 * group_switched is due; else it is not needed (any more). Errors: ERR_CONFLICT (entries are still being
 * written or applied: try again), ERR_CORRUPT. */
enum err group_install(struct group *group, const struct group_message *message, int64_t now_ns,
                       bool *out_begun) MUST_USE;
/* The state is switched, durably. Asks for the log to begin anew (ops.restart); once that is synced, the
 * group goes on from there. */
void group_switched(struct group *group, int64_t now_ns);
/* Entries at or below index are no longer in the log. */
void group_forget(struct group *group, uint64_t index, int64_t now_ns);

/* ---- looking ---- */

bool group_is_leader(const struct group *group);
bool group_is_sole_voter(const struct group *group);
uint64_t group_term(const struct group *group);
uint64_t group_leader(const struct group *group); /* replica believed to lead; 0: none known */
uint64_t group_commit_index(const struct group *group);
uint64_t group_last_index(const struct group *group);
uint64_t group_match_index(const struct group *group, uint64_t replica); /* on the leader; 0 when unknown */
/* When its leader was heard last; INT64_MIN / 2: never. */
int64_t group_heard_ns(const struct group *group);
/* Membership in force here, committed or not. */
void group_members(const struct group *group, struct group_members *out);
bool group_is_changing(const struct group *group);     /* a change is not committed yet */
bool group_is_handing_over(const struct group *group); /* group_transfer is under way */
/* Entries first ... first + len - 1, payloads borrowed until the next event; false when one is not kept. */
bool group_entries(const struct group *group, uint64_t first, size_t len, struct group_entry *out);
/* Until when, on the boot clock, this leader may serve reads from its own state: the newest time at
 * which a majority is known to have heard of it, plus the election timeout less a margin. INT64_MAX
 * for a sole voter; INT64_MIN when it may not: no leader, its term has yet to commit what it found in
 * the log, or it hands over its leadership: until whom it told so has answered something newer in its term. */
int64_t group_lease_end_ns(const struct group *group);
/* A read that began at or before this time may be served at the commit index it began with: a majority
 * has heard of this leader since. Also while there is no lease. INT64_MIN: not the leader, or its term has
 * yet to commit what it found: a commit index seen then must not be served, whatever is confirmed later. */
int64_t group_confirmed_ns(const struct group *group);

#endif
