/* The log against a disk in memory that tears: what was synced is there after any crash; what was
 * damaged is never taken for a shorter log. */
#include "node/limits.h"
#include "storage/record.h"
#include "storage/segments.h"
#include "tests/support/test.h"
#include "tests/support/torn_disk.h"

enum { SEGMENT = 16384, GROUPS = 17, RESERVE = 1 << 20 };

/* ---- what the log should hold ---- */

struct expected {
    uint64_t last[GROUPS], term[GROUPS], vote[GROUPS]; /* newest synced */
};

struct seen {
    struct expected now;
    uint64_t first[GROUPS];
};

static void payload_of(uint64_t group, uint64_t index, uint8_t *out)
{
    for (size_t i = 0; i < 64; i++) {
        out[i] = (uint8_t)(group * 31 + index * 7 + i);
    }
}

static void on_record(void *ctx, const struct segment_record *record)
{
    struct seen *seen = ctx;
    uint8_t want[64];
    if (record->type == RECORD_HARD_STATE) {
        assert_true(record->term >= seen->now.term[record->group]);
        seen->now.term[record->group] = record->term;
        seen->now.vote[record->group] = record->index;
    } else if (record->type == RECORD_LAST && record->kind == RECORD_LAST_ANEW) {
        assert_true(record->index >= seen->now.last[record->group]);
        seen->now.last[record->group] = record->index;
    } else if (record->type == RECORD_LAST) {
        assert_true(seen->now.last[record->group] == 0 || seen->now.last[record->group] == record->index);
        seen->now.last[record->group] = record->index;
    } else if (record->type == RECORD_ENTRY) {
        assert_int_equal(record->index, seen->now.last[record->group] + 1);
        payload_of(record->group, record->index, want);
        assert_true(record->payload.len == 0 || memcmp(record->payload.ptr, want, record->payload.len) == 0);
        seen->now.last[record->group] = record->index;
    }
}

static enum err open_keeping(struct torn_disk *disk, uint64_t keep_bytes, struct segments **out, struct seen *seen)
{
    char why[256];
    struct segments_options options = {&disk->disk, "dir", GROUPS, SEGMENT, keep_bytes, RESERVE};
    *seen = (struct seen){0};
    return segments_open(&options, on_record, seen, out, why, sizeof why);
}

static enum err open_log(struct torn_disk *disk, struct segments **out, struct seen *seen)
{
    return open_keeping(disk, 0, out, seen);
}

static void add(struct segments *log, struct segment_record record)
{
    if (segments_add(log, &record) != OK) {
        return; /* the error comes again with the commit */
    }
}

/* Adds a random batch; *next is what the log holds if it is synced. */
static void add_batch(struct segments *log, struct random *random, struct expected *next)
{
    uint8_t payload[64];
    for (uint64_t n = 1 + below(random, 30); n > 0; n--) {
        uint16_t group = (uint16_t)below(random, GROUPS);
        if (below(random, 10) == 0) {
            next->vote[group] = below(random, 9);
            add(log, (struct segment_record){.type = RECORD_HARD_STATE,
                                             .group = group,
                                             .term = ++next->term[group],
                                             .index = next->vote[group]});
            continue;
        }
        payload_of(group, ++next->last[group], payload);
        add(log, (struct segment_record){.type = RECORD_ENTRY,
                                         .group = group,
                                         .index = next->last[group],
                                         .term = next->term[group],
                                         .payload = bytes_of(payload, below(random, 65))});
    }
}

/* A group's log begins anew, behind what it had. */
static void begin_anew(struct segments *log, struct random *random, struct expected *next)
{
    uint16_t group = (uint16_t)below(random, GROUPS);
    next->last[group] += below(random, 50);
    add(log, (struct segment_record){.type = RECORD_LAST, .group = group, .index = next->last[group]});
}

static void test_what_was_synced_survives_any_power_failure(void **state)
{
    (void)state;
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    for (int image = 0; image < 300; image++) {
        struct torn_disk disk;
        struct segments *log = NULL;
        struct expected synced = {0}, next;
        struct seen seen;
        torn_disk_init(&disk, &random);
        for (int crash = 0; crash < 5; crash++) {
            enum err err = open_log(&disk, &log, &seen);
            assert_int_equal(err, OK);
            for (int g = 0; g < GROUPS; g++) { /* at least what was synced; a torn batch may be whole */
                assert_true(seen.now.last[g] >= synced.last[g] && seen.now.term[g] >= synced.term[g]);
            }
            next = synced = seen.now;
            disk.fail_in = (int)(1 + below(&random, 60));
            err = OK;
            while (err == OK) {
                if (below(&random, 4) == 0 && segments_wants_prepare(log)) {
                    err = segments_prepare(log);
                }
                add_batch(log, &random, &next);
                if (below(&random, 4) == 0) {
                    begin_anew(log, &random, &next);
                    add_batch(log, &random, &next);
                }
                err = segments_commit(log);
                if (err == OK) {
                    synced = next;
                }
            }
            segments_close(log);
            torn_disk_power_fails(&disk);
        }
        torn_disk_close(&disk);
    }
}

static void fill(struct torn_disk *disk, struct random *random, struct expected *out, int batches)
{
    struct segments *log;
    struct seen seen;
    assert_int_equal(open_log(disk, &log, &seen), OK);
    *out = seen.now;
    for (int i = 0; i < batches; i++) {
        add_batch(log, random, out);
        assert_int_equal(segments_commit(log), OK);
    }
    segments_close(log);
}

static void seal(struct torn_disk *disk)
{
    struct segments *log;
    struct seen seen;
    assert_int_equal(open_log(disk, &log, &seen), OK);
    assert_int_equal(segments_add(log, &(struct segment_record){.type = RECORD_SEAL}), OK);
    assert_int_equal(segments_commit(log), OK);
    segments_close(log);
}

/* With a seal behind the last batch, a flipped bit is found wherever it is, or lies in bytes that mean
 * nothing (zeros behind the end) or in the seal itself: the log is the same without it. */
static void test_a_flipped_bit_is_never_taken_for_a_shorter_log(void **state)
{
    (void)state;
    struct random random;
    int corrupt = 0;
    random_init_seed(&random, test_seed(__func__));
    for (int round = 0; round < 300; round++) {
        struct torn_disk disk;
        struct expected synced;
        struct segments *log;
        struct seen seen;
        torn_disk_init(&disk, &random);
        fill(&disk, &random, &synced, 21);
        seal(&disk);
        struct torn_file *file = NULL;
        for (int i = 0; file == NULL || !file->used; i++) {
            file = &disk.files[below(&random, TORN_FILES)];
        }
        file->now.ptr[below(&random, file->now.len)] ^= (uint8_t)(1U << below(&random, 8));
        enum err err = open_log(&disk, &log, &seen);
        assert_true(err == OK || err == ERR_CORRUPT);
        corrupt += err == ERR_CORRUPT;
        if (err == OK) {
            assert_memory_equal(&seen.now, &synced, sizeof synced);
            segments_close(log);
        }
        torn_disk_close(&disk);
    }
    assert_true(corrupt > 20);
}

/* Every length a file can be cut to. */
static void test_a_cut_file_is_damage(void **state)
{
    (void)state;
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    for (int round = 0; round < 100; round++) {
        struct torn_disk disk;
        struct expected synced;
        struct segments *log;
        struct seen seen;
        torn_disk_init(&disk, &random);
        fill(&disk, &random, &synced, 30);
        struct torn_file *file = NULL;
        for (int i = 0; file == NULL || !file->used; i++) {
            file = &disk.files[below(&random, TORN_FILES)];
        }
        file->now.len = round % 4 == 0 ? 0 : (size_t)below(&random, file->now.len);
        assert_int_equal(open_log(&disk, &log, &seen), ERR_CORRUPT);
        torn_disk_close(&disk);
    }
}

static void test_a_full_disk_is_waited_for(void **state)
{
    (void)state;
    struct random random;
    struct torn_disk disk;
    struct expected next = {0};
    struct segments *log;
    struct seen seen;
    random_init_seed(&random, test_seed(__func__));
    torn_disk_init(&disk, &random);
    assert_int_equal(open_log(&disk, &log, &seen), OK);
    disk.space = SEGMENT + LIMIT_DISK_SPARE_BYTES - 1;
    struct segment_record record = {.type = RECORD_ENTRY, .index = 1};
    enum err err = OK;
    for (; err == OK; record.index++) {
        err = segments_add(log, &record);
        err = err == OK ? segments_commit(log) : err;
    }
    assert_int_equal(err, ERR_DISK_FULL);
    assert_int_equal(segments_count(log), 1);
    assert_int_equal(segments_prepare(log), ERR_DISK_FULL);
    disk.space = SEGMENT + LIMIT_DISK_SPARE_BYTES;
    record.index--;
    assert_int_equal(segments_add(log, &record), OK); /* the same record again: nothing is doubled or lost */
    assert_int_equal(segments_commit(log), OK);
    segments_close(log);
    next.last[0] = record.index;
    assert_int_equal(open_log(&disk, &log, &seen), OK);
    assert_int_equal(seen.now.last[0], next.last[0]);
    segments_close(log);
    torn_disk_close(&disk);
}

/* A client's bytes that look like a record, whole by an unsalted checksum and of a later batch, do not
 * make a torn batch damage. */
static void test_a_payload_is_never_taken_for_a_record(void **state)
{
    (void)state;
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    struct torn_disk disk;
    struct expected synced;
    struct segments *log;
    struct seen seen;
    struct record_header fake = {.type = RECORD_ENTRY, .index = 1, .term = 1, .batch = 0x7f7f7f7f7f7f};
    uint8_t payload[64] = {0};
    fake.crc = record_crc(&fake, NULL, 0);
    memcpy(payload, &fake, sizeof fake);
    torn_disk_init(&disk, &random);
    fill(&disk, &random, &synced, 5);
    assert_int_equal(open_log(&disk, &log, &seen), OK);
    add(log, (struct segment_record){.type = RECORD_ENTRY, .index = 99, .payload = bytes_of(payload, sizeof payload)});
    assert_int_equal(segments_commit(log), OK);
    segments_close(log);
    struct torn_file *file = torn_disk_find(&disk, "dir/0000000000000001.seg");
    uint8_t *at = memmem(file->now.ptr, file->now.len, &fake, sizeof fake);
    assert_non_null(at);
    at[-48] ^= 1; /* torn: the head of the record that carries it */
    assert_int_equal(open_log(&disk, &log, &seen), OK);
    assert_memory_equal(&seen.now, &synced, sizeof synced);
    segments_close(log);
    torn_disk_close(&disk);
}

static void test_a_missing_or_short_segment_is_damage(void **state)
{
    (void)state;
    struct random random;
    random_init_seed(&random, 1);
    for (int what = 0; what < 3; what++) {
        struct torn_disk disk;
        struct expected synced;
        struct segments *log;
        struct seen seen;
        torn_disk_init(&disk, &random);
        fill(&disk, &random, &synced, 60);
        struct torn_file *second = torn_disk_find(&disk, "dir/0000000000000002.seg");
        assert_non_null(second);
        if (what == 0) {
            torn_file_forget(second);
        } else {
            second->now.len /= what == 1 ? 2 : 1;
            if (what == 2) {
                memset(second->now.ptr + second->now.len / 2, 0, second->now.len / 2);
            }
        }
        assert_int_equal(open_log(&disk, &log, &seen), ERR_CORRUPT);
        torn_disk_close(&disk);
    }
}

static void test_dropping_keeps_what_is_needed(void **state)
{
    (void)state;
    struct random random;
    struct torn_disk disk;
    struct segments *log;
    struct seen seen;
    struct expected next = {0};
    random_init_seed(&random, test_seed(__func__));
    torn_disk_init(&disk, &random);
    assert_int_equal(open_log(&disk, &log, &seen), OK);
    for (int i = 0; i < 100; i++) {
        add_batch(log, &random, &next);
        assert_int_equal(segments_commit(log), OK);
    }
    size_t before = segments_count(log);
    uint64_t keep[GROUPS];
    memcpy(keep, next.last, sizeof keep);
    keep[2] = 0;
    assert_int_equal(segments_drop(log, keep), OK);
    assert_int_equal(segments_count(log), before); /* group 2 still needs everything */
    keep[2] = next.last[2];
    assert_int_equal(segments_drop(log, keep), OK);
    assert_int_equal(segments_count(log), 1);
    segments_close(log);
    assert_int_equal(open_log(&disk, &log, &seen), OK);
    for (int g = 0; g < GROUPS; g++) { /* hard state and last index are known all the same */
        assert_int_equal(seen.now.last[g], next.last[g]);
        assert_int_equal(seen.now.term[g], next.term[g]);
        assert_int_equal(seen.now.vote[g], next.vote[g]);
    }
    segments_close(log);
    torn_disk_close(&disk);
}

static void ignore_record(void *ctx, const struct segment_record *record)
{
    (void)ctx;
    (void)record;
}

static enum err open_unseen(struct torn_disk *disk, struct segments **out)
{
    char why[256];
    struct segments_options options = {&disk->disk, "dir", GROUPS, SEGMENT, 0, RESERVE};
    return segments_open(&options, ignore_record, NULL, out, why, sizeof why);
}

static void add_entries(struct segments *log, uint16_t group, uint64_t first, uint64_t last)
{
    uint8_t payload[64];
    for (uint64_t i = first; i <= last; i++) {
        payload_of(group, i, payload);
        add(log, (struct segment_record){RECORD_ENTRY, 1, group, i, 1, bytes_of(payload, sizeof payload)});
    }
    assert_int_equal(segments_commit(log), OK);
}

/* A tail that is void keeps no segments, however high its indices are; nor after a start. But what it kept stays
 * until it is known to be void: synced. */
static void test_a_log_that_begins_anew_needs_nothing_older(void **state)
{
    (void)state;
    for (int reopened = 0; reopened < 2; reopened++) {
        struct random random;
        struct torn_disk disk;
        struct segments *log;
        struct seen seen;
        uint64_t keep[GROUPS] = {[1] = 500, [2] = 50};
        random_init_seed(&random, 1);
        torn_disk_init(&disk, &random);
        assert_int_equal(open_log(&disk, &log, &seen), OK);
        add_entries(log, 2, 1, 150);
        add_entries(log, 1, 1, 500);
        size_t before = segments_count(log);
        add(log, (struct segment_record){.type = RECORD_LAST, .group = 2, .index = 50, .term = 3});
        assert_int_equal(segments_drop(log, keep), OK);
        assert_int_equal(segments_count(log), before);
        assert_int_equal(segments_commit(log), OK);
        assert_int_equal(segments_first(log, 2), 51);
        add_entries(log, 2, 51, 60);
        assert_int_equal(segments_first(log, 2), 51);
        if (reopened) {
            segments_close(log);
            assert_int_equal(open_unseen(&disk, &log), OK);
        }
        assert_int_equal(segments_first(log, 2), 51);
        assert_int_equal(segments_drop(log, keep), OK);
        assert_true(before > 4 && segments_count(log) <= 2); /* entries 51 to 60 are needed */
        segments_close(log);
        torn_disk_close(&disk);
    }
}

/* A log of many segments that nobody needs, opened so that some are kept. */
static struct segments *open_released(struct torn_disk *disk, struct random *random, uint64_t keep_bytes,
                                      uint64_t *out_keep_after)
{
    struct segments *log;
    struct seen seen;
    struct expected last;
    torn_disk_init(disk, random);
    fill(disk, random, &last, 250);
    assert_int_equal(open_keeping(disk, keep_bytes, &log, &seen), OK);
    assert_true(segments_count(log) > 12);
    memcpy(out_keep_after, last.last, sizeof last.last);
    return log;
}

static void test_what_is_not_needed_is_kept_as_long_as_there_is_room(void **state)
{
    (void)state;
    struct random random;
    struct torn_disk disk;
    uint64_t keep_after[GROUPS];
    random_init_seed(&random, test_seed(__func__));
    struct segments *log = open_released(&disk, &random, 5L * SEGMENT, keep_after);
    size_t before = segments_count(log);
    assert_int_equal(segments_drop(log, NULL), OK); /* nothing is released */
    assert_int_equal(segments_count(log), before);
    assert_int_equal(segments_drop(log, keep_after), OK);
    assert_in_range(segments_count(log), 6, 7); /* the oldest goes when five files' worth is newer */
    segments_close(log);
    struct seen seen;
    assert_int_equal(open_keeping(&disk, 5L * SEGMENT, &log, &seen), OK);
    assert_int_equal(segments_drop(log, keep_after), OK);
    assert_in_range(segments_count(log), 6, 7); /* so it is after a restart */
    disk.capacity = 20L * SEGMENT;              /* a tenth of it is less */
    assert_int_equal(segments_drop(log, NULL), OK);
    assert_in_range(segments_count(log), 3, 4);
    disk.space = RESERVE + LIMIT_DISK_SPARE_BYTES + SEGMENT;
    assert_int_equal(segments_drop(log, NULL), OK);
    assert_in_range(segments_count(log), 3, 4);
    disk.space--;
    assert_int_equal(segments_drop(log, NULL), OK);
    assert_int_equal(segments_count(log), 1);
    segments_close(log);
    torn_disk_close(&disk);
}

static enum err (*torn_remove)(struct disk *disk, const char *path);

static enum err remove_and_gain(struct disk *base, const char *path)
{
    struct torn_disk *disk = container_of(base, struct torn_disk, disk);
    enum err err = torn_remove(base, path);
    disk->space += err == OK ? SEGMENT : 0;
    return err;
}

/* A full disk takes what is kept, but nothing that is needed. */
static void test_a_full_disk_takes_what_is_kept(void **state)
{
    (void)state;
    struct random random;
    struct torn_disk disk;
    uint64_t keep_after[GROUPS];
    random_init_seed(&random, test_seed(__func__));
    for (int needed = 0; needed < 2; needed++) {
        struct segments *log = open_released(&disk, &random, UINT64_MAX, keep_after);
        disk.capacity = UINT64_MAX;
        keep_after[3] = needed ? 0 : keep_after[3];
        size_t before = segments_count(log);
        assert_int_equal(segments_drop(log, keep_after), OK);
        assert_int_equal(segments_count(log), before);
        torn_remove = disk.disk.remove;
        disk.disk.remove = remove_and_gain;
        disk.space = LIMIT_DISK_SPARE_BYTES + SEGMENT - 1;
        assert_true(segments_wants_prepare(log));
        assert_int_equal(segments_prepare(log), needed ? ERR_DISK_FULL : OK);
        assert_int_equal(segments_count(log), needed ? before : 1);
        segments_close(log);
        torn_disk_close(&disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_synced_survives_any_power_failure),
        cmocka_unit_test(test_a_flipped_bit_is_never_taken_for_a_shorter_log),
        cmocka_unit_test(test_a_cut_file_is_damage),
        cmocka_unit_test(test_a_payload_is_never_taken_for_a_record),
        cmocka_unit_test(test_a_full_disk_is_waited_for),
        cmocka_unit_test(test_a_missing_or_short_segment_is_damage),
        cmocka_unit_test(test_dropping_keeps_what_is_needed),
        cmocka_unit_test(test_a_log_that_begins_anew_needs_nothing_older),
        cmocka_unit_test(test_what_is_not_needed_is_kept_as_long_as_there_is_room),
        cmocka_unit_test(test_a_full_disk_takes_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
