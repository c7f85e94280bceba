/* Connections: sockets, time-outs and response bytes around the parser. One server a worker; it
 * hands every request to its handler, which answers now or later, in any turn of the same loop. */
#ifndef BELFRY_HTTP_SERVER_H
#define BELFRY_HTTP_SERVER_H

#include "node/http/http.h"
#include "node/loop/worker.h"

struct http_conn; /* opaque */

struct http_stats {
    atomic_uint_fast64_t accepted, open, refused, requests, bytes_in, bytes_out;
};

struct http_handler {
    /* A request came. Answer with http_reply exactly once. */
    void (*request)(void *ctx, struct http_conn *conn, struct http_request *request);
    /* A request's head came: how long may its body be? Between LIMIT_BODY_BYTES_MIN, up to which it is not asked, and
     * LIMIT_BODY_BYTES_MAX. NULL: LIMIT_BODY_BYTES. */
    size_t (*body_limit)(void *ctx, const struct http_conn *conn, const struct http_request *request);
    /* The bytes were no request: answer with http_reply; the connection closes after it. */
    void (*bad)(void *ctx, struct http_conn *conn, struct http_request *request, enum err err);
    /* The connection went away while its request was not yet answered: never answer it. */
    void (*gone)(void *ctx, struct http_conn *conn);
    /* The client has closed its side while its request is being answered. True: it need not be answered, the connection
     * closes. NULL: it always is. */
    bool (*left)(void *ctx, struct http_conn *conn);
    /* A stream's client has taken all that was written. NULL for who never streams. */
    void (*taken)(void *ctx, struct http_conn *conn);
    void *ctx;
};

/* Another protocol than HTTP, on listeners of its own: bytes in, bytes out, one message after the other. Connections
 * may be idle for ever; what they have begun to send, and what they are to take, has its time. */
enum plain_parse { PLAIN_MORE, PLAIN_SKIP, PLAIN_MESSAGE };
struct plain_handler {
    /* A connection was accepted: http_conn_set_data is its own until closed. */
    void (*opened)(void *ctx, struct http_conn *conn);
    /* What the front of the bytes is: a message, or to be thrown away, of *out_used bytes; or it is not whole. */
    enum plain_parse (*feed)(void *ctx, struct http_conn *conn, struct bytes data, size_t *out_used);
    /* The message that feed has found. Answer with http_plain_reply exactly once, now or later. */
    void (*message)(void *ctx, struct http_conn *conn);
    /* The client has closed its side: what it waits for may hurry, no more than what it has sent is to be done. */
    void (*left)(void *ctx, struct http_conn *conn);
    /* The connection is gone: never answer it. */
    void (*closed)(void *ctx, struct http_conn *conn);
    void *ctx;
};

struct http_server {
    struct worker *worker;
    struct http_handler handler;
    unsigned max_connections;
    int max_file;
    size_t held; /* bytes of the connections' buffers */
    struct list conns;
    struct list listeners;
    struct list waiting; /* connections with more requests than their turn had time for */
    struct turn_hook hook;
    int64_t now_ns, turn_until_ns;
    struct http_stats stats;
    struct buf spare_in, spare_out; /* idle connections have no buffers of their own */
    bool draining;
};

struct http_reply {
    int status;
    struct bytes type;    /* Content-Type; empty: no body at all (204, 304) */
    struct bytes headers; /* further header lines, each ended by CRLF */
    struct bytes body;
    bool close;
    bool streams; /* to HEAD: the body would be a stream, and has no length */
};

/* Before the worker's other hooks are added: what requests leave for the turn's end is then done. */
void http_server_init(struct http_server *server, struct worker *worker, const struct http_handler *handler,
                      unsigned max_connections);
/* Listens on "ADDR:PORT" ("[v6]:port", "localhost:port" is both families, port 0 is any). Several
 * workers listen on the same port (SO_REUSEPORT). *out_port gets the port. serves is the
 * handler's own: http_conn_serves gives it back for each connection. Errors: ERR_IO. */
enum err http_server_listen(struct http_server *server, const char *address, const void *serves,
                            unsigned *out_port) MUST_USE;
/* The same, of a protocol that lives as long as the server. */
enum err http_server_listen_plain(struct http_server *server, const char *address, const struct plain_handler *plain,
                                  unsigned *out_port) MUST_USE;
/* Listens on a Unix socket; its connections are the operator's (http_conn_is_local). */
enum err http_server_listen_local(struct http_server *server, const char *path) MUST_USE;
/* Stops accepting; idle connections close now, busy ones after their answer. */
void http_server_drain(struct http_server *server);
/* Closes everything that is left. */
void http_server_close(struct http_server *server);

void http_reply(struct http_conn *conn, const struct http_reply *reply);

/* The answer to a message of a plain_handler; close: and nothing more. */
void http_plain_reply(struct http_conn *conn, struct bytes bytes, bool close);

/* ---- an answer that goes on, instead of http_reply; not for HEAD ---- */

/* Its head, and its first bytes. From then on the connection has no deadlines but the handler's, what the
 * client sends is thrown away, and when it closes its side it is gone. */
void http_stream_begin(struct http_conn *conn, const struct http_reply *reply);
/* Appends; nothing is sent before the flush. */
void http_stream_write(struct http_conn *conn, struct bytes bytes);
/* False: the connection is closed, and the handler was told that it is gone. */
bool http_stream_flush(struct http_conn *conn) MUST_USE;
/* Bytes written that are kept in memory, because the kernel has not taken all of them; and those it has, ever. */
size_t http_stream_pending(const struct http_conn *conn);
uint64_t http_stream_taken(const struct http_conn *conn);
/* The end. What is pending is sent if the client takes it within that time. The handler has nothing to do
 * with the connection any more. */
void http_stream_end(struct http_conn *conn, int64_t within_ms);

/* The handler's own state of the present request. */
void http_conn_set_data(struct http_conn *conn, void *data);
void *http_conn_data(const struct http_conn *conn);
bool http_conn_is_local(const struct http_conn *conn);
const void *http_conn_serves(const struct http_conn *conn);
/* The peer's address without the port, or "local". */
struct bytes http_conn_remote(const struct http_conn *conn);
/* When the present request's head was whole, on the boot clock. */
int64_t http_conn_started_ns(const struct http_conn *conn);

#endif
