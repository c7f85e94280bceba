#include "node/turn_log.h"

#include <stdlib.h>

struct turn_log {
    struct log_batch batch;
    struct message message;
    struct node_worker *worker;
    enum err err;
    struct {
        struct partition *partition;
        uint64_t number;
    } * marks; /* the newest write of each group in the batch */
    size_t marks_len, marks_cap;
};

static void synced(struct worker *base, struct message *message)
{
    struct turn_log *batch = container_of(message, struct turn_log, message);
    struct node_worker *worker = node_worker_of(base);
    if (batch->err != OK) {
        atomic_store(&worker->node->log_failed, true);
        log_text(worker->node->log, LOG_ERROR, "the log cannot be written: read-only", "%s", err_code(batch->err));
    }
    for (size_t i = 0; i < batch->marks_len && batch->err == OK; i++) {
        group_synced(batch->marks[i].partition->group, batch->marks[i].number, clock_boot_ns(worker->node->clock));
        partition_publish(batch->marks[i].partition);
    }
    free(batch->marks);
    free(batch->batch.records);
    free(batch);
}

/* On the log writer's thread. */
static void written(struct log_batch *log_batch, enum err err)
{
    struct turn_log *batch = container_of(log_batch, struct turn_log, batch);
    batch->err = err;
    worker_post(&batch->worker->worker, &batch->message);
}

static struct turn_log *log_of(struct node_worker *worker)
{
    if (worker->batch == NULL) {
        struct turn_log *batch = mem_zalloc(sizeof *batch);
        batch->worker = worker;
        batch->message.run = synced;
        batch->batch.done = written;
        worker->batch = &batch->batch;
    }
    return container_of(worker->batch, struct turn_log, batch);
}

static void mark(struct turn_log *batch, struct partition *partition, uint64_t number)
{
    if (batch->marks_len > 0 && batch->marks[batch->marks_len - 1].partition == partition) {
        batch->marks[batch->marks_len - 1].number = number;
        return;
    }
    if (batch->marks_len == batch->marks_cap) {
        batch->marks_cap = batch->marks_cap == 0 ? 4 : batch->marks_cap * 2;
        batch->marks = mem_realloc(batch->marks, batch->marks_cap * sizeof *batch->marks);
    }
    batch->marks[batch->marks_len].partition = partition;
    batch->marks[batch->marks_len++].number = number;
}

void turn_log_add(struct partition *partition, const struct segment_record *record, uint64_t number)
{
    struct turn_log *log = log_of(partition->home);
    log_batch_add(&log->batch, record);
    mark(log, partition, number);
}

void turn_log_drop(struct node_worker *worker)
{
    if (worker->batch != NULL) {
        struct turn_log *batch = container_of(worker->batch, struct turn_log, batch);
        worker->batch = NULL;
        free(batch->marks);
        free(batch->batch.records);
        free(batch);
    }
}

void turn_log_flush(struct node_worker *worker)
{
    if (worker->batch != NULL) {
        struct log_batch *batch = worker->batch;
        worker->batch = NULL;
        log_writer_submit(worker->node->log_writer, batch);
    }
}
