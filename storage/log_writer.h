/* The thread that makes log batches durable. Batches of all workers that wait together are one
 * write and one fdatasync (group commit). A second thread prepares and drops segment files.
 * On a full disk it waits for room, nothing is acknowledged meanwhile; a failed write or sync ends it. */
#ifndef BELFRY_STORAGE_LOG_WRITER_H
#define BELFRY_STORAGE_LOG_WRITER_H

#include <stdatomic.h>

#include "node/base/clock.h"
#include "node/base/list.h"
#include "storage/segments.h"

/* Owned by the submitter again when done is called, on the writer's thread. Payloads are
 * borrowed until then. err is OK; from the first failure on ERR_IO; ERR_DISK_FULL when it was stopped
 * while it waited for room. */
struct log_batch {
    struct list link;
    struct segment_record *records;
    size_t len, cap;
    void (*done)(struct log_batch *batch, enum err err);
};

struct log_writer_stats {
    atomic_uint_fast64_t syncs, records, bytes, sync_ns, sync_ns_max, helper_failures;
    atomic_int err;  /* enum err: ERR_DISK_FULL while it waits for room, ERR_IO once it has failed for good */
    atomic_bool low; /* no room on the disk for the next segment file */
};

struct log_writer; /* opaque */

struct log_writer *log_writer_new(struct segments *log, unsigned groups, struct clock *clock);
/* Writes what is queued, then joins the threads. The segments stay the caller's. */
void log_writer_free(struct log_writer *writer);
/* Any thread. */
void log_writer_submit(struct log_writer *writer, struct log_batch *batch);
/* Any thread: entries at or below keep_after[group] are not needed any more. */
void log_writer_release(struct log_writer *writer, const uint64_t *keep_after);
const struct log_writer_stats *log_writer_stats(const struct log_writer *writer);

void log_batch_add(struct log_batch *batch, const struct segment_record *record);

#endif
