/* A load for message queues: one thread, one connection a client, the same workloads whatever the protocol.
 * What a protocol does is in struct protocol; what it tells is load_confirmed, load_received and load_acked. */
#ifndef BELFRY_BENCH_QUEUE_LOAD_H
#define BELFRY_BENCH_QUEUE_LOAD_H

#include "node/base/bytes.h"

enum workload { DECLARE, PUBLISH, RECEIVE, LATENCY };
enum role { PUBLISHER, CONSUMER };
enum ack_mode { ACK_EACH, ACK_ALL, ACK_AWAITED };
enum { STAMP_DIGITS = 19, NODES = 16, PIDS = 64 };

struct load;
struct conn;

struct protocol {
    const char *name;
    /* With a blocking socket: greets, and gets ready for what the role does. */
    void (*open)(struct conn *conn);
    /* Makes the queue, with a blocking socket. */
    void (*declare)(struct conn *conn);
    /* Appends that many messages (a body each from load_body) to conn->out; load_confirmed() follows. */
    void (*publish)(struct conn *conn, unsigned count);
    /* Begins to receive and to acknowledge, and goes on until the end. */
    void (*consume)(struct conn *conn);
    /* Takes what is whole from the front of the bytes; gives how many it took, 0 when more are needed. */
    size_t (*take)(struct conn *conn, struct bytes in);
    /* All that had come was taken; may be NULL. */
    void (*taken)(struct conn *conn);
};

struct options {
    const struct protocol *protocol;
    enum workload workload;
    unsigned ports[NODES], nodes;
    int pids[PIDS]; /* of the servers */
    unsigned pid_count;
    const char *queue, *token;
    unsigned queues, publishers, consumers, batch, size, rate;
    unsigned pending; /* NATS: how many messages may be out without an ack; 0: as it comes */
    uint64_t count;   /* messages to publish or to receive; 0: until the time is over */
    double warm_up, seconds;
    enum ack_mode ack;
};

/* One client. */
struct conn {
    struct load *load;
    const struct options *options;
    int fd;
    enum role role;
    unsigned number;
    char queue[64];
    struct buf in, out;
    size_t in_at, out_at; /* what was taken of in, what was sent of out */
    bool waits_to_send;
    unsigned published, waiting; /* messages of the last publish(); those not yet confirmed */
    int64_t since;               /* when they were published */
    /* Of the protocols: */
    uint64_t first_tag, last_tag; /* AMQP: of the messages that are waiting; of the last one delivered */
    uint8_t *confirmed;           /* AMQP: which of them are confirmed */
    unsigned got, unacked;        /* received in this batch; not acknowledged yet */
    bool acking;                  /* an answer to acknowledgements is awaited */
    struct buf replies;           /* receipts, or where the next acknowledgement goes */
};

extern const struct protocol protocol_http, protocol_amqp, protocol_nats;

/* The next body: the digits of its time, then filling. Valid until the next call. */
struct bytes load_body(struct load *load);
/* So many messages of a publisher are confirmed. */
void load_confirmed(struct conn *conn, unsigned count);
/* A consumer has received a message with that body. */
void load_received(struct conn *conn, struct bytes body);
/* So many messages are acknowledged. */
void load_acked(struct conn *conn, unsigned count);
/* A consumer shall acknowledge what it has now: no batch will become full. */
bool load_wants_acks_now(const struct conn *conn);

/* Ends the program, with the reason. */
_Noreturn void load_fail(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* conn.c: connections. */
void conn_open(struct conn *conn, unsigned port);
/* Blocking: sends all of out; reads more behind in. */
void conn_send(struct conn *conn);
void conn_read(struct conn *conn);
/* What has come and was not taken. */
struct bytes conn_in(const struct conn *conn);
/* Takes that many bytes of it. */
void conn_use(struct conn *conn, size_t used);
/* Not blocking: reads once; has the protocol take what is there; sends what can be sent (false: out is not empty). */
void conn_receive(struct conn *conn);
void conn_take(struct conn *conn);
bool conn_flush(struct conn *conn);
void conn_close(struct conn *conn);

#endif
