/* What the files of a group share: the engine, and what stands around it. Only group*.c include this:
 * nobody else sees raft.h. */
#ifndef BELFRY_CLUSTER_GROUP_ENGINE_H
#define BELFRY_CLUSTER_GROUP_ENGINE_H

#include <raft.h>

#include "cluster/group_entries.h"

_Static_assert(RAFT_VERSION_NUMBER == 2201, "the engine must be libraft 0.22.1: see cluster/README.md");
_Static_assert((int)ENTRY_COMMAND == (int)RAFT_COMMAND && (int)ENTRY_BARRIER == (int)RAFT_BARRIER &&
                   (int)ENTRY_CHANGE == (int)RAFT_CHANGE,
               "entry kinds are the engine's");
_Static_assert((int)MESSAGE_APPEND == (int)RAFT_APPEND_ENTRIES && (int)MESSAGE_TIMEOUT_NOW == (int)RAFT_TIMEOUT_NOW &&
                   (int)MESSAGE_VOTE == (int)RAFT_REQUEST_VOTE && (int)MESSAGE_INSTALL == (int)RAFT_INSTALL_SNAPSHOT,
               "message types are the engine's");

/* Tests take single guards out, to see that the fault they are against is real. */
#ifdef GROUP_GUARD_TESTS
extern unsigned group_without; /* bit n: guard Gn; bit 0: the quarantine after a start */
#define GUARD(n) ((group_without & 1U << (n)) == 0)
#else
#define GUARD(n) true
#endif

/* A message that rests on a hard state that is not synced yet. */
struct held_message {
    struct group_message message;
    uint64_t number; /* of that write */
};

struct group {
    struct group_options options;
    struct raft raft;
    struct group_entries entries;
    uint64_t handed;    /* entries up to here were handed to apply */
    uint64_t persisted; /* synced in our log */
    uint64_t applied;   /* in our state */
    int64_t now_ns;     /* of the event under way */
    bool leader;
    uint64_t leader_floor; /* entries up to here were in the log when we were elected */
    uint64_t own_index;    /* the first entry of the term we lead in; 0: none yet */
    uint64_t taken_index;  /* the first entry the engine took in the last step that took any */

    struct held_message *held;
    size_t held_len, held_cap;
    uint64_t hard_number; /* of the newest hard state's write */

    /* A state is being switched: what the engine will be told then. */
    bool installing;
    struct raft_snapshot_metadata install;
    uint64_t restart_number; /* of the write that begins the log anew; 0: not asked for yet */

    /* As a follower. */
    int64_t heard_ns;    /* when the leader was heard last */
    uint64_t heard_term; /* in which term */
    int64_t heard_stamp_ns;
    uint64_t hint_term, hint_index; /* committed, as its leader has said */
    uint64_t disrupt_term;          /* the term that a TimeoutNow allows us to disrupt */
    int64_t quarantine_ends_ns;
    unsigned defer_ms; /* group_defer */
    bool refused;      /* the message under way */
    unsigned refusals; /* of entries whose predecessor is another here, one after the other */

    /* As a leader, in stamps_term. */
    struct group_stamp {
        uint64_t replica;
        int64_t stamp_ns; /* the newest that it brought back; INT64_MIN: none */
        int64_t told_ns;  /* when it was told to take over; INT64_MIN: never */
    } stamps[GROUP_MEMBERS_MAX];
    unsigned stamps_len;
    bool stamps_full; /* there was one more: no lease */
    uint64_t stamps_term;
};

/* group.c: one event, all its effects. Anything but 0 is the engine's error. */
int group_step(struct group *group, struct raft_event *event);
static inline uint64_t group_now_ms(const struct group *group)
{
    return (uint64_t)group->now_ns / 1000000;
}
/* Submits entries; takes the payloads over in every case. Anything but 0: the engine refused. */
int group_propose(struct group *group, enum raft_entry_type type, struct bytes *payloads, size_t len);

/* group_members.c */
void group_members_from_engine(const struct raft_configuration *configuration, struct group_members *out);
/* Errors: ERR_CORRUPT. */
enum err group_members_to_engine(struct bytes encoded, struct raft_configuration *out) MUST_USE;

/* group_messages.c */
void group_send(struct group *group, const struct raft_message *message);
/* The hard states of what is held may be synced now. */
void group_release_held(struct group *group);
/* A message of a leader has come. */
void group_note_leader(struct group *group, const struct group_message *message);
/* Only as a follower. */
void group_forget_leader(struct group *group);

/* group_lease.c */
void group_lease_stamp(struct group *group, uint64_t replica, int64_t stamp_ns);
/* It is told to take over. */
void group_lease_told(struct group *group, uint64_t replica);

#endif
