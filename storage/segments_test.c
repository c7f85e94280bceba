/* The log against a disk in memory that tears: what was synced is there after any crash; what was
 * damaged is never taken for a shorter log. */
#include "node/limits.h"
#include "storage/record.h"
#include "storage/segments.h"
#include "tests/support/test.h"

enum { SEGMENT = 16384, GROUPS = 17, FILES = 64, SECTOR = 512 };

/* ---- the disk: each file as it is, and as it was synced ---- */

struct mem_file {
    char path[128];
    struct buf now, synced;
    bool used;
};

struct mem_disk {
    struct disk disk;
    struct mem_file files[FILES];
    struct random *random;
    int fail_in; /* operations until a crash; -1: never */
    bool crashed;
    uint64_t space;
};

struct disk_file {
    struct mem_disk *disk;
    struct mem_file *file;
};

static bool crash_now(struct mem_disk *disk)
{
    if (disk->fail_in > 0 && --disk->fail_in == 0) {
        disk->crashed = true;
    }
    return disk->crashed;
}

static struct mem_file *find(struct mem_disk *disk, const char *path)
{
    for (size_t i = 0; i < FILES; i++) {
        if (disk->files[i].used && strcmp(disk->files[i].path, path) == 0) {
            return &disk->files[i];
        }
    }
    return NULL;
}

static enum err mem_open(struct disk *base, const char *path, bool create, struct disk_file **out)
{
    struct mem_disk *disk = container_of(base, struct mem_disk, disk);
    struct mem_file *file = find(disk, path);
    if (crash_now(disk)) {
        return ERR_IO;
    }
    if (file == NULL && !create) {
        return ERR_NOT_FOUND;
    }
    for (size_t i = 0; file == NULL && i < FILES; i++) {
        if (!disk->files[i].used) {
            file = &disk->files[i];
            *file = (struct mem_file){.used = true};
            (void)snprintf(file->path, sizeof file->path, "%s", path);
        }
    }
    assert_non_null(file);
    *out = mem_alloc(sizeof **out);
    **out = (struct disk_file){disk, file};
    return OK;
}

static void mem_close(struct disk_file *file)
{
    free(file);
}

static enum err mem_read(struct disk_file *file, void *to, size_t len, uint64_t at, size_t *out_len)
{
    const struct buf *now = &file->file->now;
    size_t have = at >= now->len ? 0 : now->len - (size_t)at;
    *out_len = have < len ? have : len;
    if (*out_len > 0) {
        memcpy(to, now->ptr + at, *out_len);
    }
    return OK;
}

static void write_at(struct buf *buf, const void *from, size_t len, uint64_t at)
{
    if (buf->len < at + len) {
        size_t more = (size_t)(at + len) - buf->len;
        memset(buf_room(buf, more), 0, more);
        buf->len += more;
    }
    memcpy(buf->ptr + at, from, len);
}

static enum err mem_write(struct disk_file *file, const void *from, size_t len, uint64_t at)
{
    if (crash_now(file->disk)) {
        len = below(file->disk->random, len + 1);
    }
    write_at(&file->file->now, from, len, at);
    return file->disk->crashed ? ERR_IO : OK;
}

static enum err mem_sync(struct disk_file *file)
{
    if (crash_now(file->disk)) {
        return ERR_IO;
    }
    file->file->synced.len = 0;
    buf_add_bytes(&file->file->synced, buf_bytes(&file->file->now));
    return OK;
}

static enum err mem_size(struct disk_file *file, uint64_t *out)
{
    *out = file->file->now.len;
    return OK;
}

static void forget(struct mem_file *file)
{
    buf_free(&file->now);
    buf_free(&file->synced);
    file->used = false;
}

static enum err mem_remove(struct disk *base, const char *path)
{
    struct mem_disk *disk = container_of(base, struct mem_disk, disk);
    struct mem_file *file = find(disk, path);
    if (crash_now(disk)) {
        return ERR_IO;
    }
    if (file == NULL) {
        return ERR_NOT_FOUND;
    }
    forget(file);
    return OK;
}

static enum err mem_rename(struct disk *base, const char *from, const char *to)
{
    struct mem_disk *disk = container_of(base, struct mem_disk, disk);
    struct mem_file *file = find(disk, from), *target = find(disk, to);
    if (crash_now(disk)) {
        return ERR_IO;
    }
    if (target != NULL) {
        forget(target);
    }
    (void)snprintf(file->path, sizeof file->path, "%s", to);
    return OK;
}

static enum err mem_dir(struct disk *base, const char *path)
{
    (void)path;
    return crash_now(container_of(base, struct mem_disk, disk)) ? ERR_IO : OK;
}

static enum err mem_space(struct disk *base, const char *path, uint64_t *out_bytes)
{
    (void)path;
    *out_bytes = container_of(base, struct mem_disk, disk)->space;
    return OK;
}

static enum err mem_list(struct disk *base, const char *path, void (*each)(void *ctx, const char *name), void *ctx)
{
    struct mem_disk *disk = container_of(base, struct mem_disk, disk);
    (void)path;
    for (size_t i = 0; i < FILES; i++) {
        if (disk->files[i].used) {
            each(ctx, strrchr(disk->files[i].path, '/') + 1);
        }
    }
    return OK;
}

/* The power fails: of every sector written and not synced, the old or the new one is left. */
static void power_fails(struct mem_disk *disk)
{
    for (size_t i = 0; i < FILES; i++) {
        struct mem_file *file = &disk->files[i];
        for (size_t at = 0; file->used && at < file->now.len; at += SECTOR) {
            size_t len = file->now.len - at < SECTOR ? file->now.len - at : SECTOR;
            if (below(disk->random, 2) == 0) {
                if (file->synced.len >= at + len) {
                    memcpy(file->now.ptr + at, file->synced.ptr + at, len);
                } else {
                    memset(file->now.ptr + at, 0, len);
                }
            }
        }
        if (file->used) {
            file->synced.len = 0;
            buf_add_bytes(&file->synced, buf_bytes(&file->now));
        }
    }
    disk->crashed = false;
    disk->fail_in = -1;
}

static void disk_init(struct mem_disk *disk, struct random *random)
{
    *disk = (struct mem_disk){.disk = {mem_open, mem_close, mem_read, mem_write, mem_sync, mem_size, mem_remove,
                                       mem_rename, mem_dir, mem_dir, mem_space, mem_list},
                              .space = UINT64_MAX,
                              .random = random,
                              .fail_in = -1};
}

static void disk_close(struct mem_disk *disk)
{
    for (size_t i = 0; i < FILES; i++) {
        if (disk->files[i].used) {
            forget(&disk->files[i]);
        }
    }
}

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

static enum err open_log(struct mem_disk *disk, struct segments **out, struct seen *seen)
{
    char why[256];
    struct segments_options options = {&disk->disk, "dir", GROUPS, SEGMENT};
    *seen = (struct seen){0};
    return segments_open(&options, on_record, seen, out, why, sizeof why);
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

static void test_what_was_synced_survives_any_power_failure(void **state)
{
    (void)state;
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    for (int image = 0; image < 300; image++) {
        struct mem_disk disk;
        struct segments *log = NULL;
        struct expected synced = {0}, next;
        struct seen seen;
        disk_init(&disk, &random);
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
                err = segments_commit(log);
                if (err == OK) {
                    synced = next;
                }
            }
            segments_close(log);
            power_fails(&disk);
        }
        disk_close(&disk);
    }
}

static void fill(struct mem_disk *disk, struct random *random, struct expected *out, int batches)
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

static void seal(struct mem_disk *disk)
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
        struct mem_disk disk;
        struct expected synced;
        struct segments *log;
        struct seen seen;
        disk_init(&disk, &random);
        fill(&disk, &random, &synced, 21);
        seal(&disk);
        struct mem_file *file = NULL;
        for (int i = 0; file == NULL || !file->used; i++) {
            file = &disk.files[below(&random, FILES)];
        }
        file->now.ptr[below(&random, file->now.len)] ^= (uint8_t)(1U << below(&random, 8));
        enum err err = open_log(&disk, &log, &seen);
        assert_true(err == OK || err == ERR_CORRUPT);
        corrupt += err == ERR_CORRUPT;
        if (err == OK) {
            assert_memory_equal(&seen.now, &synced, sizeof synced);
            segments_close(log);
        }
        disk_close(&disk);
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
        struct mem_disk disk;
        struct expected synced;
        struct segments *log;
        struct seen seen;
        disk_init(&disk, &random);
        fill(&disk, &random, &synced, 30);
        struct mem_file *file = NULL;
        for (int i = 0; file == NULL || !file->used; i++) {
            file = &disk.files[below(&random, FILES)];
        }
        file->now.len = round % 4 == 0 ? 0 : (size_t)below(&random, file->now.len);
        assert_int_equal(open_log(&disk, &log, &seen), ERR_CORRUPT);
        disk_close(&disk);
    }
}

static void test_a_full_disk_is_waited_for(void **state)
{
    (void)state;
    struct random random;
    struct mem_disk disk;
    struct expected next = {0};
    struct segments *log;
    struct seen seen;
    random_init_seed(&random, test_seed(__func__));
    disk_init(&disk, &random);
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
    disk_close(&disk);
}

/* A client's bytes that look like a record, whole by an unsalted checksum and of a later batch, do not
 * make a torn batch damage. */
static void test_a_payload_is_never_taken_for_a_record(void **state)
{
    (void)state;
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    struct mem_disk disk;
    struct expected synced;
    struct segments *log;
    struct seen seen;
    struct record_header fake = {.type = RECORD_ENTRY, .index = 1, .term = 1, .batch = 0x7f7f7f7f7f7f};
    uint8_t payload[64] = {0};
    fake.crc = record_crc(&fake, NULL, 0);
    memcpy(payload, &fake, sizeof fake);
    disk_init(&disk, &random);
    fill(&disk, &random, &synced, 5);
    assert_int_equal(open_log(&disk, &log, &seen), OK);
    add(log, (struct segment_record){.type = RECORD_ENTRY, .index = 99, .payload = bytes_of(payload, sizeof payload)});
    assert_int_equal(segments_commit(log), OK);
    segments_close(log);
    struct mem_file *file = find(&disk, "dir/0000000000000001.seg");
    uint8_t *at = memmem(file->now.ptr, file->now.len, &fake, sizeof fake);
    assert_non_null(at);
    at[-48] ^= 1; /* torn: the head of the record that carries it */
    assert_int_equal(open_log(&disk, &log, &seen), OK);
    assert_memory_equal(&seen.now, &synced, sizeof synced);
    segments_close(log);
    disk_close(&disk);
}

static void test_a_missing_or_short_segment_is_damage(void **state)
{
    (void)state;
    struct random random;
    random_init_seed(&random, 1);
    for (int what = 0; what < 3; what++) {
        struct mem_disk disk;
        struct expected synced;
        struct segments *log;
        struct seen seen;
        disk_init(&disk, &random);
        fill(&disk, &random, &synced, 60);
        struct mem_file *second = find(&disk, "dir/0000000000000002.seg");
        assert_non_null(second);
        if (what == 0) {
            forget(second);
        } else {
            second->now.len /= what == 1 ? 2 : 1;
            if (what == 2) {
                memset(second->now.ptr + second->now.len / 2, 0, second->now.len / 2);
            }
        }
        assert_int_equal(open_log(&disk, &log, &seen), ERR_CORRUPT);
        disk_close(&disk);
    }
}

static void test_dropping_keeps_what_is_needed(void **state)
{
    (void)state;
    struct random random;
    struct mem_disk disk;
    struct segments *log;
    struct seen seen;
    struct expected next = {0};
    random_init_seed(&random, test_seed(__func__));
    disk_init(&disk, &random);
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
    disk_close(&disk);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
