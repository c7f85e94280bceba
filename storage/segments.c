#include "storage/segments.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/base/random.h"
#include "node/limits.h"
#include "storage/record.h"
#include "storage/segment_read.h"
#include "storage/segment_scan.h"

enum { ZERO_CHUNK = 1 << 20, KEEP_PART = 10 /* of the file system, at most */ };

struct segments {
    struct segments_options options;
    char dir[PATH_MAX - 64];
    pthread_mutex_t making;    /* held while the next file is made */
    pthread_mutex_t dropping;  /* held while files are dropped; taken after making, before mutex; over: */
    uint64_t *released;        /* per group: entries up to this one are not needed; NULL: not said yet */
    pthread_mutex_t mutex;     /* over list, list_len, ready */
    struct segment_file *list; /* oldest first; the last one is written to */
    size_t list_len, list_cap;
    bool ready;      /* the file of the next number is prepared */
    uint64_t oldest; /* not yet dropped */
    uint64_t newest; /* number of the segment written to; the writer's own, as is its entry of the list: */
    uint64_t *newest_last;
    struct segment_index *index; /* of what is synced; has a lock of its own */
    size_t tail;                 /* bytes behind `at` that a torn batch left: zeroed before the next write */

    struct disk_file *file;
    uint64_t at;    /* write offset in the newest segment */
    uint64_t size;  /* of its file */
    uint32_t chain; /* crc of the last record written or added */
    uint32_t salt;  /* of the newest segment */
    uint64_t batch; /* number of the batch being built */
    struct buf buf; /* the batch */
    size_t last_at; /* where the batch's last record starts in buf */
    uint64_t *last_index, *last_term;
    uint64_t *hard_term, *hard_vote;
    bool *anew, any_anew; /* per group: its log begins anew in the batch being built */
    bool failed;
    atomic_bool stopping;
};

static void segment_push(struct segments *log, uint64_t number)
{
    if (log->list_len == log->list_cap) {
        log->list_cap = log->list_cap == 0 ? 8 : log->list_cap * 2;
        log->list = mem_realloc(log->list, log->list_cap * sizeof *log->list);
    }
    struct segment_file *segment = &log->list[log->list_len++];
    *segment = (struct segment_file){.number = number, .last = mem_zalloc(log->options.groups * sizeof(uint64_t))};
    log->newest = number;
    log->newest_last = segment->last;
}

static void note(struct segments *log, const struct segment_record *record)
{
    if (record->type == RECORD_ENTRY) {
        if (record->index > log->newest_last[record->group]) {
            log->newest_last[record->group] = record->index;
        }
    } else if (record->type == RECORD_LAST && record->kind == RECORD_LAST_ANEW) {
        log->newest_last[record->group] = 0;
        log->anew[record->group] = log->any_anew = true;
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
    struct record_header header = {.length = (uint32_t)record->payload.len,
                                   .chain = log->chain,
                                   .group = record->group,
                                   .type = record->type,
                                   .index = record->index,
                                   .term = record->term,
                                   .batch = log->batch,
                                   .kind = record->kind};
    memset(to + size - RECORD_ALIGN, 0, RECORD_ALIGN);
    if (record->payload.len > 0) {
        memcpy(to + sizeof header, record->payload.ptr, record->payload.len);
    }
    header.crc = record_crc(&header, to + sizeof header, log->salt);
    memcpy(to, &header, sizeof header);
    log->last_at = log->buf.len;
    log->buf.len += size;
    log->chain = header.crc;
    note(log, record);
}

/* Marks the newest record as the last of its batch; its crc changes with that. */
static void seal(struct segments *log)
{
    struct record_header header;
    uint8_t *at = log->buf.ptr + log->last_at;
    memcpy(&header, at, sizeof header);
    header.flags = RECORD_FLAG_LAST;
    header.crc = record_crc(&header, at + sizeof header, log->salt);
    memcpy(at, &header, sizeof header);
    log->chain = header.crc;
}

/* Whatever the reason: a sync that failed is not one to be tried again. */
static enum err sync_log(struct segments *log)
{
    return log->options.disk->sync(log->file) == OK ? OK : ERR_IO;
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
        err = sync_log(log);
    }
    log->tail = err == OK ? 0 : log->tail;
    return err;
}

/* What older segments hold of a group that began anew is not needed: now that this is synced. */
static void forget_void(struct segments *log)
{
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    for (unsigned group = 0; group < log->options.groups; group++) {
        for (size_t i = 0; i + 1 < log->list_len && log->anew[group]; i++) {
            log->list[i].last[group] = 0;
        }
        log->anew[group] = false;
    }
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    log->any_anew = false;
}

static enum err flush(struct segments *log)
{
    if (log->buf.len == 0) {
        return OK;
    }
    seal(log);
    TRY(zero_tail(log));
    TRY(log->options.disk->write(log->file, log->buf.ptr, log->buf.len, log->at));
    TRY(sync_log(log));
    segment_index_add(log->index, log->newest, log->at, buf_bytes(&log->buf));
    log->at += log->buf.len;
    log->buf.len = 0;
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    log->list[log->list_len - 1].bytes = log->at;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    if (log->any_anew) {
        forget_void(log);
    }
    log->batch++;
    return OK;
}

/* ---- dropping ---- */

/* Of what nobody needs so much is kept: other replicas may ask for it. Room for new data comes first. */
static uint64_t bytes_to_keep(struct segments *log)
{
    const struct segments_options *options = &log->options;
    struct disk *disk = options->disk;
    uint64_t capacity, space, keep = options->keep_bytes;
    if (keep == 0 || disk->capacity(disk, log->dir, &capacity) != OK || disk->space(disk, log->dir, &space) != OK ||
        space < options->reserve_bytes + LIMIT_DISK_SPARE_BYTES + options->segment_bytes) {
        return 0;
    }
    return keep < capacity / KEEP_PART ? keep : capacity / KEEP_PART;
}

/* The oldest segment's number when nobody needs it any more, else 0; and how much log is newer. */
static uint64_t droppable(struct segments *log, uint64_t *out_newer)
{
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    bool drop = log->list_len > 1 && log->released != NULL;
    uint64_t number = log->list_len == 0 ? 0 : log->list[0].number;
    for (unsigned group = 0; drop && group < log->options.groups; group++) {
        drop = log->list[0].last[group] <= log->released[group];
    }
    *out_newer = 0;
    for (size_t i = 1; i < log->list_len; i++) {
        *out_newer += log->list[i].bytes;
    }
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    return drop ? number : 0;
}

static enum err drop_oldest(struct segments *log, uint64_t number)
{
    struct disk *disk = log->options.disk;
    char path[PATH_MAX];
    segment_path(log->dir, number, path);
    segment_index_drop(log->index, number); /* first: what segments_first names is there */
    TRY(disk->remove(disk, path));
    TRY(disk->sync_dir(disk, log->dir)); /* in order: never a gap between the files kept */
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    free(log->list[0].last);
    memmove(log->list, log->list + 1, (log->list_len - 1) * sizeof *log->list);
    log->list_len--;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    return OK;
}

/* With the mutex `dropping` held. */
static enum err drop(struct segments *log, bool all)
{
    uint64_t newer;
    for (uint64_t number = droppable(log, &newer); number != 0; number = droppable(log, &newer)) {
        if (!all && newer < bytes_to_keep(log)) {
            return OK;
        }
        TRY(drop_oldest(log, number));
    }
    return OK;
}

enum err segments_drop(struct segments *log, const uint64_t *keep_after)
{
    CHECK(pthread_mutex_lock(&log->dropping) == 0);
    if (keep_after != NULL) {
        free(log->released);
        log->released = mem_copy(keep_after, log->options.groups * sizeof *log->released);
    }
    enum err err = drop(log, false);
    CHECK(pthread_mutex_unlock(&log->dropping) == 0);
    return err;
}

/* The disk is full: true when something was dropped that nobody needs. */
static bool drop_kept(struct segments *log)
{
    size_t before = segments_count(log);
    CHECK(pthread_mutex_lock(&log->dropping) == 0);
    enum err err = drop(log, true);
    CHECK(pthread_mutex_unlock(&log->dropping) == 0);
    return err == OK && segments_count(log) < before;
}

/* ---- the next file ---- */

static enum err fill_file(struct segments *log, struct disk_file *file, uint64_t number)
{
    static const uint8_t zeros[ZERO_CHUNK];
    struct disk *disk = log->options.disk;
    uint64_t size = log->options.segment_bytes;
    struct random random;
    random_init(&random);
    struct record_header head = {.type = RECORD_SEGMENT,
                                 .flags = RECORD_FLAG_LAST,
                                 .chain = (uint32_t)random_u64(&random),
                                 .index = number,
                                 .term = size};
    for (uint64_t at = 0; at < size; at += ZERO_CHUNK) {
        if (atomic_load(&log->stopping)) {
            return ERR_SHUTTING_DOWN;
        }
        TRY(disk->write(file, zeros, size - at < ZERO_CHUNK ? (size_t)(size - at) : ZERO_CHUNK, at));
        TRY(disk->sync(file)); /* chunk by chunk: the log's own syncs never wait for long */
    }
    head.crc = record_crc(&head, NULL, 0);
    TRY(disk->write(file, &head, sizeof head, 0));
    return disk->sync(file);
}

/* Only with room to spare: the last bytes of the disk are for what gives space back. */
static enum err make_next(struct segments *log, uint64_t number)
{
    struct disk *disk = log->options.disk;
    struct disk_file *file;
    char temporary[PATH_MAX], path[PATH_MAX];
    uint64_t space;
    (void)snprintf(temporary, sizeof temporary, "%s/next.tmp", log->dir);
    segment_path(log->dir, number, path);
    TRY(disk->space(disk, log->dir, &space));
    if (space < log->options.segment_bytes + LIMIT_DISK_SPARE_BYTES) {
        return ERR_DISK_FULL;
    }
    enum err err = disk->remove(disk, temporary); /* of another size, perhaps */
    if (err != OK && err != ERR_NOT_FOUND) {
        return err;
    }
    TRY(disk->open(disk, temporary, true, &file));
    err = fill_file(log, file, number);
    disk->close(file);
    if (err != OK) {
        (void)disk->remove(disk, temporary);
        return err;
    }
    TRY(disk->rename(disk, temporary, path));
    return disk->sync_dir(disk, log->dir);
}

void segments_stop_preparing(struct segments *log)
{
    atomic_store(&log->stopping, true);
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
    if (err == ERR_DISK_FULL && drop_kept(log)) {
        err = make_next(log, number);
    }
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    /* One that was ready may be in use by now. */
    log->ready = ready ? log->ready : err == OK;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    CHECK(pthread_mutex_unlock(&log->making) == 0);
    return err;
}

/* ---- switching and adding ---- */

/* What a segment's first batch begins with: the hard state and last index of every group. */
static void add_preamble(struct segments *log)
{
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

/* Switches to the next segment. The batch buffer must be empty. ERR_DISK_FULL changes nothing. */
static enum err roll(struct segments *log)
{
    char path[PATH_MAX];
    struct record_header head;
    struct disk_file *file;
    size_t len;
    TRY(zero_tail(log));        /* a segment that is left has nothing behind its last record */
    TRY(segments_prepare(log)); /* usually done already by the helper */
    uint64_t number = log->newest == 0 ? log->oldest : log->newest + 1;
    segment_path(log->dir, number, path);
    TRY(log->options.disk->open(log->options.disk, path, false, &file));
    if (log->file != NULL) {
        log->options.disk->close(log->file);
    }
    log->file = file;
    TRY(log->options.disk->read(log->file, &head, sizeof head, 0, &len));
    if (len < sizeof head || head.type != RECORD_SEGMENT) {
        return ERR_IO;
    }
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    segment_push(log, number);
    log->ready = false;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    log->at = sizeof head;
    log->size = head.term;
    log->chain = head.crc;
    log->salt = head.chain;
    add_preamble(log);
    return OK;
}

/* A full disk can be waited for; after anything else nobody knows what the file holds. */
static enum err fail(struct segments *log, enum err err)
{
    if (err != OK && err != ERR_DISK_FULL) {
        log->failed = true;
        return ERR_IO;
    }
    return err;
}

enum err segments_add(struct segments *log, const struct segment_record *record)
{
    CHECK(record->group < log->options.groups);
    size_t size = record_bytes(record->payload.len);
    if (log->failed) {
        return ERR_IO;
    }
    if (log->at + log->buf.len + size > log->size) {
        /* Flushing in the middle of a batch is safe: nothing is acknowledged before commit. */
        TRY(fail(log, flush(log)));
        TRY(fail(log, roll(log)));
        CHECK(log->at + log->buf.len + size <= log->size);
    }
    struct segment_record added = *record;
    added.kind = record->type == RECORD_LAST ? RECORD_LAST_ANEW : record->kind;
    add_raw(log, &added);
    return OK;
}

enum err segments_begin_group(struct segments *log, uint16_t group, uint64_t term, uint64_t last_index,
                              uint64_t last_term)
{
    TRY(segments_add(log, &(struct segment_record){.type = RECORD_HARD_STATE, .group = group, .term = term}));
    return segments_add(
        log, &(struct segment_record){.type = RECORD_LAST, .group = group, .index = last_index, .term = last_term});
}

enum err segments_commit(struct segments *log)
{
    return log->failed ? ERR_IO : fail(log, flush(log));
}

size_t segments_count(struct segments *log)
{
    CHECK(pthread_mutex_lock(&log->mutex) == 0);
    size_t count = log->list_len;
    CHECK(pthread_mutex_unlock(&log->mutex) == 0);
    return count;
}

/* ---- reading ---- */

enum err segments_read(struct segments *log, uint16_t group, uint64_t first, size_t max_entries, size_t max_bytes,
                       void (*each)(void *ctx, const struct segment_record *record), void *ctx)
{
    struct segment_read read = {.disk = log->options.disk,
                                .dir = log->dir,
                                .index = log->index,
                                .group = group,
                                .first = first,
                                .max_entries = max_entries,
                                .max_bytes = max_bytes,
                                .each = each,
                                .ctx = ctx};
    return segment_read_run(&read);
}

uint64_t segments_first(struct segments *log, uint16_t group)
{
    return segment_index_first(log->index, group);
}

/* ---- opening ---- */

/* What was read may be in the page cache alone, after a kill or a failed sync: the last batch is
 * written once more and synced before anybody relies on it. */
static enum err sync_last_batch(struct segments *log, const struct segment_scan *scan)
{
    size_t len = (size_t)(scan->at - scan->batch_at), got = 0;
    uint8_t *data = mem_alloc(len + 1);
    enum err err = log->options.disk->read(log->file, data, len, scan->batch_at, &got);
    if (err == OK) {
        err = got == len ? log->options.disk->write(log->file, data, len, scan->batch_at) : ERR_IO;
    }
    free(data);
    return err == OK ? log->options.disk->sync(log->file) : err;
}

/* Takes over what the scan found. */
static void adopt(struct segments *log, struct segment_scan *scan)
{
    for (size_t i = 0; i < scan->files_len; i++) {
        segment_push(log, scan->files[i].number);
        memcpy(log->newest_last, scan->files[i].last, log->options.groups * sizeof *log->newest_last);
        log->list[i].bytes = scan->files[i].bytes;
    }
    size_t size = log->options.groups * sizeof *log->last_index;
    memcpy(log->last_index, scan->last_index, size);
    memcpy(log->last_term, scan->last_term, size);
    memcpy(log->hard_term, scan->hard_term, size);
    memcpy(log->hard_vote, scan->hard_vote, size);
    log->index = scan->index;
    scan->index = NULL;
    log->oldest = scan->oldest;
    log->at = scan->at;
    log->size = scan->size;
    log->tail = (size_t)scan->tail;
    log->chain = scan->chain;
    log->salt = scan->salt;
    log->batch = scan->batch;
}

static enum err open_newest(struct segments *log, const struct segment_scan *scan)
{
    struct disk *disk = log->options.disk;
    char path[PATH_MAX];
    /* One made ready and untouched is ready still; what a torn first batch is in is made anew when its turn
     * comes, nothing in it was synced. The newest goes first. */
    log->ready = scan->unused_ready == log->options.segment_bytes;
    for (uint64_t number = scan->unused_to; number != 0 && number >= scan->unused_from && !log->ready; number--) {
        segment_path(log->dir, number, path);
        TRY(disk->remove(disk, path));
    }
    if (scan->files_len == 0) {
        return roll(log);
    }
    segment_path(log->dir, log->newest, path);
    TRY(disk->open(disk, path, false, &log->file));
    return sync_last_batch(log, scan);
}

static enum err make_directory(struct segments *log)
{
    struct disk *disk = log->options.disk;
    char parent[PATH_MAX];
    (void)snprintf(parent, sizeof parent, "%s/..", log->dir);
    TRY(disk->make_dir(disk, log->dir));
    return disk->sync_dir(disk, parent);
}

enum err segments_continue(const struct segments_options *options, struct segment_scan *scan, struct segments **out)
{
    struct segments *log = mem_zalloc(sizeof *log);
    size_t size = options->groups * sizeof *log->last_index;
    log->options = *options;
    CHECK(pthread_mutex_init(&log->mutex, NULL) == 0);
    CHECK(pthread_mutex_init(&log->making, NULL) == 0);
    CHECK(pthread_mutex_init(&log->dropping, NULL) == 0);
    (void)snprintf(log->dir, sizeof log->dir, "%s", options->dir);
    log->last_index = mem_zalloc(size);
    log->last_term = mem_zalloc(size);
    log->hard_term = mem_zalloc(size);
    log->hard_vote = mem_zalloc(size);
    log->anew = mem_zalloc(options->groups * sizeof *log->anew);
    adopt(log, scan);
    enum err err = make_directory(log);
    if (err == OK) {
        err = open_newest(log, scan);
    }
    if (err != OK) {
        segments_close(log);
        return err;
    }
    *out = log;
    return OK;
}

enum err segments_open(const struct segments_options *options,
                       void (*each)(void *ctx, const struct segment_record *record), void *ctx, struct segments **out,
                       char *out_why, size_t why_cap)
{
    struct segment_scan scan = {
        .disk = options->disk, .dir = options->dir, .groups = options->groups, .each = each, .ctx = ctx};
    enum err err = segment_scan_run(&scan);
    if (err == OK) {
        err = segments_continue(options, &scan, out);
    }
    (void)snprintf(out_why, why_cap, "%s", scan.why);
    segment_scan_close(&scan);
    return err;
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
    segment_index_free(log->index);
    free(log->released);
    free(log->last_index);
    free(log->last_term);
    free(log->hard_term);
    free(log->hard_vote);
    free(log->anew);
    buf_free(&log->buf);
    (void)pthread_mutex_destroy(&log->mutex);
    (void)pthread_mutex_destroy(&log->making);
    (void)pthread_mutex_destroy(&log->dropping);
    free(log);
}
