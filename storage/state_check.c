#include "storage/state_check.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/row.h"

enum { SLOTS = 2 };

/* All of what is a partition's is kept for both of its slots; which one is live is known at the end alone. */
struct run {
    struct state_check *check;
    struct state_partition *books[SLOTS];
    struct state_partition *seen[TREE_THREADS_MAX][SLOTS]; /* a thread's own */
    uint8_t *slots;                                        /* as the row of ROW_SLOTS, once it was met */
    bool has_slots, rows_wanted;
    pthread_mutex_t mutex; /* over the calls of fault */
};

static void fault(struct run *run, int partition, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void fault(struct run *run, int partition, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    CHECK(pthread_mutex_lock(&run->mutex) == 0);
    run->check->fault(run->check->ctx, partition, text);
    CHECK(pthread_mutex_unlock(&run->mutex) == 0);
}

static void on_tree_fault(void *ctx, const char *text)
{
    fault(ctx, -1, "%s", text);
}

static void on_book(struct run *run, unsigned slot, unsigned partition, struct bytes value)
{
    if (value.len != sizeof(struct state_partition)) {
        fault(run, (int)partition, "partition %u: its bookkeeping row is damaged", partition);
        return;
    }
    memcpy(&run->books[slot][partition], value.ptr, value.len);
}

static void on_slots(struct run *run, struct bytes key, struct bytes stored)
{
    uint64_t sum;
    struct bytes value;
    size_t size = row_slots_bytes(run->check->partitions);
    if (key.ptr[2] != ROW_TABLE_BOOK || row_open(key, stored, &value, &sum) != OK || value.len != size) {
        fault(run, -1, "the row that says which slots are live is damaged");
        return;
    }
    memcpy(run->slots, value.ptr, size);
    run->has_slots = true;
}

static unsigned live_slot(const struct run *run, unsigned partition)
{
    return row_live_prefix(run->slots, partition) >= ROW_SLOT;
}

static void on_row(void *ctx, unsigned thread, struct bytes key, struct bytes stored)
{
    struct run *run = ctx;
    uint64_t sum;
    struct bytes value;
    if (key.len >= ROW_PREFIX_BYTES && row_prefix(key) == ROW_SLOTS) {
        on_slots(run, key, stored);
        return;
    }
    if (key.len < ROW_PREFIX_BYTES || (row_prefix(key) & ~(unsigned)ROW_SLOT) >= run->check->partitions ||
        key.ptr[2] >= STATE_TABLES) {
        fault(run, -1, "there is a row of no partition or table");
        return;
    }
    unsigned partition = row_prefix(key) & ~(unsigned)ROW_SLOT, slot = row_prefix(key) >= ROW_SLOT;
    uint8_t table = key.ptr[2];
    if (row_open(key, stored, &value, &sum) != OK) {
        fault(run, (int)partition, "partition %u: the checksum of a row of table %u does not hold", partition, table);
        return;
    }
    if (table == ROW_TABLE_BOOK) {
        on_book(run, slot, partition, value);
        return;
    }
    run->seen[thread][slot][partition].set_hash += sum;
    run->seen[thread][slot][partition].counts[table]++;
    if (run->rows_wanted && slot == live_slot(run, partition)) {
        struct bytes rest = bytes_of(key.ptr + ROW_PREFIX_BYTES, key.len - ROW_PREFIX_BYTES);
        run->check->row(run->check->ctx, partition, table, rest, value);
    }
}

/* What a stage holds does not count: an install that was cut short is no damage. */
static void compare(struct run *run, unsigned partition)
{
    unsigned live = live_slot(run, partition);
    const struct state_partition *book = &run->books[live][partition];
    struct state_partition *seen = &run->seen[0][live][partition];
    for (unsigned i = 1; i < TREE_THREADS_MAX && run->seen[i][live] != NULL; i++) {
        seen->set_hash += run->seen[i][live][partition].set_hash;
        for (unsigned t = 0; t < STATE_TABLES; t++) {
            seen->counts[t] += run->seen[i][live][partition].counts[t];
        }
    }
    if (memcmp(seen->counts, book->counts, sizeof seen->counts) != 0) {
        fault(run, (int)partition, "partition %u: it has other numbers of rows than its bookkeeping row says",
              partition);
    } else if (seen->set_hash != book->set_hash) {
        fault(run, (int)partition, "partition %u: its rows do not have the hash that its bookkeeping row says",
              partition);
    }
    if (run->books[!live][partition].applied_index != 0) {
        /* A stage has none: the row of the slots is lost, or an old one. */
        fault(run, -1, "partition %u: the slot that is not live has an applied index", partition);
    }
    run->check->books[partition] = *book;
}

/* Rows are handed on in order, by one thread; to check them alone all cores help. */
static unsigned threads_of(const struct state_check *check)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return check->row != NULL || cores < 2 ? 1 : cores > TREE_THREADS_MAX ? TREE_THREADS_MAX : (unsigned)cores;
}

static void ignore_fault(void *ctx, const char *text)
{
    (void)ctx;
    (void)text;
}

/* Looks for what tells the live slots before rows are handed on; faults are told by the walk that follows. */
static void on_row_of_slots(void *ctx, unsigned thread, struct bytes key, struct bytes stored)
{
    struct run *run = ctx;
    struct bytes value;
    uint64_t sum;
    (void)thread;
    if (key.len < ROW_PREFIX_BYTES || key.ptr[2] != ROW_TABLE_BOOK || row_open(key, stored, &value, &sum) != OK) {
        return;
    }
    unsigned partition = row_prefix(key) & ~(unsigned)ROW_SLOT;
    if (row_prefix(key) == ROW_SLOTS && value.len == row_slots_bytes(run->check->partitions)) {
        memcpy(run->slots, value.ptr, value.len);
        run->has_slots = true;
    } else if (partition < run->check->partitions && value.len == sizeof(struct state_partition)) {
        memcpy(&run->books[row_prefix(key) >= ROW_SLOT][partition], value.ptr, value.len);
    }
}

/* The row of the slots says it; where that is damaged or lost, the bookkeeping: a stage was never applied to. */
static enum err find_live(struct run *run, const char *path)
{
    const struct state_check *check = run->check;
    struct tree_visit visit = {check->meta, 1, on_row_of_slots, ignore_fault, run};
    struct tree_stats stats;
    TRY(tree_walk(path, &visit, &stats));
    for (unsigned p = 0; p < check->partitions; p++) {
        if (!run->has_slots && run->books[1][p].applied_index > run->books[0][p].applied_index) {
            run->slots[p / 8] |= (uint8_t)(1U << p % 8);
        }
    }
    return OK;
}

static void run_begin(struct run *run, struct state_check *check, unsigned threads)
{
    size_t size = check->partitions * sizeof *check->books;
    *run = (struct run){.check = check, .slots = mem_zalloc(row_slots_bytes(check->partitions))};
    CHECK(pthread_mutex_init(&run->mutex, NULL) == 0);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        run->books[slot] = mem_zalloc(size);
        for (unsigned i = 0; i < threads; i++) {
            run->seen[i][slot] = mem_zalloc(size);
        }
    }
    memset(check->books, 0, size);
}

static void run_end(struct run *run)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        free(run->books[slot]);
        for (unsigned i = 0; i < TREE_THREADS_MAX; i++) {
            free(run->seen[i][slot]);
        }
    }
    free(run->slots);
    (void)pthread_mutex_destroy(&run->mutex);
}

enum err state_check_run(struct state_check *check)
{
    struct run run;
    struct tree_visit visit = {check->meta, threads_of(check), on_row, on_tree_fault, &run};
    char path[PATH_MAX];
    run_begin(&run, check, visit.threads);
    (void)snprintf(path, sizeof path, "%s/data.mdb", check->dir);
    run.rows_wanted = check->row != NULL;
    enum err err = run.rows_wanted ? find_live(&run, path) : OK;
    err = err == OK ? tree_walk(path, &visit, &check->stats) : err;
    for (unsigned p = 0; p < check->partitions && err == OK; p++) {
        compare(&run, p);
    }
    run_end(&run);
    return err;
}
