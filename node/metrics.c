#include "node/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "cluster/group.h"
#include "node/backups.h"
#include "node/balance.h"
#include "node/damage.h"
#include "node/partition.h"
#include "node/peers.h"
#include "node/router.h"
#include "node/streams.h"

enum { KINDS = 8, OPS = 256, METHODS = METHOD_OTHER + 1, STATUSES = 27, BUCKETS = 14 };

static const int statuses[STATUSES] = {200, 201, 204, 301, 304, 400, 401, 403, 404, 405, 408, 409, 412, 413,
                                       414, 415, 417, 422, 429, 431, 500, 501, 503, 504, 505, 507, 0};
static const int64_t bucket_us[BUCKETS] = {50,    100,   250,   500,    1000,   2500,    5000,
                                           10000, 25000, 50000, 100000, 250000, 1000000, 5000000};

struct histogram {
    atomic_uint_fast64_t buckets[BUCKETS + 1], sum_ns;
};

struct metrics {
    atomic_uint_fast64_t commands[KINDS][OPS][ERR_COUNT];
    unsigned routes;
    struct {
        atomic_uint_fast64_t requests[METHODS][STATUSES];
        struct histogram duration[METHODS];
    } * route;
};

struct metrics *metrics_new(unsigned routes)
{
    struct metrics *metrics = mem_zalloc(sizeof *metrics);
    metrics->routes = routes;
    metrics->route = mem_zalloc(routes * sizeof *metrics->route);
    return metrics;
}

void metrics_free(struct metrics *metrics)
{
    if (metrics != NULL) {
        free(metrics->route);
        free(metrics);
    }
}

static void add(atomic_uint_fast64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

static uint64_t load(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void metrics_command(struct metrics *metrics, uint8_t kind, uint8_t op, enum err err)
{
    CHECK(kind < KINDS && err < ERR_COUNT);
    add(&metrics->commands[kind][op][err], 1);
}

static unsigned status_index(int status)
{
    unsigned i = 0;
    while (i + 1 < STATUSES && statuses[i] != status) {
        i++;
    }
    return i;
}

void metrics_request(struct metrics *metrics, unsigned route, enum method method, int status, int64_t ns)
{
    CHECK(route < metrics->routes);
    struct histogram *histogram = &metrics->route[route].duration[method];
    unsigned bucket = 0;
    while (bucket < BUCKETS && ns > bucket_us[bucket] * 1000) {
        bucket++;
    }
    add(&metrics->route[route].requests[method][status_index(status)], 1);
    add(&histogram->buckets[bucket], 1);
    add(&histogram->sum_ns, (uint64_t)ns);
}

/* ---- writing ---- */

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct buf *out, const char *name, const char *type, const char *help, double value)
{
    head(out, name, type, help);
    buf_printf(out, "%s %.17g\n", name, value);
}

static void write_requests(const struct metrics *metrics, const struct router *router, struct buf *out)
{
    head(out, "belfry_http_requests_total", "counter", "HTTP requests answered.");
    for (unsigned r = 0; r < metrics->routes; r++) {
        for (unsigned m = 0; m < METHODS; m++) {
            for (unsigned s = 0; s < STATUSES; s++) {
                uint64_t count = load(&metrics->route[r].requests[m][s]);
                if (count > 0) {
                    buf_printf(out, "belfry_http_requests_total{method=\"%s\",route=\"%s\",status=\"%d\"} %llu\n",
                               http_method_name((enum method)m), router_path(router, r), statuses[s],
                               (unsigned long long)count);
                }
            }
        }
    }
}

static void write_durations(const struct metrics *metrics, const struct router *router, struct buf *out)
{
    static const char name[] = "belfry_http_request_duration_seconds";
    head(out, name, "histogram", "Time from the end of the request's head to its answer.");
    for (unsigned r = 0; r < metrics->routes; r++) {
        for (unsigned m = 0; m < METHODS; m++) {
            const struct histogram *h = &metrics->route[r].duration[m];
            uint64_t total = 0;
            for (unsigned b = 0; b <= BUCKETS; b++) {
                total += load(&h->buckets[b]);
            }
            if (total == 0) {
                continue;
            }
            char labels[256];
            (void)snprintf(labels, sizeof labels, "method=\"%s\",route=\"%s\"", http_method_name((enum method)m),
                           router_path(router, r));
            uint64_t sum = 0;
            for (unsigned b = 0; b < BUCKETS; b++) {
                sum += load(&h->buckets[b]);
                buf_printf(out, "%s_bucket{%s,le=\"%g\"} %llu\n", name, labels, (double)bucket_us[b] / 1e6,
                           (unsigned long long)sum);
            }
            buf_printf(out, "%s_bucket{%s,le=\"+Inf\"} %llu\n", name, labels, (unsigned long long)total);
            buf_printf(out, "%s_sum{%s} %.9g\n%s_count{%s} %llu\n", name, labels, (double)load(&h->sum_ns) / 1e9, name,
                       labels, (unsigned long long)total);
        }
    }
}

static void write_commands(const struct metrics *metrics, struct buf *out)
{
    head(out, "belfry_commands_total", "counter", "Commands applied to the state, by result.");
    for (size_t k = 0; kinds[k] != NULL; k++) {
        for (const struct op *op = kinds[k]->ops; op->tag != 0; op++) {
            for (unsigned e = 0; e < ERR_COUNT && op->type == OP_COMMAND; e++) {
                uint64_t count = load(&metrics->commands[kinds[k]->id][op->tag][e]);
                if (count > 0) {
                    buf_printf(out, "belfry_commands_total{kind=\"%s\",op=\"%s\",result=\"%s\"} %llu\n", kinds[k]->name,
                               op->name, err_code((enum err)e), (unsigned long long)count);
                }
            }
        }
    }
}

struct metrics_look {
    struct look look;
    struct state_reader *reader;
};

static struct rows *look_rows(struct look *look, unsigned partition)
{
    return state_reader_rows(container_of(look, struct metrics_look, look)->reader, partition);
}

/* What kinds say of themselves. */
static void write_kinds(struct node *node, struct state_reader *reader, struct buf *out)
{
    struct arena arena = {0};
    struct metrics_look ours = {.look = {.arena = &arena,
                                         .now_ms = clock_wall_ms(node->clock),
                                         .partitions = node->data_partitions,
                                         .rows = look_rows},
                                .reader = reader};
    for (size_t k = 0; kinds[k] != NULL; k++) {
        if (kinds[k]->metrics != NULL) {
            kinds[k]->metrics(&ours.look, out);
        }
    }
    arena_close(&arena);
}

static void write_records(struct node *node, struct buf *out)
{
    uint64_t counts[STATE_TABLES] = {0};
    struct state_reader *reader;
    if (node->state == NULL || state_reader_new(node->state, &reader) != OK) {
        return;
    }
    bool good = state_reader_renew(reader) == OK;
    for (unsigned p = 0; p < node->partitions_len && good; p++) {
        struct state_partition book;
        good = state_reader_partition(reader, p, &book) == OK;
        for (unsigned t = 0; t < STATE_TABLES && good; t++) {
            counts[t] += book.counts[t];
        }
    }
    if (good) {
        write_kinds(node, reader, out);
    }
    state_reader_free(reader);
    head(out, "belfry_records", "gauge", "Records kept, by kind.");
    for (size_t k = 0; kinds[k] != NULL; k++) {
        for (const struct table *table = kinds[k]->tables; table->id != 0; table++) {
            if (table->record) {
                buf_printf(out, "belfry_records{kind=\"%s\"} %llu\n", table->name,
                           (unsigned long long)counts[table->id]);
            }
        }
    }
}

static long resident_bytes(void)
{
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fscanf(file, "%ld %ld", &total, &resident) != 2) {
            resident = 0;
        }
        (void)fclose(file);
    }
    return resident * 4096;
}

static void write_process(struct node *node, struct buf *out)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    double cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    single(out, "process_cpu_seconds_total", "counter", "CPU time used.", cpu);
    single(out, "process_resident_memory_bytes", "gauge", "Memory resident, the mapped state included.",
           (double)resident_bytes());
    single(out, "process_start_time_seconds", "gauge", "Start time, seconds since 1970.",
           (double)node->started_ms / 1000);
}

static void write_storage(struct node *node, struct buf *out)
{
    const struct log_writer_stats *log = log_writer_stats(node->log_writer);
    const struct state_writer_stats *states = state_writer_stats(node->state_writer);
    single(out, "belfry_log_syncs_total", "counter", "Syncs of the log.", (double)load(&log->syncs));
    single(out, "belfry_log_sync_seconds_total", "counter", "Time spent writing and syncing the log.",
           (double)load(&log->sync_ns) / 1e9);
    single(out, "belfry_log_sync_seconds_max", "gauge", "The longest write and sync of the log since the start.",
           (double)load(&log->sync_ns_max) / 1e9);
    single(out, "belfry_state_commit_seconds_max", "gauge", "The longest transaction of the state since the start.",
           (double)load(&states->ns_max) / 1e9);
    single(out, "belfry_log_records_total", "counter", "Records written to the log; by syncs it is the batch size.",
           (double)load(&log->records));
    single(out, "belfry_log_bytes_total", "counter", "Payload bytes written to the log.", (double)load(&log->bytes));
    single(out, "belfry_log_segments", "gauge", "Segment files of the log.", (double)segments_count(node->segments));
    single(out, "belfry_state_commits_total", "counter", "Transactions of the state.", (double)load(&states->commits));
    single(out, "belfry_state_entries_total", "counter", "Log entries applied to the state.",
           (double)load(&states->entries));
    single(out, "belfry_state_seconds_total", "counter", "Time spent applying and committing.",
           (double)load(&states->ns) / 1e9);
    single(out, "belfry_state_bytes", "gauge", "Size of the state file in use.", (double)state_file_bytes(node->state));
    single(out, "belfry_durable_points_total", "counter", "Durable points taken.",
           (double)durable_points(node->durable));
}

static void write_partitions(struct node *node, struct buf *out)
{
    head(out, "belfry_partition_leader", "gauge", "1 when this node leads the partition.");
    for (unsigned p = 0; p < node->partitions_len; p++) {
        buf_printf(out, "belfry_partition_leader{partition=\"%u\"} %d\n", p,
                   atomic_load(&node->partitions[p].leader) ? 1 : 0);
    }
    head(out, "belfry_partition_lag_entries", "gauge", "Log entries not yet applied here.");
    for (unsigned p = 0; p < node->partitions_len; p++) {
        uint64_t last = load(&node->partitions[p].last), applied = load(&node->partitions[p].applied);
        buf_printf(out, "belfry_partition_lag_entries{partition=\"%u\"} %llu\n", p,
                   (unsigned long long)(last > applied ? last - applied : 0));
    }
}

static void write_workers(struct node *node, struct buf *out)
{
    uint64_t sums[10] = {0};
    for (unsigned w = 0; w < node->workers_len; w++) {
        struct node_worker *worker = &node->workers[w];
        const atomic_uint_fast64_t *counters[10] = {&worker->actors_live,
                                                    &worker->mails,
                                                    &worker->activated,
                                                    &worker->passivated,
                                                    &worker->overloaded,
                                                    &worker->server.stats.accepted,
                                                    &worker->server.stats.open,
                                                    &worker->server.stats.refused,
                                                    &worker->server.stats.bytes_in,
                                                    &worker->server.stats.bytes_out};
        for (size_t i = 0; i < ARRAY_LEN(sums); i++) {
            sums[i] += load(counters[i]);
        }
    }
    single(out, "belfry_actors_live", "gauge", "Actors in memory.", (double)sums[0]);
    single(out, "belfry_mailbox_depth", "gauge", "Commands waiting in mailboxes.", (double)sums[1]);
    single(out, "belfry_actors_activated_total", "counter", "Actors activated.", (double)sums[2]);
    single(out, "belfry_actors_passivated_total", "counter", "Actors passivated after being idle.", (double)sums[3]);
    single(out, "belfry_mailbox_overloads_total", "counter", "Commands refused because a mailbox was full.",
           (double)sums[4]);
    single(out, "belfry_http_connections_accepted_total", "counter", "Connections accepted.", (double)sums[5]);
    single(out, "belfry_http_connections_open", "gauge", "Connections open.", (double)sums[6]);
    single(out, "belfry_http_connections_refused_total", "counter",
           "Connections closed at once: too many, or stopping.", (double)sums[7]);
    single(out, "belfry_http_received_bytes_total", "counter", "Bytes received.", (double)sums[8]);
    single(out, "belfry_http_sent_bytes_total", "counter", "Bytes sent.", (double)sums[9]);
    single(out, "belfry_streams_open", "gauge", "Event streams open.", (double)streams_count(node));
    single(out, "belfry_compute_jobs", "gauge", "Password hashes queued or running.",
           (double)atomic_load(&node->computing));
}

static double view_sent(const struct balance_view *view)
{
    return (double)view->sent;
}
static double view_failed(const struct balance_view *view)
{
    return (double)view->failed;
}
static double view_served(const struct balance_view *view)
{
    return (double)view->served;
}
static double view_outstanding(const struct balance_view *view)
{
    return view->outstanding;
}
static double view_response(const struct balance_view *view)
{
    return view->response_ms / 1000;
}
static double view_breaker(const struct balance_view *view)
{
    return view->breaker == BREAKER_OPEN ? 1 : view->breaker == BREAKER_HALF_OPEN ? 0.5 : 0;
}
static double view_queue(const struct balance_view *view)
{
    return view->load.hashes;
}

/* Who hashes passwords: a line a node, this one too. */
static void write_balance(struct node *node, struct buf *out)
{
    static const struct {
        const char *name, *type, *help;
        double (*value)(const struct balance_view *view);
    } families[] = {
        {"belfry_balance_sent_total", "counter", "Password hashes given to the node.", view_sent},
        {"belfry_balance_failed_total", "counter", "Of those, refused, lost or not answered in time.", view_failed},
        {"belfry_balance_served_total", "counter", "Password hashes computed here for the node.", view_served},
        {"belfry_balance_outstanding", "gauge", "Password hashes given to the node and not answered.",
         view_outstanding},
        {"belfry_balance_response_seconds", "gauge", "Moving average of the node's answers; 0: none yet.",
         view_response},
        {"belfry_balance_breaker", "gauge", "1 while the node gets no hashes after failures, 0.5 while it is tried.",
         view_breaker},
        {"belfry_balance_reported_queue", "gauge", "Password hashes waiting or running there, as the node says.",
         view_queue}};
    struct balance_view views[LIMIT_PEERS + 1];
    size_t len = balance_views(node->balance, clock_boot_ms(node->clock), views, ARRAY_LEN(views));
    views[0].load.hashes = (unsigned)atomic_load(&node->computing);
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        head(out, families[f].name, families[f].type, families[f].help);
        for (size_t i = 0; i < len; i++) {
            char name[ID_TEXT_BYTES + 1] = "";
            if (peers_name(node->peers, views[i].replica, name)) {
                buf_printf(out, "%s{node=\"%s\"} %.9g\n", families[f].name, name, families[f].value(&views[i]));
            }
        }
    }
}

void metrics_write(struct node *node, struct buf *out)
{
    write_requests(node->metrics, node->router, out);
    write_durations(node->metrics, node->router, out);
    write_commands(node->metrics, out);
    write_records(node, out);
    write_process(node, out);
    if (node->durable != NULL) {
        write_storage(node, out);
    }
    if (node->backups != NULL) {
        single(out, "belfry_backup_last_success_seconds", "gauge",
               "When the last backup was begun, seconds since 1970.", (double)backups_last_ms(node->backups) / 1000);
    }
    single(out, "belfry_damaged", "gauge", "1 when stored data was found damaged: the node is read-only.",
           damage_any(node->damage) ? 1 : 0);
    write_partitions(node, out);
    write_workers(node, out);
    write_balance(node, out);
}
