/* Reading entries back, against a model that keeps them all; what is damaged, not synced or replaced is
 * never handed out; and beside a thread that writes. */
#include "storage/record.h"
#include "storage/segments.h"
#include "tests/support/test.h"
#include "tests/support/torn_disk.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { GROUPS = 5, ENTRIES = 20000, LARGE = 300 * 1024 };

static uint8_t pattern[LARGE + 256]; /* a payload is a piece of it */

static int make_pattern(void **state)
{
    struct random random;
    (void)state;
    random_init_seed(&random, 1);
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = (uint8_t)random_u64(&random);
    }
    return 0;
}

/* ---- the model ---- */

struct model_entry {
    uint64_t term;
    size_t offset, len; /* of the pattern */
};

struct model {
    struct model_entry entries[GROUPS][ENTRIES];
    uint64_t first[GROUPS], last[GROUPS], term;
};

static struct segment_record record_of(const struct model *model, uint16_t group, uint64_t index)
{
    const struct model_entry *entry = &model->entries[group][index];
    return (struct segment_record){.type = RECORD_ENTRY,
                                   .kind = (uint8_t)(index % 7),
                                   .group = group,
                                   .index = index,
                                   .term = entry->term,
                                   .payload = bytes_of(pattern + entry->offset, entry->len)};
}

static size_t random_len(struct random *random, bool large)
{
    uint64_t what = below(random, 500);
    return (size_t)(what == 0 && large ? below(random, LARGE) : what < 20 ? below(random, 3000) : below(random, 60));
}

/* The next entry, or one that replaces the last few. */
static void add_entry(struct segments *log, struct model *model, struct random *random, uint16_t group, bool large)
{
    uint64_t last = model->last[group], index = last + 1;
    if (last > 0 && below(random, 60) == 0) {
        model->term++;
        index -= below(random, last < 40 ? last : 40);
        model->first[group] = index < model->first[group] ? index : model->first[group];
    }
    assert_true(index < ENTRIES);
    model->entries[group][index] = (struct model_entry){model->term, below(random, 256), random_len(random, large)};
    model->last[group] = index;
    struct segment_record record = record_of(model, group, index);
    assert_int_equal(segments_add(log, &record), OK);
}

/* The log of the group begins anew: behind an entry it has, with that term or another, or behind a later one. */
static void begin_anew(struct segments *log, struct model *model, struct random *random, uint16_t group)
{
    uint64_t last = model->last[group], behind = below(random, 40);
    uint64_t index = below(random, 2) == 0 ? last + behind : last < behind ? 0 : last - behind;
    struct segment_record record = {.type = RECORD_LAST, .group = group, .index = index, .term = ++model->term};
    assert_int_equal(segments_add(log, &record), OK);
    model->first[group] = index + 1;
    model->last[group] = index;
}

static void add_batch(struct segments *log, struct model *model, struct random *random, bool large)
{
    for (uint64_t n = 1 + below(random, 60); n > 0; n--) {
        uint16_t group = (uint16_t)below(random, 2 + below(random, GROUPS - 1));
        if (below(random, 30) == 0) {
            struct segment_record vote = {.type = RECORD_HARD_STATE, .group = group, .term = model->term, .index = n};
            assert_int_equal(segments_add(log, &vote), OK);
        }
        add_entry(log, model, random, group, large);
    }
}

/* ---- reading ---- */

struct reading {
    const struct model *model;
    uint16_t group;
    uint64_t next;
};

static void check_entry(void *ctx, const struct segment_record *record)
{
    struct reading *reading = ctx;
    struct segment_record want = record_of(reading->model, reading->group, reading->next++);
    assert_int_equal(record->type, RECORD_ENTRY);
    assert_int_equal(record->group, want.group);
    assert_int_equal(record->index, want.index);
    assert_int_equal(record->term, want.term);
    assert_int_equal(record->kind, want.kind);
    assert_true(bytes_eq(record->payload, want.payload));
}

/* Where a read that begins there and has these bounds must end. */
static uint64_t end_of(const struct model *model, uint16_t group, uint64_t first, size_t max_entries, size_t max_bytes)
{
    uint64_t index = first;
    size_t bytes = 0;
    for (; index <= model->last[group] && index - first < max_entries; index++) {
        bytes += model->entries[group][index].len;
        if (index > first && bytes > max_bytes) {
            break;
        }
    }
    return index;
}

static enum err read_from(struct segments *log, const struct model *model, uint16_t group, uint64_t first,
                          uint64_t *out_end)
{
    struct reading reading = {model, group, first};
    enum err err = segments_read(log, group, first, SIZE_MAX, SIZE_MAX, check_entry, &reading);
    *out_end = reading.next;
    return err;
}

static void check_bounds(struct segments *log, const struct model *model, struct random *random, uint16_t group)
{
    uint64_t first = model->first[group], last = model->last[group];
    if (first > last) {
        return;
    }
    struct reading reading = {model, group, first + below(random, last - first + 1)};
    size_t entries = (size_t)(1 + below(random, 100)), bytes = (size_t)below(random, 5000);
    uint64_t end = end_of(model, group, reading.next, entries, bytes);
    assert_int_equal(segments_read(log, group, reading.next, entries, bytes, check_entry, &reading), OK);
    assert_int_equal(reading.next, end);
}

static void check_all(struct segments *log, const struct model *model)
{
    for (uint16_t group = 0; group < GROUPS; group++) {
        uint64_t first = model->first[group], last = model->last[group], end;
        assert_int_equal(segments_first(log, group), first);
        assert_int_equal(read_from(log, model, group, first, &end), first > last ? ERR_NOT_FOUND : OK);
        assert_int_equal(end, last + 1);
        assert_int_equal(read_from(log, model, group, last + 1, &end), ERR_NOT_FOUND);
        assert_int_equal(read_from(log, model, group, first - 1, &end), ERR_NOT_FOUND);
    }
}

/* ---- the log ---- */

static void no_record(void *ctx, const struct segment_record *record)
{
    (void)ctx;
    (void)record;
}

static struct segments *open_log(struct disk *disk, const char *dir, uint64_t segment_bytes)
{
    char why[256];
    struct segments *log;
    struct segments_options options = {disk, dir, GROUPS, segment_bytes};
    assert_int_equal(segments_open(&options, no_record, NULL, &log, why, sizeof why), OK);
    return log;
}

static struct model *new_model(void)
{
    struct model *model = mem_zalloc(sizeof *model);
    for (uint16_t group = 0; group < GROUPS; group++) {
        model->first[group] = 1;
    }
    return model;
}

/* Drops up to anywhere: what is beyond must stay, and where a group begins now is believed if so. */
static void drop(struct segments *log, struct model *model, struct random *random)
{
    uint64_t keep_after[GROUPS];
    bool all = segments_count(log) > TORN_FILES / 2;
    for (uint16_t group = 0; group < GROUPS; group++) {
        uint64_t last = model->last[group], behind = all ? 0 : below(random, 300);
        keep_after[group] = last < behind ? 0 : last - behind;
    }
    assert_int_equal(segments_drop(log, keep_after), OK);
    for (uint16_t group = 0; group < GROUPS; group++) {
        uint64_t first = segments_first(log, group);
        assert_true(first >= model->first[group]);
        assert_true(first == model->first[group] || first <= keep_after[group] + 1);
        model->first[group] = first;
    }
}

static void run_model(struct random *random, uint64_t segment_bytes)
{
    struct torn_disk disk;
    struct model *model = new_model();
    bool large = segment_bytes > LARGE + 4096;
    torn_disk_init(&disk, random);
    struct segments *log = open_log(&disk.disk, "dir", segment_bytes);
    for (int step = 0; step < 300; step++) {
        add_batch(log, model, random, large);
        if (below(random, 10) == 0) {
            begin_anew(log, model, random, (uint16_t)below(random, GROUPS));
            add_batch(log, model, random, large);
        }
        assert_int_equal(segments_commit(log), OK);
        for (int i = 0; i < 3; i++) {
            check_bounds(log, model, random, (uint16_t)below(random, GROUPS));
        }
        switch (below(random, 20)) {
        case 0: assert_int_equal(segments_prepare(log), OK); break;
        case 1:
        case 2: drop(log, model, random); break;
        case 3: check_all(log, model); break;
        case 4:
            segments_close(log);
            log = open_log(&disk.disk, "dir", segment_bytes);
            check_all(log, model);
            break;
        default: break;
        }
    }
    check_all(log, model);
    segments_close(log);
    torn_disk_close(&disk);
    free(model);
}

static void test_what_is_read_is_what_the_model_holds(void **state)
{
    (void)state;
    struct random random;
    random_init_seed(&random, test_seed(__func__));
    for (int round = 0; round < 6; round++) {
        run_model(&random, 16384);
    }
    for (int round = 0; round < 2; round++) {
        run_model(&random, 1 << 20); /* several runs a file; pieces; entries larger than a piece */
    }
}

static void test_what_is_not_synced_is_not_read(void **state)
{
    (void)state;
    struct random random;
    struct torn_disk disk;
    struct model *model = new_model();
    uint64_t end;
    random_init_seed(&random, 1);
    torn_disk_init(&disk, &random);
    struct segments *log = open_log(&disk.disk, "dir", 1 << 20);
    check_all(log, model);
    for (int i = 0; i < 10; i++) {
        add_entry(log, model, &random, 0, false);
    }
    assert_int_equal(read_from(log, model, 0, 1, &end), ERR_NOT_FOUND);
    assert_int_equal(segments_first(log, 0), 1);
    assert_int_equal(segments_commit(log), OK);
    check_all(log, model);
    struct segment_record other = {.type = RECORD_ENTRY, .index = 6, .term = 9, .payload = BYTES_LIT("other")};
    assert_int_equal(segments_add(log, &other), OK);
    check_all(log, model); /* what is replaced stands until then */
    disk.fail_in = 1;
    assert_int_equal(segments_commit(log), ERR_IO);
    disk.crashed = false;
    check_all(log, model);
    segments_close(log);
    torn_disk_close(&disk);
    free(model);
}

/* Where the newest record of an entry stands in the file. */
static size_t find_entry(const struct torn_file *file, uint16_t group, uint64_t index, size_t *out_len)
{
    struct record_header header;
    size_t found = 0;
    *out_len = 0;
    for (size_t at = 0; at + sizeof header <= file->now.len; at += record_bytes(header.length)) {
        memcpy(&header, file->now.ptr + at, sizeof header);
        if (header.type == 0) {
            break;
        }
        if (header.type == RECORD_ENTRY && header.group == group && header.index == index) {
            found = at;
            *out_len = sizeof header + header.length;
        }
    }
    assert_true(found > 0);
    return found;
}

/* Any byte of an entry: it is not handed out, what stands before it is. Any byte at all: what is handed
 * out is right. */
static void test_a_flipped_bit_is_never_handed_out(void **state)
{
    (void)state;
    struct random random;
    struct torn_disk disk;
    struct model *model = new_model();
    random_init_seed(&random, test_seed(__func__));
    torn_disk_init(&disk, &random);
    struct segments *log = open_log(&disk.disk, "dir", 1 << 20);
    for (int i = 0; i < 40; i++) {
        add_batch(log, model, &random, false);
        assert_int_equal(segments_commit(log), OK);
    }
    struct torn_file *file = torn_disk_find(&disk, "dir/0000000000000001.seg");
    for (int round = 0; round < 2000; round++) {
        uint16_t group = (uint16_t)below(&random, GROUPS);
        uint64_t index = 1 + below(&random, model->last[group]), end;
        size_t len, at = find_entry(file, group, index, &len);
        size_t anywhere = below(&random, at + len);
        uint8_t bit = (uint8_t)(1U << below(&random, 8));
        at += below(&random, len);
        file->now.ptr[at] ^= bit;
        assert_int_equal(read_from(log, model, group, index, &end), ERR_CORRUPT);
        assert_int_equal(end, index);
        file->now.ptr[at] ^= bit;
        file->now.ptr[anywhere] ^= bit;
        enum err err = read_from(log, model, group, 1, &end);
        assert_true(err == OK ? end == model->last[group] + 1 : err == ERR_CORRUPT);
        file->now.ptr[anywhere] ^= bit;
    }
    check_all(log, model);
    segments_close(log);
    torn_disk_close(&disk);
    free(model);
}

/* ---- on the machine's disk ---- */

static void make_dir(char *dir)
{
    (void)snprintf(dir, 64, "/tmp/belfry-segments-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static void remove_dir(const char *dir)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

struct meddler {
    struct segments *log;
    uint64_t next;
    bool replace; /* else drop */
};

static void meddle(void *ctx, const struct segment_record *record)
{
    struct meddler *meddler = ctx;
    assert_int_equal(record->index, meddler->next);
    assert_int_equal(record->term, 1);
    if (meddler->next++ > 1) {
        return;
    }
    if (meddler->replace) {
        struct segment_record other = {.type = RECORD_ENTRY, .index = 3, .term = 2};
        assert_int_equal(segments_add(meddler->log, &other), OK);
        assert_int_equal(segments_commit(meddler->log), OK);
    } else {
        const uint64_t all[GROUPS] = {UINT64_MAX};
        assert_int_equal(segments_drop(meddler->log, all), OK);
    }
}

/* In the midst of a read, everything is dropped, or what follows is replaced: what is reported belongs
 * together. */
static void test_a_read_that_is_overtaken_ends_early(void **state)
{
    (void)state;
    for (int replace = 0; replace < 2; replace++) {
        char dir[64];
        make_dir(dir);
        struct segments *log = open_log(disk_posix(), dir, 16384);
        struct segment_record record = {.type = RECORD_ENTRY, .term = 1, .payload = bytes_of(pattern, 1000)};
        for (record.index = 1; segments_count(log) < 4; record.index++) {
            assert_int_equal(segments_add(log, &record), OK);
            assert_int_equal(segments_commit(log), OK);
        }
        struct meddler meddler = {log, 1, replace != 0};
        assert_int_equal(segments_read(log, 0, 1, SIZE_MAX, SIZE_MAX, meddle, &meddler), OK);
        assert_in_range(meddler.next, 10, 20); /* one file's */
        assert_int_equal(segments_first(log, 0), replace ? 1 : record.index - 1);
        if (!replace) {
            assert_int_equal(segments_read(log, 0, 1, 1, 1, meddle, &meddler), ERR_NOT_FOUND);
        }
        segments_close(log);
        remove_dir(dir);
    }
}

/* Payloads say their index, term and the term of the entry before: entries that were never in one log
 * together would show. */
struct stamp {
    uint64_t group, index, term, before;
};

struct race {
    struct segments *log;
    atomic_bool over;
    atomic_uint_fast64_t last[GROUPS], reads, dropped;
};

/* cmocka's assertions are for its own thread. */
static void *write_log(void *arg)
{
    struct race *race = arg;
    struct random random;
    static uint64_t terms[GROUPS][ENTRIES];
    uint64_t last[GROUPS] = {0}, term = 1;
    random_init_seed(&random, 7);
    for (int batch = 0; batch < 800; batch++) {
        for (uint64_t n = 1 + below(&random, 100); n > 0; n--) {
            uint16_t group = (uint16_t)below(&random, GROUPS);
            uint64_t index = last[group] + 1;
            if (index > 30 && below(&random, 50) == 0) {
                index -= below(&random, 30);
                term++;
            }
            struct stamp stamp = {group, index, term, index > 1 ? terms[group][index - 1] : 0};
            struct segment_record record = {RECORD_ENTRY, 1,    group,
                                            index,        term, {(const uint8_t *)&stamp, sizeof stamp}};
            CHECK(segments_add(race->log, &record) == OK);
            terms[group][index] = term;
            last[group] = index;
        }
        CHECK(segments_commit(race->log) == OK);
        for (unsigned group = 0; group < GROUPS; group++) {
            atomic_store(&race->last[group], last[group]);
        }
    }
    atomic_store(&race->over, true);
    return NULL;
}

static void check_stamp(void *ctx, const struct segment_record *record)
{
    struct stamp *before = ctx, stamp;
    CHECK(record->payload.len == sizeof stamp);
    memcpy(&stamp, record->payload.ptr, sizeof stamp);
    CHECK(stamp.group == before->group && stamp.index == before->index + 1);
    CHECK(stamp.index == record->index && stamp.term == record->term && stamp.group == record->group);
    CHECK(before->term == 0 || before->term == stamp.before);
    *before = stamp;
}

static void *read_log(void *arg)
{
    struct race *race = arg;
    struct random random;
    random_init(&random);
    while (!atomic_load(&race->over)) {
        uint16_t group = (uint16_t)below(&random, GROUPS);
        uint64_t first = segments_first(race->log, group) + below(&random, 50);
        struct stamp before = {.group = group, .index = first - 1};
        enum err err =
            segments_read(race->log, group, first, (size_t)(1 + below(&random, 500)), 20000, check_stamp, &before);
        CHECK(err == ERR_NOT_FOUND ? before.index == first - 1 : err == OK && before.index >= first);
        atomic_fetch_add(&race->reads, err == OK);
    }
    return NULL;
}

static void *drop_log(void *arg)
{
    struct race *race = arg;
    while (!atomic_load(&race->over)) {
        uint64_t keep_after[GROUPS];
        for (unsigned group = 0; group < GROUPS; group++) {
            uint64_t last = atomic_load(&race->last[group]);
            keep_after[group] = last < 200 ? 0 : last - 200; /* what is dropped is never replaced */
        }
        size_t count = segments_count(race->log);
        CHECK(segments_prepare(race->log) == OK);
        CHECK(segments_drop(race->log, keep_after) == OK);
        atomic_fetch_add(&race->dropped, segments_count(race->log) < count);
    }
    return NULL;
}

static void test_reads_beside_a_writer_and_a_helper(void **state)
{
    (void)state;
    char dir[64];
    static struct race race;
    void *(*const run[])(void *) = {write_log, drop_log, read_log, read_log};
    pthread_t threads[ARRAY_LEN(run)];
    make_dir(dir);
    race.log = open_log(disk_posix(), dir, 128 << 10);
    for (size_t i = 0; i < ARRAY_LEN(run); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run[i], &race), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(run); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    printf("%llu reads, %llu drops\n", (unsigned long long)race.reads, (unsigned long long)race.dropped);
    assert_true(race.reads > 0 && race.dropped > 0);
    segments_close(race.log);
    remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read_is_what_the_model_holds),
        cmocka_unit_test(test_what_is_not_synced_is_not_read),
        cmocka_unit_test(test_a_flipped_bit_is_never_handed_out),
        cmocka_unit_test(test_a_read_that_is_overtaken_ends_early),
        cmocka_unit_test(test_reads_beside_a_writer_and_a_helper),
    };
    return cmocka_run_group_tests(tests, make_pattern, NULL);
}
