/* The kind: topics and what is done with them. queue.md has the model. */
#ifndef BELFRY_ACTORS_QUEUE_QUEUE_H
#define BELFRY_ACTORS_QUEUE_QUEUE_H

#include "actors/queue/delivery.h"

extern const struct kind queue_kind;

/* In logs for ever: never reused. */
enum queue_op {
    QUEUE_PUT = 1,
    QUEUE_GET,
    QUEUE_LIST,
    QUEUE_DELETE,
    QUEUE_PUBLISH,
    QUEUE_PUBLISH_RAW,
    QUEUE_BROWSE,
    QUEUE_MESSAGE,
    QUEUE_GROUPS,
    QUEUE_GROUP,
    QUEUE_GROUP_DELETE,
    QUEUE_RECEIVE,
    QUEUE_ACK,
    QUEUE_NACK,
    QUEUE_EXTEND,
    QUEUE_DEAD,
    QUEUE_REDRIVE,
    QUEUE_PURGE,
    QUEUE_SEEK,
    QUEUE_SUBSCRIBE,
    QUEUE_RING,
    QUEUE_DO_PUT = 32,
    QUEUE_DO_DELETE,
    QUEUE_DO_PUBLISH,
    QUEUE_DO_RECEIVE,
    QUEUE_DO_SETTLE,
    QUEUE_DO_DEAD,
    QUEUE_DO_GROUP,
    QUEUE_DO_RING,
    QUEUE_DO_JOB
};

/* ---- what joined commands hold (actors/join.h) ---- */

/* DO_PUBLISH: struct publish_head and message, one behind another. The answer: runs of ids. */
struct id_run {
    uint64_t first, count;
};
/* DO_RECEIVE: this, then the group's name. The answer: struct received. */
struct receive_ask {
    uint32_t max, flags;
    int64_t visibility_ms; /* -1: the topic's */
    uint64_t consumer;
};
struct received {
    uint64_t smallest, id; /* of the delivery; id 0: nothing was there */
    uint32_t gid;
    uint32_t more; /* there may be more: what was looked at could not be delivered */
};
/* DO_SETTLE: this, the group's name, then struct settle_one, one behind another. The answer: a byte each. */
enum settle_verb {
    SETTLE_ACK = 1,
    SETTLE_NACK,
    SETTLE_EXTEND,
    SETTLE_BURY,
    SETTLE_RETURN /* a NACK that counts for nothing */
};
struct settle_ask {
    uint32_t verb, name_len;
    int64_t ms;       /* nack: delay; extend: from now on; -1: the topic's visibility */
    int64_t priority; /* nack, bury: a new one; -1: as it was */
};
struct settle_one {
    uint32_t gid, target;         /* partition of where the message goes next; 0: it is not said */
    uint32_t image_len, reserved; /* behind this: the message as it goes there (slip.h) */
    uint64_t smallest, id, number;
};
enum settle_result { SETTLED_GONE, SETTLED_OK, SETTLED_SLIP /* it has destinations: where they are must be said */ };
/* The first of them, with its image; false at the end, or when it is not whole. */
bool settle_next(struct bytes *rest, struct settle_one *out, struct bytes *out_image) MUST_USE;

/* For so many more messages: what all groups are through with goes, or the oldest. Errors: ERR_TOPIC_FULL, after which
 * the topic is to be saved all the same. */
enum err queue_make_room(struct queue *queue, uint64_t count) MUST_USE;
enum err publish_reduce(struct turn *turn, const void *in, struct reply *reply);
/* What the group would get next: nothing is written, but the open group's cursor may come further. Number 0: there is
 * too much to look at. Errors: ERR_NOT_FOUND: nothing. */
enum err receive_peek(struct queue *queue, struct group *group, uint64_t *out_number, uint32_t *out_priority) MUST_USE;
/* A message that the group has not taken, and all that stand before it in its line, are ready (or parked). *out_more:
 * there are too many for one command, some are left. */
enum err receive_up_to(struct queue *queue, struct group *group, uint64_t number, const struct message *message,
                       bool *out_more) MUST_USE;
/* That pending message is delivered. Errors: ERR_NOT_FOUND. */
enum err receive_this(struct queue *queue, struct group *group, uint64_t number, struct received *out) MUST_USE;
enum err receive_reduce(struct turn *turn, const void *in, struct reply *reply);
enum err settle_reduce(struct turn *turn, const void *in, struct reply *reply);

/* DO_RING: carries out what is due, until so many messages are moved or erased. */
struct ring_ask {
    struct fieldset set;
    int64_t max;
};
extern const struct field ring_ask_fields[];
struct ring_done {
    struct fieldset set;
    bool more; /* is due already */
};
extern const struct field ring_done_fields[];
enum err ring_reduce(struct turn *turn, const void *in, struct reply *reply);
int64_t ring_due(struct rows *rows);

/* DO_PUT: packed settings; names and ids are the script's. */
struct put_topic {
    struct fieldset set;
    struct bytes topic; /* packed struct topic */
};
extern const struct field put_topic_fields[];
enum err put_topic_reduce(struct turn *turn, const void *in, struct reply *reply);
struct no_input {
    struct fieldset set;
};
extern const struct field no_input_fields[];
/* Who has to do with the topic finds it under the account. */
enum err topic_index_users(struct rows *rows, const struct topic *topic, bool add) MUST_USE;
enum err delete_topic_reduce(struct turn *turn, const void *in, struct reply *reply);

/* DO_DEAD: the oldest dead letters, or those with these ids (uint64_t, one behind another), are redriven or purged. */
enum dead_verb { DEAD_REDRIVE, DEAD_PURGE };
struct dead_ask {
    struct fieldset set;
    struct bytes group, ids;
    int64_t verb, max;
};
struct dead_done {
    struct fieldset set;
    int64_t count, left;
};
extern const struct field dead_ask_fields[], dead_done_fields[];
enum err dead_reduce(struct turn *turn, const void *in, struct reply *reply);

/* One of them; a purged one is erased where acknowledged messages are. Errors: ERR_NOT_FOUND. */
enum err queue_settle_dead(struct queue *queue, struct group *group, enum dead_verb verb, uint64_t number) MUST_USE;

/* DO_GROUP: deletes a group, or has it begin anew somewhere, or pauses it. */
enum group_verb { GROUP_DELETE, GROUP_SEEK_START, GROUP_SEEK_END, GROUP_SEEK_TIME, GROUP_PAUSE };
struct group_ask {
    struct fieldset set;
    struct bytes group;
    int64_t verb, at;
};
extern const struct field group_ask_fields[];
enum err group_reduce(struct turn *turn, const void *in, struct reply *reply);

enum err queue_check(struct rows *rows, struct arena *arena);
enum err queue_mend(struct rows *rows);
enum err queue_forget(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased);

#endif
