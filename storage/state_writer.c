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
    struct list queue, jobs;
    uint64_t submitted, taken; /* batches, in all */
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

/* One transaction's worth of work: batches, or a job. */
struct work {
    struct list batches;
    struct state_job *job; /* or NULL */
    bool refused;          /* by the job: the state is well, nothing of it was changed */
};

static enum err try_job(struct state_writer *writer, struct work *work)
{
    struct state *state = writer->options.state;
    work->refused = false;
    TRY(state_begin(state));
    enum err err = work->job->run(work->job->ctx, state);
    if (err != OK) {
        state_abort(state);
        work->refused = err != ERR_DISK_FULL;
        return err;
    }
    return state_commit(state);
}

static enum err try_work(struct state_writer *writer, struct work *work)
{
    return work->job != NULL ? try_job(writer, work) : apply_all(writer, &work->batches);
}

static enum err try_again(struct state_writer *writer, struct work *work)
{
    drop_outcomes(writer, &work->batches);
    pause_ms(RETRY_MS);
    return try_work(writer, work);
}

static enum err do_work(struct state_writer *writer, struct work *work)
{
    enum err err = (enum err)atomic_load(&writer->stats.err);
    if (err != OK && err != ERR_DISK_FULL) {
        return err;
    }
    err = try_work(writer, work);
    if (err == ERR_IO) {
        /* A full disk shows as a short write too; nothing was committed, so once more is safe. */
        err = try_again(writer, work);
    }
    while (err == ERR_DISK_FULL && !is_stopping(writer)) {
        atomic_store(&writer->stats.err, (int)err);
        err = try_again(writer, work);
    }
    if (err == ERR_DISK_FULL) {
        err = ERR_SHUTTING_DOWN; /* given up: what comes after must not be applied either */
    }
    atomic_store(&writer->stats.err, work->refused ? OK : (int)err);
    return err;
}

static void count(struct state_writer *writer, int64_t start_ns)
{
    struct state_writer_stats *stats = &writer->stats;
    uint64_t ns = (uint64_t)(clock_boot_ns(writer->options.clock) - start_ns);
    atomic_fetch_add_explicit(&stats->commits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stats->ns, ns, memory_order_relaxed);
    if (ns > atomic_load_explicit(&stats->ns_max, memory_order_relaxed)) {
        atomic_store_explicit(&stats->ns_max, ns, memory_order_relaxed);
    }
}

static void run_work(struct state_writer *writer, struct work *work)
{
    int64_t start = clock_boot_ns(writer->options.clock);
    enum err err = do_work(writer, work);
    if (err != OK) {
        drop_outcomes(writer, &work->batches);
    } else {
        writer->options.committed(writer->options.ctx, writer->options.state);
    }
    count(writer, start);
    if (work->job != NULL) {
        work->job->err = err;
        work->job->done(work->job);
    }
    for (struct list *link = list_pop(&work->batches); link != NULL; link = list_pop(&work->batches)) {
        struct apply_batch *batch = container_of(link, struct apply_batch, link);
        batch->err = err;
        batch->done(batch);
    }
}

static bool is_idle(const struct state_writer *writer)
{
    return list_empty(&writer->queue) && list_empty(&writer->jobs);
}

/* With the mutex held: the job whose turn it is, or batches, up to a bound that keeps transactions short
 * and to the next job's turn. */
static void take_work(struct state_writer *writer, struct work *out)
{
    size_t entries = 0;
    const struct state_job *next =
        list_empty(&writer->jobs) ? NULL : container_of(writer->jobs.next, struct state_job, link);
    *out = (struct work){0};
    list_init(&out->batches);
    if (next != NULL && next->turn == writer->taken) {
        out->job = container_of(list_pop(&writer->jobs), struct state_job, link);
        return;
    }
    while (!list_empty(&writer->queue) && entries < LIMIT_APPLY_BATCH && (next == NULL || writer->taken < next->turn)) {
        struct list *link = list_pop(&writer->queue);
        entries += container_of(link, struct apply_batch, link)->len;
        list_add_tail(&out->batches, link);
        writer->taken++;
    }
}

static void *writer_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "state");
    struct state_writer *writer = arg;
    struct work work;
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    while (!writer->stopping || !is_idle(writer)) {
        if (writer->pin_wanted) {
            make_pin(writer);
        }
        if (is_idle(writer)) {
            CHECK(pthread_cond_wait(&writer->wake, &writer->mutex) == 0);
            continue;
        }
        take_work(writer, &work);
        CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
        run_work(writer, &work);
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
    list_init(&writer->jobs);
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
    writer->submitted++;
    CHECK(pthread_cond_signal(&writer->wake) == 0);
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
}

void state_writer_run(struct state_writer *writer, struct state_job *job)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    job->turn = writer->submitted;
    list_add_tail(&writer->jobs, &job->link);
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
