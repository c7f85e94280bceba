#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/queue_load/load.h"

enum { READ_BYTES = 256 * 1024 };

void conn_open(struct conn *conn, unsigned port)
{
    int on = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(conn->fd >= 0);
    CHECK(setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    if (connect(conn->fd, (struct sockaddr *)&to, sizeof to) != 0) {
        load_fail("port %u: %s", port, strerror(errno));
    }
}

void conn_close(struct conn *conn)
{
    (void)close(conn->fd);
    buf_free(&conn->in);
    buf_free(&conn->out);
    buf_free(&conn->replies);
    free(conn->confirmed);
}

struct bytes conn_in(const struct conn *conn)
{
    return bytes_of(conn->in.ptr + conn->in_at, conn->in.len - conn->in_at);
}

void conn_use(struct conn *conn, size_t used)
{
    conn->in_at += used;
    if (conn->in_at == conn->in.len) {
        conn->in_at = conn->in.len = 0;
    }
}

/* Moves what is left to the front and reads behind it. */
static void read_more(struct conn *conn, int flags)
{
    if (conn->in_at > 0) {
        memmove(conn->in.ptr, conn->in.ptr + conn->in_at, conn->in.len - conn->in_at);
        conn->in.len -= conn->in_at;
        conn->in_at = 0;
    }
    uint8_t *room = buf_room(&conn->in, READ_BYTES);
    ssize_t got = recv(conn->fd, room, READ_BYTES, flags);
    if (got == 0) {
        load_fail("the server closed the connection of client %u", conn->number);
    }
    if (got < 0 && errno != EAGAIN && errno != EINTR) {
        load_fail("client %u: %s", conn->number, strerror(errno));
    }
    conn->in.len += got > 0 ? (size_t)got : 0;
}

void conn_read(struct conn *conn)
{
    read_more(conn, 0);
}

void conn_take(struct conn *conn)
{
    size_t used;
    do {
        used = conn->in.len == 0 ? 0 : conn->options->protocol->take(conn, conn_in(conn));
        conn_use(conn, used);
    } while (used > 0);
    if (conn->options->protocol->taken != NULL) {
        conn->options->protocol->taken(conn);
    }
}

void conn_receive(struct conn *conn)
{
    read_more(conn, MSG_DONTWAIT);
}

bool conn_flush(struct conn *conn)
{
    while (conn->out_at < conn->out.len) {
        ssize_t sent =
            send(conn->fd, conn->out.ptr + conn->out_at, conn->out.len - conn->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            return false;
        }
        if (sent < 0 && errno != EINTR) {
            load_fail("client %u: %s", conn->number, strerror(errno));
        }
        conn->out_at += sent > 0 ? (size_t)sent : 0;
    }
    conn->out_at = conn->out.len = 0;
    return true;
}

void conn_send(struct conn *conn)
{
    size_t at = 0;
    while (at < conn->out.len) {
        ssize_t sent = send(conn->fd, conn->out.ptr + at, conn->out.len - at, MSG_NOSIGNAL);
        if (sent < 0) {
            load_fail("client %u: %s", conn->number, strerror(errno));
        }
        at += (size_t)sent;
    }
    conn->out.len = 0;
}
