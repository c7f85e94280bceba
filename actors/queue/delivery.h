/* Deliveries: what one receive took, until all of it is settled. Receipts name a message in one. */
#ifndef BELFRY_ACTORS_QUEUE_DELIVERY_H
#define BELFRY_ACTORS_QUEUE_DELIVERY_H

#include "actors/queue/group.h"

struct delivery_entry {
    uint64_t number, key_hash;
    int64_t deadline;
    uint32_t attempts, priority;
};

struct delivery {
    uint64_t smallest; /* of the numbers when it was made */
    uint64_t id;       /* never given twice in a partition */
    uint64_t consumer; /* 0: a plain receive */
    int64_t next;      /* first deadline; the time row's */
    struct delivery_entry *entries;
    size_t len, before; /* entries now, and as it was read */
};

/* Entries are in the arena of the turn. Errors: ERR_NOT_FOUND. */
enum err delivery_find(struct rows *rows, struct arena *arena, uint64_t tid, uint32_t gid, uint64_t smallest,
                       uint64_t id, struct delivery *out) MUST_USE;
/* The same in a reducer, with entries that are good until the next one is opened or made in this turn: whoever settles
 * or expires many deliveries takes no more memory for them than for one. */
enum err delivery_open(struct queue *queue, uint32_t gid, uint64_t smallest, uint64_t id,
                       struct delivery *out) MUST_USE;
/* Room for so many. */
struct delivery_entry *delivery_room(struct queue *queue, size_t len);
int64_t delivery_next(struct bytes row); /* of a ROW_DELIVERY: its time */
/* Messages in flight to a consumer. Errors: ERR_NOT_FOUND for none. */
enum err consumer_flying(struct rows *rows, uint64_t tid, uint32_t gid, uint64_t consumer, uint64_t *out) MUST_USE;
/* So many more or less; what a consumer gives back is credit for more. */
enum err consumer_count(struct queue *queue, struct group *group, uint64_t consumer, int64_t by) MUST_USE;
/* Writes a new one, with its time. */
enum err delivery_put_new(struct queue *queue, struct group *group, struct delivery *delivery) MUST_USE;
/* Writes what is left of it, or erases it. */
enum err delivery_update(struct queue *queue, struct group *group, struct delivery *delivery) MUST_USE;

/* What consumers hold: "partition-gid-smallest-id-offset", in hexadecimal. */
struct receipt {
    unsigned partition;
    uint32_t gid;
    uint64_t smallest, id, number;
};
void receipt_add(struct buf *out, const struct receipt *receipt);
bool receipt_parse(struct bytes text, struct receipt *out) MUST_USE;

#endif
