#include "node/alarms.h"

#include <stdlib.h>

#include "node/call.h"
#include "node/damage.h"

enum { ALARMS_MAX = 8, AGAIN_MS = 200 /* after a failure */, ALONE_MS = 1000 };

struct ring {
    const struct kind *kind;
    const struct alarm *alarm;
    int64_t due_ms;        /* by the wall clock */
    int64_t not_before_ms; /* the last attempt failed; by the boot clock */
    uint64_t entries;      /* applied by this node when it was run last */
    int64_t alone_ms;      /* from then on it has the node for itself; by the boot clock */
    struct alarm_run *run; /* NULL: not under way */
    bool more;             /* is due, as the last run said */
};

struct alarms {
    struct ring rings[ALARMS_MAX];
    size_t len;
    uint64_t seen;  /* the applied index at which the times were asked */
    uint64_t after; /* before that is applied, what was done still looks due */
};

/* An alarm's script under way. */
struct alarm_run {
    struct call call;
    struct arena arena;
    struct alarm_in in;
    struct ring *ring;
};

static struct alarms *alarms_new(void)
{
    struct alarms *alarms = mem_zalloc(sizeof *alarms);
    for (size_t k = 0; kinds[k] != NULL; k++) {
        for (const struct alarm *alarm = kinds[k]->alarms; alarm != NULL && alarm->name != NULL; alarm++) {
            CHECK(alarms->len < ALARMS_MAX);
            alarms->rings[alarms->len++] = (struct ring){.kind = kinds[k], .alarm = alarm, .due_ms = INT64_MAX};
        }
    }
    alarms->seen = UINT64_MAX;
    return alarms;
}

static void run_free(struct alarm_run *run)
{
    atomic_fetch_sub(&run->call.worker->node->alarms, 1);
    run->ring->run = NULL;
    reply_close(&run->call.reply);
    arena_close(&run->arena);
    free(run);
}

static void run_done(struct call *call)
{
    struct alarm_run *run = container_of(call, struct alarm_run, call);
    struct ring *ring = run->ring;
    struct node *node = call->worker->node;
    struct partition *partition = &node->partitions[run->in.partition];
    if (call->err != OK) {
        ring->not_before_ms = clock_boot_ms(node->clock) + AGAIN_MS;
        log_text(node->log, LOG_DEBUG, "an alarm was not carried out", "%s: %s", ring->alarm->name,
                 err_code(call->err));
    }
    if (!ring->more) { /* what is due next is asked of a snapshot behind it */
        partition->alarms->after = atomic_load_explicit(&partition->commit, memory_order_acquire);
        atomic_store(&call->worker->alarms_wait, true);
        state_writer_hurry(node->state_writer);
    }
    run_free(run);
}

static void run(struct partition *partition, struct ring *ring, int64_t boot_ms)
{
    struct alarm_run *run = mem_zalloc(sizeof *run);
    struct node *node = partition->node;
    uint64_t entries = atomic_load_explicit(&state_writer_stats(node->state_writer)->entries, memory_order_relaxed);
    unsigned at_work = 1 + atomic_fetch_add(&node->alarms, 1);
    run->ring = ring;
    if (entries - ring->entries > 1) { /* one is its own */
        ring->alone_ms = boot_ms + ALONE_MS;
    }
    bool beside = boot_ms < ring->alone_ms && clock_wall_ms(node->clock) - ring->due_ms < LIMIT_ALARM_LATE_MS;
    ring->more = false;
    run->in = (struct alarm_in){partition->number, beside ? at_work : 0, &ring->more};
    ring->entries = entries;
    run->call = (struct call){.worker = partition->home,
                              .kind = ring->kind,
                              .op = kind_op(ring->kind, ring->alarm->op),
                              .caller = {.role = ROLE_ADMIN},
                              .arena = &run->arena,
                              .in = &run->in,
                              .remote = BYTES_LIT("node"),
                              .done = run_done};
    ring->run = run;
    call_start(&run->call);
}

/* Asks the times again if anything was applied since; false: they are not known. */
static bool look(struct partition *partition)
{
    struct node_worker *worker = partition->home;
    struct alarms *alarms = partition->alarms;
    uint64_t applied = atomic_load_explicit(&partition->applied, memory_order_acquire);
    if (applied == alarms->seen || applied < alarms->after) {
        return applied == alarms->seen;
    }
    uint64_t seq = atomic_load_explicit(&worker->node->commit_seq, memory_order_acquire);
    if (worker->reader_seq != seq) {
        if (state_reader_renew(worker->reader) != OK) {
            return false;
        }
        worker->reader_seq = seq;
    }
    struct rows *rows = state_reader_rows(worker->reader, partition->number);
    for (size_t i = 0; i < alarms->len; i++) {
        alarms->rings[i].due_ms = alarms->rings[i].alarm->due(rows);
    }
    alarms->seen = applied; /* the snapshot may show more: then it is asked once too often */
    return true;
}

static void tick(struct partition *partition)
{
    struct node *node = partition->node;
    if (partition->number == 0 || !atomic_load_explicit(&partition->leader, memory_order_relaxed)) {
        if (partition->alarms != NULL) {
            partition->alarms->seen = UINT64_MAX;
        }
        return;
    }
    if (partition->alarms == NULL) {
        partition->alarms = alarms_new();
    }
    bool off = atomic_load_explicit(&node->clock_off, memory_order_relaxed); /* too early, perhaps */
    if (off || atomic_load_explicit(&node->stopping, memory_order_relaxed) || damage_any(node->damage)) {
        return;
    }
    bool known = look(partition) && partition->alarms->seen >= partition->alarms->after;
    int64_t now_ms = clock_wall_ms(node->clock), boot_ms = clock_boot_ms(node->clock);
    for (size_t i = 0; i < partition->alarms->len; i++) {
        struct ring *ring = &partition->alarms->rings[i];
        bool is_due = ring->more || (known && ring->due_ms <= now_ms);
        if (ring->run == NULL && is_due && ring->not_before_ms <= boot_ms) {
            run(partition, ring, boot_ms);
        }
    }
}

void alarms_tick(struct node_worker *worker)
{
    bool waits = false;
    list_each(link, &worker->partitions)
    {
        struct partition *partition = container_of(link, struct partition, link);
        tick(partition);
        waits = waits || (partition->alarms != NULL &&
                          partition->alarms->after > atomic_load_explicit(&partition->applied, memory_order_acquire));
    }
    atomic_store(&worker->alarms_wait, waits);
}

void alarms_stop(struct node_worker *worker)
{
    list_each(link, &worker->partitions)
    {
        struct partition *partition = container_of(link, struct partition, link);
        for (size_t i = 0; partition->alarms != NULL && i < partition->alarms->len; i++) {
            struct alarm_run *under_way = partition->alarms->rings[i].run;
            if (under_way != NULL) {
                call_abandon(&under_way->call);
                run_free(under_way);
            }
        }
    }
}

void alarms_free(struct alarms *alarms)
{
    free(alarms);
}
