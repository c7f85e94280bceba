/* A connection from within: what the files of this folder share. Everybody else sees node/http/server.h. */
#ifndef BELFRY_HTTP_CONN_H
#define BELFRY_HTTP_CONN_H

#include <netinet/in.h>

#include "node/http/server.h"

/* A TCP socket, or the operator's Unix one. */
union endpoint {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

/* PHASE_STREAM: the answer's head is out, its body goes on until http_stream_end.
 * PHASE_LINGER: the last answer is out, our side is closed; what still comes is read and thrown away,
 * so that the answer is not lost to a reset (RFC 9112 section 9.6). */
enum conn_phase { PHASE_IDLE, PHASE_HEAD, PHASE_BODY, PHASE_BUSY, PHASE_STREAM, PHASE_SENDING, PHASE_LINGER };

struct http_conn {
    struct list link, waiting;
    struct http_server *server;
    union endpoint uv;
    struct timer timer;
    int64_t deadline_ms;
    enum conn_phase phase;
    bool local, closing, peer_done, close_after, linger, running, writing, reading;
    uv_shutdown_t shutdown;
    char remote[INET6_ADDRSTRLEN];
    struct http_parser *parser;
    struct http_request *request;
    struct buf in;   /* must not move while a message is handled */
    size_t held;     /* capacity of all buffers, as the server has counted it */
    size_t at, used; /* where in it the message at hand starts, and how long it is */
    struct buf more; /* what came while a message was handled */
    struct buf out;  /* response bytes not yet given to the kernel */
    struct buf sending;
    uv_write_t write;
    int64_t started_ns;
    /* While it streams. */
    bool chunked;
    size_t ignored;    /* bytes of the client's */
    uint64_t streamed; /* bytes of ours */
    const void *serves;
    const struct plain_handler *plain; /* NULL: HTTP, which has a parser and a request */
    void *data;
};

/* Its first bytes may come. */
void http_conn_begin(struct http_conn *conn);
/* Unless it is closing already; the handler's gone is called within if a request is under way. */
void http_conn_close(struct http_conn *conn);
void http_conn_deadline(struct http_conn *conn, enum conn_phase phase, int64_t in_ms);
/* Appends the answer's head; streams: without a length. */
void http_conn_head(struct http_conn *conn, const struct http_reply *reply, bool streams);
/* Gives what is ready to the kernel; what it does not take is sent when it does. May close the connection. */
void http_conn_flush(struct http_conn *conn);
/* Everything is sent: the connection is closed, or waits for the next request. */
void http_conn_sent(struct http_conn *conn);
/* Closes it when it holds much and there is no more. */
void http_conn_bound(struct http_conn *conn);
/* Reading goes on if it may. */
void http_conn_read(struct http_conn *conn);

/* The bytes of the message at hand are done with. */
void http_conn_message_end(struct http_conn *conn);
/* Handles what has come and sends what is ready, as far as both go at the moment. */
void http_conn_process(struct http_conn *conn);
/* Bytes behind those that are ready to be sent. */
void http_conn_add_out(struct http_conn *conn, struct bytes bytes);
/* A message is begun: a turn's time runs from its first one. */
void http_server_note_time(struct http_server *server, int64_t now_ns);
/* One message of a plain connection, or a part of one that is thrown away. False: bytes are missing. */
bool http_plain_step(struct http_conn *conn, bool *out_message);

void http_listeners_close(struct http_server *server);

/* A stream's client sent something: it is thrown away. */
void http_stream_ignore(struct http_conn *conn, size_t len);

#endif
