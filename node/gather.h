/* What several scripts ask of one actor goes into the log as one entry (script_join). A gatherer is of a partition, a
 * kind, an operation and an actor's key: what came in a turn of the loop goes out at its end as one command; while
 * LIMIT_JOINED_FLIGHTS of its commands are under way, what comes is gathered until one is answered. The more are under
 * way the shorter one waits, and the fewer share an entry.
 *
 * All of it belongs to a worker. It knows nothing of nodes: how a command is sent is handed in (node/joiner.h). */
#ifndef BELFRY_GATHER_H
#define BELFRY_GATHER_H

#include "actors/join.h"
#include "node/base/list.h"

struct gathers; /* opaque; a worker's */
struct flight;

/* One script's part. Owned by who adds it. */
struct join {
    /* Set before gather_add; the item is borrowed until it is done or dropped. */
    struct caller caller;
    struct bytes item;
    /* What came of it, once; part and what it is called with are borrowed. It may add further joins, and drop any. */
    void (*done)(struct join *join, enum err err, struct bytes part, uint64_t index, uint64_t by);
    /* Its own. */
    struct list link; /* in the gatherer, while it waits */
    struct flight *flight;
    size_t place;
    bool waits; /* in the gatherer */
    struct gatherer *gatherer;
};

/* One command under way. */
struct flight {
    struct list link;
    struct gatherer *gatherer;
    size_t len;
    struct join *joins[]; /* in order; NULL: dropped */
};

struct gather_key {
    unsigned partition;
    uint8_t kind, op;
    struct bytes key; /* of the actor; LIMIT_ACTOR_KEY_BYTES at most */
};

/* Sends the items as one command; gather_landed is called when it is answered, later. */
typedef void gather_send(void *ctx, const struct gather_key *key, struct bytes items, struct flight *flight);

struct gathers *gathers_new(gather_send *send, void *ctx);
/* What waits or is under way is forgotten: nobody may wait for it. */
void gathers_free(struct gathers *gathers);
/* How many have work. */
size_t gathers_len(const struct gathers *gathers);
/* Errors: ERR_OVERLOADED, ERR_TOO_LARGE; done is not called then. */
enum err gather_add(struct gathers *gathers, const struct gather_key *key, struct join *join) MUST_USE;
/* Gives up: done is not called any more. What was not sent is not sent; what was is carried out. */
void gather_drop(struct join *join);
/* At the end of a turn: sends what may go, frees who has nothing left to do. */
void gathers_turn_end(struct gathers *gathers);
/* What came of a command: err, and if OK the reply's body; frees the flight. */
void gather_landed(struct gathers *gathers, struct flight *flight, enum err err, struct bytes body, uint64_t index,
                   uint64_t by);

#endif
