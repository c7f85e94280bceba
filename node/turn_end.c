#include "node/turn_end.h"

#include "node/alarms.h"
#include "node/call.h"
#include "node/flow.h"
#include "node/forward.h"
#include "node/hints.h"
#include "node/partition.h"
#include "node/streams.h"
#include "node/turn_log.h"
#include "node/upkeep.h"
#include "node/watch.h"

enum { TICK_MS = 10 };

static void turn_end(struct worker *base, struct turn_hook *hook)
{
    struct node_worker *worker = node_worker_of(base);
    (void)hook;
    /* Also when the last one that waited was given up: what it asked for is taken back there. */
    bool reads = !list_empty(&worker->read_waiters) || atomic_load_explicit(&worker->reads_wait, memory_order_relaxed);
    if (reads && !atomic_load(&worker->node->stopping)) {
        call_run_readers(worker);
    }
    watches_turn_end(worker);
    calls_run_rung(worker);
    streams_turn_end(worker);
    while (!list_empty(&worker->resumed)) {
        flow_run_queue(&worker->resumed);
    }
    gathers_turn_end(worker->gathers);
    struct list batches;
    list_init(&batches);
    list_each(link, &worker->partitions)
    {
        partition_turn_end(container_of(link, struct partition, link), &batches);
    }
    if (!list_empty(&batches)) {
        state_writer_submit(worker->node->state_writer, &batches);
    }
    turn_log_flush(worker);
    hints_turn_end(worker);
    forward_turn_end(worker);
    peer_net_flush(&worker->peers);
    if (worker->reader_seq != 0) {
        state_reader_reset(worker->reader);
        worker->reader_seq = 0;
    }
    upkeep_publish(worker);
}

static void on_tick(struct timer *timer)
{
    struct node_worker *worker = container_of(timer, struct node_worker, tick);
    /* Leaders' heartbeats fall on common moments: those of all groups to a node are one frame. */
    int64_t beat = worker->worker.now_ms * 2 / worker->node->config.heartbeat_ms;
    list_each(link, &worker->partitions)
    {
        struct partition *partition = container_of(link, struct partition, link);
        if (beat != worker->beat || !atomic_load_explicit(&partition->leader, memory_order_relaxed)) {
            partition_tick(partition);
        }
    }
    alarms_tick(worker);
    worker->beat = beat;
    forward_tick(worker);
    watches_tick(worker);
    worker_timer(&worker->worker, &worker->tick, TICK_MS);
}

void turn_end_init(struct node_worker *worker)
{
    worker->turn_hook.run = turn_end;
    worker->tick.fire = on_tick;
    worker_add_hook(&worker->worker, &worker->turn_hook);
}
