/* A topic opened in a reducer, and its consumer groups: what a group has taken, what is pending in it, and the moves
 * between. Every change of a message's place in a group is one function here. */
#ifndef BELFRY_ACTORS_QUEUE_GROUP_H
#define BELFRY_ACTORS_QUEUE_GROUP_H

#include "actors/queue/past.h"

/* TABLE_GROUP, key = tid | gid | 'a', the name behind it. */
struct group_state {
    uint64_t start;  /* it began with this number */
    uint64_t cursor; /* of the messages in their places, those before it are taken */
    uint64_t passed; /* available messages it is through with or has taken: the rest waits in the topic */
    uint64_t delivered, redelivered, acked, expired, dropped, died; /* ever */
    /* Taken and not finished: each of them is in one of these. */
    uint64_t in_flight, ready, parked, waiting;
    uint64_t dead, returned; /* dead letters; returned: those that came back (slip.h) */
    int64_t created_at, active_at, paused_until;
    /* Ever: leases that ended; how often it was paused; delayed messages and dead letters deleted by their ids. */
    uint64_t timeouts, pauses, deleted;
    int64_t paused_at;
};

struct group {
    struct group *next;
    uint32_t gid;
    struct bytes name;
    struct group_state state;
    bool changed;
};

/* Where a pending message is. */
enum pending_place { PENDING_READY = 1, PENDING_PARKED, PENDING_WAITING };
struct pending { /* ROW_PENDING */
    uint32_t place, attempts, priority, reserved;
    int64_t until; /* waiting */
    uint64_t key_hash;
};
enum death { DEATH_ATTEMPTS = 1, DEATH_BURIED, DEATH_UNDELIVERABLE };
extern const char *const death_names[];
struct dead { /* ROW_DEAD */
    uint32_t attempts, priority;
    int64_t at;
    uint32_t reason, reserved;
    uint64_t order; /* buried: its place among those; 0: it was not */
};

/* An open topic. */
struct queue {
    struct turn *turn;
    struct rows *rows;
    struct topic topic;
    uint64_t tid;
    struct topic_state state;
    struct bytes name;
    struct group *groups; /* those that were looked at */
    bool all;             /* that is all of them */
    bool changed, touched;
    size_t sent;                    /* bytes of messages that go on to other topics */
    unsigned moves;                 /* messages moved or dropped in this turn */
    unsigned deliveries, looked;    /* receives of this turn */
    struct delivery_entry *entries; /* room for those of the delivery at hand */
    size_t entries_cap;
};
/* Errors: ERR_NOT_FOUND. */
enum err queue_open(struct queue *queue, struct turn *turn, struct bytes name) MUST_USE;
enum err queue_open_tid(struct queue *queue, struct turn *turn, uint64_t tid) MUST_USE;
/* Writes what changed, and wakes who waits if anything may be there for them. */
enum err queue_save(struct queue *queue) MUST_USE;

/* Errors: ERR_NOT_FOUND. */
enum err queue_group(struct queue *queue, uint32_t gid, struct group **out) MUST_USE;
enum err queue_group_named(struct queue *queue, struct bytes name, struct group **out) MUST_USE;
enum err queue_group_new(struct queue *queue, struct bytes name, struct group **out) MUST_USE;
/* The one of that name; made if it is not there yet. Errors: ERR_LIMIT_REACHED. */
enum err queue_group_for(struct queue *queue, struct bytes name, struct group **out) MUST_USE;
enum err queue_all_groups(struct queue *queue) MUST_USE;
/* All that the group remembers ends; its rows are swept. */
enum err queue_group_end(struct queue *queue, struct group *group) MUST_USE;
enum err group_find(struct rows *rows, uint64_t tid, uint32_t gid, struct group_state *out,
                    struct bytes *out_name) MUST_USE;
int64_t group_paused_until(struct bytes row); /* of a ROW_GROUP */
enum err group_find_gid(struct rows *rows, uint64_t tid, struct bytes name, uint32_t *out) MUST_USE;

/* ---- messages of the topic ---- */

/* Errors: ERR_NOT_FOUND. The message borrows the row. */
enum err queue_message(struct queue *queue, uint64_t number, struct message *out) MUST_USE;
/* The number of the message with that id; it need not be there. */
enum err queue_number_of(struct rows *rows, uint64_t tid, uint64_t id, uint64_t *out) MUST_USE;
/* Becomes available, with the next number, which is its id if it has none. Its parts must not be rows'. */
enum err queue_append(struct queue *queue, struct message message) MUST_USE;
/* The delayed one with that id becomes available. Errors: ERR_NOT_FOUND. */
enum err queue_undelay(struct queue *queue, uint64_t id) MUST_USE;
/* A group is paused until then; 0: it is not. */
enum err queue_resume_at(struct queue *queue, struct group *group, int64_t at) MUST_USE;
/* When the oldest message is looked at. */
enum err queue_retain_at(struct queue *queue, int64_t at) MUST_USE;
/* When the oldest dedup_id is looked at. */
enum err queue_dedup_at(struct queue *queue, int64_t at) MUST_USE;
/* Erases it, whatever groups still had to do with it: that is counted as dropped. */
enum err queue_drop(struct queue *queue, uint64_t number) MUST_USE;
/* Erases one that the only group is through with. Errors: ERR_NOT_FOUND. */
enum err queue_erase(struct queue *queue, uint64_t number) MUST_USE;
/* Erases from the oldest on what all groups are through with, at most so many. */
enum err queue_reclaim(struct queue *queue, uint64_t most) MUST_USE;
/* The row of a message that is kept: the indexes that lead to it. */
enum err queue_index(struct queue *queue, uint64_t number, const struct message *message) MUST_USE;
/* The kept message with that key before that one; 0: there is none. */
enum err queue_before_in_key(struct queue *queue, uint64_t key_hash, uint64_t number, uint64_t *out) MUST_USE;
/* Is any message apart kept with that priority? */
enum err queue_has_lane(struct queue *queue, uint32_t priority, bool *out) MUST_USE;

/* ---- a message's place in a group ---- */

/* An in-flight message, or one that is about to be. */
struct taken {
    uint64_t number, key_hash;
    uint32_t attempts, priority;
};
bool group_takes_apart(const struct message *message);
/* Is it taken, or finished, by this group? */
enum err group_has_taken(struct queue *queue, struct group *group, uint64_t number, const struct message *message,
                         bool *out) MUST_USE;
/* Nothing behind that number was taken from the lane; what is before is taken. */
enum err group_come_to_lane(struct queue *queue, struct group *group, uint32_t priority, uint64_t number) MUST_USE;
/* Must it wait for an earlier one of its key? */
enum err group_must_wait(struct queue *queue, struct group *group, uint64_t number, const struct message *message,
                         bool *out) MUST_USE;
/* Fresh, and its key is busy. */
enum err group_park(struct queue *queue, struct group *group, uint64_t number, const struct message *message) MUST_USE;
/* It goes into flight: its key is busy. */
enum err group_hold(struct queue *queue, struct group *group, uint64_t number, uint64_t key_hash) MUST_USE;
/* Its key is free: the next one of it is ready. */
enum err group_release(struct queue *queue, struct group *group, uint64_t number, uint64_t key_hash) MUST_USE;
/* From flight to ready or waiting, or to the dead letters when its attempts are used up. */
enum err group_retry(struct queue *queue, struct group *group, struct taken taken, int64_t delay_ms,
                     enum past_event why) MUST_USE;
/* From flight to the dead letters. */
enum err group_bury(struct queue *queue, struct group *group, struct taken taken, enum death reason) MUST_USE;
/* From flight to its end. */
enum err group_finish(struct queue *queue, struct group *group, struct taken taken) MUST_USE;
/* A dead letter. Errors: ERR_NOT_FOUND. */
enum err group_dead(struct queue *queue, struct group *group, uint64_t number, struct dead *out) MUST_USE;
/* Order and number of a buried one. */
struct queue_key buried_key(const struct queue *queue, const struct group *group, uint64_t order, uint64_t number);
/* Is none any more. Errors: ERR_NOT_FOUND: it was none. */
enum err group_undead(struct queue *queue, struct group *group, uint64_t number, struct dead *out) MUST_USE;
/* From the dead letters to ready, its attempts forgotten. */
enum err group_revive(struct queue *queue, struct group *group, uint64_t number) MUST_USE;
enum err group_pending(struct queue *queue, struct group *group, uint64_t number, struct pending *out) MUST_USE;
/* Puts it where it says; of its key nothing is said. */
enum err group_pend(struct queue *queue, struct group *group, uint64_t number, const struct pending *pending) MUST_USE;
/* Takes it out of wherever it is pending; its key stays busy. */
enum err group_unpend(struct queue *queue, struct group *group, uint64_t number,
                      const struct pending *pending) MUST_USE;
/* From waiting to ready. */
enum err group_wake(struct queue *queue, struct group *group, uint64_t number) MUST_USE;

#endif
