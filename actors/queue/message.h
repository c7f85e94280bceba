/* A message as it stands in the state and in commands: a fixed head, then the key, the headers (a packed map), the
 * destinations and the body. Numbers are in native order. */
#ifndef BELFRY_ACTORS_QUEUE_MESSAGE_H
#define BELFRY_ACTORS_QUEUE_MESSAGE_H

#include "node/base/arena.h"
#include "node/base/err.h"

enum { PRIORITY_USUAL = 1024 }; /* as in beanstalkd, a smaller one is more urgent */
enum message_flags {
    MESSAGE_APART = 1, /* delivered out of its place: it has another priority, or was delayed */
    MESSAGE_BASE64 = 2 /* the publisher gave the body in base64, or raw */
};

struct message {
    uint8_t flags;
    uint32_t priority;
    int64_t published_at, available_at; /* stamped time */
    int64_t expires_at;                 /* 0: never. In a command: how long it lives */
    uint32_t lease_s;                   /* of a tube's job: how long a delivery holds it; 0: as the topic says */
    uint64_t id;                        /* what clients call it; its number, unless it was delayed */
    uint64_t key_hash;                  /* 0: no key */
    uint64_t ordinal;                   /* as many became available before it */
    struct bytes key, headers, destinations, body;
};

enum { MESSAGE_HEAD_BYTES = 72 };
void message_add(struct buf *out, const struct message *message);
/* Parts point into the row. Errors: ERR_CORRUPT. */
enum err message_read(struct bytes row, struct message *out) MUST_USE;
uint64_t message_key_hash(struct bytes key);

/* What a publisher asks for with each message: commands hold such heads, each with its message behind it. */
struct publish_head {
    uint32_t len; /* of the message */
    uint32_t has_dedup;
    int64_t delay_ms, deliver_at; /* 0: at once */
    uint8_t dedup[16];            /* digest of the dedup_id */
};
void publish_add(struct buf *out, struct publish_head head, const struct message *message);
/* The first of the messages, which begin behind it afterwards; false at the end. */
bool publish_next(struct bytes *rest, struct publish_head *out_head, struct bytes *out_row) MUST_USE;
/* Of a command: everything is whole. */
bool publish_check(struct bytes all) MUST_USE;

#endif
