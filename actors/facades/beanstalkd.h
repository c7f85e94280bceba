/* The text protocol of beanstalkd 1.12 (its doc/protocol.txt) over topics: a tube is a topic with one group. Bytes in,
 * commands out; each command is a script over the queue, or is answered at once. No sockets: node/tubes.c has them.
 * beanstalkd.md says what differs. */
#ifndef BELFRY_ACTORS_FACADES_BEANSTALKD_H
#define BELFRY_ACTORS_FACADES_BEANSTALKD_H

#include "actors/facades/facade.h"
#include "node/limits.h"

/* ---- commands ---- */

enum tube_verb {
    TUBE_PUT,
    TUBE_USE,
    TUBE_RESERVE,
    TUBE_RESERVE_TIMED,
    TUBE_RESERVE_JOB,
    TUBE_DELETE,
    TUBE_RELEASE,
    TUBE_BURY,
    TUBE_TOUCH,
    TUBE_WATCH,
    TUBE_IGNORE,
    TUBE_PEEK,
    TUBE_PEEK_READY,
    TUBE_PEEK_DELAYED,
    TUBE_PEEK_BURIED,
    TUBE_KICK,
    TUBE_KICK_JOB,
    TUBE_STATS,
    TUBE_STATS_JOB,
    TUBE_STATS_TUBE,
    TUBE_LIST,
    TUBE_LIST_USED,
    TUBE_LIST_WATCHED,
    TUBE_PAUSE,
    TUBE_QUIT,
    TUBE_VERBS
};
extern const char *const tube_verb_names[TUBE_VERBS];

struct tube_command {
    enum tube_verb verb;
    uint64_t id;
    uint32_t priority, delay_s, ttr_s, bound, timeout_s;
    struct bytes tube, body; /* in a script's input, the body is good in its first step alone */
};

/* What the front of the bytes is. */
enum tube_parse {
    TUBE_MORE,    /* a command that is not whole; *out_used is 0 */
    TUBE_SKIP,    /* *out_used bytes that belong to a command that was refused */
    TUBE_COMMAND, /* *out_used bytes are a command */
    TUBE_REFUSED  /* and here it ends: session->refusal is its answer */
};

/* ---- a connection ---- */

struct tube_name {
    uint8_t len;
    char text[LIMIT_TOPIC_BYTES];
};
static inline struct bytes tube_text(const struct tube_name *name)
{
    return bytes_of(name->text, name->len);
}

struct held_job; /* one that the connection has reserved */
struct tube_session {
    struct tube_name used;
    struct tube_name *watched;
    size_t watched_len, watched_cap;
    struct held_job *held;
    size_t held_len, held_cap;
    /* A command that is refused before it has come whole. */
    uint64_t skip;       /* so many bytes of it are to come */
    bool skip_line;      /* all up to the end of the line is */
    const char *refusal; /* NULL: none is under way */
};
/* Uses and watches "default". */
void tube_session_init(struct tube_session *session);
void tube_session_close(struct tube_session *session);
/* The parts of *out point into the bytes. */
enum tube_parse tube_parse(struct tube_session *session, struct bytes in, struct tube_command *out, size_t *out_used);
/* Commands about the connection alone: appends the answer. False: it is another one, tube_op says how it is done. */
bool tube_local(struct tube_session *session, const struct tube_command *command, struct buf *out);

/* ---- what the node knows of its connections ---- */

struct tube_users {
    uint64_t using, watching, waiting;
};
struct tube_totals {
    uint64_t commands[TUBE_VERBS];
    uint64_t connections, producers, workers, waiting, total_connections;
    int64_t uptime_s;
    int pid;
    bool draining;
    double user_s, system_s;
    const char *name; /* of the node */
};
struct tube_host {
    /* False: no connection here has to do with that tube. */
    bool (*users)(const struct tube_host *host, struct bytes tube, struct tube_users *out);
    /* Tubes that connections here have to do with, LIMIT_TUBES_LISTED at most; arena memory. */
    size_t (*tubes)(const struct tube_host *host, struct arena *arena, struct bytes **out);
    void (*totals)(const struct tube_host *host, struct tube_totals *out);
    /* The connection waits for a job, or does so no more. */
    void (*waits)(const struct tube_host *host, struct tube_session *session, bool waits);
};

/* ---- scripts: their answers are the protocol's bytes in reply.body ---- */

struct tube_in {
    struct fieldset set;
    struct bytes topic;   /* the one at hand: as all inputs of the queue's scripts begin */
    struct tube_in *self; /* which the script changes */
    struct tube_command command;
    struct tube_session *session;
    const struct tube_host *host;
};
/* Whose topics tubes are: an account of no user's. */
struct caller tube_caller(void);
const struct op *tube_op(enum tube_verb verb);
/* All held jobs are ready again: the connection is gone. Their input is a struct tube_in, too. */
extern const struct op tube_return_op;
/* The answer to a command that failed. */
const char *tube_failure(enum tube_verb verb, enum err err);

#endif
