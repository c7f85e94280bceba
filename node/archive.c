#include "node/archive.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/base/clock.h"
#include "node/base/when.h"
#include "node/crypto/key_file.h"
#include "node/identity.h"
#include "node/limits.h"
#include "storage/backup.h"
#include "storage/durable.h"
#include "storage/segments.h"

enum { RESTORE_BATCH = 5000 };
_Static_assert((int)KEY_FILE_BYTES == (int)BACKUP_KEY_BYTES, "a key file holds a backup's key");

static int fail(const char *why, enum err err)
{
    (void)fprintf(stderr, "belfry: %s (%s)\n", why, err_code(err));
    return 1;
}

static bool read_key(const char *path, uint8_t *key)
{
    enum err err = key_file_read(path, key);
    if (err != OK) {
        (void)fprintf(stderr, "belfry: the key file %s cannot be used: %s\n", path,
                      err == ERR_FORBIDDEN ? "others may read it (chmod 600)"
                      : err == ERR_CORRUPT ? "it is not 64 hexadecimal digits"
                                           : err_code(err));
    }
    return err == OK;
}

static void print_manifest(const struct backup_manifest *manifest)
{
    char cluster[ID_TEXT_BYTES], created[WHEN_TEXT_BYTES];
    id_format(manifest->cluster, cluster);
    when_format(manifest->created_ms, created);
    (void)printf("cluster %.36s, created %.*s\n", cluster, WHEN_TEXT_BYTES, created);
    for (unsigned p = 0; p < manifest->partitions; p++) {
        const struct state_partition *book = &manifest->books[p];
        uint64_t rows = 0;
        for (unsigned t = 0; t < STATE_TABLES; t++) {
            rows += book->counts[t];
        }
        (void)printf("partition %u: applied %llu, rows %llu, hash %016llx\n", p,
                     (unsigned long long)book->applied_index, (unsigned long long)rows,
                     (unsigned long long)book->set_hash);
    }
}

/* ---- backup ---- */

/* After a crash of the system the state is what it was at its durable point, once a node has put it back. */
static bool is_usable(const char *data, unsigned partitions)
{
    struct durable_look look;
    enum err err = durable_look(disk_posix(), data, partitions, &look);
    free(look.applied);
    return err == OK && look.start != DURABLE_CRASHED;
}

static int backup(const char *data, const char *path, const uint8_t *key)
{
    struct identity identity;
    struct state *state;
    char state_dir[PATH_MAX], why[512] = "";
    enum err err = identity_read(disk_posix(), data, "identity", &identity);
    if (err != OK) {
        return fail("the data directory has no identity that can be read", err);
    }
    if (!is_usable(data, identity.partitions + 1)) {
        return fail("the system went down, or the durable point is damaged: start the node first", ERR_CONFLICT);
    }
    (void)snprintf(state_dir, sizeof state_dir, "%s/state", data);
    struct state_options options = {
        .dir = state_dir, .partitions = identity.partitions + 1, .map_bytes = LIMIT_MAP_BYTES, .read_only = true};
    err = state_open(&options, &state);
    if (err != OK) {
        return fail("the state cannot be opened", err);
    }
    struct backup_manifest manifest = {.cluster = identity.cluster,
                                       .node = identity.node,
                                       .created_ms = clock_wall_ms(clock_system()),
                                       .partitions = identity.partitions + 1};
    err = backup_write(path, key, state, &manifest, why, sizeof why);
    state_close(state);
    if (err == OK) {
        print_manifest(&manifest);
    }
    free(manifest.books);
    return err == OK ? 0 : fail(why, err);
}

int archive_backup(const char *data, const char *path, const char *key_file)
{
    uint8_t key[KEY_FILE_BYTES];
    int code = read_key(key_file, key) ? backup(data, path, key) : 1;
    sodium_memzero(key, sizeof key);
    return code;
}

/* ---- verify ---- */

static int verify(const char *path, const uint8_t *key)
{
    struct backup_manifest manifest;
    struct backup_sink nothing = {0};
    char why[512] = "";
    enum err err = backup_read(path, key, &nothing, &manifest, why, sizeof why);
    if (err != OK) {
        (void)printf("damaged\n%s\n", why);
        return 1;
    }
    (void)puts("whole");
    print_manifest(&manifest);
    free(manifest.books);
    return 0;
}

int archive_verify(const char *path, const char *key_file)
{
    uint8_t key[KEY_FILE_BYTES];
    int code = read_key(key_file, key) ? verify(path, key) : 1;
    sodium_memzero(key, sizeof key);
    return code;
}

/* ---- restore ---- */

struct restore {
    const char *data;
    struct state *state;
    const struct backup_manifest *manifest;
    uint64_t batch;
};

static enum err restore_begin(void *ctx, const struct backup_manifest *manifest)
{
    struct restore *restore = ctx;
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/state", restore->data);
    struct state_options options = {.dir = path, .partitions = manifest->partitions, .map_bytes = LIMIT_MAP_BYTES};
    restore->manifest = manifest;
    TRY(state_open(&options, &restore->state));
    return state_begin(restore->state);
}

static enum err restore_row(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value)
{
    struct restore *restore = ctx;
    TRY(rows_put(state_rows(restore->state, partition), table, key, value));
    if (++restore->batch % RESTORE_BATCH == 0) {
        TRY(state_commit(restore->state));
        TRY(state_begin(restore->state));
    }
    return OK;
}

/* The bookkeeping, with the hash of what was really written; then all of it reaches the disk, with a
 * durable point of it. */
static enum err finish_state(struct restore *restore)
{
    struct state_pin *pin;
    struct disk *disk = disk_posix();
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/state", restore->data);
    for (unsigned p = 0; p < restore->manifest->partitions; p++) {
        const struct state_partition *from = &restore->manifest->books[p];
        struct state_partition *book = state_partition_edit(restore->state, p);
        if (book->set_hash != from->set_hash) {
            return ERR_CORRUPT;
        }
        book->applied_index = from->applied_index;
        book->applied_term = from->applied_term;
        book->stamped_ms = from->stamped_ms;
        book->stamped_index = from->stamped_index;
    }
    TRY(state_commit(restore->state));
    TRY(state_pin(restore->state, &pin));
    enum err err = state_pin_sync(pin);
    err = err == OK ? disk->sync_dir(disk, path) : err;
    err = err == OK ? durable_save(disk, restore->data, "durable", restore->manifest->partitions, pin) : err;
    state_pin_free(pin);
    /* No run has this name: the first start goes by the point. */
    return err == OK ? disk_replace(disk, restore->data, "running", BYTES_LIT("restored\n")) : err;
}

static void no_record(void *ctx, const struct segment_record *record)
{
    (void)ctx;
    (void)record;
}

/* A log that begins where the backup ends, with the membership of the new cluster: this node alone. */
static enum err begin_log(const struct restore *restore, const struct identity *identity)
{
    char path[PATH_MAX], why[256];
    struct segments *log;
    struct bytes alone = group_members_encode(&identity->founders);
    (void)snprintf(path, sizeof path, "%s/log", restore->data);
    struct segments_options options = {disk_posix(), path, restore->manifest->partitions,
                                       (uint64_t)LIMIT_SEGMENT_MIB_MIN << 20};
    enum err err = segments_open(&options, no_record, NULL, &log, why, sizeof why);
    if (err != OK) {
        free((void *)(uintptr_t)alone.ptr);
        return err;
    }
    for (uint16_t g = 0; g < restore->manifest->partitions && err == OK; g++) {
        const struct state_partition *book = &restore->manifest->books[g];
        struct segment_record change = {.type = RECORD_ENTRY,
                                        .kind = ENTRY_CHANGE,
                                        .group = g,
                                        .index = book->applied_index + 1,
                                        .term = book->applied_term + 1,
                                        .payload = alone};
        err = segments_begin_group(log, g, book->applied_term + 1, book->applied_index, book->applied_term);
        err = err == OK ? segments_add(log, &change) : err;
    }
    err = err == OK ? segments_commit(log) : err;
    segments_close(log);
    free((void *)(uintptr_t)alone.ptr);
    return err;
}

static bool is_empty(const char *path)
{
    DIR *dir = opendir(path);
    bool empty = dir != NULL || errno == ENOENT;
    for (struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL && empty; entry = readdir(dir)) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return empty;
}

static void remove_entry(void *ctx, const char *name)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)ctx, name);
    (void)unlink(path);
}

/* What a restore that was cut short left, but its mark. */
static void wipe(const char *data)
{
    static const char *const dirs[] = {"state", "log"};
    static const char *const files[] = {"identity", "durable", "running", "lock"};
    char path[PATH_MAX];
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", data, dirs[i]);
        (void)disk_posix()->list(disk_posix(), path, remove_entry, path);
        (void)rmdir(path);
    }
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", data, files[i]);
        (void)unlink(path);
    }
}

/* As long as the mark is there nobody takes what is there for a data directory. */
static enum err write_directory(struct restore *restore, const char *path, const uint8_t *key, char *why, size_t cap)
{
    struct backup_manifest manifest;
    struct backup_sink sink = {restore_begin, restore_row, restore};
    struct identity identity;
    int64_t now_ms = clock_wall_ms(clock_system());
    char mark[PATH_MAX];
    struct disk *disk = disk_posix();
    TRY(disk->make_dir(disk, restore->data));
    TRY(disk_replace(disk, restore->data, RESTORE_MARK, BYTES_NONE));
    TRY(backup_read(path, key, &sink, &manifest, why, cap));
    restore->manifest = &manifest;
    (void)snprintf(why, cap, "the data directory %.200s cannot be written", restore->data);
    (void)snprintf(mark, sizeof mark, "%s/" RESTORE_MARK, restore->data);
    enum err err = finish_state(restore);
    identity_draw(&identity, now_ms);
    identity_found_alone(&identity, manifest.partitions - 1, "", now_ms);
    err = err == OK ? begin_log(restore, &identity) : err;
    err = err == OK ? disk_replace(disk, restore->data, "lock", BYTES_NONE) : err;
    if (err == OK) {
        err = identity_write(disk, restore->data, "identity", &identity);
    }
    err = err == OK ? disk->remove(disk, mark) : err;
    err = err == OK ? disk->sync_dir(disk, restore->data) : err;
    if (err == OK) {
        print_manifest(&manifest);
    }
    free(manifest.books);
    return err;
}

static int restore(const char *path, const uint8_t *key, const char *data)
{
    struct backup_manifest manifest;
    struct backup_sink nothing = {0};
    struct restore restore = {.data = data};
    char why[512] = "the data directory cannot be made", mark[PATH_MAX], begun[PATH_MAX];
    (void)snprintf(mark, sizeof mark, "%s/" RESTORE_MARK, data);
    (void)snprintf(begun, sizeof begun, "%s/" RESTORE_MARK ".tmp", data);
    bool again = access(mark, F_OK) == 0 || access(begun, F_OK) == 0;
    if (!again && !is_empty(data)) {
        return fail("the data directory is not empty: nothing was restored", ERR_CONFLICT);
    }
    enum err err = backup_read(path, key, &nothing, &manifest, why, sizeof why);
    free(manifest.books);
    if (err == OK) {
        if (again) {
            wipe(data);
        }
        err = write_directory(&restore, path, key, why, sizeof why);
        state_close(restore.state);
        if (err != OK) {
            (void)fprintf(stderr, "belfry: %s is not complete: run this again\n", data);
        }
    }
    return err == OK ? 0 : fail(why, err);
}

int archive_restore(const char *path, const char *key_file, const char *data)
{
    uint8_t key[KEY_FILE_BYTES];
    int code = read_key(key_file, key) ? restore(path, key, data) : 1;
    sodium_memzero(key, sizeof key);
    return code;
}
