#include "storage/segment_scan.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/record.h"
#include "storage/segment_index.h"

#define BATCH_MAX ((uint64_t)1 << 62)

enum { HEAD_BYTES = 64 * 1024 /* holds any preamble */, UNUSED_MAX = 2 };

/* The file being read. */
struct cursor {
    struct segment_scan *scan;
    uint8_t *data;
    size_t size, at;
    uint64_t number;
    uint32_t chain, salt;
    bool last_sealed; /* the newest good record closed its batch */
    uint64_t batch;   /* of the newest good record */
    size_t batch_at;  /* where its first record stands */
    size_t records;   /* good ones in this file */
};

void segment_path(const char *dir, uint64_t number, char *out_path_max)
{
    (void)snprintf(out_path_max, PATH_MAX, "%s/%016llx.seg", dir, (unsigned long long)number);
}

/* ---- the files ---- */

struct numbers {
    uint64_t *list;
    size_t len;
};

static void collect(void *ctx, const char *name)
{
    struct numbers *numbers = ctx;
    unsigned long long number;
    int end = 0;
    if (sscanf(name, "%16llx.seg%n", &number, &end) == 1 && end == 20 && strlen(name) == 20 && number > 0) {
        numbers->list = mem_realloc(numbers->list, (numbers->len + 1) * sizeof *numbers->list);
        numbers->list[numbers->len++] = number;
    }
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void push_file(struct segment_scan *scan, uint64_t number)
{
    if (scan->files_len == scan->files_cap) {
        scan->files_cap = scan->files_cap == 0 ? 8 : scan->files_cap * 2;
        scan->files = mem_realloc(scan->files, scan->files_cap * sizeof *scan->files);
    }
    scan->files[scan->files_len++] =
        (struct segment_file){.number = number, .last = mem_zalloc(scan->groups * sizeof(uint64_t))};
}

/* ---- records ---- */

static enum err damage(const struct cursor *cursor, const char *what)
{
    struct segment_scan *scan = cursor->scan;
    (void)snprintf(scan->why, sizeof scan->why, "log segment %016llx at offset %zu: %s",
                   (unsigned long long)cursor->number, cursor->at, what);
    return ERR_CORRUPT;
}

/* Is there a record at this offset that is whole in itself? */
static bool whole_at(const struct cursor *cursor, size_t at, struct record_header *out)
{
    if (at > cursor->size || cursor->size - at < sizeof *out) {
        return false;
    }
    memcpy(out, cursor->data + at, sizeof *out);
    return out->type >= RECORD_SEGMENT && out->type <= RECORD_SEAL && out->group < cursor->scan->groups &&
           out->length <= cursor->size - at - sizeof *out &&
           record_crc(out, cursor->data + at + sizeof *out, at == 0 ? 0 : cursor->salt) == out->crc;
}

static bool all_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

static struct segment_record record_of(const struct cursor *cursor, const struct record_header *header, size_t at)
{
    return (struct segment_record){.type = header->type,
                                   .kind = header->kind,
                                   .group = header->group,
                                   .index = header->index,
                                   .term = header->term,
                                   .payload = bytes_of(cursor->data + at + sizeof *header, header->length)};
}

static bool is_anew(uint8_t type, uint8_t kind)
{
    return type == RECORD_LAST && kind == RECORD_LAST_ANEW;
}

static void note(struct segment_scan *scan, const struct segment_record *record)
{
    uint64_t *file_last = &scan->files[scan->files_len - 1].last[record->group];
    if (record->type == RECORD_ENTRY && record->index > *file_last) {
        *file_last = record->index;
    }
    for (size_t i = 0; is_anew(record->type, record->kind) && i < scan->files_len; i++) {
        scan->files[i].last[record->group] = 0;
    }
    if (record->type == RECORD_ENTRY || record->type == RECORD_LAST) {
        scan->last_index[record->group] = record->index;
        scan->last_term[record->group] = record->term;
    } else if (record->type == RECORD_HARD_STATE) {
        scan->hard_term[record->group] = record->term;
        scan->hard_vote[record->group] = record->index;
    }
}

static void take(struct cursor *cursor, const struct record_header *header)
{
    struct segment_record record = record_of(cursor, header, cursor->at);
    note(cursor->scan, &record);
    cursor->scan->each(cursor->scan->ctx, &record);
    if (cursor->records == 1 || header->batch != cursor->batch) {
        cursor->batch_at = cursor->at;
    }
    cursor->batch = header->batch;
    cursor->last_sealed = (header->flags & RECORD_FLAG_LAST) != 0;
}

static void skip(struct cursor *cursor, const struct record_header *header)
{
    cursor->records++;
    cursor->scan->records++;
    cursor->at += record_bytes(header->length);
    cursor->chain = header->crc;
}

/* The first record is written when the file is made, and synced before the file has its name. */
static enum err read_head(struct cursor *cursor)
{
    struct record_header header;
    if (!whole_at(cursor, 0, &header) || header.type != RECORD_SEGMENT || header.length != 0) {
        return damage(cursor, "the record that opens the segment is damaged");
    }
    if (header.index != cursor->number) {
        return damage(cursor, "the segment carries another number");
    }
    if (header.term != cursor->size || cursor->size % RECORD_ALIGN != 0) {
        return damage(cursor, "the file does not have the size it was made with");
    }
    skip(cursor, &header);
    return OK;
}

static enum err read_records(struct cursor *cursor)
{
    struct record_header header;
    const struct segment_scan *scan = cursor->scan;
    while (whole_at(cursor, cursor->at, &header)) {
        if (header.chain != cursor->chain) {
            return damage(cursor, "a record does not follow its predecessor");
        }
        if (header.type == RECORD_SEGMENT) {
            return damage(cursor, "a segment begins within another");
        }
        if (header.batch < cursor->batch || header.batch > BATCH_MAX) { /* no log lives to that */
            return damage(cursor, "batch numbers go backwards, or beyond all bounds");
        }
        /* Whatever the segments before held at their ends must have been read. */
        if (header.type == RECORD_LAST && !is_anew(header.type, header.kind) && scan->files_len > 1 &&
            header.index != scan->last_index[header.group]) {
            return damage(cursor, "entries of the segment before are missing");
        }
        take(cursor, &header);
        skip(cursor, &header);
    }
    return OK;
}

/* What follows the last good record is not zero: a torn batch, or damage? Any whole record of a
 * batch after the torn one proves that the torn one had been synced. */
static enum err check_tail(const struct cursor *cursor)
{
    uint64_t torn = cursor->last_sealed ? cursor->batch + 1 : cursor->batch;
    for (size_t at = cursor->at; at < cursor->size; at += RECORD_ALIGN) {
        struct record_header header;
        if (whole_at(cursor, at, &header) && header.batch > torn) {
            return damage(cursor, "a record that was synced is damaged");
        }
    }
    return OK;
}

/* ---- a file ---- */

static enum err load(struct cursor *cursor, uint64_t most)
{
    struct disk *disk = cursor->scan->disk;
    struct disk_file *file;
    char path[PATH_MAX];
    uint64_t size;
    segment_path(cursor->scan->dir, cursor->number, path);
    TRY(disk->open(disk, path, false, &file));
    enum err err = disk->size(file, &size);
    if (err == OK) {
        size = size < most ? size : most;
        cursor->data = mem_realloc(cursor->data, (size_t)size + 1);
        err = disk->read(file, cursor->data, (size_t)size, 0, &cursor->size);
    }
    disk->close(file);
    cursor->at = cursor->batch_at = cursor->records = 0;
    cursor->chain = cursor->salt = 0;
    struct record_header head;
    if (err == OK && whole_at(cursor, 0, &head)) {
        cursor->salt = head.chain;
    }
    return err;
}

/* How many records of the preamble stand there, whole and in their order: two a group. */
static enum err count_preamble(const struct cursor *cursor, size_t *out)
{
    struct record_header header;
    *out = 0;
    for (size_t at = 0; *out < record_preamble(cursor->scan->groups) && whole_at(cursor, at, &header); (*out)++) {
        size_t place = *out - 1;
        bool fits = *out == 0 || (header.type == (place % 2 == 0 ? RECORD_HARD_STATE : RECORD_LAST) &&
                                  header.group == place / 2 && !is_anew(header.type, header.kind));
        if (!fits) {
            return damage(cursor, "the records a segment begins with are others");
        }
        at += record_bytes(header.length);
    }
    return OK;
}

/* The newest file may be one made ready and never written to, or torn within the first batch, which
 * begins with the preamble. Not so when there are records of two batches: the first was synced then. */
static enum err is_unused(struct cursor *cursor, bool *out)
{
    struct record_header header;
    uint64_t batch = 0;
    size_t preamble;
    TRY(load(cursor, HEAD_BYTES));
    TRY(count_preamble(cursor, &preamble));
    *out = preamble < record_preamble(cursor->scan->groups);
    if (!*out) {
        return OK;
    }
    TRY(load(cursor, UINT64_MAX));
    TRY(read_head(cursor));
    for (size_t at = cursor->at; at < cursor->size; at += RECORD_ALIGN) {
        if (!whole_at(cursor, at, &header)) {
            continue;
        }
        if (batch != 0 && header.batch != batch) {
            return damage(cursor, "a record that was synced is damaged");
        }
        batch = header.batch;
    }
    bool untouched = all_zero(cursor->data + cursor->at, cursor->size - cursor->at);
    cursor->scan->unused_ready = untouched ? cursor->size : 0;
    return OK;
}

static enum err read_file(struct cursor *cursor, bool newest)
{
    struct segment_scan *scan = cursor->scan;
    TRY(load(cursor, UINT64_MAX));
    size_t preamble;
    TRY(count_preamble(cursor, &preamble));
    TRY(read_head(cursor));
    push_file(scan, cursor->number);
    TRY(read_records(cursor));
    bool blank = all_zero(cursor->data + cursor->at, cursor->size - cursor->at);
    if (cursor->records < record_preamble(scan->groups) || (!newest && !blank)) {
        return damage(cursor, "the segment ends early, though a later one exists");
    }
    size_t head = sizeof(struct record_header);
    segment_index_add(scan->index, cursor->number, head, bytes_of(cursor->data + head, cursor->at - head));
    scan->files[scan->files_len - 1].bytes = cursor->at;
    scan->size = cursor->size;
    scan->at = cursor->at;
    scan->tail = blank ? 0 : cursor->size - cursor->at;
    scan->batch_at = cursor->batch_at;
    scan->chain = cursor->chain;
    scan->salt = cursor->salt;
    return check_tail(cursor);
}

/* ---- all of them ---- */

static void tell_beyond(struct cursor *cursor, const struct numbers *numbers, size_t file)
{
    struct record_header header;
    if (cursor->scan->beyond == NULL) {
        return;
    }
    for (size_t at = cursor->at;; at = 0) {
        while (at < cursor->size) {
            bool whole = whole_at(cursor, at, &header);
            if (whole) {
                struct segment_record record = record_of(cursor, &header, at);
                cursor->scan->beyond(cursor->scan->ctx, &record);
            }
            at += whole ? record_bytes(header.length) : RECORD_ALIGN;
        }
        if (++file >= numbers->len) {
            return;
        }
        cursor->number = numbers->list[file];
        if (load(cursor, UINT64_MAX) != OK) {
            return;
        }
    }
}

/* Looks from the end for files without records: the one torn in its first batch, and one made ready
 * behind it meanwhile. How many files are in use goes to *out_count. */
static enum err find_unused(struct cursor *cursor, const struct numbers *numbers, size_t *out_count)
{
    struct segment_scan *scan = cursor->scan;
    bool unused = true;
    *out_count = numbers->len;
    while (*out_count > 0 && *out_count + UNUSED_MAX > numbers->len && unused) {
        cursor->number = numbers->list[*out_count - 1];
        TRY(is_unused(cursor, &unused));
        if (unused) {
            (*out_count)--;
            scan->unused_from = cursor->number;
            scan->unused_to = scan->unused_to == 0 ? cursor->number : scan->unused_to;
        }
    }
    scan->unused_ready = scan->unused_from == scan->unused_to ? scan->unused_ready : 0;
    return OK;
}

static enum err read_files(struct cursor *cursor, const struct numbers *numbers)
{
    size_t count, at = 0; /* where the damage is */
    enum err err = find_unused(cursor, numbers, &count);
    for (size_t i = 0; i < numbers->len && err == OK; i++) {
        at = i;
        cursor->number = numbers->list[i];
        cursor->at = 0;
        if (i > 0 && numbers->list[i] != numbers->list[i - 1] + 1) {
            err = damage(cursor, "the segment before it is missing");
        } else if (i < count) {
            err = read_file(cursor, i + 1 == count);
        }
    }
    if (err == ERR_CORRUPT) {
        tell_beyond(cursor, numbers, at);
    }
    return err;
}

enum err segment_scan_run(struct segment_scan *scan)
{
    struct numbers numbers = {0};
    struct cursor cursor = {.scan = scan, .last_sealed = true};
    size_t size = scan->groups * sizeof(uint64_t);
    scan->index = segment_index_new(scan->groups);
    scan->last_index = mem_zalloc(size);
    scan->last_term = mem_zalloc(size);
    scan->hard_term = mem_zalloc(size);
    scan->hard_vote = mem_zalloc(size);
    scan->oldest = 1;
    (void)snprintf(scan->why, sizeof scan->why, "the log in %.200s cannot be read", scan->dir);
    enum err listed = scan->disk->list(scan->disk, scan->dir, collect, &numbers);
    if (listed != OK && listed != ERR_NOT_FOUND) {
        return listed;
    }
    if (numbers.len > 0) {
        qsort(numbers.list, numbers.len, sizeof *numbers.list, by_number);
        scan->oldest = numbers.list[0];
    }
    enum err err = read_files(&cursor, &numbers);
    scan->batch = cursor.last_sealed ? cursor.batch + 1 : cursor.batch; /* a torn batch is gone on with */
    free(cursor.data);
    free(numbers.list);
    return err;
}

void segment_scan_close(struct segment_scan *scan)
{
    for (size_t i = 0; i < scan->files_len; i++) {
        free(scan->files[i].last);
    }
    free(scan->files);
    segment_index_free(scan->index);
    free(scan->last_index);
    free(scan->last_term);
    free(scan->hard_term);
    free(scan->hard_vote);
}
