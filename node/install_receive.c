/* The replica's side: stages what comes, then switches to it. One at a time a partition. */
#include <stdio.h>
#include <stdlib.h>

#include "node/background.h"
#include "node/guard.h"
#include "node/install_wire.h"
#include "node/peers.h"
#include "node/watch.h"

enum { CLEAR_ROWS = 2000, JOBS_MAX = 16 /* more than the window of a sender */, GIVE_UP_MS = 20000 };

enum phase {
    PHASE_CLEARS,   /* what an earlier attempt left is erased */
    PHASE_STAGES,   /* rows come */
    PHASE_CHECKED,  /* all there and right; waits until the group is at rest */
    PHASE_SWITCHES, /* engine, state, durable point, log */
    PHASE_TIDIES    /* what was before is erased */
};

struct install_receiver {
    struct partition *partition;
    uint64_t from, id;
    struct install_head head;
    struct buf configuration;
    enum phase phase;
    uint64_t next; /* chunk */
    bool all_came;
    unsigned jobs; /* under way */
    bool given_up; /* freed when they are done */
    int64_t heard_ms;
};

/* Work in a transaction of the state writer. */
struct stage_job {
    struct state_job job;
    struct message message;
    struct install_receiver *receiver;
    enum err (*work)(struct stage_job *job, struct state *state);
    void (*done)(struct stage_job *job);
    struct buf rows;
    bool cleared;
};

static void receiver_free(struct install_receiver *receiver)
{
    receiver->partition->receiver = NULL;
    buf_free(&receiver->configuration);
    free(receiver);
}

static void give_up(struct install_receiver *receiver)
{
    receiver->given_up = true;
    if (receiver->jobs == 0) {
        receiver_free(receiver);
    }
}

static enum err run_job(void *ctx, struct state *state)
{
    struct stage_job *job = ctx;
    return job->work(job, state);
}

static void job_done_here(struct worker *worker, struct message *message)
{
    struct stage_job *job = container_of(message, struct stage_job, message);
    struct install_receiver *receiver = job->receiver;
    receiver->jobs--;
    if (atomic_load(&node_worker_of(worker)->node->stopping)) {
        /* the next start goes on from what is on disk */
    } else if (receiver->given_up) {
        give_up(receiver);
    } else {
        job->done(job);
    }
    buf_free(&job->rows);
    free(job);
}

static void job_done(struct state_job *state_job)
{
    struct stage_job *job = container_of(state_job, struct stage_job, job);
    worker_post(&job->receiver->partition->home->worker, &job->message);
}

static struct stage_job *start_job(struct install_receiver *receiver,
                                   enum err (*work)(struct stage_job *job, struct state *state),
                                   void (*done)(struct stage_job *job), struct bytes rows)
{
    struct stage_job *job = mem_zalloc(sizeof *job);
    job->job = (struct state_job){.run = run_job, .done = job_done, .ctx = job};
    job->message.run = job_done_here;
    job->receiver = receiver;
    job->work = work;
    job->done = done;
    buf_add_bytes(&job->rows, rows);
    receiver->jobs++;
    state_writer_run(receiver->partition->node->state_writer, &job->job);
    return job;
}

static void say_next(struct partition *partition, uint64_t to, uint64_t id, uint64_t next)
{
    struct install_chunk message = {.partition = partition->number, .id = (int64_t)id, .number = (int64_t)next};
    struct buf body = {0};
    install_chunk_pack(&body, &message, NULL);
    (void)peers_send(partition->home, to, PEER_STAGED, buf_bytes(&body));
    buf_free(&body);
}

static void say_staged(struct install_receiver *receiver)
{
    say_next(receiver->partition, receiver->from, receiver->id, receiver->next);
}

static void failed(struct install_receiver *receiver, enum err err)
{
    log_text(receiver->partition->node->log, LOG_WARN, "a state was not taken over", "partition %u: %s",
             receiver->partition->number, err_code(err));
    give_up(receiver);
}

/* ---- erasing what is staged ---- */

static enum err clear_some(struct stage_job *job, struct state *state)
{
    return state_stage_clear(state, job->receiver->partition->number, CLEAR_ROWS, &job->cleared);
}

static void some_cleared(struct stage_job *job)
{
    struct install_receiver *receiver = job->receiver;
    if (job->job.err != OK) {
        failed(receiver, job->job.err);
    } else if (!job->cleared) {
        (void)start_job(receiver, clear_some, some_cleared, BYTES_NONE);
    } else if (receiver->phase == PHASE_CLEARS) {
        receiver->phase = PHASE_STAGES;
        receiver->next = 1;
        say_staged(receiver);
    } else {
        receiver_free(receiver);
    }
}

/* ---- switching ---- */

struct point_job {
    struct background_job job;
    struct install_receiver *receiver;
    enum err err;
};

static void take_point(struct background_job *job)
{
    struct point_job *point = container_of(job, struct point_job, job);
    point->err = durable_point(point->receiver->partition->node->durable);
}

static void start_point(struct install_receiver *receiver);

/* Switched, and on disk: the log may forget what was before. */
static void point_taken(struct background_job *job)
{
    struct point_job *point = container_of(job, struct point_job, job);
    struct install_receiver *receiver = point->receiver;
    struct partition *partition = receiver->partition;
    receiver->jobs--;
    if (atomic_load(&partition->node->stopping)) {
        free(point);
        return;
    }
    if (point->err == ERR_DISK_FULL) {
        start_point(receiver); /* it waits for room, as everything does */
    } else if (point->err == OK) {
        group_switched(partition->group, clock_boot_ns(partition->node->clock));
        receiver->phase = PHASE_TIDIES;
        (void)start_job(receiver, clear_some, some_cleared, BYTES_NONE);
    } /* else the node is read-only, and a start takes it from there */
    free(point);
}

static void start_point(struct install_receiver *receiver)
{
    struct point_job *point = mem_zalloc(sizeof *point);
    point->job =
        (struct background_job){.worker = &receiver->partition->home->worker, .work = take_point, .done = point_taken};
    point->receiver = receiver;
    receiver->jobs++;
    background_run(receiver->partition->node->background, &point->job);
}

static enum err switch_state(struct stage_job *job, struct state *state)
{
    return state_stage_switch(state, job->receiver->partition->number, &job->receiver->head.book);
}

static void switched(struct stage_job *job)
{
    struct install_receiver *receiver = job->receiver;
    struct partition *partition = receiver->partition;
    if (job->job.err != OK) {
        /* The engine has let go of its log already: as after a failed write, only a start goes on. */
        partition_log_damaged(partition);
        return;
    }
    int64_t stamped_ms = receiver->head.book.stamped_ms;
    if (stamped_ms > partition->stamped_ms) {
        partition->stamped_ms = stamped_ms;
        partition->stamped = LIMIT_STAMPED;
    }
    if (partition->number == 0 && guard_load(partition->node) != OK) {
        log_text(partition->node->log, LOG_ERROR, "the system state cannot be read", "restart the node");
    }
    log_text(partition->node->log, LOG_INFO, "the state was taken over", "partition %u: as of entry %llu",
             partition->number, (unsigned long long)receiver->head.book.applied_index);
    watch_ring_all(partition->node);
    start_point(receiver);
}

static void try_install(struct install_receiver *receiver)
{
    struct partition *partition = receiver->partition;
    const struct install_head *head = &receiver->head;
    struct group_message message = {.type = MESSAGE_INSTALL,
                                    .from = receiver->from,
                                    .to = partition->node->replica,
                                    .term = head->term,
                                    .index = head->book.applied_index,
                                    .index_term = head->book.applied_term,
                                    .configuration = head->configuration,
                                    .configuration_index = head->configuration_index};
    bool begun;
    enum err err = group_install(partition->group, &message, clock_boot_ns(partition->node->clock), &begun);
    partition_publish(partition);
    if (err == ERR_CONFLICT) {
        return; /* with the next tick */
    }
    if (err != OK || !begun) {
        receiver->phase = PHASE_TIDIES; /* not needed any more */
        (void)start_job(receiver, clear_some, some_cleared, BYTES_NONE);
        return;
    }
    receiver->phase = PHASE_SWITCHES;
    (void)start_job(receiver, switch_state, switched, BYTES_NONE);
}

/* ---- staging ---- */

static enum err stage_rows(struct stage_job *job, struct state *state)
{
    struct bytes rows = buf_bytes(&job->rows), key, value;
    struct rows *stage = state_stage_rows(state, job->receiver->partition->number);
    for (;;) {
        uint8_t table;
        enum err err = install_row_next(&rows, &table, &key, &value);
        if (err != OK) {
            return err == ERR_NOT_FOUND ? OK : err;
        }
        TRY(rows_put(stage, table, key, value));
    }
}

static enum err check_stage(struct stage_job *job, struct state *state)
{
    return state_stage_check(state, job->receiver->partition->number, &job->receiver->head.book);
}

static void checked(struct stage_job *job)
{
    struct install_receiver *receiver = job->receiver;
    if (job->job.err != OK) {
        failed(receiver, job->job.err);
        return;
    }
    receiver->phase = PHASE_CHECKED;
    try_install(receiver);
}

static void staged(struct stage_job *job)
{
    struct install_receiver *receiver = job->receiver;
    if (job->job.err != OK) {
        failed(receiver, job->job.err);
        return;
    }
    say_staged(receiver);
    if (receiver->all_came && receiver->jobs == 0) {
        (void)start_job(receiver, check_stage, checked, BYTES_NONE);
    }
}

static void begin(struct partition *partition, uint64_t from, const struct install_chunk *chunk)
{
    struct install_head head;
    if (install_head_unpack(chunk->head, &head) != OK || head.term < group_term(partition->group)) {
        return;
    }
    struct install_receiver *receiver = mem_zalloc(sizeof *receiver);
    *receiver = (struct install_receiver){.partition = partition,
                                          .from = from,
                                          .id = (uint64_t)chunk->id,
                                          .head = head,
                                          .heard_ms = clock_boot_ms(partition->node->clock)};
    buf_add_bytes(&receiver->configuration, head.configuration);
    receiver->head.configuration = buf_bytes(&receiver->configuration);
    partition->receiver = receiver;
    (void)start_job(receiver, clear_some, some_cleared, BYTES_NONE);
}

void install_take_rows(struct partition *partition, uint64_t from, const struct install_chunk *chunk)
{
    struct install_receiver *receiver = partition->receiver;
    bool same = receiver != NULL && receiver->from == from && receiver->id == (uint64_t)chunk->id;
    if (!same && chunk->number == 0) {
        if (receiver == NULL) {
            begin(partition, from, chunk);
        } else if (receiver->phase <= PHASE_CHECKED && !receiver->given_up) {
            give_up(receiver); /* another one counts now: it is sent again */
        }
        return;
    }
    if (!same && receiver == NULL) {
        say_next(partition, from, (uint64_t)chunk->id, 0);
    }
    if (!same || receiver->given_up || receiver->phase != PHASE_STAGES) {
        return;
    }
    receiver->heard_ms = clock_boot_ms(partition->node->clock);
    if ((uint64_t)chunk->number != receiver->next || receiver->jobs >= JOBS_MAX || receiver->all_came) {
        return; /* had already, or too early: it is sent again */
    }
    receiver->next++;
    receiver->all_came = chunk->last;
    (void)start_job(receiver, stage_rows, staged, chunk->rows);
}

void install_tend_receiver(struct partition *partition)
{
    struct install_receiver *receiver = partition->receiver;
    if (receiver == NULL || receiver->given_up) {
        return;
    }
    int64_t now_ms = clock_boot_ms(partition->node->clock);
    if (receiver->phase == PHASE_CHECKED) {
        try_install(receiver);
    } else if (receiver->phase == PHASE_STAGES && now_ms - receiver->heard_ms > GIVE_UP_MS) {
        give_up(receiver);
    }
}

void install_close_receiver(struct partition *partition)
{
    if (partition->receiver != NULL) {
        receiver_free(partition->receiver);
    }
}
