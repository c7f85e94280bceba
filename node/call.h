/* One operation being carried out: a query, or a script with its reads, commands and hashes.
 * Runs on the worker it was begun on; whatever it waits for comes back there. It is done exactly
 * once, at the latest when its deadline passes; an answer that comes after that is dropped. */
#ifndef BELFRY_CALL_H
#define BELFRY_CALL_H

#include "node/gather.h"
#include "node/node.h"
#include "node/partition.h"

struct compute;
struct waiter;

/* How far a read must see of one partition. */
struct read_point {
    uint64_t ask; /* 0: led here, index is what was committed; else the question to its leader */
    uint64_t index;
    uint64_t term; /* in which it was sampled here: a leadership lost and won again began anew */
};

struct call {
    /* Set by the owner before call_start; memory of it lives until done. */
    struct node_worker *worker;
    const struct kind *kind;
    const struct op *op;
    struct caller caller;
    struct arena *arena;
    const void *in;
    struct bytes remote;
    struct bytes request_text; /* for the audit */
    uint64_t if_match;
    bool local;                       /* read this replica as it is */
    struct bytes idem_key, idem_body; /* digests; empty: no Idempotency-Key */
    void (*done)(struct call *call);
    /* The result. */
    enum err err;
    struct reply reply;
    uint64_t cursor; /* of a stream: behind what reply holds */
    bool replayed;
    uint64_t by; /* replica of the node that did the work; 0: this one */
    /* Its own. */
    struct list link;
    struct script script;
    struct timer deadline;
    bool finished;
    struct list waiting;            /* in worker->read_waiters or worker->rung */
    unsigned read_first, read_last; /* partitions a read waits for */
    struct read_point *read_points, *read_room;
    int64_t read_began_ns;
    uint64_t read_index; /* a read that needs no more than this entry; 0: it must be fresh */
    bool reading;
    struct waiter *waiter; /* what it watches; NULL: nothing; in the arena */
    int64_t wait_ms;
    bool waits_next;  /* the step asked for a wait */
    bool waits, late; /* late: it was rung, and looks a little later */
    bool left;        /* the client has closed its side; the owner may set it before */
    struct join join;
    bool joining;
    struct submission *submission;
    struct compute *compute;
    struct password_job *password; /* what it computes; in the arena */
    bool hashed;                   /* by is the node that computed it */
    enum err refused;              /* what the step asked for cannot be had */
};

void call_start(struct call *call);
/* Gives up: done is not called any more. */
void call_abandon(struct call *call);
/* What is new of a stream, from the newest snapshot (op->stream). */
enum err call_stream(struct node_worker *worker, const struct op *op, const struct caller *caller, const void *in,
                     struct arena *arena, uint64_t *cursor, size_t room, struct buf *out) MUST_USE;
/* Runs what waits for reads that have become fresh. */
void call_run_readers(struct node_worker *worker);
/* At the end of a turn: runs scripts whose wait is over. */
void calls_run_rung(struct node_worker *worker);
/* The node stops: no script waits any more (script_wait). */
void calls_drain(struct node_worker *worker);
/* The client has closed its side. True: it waits for the answer in script_wait, and need not get one; a script that
 * begins to wait later answers at once. */
bool call_leave(struct call *call);
/* The same, but what waits goes on at the turn's end, and answers what it has. */
void call_hurry(struct call *call);

#endif
