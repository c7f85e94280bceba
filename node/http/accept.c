/* Listening sockets, and the connections that come to them. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/http/conn.h"
#include "node/http/listen.h"

enum { BACKLOG = 4096 };
enum { PLAIN_KEEPALIVE_S = 60 /* clients that are silent for long are asked whether they are there */ };

struct listener {
    struct list link;
    struct http_server *server;
    bool local;
    const void *serves;
    const struct plain_handler *plain;
    union endpoint uv;
};

static void name_peer(struct http_conn *conn)
{
    struct sockaddr_storage address;
    int len = sizeof address;
    (void)snprintf(conn->remote, sizeof conn->remote, "local");
    if (!conn->local && uv_tcp_getpeername(&conn->uv.tcp, (struct sockaddr *)&address, &len) == 0) {
        if (address.ss_family == AF_INET) {
            (void)uv_ip4_name((struct sockaddr_in *)&address, conn->remote, sizeof conn->remote);
        } else {
            (void)uv_ip6_name((struct sockaddr_in6 *)&address, conn->remote, sizeof conn->remote);
        }
    }
}

/* The kernel gives the lowest free number, so a high one says how many files are open. The log and the
 * state need files too, and the operator a connection. */
static bool no_file_to_spare(const struct http_conn *conn)
{
    int file = 0;
    return uv_fileno(&conn->uv.handle, &file) == 0 && file >= conn->server->max_file;
}

static void on_connection(uv_stream_t *stream, int status)
{
    const struct listener *listener = stream->data;
    struct http_server *server = listener->server;
    if (status != 0) {
        return;
    }
    struct http_conn *conn = mem_zalloc(sizeof *conn);
    conn->server = server;
    conn->local = listener->local;
    conn->serves = listener->serves;
    if (listener->plain == NULL) {
        conn->parser = http_parser_new();
        conn->request = mem_zalloc(sizeof *conn->request);
    }
    list_init(&conn->waiting);
    list_add_tail(&server->conns, &conn->link);
    uint64_t open = atomic_fetch_add_explicit(&server->stats.open, 1, memory_order_relaxed) + 1;
    CHECK((conn->local ? uv_pipe_init(&server->worker->loop, &conn->uv.pipe, 0)
                       : uv_tcp_init(&server->worker->loop, &conn->uv.tcp)) == 0);
    conn->uv.handle.data = conn;
    bool accepted = uv_accept(stream, &conn->uv.stream) == 0;
    bool full = !conn->local && (open > server->max_connections || no_file_to_spare(conn));
    if (!accepted || full || server->draining) {
        atomic_fetch_add_explicit(&server->stats.refused, 1, memory_order_relaxed);
        http_conn_close(conn);
        return;
    }
    atomic_fetch_add_explicit(&server->stats.accepted, 1, memory_order_relaxed);
    name_peer(conn);
    server->worker->now_ms = clock_boot_ms(server->worker->clock);
    if (listener->plain != NULL) {
        conn->plain = listener->plain;
        (void)uv_tcp_keepalive(&conn->uv.tcp, 1, PLAIN_KEEPALIVE_S);
        conn->plain->opened(conn->plain->ctx, conn);
    }
    http_conn_begin(conn);
}

static struct listener *listener_new(struct http_server *server, bool local)
{
    struct listener *listener = mem_zalloc(sizeof *listener);
    listener->server = server;
    listener->local = local;
    CHECK((local ? uv_pipe_init(&server->worker->loop, &listener->uv.pipe, 0)
                 : uv_tcp_init(&server->worker->loop, &listener->uv.tcp)) == 0);
    listener->uv.handle.data = listener;
    list_add_tail(&server->listeners, &listener->link);
    return listener;
}

static enum err listen_at(struct http_server *server, const char *address, const void *serves,
                          const struct plain_handler *plain, unsigned *out_port)
{
    int sockets[LISTEN_SOCKETS];
    unsigned len = 0;
    TRY(listen_sockets(address, true, out_port, sockets, &len));
    enum err err = OK;
    for (unsigned i = 0; i < len; i++) {
        struct listener *listener = listener_new(server, false);
        listener->serves = serves;
        listener->plain = plain;
        bool good = uv_tcp_open(&listener->uv.tcp, sockets[i]) == 0 &&
                    uv_listen(&listener->uv.stream, BACKLOG, on_connection) == 0;
        err = good ? err : ERR_IO;
    }
    return err;
}

enum err http_server_listen(struct http_server *server, const char *address, const void *serves, unsigned *out_port)
{
    return listen_at(server, address, serves, NULL, out_port);
}

enum err http_server_listen_plain(struct http_server *server, const char *address, const struct plain_handler *plain,
                                  unsigned *out_port)
{
    return listen_at(server, address, NULL, plain, out_port);
}

enum err http_server_listen_local(struct http_server *server, const char *path)
{
    (void)unlink(path);
    struct listener *listener = listener_new(server, true);
    return uv_pipe_bind(&listener->uv.pipe, path) == 0 && uv_listen(&listener->uv.stream, 64, on_connection) == 0
               ? OK
               : ERR_IO;
}

static void listener_free(uv_handle_t *handle)
{
    free(handle->data);
}

void http_listeners_close(struct http_server *server)
{
    for (struct list *link = list_pop(&server->listeners); link != NULL; link = list_pop(&server->listeners)) {
        uv_close(&container_of(link, struct listener, link)->uv.handle, listener_free);
    }
}
