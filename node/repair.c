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
#include "node/archive.h"
#include "node/identity.h"
#include "node/limits.h"
#include "node/recovery.h"

enum { SALVAGE_BATCH = 5000 };
#define MARK "recovered"

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

static enum err read_directory(const char *data, const struct identity *identity, enum recovery_belief belief,
                               struct recovery *recovery)
{
    recovery->data = data;
    recovery->partitions = identity->partitions + 1;
    recovery->belief = belief;
    recovery->damage = damage_new(recovery->partitions);
    enum err err = recovery_run(recovery);
    (void)fail(recovery->why, err);
    return err;
}

static void close_directory(struct recovery *recovery)
{
    if (recovery->damage == NULL) {
        return; /* not read */
    }
    recovery_close(recovery, true);
    damage_free(recovery->damage);
}

static void path_in(const char *data, const char *name, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/%s", data, name);
}

static bool is_there(const char *data, const char *name)
{
    char path[PATH_MAX];
    path_in(data, name, path);
    return access(path, F_OK) == 0;
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
    enum err err = identity_read(disk_posix(), data, "identity", &identity);
    if (is_there(data, RESTORE_MARK) || is_there(data, MARK)) {
        (void)printf("damaged\nidentity: a restore or a recovery was cut short: run it again\n");
        return 1;
    }
    if (err != OK) {
        (void)printf("damaged\nidentity: the file %s/identity is damaged or missing\n", data);
        return 1;
    }
    if (read_directory(data, &identity, BELIEVE_THE_RUN, &recovery) != OK) {
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

/* ---- salvage ---- */

/* The rows that are good, on their way into a new state. */
struct salvage {
    struct state *state;
    enum err err;
    uint64_t batch;
    uint64_t replica; /* this node's */
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
        struct group_members sole = {.len = 1, .list[0] = {.replica = salvage->replica, .role = GROUP_VOTER}};
        encoded = group_members_encode(&sole);
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
    return state_commit(salvage->state);
}

static void remove_entry(void *ctx, const char *name)
{
    char path[PATH_MAX];
    path_in(ctx, name, path);
    (void)unlink(path);
}

/* What a recovery that was cut short left. */
static enum err remove_tree(const char *data, const char *name)
{
    char path[PATH_MAX];
    path_in(data, name, path);
    enum err err = disk_posix()->list(disk_posix(), path, remove_entry, path);
    return err == ERR_NOT_FOUND || (err == OK && rmdir(path) == 0) ? OK : ERR_IO;
}

/* The state of that name reaches the disk, and a durable point of it is written. */
static enum err save_point(const char *data, const char *state_name, const char *point_name, unsigned partitions,
                           struct state *state)
{
    struct disk *disk = disk_posix();
    struct state_pin *pin;
    char path[PATH_MAX];
    path_in(data, state_name, path);
    TRY(state_pin(state, &pin));
    enum err err = state_pin_sync(pin);
    err = err == OK ? disk->sync_dir(disk, path) : err;
    err = err == OK ? durable_save(disk, data, point_name, partitions, pin) : err;
    state_pin_free(pin);
    return err;
}

static enum err save_point_of_file(const char *data, const char *point_name, unsigned partitions)
{
    char path[PATH_MAX];
    struct state *state;
    path_in(data, "state", path);
    struct state_options options = {.dir = path, .partitions = partitions, .map_bytes = LIMIT_MAP_BYTES};
    TRY(state_open(&options, &state));
    enum err err = save_point(data, "state", point_name, partitions, state);
    state_close(state);
    return err;
}

/* A new state with every row whose checksum holds. */
static enum err salvage_state(const char *data, const struct identity *identity, struct recovery *out)
{
    char path[PATH_MAX];
    unsigned partitions = identity->partitions + 1;
    struct salvage salvage = {.replica = replica_of(identity->node)};
    path_in(data, "state.new", path);
    struct state_options options = {.dir = path, .partitions = partitions, .map_bytes = LIMIT_MAP_BYTES};
    enum err err = state_open(&options, &salvage.state);
    if (err == OK) {
        out->row = salvage_row;
        out->ctx = &salvage;
        err = read_directory(data, identity, BELIEVE_THE_FILE, out);
    }
    if (err == OK) {
        err = salvage.err == OK ? mend(&salvage, out) : salvage.err;
    }
    err = err == OK ? save_point(data, "state.new", "durable.new", partitions, salvage.state) : err;
    for (unsigned p = 0; p < partitions && err == OK; p++) {
        out->starts[p].applied_index = state_partition(salvage.state, p)->applied_index;
        out->starts[p].applied_term = state_partition(salvage.state, p)->applied_term;
    }
    state_close(salvage.state);
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
    struct segments_options options = {disk_posix(), path, old->partitions, (uint64_t)LIMIT_SEGMENT_MIB_MIN << 20};
    TRY(segments_open(&options, no_record, NULL, &log, why, sizeof why));
    enum err err = OK;
    for (uint16_t g = 0; g < old->partitions && err == OK; g++) {
        err = log_group(log, old, g);
    }
    err = err == OK ? segments_commit(log) : err;
    segments_close(log);
    return err;
}

/* ---- putting it in place ----
 * The mark is written when all that is new is on the disk; its text is the stamp that the damaged parts
 * get in their names. From there on every step can be done again. */

static enum err set_aside(const char *data, const char *name, const char *stamp)
{
    struct disk *disk = disk_posix();
    char present[PATH_MAX], kept[PATH_MAX];
    path_in(data, name, present);
    (void)snprintf(kept, sizeof kept, "%s/%s.damaged-%s", data, name, stamp);
    if (access(present, F_OK) != 0 || access(kept, F_OK) == 0) {
        return OK;
    }
    (void)printf("the damaged %s is kept as %s\n", name, kept);
    return disk->rename(disk, present, kept);
}

static enum err put_in_place(const char *data, const char *name, const char *stamp)
{
    struct disk *disk = disk_posix();
    char fresh[PATH_MAX], present[PATH_MAX], fresh_name[64];
    (void)snprintf(fresh_name, sizeof fresh_name, "%s.new", name);
    path_in(data, fresh_name, fresh);
    path_in(data, name, present);
    if (!is_there(data, fresh_name)) {
        return OK;
    }
    TRY(set_aside(data, name, stamp));
    return disk->rename(disk, fresh, present);
}

enum err repair_finish(const char *data)
{
    struct disk *disk = disk_posix();
    struct buf mark = {0};
    char path[PATH_MAX], stamp[64] = "";
    path_in(data, MARK, path);
    enum err err = disk_load(disk, path, sizeof stamp - 1, &mark);
    if (err == OK && mark.len > 0) {
        memcpy(stamp, mark.ptr, mark.len);
    }
    buf_free(&mark);
    if (err != OK) {
        return err == ERR_NOT_FOUND ? OK : err;
    }
    if (!is_there(data, "durable.new") && is_there(data, "state.none")) {
        TRY(set_aside(data, "state", stamp)); /* the log holds everything */
        TRY(set_aside(data, "durable", stamp));
        path_in(data, "running", path);
        err = disk->remove(disk, path);
        TRY(err == ERR_NOT_FOUND ? OK : err);
    }
    TRY(put_in_place(data, "state", stamp));
    TRY(put_in_place(data, "log", stamp));
    TRY(put_in_place(data, "durable", stamp));
    TRY(disk->sync_dir(disk, data));
    path_in(data, "state.none", path);
    (void)disk->remove(disk, path);
    path_in(data, MARK, path);
    TRY(disk->remove(disk, path));
    return disk->sync_dir(disk, data);
}

/* ---- recover ---- */

/* Reads the directory with another belief; true when so nothing is damaged and nothing lost. */
static bool holds(const char *data, const struct identity *identity, enum recovery_belief belief)
{
    struct recovery recovery = {0};
    enum err err = read_directory(data, identity, belief, &recovery);
    bool whole = err == OK && !damage_any(recovery.damage) && (belief != BELIEVE_THE_POINT || recovery.look.has_point);
    close_directory(&recovery);
    return whole;
}

static enum err mark_crashed(const char *data)
{
    return disk_replace(disk_posix(), data, "running", BYTES_LIT("recovered\n"));
}

static enum err commit(const char *data)
{
    struct buf stamp = {0};
    buf_printf(&stamp, "%lld-%d", (long long)time(NULL), (int)getpid());
    enum err err = disk_posix()->sync_dir(disk_posix(), data);
    err = err == OK ? disk_replace(disk_posix(), data, MARK, buf_bytes(&stamp)) : err;
    buf_free(&stamp);
    return err == OK ? repair_finish(data) : err;
}

/* Something is lost: the state's file if it is whole, else its point, else the rows that are good; and of
 * the log the entries that follow. */
static enum err recover_rest(const char *data, const struct identity *identity)
{
    struct recovery file = {0}, point = {0}, salvaged = {0};
    unsigned partitions = identity->partitions + 1;
    struct recovery *old = &file;
    enum err err = read_directory(data, identity, BELIEVE_THE_FILE, &file);
    if (err == OK && !damage_in(file.damage, DAMAGE_STATE) && file.has_state) {
        err = save_point_of_file(data, "durable.new", partitions);
    } else if (err == OK) {
        old = &point;
        err = read_directory(data, identity, BELIEVE_THE_POINT, &point);
        if (err == OK && (damage_in(point.damage, DAMAGE_STATE) || !point.look.has_point)) {
            old = &salvaged;
            err = salvage_state(data, identity, &salvaged);
        }
    }
    err = err == OK ? rewrite_log(data, old) : err;
    close_directory(&file);
    close_directory(&point);
    close_directory(&salvaged);
    err = err == OK ? mark_crashed(data) : err; /* the next start goes back to the point, and replays */
    return err == OK ? commit(data) : err;
}

static enum err forget(const char *data, const char *name)
{
    char path[PATH_MAX];
    path_in(data, name, path);
    enum err err = disk_posix()->remove(disk_posix(), path);
    return err == ERR_NOT_FOUND ? OK : err;
}

static enum err recover(const char *data, const struct identity *identity)
{
    unsigned partitions = identity->partitions + 1;
    TRY(remove_tree(data, "state.new"));
    TRY(remove_tree(data, "log.new"));
    TRY(forget(data, "durable.new"));
    TRY(forget(data, "state.none"));
    if (holds(data, identity, BELIEVE_THE_POINT)) {
        (void)puts("nothing is lost: the state goes back to its durable point, the log holds the rest");
        return mark_crashed(data);
    }
    if (holds(data, identity, BELIEVE_THE_FILE)) {
        (void)puts("nothing is lost: the state and the log are whole");
        TRY(save_point_of_file(data, "durable", partitions));
        return mark_crashed(data);
    }
    if (holds(data, identity, BELIEVE_THE_LOG)) {
        (void)puts("nothing is lost: the log holds everything");
        TRY(disk_replace(disk_posix(), data, "state.none", BYTES_NONE));
        return commit(data);
    }
    return recover_rest(data, identity);
}

static bool is_whole(const char *data, const struct identity *identity, bool say)
{
    struct recovery recovery = {0};
    struct buf text = {0};
    bool whole = read_directory(data, identity, BELIEVE_THE_RUN, &recovery) == OK && !damage_any(recovery.damage);
    if (say && recovery.damage != NULL) {
        damage_write(recovery.damage, "", &text);
        (void)printf("%.*s", (int)text.len, text.len > 0 ? (const char *)text.ptr : "");
    }
    buf_free(&text);
    close_directory(&recovery);
    return whole;
}

static int recover_locked(const char *data)
{
    struct identity identity;
    if (is_there(data, RESTORE_MARK)) {
        (void)fprintf(stderr, "belfry: a restore was cut short: run it again\n");
        return 1;
    }
    if (!fail("a recovery that was cut short cannot be finished", repair_finish(data)) ||
        !fail("the file identity is damaged or missing, restore a backup",
              identity_read(disk_posix(), data, "identity", &identity))) {
        return 1;
    }
    if (is_whole(data, &identity, true)) {
        (void)puts("nothing is damaged, nothing was changed");
        return 0;
    }
    if (!fail("the recovery is not complete", recover(data, &identity))) {
        return 1;
    }
    bool whole = is_whole(data, &identity, true);
    (void)puts(whole ? "recovered" : "still damaged: restore a backup");
    return whole ? 0 : 1;
}

int repair_recover(const char *data)
{
    int lock = lock_directory(data, LOCK_EX), code = 1;
    if (lock >= 0) {
        code = recover_locked(data);
        (void)close(lock);
    }
    return code;
}
