/* The state's file, read without LMDB: a small real one with bytes changed as the input says: offset (2),
 * value (1) again and again, or, with a first byte of 1, the input itself as the file. In the real one a
 * partition lives in its second slot, and another has an unfinished stage. A file without faults has the rows
 * that its bookkeeping says, also as they are handed on. */
#include "storage/state_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/row.h"
#include "tests/fuzz/fuzz.h"

enum { PARTITIONS = 3 };
static char dir[64];
static struct buf real; /* pages of a real file */

/* Adds to the bookkeeping what a row of table 1 adds. */
static void count_row(struct state_partition *book, unsigned partition, uint8_t table, struct bytes key,
                      struct bytes value)
{
    uint8_t whole[ROW_KEY_MAX] = {(uint8_t)(partition >> 8), (uint8_t)partition, table};
    memcpy(whole + ROW_PREFIX_BYTES, key.ptr, key.len);
    book->set_hash += row_sum(bytes_of(whole, ROW_PREFIX_BYTES + key.len), value);
    book->counts[table]++;
}

static void install(struct state *state)
{
    struct state_partition book = {.applied_index = 9, .applied_term = 1};
    CHECK(state_begin(state) == OK);
    for (unsigned i = 0; i < 40; i++) {
        struct bytes key = bytes_of(&i, sizeof i);
        CHECK(rows_put(state_stage_rows(state, 1), 1, key, BYTES_LIT("installed")) == OK);
        CHECK(rows_put(state_stage_rows(state, 2), 1, key, BYTES_LIT("staged")) == OK);
        count_row(&book, 1, 1, key, BYTES_LIT("installed"));
    }
    CHECK(state_stage_switch(state, 1, &book) == OK);
    CHECK(state_commit(state) == OK);
}

static void make_real(void)
{
    struct state *state;
    char path[128];
    struct state_options options = {.dir = dir, .partitions = PARTITIONS, .map_bytes = 1U << 26};
    CHECK(state_open(&options, &state) == OK);
    for (unsigned round = 0; round < 4; round++) {
        CHECK(state_begin(state) == OK);
        for (unsigned i = 0; i < 60; i++) {
            static const char value[6000] = "value";
            unsigned key = i * 7 + round;
            size_t len = i == 7 ? sizeof value : 100;
            CHECK(rows_put(state_rows(state, i % PARTITIONS), 1, bytes_of(&key, sizeof key), bytes_of(value, len)) ==
                  OK);
        }
        CHECK(state_commit(state) == OK);
    }
    install(state);
    state_close(state);
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    real.len = fread(buf_room(&real, 1U << 20), 1, 1U << 20, file);
    (void)fclose(file);
}

static void write_file(struct bytes content)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/data.mdb", dir);
    FILE *file = fopen(path, "we");
    CHECK(file != NULL && fwrite(content.ptr, 1, content.len, file) == content.len && fclose(file) == 0);
}

struct result {
    unsigned faults;
    struct state_partition books[PARTITIONS], seen[PARTITIONS];
};

static void on_fault(void *ctx, int partition, const char *text)
{
    struct result *result = ctx;
    CHECK(partition < PARTITIONS && text[0] != 0);
    result->faults++;
}

static void on_row(void *ctx, unsigned partition, uint8_t table, struct bytes key, struct bytes value)
{
    struct result *result = ctx;
    CHECK(partition < PARTITIONS && table > ROW_TABLE_BOOK && table < STATE_TABLES);
    if (key.len <= ROW_KEY_MAX - ROW_PREFIX_BYTES) {
        count_row(&result->seen[partition], partition, table, key, value);
    }
}

static void check(bool rows)
{
    struct result result = {0};
    struct state_check run = {.dir = dir,
                              .partitions = PARTITIONS,
                              .fault = on_fault,
                              .row = rows ? on_row : NULL,
                              .ctx = &result,
                              .books = result.books};
    CHECK(state_check_run(&run) == OK);
    for (unsigned p = 0; p < PARTITIONS && rows && result.faults == 0; p++) {
        CHECK(result.seen[p].set_hash == result.books[p].set_hash);
        CHECK(memcmp(result.seen[p].counts, result.books[p].counts, sizeof result.seen[p].counts) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct buf content = {0};
    if ((fuzz_take(&input, 1) & 1) != 0) {
        fuzz_expand(input, 1U << 16, &content);
    } else {
        buf_add_bytes(&content, buf_bytes(&real));
        while (input.len > 0) {
            size_t at = (size_t)fuzz_take(&input, 2) * 2 + (input.len & 1);
            uint8_t value = (uint8_t)fuzz_take(&input, 1);
            if (at < content.len) {
                content.ptr[at] = value;
            }
        }
    }
    write_file(buf_bytes(&content));
    check(true);
    check(false);
    buf_free(&content);
    return 0;
}

static void remove_dir(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    (void)!system(command);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    (void)snprintf(dir, sizeof dir, "%s/belfry-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(dir) != NULL);
    (void)atexit(remove_dir);
    make_real();
    if (fuzz_wants_seeds()) {
        static const uint8_t one[] = {0, 16, 8, 1, 64, 8, 3},
                             raw[] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0xff, 1, 2};
        fuzz_seed("changed", bytes_of(one, sizeof one));
        fuzz_seed("raw", bytes_of(raw, sizeof raw));
        fuzz_seeds_end();
    }
    return 0;
}
