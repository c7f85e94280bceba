#include "node/recovery.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/log.h"

static void path_in(const struct recovery *recovery, const char *name, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/%s", recovery->data, name);
}

/* ---- how the last run ended ---- */

static enum err look(struct recovery *recovery)
{
    (void)snprintf(recovery->why, sizeof recovery->why, "the data directory %.300s cannot be read", recovery->data);
    enum err err = durable_look(disk_posix(), recovery->data, recovery->partitions, &recovery->look);
    if (err == ERR_CORRUPT) {
        if (recovery->belief == BELIEVE_THE_RUN) {
            damage_add(recovery->damage, DAMAGE_DURABLE, -1, "the file durable is damaged");
        }
        return OK;
    }
    return err;
}

/* ---- the state ---- */

static void on_fault(void *ctx, int partition, const char *text)
{
    struct recovery *recovery = ctx;
    damage_add(recovery->damage, DAMAGE_STATE, partition, text);
}

static void on_row(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value)
{
    struct recovery *recovery = ctx;
    recovery->row(recovery->ctx, partition, table, key, value);
}

/* After an orderly stop the state is exactly the last point; a meta page damaged so that an older
 * transaction shows is found here. */
static void check_clean_state(struct recovery *recovery)
{
    uint64_t txn;
    struct bytes meta = bytes_of(recovery->look.meta, sizeof recovery->look.meta);
    if (recovery->look.start == DURABLE_CLEAN && recovery->look.has_point &&
        (!tree_meta_txn(meta, &txn) || txn != recovery->tree.txn)) {
        damage_add(recovery->damage, DAMAGE_STATE, -1,
                   "the node stopped in order, but the state's newest transaction is another one");
    }
}

/* A run that never took a point and did not end in order: what its state is, is not believed, the log
 * holds everything. */
static bool is_all_in_log(const struct recovery *recovery)
{
    const struct durable_look *seen = &recovery->look;
    bool unfinished = seen->start == DURABLE_CRASHED || seen->start == DURABLE_KILLED;
    return recovery->belief == BELIEVE_THE_LOG || (recovery->belief == BELIEVE_THE_RUN && unfinished &&
                                                   !seen->has_point && !damage_in(recovery->damage, DAMAGE_DURABLE));
}

static bool is_point_believed(const struct recovery *recovery)
{
    return recovery->look.has_point &&
           (recovery->belief == BELIEVE_THE_POINT ||
            (recovery->belief == BELIEVE_THE_RUN && recovery->look.start == DURABLE_CRASHED));
}

static enum err check_state(struct recovery *recovery)
{
    char path[PATH_MAX];
    const struct durable_look *seen = &recovery->look;
    path_in(recovery, "state", path);
    recovery->from_log = is_all_in_log(recovery);
    if (recovery->from_log) {
        return OK;
    }
    struct state_check check = {.dir = path,
                                .partitions = recovery->partitions,
                                .meta =
                                    is_point_believed(recovery) ? bytes_of(seen->meta, sizeof seen->meta) : BYTES_NONE,
                                .fault = on_fault,
                                .row = recovery->row == NULL ? NULL : on_row,
                                .ctx = recovery,
                                .books = recovery->books};
    (void)snprintf(recovery->why, sizeof recovery->why, "the state in %.300s cannot be read", path);
    enum err err = state_check_run(&check);
    recovery->tree = check.stats;
    recovery->has_state = err == OK;
    if (err == ERR_NOT_FOUND) {
        if (seen->has_point) {
            damage_add(recovery->damage, DAMAGE_STATE, -1, "the state file is missing");
        }
        return OK;
    }
    if (err == OK && recovery->belief == BELIEVE_THE_RUN) {
        check_clean_state(recovery);
    }
    if (err == OK && recovery->tree.file_bytes < seen->state_bytes) {
        damage_add(recovery->damage, DAMAGE_STATE, -1,
                   "the file is shorter than it was at the durable point: it was cut");
    }
    return err;
}

/* ---- the log ---- */

static void note_term(struct recovery *recovery, const struct segment_record *record)
{
    bool has_term = record->type == RECORD_HARD_STATE || record->type == RECORD_ENTRY || record->type == RECORD_LAST;
    if (has_term && record->term > recovery->highest_term[record->group]) {
        recovery->highest_term[record->group] = record->term;
    }
}

static void on_beyond(void *ctx, const struct segment_record *record)
{
    note_term(ctx, record);
}

static uint64_t run_first(const struct group_start *start, size_t run)
{
    return run == 0 ? start->first_index : start->runs[run - 1].last + 1;
}

/* Takes back what the runs say of entries after this one. */
static void cut_runs(struct group_start *start, uint64_t last)
{
    while (start->runs_len > 0 && run_first(start, start->runs_len - 1) > last) {
        start->runs_len--;
    }
    if (start->runs_len > 0 && start->runs[start->runs_len - 1].last > last) {
        start->runs[start->runs_len - 1].last = last;
    }
}

/* Of every entry, applied or not: the runs end with the newest. */
static void note_run(struct recovery *recovery, const struct segment_record *record)
{
    struct group_start *start = &recovery->starts[record->group];
    size_t *cap = &recovery->run_caps[record->group];
    if (record->index == 0 || record->index - 1 > recovery->last[record->group]) {
        start->runs_len = 0; /* a gap */
    } else {
        cut_runs(start, record->index - 1);
    }
    if (start->runs_len == 0) {
        start->first_index = record->index;
    }
    if (start->runs_len == 0 || start->runs[start->runs_len - 1].term != record->term) {
        if (start->runs_len == *cap) {
            *cap = *cap == 0 ? 4 : *cap * 2;
            start->runs = mem_realloc(start->runs, *cap * sizeof *start->runs);
        }
        start->runs[start->runs_len++].term = record->term;
    }
    start->runs[start->runs_len - 1].last = record->index;
}

/* What is left of the runs is what the state holds already; nothing when there is a gap before its end. */
static void end_runs(struct group_start *start)
{
    cut_runs(start, start->applied_index);
    if (start->applied_index == 0 || start->runs_len == 0 ||
        start->runs[start->runs_len - 1].last != start->applied_index) {
        start->runs_len = 0;
        start->first_index = start->applied_index + 1;
    }
}

static void on_entry(struct recovery *recovery, const struct segment_record *record)
{
    struct group_start *start = &recovery->starts[record->group];
    note_run(recovery, record);
    while (start->entries_len > 0 && start->entries[start->entries_len - 1].index >= record->index) {
        free((void *)(uintptr_t)start->entries[--start->entries_len].payload.ptr);
    }
    if (record->index <= start->applied_index) {
        return; /* in the state already */
    }
    if (start->entries_len == recovery->caps[record->group]) {
        recovery->caps[record->group] = start->entries_len == 0 ? 16 : start->entries_len * 2;
        start->entries = mem_realloc(start->entries, recovery->caps[record->group] * sizeof *start->entries);
    }
    start->entries[start->entries_len++] =
        (struct group_entry){record->index, record->term, record->kind,
                             bytes_of(mem_copy(record->payload.ptr, record->payload.len), record->payload.len)};
}

static void drop_entries(struct group_start *start)
{
    while (start->entries_len > 0) {
        free((void *)(uintptr_t)start->entries[--start->entries_len].payload.ptr);
    }
}

/* A group's log begins: after an install, or where older segments were dropped. Not so when it says what was
 * read already. */
static void on_last(struct recovery *recovery, const struct segment_record *record)
{
    struct group_start *start = &recovery->starts[record->group];
    bool anew = record->kind == RECORD_LAST_ANEW;
    if (!anew && record->index == recovery->last[record->group]) {
        return;
    }
    start->runs_len = 0;
    recovery->begin[record->group] = record->index;
    recovery->begin_term[record->group] = record->term;
    if (anew) {
        drop_entries(start);
    }
}

static void on_record(void *ctx, const struct segment_record *record)
{
    struct recovery *recovery = ctx;
    struct group_start *start = &recovery->starts[record->group];
    note_term(recovery, record);
    recovery->records++;
    recovery->clean = record->type == RECORD_CLEAN;
    switch ((enum segment_record_type)record->type) {
    case RECORD_HARD_STATE:
        start->term = record->term;
        start->vote = record->index;
        return;
    case RECORD_ENTRY: on_entry(recovery, record); break;
    case RECORD_LAST: on_last(recovery, record); break;
    case RECORD_SEGMENT:
    case RECORD_CLEAN:
    case RECORD_SEAL: return;
    }
    recovery->last[record->group] = record->index;
    recovery->last_term[record->group] = record->term;
}

static enum err read_log(struct recovery *recovery)
{
    path_in(recovery, "log", recovery->log_dir);
    recovery->scan = (struct segment_scan){.disk = disk_posix(),
                                           .dir = recovery->log_dir,
                                           .groups = recovery->partitions,
                                           .each = on_record,
                                           .beyond = on_beyond,
                                           .ctx = recovery};
    enum err err = segment_scan_run(&recovery->scan);
    (void)snprintf(recovery->why, sizeof recovery->why, "%s", recovery->scan.why);
    if (err == ERR_CORRUPT) {
        damage_add(recovery->damage, DAMAGE_LOG, -1, recovery->why);
        return OK;
    }
    return err;
}

/* The term of the newest applied entry, as the log has it; false when it is not there. */
static bool logged_term(const struct recovery *recovery, unsigned group, uint64_t *out)
{
    const struct group_start *start = &recovery->starts[group];
    if (start->runs_len > 0) {
        *out = start->runs[start->runs_len - 1].term;
        return true;
    }
    *out = recovery->begin_term[group];
    return recovery->begin[group] == start->applied_index;
}

/* The state came from another replica, and nothing was applied since. The record of that follows the switch in
 * the log, and entries follow the record: so a log that ends before, or goes on from another entry, was not told
 * yet. One that has the very entry goes on from it, whether it was told or not. */
static void settle_install(struct recovery *recovery, unsigned group)
{
    struct group_start *start = &recovery->starts[group];
    uint64_t installed = recovery->books[group].installed_index, term;
    if (installed > 0 && start->term < start->applied_term) {
        start->term = start->applied_term; /* nobody was voted for in it: this node had not heard of it */
        start->vote = 0;
    }
    if (installed == 0 || installed != start->applied_index) {
        return;
    }
    bool known = logged_term(recovery, group, &term);
    if (recovery->last[group] < installed || (known && term != start->applied_term)) {
        drop_entries(start);
        start->runs_len = 0;
        start->first_index = installed + 1;
        recovery->last[group] = installed;
        recovery->last_term[group] = start->applied_term;
        recovery->restart_log[group] = true;
    }
}

/* What the state holds must be in the log: an applied entry was synced before it was applied. */
static void check_log_fits(struct recovery *recovery)
{
    char text[256];
    if (damage_in(recovery->damage, DAMAGE_LOG)) {
        return;
    }
    if (recovery->look.start == DURABLE_CLEAN && !recovery->clean && recovery->belief == BELIEVE_THE_RUN) {
        damage_add(recovery->damage, DAMAGE_LOG, -1,
                   "the node stopped in order, but the log's last record is not there");
    }
    for (unsigned g = 0; g < recovery->partitions; g++) {
        const struct group_start *start = &recovery->starts[g];
        if (damage_spares(recovery->damage, g) && recovery->last[g] != start->applied_index + start->entries_len) {
            (void)snprintf(
                text, sizeof text, "partition %u: the log ends at entry %llu, but %llu are applied and %zu wait", g,
                (unsigned long long)recovery->last[g], (unsigned long long)start->applied_index, start->entries_len);
            damage_add(recovery->damage, DAMAGE_LOG, -1, text);
        }
    }
}

enum err recovery_run(struct recovery *recovery)
{
    unsigned count = recovery->partitions;
    recovery->books = mem_zalloc(count * sizeof *recovery->books);
    recovery->starts = mem_zalloc(count * sizeof *recovery->starts);
    recovery->caps = mem_zalloc(count * sizeof *recovery->caps);
    recovery->run_caps = mem_zalloc(count * sizeof *recovery->run_caps);
    recovery->last = mem_zalloc(count * sizeof *recovery->last);
    recovery->last_term = mem_zalloc(count * sizeof *recovery->last_term);
    recovery->highest_term = mem_zalloc(count * sizeof *recovery->highest_term);
    recovery->begin = mem_zalloc(count * sizeof *recovery->begin);
    recovery->begin_term = mem_zalloc(count * sizeof *recovery->begin_term);
    recovery->restart_log = mem_zalloc(count * sizeof *recovery->restart_log);
    TRY(look(recovery));
    TRY(check_state(recovery));
    for (unsigned g = 0; g < count; g++) {
        recovery->starts[g].applied_index = recovery->books[g].applied_index;
        recovery->starts[g].applied_term = recovery->books[g].applied_term;
        recovery->highest_term[g] = recovery->books[g].applied_term;
    }
    TRY(read_log(recovery));
    for (unsigned g = 0; g < count; g++) {
        end_runs(&recovery->starts[g]);
        settle_install(recovery, g);
    }
    check_log_fits(recovery);
    return OK;
}

static bool is_any_restarted(const struct recovery *recovery)
{
    for (unsigned g = 0; g < recovery->partitions; g++) {
        if (recovery->restart_log[g]) {
            return true;
        }
    }
    return false;
}

static enum err log_restarts(const struct recovery *recovery, struct segments *log)
{
    for (uint16_t g = 0; g < recovery->partitions; g++) {
        const struct group_start *start = &recovery->starts[g];
        struct segment_record state = {
            .type = RECORD_HARD_STATE, .group = g, .term = start->term, .index = start->vote};
        struct segment_record last = {
            .type = RECORD_LAST, .group = g, .term = start->applied_term, .index = start->applied_index};
        if (recovery->restart_log[g]) {
            TRY(segments_add(log, &state));
            TRY(segments_add(log, &last));
        }
    }
    return segments_commit(log);
}

enum err recovery_restart_logs(struct recovery *recovery, struct state *state, struct segments *log)
{
    struct state_pin *pin;
    if (!is_any_restarted(recovery)) {
        return OK;
    }
    /* A log that begins anew must never meet a state from before the switch. The last run may have been killed
     * with its last point before it. Nothing is written to the state before a point of this run is taken, so
     * that this one need not be held. */
    TRY(state_pin(state, &pin));
    enum err err = state_pin_sync(pin);
    err = err == OK ? durable_save(disk_posix(), recovery->data, "durable", recovery->partitions, pin) : err;
    state_pin_free(pin);
    return err == OK ? log_restarts(recovery, log) : err;
}

void recovery_close(struct recovery *recovery, bool payloads)
{
    for (unsigned g = 0; recovery->starts != NULL && g < recovery->partitions; g++) {
        struct group_start *start = &recovery->starts[g];
        for (size_t i = 0; i < start->entries_len && payloads; i++) {
            free((void *)(uintptr_t)start->entries[i].payload.ptr);
        }
        free(start->entries);
        free(start->runs);
        free((void *)(uintptr_t)start->configuration.ptr);
    }
    segment_scan_close(&recovery->scan);
    free(recovery->look.applied);
    free(recovery->books);
    free(recovery->starts);
    free(recovery->caps);
    free(recovery->run_caps);
    free(recovery->last);
    free(recovery->last_term);
    free(recovery->highest_term);
    free(recovery->begin);
    free(recovery->begin_term);
    free(recovery->restart_log);
}
