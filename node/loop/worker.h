/* A worker: one thread with one libuv loop. Everything that hangs off it (connections, actors,
 * partitions, calls) is used by this thread alone; other threads hand it messages.
 *
 * A turn of the loop: I/O callbacks, then messages and timers, then the turn's end, where what
 * gathered is sent off as one: proposals, log batches, response bytes. */
#ifndef BELFRY_LOOP_WORKER_H
#define BELFRY_LOOP_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "node/base/arena.h"
#include "node/base/clock.h"
#include "node/base/list.h"
#include "node/base/log.h"
#include "node/base/random.h"
#include "node/base/timers.h"
#include "node/base/when.h"

struct worker;

/* A message to a worker: runs there once. Whoever runs it owns it. */
struct message {
    struct list link;
    void (*run)(struct worker *worker, struct message *message);
};

/* Called at the end of every turn, in the order they were added. */
struct turn_hook {
    struct list link;
    void (*run)(struct worker *worker, struct turn_hook *hook);
};

enum { WORKER_READ_BYTES = 64 * 1024 };

struct worker {
    unsigned index;
    struct clock *clock;
    struct log *log;
    uv_loop_t loop;
    uv_async_t wake;
    uv_prepare_t turn_end;
    uv_timer_t alarm;
    int64_t alarm_ms;
    struct timers timers;
    struct random random;
    struct list hooks;
    pthread_mutex_t inbox_mutex;
    struct list inbox;
    pthread_t thread;
    bool running;
    atomic_bool stopping;
    atomic_bool asleep;  /* or about to be, and not woken yet */
    int64_t now_ms;      /* boot clock, as of the turn's start: for deadlines, never for leases */
    int64_t date_second; /* for which date is good */
    char date[WHEN_HTTP_BYTES];
    uint8_t read_buffer[WORKER_READ_BYTES];
};

void worker_init(struct worker *worker, unsigned index, struct clock *clock, struct log *log);
void worker_start(struct worker *worker);
/* Asks the loop to end once every handle of others is closed. Any thread. */
void worker_stop(struct worker *worker);
void worker_join(struct worker *worker);
/* After the join: runs the messages left, on the caller's thread. False: there were none. */
bool worker_drain(struct worker *worker);
void worker_close(struct worker *worker);

/* Any thread. */
void worker_post(struct worker *worker, struct message *message);
/* Any thread: makes the loop take another turn. */
void worker_wake(struct worker *worker);
void worker_add_hook(struct worker *worker, struct turn_hook *hook);
/* A deadline of this loop, in milliseconds from now. */
void worker_timer(struct worker *worker, struct timer *timer, int64_t in_ms);
/* The Date header's value, 29 characters. */
const char *worker_date(struct worker *worker);

#endif
