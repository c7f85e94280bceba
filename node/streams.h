/* Event streams: answers that go on with what commits bring (Server-Sent Events, WHATWG HTML section 9.2).
 *
 * A stream belongs to its connection's worker and is a cursor: what is behind it is read from the newest
 * snapshot when the client has taken what came before, so nothing is queued for it and nothing is dropped.
 * That there may be something new says a watch of its account (node/watch.h). */
#ifndef BELFRY_STREAMS_H
#define BELFRY_STREAMS_H

#include "node/call.h"
#include "node/crypto/token.h"
#include "node/node.h"
#include "node/watch.h"

struct streams;    /* a worker's */
struct stream_hub; /* the node's */

struct stream {
    /* Set by the owner before stream_open. */
    struct node_worker *worker;
    struct http_conn *conn; /* streaming as soon as it is open */
    const struct kind *kind;
    const struct op *op;
    const void *in; /* lives as long as the stream */
    struct claims claims;
    bool local;      /* goes on without contact to the others */
    uint64_t cursor; /* behind what was written */
    /* The node ends it, for a reason that is written to the client: the owner calls http_stream_end and
     * stream_close, now or later. Not called when the connection is gone. */
    void (*ended)(struct stream *stream);
    void *owner;
    const char *reason; /* NULL: it goes on, or the client ended it */
    /* Its own. */
    struct list link, ready;
    struct watch watch;
    bool open, behind; /* behind: there may be more than was written */
    uint64_t generation, taken;
    struct call call; /* of an operation with steps: those that give the next events */
    struct arena arena;
    bool calling;
    int64_t taken_ms, written_ms;
};

/* Errors: ERR_TOO_MANY_STREAMS, ERR_SHUTTING_DOWN. */
enum err stream_open(struct stream *stream) MUST_USE;
/* The owner forgets it; again, or without stream_open: nothing. */
void stream_close(struct stream *stream);
/* The client has taken what was written. */
void stream_taken(struct stream *stream);
enum { STREAM_LAST_MS = 1000 }; /* what was written when it ends may take so long */

/* ---- of a worker ---- */
struct streams *streams_new(struct node_worker *worker);
void streams_free(struct streams *streams);
/* At the end of a turn: goes on with those for which there may be something new. */
void streams_turn_end(struct node_worker *worker);
/* The node stops: no stream begins any more, and those that are open end. */
void streams_drain(struct node_worker *worker);
void streams_stop(struct node_worker *worker);

/* ---- of the node ---- */
struct stream_hub *stream_hub_new(void);
void stream_hub_free(struct stream_hub *hub);
/* How many are open. */
uint64_t streams_count(const struct node *node);

#endif
