/* RabbitMQ: AMQP 0-9-1, as much of it as a publisher with confirms and a consumer with a prefetch need. */
#include <arpa/inet.h>
#include <endian.h>

#include "bench/queue_load/load.h"

#define METHOD(class, number) ((uint32_t)(class) << 16 | (number))
enum { FRAME_METHOD = 1, FRAME_HEADER = 2, FRAME_BODY = 3, FRAME_END = 0xCE, FRAME_HEAD = 7 };
enum { CHANNEL = 1, FRAME_MAX = 131072, PERSISTENT = 2 };
static const uint32_t START = METHOD(10, 10), START_OK = METHOD(10, 11), TUNE = METHOD(10, 30),
                      TUNE_OK = METHOD(10, 31), OPEN = METHOD(10, 40), OPEN_OK = METHOD(10, 41), CLOSE = METHOD(10, 50),
                      CHANNEL_OPEN = METHOD(20, 10), CHANNEL_OPEN_OK = METHOD(20, 11), CHANNEL_CLOSE = METHOD(20, 40),
                      QUEUE_DECLARE = METHOD(50, 10), QUEUE_DECLARE_OK = METHOD(50, 11), QOS = METHOD(60, 10),
                      QOS_OK = METHOD(60, 11), CONSUME = METHOD(60, 20), CONSUME_OK = METHOD(60, 21),
                      PUBLISH_METHOD = METHOD(60, 40), DELIVER = METHOD(60, 60), ACK = METHOD(60, 80),
                      NACK = METHOD(60, 120), CONFIRM = METHOD(85, 10), CONFIRM_OK = METHOD(85, 11);

static void add_u8(struct buf *out, unsigned value)
{
    buf_add_char(out, (char)value);
}

static void add_u16(struct buf *out, unsigned value)
{
    uint16_t big = htons((uint16_t)value);
    buf_add(out, &big, sizeof big);
}

static void add_u32(struct buf *out, uint32_t value)
{
    uint32_t big = htonl(value);
    buf_add(out, &big, sizeof big);
}

static void add_u64(struct buf *out, uint64_t value)
{
    uint64_t big = htobe64(value);
    buf_add(out, &big, sizeof big);
}

static void add_short_string(struct buf *out, const char *s)
{
    add_u8(out, (unsigned)strlen(s));
    buf_add_str(out, s);
}

/* Gives where its length goes. */
static size_t begin_frame(struct buf *out, unsigned type, unsigned channel)
{
    add_u8(out, type);
    add_u16(out, channel);
    add_u32(out, 0);
    return out->len;
}

static void end_frame(struct buf *out, size_t from)
{
    uint32_t len = htonl((uint32_t)(out->len - from));
    memcpy(out->ptr + from - sizeof len, &len, sizeof len);
    add_u8(out, FRAME_END);
}

static size_t begin_method(struct buf *out, uint32_t method)
{
    size_t from = begin_frame(out, FRAME_METHOD, method >> 16 == 10 ? 0 : CHANNEL);
    add_u32(out, method);
    return from;
}

struct frame {
    unsigned type;
    uint32_t method; /* 0: not one */
    struct bytes payload;
};

static uint32_t u32_at(struct bytes in, size_t at)
{
    uint32_t big;
    CHECK(in.len >= at + sizeof big);
    memcpy(&big, in.ptr + at, sizeof big);
    return ntohl(big);
}

static uint64_t u64_at(struct bytes in, size_t at)
{
    return (uint64_t)u32_at(in, at) << 32 | u32_at(in, at + 4);
}

/* The bytes of the whole frame; 0 when more are needed. */
static size_t parse(struct bytes in, struct frame *frame)
{
    if (in.len < FRAME_HEAD) {
        return 0;
    }
    size_t len = u32_at(in, 3);
    if (in.len < FRAME_HEAD + len + 1) {
        return 0;
    }
    if (in.ptr[FRAME_HEAD + len] != FRAME_END) {
        load_fail("a frame without an end");
    }
    frame->type = in.ptr[0];
    frame->payload = bytes_of(in.ptr + FRAME_HEAD, len);
    frame->method = frame->type == FRAME_METHOD ? u32_at(frame->payload, 0) : 0;
    return FRAME_HEAD + len + 1;
}

static void fail_if_closed(const struct frame *frame)
{
    if (frame->method == CLOSE || frame->method == CHANNEL_CLOSE) {
        size_t len = frame->payload.ptr[6];
        load_fail("RabbitMQ: %.*s", (int)len, frame->payload.ptr + 7);
    }
}

/* Blocking: sends what is in out, and waits for that method. */
static void await(struct conn *conn, uint32_t method)
{
    struct frame frame = {0, 0, BYTES_NONE};
    conn_send(conn);
    while (frame.method != method) {
        size_t used = conn->in.len == conn->in_at ? 0 : parse(conn_in(conn), &frame);
        if (used == 0) {
            conn_read(conn);
            continue;
        }
        fail_if_closed(&frame);
        conn_use(conn, used);
    }
}

static void add_start_ok(struct buf *out)
{
    static const char login[] = "\0guest\0guest";
    size_t from = begin_method(out, START_OK);
    add_u32(out, 0); /* no properties */
    add_short_string(out, "PLAIN");
    add_u32(out, sizeof login - 1);
    buf_add(out, login, sizeof login - 1);
    add_short_string(out, "en_US");
    end_frame(out, from);
}

static void open_conn(struct conn *conn)
{
    struct buf *out = &conn->out;
    buf_add(out, "AMQP\0\0\x09\x01", 8);
    await(conn, START);
    add_start_ok(out);
    await(conn, TUNE);
    size_t from = begin_method(out, TUNE_OK);
    add_u16(out, CHANNEL);
    add_u32(out, FRAME_MAX);
    add_u16(out, 0); /* no heartbeats */
    end_frame(out, from);
    from = begin_method(out, OPEN);
    add_short_string(out, "/");
    add_short_string(out, "");
    add_u8(out, 0);
    end_frame(out, from);
    await(conn, OPEN_OK);
    from = begin_method(out, CHANNEL_OPEN);
    add_short_string(out, "");
    end_frame(out, from);
    await(conn, CHANNEL_OPEN_OK);
    if (conn->role == PUBLISHER) {
        conn->confirmed = mem_zalloc(conn->options->batch);
        conn->first_tag = 1;
        from = begin_method(out, CONFIRM);
        add_u8(out, 0);
        end_frame(out, from);
        await(conn, CONFIRM_OK);
    }
}

/* A durable quorum queue. */
static void declare(struct conn *conn)
{
    struct buf *out = &conn->out;
    size_t from = begin_method(out, QUEUE_DECLARE);
    add_u16(out, 0);
    add_short_string(out, conn->queue);
    add_u8(out, 2);
    struct buf table = {NULL, 0, 0};
    add_short_string(&table, "x-queue-type");
    add_u8(&table, 'S');
    add_u32(&table, (uint32_t)strlen("quorum"));
    buf_add_lit(&table, "quorum");
    add_short_string(&table, "x-quorum-initial-group-size");
    add_u8(&table, 'I');
    add_u32(&table, conn->options->nodes);
    add_u32(out, (uint32_t)table.len);
    buf_add_bytes(out, buf_bytes(&table));
    buf_free(&table);
    end_frame(out, from);
    await(conn, QUEUE_DECLARE_OK);
}

static void publish(struct conn *conn, unsigned count)
{
    struct buf *out = &conn->out;
    memset(conn->confirmed, 0, count);
    for (unsigned i = 0; i < count; i++) {
        struct bytes body = load_body(conn->load);
        size_t from = begin_method(out, PUBLISH_METHOD);
        add_u16(out, 0);
        add_short_string(out, "");
        add_short_string(out, conn->queue);
        add_u8(out, 0);
        end_frame(out, from);
        from = begin_frame(out, FRAME_HEADER, CHANNEL);
        add_u32(out, (uint32_t)60 << 16);
        add_u64(out, body.len);
        add_u16(out, 0x1000); /* the delivery mode follows, and nothing else */
        add_u8(out, PERSISTENT);
        end_frame(out, from);
        from = begin_frame(out, FRAME_BODY, CHANNEL);
        buf_add_bytes(out, body);
        end_frame(out, from);
    }
}

/* With a blocking socket; what is delivered early waits in conn->in. */
static void consume(struct conn *conn)
{
    struct buf *out = &conn->out;
    size_t from = begin_method(out, QOS);
    add_u32(out, 0);
    add_u16(out, conn->options->batch);
    add_u8(out, 0);
    end_frame(out, from);
    await(conn, QOS_OK);
    from = begin_method(out, CONSUME);
    add_u16(out, 0);
    add_short_string(out, conn->queue);
    add_short_string(out, "");
    add_u8(out, 0);
    add_u32(out, 0);
    end_frame(out, from);
    await(conn, CONSUME_OK);
}

/* All that was delivered up to now. */
static void acknowledge(struct conn *conn)
{
    size_t from = begin_method(&conn->out, ACK);
    add_u64(&conn->out, conn->last_tag);
    add_u8(&conn->out, 1);
    end_frame(&conn->out, from);
    load_acked(conn, conn->unacked);
    conn->unacked = 0;
}

/* Tags are confirmed one by one in any order, or all up to one. */
static void take_confirms(struct conn *conn, uint64_t tag, bool multiple)
{
    unsigned count = 0;
    uint64_t from = multiple ? conn->first_tag : tag;
    CHECK(from >= conn->first_tag && tag < conn->first_tag + conn->options->batch);
    for (uint64_t t = from; t <= tag; t++) {
        uint8_t *known = &conn->confirmed[t - conn->first_tag];
        count += *known == 0;
        *known = 1;
    }
    if (count == conn->waiting) {
        conn->first_tag += conn->published;
    }
    load_confirmed(conn, count);
}

static size_t take(struct conn *conn, struct bytes in)
{
    struct frame frame;
    size_t used = parse(in, &frame);
    if (used == 0) {
        return 0;
    }
    fail_if_closed(&frame);
    if (frame.method == ACK) {
        take_confirms(conn, u64_at(frame.payload, 4), (frame.payload.ptr[12] & 1) != 0);
    } else if (frame.method == NACK) {
        load_fail("RabbitMQ refused a message");
    } else if (frame.method == DELIVER) {
        conn->last_tag = u64_at(frame.payload, 4 + 1 + (size_t)frame.payload.ptr[4]);
    } else if (frame.type == FRAME_BODY) {
        load_received(conn, frame.payload);
        if (++conn->unacked == conn->options->batch) {
            acknowledge(conn);
        }
    }
    return used;
}

static void taken(struct conn *conn)
{
    if (conn->unacked > 0 && load_wants_acks_now(conn)) {
        acknowledge(conn);
    }
}

const struct protocol protocol_amqp = {.name = "amqp",
                                       .open = open_conn,
                                       .declare = declare,
                                       .publish = publish,
                                       .consume = consume,
                                       .take = take,
                                       .taken = taken};
