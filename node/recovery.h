/* What a data directory holds, read and checked from end to end: how the last run ended, the state
 * file page by page and row by row, the log record by record, and whether they fit together. Used by
 * node start, `belfry verify` and `belfry recover`. */
#ifndef BELFRY_RECOVERY_H
#define BELFRY_RECOVERY_H

#include "cluster/group.h"
#include "node/damage.h"
#include "storage/durable.h"
#include "storage/segment_scan.h"
#include "storage/segments.h"
#include "storage/state_check.h"

struct recovery {
    /* Set by the caller. */
    const char *data;
    unsigned partitions;
    struct damage *damage; /* findings go here */
    uint64_t segment_bytes;
    bool read_only; /* the log is looked at, not opened */
    /* NULL, or every good row of the state. */
    void (*row)(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value);
    void *ctx;

    /* Found. */
    struct durable_look look;
    bool has_state;
    struct state_partition *books; /* of the state, a partition */
    struct tree_stats tree;
    struct segments *segments;  /* opened; NULL when read only or damaged */
    struct group_start *starts; /* a partition: hard state, and the entries that are not in the state yet */
    uint64_t *last, *last_term; /* a partition: what the log ends with */
    uint64_t *highest_term;     /* a partition: of any record, also behind damage */
    uint64_t records;
    bool clean; /* the log's last record says that the node stopped in order */
    char why[512];
    size_t *caps;
};

/* Errors: ERR_IO, ERR_DISK_FULL: the directory cannot be read or the log not opened; why says more.
 * Damage is no error: it is told. */
enum err recovery_run(struct recovery *recovery) MUST_USE;
/* Frees what was found but the segments; the entries' payloads too when payloads is set. */
void recovery_close(struct recovery *recovery, bool payloads);

#endif
