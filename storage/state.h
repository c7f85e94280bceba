/* The state: one LMDB environment that holds the rows of all partitions.
 *
 * Key: partition (2 bytes, big endian) | table (1) | key. Value: checksum (8) | value; the checksum
 * is XXH3 over key and value, so a damaged or misplaced row is ERR_CORRUPT, never an answer.
 * Each partition has one bookkeeping row (struct state_partition) that is written in the same
 * transaction as the rows it speaks of: applied index, set hash, counts.
 *
 * A partition has two slots: one is live, in the other, the stage, the rows of another replica are put
 * together in as many transactions as it takes; then the stage becomes live in one.
 *
 * The environment is opened MDB_NOSYNC: a process crash loses nothing, an OS crash takes it back
 * to the newest durable point (durable.h). Its files alone (state_inner.h) see lmdb.h. */
#ifndef BELFRY_STORAGE_STATE_H
#define BELFRY_STORAGE_STATE_H

#include "node/base/rows.h"

enum { STATE_TABLES = 64 };

struct state_partition {
    uint64_t applied_index, applied_term;
    int64_t stamped_ms;            /* newest stamped time */
    uint64_t stamped_index;        /* the first entry stamped with it */
    uint64_t set_hash;             /* sum of the checksums of all rows */
    uint64_t counts[STATE_TABLES]; /* rows a table */
    uint64_t installed_index;      /* rows up to there came from another replica, not from this node's log; 0: never */
};

struct state;

struct state_options {
    const char *dir;      /* made when missing */
    unsigned partitions;  /* numbers are below this, and this below 0x7FFF */
    uint64_t map_bytes;   /* address space */
    uint64_t quota_bytes; /* of the file; 0: none */
    bool read_only;       /* for readers of another process than the one that writes */
    bool salvage;         /* nothing will be written: a partition with damaged bookkeeping is told of, and empty */
    /* NULL, or told, on any thread, when a row of the partition turns out damaged. */
    void (*damaged)(void *ctx, unsigned partition);
    void *ctx;
};

/* Errors: ERR_IO, ERR_CORRUPT. */
enum err state_open(const struct state_options *options, struct state **out) MUST_USE;
void state_close(struct state *state);
/* The committed bookkeeping of a partition; for the thread that writes, or before it starts. */
const struct state_partition *state_partition(const struct state *state, unsigned partition);
/* Size of the file in use, pages that can be used again included. */
uint64_t state_file_bytes(const struct state *state);
/* More than the quota is in use: only what frees space may be admitted. The writing thread, between
 * transactions. */
bool state_is_full(struct state *state);

/* ---- writing: one thread ---- */
enum err state_begin(struct state *state) MUST_USE;
/* The rows of a partition inside the write transaction. */
struct rows *state_rows(struct state *state, unsigned partition);
/* Change it before commit: applied index and stamped time are the writer's to set. */
struct state_partition *state_partition_edit(struct state *state, unsigned partition);
/* The rows of the partition's stage. What it has of its own bookkeeping is kept likewise, also by a restart. */
struct rows *state_stage_rows(struct state *state, unsigned partition);
/* Erases up to limit rows of the stage; *out_done: nothing is left of it. */
enum err state_stage_clear(struct state *state, unsigned partition, size_t limit, bool *out_done) MUST_USE;
/* Is what is staged what book says? ERR_CORRUPT: its counts or set hash are others. */
enum err state_stage_check(struct state *state, unsigned partition, const struct state_partition *book) MUST_USE;
/* The stage is live from here on, with that bookkeeping (and installed_index = applied_index); what was live
 * is the stage, to be cleared. ERR_CORRUPT, and nothing is changed: its counts or set hash are others. */
enum err state_stage_switch(struct state *state, unsigned partition, const struct state_partition *book) MUST_USE;
/* Writes the bookkeeping rows of the partitions edited, and commits. */
enum err state_commit(struct state *state) MUST_USE;
void state_abort(struct state *state);

/* ---- reading: any thread, a reader each ---- */
struct state_reader; /* a snapshot that is renewed, not made anew */
enum err state_reader_new(struct state *state, struct state_reader **out) MUST_USE;
void state_reader_free(struct state_reader *reader);
/* Starts a snapshot of what is committed now. */
enum err state_reader_renew(struct state_reader *reader) MUST_USE;
/* Ends it; pages it held can be reused. */
void state_reader_reset(struct state_reader *reader);
struct rows *state_reader_rows(struct state_reader *reader, unsigned partition);
enum err state_reader_partition(struct state_reader *reader, unsigned partition, struct state_partition *out) MUST_USE;
/* Every row of the partition in order, the bookkeeping row excluded; an error of each ends it. */
enum err state_reader_scan(struct state_reader *reader, unsigned partition,
                           enum err (*each)(void *ctx, uint8_t table, struct bytes key, struct bytes value),
                           void *ctx) MUST_USE;
/* Frees what readers of processes that died still hold. */
void state_drop_dead_readers(struct state *state);

/* ---- durable points: see durable.h ---- */
enum { STATE_META_BYTES = 4096 };
struct state_pin; /* a read transaction that keeps the newest commit's pages from reuse */
/* On the writing thread, between transactions. Copies the commit's meta page and bookkeeping. */
enum err state_pin(struct state *state, struct state_pin **out) MUST_USE;
void state_pin_free(struct state_pin *pin);
struct state *state_pin_state(const struct state_pin *pin);
/* On any thread: everything the pin refers to reaches the disk. */
enum err state_pin_sync(struct state_pin *pin) MUST_USE;
/* Which transaction it pinned; and that nothing was committed since. */
uint64_t state_pin_txn(const struct state_pin *pin);
bool state_pin_is_newest(const struct state_pin *pin);
struct bytes state_pin_meta(const struct state_pin *pin); /* STATE_META_BYTES */
const uint64_t *state_pin_applied(const struct state_pin *pin);
/* How long the file was when it was synced; it never shrinks. */
uint64_t state_pin_bytes(const struct state_pin *pin);
/* Puts a saved meta page back into a data file that is not open: into its own slot, and with the
 * transaction id less one into the other. Errors: ERR_CORRUPT, ERR_IO. */
enum err state_meta_restore(const char *dir, struct bytes meta) MUST_USE;
/* Deletes the data file: the log holds everything. */
enum err state_erase(const char *dir) MUST_USE;

#endif
