/* What happened to a tube's job, as `stats-job` of the beanstalkd facade tells: a row of its own, only for messages
 * with a lease of their own, and only as soon as anything but deliveries happened. It goes with its message. */
#ifndef BELFRY_ACTORS_QUEUE_PAST_H
#define BELFRY_ACTORS_QUEUE_PAST_H

#include "actors/queue/topic.h"

struct queue;
struct group;

enum past_event {
    PAST_NOTHING,
    PAST_TIMEOUT,
    PAST_RELEASE,
    PAST_BURY,
    PAST_KICK,
    PAST_HURRY, /* kicked while it was delayed */
    PAST_CUT    /* reserved while it was */
};

struct past { /* ROW_PAST */
    uint32_t timeouts, releases, buries, kicks;
    uint32_t delay_s;  /* of the last release, or that was cut short */
    uint32_t reserves; /* deliveries before it was kicked */
};

/* much: of RELEASE, HURRY and CUT the delay in milliseconds, of KICK the attempts that are forgotten. */
enum err past_note(struct queue *queue, const struct group *group, uint64_t number, const struct message *message,
                   enum past_event event, int64_t much) MUST_USE;
/* All zero: nothing happened. */
enum err past_find(struct rows *rows, uint64_t tid, uint32_t gid, uint64_t number, struct past *out) MUST_USE;
/* In all groups that are open. */
enum err past_forget(struct queue *queue, uint64_t number) MUST_USE;

#endif
