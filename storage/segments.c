#include "storage/segments.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/crc32c.h"

enum { FLAG_LAST = 1, ALIGN = 8, ZERO_CHUNK = 1 << 20 };

struct header {
    uint32_t crc;    /* over the rest of the header and the payload */
    uint32_t length; /* of the payload */
    uint32_t chain;  /* crc of the record before; 0 for the first of a segment */
    uint16_t group;
    uint8_t type, flags;
    uint64_t index, term, batch;
    uint8_t kind, reserved[7];
};
_Static_assert(sizeof(struct header) == 48, "the record header is 48 bytes on disk");

struct segment {
    uint64_t number;
    uint64_t *last; /* per group: the highest entry index in it, 0 when none */
};

struct segments {
    struct segments_options options;
    char dir[PATH_MAX - 64];
    pthread_mutex_t making; /* held while the next file is made */
    pthread_mutex_t mutex;  /* over list, list_len, ready */
    struct segment *list;   /* oldest first; the last one is written to */
    size_t list_len, list_cap;
    bool ready;      /* the file of the next number is prepared */
    uint64_t oldest; /* not yet dropped */
    uint64_t newest; /* number of the segment written to; the writer's own, as is its entry of the list: */
    uint64_t *newest_last;
    size_t tail; /* bytes behind `at` that a torn batch left: zeroed before the next write */

    struct disk_file *file;
    uint64_t at;    /* write offset in the newest segment */
    uint32_t chain; /* crc of the last record written or added */
    uint64_t batch; /* number of the batch being built */
    struct buf buf; /* the batch */
    size_t last_at; /* where the batch's last record starts in buf */
    uint64_t *last_index, *last_term;
    uint64_t *hard_term, *hard_vote;
    bool failed;
};

static void path_of(const struct segments *log, uint64_t number, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/%016llx.seg", log->dir, (unsigned long long)number);
}

static size_t record_bytes(size_t payload)
{
    return (sizeof(struct header) + payload + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static uint32_t header_crc(const struct header *header, const void *payload)
{
    uint32_t crc = crc32c(0, (const char *)header + sizeof header->crc, sizeof *header - sizeof header->crc);
    return crc32c(crc, payload, header->length);
}

static void segment_push(struct segments *log, uint64_t number)
{
    if (log->list_len == log->list_cap) {
        log->list_cap = log->list_cap == 0 ? 8 : log->list_cap * 2;
        log->list = mem_realloc(log->list, log->list_cap * sizeof *log->list);
    }
    struct segment *segment = &log->list[log->list_len++];
    segment->number = number;
    segment->last = mem_zalloc(log->options.groups * sizeof *segment->last);
    log->newest = number;
    log->newest_last = segment->last;
}

static void note(struct segments *log, const struct segment_record *record)
{
    if (record->type == RECORD_ENTRY) {
        if (record->index > log->newest_last[record->group]) {
            log->newest_last[record->group] = record->index;
        }
    }
    if (record->type == RECORD_ENTRY || record->type == RECORD_LAST) {
        log->last_index[record->group] = record->index;
        log->last_term[record->group] = record->term;
    } else if (record->type == RECORD_HARD_STATE) {
        log->hard_term[record->group] = record->term;
        log->hard_vote[record->group] = record->index;
    }
}

/* ---- writing ---- */

static void add_raw(struct segments *log, const struct segment_record *record)
{
    size_t size = record_bytes(record->payload.len);
    uint8_t *to = buf_room(&log->buf, size);
    struct header header = {.length = (uint32_t)record->payload.len,
                            .chain = log->chain,
                            .group = record->group,
                            .type = record->type,
                            .index = record->index,
                            .term = record->term,
                            .batch = log->batch,
                            .kind = record->kind};
    memset(to + size - ALIGN, 0, ALIGN);
    if (record->payload.len > 0) {
        memcpy(to + sizeof header, record->payload.ptr, record->payload.len);
    }
    header.crc = header_crc(&header, to + sizeof header);
    memcpy(to, &header, sizeof header);
    log->last_at = log->buf.len;
    log->buf.len += size;
    log->chain = header.crc;
    note(log, record);
}

/* Marks the newest record as the last of its batch; its crc changes with that. */
static void seal(struct segments *log)
{
    struct header header;
    uint8_t *at = log->buf.ptr + log->last_at;
    memcpy(&header, at, sizeof header);
    header.flags = FLAG_LAST;
    header.crc = header_crc(&header, at + sizeof header);
    memcpy(at, &header, sizeof header);
    log->chain = header.crc;
}

/* What a torn batch left behind goes before anything is written over its start: otherwise a later
 * crash could show parts of both. */
static enum err zero_tail(struct segments *log)
{
    if (log->tail == 0) {
        return OK;
    }
    uint8_t *zeros = mem_zalloc(log->tail);
    enum err err = log->options.disk->write(log->file, zeros, log->tail, log->at);
    free(zeros);
    if (err == OK) {
        err = log->options.disk->sync(log->file);
    }
    log->tail = err == OK ? 0 : log->tail;
    return err;
}

static enum err flush(struct segments *log)
{
    if (log->buf.len == 0) {
        return OK;
    }
    seal(log);
    TRY(zero_tail(log));
    TRY(log->options.disk->write(log->file, log->buf.ptr, log->buf.len, log->at));
    TRY(log->options.disk->sync(log->file));
    log->at += log->buf.len;
    log->buf.len = 0;
    log->batch++;
    return OK;
}

static enum err zero_file(struct segments *log, const char *path)
{
    static const uint8_t zeros[ZERO_CHUNK];
    struct disk *disk = log->options.disk;
    struct disk_file *file;
    TRY(disk->open(disk, path, true, &file));
    enum err err = OK;
    for (uint64_t at = 0; at < log->options.segment_bytes && err == OK; at += ZERO_CHUNK) {
        uint64_t left = log->options.segment_bytes - at;
        err = disk->write(file, zeros, left < ZERO_CHUNK ? (size_t)left : ZERO_CHUNK, at);
        if (err == OK) {
            err = disk->sync(file); /* chunk by chunk: the log's own syncs never wait for long */
        }
    }
    disk->close(file);
    return err;
}

static enum err make_next(struct segments *log, uint64_t number)
{
    char temporary[PATH_MAX], path[PATH_MAX];
    (void)snprintf(temporary, sizeof temporary, "%s/next.tmp", log->dir);
    path_of(log, number, path);
    TRY(zero_file(log, temporary));
    TRY(log->options.disk->rename(log->options.disk, temporary, path));
    return log->options.disk->sync_dir(log->options.disk, log->dir);
}

bool segments_wants_prepare(struct segments *log)
{
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    bool wants = !log->ready;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    return wants;
}

enum err segments_prepare(struct segments *log)
{
    CHECK(pthread_mutex_lock(&log->making) == 0);
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    uint64_t number = log->list_len == 0 ? log->oldest : log->list[log->list_len - 1].number + 1;
    bool ready = log->ready;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    enum err err = ready ? OK : make_next(log, number);
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    log->ready = err == OK;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    CHECK(pthread_mutex_unlock(&log->making) == 0);
    return err;
}

/* The first records of a segment: its number, then the hard state and last index of every group. */
static void add_preamble(struct segments *log, uint64_t number)
{
    log->chain = 0;
    add_raw(log, &(struct segment_record){.type = RECORD_SEGMENT, .index = number});
    for (uint16_t group = 0; group < log->options.groups; group++) {
        add_raw(log, &(struct segment_record){.type = RECORD_HARD_STATE,
                                              .group = group,
                                              .term = log->hard_term[group],
                                              .index = log->hard_vote[group]});
        add_raw(log, &(struct segment_record){.type = RECORD_LAST,
                                              .group = group,
                                              .term = log->last_term[group],
                                              .index = log->last_index[group]});
    }
}

/* Switches to the next segment. The batch buffer must be empty. */
static enum err roll(struct segments *log)
{
    char path[PATH_MAX];
    TRY(zero_tail(log));        /* a segment that is left has nothing behind its last record */
    TRY(segments_prepare(log)); /* usually done already by the helper */
    uint64_t number = log->newest == 0 ? log->oldest : log->newest + 1;
    path_of(log, number, path);
    if (log->file != NULL) {
        log->options.disk->close(log->file);
        log->file = NULL;
    }
    TRY(log->options.disk->open(log->options.disk, path, false, &log->file));
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    segment_push(log, number);
    log->ready = false;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    log->at = 0;
    add_preamble(log, number);
    return OK;
}

void segments_add(struct segments *log, const struct segment_record *record)
{
    CHECK(record->group < log->options.groups);
    size_t size = record_bytes(record->payload.len);
    if (!log->failed && log->at + log->buf.len + size > log->options.segment_bytes) {
        /* Flushing in the middle of a batch is safe: nothing is acknowledged before commit. */
        log->failed = flush(log) != OK || roll(log) != OK;
    }
    if (!log->failed) {
        add_raw(log, record);
    }
}

enum err segments_commit(struct segments *log)
{
    if (!log->failed && flush(log) != OK) {
        log->failed = true;
    }
    return log->failed ? ERR_IO : OK;
}

/* The oldest segment's number when nobody needs it any more, else 0. */
static uint64_t droppable(struct segments *log, const uint64_t *keep_after)
{
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    bool drop = log->list_len > 1;
    uint64_t number = log->list[0].number;
    for (unsigned group = 0; drop && group < log->options.groups; group++) {
        drop = log->list[0].last[group] <= keep_after[group];
    }
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    return drop ? number : 0;
}

enum err segments_drop(struct segments *log, const uint64_t *keep_after)
{
    struct disk *disk = log->options.disk;
    for (uint64_t number = droppable(log, keep_after); number != 0; number = droppable(log, keep_after)) {
        char path[PATH_MAX];
        path_of(log, number, path);
        TRY(disk->remove(disk, path));
        TRY(disk->sync_dir(disk, log->dir)); /* in order: never a gap between the files kept */
        CHECK(pthread_mutex_lock(&log->mutex) == 0);
        free(log->list[0].last);
        memmove(log->list, log->list + 1, (log->list_len - 1) * sizeof *log->list);
        log->list_len--;
        CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    }
    return OK;
}

size_t segments_count(struct segments *log)
{
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    size_t count = log->list_len;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    return count;
}

/* ---- opening ---- */

struct numbers {
    uint64_t *list;
    size_t len;
};

static void collect(void *ctx, const char *name)
{
    struct numbers *numbers = ctx;
    unsigned long long number;
    int end = 0;
    if (sscanf(name, "%16llx.seg%n", &number, &end) == 1 && end == 20 && strlen(name) == 20) {
        numbers->list = mem_realloc(numbers->list, (numbers->len + 1) * sizeof *numbers->list);
        numbers->list[numbers->len++] = number;
    }
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct scan {
    struct segments *log;
    const uint8_t *data;
    size_t size, at;
    uint64_t number;
    uint32_t chain;
    bool last_sealed; /* the newest good record closed its batch */
    uint64_t batch;   /* of the newest good record */
    size_t batch_at;  /* where its first record stands */
    size_t records;   /* good ones in this segment */
    void (*each)(void *ctx, const struct segment_record *record);
    void *ctx;
    char *why;
    size_t why_cap;
};

static enum err damage(const struct scan *scan, const char *what)
{
    (void)snprintf(scan->why, scan->why_cap, "log segment %016llx at offset %zu: %s", (unsigned long long)scan->number,
                   scan->at, what);
    return ERR_CORRUPT;
}

/* Is there a record at this offset that is whole in itself? */
static bool whole_at(const struct scan *scan, size_t at, struct header *out)
{
    if (scan->size - at < sizeof *out) {
        return false;
    }
    memcpy(out, scan->data + at, sizeof *out);
    return out->type >= RECORD_SEGMENT && out->type <= RECORD_CLEAN && out->group < scan->log->options.groups &&
           out->length <= scan->size - at - sizeof *out && header_crc(out, scan->data + at + sizeof *out) == out->crc;
}

static bool all_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

static void take(struct scan *scan, const struct header *header)
{
    struct segment_record record = {.type = header->type,
                                    .kind = header->kind,
                                    .group = header->group,
                                    .index = header->index,
                                    .term = header->term,
                                    .payload = bytes_of(scan->data + scan->at + sizeof *header, header->length)};
    note(scan->log, &record);
    scan->each(scan->ctx, &record);
    if (header->batch != scan->batch || scan->at == 0) {
        scan->batch_at = scan->at;
    }
    scan->records++;
    scan->at += record_bytes(header->length);
    scan->chain = header->crc;
    scan->batch = header->batch;
    scan->last_sealed = (header->flags & FLAG_LAST) != 0;
}

/* What follows the last good record is not zero: a torn batch, or damage? Any whole record of a
 * batch after the torn one proves that the torn one had been synced. */
static enum err check_tail(const struct scan *scan)
{
    uint64_t torn = scan->last_sealed ? scan->batch + 1 : scan->batch;
    for (size_t at = scan->at; at + sizeof(struct header) <= scan->size; at += ALIGN) {
        struct header header;
        if (whole_at(scan, at, &header) && header.batch > torn) {
            return damage(scan, "a record that was synced is damaged");
        }
    }
    return OK;
}

static enum err scan_records(struct scan *scan)
{
    struct header header;
    while (scan->size - scan->at >= sizeof header && whole_at(scan, scan->at, &header)) {
        if (header.chain != scan->chain) {
            return damage(scan, "a record does not follow its predecessor");
        }
        if (scan->at == 0 && (header.type != RECORD_SEGMENT || header.index != scan->number)) {
            return damage(scan, "the segment does not carry its own number");
        }
        if (header.batch < scan->batch) {
            return damage(scan, "batch numbers go backwards");
        }
        /* Whatever the segments before held at their ends must have been read. */
        if (header.type == RECORD_LAST && scan->log->list_len > 1 &&
            header.index != scan->log->last_index[header.group]) {
            return damage(scan, "entries of the segment before are missing");
        }
        take(scan, &header);
    }
    return OK;
}

/* What was read may be in the page cache alone, after a kill or a failed sync: the last batch is
 * written once more and synced before anybody relies on it. */
static enum err sync_last_batch(struct scan *scan)
{
    struct segments *log = scan->log;
    TRY(log->options.disk->write(log->file, scan->data + scan->batch_at, scan->at - scan->batch_at, scan->batch_at));
    return log->options.disk->sync(log->file);
}

/* Reads one segment; the newest is left open for writing. */
static enum err scan_segment(struct scan *scan, bool newest)
{
    scan->at = scan->batch_at = scan->records = 0;
    scan->chain = 0;
    TRY(scan_records(scan));
    bool blank = all_zero(scan->data + scan->at, scan->size - scan->at);
    if (!newest && (!blank || scan->at == 0)) {
        return damage(scan, "the segment ends early, though a later one exists");
    }
    if (newest && scan->size != scan->log->options.segment_bytes && scan->at > 0 &&
        scan->size < scan->log->options.segment_bytes) {
        return damage(scan, "the file is shorter than a segment");
    }
    if (!newest) {
        return OK;
    }
    TRY(check_tail(scan));
    if (scan->records < 1 + 2 * (size_t)scan->log->options.groups) {
        scan->at = 0; /* torn within its preamble: the segment never came to be */
        return OK;
    }
    scan->log->tail = blank ? 0 : scan->size - scan->at;
    return sync_last_batch(scan);
}

static enum err scan_file(struct scan *scan, uint64_t number, bool newest)
{
    struct segments *log = scan->log;
    struct disk *disk = log->options.disk;
    char path[PATH_MAX];
    path_of(log, number, path);
    uint64_t size;
    TRY(disk->open(disk, path, false, &log->file));
    TRY(disk->size(log->file, &size));
    uint8_t *data = mem_alloc((size_t)size);
    size_t len = 0;
    enum err err = disk->read(log->file, data, (size_t)size, 0, &len);
    segment_push(log, number);
    scan->data = data;
    scan->size = len;
    scan->number = number;
    if (err == OK) {
        err = scan_segment(scan, newest);
    }
    free(data);
    if (!newest || err != OK) {
        disk->close(log->file);
        log->file = NULL;
    }
    return err;
}

/* A prepared segment holds only zeros: it is the newest by number, and not yet part of the log. */
static enum err is_blank(struct segments *log, uint64_t number, bool *out)
{
    struct disk *disk = log->options.disk;
    char path[PATH_MAX];
    uint8_t *chunk = mem_alloc(ZERO_CHUNK);
    size_t len = 1;
    struct disk_file *file = NULL;
    path_of(log, number, path);
    enum err err = disk->open(disk, path, false, &file);
    *out = err == OK;
    for (uint64_t at = 0; err == OK && *out && len > 0; at += len) {
        err = disk->read(file, chunk, ZERO_CHUNK, at, &len);
        *out = all_zero(chunk, len);
    }
    if (file != NULL) {
        disk->close(file);
    }
    free(chunk);
    return err;
}

static enum err open_all(struct segments *log, struct numbers *numbers, struct scan *scan)
{
    size_t count = numbers->len;
    bool blank = false;
    if (count > 0) {
        TRY(is_blank(log, numbers->list[count - 1], &blank));
    }
    if (blank) {
        /* Written to or not, nothing in it was synced: make it anew when its turn comes. */
        char path[PATH_MAX];
        path_of(log, numbers->list[--count], path);
        TRY(log->options.disk->remove(log->options.disk, path));
    }
    for (size_t i = 0; i < count; i++) {
        scan->number = numbers->list[i];
        if (i > 0 && numbers->list[i] != numbers->list[i - 1] + 1) {
            scan->at = 0;
            return damage(scan, "the segment before it is missing");
        }
        TRY(scan_file(scan, numbers->list[i], i + 1 == count));
    }
    log->oldest = numbers->len > 0 ? numbers->list[0] : 1;
    if (count > 0 && scan->at == 0) {
        /* The very first batch of the newest segment was torn: the segment never came to be. */
        char path[PATH_MAX];
        path_of(log, numbers->list[count - 1], path);
        log->options.disk->close(log->file);
        log->file = NULL;
        free(log->list[--log->list_len].last);
        log->newest = log->list_len > 0 ? numbers->list[count - 1] - 1 : 0;
        log->oldest = numbers->list[0];
        TRY(log->options.disk->remove(log->options.disk, path));
    }
    log->at = scan->at;
    log->chain = scan->chain;
    log->batch = scan->last_sealed ? scan->batch + 1 : scan->batch; /* a torn batch is gone on with */
    return count > 0 && scan->at > 0 ? OK : roll(log);
}

enum err segments_open(const struct segments_options *options,
                       void (*each)(void *ctx, const struct segment_record *record), void *ctx, struct segments **out,
                       char *out_why, size_t why_cap)
{
    struct segments *log = mem_zalloc(sizeof *log);
    struct numbers numbers = {0};
    size_t groups = options->groups;
    log->options = *options;
    CHECK(pthread_mutex_init(&log->mutex, NULL) == 0);
    CHECK(pthread_mutex_init(&log->making, NULL) == 0);
    (void)snprintf(log->dir, sizeof log->dir, "%s", options->dir);
    log->last_index = mem_zalloc(groups * sizeof *log->last_index);
    log->last_term = mem_zalloc(groups * sizeof *log->last_term);
    log->hard_term = mem_zalloc(groups * sizeof *log->hard_term);
    log->hard_vote = mem_zalloc(groups * sizeof *log->hard_vote);
    struct scan scan = {.log = log, .each = each, .ctx = ctx, .why = out_why, .why_cap = why_cap, .last_sealed = true};
    (void)snprintf(out_why, why_cap, "the log in %s cannot be read or written", log->dir);
    enum err err = options->disk->make_dir(options->disk, log->dir);
    if (err == OK) {
        err = options->disk->list(options->disk, log->dir, collect, &numbers);
    }
    if (err == OK) {
        if (numbers.len > 0) {
            qsort(numbers.list, numbers.len, sizeof *numbers.list, by_number);
        }
        err = open_all(log, &numbers, &scan);
    }
    free(numbers.list);
    if (err != OK) {
        segments_close(log);
        return err;
    }
    *out = log;
    return OK;
}

void segments_close(struct segments *log)
{
    if (log == NULL) {
        return;
    }
    if (log->file != NULL) {
        log->options.disk->close(log->file);
    }
    for (size_t i = 0; i < log->list_len; i++) {
        free(log->list[i].last);
    }
    free(log->list);
    free(log->last_index);
    free(log->last_term);
    free(log->hard_term);
    free(log->hard_vote);
    buf_free(&log->buf);
    (void)pthread_mutex_destroy(&log->mutex);
    (void)pthread_mutex_destroy(&log->making);
    free(log);
}
