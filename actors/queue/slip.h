/* Routing slips: a message with destinations goes on to the next topic when it is acknowledged, once.
 *
 * The acknowledgement and the parcel for the other topic's partition are one step of the replicated state; the parcel
 * is carried as events are (actors/events/relay.h): once, whatever dies. Where the next topic is, and what the message
 * looks like there, the acknowledging node says; if there is no such topic, or its publisher may not publish there, the
 * message comes back as a dead letter of the group that acknowledged it. */
#ifndef BELFRY_ACTORS_QUEUE_SLIP_H
#define BELFRY_ACTORS_QUEUE_SLIP_H

#include "actors/queue/queue.h"

/* struct message.destinations: the publisher (struct slip_publisher), then the names as packed strings. */
struct slip_publisher {
    struct id account;
    uint8_t role;
};
/* Of a command's message: whose it is. Arena memory. */
struct bytes slip_sign(struct bytes destinations, const struct caller *caller, struct arena *arena);
/* The names, as a message is published with. */
struct bytes slip_make(struct bytes names, struct arena *arena);
/* Errors: ERR_CORRUPT. */
enum err slip_read(struct bytes destinations, struct arena *arena, struct slip_publisher *out_publisher,
                   struct bytes **out_names, size_t *out_len) MUST_USE;

enum { SLIP_NOWHERE = UINT16_MAX }; /* struct settle_one.target: there is no such topic */

/* A message is acknowledged: sends it on. *out_waits: it has destinations, and one->target does not say where the
 * first of them is, or too many go at once: nothing was done. */
enum err slip_go_on(struct queue *queue, struct group *group, const struct settle_one *one, struct bytes image,
                    bool *out_waits) MUST_USE;
/* Dead letters that came back (ROW_RETURNED) are tried once more, or forgotten: the oldest, up to in->max in all, of
 * which *count are done; or the one of that number. Errors: ERR_NOT_FOUND. */
enum err slip_all_returned(struct queue *queue, struct group *group, const struct dead_ask *in,
                           int64_t *count) MUST_USE;
enum err slip_settle_returned(struct queue *queue, struct group *group, const struct dead_ask *in,
                              uint64_t number) MUST_USE;

/* What the relay carries (enum relay_parcel). */
enum err slip_arrive(struct turn *turn, struct bytes data) MUST_USE;
enum err slip_come_back(struct turn *turn, struct bytes data) MUST_USE;

#endif
