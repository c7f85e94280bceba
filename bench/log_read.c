/* Reading a group's entries back from a log in which all groups' entries are mixed: what a leader does
 * for a replica that lags. bench_log_read DIR [ENTRIES of a group] */
#include <stdio.h>
#include <stdlib.h>

#include "node/base/clock.h"
#include "node/limits.h"
#include "storage/segments.h"

enum { GROUPS = 17, ENTRY = 300, BATCH = 64, READ_ENTRIES = 1024, READ_BYTES = 256 * 1024 };

static void ignore(void *ctx, const struct segment_record *record)
{
    (void)ctx;
    (void)record;
}

static void count(void *ctx, const struct segment_record *record)
{
    uint64_t *next = ctx;
    CHECK(record->index == (*next)++ && record->payload.len == ENTRY);
}

static void write_log(struct segments *log, uint64_t entries)
{
    static uint8_t payload[ENTRY];
    for (uint64_t index = 1; index <= entries; index++) {
        for (uint16_t group = 0; group < GROUPS; group++) {
            struct segment_record record = {RECORD_ENTRY, 1, group, index, 1, {payload, sizeof payload}};
            CHECK(segments_add(log, &record) == OK);
        }
        if (index % BATCH == 0 || index == entries) {
            CHECK(segments_commit(log) == OK);
        }
    }
}

static void read_log(struct segments *log, uint64_t entries, size_t most, const char *what)
{
    uint64_t next = 1, reads = 0;
    int64_t start = clock_boot_ns(clock_system());
    for (; next <= entries; reads++) {
        CHECK(segments_read(log, 3, next, most, most == SIZE_MAX ? SIZE_MAX : READ_BYTES, count, &next) == OK);
    }
    double seconds = (double)(clock_boot_ns(clock_system()) - start) / 1e9;
    (void)printf("%s: %llu entries in %llu reads, %.3f s, %.0f entries/s\n", what, (unsigned long long)entries,
                 (unsigned long long)reads, seconds, (double)entries / seconds);
}

int main(int argc, char **argv)
{
    char why[256];
    struct segments *log;
    uint64_t entries = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
    if (argc < 2) {
        (void)fputs("usage: bench_log_read DIR [ENTRIES]\n", stderr);
        return 2;
    }
    struct segments_options options = {disk_posix(), argv[1], GROUPS, LIMIT_SEGMENT_MIB << 20};
    CHECK(segments_open(&options, ignore, NULL, &log, why, sizeof why) == OK);
    write_log(log, entries);
    read_log(log, entries, SIZE_MAX, "all at once");
    read_log(log, entries, READ_ENTRIES, "256 KiB at a time");
    read_log(log, entries / 10, 1, "one by one");
    segments_close(log);
    int64_t start = clock_boot_ns(clock_system());
    CHECK(segments_open(&options, ignore, NULL, &log, why, sizeof why) == OK);
    (void)printf("opened in %.3f s\n", (double)(clock_boot_ns(clock_system()) - start) / 1e9);
    read_log(log, entries, READ_ENTRIES, "after a restart, 256 KiB at a time");
    segments_close(log);
    return 0;
}
