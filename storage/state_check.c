#include "storage/state_check.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/row.h"

struct run {
    struct state_check *check;
    struct state_partition *seen[TREE_THREADS_MAX]; /* a thread's own */
    pthread_mutex_t mutex;                          /* over the calls of fault */
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

static void on_book(struct run *run, unsigned partition, struct bytes value)
{
    if (value.len != sizeof(struct state_partition)) {
        fault(run, (int)partition, "partition %u: its bookkeeping row is damaged", partition);
        return;
    }
    memcpy(&run->check->books[partition], value.ptr, value.len);
}

static void on_row(void *ctx, unsigned thread, struct bytes key, struct bytes stored)
{
    struct run *run = ctx;
    uint64_t sum;
    struct bytes value;
    if (key.len < ROW_PREFIX_BYTES || row_partition(key) >= run->check->partitions || key.ptr[2] >= STATE_TABLES) {
        fault(run, -1, "there is a row of no partition or table");
        return;
    }
    unsigned partition = row_partition(key);
    uint8_t table = key.ptr[2];
    if (row_open(key, stored, &value, &sum) != OK) {
        fault(run, (int)partition, "partition %u: the checksum of a row of table %u does not hold", partition, table);
        return;
    }
    if (table == ROW_TABLE_BOOK) {
        on_book(run, partition, value);
        return;
    }
    run->seen[thread][partition].set_hash += sum;
    run->seen[thread][partition].counts[table]++;
    if (run->check->row != NULL) {
        struct bytes rest = bytes_of(key.ptr + ROW_PREFIX_BYTES, key.len - ROW_PREFIX_BYTES);
        run->check->row(run->check->ctx, partition, table, rest, value);
    }
}

static void compare(struct run *run, unsigned partition)
{
    const struct state_partition *book = &run->check->books[partition];
    struct state_partition *seen = &run->seen[0][partition];
    for (unsigned i = 1; i < TREE_THREADS_MAX && run->seen[i] != NULL; i++) {
        seen->set_hash += run->seen[i][partition].set_hash;
        for (unsigned t = 0; t < STATE_TABLES; t++) {
            seen->counts[t] += run->seen[i][partition].counts[t];
        }
    }
    if (memcmp(seen->counts, book->counts, sizeof seen->counts) != 0) {
        fault(run, (int)partition, "partition %u: it has other numbers of rows than its bookkeeping row says",
              partition);
    } else if (seen->set_hash != book->set_hash) {
        fault(run, (int)partition, "partition %u: its rows do not have the hash that its bookkeeping row says",
              partition);
    }
}

/* Rows are handed on in order, by one thread; to check them alone all cores help. */
static unsigned threads_of(const struct state_check *check)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return check->row != NULL || cores < 2 ? 1 : cores > TREE_THREADS_MAX ? TREE_THREADS_MAX : (unsigned)cores;
}

enum err state_check_run(struct state_check *check)
{
    struct run run = {.check = check};
    struct tree_visit visit = {check->meta, threads_of(check), on_row, on_tree_fault, &run};
    char path[PATH_MAX];
    CHECK(pthread_mutex_init(&run.mutex, NULL) == 0);
    for (unsigned i = 0; i < visit.threads; i++) {
        run.seen[i] = mem_zalloc(check->partitions * sizeof **run.seen);
    }
    memset(check->books, 0, check->partitions * sizeof *check->books);
    (void)snprintf(path, sizeof path, "%s/data.mdb", check->dir);
    enum err err = tree_walk(path, &visit, &check->stats);
    for (unsigned p = 0; p < check->partitions && err == OK; p++) {
        compare(&run, p);
    }
    for (unsigned i = 0; i < visit.threads; i++) {
        free(run.seen[i]);
    }
    (void)pthread_mutex_destroy(&run.mutex);
    return err;
}
