/* What clients send and get, and the scripts that carry it out: the entry node's side of the queue. */
#ifndef BELFRY_ACTORS_QUEUE_CLIENT_H
#define BELFRY_ACTORS_QUEUE_CLIENT_H

#include "actors/queue/queue.h"

struct topic_in {
    struct fieldset set;
    struct bytes topic;
};
struct group_in {
    struct fieldset set;
    struct bytes topic, group;
};
struct put_in {
    struct fieldset set;
    struct bytes topic;
    int64_t visibility_ms, max_attempts, retention_ms, max_messages, dedup_window_ms, partitions;
    int overflow;
    bool retain_acked;
    struct bytes publish, consume;
};
struct topic_out {
    struct fieldset set;
    struct bytes name;
    int64_t visibility_ms, max_attempts, retention_ms, max_messages, dedup_window_ms, partitions;
    int overflow;
    bool retain_acked;
    struct bytes publish, consume;
    int64_t created_at, updated_at;
    struct id owner;
    int64_t messages, delayed, bytes, published, duplicates, dropped, groups;
};
struct group_out {
    struct fieldset set;
    struct bytes group;
    int64_t depth, in_flight, waiting, dead_letters, oldest_at, oldest_age_ms;
    int64_t delivered, redelivered, acked, expired, dropped, died;
    int64_t created_at, active_at, paused_until;
};
struct message_in {
    struct fieldset set;
    struct bytes body, key, headers, destinations, dedup_id;
    int encoding;
    int64_t delay_ms, deliver_at, ttl_ms, priority;
};
struct publish_in {
    struct fieldset set;
    struct bytes topic, messages;
};
struct raw_in {
    struct fieldset set;
    struct bytes topic, body, headers, key, dedup_id;
    int64_t delay_ms, deliver_at, ttl_ms, priority;
};
struct ids_out {
    struct fieldset set;
    struct bytes ids;
};
struct receive_in {
    struct fieldset set;
    struct bytes topic, group;
    int64_t max, wait_ms, visibility_ms;
};
struct message_out { /* for the description of the API; answers are written by json.c */
    struct fieldset set;
    struct bytes id, body, key, headers, receipt;
    int encoding;
    int64_t attempt, published_at, priority, expires_at;
};
struct messages_out {
    struct fieldset set;
    struct bytes messages;
};
struct subscribe_in {
    struct fieldset set;
    struct bytes topic, group;
    int64_t credit, visibility_ms;
};
struct settle_in {
    struct fieldset set;
    struct bytes topic, group, receipts, acks;
    int64_t delay_ms, visibility_ms;
};
struct ack_one { /* and how the message goes on */
    struct fieldset set;
    struct bytes receipt, body, headers;
    int encoding;
};
struct results_out {
    struct fieldset set;
    struct bytes results;
};
struct browse_in {
    struct fieldset set;
    struct bytes topic, from;
    int64_t limit;
};
struct message_id_in {
    struct fieldset set;
    struct bytes topic, id;
};
struct dead_in {
    struct fieldset set;
    struct bytes topic, group, cursor;
    int64_t limit;
};
struct redrive_in {
    struct fieldset set;
    struct bytes topic, group, ids;
    int64_t max;
};
struct seek_in {
    struct fieldset set;
    struct bytes topic, group;
    int to;
    int64_t time;
};
struct list_topics {
    struct fieldset set;
    int64_t limit;
    struct bytes cursor;
};
extern const struct field topic_in_fields[], group_in_fields[], put_in_fields[], topic_out_fields[], group_out_fields[],
    message_in_fields[], publish_in_fields[], raw_in_fields[], ids_out_fields[], receive_in_fields[],
    subscribe_in_fields[], message_out_fields[], messages_out_fields[], ack_in_fields[], ack_one_fields[],
    nack_in_fields[], extend_in_fields[], results_out_fields[], browse_in_fields[], message_id_fields[],
    dead_in_fields[], redrive_in_fields[], seek_in_fields[], list_topics_fields[];

/* What a script keeps between its steps. */
struct client {
    struct topic topic;    /* settings, from the home partition */
    unsigned home, shards; /* its partitions are neighbours */
    unsigned shard, first; /* the one at hand, and the one that was begun with */
    bool fresh;            /* the group was found somewhere */
    struct received received;
    int64_t until_ms; /* a receive waits up to then; by s->now_ms */
    unsigned tries;
    bool rung;        /* a receive has waited */
    struct buf items; /* arena memory */
    struct bytes item;
    struct put_topic put;
    struct dead_ask dead;
    struct group_ask ask;
    struct no_input none;
    int64_t count, left;
    struct topic_out out;
    uint64_t at; /* where a list goes on */
};

/* Those of some scripts begin with it. */
struct publish_state {
    struct client client;
    size_t count;
    struct bytes *items; /* of each message: as commands have it */
    unsigned *shards;    /* and where it goes */
    uint64_t *ids;
    unsigned shard; /* the one at hand */
};
struct settle_state {
    struct client client;
    struct receipt *receipts;
    struct ack_one *acks;
    uint8_t *results, *sent; /* of each receipt: enum settle_result; went in the last round */
    const char *ok, *gone;   /* of a facade: the answer to one receipt, as text. NULL: JSON */
    uint8_t *room;           /* for what a round sends */
    size_t room_len;
    size_t len, slips; /* slips: of them, those that go on, and are not settled yet */
};
struct group_list {
    struct client client;
    struct group_out *groups;
    size_t len;
};

extern const struct step put_topic_steps[], get_topic_steps[], delete_topic_steps[], publish_steps[],
    publish_raw_steps[], browse_steps[], message_steps[], groups_steps[], group_steps[], delete_group_steps[],
    receive_steps[], ack_steps[], nack_steps[], extend_steps[], dead_steps[], redrive_steps[], purge_steps[],
    seek_steps[], ring_steps[], subscribe_steps[];
struct id subscribe_watches(const void *in);
enum err list_topics_query(struct look *look, const void *in, struct reply *reply);

/* Is there anything to get in a shard, as far as this replica knows? A group that is not there is to be made. */
enum err client_may_have(struct script *s, unsigned shard, struct bytes topic, struct bytes group, bool *out) MUST_USE;
/* How many messages a subscriber has that are not settled. */
enum err client_flying(struct script *s, unsigned shard, struct bytes topic, struct bytes group, uint64_t consumer,
                       uint64_t *out) MUST_USE;
void queue_metrics(struct look *look, struct buf *out);
/* When the oldest message that the group is not through with became available; 0: there is none. */
enum err group_oldest_at(struct rows *rows, uint64_t tid, uint32_t gid, const struct group_state *group,
                         const struct topic_state *topic, int64_t *out) MUST_USE;

/* The steps every script begins with: the topic's settings are in the client's state, or ERR_NOT_FOUND. */
enum err client_find(struct script *s);
enum err client_find_fresh(struct script *s); /* behind a barrier */
enum err client_found(struct script *s);
/* The partition of one of its shards. */
unsigned client_partition(const struct script *s, unsigned shard);
struct address client_address(const struct script *s, unsigned shard);
unsigned client_some_shard(struct script *s);
void client_settings(struct topic_out *out, const struct topic *topic);
enum err client_may(struct script *s, enum topic_use use);

/* ---- JSON ---- */

/* What a delivery holds, as {"messages": [...]}, or as events. */
enum deliver_form { DELIVER_LIST, DELIVER_EVENTS };
enum err client_deliver(struct script *s, struct rows *rows, const struct received *received, unsigned partition,
                        enum deliver_form form, struct buf *out) MUST_USE;
/* One message that is only looked at: the members, in braces. dead NULL: it is no dead letter. */
void json_message(struct buf *out, unsigned partition, const struct message *message, const struct dead *dead);
/* A message's id: "partition-number", the number that it was published with. */
void message_id_add(struct buf *out, unsigned partition, uint64_t id);
bool message_id_parse(struct bytes text, unsigned *out_partition, uint64_t *out_id);

#endif
