#include "node/http/server.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/http/conn.h"

enum { KEEP_IN_BYTES = 2048, KEEP_OUT_BYTES = 16384, LINGER_MS = 2000 };
enum { TURN_NS = 300 * 1000 }; /* what one turn gives to connections that send request upon request */

static void handle_bad(struct http_conn *conn, enum err err);

static bool has_work(const struct http_conn *conn)
{
    return conn->phase == PHASE_BUSY || conn->writing || !list_empty(&conn->waiting);
}

/* ---- buffers: they go from one connection that works to the next ---- */

static void take_buf(struct buf *buf, struct buf *spare)
{
    if (buf->ptr == NULL) {
        *buf = *spare;
        *spare = (struct buf){0};
    }
}

static void give_buf(struct buf *buf, struct buf *spare, size_t most)
{
    if (spare->ptr != NULL || buf->cap > most) {
        buf_free(buf);
        return;
    }
    *spare = (struct buf){buf->ptr, 0, buf->cap};
    *buf = (struct buf){0};
}

static void count_held(struct http_conn *conn, size_t held)
{
    conn->server->held = conn->server->held - conn->held + held;
    conn->held = held;
}

/* ---- closing ---- */

static void conn_free(uv_handle_t *handle)
{
    struct http_conn *conn = handle->data;
    atomic_fetch_sub_explicit(&conn->server->stats.open, 1, memory_order_relaxed);
    count_held(conn, 0);
    list_remove(&conn->link);
    if (conn->parser != NULL) {
        http_parser_free(conn->parser);
    }
    free(conn->request);
    buf_free(&conn->in);
    buf_free(&conn->more);
    buf_free(&conn->out);
    buf_free(&conn->sending);
    free(conn);
}

void http_conn_close(struct http_conn *conn)
{
    if (conn->closing) {
        return;
    }
    conn->closing = true;
    list_remove(&conn->waiting);
    timers_clear(&conn->server->worker->timers, &conn->timer);
    if (conn->plain != NULL) {
        conn->plain->closed(conn->plain->ctx, conn);
    } else if (conn->phase == PHASE_BUSY || conn->phase == PHASE_STREAM) {
        conn->server->handler.gone(conn->server->handler.ctx, conn);
    }
    uv_close(&conn->uv.handle, conn_free);
}

/* ---- time-outs: the timer is moved only when it fires, so a busy connection costs nothing ---- */

void http_conn_deadline(struct http_conn *conn, enum conn_phase phase, int64_t in_ms)
{
    conn->phase = phase;
    conn->deadline_ms = conn->server->worker->now_ms + in_ms;
    if (conn->timer.slot == 0 || conn->timer.due_ms > conn->deadline_ms + LIMIT_HEAD_MS) {
        timers_set(&conn->server->worker->timers, &conn->timer, conn->deadline_ms);
    }
}

static void on_deadline(struct timer *timer)
{
    struct http_conn *conn = container_of(timer, struct http_conn, timer);
    struct http_server *server = conn->server;
    if (server->worker->now_ms < conn->deadline_ms) {
        timers_set(&server->worker->timers, timer, conn->deadline_ms);
        return;
    }
    if (conn->plain != NULL && conn->phase < PHASE_BUSY && (conn->phase != PHASE_IDLE || conn->writing)) {
        http_conn_close(conn);
        return;
    }
    if (conn->plain != NULL && conn->phase == PHASE_IDLE) {
        timers_set(&server->worker->timers, timer, server->worker->now_ms + LIMIT_IDLE_MS);
        return;
    }
    switch (conn->phase) {
    case PHASE_HEAD:
    case PHASE_BODY: handle_bad(conn, ERR_REQUEST_TIMEOUT); return;
    case PHASE_IDLE:
    case PHASE_SENDING:
    case PHASE_LINGER: http_conn_close(conn); return;
    case PHASE_BUSY: /* the handler has its own deadlines */
    case PHASE_STREAM: timers_set(&server->worker->timers, timer, server->worker->now_ms + LIMIT_IDLE_MS); return;
    }
}

/* ---- writing ---- */

void http_conn_sent(struct http_conn *conn)
{
    if (conn->linger && !conn->peer_done && uv_shutdown(&conn->shutdown, &conn->uv.stream, NULL) == 0) {
        conn->in.len = 0;
        conn->at = 0;
        http_conn_deadline(conn, PHASE_LINGER, LINGER_MS);
        timers_set(&conn->server->worker->timers, &conn->timer, conn->deadline_ms);
        return;
    }
    if (conn->close_after || (conn->peer_done && conn->in.len == 0 && conn->more.len == 0)) {
        http_conn_close(conn);
        return;
    }
    http_conn_deadline(conn, PHASE_IDLE, LIMIT_IDLE_MS);
}

static void on_written(uv_write_t *write, int status)
{
    struct http_conn *conn = write->data;
    conn->writing = false;
    buf_free(&conn->sending);
    if (conn->closing) {
        return;
    }
    if (status != 0) {
        http_conn_close(conn);
        return;
    }
    if (conn->phase == PHASE_STREAM) {
        http_conn_flush(conn);
        http_conn_bound(conn);
        if (!conn->closing && !conn->writing) {
            conn->server->handler.taken(conn->server->handler.ctx, conn);
        }
        return;
    }
    if (conn->phase == PHASE_IDLE) {
        http_conn_deadline(conn, PHASE_IDLE, LIMIT_IDLE_MS);
    }
    http_conn_process(conn);
}

/* Who takes memory when there is no more for connections gets none: bodies that do not come to their end
 * and answers that nobody takes could otherwise use all there is. */
void http_conn_bound(struct http_conn *conn)
{
    count_held(conn, conn->in.cap + conn->more.cap + conn->out.cap + conn->sending.cap +
                         (conn->plain == NULL ? http_parser_held(conn->parser) : 0));
    if (conn->server->held > LIMIT_HELD_BYTES && conn->held > LIMIT_HELD_EACH && !conn->closing) {
        atomic_fetch_add_explicit(&conn->server->stats.refused, 1, memory_order_relaxed);
        http_conn_close(conn);
    }
}

void http_conn_flush(struct http_conn *conn)
{
    if (conn->out.len == 0 || conn->writing || conn->closing) {
        return;
    }
    uv_buf_t buf = uv_buf_init((char *)conn->out.ptr, (unsigned)conn->out.len);
    int n = uv_try_write(&conn->uv.stream, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        http_conn_close(conn);
        return;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    atomic_fetch_add_explicit(&conn->server->stats.bytes_out, conn->out.len, memory_order_relaxed);
    if (sent == conn->out.len) {
        give_buf(&conn->out, &conn->server->spare_out, KEEP_OUT_BYTES);
        return;
    }
    memmove(conn->out.ptr, conn->out.ptr + sent, conn->out.len - sent);
    conn->out.len -= sent;
    conn->sending = conn->out;
    conn->out = (struct buf){0};
    conn->writing = true;
    if (conn->phase == PHASE_IDLE || (conn->phase == PHASE_SENDING && conn->streamed == 0)) {
        http_conn_deadline(conn, conn->phase, LIMIT_SEND_MS); /* a stream's end has a deadline of its own */
    }
    conn->write.data = conn;
    buf = uv_buf_init((char *)conn->sending.ptr, (unsigned)conn->sending.len);
    if (uv_write(&conn->write, &conn->uv.stream, &buf, 1, on_written) != 0) {
        conn->writing = false;
        http_conn_close(conn);
    }
}

/* ---- requests ---- */

static void add_in(struct http_conn *conn, struct bytes bytes)
{
    take_buf(&conn->in, &conn->server->spare_in);
    if (conn->at > 0) {
        conn->in.len -= conn->at;
        memmove(conn->in.ptr, conn->in.ptr + conn->at, conn->in.len);
        conn->at = 0;
    }
    buf_add_bytes(&conn->in, bytes);
}

void http_conn_message_end(struct http_conn *conn)
{
    conn->at += conn->used;
    conn->used = 0;
    if (conn->at == conn->in.len) {
        conn->at = 0;
        conn->in.len = 0;
    }
    if (conn->more.len > 0) {
        add_in(conn, buf_bytes(&conn->more));
        buf_free(&conn->more);
    }
    if (conn->plain == NULL) {
        http_parser_reset(conn->parser);
    }
}

void http_server_note_time(struct http_server *server, int64_t now_ns)
{
    server->now_ns = now_ns;
    if (server->turn_until_ns == 0) {
        server->turn_until_ns = server->now_ns + TURN_NS;
    }
}

void http_conn_add_out(struct http_conn *conn, struct bytes bytes)
{
    take_buf(&conn->out, &conn->server->spare_out);
    buf_add_bytes(&conn->out, bytes);
}

static void handle(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    conn->phase = PHASE_BUSY;
    conn->started_ns = clock_boot_ns(server->worker->clock);
    http_server_note_time(server, conn->started_ns);
    conn->close_after = !conn->request->keep_alive || server->draining;
    atomic_fetch_add_explicit(&server->stats.requests, 1, memory_order_relaxed);
    server->handler.request(server->handler.ctx, conn, conn->request);
}

static void handle_bad(struct http_conn *conn, enum err err)
{
    conn->phase = PHASE_BUSY;
    conn->close_after = true;
    conn->linger = true;
    conn->started_ns = clock_boot_ns(conn->server->worker->clock);
    conn->server->handler.bad(conn->server->handler.ctx, conn, conn->request, err);
}

static void wait_for_more(struct http_conn *conn)
{
    bool body = http_parser_in_body(conn->parser);
    if (conn->phase == PHASE_IDLE || (body && conn->phase == PHASE_HEAD)) {
        http_conn_deadline(conn, body ? PHASE_BODY : PHASE_HEAD, body ? LIMIT_BODY_MS : LIMIT_HEAD_MS);
    }
}

static void set_limit(struct http_conn *conn)
{
    const struct http_handler *handler = &conn->server->handler;
    if (handler->body_limit != NULL) {
        http_parser_limit(conn->parser, handler->body_limit(handler->ctx, conn, conn->request));
    }
}

static bool turn_is_over(const struct http_server *server)
{
    return server->turn_until_ns != 0 && server->now_ns >= server->turn_until_ns;
}

static void wait_for_turn(struct http_conn *conn)
{
    list_add_tail(&conn->server->waiting, &conn->waiting);
    worker_wake(conn->server->worker);
}

/* Handles requests until bytes are missing (false), or an answer is pending or enough is unsent. The
 * first is handled in any case, so that only who sends many at once waits for those of others. */
static bool handle_batch(struct http_conn *conn, bool *first)
{
    while (!conn->closing && !conn->close_after && conn->phase < PHASE_BUSY && conn->in.len > 0 && !conn->writing) {
        if (conn->out.len >= LIMIT_OUT_BYTES) {
            return true;
        }
        if (!*first && turn_is_over(conn->server)) {
            wait_for_turn(conn);
            return false;
        }
        if (conn->plain != NULL) {
            bool message;
            if (!http_plain_step(conn, &message)) {
                return false;
            }
            *first = *first && !message;
            continue;
        }
        struct bytes in = bytes_of(conn->in.ptr + conn->at, conn->in.len - conn->at);
        enum http_parse parsed = http_parser_feed(conn->parser, in, conn->request, &conn->used);
        if (parsed == HTTP_LIMIT) {
            set_limit(conn);
            parsed = http_parser_feed(conn->parser, in, conn->request, &conn->used);
        }
        if (parsed == HTTP_DONE) {
            *first = false;
            handle(conn);
        } else if (parsed == HTTP_BAD) {
            handle_bad(conn, http_parser_err(conn->parser));
        } else {
            if (parsed == HTTP_CONTINUE) {
                buf_add_lit(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
            }
            wait_for_more(conn);
            return false;
        }
    }
    return false;
}

void http_conn_process(struct http_conn *conn)
{
    if (conn->running) {
        return; /* an answer given within the handler: the loop below goes on */
    }
    conn->running = true;
    list_remove(&conn->waiting);
    bool again = true, first = true;
    while (again) {
        again = handle_batch(conn, &first);
        http_conn_flush(conn);
        again = again && !conn->closing && !conn->writing;
    }
    conn->running = false;
    if (!conn->closing && conn->phase == PHASE_SENDING && !conn->writing) {
        http_conn_sent(conn);
    }
    if (conn->in.len == 0) {
        give_buf(&conn->in, &conn->server->spare_in, KEEP_IN_BYTES);
    }
    http_conn_bound(conn);
    http_conn_read(conn);
    bool idle = conn->phase == PHASE_IDLE && !conn->writing && conn->in.len == 0;
    if ((conn->server->draining && idle) || (conn->peer_done && !has_work(conn))) {
        http_conn_close(conn);
    }
}

/* The turn's end: those who waited get the time of a turn, in the order they came. */
static void turn_end(struct worker *worker, struct turn_hook *hook)
{
    struct http_server *server = container_of(hook, struct http_server, hook);
    server->turn_until_ns = 0;
    while (!list_empty(&server->waiting) && !turn_is_over(server)) {
        http_conn_process(container_of(server->waiting.next, struct http_conn, waiting));
    }
    server->turn_until_ns = 0;
    if (!list_empty(&server->waiting)) {
        server->turn_until_ns = server->now_ns; /* the next turn's time is used up: one request each */
        worker_wake(worker);
    }
}

void http_conn_head(struct http_conn *conn, const struct http_reply *reply, bool streams)
{
    struct buf *out = &conn->out;
    take_buf(out, &conn->server->spare_out);
    buf_add_lit(out, "HTTP/1.1 ");
    buf_add_u64(out, (uint64_t)reply->status);
    buf_add_char(out, ' ');
    buf_add_str(out, http_status_text(reply->status));
    buf_add_lit(out, "\r\nDate: ");
    buf_add(out, worker_date(conn->server->worker), WHEN_HTTP_BYTES);
    if (reply->type.len > 0) {
        buf_add_lit(out, "\r\nContent-Type: ");
        buf_add_bytes(out, reply->type);
    }
    if (streams && !conn->request->http10) {
        buf_add_lit(out, "\r\nTransfer-Encoding: chunked");
    } else if (!streams && reply->status != 204 && reply->status != 304) {
        buf_add_lit(out, "\r\nContent-Length: ");
        buf_add_u64(out, reply->body.len);
    }
    if (conn->close_after) {
        buf_add_lit(out, "\r\nConnection: close\r\n");
    } else if (conn->request->http10) {
        buf_add_lit(out, "\r\nConnection: keep-alive\r\n");
    } else {
        buf_add_lit(out, "\r\n");
    }
    buf_add_bytes(out, reply->headers);
    buf_add_lit(out, "\r\n");
}

void http_reply(struct http_conn *conn, const struct http_reply *reply)
{
    CHECK(conn->phase == PHASE_BUSY && !conn->closing);
    conn->close_after = conn->close_after || reply->close || conn->server->draining;
    http_conn_head(conn, reply, reply->streams);
    if (conn->request->method != METHOD_HEAD && reply->status != 204 && reply->status != 304) {
        buf_add_bytes(&conn->out, reply->body);
    }
    conn->request->method = METHOD_GET;
    if (conn->close_after) {
        conn->phase = PHASE_SENDING;
    } else {
        conn->phase = PHASE_IDLE;
        http_conn_message_end(conn);
        http_conn_deadline(conn, PHASE_IDLE, LIMIT_IDLE_MS);
    }
    if (!conn->running) {
        http_conn_process(conn);
    }
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
    struct http_conn *conn = handle->data;
    (void)hint;
    *buf = uv_buf_init((char *)conn->server->worker->read_buffer, WORKER_READ_BYTES);
}

static bool has_left(struct http_conn *conn)
{
    const struct http_handler *handler = &conn->server->handler;
    if (conn->plain != NULL) {
        conn->plain->left(conn->plain->ctx, conn);
        return false;
    }
    return conn->phase == PHASE_BUSY && handler->left != NULL && handler->left(handler->ctx, conn);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct http_conn *conn = stream->data;
    if (n == 0 || conn->closing) {
        return;
    }
    conn->server->worker->now_ms = clock_boot_ms(conn->server->worker->clock);
    if (n < 0) {
        conn->peer_done = true;
        (void)uv_read_stop(stream);
        /* A client may close its sending side and still wait for the answer; a stream has no end it could wait for. */
        if (n != UV_EOF || !has_work(conn) || conn->phase == PHASE_STREAM || has_left(conn)) {
            http_conn_close(conn);
        }
        return;
    }
    atomic_fetch_add_explicit(&conn->server->stats.bytes_in, (uint64_t)n, memory_order_relaxed);
    if (conn->phase == PHASE_LINGER) {
        return;
    }
    if (conn->phase == PHASE_STREAM) {
        http_stream_ignore(conn, (size_t)n);
        return;
    }
    bool handling = conn->phase == PHASE_BUSY || conn->phase == PHASE_SENDING;
    if (handling) {
        buf_add(&conn->more, buf->base, (size_t)n);
    } else {
        add_in(conn, bytes_of(buf->base, (size_t)n));
    }
    if ((handling || has_work(conn)) && conn->in.len - conn->at - conn->used + conn->more.len > LIMIT_OUT_BYTES) {
        (void)uv_read_stop(stream); /* it sends faster than it takes answers: resume_reading goes on */
        conn->reading = false;
    }
    if (handling || !list_empty(&conn->waiting)) {
        http_conn_bound(conn);
        return;
    }
    http_conn_process(conn);
}

/* Reading stops while a client sends faster than it is answered, and goes on here. */
void http_conn_read(struct http_conn *conn)
{
    bool may = (conn->phase < PHASE_BUSY && !has_work(conn)) || conn->phase == PHASE_STREAM;
    if (!conn->reading && !conn->closing && !conn->peer_done && may) {
        conn->reading = true;
        (void)uv_read_start(&conn->uv.stream, on_alloc, on_read);
    }
}

void http_conn_begin(struct http_conn *conn)
{
    conn->timer.fire = on_deadline;
    http_conn_deadline(conn, PHASE_IDLE, LIMIT_HEAD_MS);
    conn->reading = true;
    if (uv_read_start(&conn->uv.stream, on_alloc, on_read) != 0) {
        http_conn_close(conn);
    }
}

/* ---- a server ---- */

static int files_for_connections(void)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlim_t files = limit.rlim_cur < INT_MAX ? limit.rlim_cur : INT_MAX;
    return (int)(files - (files > 2 * LIMIT_FILES_KEPT ? LIMIT_FILES_KEPT : files / 2));
}

void http_server_init(struct http_server *server, struct worker *worker, const struct http_handler *handler,
                      unsigned max_connections)
{
    *server = (struct http_server){.worker = worker, .handler = *handler, .max_connections = max_connections};
    server->max_file = files_for_connections();
    list_init(&server->conns);
    list_init(&server->listeners);
    list_init(&server->waiting);
    server->hook.run = turn_end;
    worker_add_hook(worker, &server->hook);
}

void http_server_drain(struct http_server *server)
{
    server->draining = true;
    http_listeners_close(server);
    struct list *next;
    for (struct list *link = server->conns.next; link != &server->conns; link = next) {
        struct http_conn *conn = container_of(link, struct http_conn, link);
        next = link->next;
        bool begun = conn->plain != NULL && conn->phase < PHASE_BUSY;
        if ((conn->phase == PHASE_IDLE || begun) && !has_work(conn)) {
            http_conn_close(conn);
        }
    }
}

void http_server_close(struct http_server *server)
{
    http_listeners_close(server);
    buf_free(&server->spare_in);
    buf_free(&server->spare_out);
    struct list *next;
    for (struct list *link = server->conns.next; link != &server->conns; link = next) {
        next = link->next;
        http_conn_close(container_of(link, struct http_conn, link));
    }
}

void http_conn_set_data(struct http_conn *conn, void *data)
{
    conn->data = data;
}
void *http_conn_data(const struct http_conn *conn)
{
    return conn->data;
}
bool http_conn_is_local(const struct http_conn *conn)
{
    return conn->local;
}
const void *http_conn_serves(const struct http_conn *conn)
{
    return conn->serves;
}
struct bytes http_conn_remote(const struct http_conn *conn)
{
    return bytes_str(conn->remote);
}
int64_t http_conn_started_ns(const struct http_conn *conn)
{
    return conn->started_ns;
}
