/* The log: append-only segment files shared by all Raft groups of the node.
 *
 * A segment is a zero-filled file; records stand behind each other, each with its length and a
 * CRC32C that covers the CRC of its predecessor, so no record can be lost, doubled or moved
 * unseen. Records are written in batches: one write and one fdatasync. The batch number in every
 * record proves that all earlier batches were synced; so a hole followed by a later batch is
 * damage (ERR_CORRUPT), while a torn last batch is the normal end after a crash and is erased. A log
 * that goes idle gets a seal, a batch of one record, so that there is a later batch soon.
 *
 * The first records of a segment repeat, for every group, its hard state and its last index:
 * older segments can be dropped whole.
 *
 * What was synced can be read back (segments_read): for that a sparse index of at most 6 MiB a GiB of
 * log is kept in memory (storage/segment_index.h). Used by one thread at a time, but where another
 * thread is named. */
#ifndef BELFRY_STORAGE_SEGMENTS_H
#define BELFRY_STORAGE_SEGMENTS_H

#include "storage/disk.h"

enum segment_record_type {
    RECORD_SEGMENT = 1, /* opens a segment: index = its number, term = size of the file */
    RECORD_HARD_STATE,  /* index = the replica voted for, or 0 */
    RECORD_LAST,        /* index, term of the group's last entry when the segment was opened; or see below */
    RECORD_ENTRY,       /* a log entry; an index at or below the last one replaces what follows */
    RECORD_CLEAN,       /* the node stopped in order */
    RECORD_SEAL         /* written when the log goes idle: what stands before it was synced */
};

/* Kind of a RECORD_LAST: 0 where a segment is opened. What segments_add is given gets this one: the group's log
 * begins anew behind index; all of the group that stands before is void, also entries of a higher index. */
enum { RECORD_LAST_ANEW = 1 };

struct segment_record {
    uint8_t type;
    uint8_t kind; /* of an entry: as the consensus engine names it; of RECORD_LAST: see above */
    uint16_t group;
    uint64_t index, term;
    struct bytes payload;
};

struct segments; /* opaque */

struct segments_options {
    struct disk *disk;
    const char *dir;
    unsigned groups;        /* group numbers are below this */
    uint64_t segment_bytes; /* size of the segment files made from now on */
    uint64_t keep_bytes;    /* of the log are kept though nobody needs them, see segments_drop */
    uint64_t reserve_bytes; /* of room that the disk should have left */
};

/* Opens the log and reports every record in order. On ERR_CORRUPT *out_why names the file, the
 * offset and what is wrong, and nothing was changed. Errors: ERR_CORRUPT, ERR_IO, ERR_DISK_FULL. */
enum err segments_open(const struct segments_options *options,
                       void (*each)(void *ctx, const struct segment_record *record), void *ctx, struct segments **out,
                       char *out_why, size_t why_cap) MUST_USE;
/* The same after a scan that found no damage. Errors: ERR_IO, ERR_DISK_FULL. */
struct segment_scan;
enum err segments_continue(const struct segments_options *options, struct segment_scan *scan,
                           struct segments **out) MUST_USE;
/* No segments_read may be under way. */
void segments_close(struct segments *log);

/* Adds a record to the batch being built; it is durable after segments_commit alone.
 * ERR_DISK_FULL: there is no room for the next segment file; nothing was added, the same call may be
 * tried again. ERR_IO: the log must not be used again. */
enum err segments_add(struct segments *log, const struct segment_record *record) MUST_USE;
/* Says, in a new log, where a group begins that has a past elsewhere: restored or recovered. */
enum err segments_begin_group(struct segments *log, uint16_t group, uint64_t term, uint64_t last_index,
                              uint64_t last_term) MUST_USE;
/* Writes and syncs the batch. Errors as above. */
enum err segments_commit(struct segments *log) MUST_USE;

/* Called by a helper thread: makes the next segment file ready, so that a switch costs nothing.
 * Safe beside segments_commit. ERR_DISK_FULL leaves nothing behind. */
enum err segments_prepare(struct segments *log) MUST_USE;
bool segments_wants_prepare(struct segments *log);
/* A preparation under way ends early, with ERR_SHUTTING_DOWN. */
void segments_stop_preparing(struct segments *log);
/* Drops segments all of whose entries are at or below keep_after[group] (NULL: as said last), the oldest
 * first, as long as keep_bytes of newer log are left, or a tenth of the file system where that is less;
 * with less room on the disk than the reserve, a segment and the spare file, all of them; so does
 * segments_prepare where the disk is full. Safe beside commit. Errors: ERR_IO. */
enum err segments_drop(struct segments *log, const uint64_t *keep_after) MUST_USE;

/* Any thread: reports the entries first, first + 1, ... of a group, as they stand when they are looked up
 * and are synced: up to max_entries (not 0) and max_bytes of payload, but one at least, and up to the
 * log's end; it also ends where what follows was replaced meanwhile. Payloads are borrowed until each
 * returns. Each is checked before it is reported; what was reported before an error is good. Blocks: a
 * few reads of 256 KiB, more where other groups' records stand between.
 * Errors: ERR_NOT_FOUND (no longer or not yet in the log; nothing was reported), ERR_CORRUPT, ERR_IO. */
enum err segments_read(struct segments *log, uint16_t group, uint64_t first, size_t max_entries, size_t max_bytes,
                       void (*each)(void *ctx, const struct segment_record *record), void *ctx) MUST_USE;
/* Any thread: the oldest entry of the group that can be read; all from there to its last can be. Its
 * last synced entry + 1 when none can: 1 in an empty log. Falls only when entries are replaced from
 * below it on, or the group's log begins anew. */
uint64_t segments_first(struct segments *log, uint16_t group);

/* How many segment files there are; any thread. */
size_t segments_count(struct segments *log);

#endif
