/* What the scripts of beanstalkd's commands share (beanstalkd.h). */
#ifndef BELFRY_ACTORS_FACADES_BEANSTALKD_SCRIPT_H
#define BELFRY_ACTORS_FACADES_BEANSTALKD_SCRIPT_H

#include "actors/facades/beanstalkd.h"
#include "actors/queue/client.h"
#include "actors/queue/job.h"

extern const char tube_group[]; /* the group that tubes have */

struct held_job {
    uint64_t id;
    struct receipt receipt;
    struct tube_name tube;
    int64_t ttr_ms, until_ms; /* wall clock */
};

/* When the first of the held jobs is taken from the connection; those whose time is over are held no more. INT64_MAX:
 * it holds none. */
int64_t tube_first_deadline(struct tube_session *session, int64_t now_ms);
struct held_job *tube_held(struct tube_session *session, uint64_t id, int64_t now_ms);
/* In place of what was held under that id. */
void tube_hold(struct tube_session *session, const struct held_job *job);
void tube_unhold(struct tube_session *session, struct held_job *job);

struct tube_state {
    struct client client;
    uint64_t ordinal; /* of the topic in the partition at hand */
    struct held_job *job;
    uint8_t *tried; /* reserve: watched tubes that had nothing in this round */
    size_t best;    /* which of them is asked */
    size_t reads;   /* of them, whose partitions were read anew */
    bool fresh, rung, wide;
    struct job_name name;
    struct job_ask ask;
    uint64_t kicked;
};
extern const struct step tube_put_steps[], tube_reserve_steps[], tube_settle_steps[], tube_job_steps[],
    tube_kick_steps[], tube_pause_steps[], tube_return_steps[], tube_peek_steps[], tube_peek_tube_steps[],
    tube_stats_steps[], tube_stats_job_steps[], tube_stats_tube_steps[], tube_list_steps[];
/* Settings of a topic that a tube makes. */
void tube_settings(struct script *s, struct bytes name, struct put_topic *out);
const struct tube_in *tube_input(const struct script *s);
/* The topic that the client's functions are about. */
void tube_set_topic(struct script *s, struct bytes name);
/* A delivery of one job of that topic: it is the connection's, and the answer. Errors: ERR_NOT_FOUND: its time is over
 * already. */
enum err tube_deliver(struct script *s, unsigned partition, const struct received *received) MUST_USE;
/* Answers with that. */
enum err tube_say(struct script *s, const char *text);
/* "WORD id bytes", and the body. */
enum err tube_say_job(struct script *s, const char *word, uint64_t id, struct bytes body);
/* The tube of a job, as the partition's rows here have it; the name in arena memory. Errors: ERR_NOT_FOUND. */
enum err tube_of_job(struct script *s, const struct job_name *job, struct bytes *out_name, struct topic *out) MUST_USE;
/* The topic and its group in one of its partitions, as they are here; a group that is not there yet is as it would be
 * made. Errors: ERR_NOT_FOUND, also for a topic that its owner keeps for others. */
struct tube_shard {
    struct rows *rows;
    unsigned partition;
    uint64_t tid;
    struct topic topic;
    struct topic_state state;
    struct turn turn;
    struct queue queue; /* for what only looks */
    struct group group;
};
enum err tube_shard_open(struct script *s, struct bytes name, unsigned shard, struct tube_shard *out) MUST_USE;

#endif
