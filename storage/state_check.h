/* Is the state file whole? Reads all of it without LMDB (tree.h), every row with its checksum, and
 * compares each partition's rows with its bookkeeping row: their number a table and their set hash. Those
 * of the live slots, that is: of what a stage holds the checksums alone are looked at.
 * Nothing writes to the file meanwhile, and nothing is changed. */
#ifndef BELFRY_STORAGE_STATE_CHECK_H
#define BELFRY_STORAGE_STATE_CHECK_H

#include "storage/state.h"
#include "storage/tree.h"

struct state_check {
    const char *dir; /* of data.mdb */
    unsigned partitions;
    struct bytes meta; /* empty, or the meta page of a durable point: the state as of then */
    /* Every fault; partition -1: of the file as a whole, LMDB must not open it. */
    void (*fault)(void *ctx, int partition, const char *text);
    /* NULL, or every row of a live slot that is good, bookkeeping excluded. */
    void (*row)(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value);
    void *ctx;
    /* Found: */
    struct state_partition *books; /* the bookkeeping rows; zero where there is none. The caller's memory */
    struct tree_stats stats;
};

/* OK also when faults were told. Errors: ERR_NOT_FOUND, ERR_IO. */
enum err state_check_run(struct state_check *check) MUST_USE;

#endif
