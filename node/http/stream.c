/* Answers that go on: chunked for HTTP/1.1 (RFC 9112 section 7.1), up to the connection's end for 1.0. */
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#include "node/http/conn.h"

enum { SILENT_MS = 2 * LIMIT_SEND_MS };

/* A client that lost power says nothing any more: without this, what is sent to it is tried for a quarter
 * of an hour. Longer than what a slow one is given, who is to hear why its stream ends. */
static void bound_silence(struct http_conn *conn)
{
    int fd = 0, ms = SILENT_MS;
    if (!conn->local && uv_fileno(&conn->uv.handle, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
    }
}

void http_stream_begin(struct http_conn *conn, const struct http_reply *reply)
{
    CHECK(conn->phase == PHASE_BUSY && !conn->closing && conn->request->method != METHOD_HEAD);
    conn->close_after = true;
    conn->chunked = !conn->request->http10;
    http_conn_head(conn, reply, true);
    conn->phase = PHASE_STREAM;
    conn->streamed = conn->out.len + uv_stream_get_write_queue_size(&conn->uv.stream); /* earlier answers too */
    bound_silence(conn);
    http_conn_read(conn); /* that the client goes away is to be heard */
    http_stream_write(conn, reply->body);
}

void http_stream_write(struct http_conn *conn, struct bytes bytes)
{
    size_t before = conn->out.len;
    CHECK(conn->phase == PHASE_STREAM && !conn->closing);
    if (bytes.len == 0) {
        return; /* an empty chunk would be the last one */
    }
    if (conn->chunked) {
        buf_printf(&conn->out, "%zx\r\n", bytes.len);
    }
    buf_add_bytes(&conn->out, bytes);
    if (conn->chunked) {
        buf_add_lit(&conn->out, "\r\n");
    }
    conn->streamed += conn->out.len - before;
}

bool http_stream_flush(struct http_conn *conn)
{
    CHECK(conn->phase == PHASE_STREAM && !conn->closing);
    if (conn->peer_done) {
        http_conn_close(conn);
        return false;
    }
    http_conn_flush(conn);
    http_conn_bound(conn);
    return !conn->closing;
}

size_t http_stream_pending(const struct http_conn *conn)
{
    return conn->out.len + conn->sending.len;
}

uint64_t http_stream_taken(const struct http_conn *conn)
{
    return conn->streamed - conn->out.len - uv_stream_get_write_queue_size(&conn->uv.stream);
}

void http_stream_end(struct http_conn *conn, int64_t within_ms)
{
    CHECK(conn->phase == PHASE_STREAM && !conn->closing);
    if (conn->chunked) {
        buf_add_lit(&conn->out, "0\r\n\r\n");
    }
    http_conn_deadline(conn, PHASE_SENDING, within_ms);
    timers_set(&conn->server->worker->timers, &conn->timer, conn->deadline_ms);
    http_conn_flush(conn);
    if (!conn->closing && !conn->writing) {
        http_conn_sent(conn);
    }
}

void http_stream_ignore(struct http_conn *conn, size_t len)
{
    conn->ignored += len;
    if (conn->ignored > LIMIT_STREAM_IGNORED) {
        http_conn_close(conn);
    }
}
