/* Events for accounts of other partitions: an outbox in the partition where they happened, carried by its leader to
 * the account's partition, which remembers how far it has taken each source. So every one arrives once and in
 * order, whatever dies in between. */
#ifndef BELFRY_ACTORS_EVENTS_RELAY_H
#define BELFRY_ACTORS_EVENTS_RELAY_H

#include "actors/kind.h"

enum { RELAY_DELIVER = 32, RELAY_DELIVERED = 33 };

/* Types of what is carried that are no events (actors/queue/slip.h). */
enum relay_parcel { RELAY_SLIP = 200, RELAY_SLIP_BACK = 201 };

/* In a reducer: into the outbox. The partition is that of the account; for parcels any id of it. */
enum err relay_send(struct turn *turn, struct id account, int64_t type, struct bytes data) MUST_USE;

/* The alarm: at once when the outbox holds anything. */
int64_t relay_due(struct rows *rows);

/* To the target: what the outbox holds for it up to last; rows hold, one behind another, a number (8), a length (4)
 * and a packed row. */
struct relay_deliver {
    struct fieldset set;
    int64_t source, last;
    struct bytes rows;
};
/* To the source: taken up to last. */
struct relay_delivered {
    struct fieldset set;
    int64_t target, last;
};
extern const struct field relay_deliver_fields[], relay_delivered_fields[];
enum err relay_deliver_reduce(struct turn *turn, const void *in, struct reply *reply);
enum err relay_delivered_reduce(struct turn *turn, const void *in, struct reply *reply);

struct relay_state {
    struct relay_deliver deliver;
    struct relay_delivered delivered;
    unsigned target;
};
extern const struct step relay_steps[];

enum err relay_check(struct rows *rows) MUST_USE;

#endif
