#include "storage/log_writer.h"

#include <pthread.h>
#include <stdlib.h>

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

static void write_batches(struct log_writer *writer, struct list *batches)
{
    uint64_t records = 0, bytes = 0;
    list_each(link, batches)
    {
        const struct log_batch *batch = container_of(link, struct log_batch, link);
        for (size_t i = 0; i < batch->len; i++) {
            segments_add(writer->log, &batch->records[i]);
            bytes += batch->records[i].payload.len;
        }
        records += batch->len;
    }
    int64_t start = clock_boot_ns(writer->clock);
    enum err err = segments_commit(writer->log);
    count(writer, records, bytes, (uint64_t)(clock_boot_ns(writer->clock) - start));
    for (struct list *link = list_pop(batches); link != NULL; link = list_pop(batches)) {
        struct log_batch *batch = container_of(link, struct log_batch, link);
        batch->done(batch, err);
    }
}

static void *writer_main(void *arg)
{
    struct log_writer *writer = arg;
    struct list batches;
    list_init(&batches);
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    while (!writer->stopping || !list_empty(&writer->queue)) {
        if (list_empty(&writer->queue)) {
            CHECK(pthread_cond_wait(&writer->wake, &writer->mutex) == 0);
            continue;
        }
        list_splice(&batches, &writer->queue);
        CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
        write_batches(writer, &batches);
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

static void *helper_main(void *arg)
{
    struct log_writer *writer = arg;
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    while (!writer->stopping) {
        uint64_t *keep_after = writer->keep_after;
        writer->keep_after = NULL;
        CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
        if (keep_after != NULL) {
            count_failure(writer, segments_drop(writer->log, keep_after));
            free(keep_after);
        }
        count_failure(writer, segments_prepare(writer->log));
        CHECK(pthread_mutex_lock(&writer->mutex) == 0);
        if (!writer->stopping && writer->keep_after == NULL) {
            CHECK(pthread_cond_wait(&writer->helper_wake, &writer->mutex) == 0);
        }
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
    CHECK(pthread_cond_init(&writer->wake, NULL) == 0);
    CHECK(pthread_cond_init(&writer->helper_wake, NULL) == 0);
    CHECK(pthread_create(&writer->thread, NULL, writer_main, writer) == 0);
    CHECK(pthread_create(&writer->helper, NULL, helper_main, writer) == 0);
    return writer;
}

void log_writer_free(struct log_writer *writer)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    writer->stopping = true;
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
