/* The thread that applies committed entries of all groups, in the order it was given them. What an entry
 * does is the callback's business (the reducers); the applied index moves in the same LMDB transaction, so
 * replay after a crash is exact.
 *
 * What came of an entry is known before its transaction ends, and holds whatever becomes of that: the entry is
 * in the log, and does the same when it is applied again. So an answer need not wait for the end, and many
 * entries share the pages that one transaction writes (three nodes, 64 connections: a write's CPU 190 to 155 us).
 * Only who reads the state waits for it, and makes it come at once.
 *
 * A disk that is full makes it wait and try again; damage or a failed write stops it for good:
 * later batches complete with the error and nothing is applied any more. */
#ifndef BELFRY_STORAGE_STATE_WRITER_H
#define BELFRY_STORAGE_STATE_WRITER_H

#include <stdatomic.h>

#include "node/base/clock.h"
#include "node/base/list.h"
#include "storage/state.h"

struct apply_entry {
    uint8_t kind;
    uint64_t index, term;
    struct bytes payload; /* borrowed until done */
    void *outcome;        /* what the callback made of it */
};

struct apply_batch {
    struct list link;
    uint16_t group;
    struct apply_entry *entries;
    size_t len;
    bool early;   /* outcomes are told before the commit; else right after it, which comes at once */
    bool told;    /* the writer's */
    enum err err; /* set before done: OK, or why nothing of it was applied */
    /* On the writer's thread. First told: the outcomes, which are the submitter's then; not when it failed
     * before. NULL: nobody wants them. Then done: committed, or err. */
    void (*outcomes)(struct apply_batch *batch);
    void (*done)(struct apply_batch *batch);
};

/* Something else to be done to the state, in a transaction of its own: in steps that are short, for nothing
 * is applied meanwhile. Owned by the submitter again when done is called, on the writer's thread. */
struct state_job {
    struct list link;
    uint64_t turn; /* the writer's: of so many batches submitted before */
    /* OK commits, anything else aborts; ERR_DISK_FULL and ERR_IO are tried again: it is called again then. */
    enum err (*run)(void *ctx, struct state *state);
    void *ctx;
    enum err err; /* set before done: OK: committed; what run returned; or why it could not be committed */
    void (*done)(struct state_job *job);
};

struct state_writer_options {
    struct state *state;
    struct clock *clock;
    /* Applies one entry inside the transaction. Anything but OK aborts the batch; it may be called
     * again for the same entry then (an outcome made before is dropped with drop). */
    enum err (*apply)(void *ctx, struct state *state, uint16_t group, struct apply_entry *entry);
    void (*drop)(void *ctx, struct apply_entry *entry);
    /* After each commit, before the batches' or the job's done: for whoever waits for the applied index. */
    void (*committed)(void *ctx, struct state *state);
    /* Nobody waits for a commit, and a transaction may stay open for LIMIT_APPLY_MS. NULL: it never may. */
    bool (*may_wait)(void *ctx);
    void *ctx;
};

struct state_writer_stats {
    atomic_uint_fast64_t commits, entries, ns, ns_max;
    atomic_int err;       /* enum err that holds it up or stopped it; OK when it runs */
    atomic_int failed_in; /* the group whose entry failed last */
};

struct state_writer; /* opaque */

struct state_writer *state_writer_new(const struct state_writer_options *options);
/* Applies what is queued, then joins the thread. */
void state_writer_free(struct state_writer *writer);
/* Any thread. The list is empty then. */
void state_writer_submit(struct state_writer *writer, struct list *batches);
/* Any thread: runs it when the batches submitted before are applied, and before those that follow. */
void state_writer_run(struct state_writer *writer, struct state_job *job);
/* Any thread: may_wait says no from now on. */
void state_writer_hurry(struct state_writer *writer);
/* Any thread but the writer's: pins the newest commit. Blocks until the writer is between
 * transactions. Errors: ERR_IO, ERR_SHUTTING_DOWN. */
enum err state_writer_pin(struct state_writer *writer, struct state_pin **out) MUST_USE;
const struct state_writer_stats *state_writer_stats(const struct state_writer *writer);

#endif
