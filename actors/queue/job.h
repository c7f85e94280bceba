/* Jobs: messages that are called by a number, as beanstalkd's clients do (actors/facades/beanstalkd.md). A job's id is
 * one integer for partition, topic and message, so that nobody needs to know its tube. */
#ifndef BELFRY_ACTORS_QUEUE_JOB_H
#define BELFRY_ACTORS_QUEUE_JOB_H

#include "actors/queue/queue.h"

/* The ordinal is that of the topic in its partition (topic.h), the message that of the publisher's answer. */
struct job_name {
    unsigned partition;
    uint64_t ordinal, message;
};
/* A tube's ids rise; ordinals take as many bits as they have, so that ids stay small. 0: there is no room left. */
uint64_t job_id(struct job_name name, unsigned partitions);
/* False: it is none of ours. */
bool job_id_parse(uint64_t id, unsigned partitions, struct job_name *out) MUST_USE;

/* Where a job is in a group. */
enum job_place {
    JOB_UNTAKEN,
    JOB_READY,
    JOB_PARKED,
    JOB_WAITING,
    JOB_DEAD,
    JOB_DELAYED,
    JOB_AWAY /* reserved, or done */
};
struct job_found {
    enum job_place place;
    uint64_t number; /* 0: delayed */
    struct pending pending;
    struct dead dead;
    uint32_t lease_s;
    struct message message; /* borrows the row */
};
/* group NULL: there is none yet, so nothing is taken. Errors: ERR_NOT_FOUND. */
enum err job_find(struct queue *queue, struct group *group, uint64_t message, struct job_found *out) MUST_USE;

/* Those that have a delay, the soonest first; of very many, among the first JOB_LOOKS that were put and as many that
 * were released. Arena memory. */
enum { JOB_LOOKS = 1000 };
struct job_delayed {
    uint64_t number; /* released; 0: put */
    uint64_t message;
    int64_t until, delay_ms;
};
enum err job_all_delayed(struct queue *queue, struct group *group, struct job_delayed **out, size_t *out_len) MUST_USE;
/* The dead letter that is kicked first. Errors: ERR_NOT_FOUND. */
enum err job_first_dead(struct queue *queue, const struct group *group, uint64_t *out) MUST_USE;

/* DO_JOB. DELETE, KICK and RESERVE are about one job: count is 0 where it is not there, or not as it must be for that.
 * KICK_SOME: dead letters, or, if there are none, delayed ones, `max` at most. */
enum job_verb { JOB_DELETE = 1, JOB_KICK, JOB_KICK_SOME, JOB_RESERVE };
struct job_ask {
    struct fieldset set;
    struct bytes group;
    int64_t verb, message, max;
};
struct job_done {
    struct fieldset set;
    int64_t count;
    bool more;                 /* ask again: it was more than one command may do */
    int64_t smallest, id, gid; /* RESERVE: the delivery */
};
extern const struct field job_ask_fields[], job_done_fields[];
enum err job_reduce(struct turn *turn, const void *in, struct reply *reply);

#endif
