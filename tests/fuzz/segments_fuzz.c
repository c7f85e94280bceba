/* A log's files, read and gone on with. The first byte says how (enum how); with TWO_FILES two bytes
 * of the first file's length follow; then come the files. The log is refused as damaged, or opens:
 * then a batch is added (with BEGIN_ANEW a group's log begins anew before), and the log opened again reports the same
 * records and the batch. Each group's entries, as they stand after those that were replaced, can be read back. */
#include "storage/segments.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_disk.h"

enum how { FIX_CHECKSUMS = 1, TWO_FILES = 2, AS_LONG_AS_GIVEN = 4, PREPARED = 8, LARGER = 16, BEGIN_ANEW = 32 };
enum { GROUPS = 2, SEGMENT = 1024, PAYLOAD = 100 };

/* Goes from record to record and gives each the checksums that its content wants, and the first one
 * the size of the file. A record whose reserved[0] is set is left damaged. */
static void fix_checksums(uint8_t *data, size_t len)
{
    struct record_header header;
    uint32_t chain = 0;
    for (size_t at = 0; len - at >= sizeof header; at += record_bytes(header.length)) {
        memcpy(&header, data + at, sizeof header);
        if (header.type == 0 || header.length > len - at - sizeof header) {
            return;
        }
        if (header.reserved[0] == 0) {
            header.chain = chain;
            header.batch &= UINT64_MAX >> 1; /* nobody lives to see the last number */
            header.term = at == 0 && header.type == RECORD_SEGMENT ? len : header.term;
            header.crc = record_crc(&header, data + at + sizeof header, 0);
            memcpy(data + at, &header, sizeof header);
            chain = header.crc;
        }
        if (record_bytes(header.length) > len - at) {
            return;
        }
    }
}

static size_t segment_size(unsigned how)
{
    return (how & LARGER) != 0 ? 4 * SEGMENT : SEGMENT;
}

/* ---- what an opened log reports ---- */

struct entry {
    uint64_t index;
    size_t at, len; /* in records */
};

struct report {
    struct buf records; /* each: its numbers, then its payload */
    size_t count, payload_bytes;
    uint64_t last[GROUPS], last_term[GROUPS], vote[GROUPS], vote_term[GROUPS];
    struct entry *entries[GROUPS]; /* as they stand, without a gap up to the last */
    size_t entries_len[GROUPS];
};

static void report_close(struct report *report)
{
    buf_free(&report->records);
    for (unsigned group = 0; group < GROUPS; group++) {
        free(report->entries[group]);
    }
}

static void add_record(struct buf *out, const struct segment_record *record)
{
    buf_printf(out, "%u/%u/%u:%llu:%llu:%zu:", record->type, record->kind, record->group,
               (unsigned long long)record->index, (unsigned long long)record->term, record->payload.len);
    buf_add_bytes(out, record->payload);
}

/* Before last is set. */
static void note_entry(struct report *report, const struct segment_record *record, size_t at)
{
    uint16_t group = record->group;
    size_t *len = &report->entries_len[group];
    bool anew = record->type == RECORD_LAST && record->kind == RECORD_LAST_ANEW;
    bool begins = record->type == RECORD_LAST ? anew || record->index != report->last[group]
                                              : record->index == 0 || record->index - 1 > report->last[group];
    *len = begins ? 0 : *len;
    if (record->type == RECORD_LAST) {
        return;
    }
    while (*len > 0 && report->entries[group][*len - 1].index >= record->index) {
        (*len)--;
    }
    report->entries[group] = mem_realloc(report->entries[group], (*len + 1) * sizeof(struct entry));
    report->entries[group][(*len)++] = (struct entry){record->index, at, report->records.len - at};
}

static void on_record(void *ctx, const struct segment_record *record)
{
    struct report *report = ctx;
    CHECK(record->type > RECORD_SEGMENT && record->type <= RECORD_SEAL && record->group < GROUPS);
    size_t at = report->records.len;
    add_record(&report->records, record);
    report->count++;
    report->payload_bytes += record->payload.len;
    if (record->type == RECORD_ENTRY || record->type == RECORD_LAST) {
        note_entry(report, record, at);
        report->last[record->group] = record->index;
        report->last_term[record->group] = record->term;
    } else if (record->type == RECORD_HARD_STATE) {
        report->vote[record->group] = record->index;
        report->vote_term[record->group] = record->term;
    }
}

static enum err open_log(struct memory_disk *disk, uint64_t segment_bytes, struct segments **out, struct report *report)
{
    char why[256];
    size_t size = 0;
    struct segments_options options = {&disk->disk, "dir", GROUPS, segment_bytes};
    *report = (struct report){0};
    for (size_t i = 0; i < MEMORY_FILES; i++) {
        size += disk->files[i].content.len;
    }
    enum err err = segments_open(&options, on_record, report, out, why, sizeof why);
    CHECK(err == OK || (err == ERR_CORRUPT && memchr(why, 0, sizeof why) != NULL && why[0] != 0));
    CHECK(report->count <= size / sizeof(struct record_header) && report->payload_bytes <= size);
    return err;
}

static void add_read(void *ctx, const struct segment_record *record)
{
    add_record(ctx, record);
}

static void check_reads(struct segments *log, const struct report *report)
{
    for (uint16_t group = 0; group < GROUPS; group++) {
        struct buf want = {0}, got = {0};
        size_t len = report->entries_len[group];
        for (size_t i = 0; i < len; i++) {
            const struct entry *entry = &report->entries[group][i];
            buf_add(&want, report->records.ptr + entry->at, entry->len);
        }
        if (report->last[group] < UINT64_MAX) {
            uint64_t first = len > 0 ? report->entries[group][0].index : report->last[group] + 1;
            CHECK(segments_first(log, group) == first);
            CHECK(segments_read(log, group, first, SIZE_MAX, SIZE_MAX, add_read, &got) ==
                  (len > 0 ? OK : ERR_NOT_FOUND));
            CHECK(bytes_eq(buf_bytes(&want), buf_bytes(&got)));
        }
        buf_free(&want);
        buf_free(&got);
    }
}

/* One batch: an entry for each group and a vote. What it should read like goes to out. */
static void add_batch(struct segments *log, const struct report *report, struct buf *out)
{
    static const uint8_t payload[PAYLOAD] = {1, 2, 3};
    for (uint16_t group = 0; group < GROUPS; group++) {
        struct segment_record entry = {.type = RECORD_ENTRY,
                                       .kind = 1,
                                       .group = group,
                                       .index = report->last[group] + 1,
                                       .term = 9,
                                       .payload = bytes_of(payload, sizeof payload)};
        CHECK(segments_add(log, &entry) == OK);
        add_record(out, &entry);
    }
    struct segment_record vote = {.type = RECORD_HARD_STATE, .group = 1, .index = 1, .term = 9};
    CHECK(segments_add(log, &vote) == OK);
    add_record(out, &vote);
    CHECK(segments_commit(log) == OK);
}

/* The log of group 0 begins anew, a little behind or before its end. */
static void begin_anew(struct segments *log, struct report *report, struct buf *out)
{
    uint64_t last = report->last[0], index = last % 2 == 0 ? last + 3 : last - last / 3;
    struct segment_record record = {.type = RECORD_LAST, .kind = RECORD_LAST_ANEW, .index = index, .term = 9};
    CHECK(segments_add(log, &record) == OK);
    add_record(out, &record);
    report->last[0] = index;
}

static bool ends_with(struct bytes text, struct bytes end)
{
    return text.len >= end.len && bytes_eq(bytes_of(text.ptr + text.len - end.len, end.len), end);
}

static void reopen(struct memory_disk *disk, uint64_t segment_bytes, struct report *report, struct segments **out)
{
    CHECK(open_log(disk, segment_bytes, out, report) == OK);
    CHECK(segments_count(*out) >= 1 && segments_count(*out) <= MEMORY_FILES);
}

/* The log has opened with these records: it must go on from them. */
static void check_goes_on(struct memory_disk *disk, uint64_t segment_bytes, struct segments *log, struct report *before,
                          bool anew)
{
    struct buf batch = {0};
    struct report after, kept;
    const uint64_t all[GROUPS] = {UINT64_MAX, UINT64_MAX};
    check_reads(log, before);
    if (anew && before->last[0] < UINT64_MAX - 3) {
        begin_anew(log, before, &batch);
    }
    add_batch(log, before, &batch);
    segments_close(log);
    reopen(disk, segment_bytes, &after, &log);
    check_reads(log, &after);
    CHECK(bytes_start_with(buf_bytes(&after.records), buf_bytes(&before->records)));
    bool rolled = segments_count(log) > 1; /* a preamble may stand within the batch */
    CHECK(rolled || ends_with(buf_bytes(&after.records), buf_bytes(&batch)));
    CHECK(after.last[0] == before->last[0] + 1 && after.last[1] == before->last[1] + 1);
    CHECK(segments_drop(log, all) == OK && segments_count(log) == 1);
    segments_close(log);
    reopen(disk, segment_bytes, &kept, &log);
    CHECK(kept.last[0] == after.last[0] && kept.last[1] == after.last[1]);
    check_reads(log, &kept);
    segments_close(log);
    buf_free(&batch);
    report_close(&after);
    report_close(&kept);
}

static void make_file(struct memory_disk *disk, unsigned number, struct bytes content, unsigned how, size_t size)
{
    char path[64];
    (void)snprintf(path, sizeof path, "dir/%016x.seg", number);
    struct buf *file = memory_disk_file(disk, path);
    buf_add_bytes(file, content);
    if ((how & AS_LONG_AS_GIVEN) == 0 && file->len < size) {
        size_t more = size - file->len;
        memset(buf_room(file, more), 0, more);
        file->len += more;
    }
    if ((how & FIX_CHECKSUMS) != 0) {
        fix_checksums(file->ptr, file->len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct memory_disk disk;
    struct bytes input = bytes_of(data, len);
    struct report report;
    struct segments *log;
    unsigned how = (unsigned)fuzz_take(&input, 1), files = 1;
    size_t segment_bytes = segment_size(how);
    memory_disk_init(&disk);
    if ((how & TWO_FILES) != 0) {
        size_t first = (size_t)fuzz_take(&input, 2);
        first = first < input.len ? first : input.len;
        make_file(&disk, files++, bytes_of(input.ptr, first), how, segment_bytes);
        input = bytes_of(input.ptr + first, input.len - first);
    }
    make_file(&disk, files++, input, how, segment_bytes);
    if ((how & PREPARED) != 0) {
        struct record_header head = {.type = RECORD_SEGMENT, .flags = RECORD_FLAG_LAST, .index = files};
        make_file(&disk, files, bytes_of(&head, sizeof head), FIX_CHECKSUMS, segment_bytes);
    }
    if (open_log(&disk, segment_bytes, &log, &report) == OK) {
        check_goes_on(&disk, segment_bytes, log, &report, (how & BEGIN_ANEW) != 0);
    }
    report_close(&report);
    memory_disk_close(&disk);
    return 0;
}

/* ---- seeds ---- */

/* A log of that many batches, in two files when there are enough. */
static void write_log(struct memory_disk *disk, size_t segment_bytes, unsigned batches, bool anew)
{
    struct report report;
    struct segments *log;
    struct buf ignored = {0};
    memory_disk_init(disk);
    CHECK(open_log(disk, segment_bytes, &log, &report) == OK);
    for (unsigned i = 0; i < batches; i++) {
        report.last[1] = i;
        if (anew && i == 1) {
            begin_anew(log, &report, &ignored);
        }
        add_batch(log, &report, &ignored);
        report.last[0]++;
    }
    segments_close(log);
    buf_free(&ignored);
    report_close(&report);
}

static size_t used_bytes(const struct buf *file)
{
    size_t len = file->len;
    while (len > 0 && file->ptr[len - 1] == 0) {
        len--;
    }
    return (len + 7) & ~(size_t)7;
}

static void write_seed(const char *name, unsigned how, unsigned batches, size_t torn)
{
    struct memory_disk disk;
    struct buf seed = {0};
    write_log(&disk, segment_size(how), batches, (how & BEGIN_ANEW) != 0);
    struct buf *first = memory_disk_file(&disk, "dir/0000000000000001.seg");
    struct buf *second = memory_disk_file(&disk, "dir/0000000000000002.seg");
    size_t first_len = used_bytes(first), second_len = used_bytes(second);
    buf_add_char(&seed, (char)how);
    if ((how & TWO_FILES) != 0) {
        uint8_t split[2] = {(uint8_t)first_len, (uint8_t)(first_len >> 8)};
        buf_add(&seed, split, sizeof split);
    }
    buf_add(&seed, first->ptr, first_len);
    buf_add(&seed, second->ptr, second_len);
    fuzz_seed(name, bytes_of(seed.ptr, seed.len - torn));
    buf_free(&seed);
    memory_disk_close(&disk);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (fuzz_wants_seeds()) {
        write_seed("empty", FIX_CHECKSUMS, 0, 0);
        write_seed("raw", LARGER, 2, 0);
        write_seed("raw_torn", 0, 1, 60);
        write_seed("fixed", FIX_CHECKSUMS | LARGER, 3, 0);
        write_seed("prepared", FIX_CHECKSUMS | PREPARED, 1, 0);
        write_seed("two_files", FIX_CHECKSUMS | TWO_FILES, 3, 0);
        write_seed("anew", FIX_CHECKSUMS | LARGER | BEGIN_ANEW, 4, 0);
        write_seed("anew_two_files", FIX_CHECKSUMS | TWO_FILES | BEGIN_ANEW, 4, 0);
        fuzz_seeds_end();
    }
    return 0;
}
