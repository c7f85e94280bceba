/* The state's file, read without LMDB: a small real one with bytes changed as the input says: offset (2),
 * value (1) again and again, or, with a first byte of 1, the input itself as the file. */
#include "storage/state_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/state.h"
#include "tests/fuzz/fuzz.h"

enum { PARTITIONS = 3 };
static char dir[64];
static struct buf real; /* pages of a real file */

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

static void on_fault(void *ctx, int partition, const char *text)
{
    unsigned *faults = ctx;
    CHECK(partition < PARTITIONS && text[0] != 0);
    (*faults)++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes input = bytes_of(data, len);
    struct state_partition books[PARTITIONS];
    struct buf content = {0};
    unsigned faults = 0;
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
    struct state_check check = {
        .dir = dir, .partitions = PARTITIONS, .fault = on_fault, .ctx = &faults, .books = books};
    CHECK(state_check_run(&check) == OK);
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
