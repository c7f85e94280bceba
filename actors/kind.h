/* What a kind of actor is made of. A kind is a table of operations over rows; it never waits, reads
 * no clock, draws no random numbers and sees no socket: time, ids and chance come in with the turn,
 * everything that takes time is asked of the script's services.
 *
 *   command  changes state. Its reducer runs on every replica, in log order, inside the state's
 *            transaction: it must give the same result everywhere. It checks first and writes
 *            after; once it has written it can only fail as the storage fails.
 *   query    reads one partition, or all of them, in a snapshot that is fresh.
 *   script   a table of steps run on the entry node: each step asks for one thing (a read, a
 *            command, a password hash) and the next one runs when it is there.
 *   stream   begins like a query, then gives what is new after each commit that concerns it.
 *
 * A shipped operation keeps its tag and its behaviour for ever: logs are replayed. */
#ifndef BELFRY_ACTORS_KIND_H
#define BELFRY_ACTORS_KIND_H

#include "actors/tables.h"
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
    NOTICE_EVENTS /* payload: the ids of the accounts whose event logs grew, one behind another */
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
    struct buf touched; /* accounts whose event logs grew; freed with the turn */
    struct notice notices[NOTICES_MAX];
    size_t notices_len;
};
/* A new id of this partition; the same on every replica. */
struct id turn_new_id(struct turn *turn);
void turn_notify(struct turn *turn, enum notice_topic topic, struct bytes payload);
/* The account's event log grew: NOTICE_EVENTS. */
void turn_touch(struct turn *turn, struct id account);
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

/* A password to hash or to compare; runs on the compute pool (Argon2id, PHC string). */
enum { PHC_BYTES = 128 };
struct password_job {
    struct bytes password;
    char phc[PHC_BYTES]; /* hash: out; verify: in */
    bool matches;        /* verify: out */
    bool rehash;         /* verify: out; the parameters have risen since */
};

struct step;
struct foreign_claims; /* actors/facades/facade.h */

/* A composite operation under way. */
struct script {
    struct arena *arena;
    struct caller caller;
    int64_t now_ms;
    unsigned partitions;
    const void *in;
    void *state;         /* op->state_size bytes, zeroed */
    struct bytes remote; /* client address, for limits and the audit */
    /* What the step before asked for. */
    enum err err;        /* OK, unless this step catches */
    struct reply answer; /* of a command */
    struct reply *reply; /* the operation's answer */
    const struct script_services *services;
    /* Set by the functions below. */
    const struct step *steps;
    unsigned next;
    bool done;
};

enum { SCRIPT_ALL_PARTITIONS = UINT16_MAX }; /* of data; script_read takes it for a partition */

struct script_services {
    struct rows *(*rows)(struct script *script, unsigned partition);
    void (*read)(struct script *script, unsigned partition);
    void (*command)(struct script *script, uint8_t kind, uint8_t op, struct address address, const void *in, bool main);
    void (*password)(struct script *script, struct password_job *job, bool verify);
    void (*random)(struct script *script, void *to, size_t len);
    enum err (*sign)(struct script *script, struct id account, struct id session, enum role role, struct buf *out);
    void (*audit)(struct script *script, const char *action, struct bytes user, struct bytes detail);
    int64_t access_token_s;
    /* A facade's token of this account carries this time or a later one: what is revoked afterwards ends it. */
    int64_t (*stamp)(struct script *script, struct id account);
    enum err (*sign_foreign)(struct script *script, const struct foreign_claims *claims, struct buf *out);
};

/* Before the next step: this partition's state here is fresh. */
static inline void script_read(struct script *s, unsigned partition)
{
    s->services->read(s, partition);
}
/* The partition's rows, in the step right after script_read. */
static inline struct rows *script_rows(struct script *s, unsigned partition)
{
    return s->services->rows(s, partition);
}
/* Before the next step: the command is applied, its reply in s->answer. main: the one that the
 * client's Idempotency-Key and If-Match speak of. `in` must live as long as the script. */
static inline void script_command(struct script *s, uint8_t kind, uint8_t op, struct address address, const void *in,
                                  bool main)
{
    s->services->command(s, kind, op, address, in, main);
}
static inline void script_goto(struct script *s, unsigned step)
{
    s->next = step;
}
/* The rest of the operation is this table's, from its first row. */
static inline void script_chain(struct script *s, const struct step *steps)
{
    s->steps = steps;
    s->next = 0;
}
static inline enum err script_done(struct script *s)
{
    s->done = true;
    return OK;
}

struct step {
    const char *name; /* NULL ends the table */
    enum err (*run)(struct script *script);
    bool catches; /* runs also when what was awaited failed; s->err says how */
};

enum op_type { OP_COMMAND, OP_QUERY, OP_SCRIPT, OP_STREAM };
enum op_flags {
    OP_ALL_PARTITIONS = 1, /* a query that reads every data partition */
    OP_SECRET = 2,         /* the answer carries tokens: never kept for replay, never cached */
    OP_MERGE_PATCH = 4,    /* also takes application/merge-patch+json */
    OP_FREES = 8           /* gives space back: admitted also when the state is full */
};

struct op {
    uint8_t tag; /* never reused; 0 ends the table */
    uint8_t type, flags, role;
    uint16_t success; /* HTTP status; 0: 200 */
    const char *name;
    enum method method;
    const char *path; /* NULL: internal */
    const char *summary;
    const struct field *in; /* path parameters, FIELD_QUERY parameters and body members */
    size_t in_size;
    const struct field *out;
    size_t state_size; /* script */
    /* Which actor: for commands from scripts the script says so itself. */
    enum err (*address)(const struct caller *caller, const void *in, struct arena *arena, unsigned partitions,
                        struct address *out);
    enum err (*reduce)(struct turn *turn, const void *in, struct reply *reply);
    enum err (*query)(struct look *look, const void *in, struct reply *reply);
    const struct step *steps;
    /* OP_STREAM: appends Server-Sent Events behind the cursor, about room bytes at most, and moves it; nothing
     * appended: nothing is new. The first call has *cursor == STREAM_BEGIN. Asked again after each commit with a
     * NOTICE_EVENTS for the caller's account. */
    enum err (*stream)(struct look *look, const void *in, uint64_t *cursor, size_t room, struct buf *out);
};
#define STREAM_BEGIN UINT64_MAX

struct table {
    uint8_t id; /* over all kinds, never reused; 0 ends the list */
    const char *name;
    bool record; /* counted in belfry_records */
};

struct kind {
    uint8_t id;
    const char *name;
    const struct table *tables;
    const struct op *ops;
    /* Erases up to limit rows that this kind holds about an account in the turn's partition. */
    enum err (*forget)(struct turn *turn, struct id account, unsigned limit, unsigned *out_erased);
    /* Housekeeping: names work left by dead nodes; see auth. NULL: none. */
    const struct chore *chores;
    /* What is to be done at a time, or as soon as there is any of it. NULL: none. */
    const struct alarm *alarms;
    /* The invariants of a partition's rows; tests run it after every command. */
    enum err (*check)(struct rows *rows, struct arena *arena);
    /* Rows of the partition were lost to damage: makes the rest fit together again, so that check holds
     * and no reducer meets half of something. `belfry recover` calls it. NULL: any rows fit. */
    enum err (*mend)(struct rows *rows);
};

/* Work that must be taken up again when whoever began it died: looked for on the partition's
 * leader every few seconds, and done by a script of the kind. */
struct chore {
    const char *name; /* NULL ends the table */
    uint8_t op;       /* an internal OP_SCRIPT of the kind */
    /* Finds one overdue item and fills the script's input (op->in_size bytes); false: nothing. */
    bool (*find)(struct rows *rows, int64_t now_ms, struct arena *arena, void *in);
};

/* Work that has a time: a script of the kind, run on the partition's leader when the time has come, one at a time in a
 * partition. It looks for itself what is due. After each change of the partition the time is asked again. */
struct alarm {
    const char *name;                  /* NULL ends the table */
    uint8_t op;                        /* an internal OP_SCRIPT of the kind; its input is struct alarm_in */
    int64_t (*due)(struct rows *rows); /* milliseconds since 1970; INT64_MAX: nothing is to be done */
};
struct alarm_in {
    unsigned partition;
};

enum kind_id { KIND_SYSTEM = 1, KIND_AUTH = 2, KIND_REMINDERS = 3, KIND_EVENTS = 4 };
extern const struct kind *const kinds[]; /* NULL-terminated */
const struct kind *kind_find(uint8_t id);
const struct op *kind_op(const struct kind *kind, uint8_t tag);

/* The data partition that holds a name: by its hash, the same on every machine. */
unsigned partition_of_name(struct bytes name, unsigned partitions);
/* Checks that an id can be one of ours: its partition exists. */
bool id_is_placed(struct id id, unsigned partitions);
/* Big-endian 64 bits, for keys that sort by number. */
void key_add_u64(struct buf *key, uint64_t value);
uint64_t key_u64(struct bytes key);

#endif
