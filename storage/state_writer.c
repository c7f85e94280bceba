#include "storage/state_writer.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "node/limits.h"

enum { RETRY_MS = 100 };

struct state_writer {
    struct state_writer_options options;
    pthread_mutex_t mutex;
    pthread_cond_t wake, pinned;
    struct list queue;
    bool stopping, stopped;
    bool pin_wanted;
    struct state_pin *pin;
    enum err pin_err;
    pthread_t thread;
    struct state_writer_stats stats;
};

static void drop_outcomes(struct state_writer *writer, struct list *batches)
{
    list_each(link, batches)
    {
        struct apply_batch *batch = container_of(link, struct apply_batch, link);
        for (size_t i = 0; i < batch->len; i++) {
            if (batch->entries[i].outcome != NULL) {
                writer->options.drop(writer->options.ctx, &batch->entries[i]);
                batch->entries[i].outcome = NULL;
            }
        }
    }
}

static enum err apply_batch(struct state_writer *writer, struct apply_batch *batch)
{
    struct state *state = writer->options.state;
    for (size_t i = 0; i < batch->len; i++) {
        struct apply_entry *entry = &batch->entries[i];
        struct state_partition *book = state_partition_edit(state, batch->group);
        CHECK(entry->index == book->applied_index + 1);
        TRY(writer->options.apply(writer->options.ctx, state, batch->group, entry));
        book->applied_index = entry->index;
        book->applied_term = entry->term;
    }
    atomic_fetch_add_explicit(&writer->stats.entries, batch->len, memory_order_relaxed);
    return OK;
}

static enum err apply_all(struct state_writer *writer, struct list *batches)
{
    struct state *state = writer->options.state;
    TRY(state_begin(state));
    list_each(link, batches)
    {
        enum err err = apply_batch(writer, container_of(link, struct apply_batch, link));
        if (err != OK) {
            atomic_store(&writer->stats.failed_in, container_of(link, struct apply_batch, link)->group);
            state_abort(state);
            return err;
        }
    }
    return state_commit(state);
}

static void pause_ms(long ms)
{
    struct timespec ts = {0, ms * 1000000};
    (void)nanosleep(&ts, NULL);
}

static void make_pin(struct state_writer *writer)
{
    writer->pin_err = state_pin(writer->options.state, &writer->pin);
    writer->pin_wanted = false;
    CHECK(pthread_cond_broadcast(&writer->pinned) == 0);
}

/* While a full disk holds it up: durable points can still be taken. */
static bool is_stopping(struct state_writer *writer)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    if (writer->pin_wanted) {
        make_pin(writer);
    }
    bool stopping = writer->stopping;
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    return stopping;
}

static void run_batches(struct state_writer *writer, struct list *batches)
{
    int64_t start = clock_boot_ns(writer->options.clock);
    enum err err = (enum err)atomic_load(&writer->stats.err);
    if (err == OK || err == ERR_DISK_FULL) {
        err = apply_all(writer, batches);
        if (err == ERR_IO) {
            /* A full disk shows as a short write too; nothing was committed, so once more is safe. */
            drop_outcomes(writer, batches);
            pause_ms(RETRY_MS);
            err = apply_all(writer, batches);
        }
        while (err == ERR_DISK_FULL && !is_stopping(writer)) {
            atomic_store(&writer->stats.err, (int)err);
            drop_outcomes(writer, batches);
            pause_ms(RETRY_MS);
            err = apply_all(writer, batches);
        }
        if (err == ERR_DISK_FULL) {
            err = ERR_SHUTTING_DOWN; /* given up: what comes after must not be applied either */
        }
        atomic_store(&writer->stats.err, (int)err);
    }
    if (err != OK) {
        drop_outcomes(writer, batches);
    } else {
        writer->options.committed(writer->options.ctx, writer->options.state);
    }
    uint64_t ns = (uint64_t)(clock_boot_ns(writer->options.clock) - start);
    atomic_fetch_add_explicit(&writer->stats.commits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&writer->stats.ns, ns, memory_order_relaxed);
    if (ns > atomic_load_explicit(&writer->stats.ns_max, memory_order_relaxed)) {
        atomic_store_explicit(&writer->stats.ns_max, ns, memory_order_relaxed);
    }
    for (struct list *link = list_pop(batches); link != NULL; link = list_pop(batches)) {
        struct apply_batch *batch = container_of(link, struct apply_batch, link);
        batch->err = err;
        batch->done(batch);
    }
}

/* With the mutex held: what waits, up to a bound that keeps transactions short. */
static void take_batches(struct state_writer *writer, struct list *out)
{
    size_t entries = 0;
    while (!list_empty(&writer->queue) && entries < LIMIT_APPLY_BATCH) {
        struct list *link = list_pop(&writer->queue);
        entries += container_of(link, struct apply_batch, link)->len;
        list_add_tail(out, link);
    }
}

static void *writer_main(void *arg)
{
    struct state_writer *writer = arg;
    struct list batches;
    list_init(&batches);
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    while (!writer->stopping || !list_empty(&writer->queue)) {
        if (writer->pin_wanted) {
            make_pin(writer);
        }
        if (list_empty(&writer->queue)) {
            CHECK(pthread_cond_wait(&writer->wake, &writer->mutex) == 0);
            continue;
        }
        take_batches(writer, &batches);
        CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
        run_batches(writer, &batches);
        CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    }
    writer->stopped = true;
    CHECK(pthread_cond_broadcast(&writer->pinned) == 0);
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    return NULL;
}

struct state_writer *state_writer_new(const struct state_writer_options *options)
{
    struct state_writer *writer = mem_zalloc(sizeof *writer);
    writer->options = *options;
    list_init(&writer->queue);
    CHECK(pthread_mutex_init(&writer->mutex, NULL) == 0);
    CHECK(pthread_cond_init(&writer->wake, NULL) == 0);
    CHECK(pthread_cond_init(&writer->pinned, NULL) == 0);
    CHECK(pthread_create(&writer->thread, NULL, writer_main, writer) == 0);
    return writer;
}

void state_writer_free(struct state_writer *writer)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    writer->stopping = true;
    CHECK(pthread_cond_signal(&writer->wake) == 0);
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    CHECK(pthread_join(writer->thread, NULL) == 0);
    (void)pthread_cond_destroy(&writer->wake);
    (void)pthread_cond_destroy(&writer->pinned);
    (void)pthread_mutex_destroy(&writer->mutex);
    free(writer);
}

void state_writer_submit(struct state_writer *writer, struct apply_batch *batch)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    list_add_tail(&writer->queue, &batch->link);
    CHECK(pthread_cond_signal(&writer->wake) == 0);
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
}

enum err state_writer_pin(struct state_writer *writer, struct state_pin **out)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    writer->pin_wanted = true;
    CHECK(pthread_cond_signal(&writer->wake) == 0);
    while (writer->pin_wanted && !writer->stopped) {
        CHECK(pthread_cond_wait(&writer->pinned, &writer->mutex) == 0);
    }
    enum err err = writer->pin_wanted ? ERR_SHUTTING_DOWN : writer->pin_err;
    writer->pin_wanted = false;
    *out = err == OK ? writer->pin : NULL;
    writer->pin = NULL;
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    return err;
}

const struct state_writer_stats *state_writer_stats(const struct state_writer *writer)
{
    return &writer->stats;
}
