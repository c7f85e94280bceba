#include "storage/durable.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "node/base/cond.h"
#include "node/base/crc32c.h"
#include "node/limits.h"

enum { FILE_MAX = 1 << 20, MAGIC_BYTES = 8 };
static const char magic[] = "BLFRYDP1";

struct durable {
    struct disk *disk;
    char dir[PATH_MAX - 64];
    unsigned partitions;
    int64_t interval_ms;
    struct state_writer *states;
    struct log_writer *log;
    pthread_mutex_t point_mutex; /* over pin, applied: one point at a time */
    struct state_pin *pin;       /* of the newest point */
    uint64_t *applied;           /* of the newest point */
    bool any;
    atomic_bool failed;
    atomic_uint_fast64_t points;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stopping;
    pthread_t thread;
};

/* ---- what happened before ---- */

static enum err run_identity(const char *dir, struct buf *out)
{
    struct stat st;
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    char boot[64] = "";
    if (file == NULL || fgets(boot, sizeof boot, file) == NULL || stat(dir, &st) != 0) {
        if (file != NULL) {
            (void)fclose(file);
        }
        return ERR_IO;
    }
    (void)fclose(file);
    buf_printf(out, "%.36s %llu\n", boot, (unsigned long long)st.st_dev);
    return OK;
}

static void path_in(const char *dir, const char *name, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/%s", dir, name);
}

enum err durable_parse(struct bytes file, unsigned partitions, struct durable_look *out)
{
    uint32_t crc, count;
    size_t head = MAGIC_BYTES + sizeof crc, applied = partitions * sizeof *out->applied;
    size_t meta_at = head + sizeof count, applied_at = meta_at + STATE_META_BYTES;
    if (file.len != applied_at + applied + sizeof out->state_bytes || memcmp(file.ptr, magic, MAGIC_BYTES) != 0) {
        return ERR_CORRUPT;
    }
    memcpy(&crc, file.ptr + MAGIC_BYTES, sizeof crc);
    memcpy(&count, file.ptr + head, sizeof count);
    if (crc != crc32c(0, file.ptr + head, file.len - head) || count != partitions) {
        return ERR_CORRUPT;
    }
    memcpy(out->meta, file.ptr + meta_at, sizeof out->meta);
    memcpy(&out->state_bytes, file.ptr + applied_at + applied, sizeof out->state_bytes);
    out->applied = mem_copy(file.ptr + applied_at, applied);
    out->has_point = true;
    return OK;
}

static enum err load_point(struct disk *disk, const char *dir, unsigned partitions, struct durable_look *out)
{
    char path[PATH_MAX];
    struct buf file = {0};
    path_in(dir, "durable", path);
    enum err err = disk_load(disk, path, FILE_MAX, &file);
    if (err == OK) {
        err = durable_parse(buf_bytes(&file), partitions, out);
    }
    buf_free(&file);
    return err == ERR_TOO_LARGE ? ERR_CORRUPT : err;
}

static enum err look_at_run(struct disk *disk, const char *dir, bool *out_marked, bool *out_same)
{
    char path[PATH_MAX];
    struct buf now = {0}, then = {0};
    path_in(dir, "running", path);
    enum err err = disk_load(disk, path, FILE_MAX, &then);
    *out_marked = err != ERR_NOT_FOUND;
    if (err == OK) {
        err = run_identity(dir, &now);
        *out_same = err == OK && bytes_eq(buf_bytes(&now), buf_bytes(&then));
    }
    buf_free(&now);
    buf_free(&then);
    return err == ERR_NOT_FOUND || err == ERR_TOO_LARGE ? OK : err;
}

enum err durable_look(struct disk *disk, const char *dir, unsigned partitions, struct durable_look *out)
{
    bool marked = false, same = false;
    *out = (struct durable_look){0};
    TRY(look_at_run(disk, dir, &marked, &same));
    enum err err = load_point(disk, dir, partitions, out);
    if (marked) {
        out->start = same ? DURABLE_KILLED : DURABLE_CRASHED;
    } else {
        out->start = err == ERR_NOT_FOUND ? DURABLE_FRESH : DURABLE_CLEAN;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err durable_restore(const char *dir, const struct durable_look *look)
{
    char path[PATH_MAX];
    path_in(dir, "state", path);
    return look->has_point ? state_meta_restore(path, bytes_of(look->meta, sizeof look->meta)) : state_erase(path);
}

enum err durable_mark_running(struct disk *disk, const char *dir)
{
    struct buf now = {0};
    enum err err = run_identity(dir, &now);
    if (err == OK) {
        err = disk_replace(disk, dir, "running", buf_bytes(&now));
    }
    buf_free(&now);
    return err;
}

enum err durable_mark_clean(struct disk *disk, const char *dir)
{
    char path[PATH_MAX];
    path_in(dir, "running", path);
    TRY(disk->remove(disk, path));
    return disk->sync_dir(disk, dir);
}

/* ---- taking points ---- */

enum err durable_save(struct disk *disk, const char *dir, const char *name, unsigned partitions,
                      const struct state_pin *pin)
{
    struct buf file = {0};
    uint32_t crc = 0, count = partitions;
    uint64_t state_bytes = state_pin_bytes(pin);
    buf_add(&file, magic, MAGIC_BYTES);
    buf_add(&file, &crc, sizeof crc);
    buf_add(&file, &count, sizeof count);
    buf_add_bytes(&file, state_pin_meta(pin));
    buf_add(&file, state_pin_applied(pin), partitions * sizeof(uint64_t));
    buf_add(&file, &state_bytes, sizeof state_bytes);
    crc = crc32c(0, file.ptr + MAGIC_BYTES + sizeof crc, file.len - MAGIC_BYTES - sizeof crc);
    memcpy(file.ptr + MAGIC_BYTES, &crc, sizeof crc);
    enum err err = disk_replace(disk, dir, name, buf_bytes(&file));
    buf_free(&file);
    return err;
}

/* The state's file was made since the start, perhaps, and its directory: both must have their names. */
static enum err sync_directories(struct durable *durable)
{
    char path[PATH_MAX];
    path_in(durable->dir, "state", path);
    TRY(durable->disk->sync_dir(durable->disk, path));
    return durable->disk->sync_dir(durable->disk, durable->dir);
}

static enum err take_point(struct durable *durable)
{
    struct state_pin *pin;
    size_t size = durable->partitions * sizeof *durable->applied;
    TRY(state_writer_pin(durable->states, &pin));
    state_drop_dead_readers(state_pin_state(pin)); /* a backup's process that was killed would keep pages for ever */
    if (durable->any && state_pin_txn(pin) == state_pin_txn(durable->pin)) {
        state_pin_free(pin); /* nothing happened since the last point */
        return OK;
    }
    enum err err = durable->any ? OK : sync_directories(durable);
    if (err == OK) {
        err = state_pin_sync(pin);
    }
    if (err == OK) {
        err = durable_save(durable->disk, durable->dir, "durable", durable->partitions, pin);
    }
    if (err != OK) {
        state_pin_free(pin);
        return err;
    }
    if (durable->any) {
        log_writer_release(durable->log, durable->applied); /* behind the older point */
    }
    memcpy(durable->applied, state_pin_applied(pin), size);
    state_pin_free(durable->pin);
    durable->pin = pin;
    durable->any = true;
    atomic_fetch_add(&durable->points, 1);
    return OK;
}

enum err durable_point(struct durable *durable)
{
    CHECK(pthread_mutex_lock(&durable->point_mutex) == 0);
    enum err err = atomic_load(&durable->failed) ? ERR_IO : take_point(durable);
    if (err != OK && err != ERR_DISK_FULL && err != ERR_SHUTTING_DOWN && !atomic_load(&durable->failed)) {
        /* A failed sync ends trust in the file: it may never be told again which pages are on disk. No
         * identity of a run matches this one, so the next start goes back to the last point. */
        atomic_store(&durable->failed, true);
        if (disk_replace(durable->disk, durable->dir, "running", BYTES_LIT("a sync failed\n")) != OK) {
            err = ERR_IO;
        }
    }
    CHECK(pthread_mutex_unlock(&durable->point_mutex) == 0);
    return err;
}

uint64_t durable_points(const struct durable *durable)
{
    return atomic_load(&durable->points);
}

static bool wait_interval(struct durable *durable)
{
    struct timespec until = cond_deadline(durable->interval_ms * 1000000LL);
    CHECK(pthread_mutex_lock(&durable->mutex) == 0);
    int rc = 0;
    while (!durable->stopping && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&durable->wake, &durable->mutex, &until);
    }
    bool more = !durable->stopping;
    CHECK(pthread_mutex_unlock(&durable->mutex) == 0);
    return more;
}

static void *durable_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "durable");
    struct durable *durable = arg;
    while (wait_interval(durable)) {
        enum err err = durable_point(durable);
        if (err != OK && err != ERR_DISK_FULL) {
            break;
        }
    }
    return NULL;
}

struct durable *durable_new(struct disk *disk, const char *dir, unsigned partitions, int64_t interval_ms,
                            struct state_writer *states, struct log_writer *log)
{
    struct durable *durable = mem_zalloc(sizeof *durable);
    durable->disk = disk;
    (void)snprintf(durable->dir, sizeof durable->dir, "%s", dir);
    durable->partitions = partitions;
    durable->interval_ms = interval_ms;
    durable->states = states;
    durable->log = log;
    durable->applied = mem_zalloc(partitions * sizeof *durable->applied);
    CHECK(pthread_mutex_init(&durable->mutex, NULL) == 0);
    CHECK(pthread_mutex_init(&durable->point_mutex, NULL) == 0);
    cond_init(&durable->wake);
    CHECK(pthread_create(&durable->thread, NULL, durable_main, durable) == 0);
    return durable;
}

bool durable_failed(const struct durable *durable)
{
    return atomic_load(&durable->failed);
}

void durable_stop(struct durable *durable)
{
    CHECK(pthread_mutex_lock(&durable->mutex) == 0);
    durable->stopping = true;
    CHECK(pthread_cond_signal(&durable->wake) == 0);
    CHECK(pthread_mutex_unlock(&durable->mutex) == 0);
    CHECK(pthread_join(durable->thread, NULL) == 0);
}

bool durable_covers(const struct durable *durable)
{
    return durable->any && state_pin_is_newest(durable->pin);
}

void durable_free(struct durable *durable)
{
    state_pin_free(durable->pin);
    (void)pthread_cond_destroy(&durable->wake);
    (void)pthread_mutex_destroy(&durable->mutex);
    (void)pthread_mutex_destroy(&durable->point_mutex);
    free(durable->applied);
    free(durable);
}
