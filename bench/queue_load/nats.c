/* NATS: its text protocol, JetStream's requests by subject. A message that comes with a reply subject is
 * acknowledged there. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/queue_load/load.h"

enum { SID_REPLY = 1, SID_MESSAGES, SID_ACKED }; /* what a connection subscribes to, each to an inbox of its own */
enum { FIELDS = 8 };

static void add_inbox(const struct conn *conn, struct buf *out, int sid)
{
    buf_printf(out, "_INBOX.%d.%u.%d", (int)getpid(), conn->number, sid);
}

static void add_request(struct conn *conn, struct bytes subject, int sid, struct bytes payload)
{
    buf_add_lit(&conn->out, "PUB ");
    buf_add_bytes(&conn->out, subject);
    buf_add_char(&conn->out, ' ');
    if (sid != 0) {
        add_inbox(conn, &conn->out, sid);
        buf_add_char(&conn->out, ' ');
    }
    buf_add_u64(&conn->out, payload.len);
    buf_add_lit(&conn->out, "\r\n");
    buf_add_bytes(&conn->out, payload);
    buf_add_lit(&conn->out, "\r\n");
}

struct frame {
    struct bytes verb, reply, headers, payload;
    unsigned sid;
};

/* Words of a line; gives how many. */
static unsigned split(struct bytes line, struct bytes *fields)
{
    unsigned count = 0;
    size_t from = 0;
    for (size_t at = 0; at <= line.len && count < FIELDS; at++) {
        if (at == line.len || line.ptr[at] == ' ') {
            if (at > from) {
                fields[count++] = bytes_of(line.ptr + from, at - from);
            }
            from = at + 1;
        }
    }
    return count;
}

static size_t number_of(struct bytes digits)
{
    return strtoul((const char *)digits.ptr, NULL, 10); /* a line's end or a blank is behind them */
}

/* The bytes of a line, for messages with what follows; 0 when more are needed. */
static size_t parse(struct bytes in, struct frame *frame)
{
    const uint8_t *end = memmem(in.ptr, in.len, "\r\n", 2);
    if (end == NULL) {
        return 0;
    }
    struct bytes fields[FIELDS];
    struct bytes line = bytes_of(in.ptr, (size_t)(end - in.ptr));
    unsigned count = split(line, fields);
    *frame = (struct frame){.verb = count > 0 ? fields[0] : BYTES_NONE, .payload = line};
    bool headers = bytes_is(frame->verb, "HMSG");
    if (!headers && !bytes_is(frame->verb, "MSG")) {
        return line.len + 2;
    }
    /* MSG subject sid [reply] bytes; HMSG subject sid [reply] bytes-of-headers bytes */
    unsigned least = headers ? 5 : 4;
    if (count < least) {
        load_fail("not understood: %.*s", (int)line.len, line.ptr);
    }
    size_t len = number_of(fields[count - 1]), head = headers ? number_of(fields[count - 2]) : 0;
    if (in.len < line.len + 2 + len + 2) {
        return 0;
    }
    frame->sid = (unsigned)number_of(fields[2]);
    frame->reply = count > least ? fields[3] : BYTES_NONE;
    frame->headers = bytes_of(end + 2, head);
    frame->payload = bytes_of(end + 2 + head, len - head);
    return line.len + 2 + len + 2;
}

/* What any connection must answer, or cannot go on after. */
static void look_at(struct conn *conn, const struct frame *frame)
{
    if (bytes_is(frame->verb, "PING")) {
        buf_add_lit(&conn->out, "PONG\r\n");
    } else if (bytes_is(frame->verb, "-ERR")) {
        load_fail("client %u: %.*s", conn->number, (int)frame->payload.len, frame->payload.ptr);
    }
}

static void fail_if_error(const struct frame *frame)
{
    struct bytes text = frame->payload.len > 0 ? frame->payload : frame->headers;
    if (frame->payload.len == 0 || memmem(text.ptr, text.len, "\"error\"", 7) != NULL) {
        load_fail("JetStream: %.*s", (int)text.len, text.ptr);
    }
}

/* Blocking: what was asked is answered, or the connection greeted. */
static void await(struct conn *conn, const char *verb)
{
    bool found = false;
    conn_send(conn);
    while (!found) {
        struct frame frame;
        size_t used = conn->in.len == conn->in_at ? 0 : parse(conn_in(conn), &frame);
        if (used == 0) {
            conn_read(conn);
            continue;
        }
        look_at(conn, &frame);
        found = bytes_is(frame.verb, verb);
        if (found && bytes_is(frame.verb, "MSG")) {
            fail_if_error(&frame);
        }
        conn_use(conn, used);
    }
}

static void open_conn(struct conn *conn)
{
    await(conn, "INFO");
    buf_add_lit(&conn->out,
                "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\",\"protocol\":1,"
                "\"headers\":true,\"no_responders\":true}\r\n");
    for (int sid = SID_REPLY; sid <= SID_ACKED; sid++) {
        buf_add_lit(&conn->out, "SUB ");
        add_inbox(conn, &conn->out, sid);
        buf_printf(&conn->out, " %d\r\n", sid);
    }
    buf_add_lit(&conn->out, "PING\r\n");
    await(conn, "PONG");
}

static void ask_jetstream(struct conn *conn, const struct buf *subject, const struct buf *payload)
{
    add_request(conn, buf_bytes(subject), SID_REPLY, buf_bytes(payload));
    await(conn, "MSG");
}

/* A stream of three replicas in files, and a durable pull consumer. */
static void declare(struct conn *conn)
{
    struct buf subject = {NULL, 0, 0}, payload = {NULL, 0, 0};
    buf_printf(&subject, "$JS.API.STREAM.CREATE.%s", conn->queue);
    buf_printf(
        &payload,
        "{\"name\":\"%s\",\"subjects\":[\"%s\"],\"storage\":\"file\",\"retention\":\"limits\",\"num_replicas\":%u}",
        conn->queue, conn->queue, conn->options->nodes);
    ask_jetstream(conn, &subject, &payload);
    subject.len = payload.len = 0;
    buf_printf(&subject, "$JS.API.CONSUMER.DURABLE.CREATE.%s.workers", conn->queue);
    buf_printf(&payload,
               "{\"stream_name\":\"%s\",\"config\":{\"durable_name\":\"workers\",\"deliver_policy\":\"all\","
               "\"replay_policy\":\"instant\",\"ack_policy\":\"%s\"",
               conn->queue, conn->options->ack == ACK_ALL ? "all" : "explicit");
    if (conn->options->pending > 0) {
        buf_printf(&payload, ",\"max_ack_pending\":%u", conn->options->pending);
    }
    buf_add_lit(&payload, "}}");
    ask_jetstream(conn, &subject, &payload);
    buf_free(&subject);
    buf_free(&payload);
}

static void publish(struct conn *conn, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        add_request(conn, bytes_str(conn->queue), SID_REPLY, load_body(conn->load));
    }
}

static void consume(struct conn *conn)
{
    char subject[128], payload[64];
    (void)snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.workers", conn->queue);
    (void)snprintf(payload, sizeof payload, "{\"batch\":%u,\"expires\":1000000000}", conn->options->batch);
    conn->got = 0;
    add_request(conn, bytes_str(subject), SID_MESSAGES, bytes_str(payload));
}

/* The batch is over: what is not acknowledged yet, then the next one. */
static void end_batch(struct conn *conn)
{
    if (conn->options->ack == ACK_ALL && conn->unacked > 0) {
        add_request(conn, buf_bytes(&conn->replies), 0, BYTES_LIT("+ACK"));
        load_acked(conn, conn->unacked);
        conn->unacked = 0;
    }
    if (conn->unacked == 0) {
        consume(conn);
    } else {
        conn->acking = true; /* the last answer goes on */
    }
}

static void take_message(struct conn *conn, const struct frame *frame)
{
    load_received(conn, frame->payload);
    conn->got++;
    if (conn->options->ack == ACK_EACH) {
        add_request(conn, frame->reply, 0, BYTES_LIT("+ACK"));
        load_acked(conn, 1);
    } else {
        conn->unacked++;
        conn->replies.len = 0;
        buf_add_bytes(&conn->replies, frame->reply);
        if (conn->options->ack == ACK_AWAITED) {
            add_request(conn, frame->reply, SID_ACKED, BYTES_LIT("+ACK"));
        }
    }
    if (conn->got == conn->options->batch) {
        end_batch(conn);
    }
}

/* The headers alone: there are no messages (404), the time is over (408), too many wait for acks (409). */
static void take_status(struct conn *conn, const struct frame *frame)
{
    if (!bytes_start_with(frame->headers, BYTES_LIT("NATS/1.0 40"))) {
        load_fail("a pull: %.*s", (int)frame->headers.len, frame->headers.ptr);
    }
    end_batch(conn);
}

static void take_acked(struct conn *conn)
{
    CHECK(conn->unacked > 0);
    load_acked(conn, 1);
    if (--conn->unacked == 0 && conn->acking) {
        conn->acking = false;
        consume(conn);
    }
}

static size_t take(struct conn *conn, struct bytes in)
{
    struct frame frame;
    size_t used = parse(in, &frame);
    if (used == 0) {
        return 0;
    }
    look_at(conn, &frame);
    if (frame.sid == SID_REPLY) {
        fail_if_error(&frame);
        load_confirmed(conn, 1);
    } else if (frame.sid == SID_ACKED) {
        take_acked(conn);
    } else if (frame.sid == SID_MESSAGES && frame.headers.len > 0) {
        take_status(conn, &frame);
    } else if (frame.sid == SID_MESSAGES) {
        take_message(conn, &frame);
    }
    return used;
}

const struct protocol protocol_nats = {
    .name = "nats", .open = open_conn, .declare = declare, .publish = publish, .consume = consume, .take = take};
