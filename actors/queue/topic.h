/* A topic: its settings, its numbers, and the keys of all that belongs to it. queue.md describes the tables. */
#ifndef BELFRY_ACTORS_QUEUE_TOPIC_H
#define BELFRY_ACTORS_QUEUE_TOPIC_H

#include "actors/kind.h"
#include "actors/queue/message.h"

/* Settings: TABLE_TOPIC, key = name. */
struct topic {
    struct fieldset set;
    struct bytes name;
    int64_t visibility_ms;
    int64_t max_attempts; /* 0: no limit */
    int64_t retention_ms;
    int64_t max_messages;
    int overflow; /* enum overflow */
    int64_t dedup_window_ms;
    bool retain_acked;
    int64_t partitions;
    struct bytes publish, consume; /* usernames, as packed strings; "*": every account */
    int64_t created_at, updated_at;
    /* Not shown. */
    struct id owner;                       /* none: only administrators manage it */
    struct bytes publish_ids, consume_ids; /* accounts, one behind another */
    bool publish_all, consume_all;
    int64_t tid;
};
extern const struct field topic_fields[];
enum overflow { OVERFLOW_REJECT, OVERFLOW_DROP_OLDEST };
extern const char *const topic_overflows[];
enum topic_use { USE_PUBLISH, USE_CONSUME, USE_MANAGE };
bool topic_allows(const struct topic *topic, const struct caller *caller, enum topic_use use);
/* Letters, digits and -+/;.$_()  up to LIMIT_TOPIC_BYTES, as beanstalkd has them. */
bool topic_name_is_good(struct bytes name);
struct address topic_address(struct bytes name, unsigned partitions);
/* What commands that change what consumers may get touch, for those who wait. */
struct id topic_watch_id(struct bytes name);

/* Numbers: TABLE_QUEUE, key = tid | 's', the name behind them. */
struct topic_state {
    uint64_t next;      /* number of the next message; rises for ever */
    uint64_t first;     /* no kept message has a smaller number */
    uint64_t available; /* messages that became available, ever */
    uint64_t retained, delayed, bytes;
    uint64_t apart, lanes; /* kept messages with MESSAGE_APART, and how many priorities they have */
    uint64_t published, duplicates, slips, dropped; /* ever; slips: those with destinations */
    uint64_t holes;    /* messages with smaller numbers were erased out of their turn; 0: none */
    int64_t retain_at; /* when the oldest is looked at; 0: nothing is kept */
    int64_t dedup_at;  /* when the oldest dedup_id is looked at; 0: there is none */
    uint64_t dedups;
    uint32_t groups, next_gid;
    uint64_t ordinal; /* of the topic in its partition, never given twice: job.h */
};

/* ---- keys ---- */

struct queue_key {
    uint8_t b[288];
    size_t len;
};
enum queue_row { /* in TABLE_QUEUE, behind the tid */
                 ROW_STATE = 's',
                 ROW_LANE = 'l',       /* priority, number */
                 ROW_KEYED = 'k',      /* key hash, number: the messages of a key */
                 ROW_DELAYED = 'd',    /* id -> the message */
                 ROW_MOVED = 'm',      /* id -> number, where they differ */
                 ROW_DEDUP = 'u',      /* digest -> time, id */
                 ROW_DEDUP_TIME = 't', /* time, digest */
                 ROW_GROUP_NAME = 'g', /* name -> gid */
                 /* Of no topic: behind tid 0. */
                 ROW_ORDINAL = 'o', /* ordinal -> tid */
                 ROW_ORDINALS = 'z' /* the last one that was given */
};
enum group_row { /* in TABLE_GROUP, behind tid and gid */
                 ROW_GROUP = 'a',
                 ROW_DEAD = 'd', /* number */
                 ROW_RETURNED =
                     'e', /* number of what it was: a dead letter that came back from its next topic, itself (slip.h) */
                 ROW_HOLD = 'h',     /* key hash -> number of the message that later ones wait for */
                 ROW_LANE_AT = 'l',  /* priority -> number of the last one taken from there */
                 ROW_PENDING = 'p',  /* number */
                 ROW_PARKED = 'q',   /* key hash, number */
                 ROW_BURIED = 'b',   /* order, number: dead letters that were buried, in the order of that */
                 ROW_PAST = 'j',     /* number -> what happened to it, of a tube's job */
                 ROW_READY = 'r',    /* priority, number */
                 ROW_DELIVERY = 'v', /* smallest number, delivery */
                 ROW_CONSUMER = 'c'
};
struct queue_key queue_key(uint64_t tid, enum queue_row row);
struct queue_key group_key(uint64_t tid, uint32_t gid, enum group_row row);
struct queue_key message_key(uint64_t tid, uint64_t number);
void key_u32(struct queue_key *key, uint32_t value);
void key_u64_add(struct queue_key *key, uint64_t value);
void key_bytes_add(struct queue_key *key, struct bytes bytes);
static inline struct bytes key_of(const struct queue_key *key)
{
    return bytes_of(key->b, key->len);
}
uint32_t key_read_u32(const uint8_t *at);
uint64_t key_read_u64(const uint8_t *at);
/* The first row at or after the key that begins with its first prefix_len bytes; ERR_NOT_FOUND. */
enum err queue_ceil(struct rows *rows, uint8_t table, const struct queue_key *from, size_t prefix_len,
                    struct bytes *out_key, struct bytes *out_value) MUST_USE;

/* ---- times: TABLE_QUEUE_TIME, key = time | type | tid | rest ---- */

enum queue_time { TIME_SWEEP = 1, TIME_LEASE, TIME_WAIT, TIME_DELAYED, TIME_RETAIN, TIME_RESUME, TIME_DEDUP };
struct queue_key time_key(int64_t at, enum queue_time type, uint64_t tid);

/* ROW_DEDUP */
struct dedup_row {
    int64_t at;
    uint64_t id;
};

/* ---- ordinals ---- */

/* Gives the topic the next one. */
enum err ordinal_give(struct rows *rows, uint64_t tid, uint64_t *out) MUST_USE;
/* That topic has it: after damage. */
enum err ordinal_put(struct rows *rows, uint64_t ordinal, uint64_t tid) MUST_USE;
/* Errors: ERR_NOT_FOUND. */
enum err ordinal_find(struct rows *rows, uint64_t ordinal, uint64_t *out_tid) MUST_USE;
enum err ordinal_forget(struct rows *rows, uint64_t ordinal) MUST_USE;

/* ---- loading ---- */

/* States of topics and groups as rows: how long the struct was when it was written, the struct, and a name; so that
 * members can be added at its end. */
void state_row_add(struct buf *row, const void *state, size_t size, struct bytes name);
/* Members that the row does not have are zero. False: it is none. */
bool state_row_read(struct bytes row, void *out, size_t size, struct bytes *out_name) MUST_USE;

enum err topic_find(struct rows *rows, struct bytes name, struct topic *out) MUST_USE;
/* The name points into the row. */
enum err topic_state_find(struct rows *rows, uint64_t tid, struct topic_state *out, struct bytes *out_name) MUST_USE;
enum err topic_state_put(struct rows *rows, uint64_t tid, const struct topic_state *state, struct bytes name) MUST_USE;

#endif
