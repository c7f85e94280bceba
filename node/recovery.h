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

/* Which state is believed. */
enum recovery_belief {
    BELIEVE_THE_RUN,   /* as the last run ended: the file, or its durable point after a crash of the system */
    BELIEVE_THE_POINT, /* the durable point */
    BELIEVE_THE_FILE,  /* the state's file as it is */
    BELIEVE_THE_LOG    /* no state: the log holds everything */
};

struct recovery {
    /* Set by the caller. */
    const char *data;
    unsigned partitions;
    struct damage *damage; /* findings go here */
    enum recovery_belief belief;
    /* NULL, or every good row of the state. */
    void (*row)(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value);
    void *ctx;

    /* Found. */
    struct durable_look look;
    bool has_state;
    struct state_partition *books; /* of the state, a partition */
    struct tree_stats tree;
    struct segment_scan scan; /* of the log */
    bool from_log;            /* the state is to be erased: the log holds everything */
    /* A partition: hard state, the entries that are not in the state yet, and the terms of those that are, as
     * far back as the log has them without a gap. */
    struct group_start *starts;
    uint64_t *last, *last_term; /* a partition: what the log ends with */
    /* A partition: the state was installed from another replica, the log does not say so yet. It counts as
     * beginning behind what is applied (starts, last are so already): recovery_restart_logs comes first. */
    bool *restart_log;
    uint64_t *highest_term; /* a partition: of any record, also behind damage */
    uint64_t records;
    bool clean; /* the log's last record says that the node stopped in order */
    char why[512];
    char log_dir[4096];
    size_t *caps, *run_caps;
    uint64_t *begin, *begin_term; /* a partition: behind which entry what is known of the log begins */
};

/* Changes nothing. Damage is no error: it is told. Errors: ERR_IO: the directory cannot be read; why says
 * more. */
enum err recovery_run(struct recovery *recovery) MUST_USE;
/* Finishes, before anything else is written, the installs that were cut short between the switch in the state
 * and the record of it in the log: the state is made a durable point, then the logs begin anew. Both are open,
 * and used by nobody else. Errors: ERR_IO, ERR_DISK_FULL. */
enum err recovery_restart_logs(struct recovery *recovery, struct state *state, struct segments *log) MUST_USE;
/* Frees what was found; the entries' payloads too when payloads is set. */
void recovery_close(struct recovery *recovery, bool payloads);

#endif
