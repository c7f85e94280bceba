#include "storage/state_check.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/row.h"

struct run {
    struct state_check *check;
    struct state_partition *seen;
};

static void fault(struct run *run, int partition, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void fault(struct run *run, int partition, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    run->check->fault(run->check->ctx, partition, text);
}

static void on_tree_fault(void *ctx, const char *text)
{
    fault(ctx, -1, "%s", text);
}

static void on_book(struct run *run, unsigned partition, struct bytes value)
{
    if (value.len != sizeof *run->seen) {
        fault(run, (int)partition, "partition %u: its bookkeeping row is damaged", partition);
        return;
    }
    memcpy(&run->check->books[partition], value.ptr, value.len);
}

static void on_row(void *ctx, struct bytes key, struct bytes stored)
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
    run->seen[partition].set_hash += sum;
    run->seen[partition].counts[table]++;
    if (run->check->row != NULL) {
        struct bytes rest = bytes_of(key.ptr + ROW_PREFIX_BYTES, key.len - ROW_PREFIX_BYTES);
        run->check->row(run->check->ctx, partition, table, rest, value);
    }
}

static void compare(struct run *run, unsigned partition)
{
    const struct state_partition *seen = &run->seen[partition], *book = &run->check->books[partition];
    if (memcmp(seen->counts, book->counts, sizeof seen->counts) != 0) {
        fault(run, (int)partition, "partition %u: it has other numbers of rows than its bookkeeping row says",
              partition);
    } else if (seen->set_hash != book->set_hash) {
        fault(run, (int)partition, "partition %u: its rows do not have the hash that its bookkeeping row says",
              partition);
    }
}

enum err state_check_run(struct state_check *check)
{
    struct run run = {.check = check, .seen = mem_zalloc(check->partitions * sizeof *run.seen)};
    struct tree_visit visit = {check->meta, on_row, on_tree_fault, &run};
    char path[PATH_MAX];
    memset(check->books, 0, check->partitions * sizeof *check->books);
    (void)snprintf(path, sizeof path, "%s/data.mdb", check->dir);
    enum err err = tree_walk(path, &visit, &check->stats);
    for (unsigned p = 0; p < check->partitions && err == OK; p++) {
        compare(&run, p);
    }
    free(run.seen);
    return err;
}
