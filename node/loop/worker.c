#include "node/loop/worker.h"

static bool run_inbox(struct worker *worker)
{
    bool ran = false;
    struct list messages;
    list_init(&messages);
    CHECK(pthread_mutex_lock(&worker->inbox_mutex) == 0);
    list_splice(&messages, &worker->inbox);
    CHECK(pthread_mutex_unlock(&worker->inbox_mutex) == 0);
    for (struct list *link = list_pop(&messages); link != NULL; link = list_pop(&messages)) {
        struct message *message = container_of(link, struct message, link);
        message->run(worker, message);
        ran = true;
    }
    return ran;
}

static void on_wake(uv_async_t *async)
{
    struct worker *worker = async->data;
    worker->now_ms = clock_boot_ms(worker->clock);
    atomic_store(&worker->asleep, false);
    bool stopping = atomic_load(&worker->stopping); /* before the inbox: what was posted ahead of it is there then */
    (void)run_inbox(worker);
    if (stopping) {
        uv_close((uv_handle_t *)&worker->wake, NULL);
        uv_close((uv_handle_t *)&worker->turn_end, NULL);
        uv_close((uv_handle_t *)&worker->alarm, NULL);
    }
}

static void on_alarm(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    worker->alarm_ms = INT64_MAX;
    worker->now_ms = clock_boot_ms(worker->clock);
    timers_run(&worker->timers, worker->now_ms);
}

static void set_alarm(struct worker *worker)
{
    int64_t next = timers_next(&worker->timers);
    if (next == worker->alarm_ms) {
        return;
    }
    worker->alarm_ms = next;
    if (next == INT64_MAX) {
        CHECK(uv_timer_stop(&worker->alarm) == 0);
        return;
    }
    uv_update_time(&worker->loop);
    int64_t now = clock_boot_ms(worker->clock);
    CHECK(uv_timer_start(&worker->alarm, on_alarm, next > now ? (uint64_t)(next - now) : 0, 0) == 0);
}

static void run_hooks(struct worker *worker)
{
    list_each(link, &worker->hooks)
    {
        struct turn_hook *hook = container_of(link, struct turn_hook, link);
        hook->run(worker, hook);
    }
}

/* What was posted meanwhile is part of this turn: a wake costs two system calls and a turn of its own. */
static void on_turn_end(uv_prepare_t *prepare)
{
    struct worker *worker = prepare->data;
    atomic_store(&worker->asleep, false);
    (void)run_inbox(worker);
    run_hooks(worker);
    atomic_store(&worker->asleep, true);
    if (!atomic_load(&worker->stopping) && run_inbox(worker)) { /* posted before it was seen asleep */
        run_hooks(worker);
    }
    set_alarm(worker);
}

void worker_init(struct worker *worker, unsigned index, struct clock *clock, struct log *log)
{
    *worker = (struct worker){.index = index, .clock = clock, .log = log, .alarm_ms = INT64_MAX};
    list_init(&worker->inbox);
    list_init(&worker->hooks);
    random_init(&worker->random);
    CHECK(pthread_mutex_init(&worker->inbox_mutex, NULL) == 0);
    CHECK(uv_loop_init(&worker->loop) == 0);
    CHECK(uv_async_init(&worker->loop, &worker->wake, on_wake) == 0);
    CHECK(uv_prepare_init(&worker->loop, &worker->turn_end) == 0);
    CHECK(uv_timer_init(&worker->loop, &worker->alarm) == 0);
    worker->wake.data = worker;
    worker->turn_end.data = worker;
    worker->alarm.data = worker;
    worker->now_ms = clock_boot_ms(clock);
    CHECK(uv_prepare_start(&worker->turn_end, on_turn_end) == 0);
}

static void *worker_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "worker");
    struct worker *worker = arg;
    (void)uv_run(&worker->loop, UV_RUN_DEFAULT);
    return NULL;
}

void worker_start(struct worker *worker)
{
    CHECK(pthread_create(&worker->thread, NULL, worker_main, worker) == 0);
    worker->running = true;
}

void worker_stop(struct worker *worker)
{
    atomic_store(&worker->stopping, true);
    (void)uv_async_send(&worker->wake);
}

void worker_join(struct worker *worker)
{
    if (worker->running) {
        CHECK(pthread_join(worker->thread, NULL) == 0);
        worker->running = false;
    }
}

bool worker_drain(struct worker *worker)
{
    return run_inbox(worker);
}

void worker_close(struct worker *worker)
{
    CHECK(uv_loop_close(&worker->loop) == 0);
    timers_close(&worker->timers);
    (void)pthread_mutex_destroy(&worker->inbox_mutex);
}

void worker_post(struct worker *worker, struct message *message)
{
    CHECK(pthread_mutex_lock(&worker->inbox_mutex) == 0);
    list_add_tail(&worker->inbox, &message->link);
    CHECK(pthread_mutex_unlock(&worker->inbox_mutex) == 0);
    if (atomic_exchange(&worker->asleep, false)) {
        worker_wake(worker);
    }
}

void worker_wake(struct worker *worker)
{
    if (!atomic_load_explicit(&worker->stopping, memory_order_acquire)) {
        (void)uv_async_send(&worker->wake);
    }
}

void worker_add_hook(struct worker *worker, struct turn_hook *hook)
{
    list_add_tail(&worker->hooks, &hook->link);
}

void worker_timer(struct worker *worker, struct timer *timer, int64_t in_ms)
{
    timers_set(&worker->timers, timer, clock_boot_ms(worker->clock) + in_ms);
}

const char *worker_date(struct worker *worker)
{
    int64_t ms = clock_wall_ms(worker->clock);
    if (ms / 1000 != worker->date_second) {
        worker->date_second = ms / 1000;
        when_format_http(ms, worker->date);
    }
    return worker->date;
}
