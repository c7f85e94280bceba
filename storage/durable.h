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

/* What the directory says, looked at without changing anything. */
struct durable_look {
    enum durable_start start;
    bool has_point;
    uint8_t meta[STATE_META_BYTES]; /* of the point */
    uint64_t *applied;              /* of the point, a partition; malloc'd */
    uint64_t state_bytes;           /* how long the state's file was; it never shrinks */
};
/* Errors: ERR_CORRUPT (the side file is damaged; start is right all the same), ERR_IO. */
enum err durable_look(struct disk *disk, const char *dir, unsigned partitions, struct durable_look *out) MUST_USE;
/* Takes a side file apart. Errors: ERR_CORRUPT. */
enum err durable_parse(struct bytes file, unsigned partitions, struct durable_look *out) MUST_USE;
/* After an OS crash, before the state is opened: puts its file back to the point, or erases it when
 * none was ever taken, for the log holds everything then. Errors: ERR_CORRUPT (no state), ERR_IO. */
enum err durable_restore(const char *dir, const struct durable_look *look) MUST_USE;
/* Writes a side file of that name for a pinned and synced state: what restore and recover leave. */
enum err durable_save(struct disk *disk, const char *dir, const char *name, unsigned partitions,
                      const struct state_pin *pin) MUST_USE;
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
bool durable_covers(const struct durable *durable);
/* Releases the pin; the state must still be open. */
void durable_free(struct durable *durable);

#endif
