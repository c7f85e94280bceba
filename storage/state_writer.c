#include "storage/state_writer.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "node/base/cond.h"
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
    /* The transaction under way; but for is_open the thread's alone. */
    atomic_bool is_open;
    struct list open; /* batches in it */
    size_t open_entries;
    bool open_waits; /* somebody waits for its end */
    int64_t open_ns; /* since when */
    pthread_t thread;
    struct state_writer_stats stats;
};

static void drop_outcomes(struct state_writer *writer, struct apply_batch *batch)
{
    for (size_t i = 0; i < batch->len; i++) {
        if (batch->entries[i].outcome != NULL) {
            writer->options.drop(writer->options.ctx, &batch->entries[i]);
            batch->entries[i].outcome = NULL;
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
        enum err err = writer->options.apply(writer->options.ctx, state, batch->group, entry);
        if (err != OK) {
            atomic_store(&writer->stats.failed_in, batch->group);
            return err;
        }
        book->applied_index = entry->index;
        book->applied_term = entry->term;
    }
    atomic_fetch_add_explicit(&writer->stats.entries, batch->len, memory_order_relaxed);
    return OK;
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

static void give_outcomes(struct state_writer *writer, struct apply_batch *batch)
{
    if (batch->told) {
        drop_outcomes(writer, batch); /* made once more */
    } else if (batch->outcomes != NULL) {
        batch->told = true;
        batch->outcomes(batch);
    }
}

static enum err begin(struct state_writer *writer)
{
    if (writer->is_open) {
        return OK;
    }
    TRY(state_begin(writer->options.state));
    atomic_store(&writer->is_open, true);
    writer->open_ns = clock_boot_ns(writer->options.clock);
    return OK;
}

static void roll_back(struct state_writer *writer)
{
    if (atomic_load(&writer->is_open)) {
        state_abort(writer->options.state);
        atomic_store(&writer->is_open, false);
    }
}

static enum err commit(struct state_writer *writer)
{
    atomic_store(&writer->is_open, false);
    return state_commit(writer->options.state);
}

/* All of them, from the first on, in a transaction of their own. */
static enum err apply_again(struct state_writer *writer, struct list *batches)
{
    TRY(begin(writer));
    list_each(link, batches)
    {
        enum err err = apply_batch(writer, container_of(link, struct apply_batch, link));
        if (err != OK) {
            roll_back(writer);
            return err;
        }
    }
    return commit(writer);
}

static enum err run_job(struct state_writer *writer, struct state_job *job, bool *out_refused)
{
    struct state *state = writer->options.state;
    *out_refused = false;
    TRY(state_begin(state));
    enum err err = job->run(job->ctx, state);
    if (err != OK) {
        state_abort(state);
        *out_refused = err != ERR_DISK_FULL;
        return err;
    }
    return state_commit(state);
}

static enum err try_again(struct state_writer *writer, struct state_job *job, bool *out_refused)
{
    list_each(link, &writer->open)
    {
        drop_outcomes(writer, container_of(link, struct apply_batch, link));
    }
    pause_ms(RETRY_MS);
    return job != NULL ? run_job(writer, job, out_refused) : apply_again(writer, &writer->open);
}

/* What was open, or the job, failed like that the first time. */
static enum err settle(struct state_writer *writer, enum err err, struct state_job *job, bool *out_refused)
{
    if (err == ERR_IO) {
        /* A full disk shows as a short write too; nothing was committed, so once more is safe. */
        err = try_again(writer, job, out_refused);
    }
    while (err == ERR_DISK_FULL && !is_stopping(writer)) {
        atomic_store(&writer->stats.err, (int)err);
        err = try_again(writer, job, out_refused);
    }
    if (err == ERR_DISK_FULL) {
        err = ERR_SHUTTING_DOWN; /* given up: what comes after must not be applied either */
    }
    atomic_store(&writer->stats.err, *out_refused ? OK : (int)err);
    if (err == OK) {
        writer->options.committed(writer->options.ctx, writer->options.state);
    }
    return err;
}

static bool has_failed(const struct state_writer *writer, enum err *out)
{
    *out = (enum err)atomic_load(&writer->stats.err);
    return *out != OK && *out != ERR_DISK_FULL;
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

static void finish(struct state_writer *writer, struct list *batches, enum err err)
{
    for (struct list *link = list_pop(batches); link != NULL; link = list_pop(batches)) {
        struct apply_batch *batch = container_of(link, struct apply_batch, link);
        if (err == OK) {
            give_outcomes(writer, batch);
        } else {
            drop_outcomes(writer, batch);
        }
        batch->err = err;
        batch->done(batch);
    }
}

/* Ends the transaction that is open, or that failed with err. */
static void end_open(struct state_writer *writer, enum err err)
{
    int64_t start = clock_boot_ns(writer->options.clock);
    bool refused = false;
    err = err == OK ? commit(writer) : err;
    err = settle(writer, err, NULL, &refused);
    finish(writer, &writer->open, err);
    writer->open_entries = 0;
    writer->open_waits = false;
    count(writer, start);
}

/* Adds them to the transaction that is open. */
static void apply(struct state_writer *writer, struct list *batches)
{
    enum err err;
    if (has_failed(writer, &err)) {
        finish(writer, batches, err);
        return;
    }
    err = begin(writer);
    for (struct list *link = list_pop(batches); link != NULL; link = list_pop(batches)) {
        struct apply_batch *batch = container_of(link, struct apply_batch, link);
        list_add_tail(&writer->open, link);
        writer->open_entries += batch->len;
        err = err == OK ? apply_batch(writer, batch) : err;
        if (err == OK && batch->early) {
            give_outcomes(writer, batch);
        }
        writer->open_waits = writer->open_waits || !batch->early;
    }
    if (err != OK) {
        roll_back(writer);
        end_open(writer, err);
    }
}

static void do_job(struct state_writer *writer, struct state_job *job)
{
    int64_t start = clock_boot_ns(writer->options.clock);
    bool refused = false;
    if (!has_failed(writer, &job->err)) {
        job->err = settle(writer, run_job(writer, job, &refused), job, &refused);
        count(writer, start);
    }
    job->done(job);
}

static const struct state_job *next_job(const struct state_writer *writer)
{
    return list_empty(&writer->jobs) ? NULL : container_of(writer->jobs.next, struct state_job, link);
}

static bool is_idle(const struct state_writer *writer)
{
    return list_empty(&writer->queue) && list_empty(&writer->jobs);
}

/* With the mutex held: so many ns until what is open must end. */
static int64_t open_for(const struct state_writer *writer)
{
    const struct state_job *next = next_job(writer);
    bool wanted = writer->pin_wanted || writer->stopping || writer->open_entries >= LIMIT_APPLY_BATCH ||
                  (next != NULL && next->turn == writer->taken) || writer->open_waits ||
                  writer->options.may_wait == NULL || !writer->options.may_wait(writer->options.ctx);
    return wanted ? 0 : writer->open_ns + LIMIT_APPLY_MS * 1000000LL - clock_boot_ns(writer->options.clock);
}

/* With the mutex held: batches, up to a bound that keeps transactions short, and to the next job's turn. */
static void take_batches(struct state_writer *writer, struct list *out)
{
    size_t entries = 0;
    const struct state_job *next = next_job(writer);
    while (!list_empty(&writer->queue) && entries < LIMIT_APPLY_BATCH && (next == NULL || writer->taken < next->turn)) {
        struct list *link = list_pop(&writer->queue);
        entries += container_of(link, struct apply_batch, link)->len;
        list_add_tail(out, link);
        writer->taken++;
    }
}

/* With the mutex held, which is let go meanwhile: the job whose turn it is, or more batches. */
static void work(struct state_writer *writer)
{
    struct list batches;
    struct state_job *job = NULL;
    list_init(&batches);
    if (next_job(writer) != NULL && next_job(writer)->turn == writer->taken) {
        job = container_of(list_pop(&writer->jobs), struct state_job, link);
    } else {
        take_batches(writer, &batches);
    }
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    if (job != NULL) {
        do_job(writer, job);
    } else {
        apply(writer, &batches);
    }
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
}

static void *writer_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "state");
    struct state_writer *writer = arg;
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    while (!writer->stopping || !is_idle(writer) || writer->is_open) {
        int64_t ns = writer->is_open ? open_for(writer) : 0;
        if (writer->is_open && ns <= 0) {
            CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
            end_open(writer, OK);
            CHECK(pthread_mutex_lock(&writer->mutex) == 0);
        } else if (writer->pin_wanted) {
            make_pin(writer);
        } else if (!is_idle(writer)) {
            work(writer);
        } else if (writer->is_open) {
            struct timespec until = cond_deadline(ns);
            (void)pthread_cond_timedwait(&writer->wake, &writer->mutex, &until);
        } else {
            CHECK(pthread_cond_wait(&writer->wake, &writer->mutex) == 0);
        }
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
    list_init(&writer->open);
    CHECK(pthread_mutex_init(&writer->mutex, NULL) == 0);
    cond_init(&writer->wake);
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

void state_writer_submit(struct state_writer *writer, struct list *batches)
{
    uint64_t count = 0;
    list_each(link, batches)
    {
        count++;
    }
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    bool idle = list_empty(&writer->queue);
    list_splice(&writer->queue, batches);
    writer->submitted += count;
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
    if (idle) {
        CHECK(pthread_cond_signal(&writer->wake) == 0);
    }
}

void state_writer_run(struct state_writer *writer, struct state_job *job)
{
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
    job->turn = writer->submitted;
    list_add_tail(&writer->jobs, &job->link);
    CHECK(pthread_cond_signal(&writer->wake) == 0);
    CHECK(pthread_mutex_unlock(&writer->mutex) == 0);
}

void state_writer_hurry(struct state_writer *writer)
{
    if (!atomic_load(&writer->is_open)) {
        return; /* it is set before may_wait is asked: one that begins now is hurried by that */
    }
    CHECK(pthread_mutex_lock(&writer->mutex) == 0);
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
