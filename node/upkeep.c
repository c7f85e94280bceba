#include "node/upkeep.h"

#include <stdlib.h>

#include "node/alarms.h"
#include "node/call.h"
#include "node/cluster_page.h"
#include "node/compute.h"
#include "node/damage.h"
#include "node/members.h"
#include "node/peers.h"
#include "node/skew.h"

enum { UPKEEP_MS = 100, CHORE_EVERY = 10, PASSIVATE_MOST = 20000 };

/* A chore's script under way: one a worker. */
struct chore_run {
    struct call call;
    struct arena arena;
};

void upkeep_publish(struct node_worker *worker)
{
    const struct actors *actors = &worker->actors;
    atomic_store_explicit(&worker->actors_live, actors_live(actors), memory_order_relaxed);
    atomic_store_explicit(&worker->mails, actors->mails, memory_order_relaxed);
    atomic_store_explicit(&worker->activated, actors->activated, memory_order_relaxed);
    atomic_store_explicit(&worker->passivated, actors->passivated, memory_order_relaxed);
    atomic_store_explicit(&worker->overloaded, actors->overloaded, memory_order_relaxed);
}

static void chore_free(struct chore_run *run)
{
    reply_close(&run->call.reply);
    arena_close(&run->arena);
    free(run);
}

static void chore_done(struct call *call)
{
    struct chore_run *run = container_of(call, struct chore_run, call);
    struct node_worker *worker = call->worker;
    log_text(worker->node->log, LOG_INFO, "left-over work taken up", "%s: %s", call->op->name, err_code(call->err));
    worker->sweeping = false;
    chore_free(run);
}

/* Runs the chore if this partition has something overdue. */
static bool try_chore(struct node_worker *worker, const struct kind *kind, const struct chore *chore,
                      unsigned partition)
{
    struct chore_run *run = mem_zalloc(sizeof *run);
    const struct op *op = kind_op(kind, chore->op);
    void *in = arena_zalloc(&run->arena, op->in_size);
    struct rows *rows = state_reader_rows(worker->reader, partition);
    if (!chore->find(rows, clock_wall_ms(worker->node->clock), &run->arena, in)) {
        chore_free(run);
        return false;
    }
    run->call = (struct call){.worker = worker,
                              .kind = kind,
                              .op = op,
                              .caller = {.role = ROLE_ADMIN},
                              .arena = &run->arena,
                              .in = in,
                              .remote = BYTES_LIT("node"),
                              .done = chore_done};
    worker->sweeping = true;
    call_start(&run->call);
    return true;
}

static void look_for_chores(struct node_worker *worker)
{
    if (worker->sweeping || atomic_load(&worker->node->stopping) || damage_any(worker->node->damage) ||
        state_reader_renew(worker->reader) != OK) {
        return;
    }
    worker->reader_seq = 1; /* open: closed at the turn's end; a call renews it */
    for (size_t k = 0; kinds[k] != NULL; k++) {
        for (const struct chore *chore = kinds[k]->chores; chore != NULL && chore->name != NULL; chore++) {
            list_each(link, &worker->partitions)
            {
                struct partition *partition = container_of(link, struct partition, link);
                if (partition->number > 0 && atomic_load(&partition->leader) &&
                    try_chore(worker, kinds[k], chore, partition->number)) {
                    return;
                }
            }
        }
    }
}

/* One worker looks for all. */
static void look_at_disk(struct node *node)
{
    bool was = atomic_load(&node->disk_low), low = space_is_low(&node->space);
    atomic_store(&node->disk_low, low);
    if (low != was) {
        log_text(node->log, low ? LOG_WARN : LOG_INFO,
                 low ? "the disk is full: only deletions are taken" : "there is room on the disk again", "%s",
                 node->config.data);
    }
}

void upkeep_look_at_clock(struct node *node)
{
    bool was = atomic_load(&node->clock_off), off = skew_is_off(node->skew, clock_boot_ms(node->clock));
    atomic_store(&node->clock_off, off);
    atomic_store(&node->clock_doubt, off || !skew_agrees(node->skew, clock_boot_ms(node->clock)));
    if (off != was) {
        log_text(node->log, off ? LOG_ERROR : LOG_INFO,
                 off ? "the clock is not that of the other nodes: this node leads nothing" : "the clock is right again",
                 "%s", "the bound is 250 ms");
    }
}

static void tend_groups(struct node_worker *worker)
{
    members_tend(worker);
    if (worker->worker.index == 0) {
        statuses_tend(worker);
    }
    node_tend_keys(worker);
}

static void on_upkeep(struct timer *timer)
{
    struct node_worker *worker = container_of(timer, struct node_worker, upkeep);
    int64_t idle_ms = worker->node->config.actor_idle_ms;
    (void)actors_passivate(&worker->actors, worker->worker.now_ms - idle_ms, PASSIVATE_MOST);
    log_flush(worker->node->log);
    peers_sync(worker);
    computes_tick(worker);
    if (worker->node->durable != NULL) {
        tend_groups(worker);
    }
    if (worker->worker.index == 0 && worker->node->durable != NULL) {
        look_at_disk(worker->node);
        upkeep_look_at_clock(worker->node);
    }
    if (++worker->next_chore % CHORE_EVERY == 0) {
        look_for_chores(worker);
    }
    worker_timer(&worker->worker, &worker->upkeep, UPKEEP_MS);
}

void upkeep_start(struct node_worker *worker)
{
    worker->upkeep.fire = on_upkeep;
    worker_timer(&worker->worker, &worker->upkeep, UPKEEP_MS);
}

void upkeep_stop(struct node_worker *worker)
{
    struct list *next;
    timers_clear(&worker->worker.timers, &worker->upkeep);
    alarms_stop(worker);
    for (struct list *link = worker->calls.next; link != &worker->calls; link = next) {
        struct call *call = container_of(link, struct call, link);
        next = link->next;
        if (call->done == chore_done) {
            call_abandon(call);
            chore_free(container_of(call, struct chore_run, call));
        }
    }
}
