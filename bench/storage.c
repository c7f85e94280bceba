/* The storage layout alone, under load: log with group commit, state and durable points together.
 * CLIENTS (64) submitters keep one 300-byte entry each in the log; each is applied as one row. Prints
 * entries/s, entries per sync, and the time from submit to applied: p50, p99, max. Usage: DIR [seconds]. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "node/limits.h"
#include "storage/durable.h"

enum { CLIENTS = 64, ENTRY = 300, SAMPLES = 4000000 };

struct bench;

struct client {
    struct bench *bench;
    struct log_batch log;
    struct apply_batch apply;
    struct apply_entry entry;
    int64_t since;
};

struct bench {
    struct log_writer *log_writer;
    struct state_writer *state_writer;
    struct client clients[CLIENTS];
    pthread_mutex_t mutex; /* orders index and submission */
    uint64_t next;
    atomic_bool stop;
    atomic_int running;
    uint32_t *samples; /* microseconds */
    atomic_size_t count;
};

static void submit(struct client *client)
{
    struct bench *bench = client->bench;
    client->since = clock_boot_ns(clock_system());
    client->log.records[0].index = 0;
    log_writer_submit(bench->log_writer, &client->log);
}

/* Synced: the order of syncing is the order of applying. */
static void on_synced(struct log_batch *batch, enum err err)
{
    struct client *client = container_of(batch, struct client, log);
    CHECK(err == OK);
    CHECK(pthread_mutex_lock(&client->bench->mutex) == 0);
    client->entry = (struct apply_entry){1, ++client->bench->next, 1, client->log.records[0].payload, NULL};
    struct list batches;
    list_init(&batches);
    list_add_tail(&batches, &client->apply.link);
    state_writer_submit(client->bench->state_writer, &batches);
    CHECK(pthread_mutex_unlock(&client->bench->mutex) == 0);
}

static void on_applied(struct apply_batch *batch)
{
    struct client *client = container_of(batch, struct client, apply);
    struct bench *bench = client->bench;
    CHECK(batch->err == OK);
    size_t at = atomic_fetch_add(&bench->count, 1);
    if (at < SAMPLES) {
        bench->samples[at] = (uint32_t)((clock_boot_ns(clock_system()) - client->since) / 1000);
    }
    if (atomic_load(&bench->stop)) {
        atomic_fetch_sub(&bench->running, 1);
    } else {
        submit(client);
    }
}

static enum err apply(void *ctx, struct state *state, uint16_t group, struct apply_entry *entry)
{
    (void)ctx;
    uint64_t key = __builtin_bswap64(entry->index);
    return rows_put(state_rows(state, group), 1, bytes_of(&key, sizeof key), entry->payload);
}

static void drop(void *ctx, struct apply_entry *entry)
{
    (void)ctx;
    (void)entry;
}

static void committed(void *ctx, struct state *state)
{
    (void)ctx;
    (void)state;
}

static void ignore(void *ctx, const struct segment_record *record)
{
    (void)ctx;
    (void)record;
}

static int by_value(const void *a, const void *b)
{
    return (*(const uint32_t *)a > *(const uint32_t *)b) - (*(const uint32_t *)a < *(const uint32_t *)b);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    static uint8_t payload[ENTRY];
    char path[4096], why[256];
    unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 10;
    struct segments *segments;
    struct state *state;
    if (argc < 2) {
        (void)fputs("usage: bench_storage DIR [seconds]\n", stderr);
        return 2;
    }
    CHECK(disk_posix()->make_dir(disk_posix(), argv[1]) == OK);
    (void)snprintf(path, sizeof path, "%s/log", argv[1]);
    struct segments_options log_options = {disk_posix(), path, 1, LIMIT_SEGMENT_MIB << 20};
    CHECK(segments_open(&log_options, ignore, NULL, &segments, why, sizeof why) == OK);
    (void)snprintf(path, sizeof path, "%s/state", argv[1]);
    struct state_options state_options = {path, 1, LIMIT_MAP_BYTES, 0};
    CHECK(state_open(&state_options, &state) == OK);
    struct state_writer_options writer_options = {state, clock_system(), apply, drop, committed, NULL};
    bench.log_writer = log_writer_new(segments, 1, clock_system());
    bench.state_writer = state_writer_new(&writer_options);
    bench.samples = mem_alloc(SAMPLES * sizeof *bench.samples);
    CHECK(pthread_mutex_init(&bench.mutex, NULL) == 0);
    struct durable *durable =
        durable_new(disk_posix(), argv[1], 1, LIMIT_DURABLE_MS, bench.state_writer, bench.log_writer);
    atomic_store(&bench.running, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &bench.clients[i];
        client->bench = &bench;
        client->log.done = on_synced;
        client->apply = (struct apply_batch){.entries = &client->entry, .len = 1, .done = on_applied};
        log_batch_add(&client->log,
                      &(struct segment_record){.type = RECORD_ENTRY, .payload = bytes_of(payload, ENTRY)});
        submit(client);
    }
    (void)sleep(seconds);
    atomic_store(&bench.stop, true);
    while (atomic_load(&bench.running) > 0) {
        (void)usleep(1000);
    }
    size_t count = atomic_load(&bench.count), kept = count < SAMPLES ? count : SAMPLES;
    qsort(bench.samples, kept, sizeof *bench.samples, by_value);
    const struct log_writer_stats *stats = log_writer_stats(bench.log_writer);
    printf("%.0f entries/s, %.1f entries a sync, sync mean %.0f us; submit to applied p50 %u us, p99 %u us, max %u us; "
           "%llu durable points, %zu segments\n",
           (double)count / seconds, (double)atomic_load(&stats->records) / (double)atomic_load(&stats->syncs),
           (double)atomic_load(&stats->sync_ns) / (double)atomic_load(&stats->syncs) / 1e3, bench.samples[kept / 2],
           bench.samples[kept * 99 / 100], bench.samples[kept - 1], (unsigned long long)durable_points(durable),
           segments_count(segments));
    durable_stop(durable);
    log_writer_free(bench.log_writer);
    state_writer_free(bench.state_writer);
    durable_free(durable);
    segments_close(segments);
    state_close(state);
    return 0;
}
