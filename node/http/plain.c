/* Connections that speak another protocol than HTTP (struct plain_handler). */
#include "node/http/conn.h"

/* What has begun must come to its end; a node that stops waits for none. */
static void wait_for_more(struct http_conn *conn)
{
    if (conn->server->draining) {
        http_conn_close(conn);
    } else if (conn->phase == PHASE_IDLE) {
        http_conn_deadline(conn, PHASE_BODY, LIMIT_BODY_MS);
    }
}

bool http_plain_step(struct http_conn *conn, bool *out_message)
{
    struct http_server *server = conn->server;
    struct bytes in = bytes_of(conn->in.ptr + conn->at, conn->in.len - conn->at);
    size_t used = 0;
    enum plain_parse parsed = conn->plain->feed(conn->plain->ctx, conn, in, &used);
    *out_message = parsed == PLAIN_MESSAGE;
    if (parsed == PLAIN_MORE) {
        wait_for_more(conn);
        return false;
    }
    conn->used = used;
    if (parsed == PLAIN_SKIP) {
        http_conn_message_end(conn);
        conn->phase = PHASE_IDLE;
        return true;
    }
    conn->phase = PHASE_BUSY;
    conn->started_ns = clock_boot_ns(server->worker->clock);
    http_server_note_time(server, conn->started_ns);
    atomic_fetch_add_explicit(&server->stats.requests, 1, memory_order_relaxed);
    conn->plain->message(conn->plain->ctx, conn);
    return true;
}

void http_plain_reply(struct http_conn *conn, struct bytes bytes, bool close)
{
    CHECK(conn->phase == PHASE_BUSY && !conn->closing);
    conn->close_after = close || conn->server->draining;
    http_conn_add_out(conn, bytes);
    conn->phase = conn->close_after ? PHASE_SENDING : PHASE_IDLE;
    if (!conn->close_after) {
        http_conn_message_end(conn);
    }
    if (!conn->running) {
        http_conn_process(conn);
    }
}
