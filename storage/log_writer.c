#include "storage/log_writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "node/base/cond.h"

enum { RETRY_MS = 100, SEAL_MS = 50, LOOK_MS = 1000 };

struct log_writer {
    struct segments *log;
    struct clock *clock;
    unsigned groups;
    pthread_mutex_t mutex;
    pthread_cond_t wake, helper_wake;
    struct list queue;
    uint64_t *keep_after; /* what may be dropped; NULL when nothing new */
    bool stopping;
    pthread_t thread, helper;
    struct log_writer_stats stats;
};

void log_batch_add(struct log_batch *batch, const struct segment_record *record)
{
    if (batch->len == batch->cap) {
        batch->cap = batch->cap == 0 ? 16 : batch->cap * 2;
        batch->records = mem_realloc(batch->records, batch->cap * sizeof *batch->records);
    }
    batch->records[batch->len++] = *record;
}

static void count(struct log_writer *writer, uint64_t records, uint64_t bytes, uint64_t ns)
{
    struct log_writer_stats *stats = &writer->stats;
    atomic_fetch_add_explicit(&stats->syncs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stats->records, records, memory_order_relaxed);
    atomic_fetch_add_explicit(&stats->bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&stats->sync_ns, ns, memory_order_relaxed);
    if (ns > atomic_load_explicit(&stats->sync_ns_max, memory_order_relaxed)) {
        atomic_store_explicit(&stats->sync_ns_max, ns, memory_order_relaxed);
    }
}

static bool is_stopping(struct log_writer *writer)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    bool stopping = writer->stopping;
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    return stopping;
}

/* The disk is full: nothing was acknowledged, so the writer can wait for room. False: given up. */
static bool wait_for_room(struct log_writer *writer, enum err err)
{
    struct timespec pause = {0, RETRY_MS * 1000000L};
    atomic_store(&writer->stats.err, (int)err);
    if (err != ERR_DISK_FULL || is_stopping(writer)) {
        return false;
    }
    (void)nanosleep(&pause, NULL);
    return true;
}

static enum err add(struct log_writer *writer, const struct segment_record *record)
{
    enum err err = segments_add(writer->log, record);
    while (err != OK && wait_for_room(writer, err)) {
        err = segments_add(writer->log, record);
    }
    return err;
}

static enum err commit(struct log_writer *writer)
{
    enum err err = segments_commit(writer->log);
    while (err != OK && wait_for_room(writer, err)) {
        err = segments_commit(writer->log);
    }
    return err;
}

static void write_batches(struct log_writer *writer, struct list *batches)
{
    uint64_t records = 0, bytes = 0;
    enum err err = (enum err)atomic_load(&writer->stats.err);
    list_each(link, batches)
    {
        const struct log_batch *batch = container_of(link, struct log_batch, link);
        for (size_t i = 0; i < batch->len && err == OK; i++) {
            err = add(writer, &batch->records[i]);
            bytes += batch->records[i].payload.len;
        }
        records += batch->len;
    }
    int64_t start = clock_boot_ns(writer->clock);
    err = err == OK ? commit(writer) : err;
    count(writer, records, bytes, (uint64_t)(clock_boot_ns(writer->clock) - start));
    atomic_store(&writer->stats.err, (int)err);
    for (struct list *link = list_pop(batches); link != NULL; link = list_pop(batches)) {
        struct log_batch *batch = container_of(link, struct log_batch, link);
        batch->done(batch, err);
    }
}

/* The log is idle: a batch that follows proves that the last one was synced. */
static void write_seal(struct log_writer *writer)
{
    enum err err = (enum err)atomic_load(&writer->stats.err);
    if (err == OK) {
        err = add(writer, &(struct segment_record){.type = RECORD_SEAL});
        err = err == OK ? commit(writer) : err;
        atomic_store(&writer->stats.err, (int)err);
    }
}

/* With the mutex held: false when nothing came for a while. */
static bool wait_for_batch(struct log_writer *writer)
{
    struct timespec until = cond_deadline(SEAL_MS * 1000000LL);
    int rc = 0;
    while (!writer->stopping && list_empty(&writer->queue) && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&writer->wake, &writer->mutex, &until);
    }
    return writer->stopping || !list_empty(&writer->queue);
}

static void *writer_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "log");
    struct log_writer *writer = arg;
    struct list batches;
    bool sealed = false;
    list_init(&batches);
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    while (!writer->stopping || !list_empty(&writer->queue)) {
        if (list_empty(&writer->queue) && sealed) {
            CHECK(pthread_cond_wait(&writer->wake, &writer->mutex) == 0);
            continue;
        }
        bool idle = list_empty(&writer->queue) && !wait_for_batch(writer);
        if (!idle && list_empty(&writer->queue)) {
            continue; /* stopping */
        }
        list_splice(&batches, &writer->queue);
        CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
        if (idle) {
            write_seal(writer);
        } else {
            write_batches(writer, &batches);
        }
        sealed = idle;
        if (segments_wants_prepare(writer->log)) {
            CHECK(pthread_cond_signal(&writer->helper_wake) == 0);
        }
        CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    }
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    return NULL;
}

static void count_failure(struct log_writer *writer, enum err err)
{
    if (err != OK) {
        /* Not fatal here: the writer meets it again when it needs the file, and reports it. */
        atomic_fetch_add_explicit(&writer->stats.helper_failures, 1, memory_order_relaxed);
    }
}

static bool stop_or_work(const struct log_writer *writer)
{
    return writer->stopping || writer->keep_after != NULL;
}

/* With the mutex held: until there is work, or it is time to try again, or to look at the room on the disk. */
static void wait_for_work(struct log_writer *writer, bool again)
{
    if (stop_or_work(writer)) {
        return;
    }
    struct timespec until = cond_deadline((again ? RETRY_MS : LOOK_MS) * 1000000LL);
    (void)pthread_cond_timedwait(&writer->helper_wake, &writer->mutex, &until);
}

static void *helper_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "log-ahead");
    struct log_writer *writer = arg;
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    while (!writer->stopping) {
        uint64_t *keep_after = writer->keep_after;
        writer->keep_after = NULL;
        CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
        count_failure(writer, segments_drop(writer->log, keep_after));
        free(keep_after);
        enum err err = segments_prepare(writer->log);
        count_failure(writer, err == ERR_DISK_FULL || err == ERR_SHUTTING_DOWN ? OK : err);
        atomic_store(&writer->stats.low, err == ERR_DISK_FULL);
        CHECK(pthread_mutex_lock(&writer->mutex) == 0);
        wait_for_work(writer, err != OK);
    }
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    return NULL;
}

struct log_writer *log_writer_new(struct segments *log, unsigned groups, struct clock *clock)
{
    struct log_writer *writer = mem_zalloc(sizeof *writer);
    writer->log = log;
    writer->clock = clock;
    writer->groups = groups;
    list_init(&writer->queue);
    CHECK(pthread_mutex_init(&writer->mutex, NULL) == 0);
    cond_init(&writer->wake);
    cond_init(&writer->helper_wake);
    CHECK(pthread_create(&writer->thread, NULL, writer_main, writer) == 0);
    CHECK(pthread_create(&writer->helper, NULL, helper_main, writer) == 0);
    return writer;
}

void log_writer_free(struct log_writer *writer)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    writer->stopping = true;
    segments_stop_preparing(writer->log);
    CHECK(pthread_cond_signal(&writer->wake) == 0);
    CHECK(pthread_cond_signal(&writer->helper_wake) == 0);
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    CHECK(pthread_join(writer->thread, NULL) == 0);
    CHECK(pthread_join(writer->helper, NULL) == 0);
    (void)pthread_cond_destroy(&writer->wake);
    (void)pthread_cond_destroy(&writer->helper_wake);
    (void)pthread_mutex_destroy(&writer->mutex);
    free(writer->keep_after);
    free(writer);
}

void log_writer_submit(struct log_writer *writer, struct log_batch *batch)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    bool idle = list_empty(&writer->queue);
    list_add_tail(&writer->queue, &batch->link);
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    if (idle) {
        CHECK(pthread_cond_signal(&writer->wake) == 0);
    }
}

void log_writer_release(struct log_writer *writer, const uint64_t *keep_after)
{
    uint64_t *copy = mem_copy(keep_after, writer->groups * sizeof *copy);
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    free(writer->keep_after);
    writer->keep_after = copy;
    CHECK(pthread_cond_signal(&writer->helper_wake) == 0);
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
}

const struct log_writer_stats *log_writer_stats(const struct log_writer *writer)
{
    return &writer->stats;
}
