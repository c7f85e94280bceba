#include "node/peer_net.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/wire.h"
#include "node/config.h"
#include "node/http/listen.h"
#include "node/limits.h"

enum { TICK_MS = 10, BACKLOG = 128, REPLICA_ANY = 0, MESSAGE_HEAD_MAX = 16 };

enum dial_state { DIAL_RESTS, DIAL_CONNECTS, DIAL_SPEAKS, DIAL_CLOSES };

struct peer_dial {
    struct list link;
    struct peer_net *net;
    uint64_t replica;
    char address[LINK_ADDRESS_BYTES];
    enum dial_state state;
    uv_tcp_t tcp;
    uv_connect_t connect;
    struct link *wire; /* NULL while it rests */
    struct buf frame;  /* of this turn */
    int64_t next_ms;   /* when to dial again; when to give up connecting */
    int64_t up_ms;     /* when it came up */
    unsigned failures;
    bool unwanted;                  /* freed once closed */
    char reason[LINK_REASON_BYTES]; /* the last one logged */
};

/* A connection that dialed us. */
struct incoming {
    struct list link;
    struct peer_net *net;
    uv_tcp_t tcp;
    struct link *wire;
    struct buf greeting; /* until it is told which worker it is for */
    int64_t until_ms;    /* by then its hello must have come */
    bool met, closing;
};

struct peer_listener {
    struct list link;
    struct peer_net *net;
    uv_tcp_t tcp;
};

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    struct worker *worker = handle->loop->data;
    (void)size;
    *out = uv_buf_init((char *)worker->read_buffer, sizeof worker->read_buffer);
}

/* ---- writing ---- */

struct write {
    uv_write_t req;
    struct buf bytes;
};

static void on_written(uv_write_t *req, int status)
{
    struct write *write = container_of(req, struct write, req);
    (void)status; /* the reading side sees a broken connection too */
    buf_free(&write->bytes);
    free(write);
}

/* Sends what the link has to say. At once where the kernel takes it: uv_write costs a change of what is polled
 * and one more turn of the loop. */
static void write_out(uv_tcp_t *tcp, struct link *wire)
{
    struct buf *out = link_output(wire);
    if (out->len == 0 || uv_is_closing((uv_handle_t *)tcp)) {
        return;
    }
    uv_buf_t buf = uv_buf_init((char *)out->ptr, (unsigned)out->len);
    int n = uv_try_write((uv_stream_t *)tcp, &buf, 1);
    if (n >= 0 && (size_t)n == out->len) {
        out->len = 0;
        return;
    }
    struct write *write = mem_zalloc(sizeof *write);
    write->bytes = *out;
    *out = (struct buf){0};
    size_t sent = n > 0 ? (size_t)n : 0;
    buf = uv_buf_init((char *)write->bytes.ptr + sent, (unsigned)(write->bytes.len - sent));
    if (uv_write(&write->req, (uv_stream_t *)tcp, &buf, 1, on_written) != 0) {
        buf_free(&write->bytes);
        free(write);
    }
}

/* ---- dialing ---- */

/* Frames hold passwords: what was in one is not left behind. */
static void frame_wipe(struct peer_dial *dial)
{
    if (dial->frame.len > 0) {
        sodium_memzero(dial->frame.ptr, dial->frame.len);
    }
    dial->frame.len = 0;
}

static void frame_room(struct peer_dial *dial, size_t more)
{
    struct buf *frame = &dial->frame, larger = {0};
    if (frame->cap - frame->len < more) {
        (void)buf_room(&larger, 2 * (frame->len + more));
        buf_add_bytes(&larger, buf_bytes(frame));
        frame_wipe(dial);
        buf_free(frame);
        *frame = larger;
    }
}

static void dial_free(struct peer_dial *dial)
{
    frame_wipe(dial);
    list_remove(&dial->link);
    buf_free(&dial->frame);
    free(dial);
}

static void on_dial_closed(uv_handle_t *handle)
{
    struct peer_dial *dial = handle->data;
    int64_t pause_ms = LIMIT_PEER_RETRY_MS >> (dial->failures < 5 ? 5 - dial->failures : 0);
    link_free(dial->wire);
    dial->wire = NULL;
    dial->state = DIAL_RESTS;
    dial->failures++;
    dial->next_ms = clock_boot_ms(dial->net->worker->clock) + pause_ms / 2 +
                    (int64_t)(random_u64(&dial->net->worker->random) % (uint64_t)pause_ms);
    if (dial->unwanted || dial->net->closing) {
        dial_free(dial);
    }
}

static void dial_close(struct peer_dial *dial, const char *reason)
{
    if (dial->state == DIAL_CLOSES || dial->state == DIAL_RESTS) {
        return;
    }
    if (reason != NULL && strcmp(reason, dial->reason) != 0) {
        (void)snprintf(dial->reason, sizeof dial->reason, "%s", reason);
        log_text(dial->net->worker->log, LOG_WARN, "a peer is out of reach", "%s: %s", dial->address, reason);
    }
    dial->state = DIAL_CLOSES;
    frame_wipe(dial);
    uv_close((uv_handle_t *)&dial->tcp, on_dial_closed);
}

static enum err dial_met(void *ctx, const struct link_hello *peer, char *why)
{
    struct peer_dial *dial = ctx;
    if (dial->replica != REPLICA_ANY && replica_of(peer->node) != dial->replica) {
        (void)snprintf(why, LINK_REASON_BYTES, "another node answers there");
        return ERR_FORBIDDEN;
    }
    return dial->net->handler.met(dial->net->handler.ctx, peer, true, why);
}

static void on_dial_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct peer_dial *dial = stream->data;
    if (n == 0) {
        return;
    }
    if (n < 0) {
        dial_close(dial, "the connection broke");
        return;
    }
    bool was_up = link_is_up(dial->wire);
    if (link_input(dial->wire, bytes_of(buf->base, (size_t)n)) != OK) {
        dial_close(dial, link_reason(dial->wire));
        return;
    }
    write_out(&dial->tcp, dial->wire);
    if (!was_up && link_is_up(dial->wire)) {
        dial->failures = 0;
        dial->up_ms = clock_boot_ms(dial->net->worker->clock);
        if (dial->reason[0] != 0) {
            log_text(dial->net->worker->log, LOG_INFO, "a peer is back", "%s", dial->address);
        }
        dial->reason[0] = 0;
    }
}

/* Nothing comes back on a dialed connection, so the kernel has to say when the other side is gone. */
static void set_options(uv_tcp_t *tcp)
{
    uv_os_fd_t fd;
    unsigned silence_ms = LIMIT_PEER_SILENCE_MS;
    (void)uv_tcp_nodelay(tcp, 1);
    if (uv_fileno((uv_handle_t *)tcp, &fd) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof silence_ms);
    }
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct peer_dial *dial = container_of(connect, struct peer_dial, connect);
    if (status != 0 || dial->state != DIAL_CONNECTS) {
        dial_close(dial, "nobody answers");
        return;
    }
    dial->state = DIAL_SPEAKS;
    set_options(&dial->tcp);
    if (uv_read_start((uv_stream_t *)&dial->tcp, on_alloc, on_dial_read) != 0) {
        dial_close(dial, "the connection broke");
        return;
    }
    write_out(&dial->tcp, dial->wire);
}

static bool parse_address(const char *text, struct sockaddr_storage *out)
{
    char host[LINK_ADDRESS_BYTES];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text) {
        return false;
    }
    size_t len = (size_t)(colon - text);
    const char *from = text;
    if (len > 2 && text[0] == '[' && text[len - 1] == ']') {
        from++;
        len -= 2;
    }
    (void)snprintf(host, sizeof host, "%.*s", (int)len, from);
    int port = atoi(colon + 1);
    return uv_ip4_addr(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, port, (struct sockaddr_in *)out) == 0 ||
           uv_ip6_addr(host, port, (struct sockaddr_in6 *)out) == 0;
}

static void dial_begin(struct peer_dial *dial, int64_t now_ms)
{
    struct sockaddr_storage address = {0};
    struct peer_net *net = dial->net;
    dial->next_ms = now_ms + LIMIT_PEER_RETRY_MS;
    if (!parse_address(dial->address, &address)) {
        return;
    }
    struct link_options options = {
        .dials = true, .secret = net->secret, .hello = net->hello, .met = dial_met, .ctx = dial};
    dial->wire = link_new(&options);
    CHECK(uv_tcp_init(&net->worker->loop, &dial->tcp) == 0);
    dial->tcp.data = dial;
    dial->state = DIAL_CONNECTS;
    dial->next_ms = now_ms + LIMIT_PEER_CONNECT_MS;
    if (uv_tcp_connect(&dial->connect, &dial->tcp, (struct sockaddr *)&address, on_connected) != 0) {
        dial_close(dial, "it cannot be dialed");
    }
}

void peer_net_dial(struct peer_net *net, uint64_t replica, const char *address)
{
    struct peer_dial *dial = replica == REPLICA_ANY ? NULL : peer_net_find(net, replica);
    if (dial == NULL) {
        dial = mem_zalloc(sizeof *dial);
        dial->net = net;
        dial->replica = replica;
        list_add_tail(&net->dials, &dial->link);
    }
    if (strcmp(dial->address, address) != 0) {
        (void)snprintf(dial->address, sizeof dial->address, "%s", address);
        if (dial->state == DIAL_CONNECTS) {
            dial_close(dial, NULL);
        }
        dial->failures = 0;
        dial->next_ms = 0;
    }
}

unsigned peer_net_dial_all(struct peer_net *net, const char *list, const char *own)
{
    char copy[CONFIG_JOIN], *rest = NULL;
    unsigned dialed = 0;
    (void)snprintf(copy, sizeof copy, "%s", list);
    for (char *address = strtok_r(copy, ", ", &rest); address != NULL; address = strtok_r(NULL, ", ", &rest)) {
        if (own == NULL || strcmp(address, own) != 0) {
            peer_net_dial(net, REPLICA_ANY, address);
            dialed++;
        }
    }
    return dialed;
}

void peer_net_hang_up(struct peer_dial *dial)
{
    dial->unwanted = true;
    if (dial->state == DIAL_RESTS) {
        dial_free(dial);
    } else {
        dial_close(dial, NULL);
    }
}

struct peer_dial *peer_dial_of(struct list *link)
{
    return container_of(link, struct peer_dial, link);
}

struct peer_dial *peer_net_find(struct peer_net *net, uint64_t replica)
{
    peer_net_each(link, net)
    {
        struct peer_dial *dial = peer_dial_of(link);
        if (dial->replica == replica && !dial->unwanted) {
            return dial;
        }
    }
    return NULL;
}

bool peer_dial_is_up(const struct peer_dial *dial)
{
    return dial->state == DIAL_SPEAKS && link_is_up(dial->wire);
}

int64_t peer_dial_up_ms(const struct peer_dial *dial)
{
    return dial->up_ms;
}

const char *peer_dial_address(const struct peer_dial *dial)
{
    return dial->address;
}

uint64_t peer_dial_replica(const struct peer_dial *dial)
{
    return dial->replica;
}

const struct link_hello *peer_dial_peer(const struct peer_dial *dial)
{
    return link_peer(dial->wire);
}

static void dial_flush(struct peer_dial *dial)
{
    if (dial->frame.len > 0 && peer_dial_is_up(dial)) {
        link_send(dial->wire, buf_bytes(&dial->frame));
        write_out(&dial->tcp, dial->wire);
    }
    frame_wipe(dial);
    if (dial->frame.cap > LIMIT_PEER_FRAME_BYTES) {
        buf_free(&dial->frame);
    }
}

bool peer_net_send(struct peer_net *net, struct peer_dial *dial, uint8_t type, struct bytes body)
{
    (void)net;
    if (dial == NULL || !peer_dial_is_up(dial) ||
        uv_stream_get_write_queue_size((uv_stream_t *)&dial->tcp) > LIMIT_PEER_QUEUE_BYTES) {
        return false;
    }
    frame_room(dial, body.len + MESSAGE_HEAD_MAX);
    wire_add(&dial->frame, type, body);
    if (dial->frame.len >= LIMIT_PEER_FRAME_BYTES) {
        dial_flush(dial);
    }
    return true;
}

void peer_net_flush(struct peer_net *net)
{
    peer_net_each(link, net)
    {
        dial_flush(peer_dial_of(link));
    }
}

/* ---- being dialed ---- */

static void on_incoming_closed(uv_handle_t *handle)
{
    struct incoming *incoming = handle->data;
    list_remove(&incoming->link);
    link_free(incoming->wire);
    buf_free(&incoming->greeting);
    free(incoming);
}

static void incoming_close(struct incoming *incoming, const char *reason)
{
    if (incoming->closing) {
        return;
    }
    incoming->closing = true;
    if (reason != NULL) {
        log_text(incoming->net->worker->log, LOG_WARN, "a peer was refused", "%s", reason);
    }
    uv_close((uv_handle_t *)&incoming->tcp, on_incoming_closed);
}

/* G5: what an older connection of the same worker still holds is out of date. */
static void close_older(struct incoming *incoming, const struct link_hello *peer)
{
    list_each(link, &incoming->net->incoming)
    {
        struct incoming *other = container_of(link, struct incoming, link);
        if (other != incoming && other->met && !other->closing && id_eq(link_peer(other->wire)->node, peer->node) &&
            link_peer(other->wire)->worker == peer->worker) {
            incoming_close(other, NULL);
        }
    }
}

static enum err incoming_met(void *ctx, const struct link_hello *peer, char *why)
{
    struct incoming *incoming = ctx;
    TRY(incoming->net->handler.met(incoming->net->handler.ctx, peer, false, why));
    close_older(incoming, peer);
    incoming->met = true;
    return OK;
}

static enum err incoming_frame(void *ctx, struct bytes frame)
{
    struct incoming *incoming = ctx;
    struct peer_net *net = incoming->net;
    for (;;) {
        uint8_t type;
        struct bytes body;
        enum err err = incoming->closing ? ERR_NOT_FOUND : wire_next(&frame, &type, &body);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        net->handler.message(net->handler.ctx, link_peer(incoming->wire), type, body);
    }
}

static void incoming_feed(struct incoming *incoming, struct bytes input)
{
    enum err err = link_input(incoming->wire, input);
    if (incoming->closing) {
        return;
    }
    write_out(&incoming->tcp, incoming->wire);
    if (err != OK) {
        incoming_close(incoming, link_reason(incoming->wire));
    }
}

static void on_incoming_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static void incoming_listen(struct incoming *incoming)
{
    struct peer_net *net = incoming->net;
    struct link_options options = {
        .secret = net->secret, .hello = net->hello, .met = incoming_met, .frame = incoming_frame, .ctx = incoming};
    incoming->wire = link_new(&options);
    incoming_feed(incoming, buf_bytes(&incoming->greeting));
    buf_free(&incoming->greeting);
}

struct handover {
    struct message message;
    struct peer_net *net;
    int fd;
    struct buf greeting;
};

static struct incoming *incoming_new(struct peer_net *net)
{
    struct incoming *incoming = mem_zalloc(sizeof *incoming);
    incoming->net = net;
    incoming->until_ms = clock_boot_ms(net->worker->clock) + LIMIT_PEER_CONNECT_MS;
    CHECK(uv_tcp_init(&net->worker->loop, &incoming->tcp) == 0);
    incoming->tcp.data = incoming;
    list_add_tail(&net->incoming, &incoming->link);
    return incoming;
}

static void take_over(struct worker *worker, struct message *message)
{
    struct handover *handover = container_of(message, struct handover, message);
    (void)worker;
    if (handover->net->closing) {
        (void)close(handover->fd);
        buf_free(&handover->greeting);
    } else {
        struct incoming *incoming = incoming_new(handover->net);
        incoming->greeting = handover->greeting;
        if (uv_tcp_open(&incoming->tcp, handover->fd) != 0) {
            (void)close(handover->fd);
            incoming_close(incoming, NULL);
        } else if (uv_read_start((uv_stream_t *)&incoming->tcp, on_alloc, on_incoming_read) != 0) {
            incoming_close(incoming, NULL);
        } else {
            incoming_listen(incoming);
        }
    }
    free(handover);
}

static void hand_over(struct incoming *incoming, struct peer_net *to)
{
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&incoming->tcp, &fd) == 0) {
        struct handover *handover = mem_zalloc(sizeof *handover);
        handover->message.run = take_over;
        handover->net = to;
        handover->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        handover->greeting = incoming->greeting;
        incoming->greeting = (struct buf){0};
        if (handover->fd >= 0) {
            worker_post(to->worker, &handover->message);
        } else {
            buf_free(&handover->greeting);
            free(handover);
        }
    }
    incoming_close(incoming, NULL);
}

static void on_incoming_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct incoming *incoming = stream->data;
    if (n == 0) {
        return;
    }
    if (n < 0) {
        incoming_close(incoming, NULL);
        return;
    }
    if (incoming->wire != NULL) {
        incoming_feed(incoming, bytes_of(buf->base, (size_t)n));
        return;
    }
    buf_add(&incoming->greeting, buf->base, (size_t)n);
    if (incoming->greeting.len < LINK_PEEK_BYTES) {
        return;
    }
    struct peer_net *net = incoming->net;
    int worker = link_peek_worker(buf_bytes(&incoming->greeting), net->nets_len);
    if (worker < 0) {
        incoming_close(incoming, "no greeting of a belfry");
    } else if (net->nets[worker] == net) {
        incoming_listen(incoming);
    } else {
        (void)uv_read_stop(stream);
        hand_over(incoming, net->nets[worker]);
    }
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct peer_listener *listener = stream->data;
    if (status != 0) {
        return;
    }
    struct incoming *incoming = incoming_new(listener->net);
    unsigned open = 0;
    list_each(link, &listener->net->incoming)
    {
        open++;
    }
    if (uv_accept(stream, (uv_stream_t *)&incoming->tcp) != 0 || open > LIMIT_PEER_CONNECTIONS ||
        uv_read_start((uv_stream_t *)&incoming->tcp, on_alloc, on_incoming_read) != 0) {
        incoming_close(incoming, NULL);
    }
}

static void on_listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

enum err peer_net_listen(struct peer_net *net, const char *address, struct peer_net **nets, unsigned nets_len,
                         unsigned *port)
{
    int sockets[LISTEN_SOCKETS];
    unsigned len;
    TRY(listen_sockets(address, false, port, sockets, &len));
    for (unsigned i = 0; i < nets_len; i++) {
        nets[i]->nets = nets;
        nets[i]->nets_len = nets_len;
    }
    enum err err = OK;
    for (unsigned i = 0; i < len; i++) {
        struct peer_listener *listener = mem_zalloc(sizeof *listener);
        listener->net = net;
        CHECK(uv_tcp_init(&net->worker->loop, &listener->tcp) == 0);
        listener->tcp.data = listener;
        list_add_tail(&net->listeners, &listener->link);
        bool good = uv_tcp_open(&listener->tcp, sockets[i]) == 0 &&
                    uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection) == 0;
        err = good ? err : ERR_IO;
    }
    return err;
}

/* ---- life ---- */

static void on_tick(struct timer *timer)
{
    struct peer_net *net = container_of(timer, struct peer_net, tick);
    int64_t now_ms = clock_boot_ms(net->worker->clock);
    struct list *next;
    for (struct list *link = net->dials.next; link != &net->dials; link = next) {
        struct peer_dial *dial = peer_dial_of(link);
        next = link->next;
        if (now_ms < dial->next_ms) {
            continue;
        }
        if (dial->state == DIAL_RESTS) {
            dial_begin(dial, now_ms);
        } else if (dial->state == DIAL_CONNECTS || (dial->state == DIAL_SPEAKS && !link_is_up(dial->wire))) {
            dial_close(dial, "nobody answers");
        }
    }
    for (struct list *link = net->incoming.next; link != &net->incoming; link = next) {
        struct incoming *incoming = container_of(link, struct incoming, link);
        next = link->next;
        if (!incoming->met && now_ms >= incoming->until_ms) {
            incoming_close(incoming, "it does not say who it is");
        }
    }
    worker_timer(net->worker, &net->tick, TICK_MS);
}

void peer_net_init(struct peer_net *net, struct worker *worker, const struct link_hello *hello, const uint8_t *secret,
                   const struct peer_net_handler *handler)
{
    *net = (struct peer_net){.worker = worker, .hello = *hello, .secret = secret, .handler = *handler};
    worker->loop.data = worker;
    net->hello.worker = worker->index;
    list_init(&net->dials);
    list_init(&net->incoming);
    list_init(&net->listeners);
    net->tick.fire = on_tick;
}

void peer_net_start(struct peer_net *net)
{
    worker_timer(net->worker, &net->tick, 0);
}

void peer_net_close(struct peer_net *net)
{
    struct list *next;
    net->closing = true;
    timers_clear(&net->worker->timers, &net->tick);
    for (struct list *link = list_pop(&net->listeners); link != NULL; link = list_pop(&net->listeners)) {
        uv_close((uv_handle_t *)&container_of(link, struct peer_listener, link)->tcp, on_listener_closed);
    }
    for (struct list *link = net->dials.next; link != &net->dials; link = next) {
        next = link->next;
        peer_net_hang_up(peer_dial_of(link));
    }
    for (struct list *link = net->incoming.next; link != &net->incoming; link = next) {
        next = link->next;
        incoming_close(container_of(link, struct incoming, link), NULL);
    }
}
