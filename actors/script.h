/* A composite operation: a table of steps on the entry node, each of which asks for one thing and is followed by the
 * next one when that is there (kind.h). */
#ifndef BELFRY_ACTORS_SCRIPT_H
#define BELFRY_ACTORS_SCRIPT_H

#include "actors/turn.h"

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
    struct reply answer; /* of a command; answer.index is the log entry that carried it out */
    bool rung;           /* script_wait: a watched id was touched; else the time was over */
    bool draining;       /* the node stops, or the client is gone: nothing is to be waited for any more */
    struct reply *reply; /* the operation's answer */
    const struct script_services *services;
    uint64_t stream; /* of an OP_STREAM with steps: which one; 0: it is not open yet, and gets an empty answer */
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
    enum err (*sign)(struct script *script, struct id account, struct id session, enum role role, int64_t stamp_ms,
                     struct buf *out);
    void (*audit)(struct script *script, const char *action, struct bytes user, struct bytes detail);
    int64_t access_token_s;
    /* A token of this account carries this time: what is revoked afterwards ends it. */
    int64_t (*stamp)(struct script *script, struct id account);
    enum err (*sign_foreign)(struct script *script, const struct foreign_claims *claims, struct buf *out);
    void (*watch)(struct script *script, struct id id);
    void (*wait)(struct script *script, int64_t wait_ms);
    void (*applied)(struct script *script, unsigned partition, uint64_t index);
    void (*join)(struct script *script, uint8_t kind, uint8_t op, struct address address, struct bytes item);
    void (*asked)(struct script *script, struct id id, bool got);
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
/* The command is applied as with script_command, in one log entry together with what others ask of the same actor and
 * operation at about the same time; `in` of its reducer is struct joined (actors/join.h). The part of the answer that
 * is this script's comes in s->err and s->answer.body. The item must live as long as the script. Errors, too:
 * ERR_OVERLOADED when too many wait, ERR_TOO_LARGE for an item beyond LIMIT_JOINED_ITEM_BYTES. */
static inline void script_join(struct script *s, uint8_t kind, uint8_t op, struct address address, struct bytes item)
{
    s->services->join(s, kind, op, address, item);
}
/* From now on, until the script ends, it hears when this id is touched (turn_touch); also of what was committed since
 * the step began. LIMIT_WATCHES ids at most. Who looks for what it waits for looks after this: in the same step what
 * rows show may be older, but then the next wait is over at once. */
static inline void script_watch(struct script *s, struct id id)
{
    s->services->watch(s, id);
}
/* Before the next step: a watched id was touched since script_watch or since the last wait was over (s->rung; now and
 * then for another id's sake, so look), or that time is over, or s->draining: then the script answers what it has, a
 * further wait ends it with ERR_SHUTTING_DOWN. */
static inline void script_wait(struct script *s, int64_t wait_ms)
{
    s->services->wait(s, wait_ms);
}
/* Before the next step: the rows here show what that entry of the partition's log did (reply.index). It says nothing of
 * later entries: script_read does. Errors: ERR_NO_QUORUM. */
static inline void script_applied(struct script *s, unsigned partition, uint64_t index)
{
    s->services->applied(s, partition, index);
}
/* Rung for this id, it asked for what was there, and got it, or somebody else had: who asks in vain is rung later the
 * next time (node/watch.h). */
static inline void script_asked(struct script *s, struct id id, bool got)
{
    s->services->asked(s, id, got);
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

#endif
