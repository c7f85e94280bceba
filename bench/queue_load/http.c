/* belfry: a request a batch, and an answer before the next one. */
#include <stdlib.h>

#include "bench/queue_load/load.h"

static void add_request(struct conn *conn, const char *method, const char *tail, struct bytes body)
{
    buf_printf(&conn->out,
               "%s /v1/topics/%s%s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
               "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
               method, conn->queue, tail, conn->options->token, body.len);
    buf_add_bytes(&conn->out, body);
}

struct answer {
    unsigned status;
    struct bytes body;
};

/* The bytes behind what is looked for, up to the end; none when it is not there. */
static struct bytes behind(struct bytes in, const char *what)
{
    size_t len = strlen(what);
    const uint8_t *at = in.len == 0 ? NULL : memmem(in.ptr, in.len, what, len);
    return at == NULL ? BYTES_NONE : bytes_of(at + len, in.len - (size_t)(at + len - in.ptr));
}

/* The bytes of a whole answer; 0 when more are needed. */
static size_t parse_answer(struct bytes in, struct answer *out)
{
    struct bytes rest = behind(in, "\r\n\r\n");
    if (rest.ptr == NULL) {
        return 0;
    }
    struct bytes head = bytes_of(in.ptr, in.len - rest.len);
    struct bytes length = behind(head, "\r\nContent-Length: ");
    size_t len = length.ptr == NULL ? 0 : strtoul((const char *)length.ptr, NULL, 10);
    if (rest.len < len) {
        return 0;
    }
    if (!bytes_start_with(head, BYTES_LIT("HTTP/1.1 "))) {
        load_fail("not an answer: %.*s", (int)head.len, head.ptr);
    }
    out->status = (unsigned)strtoul((const char *)head.ptr + 9, NULL, 10);
    out->body = bytes_of(rest.ptr, len);
    return head.len + len;
}

static void expect(const struct answer *answer, unsigned status, const char *what)
{
    if (answer->status != status) {
        load_fail("%s: %u %.*s", what, answer->status, (int)answer->body.len, answer->body.ptr);
    }
}

/* Blocking. */
static unsigned ask(struct conn *conn)
{
    struct answer answer;
    size_t used;
    conn_send(conn);
    do {
        conn_read(conn);
        used = parse_answer(conn_in(conn), &answer);
    } while (used == 0);
    conn_use(conn, used);
    return answer.status;
}

static void add_receive(struct conn *conn)
{
    struct buf body = {NULL, 0, 0};
    buf_printf(&body, "{\"max\":%u,\"wait_ms\":%u}", conn->options->batch,
               conn->options->workload == DECLARE ? 0 : 1000);
    add_request(conn, "POST", "/groups/workers/receive", buf_bytes(&body));
    buf_free(&body);
}

/* The topic, and its group. */
static void declare(struct conn *conn)
{
    add_request(conn, "PUT", "", BYTES_LIT("{}"));
    unsigned status = ask(conn);
    if (status < 200 || status > 204) {
        load_fail("PUT of the topic: %u", status);
    }
    add_receive(conn);
    status = ask(conn);
    if (status != 200) {
        load_fail("the first receive: %u", status);
    }
}

static void open_conn(struct conn *conn)
{
    (void)conn; /* there is nothing to agree on */
}

static void publish(struct conn *conn, unsigned count)
{
    struct buf body = conn->replies;
    body.len = 0;
    buf_add_lit(&body, "{\"messages\":[");
    for (unsigned i = 0; i < count; i++) {
        buf_add_str(&body, i == 0 ? "{\"body\":\"" : ",{\"body\":\"");
        buf_add_bytes(&body, load_body(conn->load));
        buf_add_lit(&body, "\"}");
    }
    buf_add_lit(&body, "]}");
    add_request(conn, "POST", "/messages", buf_bytes(&body));
    conn->replies = body; /* its memory is used again */
}

static void consume(struct conn *conn)
{
    conn->got = 0;
    conn->acking = false;
    add_receive(conn);
}

/* The string that begins here, in JSON; none of ours has an escape. */
static struct bytes string_at(struct bytes in)
{
    const uint8_t *end = memchr(in.ptr, '"', in.len);
    if (end == NULL) {
        load_fail("a string without an end");
    }
    return bytes_of(in.ptr, (size_t)(end - in.ptr));
}

/* What has come is acknowledged with one request. */
static void take_messages(struct conn *conn, struct bytes in)
{
    struct buf acks = conn->replies;
    acks.len = 0;
    conn->got = 0;
    buf_add_lit(&acks, "{\"receipts\":[");
    for (struct bytes at = behind(in, "\"receipt\":\""); at.ptr != NULL; at = behind(at, "\"receipt\":\"")) {
        struct bytes receipt = string_at(at);
        buf_add_str(&acks, conn->got++ == 0 ? "\"" : ",\"");
        buf_add_bytes(&acks, receipt);
        buf_add_char(&acks, '"');
    }
    buf_add_lit(&acks, "]}");
    unsigned bodies = 0;
    for (struct bytes at = behind(in, "\"body\":\""); at.ptr != NULL; at = behind(at, "\"body\":\"")) {
        load_received(conn, string_at(at));
        bodies++;
    }
    if (bodies != conn->got) {
        load_fail("%u bodies and %u receipts", bodies, conn->got);
    }
    if (conn->got > 0) {
        conn->acking = true;
        add_request(conn, "POST", "/groups/workers/ack", buf_bytes(&acks));
    }
    conn->replies = acks;
}

static size_t take(struct conn *conn, struct bytes in)
{
    struct answer answer;
    size_t used = parse_answer(in, &answer);
    if (used == 0) {
        return 0;
    }
    if (conn->role == PUBLISHER) {
        expect(&answer, 201, "publish");
        load_confirmed(conn, conn->waiting);
        return used;
    }
    expect(&answer, 200, conn->acking ? "ack" : "receive");
    if (conn->acking) {
        load_acked(conn, conn->got);
        consume(conn);
        return used;
    }
    take_messages(conn, answer.body);
    if (!conn->acking) {
        consume(conn);
    }
    return used;
}

const struct protocol protocol_http = {
    .name = "http", .open = open_conn, .declare = declare, .publish = publish, .consume = consume, .take = take};
