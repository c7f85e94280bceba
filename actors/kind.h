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
#include "actors/script.h"
#include "actors/tables.h"

enum op_type { OP_COMMAND, OP_QUERY, OP_SCRIPT, OP_STREAM };
enum op_flags {
    OP_ALL_PARTITIONS = 1, /* a query that reads every data partition */
    OP_SECRET = 2,         /* the answer carries tokens: never kept for replay, never cached */
    OP_MERGE_PATCH = 4,    /* also takes application/merge-patch+json */
    OP_FREES = 8, /* gives space back, or is needed for that: admitted also when the disk or the state is full */
    OP_RAW = 16   /* the body is bytes of any type, see struct op.in */
};

struct op {
    uint8_t tag; /* never reused; 0 ends the table */
    uint8_t type, flags, role;
    uint16_t success; /* HTTP status; 0: 200 */
    const char *name;
    enum method method;
    const char *path; /* NULL: internal */
    const char *summary;
    /* Path parameters, FIELD_QUERY parameters and body members. OP_RAW: the body is the TYPE_BYTES field `body`, which
     * always has a value; what else there is comes from FIELD_HEADER fields, and where the table has them from the
     * fields `content_type` (a string: Content-Type) and `headers` (a map: those named Belfry-Header-NAME). */
    const struct field *in;
    size_t in_size;
    const struct field *out;
    size_t state_size; /* script */
    /* Which actor: for commands from scripts the script says so itself. */
    enum err (*address)(const struct caller *caller, const void *in, struct arena *arena, unsigned partitions,
                        struct address *out);
    enum err (*reduce)(struct turn *turn, const void *in, struct reply *reply);
    enum err (*query)(struct look *look, const void *in, struct reply *reply);
    const struct step *steps;
    /* OP_STREAM with steps: they give its next events, as an answer of text/event-stream, and are run again whenever
     * this id was touched, and once more after they gave any; an empty answer waits. */
    struct id (*watches)(const void *in);
    /* OP_STREAM without: appends Server-Sent Events behind the cursor, about room bytes at most, and moves it; nothing
     * appended: nothing is new. The first call has *cursor == STREAM_BEGIN. Asked again after each commit with a
     * turn_touch of the caller's account. */
    enum err (*stream)(struct look *look, const void *in, uint64_t *cursor, size_t room, struct buf *out);
    uint32_t body_max; /* bytes, LIMIT_BODY_BYTES_MIN to LIMIT_BODY_BYTES_MAX: 413; 0: LIMIT_BODY_BYTES */
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
    /* Appends lines for /metrics (Prometheus' text format) about what this replica holds. NULL: none. */
    void (*metrics)(struct look *look, struct buf *out);
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
    /* Nobody else had anything applied here for a second, or it is very late: 0, and whatever is to be done may be done
     * at once. Else how many alarms are at work on this node, who are to leave time to others between them. */
    unsigned others;
    /* The script sets it when it knows that more is due already: it is run again at the next tick, and the time is not
     * asked, which waits for what was done to be readable. Else untouched. */
    bool *more;
};

enum kind_id { KIND_SYSTEM = 1, KIND_AUTH = 2, KIND_REMINDERS = 3, KIND_EVENTS = 4, KIND_QUEUE = 5 };
extern const struct kind *const kinds[]; /* NULL-terminated */
const struct kind *kind_find(uint8_t id);
const struct op *kind_op(const struct kind *kind, uint8_t tag);

/* Erases all rows of a table; for mending. */
enum err table_erase(struct rows *rows, uint8_t table) MUST_USE;
/* The data partition that holds a name: by its hash, the same on every machine. */
unsigned partition_of_name(struct bytes name, unsigned partitions);
/* struct op.address: the actor is the caller's account. Errors: ERR_UNAUTHORIZED, for the operator has none. */
enum err own_address(const struct caller *caller, const void *in, struct arena *arena, unsigned partitions,
                     struct address *out);
/* Checks that an id can be one of ours: its partition exists. */
bool id_is_placed(struct id id, unsigned partitions);
/* Big-endian 64 bits, for keys that sort by number. */
void key_put_u64(uint8_t to[8], uint64_t value);
void key_add_u64(struct buf *key, uint64_t value);
uint64_t key_u64(struct bytes key);

#endif