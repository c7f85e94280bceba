#include "node/streams.h"

#include <stdlib.h>

#include "node/base/map.h"
#include "node/call.h"
#include "node/damage.h"
#include "node/guard.h"
#include "node/partition.h"

enum { LOOK_MS = 500 };

struct streams {
    struct node_worker *worker;
    struct list all;    /* of struct stream */
    struct list ready;  /* read on at the turn's end */
    struct timer look;  /* set while there are any */
    struct arena arena; /* of one read */
    struct buf out;
    bool draining;
    unsigned len;
    atomic_uint_fast64_t count; /* len, for all threads */
};

/* Streams of an account, on all workers. */
struct account_streams {
    struct id account;
    unsigned count;
};

struct stream_hub {
    pthread_mutex_t lock;
    struct map accounts;
};

/* ---- how many an account has ---- */

static bool same_account(const void *item, const void *key)
{
    return id_eq(((const struct account_streams *)item)->account, *(const struct id *)key);
}

struct stream_hub *stream_hub_new(void)
{
    struct stream_hub *hub = mem_zalloc(sizeof *hub);
    CHECK(pthread_mutex_init(&hub->lock, NULL) == 0);
    map_init(&hub->accounts, same_account);
    return hub;
}

void stream_hub_free(struct stream_hub *hub)
{
    if (hub != NULL) {
        CHECK(hub->accounts.len == 0);
        map_close(&hub->accounts);
        (void)pthread_mutex_destroy(&hub->lock);
        free(hub);
    }
}

static bool count_in(struct stream_hub *hub, struct id account)
{
    uint64_t hash = map_hash(id_bytes(&account));
    CHECK(pthread_mutex_lock(&hub->lock) == 0);
    struct account_streams *row = map_find(&hub->accounts, hash, &account);
    if (row == NULL) {
        row = mem_zalloc(sizeof *row);
        row->account = account;
        map_add(&hub->accounts, hash, row);
    }
    bool room = row->count < LIMIT_STREAMS;
    row->count += room;
    CHECK(pthread_mutex_unlock(&hub->lock) == 0);
    return room;
}

static void count_out(struct stream_hub *hub, struct id account)
{
    uint64_t hash = map_hash(id_bytes(&account));
    CHECK(pthread_mutex_lock(&hub->lock) == 0);
    struct account_streams *row = map_find(&hub->accounts, hash, &account);
    CHECK(row != NULL && row->count > 0);
    if (--row->count == 0) {
        map_remove(&hub->accounts, hash, row);
        free(row);
    }
    CHECK(pthread_mutex_unlock(&hub->lock) == 0);
}

uint64_t streams_count(const struct node *node)
{
    uint64_t count = 0;
    for (unsigned w = 0; w < node->workers_len; w++) {
        count += atomic_load_explicit(&node->workers[w].streams->count, memory_order_relaxed);
    }
    return count;
}

/* ---- a stream ---- */

static void set_ready(struct stream *stream)
{
    list_remove(&stream->ready);
    list_add_tail(&stream->worker->streams->ready, &stream->ready);
}

static void on_rung(struct watch *watch)
{
    set_ready(container_of(watch, struct stream, watch));
}

static void set_count(struct streams *streams, int by)
{
    streams->len += (unsigned)by;
    atomic_store_explicit(&streams->count, streams->len, memory_order_relaxed);
}

enum err stream_open(struct stream *stream)
{
    struct node_worker *worker = stream->worker;
    struct streams *streams = worker->streams;
    if (streams->draining) {
        return ERR_SHUTTING_DOWN;
    }
    if (!count_in(worker->node->stream_hub, stream->claims.account)) {
        return ERR_TOO_MANY_STREAMS;
    }
    stream->open = true;
    stream->taken_ms = stream->written_ms = worker->worker.now_ms;
    list_add_tail(&streams->all, &stream->link);
    list_init(&stream->ready);
    set_count(streams, 1);
    /* What is committed from here on wakes it; what was committed before, and after its first read, is
     * seen by the read that follows. */
    struct id watched = stream->op->steps != NULL ? stream->op->watches(stream->in) : stream->claims.account;
    stream->watch = (struct watch){.id = watched, .rung = on_rung};
    watch_add(worker, &stream->watch);
    stream->behind = true;
    set_ready(stream);
    worker_wake(&worker->worker);
    if (streams->look.slot == 0) {
        worker_timer(&worker->worker, &streams->look, LOOK_MS);
    }
    return OK;
}

void stream_close(struct stream *stream)
{
    if (stream->open) {
        stream->open = false;
        list_remove(&stream->link);
        list_remove(&stream->ready);
        watch_remove(stream->worker, &stream->watch);
        set_count(stream->worker->streams, -1);
        count_out(stream->worker->node->stream_hub, stream->claims.account);
    }
    if (stream->calling) {
        stream->calling = false;
        call_abandon(&stream->call);
    }
    arena_close(&stream->arena);
}

void stream_taken(struct stream *stream)
{
    if (stream->open && stream->behind) {
        set_ready(stream);
    }
}

static void end(struct stream *stream, const char *reason)
{
    struct buf last = {0};
    buf_printf(&last, "event: stream.end\ndata: {\"reason\":\"%s\"}\n\n", reason);
    http_stream_write(stream->conn, buf_bytes(&last));
    buf_free(&last);
    stream->reason = reason;
    stream_close(stream);
    stream->ended(stream);
}

/* Appends what is new, as far as the client may be left behind. */
static enum err read_on(struct stream *stream)
{
    struct node_worker *worker = stream->worker;
    struct streams *streams = worker->streams;
    struct caller caller = {stream->claims.account, stream->claims.session, stream->claims.role};
    size_t ahead = http_stream_pending(stream->conn);
    enum err err = OK;
    stream->behind = ahead >= LIMIT_STREAM_BYTES;
    while (ahead < LIMIT_STREAM_BYTES && err == OK) {
        streams->out.len = 0;
        err = call_stream(worker, stream->op, &caller, stream->in, &streams->arena, &stream->cursor,
                          LIMIT_STREAM_BYTES - ahead, &streams->out);
        if (err != OK || streams->out.len == 0) {
            break;
        }
        http_stream_write(stream->conn, buf_bytes(&streams->out));
        stream->written_ms = worker->worker.now_ms;
        ahead += streams->out.len;
        stream->behind = ahead >= LIMIT_STREAM_BYTES;
    }
    arena_reset(&streams->arena);
    if (streams->out.cap > 2 * LIMIT_STREAM_BYTES) {
        buf_free(&streams->out);
    }
    return err;
}

static bool is_allowed(struct stream *stream)
{
    struct guard *guard = stream->worker->node->guard;
    uint64_t generation = guard_generation(guard);
    if (stream->generation != generation && !guard_allows(guard, &stream->claims)) {
        return false;
    }
    stream->generation = generation;
    return true;
}

static bool is_whole(const struct stream *stream)
{
    const struct damage *damage = stream->worker->node->damage;
    return !damage_any(damage) || (stream->local && damage_spares(damage, id_partition(stream->claims.account)));
}

/* Why it may not go on; NULL when it may. */
static const char *reason_to_end(struct stream *stream, int64_t now_s)
{
    return now_s >= stream->claims.expires_s ? "token_expired"
           : !is_allowed(stream)             ? "revoked"
           : !is_whole(stream)               ? "quarantined"
                                             : NULL;
}

/* Who does not hear of revocations sends nothing. */
static bool may_read(const struct stream *stream)
{
    return stream->local || partition_is_in_contact(stream->worker->node);
}

/* A failure that passes: the next look tries again. */
static bool passes(enum err err)
{
    return err_retryable(err) && err_status(err) >= 503;
}

/* The steps are done: what they gave is written. The stream may be gone afterwards. */
static void called(struct call *call)
{
    struct stream *stream = container_of(call, struct stream, call);
    struct buf out = call->reply.body;
    enum err err = call->err;
    call->reply.body = (struct buf){0};
    reply_close(&call->reply);
    stream->calling = false;
    if (err != OK && !passes(err)) {
        buf_free(&out);
        end(stream, err == ERR_CORRUPT ? "quarantined" : err_code(err));
        return;
    }
    bool some = out.len > 0;
    if (some) {
        http_stream_write(stream->conn, buf_bytes(&out));
        stream->written_ms = stream->worker->worker.now_ms;
    }
    buf_free(&out);
    stream->behind = stream->behind || some || err != OK;
    if (http_stream_flush(stream->conn) && (some || (stream->behind && err == OK))) {
        set_ready(stream);
        worker_wake(&stream->worker->worker);
    }
}

/* Has the steps give what is next; they are under way once at a time. */
static void run_steps(struct stream *stream)
{
    bool ahead = http_stream_pending(stream->conn) >= LIMIT_STREAM_BYTES;
    stream->behind = stream->calling || ahead || !may_read(stream);
    if (stream->behind) {
        return;
    }
    arena_reset(&stream->arena);
    stream->call = (struct call){.worker = stream->worker,
                                 .kind = stream->kind,
                                 .op = stream->op,
                                 .caller = {stream->claims.account, stream->claims.session, stream->claims.role},
                                 .arena = &stream->arena,
                                 .in = stream->in,
                                 .cursor = stream->cursor,
                                 .done = called};
    stream->calling = true;
    call_start(&stream->call);
}

/* The stream may be gone afterwards. */
static void run(struct stream *stream)
{
    struct node_worker *worker = stream->worker;
    if (stream->op->steps != NULL) {
        run_steps(stream);
        return;
    }
    bool waits = !may_read(stream);
    enum err err = waits ? OK : read_on(stream);
    if (err != OK) {
        end(stream, err == ERR_CORRUPT ? "quarantined" : err_code(err));
        return;
    }
    stream->behind = stream->behind || waits; /* the next look tries again */
    if (http_stream_flush(stream->conn) && stream->behind && !waits &&
        http_stream_pending(stream->conn) < LIMIT_STREAM_BYTES) {
        set_ready(stream); /* the others' turn first */
        worker_wake(&worker->worker);
    }
}

/* ---- of a worker ---- */

void streams_turn_end(struct node_worker *worker)
{
    struct streams *streams = worker->streams;
    struct list now;
    list_init(&now);
    list_splice(&now, &streams->ready);
    for (struct list *link = list_pop(&now); link != NULL; link = list_pop(&now)) {
        run(container_of(link, struct stream, ready));
    }
}

static void note_taken(struct stream *stream, int64_t now_ms)
{
    uint64_t taken = http_stream_taken(stream->conn);
    if (taken != stream->taken || http_stream_pending(stream->conn) == 0) {
        stream->taken = taken;
        stream->taken_ms = now_ms;
    }
}

/* The stream may be gone afterwards. */
static void look(struct stream *stream, int64_t now_s)
{
    int64_t now_ms = stream->worker->worker.now_ms;
    const char *reason = reason_to_end(stream, now_s);
    note_taken(stream, now_ms);
    if (reason == NULL && now_ms - stream->taken_ms >= LIMIT_SEND_MS) {
        reason = "too_slow";
    }
    if (reason != NULL) {
        end(stream, reason);
        return;
    }
    if (stream->behind && http_stream_pending(stream->conn) < LIMIT_STREAM_BYTES) {
        set_ready(stream);
    }
    if (now_ms - stream->written_ms >= LIMIT_STREAM_BEAT_MS && http_stream_pending(stream->conn) == 0) {
        stream->written_ms = now_ms;
        http_stream_write(stream->conn, BYTES_LIT(": beat\n\n"));
        if (!http_stream_flush(stream->conn)) {
            return;
        }
    }
}

static void each(struct streams *streams, void (*run_one)(struct stream *stream, int64_t now_s), int64_t now_s)
{
    struct list *next;
    for (struct list *link = streams->all.next; link != &streams->all; link = next) {
        next = link->next;
        run_one(container_of(link, struct stream, link), now_s);
    }
}

static void on_look(struct timer *timer)
{
    struct streams *streams = container_of(timer, struct streams, look);
    struct node_worker *worker = streams->worker;
    each(streams, look, clock_wall_ms(worker->node->clock) / 1000);
    if (streams->len > 0) {
        worker_timer(&worker->worker, timer, LOOK_MS);
    }
}

static void shut_down(struct stream *stream, int64_t now_s)
{
    (void)now_s;
    end(stream, "shutting_down");
}

void streams_drain(struct node_worker *worker)
{
    worker->streams->draining = true;
    each(worker->streams, shut_down, 0);
}

void streams_stop(struct node_worker *worker)
{
    timers_clear(&worker->worker.timers, &worker->streams->look);
}

struct streams *streams_new(struct node_worker *worker)
{
    struct streams *streams = mem_zalloc(sizeof *streams);
    streams->worker = worker;
    streams->look.fire = on_look;
    list_init(&streams->all);
    list_init(&streams->ready);
    return streams;
}

void streams_free(struct streams *streams)
{
    if (streams != NULL) {
        CHECK(streams->len == 0);
        arena_close(&streams->arena);
        buf_free(&streams->out);
        free(streams);
    }
}
