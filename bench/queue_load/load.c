#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "bench/queue_load/run.h"
#include "node/base/clock.h"

enum { EVENTS = 64, TICK_MS = 10, DRAIN_SECONDS = 10 };

/* What was counted at a time. */
struct counts {
    int64_t at; /* nanoseconds */
    uint64_t confirmed, received, acked;
    double server_cpu, client_cpu;
};

enum phase { WARM_UP, MEASURE, DRAIN };

struct load {
    const struct options *options;
    struct conn *conns;
    unsigned conn_count;
    int epoll, timer;
    enum phase phase;
    int64_t phase_ends;
    uint64_t issued; /* messages published, confirmed or not */
    struct counts counts, begin, end;
    struct buf samples; /* uint32_t microseconds, of what began and ended in MEASURE */
    struct buf body;
    int64_t stamp;      /* of the next bodies */
    int64_t next_due;   /* LATENCY: when the next message is to be published */
    struct conn **idle; /* LATENCY: publishers that wait for their turn, in turn (a ring of conn_count) */
    unsigned idle_first, idle_count;
    uint64_t late; /* LATENCY: messages that found no idle publisher */
};

_Noreturn void load_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(1);
}

static int64_t now_ns(void)
{
    return clock_boot_ns(clock_system());
}

/* User and system time of the servers. */
static double server_cpu(const struct options *options)
{
    double sum = 0;
    for (unsigned i = 0; i < options->pid_count; i++) {
        char path[64], text[1024];
        (void)snprintf(path, sizeof path, "/proc/%d/stat", options->pids[i]);
        FILE *f = fopen(path, "r");
        if (f == NULL) {
            continue; /* a child that has ended: its parent has its time from now on, which we do not read */
        }
        size_t len = fread(text, 1, sizeof text - 1, f);
        (void)fclose(f);
        text[len] = 0;
        const char *rest = strrchr(text, ')');
        unsigned long user, system;
        if (rest == NULL ||
            sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) {
            load_fail("%s is not understood", path);
        }
        sum += (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    }
    return sum;
}

static double client_cpu(void)
{
    struct rusage use;
    CHECK(getrusage(RUSAGE_SELF, &use) == 0);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static struct counts count_now(struct load *load)
{
    struct counts counts = load->counts;
    counts.at = now_ns();
    counts.server_cpu = server_cpu(load->options);
    counts.client_cpu = client_cpu();
    return counts;
}

struct bytes load_body(struct load *load)
{
    int64_t left = load->stamp;
    for (unsigned i = STAMP_DIGITS; i-- > 0; left /= 10) {
        load->body.ptr[i] = (uint8_t)('0' + left % 10);
    }
    return buf_bytes(&load->body);
}

static int64_t stamp_of(struct bytes body)
{
    int64_t stamp = 0;
    if (body.len < STAMP_DIGITS) {
        load_fail("a message of %zu bytes", body.len);
    }
    for (unsigned i = 0; i < STAMP_DIGITS; i++) {
        stamp = stamp * 10 + (body.ptr[i] - '0');
    }
    return stamp;
}

static void add_sample(struct load *load, int64_t since)
{
    if (load->phase != WARM_UP && since >= load->begin.at && (load->phase == MEASURE || since < load->end.at)) {
        uint32_t us = (uint32_t)((now_ns() - since) / 1000);
        buf_add(&load->samples, &us, sizeof us);
    }
}

static void publish(struct conn *conn, int64_t stamp, unsigned count)
{
    struct load *load = conn->load;
    load->stamp = conn->since = stamp;
    conn->published = conn->waiting = count;
    load->issued += count;
    conn->options->protocol->publish(conn, count);
}

static void publish_batch(struct conn *conn)
{
    const struct options *options = conn->options;
    uint64_t left = options->count == 0 ? UINT64_MAX : options->count - conn->load->issued;
    unsigned count = left < options->batch ? (unsigned)left : options->batch;
    if (conn->load->phase != DRAIN && count > 0) {
        publish(conn, now_ns(), count);
    }
}

/* Every message has its time, also those that find no idle publisher: they wait, and that counts. */
static void publish_due(struct load *load)
{
    int64_t now = now_ns();
    while (load->phase != DRAIN && load->next_due <= now && load->idle_count > 0) {
        struct conn *conn = load->idle[load->idle_first];
        load->idle_first = (load->idle_first + 1) % load->conn_count;
        load->idle_count--;
        publish(conn, load->next_due, 1);
        (void)conn_flush(conn);
        load->next_due += 1000000000 / load->options->rate;
    }
    load->late += load->next_due <= now;
    int64_t at = load->next_due <= now ? now + 1000000 : load->next_due;
    struct itimerspec when = {.it_value = {at / 1000000000, at % 1000000000}};
    CHECK(timerfd_settime(load->timer, TFD_TIMER_ABSTIME, &when, NULL) == 0);
}

static void publisher_is_free(struct conn *conn)
{
    struct load *load = conn->load;
    if (load->options->workload == LATENCY) {
        load->idle[(load->idle_first + load->idle_count++) % load->conn_count] = conn;
    } else {
        publish_batch(conn);
    }
}

void load_confirmed(struct conn *conn, unsigned count)
{
    CHECK(count <= conn->waiting);
    conn->waiting -= count;
    conn->load->counts.confirmed += count;
    if (count > 0 && conn->waiting == 0) {
        if (conn->options->workload == PUBLISH) {
            add_sample(conn->load, conn->since);
        }
        publisher_is_free(conn);
    }
}

void load_received(struct conn *conn, struct bytes body)
{
    int64_t stamp = stamp_of(body);
    conn->load->counts.received++;
    if (conn->options->workload == LATENCY) {
        add_sample(conn->load, stamp);
    }
}

void load_acked(struct conn *conn, unsigned count)
{
    conn->load->counts.acked += count;
}

bool load_wants_acks_now(const struct conn *conn)
{
    return conn->options->workload == LATENCY;
}

static void watch(struct conn *conn, int op, bool to_send)
{
    struct epoll_event event = {.events = EPOLLIN | (to_send ? EPOLLOUT : 0), .data.ptr = conn};
    CHECK(epoll_ctl(conn->load->epoll, op, conn->fd, &event) == 0);
    conn->waits_to_send = to_send;
}

static void flush(struct conn *conn)
{
    bool sent = conn_flush(conn);
    if (sent == conn->waits_to_send) {
        watch(conn, EPOLL_CTL_MOD, !sent);
    }
}

/* Every message that was to be confirmed or received is. */
static bool is_complete(const struct load *load)
{
    const struct options *options = load->options;
    switch (options->workload) {
    case PUBLISH: return load->counts.confirmed == (options->count > 0 ? options->count : UINT64_MAX);
    case RECEIVE: return options->count > 0 && load->counts.received >= options->count;
    default: return false;
    }
}

static bool is_drained(const struct load *load)
{
    switch (load->options->workload) {
    case PUBLISH: return load->counts.confirmed == load->issued;
    case LATENCY: return load->counts.confirmed == load->issued && load->counts.received >= load->issued;
    default: return true;
    }
}

/* False when all is over. */
static bool look_at_the_time(struct load *load)
{
    bool complete = is_complete(load);
    int64_t now = now_ns();
    if (now < load->phase_ends && !complete) {
        return load->phase != DRAIN || !is_drained(load);
    }
    switch (load->phase) {
    case WARM_UP:
        if (complete) {
            load_fail("all %llu messages were gone during the warm-up", (unsigned long long)load->options->count);
        }
        load->begin = count_now(load);
        load->phase = MEASURE;
        load->phase_ends = now + (int64_t)(load->options->seconds * 1e9);
        return true;
    case MEASURE:
        load->end = count_now(load);
        load->phase = DRAIN;
        load->phase_ends = now + DRAIN_SECONDS * INT64_C(1000000000);
        return !complete && !is_drained(load);
    default:
        if (load->options->workload == PUBLISH) {
            load_fail("%llu messages were not confirmed within %d s",
                      (unsigned long long)(load->issued - load->counts.confirmed), DRAIN_SECONDS);
        }
        return false;
    }
}

static void turn(struct load *load)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(load->epoll, events, EVENTS, TICK_MS);
    CHECK(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++) {
        struct conn *conn = events[i].data.ptr;
        if (conn == NULL) {
            uint64_t times;
            (void)!read(load->timer, &times, sizeof times);
            publish_due(load);
            continue;
        }
        if ((events[i].events & ~(unsigned)EPOLLOUT) != 0) {
            conn_receive(conn);
            conn_take(conn);
        }
        flush(conn);
    }
    if (load->options->workload == LATENCY && load->idle_count > 0 && load->next_due <= now_ns()) {
        publish_due(load);
    }
}

static void open_conn(struct load *load, struct conn *conn, unsigned number, enum role role)
{
    const struct options *options = load->options;
    *conn = (struct conn){.load = load, .options = options, .role = role, .number = number};
    unsigned queue = number % options->queues, node = number / options->queues % options->nodes;
    if (options->workload == DECLARE) {
        node = queue % options->nodes; /* leaders are spread where the server puts them at the asked node */
    }
    (void)snprintf(conn->queue, sizeof conn->queue, "%s%u", options->queue, queue);
    conn_open(conn, options->ports[node]);
    options->protocol->open(conn);
}

static void start(struct load *load)
{
    struct epoll_event event = {.events = EPOLLIN};
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    CHECK(load->epoll >= 0 && load->timer >= 0);
    CHECK(epoll_ctl(load->epoll, EPOLL_CTL_ADD, load->timer, &event) == 0);
    int64_t now = now_ns();
    load->phase_ends = now + (int64_t)(load->options->warm_up * 1e9);
    load->next_due = now;
    for (unsigned i = 0; i < load->conn_count; i++) {
        struct conn *conn = &load->conns[i];
        watch(conn, EPOLL_CTL_ADD, false);
        if (conn->role == PUBLISHER) {
            publisher_is_free(conn);
        } else {
            conn->options->protocol->consume(conn);
            conn_take(conn);
        }
        flush(conn);
    }
    if (load->options->workload == LATENCY) {
        publish_due(load);
    }
}

static int by_value(const void *a, const void *b)
{
    return (*(const uint32_t *)a > *(const uint32_t *)b) - (*(const uint32_t *)a < *(const uint32_t *)b);
}

static double sample_ms(const struct load *load, double part)
{
    size_t count = load->samples.len / sizeof(uint32_t);
    if (count == 0) {
        return 0;
    }
    size_t at = (size_t)((double)count * part);
    uint32_t us;
    memcpy(&us, load->samples.ptr + (at < count ? at : count - 1) * sizeof us, sizeof us);
    return us / 1e3;
}

static void report(struct load *load)
{
    const struct counts *a = &load->begin, *b = &load->end;
    uint64_t messages = b->confirmed - a->confirmed;
    if (load->options->workload == RECEIVE) {
        messages = b->acked - a->acked;
    } else if (load->options->workload == LATENCY) {
        messages = b->received - a->received;
    }
    if (load->samples.len > 0) {
        qsort(load->samples.ptr, load->samples.len / sizeof(uint32_t), sizeof(uint32_t), by_value);
    }
    printf(
        "{\"messages\":%llu,\"seconds\":%.3f,\"server_cpu\":%.2f,\"client_cpu\":%.2f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
        "\"max_ms\":%.3f,\"issued\":%llu,\"confirmed\":%llu,\"received\":%llu,\"late\":%llu}\n",
        (unsigned long long)messages, (double)(b->at - a->at) / 1e9, b->server_cpu - a->server_cpu,
        b->client_cpu - a->client_cpu, sample_ms(load, 0.5), sample_ms(load, 0.99), sample_ms(load, 1),
        (unsigned long long)load->issued, (unsigned long long)load->counts.confirmed,
        (unsigned long long)load->counts.received, (unsigned long long)load->late);
}

static void declare_queues(struct load *load)
{
    for (unsigned i = 0; i < load->options->queues; i++) {
        struct conn conn;
        open_conn(load, &conn, i, CONSUMER);
        load->options->protocol->declare(&conn);
        conn_close(&conn);
    }
}

void load_run(const struct options *options)
{
    struct load load = {.options = options};
    (void)buf_room(&load.body, options->size);
    memset(load.body.ptr, 'x', options->size);
    load.body.len = options->size;
    if (options->workload == DECLARE) {
        declare_queues(&load);
        buf_free(&load.body);
        return;
    }
    unsigned publishers = options->workload == RECEIVE ? 0 : options->publishers;
    unsigned consumers = options->workload == PUBLISH ? 0 : options->consumers;
    load.conn_count = publishers + consumers;
    load.conns = mem_zalloc(load.conn_count * sizeof *load.conns);
    load.idle = mem_zalloc((load.conn_count + 1) * sizeof(struct conn *));
    for (unsigned i = 0; i < load.conn_count; i++) {
        open_conn(&load, &load.conns[i], i, i < consumers ? CONSUMER : PUBLISHER);
    }
    start(&load);
    while (look_at_the_time(&load)) {
        turn(&load);
    }
    report(&load);
    for (unsigned i = 0; i < load.conn_count; i++) {
        conn_close(&load.conns[i]);
    }
    buf_free(&load.samples);
    buf_free(&load.body);
    free(load.idle);
    free(load.conns);
    (void)close(load.epoll);
    (void)close(load.timer);
}
