/* What operations are given and what they answer: the caller and the address, a reducer's turn, a query's look, the
 * reply. Pure data; what it is for says kind.h. */
#ifndef BELFRY_ACTORS_TURN_H
#define BELFRY_ACTORS_TURN_H

#include "node/base/digest.h"
#include "node/base/id.h"
#include "node/base/rows.h"
#include "node/codec/field.h"

enum role { ROLE_NONE, ROLE_USER, ROLE_ADMIN };
extern const char *const role_names[]; /* as in tokens and JSON: "", "user", "admin" */

enum method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_PATCH,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_OTHER
};

/* Who asks. account is none for the anonymous and for the operator's local socket. */
struct caller {
    struct id account, session;
    enum role role;
};

/* Where an actor lives. Partition 0 is the system's; 1 to partitions hold data. */
struct address {
    unsigned partition;
    struct bytes key;
};

/* What an operation answers. The body is msgpack by `fields`; a list holds one body an item. */
struct reply {
    uint16_t status;            /* 0: 200, or 204 without a body */
    const struct field *fields; /* NULL: no body, or with a type: */
    const char *type;           /* the body goes out as it is, as this media type; static text */
    struct buf body;
    uint64_t version; /* ETag; 0: none */
    uint64_t index;   /* of a command, set by the node: the log entry that carried it out, also in a kept answer */
    bool list;
    struct id location; /* appended to the route for the Location header; none: no header */
    struct buf cursor;  /* next page of a list */
    struct buf headers; /* further header lines, each ended by CRLF */
    /* ERR_INVALID_FIELDS found by a reducer or query; all static text. */
    const char *pointer, *code, *detail;
    uint8_t record_table; /* the body is this row: lets a replayed answer be read again */
    struct buf record_key;
};

void reply_close(struct reply *reply);
/* The body is this struct. */
void reply_struct(struct reply *reply, const struct field *fields, const void *in);
/* The body is this packed record, which is row (table, key). */
void reply_record(struct reply *reply, const struct field *fields, struct bytes packed, uint64_t version, uint8_t table,
                  struct bytes key);
/* One more item of a list. */
void reply_item(struct reply *reply, const struct field *fields, struct bytes packed);
/* Refuses one field: ERR_INVALID_FIELDS. */
enum err reply_invalid(struct reply *reply, const char *pointer, const char *code, const char *detail);

/* Something the shell does after the commit, on every replica (cache upkeep). */
struct notice {
    uint8_t topic;
    struct bytes payload; /* arena memory of the turn */
};
enum notice_topic {
    NOTICE_NONE,
    NOTICE_REVOKED,
    NOTICE_KEYS,
    NOTICE_TOUCHED /* payload: the ids that were touched, one behind another */
};
enum { NOTICES_MAX = 4 };

/* What a reducer gets. */
struct turn {
    struct rows *rows;
    struct arena *arena;
    unsigned partition, partitions;
    struct bytes key; /* of the actor */
    struct caller caller;
    int64_t now_ms;    /* stamped time */
    uint64_t version;  /* of what is written now: the log index */
    uint64_t if_match; /* 0: no condition */
    uint64_t seed;     /* drawn by the proposer */
    uint64_t sequence; /* commands of this partition with the same stamp before this one */
    unsigned ids, sends;
    struct buf touched; /* ids; freed with the turn */
    struct notice notices[NOTICES_MAX];
    size_t notices_len;
};
/* A new id of this partition; the same on every replica. */
struct id turn_new_id(struct turn *turn);
void turn_notify(struct turn *turn, enum notice_topic topic, struct bytes payload);
/* Something grew that is waited for, an account's event log or a topic: after the commit whoever watches this id is
 * rung, on every replica (NOTICE_TOUCHED). */
void turn_touch(struct turn *turn, struct id id);
/* ERR_PRECONDITION_FAILED when If-Match was sent and names another version. */
enum err turn_check_version(const struct turn *turn, uint64_t version) MUST_USE;

/* What a query gets. */
struct look {
    struct arena *arena;
    struct caller caller;
    int64_t now_ms;
    unsigned partitions; /* data partitions: 1 to partitions */
    struct rows *(*rows)(struct look *look, unsigned partition);
};

#endif
