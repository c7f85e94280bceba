#include "node/repair.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "actors/kind.h"
#include "node/apply.h"
#include "node/identity.h"
#include "node/limits.h"
#include "node/recovery.h"

enum { SALVAGE_BATCH = 5000, REPLICA = 1 };

/* ---- what both do ---- */

static bool fail(const char *what, enum err err)
{
    if (err != OK) {
        (void)fprintf(stderr, "belfry: %s: %s\n", what, err_code(err));
    }
    return err == OK;
}

/* A node that is well holds the lock alone; one that is read-only for damage shares it. */
static int lock_directory(const char *data, int how)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/lock", data);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        (void)fprintf(stderr, "belfry: %s is not a data directory: %s\n", data, strerror(errno));
        return -1;
    }
    if (flock(fd, how | LOCK_NB) != 0) {
        (void)fprintf(stderr, "belfry: a node uses %s; stop it first\n", data);
        (void)close(fd);
        return -1;
    }
    return fd;
}

static enum err read_directory(const char *data, const struct identity *identity, struct recovery *recovery)
{
    recovery->data = data;
    recovery->partitions = identity->partitions + 1;
    recovery->read_only = true;
    recovery->damage = damage_new(recovery->partitions);
    enum err err = recovery_run(recovery);
    (void)fail(recovery->why, err);
    return err;
}

static void close_directory(struct recovery *recovery)
{
    recovery_close(recovery, true);
    damage_free(recovery->damage);
}

/* ---- verify ---- */

static const char *const start_names[] = {[DURABLE_FRESH] = "no run before",
                                          [DURABLE_CLEAN] = "stopped in order",
                                          [DURABLE_KILLED] = "killed",
                                          [DURABLE_CRASHED] = "the system went down; as of the durable point"};

static void print_partitions(const struct recovery *recovery)
{
    for (unsigned p = 0; p < recovery->partitions; p++) {
        const struct state_partition *book = &recovery->books[p];
        uint64_t rows = 0;
        for (unsigned t = 0; t < STATE_TABLES; t++) {
            rows += book->counts[t];
        }
        (void)printf("partition %u: applied %llu, rows %llu, hash %016llx, log to %llu, term %llu, vote %llu\n", p,
                     (unsigned long long)book->applied_index, (unsigned long long)rows,
                     (unsigned long long)book->set_hash, (unsigned long long)recovery->last[p],
                     (unsigned long long)recovery->starts[p].term, (unsigned long long)recovery->starts[p].vote);
    }
}

static int verify_here(const char *data)
{
    struct identity identity;
    struct recovery recovery = {0};
    struct buf text = {0};
    enum err err = identity_read(disk_posix(), data, &identity);
    if (err != OK) {
        (void)printf("damaged\nidentity: the file %s/identity is damaged or missing\n", data);
        return 1;
    }
    if (read_directory(data, &identity, &recovery) != OK) {
        return 2;
    }
    bool damaged = damage_any(recovery.damage);
    (void)printf("%s\n", damaged ? "damaged" : "whole");
    damage_write(recovery.damage, "", &text);
    (void)printf("%.*s", (int)text.len, text.len > 0 ? (const char *)text.ptr : "");
    buf_free(&text);
    (void)printf("last run: %s\nstate: %llu pages\nlog: %llu records\n", start_names[recovery.look.start],
                 (unsigned long long)recovery.tree.pages, (unsigned long long)recovery.records);
    print_partitions(&recovery);
    close_directory(&recovery);
    return damaged ? 1 : 0;
}

int repair_verify(const char *data)
{
    int lock = lock_directory(data, LOCK_SH), status = 0;
    if (lock < 0) {
        return 2;
    }
    pid_t child = fork();
    if (child == 0) {
        int code = verify_here(data);
        (void)fflush(stdout);
        _exit(code);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    (void)close(lock);
    if (child < 0) {
        (void)fprintf(stderr, "belfry: no process can be started: %s\n", strerror(errno));
        return 2;
    }
    if (WIFSIGNALED(status)) {
        (void)printf("damaged\nstate: reading it crashed (%s)\n", strsignal(WTERMSIG(status)));
        return 1;
    }
    return WEXITSTATUS(status);
}

/* ---- recover ---- */

/* The rows that are good, on their way into a new state. */
struct salvage {
    struct state *state;
    enum err err;
    uint64_t batch;
    uint64_t *rows; /* a partition */
};

static void salvage_row(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value)
{
    struct salvage *salvage = ctx;
    if (salvage->err == OK && salvage->batch == 0) {
        salvage->err = state_begin(salvage->state);
    }
    if (salvage->err != OK) {
        return;
    }
    salvage->err = rows_put(state_rows(salvage->state, partition), table, key, value);
    salvage->rows[partition]++;
    salvage->batch++;
    if (salvage->err != OK) {
        state_abort(salvage->state);
    } else if (salvage->batch == SALVAGE_BATCH) {
        salvage->err = state_commit(salvage->state);
        salvage->batch = 0;
    }
}

static uint64_t row_count(const struct state_partition *book)
{
    uint64_t rows = 0;
    for (unsigned t = 0; t < STATE_TABLES; t++) {
        rows += book->counts[t];
    }
    return rows;
}

/* What is missing in a partition is made good as far as it can be: its bookkeeping, its configuration,
 * and what the kinds know to derive. */
static enum err mend_partition(struct salvage *salvage, const struct recovery *old, unsigned partition)
{
    struct state_partition *book = state_partition_edit(salvage->state, partition);
    const struct state_partition *before = &old->books[partition];
    struct rows *rows = state_rows(salvage->state, partition);
    struct bytes encoded;
    uint64_t index;
    bool known = before->applied_index > 0;
    book->applied_index = known ? before->applied_index : old->last[partition];
    book->applied_term = known ? before->applied_term : old->last_term[partition];
    book->stamped_ms = before->stamped_ms;
    book->stamped_index = before->stamped_index;
    if (book->applied_index > 0 && apply_configuration(rows, &encoded, &index) != OK) {
        encoded = group_configuration_sole(REPLICA, "self");
        enum err err = apply_put_configuration(rows, 1, encoded);
        free((void *)(uintptr_t)encoded.ptr);
        TRY(err);
    }
    for (size_t k = 0; kinds[k] != NULL; k++) {
        if (kinds[k]->mend != NULL) {
            TRY(kinds[k]->mend(rows));
        }
    }
    uint64_t had = row_count(before), has = row_count(book);
    if (known && had == has) {
        return OK;
    }
    (void)printf("partition %u: %llu rows of %llu kept\n", partition, (unsigned long long)has, (unsigned long long)had);
    if (!known && book->applied_index > 0) {
        (void)printf("partition %u: how far the log was applied is lost; it counts as applied to its end, %llu\n",
                     partition, (unsigned long long)book->applied_index);
    }
    return OK;
}

static enum err mend(struct salvage *salvage, const struct recovery *old)
{
    enum err err = salvage->batch == 0 ? state_begin(salvage->state) : OK;
    for (unsigned p = 0; p < old->partitions && err == OK; p++) {
        err = mend_partition(salvage, old, p);
    }
    if (err != OK) {
        state_abort(salvage->state);
        return err;
    }
    TRY(state_commit(salvage->state));
    struct state_pin *pin;
    TRY(state_pin(salvage->state, &pin));
    err = state_pin_sync(pin);
    state_pin_free(pin);
    return err;
}

static void path_in(const char *data, const char *name, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/%s", data, name);
}

static enum err remove_tree(const char *path)
{
    struct disk *disk = disk_posix();
    static const char *const files[] = {"data.mdb", "lock.mdb", "next.tmp", "0000000000000001.seg",
                                        "0000000000000002.seg"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) { /* of a recovery that was cut short */
        char file[PATH_MAX];
        path_in(path, files[i], file);
        (void)disk->remove(disk, file);
    }
    return rmdir(path) == 0 || errno == ENOENT ? OK : ERR_IO;
}

/* A new state with every row whose checksum holds. */
static enum err salvage_state(const char *data, const struct identity *identity, struct recovery *out)
{
    char path[PATH_MAX];
    struct salvage salvage = {.rows = mem_zalloc((identity->partitions + 1) * sizeof(uint64_t))};
    path_in(data, "state.new", path);
    struct state_options options = {.dir = path, .partitions = identity->partitions + 1, .map_bytes = LIMIT_MAP_BYTES};
    enum err err = remove_tree(path);
    if (err == OK) {
        err = state_open(&options, &salvage.state);
    }
    if (err == OK) {
        out->row = salvage_row;
        out->ctx = &salvage;
        err = read_directory(data, identity, out);
    }
    if (err == OK) {
        err = salvage.err == OK ? mend(&salvage, out) : salvage.err;
    }
    for (unsigned p = 0; p <= identity->partitions && err == OK; p++) {
        out->starts[p].applied_index = state_partition(salvage.state, p)->applied_index;
        out->starts[p].applied_term = state_partition(salvage.state, p)->applied_term;
    }
    state_close(salvage.state);
    free(salvage.rows);
    return err;
}

/* The entries that follow what is applied, as far as they can be read without a gap. */
static enum err log_group(struct segments *log, const struct recovery *old, uint16_t group)
{
    const struct group_start *start = &old->starts[group];
    uint64_t index = start->applied_index, kept = 0;
    TRY(segments_begin_group(log, group, old->highest_term[group] + 1, index, start->applied_term));
    for (size_t i = 0; i < start->entries_len; i++) {
        const struct group_entry *entry = &start->entries[i];
        if (entry->index != index + 1) {
            continue; /* applied, or behind a gap */
        }
        TRY(segments_add(log, &(struct segment_record){.type = RECORD_ENTRY,
                                                       .kind = entry->kind,
                                                       .group = group,
                                                       .index = ++index,
                                                       .term = entry->term,
                                                       .payload = entry->payload}));
        kept++;
    }
    (void)printf("partition %u: %llu entries are applied, %llu more kept; what may have followed is lost\n", group,
                 (unsigned long long)start->applied_index, (unsigned long long)kept);
    return OK;
}

static void no_record(void *ctx, const struct segment_record *record)
{
    (void)ctx;
    (void)record;
}

static enum err rewrite_log(const char *data, const struct recovery *old)
{
    char path[PATH_MAX], why[256];
    struct segments *log;
    path_in(data, "log.new", path);
    struct segments_options options = {disk_posix(), path, old->partitions, (uint64_t)LIMIT_SEGMENT_MIB << 20};
    TRY(remove_tree(path));
    TRY(segments_open(&options, no_record, NULL, &log, why, sizeof why));
    enum err err = OK;
    for (uint16_t g = 0; g < old->partitions && err == OK; g++) {
        err = log_group(log, old, g);
    }
    err = err == OK ? segments_commit(log) : err;
    segments_close(log);
    return err;
}

/* What was damaged stays beside, under a name of its own. */
static enum err put_in_place(const char *data, const char *name)
{
    struct disk *disk = disk_posix();
    char fresh[PATH_MAX], present[PATH_MAX], kept[PATH_MAX];
    (void)snprintf(fresh, sizeof fresh, "%s/%s.new", data, name);
    (void)snprintf(kept, sizeof kept, "%s/%s.damaged-%lld", data, name, (long long)time(NULL));
    path_in(data, name, present);
    enum err err = disk->rename(disk, present, kept);
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    TRY(disk->rename(disk, fresh, present));
    (void)printf("the damaged %s is kept as %s\n", name, kept);
    return disk->sync_dir(disk, data);
}

static enum err forget(const char *data, const char *name)
{
    char path[PATH_MAX];
    struct disk *disk = disk_posix();
    path_in(data, name, path);
    enum err err = disk->remove(disk, path);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err recover(const char *data, const struct identity *identity, const struct recovery *found)
{
    bool state = damage_in(found->damage, DAMAGE_STATE), log = damage_in(found->damage, DAMAGE_LOG);
    struct recovery old = {0};
    enum err err = state ? salvage_state(data, identity, &old) : read_directory(data, identity, &old);
    if (err == OK && log) {
        err = rewrite_log(data, &old);
    }
    if (err == OK && old.look.start == DURABLE_CRASHED && old.look.has_point && !state) {
        err = durable_restore(data, &old.look);
    }
    /* Without these the next start takes the directory as it is, and writes them anew. */
    err = err == OK ? forget(data, "durable") : err;
    err = err == OK ? forget(data, "running") : err;
    if (err == OK && state) {
        err = put_in_place(data, "state");
    }
    if (err == OK && log) {
        err = put_in_place(data, "log");
    }
    close_directory(&old);
    return err;
}

int repair_recover(const char *data)
{
    struct identity identity;
    struct recovery found = {0};
    struct buf text = {0};
    int lock = lock_directory(data, LOCK_EX), code = 1;
    if (lock < 0) {
        return 1;
    }
    if (fail("the file identity is damaged or missing, restore a backup",
             identity_read(disk_posix(), data, &identity)) &&
        read_directory(data, &identity, &found) == OK) {
        bool damaged = damage_any(found.damage);
        damage_write(found.damage, "", &text);
        (void)printf("%.*s", (int)text.len, text.len > 0 ? (const char *)text.ptr : "");
        buf_free(&text);
        if (!damaged || fail("nothing was changed", recover(data, &identity, &found))) {
            (void)puts(damaged ? "recovered" : "nothing is damaged, nothing was changed");
            code = 0;
        }
        close_directory(&found);
    }
    (void)close(lock);
    return code;
}
