#include "node/tubes.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "actors/facades/beanstalkd.h"
#include "node/base/map.h"
#include "node/call.h"

/* A tube that connections have to do with. */
struct tube_entry {
    uint64_t hash;
    struct tube_name name;
    struct tube_users users;
};

struct tubes {
    struct tube_host host;
    struct node *node;
    pthread_mutex_t mutex;
    struct map map; /* of struct tube_entry */
    atomic_uint_fast64_t commands[TUBE_VERBS];
    atomic_uint_fast64_t connections, producers, workers, waiting, watched, total_connections, returning;
};

struct tube_worker {
    struct node_worker *worker;
    struct tubes *tubes;
    struct plain_handler handler;
    struct list conns;
};

struct tube_conn {
    struct list link;
    struct tube_worker *of;
    struct http_conn *conn; /* NULL: it is gone */
    struct tube_session session;
    struct tube_command command; /* the one at hand; its parts are the connection's bytes */
    const char *refusal;         /* it is answered with this */
    struct tube_in in;
    struct arena arena;
    struct call call;
    bool calling, left, returning;
    bool produces, works; /* it has put, or reserved */
    bool waits;
};

/* ---- what connections use, watch and wait for ---- */

static bool is_tube(const void *item, const void *key)
{
    return bytes_eq(tube_text(&((const struct tube_entry *)item)->name), *(const struct bytes *)key);
}

static uint64_t *member_of(struct tube_users *users, size_t member)
{
    return (uint64_t *)(void *)((char *)users + member);
}

/* member: the offset of one of the counts. */
static void count(struct tubes *tubes, struct bytes name, size_t member, int by)
{
    uint64_t hash = map_hash(name);
    (void)pthread_mutex_lock(&tubes->mutex);
    struct tube_entry *entry = map_find(&tubes->map, hash, &name);
    if (entry == NULL) {
        entry = mem_zalloc(sizeof *entry);
        entry->hash = hash;
        entry->name.len = (uint8_t)name.len;
        memcpy(entry->name.text, name.ptr, name.len);
        map_add(&tubes->map, hash, entry);
    }
    *member_of(&entry->users, member) += (uint64_t)by;
    if (entry->users.using + entry->users.watching == 0) {
        map_remove(&tubes->map, hash, entry);
        free(entry);
    }
    (void)pthread_mutex_unlock(&tubes->mutex);
}

static void count_watched(struct tubes *tubes, const struct tube_session *session, size_t member, int by)
{
    for (size_t i = 0; i < session->watched_len; i++) {
        count(tubes, tube_text(&session->watched[i]), member, by);
    }
}

#define COUNT(name, member, by) count(tubes, name, offsetof(struct tube_users, member), by)
#define COUNT_WATCHED(session, member, by) count_watched(tubes, session, offsetof(struct tube_users, member), by)

static struct tubes *tubes_of(const struct tube_host *host)
{
    return container_of(host, struct tubes, host);
}

static bool host_users(const struct tube_host *host, struct bytes name, struct tube_users *out)
{
    struct tubes *tubes = tubes_of(host);
    (void)pthread_mutex_lock(&tubes->mutex);
    const struct tube_entry *entry = map_find(&tubes->map, map_hash(name), &name);
    if (entry != NULL) {
        *out = entry->users;
    }
    (void)pthread_mutex_unlock(&tubes->mutex);
    return entry != NULL || bytes_is(name, "default"); /* which is always there */
}

static size_t host_tubes(const struct tube_host *host, struct arena *arena, struct bytes **out)
{
    struct tubes *tubes = tubes_of(host);
    size_t at = 0, len = 0;
    (void)pthread_mutex_lock(&tubes->mutex);
    size_t most = tubes->map.len < LIMIT_TUBES_LISTED ? tubes->map.len : LIMIT_TUBES_LISTED;
    *out = arena_alloc(arena, (most + 1) * sizeof **out);
    const struct tube_entry *entry;
    while (len < most && (entry = map_next(&tubes->map, &at)) != NULL) {
        (*out)[len++] = arena_copy(arena, tube_text(&entry->name));
    }
    (void)pthread_mutex_unlock(&tubes->mutex);
    return len;
}

static double cpu_s(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void host_totals(const struct tube_host *host, struct tube_totals *out)
{
    struct tubes *tubes = tubes_of(host);
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    for (size_t i = 0; i < TUBE_VERBS; i++) {
        out->commands[i] = atomic_load_explicit(&tubes->commands[i], memory_order_relaxed);
    }
    out->connections = atomic_load_explicit(&tubes->connections, memory_order_relaxed);
    out->producers = atomic_load_explicit(&tubes->producers, memory_order_relaxed);
    out->workers = atomic_load_explicit(&tubes->workers, memory_order_relaxed);
    out->waiting = atomic_load_explicit(&tubes->waiting, memory_order_relaxed);
    out->total_connections = atomic_load_explicit(&tubes->total_connections, memory_order_relaxed);
    out->uptime_s = (clock_wall_ms(tubes->node->clock) - tubes->node->started_ms) / 1000;
    out->pid = (int)getpid();
    out->draining = atomic_load_explicit(&tubes->node->draining, memory_order_relaxed);
    out->user_s = cpu_s(usage.ru_utime);
    out->system_s = cpu_s(usage.ru_stime);
    out->name = tubes->node->name;
}

static void host_waits(const struct tube_host *host, struct tube_session *session, bool waits)
{
    struct tubes *tubes = tubes_of(host);
    struct tube_conn *conn = container_of(session, struct tube_conn, session);
    if (conn->waits != waits) {
        conn->waits = waits;
        COUNT_WATCHED(session, waiting, waits ? 1 : -1);
        atomic_fetch_add_explicit(&tubes->waiting, (uint64_t)(waits ? 1 : -1), memory_order_relaxed);
    }
}

struct tubes *tubes_new(struct node *node)
{
    struct tubes *tubes = mem_zalloc(sizeof *tubes);
    tubes->host = (struct tube_host){host_users, host_tubes, host_totals, host_waits};
    tubes->node = node;
    CHECK(pthread_mutex_init(&tubes->mutex, NULL) == 0);
    map_init(&tubes->map, is_tube);
    return tubes;
}

void tubes_free(struct tubes *tubes)
{
    if (tubes != NULL) {
        CHECK(tubes->map.len == 0);
        map_close(&tubes->map);
        (void)pthread_mutex_destroy(&tubes->mutex);
        free(tubes);
    }
}

bool tubes_are_busy(const struct tubes *tubes)
{
    return atomic_load(&tubes->returning) > 0;
}

/* ---- the end of a connection ---- */

static void conn_free(struct tube_conn *conn)
{
    struct tubes *tubes = conn->of->tubes;
    atomic_fetch_sub(&tubes->returning, 1);
    list_remove(&conn->link);
    tube_session_close(&conn->session);
    arena_close(&conn->arena);
    free(conn);
}

static void start_call(struct tube_conn *conn, const struct op *op);

/* Its jobs are given back. */
static void conn_end(struct tube_conn *conn)
{
    if (conn->session.held_len == 0 || conn->returning) {
        conn_free(conn);
        return;
    }
    conn->returning = true;
    start_call(conn, &tube_return_op);
}

static void on_closed(void *ctx, struct http_conn *http)
{
    struct tube_conn *conn = http_conn_data(http);
    struct tubes *tubes = conn->of->tubes;
    (void)ctx;
    conn->conn = NULL;
    host_waits(&tubes->host, &conn->session, false);
    COUNT(tube_text(&conn->session.used), using, -1);
    COUNT_WATCHED(&conn->session, watching, -1);
    atomic_fetch_sub(&tubes->watched, conn->session.watched_len);
    atomic_fetch_sub_explicit(&tubes->connections, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&tubes->producers, conn->produces, memory_order_relaxed);
    atomic_fetch_sub_explicit(&tubes->workers, conn->works, memory_order_relaxed);
    atomic_fetch_add(&tubes->returning, 1);
    if (conn->calling) {
        call_hurry(&conn->call); /* what it is about to get is given back afterwards */
    } else {
        conn_end(conn);
    }
}

/* ---- commands ---- */

static void call_done(struct call *call)
{
    struct tube_conn *conn = container_of(call, struct tube_conn, call);
    struct reply reply = call->reply; /* the next command may be begun before this one's memory goes */
    bool failed = call->err != OK;
    const char *why = failed ? tube_failure(conn->command.verb, call->err) : NULL;
    conn->calling = false;
    call->reply = (struct reply){0};
    arena_reset(&conn->arena);
    host_waits(&conn->of->tubes->host, &conn->session, false);
    if (conn->conn == NULL) {
        conn_end(conn);
    } else {
        http_plain_reply(conn->conn, failed ? bytes_str(why) : buf_bytes(&reply.body), false);
    }
    reply_close(&reply);
}

static void start_call(struct tube_conn *conn, const struct op *op)
{
    struct tube_command command = {0}; /* giving back is none, and the last one's bytes are gone */
    if (!conn->returning) {
        command = conn->command;
    }
    /* The connection's bytes may go while the call goes on. The body is a put's, which keeps what it needs of it at
     * once. */
    command.tube = arena_copy(&conn->arena, command.tube);
    conn->in = (struct tube_in){
        .self = &conn->in, .command = command, .session = &conn->session, .host = &conn->of->tubes->host};
    conn->call = (struct call){.worker = conn->of->worker,
                               .kind = kind_find(KIND_QUEUE),
                               .op = op,
                               .caller = tube_caller(),
                               .arena = &conn->arena,
                               .in = &conn->in,
                               .left = conn->left || conn->conn == NULL,
                               .done = call_done};
    conn->calling = true;
    call_start(&conn->call);
}

static enum plain_parse on_feed(void *ctx, struct http_conn *http, struct bytes data, size_t *out_used)
{
    struct tube_conn *conn = http_conn_data(http);
    (void)ctx;
    switch (tube_parse(&conn->session, data, &conn->command, out_used)) {
    case TUBE_MORE: return PLAIN_MORE;
    case TUBE_SKIP: return PLAIN_SKIP;
    case TUBE_COMMAND: conn->refusal = NULL; return PLAIN_MESSAGE;
    case TUBE_REFUSED: break;
    }
    conn->refusal = conn->session.refusal;
    return PLAIN_MESSAGE;
}

static void note_command(struct tube_conn *conn)
{
    struct tubes *tubes = conn->of->tubes;
    enum tube_verb verb = conn->command.verb;
    bool produces = verb == TUBE_PUT, works = verb == TUBE_RESERVE || verb == TUBE_RESERVE_TIMED;
    atomic_fetch_add_explicit(&tubes->commands[verb], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&tubes->producers, produces && !conn->produces, memory_order_relaxed);
    atomic_fetch_add_explicit(&tubes->workers, works && !conn->works, memory_order_relaxed);
    conn->produces = conn->produces || produces;
    conn->works = conn->works || works;
}

/* What the connection uses and watches may be other tubes now. */
static bool do_local(struct tube_conn *conn, struct buf *out)
{
    struct tubes *tubes = conn->of->tubes;
    struct tube_name used = conn->session.used;
    size_t watched = conn->session.watched_len;
    if (conn->command.verb == TUBE_WATCH && atomic_load(&tubes->watched) >= LIMIT_TUBES_WATCHED) {
        buf_add_lit(out, "OUT_OF_MEMORY\r\n");
        return true;
    }
    if (!tube_local(&conn->session, &conn->command, out)) {
        return false;
    }
    if (conn->command.verb == TUBE_USE) {
        COUNT(tube_text(&conn->session.used), using, 1);
        COUNT(tube_text(&used), using, -1);
    } else if (conn->session.watched_len != watched) {
        int by = conn->session.watched_len > watched ? 1 : -1;
        COUNT(conn->command.tube, watching, by);
        atomic_fetch_add(&tubes->watched, (uint64_t)by);
    }
    return true;
}

static void on_message(void *ctx, struct http_conn *http)
{
    struct tube_conn *conn = http_conn_data(http);
    struct buf out = {0};
    (void)ctx;
    if (conn->refusal != NULL) {
        http_plain_reply(http, bytes_str(conn->refusal), false);
        return;
    }
    note_command(conn);
    if (conn->command.verb == TUBE_QUIT) {
        http_plain_reply(http, BYTES_NONE, true);
    } else if (do_local(conn, &out)) {
        http_plain_reply(http, buf_bytes(&out), false);
    } else {
        start_call(conn, tube_op(conn->command.verb));
    }
    buf_free(&out);
}

static void on_left(void *ctx, struct http_conn *http)
{
    struct tube_conn *conn = http_conn_data(http);
    (void)ctx;
    conn->left = true;
    if (conn->calling) {
        call_hurry(&conn->call);
    }
}

static void on_opened(void *ctx, struct http_conn *http)
{
    struct tube_worker *of = ctx;
    struct tubes *tubes = of->tubes;
    struct tube_conn *conn = mem_zalloc(sizeof *conn);
    conn->of = of;
    conn->conn = http;
    tube_session_init(&conn->session);
    list_init(&conn->call.waiting);
    list_init(&conn->call.link);
    list_add_tail(&of->conns, &conn->link);
    http_conn_set_data(http, conn);
    COUNT(tube_text(&conn->session.used), using, 1);
    COUNT_WATCHED(&conn->session, watching, 1);
    atomic_fetch_add(&tubes->watched, conn->session.watched_len);
    atomic_fetch_add_explicit(&tubes->connections, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&tubes->total_connections, 1, memory_order_relaxed);
}

/* ---- a worker's ---- */

struct tube_worker *tube_worker_new(struct node_worker *worker, struct tubes *tubes)
{
    struct tube_worker *of = mem_zalloc(sizeof *of);
    of->worker = worker;
    of->tubes = tubes;
    of->handler = (struct plain_handler){
        .opened = on_opened, .feed = on_feed, .message = on_message, .left = on_left, .closed = on_closed, .ctx = of};
    list_init(&of->conns);
    return of;
}

void tube_worker_stop(struct tube_worker *of)
{
    for (struct list *link = of->conns.next, *next; link != &of->conns; link = next) {
        struct tube_conn *conn = container_of(link, struct tube_conn, link);
        next = link->next;
        CHECK(conn->conn == NULL && conn->calling);
        call_abandon(&conn->call);
        conn_free(conn);
    }
}

void tube_worker_free(struct tube_worker *of)
{
    if (of != NULL) {
        CHECK(list_empty(&of->conns));
        free(of);
    }
}

const struct plain_handler *tube_handler(const struct tube_worker *of)
{
    return &of->handler;
}
