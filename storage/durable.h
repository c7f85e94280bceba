/* Durable points: states of the LMDB file that survive the power failing.
 *
 * The state is written without syncs, so after an OS crash its file is any mixture of old and new
 * pages. Every few seconds the newest commit is pinned (a read transaction keeps its pages from
 * being reused), the file is synced, and the commit's meta page is saved in the checksummed side
 * file `durable`; then the pin before is released. After an OS crash the saved meta page goes
 * back into the file, which so is exactly the pinned commit, and the log is replayed from there.
 * The log is truncated only behind the older of the last two points.
 *
 * An OS crash is told by the file `running`: it names the boot and device of the run, and is
 * removed by a clean stop. */
#ifndef BELFRY_STORAGE_DURABLE_H
#define BELFRY_STORAGE_DURABLE_H

#include "storage/disk.h"
#include "storage/log_writer.h"
#include "storage/state_writer.h"

enum durable_start {
    DURABLE_FRESH,  /* no run before: an empty directory */
    DURABLE_CLEAN,  /* the last run stopped in order */
    DURABLE_KILLED, /* the process died, the OS did not: the file is as it was */
    DURABLE_CRASHED /* the OS went down: the file was taken back to the durable point */
};

/* Before the state is opened: looks at what happened, and puts the file right.
 * Errors: ERR_CORRUPT (the side file is damaged, or the state is gone without it), ERR_IO. */
enum err durable_recover(struct disk *disk, const char *dir, unsigned partitions, enum durable_start *out) MUST_USE;
/* Marks the directory as in use by this run; and, after a last point, as stopped in order. */
enum err durable_mark_running(struct disk *disk, const char *dir) MUST_USE;
enum err durable_mark_clean(struct disk *disk, const char *dir) MUST_USE;

struct durable; /* the helper thread */

struct durable *durable_new(struct disk *disk, const char *dir, unsigned partitions, int64_t interval_ms,
                            struct state_writer *states, struct log_writer *log);
/* Takes a point now, and waits for it. */
enum err durable_point(struct durable *durable) MUST_USE;
uint64_t durable_points(const struct durable *durable);
/* A sync failed: there will be no further point, and the next start goes back to the last one. */
bool durable_failed(const struct durable *durable);
/* Joins the thread: no further points. */
void durable_stop(struct durable *durable);
/* Is everything in the state part of the last point? After the writers have ended. */
bool durable_covers(const struct durable *durable, const struct state *state);
/* Releases the pin; the state must still be open. */
void durable_free(struct durable *durable);

#endif
