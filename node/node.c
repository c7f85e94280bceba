#include "node/node.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "actors/facades/facade.h"
#include "actors/system/system.h"
#include "node/archive.h"
#include "node/background.h"
#include "node/backups.h"
#include "node/balance.h"
#include "node/call.h"
#include "node/cluster_page.h"
#include "node/command.h"
#include "node/compute.h"
#include "node/crypto/hashers.h"
#include "node/damage.h"
#include "node/directory.h"
#include "node/forward.h"
#include "node/guard.h"
#include "node/hints.h"
#include "node/identity.h"
#include "node/install.h"
#include "node/joiner.h"
#include "node/members.h"
#include "node/metrics.h"
#include "node/pages.h"
#include "node/partition.h"
#include "node/peers.h"
#include "node/readiness.h"
#include "node/recovery.h"
#include "node/rejoin.h"
#include "node/repair.h"
#include "node/request.h"
#include "node/router.h"
#include "node/skew.h"
#include "node/streams.h"
#include "node/tubes.h"
#include "node/turn_end.h"
#include "node/turn_log.h"
#include "node/upkeep.h"
#include "node/watch.h"

enum { HAND_OVER_MS = 3000, DRAIN_MS = 10000, READY_MS = 20000 };

/* ---- commits ---- */

static bool may_wait(void *ctx)
{
    struct node *node = container_of(ctx, struct node, apply_context);
    bool waits = atomic_load(&node->stopping) || watch_wants_commit(node);
    for (unsigned w = 0; w < node->workers_len; w++) {
        waits = waits || atomic_load(&node->workers[w].reads_wait) || atomic_load(&node->workers[w].alarms_wait);
    }
    return !waits;
}

/* On the state writer's thread, after each commit. */
static void on_committed(void *ctx, struct state *state)
{
    struct node *node = container_of(ctx, struct node, apply_context);
    /* In this order: who sees an entry as applied also sees that its snapshot is an old one. */
    atomic_fetch_add_explicit(&node->commit_seq, 1, memory_order_release);
    for (unsigned p = 0; p < node->partitions_len; p++) {
        atomic_store_explicit(&node->partitions[p].applied, state_partition(state, p)->applied_index,
                              memory_order_release);
    }
    atomic_store_explicit(&node->state_full, state_is_full(state), memory_order_relaxed);
    watch_committed(node);
    atomic_thread_fence(memory_order_seq_cst); /* who waits looked the other way round */
    for (unsigned w = 0; w < node->workers_len; w++) {
        if (atomic_load(&node->workers[w].reads_wait)) {
            worker_wake(&node->workers[w].worker);
        }
    }
}

/* ---- recovery ---- */

/* The configuration in force at the applied index is a row of the state. */
static enum err load_configurations(struct node *node, struct recovery *recovery)
{
    struct state_reader *reader;
    TRY(state_reader_new(node->state, &reader));
    enum err err = state_reader_renew(reader);
    for (unsigned g = 0; g < node->partitions_len && err == OK; g++) {
        struct group_start *start = &recovery->starts[g];
        struct bytes encoded;
        if (start->applied_index > 0) {
            err = apply_configuration(state_reader_rows(reader, g), &encoded, &start->configuration_index);
            if (err == OK) {
                start->configuration = bytes_of(mem_copy(encoded.ptr, encoded.len), encoded.len);
            }
        }
    }
    state_reader_free(reader);
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}

static enum err log_founding(struct node *node, uint16_t group, const struct group_start *start)
{
    TRY(segments_add(node->segments,
                     &(struct segment_record){
                         .type = RECORD_HARD_STATE, .group = group, .term = start->term, .index = start->vote}));
    return segments_add(node->segments, &(struct segment_record){.type = RECORD_ENTRY,
                                                                 .kind = ENTRY_CHANGE,
                                                                 .group = group,
                                                                 .index = 1,
                                                                 .term = 1,
                                                                 .payload = start->entries[0].payload});
}

/* The first entry of every group: the configuration it is founded with. A founding that was cut short is
 * finished: as long as nothing was ever proposed, a group without entries was never founded. */
static enum err found_groups(struct node *node, struct recovery *recovery)
{
    struct identity identity;
    TRY(identity_read(disk_posix(), node->config.data, "identity", &identity));
    if (identity.founders.len == 0) {
        return OK; /* it joined: its groups come from the others */
    }
    for (uint16_t g = 0; g < node->partitions_len; g++) {
        if (recovery->last[g] > 1) {
            return OK;
        }
    }
    for (uint16_t g = 0; g < node->partitions_len; g++) {
        struct group_start *start = &recovery->starts[g];
        if (recovery->last[g] == 1) {
            continue;
        }
        start->term = start->term > 1 ? start->term : 1;
        start->entries = mem_alloc(sizeof *start->entries);
        start->entries[0] = (struct group_entry){1, 1, ENTRY_CHANGE, group_members_encode(&identity.founders)};
        start->entries_len = 1;
        recovery->last[g] = 1;
        TRY(log_founding(node, g, start));
    }
    return segments_commit(node->segments);
}

static void path_in(const struct node *node, const char *name, char *out)
{
    (void)snprintf(out, PATH_MAX, "%s/%s", node->config.data, name);
}

/* On any thread: what the row was of serves nothing any more, and the node takes no writes. */
static void on_damaged(void *ctx, unsigned partition)
{
    struct node *node = ctx;
    char text[64];
    (void)snprintf(text, sizeof text, "partition %u: a damaged row was met", partition);
    if (damage_spares(node->damage, partition)) {
        log_text(node->log, LOG_ERROR, "the data is damaged: read-only", "%s", text);
    }
    damage_add(node->damage, DAMAGE_STATE, (int)partition, text);
    node_met_damage(node);
}

void node_met_damage(struct node *node)
{
    struct group_members members;
    members_list(node->members, &members);
    if (node->config.join[0] != 0 && members.len > 2 && !atomic_exchange(&node->restarting, true)) {
        log_text(node->log, LOG_ERROR, "damage was met: the node begins anew", "%s", node->config.data);
        (void)kill(getpid(), SIGTERM);
    }
}

static enum err open_state(struct node *node, bool salvage)
{
    char path[PATH_MAX];
    path_in(node, "state", path);
    struct state_options options = {.dir = path,
                                    .partitions = node->partitions_len,
                                    .map_bytes = LIMIT_MAP_BYTES,
                                    .quota_bytes = (uint64_t)node->config.state_quota_mib << 20,
                                    .salvage = salvage,
                                    .damaged = on_damaged,
                                    .ctx = node};
    return state_open(&options, &node->state);
}

/* Something is broken: nothing is changed and nothing is written any more; what is whole is shown. */
static enum err open_damaged(struct node *node, struct recovery *recovery)
{
    struct buf text = {0};
    damage_write(node->damage, "", &text);
    log_text(node->log, LOG_ERROR, "the data is damaged: read-only", "%.*s", (int)text.len, (const char *)text.ptr);
    buf_free(&text);
    if (flock(node->lock_fd, LOCK_SH | LOCK_NB) != 0) { /* `belfry verify` may look beside us */
        return ERR_CONFLICT;
    }
    bool whole = false;
    for (unsigned p = 0; p < node->partitions_len; p++) {
        whole = whole || damage_spares(node->damage, p);
    }
    if (!whole || !recovery->has_state) {
        return OK;
    }
    if (recovery->look.start == DURABLE_CRASHED && recovery->look.has_point) {
        TRY(durable_restore(node->config.data, &recovery->look));
    }
    return open_state(node, true);
}

static enum err open_whole(struct node *node, struct recovery *recovery, char *why, size_t why_cap)
{
    struct disk *disk = disk_posix();
    (void)snprintf(why, why_cap, "the state in %s cannot be opened", node->config.data);
    char log_dir[PATH_MAX];
    path_in(node, "log", log_dir);
    struct segments_options options = {disk,
                                       log_dir,
                                       node->partitions_len,
                                       (uint64_t)node->config.log_segment_mib << 20,
                                       .keep_bytes = (uint64_t)node->config.log_keep_mib << 20,
                                       .reserve_bytes = (uint64_t)node->config.disk_reserve_mib << 20};
    TRY(segments_continue(&options, &recovery->scan, &node->segments));
    if (recovery->look.start == DURABLE_CRASHED || recovery->from_log) {
        TRY(durable_restore(node->config.data, &recovery->look));
    }
    if (recovery->look.start == DURABLE_CRASHED || recovery->look.start == DURABLE_KILLED) {
        log_text(node->log, LOG_WARN, "the last run did not stop in order",
                 recovery->look.start == DURABLE_CRASHED ? "the state was taken back to its durable point"
                                                         : "replaying the log");
    }
    TRY(durable_mark_running(disk, node->config.data));
    TRY(open_state(node, false));
    TRY(load_configurations(node, recovery));
    TRY(recovery_restart_logs(recovery, node->state, node->segments));
    return found_groups(node, recovery);
}

/* The others have it whole: gone for good from here, if they can do without us. */
static void rejoin(struct node *node)
{
    struct identity identity = {.cluster = node->cluster_id, .node = node->id};
    struct buf text = {0};
    if (!rejoin_is_possible(&node->config, node->log, &identity)) {
        return;
    }
    damage_write(node->damage, "", &text);
    log_text(node->log, LOG_ERROR, "the data is damaged: set aside, to be had from the other nodes", "%.*s",
             (int)text.len, (const char *)text.ptr);
    buf_free(&text);
    if (rejoin_set_aside(node->config.data, clock_wall_ms(node->clock)) == OK) {
        log_flush(node->log);
        rejoin_restart();
    }
}

static enum err recover(struct node *node, struct recovery *recovery, char *why, size_t why_cap)
{
    recovery->data = node->config.data;
    recovery->partitions = node->partitions_len;
    recovery->damage = node->damage;
    enum err err = recovery_run(recovery);
    (void)snprintf(why, why_cap, "%s", recovery->why);
    TRY(err);
    if (damage_any(node->damage)) {
        rejoin(node);
    }
    return damage_any(node->damage) ? open_damaged(node, recovery) : open_whole(node, recovery, why, why_cap);
}

/* ---- starting ---- */

static void init_worker(struct node *node, unsigned index)
{
    struct node_worker *worker = &node->workers[index];
    worker_init(&worker->worker, index, node->clock, node->log);
    worker->node = node;
    actors_init(&worker->actors, (unsigned)node->config.mailbox_limit);
    list_init(&worker->partitions);
    list_init(&worker->read_waiters);
    list_init(&worker->resumed);
    list_init(&worker->calls);
    worker->tokens = token_cache_new();
    list_init(&worker->rung);
    forward_init(worker);
    joiner_init(worker);
    computes_init(worker);
    worker->watches = watches_new();
    worker->streams = streams_new(worker);
    worker->tubes = tube_worker_new(worker, node->tubes);
    struct http_handler handler = request_handler(worker);
    http_server_init(&worker->server, &worker->worker, &handler, (unsigned)node->config.max_connections);
    turn_end_init(worker);
}

static enum err listen_all(struct node *node, char *why, size_t why_cap)
{
    char path[PATH_MAX], address[CONFIG_TEXT];
    for (unsigned i = 0; i < node->config.listen_len; i++) {
        unsigned port = 0;
        const struct facade *facade;
        CHECK(config_listen(node->config.listen[i], address, &facade));
        unsigned most = facade == NULL ? 0 : facade->partitions_max;
        if (most != 0 && node->data_partitions > most) {
            (void)snprintf(why, why_cap, "%.200s: ids of %s have room for %u partitions", address, facade->name, most);
            return ERR_BAD_REQUEST;
        }
        (void)snprintf(why, why_cap, "cannot listen on %.200s", node->config.listen[i]);
        for (unsigned w = 0; w < node->workers_len; w++) {
            struct node_worker *worker = &node->workers[w];
            TRY(facade != NULL && facade->plain
                    ? http_server_listen_plain(&worker->server, address, tube_handler(worker->tubes), &port)
                    : http_server_listen(&worker->server, address, facade, &port));
        }
        node->http_port = i == 0 ? port : node->http_port;
    }
    path_in(node, "belfry.sock", path);
    (void)snprintf(why, why_cap, "cannot listen on %.200s", path);
    return http_server_listen_local(&node->workers[0].server, path);
}

static void start_storage(struct node *node)
{
    node->background = background_new();
    node->log_writer = log_writer_new(node->segments, node->partitions_len, node->clock);
    node->apply_context.partitions = node->data_partitions;
    struct state_writer_options options = {node->state,  node->clock, apply_entry,         apply_drop,
                                           on_committed, may_wait,    &node->apply_context};
    node->state_writer = state_writer_new(&options);
    node->durable = durable_new(disk_posix(), node->config.data, node->partitions_len, node->config.durable_interval_ms,
                                node->state_writer, node->log_writer);
}

static enum err start_groups(struct node *node, struct recovery *recovery)
{
    for (unsigned g = 0; g < node->partitions_len; g++) {
        enum err err = partition_open(&node->partitions[g], &recovery->starts[g]);
        if (err != OK) {
            return err;
        }
        recovery->starts[g].entries_len = 0; /* the payloads are the group's now */
    }
    struct group_members members;
    group_members(node->partitions[0].group, &members);
    node->alone = members.len == 1;
    return OK;
}

static enum err start_hashers(struct node *node)
{
    struct password_cost cost = {(uint64_t)node->config.argon2_passes, (size_t)node->config.argon2_memory_kib * 1024};
    struct hash_job job = {.password_len = 6, .password = "nobody"};
    TRY(hashers_new(config_cores(), &cost, &node->hashers));
    int64_t began_ns = clock_boot_ns(node->clock);
    hashers_run(node->hashers, &job);
    balance_served(node->balance, 0, (double)(clock_boot_ns(node->clock) - began_ns) / 1e6);
    memcpy(node->dummy_phc, job.phc, sizeof node->dummy_phc);
    return job.err;
}

/* A system group without a signing key gets its first one from whoever leads it. */
static void propose_key(struct node_worker *worker)
{
    struct node *node = worker->node;
    struct signing_key key = {0};
    uint8_t public[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
    char kid[ID_TEXT_BYTES];
    struct id id = id_make(clock_wall_ms(node->clock), 0, random_u64(&worker->worker.random));
    id_format(id, kid);
    CHECK(crypto_sign_keypair(public, secret) == 0);
    FIELD_SET(signing_key_fields, &key, struct signing_key, kid, bytes_of(kid, sizeof kid));
    FIELD_SET(signing_key_fields, &key, struct signing_key, secret, bytes_of(secret, sizeof secret));
    FIELD_SET(signing_key_fields, &key, struct signing_key, public, bytes_of(public, sizeof public));
    forward_system(worker, SYSTEM_ADD_KEY, &key);
}

void node_tend_keys(struct node_worker *worker)
{
    struct node *node = worker->node;
    struct partition *system = &node->partitions[0];
    if (system->home == worker && atomic_load(&system->leader) && !keyring_can_sign(node->keyring) &&
        partition_is_confirmed(system, clock_boot_ns(node->clock)) &&
        atomic_load(&system->applied) == atomic_load(&system->last)) {
        propose_key(worker);
    }
}

static bool wait_until_ready(struct node *node)
{
    int64_t until = clock_boot_ms(node->clock) + READY_MS;
    while (clock_boot_ms(node->clock) < until) {
        if (readiness_is_led(node) && readiness_has_applied(node) && keyring_can_sign(node->keyring)) {
            return true; /* a full disk, say, is no reason not to serve reads */
        }
        (void)usleep(1000);
    }
    return false;
}

static enum err start_writing(struct node *node, struct recovery *recovery)
{
    start_storage(node);
    /* Before anything is written: until this run holds a pin of its own, nothing keeps the pages of
     * the saved point from being used again. */
    TRY(durable_point(node->durable));
    return start_groups(node, recovery);
}

static enum err start_readers(struct node *node)
{
    for (unsigned w = 0; w < node->workers_len && node->state != NULL; w++) {
        TRY(state_reader_new(node->state, &node->workers[w].reader));
    }
    return node->state != NULL && damage_spares(node->damage, 0) ? guard_load(node) : OK;
}

static enum err start(struct node *node, char *why, size_t why_cap)
{
    struct recovery recovery = {0};
    TRY(directory_lock(node, why, why_cap));
    TRY(directory_identify(node, why, why_cap));
    space_init(&node->space, node->config.data, (uint64_t)node->config.disk_reserve_mib << 20);
    node->damage = damage_new(node->partitions_len);
    node->workers_len = (unsigned)node->config.workers;
    node->workers = mem_zalloc(node->workers_len * sizeof *node->workers);
    for (unsigned w = 0; w < node->workers_len; w++) {
        init_worker(node, w);
    }
    node->peers = peers_new(node);
    node->members = members_new(node->partitions_len);
    node->statuses = statuses_new(node->partitions_len);
    computes_open(node);
    node->partitions = mem_zalloc(node->partitions_len * sizeof *node->partitions);
    for (unsigned p = 0; p < node->partitions_len; p++) {
        partition_init(&node->partitions[p], node, p, &node->workers[p % node->workers_len]);
    }
    TRY(repair_finish(node->config.data));
    enum err err = recover(node, &recovery, why, why_cap);
    bool damaged = damage_any(node->damage);
    if (err == OK && !damaged) {
        err = start_writing(node, &recovery);
    }
    recovery_close(&recovery, damaged || err != OK);
    TRY(err);
    TRY(start_readers(node));
    atomic_store(&node->disk_low, !damaged && space_is_low(&node->space));
    (void)snprintf(why, why_cap, "the processes that hash passwords cannot be started, or have not enough memory");
    TRY(start_hashers(node));
    TRY(listen_all(node, why, why_cap));
    TRY(peers_open(node, why, why_cap));
    node->backups = damaged ? NULL : backups_new(&node->config, node->log);
    for (unsigned w = 0; w < node->workers_len; w++) {
        if (!damaged) {
            worker_timer(&node->workers[w].worker, &node->workers[w].tick, 0);
        }
        upkeep_start(&node->workers[w]);
        worker_start(&node->workers[w].worker);
    }
    (void)snprintf(why, why_cap, "the node did not become ready");
    return damaged || !node->alone || wait_until_ready(node) ? OK : ERR_TIMEOUT;
}

enum err node_start(const struct config *config, struct log *log, struct node **out, char *out_why, size_t why_cap)
{
    struct node *node = mem_zalloc(sizeof *node);
    node->config = *config;
    node->clock = clock_system();
    node->log = log;
    node->lock_fd = -1;
    node->started_ms = clock_wall_ms(node->clock);
    node->boot_ms = clock_boot_ms(node->clock);
    atomic_init(&node->commit_seq, 1);
    node->stream_hub = stream_hub_new();
    node->tubes = tubes_new(node);
    node->watch_marks = watch_marks_new();
    node->hints = hints_new();
    node->guard = guard_new();
    node->skew = skew_new();
    node->clock_doubt = true;
    node->keyring = keyring_new();
    node->router = router_new();
    openapi_write(node->router, &node->openapi);
    docs_write(node->router, &node->docs);
    node->metrics = metrics_new(router_paths(node->router));
    enum err err = start(node, out_why, why_cap);
    if (err == OK) {
        *out = node;
    }
    return err; /* on failure the process ends: nothing is taken apart by halves */
}

/* ---- stopping ---- */

static void drain_worker(struct worker *base, struct message *message)
{
    streams_drain(node_worker_of(base));
    calls_drain(node_worker_of(base));
    http_server_drain(&node_worker_of(base)->server);
    free(message);
}

static void close_worker(struct worker *base, struct message *message)
{
    struct node_worker *worker = node_worker_of(base);
    upkeep_stop(worker);
    streams_stop(worker);
    http_server_close(&worker->server);
    tube_worker_stop(worker->tubes);
    peer_net_close(&worker->peers);
    timers_clear(&base->timers, &worker->tick);
    free(message);
}

static void post_all(struct node *node, void (*run)(struct worker *, struct message *))
{
    for (unsigned w = 0; w < node->workers_len; w++) {
        struct message *message = mem_zalloc(sizeof *message);
        message->run = run;
        worker_post(&node->workers[w].worker, message);
    }
}

/* What is committed and not applied will be applied by the next start. */
static bool is_stuck(const struct node *node)
{
    return node->durable == NULL || atomic_load(&node->log_failed) || damage_any(node->damage) ||
           atomic_load(&state_writer_stats(node->state_writer)->err) != OK;
}

static bool is_quiet(struct node *node)
{
    uint64_t open = 0;
    for (unsigned w = 0; w < node->workers_len; w++) {
        open += atomic_load(&node->workers[w].server.stats.open);
    }
    for (unsigned p = 0; p < node->partitions_len && !is_stuck(node); p++) {
        uint64_t commit = atomic_load(&node->partitions[p].commit), applied = atomic_load(&node->partitions[p].applied);
        open += commit > applied ? commit - applied : 0;
    }
    return open == 0 && atomic_load(&node->computing) == 0 && !tubes_are_busy(node->tubes);
}

static void wait_until_quiet(struct node *node, int64_t ms)
{
    int64_t until = clock_boot_ms(node->clock) + ms;
    while (!is_quiet(node) && clock_boot_ms(node->clock) < until) {
        (void)usleep(2000);
    }
}

/* What was still on its way between the threads: run while all it may touch is there. */
static void drain_inboxes(struct node *node)
{
    bool ran = true;
    while (ran) {
        ran = false;
        for (unsigned w = 0; w < node->workers_len; w++) {
            ran = worker_drain(&node->workers[w].worker) || ran;
        }
    }
}

static void free_node(struct node *node)
{
    char path[PATH_MAX];
    drain_inboxes(node);
    segments_close(node->segments);
    state_close(node->state);
    for (unsigned p = 0; p < node->partitions_len; p++) {
        partition_close(&node->partitions[p]);
    }
    for (unsigned w = 0; w < node->workers_len; w++) {
        struct node_worker *worker = &node->workers[w];
        turn_log_drop(worker);
        forward_close(worker);
        joiner_close(worker);
        computes_close(worker);
        streams_free(worker->streams);
        tube_worker_free(worker->tubes);
        watches_free(worker->watches);
        actors_close(&worker->actors);
        token_cache_free(worker->tokens);
        requests_close(worker);
        worker_close(&worker->worker);
    }
    path_in(node, "belfry.sock", path);
    (void)unlink(path);
    (void)close(node->lock_fd);
    hashers_free(node->hashers);
    balance_free(node->balance);
    stream_hub_free(node->stream_hub);
    tubes_free(node->tubes);
    watch_marks_free(node->watch_marks);
    hints_free(node->hints);
    guard_free(node->guard);
    skew_free(node->skew);
    keyring_free(node->keyring);
    buf_free(&node->openapi);
    buf_free(&node->docs);
    router_free(node->router);
    metrics_free(node->metrics);
    damage_free(node->damage);
    members_free(node->members);
    statuses_free(node->statuses);
    peers_free(node->peers);
    free(node->partitions);
    free(node->workers);
    free(node);
}

/* A last durable point, and the marks of an orderly stop if it holds everything. */
static enum err stop_writing(struct node *node)
{
    bool broken = atomic_load(&node->log_failed) || damage_any(node->damage);
    enum err err = broken ? ERR_IO : durable_point(node->durable);
    durable_stop(node->durable);
    background_free(node->background);
    log_writer_free(node->log_writer);
    state_writer_free(node->state_writer);
    if (err == OK && !durable_covers(node->durable)) {
        err = ERR_TIMEOUT; /* something was applied after the last point: the next start replays */
    }
    if (err == OK) {
        err = segments_add(node->segments, &(struct segment_record){.type = RECORD_CLEAN});
        err = err == OK ? segments_commit(node->segments) : err;
    }
    durable_free(node->durable);
    return err == OK ? durable_mark_clean(disk_posix(), node->config.data) : err;
}

/* Others lead before we are gone: no election need be waited for. */
static void hand_over_leaderships(struct node *node)
{
    int64_t until = clock_boot_ms(node->clock) + HAND_OVER_MS;
    struct group_members members;
    members_list(node->members, &members);
    atomic_store(&node->leaving, true);
    atomic_store(&node->draining, true);
    while (node->durable != NULL && members.len > 1 && !members_lead_nothing(node) && statuses_anyone_stays(node) &&
           clock_boot_ms(node->clock) < until) {
        (void)usleep(2000);
    }
}

void node_stop(struct node *node)
{
    hand_over_leaderships(node);
    post_all(node, drain_worker);
    wait_until_quiet(node, DRAIN_MS);
    atomic_store(&node->stopping, true);
    post_all(node, close_worker);
    wait_until_quiet(node, DRAIN_MS);
    for (unsigned w = 0; w < node->workers_len; w++) {
        worker_stop(&node->workers[w].worker);
    }
    for (unsigned w = 0; w < node->workers_len; w++) {
        worker_join(&node->workers[w].worker);
        state_reader_free(node->workers[w].reader);
    }
    for (unsigned p = 0; p < node->partitions_len; p++) {
        install_close_senders(&node->partitions[p]); /* they read the state */
    }
    backups_free(node->backups);
    enum err err = damage_any(node->damage) ? ERR_CORRUPT : OK;
    if (node->durable != NULL) {
        err = stop_writing(node);
    }
    log_text(node->log, err == OK ? LOG_INFO : LOG_ERROR, "stopped", "%s", err == OK ? "in order" : err_code(err));
    free_node(node);
}
